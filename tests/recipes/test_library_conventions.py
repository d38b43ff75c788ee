"""The conventions of the code bases, worked out by hand on two responses in four slots.

The batch of `ragged_batch`: the first response ends in slot 1, the second does not end.

    k1 = old - ref      [ .5   0   1   0]   [ 0   1   0  .5]
    old values          [ 1   .5  .25  2]   [.5  .5   1   1]      V(s_T) of the second: .5
    scores              2                   1
    ratios              [ 1    2  .5   2]   [ 1  .5   4   1]
    values now          [1.5  .5  .75 2.5]  [.5   1  .5   1]

All with kl_coef .1, gamma 1, lam .5 and nothing added to a variance, so A_t = delta_t + A_{t+1}/2.
"""

from dataclasses import replace
from math import log, sqrt

import numpy as np
import pytest

from tests.helpers import assert_close
from tests.recipes.library_conventions import (
    CODE_BASES,
    estimated_kl,
    kl_of_responses,
    kl_of_tokens,
    proportional,
    ragged_batch,
    whitened,
    with_numbers,
)

EASY = dict(kl_coef=0.1, gamma=1.0, lam=0.5, epsilon=0.0)
MASK = ragged_batch().response_mask
EVERY_CODE_BASE = pytest.mark.parametrize("name", CODE_BASES)


def by(name, batch=None, **numbers):
    return with_numbers(name, batch or ragged_batch(), **EASY | numbers)


def agree(actual, expected):
    assert_close(np.asarray(actual, dtype=np.float64).tolist(), expected)


# -- rewards, and the targets y_t = A_t + V_t before anything is whitened

REWARDS = {  # -.1 k1, and the score in its place
    # -.1 * .5 = -.05, then the score 2; no EOS: -5 - .05
    "minippo": [[-0.05, 2.0, 0, 0], [0, -0.1, 0, -5.05]],
    # the tokens behind EOS pay too: -.1 * 1 in slot 2; the score in slot 3; no EOS: -1 - .05
    "openai-2019": [[-0.05, 0, -0.1, 2.0], [0, -0.1, 0, -1.05]],
    # the score in slot 2, behind EOS; the second response has no such slot
    "n-plus": [[-0.05, 0, 2.0, 0], [0, -0.1, 0, -1.05]],
    # the same, with 1 - 1 = 0 in the place of -1
    "trl": [[-0.05, 0, 2.0, 0], [0, -0.1, 0, -0.05]],
    # no rule: 1 - .05
    "openrlhf": [[-0.05, 2.0, 0, 0], [0, -0.1, 0, 0.95]],
    "verl": [[0, 2.0, 0, 0], [0, 0, 0, 1.0]],  # the KL is in the loss
    "cleanrl": [[0, 2.0, 0, 0], [0, 0, 0, 1.0]],  # there is none
}
RETURNS = {
    # delta [-.05+.5-1, 2-.5] = [-.55, 1.5], A [.2, 1.5]
    # delta [0, -.1+1-.5, 1-1, -5.05-1] = [0, .4, 0, -6.05], A [-.55625, -1.1125, -3.025, -6.05]
    "minippo": [[1.2, 2.0, 0, 0], [-0.05625, -0.6125, -2.025, -5.05]],
    # delta [-.55, .25-.5, -.1+2-.25, 2-2] = [-.55, -.25, 1.65, 0], A [-.2625, .575, 1.65, 0]
    # delta [0, .4, 0, -2.05], A [-.05625, -.1125, -1.025, -2.05]
    "openai-2019": [[0.7375, 1.075, 1.9, 2.0], [0.44375, 0.3875, -0.025, -1.05]],
    # delta [-.55, .25-.5, 2-.25] = [-.55, -.25, 1.75], A [-.2375, .625, 1.75]
    "n-plus": [[0.7625, 1.125, 2.0, 0], [0.44375, 0.3875, -0.025, -1.05]],
    # delta [0, .4, 0, -.05-1], A [.06875, .1375, -.525, -1.05]
    "trl": [[0.7625, 1.125, 2.0, 0], [0.56875, 0.6375, 0.475, -0.05]],
    # delta [0, .4, 0, .95-1], A [.19375, .3875, -.025, -.05]
    "openrlhf": [[1.2, 2.0, 0, 0], [0.69375, 0.8875, 0.975, 0.95]],
    # delta [.5-1, 1.5], A [.25, 1.5]; delta [0, .5, 0, 1-1], A [.25, .5, 0, 0]
    "verl": [[1.25, 2.0, 0, 0], [0.75, 1.0, 1.0, 1.0]],
    # the second goes on: delta [0, .5, 0, 1+.5-1], A [.3125, .625, .25, .5]
    "cleanrl": [[1.25, 2.0, 0, 0], [0.8125, 1.125, 1.25, 1.5]],
}
SLOTS_OF_THE_CRITIC = {  # all but these have its tokens alone
    "openai-2019": np.ones((2, 4), dtype=bool),
    "n-plus": np.array([[True, True, True, False], [True] * 4]),
    "trl": np.array([[True, True, True, False], [True] * 4]),
}


