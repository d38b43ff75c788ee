import itertools

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from minippo import gae
from tests.helpers import (
    assert_close,
    batch_of,
    check_common_refusals,
    check_layout_does_not_matter,
    check_padding_is_never_read,
    f64,
    mask_of_lengths,
    ragged_batches,
)

unit = st.floats(0, 1)
WITH_SCALARS = {  # every estimate of this stage, as a function of tensors only
    "td_residuals": lambda **batch: gae.td_residuals(**batch, gamma=0.9),
    "n_step_advantages": lambda **batch: gae.n_step_advantages(**batch, gamma=0.9, n=2),
    "gae_advantages": lambda **batch: gae.gae_advantages(**batch, gamma=0.9, lam=0.8),
}


def rewards_to_go(rewards, mask, gamma):
    """sum_{k>=t} gamma^(k-t) r_k, by two loops."""
    result = np.zeros(mask.shape)
    for b, t in zip(*np.nonzero(mask.numpy()), strict=True):
        result[b, t] = sum(
            gamma ** (k - t) * rewards[b, k].item() for k in range(t, mask.shape[1]) if mask[b, k]
        )
    return result


# hand-worked numbers

BY_HAND = {
    "rewards": f64([[0.0, 0.0, 2.0, 9.0]]),
    "values": f64([[1.0, 4.0, 3.0, 9.0]]),
    "response_mask": mask_of_lengths([3], 4),
}


def test_td_residuals_by_hand():
    # 0 + .5 * 4 - 1 = 1, 0 + .5 * 3 - 4 = -2.5, 2 + .5 * 0 - 3 = -1: after the last True slot the
    #   value is 0
    assert_close(gae.td_residuals(**BY_HAND, gamma=0.5), [[1, -2.5, -1, 0]])


def test_n_step_advantages_by_hand():
    # n = 2: 1 + .5 * -2.5 = -.25, -2.5 + .5 * -1 = -3, -1;  n = 3 at t=0: 1 - 1.25 + .25 * -1 = -.5
    assert_close(gae.n_step_advantages(**BY_HAND, gamma=0.5, n=2), [[-0.25, -3, -1, 0]])
    assert_close(gae.n_step_advantages(**BY_HAND, gamma=0.5, n=3), [[-0.5, -3, -1, 0]])


def test_gae_by_hand():
    # gamma lam = .5 * .8 = .4, from the end: -1, then -2.5 + .4 * -1 = -2.9, then 1 + .4 * -2.9 =
    # -.16
    assert_close(gae.gae_advantages(**BY_HAND, gamma=0.5, lam=0.8), [[-0.16, -2.9, -1, 0]])


def test_value_targets_by_hand():
    # 1 - .5 = .5, 4 - 3 = 1, 3 - 1 = 2: with lam = 1 and gamma = .5, the discounted reward-to-go of
    #   a final 2
    advantages = gae.gae_advantages(**BY_HAND, gamma=0.5, lam=1.0)
    targets = gae.value_targets(
        advantages=advantages, values=BY_HAND["values"], response_mask=BY_HAND["response_mask"]
    )
    assert_close(targets, [[0.5, 1, 2, 0]])


# the theorem


@given(ragged_batches("rewards values"), unit, unit)
def test_recursion_double_sum_and_mix_of_n_step_estimates_agree(batch, gamma, lam):
    width = batch["response_mask"].shape[1]
    deltas = gae.td_residuals(**batch, gamma=gamma)
    double_sum = torch.zeros_like(deltas)
    for t in range(width):
        for k in range(t, width):  # the last exponent is T - 1 - t
            double_sum[:, t] += (gamma * lam) ** (k - t) * deltas[:, k]
    estimates = [gae.n_step_advantages(**batch, gamma=gamma, n=n) for n in range(1, width + 1)]
    mix = sum(
        (1 - lam) * lam ** (n - 1) * estimate for n, estimate in enumerate(estimates[:-1], start=1)
    )
    # all longer estimates are equal, their weights sum to lam^(T-1)
    mix = mix + lam ** (width - 1) * estimates[-1]
    advantages = gae.gae_advantages(**batch, gamma=gamma, lam=lam)
    assert_close(advantages, double_sum)
    assert_close(advantages, mix)


