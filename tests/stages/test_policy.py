"""The trainer of the policy, tried on worlds so small that the right answer is known: the eight
probes, and its metrics.

A probe is a pair of functions, one that draws prompts and one that scores responses, and an end
that can only be reached when every part of the trainer does what it says. What each probe's failure
points at is in its docstring.
"""

import copy
import dataclasses
import math
from types import SimpleNamespace

import pytest
import torch

from minippo.algorithms import REGISTRY
from minippo.algorithms.base import Algorithm, PPOConfig
from minippo.algorithms.policy_gradient import PolicyGradientUpdate
from minippo.errors import TrainingError
from minippo.gae import value_targets
from minippo.rollout import response_logits, response_values
from minippo.stages.credit import estimate_advantages
from minippo.stages.policy import critic_metrics
from tests.helpers import assert_close
from tests.worlds import BOS, EOS, Probe, good_token, ragged, tiny, weights_of

# -- the probes


def test_probe_1_constant_reward_the_critic_learns_the_constant():
    """When it fails: the value loss, the value targets, or the critic's parameters not being in the
    optimiser."""
    probe = Probe(
        lambda tokens, mask: torch.full((len(tokens),), 1.5),
        whiten_advantages=False,
        num_updates=20,
        num_ppo_epochs=2,
    )
    probe.train()
    values = response_values(probe.critic, probe.sample())
    assert (values - 1.5).abs().max() < 0.05


def test_probe_2_reward_named_by_the_prompt_the_critic_reads_the_prompt():
    """When it fails: the critic does not see the prompt, or sees another row's."""
    probe = Probe(
        lambda tokens, mask: torch.where(tokens[:, 1] == 3, 1.0, -1.0),
        prompts=((BOS, 3), (BOS, 4)),
        whiten_advantages=False,
        num_updates=20,
        num_ppo_epochs=2,
    )
    probe.train()
    batch = probe.sample(64)
    wanted = torch.where(batch.prompt_tokens[:, 1:] == 3, 1.0, -1.0)
    assert (response_values(probe.critic, batch) - wanted).abs().max() < 0.1


@pytest.mark.slow
def test_probe_3_reward_only_at_the_end_the_values_are_discounted():
    """When it fails: gamma, the alignment of values and rewards, or the value after the end."""
    probe = Probe(
        lambda tokens, mask: torch.ones(len(tokens)),
        response_length=4,
        gamma=0.9,
        whiten_advantages=False,
        num_updates=30,
    )
    probe.train()
    wanted = torch.tensor([0.9**3, 0.9**2, 0.9, 1.0])
    assert (response_values(probe.critic, probe.sample()) - wanted).abs().max() < 0.05


def test_probe_4_one_token_is_good_the_policy_learns_it():
    """When it fails: the sign of the loss, or log-probabilities of the wrong token."""
    probe = Probe(good_token, num_updates=25)
    probe.train()
    policy, reference = probe.probabilities([BOS])
    assert reference[4] < 0.5 and policy[4] > 0.95


@pytest.mark.slow
def test_probe_5_the_policy_learns_to_copy_the_prompts_token():
    """When it fails: prompts and responses of different rows are mixed up, or the prompt is not
    read."""
    probe = Probe(
        lambda tokens, mask: (tokens[:, 1] == tokens[:, 2]).float(),
        prompts=((BOS, 3), (BOS, 4), (BOS, 5)),
    )
    probe.train()
    assert min(probe.probabilities([BOS, token])[0][token] for token in (3, 4, 5)) > 0.95


def test_probe_6_stopping_early_pays_the_policy_learns_to_stop():
    """When it fails: masks of ragged responses, the score on the wrong token, or EOS left out of
    the loss."""
    probe = Probe(
        lambda tokens, mask: -mask.sum(dim=1).float(),
        eos_id=EOS,
        response_length=6,
        prompts=((BOS, 3),),
        num_updates=20,
    )
    before = probe.sample().response_mask.sum(dim=1).float().mean()
    probe.train()
    assert before > 2.5 and probe.sample().response_mask.sum(dim=1).float().mean() < 1.1


def test_probe_7_left_padding_changes_no_number_of_an_update():
    """When it fails: positions that count pads, attention to pads, or a slice that counts from the
    left."""
    rows = []
    for pads in range(6):
        probe = Probe(
            lambda tokens, mask: tokens[mask].view(len(tokens), -1).float().sum(dim=1),
            response_length=3,
            prompts=((BOS, 3), (BOS, 4)),
            num_updates=2,
        )
        plain = probe.draw_prompts

        def padded(n):
            return [torch.cat((x.new_zeros(n, pads), x), dim=1) for x in plain(n)]

        probe.draw_prompts = padded
        rows.append(probe.train()[-1])
    for row in rows[1:]:
        for name, value in rows[0].items():
            assert value is None or row[name] == pytest.approx(value, rel=1e-3, abs=1e-4), name


