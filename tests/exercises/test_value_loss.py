"""Exercise 06: right answers of several kinds pass, and each wrong one is told what it is."""

import torch
from torch.nn import functional as F

from minippo.exercises.value_loss import exercise
from tests.exercises.exercise_checks import check_exercise


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


def test_the_exercise():
    check_exercise(
        exercise,
        correct=[with_a_loop, by_selection, in_float32],
        wrong={
            at_the_token: "shift",
            over_all_slots: "mask",
            masked_but_divided_by_all: "mask",
            without_half: "scale",
            targets_attached: "detach",
            rows_first: "normalisation",
            plain_mse: "scale",
            without_gradient: "detach",
        },
    )
