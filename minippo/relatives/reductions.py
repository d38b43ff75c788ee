"""From one number per token to one loss: four ways, which differ when responses differ in length.

Where we are. The losses of stage 6 are means over all True tokens of a minibatch.

The problem. That is one choice among several that are in use. A mean per response makes a token of
a long response count less; a sum per response does not, and a constant in the place of the number
of tokens keeps a minibatch of long responses from being scaled down.

The idea. All four are sums of w_bt x_bt; only the weights w differ.

    token_mean      w = 1 / (all True tokens)
    sequence_mean   w = 1 / (B * True tokens of the row)
    sequence_sum    w = 1 / B
    constant_mean   w = 1 / (B * length), length the same for every batch

The surrogates are homogeneous in the advantage (a positive factor can be pulled out of min and
clip), so the PPO update gets each of them from token_mean with advantages that are multiplied by
token_factors.

What is still wrong. Only sequence_sum and constant_mean have the gradient of the expected return,
up to a constant. token_mean makes each response of a batch of long ones count less; sequence_mean
favours short good responses and long bad ones.
"""

import torch
from torch import Tensor

from minippo.masked import masked_mean, zero_padding
from minippo.shapes import check_batch, check_count, check_mask


def token_mean(*, values: Tensor, response_mask: Tensor) -> Tensor:
    """One mean over all True tokens.

    Equation (8.1)  sum_{b,t} m_bt x_bt / sum_{b,t} m_bt
    Source   Schulman et al. 2017, arXiv:1707.06347 (the mean over time steps); DAPO's "token-level
             loss": Yu et al. 2025, arXiv:2503.14476.
    Shapes   values [B,T] float; response_mask [B,T] bool -> scalar.
    Gradient to values: 1 / (number of True tokens); 0 where masked.
    Limits   responses of one length: equal to sequence_mean.
    Raises   ValueError: shapes differ, a bad mask.
    """
    check_batch(response_mask, data={}, values=values)
    return masked_mean(values=values, mask=response_mask)


def sequence_mean(*, values: Tensor, response_mask: Tensor) -> Tensor:
    """The mean over rows of each row's mean.

    Equation (8.2)  1/B sum_b (sum_t m_bt x_bt / sum_t m_bt)
    Source   Shao et al. 2024, arXiv:2402.03300, equation 3 (GRPO).
    Shapes   values [B,T] float; response_mask [B,T] bool -> scalar.
    Gradient to values: 1 / (B * True tokens of the row); 0 where masked.
    Limits   responses of one length: equal to token_mean.
    Raises   ValueError: shapes differ, a bad mask.
    """
    check_batch(response_mask, data={}, values=values)
    sums = zero_padding(values=values, mask=response_mask).sum(dim=1)
    return (sums / response_mask.sum(dim=1)).mean()


def sequence_sum(*, values: Tensor, response_mask: Tensor) -> Tensor:
    """The mean over rows of each row's sum.

    Equation (8.3)  1/B sum_b sum_t m_bt x_bt
    Source   (1.2): the policy gradient's own reduction.
    Shapes   values [B,T] float; response_mask [B,T] bool -> scalar.
    Gradient to values: 1/B; 0 where masked.
    Limits   responses of one token: equal to the other means.
    Raises   ValueError: shapes differ, a bad mask.
    """
    check_batch(response_mask, data={}, values=values)
    return zero_padding(values=values, mask=response_mask).sum() / len(values)


def constant_mean(*, values: Tensor, response_mask: Tensor, length: int) -> Tensor:
    """The sum over all True tokens over a number that does not depend on the batch's lengths.

    Equation (8.4)  sum_{b,t} m_bt x_bt / (B length)
    Source   Liu et al. 2025, arXiv:2503.20783 (Dr. GRPO).
    Shapes   values [B,T] float; response_mask [B,T] bool; length a whole number -> scalar.
    Gradient to values: 1 / (B length); 0 where masked.
    Limits   length=1: sequence_sum.
    Raises   ValueError: shapes differ, a bad mask, length < 1.
    """
    check_count(length=length)
    return sequence_sum(values=values, response_mask=response_mask) / length


def token_factors(*, response_mask: Tensor, reduction: str, length: int) -> Tensor:
    """What each token is multiplied by so that token_mean becomes another reduction.

    Equation (8.5)  f_bt = N w_bt, N the number of True tokens and w the weights of (8.1) to (8.4)
    Source   none needed: the four are sums of w x.
    Shapes   response_mask [B,T] bool; reduction a name in FACTORS; length a whole number -> [B,T]
             float32.
    Gradient none: it is data.
    Limits   token_mean: 1 everywhere.
    Raises   ValueError: a bad mask, length < 1, an unknown reduction.
    """
    check_mask(response_mask=response_mask)
    check_count(length=length)
    if reduction not in FACTORS:
        raise ValueError(f"reduction: wanted one of {', '.join(FACTORS)}, got {reduction!r}")
    lengths = response_mask.sum(dim=1, keepdim=True).float()  # [B,1]
    per_row = FACTORS[reduction](lengths, length)
    return zero_padding(values=per_row.expand(response_mask.shape), mask=response_mask)


# reduction -> (lengths [B,1], length) -> the factor of each row's tokens, [B,1]
FACTORS = {
    "token_mean": lambda lengths, length: torch.ones_like(lengths),
    "sequence_mean": lambda lengths, length: lengths.mean() / lengths,
    "sequence_sum": lambda lengths, length: lengths.mean().expand_as(lengths),
    "constant_mean": lambda lengths, length: (lengths.mean() / length).expand_as(lengths),
}
