"""A KL to the reference as a term of the loss: what has its gradient, and what only looks like it.

Where we are. shaped_reward puts the KL to the reference into the reward, where the policy gradient
takes care of it. Several libraries add a term to the loss instead.

The problem. An estimate may have the right mean and still have the wrong gradient: the samples come
from the policy, and autograd does not differentiate through the sampling. The mean of k1 is the KL,
and the mean of its gradient is 0.

The idea. With d = log pi(y) - log pi_ref(y) of the whole response y, the gradient of KL(policy ||
reference) is E[d grad log pi(y)]. Two losses have it, at the sampling policy and after it has moved
(ratio = pi(y) / pi_old(y), the weight that the samples of the old policy need):

    k2_response   ratio d^2 / 2, ratio as data
    k1_response   ratio d, ratio with its gradient

The others are here to be compared, and are selected with allow_broken only. A form per token leaves
out that an early token changes the states of the later ones; it is right for responses of one
token.

What is still wrong. The ratio of a long response is the product of many, and its variance grows
with each of them.
"""

from collections.abc import Callable
from typing import NamedTuple

from torch import Tensor

from minippo.kl import kl_k1, kl_k2, kl_k3
from minippo.logprobs import token_ratios
from minippo.masked import masked_mean, zero_padding
from minippo.shapes import check_batch


def k2_response_loss(
    *, logprobs: Tensor, old_logprobs: Tensor, ref_logprobs: Tensor, response_mask: Tensor
) -> Tensor:
    """Half the squared log-ratio of whole responses, weighted for samples of the old policy.

    Equation (8.6)  L = mean_b ratio_b d_b^2 / 2,  d_b = sum_{True t} (log pi - log pi_ref),
                    ratio_b = exp sum_{True t} (log pi - log pi_old), as data
    Source   k2 as a loss: Tang and Munos 2025, arXiv:2506.09477.
    Shapes   logprobs, old_logprobs, ref_logprobs [B,T] float; response_mask [B,T] bool -> scalar,
             in nats per response.
    Gradient to logprobs: ratio_b d_b / B at every True token, whose mean over samples of the old
             policy is the gradient of KL(policy || reference). The rest is data.
    Limits   policy equal to the reference: 0, gradient 0.
    Raises   ValueError: shapes differ, old_logprobs or ref_logprobs require grad, a bad mask.
    """
    ratio, d = _of_responses(logprobs, old_logprobs, ref_logprobs, response_mask)
    return (ratio.detach() * d**2 / 2).mean()


def k1_response_loss(
    *, logprobs: Tensor, old_logprobs: Tensor, ref_logprobs: Tensor, response_mask: Tensor
) -> Tensor:
    """The log-ratio of whole responses, weighted for samples of the old policy by a ratio that
    carries gradient.

    Equation (8.7)  L = mean_b ratio_b d_b, with ratio_b and d_b as in (8.6)
    Source   importance sampling: the mean over the old policy is KL(policy || reference).
    Shapes   as (8.6).
    Gradient to logprobs: ratio_b (d_b + 1) / B at every True token; the mean of the 1 is 0.
    Limits   at the sampling policy its value is that of k1.
    Raises   ValueError: as (8.6).
    """
    ratio, d = _of_responses(logprobs, old_logprobs, ref_logprobs, response_mask)
    return (ratio * d).mean()


def k1_loss(
    *, logprobs: Tensor, old_logprobs: Tensor, ref_logprobs: Tensor, response_mask: Tensor
) -> Tensor:
    """The mean of k1 over True tokens: as a loss it does nothing on average.

    Equation (8.8)  L = mean_{True t} d_t,  d_t = log pi - log pi_ref
    Source   the mistake is common; see Tang and Munos 2025, arXiv:2506.09477.
    Shapes   as (8.6).
    Gradient to logprobs: 1 / (number of True tokens). Summed over the response its mean under the
             sampling policy is 0, whatever the reference is.
    Limits   its value is right, its gradient is not.
    Raises   ValueError: as (8.6).
    """
    logprobs, _, ref_logprobs = _padded(logprobs, old_logprobs, ref_logprobs, response_mask)
    k1 = kl_k1(logprobs=logprobs, ref_logprobs=ref_logprobs)
    return masked_mean(values=k1, mask=response_mask)


