"""Exercise 05, `reward_score`: answers as people write them, with the names of the mistakes."""

import torch
from torch.nn import functional as F


def log_of_one_plus_exp(chosen_outputs, chosen_mask, rejected_outputs, rejected_mask):
    losses = []
    for c, c_mask, r, r_mask in zip(
        chosen_outputs, chosen_mask, rejected_outputs, rejected_mask, strict=True
    ):
        margin = c[c_mask][-1] - r[r_mask][-1]
        losses.append(torch.log(1 + torch.exp(-margin)))
    return sum(losses) / len(losses)


def from_the_right(chosen_outputs, chosen_mask, rejected_outputs, rejected_mask):
    def score(outputs, mask):
        place = mask.shape[1] - 1 - mask.flip(1).int().argmax(dim=1)
        return outputs.gather(1, place[:, None]).squeeze(1)

    return F.softplus(
        score(rejected_outputs, rejected_mask) - score(chosen_outputs, chosen_mask)
    ).mean()


def in_float32(chosen_outputs, chosen_mask, rejected_outputs, rejected_mask):
    return from_the_right(
        chosen_outputs.float(), chosen_mask, rejected_outputs.float(), rejected_mask
    )


def by_lengths_from_the_left(chosen_outputs, chosen_mask, rejected_outputs, rejected_mask):
    def score(outputs, mask):
        last = mask.int().argmax(dim=1) + mask.sum(dim=1) - 1
        return torch.stack([row[i] for row, i in zip(outputs, last.tolist(), strict=True)])

    margin = score(chosen_outputs, chosen_mask) - score(rejected_outputs, rejected_mask)
    return -F.logsigmoid(margin).sum() / margin.numel()


def last_column(chosen_outputs, chosen_mask, rejected_outputs, rejected_mask):
    return -F.logsigmoid(chosen_outputs[:, -1] - rejected_outputs[:, -1]).mean()


def length_minus_one(chosen_outputs, chosen_mask, rejected_outputs, rejected_mask):
    rows = range(len(chosen_outputs))
    chosen = chosen_outputs[rows, chosen_mask.sum(1) - 1]
    return -F.logsigmoid(chosen - rejected_outputs[rows, rejected_mask.sum(1) - 1]).mean()


def average_token(chosen_outputs, chosen_mask, rejected_outputs, rejected_mask):
    chosen = (chosen_outputs * chosen_mask).sum(1) / chosen_mask.sum(1)
    return -F.logsigmoid(
        chosen - (rejected_outputs * rejected_mask).sum(1) / rejected_mask.sum(1)
    ).mean()


def the_wrong_way_round(chosen_outputs, chosen_mask, rejected_outputs, rejected_mask):
    return from_the_right(rejected_outputs, rejected_mask, chosen_outputs, chosen_mask)


def forgot_the_minus(chosen_outputs, chosen_mask, rejected_outputs, rejected_mask):
    return -from_the_right(chosen_outputs, chosen_mask, rejected_outputs, rejected_mask)


def summed(chosen_outputs, chosen_mask, rejected_outputs, rejected_mask):
    return len(chosen_mask) * from_the_right(
        chosen_outputs, chosen_mask, rejected_outputs, rejected_mask
    )


def one_by_one(chosen_outputs, chosen_mask, rejected_outputs, rejected_mask):
    rows = (
        list(zip(chosen_outputs, chosen_mask, strict=True)),
        list(zip(rejected_outputs, rejected_mask, strict=True)),
    )
    chosen, rejected = (torch.stack([outputs[mask][-1] for outputs, mask in side]) for side in rows)
    good = F.binary_cross_entropy_with_logits(chosen, torch.ones_like(chosen))
    return good + F.binary_cross_entropy_with_logits(rejected, torch.zeros_like(rejected))


@torch.no_grad()
def without_gradient(chosen_outputs, chosen_mask, rejected_outputs, rejected_mask):
    return from_the_right(chosen_outputs, chosen_mask, rejected_outputs, rejected_mask)


def places_by_numbers(chosen_outputs, chosen_mask, rejected_outputs, rejected_mask):
    def score(outputs, mask):
        place = (torch.arange(mask.shape[1]) * mask).argmax(dim=1)
        return outputs[torch.arange(len(outputs)), place]

    margin = score(chosen_outputs, chosen_mask) - score(rejected_outputs, rejected_mask)
    return -F.logsigmoid(margin).mean()


def in_float64(chosen_outputs, chosen_mask, rejected_outputs, rejected_mask):
    return from_the_right(
        chosen_outputs.double(), chosen_mask, rejected_outputs.double(), rejected_mask
    )


