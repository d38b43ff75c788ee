"""Exercise 05: right answers of several kinds pass, and each wrong one is told what it is."""

import torch
from torch.nn import functional as F

from minippo.exercises.reward_score import exercise
from tests.exercises.exercise_checks import check_exercise


def with_a_loop(chosen_outputs, chosen_mask, rejected_outputs, rejected_mask):
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


def test_the_exercise():
    check_exercise(
        exercise,
        correct=[with_a_loop, from_the_right, in_float32],
        wrong={
            last_column: "mask",
            length_minus_one: "mask",
            average_token: "wrong token",
            the_wrong_way_round: "sign",
            forgot_the_minus: "sign",
            summed: "sum for mean",
            one_by_one: "formula",
            without_gradient: "detach",
        },
    )
