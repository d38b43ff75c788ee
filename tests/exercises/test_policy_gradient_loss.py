"""Exercise 03: right answers of several kinds pass, and each wrong one is told what it is."""

import torch

from minippo.exercises.policy_gradient_loss import exercise
from tests.exercises.exercise_checks import check_exercise


def with_a_loop(logprobs, weights, response_mask):
    total = 0.0
    for b in range(len(logprobs)):
        for t in range(logprobs.shape[1]):
            if response_mask[b, t]:
                total = total - weights[b, t].item() * logprobs[b, t]
    return total / len(logprobs)


def with_einsum(logprobs, weights, response_mask):
    return (
        torch.einsum("bt,bt,bt->", logprobs, weights.detach(), response_mask.to(logprobs.dtype))
        / -logprobs.shape[0]
    )


def in_float32(logprobs, weights, response_mask):
    picked = logprobs.float()[response_mask] * weights.float().detach()[response_mask]
    return -picked.sum() / response_mask.shape[0]


def as_a_maximiser(logprobs, weights, response_mask):
    return (weights.detach() * logprobs * response_mask).sum(1).mean()


def no_mask(logprobs, weights, response_mask):
    return (-weights.detach() * logprobs).sum(-1).mean()


def straightforward(logprobs, weights, response_mask):
    return -(weights * logprobs * response_mask).sum(-1).mean()


@torch.no_grad()
def without_gradient(logprobs, weights, response_mask):
    return -(weights * logprobs * response_mask).sum(-1).mean()


def detached_the_wrong_one(logprobs, weights, response_mask):
    return -(weights * logprobs.detach() * response_mask).sum(-1).mean()


def plain_mean(logprobs, weights, response_mask):
    return -(weights.detach() * logprobs * response_mask).mean()


def mean_of_the_selected(logprobs, weights, response_mask):
    return -(weights.detach() * logprobs)[response_mask].mean()


def first_thought(logprobs, weights, response_mask):
    return -(weights * logprobs).sum(1).mean()


def sum_of_the_selected(logprobs, weights, response_mask):
    return -(weights.detach() * logprobs)[response_mask].sum()


def by_length(logprobs, weights, response_mask):
    mask = response_mask.double()
    return -((weights.detach() * logprobs * mask).sum(1) / mask.sum(1)).mean()


def forgot_the_mean(logprobs, weights, response_mask):
    return -(weights.detach() * logprobs * response_mask).sum(dim=1)


def of_probabilities(logprobs, weights, response_mask):
    return -(weights.detach() * torch.exp(logprobs) * response_mask).sum(dim=1).mean()


def return_times_sequence_logprob(logprobs, weights, response_mask):
    return -((weights.detach() * response_mask).sum(1) * (logprobs * response_mask).sum(1)).mean()


def test_the_exercise():
    check_exercise(
        exercise,
        correct=[with_a_loop, with_einsum, in_float32],
        wrong={
            as_a_maximiser: "sign",
            no_mask: "mask",
            first_thought: "mask",
            straightforward: "detach",
            without_gradient: "detach",
            detached_the_wrong_one: "detach",
            plain_mean: "normalisation",
            mean_of_the_selected: "mean for sum",
            sum_of_the_selected: "sum for mean",
            by_length: "mean for sum",
            forgot_the_mean: "batch",
            of_probabilities: "log",
            return_times_sequence_logprob: "formula",
        },
    )
