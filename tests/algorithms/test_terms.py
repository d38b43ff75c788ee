"""The other terms of PPO's loss, in the very update that a run makes."""

import copy
import dataclasses

import pytest
import torch

from minippo import rollout as rollout_module
from minippo.algorithms import REGISTRY
from minippo.algorithms.base import Experience, actions_of
from minippo.algorithms.terms import kl_term, ptx_term, reduced, with_dropout
from minippo.critic_head import Critic
from minippo.logprobs import token_ratios
from minippo.ppo import clipped_surrogate_loss
from minippo.relatives import reductions
from minippo.relatives.kl_losses import KL_LOSSES
from minippo.rollout import logits_and_values, response_logits, response_logprobs, response_values
from minippo.stages.credit import estimate_advantages
from minippo.stages.pretrain import next_token_loss
from minippo.tasks.base import Example
from tests.helpers import assert_close
from tests.worlds import ragged, weights_of

LOSS = {"kl_loss": "k2_response", "kl_reward": "none"}
TEXTS = [Example([1, 3, 4], [False, True, True]), Example([1, 5], [False, True])]


def moved(**settings):
    """(world, its config, the experience of a first rollout, log-probabilities of a policy that has
    moved since), in float64."""
    world = ragged(num_updates=1, **settings)
    (step,) = world.updates()
    rollout = step.rollout
    _, advantages, targets = estimate_advantages(rollout, world.config)
    experience = Experience(rollout, advantages, targets, kl_coef=0.3)
    logprobs = response_logprobs(response_logits(world.policy, rollout, 1.0), rollout)
    assert (logprobs - rollout.old_logprobs).abs().max() > 1e-3
    return world, world.config, experience, logprobs


@pytest.mark.parametrize("name", reductions.FACTORS)
def test_the_loss_of_the_policy_has_the_reduction_that_was_asked_for(name):
    _, config, experience, logprobs = moved(loss_reduction=name)
    mask = experience.rollout.response_mask
    ratios = token_ratios(
        logprobs=logprobs, old_logprobs=experience.rollout.old_logprobs, response_mask=mask
    )
    A = experience.advantages
    terms = torch.minimum(ratios * A, ratios.clamp(0.8, 1.2) * A)
    length = {"length": config.response_length} if name == "constant_mean" else {}
    wanted = -getattr(reductions, name)(values=terms, response_mask=mask, **length)
    actions = reduced(actions_of(logprobs, experience, config), config)
    assert_close(clipped_surrogate_loss(**actions, cliprange=0.2), wanted)


def test_a_response_as_one_action_has_one_ratio():
    _, config, experience, logprobs = moved(action="response")
    actions = actions_of(logprobs, experience, config)
    rollout = experience.rollout
    ratios = (logprobs - rollout.old_logprobs).sum(dim=1).exp()  # both are 0 in the padding
    A = experience.advantages[:, 0]
    wanted = -torch.minimum(ratios * A, ratios.clamp(0.8, 1.2) * A).mean()
    assert_close(clipped_surrogate_loss(**actions, cliprange=0.2), wanted)
    assert actions["response_mask"].shape == (len(rollout), 1)


def test_minibatch_whitening_is_over_the_minibatch():
    _, config, experience, logprobs = moved()
    config = dataclasses.replace(config, whiten_advantages=True, whiten_over="minibatch")
    rows = torch.arange(5)
    part = experience.rows(rows)
    actions = actions_of(logprobs[rows][:, : part.advantages.shape[1]], part, config)
    white = actions["advantages"][part.rollout.response_mask]
    assert_close(white.mean(), 0.0)
    assert_close(white.std(correction=0), 1.0)


