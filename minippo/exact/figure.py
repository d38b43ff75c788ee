"""The picture of the ladder: what each stage does to the variance, and the dial between bias and
variance.

Readable without colour: the kinds of reward differ in lightness and hatching, the lines in style
and marker.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from minippo.runs.figures.style import BLUE, DARK, DPI, ORANGE, PALE

if TYPE_CHECKING:
    from matplotlib.figure import Figure

BARS = {
    "policy gradient": "policy\ngradient",
    "reward-to-go": "reward-to-go",
    "whole return - best constant": "best constant\nbaseline",
    "reward-to-go - exact V": "baseline V",
    "GAE 0.95, exact V": "GAE 0.95",
    "TD (lam 0), exact V": "GAE 0 (TD)",
}
LOOKS = {"dense": (DARK, None), "outcome-only": (PALE, None), "cancelling": ("white", "////")}


def ladder_figure(
    gradients: Mapping[str, list[dict[str, Any]]],
    advantages: Mapping[str, Mapping[str, list[dict[str, Any]]]],
) -> Figure:
    """A matplotlib Figure from the two tables of minippo.exact.ladder."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(10, 4.6), dpi=DPI, layout="constrained")
    FigureCanvasAgg(figure)
    left, right = figure.subplots(1, 2, width_ratios=(1.25, 1))
    for axes in (left, right):
        axes.spines[["top", "right"]].set_visible(False)
    _variance_bars(left, gradients)
    _dial(right, advantages["dense"])
    return figure


def _variance_bars(axes, gradients):
    names = list(BARS)
    for shift, (kind, (colour, hatch)) in zip((-0.27, 0.0, 0.27), LOOKS.items(), strict=True):
        by_name = {row["name"]: row["variance"] for row in gradients[kind]}
        heights = [by_name[name] for name in names]
        bars = axes.bar(
            [x + shift for x in range(len(names))],
            heights,
            width=0.25,
            color=colour,
            hatch=hatch,
            edgecolor=DARK,
            linewidth=0.8,
            label=f"{kind} reward",
        )
        labels = [
            "0" if height < 0.005 else f"{height:.2f}" if height < 1 else f"{height:.1f}"
            for height in heights
        ]
        axes.bar_label(bars, labels=labels, fontsize=7, padding=1)
    axes.set_xticks(range(len(names)), BARS.values(), fontsize=8)
    axes.set_ylabel("total variance of one trajectory's gradient")
    axes.set_title("Six unbiased estimates of one gradient", fontsize="medium")
    axes.legend(frameon=False, fontsize=8)


def _dial(axes, by_critic):
    """Bias and variance of one quantity, the advantage, and in one unit: squared errors."""
    lines = (  # the bias is that part of it which can bias a gradient
        ("wrong V", "tilt", 2, "bias squared, wrong V", ORANGE, "-", "o"),
        ("wrong V", "variance", 1, "variance, wrong V", DARK, "--", "s"),
        ("exact V", "variance", 1, "variance, exact V (bias 0)", BLUE, ":", "^"),
    )
    for critic, error, power, label, colour, style, marker in lines:
        points = [(row["lam"], row[error] ** power) for row in by_critic[critic]]
        axes.plot(
            *zip(*points, strict=True),
            color=colour,
            linestyle=style,
            marker=marker,
            markersize=4,
            label=label,
        )
    axes.set_xlabel("lam")
    axes.set_ylim(bottom=0)
    axes.set_ylabel("error of the advantage, less what a baseline may add")
    axes.set_title("lam turns bias into variance (dense reward)", fontsize="medium")
    axes.legend(frameon=False, fontsize=8, loc="upper left")