def with_logaddexp(chosen_outputs, chosen_mask, rejected_outputs, rejected_mask):
    c = torch.stack([row[m][-1] for row, m in zip(chosen_outputs, chosen_mask)])
    r = torch.stack([row[m][-1] for row, m in zip(rejected_outputs, rejected_mask)])
    return torch.logaddexp(torch.zeros_like(c), r - c).mean()


def log_of_sigmoid(chosen_outputs, chosen_mask, rejected_outputs, rejected_mask):
    c = torch.stack([row[m][-1] for row, m in zip(chosen_outputs, chosen_mask)])
    r = torch.stack([row[m][-1] for row, m in zip(rejected_outputs, rejected_mask)])
    return -torch.log(torch.sigmoid(c - r)).mean()


def last_column_summed(chosen_outputs, chosen_mask, rejected_outputs, rejected_mask):
    return -F.logsigmoid(chosen_outputs[:, -1] - rejected_outputs[:, -1]).sum()


def last_column_turned(chosen_outputs, chosen_mask, rejected_outputs, rejected_mask):
    return -F.logsigmoid(rejected_outputs[:, -1] - chosen_outputs[:, -1]).mean()


def plain_means(chosen_outputs, chosen_mask, rejected_outputs, rejected_mask):
    return -F.logsigmoid(chosen_outputs.mean(1) - rejected_outputs.mean(1)).mean()


def counted_without_log(chosen_outputs, chosen_mask, rejected_outputs, rejected_mask):
    rows = range(len(chosen_outputs))
    chosen = chosen_outputs[rows, chosen_mask.sum(1) - 1]
    return -torch.sigmoid(chosen - rejected_outputs[rows, rejected_mask.sum(1) - 1]).mean()


def first_column(chosen_outputs, chosen_mask, rejected_outputs, rejected_mask):
    return -F.logsigmoid(chosen_outputs[:, 0] - rejected_outputs[:, 0]).mean()


def hinge(chosen_outputs, chosen_mask, rejected_outputs, rejected_mask):
    c = torch.stack([row[m][-1] for row, m in zip(chosen_outputs, chosen_mask)])
    r = torch.stack([row[m][-1] for row, m in zip(rejected_outputs, rejected_mask)])
    return F.relu(1 - (c - r)).mean()


def one_loss_per_pair(chosen_outputs, chosen_mask, rejected_outputs, rejected_mask):
    c = torch.stack([row[m][-1] for row, m in zip(chosen_outputs, chosen_mask)])
    r = torch.stack([row[m][-1] for row, m in zip(rejected_outputs, rejected_mask)])
    return F.softplus(r - c)


def difference_alone(chosen_outputs, chosen_mask, rejected_outputs, rejected_mask):
    c = torch.stack([row[m][-1] for row, m in zip(chosen_outputs, chosen_mask)])
    r = torch.stack([row[m][-1] for row, m in zip(rejected_outputs, rejected_mask)])
    return (r - c).mean()


def detached_last_column(chosen_outputs, chosen_mask, rejected_outputs, rejected_mask):
    return last_column(chosen_outputs.detach(), chosen_mask, rejected_outputs, rejected_mask)


def rejected_detached(chosen_outputs, chosen_mask, rejected_outputs, rejected_mask):
    return from_the_right(chosen_outputs, chosen_mask, rejected_outputs.detach(), rejected_mask)


def twice_the_difference(chosen_outputs, chosen_mask, rejected_outputs, rejected_mask):
    return 2 * from_the_right(chosen_outputs, chosen_mask, rejected_outputs, rejected_mask)


def largest_token(chosen_outputs, chosen_mask, rejected_outputs, rejected_mask):
    c = chosen_outputs.masked_fill(~chosen_mask, -1e9).amax(1)
    return -F.logsigmoid(c - rejected_outputs.masked_fill(~rejected_mask, -1e9).amax(1)).mean()


RIGHT = [
    by_lengths_from_the_left,
    from_the_right,
    in_float32,
    places_by_numbers,
    in_float64,
    with_logaddexp,
]
WRONG = {
    log_of_one_plus_exp: "log",
    last_column: "mask",
    length_minus_one: "mask",
    average_token: "wrong token",
    the_wrong_way_round: "sign",
    forgot_the_minus: "sign",
    summed: "sum for mean",
    one_by_one: "formula",
    without_gradient: "detach",
    log_of_sigmoid: "log",
    last_column_summed: "mask and sum for mean",
    last_column_turned: "mask and sign",
    plain_means: "wrong token",
    counted_without_log: "mask and log",
    first_column: "wrong token",
    hinge: "formula",
    one_loss_per_pair: "batch",
    difference_alone: "formula",
    detached_last_column: "mask and detach",
    rejected_detached: "detach",
    largest_token: "wrong token",
    twice_the_difference: "scale",
}
