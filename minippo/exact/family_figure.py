"""The picture of the family: how biased each step is, and how hard prompts are weighed.

Readable without colour: the bars differ in lightness and hatching, the lines in style and marker.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from minippo.exact.first_step import difficulty
from minippo.relatives.groups import standardised_advantages
from minippo.runs.figures.style import BLUE, DARK, DPI, ORANGE, PALE

if TYPE_CHECKING:
    from matplotlib.figure import Figure

CHANCES = (0.02, 0.05, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 0.98)
LINES = ((2, DARK, "-", "o"), (4, BLUE, "--", "s"), (16, ORANGE, ":", "^"), (64, DARK, "-.", "v"))


def family_figure(table: Mapping[str, Any]) -> Figure:
    """A matplotlib Figure from the table of minippo.exact.family."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(10, 4.6), dpi=DPI, layout="constrained")
    FigureCanvasAgg(figure)
    left, right = figure.subplots(1, 2, width_ratios=(1.25, 1))
    for axes in (left, right):
        axes.spines[["top", "right"]].set_visible(False)
    _biases(left, table["steps"])
    _difficulty(right)
    return figure


def _biases(axes, rows):
    names = [row["name"] for row in rows]
    looks = (("published", "as published", PALE, None), ("k1", "k1 in the reward", "white", "////"))
    for shift, (column, label, colour, hatch) in zip((-0.2, 0.2), looks, strict=True):
        axes.barh(
            [y + shift for y in range(len(names))],
            [row[column]["bias"] for row in rows],
            height=0.38,
            color=colour,
            hatch=hatch,
            edgecolor=DARK,
            linewidth=0.8,
            label=label,
        )
    axes.set_yticks(range(len(names)), names, fontsize=8)
    axes.invert_yaxis()
    axes.set_xlabel("bias of the first step, over what is right of it")
    axes.set_title("Which steps are the gradient (no bar: bias 0)", fontsize="medium")
    axes.legend(frameon=False, fontsize=8)


def _difficulty(axes):
    """Standardised advantages; 1 at even chances for each size of group."""
    for size, colour, style, marker in LINES:
        even = difficulty(standardised_advantages, size, 0.5)
        weights = [difficulty(standardised_advantages, size, p) / even for p in CHANCES]
        axes.plot(
            CHANCES,
            weights,
            color=colour,
            linestyle=style,
            marker=marker,
            markersize=4,
            label=f"groups of {size}",
        )
    axes.set_xlabel("probability of being right")
    axes.set_ylim(bottom=0)
    axes.set_ylabel("weight of a prompt, over that at 0.5")
    axes.set_title("Standardised advantages favour the extremes", fontsize="medium")
    axes.legend(frameon=False, fontsize=8)
