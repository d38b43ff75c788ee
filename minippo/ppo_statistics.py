"""What is watched of PPO while it trains: the ratios of the policy, the errors of the critic.

Where we are. The losses of stage 6 are in ppo. They say what is minimised, and nothing of how far
the policy has gone or of what the critic knows.

The problem. Nothing in PPO ensures that the policy stays near the one that sampled, so it has to be
looked at: a run that goes wrong shows it here first.

The idea. The ratios say how far the policy has moved: their mean, their spread, an approximate KL,
and the share of tokens at which the clip holds. The explained variance says what the critic's
values are worth as a baseline.

Nothing here carries gradient, and all means are over the True tokens. The names are the metrics' in
docs/metrics.md.

What is still wrong. These are numbers of one batch, at the states that the old policy reached.
"""

import torch
from torch import Tensor

from minippo.logprobs import token_ratios
from minippo.masked import MINIMUM_STD, masked_mean, masked_variance, zero_padding
from minippo.ppo import ratios_within, value_errors
from minippo.shapes import check_batch


@torch.no_grad()
def ratio_statistics(
    *,
    logprobs: Tensor,
    old_logprobs: Tensor,
    advantages: Tensor,
    response_mask: Tensor,
    cliprange: float,
) -> dict[str, Tensor]:
    """What the ratios of a batch look like, as scalars that a log can read later.

    Equation (6.6)  policy/approxkl_avg  = 1/2 mean (log ratio)^2
                    policy/clipfrac_avg  = share of tokens with clip(ratio) A < ratio A
                    val/ratio            = mean ratio;  val/ratio_var = mean (ratio - val/ratio)^2
                    ratio_max_deviation  = max |ratio - 1|
    Source   the names are Hugging Face TRL's, but for the last; here over True tokens only.
    Shapes   logprobs, old_logprobs, advantages [B,T] float; response_mask [B,T] bool -> scalars.
    Gradient none: it runs without a graph.
    Limits   theta = theta_old: 0, 0, 1, 0, 0. A token with advantage 0 never counts as clipped.
             approxkl is the KL to second order.
    Raises   ValueError: shapes differ, old_logprobs or advantages require grad, a bad mask,
             cliprange <= 0.
    """
    check_batch(response_mask, data={"advantages": advantages}, logprobs=logprobs)
    ratios = token_ratios(logprobs=logprobs, old_logprobs=old_logprobs, response_mask=response_mask)
    clipped_ratios = ratios_within(ratios=ratios, cliprange=cliprange)
    clipped = clipped_ratios * advantages < ratios * advantages
    log_ratios = zero_padding(values=logprobs - old_logprobs, mask=response_mask)
    deviations = zero_padding(values=(ratios - 1).abs(), mask=response_mask)
    return {
        "policy/approxkl_avg": 0.5 * masked_mean(values=log_ratios**2, mask=response_mask),
        "policy/clipfrac_avg": masked_mean(values=clipped.to(ratios.dtype), mask=response_mask),
        "val/ratio": masked_mean(values=ratios, mask=response_mask),
        "val/ratio_var": masked_variance(values=ratios, mask=response_mask),
        "ratio_max_deviation": deviations.max(),
    }


def ppo_diagnostics(
    *,
    logprobs: Tensor,
    old_logprobs: Tensor,
    advantages: Tensor,
    response_mask: Tensor,
    cliprange: float,
) -> dict[str, float]:
    """ratio_statistics, (6.6), as numbers read from the device.

    Shapes   as there -> dict of floats.
    Raises   ValueError: as there.
    """
    found = ratio_statistics(
        logprobs=logprobs,
        old_logprobs=old_logprobs,
        advantages=advantages,
        response_mask=response_mask,
        cliprange=cliprange,
    )
    return {name: value.item() for name, value in found.items()}


@torch.no_grad()
def explained_variance(*, values: Tensor, value_targets: Tensor, response_mask: Tensor) -> float:
    """How much of what differs between the targets the critic has said, as a number for a log.

    Equation (6.7)  1 - Var(y - V) / Var(y),  y = value_targets
    Source   the code of OpenAI baselines (explained_variance).
    Shapes   values, value_targets [B,T] float; response_mask [B,T] bool -> a float.
    Gradient none: it runs without a graph.
    Limits   a critic that is right, but for a constant: 1. A constant critic: 0. Worse than that:
             below 0. Targets with a standard deviation below 1e-8 leave nothing to explain: 0.0,
             not NaN.
    Raises   ValueError: shapes differ, value_targets requires grad, a bad mask.
    """
    check_batch(response_mask, data={"value_targets": value_targets}, values=values)
    errors = zero_padding(values=values - value_targets, mask=response_mask)
    target_variance = masked_variance(values=value_targets, mask=response_mask).item()
    error_variance = masked_variance(values=errors, mask=response_mask).item()
    return 0.0 if target_variance < MINIMUM_STD**2 else 1 - error_variance / target_variance


@torch.no_grad()
def clipped_value_fraction(
    *,
    values: Tensor,
    old_values: Tensor,
    value_targets: Tensor,
    response_mask: Tensor,
    cliprange_value: float,
) -> Tensor:
    """The share of tokens at which the clipped error of the critic is the larger one.

    Equation (6.8)  share of True tokens with (V_clip - y)^2 > (V - y)^2, V_clip as in (6.5)
    Source   the code of OpenAI baselines and of Hugging Face TRL, there also over the padding.
    Shapes   values, old_values, value_targets [B,T] float; response_mask [B,T] bool -> scalar.
    Gradient none: it runs without a graph.
    Limits   cliprange_value=inf, or values = old_values: 0.
    Raises   ValueError: shapes differ, old_values or value_targets require grad, a bad mask,
             cliprange_value <= 0.
    """
    errors, clipped_errors = value_errors(
        values=values,
        old_values=old_values,
        value_targets=value_targets,
        response_mask=response_mask,
        cliprange_value=cliprange_value,
    )
    clipped = (clipped_errors**2 > errors**2).to(errors.dtype)
    return masked_mean(values=clipped, mask=response_mask)
