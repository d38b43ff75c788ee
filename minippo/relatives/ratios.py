"""Surrogates of PPO's relatives: other ways to hold a ratio.

Where we are. Stage 6 clips the ratio of each token where going further would pay.

The problem. Where the advantage is below 0 and the ratio has grown, (6.2) is not clipped: the
gradient brings the ratio back. On samples that are far from the policy it can be very large.

The idea. A bound of its own for that case.

What is still wrong. Beyond the bound nothing brings the ratio back.
"""

import torch
from torch import Tensor

from minippo.logprobs import mean_weighted_ratio, token_ratios
from minippo.ppo import ratios_within
from minippo.shapes import check_batch, check_range


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
