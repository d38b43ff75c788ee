"""Exercise 11, `clipped_loss`: answers as people write them, with the names of the mistakes."""

import torch


def max_of_losses(logprobs, old_logprobs, advantages, response_mask, cliprange):
    ratio = (logprobs - old_logprobs).exp()
    losses = torch.max(
        -advantages * ratio, -advantages * torch.clamp(ratio, 1.0 - cliprange, 1.0 + cliprange)
    )
    return (losses * response_mask).sum() / response_mask.sum()


def with_a_loop(logprobs, old_logprobs, advantages, response_mask, cliprange):
    terms = []
    for b, t in response_mask.nonzero().tolist():
        ratio, A = torch.exp(logprobs[b, t] - old_logprobs[b, t]), advantages[b, t]
        far_enough = ratio > 1 + cliprange if A > 0 else ratio < 1 - cliprange
        border = 1 + cliprange if A > 0 else 1 - cliprange
        terms.append(border * A + 0 * ratio if far_enough else ratio * A)
    return -torch.stack(terms).mean()


def in_float32(logprobs, old_logprobs, advantages, response_mask, cliprange):
    ratio = torch.exp(logprobs.float() - old_logprobs.float())[response_mask]
    A = advantages.float()[response_mask]
    return -torch.minimum(ratio * A, ratio.clip(1 - cliprange, 1 + cliprange) * A).mean()


def max_of_objectives(logprobs, old_logprobs, advantages, response_mask, cliprange):
    ratio = (logprobs - old_logprobs).exp()
    return -torch.max(ratio * advantages, ratio.clamp(1 - cliprange, 1 + cliprange) * advantages)[
        response_mask
    ].mean()


def no_min(logprobs, old_logprobs, advantages, response_mask, cliprange):
    ratio = (logprobs - old_logprobs).exp().clamp(1 - cliprange, 1 + cliprange)
    return -(ratio * advantages * response_mask).sum() / response_mask.sum()


def no_minus(logprobs, old_logprobs, advantages, response_mask, cliprange):
    return -max_of_losses(logprobs, old_logprobs, advantages, response_mask, cliprange)


def no_mask(logprobs, old_logprobs, advantages, response_mask, cliprange):
    ratio = (logprobs - old_logprobs).exp()
    return torch.max(
        -advantages * ratio, -advantages * ratio.clamp(1 - cliprange, 1 + cliprange)
    ).mean()


def masked_then_mean(logprobs, old_logprobs, advantages, response_mask, cliprange):
    ratio = (logprobs - old_logprobs).exp()
    return (
        torch.max(-advantages * ratio, -advantages * ratio.clamp(1 - cliprange, 1 + cliprange))
        * response_mask
    ).mean()


def row_means(logprobs, old_logprobs, advantages, response_mask, cliprange):
    ratio = (logprobs - old_logprobs).exp()
    losses = (
        torch.max(-advantages * ratio, -advantages * ratio.clamp(1 - cliprange, 1 + cliprange))
        * response_mask
    )
    return (losses.sum(1) / response_mask.sum(1)).mean()


def inverted(logprobs, old_logprobs, advantages, response_mask, cliprange):
    return max_of_losses(old_logprobs, logprobs, advantages, response_mask, cliprange)


def quotient_of_logs(logprobs, old_logprobs, advantages, response_mask, cliprange):
    ratio = logprobs / old_logprobs
    losses = torch.max(-advantages * ratio, -advantages * ratio.clamp(1 - cliprange, 1 + cliprange))
    return losses[response_mask].mean()


def around_zero(logprobs, old_logprobs, advantages, response_mask, cliprange):
    ratio = (logprobs - old_logprobs).exp()
    return -torch.min(ratio * advantages, ratio.clamp(-cliprange, cliprange) * advantages)[
        response_mask
    ].mean()


def total(logprobs, old_logprobs, advantages, response_mask, cliprange):
    return (
        max_of_losses(logprobs, old_logprobs, advantages, response_mask, cliprange)
        * response_mask.sum()
    )


def min_of_ratios(logprobs, old_logprobs, advantages, response_mask, cliprange):
    ratio = (logprobs - old_logprobs)[response_mask].exp()
    return -(
        torch.min(ratio, ratio.clamp(1 - cliprange, 1 + cliprange)) * advantages[response_mask]
    ).mean()


def sums_of_rows(logprobs, old_logprobs, advantages, response_mask, cliprange):
    return total(logprobs, old_logprobs, advantages, response_mask, cliprange) / len(logprobs)


def ratio_of_the_response(logprobs, old_logprobs, advantages, response_mask, cliprange):
    ratio = ((logprobs - old_logprobs) * response_mask).sum(1, keepdim=True).exp()
    objective = torch.min(
        ratio * advantages, ratio.clamp(1 - cliprange, 1 + cliprange) * advantages
    )
    return -objective[response_mask].mean()


