"""Exercise 08: right answers of several kinds pass, and each wrong one is told what it is."""

import torch

from minippo.exercises.shaped_rewards import exercise
from tests.exercises.exercise_checks import check_exercise


def with_a_loop(scores, logprobs, ref_logprobs, response_mask, kl_coef):
    rewards = torch.zeros(response_mask.shape, dtype=scores.dtype)
    for b, length in enumerate(response_mask.sum(dim=1).tolist()):
        for t in range(length):
            rewards[b, t] = -kl_coef * (logprobs[b, t] - ref_logprobs[b, t]).item()
        rewards[b, length - 1] += scores[b]
    return rewards


def with_the_edge_of_the_mask(scores, logprobs, ref_logprobs, response_mask, kl_coef):
    goes_on = torch.cat(
        (response_mask[:, 1:], torch.zeros(len(scores), 1, dtype=torch.bool)), dim=1
    )
    return ((ref_logprobs - logprobs.detach()) * kl_coef) * response_mask + scores[:, None] * (
        response_mask & ~goes_on
    )


def in_float32(scores, logprobs, ref_logprobs, response_mask, kl_coef):
    return with_the_edge_of_the_mask(
        scores.float(), logprobs.float(), ref_logprobs.float(), response_mask, kl_coef
    )


def in_the_last_column(scores, logprobs, ref_logprobs, response_mask, kl_coef):
    rewards = -kl_coef * (logprobs.detach() - ref_logprobs) * response_mask
    rewards[:, -1] += scores
    return rewards


def in_the_last_column_with_a_gradient(scores, logprobs, ref_logprobs, response_mask, kl_coef):
    rewards = -kl_coef * (logprobs - ref_logprobs)
    rewards[:, -1] += scores
    return rewards * response_mask


def on_every_token(scores, logprobs, ref_logprobs, response_mask, kl_coef):
    return (scores[:, None] - kl_coef * (logprobs.detach() - ref_logprobs)) * response_mask


def no_mask(scores, logprobs, ref_logprobs, response_mask, kl_coef):
    rewards = -kl_coef * (logprobs.detach() - ref_logprobs)
    rewards[range(len(scores)), response_mask.sum(dim=1) - 1] += scores
    return rewards


def penalty_added(scores, logprobs, ref_logprobs, response_mask, kl_coef):
    return with_a_loop(scores, logprobs, ref_logprobs, response_mask, -kl_coef)


def score_in_place_of_the_penalty(scores, logprobs, ref_logprobs, response_mask, kl_coef):
    rewards = -kl_coef * (logprobs.detach() - ref_logprobs) * response_mask
    rewards[range(len(scores)), response_mask.sum(dim=1) - 1] = scores
    return rewards


def without_detach(scores, logprobs, ref_logprobs, response_mask, kl_coef):
    rewards = -kl_coef * (logprobs - ref_logprobs) * response_mask
    return rewards.index_put(
        (torch.arange(len(scores)), response_mask.sum(dim=1) - 1), scores, accumulate=True
    )


def one_sum(scores, logprobs, ref_logprobs, response_mask, kl_coef):
    penalty = ((logprobs.detach() - ref_logprobs) * response_mask).sum(dim=1)
    rewards = torch.zeros_like(ref_logprobs)
    rewards[range(len(scores)), response_mask.sum(dim=1) - 1] = scores - kl_coef * penalty
    return rewards


def the_score_alone(scores, logprobs, ref_logprobs, response_mask, kl_coef):
    rewards = torch.zeros_like(ref_logprobs)
    rewards[range(len(scores)), response_mask.sum(dim=1) - 1] = scores
    return rewards


def test_the_exercise():
    check_exercise(
        exercise,
        correct=[with_a_loop, with_the_edge_of_the_mask, in_float32],
        wrong={
            in_the_last_column: "wrong token",
            in_the_last_column_with_a_gradient: "wrong token",
            on_every_token: "wrong token",
            no_mask: "mask",
            penalty_added: "sign",
            score_in_place_of_the_penalty: "off by one",
            without_detach: "detach",
            one_sum: "sum for mean",
            the_score_alone: "formula",
        },
    )
