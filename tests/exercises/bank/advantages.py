"""Exercise 04, `advantages`: answers as people write them, with the names of the mistakes."""

import torch


def with_two_loops(rewards, values, response_mask, gamma):
    result = torch.zeros_like(rewards)
    for b in range(rewards.shape[0]):
        length = int(response_mask[b].sum())
        for t in range(length):
            to_go = sum(gamma ** (k - t) * rewards[b, k].item() for k in range(t, length))
            result[b, t] = to_go - values[b, t].item()
    return result


def with_a_matrix(rewards, values, response_mask, gamma):
    T = rewards.shape[1]
    steps = torch.arange(T)[:, None] - torch.arange(T)[None, :]  # k - t
    weights = torch.where(steps >= 0, float(gamma) ** steps.clamp(min=0).double(), 0.0)  # [k,t]
    return ((rewards * response_mask) @ weights - values.detach()) * response_mask


@torch.no_grad()
def backwards_in_float32(rewards, values, response_mask, gamma):
    mask = response_mask.float()
    rows, running = [], torch.zeros(len(rewards))
    for t in range(rewards.shape[1] - 1, -1, -1):
        running = rewards[:, t].float() * mask[:, t] + gamma * running
        rows.insert(0, running)
    return (torch.stack(rows, dim=1) - values.float()) * mask


def backwards(rewards, gamma):
    result = torch.zeros_like(rewards)
    for t in reversed(range(rewards.shape[1])):
        result[:, t] = rewards[:, t] + (gamma * result[:, t + 1] if t + 1 < rewards.shape[1] else 0)
    return result


def no_mask_at_all(rewards, values, response_mask, gamma):
    return backwards(rewards, gamma) - values.detach()


def mask_at_the_end_only(rewards, values, response_mask, gamma):
    return (backwards(rewards, gamma) - values.detach()) * response_mask


def mask_at_the_start_only(rewards, values, response_mask, gamma):
    return backwards(rewards * response_mask, gamma) - values.detach()


def not_detached(rewards, values, response_mask, gamma):
    return (backwards(rewards * response_mask, gamma) - values) * response_mask


def expected_minus_received(rewards, values, response_mask, gamma):
    return (values.detach() - backwards(rewards * response_mask, gamma)) * response_mask


def plus_the_values(rewards, values, response_mask, gamma):
    return (backwards(rewards * response_mask, gamma) + values.detach()) * response_mask


def no_baseline(rewards, values, response_mask, gamma):
    return backwards(rewards * response_mask, gamma)


def cumsum_forwards(rewards, values, response_mask, gamma):
    result, running = torch.zeros_like(rewards), 0.0
    for t in range(rewards.shape[1]):
        running = rewards[:, t] + gamma * running
        result[:, t] = running
    return (result - values.detach()) * response_mask


def cumsum_forwards_without_gamma(rewards, values, response_mask, gamma):
    return ((rewards * response_mask).cumsum(1) - values.detach()) * response_mask


def mask_at_the_end_and_not_detached(rewards, values, response_mask, gamma):
    return (backwards(rewards, gamma) - values) * response_mask


def total_for_all(rewards, values, response_mask, gamma):
    return ((rewards * response_mask).sum(1)[:, None] - values.detach()) * response_mask


def values_of_the_next_slot(rewards, values, response_mask, gamma):
    shifted = torch.cat((values[:, 1:], torch.zeros(len(values), 1)), dim=1).detach()
    return (backwards(rewards * response_mask, gamma) - shifted) * response_mask


def cumsum_without_gamma(rewards, values, response_mask, gamma):
    return ((rewards * response_mask).flip(1).cumsum(1).flip(1) - values.detach()) * response_mask


def one_return_for_all(rewards, values, response_mask, gamma):
    first = backwards(rewards * response_mask, gamma)[:, :1]
    return (first - values.detach()) * response_mask


def from_the_next_reward(rewards, values, response_mask, gamma):
    real = rewards * response_mask
    return (backwards(real, gamma) - real - values.detach()) * response_mask


