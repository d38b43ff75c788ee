"""Stage 6, proximal policy optimisation: several cheap steps on one batch, without going far.

What stage 5 leaves. Samples are expensive, and TRPO takes one step from each batch; the step needs
second derivatives and a line search.

The change. Keep the surrogate -mean ratio_t A_t, with ratio_t = pi(a_t|s_t) / pi_old(a_t|s_t), and
take ordinary gradient steps on it: several passes of minibatches over one batch, with pi_old the
policy that sampled it. The ratio corrects for the changed probability of the token, not of the
state it is in, and nothing in the surrogate stops it from growing. Three answers:

    unclipped       none: more steps go further, until the surrogate no longer says anything about J
    KL-penalised    a price on KL(pi_old || pi), fixed or adapted to a target
    clipped         no reward for a ratio beyond 1 +- cliprange, with cliprange about 0.2

One iteration:

    1. sample responses with pi_old; keep old_logprobs, and the critic's old_values
    2. rewards, gae_advantages and value_targets (stage 4); often the advantages are whitened, so
       that one learning rate suits all scales of reward
    3. for a few passes (3 to 10), for each minibatch: one optimiser step on
       clipped_surrogate_loss + coefficient * clipped_value_loss
    4. throw the batch away; the policy is then the next pi_old

The clip, in four cases. An advantage above 0 wants the ratio to rise, one below 0 wants it to fall.

    A > 0, ratio > 1 + cliprange     far enough already: the loss is flat, no gradient
    A < 0, ratio < 1 - cliprange     the same, downwards: no gradient
    A > 0, ratio < 1 - cliprange     it went the wrong way: the ordinary gradient brings it back
    A < 0, ratio > 1 + cliprange     the same: the ordinary gradient

That is what the minimum in (6.2) does; clipping without it would cut the gradient in the last two
cases too. The clip is not a wall: other tokens, which share the parameters, can still carry a ratio
out of the range.

At the first step of a batch every ratio is 1: the gradient is that of stage 4, up to the factor of
(6.1). The clip matters from the second step on.

Two KLs. The one here is to pi_old, the policy of a moment ago, and limits a step. RLHF has another,
to a frozen reference policy, which is part of the reward (shaped_reward) and limits the whole
training.

All losses are means over the True tokens of the minibatch, and all are minimised.

What is still wrong. Nothing ensures that the policy stays near, and no theorem says that J rises:
watch the ratios and the KL (ppo_statistics).
"""

import torch
from torch import Tensor

from minippo.logprobs import mean_weighted_ratio, token_ratios
from minippo.masked import masked_mean, zero_padding
from minippo.shapes import check_batch, check_range
from minippo.trpo import sampled_kl, surrogate_loss

KL_COEF_MIN, KL_COEF_MAX = 1e-10, 1e10  # beyond them a penalty is nothing, or everything


def unclipped_surrogate_loss(
    *, logprobs: Tensor, old_logprobs: Tensor, advantages: Tensor, response_mask: Tensor
) -> Tensor:
    """The policy loss with nothing to hold it: surrogate_loss of stage 5, by its name in PPO.

    Equation (6.1)  L = -mean_{True t} ratio_t A_t,  ratio_t = exp(log pi - log pi_old)
    Source   Schulman et al. 2017, arXiv:1707.06347, equation 6 (L^CPI, there maximised).
    Shapes   logprobs, old_logprobs, advantages [B,T] float; response_mask [B,T] bool -> scalar.
    Gradient to logprobs: -ratio_t A_t / (number of real tokens), 0 where masked. The rest is data.
    Limits   theta = theta_old: that of policy_gradient_loss, times B / (number of real tokens).
    Raises   ValueError: shapes differ, old_logprobs or advantages require grad, a bad mask.
    """
    return surrogate_loss(
        logprobs=logprobs,
        old_logprobs=old_logprobs,
        advantages=advantages,
        response_mask=response_mask,
    )


