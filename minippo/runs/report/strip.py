"""A response token by token: a strip that shows the numbers of the token that is pointed at, and
the same numbers in a table."""

from collections.abc import Mapping, Sequence
from typing import Any

from minippo.runs.report.texts import escaped, short, table

LEVELS = 4  # shades on each side of 0
MOST_TOKENS = 400  # of one strip
LONGEST_TABLE = 60  # tokens; a longer table says less than the strip
NUMBERS = (  # the name in the row of a token, what it is called here
    ("before", "log-prob before"),
    ("after", "log-prob after"),
    ("value", "value"),
    ("reward", "reward"),
    ("advantage", "advantage"),
    ("kl", "KL"),
)
SHADES = ("advantage", "change", "kl", "value", "reward")  # what the colour can show
Token = Mapping[str, Any]


def strips(rows: Sequence[Mapping[str, Any]]) -> str:
    """A strip for each row of samples_over_time.jsonl that has tokens."""
    rows = [row for row in rows if row.get("tokens")]
    if not rows:
        return ""
    largest = {
        shade: max(abs(of_shade(token, shade) or 0.0) for row in rows for token in row["tokens"])
        for shade in SHADES
    }
    there = [shade for shade in SHADES if largest[shade] > 0]
    options = "".join(f'<option value="{SHADES.index(s)}">{words(s)}</option>' for s in there)
    control = f'<p class="shade" hidden><label>Colour shows <select id="shade">{options}</select>'
    return control + "</label></p>" + "".join(strip(row, largest) for row in rows)


def words(shade: str) -> str:
    """What a shade is called."""
    names = {"change": "change of the log-prob", "kl": "KL"}
    return names.get(shade, shade)


def strip(row: Mapping[str, Any], largest: Mapping[str, float]) -> str:
    """One response; each token tells its numbers to a pointer, also without JavaScript."""
    tokens = row["tokens"][:MOST_TOKENS]
    spans = []
    for i, token in enumerate(tokens):
        levels = [level(of_shade(token, shade), largest[shade]) for shade in SHADES]
        spans.append(
            f'<span class="token {kind(levels[0])}" tabindex="{0 if i == 0 else -1}" '
            f'data-levels="{" ".join(map(str, levels))}" title="{escaped(told(token))}">'
            f"{escaped(token['text'])}</span>"
        )
    rest = len(row["tokens"]) - len(tokens)
    more = f" <small>and {rest} more</small>" if rest else ""
    return (
        f'<div class="strip"><p class="prompt">{escaped(row["prompt"])}</p>'
        f'<p class="tokens" role="group" aria-label="response, token by token">{" ".join(spans)}'
        f'{more}</p><p class="told" aria-live="polite" hidden></p>{numbers_table(tokens)}</div>'
    )


def told(token: Token) -> str:
    """All its numbers in one line."""
    known = [(name, token[key]) for key, name in NUMBERS]
    return f"{token['text']}: " + ", ".join(f"{name} {short(value)}" for name, value in known)


def numbers_table(tokens: Sequence[Token]) -> str:
    """The same as a table, where it is not too long."""
    if len(tokens) > LONGEST_TABLE:
        return ""
    body = [
        [escaped(token["text"]), *(short(token[key]) for key, _ in NUMBERS)] for token in tokens
    ]
    return (
        "<details><summary>its numbers as a table</summary>"
        + table(["token", *(name for _, name in NUMBERS)], body, "numbers")
        + "</details>"
    )


def of_shade(token: Token, shade: str) -> float | None:
    """The number that a colour stands for."""
    if shade == "change":
        return token["after"] - token["before"]
    return token[shade]


def level(value: float | None, largest: float) -> int:
    """From -LEVELS to LEVELS; 0 for what is not known, or small."""
    if value is None or largest <= 0:
        return 0
    return round(LEVELS * value / largest)


def kind(level: int) -> str:
    """The class of a level: p for above 0, n for below."""
    return f"p{level}" if level > 0 else f"n{-level}" if level < 0 else "zero"
