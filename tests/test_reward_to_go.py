import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from minippo import policy_gradient, reward_to_go
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
from tests.test_policy_gradient import World, differ, stage_1

NAN = float("nan")
seeds = st.integers(0, 2**31)
unit = st.floats(0, 1)


def to_go_at(gamma):
    """The weights of this stage as a function of tensors only."""
    return lambda **batch: reward_to_go.rewards_to_go(**batch, gamma=gamma)


def stage_2(world, gamma):
    return lambda rows: to_go_at(gamma)(rewards=world.rewards[rows], response_mask=world.mask[rows])


# hand-worked numbers

BY_HAND = {
    "rewards": f64([[1.0, 2.0, 4.0, 9.0], [3.0, NAN, NAN, NAN]]),
    "response_mask": mask_of_lengths([3, 1], 4),
}


def test_rewards_to_go_by_hand():
    # gamma = .5, from the end: 4, then 2 + .5 * 4 = 4, then 1 + .5 * 4 = 3; the 9 is padding
    assert_close(to_go_at(0.5)(**BY_HAND), [[3, 4, 4, 0], [3, 0, 0, 0]])
    # gamma = 1: 4, 2 + 4 = 6, 1 + 6 = 7
    assert_close(to_go_at(1)(**BY_HAND), [[7, 6, 4, 0], [3, 0, 0, 0]])


def test_a_token_answers_for_its_own_reward_and_for_none_before_it():
    rewards = f64([[0.0, 1.0, 0.0]])
    # the one reward comes with the token at t=1: .5 of it at t=0, all of it at t=1, nothing at t=2
    assert_close(to_go_at(0.5)(rewards=rewards, response_mask=mask_of_lengths([3])), [[0.5, 1, 0]])


# the theorem: without the past rewards the expected gradient is as before


@given(seeds, st.sampled_from([(3, 2), (2, 3), (3, 3)]))
@settings(max_examples=20)
def test_the_expected_gradient_is_that_of_the_return(seed, size):
    world = World(seed, *size)
    assert_close(
        world.expected_gradient(stage_2(world, 1.0)), -world.gradient_of_expected_return(1.0)
    )


def test_the_expected_gradient_is_that_of_the_return_in_one_world():
    world = World(3, vocab_size=2, width=3)
    assert_close(
        world.expected_gradient(stage_2(world, 1.0)), -world.gradient_of_expected_return(1.0)
    )


def test_what_was_received_before_has_no_expected_gradient():
    world = World(4, vocab_size=2, width=3)
    before = world.expected_gradient(
        lambda rows: stage_1(world, 1.0)(rows) - stage_2(world, 1.0)(rows)
    )
    assert_close(before, torch.zeros_like(before))


def test_with_a_discount_the_gradient_is_another_one():
    world = World(5, vocab_size=2, width=3)
    wanted = -world.gradient_of_expected_return(0.7)
    assert differ(world.expected_gradient(stage_2(world, 0.7)), wanted)
    # what the derivation gives is gamma^t times the weight
    discounts = 0.7 ** torch.arange(3, dtype=torch.float64)
    assert_close(
        world.expected_gradient(lambda rows: discounts * stage_2(world, 0.7)(rows)), wanted
    )


def test_the_variance_becomes_smaller_or_larger_or_stays():
    world = World(6)

    def variances(first, later):  # the rewards of the first token, and of the second
        world.action_rewards = torch.cat(
            [f64([[0.0, first, first]]), torch.full((2, 3), later, dtype=torch.float64)]
        )
        return world.total_variance(stage_1(world, 1.0)).item(), world.total_variance(
            stage_2(world, 1.0)
        ).item()

    one, two = variances(first=5.0, later=1.0)
    assert two < 0.9 * one  # the second token no longer answers for the 5
    one, two = variances(first=5.0, later=-5.0)
    assert one == 0 and two > 1  # 5 - 5 = 0 for each response: the past reward kept the sum quiet
    one, two = variances(first=0.0, later=3.0)
    assert one > 1 and one == two  # nothing comes before the last reward


