"""What a few prompts were answered at some moments of the policy's training: the rows of
samples_over_time.jsonl.

    {"update", "prompt", "response", "score", "gold", "kl"}

update 0 is the fine-tuned model; gold is null where the task has no rule; kl is that to the
fine-tuned model along the response, in nats. Some rows of the newest moment have "tokens" besides,
an object of TOKEN for each token.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from minippo.runs.read import is_number

SMALL_STEP, FEWEST, MOST = 10, 6, 25  # updates between two moments; moments of a run, about
TOKEN = ("text", "before", "after", "value", "reward", "advantage", "kl")
MAY_BE_NULL = ("gold", "value", "advantage")
Moment = Mapping[str, Any]


def updates_between(updates: int) -> int:
    """How many updates lie between two moments: 10, fewer in a short run and more in a long one."""
    short = min(SMALL_STEP, max(1, updates // FEWEST))
    return max(short, -(-updates // MOST))


def is_moment(update: int, updates: int) -> bool:
    """Is this one of the moments? The first and the last always are."""
    return update in (0, updates) or update % updates_between(updates) == 0


def without_tokens(rows: Sequence[Moment]) -> list[dict[str, Any]]:
    """The rows of moments that are no longer the newest."""
    return [{name: value for name, value in row.items() if name != "tokens"} for row in rows]


def are_moments(rows: Any) -> bool:
    """Are these rows as they are written, whoever wrote them?"""
    return isinstance(rows, list) and all(map(is_row, rows))


def is_row(row: Any) -> bool:
    """Is this one?"""
    return (
        isinstance(row, dict)
        and type(row.get("update")) is int
        and row["update"] >= 0
        and all(isinstance(row.get(name), str) for name in ("prompt", "response"))
        and _has_numbers(row, ("score", "gold", "kl"))
        and isinstance(row.get("tokens", []), list)
        and all(map(_is_token, row.get("tokens", [])))
    )


def _is_token(token):
    return (
        isinstance(token, dict)
        and token.keys() == set(TOKEN)
        and isinstance(token["text"], str)
        and _has_numbers(token, TOKEN[1:])
    )


def _has_numbers(row, names):
    return all(
        is_number(row.get(name)) or name in MAY_BE_NULL and row.get(name, 0) is None
        for name in names
    )
