"""The four variants of PPO in the trainer."""

import copy

import pytest
import torch

from minippo.algorithms.ppo import PPOUpdate
from minippo.ppo import adapt_kl_coef
from minippo.rollout import response_logits
from tests.helpers import assert_close
from tests.worlds import ragged, weights_of

STAGES_1_TO_4 = ("pg", "rtg", "baseline", "gae")
WITHOUT_CRITIC = ("pg", "rtg")


# -- PPO's variants


def test_unclipped_is_clipped_with_a_range_that_is_never_left():
    worlds = [ragged(), ragged(cliprange=1e6)]
    for world, algorithm in zip(worlds, ("ppo_unclipped", "ppo"), strict=True):
        world.train(algorithm)
    assert torch.equal(*(weights_of(world.policy) for world in worlds))


def test_without_a_critic_it_is_refused():
    world = ragged()
    with pytest.raises(ValueError, match="the algorithm needs a critic, and there is none"):
        PPOUpdate(world.models("pg"), world.config, world.generator)


def test_a_price_near_0_on_the_kl_is_no_price():
    worlds = [ragged(), ragged(kl_old_coef=1e-30)]
    for world, algorithm in zip(worlds, ("ppo_unclipped", "ppo_kl"), strict=True):
        world.train(algorithm)
    assert_close(*(weights_of(world.policy) for world in worlds))


def test_with_one_step_per_rollout_clipped_and_unclipped_are_the_same():
    worlds = [ragged(num_ppo_epochs=1, num_mini_batches=1) for _ in range(2)]
    for world, algorithm in zip(worlds, ("ppo_unclipped", "ppo"), strict=True):
        world.train(algorithm)
    assert torch.equal(*(weights_of(world.policy) for world in worlds))


@pytest.mark.parametrize("seed", range(4))
def test_a_high_price_on_the_kl_keeps_the_policy_nearer(seed):
    far, near = (
        ragged(kl_old_coef=price, num_updates=1, seed=seed).train("ppo_kl")[0]
        for price in (1e-6, 3.0)
    )
    assert near["policy/kl_old_to_policy"] < 0.8 * far["policy/kl_old_to_policy"]


def test_the_adaptive_price_follows_its_rule_and_the_fixed_one_stays():
    rows = ragged(num_updates=8, kl_old_coef=0.5, kl_old_target=0.05).train("ppo_adaptive_kl")
    prices = [row["objective/kl_old_coef"] for row in rows]
    assert prices[0] == 0.5 and len(set(prices)) > 1
    for row, price, following in zip(rows, prices, prices[1:], strict=False):
        assert following == adapt_kl_coef(
            kl_coef=price, kl=row["policy/kl_old_to_policy"], target=0.05
        )
    fixed = ragged(kl_old_coef=0.5).train("ppo_kl")
    assert {row["objective/kl_old_coef"] for row in fixed} == {0.5}


def test_the_kl_to_the_old_policy_is_that_of_the_update_just_made():
    world = ragged(num_updates=1)
    before = copy.deepcopy(world.policy)
    ((row, rollout, _, _),) = world.updates()
    old, new = (
        response_logits(model, rollout, 1.0).detach().double().log_softmax(-1)
        for model in (before, world.policy)
    )
    wanted = (old.exp() * (old - new)).sum(-1)[rollout.response_mask].mean()
    assert row["policy/kl_old_to_policy"] == pytest.approx(wanted.item(), rel=1e-3)