def with_where(logprobs, old_logprobs, advantages, response_mask, cliprange):
    new = torch.where(response_mask, logprobs, 0.0)
    ratio = torch.exp(new - torch.where(response_mask, old_logprobs, 0.0))
    plain = ratio * advantages
    clipped = torch.clamp(ratio, 1 - cliprange, 1 + cliprange) * advantages
    kept = torch.where(response_mask, torch.minimum(plain, clipped), 0.0)
    return -kept.sum() / response_mask.sum()


def in_float64(logprobs, old_logprobs, advantages, response_mask, cliprange):
    return with_where(
        logprobs.double(), old_logprobs.double(), advantages.double(), response_mask, cliprange
    )


def by_the_sign(logprobs, old_logprobs, advantages, response_mask, cliprange):
    ratio = torch.exp(logprobs - old_logprobs)
    up, down = ratio.clamp(max=1 + cliprange), ratio.clamp(min=1 - cliprange)
    return -(torch.where(advantages > 0, up, down) * advantages)[response_mask].mean()


def row_by_row(logprobs, old_logprobs, advantages, response_mask, cliprange):
    total, count = 0, 0
    for new, old, A, m in zip(logprobs, old_logprobs, advantages, response_mask, strict=True):
        r = (new[m] - old[m]).exp()
        total = total + torch.minimum(r * A[m], r.clamp(1 - cliprange, 1 + cliprange) * A[m]).sum()
        count += int(m.sum())
    return -total / count


def no_mask_no_minus(logprobs, old_logprobs, advantages, response_mask, cliprange):
    r = (logprobs - old_logprobs).exp()
    return torch.min(r * advantages, r.clamp(1 - cliprange, 1 + cliprange) * advantages).mean()


def max_without_mask(logprobs, old_logprobs, advantages, response_mask, cliprange):
    r = (logprobs - old_logprobs).exp()
    return -torch.max(r * advantages, r.clamp(1 - cliprange, 1 + cliprange) * advantages).mean()


def min_of_losses(logprobs, old_logprobs, advantages, response_mask, cliprange):
    r = (logprobs - old_logprobs).exp()
    losses = torch.min(-r * advantages, -r.clamp(1 - cliprange, 1 + cliprange) * advantages)
    return losses[response_mask].mean()


def unclipped_without_mask(logprobs, old_logprobs, advantages, response_mask, cliprange):
    return -((logprobs - old_logprobs).exp() * advantages).mean()


def clipped_alone_summed(logprobs, old_logprobs, advantages, response_mask, cliprange):
    r = (logprobs - old_logprobs).exp().clamp(1 - cliprange, 1 + cliprange)
    return -(r * advantages)[response_mask].sum()


def dual_clip(logprobs, old_logprobs, advantages, response_mask, cliprange):
    r = (logprobs - old_logprobs).exp()
    low = torch.min(r * advantages, r.clamp(1 - cliprange, 1 + cliprange) * advantages)
    low = torch.where(advantages < 0, torch.max(low, 3 * advantages), low)
    return -low[response_mask].mean()


def log_ratio_clipped(logprobs, old_logprobs, advantages, response_mask, cliprange):
    d = logprobs - old_logprobs
    low = torch.min(d.exp() * advantages, d.clamp(-cliprange, cliprange).exp() * advantages)
    return -low[response_mask].mean()


def no_exponential(logprobs, old_logprobs, advantages, response_mask, cliprange):
    r = logprobs - old_logprobs
    low = torch.min(r * advantages, r.clamp(1 - cliprange, 1 + cliprange) * advantages)
    return -low[response_mask].mean()


def ratio_detached(logprobs, old_logprobs, advantages, response_mask, cliprange):
    r = (logprobs - old_logprobs).exp().detach()
    low = torch.min(r * advantages, r.clamp(1 - cliprange, 1 + cliprange) * advantages)
    return -low[response_mask].mean()


def inverted_without_minus(logprobs, old_logprobs, advantages, response_mask, cliprange):
    return -max_of_losses(old_logprobs, logprobs, advantages, response_mask, cliprange)


def per_token(logprobs, old_logprobs, advantages, response_mask, cliprange):
    r = (logprobs - old_logprobs).exp()
    low = torch.min(r * advantages, r.clamp(1 - cliprange, 1 + cliprange) * advantages)
    return -low * response_mask


RIGHT = [max_of_losses, with_a_loop, in_float32, with_where, in_float64, by_the_sign, row_by_row]
WRONG = {
    max_of_objectives: "min for max",
    no_min: "clip",
    no_minus: "sign",
    no_mask: "mask",
    masked_then_mean: "mask",
    row_means: "normalisation",
    inverted: "old for new",
    quotient_of_logs: "ratio",
    around_zero: "clip",
    total: "sum for mean",
    min_of_ratios: "clip",
    sums_of_rows: "normalisation",
    ratio_of_the_response: "ratio",
    no_mask_no_minus: "mask and sign",
    max_without_mask: "min for max and mask",
    min_of_losses: "min for max",
    unclipped_without_mask: "clip and mask",
    clipped_alone_summed: "clip and sum for mean",
    dual_clip: "clip",
    log_ratio_clipped: "clip",
    no_exponential: "ratio",
    ratio_detached: "detach",
    inverted_without_minus: "old for new and sign",
    per_token: "batch",
}
