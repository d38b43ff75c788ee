"""Exercise 15, `first_ratio`: answers as people write them, with the names of the mistakes."""

import math

import torch


def token_by_token(logprobs, old_logprobs, response_mask):
    largest = 0.0
    for b in range(len(logprobs)):
        for t in range(logprobs.shape[1]):
            if response_mask[b, t]:
                ratio = math.exp(logprobs[b, t].item() - old_logprobs[b, t].item())
                largest = max(largest, abs(ratio - 1))
    return largest


def select_first(logprobs, old_logprobs, response_mask):
    new, old = logprobs[response_mask], old_logprobs[response_mask]
    return torch.max(torch.abs(torch.exp(new - old) - 1.0))


def with_expm1(logprobs, old_logprobs, response_mask):
    return torch.expm1(logprobs - old_logprobs).masked_fill(~response_mask, 0.0).abs().amax()


def with_where(logprobs, old_logprobs, response_mask):
    ratio = torch.where(response_mask, (logprobs - old_logprobs).exp(), torch.tensor(1.0))
    return (ratio - 1).abs().max()


def in_double(logprobs, old_logprobs, response_mask):
    d = (logprobs.double() - old_logprobs.double())[response_mask]
    return (d.exp() - 1).abs().max()


def both_sides(logprobs, old_logprobs, response_mask):
    ratio = torch.masked_select((logprobs - old_logprobs).exp(), response_mask)
    return torch.maximum(ratio.max() - 1, 1 - ratio.min())


def everywhere(logprobs, old_logprobs, response_mask):
    ratio = torch.exp(logprobs - old_logprobs)
    return (ratio - 1).abs().max()


def distance_times_mask_of_ratio(logprobs, old_logprobs, response_mask):
    ratio = torch.exp(logprobs - old_logprobs) * response_mask.float()
    return torch.abs(ratio - 1).max()


def no_exp(logprobs, old_logprobs, response_mask):
    d = logprobs - old_logprobs
    return d[response_mask].abs().max()


def no_exp_minus_one(logprobs, old_logprobs, response_mask):
    return ((logprobs - old_logprobs)[response_mask] - 1).abs().max()


def no_abs(logprobs, old_logprobs, response_mask):
    ratio = (logprobs - old_logprobs).exp()
    return ratio[response_mask].max() - 1


def largest_ratio(logprobs, old_logprobs, response_mask):
    return torch.exp(logprobs - old_logprobs)[response_mask].max()


def upside_down(logprobs, old_logprobs, response_mask):
    ratio = torch.exp(old_logprobs - logprobs)
    return (ratio[response_mask] - 1).abs().max()


def quotient(logprobs, old_logprobs, response_mask):
    ratio = logprobs / old_logprobs
    return (ratio[response_mask] - 1).abs().max()


def probabilities(logprobs, old_logprobs, response_mask):
    return (logprobs.exp() - old_logprobs.exp())[response_mask].abs().max()


def mean_distance(logprobs, old_logprobs, response_mask):
    return (torch.exp(logprobs - old_logprobs)[response_mask] - 1).abs().mean()


def mean_ratio(logprobs, old_logprobs, response_mask):
    return (torch.exp(logprobs - old_logprobs)[response_mask].mean() - 1).abs()


def least(logprobs, old_logprobs, response_mask):
    return (torch.exp(logprobs - old_logprobs)[response_mask] - 1).abs().min()


def squared(logprobs, old_logprobs, response_mask):
    return ((torch.exp(logprobs - old_logprobs)[response_mask] - 1) ** 2).max()


def of_responses(logprobs, old_logprobs, response_mask):
    d = ((logprobs - old_logprobs) * response_mask).sum(dim=1)
    return (d.exp() - 1).abs().max()


def per_response(logprobs, old_logprobs, response_mask):
    ratio = torch.exp((logprobs - old_logprobs) * response_mask)
    return (ratio - 1).abs().amax(dim=1)


def per_token(logprobs, old_logprobs, response_mask):
    return (torch.exp((logprobs - old_logprobs) * response_mask) - 1).abs()


def negative(logprobs, old_logprobs, response_mask):
    return -select_first(logprobs, old_logprobs, response_mask)


def twice(logprobs, old_logprobs, response_mask):
    return 2 * select_first(logprobs, old_logprobs, response_mask)


def upside_down_everywhere(logprobs, old_logprobs, response_mask):
    return (torch.exp(old_logprobs - logprobs) - 1).abs().max()


def no_exp_everywhere(logprobs, old_logprobs, response_mask):
    return (logprobs - old_logprobs).abs().max()


def one_more(logprobs, old_logprobs, response_mask):
    mask = torch.cat([response_mask[:, :1], response_mask[:, :-1]], dim=1)
    return select_first(logprobs, old_logprobs, mask)


RIGHT = [token_by_token, select_first, with_expm1, with_where, in_double, both_sides]
WRONG = {
    everywhere: "mask",
    distance_times_mask_of_ratio: "mask",
    no_exp: "ratio",
    no_exp_minus_one: "ratio",
    no_abs: "ratio",
    largest_ratio: "ratio",
    upside_down: "old for new",
    quotient: "ratio",
    probabilities: "ratio",
    mean_distance: "formula",
    mean_ratio: "formula",
    least: "formula",
    squared: "formula",
    of_responses: "ratio",
    per_response: "batch",
    per_token: "batch",
    negative: "sign",
    twice: "scale",
    upside_down_everywhere: "old for new and mask",
    no_exp_everywhere: "ratio and mask",
    one_more: "off by one",
}