def every_response(values_of_state):
    """A world of two binary tokens: all four responses, their probabilities, and the critic's
    values along each."""
    responses = list(itertools.product((0, 1), repeat=2))
    # p(0) = .7; p(0 | 0) = .6; p(0 | 1) = .2
    probabilities = f64([0.7 * 0.6, 0.7 * 0.4, 0.3 * 0.2, 0.3 * 0.8])
    rewards = f64([[1.0, 2.0], [1.0, -1.0], [0.0, 5.0], [0.0, 3.0]])
    values = f64([[values_of_state[()], values_of_state[first]] for first, _ in responses])
    return probabilities, {
        "rewards": rewards,
        "values": values,
        "response_mask": mask_of_lengths([2] * 4),
    }


@pytest.mark.parametrize("lam", [0.0, 0.5, 1.0])
def test_with_the_true_values_the_expected_advantage_is_zero(lam):
    # gamma = .5. V(0) = .6 * 2 - .4 = .8, V(1) = .2 * 5 + .8 * 3 = 3.4, V() = .7 * (1 + .4) + .3 *
    # (0 + 1.7) = 1.49
    probabilities, batch = every_response({(): 1.49, 0: 0.8, 1: 3.4})
    advantages = gae.gae_advantages(**batch, gamma=0.5, lam=lam)
    assert_close((probabilities.unsqueeze(1) * advantages).sum(dim=0), [0, 0])


def test_with_wrong_values_only_lam_1_is_right_on_average():
    probabilities, batch = every_response({(): 0.0, 0: -1.0, 1: 7.0})
    monte_carlo = (probabilities * gae.gae_advantages(**batch, gamma=0.5, lam=1.0)[:, 0]).sum()
    one_step = (probabilities * gae.gae_advantages(**batch, gamma=0.5, lam=0.0)[:, 0]).sum()
    assert_close(monte_carlo, 1.49)  # the expected return, minus a value of 0
    assert_close(one_step, 1.4)  # .7 * (1 + .5 * -1) + .3 * (0 + .5 * 7) = .35 + 1.05


# reductions


@given(ragged_batches("rewards values"), unit)
def test_lam_0_and_n_1_are_the_td_residual(batch, gamma):
    deltas = gae.td_residuals(**batch, gamma=gamma)
    assert torch.equal(gae.gae_advantages(**batch, gamma=gamma, lam=0.0), deltas)
    assert torch.equal(gae.n_step_advantages(**batch, gamma=gamma, n=1), deltas)


@given(ragged_batches("rewards values"), unit)
def test_lam_1_and_large_n_are_monte_carlo_minus_values(batch, gamma):
    mask = batch["response_mask"]
    wanted = (
        rewards_to_go(batch["rewards"], mask, gamma)
        - torch.where(mask, batch["values"], 0.0).numpy()
    )
    advantages = gae.gae_advantages(**batch, gamma=gamma, lam=1.0)
    assert_close(advantages, wanted)
    assert_close(gae.n_step_advantages(**batch, gamma=gamma, n=mask.shape[1]), wanted)
    assert_close(gae.n_step_advantages(**batch, gamma=gamma, n=10**9), wanted)
    targets = gae.value_targets(advantages=advantages, values=batch["values"], response_mask=mask)
    assert_close(targets, rewards_to_go(batch["rewards"], mask, gamma))


@given(ragged_batches("rewards"), unit)
def test_without_a_critic_lam_1_is_the_reward_to_go(batch, gamma):
    values = torch.zeros_like(batch["rewards"])
    advantages = gae.gae_advantages(**batch, values=values, gamma=gamma, lam=1.0)
    assert_close(advantages, rewards_to_go(batch["rewards"], batch["response_mask"], gamma))


