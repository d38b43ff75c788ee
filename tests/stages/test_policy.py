"""The trainer of the policy, tried on worlds so small that the right answer is known: the eight
probes, and its metrics.

A probe is a pair of functions, one that draws prompts and one that scores responses, and an end
that can only be reached when every part of the trainer does what it says. What each probe's failure
points at stands in its docstring.
"""

import copy
import math

import pytest
import torch

from minippo.commands.config import PPOConfig
from minippo.critic_head import Critic
from minippo.errors import TrainingError
from minippo.gpt import GPT, GPTConfig
from minippo.rollout import Responses, response_logits, response_values, sample_responses
from minippo.stages.policy import estimate_advantages, train_policy
from tests.helpers import assert_close

PAD, BOS, EOS = 0, 1, 2
NO_END = 999  # an EOS that no model can say: every response has full length


class World:
    """A policy, its reference and a critic, and train_policy with the settings of a probe."""

    def __init__(
        self, score_function, *, prompts=((BOS,),), eos_id=NO_END, vocab_size=6, seed=0, **settings
    ):
        config = GPTConfig(vocab_size, 12, 1, 2, 16)
        self.reference = GPT(config, generator=torch.Generator().manual_seed(seed))
        self.policy, self.critic = copy.deepcopy(self.reference), Critic(self.reference)
        self.score_function, self.eos_id = score_function, eos_id
        self.prompts = torch.tensor(prompts)
        defaults = dict(
            num_updates=40,
            batch_size=64,
            learning_rate=1e-2,
            kl_coef=1e-6,
            vf_coef=1.0,
            no_eos_score=None,
            response_length=1,
            cliprange_value=100.0,
        )
        self.config = PPOConfig(**defaults | settings)
        self.generator = torch.Generator().manual_seed(seed)

    def draw_prompts(self, n):
        tokens = self.prompts[torch.arange(n) % len(self.prompts)]
        return tokens, torch.ones_like(tokens, dtype=torch.bool)

    def train(self, **more):
        return train_policy(
            policy=self.policy,
            reference=self.reference,
            critic=self.critic,
            config=self.config,
            score_function=self.score_function,
            draw_prompts=self.draw_prompts,
            generator=self.generator,
            eos_id=self.eos_id,
            pad_id=PAD,
            **more,
        )

    def sample(self, n=256):
        prompts = self.draw_prompts(n)
        tokens, mask, _ = sample_responses(
            self.policy,
            *prompts,
            response_length=self.config.response_length,
            temperature=1.0,
            generator=self.generator,
            eos_id=self.eos_id,
            pad_id=PAD,
        )
        return Responses(*prompts, tokens, mask)

    def probabilities(self, prompt):
        """The policy's and the reference's next-token distribution after a prompt."""
        tokens = torch.tensor([prompt])
        return [
            torch.softmax(model(tokens)[0, -1], dim=-1).detach()
            for model in (self.policy, self.reference)
        ]


# -- the probes


def test_probe_1_constant_reward_the_critic_learns_the_constant():
    """When it fails: the value loss, the value targets, or the critic's parameters not being in the
    optimiser."""
    world = World(lambda tokens, mask: torch.full((len(tokens),), 1.5), whiten_advantages=False)
    world.train()
    values = response_values(world.critic, world.sample())
    assert (values - 1.5).abs().max() < 0.05


def test_probe_2_reward_named_by_the_prompt_the_critic_reads_the_prompt():
    """When it fails: the critic does not see the prompt, or sees another row's."""
    world = World(
        lambda tokens, mask: torch.where(tokens[:, 1] == 3, 1.0, -1.0),
        prompts=((BOS, 3), (BOS, 4)),
        whiten_advantages=False,
    )
    world.train()
    batch = world.sample(64)
    wanted = torch.where(batch.prompt_tokens[:, 1:] == 3, 1.0, -1.0)
    assert (response_values(world.critic, batch) - wanted).abs().max() < 0.1


def test_probe_3_reward_only_at_the_end_the_values_are_discounted():
    """When it fails: gamma, the alignment of values and rewards, or the value after the end."""
    world = World(
        lambda tokens, mask: torch.ones(len(tokens)),
        response_length=4,
        gamma=0.9,
        whiten_advantages=False,
        num_updates=80,
    )
    world.train()
    wanted = torch.tensor([0.9**3, 0.9**2, 0.9, 1.0])
    assert (response_values(world.critic, world.sample()) - wanted).abs().max() < 0.05