@EVERY_CODE_BASE
def test_where_the_score_is_paid_and_what_a_response_without_eos_gets(name):
    agree(by(name, whiten_rewards=False).rewards, REWARDS[name])


@EVERY_CODE_BASE
def test_what_the_critic_is_to_say(name):
    agree(by(name, whiten_rewards=False).returns, RETURNS[name])


# -- whitening


def test_whitening_with_n_or_n_minus_1_with_the_mean_or_without():
    x, counted = np.array([[0.0, 4.0, 99.0]]), np.array([[True, True, False]])
    # mean 2, variance ((-2)^2 + 2^2) / 2 = 4; with n - 1: 8
    agree(whitened(x, counted, 0.0)[counted], [-1.0, 1.0])
    agree(whitened(x, counted, 0.0, keep_mean=True)[counted], [1.0, 3.0])
    agree(whitened(x, counted, 0.0, bessel=True)[counted], [-2 / sqrt(8), 2 / sqrt(8)])
    agree(whitened(x, counted, 5.0)[counted], [-2 / 3, 2 / 3])  # / sqrt(4 + 5)


@EVERY_CODE_BASE
def test_advantages_have_mean_0_and_variance_1_by_their_own_count(name):
    counted = np.ones_like(MASK) if name == "openai-2019" else MASK
    advantages = by(name).advantages
    agree(advantages[counted].mean(), 0.0)
    agree(advantages[counted].var(ddof=name in ("trl", "verl", "cleanrl")), 1.0)
    assert (advantages[~counted] == 0).all()


def test_whitened_advantages_of_verl_and_the_divisor_of_n_plus():
    # A [.25, 1.5] and [.25, .5, 0, 0], mean 2.5/6 = 5/12
    # deviations in twelfths: -2 13 -2 1 -5 -5, squares 4+169+4+1+25+25 = 228; 228/144/5 = 19/60
    s = sqrt(19 / 60)
    agree(by("verl").advantages * s * 12, [[-2.0, 13.0, 0, 0], [-2.0, 1.0, -5.0, -5.0]])
    # with n in the place of n - 1 everything is larger by sqrt(6/5)
    trl, n_plus = (by(name, no_eos_score=-1.0).advantages for name in ("trl", "n-plus"))
    agree(n_plus, (trl * sqrt(6 / 5)).tolist())


def test_openai_whitens_the_rewards_first_and_keeps_their_mean():
    # -.05 0 -.1 2 | 0 -.1 0 -1.05: sum .7, mean .0875, squares .0025+.01+4+.01+1.1025 = 5.125
    std = sqrt(5.125 / 8 - 0.0875**2)
    white = by("openai-2019")
    agree(
        white.rewards,
        [
            [(x - 0.0875) / std + 0.0875 for x in row]
            for row in ([-0.05, 0, -0.1, 2.0], [0, -0.1, 0, -1.05])
        ],
    )
    agree(white.returns[:, -1], white.rewards[:, -1].tolist())  # in the last slot y = r


# -- losses


def test_policy_loss_of_verl_and_its_second_clip():
    # in units of 1/(12 s): A -2 13 | -2 1 -5 -5, ratios 1 2 | 1 .5 4 1
    #   A < 0, ratio 1:           2, 2, 5
    #   A > 0, ratio 2:           -1.2 * 13 = -15.6
    #   A > 0, ratio .5:          -.5
    #   A < 0, ratio 4:           min(4, 3) * 5 = 15
    # sum 2 - 15.6 + 2 - .5 + 15 + 5 = 7.9, over 6 tokens
    found = by("verl").policy_loss
    agree(found, 7.9 / 12 / sqrt(19 / 60) / 6)
    # without the second clip 5 more
    agree(by("verl", dual_clip=np.inf).policy_loss, 12.9 / 12 / sqrt(19 / 60) / 6)


def test_value_loss_of_verl():
    # errors v - y, clipped within .5 of the old value: .25, -1.5 | -.25, 0, -.5, 0, none clipped
    # squares .0625 + 2.25 + .0625 + .25 = 2.625, / 6 / 2
    agree(by("verl").value_loss, 2.625 / 12)
    agree(by("verl").value_gradient, [[0.25 / 6, -0.25, 0, 0], [-0.25 / 6, 0, -0.5 / 6, 0]])


