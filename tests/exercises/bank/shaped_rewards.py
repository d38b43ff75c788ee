"""Exercise 08, `shaped_rewards`: answers as people write them, with the names of the mistakes."""

import torch


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


def with_scatter(scores, logprobs, ref_logprobs, response_mask, kl_coef):
    penalty = torch.where(response_mask, kl_coef * (ref_logprobs - logprobs.detach()), 0.0)
    last = response_mask.sum(dim=1, keepdim=True) - 1
    return penalty.scatter_add(1, last, scores[:, None])


@torch.no_grad()
def without_graph(scores, logprobs, ref_logprobs, response_mask, kl_coef):
    rewards = (-kl_coef * (logprobs - ref_logprobs)) * response_mask
    rewards[torch.arange(len(scores)), response_mask.sum(1) - 1] += scores
    return rewards


def in_float64(scores, logprobs, ref_logprobs, response_mask, kl_coef):
    return with_scatter(
        scores.double(), logprobs.double(), ref_logprobs.double(), response_mask, kl_coef
    )


def last_column_no_mask(scores, logprobs, ref_logprobs, response_mask, kl_coef):
    rewards = -kl_coef * (logprobs.detach() - ref_logprobs)
    rewards[:, -1] += scores
    return rewards


def every_token_without_mask(scores, logprobs, ref_logprobs, response_mask, kl_coef):
    return scores[:, None] - kl_coef * (logprobs.detach() - ref_logprobs)


def every_token_and_attached(scores, logprobs, ref_logprobs, response_mask, kl_coef):
    return (scores[:, None] - kl_coef * (logprobs - ref_logprobs)) * response_mask


def added_and_attached(scores, logprobs, ref_logprobs, response_mask, kl_coef):
    rewards = kl_coef * (logprobs - ref_logprobs) * response_mask
    last = response_mask.sum(dim=1, keepdim=True) - 1
    return rewards.scatter_add(1, last, scores[:, None])


def no_coefficient(scores, logprobs, ref_logprobs, response_mask, kl_coef):
    return with_scatter(scores, logprobs, ref_logprobs, response_mask, 1.0)


def no_coefficient_last_column(scores, logprobs, ref_logprobs, response_mask, kl_coef):
    rewards = -(logprobs.detach() - ref_logprobs) * response_mask
    rewards[:, -1] += scores
    return rewards


def coefficient_on_all(scores, logprobs, ref_logprobs, response_mask, kl_coef):
    return kl_coef * with_scatter(scores, logprobs, ref_logprobs, response_mask, 1.0)


def first_token(scores, logprobs, ref_logprobs, response_mask, kl_coef):
    rewards = -kl_coef * (logprobs.detach() - ref_logprobs) * response_mask
    rewards[:, 0] += scores
    return rewards


def penalty_alone(scores, logprobs, ref_logprobs, response_mask, kl_coef):
    return -kl_coef * (logprobs.detach() - ref_logprobs) * response_mask


def all_turned(scores, logprobs, ref_logprobs, response_mask, kl_coef):
    return -with_scatter(scores, logprobs, ref_logprobs, response_mask, kl_coef)


def one_number(scores, logprobs, ref_logprobs, response_mask, kl_coef):
    return scores - kl_coef * ((logprobs.detach() - ref_logprobs) * response_mask).sum(1)


def k3_penalty(scores, logprobs, ref_logprobs, response_mask, kl_coef):
    d = (logprobs.detach() - ref_logprobs) * response_mask
    rewards = -kl_coef * (torch.exp(-d) - 1 + d)
    return rewards.scatter_add(1, response_mask.sum(1, keepdim=True) - 1, scores[:, None])


def in_half(scores, logprobs, ref_logprobs, response_mask, kl_coef):
    return with_scatter(scores.half(), logprobs.half(), ref_logprobs.half(), response_mask, kl_coef)


RIGHT = [
    with_a_loop,
    with_the_edge_of_the_mask,
    in_float32,
    with_scatter,
    without_graph,
    in_float64,
]
WRONG = {
    in_the_last_column: "wrong token",
    in_the_last_column_with_a_gradient: "wrong token and detach",
    on_every_token: "wrong token",
    no_mask: "mask",
    penalty_added: "sign",
    score_in_place_of_the_penalty: "off by one",
    without_detach: "detach",
    one_sum: "sum for mean",
    the_score_alone: "formula",
    last_column_no_mask: "wrong token and mask",
    every_token_without_mask: "wrong token and mask",
    every_token_and_attached: "wrong token and detach",
    added_and_attached: "sign and detach",
    no_coefficient: "scale",
    no_coefficient_last_column: "scale and wrong token",
    coefficient_on_all: "scale",
    first_token: "wrong token",
    penalty_alone: "formula",
    all_turned: "sign",
    one_number: "batch",
    k3_penalty: "formula",
    in_half: "precision",
}
