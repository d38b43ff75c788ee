"""Clip-higher: what a wider upper range does for a rare token.

The clip holds a ratio, and what is rare needs a large one to become common; what is common from the
start has nowhere to lose its gradient. The first table asks the loss where that happens.

The second follows trainings in the smallest world in which it can matter: one state, and responses
of one token. One is poor, one is fair, both are common; a rare one is better than both. While the
rare one waits to be drawn, the fair one becomes the only one that is. This table is the one of the
family that has samples in it, hence the many seeds.
"""

import math
from typing import Any, NamedTuple

import torch
from torch import Tensor

from minippo.relatives.groups import standardised_advantages
from minippo.relatives.ratios import asymmetric_clipped_surrogate_loss

LOW, HIGHS = 0.2, (0.2, 0.28)  # the lower range; the upper one of PPO, and DAPO's
TOKENS = (0.01, 0.1, 0.5, 0.9)  # probabilities
GOOD = 2  # the rare response


class Trainings(NamedTuple):
    """The second table's, all alike but for what is drawn."""

    scores: tuple[float, ...] = (0.0, 0.5, 1.0)  # poor, fair, good
    start: tuple[float, ...] = (0.495, 0.495, 0.01)  # their probabilities
    groups: int = 4
    group_size: int = 8
    updates: int = 60
    steps: int = 8  # on each batch
    learning_rate: float = 1.0
    seeds: int = 500


TRAININGS = Trainings()


def loses_gradient_at(probability: float, cliprange_high: float) -> float | None:
    """The probability at which a good token that was sampled at `probability` has lost its
    gradient, by bisection; None where it has one at any."""

    def has_gradient(new: float) -> bool:
        logprobs = torch.tensor([[new]], dtype=torch.float64).log().requires_grad_()
        loss = asymmetric_clipped_surrogate_loss(
            logprobs=logprobs,
            old_logprobs=torch.tensor([[probability]], dtype=torch.float64).log(),
            advantages=torch.ones(1, 1, dtype=torch.float64),
            response_mask=torch.ones(1, 1, dtype=torch.bool),
            cliprange_low=LOW,
            cliprange_high=cliprange_high,
        )
        return bool(torch.autograd.grad(loss, logprobs)[0] != 0)

    low, high = probability, 1.0
    if has_gradient(high):
        return None
    for _ in range(50):
        middle = (low + high) / 2
        low, high = (middle, high) if has_gradient(middle) else (low, middle)
    return high


def token_rows() -> list[dict[str, float | None]]:
    """[{"probability", and where it is lost by cliprange_high}]."""
    return [
        {"probability": p} | {f"{high:g}": loses_gradient_at(p, high) for high in HIGHS}
        for p in TOKENS
    ]


def trained(cliprange_high: float, runs: Trainings, seed: int = 0) -> tuple[Tensor, Tensor]:
    """(the probabilities at the end [seeds,V], whether the rare response was ever drawn [seeds]).

    Each training has a row of the table of logits. One loss serves all: it is a mean over their
    tokens, and each has as many, so the number of trainings makes it the sum of their losses.
    """
    generator = torch.Generator().manual_seed(seed)
    logits = torch.tensor(runs.start, dtype=torch.float64).log().repeat(runs.seeds, 1)
    scores = torch.tensor(runs.scores, dtype=torch.float64)
    rows, found = runs.groups * runs.group_size, torch.zeros(runs.seeds, dtype=torch.bool)
    mask = torch.ones(runs.seeds * rows, 1, dtype=torch.bool)
    for _ in range(runs.updates):
        old = logits.log_softmax(dim=-1)
        drawn = torch.multinomial(old.exp(), rows, replacement=True, generator=generator)
        found |= (drawn == GOOD).any(dim=1)
        advantages = standardised_advantages(
            scores=scores[drawn].flatten(), group_size=runs.group_size
        )
        for _ in range(runs.steps):
            logits.requires_grad_()
            chosen = logits.log_softmax(dim=-1).gather(1, drawn)
            loss = asymmetric_clipped_surrogate_loss(
                logprobs=chosen.view(-1, 1),
                old_logprobs=old.gather(1, drawn).view(-1, 1),
                advantages=advantages.unsqueeze(1),
                response_mask=mask,
                cliprange_low=LOW,
                cliprange_high=cliprange_high,
            )
            (gradient,) = torch.autograd.grad(runs.seeds * loss, logits)
            logits = logits.detach() - runs.learning_rate * gradient
    return logits.softmax(dim=-1), found


def search_rows(runs: Trainings = TRAININGS) -> list[dict[str, Any]]:
    """[{"cliprange_high", "found": the share of trainings in which the good response was ever
    drawn, "kept": in which it ends above 1/2, "standard error" of kept}]."""
    rows = []
    for high in (*HIGHS, math.inf):
        probabilities, found = trained(high, runs)
        kept = (probabilities[:, GOOD] > 0.5).double().mean().item()
        rows.append(
            {
                "cliprange_high": f"{high:g}" if high < math.inf else "none",
                "found": found.double().mean().item(),
                "kept": kept,
                "standard error": math.sqrt(kept * (1 - kept) / runs.seeds),
            }
        )
    return rows