def test_kl_loss_of_verl_and_the_gradient_where_the_surrogate_is_flat():
    result = by("verl")
    # d = log pi - log pi_ref = log(ratio) + k1: .5, log 2 | 0, log .5 + 1, log 4, .5
    d = [0.5, log(2), 0.0, log(0.5) + 1, log(4), 0.5]
    agree(result.kl_loss, sum(np.exp(-x) - 1 + x for x in d) / 6)
    # flat: ratio 2 with A > 0, ratio 4 beyond 3 with A < 0. There: .1 (1 - exp(-d)) / 6
    agree(result.logprob_gradient[0, 1], 0.1 * (1 - 1 / 2) / 6)
    agree(result.logprob_gradient[1, 2], 0.1 * (1 - 1 / 4) / 6)
    # ratio 1, A = -2/(12 s): 2/(12 s)/6, and d = 0
    agree(result.logprob_gradient[1, 0], 2 / 12 / sqrt(19 / 60) / 6)
    assert (result.logprob_gradient[0, 2:] == 0).all()
    agree(result.loss, result.policy_loss + 0.1 * result.kl_loss + result.value_loss)


def test_value_loss_of_n_plus_has_the_slot_behind_eos():
    # y [.7625, 1.125, 2] and [.44375, .3875, -.025, -1.05], cliprange .2; the worse one:
    first = [
        (1.5 - 0.7625) ** 2,  # plain; 1.2 - .7625 would be less
        (0.5 - 1.125) ** 2,
        (0.45 - 2) ** 2,  # clipped: .75 held at .25 + .2
    ]
    second = [
        (0.5 - 0.44375) ** 2,
        (1.0 - 0.3875) ** 2,  # plain
        (0.8 + 0.025) ** 2,  # clipped: .5 held at 1 - .2
        (1.0 + 1.05) ** 2,
    ]
    result = by("n-plus")
    agree(result.value_loss, (sum(first) + sum(second)) / 7 / 2)
    # times vf_coef .1; 0 where the clipped one is the worse
    agree(result.value_gradient * 70, [[0.7375, -0.625, 0, 0], [0.05625, 0.6125, 0, 2.05]])
    # one response in each micro-batch
    single = by("n-plus", micro_batch=1).value_loss
    agree(single, (sum(first) / 3 + sum(second) / 4) / 2 / 2)


def test_micro_batches_of_one_response_make_the_mean_of_the_means():
    advantages = by("trl").advantages
    # ratios 1 2 | 1 .5 4 1, clipped within .2, A as signed: - + | + + - -
    a, b = advantages[0, :2], advantages[1]
    first = [-a[0], -1.2 * a[1]]
    second = [-b[0], -0.5 * b[1], -4 * b[2], -b[3]]
    assert a[0] < 0 < a[1] and b[0] > 0 and b[1] > 0 and b[2] < 0 and b[3] < 0
    agree(by("trl").policy_loss, (sum(first) + sum(second)) / 6)
    agree(by("trl", micro_batch=1).policy_loss, (sum(first) / 2 + sum(second) / 4) / 2)


def test_openai_learns_from_the_tokens_behind_eos():
    result = by("openai-2019", whiten_rewards=False)
    # A [-.2625, .575, 1.65, 0] and [-.05625, -.1125, -1.025, -2.05]; sum -1.28125
    mean = -1.28125 / 8
    a = np.array([[-0.2625, 0.575, 1.65, 0], [-0.05625, -0.1125, -1.025, -2.05]]) - mean
    a /= sqrt((a**2).sum() / 8)
    agree(result.advantages, a.tolist())
    # ratios 1 2 .5 2 | 1 .5 4 1; A > 0: - + + + | + + - -
    terms = [-a[0, 0], -1.2 * a[0, 1], -0.5 * a[0, 2], -1.2 * a[0, 3]]
    terms += [-a[1, 0], -0.5 * a[1, 1], -4 * a[1, 2], -a[1, 3]]
    agree(result.policy_loss, sum(terms) / 8)
    agree(result.logprob_gradient[0, 2], -0.5 * a[0, 2] / 8)  # a token behind EOS


def test_cleanrl_counts_half_the_value_loss_and_holds_it_at_the_range_of_the_ratio():
    # errors to y [1.25, 2] and [.8125, 1.125, 1.25, 1.5]; the worse of plain and clipped at .2
    errors = [
        1.5 - 1.25,  # clipped 1.2 - 1.25 is less
        0.5 - 2.0,
        0.5 - 0.8125,
        0.7 - 1.125,  # clipped: 1 held at .5 + .2
        0.5 - 1.25,
        1.0 - 1.5,
    ]
    result = by("cleanrl")
    agree(result.value_loss, sum(x * x for x in errors) / 6 / 2)
    agree(result.loss, result.policy_loss + 0.5 * result.value_loss)


# -- the controller of kl_coef


