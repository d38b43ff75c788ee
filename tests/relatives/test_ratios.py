"""The dual clip by hand, as a limit, and in the padding."""

import pytest
import torch
from hypothesis import given

from minippo.ppo import clipped_surrogate_loss
from minippo.relatives.ratios import dual_clipped_surrogate_loss
from tests.helpers import (
    assert_close,
    check_layout_does_not_matter,
    check_padding_is_never_read,
    f64,
    mask_of_lengths,
    ragged_batches,
    value_and_gradients,
)

NAMES = "logprobs old_logprobs advantages"


def dual(**batch):
    return dual_clipped_surrogate_loss(**batch, cliprange=0.2, dual_clip=3.0)


def test_by_hand():
    """Ratios 5, 2, 5 and 0.5 with advantages -1, -1, 1 and -1: max(-5, -3), -2, min(5, 1.2) and
    min(-0.5, -0.8)."""
    batch = {
        "logprobs": f64([[5, 2, 5, 0.5]]).log(),
        "old_logprobs": f64([[0, 0, 0, 0]]),
        "advantages": f64([[-1, -1, 1, -1]]),
        "response_mask": mask_of_lengths([4]),
    }
    loss, gradients = value_and_gradients(dual, batch, ["logprobs"])
    assert_close(loss, -(-3 - 2 + 1.2 - 0.8) / 4)
    assert_close(gradients["logprobs"], [[0, 2 / 4, 0, 0]])  # the others are flat


@given(batch=ragged_batches(NAMES))
def test_limits_padding_and_layout(batch):
    endless = dual_clipped_surrogate_loss(**batch, cliprange=0.2, dual_clip=float("inf"))
    assert_close(endless, clipped_surrogate_loss(**batch, cliprange=0.2))
    assert dual(**batch) <= endless + 1e-12
    check_padding_is_never_read(dual, batch, ["logprobs"])
    check_layout_does_not_matter(dual, batch, ["logprobs"])


def test_a_ratio_that_overflows_is_held():
    mask = mask_of_lengths([1])
    batch = {"logprobs": torch.tensor([[200.0]]), "old_logprobs": torch.tensor([[0.0]])}
    batch |= {"advantages": torch.tensor([[-2.0]]), "response_mask": mask}
    loss, gradients = value_and_gradients(dual, batch, ["logprobs"])
    assert loss == 6.0 and gradients["logprobs"] == 0.0


@pytest.mark.parametrize("bound", [1.2, 1.0, float("nan")])
def test_a_bound_within_the_clip_is_refused(bound):
    batch = {name: torch.zeros(1, 1) for name in NAMES.split()}
    with pytest.raises(ValueError, match="dual_clip"):
        dual_clipped_surrogate_loss(
            **batch, response_mask=mask_of_lengths([1]), cliprange=0.2, dual_clip=bound
        )
