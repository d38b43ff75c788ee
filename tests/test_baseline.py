import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from minippo import baseline, policy_gradient, reward_to_go
from tests.helpers import (
    assert_close,
    batch_of,
    check_common_refusals,
    check_layout_does_not_matter,
    check_padding_is_never_read,
    f64,
    mask_of_lengths,
    ragged_batches,
    value_and_gradients,
)
from tests.test_policy_gradient import World, differ, stage_1
from tests.test_reward_to_go import stage_2

NAN = float("nan")
seeds = st.integers(0, 2**31)
unit = st.floats(0, 1)
two_rows_or_more = ragged_batches("rewards").filter(lambda batch: len(batch["rewards"]) > 1)
WITH_SCALARS = {  # the functions on rewards, as functions of tensors only
    "baseline_advantages": lambda **batch: baseline.baseline_advantages(**batch, gamma=0.9),
    "batch_mean_baseline": lambda **batch: baseline.batch_mean_baseline(**batch, gamma=0.9),
    "leave_one_out_baseline": lambda **batch: baseline.leave_one_out_baseline(**batch, gamma=0.9),
    "next_moving_average": lambda **batch: f64(
        baseline.next_moving_average(**batch, gamma=0.9, moving_average=0.3, decay=0.8)
    ),
}


def batch_for(name, lengths, width=None):
    return batch_of(
        "rewards values" if name == "baseline_advantages" else "rewards",
        mask_of_lengths(lengths, width),
        0,
    )


def stage_3(world, gamma, values):
    """The weights of this stage; `values` says what to subtract in each slot of each response."""
    return lambda rows: baseline.baseline_advantages(
        rewards=world.rewards[rows],
        values=values[rows],
        response_mask=world.mask[rows],
        gamma=gamma,
    )


def minus_batch_baseline(world, gamma, function):
    """Whole returns minus a baseline that is computed from the batch itself."""
    return lambda rows: (
        stage_1(world, gamma)(rows)
        - function(rewards=world.rewards[rows], response_mask=world.mask[rows], gamma=gamma)
    )


def returns_and_squared_norms(world):
    """The return of each response, and the squared length of grad log p of it."""
    returns = stage_1(world, 1.0)(list(range(len(world.responses))))[:, 0]
    logits = world.logits.clone().requires_grad_()
    gradients = [
        torch.autograd.grad(x, logits, retain_graph=True)[0]
        for x in world.log_probabilities(logits)
    ]
    return returns, torch.stack([(gradient**2).sum() for gradient in gradients])


# hand-worked numbers


def test_value_loss_by_hand():
    # errors 1 - 2 = -1, 5 - 2 = 3, 4 - 2 = 2; half of (1 + 9 + 4) / 3 = 7 / 3
    mask = mask_of_lengths([2, 1])
    batch = {
        "values": f64([[1.0, 5.0], [4.0, NAN]]),
        "value_targets": f64([[2.0, 2.0], [2.0, NAN]]),
        "response_mask": mask,
    }
    loss, gradients = value_and_gradients(baseline.value_loss, batch, ["values"])
    assert_close(loss, 7 / 3)
    assert_close(gradients["values"], [[-1 / 3, 1], [2 / 3, 0]])  # error / 3


BY_HAND = {
    "rewards": f64([[1.0, 2.0, 4.0, 9.0], [12.0, NAN, NAN, NAN], [4.0, 4.0, NAN, NAN]]),
    # returns at gamma = .5: 1 + 1 + 1 = 3, 12, 4 + 2 = 6
    "response_mask": mask_of_lengths([3, 1, 2], 4),
}


def test_advantages_by_hand():
    values = f64([[1.0, 5.0, 4.0, 9.0], [-1.0, NAN, NAN, NAN], [6.0, 0.0, NAN, NAN]])
    # rewards-to-go 3, 4, 4; 12; 6, 4. Minus the values: 3 - 1, 4 - 5, 4 - 4; 12 + 1; 6 - 6, 4 - 0
    advantages = baseline.baseline_advantages(**BY_HAND, values=values, gamma=0.5)
    assert_close(advantages, [[2, -1, 0, 0], [13, 0, 0, 0], [0, 4, 0, 0]])


