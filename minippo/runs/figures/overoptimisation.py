"""Score and gold over the KL, for reward models of several sizes and prices of the KL."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from minippo.runs.figures.style import BLUE, DARK, DPI, ORANGE, set_title

if TYPE_CHECKING:
    from matplotlib.figure import Figure

LOOKS = [(colour, style) for style in ("-", "--") for colour in (ORANGE, BLUE, DARK)]
COLUMNS = (("score", 1), ("gold", 2))  # name, place in a (KL, score, gold)
Points = Sequence[Sequence[float]]  # (KL, score, gold) each


class Panel(NamedTuple):
    """What one reward model leads to."""

    name: str
    courses: dict[str, Points]  # by price: means over the seeds
    best_of_n: Points
    frontier: Points  # (KL, score) of the best policies there can be for this reward model


def overoptimisation(panels: Sequence[Panel]) -> Figure:
    """A row for each reward model: on the left its own score over d = sqrt(KL), on the right the
    gold score; a line for each price of the KL, dots for the best of n samples, and on the left a
    grey line for the best that can be had."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8, 0.8 + 2.3 * len(panels)), dpi=DPI, layout="constrained")
    FigureCanvasAgg(figure)
    grid: Any = figure.subplots(len(panels), 2, sharex="row", squeeze=False)
    for row, panel in zip(grid, panels, strict=True):
        for axes, (what, place) in zip(row, COLUMNS, strict=True):
            draw(axes, panel, place)
            axes.spines[["top", "right"]].set_visible(False)
            axes.set_ylabel(f"{panel.name}\n{what}" if what == "score" else what)
    for axes in grid[-1]:
        axes.set_xlabel("square root of the KL to the reference, nats")
    handles, labels = grid[0][0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=3, frameon=False)
    set_title(figure, "What the reward model says, and what it is worth")
    return figure


def draw(axes: Any, panel: Panel, place: int) -> None:
    """One panel."""
    if place == 1 and panel.frontier:
        axes.plot(*line(panel.frontier, 1), color="#9a9a9a", linewidth=3, label="best possible")
    for (colour, style), (price, points) in zip(LOOKS, panel.courses.items(), strict=False):
        label = f"PPO, price of the KL {price}"
        axes.plot(
            *line(points, place),
            color=colour,
            linestyle=style,
            marker=".",
            markersize=4,
            label=label,
        )
    if panel.best_of_n:
        axes.plot(
            *line(panel.best_of_n, place),
            linestyle="none",
            marker="s",
            markersize=4,
            markerfacecolor="white",
            markeredgecolor=DARK,
            label="best of n (KL bound)",
        )


def line(points: Points, place: int) -> tuple[list[float], list[float]]:
    """(d, y) of some points."""
    return [math.sqrt(max(0.0, point[0])) for point in points], [point[place] for point in points]
