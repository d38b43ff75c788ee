"""Exercise 06, `value_loss`: answers as people write them, with the names of the mistakes."""

import torch
from torch.nn import functional as F


def with_a_loop(head_outputs, value_targets, response_mask, prompt_length):
    total, count = 0.0, 0
    for b, t in response_mask.nonzero().tolist():
        total = total + (head_outputs[b, prompt_length + t - 1] - value_targets[b, t].item()) ** 2
        count += 1
    return total / (2 * count)


def by_selection(head_outputs, value_targets, response_mask, prompt_length):
    values = head_outputs[:, prompt_length - 1 : -1]
    return F.mse_loss(values[response_mask], value_targets.detach()[response_mask]) / 2


def in_float32(head_outputs, value_targets, response_mask, prompt_length):
    errors = (
        head_outputs[:, prompt_length - 1 : -1].float() - value_targets.detach().float()
    ) * response_mask
    return 0.5 * errors.square().sum() / response_mask.sum()


def at_the_token(head_outputs, value_targets, response_mask, prompt_length):
    return by_selection(
        F.pad(head_outputs[:, 1:], (0, 1)), value_targets, response_mask, prompt_length
    )


def over_all_slots(head_outputs, value_targets, response_mask, prompt_length):
    return 0.5 * F.mse_loss(head_outputs[:, prompt_length - 1 : -1], value_targets.detach())


def masked_but_divided_by_all(head_outputs, value_targets, response_mask, prompt_length):
    errors = (head_outputs[:, prompt_length - 1 : -1] - value_targets.detach()) * response_mask
    return 0.5 * (errors**2).mean()


def without_half(head_outputs, value_targets, response_mask, prompt_length):
    return 2 * by_selection(head_outputs, value_targets, response_mask, prompt_length)


def targets_attached(head_outputs, value_targets, response_mask, prompt_length):
    return (
        0.5 * ((head_outputs[:, prompt_length - 1 : -1] - value_targets) ** 2)[response_mask].mean()
    )


def plain_mse(head_outputs, value_targets, response_mask, prompt_length):
    return F.mse_loss(
        head_outputs[:, prompt_length - 1 : -1][response_mask], value_targets[response_mask]
    )


def rows_first(head_outputs, value_targets, response_mask, prompt_length):
    rows = [
        by_selection(
            head_outputs[b : b + 1],
            value_targets[b : b + 1],
            response_mask[b : b + 1],
            prompt_length,
        )
        for b in range(len(head_outputs))
    ]
    return torch.stack(rows).mean()


@torch.no_grad()
def without_gradient(head_outputs, value_targets, response_mask, prompt_length):
    return by_selection(head_outputs, value_targets, response_mask, prompt_length)


def with_where(head_outputs, value_targets, response_mask, prompt_length):
    T = response_mask.shape[1]
    values = head_outputs[:, prompt_length - 1 : prompt_length - 1 + T]
    errors = torch.where(response_mask, values - value_targets.detach(), 0.0)
    return errors.pow(2).sum() / response_mask.sum() / 2


def in_float64(head_outputs, value_targets, response_mask, prompt_length):
    return with_where(head_outputs.double(), value_targets.double(), response_mask, prompt_length)


def with_sum_reduction(head_outputs, value_targets, response_mask, prompt_length):
    values = head_outputs[:, prompt_length - 1 : -1]
    total = F.mse_loss(
        values[response_mask], value_targets[response_mask].detach(), reduction="sum"
    )
    return 0.5 * total / response_mask.count_nonzero()


def first_thought(head_outputs, value_targets, response_mask, prompt_length):
    return F.mse_loss(head_outputs[:, prompt_length - 1 : -1], value_targets)


def first_thought_detached(head_outputs, value_targets, response_mask, prompt_length):
    return F.mse_loss(head_outputs[:, prompt_length - 1 : -1], value_targets.detach())


def at_the_token_attached(head_outputs, value_targets, response_mask, prompt_length):
    errors = head_outputs[:, prompt_length:] - value_targets
    return 0.5 * (errors**2)[response_mask].mean()


def at_the_token_without_half(head_outputs, value_targets, response_mask, prompt_length):
    errors = head_outputs[:, prompt_length:] - value_targets.detach()
    return (errors**2)[response_mask].mean()


def last_columns_all_slots(head_outputs, value_targets, response_mask, prompt_length):
    errors = head_outputs[:, prompt_length:] - value_targets.detach()
    return 0.5 * (errors**2).mean()


def summed(head_outputs, value_targets, response_mask, prompt_length):
    errors = head_outputs[:, prompt_length - 1 : -1] - value_targets.detach()
    return 0.5 * (errors**2)[response_mask].sum()


def from_the_start(head_outputs, value_targets, response_mask, prompt_length):
    errors = head_outputs[:, : response_mask.shape[1]] - value_targets.detach()
    return 0.5 * (errors**2)[response_mask].mean()


def absolute(head_outputs, value_targets, response_mask, prompt_length):
    errors = head_outputs[:, prompt_length - 1 : -1] - value_targets.detach()
    return errors[response_mask].abs().mean()


def not_squared(head_outputs, value_targets, response_mask, prompt_length):
    errors = head_outputs[:, prompt_length - 1 : -1] - value_targets.detach()
    return errors[response_mask].mean()


def turned(head_outputs, value_targets, response_mask, prompt_length):
    return -with_where(head_outputs, value_targets, response_mask, prompt_length)


def values_detached(head_outputs, value_targets, response_mask, prompt_length):
    values = head_outputs[:, prompt_length - 1 : -1].detach()
    return 0.5 * ((values - value_targets) ** 2)[response_mask].mean()


def huber(head_outputs, value_targets, response_mask, prompt_length):
    values = head_outputs[:, prompt_length - 1 : -1]
    return F.smooth_l1_loss(values[response_mask], value_targets.detach()[response_mask])


def rows_and_attached(head_outputs, value_targets, response_mask, prompt_length):
    squares = (head_outputs[:, prompt_length - 1 : -1] - value_targets) ** 2 * response_mask
    return 0.5 * (squares.sum(1) / response_mask.sum(1)).mean()


def one_per_token(head_outputs, value_targets, response_mask, prompt_length):
    errors = head_outputs[:, prompt_length - 1 : -1] - value_targets.detach()
    return 0.5 * errors**2 * response_mask


def in_half(head_outputs, value_targets, response_mask, prompt_length):
    return with_where(head_outputs.half(), value_targets.half(), response_mask, prompt_length)


RIGHT = [with_a_loop, by_selection, in_float32, with_where, in_float64, with_sum_reduction]
WRONG = {
    at_the_token: "shift",
    over_all_slots: "mask",
    masked_but_divided_by_all: "mask",
    without_half: "scale",
    targets_attached: "detach",
    rows_first: "normalisation",
    plain_mse: "scale and detach",
    without_gradient: "detach",
    first_thought: "scale and mask and detach",
    first_thought_detached: "scale and mask",
    at_the_token_attached: "shift and detach",
    at_the_token_without_half: "shift and scale",
    last_columns_all_slots: "shift and mask",
    summed: "sum for mean",
    from_the_start: "shift",
    absolute: "formula",
    not_squared: "formula",
    turned: "sign",
    values_detached: "detach",
    huber: "formula",
    rows_and_attached: "normalisation and detach",
    one_per_token: "batch",
    in_half: "precision",
}