def test_batch_mean_by_hand():
    # (3 + 12 + 6) / 3 = 7, on every token of every row
    assert_close(
        baseline.batch_mean_baseline(**BY_HAND, gamma=0.5),
        [[7, 7, 7, 0], [7, 0, 0, 0], [7, 7, 0, 0]],
    )


def test_leave_one_out_by_hand():
    # (12 + 6) / 2 = 9, (3 + 6) / 2 = 4.5, (3 + 12) / 2 = 7.5
    assert_close(
        baseline.leave_one_out_baseline(**BY_HAND, gamma=0.5),
        [[9, 9, 9, 0], [4.5, 0, 0, 0], [7.5, 7.5, 0, 0]],
    )


def test_moving_average_by_hand():
    # the mean return is 7: .75 * 8 + .25 * 7 = 7.75, and again .75 * 7.75 + .25 * 7 = 7.5625
    once = baseline.next_moving_average(**BY_HAND, moving_average=8.0, gamma=0.5, decay=0.75)
    assert type(once) is float and once == 7.75
    assert_close(
        baseline.next_moving_average(**BY_HAND, moving_average=once, gamma=0.5, decay=0.75), 7.5625
    )


def test_optimal_constant_by_hand():
    # (3 * 1 + 1 * 5 + 0 * 100) / (3 + 1 + 0) = 2
    best = baseline.optimal_constant_baseline(
        returns=f64([1.0, 5.0, 100.0]), squared_norms=f64([3.0, 1.0, 0.0])
    )
    assert best.shape == ()
    assert_close(best, 2)


# the theorem: the regression is minimised by the conditional mean


@given(ragged_batches("value_targets"))
def test_the_best_constant_is_the_mean_of_the_targets(batch):
    mask = batch["response_mask"]
    constant = batch["value_targets"][mask].mean().expand(mask.shape)
    _, gradients = value_and_gradients(
        baseline.value_loss, batch | {"values": constant}, ["values"]
    )
    assert_close(gradients["values"].sum(), 0)
    best = baseline.value_loss(**batch, values=constant)
    assert all(baseline.value_loss(**batch, values=constant + step) > best for step in (-0.1, 0.1))


# the theorem: what is settled before the action may be subtracted


@given(seeds, st.sampled_from([(3, 2), (2, 3), (3, 3)]))
@settings(max_examples=20)
def test_no_baseline_of_the_state_changes_the_expected_gradient(seed, size):
    world = World(seed, *size)
    values = world.along(10 * world.draw(world.n_states))
    assert_close(
        world.expected_gradient(stage_3(world, 1.0, values)),
        -world.gradient_of_expected_return(1.0),
    )


@pytest.mark.parametrize("gamma", [1.0, 0.7, 0.0])
def test_with_a_discount_it_does_not_change_that_of_the_previous_stage(gamma):
    world = World(3, vocab_size=2, width=3)
    values = world.along(world.draw(world.n_states))
    assert_close(
        world.expected_gradient(stage_3(world, gamma, values)),
        world.expected_gradient(stage_2(world, gamma)),
    )


def test_a_baseline_of_the_action_changes_it():
    world = World(4)
    true_gradient = -world.gradient_of_expected_return(1.0)
    assert differ(
        world.expected_gradient(stage_3(world, 1.0, world.along(world.draw(3, 3)))), true_gradient
    )
    # the extreme case: nothing is left to learn
    what_follows = stage_2(world, 1.0)(list(range(len(world.responses))))
    nothing = world.expected_gradient(stage_3(world, 1.0, what_follows))
    assert torch.equal(nothing, torch.zeros_like(nothing))