@pytest.mark.parametrize("action", ["token", "response"])
@pytest.mark.parametrize("name", ["k2_response", "k1_response"])
def test_the_kl_in_the_loss_is_weighed_as_the_same_kl_in_the_reward(name, action):
    """kl_coef KL per response, and the surrogate a token mean: N / B smaller than per response."""
    _, config, experience, logprobs = moved(action=action, **LOSS)
    config = dataclasses.replace(config, kl_loss=name)
    rollout = experience.rollout
    term = kl_term(logprobs, experience, actions_of(logprobs, experience, config), config)
    per_response = KL_LOSSES[name].loss(
        logprobs=logprobs,
        old_logprobs=rollout.old_logprobs,
        ref_logprobs=rollout.ref_logprobs,
        response_mask=rollout.response_mask,
    )
    divisor = rollout.response_mask.sum() / len(rollout) if action == "token" else 1.0
    assert_close(term, 0.3 * per_response / divisor)


def test_terms_are_in_the_loss_and_logged():
    world = ragged(num_updates=1, kl_coef=0.3, ptx_coef=0.5, **LOSS)
    updates = world.updates(draw_texts=lambda n: [TEXTS[i % 2] for i in range(n)])
    (step,) = updates
    assert step.row["loss/kl_avg"] > 0 and step.row["loss/ptx_avg"] > 0
    without = ragged(num_updates=1, kl_coef=0.3)
    assert not {"loss/kl_avg", "loss/ptx_avg"} & next(without.updates()).row.keys()
    assert not torch.equal(weights_of(without.policy), weights_of(world.policy))


def test_what_is_logged_of_them_is_what_they_are_before_the_step():
    settings = LOSS | dict(num_updates=1, num_ppo_epochs=1, num_mini_batches=1)
    world = ragged(kl_coef=0.3, ptx_coef=0.5, **settings)
    with torch.no_grad():  # the policy has left the reference, the one step has not been made
        world.policy.wpe.weight.mul_(1.5)
    ptx = 0.5 * next_token_loss(world.policy, TEXTS * 16, pad_id=0).item()
    (step,) = world.updates(draw_texts=lambda n: (TEXTS * n)[:n])
    rollout = step.rollout
    d = (rollout.old_logprobs - rollout.ref_logprobs).sum(dim=1)  # the ratio is 1
    # half of d^2 per response, times B / N
    kl = 0.3 * (d**2 / 2).sum() / rollout.response_mask.sum()
    assert kl > 1e-3
    assert step.row["loss/kl_avg"] == pytest.approx(kl.item(), rel=1e-4)
    assert step.row["loss/ptx_avg"] == pytest.approx(ptx, rel=1e-5)


def test_the_pretraining_loss_is_ptx_coef_times_that_of_pretraining():
    world, config, experience, _ = moved()
    config = dataclasses.replace(config, ptx_coef=0.5)
    batch = experience._replace(texts=TEXTS)
    wanted = 0.5 * next_token_loss(world.policy, TEXTS, pad_id=0)
    assert_close(ptx_term(world.policy, batch, config), wanted)
    assert batch.rows(torch.tensor([1])).texts == TEXTS[1:]
    with pytest.raises(ValueError, match="ptx_coef"):
        ptx_term(world.policy, experience, config)


def test_dropout_breaks_the_ratio_of_the_first_minibatch_and_is_off_afterwards():
    rows = {p: ragged(num_updates=1, dropout=p, seed=4).train()[0] for p in (0.0, 0.3)}
    name = "val/ratio_max_deviation_first"
    assert rows[0.0][name] < 1e-5 < 1e-2 < rows[0.3][name]
    world = ragged()
    with with_dropout([world.policy, world.critic], 0.5, torch.Generator().manual_seed(0)):
        assert world.policy.training and world.policy.drop.p == 0.5
        assert world.policy.h[0].attn.dropout == 0.5
    assert not world.policy.training and world.policy.drop.p == 0.0
    assert world.policy.h[0].attn.dropout == 0.0


