"""What is wrong with a user's files, in one line with its place."""

import json
import os
from collections.abc import Iterable
from pathlib import Path

from minippo.errors import InputError

MAX_SHOWN = 40  # characters of a user's content quoted in a message
PAGE = "docs/your-data.md"  # what is read, and recipes for what is not


class Unusable(Exception):
    """A row that can't be used: the field, where it is known, and what is wrong with it."""

    def __init__(self, field: str | None, what: str) -> None:
        super().__init__(what)
        self.field, self.what = field, what


def fault(
    name: str,
    line: int | None = None,
    field: str | None = None,
    what: str = "",
    *,
    unit: str = "line",
) -> InputError:
    """The InputError for a file, and where they are known its line and field."""
    place = name + (f", {unit} {line}" if line else "") + (f", field {field}" if field else "")
    return InputError(f"{place}: {what}")


def shown(text: str) -> str:
    """A text quoted for a message: cut when long, and repr writes what is not printable as
    escapes."""
    return repr(text if len(text) <= MAX_SHOWN else text[:MAX_SHOWN] + "...")


def shown_path(path: str | Path) -> str:
    """A path quoted for a message: never cut, as it is what the user has to look for."""
    return repr(os.fspath(path))


def shown_list(names: Iterable[str]) -> str:
    """The first few of some names, quoted."""
    names = list(names)
    more = f" and {len(names) - 5} more" if len(names) > 5 else ""
    return ", ".join(shown(name) for name in names[:5]) + more


def json_type(value: object) -> str:
    """A JSON value's type in JSON's words."""
    if value is None or isinstance(value, bool):
        return json.dumps(value)
    kinds = {dict: "an object", list: "a list", str: "a string", float: "a number", int: "a number"}
    return kinds.get(type(value), f"a value of type {type(value).__name__}")