@pytest.mark.parametrize("vocab_size", [4, pytest.param(16, marks=pytest.mark.slow)])
def test_probe_8_the_policy_reaches_the_optimal_one(vocab_size):
    """When it fails: the KL penalty, its sign or direction, whether its gradient reaches the
    policy, the temperature."""
    rewards = torch.randn(vocab_size, generator=torch.Generator().manual_seed(1))
    probe = Probe(
        lambda tokens, mask: rewards[tokens[:, -1]],
        vocab_size=vocab_size,
        kl_coef=0.7,
        batch_size=1024,
        num_mini_batches=2,
        whiten_advantages=False,
        num_updates=40,
        final_learning_rate=0.01,
        num_ppo_epochs=2,
    )
    probe.train()
    policy, reference = probe.probabilities([BOS])
    optimal = reference * (rewards / 0.7).exp()
    assert 0.5 * (policy - optimal / optimal.sum()).abs().sum() < 0.02
    assert 0.5 * (policy - reference).abs().sum() > 0.1  # it had to move


# -- what an update is made of


def test_the_first_minibatch_has_ratio_1_and_sampling_agrees_with_rescoring():
    for row in tiny(temperature=0.7).train():
        assert row["val/ratio_max_deviation_first"] < 1e-5 and row["sample/logp_gap"] < 1e-5


def test_at_the_first_update_the_kl_is_zero_and_then_it_is_not():
    rows = tiny().train()
    assert (
        rows[0]["objective/kl"] == pytest.approx(0, abs=1e-6)
        and abs(rows[2]["objective/kl_policy_to_ref_exact"]) > 1e-3
    )


def test_rewards_are_the_score_on_the_last_token_minus_the_kl_penalty():
    probe = tiny(kl_coef=0.3, whiten_advantages=False, lam=1.0)
    *_, (_, rollout, *_) = probe.updates()
    rewards, advantages, targets = estimate_advantages(rollout, probe.config)
    per_sequence = (rollout.old_logprobs - rollout.ref_logprobs).sum(dim=1)
    assert_close(rewards.sum(dim=1), rollout.scores - 0.3 * per_sequence)
    # With lam = 1 and gamma = 1 the first value target is the whole return.
    assert_close(targets[:, 0], rewards.sum(dim=1))
    assert_close(advantages + rollout.old_values, targets)


def test_whitened_advantages_have_mean_0_and_deviation_1_over_the_rollout():
    probe = tiny()
    *_, (_, rollout, *_) = probe.updates()
    _, advantages, targets = estimate_advantages(rollout, probe.config)
    real = advantages[rollout.response_mask]
    assert_close(real.mean(), 0.0)
    assert_close(real.std(correction=0), 1.0)
    plain = PPOConfig(**vars(probe.config) | {"whiten_advantages": False})
    # targets come from advantages before whitening
    assert_close(estimate_advantages(rollout, plain)[2], targets)


def test_equal_advantages_are_not_divided_by_nothing():
    probe = Probe(lambda tokens, mask: torch.zeros(len(tokens)), kl_coef=1e-30, num_updates=1)
    (row,) = probe.train()
    assert all(math.isfinite(value) for value in row.values() if value is not None)


def test_whitened_rewards_keep_their_mean():
    probe = tiny(whiten_rewards=True)
    *_, (_, rollout, *_) = probe.updates()
    mask = rollout.response_mask
    plain = PPOConfig(**vars(probe.config) | {"whiten_rewards": False})
    one, other = (estimate_advantages(rollout, config)[0][mask] for config in (plain, probe.config))
    assert_close(other.mean(), one.mean())
    assert_close(other.std(correction=0), 1.0)


def test_a_critic_that_knows_nothing_explains_its_targets_but_not_the_rewards_to_go():
    """It says one random number for each response; lam 0.95, responses of 100 to 160 tokens."""
    generator = torch.Generator().manual_seed(0)
    lengths = torch.randint(100, 161, (128,), generator=generator)
    mask = torch.arange(160) < lengths.unsqueeze(1)
    values = torch.where(mask, torch.randn(128, 1, generator=generator), 0.0)
    rewards = torch.zeros(128, 160)
    rewards[torch.arange(128), lengths - 1] = torch.randn(128, generator=generator)
    config = PPOConfig(lam=0.95, gamma=1.0)
    advantages = REGISTRY["ppo"].weights(rewards, values, mask, config)
    targets = value_targets(advantages=advantages, values=values, response_mask=mask)
    rollout = SimpleNamespace(old_values=values, response_mask=mask, value_mask=mask)
    found = critic_metrics(rollout, rewards, targets, config)
    assert found == pytest.approx(
        {"val/explained_variance": 0.79, "val/explained_variance_returns": -0.67}, abs=0.005
    )


def test_the_learning_rate_falls_linearly_to_its_share():
    to_zero = [row["lr"] for row in tiny(final_learning_rate=0.0).train()]
    assert min(to_zero) > 0 and to_zero == pytest.approx(
        [to_zero[0] * (1 - i / len(to_zero)) for i in range(len(to_zero))]
    )  # 0 lies behind the last update
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
    probe = tiny()
    before = copy.deepcopy((probe.reference.state_dict(), probe.critic.state_dict()))
    probe.train()
    assert all(
        torch.equal(a, b)
        for a, b in zip(before[0].values(), probe.reference.state_dict().values(), strict=True)
    )
    for old, model in ((before[0], probe.policy), (before[1], probe.critic)):
        assert all(
            not torch.equal(a, b)
            for a, b in zip(old.values(), model.state_dict().values(), strict=True)
        )