def test_probe_4_one_token_is_good_the_policy_learns_it():
    """When it fails: the sign of the loss, or log-probabilities of the wrong token."""
    world = World(lambda tokens, mask: (tokens[:, -1] == 4).float() - (tokens[:, -1] == 3).float())
    world.train()
    policy, reference = world.probabilities([BOS])
    assert reference[4] < 0.5 and policy[4] > 0.95


def test_probe_5_the_policy_learns_to_copy_the_prompts_token():
    """When it fails: prompts and responses of different rows are mixed up, or the prompt is not
    read."""
    world = World(
        lambda tokens, mask: (tokens[:, 1] == tokens[:, 2]).float(),
        prompts=((BOS, 3), (BOS, 4), (BOS, 5)),
    )
    world.train()
    assert min(world.probabilities([BOS, token])[0][token] for token in (3, 4, 5)) > 0.95


def test_probe_6_stopping_early_pays_the_policy_learns_to_stop():
    """When it fails: masks of ragged responses, the score on the wrong token, or EOS left out of
    the loss."""
    world = World(
        lambda tokens, mask: -mask.sum(dim=1).float(),
        eos_id=EOS,
        response_length=6,
        prompts=((BOS, 3),),
    )
    before = world.sample().response_mask.sum(dim=1).float().mean()
    world.train()
    assert before > 2.5 and world.sample().response_mask.sum(dim=1).float().mean() < 1.1


def test_probe_7_left_padding_changes_no_number_of_an_update():
    """When it fails: positions that count pads, attention to pads, or a slice that counts from the
    left."""
    rows = []
    for pads in range(6):
        world = World(
            lambda tokens, mask: tokens[mask].view(len(tokens), -1).float().sum(dim=1),
            response_length=3,
            prompts=((BOS, 3), (BOS, 4)),
            num_updates=2,
        )
        plain = world.draw_prompts

        def padded(n):
            return [torch.cat((x.new_zeros(n, pads), x), dim=1) for x in plain(n)]

        world.draw_prompts = padded
        rows.append(world.train()[-1])
    for row in rows[1:]:
        for name, value in rows[0].items():
            assert value is None or row[name] == pytest.approx(value, rel=1e-3, abs=1e-4), name


@pytest.mark.parametrize("vocab_size", [4, 16])
def test_probe_8_the_policy_reaches_the_optimal_one(vocab_size):
    """When it fails: the KL penalty, its sign or direction, whether its gradient reaches the
    policy, the temperature."""
    rewards = torch.randn(vocab_size, generator=torch.Generator().manual_seed(1))
    world = World(
        lambda tokens, mask: rewards[tokens[:, -1]],
        vocab_size=vocab_size,
        kl_coef=0.7,
        batch_size=1024,
        num_mini_batches=4,
        whiten_advantages=False,
        num_updates=60,
        final_learning_rate=0.01,
        num_ppo_epochs=2,
    )
    world.train()
    policy, reference = world.probabilities([BOS])
    optimal = reference * (rewards / 0.7).exp()
    assert 0.5 * (policy - optimal / optimal.sum()).abs().sum() < 0.02
    assert 0.5 * (policy - reference).abs().sum() > 0.1  # it had to move


# -- metrics and the way they are made


def tiny(**settings):
    return World(
        lambda tokens, mask: tokens[:, -1].float(),
        response_length=4,
        eos_id=EOS,
        prompts=((BOS, 3), (BOS, 5)),
        num_updates=3,
        batch_size=32,
        **settings,
    )


NAMES = """update episode lr objective/kl objective/kl_policy_to_ref_exact objective/entropy
objective/non_score_reward objective/scores objective/rlhf_reward objective/gold
objective/kl_coef policy/approxkl_avg policy/clipfrac_avg policy/entropy_avg
policy/grad_norm loss/policy_avg loss/value_avg val/ratio val/ratio_var val/ratio_max_deviation_first
val/clipfrac_avg val/explained_variance val/num_eos_tokens val/eos_rate
val/response_length sample/logp_gap objective/kl_se val/score_std val/critic_head_change""".split()


