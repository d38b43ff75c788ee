"""Which mistake an answer has made: it does what the mistake does, on every case."""

from collections.abc import Callable, Sequence
from typing import NamedTuple

from torch import Tensor

from minippo.exercises.compare import Right
from minippo.exercises.observe import Case, Observation

ENOUGH = 3  # numbers that a mistake must change, for a match to say something
Function = Callable[..., Tensor]


class Mistake(NamedTuple):
    """A wrong answer that people really give, what to tell them, and the function that makes it."""

    name: str
    message: str
    function: Function


class Change(NamedTuple):
    """What turns any function of the exercise's arguments into one with a mistake more."""

    name: str
    message: str
    apply: Callable[[Function], Function]


class Found(NamedTuple):
    """The names of the mistakes that were recognised, and what to tell."""

    names: tuple[str, ...]
    messages: tuple[str, ...]


class Given(NamedTuple):
    """What there is to recognise: an answer's observations beside the right ones."""

    seen: Sequence[Observation]
    cases: Sequence[Case]
    rights: Sequence[Right]
    gradient_of: tuple[str, ...]

    def ordinary(self) -> list[int]:
        return [k for k, case in enumerate(self.cases) if case.slip is None]


class Match(NamedTuple):
    """How far an answer does what a candidate does: what is to be added about gradients and about
    extreme cases, or that the gradients are another matter."""

    added: tuple[tuple[str, str], ...]
    gradients: bool
