import numpy as np
import pytest
import torch
from helpers import assert_close, batch_of, check_common_refusals, check_layout_does_not_matter, check_padding_is_never_read
from helpers import f64, mask_of_lengths, ragged_batches, value_and_gradients
from hypothesis import given

from minippo import baseline

NAN = float("nan")


# hand-worked numbers


def test_value_loss_by_hand():
    # errors 1 - 2 = -1, 5 - 2 = 3, 4 - 2 = 2; half of (1 + 9 + 4) / 3 = 7 / 3
    mask = mask_of_lengths([2, 1])
    batch = {"values": f64([[1.0, 5.0], [4.0, NAN]]), "value_targets": f64([[2.0, 2.0], [2.0, NAN]]), "response_mask": mask}
    loss, gradients = value_and_gradients(baseline.value_loss, batch, ["values"])
    assert_close(loss, 7 / 3)
    assert_close(gradients["values"], [[-1 / 3, 1], [2 / 3, 0]])  # error / 3


# the theorem: the regression is minimised by the conditional mean


@given(ragged_batches("value_targets"))
def test_the_best_constant_is_the_mean_of_the_targets(batch):
    mask = batch["response_mask"]
    constant = batch["value_targets"][mask].mean().expand(mask.shape)
    _, gradients = value_and_gradients(baseline.value_loss, batch | {"values": constant}, ["values"])
    assert_close(gradients["values"].sum(), 0)
    best = baseline.value_loss(**batch, values=constant)
    assert all(baseline.value_loss(**batch, values=constant + step) > best for step in (-0.1, 0.1))


# reductions


@given(ragged_batches("values"))
def test_zero_when_the_critic_is_right(batch):
    assert baseline.value_loss(**batch, value_targets=batch["values"]) == 0


# gradient flow and padding


def test_padding_and_layout():
    batch = batch_of("values value_targets", mask_of_lengths([3, 1, 4], 5), 0)
    check_padding_is_never_read(baseline.value_loss, batch, ["values"])
    check_layout_does_not_matter(baseline.value_loss, batch, ["values"])


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32, torch.float64])
def test_the_dtype_is_kept(dtype):
    one = torch.ones(1, 2, dtype=dtype)
    assert baseline.value_loss(values=one, value_targets=one, response_mask=one.bool()).dtype == dtype


# refusals


def test_refusals():
    check_common_refusals(baseline.value_loss, batch_of("values value_targets", mask_of_lengths([1]), 0), data=["value_targets"])


# an independent transcription


@given(ragged_batches("values value_targets"))
def test_against_numpy(batch):
    values, targets, mask = (batch[name].numpy() for name in ("values", "value_targets", "response_mask"))
    total, wanted_gradient = 0.0, np.zeros(mask.shape)
    for b, t in zip(*np.nonzero(mask)):
        total += (values[b, t] - targets[b, t]) ** 2
        wanted_gradient[b, t] = (values[b, t] - targets[b, t]) / mask.sum()
    loss, gradients = value_and_gradients(baseline.value_loss, batch, ["values"])
    assert_close(loss, 0.5 * total / mask.sum())
    assert_close(gradients["values"], wanted_gradient)
