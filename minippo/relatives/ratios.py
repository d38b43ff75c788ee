"""Surrogates of PPO's relatives: other ways to hold a ratio.

Where we are. Stage 6 takes one ratio per token and clips it, up and down by the same range, where
going further would pay.

The problem. Each half of that can be questioned. The score belongs to the response, and so may the
ratio. A token of probability 0.01 loses its gradient at 0.012, one of 0.9 never. A clipped token
teaches nothing at all. Where the advantage is below 0 and the ratio has grown, nothing is clipped,
and far from the policy the gradient can be very large. And the sampler may not be quite the policy
that the ratio is taken to.

The ideas, one each.

    sequence        the ratio of the whole response, clipped: what the theory asks for, and noisy
    gspo            its geometric mean over the tokens: of the same size for all lengths
    asymmetric      two ranges, the upper one wider (clip-higher, DAPO): room for rare tokens
    dual            a floor under the term of bad tokens with large ratios
    cispo           the ratio, cut above, is a weight without gradient: no token loses its gradient
    truncated       a weight for samples of another policy, cut above

What is still wrong. A ratio per token does not correct for the states, the ratio of a response has
a variance that grows with its length, its geometric mean is neither; whatever cuts trades bias for
variance.
"""

import math

import torch
from torch import Tensor

from minippo.logprobs import mean_weighted_ratio, token_ratios, with_value
from minippo.masked import zero_padding
from minippo.ppo import ratios_within
from minippo.shapes import check_batch, check_data, check_range, check_shapes


def sequence_surrogate_loss(
    *,
    logprobs: Tensor,
    old_logprobs: Tensor,
    advantages: Tensor,
    response_mask: Tensor,
    cliprange: float,
) -> Tensor:
    """PPO's clipped loss with the response as one action; the mean over rows.

    Equation (9.6)  L = -mean_b min(ratio_b A_b, clip(ratio_b) A_b),
                    ratio_b = exp sum_{True t} (log pi - log pi_old)
    Source   Ahmadian et al. 2024, arXiv:2402.14740 (the response as one action), with (6.2).
    Shapes   logprobs, old_logprobs [B,T] float; advantages [B]; response_mask [B,T] bool -> scalar.
    Gradient to logprobs: -ratio_b A_b / B at every True token of a row that is not clipped; 0
             elsewhere. The rest is data.
    Limits   rows of one token: (6.2). theta = theta_old: the gradient of (1.2), weights A_b.
             cliprange=inf: without bias for whole responses. Never NaN: see (0.18).
    Raises   ValueError: shapes differ, old_logprobs or advantages require grad, a bad mask,
             cliprange <= 0.
    """
    check_range("(0, inf]", cliprange=cliprange)
    log_ratios = _row_log_ratios(logprobs, old_logprobs, advantages, response_mask)
    return _clipped_rows(log_ratios.sum(dim=1), advantages, cliprange, cliprange)


def gspo_surrogate_loss(
    *,
    logprobs: Tensor,
    old_logprobs: Tensor,
    advantages: Tensor,
    response_mask: Tensor,
    cliprange_low: float,
    cliprange_high: float,
) -> Tensor:
    """The same with the geometric mean of the tokens' ratios; the mean over rows.

    Equation (9.7)  L = -mean_b min(s_b A_b, clip(s_b) A_b),
                    s_b = exp mean_{True t} (log pi - log pi_old),
                    clip(s) = s held within 1 - cliprange_low and 1 + cliprange_high
    Source   Zheng et al. 2025, arXiv:2507.18071 (GSPO; ranges of 3e-4 and 4e-4).
    Shapes   as (9.6).
    Gradient to logprobs: -s_b A_b / (B * True tokens of the row) where not clipped, 0 elsewhere.
    Limits   rows of one token and equal ranges: (6.2). theta = theta_old: the gradient of a mean
             per response (8.2). Never NaN: see (0.18).
    Raises   ValueError: as (9.6); cliprange_low or cliprange_high <= 0.
    """
    check_range("(0, inf]", cliprange_low=cliprange_low, cliprange_high=cliprange_high)
    log_ratios = _row_log_ratios(logprobs, old_logprobs, advantages, response_mask)
    means = log_ratios.sum(dim=1) / response_mask.sum(dim=1)
    return _clipped_rows(means, advantages, cliprange_low, cliprange_high)


