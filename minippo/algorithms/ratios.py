"""What PPO's relatives do with the ratio pi / pi_old: whose it is, and how it is held.

    PER_TOKEN        of a token, clipped (grpo, dr_grpo)
    TWO_RANGES       of a token, clipped with a range of its own for each side (dapo)
    PER_RESPONSE     of a response, clipped (rloo)
    GEOMETRIC_MEAN   of a response, to the power of 1 / its length, clipped (gspo)
    WEIGHT           of a token, a weight without gradient, cut above (cispo)

The formulas are in minippo.relatives.ratios.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor

from minippo.algorithms.base import Actions, equal_ranges
from minippo.algorithms.config import PPOConfig
from minippo.logprobs import token_ratios
from minippo.masked import masked_mean, zero_padding
from minippo.relatives.ratios import (
    asymmetric_clipped_surrogate_loss,
    cispo_loss,
    gspo_surrogate_loss,
    sequence_surrogate_loss,
)


def as_they_are(actions: Actions) -> Actions:
    """Each token has a ratio."""
    return actions


def summed(actions: Actions, *, mean: bool = False) -> Actions:
    """Each response has one: of the sums, or the means, of its log-probabilities, [B,1]."""
    mask = actions["response_mask"]
    lengths = mask.sum(dim=1, keepdim=True) if mean else 1
    sums = {
        name: zero_padding(values=actions[name], mask=mask).sum(dim=1, keepdim=True) / lengths
        for name in ("logprobs", "old_logprobs")
    }
    return {**sums, "advantages": actions["advantages"][:, :1], "response_mask": mask[:, :1]}


def two_ranges(config: PPOConfig) -> tuple[float, float]:
    """The ratio is held within 1 - cliprange_low and 1 + cliprange_high."""
    return config.cliprange_low, config.cliprange_high


def clipped_tokens(
    actions: Actions, config: PPOConfig, ranges: Callable[[PPOConfig], tuple[float, float]]
) -> Tensor:
    low, high = ranges(config)
    return asymmetric_clipped_surrogate_loss(**actions, cliprange_low=low, cliprange_high=high)


def clipped_responses(actions: Actions, config: PPOConfig) -> Tensor:
    advantages = actions["advantages"][:, 0]
    return sequence_surrogate_loss(
        **actions | {"advantages": advantages}, cliprange=config.cliprange
    )


def clipped_geometric_means(actions: Actions, config: PPOConfig) -> Tensor:
    advantages = actions["advantages"][:, 0]
    low, high = two_ranges(config)
    return gspo_surrogate_loss(
        **actions | {"advantages": advantages}, cliprange_low=low, cliprange_high=high
    )


def weighted_by_ratios(actions: Actions, config: PPOConfig) -> Tensor:
    return cispo_loss(**actions, ratio_max=config.ratio_max)


@dataclass(frozen=True)
class Ratio:
    """What is done with pi / pi_old."""

    loss: Callable[[Actions, PPOConfig], Tensor]
    fields: tuple[str, ...]  # the settings that it reads
    ranges: (
        Callable[[PPOConfig], tuple[float, float]] | None
    )  # how far below and above 1 it is held
    of: Callable[[Actions], Actions] = as_they_are  # what has a ratio
    is_of_response: bool = False  # the loss is a sum over a response, not a mean over its tokens


PER_TOKEN = Ratio(partial(clipped_tokens, ranges=equal_ranges), ("cliprange",), equal_ranges)
TWO_RANGES = Ratio(
    partial(clipped_tokens, ranges=two_ranges), ("cliprange_low", "cliprange_high"), two_ranges
)
PER_RESPONSE = Ratio(clipped_responses, ("cliprange",), equal_ranges, summed, is_of_response=True)
GEOMETRIC_MEAN = Ratio(
    clipped_geometric_means,
    ("cliprange_low", "cliprange_high"),
    two_ranges,
    partial(summed, mean=True),
)
WEIGHT = Ratio(weighted_by_ratios, ("ratio_max",), None)


@torch.no_grad()
def share_held(actions: Actions, ratio: Ratio, config: PPOConfig) -> Tensor:
    """The share of the ratios at which the clip, or the cut, acts."""
    found = {name: x for name, x in actions.items() if name != "advantages"}
    ratios, advantages = token_ratios(**found), actions["advantages"]
    if ratio.ranges is None:
        held = ratios > (config.ratio_max if "ratio_max" in ratio.fields else math.inf)
    else:
        low, high = ratio.ranges(config)
        held = torch.clamp(ratios, 1 - low, 1 + high) * advantages < ratios * advantages
    return masked_mean(values=held.to(ratios.dtype), mask=actions["response_mask"])
