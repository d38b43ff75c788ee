import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from minippo import logprobs, ppo_statistics
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

INF, NAN = float("inf"), float("nan")
POLICY, CRITIC = "logprobs old_logprobs advantages", "values old_values value_targets"


def explained(**batch):
    return {"explained": ppo_statistics.explained_variance(**batch)}


def clipped_fraction(**batch):
    found = ppo_statistics.clipped_value_fraction(**batch, cliprange_value=0.2)
    return {"fraction": found.item()}


# every function of this module, as one of tensors only that gives a dict of floats: its tensors,
# and which of them are data
STATISTICS = {
    "policy": (
        lambda **batch: ppo_statistics.ppo_diagnostics(**batch, cliprange=0.2),
        POLICY,
        ["old_logprobs", "advantages"],
    ),
    "explained": (explained, "values value_targets", ["value_targets"]),
    "fraction": (clipped_fraction, CRITIC, ["old_values", "value_targets"]),
}


# hand-worked numbers


def test_policy_diagnostics_by_hand():
    # ratios 2, 1/2, 2, 1 with A = 1, 1, -1, 1: only the first is held by the clip
    two, half = math.log(2), -math.log(2)
    batch = {
        "logprobs": f64([[two, half, NAN], [two, 0.0, NAN]]),
        "old_logprobs": f64([[0.0, 0.0, NAN]] * 2),
        "advantages": f64([[1.0, 1.0, NAN], [-1.0, 1.0, NAN]]),
        "response_mask": mask_of_lengths([2, 2], 3),
    }
    wanted = {
        "policy/approxkl_avg": 3 * two**2 / 8,  # half the mean of log(2)^2, three times, and 0
        "policy/clipfrac_avg": 0.25,
        "val/ratio": 1.375,  # (2 + .5 + 2 + 1) / 4
        "val/ratio_var": (0.625**2 + 0.875**2 + 0.625**2 + 0.375**2) / 4,
        "ratio_max_deviation": 1.0,
    }
    found = ppo_statistics.ppo_diagnostics(**batch, cliprange=0.2)
    assert list(found) == list(wanted) and all(isinstance(x, float) for x in found.values())
    for name in wanted:
        assert_close(found[name], wanted[name])


def test_explained_variance_by_hand():
    # targets 0, 2, 4: variance 8/3; errors of the critic -1, 0, 1: variance 2/3; explained 1 - 1/4
    found = ppo_statistics.explained_variance(
        values=f64([[1.0, 2.0, 3.0, NAN]]),
        value_targets=f64([[0.0, 2.0, 4.0, NAN]]),
        response_mask=mask_of_lengths([3], 4),
    )
    assert isinstance(found, float)
    assert_close(found, 0.75)


def test_clipped_value_fraction_by_hand():
    # old values -1, 1, 3 and clip .2: clipped errors |-.8|, |-.8|, |-1| against |1|, |0|, |-1|:
    # larger only in the middle
    found = ppo_statistics.clipped_value_fraction(
        values=f64([[1.0, 2.0, 3.0]]),
        old_values=f64([[-1.0, 1.0, 3.0]]),
        value_targets=f64([[0.0, 2.0, 4.0]]),
        response_mask=mask_of_lengths([3]),
        cliprange_value=0.2,
    )
    assert_close(found, 1 / 3)


# the ends of their ranges


@given(ragged_batches("old_logprobs advantages"))
def test_at_the_old_policy_nothing_has_moved(batch):
    batch = batch | {"logprobs": batch["old_logprobs"]}
    found = ppo_statistics.ppo_diagnostics(**batch, cliprange=0.2)
    assert list(found.values()) == [0, 0, 1, 0, 0]


@given(ragged_batches("values value_targets"), st.floats(0.01, 2))
def test_the_old_critic_is_not_clipped(batch, cliprange_value):
    found = ppo_statistics.clipped_value_fraction(
        **batch, old_values=batch["values"], cliprange_value=cliprange_value
    )
    assert found == 0


def test_explained_variance_at_its_ends():
    targets, mask = f64([[1.0, 2.0, 4.0]]), mask_of_lengths([3])

    def explained(values, targets):
        return ppo_statistics.explained_variance(
            values=values, value_targets=targets, response_mask=mask
        )

    assert explained(targets, targets) == 1
    assert_close(explained(torch.zeros_like(targets), targets), 0)
    assert explained(-targets, targets) < 0
    assert explained(targets, torch.full_like(targets, 1.1)) == 0  # nothing to explain
    assert explained(targets.float(), torch.full((1, 3), 1.1)) == 0


