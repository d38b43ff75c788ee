import numpy as np
import pytest
import torch
from hypothesis import given

from minippo import masked
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

NAMES = [
    "zero_padding",
    "masked_sum",
    "masked_mean",
    "masked_variance",
    "whiten",
    "scale_to_unit_std",
]
NAN = float("nan")


def with_response_mask(name):
    """The function with its mask under the name that the shared checks use."""
    return lambda *, values, response_mask: getattr(masked, name)(values=values, mask=response_mask)


# hand-worked numbers


def test_sum_mean_and_variance_by_hand():
    values, mask = f64([[1.0, 2.0, NAN], [6.0, NAN, NAN]]), mask_of_lengths([2, 1], 3)
    assert_close(masked.zero_padding(values=values, mask=mask), [[1, 2, 0], [6, 0, 0]])
    assert_close(masked.masked_sum(values=values, mask=mask), 9)  # 1 + 2 + 6
    assert_close(masked.masked_mean(values=values, mask=mask), 3)  # 9 / 3
    assert_close(masked.masked_variance(values=values, mask=mask), 14 / 3)  # (4 + 1 + 9) / 3


def test_whitening_keeps_neither_sign_nor_size():
    # mean .05, biased std sqrt((1e-4 + 0 + 1e-4 + 0) / 4) = .00707107, and .01 / .00707107 = sqrt 2
    values, mask, root = f64([[0.04, 0.05, 0.06, 0.05]]), mask_of_lengths([4]), 2**0.5
    assert_close(masked.whiten(values=values, mask=mask), [[-root, 0, root, 0]])
    assert_close(
        masked.scale_to_unit_std(values=values, mask=mask), [[0.05 - root, 0.05, 0.05 + root, 0.05]]
    )


# the theorem: what whitening is for


@given(ragged_batches("values"))
def test_whitened_values_have_mean_0_and_std_1(batch):
    values, mask = batch["values"], batch["response_mask"]
    if mask.sum() < 2:
        return
    white = masked.whiten(values=values, mask=mask)
    assert_close(masked.masked_mean(values=white, mask=mask), 0)
    assert_close(masked.masked_variance(values=white, mask=mask), 1)
    assert_close(masked.whiten(values=3 * values - 7, mask=mask), white)
    assert_close(masked.whiten(values=-values, mask=mask), -white)
    scaled = masked.scale_to_unit_std(values=values, mask=mask)
    assert_close(
        masked.masked_mean(values=scaled, mask=mask), masked.masked_mean(values=values, mask=mask)
    )
    assert_close(masked.masked_variance(values=scaled, mask=mask), 1)


# reductions


def test_without_padding_these_are_the_plain_functions():
    values = batch_of("values", mask_of_lengths([4, 4]), 0)["values"]
    mask = torch.ones_like(values).bool()
    assert torch.equal(masked.zero_padding(values=values, mask=mask), values)
    assert_close(masked.masked_sum(values=values, mask=mask), values.sum())
    assert_close(masked.masked_mean(values=values, mask=mask), values.mean())
    assert_close(masked.masked_variance(values=values, mask=mask), values.var(correction=0))


def test_any_shape_and_any_pattern_will_do():
    values, mask = f64([5.0, NAN, 7.0]), torch.tensor([True, False, True])
    assert_close(masked.masked_mean(values=values, mask=mask), 6)
    assert_close(masked.whiten(values=values, mask=mask), [-1, 0, 1])


# gradient flow and padding


def test_gradients_by_hand():
    batch = {
        "values": f64([[1.0, 2.0, 9.0], [6.0, 9.0, 9.0]]),
        "response_mask": mask_of_lengths([2, 1], 3),
    }
    for name, wanted in [
        ("masked_sum", [[1, 1, 0], [1, 0, 0]]),
        ("masked_mean", [[1 / 3, 1 / 3, 0], [1 / 3, 0, 0]]),
        ("masked_variance", [[-4 / 3, -2 / 3, 0], [2, 0, 0]]),
    ]:  # 2 (x - 3) / 3
        _, gradients = value_and_gradients(with_response_mask(name), batch, ["values"])
        assert_close(gradients["values"], wanted)


@pytest.mark.parametrize("name", NAMES)
def test_padding_and_layout(name):
    batch = batch_of("values", mask_of_lengths([3, 1, 4], 5), 1)
    check_padding_is_never_read(with_response_mask(name), batch, ["values"])
    check_layout_does_not_matter(with_response_mask(name), batch, ["values"])


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_the_dtype_is_kept(dtype):
    values, mask = torch.tensor([[1.0, 2.0, 4.0]], dtype=dtype), mask_of_lengths([3])
    assert all(getattr(masked, name)(values=values, mask=mask).dtype == dtype for name in NAMES)