def test_every_metric_is_there_and_finite():
    for row in tiny().train(gold_function=lambda rollout: 7.0):
        assert set(NAMES) <= set(row)
        assert all(math.isfinite(row[name]) for name in NAMES) and row["objective/gold"] == 7.0


def test_the_first_minibatch_has_ratio_1_and_sampling_agrees_with_rescoring():
    for row in tiny(temperature=0.7).train():
        assert row["val/ratio_max_deviation_first"] < 1e-5 and row["sample/logp_gap"] < 1e-5


def test_at_the_first_update_the_kl_is_zero_and_then_it_is_not():
    rows = tiny().train()
    assert (
        rows[0]["objective/kl"] == pytest.approx(0, abs=1e-6)
        and abs(rows[2]["objective/kl_policy_to_ref_exact"]) > 1e-3
    )


def test_metrics_of_a_rollout_are_per_sequence_and_masked():
    records, world = [], tiny(kl_coef=0.3)
    world.train(on_update=lambda row, rollout, minibatch, state: records.append((row, rollout)))
    row, rollout = records[-1]
    mask = rollout.response_mask
    assert not mask.all()
    kl = (
        sum(
            (rollout.old_logprobs - rollout.ref_logprobs)[i, :n].sum().item()
            for i, n in enumerate(mask.sum(1))
        )
        / 32
    )
    assert row["objective/kl"] == pytest.approx(kl, rel=1e-5)
    assert row["objective/rlhf_reward"] == pytest.approx(
        rollout.scores.mean().item() - 0.3 * kl, rel=1e-5
    )
    assert row["objective/scores"] + row["objective/non_score_reward"] == pytest.approx(
        row["objective/rlhf_reward"]
    )
    assert row["val/num_eos_tokens"] == int((rollout.response_tokens == EOS).sum())
    assert row["val/response_length"] == pytest.approx(mask.sum().item() / 32)
    assert row["objective/entropy"] == pytest.approx(-rollout.old_logprobs.sum().item() / 32)


def test_the_explained_variance_is_that_of_the_critic_at_the_rollout():
    records, world = [], tiny(lam=1.0, whiten_advantages=False)
    world.train(on_update=lambda row, rollout, minibatch, state: records.append((row, rollout)))
    row, rollout = records[-1]
    mask, targets = rollout.response_mask, estimate_advantages(rollout, world.config)[2]
    wanted = 1 - (targets - rollout.old_values)[mask].var(correction=0) / targets[mask].var(
        correction=0
    )
    assert row["val/explained_variance"] == pytest.approx(wanted.item(), abs=1e-4)


def test_rewards_are_the_score_on_the_last_token_minus_the_kl_penalty():
    records, world = [], tiny(kl_coef=0.3, whiten_advantages=False, lam=1.0)
    world.train(on_update=lambda row, rollout, minibatch, state: records.append(rollout))
    rollout = records[-1]
    rewards, advantages, targets = estimate_advantages(rollout, world.config)
    per_sequence = (rollout.old_logprobs - rollout.ref_logprobs).sum(dim=1)
    assert_close(rewards.sum(dim=1), rollout.scores - 0.3 * per_sequence)
    # With lam = 1 and gamma = 1 the first value target is the whole return.
    assert_close(targets[:, 0], rewards.sum(dim=1))
    assert_close(advantages + rollout.old_values, targets)


def test_whitened_advantages_have_mean_0_and_deviation_1_over_the_rollout():
    records, world = [], tiny()
    world.train(on_update=lambda row, rollout, minibatch, state: records.append(rollout))
    _, advantages, targets = estimate_advantages(records[-1], world.config)
    real = advantages[records[-1].response_mask]
    assert_close(real.mean(), 0.0)
    assert_close(real.std(correction=0), 1.0)
    plain = PPOConfig(**vars(world.config) | {"whiten_advantages": False})
    # targets come from advantages before whitening
    assert_close(estimate_advantages(records[-1], plain)[2], targets)


def test_equal_advantages_are_not_divided_by_nothing():
    world = World(lambda tokens, mask: torch.zeros(len(tokens)), kl_coef=1e-30, num_updates=1)
    (row,) = world.train()
    assert all(math.isfinite(value) for value in row.values() if value is not None)


