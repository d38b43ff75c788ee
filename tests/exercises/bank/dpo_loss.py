"""Exercise 17, `dpo_loss`: answers as people write them, with the names of the mistakes."""

import torch
import torch.nn.functional as F


def usual(chosen_logprobs, rejected_logprobs, ref_chosen_logprobs, ref_rejected_logprobs, beta):
    pi = chosen_logprobs - rejected_logprobs
    ref = ref_chosen_logprobs - ref_rejected_logprobs
    return -F.logsigmoid(beta * (pi - ref)).mean()


def implicit_rewards(
    chosen_logprobs, rejected_logprobs, ref_chosen_logprobs, ref_rejected_logprobs, beta
):
    chosen = beta * (chosen_logprobs - ref_chosen_logprobs)
    rejected = beta * (rejected_logprobs - ref_rejected_logprobs)
    return -torch.nn.functional.logsigmoid(chosen - rejected).mean()


def with_softplus(
    chosen_logprobs, rejected_logprobs, ref_chosen_logprobs, ref_rejected_logprobs, beta
):
    h = (chosen_logprobs - ref_chosen_logprobs) - (rejected_logprobs - ref_rejected_logprobs)
    return F.softplus(-beta * h).mean()


def with_logaddexp(
    chosen_logprobs, rejected_logprobs, ref_chosen_logprobs, ref_rejected_logprobs, beta
):
    h = (chosen_logprobs - ref_chosen_logprobs) - (rejected_logprobs - ref_rejected_logprobs)
    return torch.logaddexp(torch.zeros_like(h), -beta * h).sum() / len(h)


def as_cross_entropy(
    chosen_logprobs, rejected_logprobs, ref_chosen_logprobs, ref_rejected_logprobs, beta
):
    h = (chosen_logprobs - ref_chosen_logprobs) - (rejected_logprobs - ref_rejected_logprobs)
    return F.binary_cross_entropy_with_logits(beta * h, torch.ones_like(h))


def in_double(chosen_logprobs, rejected_logprobs, ref_chosen_logprobs, ref_rejected_logprobs, beta):
    given = (chosen_logprobs, rejected_logprobs, ref_chosen_logprobs, ref_rejected_logprobs)
    return usual(*(x.double() for x in given), beta)


def pair_by_pair(
    chosen_logprobs, rejected_logprobs, ref_chosen_logprobs, ref_rejected_logprobs, beta
):
    losses = []
    for c, r, rc, rr in zip(
        chosen_logprobs, rejected_logprobs, ref_chosen_logprobs, ref_rejected_logprobs, strict=True
    ):
        losses.append(-F.logsigmoid(beta * ((c - rc) - (r - rr))))
    return sum(losses) / len(losses)


def made(formula):
    """An answer from a formula of (policy's margin, reference's margin, beta)."""

    def answer(
        chosen_logprobs, rejected_logprobs, ref_chosen_logprobs, ref_rejected_logprobs, beta
    ):
        return formula(
            chosen_logprobs - rejected_logprobs, ref_chosen_logprobs - ref_rejected_logprobs, beta
        )

    return answer


WRONG_FORMULAS = [
    ("no reference", "baseline", lambda p, q, b: -F.logsigmoid(b * p).mean()),
    ("turned", "sign", lambda p, q, b: -F.logsigmoid(b * (q - p)).mean()),
    ("reference added", "sign", lambda p, q, b: -F.logsigmoid(b * (p + q)).mean()),
    ("no beta", "scale", lambda p, q, b: -F.logsigmoid(p - q).mean()),
    ("beta in front", "scale", lambda p, q, b: -b * F.logsigmoid(p - q).mean()),
    ("over beta", "scale", lambda p, q, b: -F.logsigmoid((p - q) / b).mean()),
    ("no log", "log", lambda p, q, b: -torch.sigmoid(b * (p - q)).mean()),
    ("sum", "sum for mean", lambda p, q, b: -F.logsigmoid(b * (p - q)).sum()),
    ("per pair", "batch", lambda p, q, b: -F.logsigmoid(b * (p - q))),
    ("mean inside", "batch", lambda p, q, b: -F.logsigmoid(b * (p - q).mean())),
    ("ipo", "formula", lambda p, q, b: ((p - q) - 1 / (2 * b)).pow(2).mean()),
    ("hinge", "formula", lambda p, q, b: (1 - b * (p - q)).clamp(min=0).mean()),
    ("detached", "detach", lambda p, q, b: -F.logsigmoid(b * (p - q).detach()).mean()),
    ("margin alone", "formula", lambda p, q, b: -b * (p - q).mean()),
    ("likelihood", "sign", lambda p, q, b: F.logsigmoid(b * (p - q)).mean()),
    ("log of sigmoid", "log", lambda p, q, b: -torch.log(torch.sigmoid(b * (p - q))).mean()),
    ("log1p of exp", "log", lambda p, q, b: torch.log(1 + torch.exp(-b * (p - q))).mean()),
    ("twice", "scale", lambda p, q, b: -2 * F.logsigmoid(b * (p - q)).mean()),
    ("no reference, sum", "baseline and sum for mean", lambda p, q, b: -F.logsigmoid(b * p).sum()),
    ("no reference, no beta", "baseline and scale", lambda p, q, b: -F.logsigmoid(p).mean()),
    ("turned, sum", "sign and sum for mean", lambda p, q, b: -F.logsigmoid(b * (q - p)).sum()),
]

RIGHT = [
    usual,
    implicit_rewards,
    with_softplus,
    with_logaddexp,
    as_cross_entropy,
    in_double,
    pair_by_pair,
]
WRONG = {}
for title, name, formula in WRONG_FORMULAS:
    answer = made(formula)
    answer.__name__ = title
    WRONG[answer] = name
