"""Exercise 03, `policy_gradient_loss`: answers as people write them, with their mistakes."""

import torch


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


def with_where(logprobs, weights, response_mask):
    terms = torch.where(response_mask, logprobs * weights.detach(), torch.zeros_like(logprobs))
    return -terms.sum(dim=-1).mean(dim=0)


def in_float64(logprobs, weights, response_mask):
    return with_where(logprobs.double(), weights.double(), response_mask)


def row_by_row(logprobs, weights, response_mask):
    rows = [-(lp[m] * w.data[m]).sum() for lp, w, m in zip(logprobs, weights, response_mask)]
    return torch.stack(rows).mean()


def plain_mean_of_all(logprobs, weights, response_mask):
    return -(logprobs * weights).mean()


def mean_of_rows(logprobs, weights, response_mask):
    return -(logprobs * weights.detach() * response_mask).mean(1).mean()


def summed_and_attached(logprobs, weights, response_mask):
    return -(logprobs * weights * response_mask).sum()


def no_mask_no_sign(logprobs, weights, response_mask):
    return (logprobs * weights.detach()).sum(1).mean()


def plus_and_attached(logprobs, weights, response_mask):
    return (logprobs * weights * response_mask).sum(1).mean()


def mean_of_real_and_attached(logprobs, weights, response_mask):
    return -(logprobs * weights)[response_mask].mean()


def of_probabilities_without_mask(logprobs, weights, response_mask):
    return -(logprobs.exp() * weights.detach()).sum(1).mean()


def weights_forgotten(logprobs, weights, response_mask):
    return -(logprobs * response_mask).sum(1).mean()


def mask_of_the_first(logprobs, weights, response_mask):
    return -(logprobs * weights.detach() * response_mask[0]).sum(1).mean()


def whitened(logprobs, weights, response_mask):
    w = weights.detach()
    w = (w - w[response_mask].mean()) / w[response_mask].std()
    return -(logprobs * w * response_mask).sum(1).mean()


def rows_unaveraged_attached(logprobs, weights, response_mask):
    return -(logprobs * weights * response_mask).sum(1)


def twice(logprobs, weights, response_mask):
    return 2 * with_where(logprobs, weights, response_mask)


def in_half(logprobs, weights, response_mask):
    return with_where(logprobs.half(), weights.half(), response_mask)


RIGHT = [with_a_loop, with_einsum, in_float32, with_where, in_float64, row_by_row]
WRONG = {
    as_a_maximiser: "sign",
    no_mask: "mask",
    first_thought: "mask and detach",
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
    plain_mean_of_all: "mask and mean for sum and detach",
    mean_of_rows: "normalisation",
    summed_and_attached: "sum for mean and detach",
    no_mask_no_sign: "mask and sign",
    plus_and_attached: "sign and detach",
    mean_of_real_and_attached: "mean for sum and detach",
    of_probabilities_without_mask: "log and mask",
    weights_forgotten: "formula",
    mask_of_the_first: "batch",
    whitened: "scale",
    rows_unaveraged_attached: "batch and detach",
    twice: "scale",
    in_half: "precision",
}
