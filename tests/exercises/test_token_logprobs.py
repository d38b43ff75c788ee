"""Exercise 01: right answers of several kinds pass, and each wrong one is told what it is."""

import torch
from torch.nn import functional as F

from minippo.exercises.token_logprobs import exercise
from tests.exercises.exercise_checks import check_exercise


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


def test_the_exercise():
    check_exercise(
        exercise,
        correct=[with_a_loop, in_float32, with_cross_entropy],
        wrong={
            read_where_they_stand: "shift",
            no_mask: "mask",
            no_softmax: "softmax",
            no_log: "log",
            cross_entropy_as_it_is: "sign",
            without_gradient: "detach",
        },
    )
