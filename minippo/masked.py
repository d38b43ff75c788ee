"""Sums and means over the tokens that count, whatever is in the padding.

Responses have different lengths, so a [B,T] tensor has slots that belong to nobody. Multiplying by
a mask does not remove them (0 * NaN is NaN); selecting does, in the value and in the gradient.
These functions take a mask of any pattern, as long as one position is True. Inside a loss, select
before squaring as well: where(mask, x**2, 0) has a NaN gradient at a NaN in the padding, although
its value is right.
"""

import torch
from torch import Tensor

from minippo.shapes import check_shapes, is_known_good

MINIMUM_STD = 1e-8  # below this the numbers are one number plus rounding


def zero_padding(*, values: Tensor, mask: Tensor) -> Tensor:
    """The values where the mask is True, and exactly 0 elsewhere.

    Equation (0.1)  y_i = x_i if m_i else 0
    Source   none needed.
    Shapes   values [...] float; mask, the same shape, bool -> the same shape.
    Gradient to values where the mask is True, exactly 0 elsewhere.
    Limits   a mask of all True changes nothing.
    Raises   ValueError: shapes differ, mask not bool, no True at all.
    """
    _check(values, mask)
    return torch.where(mask, values, torch.zeros_like(values))


def masked_sum(*, values: Tensor, mask: Tensor) -> Tensor:
    """The sum over the True positions.

    Equation (0.2)  sum_i m_i x_i
    Source   none needed.
    Shapes   values [...] float; mask, the same shape, bool -> scalar.
    Gradient to values: 1 where the mask is True, exactly 0 elsewhere.
    Limits   a mask of all True gives the plain sum.
    Raises   ValueError: shapes differ, mask not bool, no True at all.
    """
    wide = _wide(zero_padding(values=values, mask=mask))
    return wide.sum().to(values.dtype)


def masked_mean(*, values: Tensor, mask: Tensor) -> Tensor:
    """The mean over the True positions, one mean for the whole tensor.

    Equation (0.3)  sum_i m_i x_i / sum_i m_i
    Source   none needed.
    Shapes   values [...] float; mask, the same shape, bool -> scalar.
    Gradient to values: 1 / (number of real tokens) where the mask is True, exactly 0 elsewhere.
    Limits   a mask of all True gives the plain mean. A long row weighs more than a short one. The
             sum may be too large for the dtype: then each value is divided first.
    Raises   ValueError: shapes differ, mask not bool, no True at all.
    """
    wide, n = _wide(zero_padding(values=values, mask=mask)), mask.sum()
    total = wide.sum()
    return torch.where(total.isfinite(), total / n, (wide / n).sum()).to(values.dtype)


def masked_variance(*, values: Tensor, mask: Tensor) -> Tensor:
    """The biased variance over the True positions.

    Equation (0.4)  sum_i m_i (x_i - mean)^2 / sum_i m_i
    Source   none needed.
    Shapes   values [...] float; mask, the same shape, bool -> scalar.
    Gradient to values, also through the mean; exactly 0 where the mask is False.
    Limits   0 when all selected values are equal. No Bessel correction: it divides by n, not by n -
             1.
    Raises   ValueError: shapes differ, mask not bool, no True at all.
    """
    return masked_mean(values=_centred(_wide(values), mask) ** 2, mask=mask).to(values.dtype)


def whiten(*, values: Tensor, mask: Tensor) -> Tensor:
    """Shift and scale the True positions to mean 0 and standard deviation 1.

    Equation (0.5)  y_i = (x_i - mean) / std, the biased std of (0.4)
    Source   Huang et al. 2024, arXiv:2403.17031 (whitening; there 1e-8 is added to the variance).
    Shapes   values [...] float; mask, the same shape, bool -> the same shape; 0 where masked.
    Gradient to values, also through mean and std; exactly 0 where the mask is False. Call it on
    data.
    Limits   unchanged by x -> a x + b for a > 0. One True, or equal values, have no std and are
             refused.
    Raises   ValueError: shapes differ, mask not bool, no True at all, std < 1e-8 or not finite.
    """
    wide = _wide(values)
    std = masked_variance(values=wide, mask=mask).sqrt()
    if not MINIMUM_STD <= std < torch.inf:  # written so that a NaN is refused too
        raise ValueError(
            f"values: got a standard deviation of {std.item():.3g}, wanted at least "
            f"{MINIMUM_STD:g} and finite"
        )
    return (_centred(wide, mask) / std).to(values.dtype)


def scale_to_unit_std(*, values: Tensor, mask: Tensor) -> Tensor:
    """Scale the True positions to standard deviation 1 and keep their mean.

    Equation (0.6)  y_i = (x_i - mean) / std + mean
    Source   Huang et al. 2024, arXiv:2403.17031 (whitening with shift_mean=False).
    Shapes   values [...] float; mask, the same shape, bool -> the same shape; 0 where masked.
    Gradient to values, also through mean and std; exactly 0 where the mask is False. Call it on
    data.
    Limits   only the mean is kept: [.04, .05, .06, .05] becomes [-1.36, .05, 1.46, .05], so signs
             can flip.
    Raises   ValueError: shapes differ, mask not bool, no True at all, std < 1e-8 or not finite.
    """
    shifted = whiten(values=values, mask=mask) + masked_mean(values=values, mask=mask)
    return zero_padding(values=shifted, mask=mask)


def safe_unit(vector: Tensor) -> float:
    """A power of two in whose units the squares of a vector fit its dtype: 1 for all but very large
    and very small vectors. Dividing by it rounds nothing."""
    exponent = int(torch.frexp(vector.abs().max()).exponent)
    return 1.0 if abs(exponent) < 40 else 2.0 ** max(-100, min(100, exponent))


def _centred(values: Tensor, mask: Tensor) -> Tensor:
    """x - mean where True, 0 elsewhere. The mean is taken out twice because the first one is
    rounded."""
    once = zero_padding(values=values - masked_mean(values=values, mask=mask), mask=mask)
    return zero_padding(values=once - masked_mean(values=once, mask=mask), mask=mask)


def _wide(values: Tensor) -> Tensor:
    """The values as they are, or as float32 where 16 bits would overflow in a sum or a square."""
    return values.float() if values.dtype in (torch.float16, torch.bfloat16) else values


def _check(values: Tensor, mask: Tensor) -> None:
    check_shapes(values=(values, "..."), mask=(mask, "bool ..."))
    if not is_known_good(mask) and not mask.any():
        raise ValueError("mask: got no True at all, wanted at least one")
