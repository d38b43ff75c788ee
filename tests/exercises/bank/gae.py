"""Exercise 07, `gae`: answers as people write them, with the names of the mistakes."""

import torch


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


def with_stack(rewards, values, response_mask, gamma, lam):
    r, v = torch.where(response_mask, rewards, 0.0), torch.where(response_mask, values, 0.0)
    later = torch.cat([v[:, 1:], torch.zeros_like(v[:, :1])], dim=1)
    delta = (r + gamma * later - v) * response_mask
    running, columns = torch.zeros(len(r)), []
    for t in range(r.shape[1] - 1, -1, -1):
        running = delta[:, t] + gamma * lam * running
        columns.append(running)
    return torch.stack(columns[::-1], dim=1) * response_mask


def in_float64(rewards, values, response_mask, gamma, lam):
    return with_stack(rewards.double(), values.double(), response_mask, gamma, lam)


def with_next_mask(rewards, values, response_mask, gamma, lam):
    B, T = rewards.shape
    out, following = torch.zeros(B, T), torch.zeros(B)
    for t in reversed(range(T)):
        goes_on = response_mask[:, t + 1].float() if t + 1 < T else torch.zeros(B)
        ahead = values[:, t + 1] if t + 1 < T else torch.zeros(B)
        delta = rewards[:, t] + gamma * ahead * goes_on - values[:, t]
        following = delta + gamma * lam * goes_on * following
        out[:, t] = following
    return out.masked_fill(~response_mask, 0.0)


def no_lam_no_mask(rewards, values, response_mask, gamma, lam):
    return as_for_full_rows(rewards, values, response_mask, gamma, 1.0)


def no_gamma_at_all(rewards, values, response_mask, gamma, lam):
    return with_two_loops(rewards, values, response_mask, 1.0, lam)


def negative_targets(rewards, values, response_mask, gamma, lam):
    return -the_targets(rewards, values, response_mask, gamma, lam)


def plus_the_value(rewards, values, response_mask, gamma, lam):
    r, v = rewards * response_mask, values * response_mask
    later = torch.cat((v[:, 1:], torch.zeros(len(v), 1)), dim=1)
    running, out = 0.0, torch.zeros_like(r)
    for t in reversed(range(r.shape[1])):
        out[:, t] = running = r[:, t] + gamma * later[:, t] + v[:, t] + gamma * lam * running
    return out * response_mask


def without_values(rewards, values, response_mask, gamma, lam):
    return with_two_loops(rewards, torch.zeros_like(values), response_mask, gamma, lam)


def forwards(rewards, values, response_mask, gamma, lam):
    r, v = rewards * response_mask, values * response_mask
    delta = r + gamma * torch.cat((v[:, 1:], torch.zeros(len(v), 1)), dim=1) - v
    running, out = 0.0, torch.zeros_like(r)
    for t in range(r.shape[1]):
        out[:, t] = running = delta[:, t] + gamma * lam * running
    return out * response_mask


def next_value_in_lam(rewards, values, response_mask, gamma, lam):
    r, v = rewards * response_mask, values * response_mask
    delta = r + gamma * lam * torch.cat((v[:, 1:], torch.zeros(len(v), 1)), dim=1) - v
    running, out = 0.0, torch.zeros_like(r)
    for t in reversed(range(r.shape[1])):
        out[:, t] = running = delta[:, t] + gamma * lam * running
    return out * response_mask


def delta_not_discounted(rewards, values, response_mask, gamma, lam):
    r, v = rewards * response_mask, values * response_mask
    delta = r + torch.cat((v[:, 1:], torch.zeros(len(v), 1)), dim=1) - v
    running, out = 0.0, torch.zeros_like(r)
    for t in reversed(range(r.shape[1])):
        out[:, t] = running = delta[:, t] + gamma * lam * running
    return out * response_mask


def whitened(rewards, values, response_mask, gamma, lam):
    a = with_two_loops(rewards, values, response_mask, gamma, lam)
    real = a[response_mask]
    return (a - real.mean()) / real.std(unbiased=False) * response_mask


def residuals_without_mask(rewards, values, response_mask, gamma, lam):
    return rewards + gamma * torch.cat((values[:, 1:], torch.zeros(len(values), 1)), 1) - values


def turned_and_no_lam(rewards, values, response_mask, gamma, lam):
    return -with_two_loops(rewards, values, response_mask, gamma, 1.0)


def in_half(rewards, values, response_mask, gamma, lam):
    return with_two_loops(rewards.half(), values.half(), response_mask, gamma, lam)


RIGHT = [with_two_loops, with_a_matrix, in_float32, with_stack, in_float64, with_next_mask]
WRONG = {
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
    no_lam_no_mask: "discount and mask",
    no_gamma_at_all: "discount",
    negative_targets: "sign and baseline",
    plus_the_value: "sign",
    without_values: "baseline",
    forwards: "direction",
    next_value_in_lam: "discount",
    delta_not_discounted: "discount",
    whitened: "scale",
    residuals_without_mask: "formula and mask",
    turned_and_no_lam: "discount and sign",
    in_half: "precision",
}
