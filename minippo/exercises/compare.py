"""When two observations are the same: within what float32 can tell."""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from minippo.exercises.observe import (
    Answer,
    Case,
    NoTensor,
    Observation,
    as_tensor,
    observe_one,
    wide,
)

TOLERANCE = 1e-4  # of answers in float32, relative to 1 + the right value
OWN_ERRORS = 4  # an extreme case may be off by so many times the right answer's own error


class Right(NamedTuple):
    """What the right answer does with a case, in float64, and how much more than the tolerance an
    answer may be off: of the value, of each gradient."""

    seen: Observation
    value_slack: float
    gradient_slack: dict[str, float]


def right_of(
    reference: Callable[..., Tensor], case: Case, gradient_of: Sequence[str] = ()
) -> Right:
    """The right answer in float64. Where the case is extreme, its own error in float32 widens the
    tolerance."""
    seen = observe_one(reference, wide(case), gradient_of)
    if seen.value is None:
        raise AssertionError(f"the reference fails on its own case: {seen.fault}")
    if case.slip is None:
        return Right(seen, 0.0, dict.fromkeys(gradient_of, 0.0))
    rounded = observe_one(reference, case, gradient_of)
    if rounded.value is None:
        raise AssertionError(f"the reference fails in float32: {rounded.fault}")
    return Right(
        seen,
        OWN_ERRORS * largest_gap(rounded.value, seen.value),
        {
            name: OWN_ERRORS * largest_gap(rounded.gradients[name], seen.gradients[name])
            for name in gradient_of
        },
    )


def largest_gap(one: Tensor, other: Tensor) -> float:
    return (one - other).abs().nan_to_num(0.0).max().item()


def places_that_agree(a: Tensor, b: Tensor, slack: float = 0.0) -> Tensor:
    """Where two tensors of one shape agree, bool of that shape; b is what is wanted."""
    return torch.isclose(
        a.double(), b.double(), rtol=TOLERANCE, atol=TOLERANCE + slack, equal_nan=True
    )


def close(a: Tensor | None, b: Tensor | None, slack: float = 0.0) -> bool:
    if a is None or b is None or a.shape != b.shape:
        return False
    return bool(places_that_agree(a, b, slack).all())


def value_is_right(seen: Observation, right: Right) -> bool:
    return close(seen.value, right.seen.value, right.value_slack)


def wrong_gradients(seen: Observation, right: Right) -> list[str]:
    """The inputs to which the gradient is not the right one."""
    return [
        name
        for name, wanted in right.seen.gradients.items()
        if not close(seen.gradients.get(name), wanted, right.gradient_slack[name])
    ]


def is_right(seen: Observation, right: Right) -> bool:
    return value_is_right(seen, right) and not wrong_gradients(seen, right)


def value_of(function: Answer, case: dict[str, Any]) -> Tensor | None:
    """The value alone, of a function that is known to leave its arguments as they are; None where
    it fails."""
    try:
        return as_tensor(function(**case)).detach().double()
    except (RuntimeError, ValueError, IndexError, TypeError, NoTensor):
        return None
