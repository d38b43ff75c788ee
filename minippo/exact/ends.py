"""Where a method ends: its exact mean step is followed from the reference.

theta += eta G / (d(s) pi(a|s)) on a table of logits, entries cut at +-1, where G is the mean
gradient and d(s) pi(a|s) how often a token is chosen: the natural gradient of a table. Four kinds
of end:

    interior        max |G| < 1e-10
    one response    a probability above 0.999, and rising
    jump            G does not become small near pi* but turns over there like a sign; the step is
                    made smaller and smaller instead
    none            nothing of this after all steps: no number is given
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from minippo.exact.oracle import reach_probabilities, response_probabilities, total_variation
from minippo.exact.world import World

MeanStep = Callable[[Tensor], Tensor]  # logits [K,V] -> G [K,V]
STILL, SURE = 1e-10, 0.999
MOST_STEPS, SMALL_STEPS = 5000, 500


@dataclass(frozen=True)
class End:
    """Where the steps led: "interior", "one response", "jump" or "none"."""

    kind: str
    logits: Tensor
    steps: int
    response: int | None = None  # which one, of kind "one response"


def natural(world: World, logits: Tensor, gradient: Tensor) -> Tensor:
    """G / (d(s) pi(a|s)): what log pi(a|s) gains by a small step of natural gradient."""
    visits = reach_probabilities(world, logits).unsqueeze(1) * torch.softmax(logits, dim=-1)
    return gradient / visits


def follow(world: World, step: MeanStep, start: Tensor, *, size: float, steps: int) -> End:
    """Steps of one size until G is 0 or one response has nearly all probability."""
    logits, last_sure = start.log_softmax(-1), 1.0
    for number in range(steps):
        gradient = step(logits)
        if gradient.abs().max() < STILL:
            return End("interior", logits, number)
        sure, which = response_probabilities(world, logits).max(dim=0)
        if sure > SURE and sure > last_sure:
            return End("one response", logits, number, int(which))
        last_sure = sure.item()
        move = natural(world, logits, gradient)
        logits = (logits + (size * move).clamp(-1, 1)).log_softmax(-1)
    return End("none", logits, steps)


def turns_over(world: World, step: MeanStep, at: Tensor, seed: int = 0) -> bool:
    """Does the mean step change from one side of a policy to the other as much at a thousandth of
    the distance: is it a jump, and no slope?"""
    generator = torch.Generator().manual_seed(seed)
    away = torch.randn(at.shape, generator=generator, dtype=at.dtype)
    far, close = (
        (step(at + distance * away) - step(at - distance * away)).norm()
        for distance in (1e-3, 1e-6)
    )
    return bool(close > 0.5 * far)


def shrinking(world: World, step: MeanStep, start: Tensor, steps: int = SMALL_STEPS) -> Tensor:
    """The policy after steps of size 0.5 / (1 + i / 20)."""
    logits = start.log_softmax(-1)
    for number in range(steps):
        move = natural(world, logits, step(logits))
        logits = (logits + (0.5 / (1 + number / 20) * move).clamp(-1, 1)).log_softmax(-1)
    return logits


def end_of(world: World, step: MeanStep, start: Tensor, best: Tensor, size: float) -> End:
    """The end from one start; `best` is where a jump is looked for."""
    if turns_over(world, step, best):
        return End("jump", shrinking(world, step, start), SMALL_STEPS)
    for part in (1, 4):  # where the first steps are too long for the end
        end = follow(world, step, start, size=size / part, steps=MOST_STEPS // 2)
        if end.kind != "none":
            break
    return end


def same_end(world: World, one: End, other: End) -> bool:
    """Within 1e-6 in total variation, or the same response; jumps within 0.01."""
    if one.kind != other.kind or one.kind == "none":
        return False
    if one.kind == "one response":
        return one.response == other.response
    apart = total_variation(world, one.logits, other.logits).item()
    return apart < (0.01 if one.kind == "jump" else 1e-6)
