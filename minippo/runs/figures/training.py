"""The course of a run: score and KL over the updates, and against each other."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from minippo.runs.figures.style import BLUE, DARK, ORANGE, name_ends, new_figure, set_title, went
from minippo.runs.stats import mean

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def reward_and_kl(updates: Sequence[Mapping[str, Any]], *, hacked: bool = False) -> Figure:
    """Score, reward after the KL penalty, gold score if there is one, and KL, over the updates of a
    run.

    updates: rows of metrics.jsonl, with the names used there; null (None) leaves a gap.
    hacked: whether gold fell while the score rose, which the title then says first.
    """
    x = [row.get("update", number) for number, row in enumerate(updates, start=1)]
    has_gold = any(row.get("objective/gold") is not None for row in updates)
    figure, panels = new_figure(3 if has_gold else 2, height=5.5 if has_gold else 4.5)
    _lines(
        panels[0],
        x,
        updates,
        (
            ("objective/scores", "score", DARK, "-"),
            ("objective/rlhf_reward", "score - KL penalty", ORANGE, "--"),
        ),
    )
    panels[0].set_ylabel("reward")
    if has_gold:
        _lines(panels[1], x, updates, (("objective/gold", "gold", DARK, "-"),))
        panels[1].set_ylabel("gold score")
    _lines(
        panels[-1],
        x,
        updates,
        (
            ("objective/kl", "from samples", BLUE, "-"),
            ("objective/kl_policy_to_ref_exact", "exact per state", ORANGE, "--"),
        ),
    )
    panels[-1].set_ylabel("KL, nats\nper sequence")
    panels[-1].set_xlabel("PPO update")
    set_title(figure, _course(updates, hacked))
    return figure


def _course(updates, hacked):
    """A title: from where to where, gold before the rest. A run is called hacked for the means of
    its first and last quarter, which then stand there."""
    part = max(1, len(updates) // 4) if hacked else 1
    courses = []
    for metric, label in (("objective/gold", "gold"), ("objective/scores", "the score")):
        known = [row[metric] for row in updates if row.get(metric) is not None]
        if known:
            courses.append(f"{label} {went(mean(known[:part]), mean(known[-part:]))}")
    kls = [row["objective/kl"] for row in updates if row.get("objective/kl") is not None]
    if kls:
        courses.append(f"the KL {went(kls[0], kls[-1])}")
    text = " while ".join(courses[:2])  # a third would not fit
    return f"Hacked: {text}" if hacked else text[:1].upper() + text[1:]


def score_against_kl(
    run_points: Sequence[tuple[int, float, float]],
    optimal_frontier: Sequence[tuple[float, float]],
    best_of_n: Sequence[tuple[int, float, float]],
    reference_point: tuple[float, float],
    final_point: tuple[float, float] | None,
    *,
    hacked: bool = False,
) -> Figure:
    """What the run paid in KL for its score, beside the best that can be had for each KL.

    All of it is about the same prompts.

    run_points        [(update, kl, score)] of the policy from the reference to its end, in order
    optimal_frontier  [(kl, score)] of pi_ref exp(r/c)/Z for several c, in order of KL; may be empty
    best_of_n         [(n, kl bound, score)]; may be empty
    reference_point   (0, score) of the reference policy
    final_point       (kl, score) of the policy as evaluated at the end, or None
    hacked            whether gold fell meanwhile, which the title then says first
    """
    figure, (axes,) = new_figure(1)
    _draw_frontier(axes, optimal_frontier)
    _draw_best_of_n(axes, best_of_n)
    _draw_path(axes, run_points)
    _draw_ends(axes, reference_point, final_point)
    if final_point is not None:
        set_title(figure, _score_and_best(final_point, optimal_frontier, hacked))
    axes.set_xlabel("KL(policy || reference), nats per sequence")
    axes.set_ylabel("score")
    axes.margins(x=0.08)  # room for the names to the left of KL 0
    # Five things share the plane and their ends meet at the optimum: names beside the lines would
    # cover them.
    axes.legend(frameon=False, loc="lower right")
    return figure


def _draw_frontier(axes, optimal_frontier):
    if optimal_frontier:
        kl, score = zip(*optimal_frontier, strict=True)
        axes.plot(kl, score, color=DARK, linewidth=2, label="best possible at each KL")


def _draw_best_of_n(axes, best_of_n):
    if best_of_n:
        _, kl, score = zip(*best_of_n, strict=True)
        label = "best of n samples (KL bound)"
        axes.plot(kl, score, color=BLUE, linestyle=":", marker="s", markersize=5, label=label)
        named = [(f"n={n}", x, y) for n, x, y in best_of_n]
        _name_points(axes, named, offset=(-4, 5), align="right")


def _draw_path(axes, run_points):
    """The run itself, on its way."""
    if run_points:
        _, kl, score = zip(*run_points, strict=True)
        label = "this run, by update"
        axes.plot(kl, score, color=ORANGE, marker="o", markersize=3, linewidth=1, label=label)
        _name_points(axes, points_apart(run_points), offset=(5, -11), align="left")


def _draw_ends(axes, reference_point, final_point):
    """Where the policy began, and where it ended."""
    axes.plot(
        *reference_point,
        marker="D",
        color="white",
        markeredgecolor=DARK,
        linestyle="none",
        label="reference",
        zorder=4,
    )
    if final_point is not None:
        axes.plot(
            *final_point,
            marker="*",
            markersize=15,
            color=DARK,
            linestyle="none",
            label="final policy",
            zorder=5,
        )


def _lines(axes, x, updates, names):
    """A line for each (metric, label, colour, style) that any of the rows has, with its label at
    the end."""
    ends = []
    for metric, label, colour, style in names:
        y = [math.nan if row.get(metric) is None else row[metric] for row in updates]
        known = [value for value in y if not math.isnan(value)]
        if known:
            axes.plot(
                x,
                y,
                color=colour,
                linestyle=style,
                linewidth=1.6,
                marker="o" if len(known) == 1 else None,
            )
            ends.append((known[-1], label, colour))
    name_ends(axes, ends)


def _name_points(axes, named, *, offset, align):
    """Write each (name, x, y) beside its point, with a white edge so that no line crosses it
    out."""
    from matplotlib.patheffects import withStroke

    for name, x, y in named:
        axes.annotate(
            str(name),
            (x, y),
            xytext=offset,
            textcoords="offset points",
            ha=align,
            fontsize="small",
            zorder=6,
            path_effects=[withStroke(linewidth=2.5, foreground="white")],
        )


def points_apart(
    points: Sequence[tuple[int, float, float]], apart: float = 0.12
) -> list[tuple[int, float, float]]:
    """Points of a path (name, x, y) to name: the first, the last, and those far enough from the one
    named before."""
    spans = [
        max(point[i] for point in points) - min(point[i] for point in points) or 1.0 for i in (1, 2)
    ]

    def is_far(a: tuple[Any, float, float], b: tuple[Any, float, float]) -> bool:
        return math.hypot((a[1] - b[1]) / spans[0], (a[2] - b[2]) / spans[1]) >= apart

    named = [points[0]]
    for point in points[1:]:
        if is_far(point, named[-1]) and is_far(point, points[-1]):
            named.append(point)
    return named + [points[-1]] if len(points) > 1 else named


def _score_and_best(final_point, optimal_frontier, hacked):
    """A title; the best possible score at the final KL is read off the frontier, where it reaches
    that far."""
    kl, score = final_point
    if hacked:
        return f"Hacked: gold fell while the score came to {score:.2f} at a KL of {kl:.2f} nats"
    title = f"At a KL of {kl:.2f} nats the policy scores {score:.2f}"
    if optimal_frontier and optimal_frontier[0][0] <= kl <= optimal_frontier[-1][0]:
        import numpy as np

        kls, scores = zip(*optimal_frontier, strict=True)
        title += f"; the best possible there is {np.interp(kl, kls, scores):.2f}"
    return title
