"""Exercise 12, `clip_fraction`: answers as people write them, with the names of the mistakes."""

import torch


def token_by_token(logprobs, old_logprobs, advantages, response_mask, cliprange):
    clipped, real = 0, 0
    for b in range(response_mask.shape[0]):
        for t in range(response_mask.shape[1]):
            if response_mask[b, t]:
                real += 1
                ratio, advantage = (
                    torch.exp(logprobs[b, t] - old_logprobs[b, t]).item(),
                    advantages[b, t].item(),
                )
                clipped += (
                    advantage > 0
                    and ratio > 1 + cliprange
                    or advantage < 0
                    and ratio < 1 - cliprange
                )
    return clipped / real


def select_first(logprobs, old_logprobs, advantages, response_mask, cliprange):
    new, old, A = (x[response_mask].float() for x in (logprobs, old_logprobs, advantages))
    ratio = (new - old).exp()
    clipped = torch.clip(ratio, 1 - cliprange, 1 + cliprange)
    return (torch.minimum(clipped * A, ratio * A) < ratio * A).float().mean()


def with_losses(logprobs, old_logprobs, advantages, response_mask, cliprange):
    ratio = torch.exp(logprobs - old_logprobs)
    plain, clipped = (
        -advantages * ratio,
        -advantages * torch.clamp(ratio, 1 - cliprange, 1 + cliprange),
    )
    return (
        torch.where(response_mask, (clipped > plain).to(ratio), torch.zeros_like(ratio)).sum()
        / response_mask.sum()
    )


def plain_mean(logprobs, old_logprobs, advantages, response_mask, cliprange):
    ratio = torch.exp(logprobs - old_logprobs)
    return (
        (-advantages * torch.clamp(ratio, 1 - cliprange, 1 + cliprange) > -advantages * ratio)
        .float()
        .mean()
    )


def masked_then_mean(logprobs, old_logprobs, advantages, response_mask, cliprange):
    ratio = torch.exp(logprobs - old_logprobs)
    clipped = torch.clamp(ratio, 1 - cliprange, 1 + cliprange) * advantages < ratio * advantages
    return (clipped & response_mask).float().mean()


def distance_from_one(logprobs, old_logprobs, advantages, response_mask, cliprange):
    ratio = torch.exp(logprobs - old_logprobs)[response_mask]
    return ((ratio < 1 - cliprange) | (ratio > 1 + cliprange)).float().mean()


def no_exponential(logprobs, old_logprobs, advantages, response_mask, cliprange):
    ratio, A = (logprobs - old_logprobs)[response_mask], advantages[response_mask]
    return (ratio.clamp(1 - cliprange, 1 + cliprange) * A < ratio * A).float().mean()


def log_ratio_in_the_range(logprobs, old_logprobs, advantages, response_mask, cliprange):
    log_ratio, A = (logprobs - old_logprobs)[response_mask], advantages[response_mask]
    return (
        (((log_ratio > cliprange) & (A > 0)) | ((log_ratio < -cliprange) & (A < 0))).float().mean()
    )


def old_over_new(logprobs, old_logprobs, advantages, response_mask, cliprange):
    return select_first(old_logprobs, logprobs, advantages, response_mask, cliprange)


def maximum(logprobs, old_logprobs, advantages, response_mask, cliprange):
    ratio, A = torch.exp(logprobs - old_logprobs)[response_mask], advantages[response_mask]
    return (ratio.clamp(1 - cliprange, 1 + cliprange) * A > ratio * A).float().mean()


def equal_counts_too(logprobs, old_logprobs, advantages, response_mask, cliprange):
    ratio, A = torch.exp(logprobs - old_logprobs)[response_mask], advantages[response_mask]
    clipped = ratio.clamp(1 - cliprange, 1 + cliprange) * A
    return (torch.minimum(clipped, ratio * A) == clipped).float().mean()


def mean_of_responses(logprobs, old_logprobs, advantages, response_mask, cliprange):
    shares = [
        select_first(
            *(x[b : b + 1] for x in (logprobs, old_logprobs, advantages, response_mask)), cliprange
        )
        for b in range(len(response_mask))
    ]
    return torch.stack(shares).mean()


def number_of_tokens(logprobs, old_logprobs, advantages, response_mask, cliprange):
    return (
        select_first(logprobs, old_logprobs, advantages, response_mask, cliprange)
        * response_mask.sum()
    )


def upper_side(logprobs, old_logprobs, advantages, response_mask, cliprange):
    ratio, A = torch.exp(logprobs - old_logprobs)[response_mask], advantages[response_mask]
    return ((ratio > 1 + cliprange) * (A > 0)).float().mean()


