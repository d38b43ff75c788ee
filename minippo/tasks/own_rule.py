"""A rule of the user's own, called with care: what it gives is looked at, what it raises becomes
one line, and a call that takes long is told of."""

import math
from collections.abc import Callable, Mapping
from numbers import Real
from typing import Any

from minippo.errors import InputError, TrainingError
from minippo.tasks.own_file import Own, in_one_line
from minippo.tasks.patience import Patience

MOST_SHOWN = 60  # characters of a value in a message


class OwnRule:
    """OwnRule(own, function)(prompt, response) -> {name: number}.

    The names have to be the same at every call; a rule that gives one number names it "rule".
    TrainingError, or whatever `kind` says, with file and line.
    """

    def __init__(self, own: Own, function: Callable[[str, str], Any]) -> None:
        self.own, self.function = own, function
        self.patience = Patience()
        self.names: set[str] | None = None  # that it has given

    def __call__(
        self,
        prompt: str,
        response: str,
        kind: type[InputError] | type[TrainingError] = TrainingError,
    ) -> dict[str, float]:
        asked = f"the prompt {shown(prompt)} and the response {shown(response)}"
        doing = f"for {asked} the rule raised "
        with (
            in_one_line(self.own, kind, doing, self._place()),
            self.patience.call(prompt, response),
        ):
            value = self.function(prompt, response)
        try:
            parts = numbers_of(value)
            self.names = set(parts) if self.names is None else self.names
            if set(parts) != self.names:
                names = " and ".join(map(shown, sorted(self.names)))
                raise ValueError(f"{shown(sorted(parts))} where it gave {names} before")
        except ValueError as error:
            raise kind(
                f"{self._place()}: for {asked} the rule gave {error}; wanted a finite number, or a "
                "dict of them"
            ) from error
        return parts

    def score(self, prompt: str, response: str) -> float:
        """The sum of what it gives."""
        return sum(self(prompt, response).values())

    def _place(self):
        """file, line of its def."""
        code = getattr(self.function, "__code__", None)
        return self.own.file if code is None else f"{self.own.file}, line {code.co_firstlineno}"


def numbers_of(value: Any) -> dict[str, float]:
    """{name: number} of what a rule gave. ValueError says what it was."""
    is_dict = isinstance(value, Mapping)
    parts = value if is_dict else {"rule": value}
    if not parts:
        raise ValueError("an empty dict")
    for name, number in parts.items():
        if not isinstance(name, str):
            raise ValueError(f"a dict with the name {shown(name)}")
        if not isinstance(number, Real) or not math.isfinite(number):
            what = str(number) if isinstance(number, Real) else kind_of(number)
            raise ValueError(f"{shown(name)}: {what}" if is_dict else what)
    return {name: float(number) for name, number in parts.items()}


def shown(value: object) -> str:
    """A value in a message, on one line and not too long."""
    try:
        text = ascii(value)
    except Exception:  # its own __repr__ fails
        text = kind_of(value)
    return text if len(text) <= MOST_SHOWN else text[:MOST_SHOWN] + "..."


def kind_of(value: object) -> str:
    """None, a str, a list."""
    return "None" if value is None else f"a {type(value).__name__}"