# padding


@pytest.mark.parametrize("name", WITH_SCALARS)
def test_padding_and_layout(name):
    batch = batch_of("rewards values", mask_of_lengths([3, 1, 4], 5), 0)
    check_padding_is_never_read(WITH_SCALARS[name], batch)
    check_layout_does_not_matter(WITH_SCALARS[name], batch)


def test_padding_and_layout_of_the_targets():
    batch = batch_of("advantages values", mask_of_lengths([3, 1, 4], 5), 0)
    check_padding_is_never_read(gae.value_targets, batch)
    check_layout_does_not_matter(gae.value_targets, batch)


def test_the_arguments_are_left_as_they_were():
    batch = batch_of("rewards values", mask_of_lengths([3, 1]), 0)
    before = {name: x.clone() for name, x in batch.items()}
    for function in WITH_SCALARS.values():
        function(**batch)
    assert all(torch.equal(batch[name], before[name]) for name in batch)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32, torch.float64])
def test_the_dtype_is_kept(dtype):
    one = torch.ones(1, 2, dtype=dtype)
    assert all(
        f(rewards=one, values=one, response_mask=one.bool()).dtype == dtype
        for f in WITH_SCALARS.values()
    )
    assert gae.value_targets(advantages=one, values=one, response_mask=one.bool()).dtype == dtype


# refusals


@pytest.mark.parametrize("name", WITH_SCALARS)
def test_refusals(name):
    batch = batch_of("rewards values", mask_of_lengths([1]), 0)
    check_common_refusals(WITH_SCALARS[name], batch, data=["rewards", "values"])


def test_refusals_of_the_targets():
    batch = batch_of("advantages values", mask_of_lengths([1]), 0)
    check_common_refusals(gae.value_targets, batch, data=["advantages", "values"])


@pytest.mark.parametrize("bad", [-0.1, 1.1, float("nan"), float("inf")])
def test_refused_numbers(bad):
    for call in (
        lambda: gae.td_residuals(**BY_HAND, gamma=bad),
        lambda: gae.n_step_advantages(**BY_HAND, gamma=bad, n=1),
        lambda: gae.gae_advantages(**BY_HAND, gamma=bad, lam=0.5),
    ):
        with pytest.raises(ValueError, match=r"gamma: got .*, wanted a number in \[0, 1\]"):
            call()
    with pytest.raises(ValueError, match=r"lam: got .*, wanted a number in \[0, 1\]"):
        gae.gae_advantages(**BY_HAND, gamma=0.5, lam=bad)


@pytest.mark.parametrize("bad", [0, -1, 1.5])
def test_refused_n(bad):
    with pytest.raises(ValueError, match="n: got .*, wanted a whole number of at least 1"):
        gae.n_step_advantages(**BY_HAND, gamma=0.5, n=bad)


# an independent transcription


@given(ragged_batches("rewards values"), unit, unit, st.integers(1, 7))
def test_against_numpy(batch, gamma, lam, n):
    rewards, values, mask = (batch[name].numpy() for name in ("rewards", "values", "response_mask"))
    advantages, n_step = np.zeros(mask.shape), np.zeros(mask.shape)
    for b in range(len(mask)):
        length = int(mask[b].sum())
        r, v = rewards[b, :length], np.append(values[b, :length], 0.0)
        following = 0.0
        for t in range(length - 1, -1, -1):
            following = advantages[b, t] = r[t] + gamma * v[t + 1] - v[t] + gamma * lam * following
            end = min(t + n, length)
            n_step[b, t] = (
                sum(gamma ** (k - t) * r[k] for k in range(t, end))
                + gamma ** (end - t) * v[end]
                - v[t]
            )
    assert_close(gae.gae_advantages(**batch, gamma=gamma, lam=lam), advantages)
    assert_close(gae.n_step_advantages(**batch, gamma=gamma, n=n), n_step)
