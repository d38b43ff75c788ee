"""The four cases of the clip, with the tokens of a real minibatch in them."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import TYPE_CHECKING

from minippo.runs.figures.style import BLUE, DARK, MOST_POINTS, ORANGE, PALE, new_figure, set_title

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def clip_cases(
    ratios: Iterable[float],
    advantages: Iterable[float],
    cliprange: float,
    cliprange_high: float | None = None,
) -> Figure:
    """The clipped objective of a token as a function of its ratio, and where the tokens of a
    minibatch are on it.

    The objective is divided by |A|, so that every token with A > 0 lies on one curve and every one
    with A < 0 on the other. Counts are over all tokens, the points are at most 400 of them; tokens
    with A = 0 are in neither panel. cliprange_high: of the upper side, where it is another.
    """
    bounds = 1 - cliprange, 1 + (cliprange if cliprange_high is None else cliprange_high)
    figure, panels = new_figure(2, height=4.5, side_by_side=True)
    tokens = [
        (float(ratio), 1 if advantage > 0 else -1)
        for ratio, advantage in zip(ratios, advantages, strict=True)
        if advantage
    ]
    left, right = _ratio_view([ratio for ratio, _ in tokens], bounds)
    stopped = 0
    for axes, sign in zip(panels, (1, -1), strict=True):
        mine = sorted(ratio for ratio, its_sign in tokens if its_sign == sign)
        _clip_panel(axes, mine, sign, bounds, left, right)
        stopped += sum(_is_stopped(ratio, sign, bounds) for ratio in mine)
    set_title(figure, f"The clip stops {stopped} of {len(tokens)} tokens: their gradient is 0")
    return figure


def _clip_panel(axes, ratios, sign, bounds, left, right):
    """One sign of the advantage: the curve, the stretch where it is flat, the points, and how many
    are where."""
    low, high = bounds
    corners = [x for x in (left, low, high, right) if left <= x <= right]
    axes.plot(
        corners, [_objective(x, sign, bounds) for x in corners], color=DARK, linewidth=1.6, zorder=1
    )
    drawn = [
        min(max(ratio, left), right)
        for ratio in ratios[:: math.ceil(len(ratios) / MOST_POINTS) or 1]
    ]
    for stopped, marker, colour in ((False, "o", BLUE), (True, "x", ORANGE)):
        x = [ratio for ratio in drawn if _is_stopped(ratio, sign, bounds) == stopped]
        axes.scatter(
            x,
            [_objective(ratio, sign, bounds) for ratio in x],
            s=18,
            marker=marker,
            color=colour,
            alpha=0.5,
            zorder=2,
        )
    below, inside, above = _counts(ratios, bounds)
    flat, other = "clipped,\ngradient 0", "not clipped,\npulled back"
    names = (other, flat) if sign > 0 else (flat, other)
    if math.isfinite(high):
        axes.axvspan(
            *((high, right) if sign > 0 else (left, low)),
            color=PALE,
            alpha=0.6,
            linewidth=0,
            zorder=0,
        )
        _name_region(axes, (left + low) / 2, f"{names[0]}\n{below}")
        _name_region(axes, (high + right) / 2, f"{names[1]}\n{above}")
    _name_region(axes, (max(low, left) + min(high, right)) / 2, f"inside\n\n{inside}")
    axes.set_xlim(left, right)
    axes.set_xlabel("ratio, new / old probability")
    axes.set_title(f"A {'>' if sign > 0 else '<'} 0", fontsize="medium", pad=44)
    if sign > 0:
        axes.set_ylabel("clipped objective / |A|")


def _name_region(axes, x, text):
    axes.annotate(
        text,
        (x, 1.01),
        xycoords=("data", "axes fraction"),
        ha="center",
        va="bottom",
        fontsize="x-small",
    )


def _objective(ratio, sign, bounds):
    """min(ratio A, clip(ratio, low, high) A) for A = sign."""
    low, high = bounds
    return min(ratio * sign, min(max(ratio, low), high) * sign)


def _is_stopped(ratio, sign, bounds):
    """Whether the clipped branch is the smaller one: the ratio has moved past the range, and in A's
    favour."""
    low, high = bounds
    return ratio > high if sign > 0 else ratio < low


def _counts(ratios, bounds):
    """How many ratios lie below, inside and above the clip range."""
    low, high = bounds
    below = sum(ratio < low for ratio in ratios)
    above = sum(ratio > high for ratio in ratios)
    return below, len(ratios) - below - above, above


def _ratio_view(ratios, bounds):
    """The stretch of ratios that is drawn, the same to either side of 1; points beyond it are drawn
    at its edge."""
    unit = max(bounds[1] - 1, 1 - bounds[0])
    unit = unit if math.isfinite(unit) else 0.25
    furthest = max((abs(ratio - 1) for ratio in ratios), default=0.0)
    reach = min(max(2.5 * unit, 1.05 * furthest), 4 * unit)
    return 1 - reach, 1 + reach