def k2_loss(
    *, logprobs: Tensor, old_logprobs: Tensor, ref_logprobs: Tensor, response_mask: Tensor
) -> Tensor:
    """The mean of k2 over True tokens: right for responses of one token, at the sampling policy.

    Equation (8.9)  L = mean_{True t} d_t^2 / 2
    Source   Schulman 2020, "Approximating KL divergence"; as a loss: see (8.6).
    Shapes   as (8.6).
    Gradient to logprobs: d_t / (number of True tokens).
    Limits   responses of one token, policy = old policy: (8.6).
    Raises   ValueError: as (8.6).
    """
    logprobs, _, ref_logprobs = _padded(logprobs, old_logprobs, ref_logprobs, response_mask)
    k2 = kl_k2(logprobs=logprobs, ref_logprobs=ref_logprobs)
    return masked_mean(values=k2, mask=response_mask)


def k3_loss(
    *, logprobs: Tensor, old_logprobs: Tensor, ref_logprobs: Tensor, response_mask: Tensor
) -> Tensor:
    """The mean of k3 over True tokens: for one token the gradient of KL(reference || policy).

    Equation (8.10) L = mean_{True t} (exp(-d_t) - 1 + d_t)
    Source   Shao et al. 2024, arXiv:2402.03300, equation 4 (GRPO).
    Shapes   as (8.6).
    Gradient to logprobs: (1 - exp(-d_t)) / (number of True tokens).
    Limits   policy equal to the reference: 0, gradient 0. Another fixed point than (8.6).
    Raises   ValueError: as (8.6).
    """
    logprobs, _, ref_logprobs = _padded(logprobs, old_logprobs, ref_logprobs, response_mask)
    k3 = kl_k3(logprobs=logprobs, ref_logprobs=ref_logprobs)
    return masked_mean(values=k3, mask=response_mask)


def weighted_k1_loss(
    *, logprobs: Tensor, old_logprobs: Tensor, ref_logprobs: Tensor, response_mask: Tensor
) -> Tensor:
    """The mean of ratio_t d_t over True tokens: right for responses of one token.

    Equation (8.11) L = mean_{True t} exp(log pi - log pi_old) d_t
    Source   importance sampling, token by token.
    Shapes   as (8.6).
    Gradient to logprobs: ratio_t (d_t + 1) / (number of True tokens).
    Limits   responses of one token: (8.7).
    Raises   ValueError: as (8.6).
    """
    logprobs, old_logprobs, ref_logprobs = _padded(
        logprobs, old_logprobs, ref_logprobs, response_mask
    )
    ratios = token_ratios(logprobs=logprobs, old_logprobs=old_logprobs, response_mask=response_mask)
    k1 = kl_k1(logprobs=logprobs, ref_logprobs=ref_logprobs)
    return masked_mean(values=ratios * k1, mask=response_mask)


def _of_responses(logprobs, old_logprobs, ref_logprobs, response_mask):
    """(ratio [B], d [B]) of whole responses."""
    logprobs, old_logprobs, ref_logprobs = _padded(
        logprobs, old_logprobs, ref_logprobs, response_mask
    )
    log_ratio, d = ((logprobs - other).sum(dim=1) for other in (old_logprobs, ref_logprobs))
    return log_ratio.exp(), d


def _padded(logprobs, old_logprobs, ref_logprobs, response_mask):
    """The three with 0 in the padding, once they have been looked at."""
    data = {"old_logprobs": old_logprobs, "ref_logprobs": ref_logprobs}
    check_batch(response_mask, data=data, logprobs=logprobs)
    return [
        zero_padding(values=x, mask=response_mask) for x in (logprobs, old_logprobs, ref_logprobs)
    ]


class KLLoss(NamedTuple):
    """A form of the KL as a loss, and why it is not to be used; None where it is right."""

    loss: Callable[..., Tensor]
    per_response: bool  # nats per response; otherwise per token
    why_not: str | None = None


ONE_TOKEN = "it leaves out that a token changes the states of those behind it"
KL_LOSSES = {
    "k2_response": KLLoss(k2_response_loss, True),
    "k1_response": KLLoss(k1_response_loss, True),
    "k1": KLLoss(k1_loss, False, "the mean of its gradient is 0: nothing holds the policy"),
    "k2": KLLoss(k2_loss, False, ONE_TOKEN),
    "weighted_k1": KLLoss(weighted_k1_loss, False, ONE_TOKEN),
    "k3": KLLoss(k3_loss, False, "for one token its gradient is that of KL(reference || policy)"),
}
# the forms of the KL in the reward beside k1, and what is wrong with them
KL_REWARDS = {
    "k2": "the policy gradient then minimises the mean of d^2 / 2, not the KL",
    "k3": "the policy gradient then minimises the mean of exp(-d) - 1 + d, whose best policy is "
    "another one; it can run away to NaN",
    "exact": "as data it leaves out how the token chosen here changes this very KL",
}
