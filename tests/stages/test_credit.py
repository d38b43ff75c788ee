"""Where the score is paid, what the end is worth, who is left out: by hand on two responses.

row   tokens             score   k1            values      after the end
0     word EOS           10      1, 2          3, 4        V = 7 behind EOS
1     word word word     20      0, 0, 0       1, 2, 5     V = 6, cut off by the length
"""

from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch

from minippo.algorithms.base import Experience, actions_of, minibatches
from minippo.algorithms.config import PPOConfig
from minippo.masked import masked_mean, whiten
from minippo.rollout import value_slots
from minippo.stages.credit import REWARD_SLOTS, estimate_advantages, learned_from, next_kl_coef
from tests.helpers import assert_close, f64, mask_of_lengths
from tests.worlds import ragged, tiny

MASK = mask_of_lengths([2, 3])
K1 = f64([[1, 2, 0], [0, 0, 0]])
PLAIN = {"kl_coef": 1.0, "gamma": 1.0, "lam": 1.0, "whiten_advantages": False}


def rollout(config):
    """The two responses, with what a rollout notes under this configuration."""
    value_mask = value_slots(MASK, config)
    asked = config.value_after_end != "zero"
    return SimpleNamespace(
        response_mask=MASK,
        scores=f64([10, 20]),
        ended=torch.tensor([True, False]),
        old_logprobs=K1 - 1.0 * MASK,
        ref_logprobs=-1.0 * MASK.double(),
        exact_kl=f64([[0.5, 0.5, 0], [0, 0, 0.25]]),
        old_values=torch.where(value_mask, f64([[3, 4, 7], [1, 2, 5]]), 0.0),
        value_mask=value_mask,
        end_values=f64([7, 6]) if asked else None,
    )


def estimated(**settings):
    config = PPOConfig(**PLAIN | settings)
    return estimate_advantages(rollout(config), config)


def test_by_default_the_score_is_on_the_last_token_and_the_end_is_worth_nothing():
    rewards, advantages, targets = estimated()
    assert_close(rewards, [[-1, -2 + 10, 0], [0, 0, 20]])
    # to go: 7, 8 and 20, 20, 20; less 3, 4 and 1, 2, 5
    assert_close(advantages, [[4, 4, 0], [19, 18, 15]])
    assert_close(targets, [[7, 8, 0], [20, 20, 20]])


def test_before_the_last_token_a_residual_is_a_difference_of_values_unless_the_kl_is_paid_there():
    in_the_reward, in_the_loss = (
        estimated(gamma=0.5, lam=0.0, **settings)[1]  # with lam 0 an advantage is its residual
        for settings in ({}, {"kl_reward": "none", "kl_loss": "k2_response"})
    )
    # gamma V(next) - V: 2 - 3; 1 - 1, 2.5 - 2; and the score less V: 10 - 4; 20 - 5
    assert_close(in_the_loss, [[-1, 6, 0], [0, 0.5, 15]])
    # less k1: 1, 2; nothing
    assert_close(in_the_reward, [[-2, 4, 0], [0, 0.5, 15]])
    assert_close(in_the_loss - in_the_reward, K1)


def test_behind_eos_with_a_value_there_the_last_action_gets_lambda_of_the_score():
    rewards, advantages, targets = estimated(
        score_place="after_eos", value_after_end="kept", lam=0.5
    )
    assert_close(rewards, [[-1, -2, 10], [0, 0, 20]])  # row 1 has no room behind it
    # row 0: residuals -1 + 4 - 3 = 0, -2 + 7 - 4 = 1, 10 - 7 = 3; half of each from behind
    # row 1: residuals 2 - 1 = 1, 5 - 2 = 3, 20 - 5 = 15
    assert_close(advantages, [[1.25, 2.5, 0], [6.25, 10.5, 15]])
    assert_close(targets, [[4.25, 6.5, 10], [7.25, 12.5, 20]])  # the value behind EOS learns 10


def test_in_the_last_column_the_padding_comes_in_between():
    rewards, advantages, targets = estimated(score_place="last_column", lam=0.5)
    assert_close(rewards, [[-1, -2, 10], [0, 0, 20]])
    # row 0: residuals -1 + 4 - 3 = 0, -2 - 4 = -6, 10
    assert_close(advantages[0], [-0.5, -1, 0])
    assert_close(targets[0], [2.5, 3, 0])


def test_bootstrap_gives_what_was_cut_off_its_value_and_what_ended_nothing():
    rewards, advantages, _ = estimated(value_after_end="bootstrap")
    assert_close(rewards, estimated()[0])  # it is no reward
    assert_close(advantages, [[4, 4, 0], [19 + 6, 18 + 6, 15 + 6]])
    _, discounted, _ = estimated(value_after_end="bootstrap", gamma=0.5)
    assert_close(discounted[1, 2], 20 + 0.5 * 6 - 5)


def test_a_value_that_is_kept_without_a_reward_behind_eos():
    _, advantages, targets = estimated(value_after_end="kept")
    # row 0 at lam 1: the value behind EOS cancels against its own residual of -7
    assert_close(advantages, estimated()[1])
    assert_close(targets[0, 2], 0)


@pytest.mark.parametrize(
    ("form", "kl"),
    [
        ("k2", [[0.5, 2, 0], [0, 0, 0]]),
        ("k3", [[torch.e**-1, torch.e**-2 + 1, 0], [0, 0, 0]]),
        ("exact", [[0.5, 0.5, 0], [0, 0, 0.25]]),
        ("none", [[0, 0, 0], [0, 0, 0]]),
    ],
)
def test_other_forms_of_the_kl_in_the_reward(form, kl):
    rewards, _, _ = estimated(kl_reward=form, kl_coef=3.0, allow_broken=True)
    assert_close(rewards, f64([[0, 10, 0], [0, 0, 20]]) - 3 * f64(kl))


