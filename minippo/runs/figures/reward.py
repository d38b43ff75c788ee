"""The reward model: is it as right as it is sure, and what does its head say before the end?"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from minippo.runs.figures.style import (
    BLUE,
    DARK,
    ORANGE,
    name_ends,
    name_tokens,
    new_figure,
    set_title,
    tokens_between,
)

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def reward_calibration(rows: Sequence[Mapping[str, float]]) -> Figure:
    """How often the annotator chose the response that the reward model predicted, against the
    probability that it gave to that; rows of stages.calibration.calibration_table."""
    figure, (axes,) = new_figure(1)
    axes.plot([0.5, 1.0], [0.5, 1.0], color=ORANGE, linestyle="--", linewidth=1)
    x, y = ([row[name] for row in rows] for name in ("predicted", "chosen"))
    below = [max(0.0, row["chosen"] - row["low"]) for row in rows]
    above = [max(0.0, row["high"] - row["chosen"]) for row in rows]
    axes.errorbar(x, y, yerr=[below, above], color=DARK, marker="o", capsize=3, linewidth=1)
    for row in rows:
        axes.annotate(
            f"{row['pairs']:.0f} pairs",
            (row["predicted"], row["chosen"]),
            (6, -12),
            textcoords="offset points",
            fontsize="small",
        )
    axes.set_xlim(0.48, 1.02)
    axes.set_xlabel("probability that the reward model gives to its choice")
    axes.set_ylabel("share in which the annotator chose it")
    name_ends(axes, [(1.0, "as right\nas sure", ORANGE)])
    pairs = sum(row["pairs"] for row in rows)
    off = sum(row["pairs"] * (row["predicted"] - row["chosen"]) for row in rows) / max(1, pairs)
    kind = "too sure" if off > 0 else "too careful"
    set_title(figure, f"On held-out pairs the reward model is {kind} by {abs(off):.3f}")
    return figure


def reward_along_response(tokens: Sequence[str], scores: Sequence[float], score: float) -> Figure:
    """The reward model's head after every token of one response; only the last was ever trained.

    tokens: the text of each; scores: a number each; score: of the whole response.
    """
    figure, (axes,) = new_figure(1)
    x, step = range(len(tokens)), tokens_between(tokens)
    axes.axhline(score, color=ORANGE, linestyle="--", linewidth=1)
    axes.plot(x, scores, color=BLUE, marker="o", markersize=5 if step == 1 else 2)
    axes.set_ylabel("the head, if the response\nended here")
    axes.set_xlabel("token of the response")
    name_tokens(axes, tokens)
    if len(tokens):
        name_ends(axes, [(score, "score", ORANGE)])
        set_title(
            figure, f"After the first token the head says {scores[0]:.2f}, at the end {score:.2f}"
        )
    return figure
