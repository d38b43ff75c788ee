"""Exercise 12: right answers of several kinds pass, and each wrong one is told what it is."""

import torch

from minippo.exercises.clip_fraction import cases, exercise
from tests.exercises.exercise_checks import check_exercise


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


def test_the_exercise():
    check_exercise(
        exercise,
        correct=[token_by_token, select_first, with_losses],
        wrong={
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
        },
    )


def test_the_cases_hold_all_four_corners():
    corners = set()
    for case in cases():
        mask = case["response_mask"]
        ratios, advantages = (
            (case["logprobs"] - case["old_logprobs"]).exp()[mask],
            case["advantages"][mask],
        )
        for name, outside in (
            ("above", ratios > 1 + case["cliprange"]),
            ("below", ratios < 1 - case["cliprange"]),
        ):
            corners |= {(name, sign) for sign in (advantages[outside] > 0).tolist()}
    assert len(corners) == 4
