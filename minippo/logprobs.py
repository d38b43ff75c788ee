"""From the scores of a model to the probability of what it did.

A language model gives one number per word of the vocabulary, the logits. The policy gradient needs
log pi(a_t|s_t) of the token that was chosen, and PPO the ratio of that probability now to what it
was when the token was sampled. All of it is computed in log space, where a probability of 1e-30 is
an ordinary number.
"""

import math
from typing import Any

import torch
from torch import Tensor

from minippo.masked import masked_mean, zero_padding
from minippo.shapes import check_batch, check_ids, check_shapes


def token_logprobs(*, logits: Tensor, tokens: Tensor) -> Tensor:
    """Log-probability of each chosen token.

    Equation (0.7)  log pi(a_t|s_t) = z_t[a_t] - log sum_v exp(z_t[v])
    Source   the definition of the softmax.
    Shapes   logits [B,T,V] float, response-aligned; tokens [B,T] int64 -> [B,T]; elementwise, the
             caller masks.
    Gradient to logits: one-hot(a_t) - pi(.|s_t).
    Limits   adding a constant to z_t changes nothing. A logit of -inf is a token that cannot be
             chosen.
    Raises   ValueError: shapes differ, tokens not int64, a token id outside [0, V).
    """
    check_shapes(logits=(logits, "B T V"), tokens=(tokens, "int64 B T"))
    check_ids(logits.shape[-1], tokens=tokens)
    log_pi = torch.log_softmax(logits, dim=-1)
    return log_pi.gather(-1, tokens.unsqueeze(-1)).squeeze(-1)  # [B,T,V] -> [B,T]


def token_entropy(*, logits: Tensor) -> Tensor:
    """Entropy of the next-token distribution at every position, in nats.

    Equation (0.8)  H(pi(.|s_t)) = -sum_v pi_v log pi_v, with 0 log 0 = 0
    Source   Shannon 1948, A Mathematical Theory of Communication, section 6.
    Shapes   logits [B,T,V] float -> [B,T]; elementwise, the caller masks.
    Gradient to logits: -pi_v (log pi_v + H); 0 at a logit of -inf.
    Limits   log V for equal logits, 0 when one token has all the probability.
    Raises   ValueError: logits are not a float tensor of three dimensions.
    """
    check_shapes(logits=(logits, "B T V"))
    log_pi = torch.log_softmax(logits, dim=-1)
    pi = log_pi.exp()
    # before the product: 0 * -inf is NaN
    finite_log_pi = torch.where(pi > 0, log_pi, torch.zeros_like(log_pi))
    return -(pi * finite_log_pi).sum(dim=-1)  # [B,T,V] -> [B,T]


def token_ratios(*, logprobs: Tensor, old_logprobs: Tensor, response_mask: Tensor) -> Tensor:
    """How much more likely each token has become since it was sampled.

    Equation (0.9)  ratio_t = pi(a_t|s_t) / pi_old(a_t|s_t) = exp(log pi - log pi_old)
    Source   Schulman et al. 2017, arXiv:1707.06347, section 3.
    Shapes   logprobs, old_logprobs [B,T] float; response_mask [B,T] bool -> [B,T]; 0 where masked.
    Gradient to logprobs: ratio_t; exactly 0 where masked. None to old_logprobs, they are data.
    Limits   1 at theta = theta_old. Overflows to inf when the log-ratio passes 88 in float32.
    Raises   ValueError: shapes differ, old_logprobs requires grad, a bad mask.
    """
    check_batch(response_mask, data={"old_logprobs": old_logprobs}, logprobs=logprobs)
    ratios = _log_ratios(logprobs, old_logprobs, response_mask).exp()
    return zero_padding(values=ratios, mask=response_mask)


def mean_weighted_ratio(
    *, logprobs: Tensor, old_logprobs: Tensor, weights: Tensor, response_mask: Tensor
) -> Tensor:
    """The mean over True tokens of ratio times weight, however large the ratios are on the way.

    Equation (0.18)  mean_{True t} w_t ratio_t, the ratio of (0.9)
    Source   none needed.
    Shapes   logprobs, old_logprobs, weights [B,T] float; response_mask [B,T] bool -> scalar.
    Gradient to logprobs: w_t ratio_t / (number of real tokens); exactly 0 where w_t is 0 or
             masked. None to the rest, which is data.
    Limits   never NaN. A ratio above e^88 is no float32, but its product with a small weight is,
             and so may be the sum of many: where the result fits the dtype, it is returned. Where
             it does not, it is inf or -inf.
    Raises   ValueError: shapes differ, old_logprobs or weights require grad, a bad mask.
    """
    data = {"old_logprobs": old_logprobs, "weights": weights}
    check_batch(response_mask, data=data, logprobs=logprobs)
    log_ratios = _log_ratios(logprobs, old_logprobs, response_mask)
    weights = zero_padding(values=weights, mask=response_mask)
    near = log_ratios.abs() <= -math.log(torch.finfo(log_ratios.dtype).tiny)  # exp stays normal
    log_products = torch.where(weights == 0, -torch.inf, log_ratios + weights.abs().log())
    far = weights.sign() * torch.where(near, 0.0, log_products).exp()
    products = torch.where(near, torch.where(near, log_ratios, 0.0).exp() * weights, far)
    mean = masked_mean(values=products, mask=response_mask)
    signed_mean = _signed_mean(log_products.detach(), weights, response_mask)
    value = torch.where(mean.isfinite(), mean.detach(), signed_mean)
    return with_value(scalar=mean, value=value)


def with_value(*, scalar: Tensor, value: Tensor) -> Tensor:
    """A scalar that takes its value from another, and keeps its gradient.

    Shapes   two scalars -> a scalar.
    Gradient to scalar: 1; none to value.
    Limits   where both are infinite it is still no NaN, as scalar + (value - scalar) would be.
    """
    return _WithValue.apply(scalar, value)


def _log_ratios(logprobs: Tensor, old_logprobs: Tensor, mask: Tensor) -> Tensor:
    """Selected before exp: a NaN in the padding would have a NaN gradient behind it."""
    return zero_padding(values=logprobs - old_logprobs, mask=mask)


def _signed_mean(log_sizes: Tensor, signs: Tensor, mask: Tensor) -> Tensor:
    """The mean of sign * exp(log_size) over True slots, made from numbers of at most 1."""
    largest = torch.where(mask, log_sizes, -torch.inf).max()
    parts = signs.sign() * (log_sizes - largest).exp()
    mean = masked_mean(values=torch.where(log_sizes == largest, signs.sign(), parts), mask=mask)
    return mean.sign() * (largest + mean.abs().log()).exp()


class _WithValue(torch.autograd.Function):
    """A scalar that takes its value from another, and keeps its gradient."""

    @staticmethod
    def forward(ctx: Any, scalar: Tensor, value: Tensor) -> Tensor:
        return value.clone()

    @staticmethod
    def backward(ctx: Any, *gradients: Any) -> Any:
        return gradients[0], None
