"""Exercise 09: right answers of several kinds pass, and each wrong one is told what it is."""

import torch

from minippo.exercises.kl_estimators import exercise
from tests.exercises.exercise_checks import check_exercise


def vectorised(logprobs, ref_logprobs, response_mask):
    d = (logprobs - ref_logprobs) * response_mask
    return torch.stack([d, 0.5 * d.square(), (-d).exp() - 1 + d])


def with_a_loop(logprobs, ref_logprobs, response_mask):
    out = torch.zeros(3, *logprobs.shape, dtype=logprobs.dtype)
    for b in range(logprobs.shape[0]):
        for t in range(int(response_mask[b].sum())):
            log_r = ref_logprobs[b, t] - logprobs[b, t]
            out[0, b, t], out[1, b, t], out[2, b, t] = -log_r, log_r**2 / 2, log_r.exp() - 1 - log_r
    return out


def in_float32(logprobs, ref_logprobs, response_mask):
    d = logprobs.float() - ref_logprobs.float()
    return torch.stack([d, d**2 / 2, 1 / d.exp() + d - 1]).masked_fill(~response_mask, 0.0)


def reference_minus_policy(logprobs, ref_logprobs, response_mask):
    return vectorised(ref_logprobs, logprobs, response_mask)


def k3_with_the_policy_on_top(logprobs, ref_logprobs, response_mask):
    log_ratio = (logprobs - ref_logprobs) * response_mask
    ratio = log_ratio.exp()
    return torch.stack([log_ratio, log_ratio**2 / 2, (ratio - 1) - log_ratio])


def k3_minus(logprobs, ref_logprobs, response_mask):
    d = (logprobs - ref_logprobs) * response_mask
    return torch.stack([d, d**2 / 2, torch.exp(-d) - 1 - d])


def no_half(logprobs, ref_logprobs, response_mask):
    d = (logprobs - ref_logprobs) * response_mask
    return torch.stack([d, d**2, torch.exp(-d) - 1 + d])


def no_minus_one(logprobs, ref_logprobs, response_mask):
    d = logprobs - ref_logprobs
    return torch.stack([d, d**2 / 2, torch.exp(-d) + d]) * response_mask


def no_mask(logprobs, ref_logprobs, response_mask):
    d = logprobs - ref_logprobs
    return torch.stack([d, d**2 / 2, torch.exp(-d) - 1 + d])


def absolute_k1(logprobs, ref_logprobs, response_mask):
    k1, k2, k3 = vectorised(logprobs, ref_logprobs, response_mask)
    return torch.stack([torch.abs(k1), k2, k3])


def term_of_the_sum(logprobs, ref_logprobs, response_mask):
    k1, k2, k3 = vectorised(logprobs, ref_logprobs, response_mask)
    return torch.stack([logprobs.exp() * k1, k2, k3])


@torch.no_grad()
def without_gradient(logprobs, ref_logprobs, response_mask):
    return vectorised(logprobs, ref_logprobs, response_mask)


def as_three_means(logprobs, ref_logprobs, response_mask):
    return torch.stack(
        [x[response_mask].mean() for x in no_mask(logprobs, ref_logprobs, response_mask)]
    )


def test_the_exercise():
    check_exercise(
        exercise,
        correct=[vectorised, with_a_loop, in_float32],
        wrong={
            reference_minus_policy: "direction",
            k3_with_the_policy_on_top: "direction",
            k3_minus: "sign",
            no_half: "scale",
            no_minus_one: "formula",
            no_mask: "mask",
            absolute_k1: "sign",
            term_of_the_sum: "formula",
            without_gradient: "detach",
            as_three_means: "mean for sum",
        },
    )
