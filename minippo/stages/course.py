"""Two numbers for a whole training: how good it was on the way, and how good at its end.

The PPO paper compares algorithms so (arXiv:1707.06347, section 6.1): the mean reward over all of
the training is high for one that learns fast, the mean over the last episodes for one that arrives.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from minippo.runs.stats import mean

LAST_SHARE = 0.1  # of the updates is the end
COURSES = {"score": "objective/scores", "gold": "objective/gold"}  # name -> name in metrics.jsonl


def course_of(rows: Sequence[Mapping[str, Any]]) -> dict[str, dict[str, float] | None]:
    """{"score": {"mean", "end"}, "gold": ...} of the rows of metrics.jsonl: mean over all updates,
    and over the last tenth of them (at least one); None where there is no such number."""
    last = max(1, round(LAST_SHARE * len(rows)))
    found: dict[str, dict[str, float] | None] = {}
    for name, metric in COURSES.items():
        values = [row.get(metric) for row in rows]
        known = [value for value in values if value is not None]
        has_all = bool(known) and len(known) == len(values)
        found[name] = {"mean": mean(known), "end": mean(known[-last:])} if has_all else None
    return found
