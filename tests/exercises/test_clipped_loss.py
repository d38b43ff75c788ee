"""Exercise 11: right answers of several kinds pass, and each wrong one is told what it is."""

import torch

from minippo.exercises.clipped_loss import cases, exercise
from tests.exercises.exercise_checks import check_exercise


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


def test_the_exercise():
    check_exercise(
        exercise,
        correct=[max_of_losses, with_a_loop, in_float32],
        wrong={
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
        },
    )


def test_each_case_has_all_six_meetings_of_sign_and_ratio():
    for case in cases()[:1]:
        mask, ratio = case["response_mask"], (case["logprobs"] - case["old_logprobs"]).exp()
        where = (ratio > 1 + case["cliprange"]).int() - (ratio < 1 - case["cliprange"]).int()
        assert {
            (s, w)
            for s, w in zip(
                case["advantages"].sign()[mask].tolist(), where[mask].tolist(), strict=True
            )
        } == {(s, w) for s in (1.0, -1.0) for w in (-1, 0, 1)}