def asymmetric_clipped_surrogate_loss(
    *,
    logprobs: Tensor,
    old_logprobs: Tensor,
    advantages: Tensor,
    response_mask: Tensor,
    cliprange_low: float,
    cliprange_high: float,
) -> Tensor:
    """PPO's clipped loss with a range of its own for each side; the mean over True tokens.

    Equation (9.8)  (6.2) with clip(ratio) = ratio held within 1 - cliprange_low and 1 +
                    cliprange_high
    Source   Yu et al. 2025, arXiv:2503.14476 (DAPO, clip-higher; 0.2 and 0.28).
    Shapes   logprobs, old_logprobs, advantages [B,T] float; response_mask [B,T] bool -> scalar.
    Gradient to logprobs: that of (6.2), each side at its own range. The rest is data.
    Limits   equal ranges: (6.2). Never NaN: see (0.18).
    Raises   ValueError: as (6.2); cliprange_low or cliprange_high <= 0.
    """
    check_range("(0, inf]", cliprange_low=cliprange_low, cliprange_high=cliprange_high)
    data = {"advantages": advantages, "old_logprobs": old_logprobs}
    check_batch(response_mask, data=data, logprobs=logprobs)
    log_ratios = zero_padding(values=logprobs - old_logprobs, mask=response_mask)
    return _clipped(log_ratios, advantages, response_mask, cliprange_low, cliprange_high)


def dual_clipped_surrogate_loss(
    *,
    logprobs: Tensor,
    old_logprobs: Tensor,
    advantages: Tensor,
    response_mask: Tensor,
    cliprange: float,
    dual_clip: float,
) -> Tensor:
    """PPO's clipped loss with a floor under the term of bad tokens; the mean over True tokens.

    Equation (8.12) L = -mean_{True t} (max(m_t, dual_clip A_t) where A_t < 0, m_t elsewhere),
                    m_t = min(ratio_t A_t, clip(ratio_t) A_t) of (6.2)
    Source   Ye et al. 2020, arXiv:1912.09729, section 3 (dual-clip PPO).
    Shapes   logprobs, old_logprobs, advantages [B,T] float; response_mask [B,T] bool -> scalar.
    Gradient to logprobs: that of (6.2), but 0 where A < 0 and ratio > dual_clip. The rest is data.
    Limits   dual_clip=inf: (6.2). Never NaN: see (6.2).
    Raises   ValueError: as (6.2), and dual_clip outside (1 + cliprange, inf].
    """
    check_range(f"({1 + cliprange}, inf]", dual_clip=dual_clip)
    check_batch(response_mask, data={"advantages": advantages}, logprobs=logprobs)
    ratios = token_ratios(
        logprobs=logprobs, old_logprobs=old_logprobs, response_mask=response_mask
    ).detach()
    clipped_ratios = ratios_within(ratios=ratios, cliprange=cliprange)
    flat = clipped_ratios * advantages < ratios * advantages
    far = (advantages < 0) & (ratios > dual_clip)
    bound = torch.where(far, torch.full_like(ratios, dual_clip), clipped_ratios)
    return -mean_weighted_ratio(
        logprobs=torch.where(flat | far, old_logprobs, logprobs),  # a ratio of 1
        old_logprobs=old_logprobs,
        weights=torch.where(flat | far, bound * advantages, advantages),
        response_mask=response_mask,
    )


def cispo_loss(
    *,
    logprobs: Tensor,
    old_logprobs: Tensor,
    advantages: Tensor,
    response_mask: Tensor,
    ratio_max: float,
) -> Tensor:
    """The policy gradient's loss, weighted with a ratio that is cut above; the mean over True
    tokens.

    Equation (9.9)  L = -mean_{True t} w_t A_t log pi(a_t|s_t),  w_t = min(ratio_t, ratio_max) as
                    data
    Source   MiniMax 2025, arXiv:2506.13585 (CISPO, there cut on both sides in its notation).
    Shapes   logprobs, old_logprobs, advantages [B,T] float; response_mask [B,T] bool -> scalar.
    Gradient to logprobs: -w_t A_t / (number of True tokens): never 0 because of the cut. The rest
             is data.
    Limits   ratio_max=inf: the gradient of (6.1). theta = theta_old, ratio_max >= 1: that of (6.1)
             and (6.2). Its value is no surrogate of anything. Never NaN.
    Raises   ValueError: as (6.1), and ratio_max outside (0, inf].
    """
    check_range("(0, inf]", ratio_max=ratio_max)
    data = {"old_logprobs": old_logprobs, "advantages": advantages}
    check_batch(response_mask, data=data, logprobs=logprobs)
    logprobs = zero_padding(values=logprobs, mask=response_mask)
    log_ratios = logprobs - zero_padding(values=old_logprobs, mask=response_mask)
    cut = log_ratios > math.log(ratio_max)
    weights = torch.where(cut, ratio_max * advantages, advantages)
    # a ratio of 1 with the gradient of one, so that its product with the weight has what is wanted
    held = torch.where(cut, logprobs - logprobs.detach(), log_ratios)
    likelihood = torch.where(log_ratios == -torch.inf, 0.0, logprobs).detach()  # 0 * log 0 is 0
    product = weights * likelihood
    # a product that is too large or too small is made from the logarithms of its factors
    fits = product.isfinite() & (product.abs() >= torch.finfo(product.dtype).tiny)
    sizes = torch.where(cut, math.log(ratio_max), log_ratios) + likelihood.abs().log()
    of_value = torch.where(fits, product, advantages * likelihood.sign())
    gradient, value = (
        mean_weighted_ratio(
            logprobs=x, old_logprobs=torch.zeros_like(x), weights=w, response_mask=response_mask
        )
        for x, w in ((held, weights), (torch.where(fits, held, sizes).detach(), of_value))
    )
    return -with_value(scalar=gradient, value=value)