@pytest.mark.parametrize("batch_size, size", [(1, (3, 3)), (2, (3, 2)), (3, (2, 3))])
def test_with_the_batch_mean_the_gradient_is_too_short(batch_size, size):
    world = World(5, *size)
    weights_of = minus_batch_baseline(world, 0.9, baseline.batch_mean_baseline)
    wanted = -(batch_size - 1) / batch_size * world.gradient_of_expected_return(0.9)
    assert_close(world.expected_gradient(weights_of, batch_size), wanted)


@pytest.mark.parametrize("batch_size, size", [(2, (3, 2)), (3, (2, 3))])
def test_without_the_own_row_the_gradient_is_right(batch_size, size):
    world = World(6, *size)
    weights_of = minus_batch_baseline(world, 0.9, baseline.leave_one_out_baseline)
    assert_close(
        world.expected_gradient(weights_of, batch_size), -world.gradient_of_expected_return(0.9)
    )

    def to_go(rows):  # the same baseline under the rewards-to-go
        batch = {"rewards": world.rewards[rows], "response_mask": world.mask[rows], "gamma": 1.0}
        return baseline.baseline_advantages(
            **batch, values=baseline.leave_one_out_baseline(**batch)
        )

    assert_close(
        world.expected_gradient(to_go, batch_size), -world.gradient_of_expected_return(1.0)
    )


def test_the_moving_average_is_the_baseline_of_the_next_batch():
    world = World(7)
    true_gradient = -world.gradient_of_expected_return(1.0)

    def updated(rows):
        return baseline.next_moving_average(
            moving_average=0.5,
            rewards=world.rewards[rows],
            response_mask=world.mask[rows],
            gamma=1.0,
            decay=0.4,
        )

    before = world.expected_gradient(lambda rows: stage_1(world, 1.0)(rows) - 0.5, batch_size=2)
    after = world.expected_gradient(
        lambda rows: stage_1(world, 1.0)(rows) - updated(rows), batch_size=2
    )
    assert_close(before, true_gradient)
    # the own return is in it with a share of .6 / 2
    assert_close(after, 0.7 * true_gradient)


def check_least_variance(world):
    def variance(b):
        return world.total_variance(lambda rows: stage_1(world, 1.0)(rows) - b)

    returns, squared_norms = returns_and_squared_norms(world)
    probabilities = world.log_probabilities(world.logits).exp()
    best = baseline.optimal_constant_baseline(
        returns=returns, squared_norms=probabilities * squared_norms
    )
    # the variance is a parabola in b: three points fix it
    low, middle, high = variance(-1.0), variance(0.0), variance(1.0)
    assert_close(best, (low - high) / (2 * (low - 2 * middle + high)))
    assert all(variance(best + step) > variance(best) for step in (-0.1, 0.1))
    return variance, best


@given(seeds, st.sampled_from([(3, 2), (2, 3)]))
@settings(max_examples=10)
def test_no_constant_has_less_variance_than_the_optimal_one(seed, size):
    check_least_variance(World(seed, *size))


def test_the_mean_return_can_be_worse_than_no_baseline():
    world = World(8, vocab_size=2, width=1)
    world.logits, world.action_rewards = f64([[0.1, 0.9]]).log(), f64([[0.0, 1.0]])
    variance, best = check_least_variance(world)
    # grad log p is +-(.9, -.9) for token 0 and +-(.1, -.1) for token 1, squared norms 1.62 and .02:
    # b* = (.9 * .02 * 1) / (.9 * .02 + .1 * 1.62) = .018 / .18 = .1, far from the mean return of .9
    assert_close(best, 0.1)
    # sum p n (R - b)^2 minus the squared mean .09^2 + .09^2 = .0162: .1 * 1.62 * b^2 + .9 * .02 *
    # (1 - b)^2 - .0162
    assert_close(torch.stack([variance(b) for b in (0.1, 0.9, 0.0)]), [0, 0.1152, 0.0018])


