"""Words and numbers as the page shows them: every text from a file goes through `escaped`, and
there is no other way onto the page."""

import html
import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from minippo.runs.read import is_number
from minippo.runs.text import is_harmless

LONGEST = 4000  # characters of a text that are shown
UNKNOWN = "\N{EN DASH}"


def escaped(text: object) -> str:
    """A text as HTML that shows it and does nothing else, in an attribute too. What could hide or
    turn other characters becomes an escape, a line break stays."""
    shown = str(text)
    shown = shown if len(shown) <= LONGEST else shown[:LONGEST] + "\N{HORIZONTAL ELLIPSIS}"
    harmless = "".join(
        c if c == "\n" or is_harmless(c) else c.encode("unicode_escape").decode("ascii")
        for c in shown
    )
    return html.escape(harmless, quote=True)


def number(value: Any, decimals: int = 2) -> str:
    """'0.25'; a dash for what is not known."""
    if value is None:
        return UNKNOWN
    if not is_number(value):
        raise TypeError(f"wanted a number, got {str(value)[:40]!r}")
    return str(value) if type(value) is int else f"{value:.{decimals}f}"


def short(value: Any) -> str:
    """A number of any size with three digits: '0.000412', '1.31e+06'."""
    if value is None:
        return UNKNOWN
    if not is_number(value):
        raise TypeError(f"wanted a number, got {str(value)[:40]!r}")
    return f"{value:.3g}"


def sentence(text: str) -> str:
    """'gold 1.03 -> 2.89 of 3' with a capital, an arrow and a full stop, as HTML."""
    return escaped(text[:1].upper() + text[1:]).replace("-&gt;", "\N{RIGHTWARDS ARROW}") + "."


def row(cells: Iterable[str], kind: str = "td") -> str:
    """A row of a table; the cells are HTML already."""
    return "<tr>" + "".join(f"<{kind}>{cell}</{kind}>" for cell in cells) + "</tr>"


def table(head: Sequence[str], rows: Iterable[Sequence[str]], name: str, caption: str = "") -> str:
    """A table whose cells are HTML; each cell knows its column, for a narrow screen."""
    heads = "".join(f'<th scope="col">{escaped(title)}</th>' for title in head)
    body = "".join(
        "<tr>"
        + "".join(
            f'<td data-column="{escaped(title)}">{cell}</td>'
            for title, cell in zip(head, cells, strict=True)
        )
        + "</tr>"
        for cells in rows
    )
    caption = f"<caption>{escaped(caption)}</caption>" if caption else ""
    inside = f"{caption}<thead><tr>{heads}</tr></thead><tbody>{body}</tbody>"
    return f'<table class="{name}">{inside}</table>'


def section(name: str, title: str, content: str, note: str = "") -> str:
    """A part of the page under its heading; nothing where there is no content."""
    if not content:
        return ""
    about = f'<p class="note">{note}</p>' if note else ""
    return f'<section id="{name}"><h2>{escaped(title)}</h2>{about}{content}</section>\n'


def value_of(setting: Any) -> str:
    """A setting as it is written on the command line. Of a path only its last part is shown: where
    a folder lies says nothing about the run."""
    if setting is None or isinstance(setting, bool):
        return str(setting).lower()
    if isinstance(setting, str):
        return setting.replace("\\", "/").rstrip("/").rpartition("/")[2]
    return short(setting) if isinstance(setting, float) else str(setting)


def flat(config: Mapping[str, Any]) -> dict[str, dict[str, str]]:
    """{section: {field: text}} of what config.json holds beside its digests."""
    found: dict[str, dict[str, str]] = {}
    for name, fields in config.items():
        if isinstance(fields, dict):
            found[name] = {
                field: value_of(value)
                for field, value in fields.items()
                if not isinstance(value, (dict, list))
            }
    return found


def as_data(obj: object) -> str:
    """An object as JSON that can stand in a script element: no text in it ends the element."""
    text = json.dumps(obj, allow_nan=False, separators=(",", ":"))
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")