def test_a_whole_response_as_one_action_is_paid_its_sum_less_the_value_of_its_prompt():
    _, advantages, targets = estimated(action="response")
    assert_close(advantages, [[7 - 3, 7 - 3, 0], [20 - 1, 20 - 1, 20 - 1]])
    assert_close(targets, [[7, 0, 0], [20, 0, 0]])  # the critic is asked about the prompt only
    _, white, _ = estimated(action="response", whiten_advantages=True)
    assert_close(white, [[-1, -1, 0], [1, 1, 1]])  # each response counts once


def test_the_critic_may_have_a_lambda_of_its_own():
    _, advantages, targets = estimated(critic_lam=0.0)
    assert_close(advantages, estimated()[1])
    # lam 0: reward and next value: -1 + 4, 8; 2, 5, 20
    assert_close(targets, [[3, 8, 0], [2, 5, 20]])


def test_what_has_no_eos_teaches_nothing_when_it_is_masked():
    _, advantages, targets = estimated(mask_unended=True)
    assert_close(advantages, [[4, 4, 0], [0, 0, 0]])
    assert_close(targets[0], [7, 8, 0])
    _, white, _ = estimated(mask_unended=True, whiten_advantages=True, lam=0.0)
    # lam 0, row 0 alone: -1 + 4 - 3 = 0 and 8 - 4 = 4
    assert_close(white, [[-1, 1, 0], [0, 0, 0]])


def test_whitening_over_the_rollout_and_with_bessel():
    _, plain, _ = estimated()
    _, white, _ = estimated(whiten_advantages=True)
    assert_close(white, whiten(values=plain, mask=MASK))
    _, bessel, _ = estimated(whiten_advantages=True, whiten_bessel=True)
    assert_close(bessel, white * (4 / 5) ** 0.5)
    assert_close(bessel[MASK].std(), 1.0)
    assert_close(estimated(whiten_advantages=True, whiten_over="minibatch")[1], plain)


def test_an_update_sees_none_of_what_is_masked():
    (step,) = ragged(num_updates=1, mask_unended=True, num_mini_batches=1).updates()
    rollout = step.rollout
    assert 0 < rollout.ended.sum() < len(rollout)
    config = PPOConfig(mask_unended=True, whiten_over="minibatch")
    _, advantages, targets = estimate_advantages(rollout, config)
    seen = learned_from(Experience(rollout, advantages, targets), config)
    assert bool(seen.rollout.ended.all()) and len(seen.rollout) == rollout.ended.sum()
    (batch,) = minibatches(seen, replace(config, num_mini_batches=1), torch.Generator())
    actions = actions_of(batch.rollout.old_logprobs, batch, config)
    assert_close(masked_mean(values=actions["advantages"], mask=actions["response_mask"]), 0.0)
    nobody = replace(rollout, ended=torch.zeros_like(rollout.ended))
    _, advantages, targets = estimate_advantages(nobody, config)
    seen = learned_from(Experience(nobody, advantages, targets), config)
    assert len(seen.rollout) == len(rollout) and not advantages.any()


def test_fewer_responses_than_minibatches_make_fewer_minibatches():
    rows = ragged(num_updates=1, mask_unended=True, batch_size=8, num_mini_batches=8).train()
    assert len(rows) == 1 and rows[0]["policy/grad_norm"] > 0


def test_rewards_are_scaled_with_bessel_too():
    rewards, _, _ = estimated(whiten_rewards=True, whiten_bessel=True)
    plain, _, _ = estimated()
    assert_close(rewards[MASK].std(), 1.0)
    assert_close(rewards[MASK].mean(), plain[MASK].mean())


def test_slots():
    assert torch.equal(REWARD_SLOTS["after_eos"](MASK), mask_of_lengths([3, 3]))
    assert torch.equal(REWARD_SLOTS["last_column"](mask_of_lengths([1], 4)), mask_of_lengths([4]))


@pytest.mark.parametrize(
    ("controller", "kl", "wanted"),
    [
        ("fixed", 99.0, 0.05),
        ("double_halve", 16.0, 0.1),
        ("double_halve", 3.0, 0.025),
        ("double_halve", 10.0, 0.05),
        ("proportional", 10.0, 0.05),
        ("proportional", 11.0, 0.05 * (1 + 0.1 * 0.5)),  # 64 of 128 responses: half a horizon
        ("proportional", 99.0, 0.05 * (1 + 0.2 * 0.5)),
        ("proportional", 0.0, 0.05 * (1 - 0.2 * 0.5)),
    ],
)
def test_the_price_that_comes_next(controller, kl, wanted):
    config = PPOConfig(kl_controller=controller, kl_target=10.0, kl_horizon=128.0, batch_size=64)
    assert next_kl_coef(0.05, kl, config) == pytest.approx(wanted)


def test_a_run_pays_the_price_that_its_controller_has_set():
    settings = dict(kl_controller="double_halve", kl_target=1e3, kl_coef=0.4, num_updates=3)
    rows = tiny(**settings).train()
    assert [row["objective/kl_coef"] for row in rows] == [0.4, 0.2, 0.1]
    assert rows[2]["objective/non_score_reward"] == -0.1 * rows[2]["objective/kl"]
    # and goes on from it
    one, other = (tiny(**settings) for _ in range(2))
    first = next(one.updates())
    tensors, numbers = first.state()
    state = {name: x.clone() for name, x in tensors.items()}, numbers
    assert [step.row["objective/kl_coef"] for step in other.updates(start=state)] == [0.2, 0.1]