def test_the_same_batch_is_far_or_near_by_the_way_its_kl_is_counted():
    # k1 [.5 0 1 0] and [0 1 0 .5], the last two of the first behind EOS
    agree(kl_of_responses(ragged_batch()), (1.5 + 1.5) / 2)
    agree(kl_of_tokens(ragged_batch()), (0.5 / 2 + 1.5 / 4) / 2)


@pytest.mark.parametrize(
    ("kl", "wanted"),
    [
        (9.0, 0.15 * (1 + 0.2 * 0.0064)),  # 9/6 - 1 = .5, held at .2; 64 of 10000
        (5.4, 0.15 * (1 - 0.1 * 0.0064)),
        (1.0, 0.15 * (1 - 0.2 * 0.0064)),
        (6.0, 0.15),
    ],
)
def test_the_next_price_of_the_proportional_controller(kl, wanted):
    agree(proportional(0.15, kl, target=6.0, responses=64, horizon=10000), wanted)


# -- what does and does not matter


@EVERY_CODE_BASE
def test_what_stands_behind_the_end_matters_to_those_that_look_there(name):
    batch = ragged_batch()
    behind = ~SLOTS_OF_THE_CRITIC.get(name, MASK)
    tensors = ("old_logprobs", "ref_logprobs", "logprobs", "old_values", "values")
    if name in ("n-plus", "trl"):  # values in the slot behind EOS count, log-probabilities do not
        filled = {
            key: np.where(behind if "values" in key else ~MASK, -7.0, getattr(batch, key))
            for key in tensors
        }
    else:
        filled = {key: np.where(behind, -7.0, getattr(batch, key)) for key in tensors}
    before, after = by(name), by(name, replace(batch, **filled))
    for found, wanted in zip(after, before, strict=True):
        agree(found, np.asarray(wanted).tolist())
    if name in ("openai-2019", "n-plus", "trl"):
        moved = replace(batch, old_values=np.where(MASK, batch.old_values, -7.0))
        assert abs(by(name, moved).advantages - before.advantages).max() > 0.1


@pytest.mark.parametrize("name", ["n-plus", "trl"])
def test_a_column_of_padding_changes_the_advantages_of_those_that_pay_behind_eos(name):
    full = ragged_batch()
    whole = replace(full, ended=np.array([True, True]))
    wider = replace(
        whole,
        **{
            key: np.concatenate([value, np.full((2, 1), 0.25).astype(value.dtype)], axis=1)
            for key, value in vars(whole).items()
            if value.ndim == 2
        },
    )
    wider.response_mask[:, 4] = False
    narrow, wide = by(name, whole), by(name, wider)
    # the second response: the score 1 in slot 3, then in slot 4 with V = .25 before it
    agree(narrow.returns[1, 3], 1 - 0.05)
    agree(wide.returns[1, 3:], [-0.05 + 0.25 + 0.5 * (1 - 0.25), 1.0])
    others = [by(other, b).returns[1, 3] for other in ("openrlhf", "verl") for b in (whole, wider)]
    agree(others, [0.95, 0.95, 1.0, 1.0])


@EVERY_CODE_BASE
def test_a_response_that_ends_in_the_last_slot_is_paid_there(name):
    batch = replace(ragged_batch(), ended=np.array([True, True]))
    kl = 0.0 if name in ("verl", "cleanrl") else -0.05
    result = by(name, batch, whiten_rewards=False)
    agree([result.rewards[1, 3], result.returns[1, 3]], [1.0 + kl, 1.0 + kl])


@EVERY_CODE_BASE
def test_the_epsilon_is_too_small_to_be_seen(name):
    with_it, without = by(name, epsilon=1e-8), by(name)
    for found, wanted in zip(with_it, without, strict=True):
        np.testing.assert_allclose(found, wanted, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize(
    ("name", "wanted"),
    [
        ("none", 0.0),
        ("k1", -log(2)),
        ("abs", log(2)),
        ("k2", log(2) ** 2 / 2),
        ("k3", 2 - 1 - log(2)),
    ],
)
def test_the_estimates_of_the_kl_of_a_token_half_as_likely_as_in_the_reference(name, wanted):
    agree(estimated_kl(np.array([-log(4)]), np.array([-log(2)]), name, np.inf), [wanted])


def test_large_scores_and_estimates_are_held_by_openrlhf():
    batch = ragged_batch()
    large = replace(batch, scores=np.array([50.0, -50.0]), ref_logprobs=batch.ref_logprobs - 20)
    # k1 20.5 and 20 -> 10, scores 50 and -50 -> 10 and -10, kl_coef .1
    agree(by("openrlhf", large).rewards, [[-1.0, 9.0, 0, 0], [-1.0, -1.0, -1.0, -11.0]])