def clipped_surrogate_by_hand(
    *,
    logprobs: Tensor,
    old_logprobs: Tensor,
    advantages: Tensor,
    response_mask: Tensor,
    cliprange: float,
) -> Tensor:
    """PPO's policy loss as it is quoted everywhere, to be read; clipped_surrogate_loss below is the
    same, and also right where a ratio overflows.

    Equation the one of (6.2), line by line.
    Source   Schulman et al. 2017, arXiv:1707.06347, equation 7 (L^CLIP, there maximised).
    Shapes   as below; N True tokens.
    Gradient to logprobs: as below.
    Limits   NaN where a ratio that is not finite meets an advantage or a gradient of 0.
    Raises   nothing: what comes in is not looked at.
    """
    ratios = (logprobs - old_logprobs)[response_mask].exp()  # [N]
    clipped_ratios = ratios.clamp(1 - cliprange, 1 + cliprange)
    advantages = advantages[response_mask]
    return -torch.minimum(ratios * advantages, clipped_ratios * advantages).mean()


def clipped_surrogate_loss(
    *,
    logprobs: Tensor,
    old_logprobs: Tensor,
    advantages: Tensor,
    response_mask: Tensor,
    cliprange: float,
) -> Tensor:
    """PPO's policy loss; the mean over True tokens.

    Equation (6.2)  L = -mean_{True t} min(ratio_t A_t, clip(ratio_t) A_t)
                    clip(ratio) = ratio held within 1 - cliprange and 1 + cliprange
    Source   Schulman et al. 2017, arXiv:1707.06347, equation 7 (L^CLIP, there maximised).
    Shapes   logprobs, old_logprobs, advantages [B,T] float; response_mask [B,T] bool -> scalar.
    Gradient to logprobs: that of (6.1), but 0 where A > 0 and ratio > 1 + cliprange, or A < 0 and
             ratio < 1 - cliprange; exactly 0 where masked. The rest is data.
    Limits   cliprange=inf: (6.1). Never below (6.1) as a loss. The ratio itself is not bounded,
             only the reward for it. Never NaN: see (0.18).
    Raises   ValueError: shapes differ, old_logprobs or advantages require grad, a bad mask,
             cliprange <= 0.
    """
    check_batch(response_mask, data={"advantages": advantages}, logprobs=logprobs)
    ratios = token_ratios(
        logprobs=logprobs, old_logprobs=old_logprobs, response_mask=response_mask
    ).detach()
    clipped_ratios = ratios_within(ratios=ratios, cliprange=cliprange)
    flat = clipped_ratios * advantages < ratios * advantages  # the minimum is a constant there
    return -mean_weighted_ratio(
        logprobs=torch.where(flat, old_logprobs, logprobs),  # a ratio of 1
        old_logprobs=old_logprobs,
        weights=torch.where(flat, clipped_ratios * advantages, advantages),
        response_mask=response_mask,
    )


def ratios_within(*, ratios: Tensor, cliprange: float) -> Tensor:
    """The ratios held within 1 - cliprange and 1 + cliprange: clip(ratio) in (6.2).

    Shapes   ratios [B,T] float (or any shape) -> the same; elementwise, the caller masks.
    Gradient to ratios: 1 within the range and on its borders, 0 outside.
    Limits   a cliprange that the dtype cannot hold, inf among them: the ratios.
    Raises   ValueError: cliprange <= 0.
    """
    check_range("(0, inf]", cliprange=cliprange)
    if cliprange > torch.finfo(ratios.dtype).max:
        return ratios
    return torch.clamp(ratios, 1 - cliprange, 1 + cliprange)


def kl_penalised_surrogate_loss(
    *,
    logprobs: Tensor,
    old_logprobs: Tensor,
    advantages: Tensor,
    response_mask: Tensor,
    kl_old_coef: float,
) -> Tensor:
    """The surrogate with a price on leaving the old policy; the mean over True tokens.

    Equation (6.3)  L = mean_{True t} ( -ratio_t A_t + kl_old_coef (log pi_old - log pi) )
    Source   Schulman et al. 2017, arXiv:1707.06347, equation 8 (L^KLPEN, there maximised, with the
             exact KL).
    Shapes   logprobs, old_logprobs, advantages [B,T] float; response_mask [B,T] bool -> scalar.
    Gradient to logprobs: -(ratio_t A_t + kl_old_coef) / (number of real tokens); 0 where masked.
             The rest is data. The penalty raises every token that the old policy chose, which holds
             the policy near to it. The tokens are samples of the old policy, so with responses of
             one length the second part is on average kl_old_coef times the gradient of KL(old ||
             new).
    Limits   kl_old_coef=0: (6.1). A single sampled penalty can be negative. Never NaN; see (6.1).
    Raises   ValueError: shapes differ, old_logprobs or advantages require grad, a bad mask,
             kl_old_coef outside [0, inf).
    """
    check_range("[0, inf)", kl_old_coef=kl_old_coef)
    surrogate = surrogate_loss(
        logprobs=logprobs,
        old_logprobs=old_logprobs,
        advantages=advantages,
        response_mask=response_mask,
    )
    penalty = kl_old_coef * sampled_kl(
        logprobs=logprobs, old_logprobs=old_logprobs, response_mask=response_mask
    )
    # where both overflow, with different signs, the exponential has outgrown the line
    return torch.where(surrogate.isinf(), surrogate, surrogate + penalty)


