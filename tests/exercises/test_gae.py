"""Exercise 07: right answers of several kinds pass, and each wrong one is told what it is."""

import torch

from minippo.exercises.gae import exercise
from tests.exercises.exercise_checks import check_exercise


def with_two_loops(rewards, values, response_mask, gamma, lam):
    advantages = torch.zeros_like(rewards)
    for b, length in enumerate(response_mask.sum(dim=1).tolist()):
        following = 0.0
        for t in range(length - 1, -1, -1):
            next_value = values[b, t + 1] if t + 1 < length else 0.0
            following = rewards[b, t] + gamma * next_value - values[b, t] + gamma * lam * following
            advantages[b, t] = following
    return advantages


def with_a_matrix(rewards, values, response_mask, gamma, lam):
    r, v = rewards * response_mask, values * response_mask
    deltas = r + gamma * torch.cat((v[:, 1:], torch.zeros(len(v), 1)), dim=1) - v
    t = torch.arange(rewards.shape[1])
    weights = torch.where(
        t[:, None] >= t, (gamma * lam) ** (t[:, None] - t).clamp(min=0).double(), 0.0
    )
    return deltas @ weights * response_mask


def in_float32(rewards, values, response_mask, gamma, lam):
    return with_two_loops(rewards.float(), values.float(), response_mask, gamma, lam)


def recursion(rewards, values, last_value, decay, gamma):
    """The usual loop over columns; last_value [B] follows the last column."""
    running, columns = torch.zeros(len(rewards)), []
    for t in reversed(range(rewards.shape[1])):
        running = rewards[:, t] + gamma * last_value - values[:, t] + decay * running
        last_value = values[:, t]
        columns.insert(0, running)
    return torch.stack(columns, dim=1)


def as_for_full_rows(rewards, values, response_mask, gamma, lam):
    return recursion(rewards, values, torch.zeros(len(rewards)), gamma * lam, gamma)


def masked_at_the_end_only(rewards, values, response_mask, gamma, lam):
    return as_for_full_rows(rewards, values, response_mask, gamma, lam) * response_mask


def forgot_lam(rewards, values, response_mask, gamma, lam):
    zeros = torch.zeros(len(rewards))
    return (
        recursion(rewards * response_mask, values * response_mask, zeros, gamma, gamma)
        * response_mask
    )


def forgot_gamma(rewards, values, response_mask, gamma, lam):
    zeros = torch.zeros(len(rewards))
    return (
        recursion(rewards * response_mask, values * response_mask, zeros, lam, gamma)
        * response_mask
    )


def value_of_the_pad(rewards, values, response_mask, gamma, lam):
    next_values = torch.cat((values[:, 1:], torch.zeros(len(values), 1)), dim=1)
    deltas = (rewards + gamma * next_values - values) * response_mask
    running, out = torch.zeros(len(deltas)), torch.zeros_like(deltas)
    for t in reversed(range(deltas.shape[1])):
        out[:, t] = running = deltas[:, t] + gamma * lam * running
    return out


def the_targets(rewards, values, response_mask, gamma, lam):
    return with_two_loops(rewards, values, response_mask, gamma, lam) + values * response_mask


def with_the_mask_of_the_present_slot(rewards, values, response_mask, gamma, lam):
    advantages, last = torch.zeros_like(rewards), 0.0
    for t in reversed(range(rewards.shape[1])):
        alive = response_mask[:, t].double()
        next_value = values[:, t + 1] if t + 1 < rewards.shape[1] else 0.0
        last = (
            rewards[:, t] + gamma * next_value * alive - values[:, t] + gamma * lam * alive * last
        )
        advantages[:, t] = last
    return advantages * response_mask


def with_roll(rewards, values, response_mask, gamma, lam):
    r, v = rewards * response_mask, values * response_mask
    deltas = r + gamma * torch.roll(v, -1, 1) - v
    running, out = 0.0, torch.zeros_like(deltas)
    for t in reversed(range(deltas.shape[1])):
        out[:, t] = running = deltas[:, t] + gamma * lam * running
    return out * response_mask


def turned(rewards, values, response_mask, gamma, lam):
    return -with_two_loops(rewards, values, response_mask, gamma, lam)


def residuals(rewards, values, response_mask, gamma, lam):
    return with_two_loops(rewards, values, response_mask, gamma, 0.0)


def test_the_exercise():
    check_exercise(
        exercise,
        correct=[with_two_loops, with_a_matrix, in_float32],
        wrong={
            as_for_full_rows: "mask",
            masked_at_the_end_only: "mask",
            forgot_lam: "discount",
            forgot_gamma: "discount",
            value_of_the_pad: "value after the end",
            with_roll: "value after the end",
            the_targets: "baseline",
            turned: "sign",
            with_the_mask_of_the_present_slot: "off by one",
            residuals: "formula",
        },
    )