def test_the_optimal_constant_of_the_very_batch_is_biased():
    world = World(9)
    returns, squared_norms = returns_and_squared_norms(world)

    def weights_of(rows):
        best = baseline.optimal_constant_baseline(
            returns=returns[rows], squared_norms=squared_norms[rows]
        )
        return stage_1(world, 1.0)(rows) - best

    assert differ(
        world.expected_gradient(weights_of, batch_size=2), -world.gradient_of_expected_return(1.0)
    )
    alone = world.expected_gradient(weights_of, batch_size=1)
    assert_close(alone, torch.zeros_like(alone))  # like the batch mean of one row


# reductions


@given(ragged_batches("rewards"), unit)
def test_without_values_it_is_the_previous_stage(batch, gamma):
    advantages = baseline.baseline_advantages(
        **batch, values=torch.zeros_like(batch["rewards"]), gamma=gamma
    )
    assert torch.equal(advantages, reward_to_go.rewards_to_go(**batch, gamma=gamma))


@given(two_rows_or_more, unit)
def test_the_batch_mean_and_the_other_rows_differ_by_a_factor(batch, gamma):
    returns = policy_gradient.trajectory_returns(**batch, gamma=gamma)
    size = len(returns)
    centred = returns - baseline.batch_mean_baseline(**batch, gamma=gamma)
    assert_close(
        returns - baseline.leave_one_out_baseline(**batch, gamma=gamma), size / (size - 1) * centred
    )


@given(two_rows_or_more, unit)
def test_the_own_row_is_not_among_the_others(batch, gamma):
    changed = batch | {"rewards": batch["rewards"].clone()}
    changed["rewards"][0] += 7
    before, after = (baseline.leave_one_out_baseline(**b, gamma=gamma) for b in (batch, changed))
    assert_close(after[0], before[0])
    assert (after[1:, 0] > before[1:, 0]).all()


@given(ragged_batches("rewards"), unit)
def test_decay_0_is_the_mean_of_this_batch_and_decay_1_forgets_it(batch, gamma):
    this = baseline.next_moving_average(**batch, moving_average=5.0, gamma=gamma, decay=0)
    assert_close(this, baseline.batch_mean_baseline(**batch, gamma=gamma)[0, 0])
    assert baseline.next_moving_average(**batch, moving_average=5.0, gamma=gamma, decay=1) == 5


@given(ragged_batches("rewards"), st.floats(0.1, 10))
def test_with_equal_norms_the_optimal_constant_is_the_mean(batch, norm):
    returns = batch["rewards"][:, 0]
    best = baseline.optimal_constant_baseline(
        returns=returns, squared_norms=torch.full_like(returns, norm)
    )
    assert_close(best, returns.mean())


@given(ragged_batches("values"))
def test_zero_when_the_critic_is_right(batch):
    assert baseline.value_loss(**batch, value_targets=batch["values"]) == 0


# gradient flow and padding


def test_padding_and_layout():
    batch = batch_of("values value_targets", mask_of_lengths([3, 1, 4], 5), 0)
    check_padding_is_never_read(baseline.value_loss, batch, ["values"])
    check_layout_does_not_matter(baseline.value_loss, batch, ["values"])


@pytest.mark.parametrize("name", WITH_SCALARS)
def test_padding_and_layout_of_the_baselines(name):
    batch = batch_for(name, [3, 1, 4], 5)
    check_padding_is_never_read(WITH_SCALARS[name], batch)
    check_layout_does_not_matter(WITH_SCALARS[name], batch)


@given(ragged_batches("rewards values"), unit)
def test_the_advantages_of_a_row_do_not_know_the_others(batch, gamma):
    rows = [
        baseline.baseline_advantages(
            **{name: x[b : b + 1] for name, x in batch.items()}, gamma=gamma
        )
        for b in range(len(batch["rewards"]))
    ]
    assert_close(baseline.baseline_advantages(**batch, gamma=gamma), torch.cat(rows))


def test_the_order_of_the_rows_does_not_matter_for_the_optimal_constant():
    returns, squared_norms = f64([1.0, 5.0, -2.0]), f64([3.0, 1.0, 0.5])
    assert_close(
        baseline.optimal_constant_baseline(
            returns=returns.flip(0), squared_norms=squared_norms.flip(0)
        ),
        baseline.optimal_constant_baseline(returns=returns, squared_norms=squared_norms),
    )


