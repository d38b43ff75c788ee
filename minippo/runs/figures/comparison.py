"""The course of several settings over the seeds: a line for the mean, a band for its interval."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from minippo.runs.figures.style import BLUE, DARK, ORANGE, name_ends, new_figure, set_title
from minippo.runs.stats import mean, t_interval
from minippo.runs.text import counted

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Run = Sequence[Mapping[str, Any]]  # rows of metrics.jsonl
PANELS = (
    ("objective/scores", "score"),
    ("objective/gold", "gold score"),
    ("objective/kl", "KL, nats\nper sequence"),
)
LOOKS = [(colour, style) for style in ("-", "--", ":") for colour in (DARK, BLUE, ORANGE)]
MOST_NAMED, LONGEST_NAME = (
    6,
    24,
)  # lines whose names fit beside them; of more the names are below the figure


def courses(settings: Mapping[str, Sequence[Run]]) -> Figure:
    """Score, gold score where there is one, and KL over the updates: for each setting the mean over
    its runs, and a band, its 95 % t interval, where there are two or more.

    settings: {name: the metrics of each of its runs}; one without runs is left out.
    """
    known = {name.replace("$", r"\$"): runs for name, runs in settings.items() if runs}
    panels = [panel for panel in PANELS if any(has(runs, panel[0]) for runs in known.values())]
    beside = len(known) <= MOST_NAMED and all(len(name) <= LONGEST_NAME for name in known)
    rows = max(1, len(panels))
    figure, axes = new_figure(rows, height=2 * rows + 1 + (0 if beside else 0.15 * len(known)))
    for place, (metric, label) in zip(axes, panels, strict=False):
        ends = draw(place, known, metric)
        name_ends(place, ends if beside else ())
        place.set_ylabel(label)
    axes[-1].set_xlabel("update")
    if not beside:
        handles, labels = axes[0].get_legend_handles_labels()
        figure.legend(handles, labels, loc="outside lower center", ncols=2, frameon=False)
    number = max(map(len, known.values()), default=0)
    band_too = ", and the 95 % interval of the mean" if number > 1 else ""
    set_title(figure, f"Mean of {counted(number, 'seed')}{band_too}")
    return figure


def draw(
    axes: Axes, settings: Mapping[str, Sequence[Run]], metric: str
) -> list[tuple[float, str, str]]:
    """Line and band of every setting in one panel; returns (y, name, colour) of where they end."""
    ends = []
    for number, (name, runs) in enumerate(settings.items()):
        colour, style = LOOKS[number % len(LOOKS)]
        x, middle, low, high = band(runs, metric)
        axes.plot(x, middle, color=colour, linestyle=style, linewidth=1.6, label=name)
        axes.fill_between(x, low, high, color=colour, alpha=0.15, linewidth=0)
        if middle and not math.isnan(middle[-1]):
            ends.append((middle[-1], name, colour))
    return ends


def has(runs: Sequence[Run], metric: str) -> bool:
    """Does any row of these runs have a number for this?"""
    return any(row.get(metric) is not None for run in runs for row in run)


def band(
    runs: Sequence[Run], metric: str
) -> tuple[list[int], list[float], list[float], list[float]]:
    """(updates, mean, low, high) over the runs; NaN where one of them has no number, and the mean
    itself for low and high where there is one run."""
    columns: list[tuple[float, float, float]] = []
    for rows in zip(*runs, strict=False):
        values = [row.get(metric) for row in rows]
        if any(value is None for value in values):
            columns.append((math.nan, math.nan, math.nan))
            continue
        middle = mean(values)
        columns.append((middle, *(t_interval(values) or (middle, middle))))
    x = [row.get("update", number) for number, row in enumerate(runs[0], start=1)]
    middle, low, high = ([column[i] for column in columns] for i in range(3))
    return x[: len(columns)], middle, low, high