@pytest.mark.parametrize("std, wanted", [(1e-5, 1), (1e-8, 1), (1e-10, 0)])
def test_targets_count_as_equal_when_their_std_is_below_1e_8(std, wanted):
    # the critic says exactly this: it explains all, if there is something to explain
    targets = f64([[std, -std]])
    found = ppo_statistics.explained_variance(
        values=targets, value_targets=targets, response_mask=mask_of_lengths([2])
    )
    assert found == wanted


# padding


@pytest.mark.parametrize("name", STATISTICS)
def test_padding_and_layout(name):
    function, names, _ = STATISTICS[name]
    batch = batch_of(names, mask_of_lengths([3, 1, 4], 5), 0)
    for key in function(**batch):

        def one(**batch):
            return torch.tensor(function(**batch)[key], dtype=torch.float64)

        check_padding_is_never_read(one, batch)
        check_layout_does_not_matter(one, batch)


# refusals


@pytest.mark.parametrize("name", STATISTICS)
def test_refusals(name):
    function, names, data = STATISTICS[name]
    check_common_refusals(function, batch_of(names, mask_of_lengths([1]), 0), data=data)


@pytest.mark.parametrize("bad", [0, -0.2, NAN])
def test_refused_cliprange(bad):
    policy, critic = (batch_of(names, mask_of_lengths([2]), 0) for names in (POLICY, CRITIC))
    with pytest.raises(ValueError, match=r"cliprange: got .*, wanted a number in \(0, inf\]"):
        ppo_statistics.ppo_diagnostics(**policy, cliprange=bad)
    with pytest.raises(ValueError, match=r"cliprange_value: got .*, wanted a number in \(0, inf\]"):
        ppo_statistics.clipped_value_fraction(**critic, cliprange_value=bad)


# an independent transcription


@given(ragged_batches(POLICY), st.floats(0.01, 1.5))
def test_policy_statistics_against_numpy(batch, cliprange):
    new, old, advantages, mask = (
        batch[name].numpy() for name in (*POLICY.split(), "response_mask")
    )
    ratios, a = np.exp(new[mask]) / np.exp(old[mask]), advantages[mask]
    held = ((a > 0) & (ratios > 1 + cliprange)) | ((a < 0) & (ratios < 1 - cliprange))
    wanted = [
        np.mean(np.log(ratios) ** 2) / 2,
        np.mean(held),
        np.mean(ratios),
        np.var(ratios),
        np.max(np.abs(ratios - 1)),
    ]
    found = ppo_statistics.ppo_diagnostics(**batch, cliprange=cliprange)
    assert_close(list(found.values()), wanted)


@given(ragged_batches(CRITIC), st.floats(0.01, 1.5))
def test_value_statistics_against_numpy(batch, cliprange_value):
    mask = batch["response_mask"].numpy()
    v, old, targets = (batch[name].numpy()[mask] for name in CRITIC.split())
    bounded = old + np.clip(v - old, -cliprange_value, cliprange_value)
    outside = np.abs(v - old) > cliprange_value
    held = outside & (np.abs(bounded - targets) > np.abs(v - targets))
    fraction = ppo_statistics.clipped_value_fraction(**batch, cliprange_value=cliprange_value)
    assert_close(fraction, np.mean(held))
    if mask.sum() > 1:
        found = ppo_statistics.explained_variance(
            **{name: batch[name] for name in ("values", "value_targets", "response_mask")}
        )
        assert_close(found, 1 - np.var(targets - v) / np.var(targets))


def test_the_ratio_is_the_one_of_logprobs():
    batch = batch_of(POLICY, mask_of_lengths([3, 2]), 0)
    ratios = logprobs.token_ratios(
        **{name: batch[name] for name in ("logprobs", "old_logprobs", "response_mask")}
    )
    assert_close(
        ppo_statistics.ppo_diagnostics(**batch, cliprange=0.2)["val/ratio"],
        ratios[batch["response_mask"]].mean(),
    )


def test_a_cliprange_beyond_the_dtype_clips_nothing():
    found = ppo_statistics.ppo_diagnostics(
        logprobs=torch.tensor([[3.0, -1.0]]),
        old_logprobs=torch.zeros(1, 2),
        advantages=torch.tensor([[1.0, -1.0]]),
        response_mask=torch.tensor([[True, True]]),
        cliprange=1e300,
    )
    assert found["policy/clipfrac_avg"] == 0