def test_dropout_is_reproducible_and_leaves_the_global_generator_alone():
    one, other = (ragged(num_updates=1, dropout=0.2) for _ in range(2))
    before = torch.random.get_rng_state()
    one.train(), other.train()
    assert torch.equal(weights_of(one.policy), weights_of(other.policy))
    assert torch.equal(before, torch.random.get_rng_state())


# -- a critic on the policy's own trunk


def test_a_shared_trunk_is_read_once_and_gives_the_same_numbers():
    world = ragged(num_updates=1)
    critic = Critic.sharing(world.policy)
    torch.nn.init.normal_(critic.head.weight, generator=torch.Generator().manual_seed(1))
    (step,) = world.updates()
    logits, values = logits_and_values(world.policy, critic, step.rollout, 2.0)
    assert_close(logits, response_logits(world.policy, step.rollout, 2.0))
    assert_close(values, response_values(critic, step.rollout))
    alone = copy.deepcopy(critic)
    assert_close(values, logits_and_values(world.policy, alone, step.rollout, 2.0)[1])


def test_a_shared_critic_trains_the_one_trunk_with_each_parameter_once():
    world = ragged(num_updates=2)
    world.critic = Critic.sharing(world.policy)
    *_, step = world.updates()
    assert world.critic.trunk is world.policy
    tensors, _ = step.state()
    assert torch.equal(tensors["critic.trunk.wte.weight"], tensors["policy.wte.weight"])
    update = REGISTRY["ppo"].update(world.models(), world.config, world.generator)
    names = update.optimizers[0].param_groups[0]["param_names"]
    assert len(names) == len(set(names)) == len(list(world.critic.parameters()))
    assert [name for name in names if name.startswith("critic.")] == [
        "critic.head.weight",
        "critic.head.bias",
    ]


def test_a_critic_that_is_warmed_up_has_learned_before_the_first_update():
    """Its targets are the returns at lam 1: the error of the first rollout falls."""
    plain, warm = (
        ragged(num_updates=1, critic_warmup=n, lam=1.0, learning_rate=1e-2) for n in (0, 20)
    )
    name = "val/explained_variance_returns"
    rows = [world.train()[0] for world in (plain, warm)]
    assert rows[1][name] > rows[0][name] + 0.2
    assert torch.equal(weights_of(plain.reference), weights_of(warm.reference))


def test_old_logprobs_may_be_those_of_sampling(monkeypatch):
    sampled = rollout_module.continue_prompts

    def off_by_a_quarter(*arguments, **settings):
        tokens, mask, logprobs = sampled(*arguments, **settings)
        return tokens, mask, torch.where(mask, logprobs - 0.25, 0.0)

    monkeypatch.setattr(rollout_module, "continue_prompts", off_by_a_quarter)
    first = {}
    for old in ("sampled", "rescored"):
        (step,) = ragged(num_updates=1, old_logprobs=old).updates()
        first[old] = step.row["val/ratio_max_deviation_first"]
    assert first == {
        "rescored": pytest.approx(0.0, abs=1e-5),
        "sampled": pytest.approx(1.2840 - 1, abs=1e-4),  # e^(1/4)
    }


def test_values_that_are_kept_are_read_and_learned_behind_eos():
    world = ragged(num_updates=1, value_after_end="kept", score_place="after_eos")
    (step,) = world.updates()
    rollout = step.rollout
    lengths = rollout.response_mask.sum(dim=1)
    room = lengths < rollout.response_mask.shape[1]
    rows = room.nonzero().flatten()
    assert len(rows) > 0
    behind = rollout.old_values[rows, lengths[rows]]
    assert_close(behind, rollout.end_values[rows])
    assert (behind != 0).all()
    assert torch.equal(rollout.value_mask.sum(dim=1), (lengths + room))
    part = rollout.rows(rows[:1]).trimmed()
    assert part.value_mask.shape[1] == int(lengths[rows[0]]) + 1
    assert part.old_values[0, -1] == behind[0]