def test_whitened_rewards_keep_their_mean():
    records, world = [], tiny(whiten_rewards=True)
    world.train(on_update=lambda row, rollout, minibatch, state: records.append(rollout))
    mask = records[-1].response_mask
    plain = PPOConfig(**vars(world.config) | {"whiten_rewards": False})
    one, other = (
        estimate_advantages(records[-1], config)[0][mask] for config in (plain, world.config)
    )
    assert_close(other.mean(), one.mean())
    assert_close(other.std(correction=0), 1.0)


def test_the_learning_rate_falls_linearly_to_its_share():
    assert [row["lr"] for row in tiny(final_learning_rate=0.5).train()] == pytest.approx(
        [1e-2, 7.5e-3, 5e-3]
    )


def test_target_kl_stops_the_passes_of_a_rollout_early():
    stopped, free = (
        tiny(target_kl=limit, num_ppo_epochs=8, learning_rate=3e-2).train()
        for limit in (1e-4, None)
    )
    assert stopped[0]["policy/approxkl_avg"] < free[0]["policy/approxkl_avg"]


def test_the_entropy_bonus_keeps_the_policy_spread_out():
    with_bonus, without = (
        tiny(ent_coef=bonus, num_ppo_epochs=8).train()[-1]["policy/entropy_avg"]
        for bonus in (1.0, 0.0)
    )
    assert with_bonus > without + 0.05


def test_the_reference_is_not_trained_and_policy_and_critic_are():
    world = tiny()
    before = copy.deepcopy((world.reference.state_dict(), world.critic.state_dict()))
    world.train()
    assert all(
        torch.equal(a, b) for a, b in zip(before[0].values(), world.reference.state_dict().values())
    )
    for old, model in ((before[0], world.policy), (before[1], world.critic)):
        assert all(not torch.equal(a, b) for a, b in zip(old.values(), model.state_dict().values()))


def test_the_same_seed_gives_the_same_weights_and_metrics_bit_for_bit():
    worlds = [tiny(), tiny()]
    rows = [world.train() for world in worlds]
    assert rows[0] == rows[1]
    assert all(
        torch.equal(a, b) for a, b in zip(*(world.policy.state_dict().values() for world in worlds))
    )


def test_a_minibatch_reports_ratios_and_advantages_of_real_tokens():
    seen, world = [], tiny()
    world.train(on_update=lambda row, rollout, minibatch, state: seen.append((rollout, minibatch)))
    rollout, minibatch = seen[0]
    assert len(minibatch["ratios"]) == len(minibatch["advantages"]) < rollout.response_mask.numel()
    assert all(0 < ratio < 10 for ratio in minibatch["ratios"]) and any(
        ratio != 1 for ratio in minibatch["ratios"]
    )


def test_a_score_that_is_not_finite_stops_the_run_and_names_the_update():
    world = tiny()
    world.score_function = lambda tokens, mask: torch.full((len(tokens),), float("nan"))
    with pytest.raises(
        TrainingError,
        match="^policy, update 1: scores is (nan|inf) in .* places; look at the reward model",
    ):
        world.train()


def test_a_policy_that_breaks_stops_the_run_and_names_the_update():
    with pytest.raises(
        TrainingError, match=r"^policy, update [123]: (policy_loss|loss|P010|the gradient|policy\.)"
    ):
        tiny(learning_rate=1e30).train()


def test_weights_that_break_in_the_last_step_of_a_rollout_are_noticed_when_sampling():
    with pytest.raises(
        TrainingError,
        match=r"^policy, update [123]: (sampling: the model's probabilities|policy\.\S+ is nan)",
    ):
        tiny(learning_rate=1e30, num_ppo_epochs=1, num_mini_batches=1).train()


def test_logits_of_the_policy_are_those_at_the_sampling_temperature():
    world = tiny(temperature=0.5)
    batch = world.sample(4)
    whole = torch.cat((batch.prompt_tokens, batch.response_tokens), dim=1)
    mask = torch.cat((batch.prompt_mask, batch.response_mask), dim=1)
    assert_close(
        response_logits(world.policy, batch, 0.5), world.policy(whole, mask)[:, 1:-1] / 0.5
    )