def test_the_arguments_are_left_as_they_were():
    for name, function in WITH_SCALARS.items():
        batch = batch_for(name, [3, 1])
        before = {name: x.clone() for name, x in batch.items()}
        function(**batch)
        assert all(torch.equal(batch[name], before[name]) for name in batch)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32, torch.float64])
def test_the_dtype_is_kept(dtype):
    one = torch.ones(2, 2, dtype=dtype)
    assert (
        baseline.value_loss(values=one, value_targets=one, response_mask=one.bool()).dtype == dtype
    )
    assert (
        baseline.baseline_advantages(
            rewards=one, values=one, response_mask=one.bool(), gamma=0.9
        ).dtype
        == dtype
    )
    assert (
        baseline.batch_mean_baseline(rewards=one, response_mask=one.bool(), gamma=0.9).dtype
        == dtype
    )
    assert (
        baseline.leave_one_out_baseline(rewards=one, response_mask=one.bool(), gamma=0.9).dtype
        == dtype
    )
    assert baseline.optimal_constant_baseline(returns=one[0], squared_norms=one[0]).dtype == dtype


# refusals


def test_refusals():
    check_common_refusals(
        baseline.value_loss,
        batch_of("values value_targets", mask_of_lengths([1]), 0),
        data=["value_targets"],
    )


@pytest.mark.parametrize("name", WITH_SCALARS)
def test_refusals_of_the_baselines(name):
    batch = batch_for(name, [1])
    check_common_refusals(
        WITH_SCALARS[name], batch, data=[x for x in batch if x != "response_mask"]
    )


@pytest.mark.parametrize("bad", [-0.1, 1.1, NAN, float("inf"), "0.9", True, None, f64(0.9)])
def test_refused_numbers(bad):
    for call in (
        lambda: baseline.baseline_advantages(**BY_HAND, values=BY_HAND["rewards"], gamma=bad),
        lambda: baseline.batch_mean_baseline(**BY_HAND, gamma=bad),
        lambda: baseline.leave_one_out_baseline(**BY_HAND, gamma=bad),
        lambda: baseline.next_moving_average(**BY_HAND, moving_average=0.0, gamma=bad, decay=0.5),
    ):
        with pytest.raises(ValueError, match=r"gamma: got .*, wanted a number in \[0, 1\]"):
            call()
    with pytest.raises(ValueError, match=r"decay: got .*, wanted a number in \[0, 1\]"):
        baseline.next_moving_average(**BY_HAND, moving_average=0.0, gamma=0.5, decay=bad)


@pytest.mark.parametrize("bad", [NAN, float("inf"), float("-inf"), "0.9", True, None, f64(0.9)])
def test_refused_moving_average(bad):
    with pytest.raises(
        ValueError, match=r"moving_average: got .*, wanted a number in \(-inf, inf\)"
    ):
        baseline.next_moving_average(**BY_HAND, moving_average=bad, gamma=0.5, decay=0.5)


def test_refused_single_row():
    message = (
        "^rewards: got one row, wanted at least two: the baseline of a row is the mean of the "
        "others$"
    )
    with pytest.raises(ValueError, match=message):
        baseline.leave_one_out_baseline(
            rewards=f64([[1.0, 2.0]]), response_mask=mask_of_lengths([2]), gamma=1.0
        )


NOT_LENGTHS = (
    "squared_norms: got numbers below 0, not finite or all 0, wanted squared lengths of gradients$"
)


