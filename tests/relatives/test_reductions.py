"""Four reductions by hand, as limits of each other, and as factors of a token mean."""

import pytest
import torch
from hypothesis import given

from minippo.ppo import clipped_surrogate_loss
from minippo.relatives import reductions
from tests.helpers import (
    assert_close,
    batch_of,
    check_layout_does_not_matter,
    check_padding_is_never_read,
    f64,
    mask_of_lengths,
    ragged_batches,
    value_and_gradients,
)

MASK = mask_of_lengths([3, 1])
VALUES = f64([[1, 2, 6], [5, 7, 7]])  # the 7s are padding
PLAIN = (reductions.token_mean, reductions.sequence_mean, reductions.sequence_sum)


def constant_of_4(**batch):
    return reductions.constant_mean(**batch, length=4)


FUNCTIONS = (*PLAIN, constant_of_4)


@pytest.mark.parametrize(
    ("function", "wanted", "gradient"),
    [
        (reductions.token_mean, 14 / 4, [[1 / 4] * 3, [1 / 4, 0, 0]]),  # (1+2+6+5) / 4
        (reductions.sequence_mean, 4.0, [[1 / 6] * 3, [1 / 2, 0, 0]]),  # (9/3 + 5/1) / 2
        (reductions.sequence_sum, 7.0, [[1 / 2] * 3, [1 / 2, 0, 0]]),  # (9 + 5) / 2
        (constant_of_4, 14 / 8, [[1 / 8] * 3, [1 / 8, 0, 0]]),  # 14 / (2 * 4)
    ],
)
def test_by_hand(function, wanted, gradient):
    batch = {"values": VALUES, "response_mask": MASK}
    result, gradients = value_and_gradients(function, batch, ["values"])
    assert_close(result, wanted)
    assert_close(gradients["values"], f64(gradient))


@pytest.mark.parametrize("function", FUNCTIONS)
@given(batch=ragged_batches("values"))
def test_padding_and_layout(function, batch):
    check_padding_is_never_read(function, batch, ["values"])
    check_layout_does_not_matter(function, batch, ["values"])


def test_with_responses_of_one_length_all_means_are_one_up_to_a_constant():
    batch = batch_of("values", mask_of_lengths([3, 3]), seed=0)
    mean = reductions.token_mean(**batch)
    assert_close(reductions.sequence_mean(**batch), mean)
    assert_close(reductions.sequence_sum(**batch), 3 * mean)
    assert_close(reductions.constant_mean(**batch, length=3), mean)
    assert_close(reductions.constant_mean(**batch, length=1), reductions.sequence_sum(**batch))


@given(batch=ragged_batches("values logprobs old_logprobs advantages"))
def test_factors_on_the_advantages_make_the_clipped_loss_any_reduction(batch):
    """Each token's own term min(ratio A, clip(ratio) A), reduced; against the token mean of the
    product with factors."""
    values, mask = batch.pop("values"), batch["response_mask"]
    alone = [
        [
            -clipped_surrogate_loss(
                logprobs=batch["logprobs"][b : b + 1, t : t + 1],
                old_logprobs=batch["old_logprobs"][b : b + 1, t : t + 1],
                advantages=batch["advantages"][b : b + 1, t : t + 1],
                response_mask=torch.ones(1, 1, dtype=torch.bool),
                cliprange=0.2,
            )
            for t in range(values.shape[1])
        ]
        for b in range(len(values))
    ]
    terms = torch.stack([torch.stack(row) for row in alone])
    for name, reduce in zip(reductions.FACTORS, FUNCTIONS, strict=True):
        factors = reductions.token_factors(response_mask=mask, reduction=name, length=4)
        weighted = batch | {"advantages": batch["advantages"] * factors}
        loss = clipped_surrogate_loss(**weighted, cliprange=0.2)
        assert (loss + reduce(values=terms, response_mask=mask)).abs() < 1e-6, name


def test_refusals():
    good = {"values": VALUES, "response_mask": MASK}
    for function in FUNCTIONS:
        with pytest.raises(ValueError, match="response_mask"):
            function(**good | {"values": VALUES[:1]})
        with pytest.raises(ValueError, match="response_mask"):
            function(**good | {"response_mask": MASK.long()})
    with pytest.raises(ValueError, match="^length: got 0"):
        reductions.constant_mean(**good, length=0)
    names = "token_mean, sequence_mean, sequence_sum, constant_mean"
    for bad, message in (
        ({"reduction": "mean"}, f"reduction: wanted one of {names}, got 'mean'$"),
        ({"length": 0}, "length: got 0"),
        ({"response_mask": ~MASK}, "response_mask: "),
    ):
        arguments = {"response_mask": MASK, "reduction": "sequence_sum", "length": 4} | bad
        with pytest.raises(ValueError, match=f"^{message}"):
            reductions.token_factors(**arguments)