# reductions


@given(ragged_batches("rewards"))
def test_gamma_0_is_the_reward_itself(batch):
    assert torch.equal(
        to_go_at(0)(**batch), torch.where(batch["response_mask"], batch["rewards"], 0.0)
    )


@given(ragged_batches("rewards"), unit)
def test_at_the_first_token_it_is_the_return_of_the_response(batch, gamma):
    assert_close(
        to_go_at(gamma)(**batch)[:, 0],
        policy_gradient.trajectory_returns(**batch, gamma=gamma)[:, 0],
    )


@given(ragged_batches("rewards"))
def test_with_a_last_reward_only_it_is_the_previous_stage(batch):
    last = batch["response_mask"].sum(dim=1, keepdim=True) - 1
    batch["rewards"] = batch["rewards"].masked_fill(
        torch.arange(batch["rewards"].shape[1]) != last, 0.0
    )
    assert_close(to_go_at(1)(**batch), policy_gradient.trajectory_returns(**batch, gamma=1))


@given(ragged_batches("rewards"), unit)
def test_the_recursion(batch, gamma):
    result = to_go_at(gamma)(**batch)
    following = torch.cat([result[:, 1:], torch.zeros_like(result[:, :1])], dim=1)
    assert_close(
        result, torch.where(batch["response_mask"], batch["rewards"] + gamma * following, 0.0)
    )


# padding


def test_padding_and_layout():
    batch = batch_of("rewards", mask_of_lengths([3, 1, 4], 5), 0)
    check_padding_is_never_read(to_go_at(0.9), batch)
    check_layout_does_not_matter(to_go_at(0.9), batch)


def test_a_nan_on_a_token_is_not_hidden():
    result = to_go_at(0.5)(
        rewards=f64([[1.0, NAN, 4.0], [1.0, 2.0, 4.0]]), response_mask=mask_of_lengths([3, 3])
    )
    assert result.isnan().tolist() == [[True, True, False], [False] * 3]
    assert_close(result[1], [3, 4, 4])


@given(ragged_batches("rewards"), unit)
def test_a_row_does_not_know_the_others(batch, gamma):
    rows = [
        to_go_at(gamma)(**{name: x[b : b + 1] for name, x in batch.items()})
        for b in range(len(batch["rewards"]))
    ]
    assert_close(to_go_at(gamma)(**batch), torch.cat(rows))


def test_the_arguments_are_left_as_they_were():
    batch = batch_of("rewards", mask_of_lengths([3, 1]), 0)
    before = {name: x.clone() for name, x in batch.items()}
    to_go_at(0.9)(**batch)
    assert all(torch.equal(batch[name], before[name]) for name in batch)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32, torch.float64])
def test_the_dtype_is_kept(dtype):
    one = torch.ones(1, 2, dtype=dtype)
    assert to_go_at(0.9)(rewards=one, response_mask=one.bool()).dtype == dtype


# refusals


def test_refusals():
    check_common_refusals(
        to_go_at(0.9), batch_of("rewards", mask_of_lengths([1]), 0), data=["rewards"]
    )


@pytest.mark.parametrize("bad", [-0.1, 1.1, NAN, float("inf"), "0.9", True, None, f64(0.9)])
def test_refused_numbers(bad):
    with pytest.raises(ValueError, match=r"gamma: got .*, wanted a number in \[0, 1\]"):
        to_go_at(bad)(**BY_HAND)


# an independent transcription


@given(ragged_batches("rewards"), unit)
def test_against_numpy(batch, gamma):
    rewards, mask = batch["rewards"].numpy(), batch["response_mask"].numpy()
    wanted = np.zeros(mask.shape)
    for b, t in zip(*np.nonzero(mask), strict=True):
        wanted[b, t] = sum(
            gamma ** (k - t) * rewards[b, k] for k in range(t, mask.shape[1]) if mask[b, k]
        )
    assert_close(to_go_at(gamma)(**batch), wanted)