@pytest.mark.parametrize(
    "name, bad, message",
    [
        (
            "squared_norms",
            f64([1.0]),
            r"squared_norms: got shape \[1\], wanted \[B\] with B = 2 as in returns",
        ),
        ("squared_norms", f64([[1.0, 2.0]]), r"squared_norms: got shape \[1, 2\], wanted \[B\]"),
        ("returns", f64([[1.0], [2.0]]), r"returns: got shape \[2, 1\], wanted \[B\]"),
        ("returns", torch.tensor([1, 2]), "returns: got dtype torch.int64, wanted float"),
        (
            "squared_norms",
            torch.tensor([1, 2]),
            "squared_norms: got dtype torch.int64, wanted float",
        ),
        ("returns", [1.0, 2.0], "returns: got list, wanted a tensor"),
        (
            "returns",
            f64([1.0, 2.0]).requires_grad_(),
            "returns: got a tensor that requires grad, wanted data",
        ),
        (
            "squared_norms",
            f64([1.0, 2.0]).requires_grad_(),
            "squared_norms: got a tensor that requires grad, wanted data",
        ),
        ("squared_norms", f64([3.0, -1.0]), NOT_LENGTHS),
        ("squared_norms", f64([3.0, NAN]), NOT_LENGTHS),
        ("squared_norms", f64([3.0, float("inf")]), NOT_LENGTHS),
        ("squared_norms", f64([0.0, 0.0]), NOT_LENGTHS),
    ],
)
def test_refusals_of_the_optimal_constant(name, bad, message):
    good = {"returns": f64([1.0, 2.0]), "squared_norms": f64([1.0, 2.0])}
    baseline.optimal_constant_baseline(**good)
    with pytest.raises(ValueError, match=f"^{message}"):
        baseline.optimal_constant_baseline(**good | {name: bad})


def test_refused_empty_returns():
    with pytest.raises(
        ValueError, match="returns: got shape .*, wanted at least one element in every dimension"
    ):
        baseline.optimal_constant_baseline(returns=f64([]), squared_norms=f64([]))


# an independent transcription


@given(ragged_batches("values value_targets"))
def test_against_numpy(batch):
    values, targets, mask = (
        batch[name].numpy() for name in ("values", "value_targets", "response_mask")
    )
    total, wanted_gradient = 0.0, np.zeros(mask.shape)
    for b, t in zip(*np.nonzero(mask), strict=True):
        total += (values[b, t] - targets[b, t]) ** 2
        wanted_gradient[b, t] = (values[b, t] - targets[b, t]) / mask.sum()
    loss, gradients = value_and_gradients(baseline.value_loss, batch, ["values"])
    assert_close(loss, 0.5 * total / mask.sum())
    assert_close(gradients["values"], wanted_gradient)


@given(ragged_batches("rewards values"), unit, unit, st.floats(-5, 5))
def test_the_baselines_against_numpy(batch, gamma, decay, moving_average):
    rewards, values, mask = (batch[name].numpy() for name in ("rewards", "values", "response_mask"))
    rows = len(mask)
    returns = [sum(gamma**k * rewards[b, k] for k in range(mask[b].sum())) for b in range(rows)]
    advantages, batch_mean, others = (
        np.zeros(mask.shape),
        np.zeros(mask.shape),
        np.zeros(mask.shape),
    )
    for b, t in zip(*np.nonzero(mask), strict=True):
        to_go = sum(gamma ** (k - t) * rewards[b, k] for k in range(t, mask[b].sum()))
        advantages[b, t] = to_go - values[b, t]
        batch_mean[b, t] = np.mean(returns)
        others[b, t] = np.mean(returns[:b] + returns[b + 1 :]) if rows > 1 else 0.0
    inputs = {"rewards": batch["rewards"], "response_mask": batch["response_mask"], "gamma": gamma}
    assert_close(baseline.baseline_advantages(**inputs, values=batch["values"]), advantages)
    assert_close(baseline.batch_mean_baseline(**inputs), batch_mean)
    if rows > 1:
        assert_close(baseline.leave_one_out_baseline(**inputs), others)
    assert_close(
        baseline.next_moving_average(**inputs, moving_average=moving_average, decay=decay),
        moving_average * decay + np.mean(returns) * (1 - decay),
    )
    norms = values[:, 0] ** 2
    assert_close(
        baseline.optimal_constant_baseline(returns=f64(returns), squared_norms=f64(norms)),
        np.average(returns, weights=norms),
    )