def one_step(rewards, values, response_mask, gamma):
    return (rewards - values.detach()) * response_mask


def recursion_in_place(rewards, values, response_mask, gamma):
    out = torch.where(response_mask, rewards, 0.0)
    for t in range(out.shape[1] - 2, -1, -1):
        out[:, t] += gamma * out[:, t + 1]
    return torch.where(response_mask, out - values.detach(), 0.0)


def with_lists(rewards, values, response_mask, gamma):
    rows = []
    for r, v, m in zip(rewards.tolist(), values.tolist(), response_mask.tolist(), strict=True):
        n, row, running = sum(m), [0.0] * len(m), 0.0
        for t in reversed(range(n)):
            running = r[t] + gamma * running
            row[t] = running - v[t]
        rows.append(row)
    return torch.tensor(rows)


def in_float64(rewards, values, response_mask, gamma):
    return recursion_in_place(rewards.double(), values.double(), response_mask, gamma)


def writes_into_the_rewards(rewards, values, response_mask, gamma):
    rewards[~response_mask] = 0.0
    return recursion_in_place(rewards, values, response_mask, gamma)


def no_mask_not_detached(rewards, values, response_mask, gamma):
    return backwards(rewards, gamma) - values


def undiscounted_no_mask(rewards, values, response_mask, gamma):
    return rewards.flip(1).cumsum(1).flip(1) - values.detach()


def undiscounted_not_detached(rewards, values, response_mask, gamma):
    sums = (rewards * response_mask).flip(1).cumsum(1).flip(1)
    return (sums - values) * response_mask


def values_minus_returns_without_detach(rewards, values, response_mask, gamma):
    return (values - backwards(rewards * response_mask, gamma)) * response_mask


def subtracts_before_summing(rewards, values, response_mask, gamma):
    return backwards((rewards - values.detach()) * response_mask, gamma)


def halved(rewards, values, response_mask, gamma):
    return recursion_in_place(rewards, values, response_mask, gamma) / 2


def mask_of_row_zero(rewards, values, response_mask, gamma):
    n = int(response_mask[0].sum())
    mask = torch.arange(rewards.shape[1]) < n
    return (backwards(rewards * mask, gamma) - values.detach()) * mask


def filled_with_minus_one(rewards, values, response_mask, gamma):
    return recursion_in_place(rewards, values, response_mask, gamma).masked_fill(~response_mask, -1)


def in_half(rewards, values, response_mask, gamma):
    return recursion_in_place(rewards.half(), values.half(), response_mask, gamma).float()


def in_bfloat16(rewards, values, response_mask, gamma):
    return recursion_in_place(rewards.bfloat16(), values.bfloat16(), response_mask, gamma)


RIGHT = [
    with_two_loops,
    with_a_matrix,
    backwards_in_float32,
    recursion_in_place,
    with_lists,
    in_float64,
    writes_into_the_rewards,
]
WRONG = {
    no_mask_at_all: "mask",
    mask_at_the_end_only: "mask",
    mask_at_the_start_only: "value after the end",
    not_detached: "detach",
    expected_minus_received: "sign",
    plus_the_values: "sign",
    no_baseline: "baseline",
    cumsum_forwards: "direction",
    cumsum_forwards_without_gamma: "direction",
    mask_at_the_end_and_not_detached: "mask and detach",
    total_for_all: "formula",
    values_of_the_next_slot: "shift",
    cumsum_without_gamma: "discount",
    one_return_for_all: "formula",
    from_the_next_reward: "off by one",
    one_step: "formula",
    no_mask_not_detached: "mask and detach",
    undiscounted_no_mask: "mask and discount",
    undiscounted_not_detached: "discount and detach",
    values_minus_returns_without_detach: "sign and detach",
    subtracts_before_summing: "baseline",
    halved: "scale",
    mask_of_row_zero: "batch",
    filled_with_minus_one: "mask",
    in_half: "precision",
    in_bfloat16: "precision",
}