def truncated_importance_weights(
    *,
    old_logprobs: Tensor,
    sampler_logprobs: Tensor,
    response_mask: Tensor,
    weight_max: float,
    level: str = "token",
) -> Tensor:
    """What samples of another policy count for the old one, cut above.

    Equation (9.10) w_t = min(pi_old(a_t|s_t) / pi_sampler(a_t|s_t), weight_max), or the same of the
                    product over the True tokens at each of them
    Source   Ionides 2008, Truncated importance sampling; between sampler and learner: Yao et al.
             2025, Your efficient RL framework secretly brings you off-policy RL training.
    Shapes   old_logprobs, sampler_logprobs [B,T] float; response_mask [B,T] bool; level "token" or
             "response" -> [B,T]; 0 where masked.
    Gradient none: it is data.
    Limits   weight_max=inf: the plain weights. The same policy twice: 1, or weight_max where that
             is less. Rows of one token: both levels are the same.
    Raises   ValueError: shapes differ, an argument requires grad, a bad mask, weight_max <= 0,
             another level.
    """
    check_range("(0, inf]", weight_max=weight_max)
    if level not in ("token", "response"):
        raise ValueError(f"level: got {level!r}, wanted token or response")
    data = {"old_logprobs": old_logprobs, "sampler_logprobs": sampler_logprobs}
    check_batch(response_mask, data=data)
    log_weights = zero_padding(values=old_logprobs - sampler_logprobs, mask=response_mask)
    if level == "response":
        log_weights = log_weights.sum(dim=1, keepdim=True).expand_as(log_weights)
    weights = torch.clamp(log_weights.exp(), max=_fitting(weight_max, log_weights))
    return zero_padding(values=weights, mask=response_mask)


def _row_log_ratios(logprobs, old_logprobs, advantages, response_mask):
    """Log-ratios [B,T], 0 in the padding, where an advantage belongs to a row."""
    check_batch(response_mask, data={"old_logprobs": old_logprobs}, logprobs=logprobs)
    check_shapes(logprobs=(logprobs, "B T"), advantages=(advantages, "B"))
    check_data(advantages=advantages)
    return zero_padding(values=logprobs - old_logprobs, mask=response_mask)


def _clipped_rows(log_ratios, advantages, low, high):
    """The same for one action per row: [B] tensors."""
    slots = log_ratios.unsqueeze(1)
    mask = torch.ones_like(slots, dtype=torch.bool)
    return _clipped(slots, advantages.unsqueeze(1), mask, low, high)


def _clipped(log_ratios, advantages, response_mask, low, high):
    """-mean over True of min(ratio A, clip(ratio) A), [B,T] tensors."""
    ratios = log_ratios.detach().exp()
    clipped_ratios = torch.clamp(ratios, -_fitting(low - 1, ratios), _fitting(1 + high, ratios))
    flat = clipped_ratios * advantages < ratios * advantages  # the minimum is a constant there
    return -mean_weighted_ratio(
        logprobs=torch.where(flat, 0.0, log_ratios),  # a ratio of 1
        old_logprobs=torch.zeros_like(log_ratios),
        weights=torch.where(flat, clipped_ratios * advantages, advantages),
        response_mask=response_mask,
    )


def _fitting(bound, tensor):
    """A bound that the dtype of the tensor cannot hold is none."""
    return bound if bound <= torch.finfo(tensor.dtype).max else math.inf
