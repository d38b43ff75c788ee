"""A field of a configuration with its range, checked when it is made.

Each stage holds a frozen dataclass of such fields, its section of the configuration;
commands.config puts the sections together. The field's name is the flag's name, its `help` the
flag's help.
"""

import math
from dataclasses import Field, field, fields
from typing import Any

KINDS = {int: "a whole number", float: "a number", bool: "true or false", str: "a text"}


def setting(
    default: Any,
    help: str,
    low: float | None = None,
    high: float | None = None,
    choices: tuple[str, ...] | None = None,
    open_low: bool = False,
    own: str | None = None,
) -> Any:
    """A field with its range: [low, high], or (low, high] with open_low.

    own: beside its choices it may be something in a file of the user's, FILE.py:NAME, and this is
    what that is called in messages.
    """
    limits = {"help": help, "low": low, "high": high, "choices": choices, "open_low": open_low}
    limits["own"] = own
    return field(default=default, metadata=limits)


def positive(default: float, help: str) -> Any:
    """A field for a number above 0."""
    return setting(default, help, low=0.0, open_low=True)


def count(default: int, help: str, low: int = 1, high: int = 10**6) -> Any:
    """A field for a whole number."""
    return setting(default, help, low=low, high=high)


class Checked:
    """Refuses, when made, a value of the wrong type, not finite or out of its range; the message
    names the field."""

    def __post_init__(self) -> None:
        # the subclasses are dataclasses
        for item in fields(self):  # pyright: ignore[reportArgumentType]
            check_value(item, getattr(self, item.name))


def check_value(item: Field, value: Any) -> None:
    """ValueError unless the value fits the field."""
    if value is None:
        if may_be_none(item):
            return
        raise ValueError(f"{item.name}: needs a value")
    kind, limits = kind_of(item), item.metadata
    if kind is float and type(value) is int:
        value = float(value) if abs(value) < 1e300 else math.inf
    if type(value) is not kind:
        raise ValueError(f"{item.name}: wanted {KINDS[kind]}, got {value!r}")
    if limits["choices"] and value not in limits["choices"] and not _is_own(limits, value):
        choices = ", ".join(map(str, limits["choices"]))
        choices += f" or {limits['own']}" if limits["own"] else ""
        raise ValueError(f"{item.name}: wanted one of {choices}, got {value!r}")
    if kind is float and not math.isfinite(value):
        raise ValueError(f"{item.name}: wanted a finite number, got {value!r}")
    low, high = limits["low"], limits["high"]
    too_low = low is not None and (value <= low if limits["open_low"] else value < low)
    if too_low or (high is not None and value > high):
        raise ValueError(f"{item.name}: wanted {_range(limits)}, got {value!r}")


def is_own(text: str) -> bool:
    """Is this FILE.py:NAME?"""
    file, colon, name = text.rpartition(":")
    return bool(colon) and file.endswith(".py") and name.isidentifier()


def _is_own(limits: Any, value: Any) -> bool:
    return limits["own"] is not None and is_own(value)


def kind_of(item: Field) -> type:
    """int, float, bool or str: the type in the annotation, without its "or None"."""
    name = str(getattr(item.type, "__name__", item.type)).split(" ")[0]
    return next(kind for kind in KINDS if kind.__name__ == name)


def may_be_none(item: Field) -> bool:
    """Is None among the field's values?"""
    return "None" in str(item.type)


def _range(limits: Any) -> str:
    low, high = limits["low"], limits["high"]
    if high is None:
        return f"more than {low}" if limits["open_low"] else f"at least {low}"
    return f"a number in {'(' if limits['open_low'] else '['}{low}, {high}]"