def no_advantages(logprobs, old_logprobs, advantages, response_mask, cliprange):
    ratio = torch.exp(logprobs - old_logprobs)[response_mask]
    return (ratio.clamp(1 - cliprange, 1 + cliprange) < ratio).float().mean()


def far_log_ratios(logprobs, old_logprobs, advantages, response_mask, cliprange):
    return (torch.abs(logprobs - old_logprobs) > cliprange)[response_mask].float().mean()


def by_two_sides(logprobs, old_logprobs, advantages, response_mask, cliprange):
    r = torch.exp(logprobs - old_logprobs)
    up = (r > 1 + cliprange) & (advantages > 0)
    down = (r < 1 - cliprange) & (advantages < 0)
    return ((up | down) & response_mask).sum() / response_mask.sum()


def with_masked_select(logprobs, old_logprobs, advantages, response_mask, cliprange):
    r = torch.masked_select((logprobs - old_logprobs).exp(), response_mask)
    A = torch.masked_select(advantages, response_mask)
    return torch.lt(r.clip(1 - cliprange, 1 + cliprange) * A, r * A).double().mean()


def as_a_number(logprobs, old_logprobs, advantages, response_mask, cliprange):
    return by_two_sides(logprobs, old_logprobs, advantages, response_mask, cliprange).item()


def usual_clipfrac(logprobs, old_logprobs, advantages, response_mask, cliprange):
    ratio = (logprobs - old_logprobs).exp()
    return ((ratio - 1).abs() > cliprange).float().mean()


def usual_clipfrac_over_all(logprobs, old_logprobs, advantages, response_mask, cliprange):
    ratio = (logprobs - old_logprobs).exp()
    return (((ratio - 1).abs() > cliprange) & response_mask).float().mean()


def ratio_of_old_without_mask(logprobs, old_logprobs, advantages, response_mask, cliprange):
    r = torch.exp(old_logprobs - logprobs)
    return (r.clamp(1 - cliprange, 1 + cliprange) * advantages < r * advantages).float().mean()


def share_not_clipped(logprobs, old_logprobs, advantages, response_mask, cliprange):
    return 1 - by_two_sides(logprobs, old_logprobs, advantages, response_mask, cliprange)


def per_cent(logprobs, old_logprobs, advantages, response_mask, cliprange):
    return 100 * by_two_sides(logprobs, old_logprobs, advantages, response_mask, cliprange)


def for_each_row(logprobs, old_logprobs, advantages, response_mask, cliprange):
    r = torch.exp(logprobs - old_logprobs)
    held = (r.clamp(1 - cliprange, 1 + cliprange) * advantages < r * advantages) & response_mask
    return held.sum(1) / response_mask.sum(1)


def mean_of_rows_of_the_range(logprobs, old_logprobs, advantages, response_mask, cliprange):
    far = ((logprobs - old_logprobs).exp() - 1).abs() > cliprange
    return ((far & response_mask).sum(1) / response_mask.sum(1)).mean()


def number_without_mask(logprobs, old_logprobs, advantages, response_mask, cliprange):
    r = torch.exp(logprobs - old_logprobs)
    return (r.clamp(1 - cliprange, 1 + cliprange) * advantages < r * advantages).float().sum()


def below_only(logprobs, old_logprobs, advantages, response_mask, cliprange):
    r = torch.exp(logprobs - old_logprobs)
    return ((r < 1 - cliprange) & (advantages < 0))[response_mask].float().mean()


def minus_the_share(logprobs, old_logprobs, advantages, response_mask, cliprange):
    return -by_two_sides(logprobs, old_logprobs, advantages, response_mask, cliprange)


def divides_by_rows(logprobs, old_logprobs, advantages, response_mask, cliprange):
    total = by_two_sides(logprobs, old_logprobs, advantages, response_mask, cliprange)
    return total * response_mask.sum() / len(response_mask)


RIGHT = [token_by_token, select_first, with_losses, by_two_sides, with_masked_select, as_a_number]
WRONG = {
    plain_mean: "mask",
    masked_then_mean: "mask",
    distance_from_one: "clip",
    equal_counts_too: "clip",
    upper_side: "clip",
    no_exponential: "ratio",
    log_ratio_in_the_range: "ratio",
    old_over_new: "old for new",
    maximum: "min for max",
    mean_of_responses: "normalisation",
    number_of_tokens: "sum for mean",
    no_advantages: "clip",
    far_log_ratios: "clip",
    usual_clipfrac: "clip and mask",
    usual_clipfrac_over_all: "clip and mask",
    ratio_of_old_without_mask: "old for new and mask",
    share_not_clipped: "sign",
    per_cent: "scale",
    for_each_row: "batch",
    mean_of_rows_of_the_range: "clip and normalisation",
    number_without_mask: "mask and sum for mean",
    below_only: "clip",
    minus_the_share: "sign",
    divides_by_rows: "sum for mean",
}