# refusals


@pytest.mark.parametrize("name", NAMES)
def test_refusals(name):
    function, values, mask = getattr(masked, name), f64([[1.0, 2.0, 4.0]]), mask_of_lengths([3])
    with pytest.raises(
        ValueError,
        match=r"mask: got shape \[1, 1\], wanted \[\.\.\.\] with \.\.\. = \[1, 3\] as in values",
    ):
        function(values=values, mask=mask[:, :1])
    with pytest.raises(ValueError, match="mask: got dtype torch.float64, wanted bool"):
        function(values=values, mask=values)
    with pytest.raises(ValueError, match="values: got dtype torch.int64, wanted float"):
        function(values=values.long(), mask=mask)
    with pytest.raises(ValueError, match="mask: got no True at all"):
        function(values=values, mask=~mask)
    with pytest.raises(ValueError, match="values: got shape .* at least one element"):
        function(values=values[:0], mask=mask[:0])


@pytest.mark.parametrize("name", ["whiten", "scale_to_unit_std"])
@pytest.mark.parametrize(
    "rows", [[[3.0]], [[1.1] * 7], [[0.0, 1e-9]], [[1.0, NAN]], [[1.0, float("inf")]]]
)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_no_spread_is_refused(name, rows, dtype):
    values = torch.tensor(rows, dtype=dtype)
    with pytest.raises(
        ValueError, match="values: got a standard deviation of .*, wanted at least 1e-08"
    ):
        getattr(masked, name)(values=values, mask=torch.ones_like(values).bool())


# an independent transcription


@given(ragged_batches("values"))
def test_against_numpy(batch):
    values, mask = batch["values"], batch["response_mask"]
    kept = np.array(
        [values[b, t] for b in range(len(mask)) for t in range(mask.shape[1]) if mask[b, t]]
    )
    assert_close(masked.masked_sum(values=values, mask=mask), np.sum(kept))
    assert_close(masked.masked_mean(values=values, mask=mask), np.mean(kept))
    assert_close(masked.masked_variance(values=values, mask=mask), np.var(kept))
    if len(kept) > 1:
        assert_close(
            masked.whiten(values=values, mask=mask)[mask], (kept - kept.mean()) / kept.std()
        )
        assert_close(
            masked.scale_to_unit_std(values=values, mask=mask)[mask],
            (kept - kept.mean()) / kept.std() + kept.mean(),
        )


# -- numbers near the end of a dtype


@pytest.mark.parametrize("name", ["whiten", "scale_to_unit_std"])
def test_large_numbers_are_whitened_or_refused_but_never_zero(name):
    function = getattr(masked, name)
    values = torch.tensor([[3e19, 4e19, 5e19, 6e19]])  # std 1.118e19, whose square fits float32
    wanted = torch.tensor([[-1.3416408, -0.4472136, 0.4472136, 1.3416408]])
    shift = 4.5e19 if name == "scale_to_unit_std" else 0.0
    torch.testing.assert_close(function(values=values, mask=values > 0), wanted + shift)
    values = torch.tensor([[1e30, 2e30]])  # the variance does not fit
    with pytest.raises(ValueError, match="standard deviation of inf, wanted .* finite"):
        function(values=values, mask=values > 0)


def test_sums_that_do_not_fit_have_means_that_do():
    values = torch.tensor([[3e38, 2e38, 1e38]])
    assert_close(masked.masked_mean(values=values, mask=values > 0) / 1e38, torch.tensor(2.0))


def test_the_unit_is_one_until_a_square_would_not_fit():
    units = [masked.safe_unit(torch.tensor([size, 0.0])) for size in (1.0, 1e-9, 1e9, 1e30, 1e-30)]
    assert units == [1, 1, 1, 2.0**100, 2.0**-99]
    assert masked.safe_unit(torch.zeros(2)) == 1


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_sixteen_bits_are_summed_in_thirty_two(dtype):
    ones = torch.ones(1, 90_000, dtype=dtype)  # float16 ends at 65,504
    mean = masked.masked_mean(values=ones, mask=ones > 0)
    assert mean == 1 and mean.dtype == dtype
    assert masked.masked_variance(values=ones, mask=ones > 0) == 0
    values = torch.tensor([[100.0, 1000.0, 2000.0]], dtype=dtype)
    white = masked.whiten(values=values, mask=values > 0)
    wanted = torch.tensor([[-1.2027, -0.0430, 1.2457]])
    assert white.dtype == dtype
    torch.testing.assert_close(white.float(), wanted, rtol=0, atol=0.02)
