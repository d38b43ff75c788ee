"""Exercise 16, `leave_one_out`: answers as people write them, with the names of the mistakes."""

import torch


def row_by_row(scores, group_size):
    found = []
    for i in range(len(scores)):
        start = i - i % group_size
        rest = [scores[j] for j in range(start, start + group_size) if j != i]
        found.append(scores[i] - sum(rest) / len(rest))
    return torch.stack(found)


def by_sums(scores, group_size):
    rows = scores.reshape(-1, group_size)
    total = rows.sum(dim=1, keepdim=True)
    return (rows - (total - rows) / (group_size - 1)).reshape(-1)


def by_the_mean(scores, group_size):
    rows = scores.view(-1, group_size)
    centred = rows - rows.mean(1, keepdim=True)
    return (centred * group_size / (group_size - 1)).flatten()


def with_a_matrix(scores, group_size):
    rows = scores.view(-1, group_size)
    weights = (torch.ones(group_size, group_size) - torch.eye(group_size)) / (group_size - 1)
    return (rows - rows @ weights.to(rows.dtype)).flatten()


def in_double(scores, group_size):
    return by_sums(scores.double(), group_size)


def with_repeat(scores, group_size):
    totals = scores.view(-1, group_size).sum(1).repeat_interleave(group_size)
    return scores - (totals - scores) / (group_size - 1)


def centred(scores, group_size):
    rows = scores.view(-1, group_size)
    return (rows - rows.mean(dim=-1, keepdim=True)).view(-1)


def others_over_g(scores, group_size):
    rows = scores.view(-1, group_size)
    return (rows - (rows.sum(1, keepdim=True) - rows) / group_size).flatten()


def less_the_sum(scores, group_size):
    rows = scores.view(-1, group_size)
    return (rows - (rows.sum(1, keepdim=True) - rows)).flatten()


def as_grpo(scores, group_size):
    rows = scores.view(-1, group_size)
    return ((rows - rows.mean(1, keepdim=True)) / (rows.std(1, keepdim=True) + 1e-8)).flatten()


def as_grpo_biased(scores, group_size):
    rows = scores.view(-1, group_size)
    std = rows.std(1, keepdim=True, correction=0)
    return ((rows - rows.mean(1, keepdim=True)) / std).flatten()


def columns_are_groups(scores, group_size):
    rows = scores.view(group_size, -1)
    rest = (rows.sum(dim=0, keepdim=True) - rows) / (group_size - 1)
    return (rows - rest).flatten()


def whole_batch(scores, group_size):
    return scores - (scores.sum() - scores) / (scores.numel() - 1)


def mean_of_the_batch(scores, group_size):
    return scores - scores.mean()


def baseline_only(scores, group_size):
    rows = scores.view(-1, group_size)
    return ((rows.sum(1, keepdim=True) - rows) / (group_size - 1)).flatten()


def baseline_minus_score(scores, group_size):
    return baseline_only(scores, group_size) - scores


def best_of_the_others(scores, group_size):
    found = []
    for i in range(len(scores)):
        start = i // group_size * group_size
        rest = [scores[j] for j in range(start, start + group_size) if j != i]
        found.append(scores[i] - max(rest))
    return torch.stack(found)


def neighbour(scores, group_size):
    rows = scores.view(-1, group_size)
    return (rows - rows.roll(-1, 1)).flatten()


def a_row_per_prompt(scores, group_size):
    return by_sums(scores, group_size).view(-1, group_size)


def the_scores(scores, group_size):
    return scores


def twice(scores, group_size):
    return 2 * by_sums(scores, group_size)


def half(scores, group_size):
    return 0.5 * by_sums(scores, group_size)


def minus_centred(scores, group_size):
    return -centred(scores, group_size)


def centred_twice(scores, group_size):
    return 2 * centred(scores, group_size)


def columns_and_centred(scores, group_size):
    rows = scores.view(group_size, -1)
    return -((rows - (rows.sum(0, keepdim=True) - rows) / (group_size - 1)).flatten())


def whitened(scores, group_size):
    advantages = by_sums(scores, group_size)
    return advantages / advantages.std(correction=0)


RIGHT = [row_by_row, by_sums, by_the_mean, with_a_matrix, in_double, with_repeat]
WRONG = {
    centred: "baseline",
    others_over_g: "scale",
    less_the_sum: "mean for sum",
    as_grpo: "normalisation",
    as_grpo_biased: "normalisation",
    columns_are_groups: "batch",
    whole_batch: "batch",
    mean_of_the_batch: "batch",
    baseline_only: "baseline",
    baseline_minus_score: "sign",
    best_of_the_others: "baseline",
    neighbour: "off by one",
    a_row_per_prompt: "batch",
    the_scores: "formula",
    twice: "scale",
    half: "scale",
    minus_centred: "baseline and sign",
    centred_twice: "baseline and scale",
    columns_and_centred: "batch and sign",
    whitened: "normalisation",
}