def adapt_kl_coef(*, kl_coef: float, kl: float, target: float) -> float:
    """The next coefficient of the KL penalty, after an update that moved the policy by `kl`.

    Equation (6.4)  kl > 1.5 target: 2 kl_coef;  kl < target / 1.5: kl_coef / 2;  otherwise kl_coef
                    (kl_old_coef of (6.3) is the coefficient that it is used for here)
    Source   Schulman et al. 2017, arXiv:1707.06347, section 4.
    Shapes   three numbers -> one number.
    Gradient none: these are plain numbers.
    Limits   unchanged on both borders of the band, and beyond 1e-10 and 1e10.
    Raises   ValueError: kl_coef or target outside (0, inf), kl is NaN.
    """
    check_range("(0, inf)", kl_coef=kl_coef, target=target)
    check_range("[-inf, inf]", kl=kl)
    if kl > 1.5 * target:
        return max(kl_coef, min(kl_coef * 2, KL_COEF_MAX))
    if kl < target / 1.5:
        return min(kl_coef, max(kl_coef / 2, KL_COEF_MIN))
    return kl_coef


def clipped_value_loss(
    *,
    values: Tensor,
    old_values: Tensor,
    value_targets: Tensor,
    response_mask: Tensor,
    cliprange_value: float,
) -> Tensor:
    """Squared error of a critic that gains nothing by moving far; the mean over True tokens.

    Equation (6.5)  L = 1/2 mean_{True t} max((V - y)^2, (V_clip - y)^2),  y = value_targets
                    V_clip = V held within V_old - cliprange_value and V_old + cliprange_value
    Source   OpenAI baselines (ppo2), not the paper: see Engstrom et al. 2020, arXiv:2005.12729.
    Shapes   values, old_values, value_targets [B,T] float; response_mask [B,T] bool -> scalar.
    Gradient to values: that of the plain value loss (3.2) of baseline, but 0 where the clipped
             error is the larger one, which happens only outside the range; exactly 0 where masked.
             The rest is data.
    Limits   cliprange_value=inf: the plain value loss. Never below it. old_values are those of the
             critic when the batch was sampled, and cliprange_value is in units of the reward.
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
    return 0.5 * masked_mean(values=torch.maximum(errors**2, clipped_errors**2), mask=response_mask)


def value_errors(
    *,
    values: Tensor,
    old_values: Tensor,
    value_targets: Tensor,
    response_mask: Tensor,
    cliprange_value: float,
) -> tuple[Tensor, Tensor]:
    """What a critic is off by, plain and clipped: V - y and V_clip - y of (6.5).

    Shapes   values, old_values, value_targets [B,T] float; response_mask [B,T] bool -> two [B,T].
    Gradient to values: 1, and of V_clip - y 0 outside the range; exactly 0 where masked. The rest
             is data.
    Limits   cliprange_value=inf, or values = old_values: both the same. 0 where masked.
    Raises   ValueError: shapes differ, old_values or value_targets require grad, a bad mask,
             cliprange_value <= 0.
    """
    check_range("(0, inf]", cliprange_value=cliprange_value)
    data = {"old_values": old_values, "value_targets": value_targets}
    check_batch(response_mask, data=data, values=values)
    values, old_values, targets = (
        zero_padding(values=x, mask=response_mask) for x in (values, old_values, value_targets)
    )
    # old + clamp(values - old) would be off by a rounding inside the range, and look clipped
    clipped_values = torch.clamp(values, old_values - cliprange_value, old_values + cliprange_value)
    return values - targets, clipped_values - targets
