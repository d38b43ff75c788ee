"""Exercise 01, `token_logprobs`: answers as people write them, with the names of the mistakes."""

import torch
from torch.nn import functional as F


def with_a_loop(logits, tokens, prompt_length, response_mask):
    rows = []
    for b in range(len(tokens)):
        row = []
        for t in range(response_mask.shape[1]):
            position = prompt_length + t
            value = logits[b, position - 1, tokens[b, position]] - torch.logsumexp(
                logits[b, position - 1], dim=0
            )
            row.append(value if response_mask[b, t] else value * 0)
        rows.append(torch.stack(row))
    return torch.stack(rows)


def in_float32(logits, tokens, prompt_length, response_mask):
    chosen = F.log_softmax(logits.float(), dim=-1)[:, prompt_length - 1 : -1].gather(
        2, tokens[:, prompt_length:].unsqueeze(2)
    )
    return chosen.squeeze(2).masked_fill(~response_mask, 0.0)


def with_cross_entropy(logits, tokens, prompt_length, response_mask):
    losses = F.cross_entropy(logits[:, :-1].transpose(1, 2), tokens[:, 1:], reduction="none")
    return -losses[:, prompt_length - 1 :] * response_mask


def read_where_they_stand(logits, tokens, prompt_length, response_mask):
    chosen = logits.log_softmax(-1).gather(2, tokens[..., None])[..., 0]
    return chosen[:, prompt_length:] * response_mask


def no_mask(logits, tokens, prompt_length, response_mask):
    return logits.log_softmax(-1)[:, prompt_length - 1 : -1].gather(
        2, tokens[:, prompt_length:, None]
    )[..., 0]


def no_softmax(logits, tokens, prompt_length, response_mask):
    return (
        logits[:, prompt_length - 1 : -1].gather(2, tokens[:, prompt_length:, None])[..., 0]
        * response_mask
    )


def no_log(logits, tokens, prompt_length, response_mask):
    return (
        logits.softmax(-1)[:, prompt_length - 1 : -1].gather(2, tokens[:, prompt_length:, None])[
            ..., 0
        ]
        * response_mask
    )


def cross_entropy_as_it_is(logits, tokens, prompt_length, response_mask):
    return -with_cross_entropy(logits, tokens, prompt_length, response_mask)


@torch.no_grad()
def without_gradient(logits, tokens, prompt_length, response_mask):
    return in_float32(logits, tokens, prompt_length, response_mask)


def with_indices(logits, tokens, prompt_length, response_mask):
    log_pi = torch.log_softmax(logits, dim=-1)
    B, T = response_mask.shape
    b = torch.arange(B)[:, None]
    t = torch.arange(T)[None] + prompt_length
    return torch.where(response_mask, log_pi[b, t - 1, tokens[b, t]], 0.0)


def in_float64(logits, tokens, prompt_length, response_mask):
    return with_indices(logits.double(), tokens, prompt_length, response_mask)


def with_one_hot(logits, tokens, prompt_length, response_mask):
    log_pi = logits[:, prompt_length - 1 : -1].log_softmax(-1)
    hot = F.one_hot(tokens[:, prompt_length:], logits.shape[-1])
    return (log_pi * hot).sum(-1) * response_mask


def stable_by_hand(logits, tokens, prompt_length, response_mask):
    x = logits[:, prompt_length - 1 : -1]
    x = x - x.max(-1, keepdim=True).values
    x = x - x.exp().sum(-1, keepdim=True).log()
    return x.gather(2, tokens[:, prompt_length:, None])[..., 0] * response_mask


def log_of_softmax(logits, tokens, prompt_length, response_mask):
    p = logits[:, prompt_length - 1 : -1].softmax(-1)
    p = p.gather(2, tokens[:, prompt_length:, None])[..., 0]
    return torch.where(response_mask, p.log(), 0.0)


def logsumexp_by_hand(logits, tokens, prompt_length, response_mask):
    x = logits[:, prompt_length - 1 : -1]
    x = x - x.exp().sum(-1, keepdim=True).log()
    return torch.where(response_mask, x.gather(2, tokens[:, prompt_length:, None])[..., 0], 0.0)


def no_shift_no_mask(logits, tokens, prompt_length, response_mask):
    log_pi = logits.log_softmax(-1)[:, prompt_length:]
    return log_pi.gather(2, tokens[:, prompt_length:, None])[..., 0]


def no_shift_raw(logits, tokens, prompt_length, response_mask):
    x = logits[:, prompt_length:].gather(2, tokens[:, prompt_length:, None])[..., 0]
    return x * response_mask


def raw_without_mask(logits, tokens, prompt_length, response_mask):
    return logits[:, prompt_length - 1 : -1].gather(2, tokens[:, prompt_length:, None])[..., 0]


def negative_without_mask(logits, tokens, prompt_length, response_mask):
    losses = F.cross_entropy(logits[:, :-1].transpose(1, 2), tokens[:, 1:], reduction="none")
    return losses[:, prompt_length - 1 :]


def over_the_positions(logits, tokens, prompt_length, response_mask):
    x = logits.log_softmax(1)[:, prompt_length - 1 : -1]
    return x.gather(2, tokens[:, prompt_length:, None])[..., 0] * response_mask


def likeliest(logits, tokens, prompt_length, response_mask):
    return logits.log_softmax(-1)[:, prompt_length - 1 : -1].max(-1).values * response_mask


def minus_infinity(logits, tokens, prompt_length, response_mask):
    return with_indices(logits, tokens, prompt_length, response_mask).masked_fill(
        ~response_mask, -100.0
    )


def summed(logits, tokens, prompt_length, response_mask):
    return with_indices(logits, tokens, prompt_length, response_mask).sum(1)


def detached_no_mask(logits, tokens, prompt_length, response_mask):
    return no_mask(logits.detach(), tokens, prompt_length, response_mask)


def from_column_zero(logits, tokens, prompt_length, response_mask):
    T = response_mask.shape[1]
    x = logits.log_softmax(-1)[:, :-1].gather(2, tokens[:, 1:, None])[..., 0]
    return x[:, :T] * response_mask


def two_too_early(logits, tokens, prompt_length, response_mask):
    moved = torch.roll(logits, 1, dims=1)
    return with_indices(moved, tokens, prompt_length, response_mask)


def in_half(logits, tokens, prompt_length, response_mask):
    return with_indices(logits.half(), tokens, prompt_length, response_mask).float()


def softmax_twice(logits, tokens, prompt_length, response_mask):
    return with_indices(logits.softmax(-1), tokens, prompt_length, response_mask)


RIGHT = [
    with_a_loop,
    in_float32,
    with_cross_entropy,
    with_indices,
    in_float64,
    with_one_hot,
    stable_by_hand,
]
WRONG = {
    read_where_they_stand: "shift",
    no_mask: "mask",
    no_softmax: "softmax",
    no_log: "log",
    cross_entropy_as_it_is: "sign",
    without_gradient: "detach",
    log_of_softmax: "log",
    logsumexp_by_hand: "log",
    no_shift_no_mask: "shift and mask",
    no_shift_raw: "shift and softmax",
    raw_without_mask: "softmax and mask",
    negative_without_mask: "sign and mask",
    over_the_positions: "softmax",
    likeliest: "wrong token",
    minus_infinity: "mask",
    summed: "batch",
    detached_no_mask: "mask and detach",
    from_column_zero: "shift",
    two_too_early: "shift",
    in_half: "precision",
    softmax_twice: "softmax",
}