def test_the_same_seed_gives_the_same_weights_and_metrics_bit_for_bit():
    probes = [tiny(), tiny()]
    rows = [probe.train() for probe in probes]
    assert rows[0] == rows[1]
    assert all(
        torch.equal(a, b)
        for a, b in zip(*(probe.policy.state_dict().values() for probe in probes), strict=True)
    )


def test_a_minibatch_reports_ratios_and_advantages_of_real_tokens():
    _, rollout, minibatch, _ = next(tiny().updates())
    assert len(minibatch["ratios"]) == len(minibatch["advantages"]) < rollout.response_mask.numel()
    assert all(0 < ratio < 10 for ratio in minibatch["ratios"]) and any(
        ratio != 1 for ratio in minibatch["ratios"]
    )


def test_a_score_that_is_not_finite_stops_the_run_and_names_the_update():
    probe = tiny()
    probe.score_function = lambda tokens, mask: torch.full((len(tokens),), float("nan"))
    with pytest.raises(
        TrainingError,
        match="^policy, update 1: scores is (nan|inf) in .* places; look at the reward model",
    ):
        probe.train()


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
    probe = tiny(temperature=0.5)
    batch = probe.sample(4)
    whole = torch.cat((batch.prompt_tokens, batch.response_tokens), dim=1)
    mask = torch.cat((batch.prompt_mask, batch.response_mask), dim=1)
    assert_close(
        response_logits(probe.policy, batch, 0.5), probe.policy(whole, mask)[:, 1:-1] / 0.5
    )


# -- what is in an algorithm's record


@pytest.mark.parametrize("algorithm", ["pg", "rtg"])
def test_an_algorithm_without_a_critic_runs_and_saves_none(algorithm):
    probe = ragged()
    before = weights_of(probe.policy)
    for row, rollout, _, state in probe.updates(algorithm):
        tensors, _ = state()
        assert rollout.old_values is None
        assert not [name for name in tensors if name.startswith(("critic", "optimizer 1"))]
        assert not {"val/explained_variance", "val/critic_head_change"} & set(row)
        assert not {"loss/value_avg", "val/clipfrac_avg"} & set(row)
    assert not torch.equal(before, weights_of(probe.policy))


def registered(monkeypatch, record):
    monkeypatch.setitem(REGISTRY, record.name, record)
    return record.name


@pytest.mark.parametrize("algorithm", ["rtg", "ppo"])
def test_samples_of_a_prompt_are_neighbouring_rows(algorithm, monkeypatch):
    record = dataclasses.replace(REGISTRY[algorithm], name="grouped", samples_per_prompt=4)
    grouped, asked = ragged(num_updates=2), []
    draw = grouped.draw_prompts
    grouped.draw_prompts = lambda n: asked.append(n) or draw(n)
    for row, rollout, *_ in grouped.updates(registered(monkeypatch, record)):
        groups = rollout.prompt_tokens.view(8, 4, 2)
        assert (groups == groups[:, :1]).all() and groups[:, 0, 1].tolist() == [3, 5] * 4
        assert len({tuple(response) for response in rollout.response_tokens[:4].tolist()}) > 1
        assert row["episode"] == 32 * row["update"]
    assert asked == [8, 8]


@pytest.mark.parametrize("algorithm", ["rtg", "ppo"])
def test_the_setting_goes_before_the_algorithms_own_number_of_samples(algorithm, monkeypatch):
    record = dataclasses.replace(REGISTRY[algorithm], name="grouped", samples_per_prompt=4)
    grouped, asked = ragged(num_updates=1, samples_per_prompt=2), []
    draw = grouped.draw_prompts
    grouped.draw_prompts = lambda n: asked.append(n) or draw(n)
    ((_, rollout, *_),) = grouped.updates(registered(monkeypatch, record))
    assert asked == [16] and len(rollout) == 32
    groups = rollout.prompt_tokens.view(16, 2, 2)
    assert (groups == groups[:, :1]).all()


def test_a_new_algorithm_is_a_record_in_the_registry(monkeypatch):
    def signs(rewards, values, mask, config):
        return torch.where(mask, rewards.sum(dim=1, keepdim=True).sign(), 0.0)

    toy = Algorithm(
        name="signs",
        summary="policy gradient with the sign of the return",
        weights=signs,
        update=PolicyGradientUpdate,
        has_critic=False,
    )
    probe = Probe(good_token, whiten_advantages=False, num_updates=40)
    name = registered(monkeypatch, toy)
    ((_, rollout, *_),) = ragged(num_updates=1, kl_coef=1e-30).updates(name)
    assert estimate_advantages(rollout, probe.config, name)[1].unique().tolist() == [0.0, 1.0]
    probe.train(name)
    policy, reference = probe.probabilities([BOS])
    assert reference[4] < 0.5 and policy[4] > 0.3
