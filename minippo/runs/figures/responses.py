"""Responses: how long they are, and what the critic said along one of them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

from minippo.runs.figures.style import (
    BLUE,
    DARK,
    ORANGE,
    PALE,
    name_ends,
    name_tokens,
    new_figure,
    set_title,
    span,
    tokens_between,
    went,
)
from minippo.runs.stats import mean

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def response_lengths(
    lengths_before: Sequence[int], lengths_after: Sequence[int], response_length: int
) -> Figure:
    """How long the responses were before and after PPO, as shares; response_length is the longest
    that is allowed."""
    figure, (axes,) = new_figure(1)
    # more than 24 pairs of bars cannot be told apart
    bin_width = max(1, math.ceil(response_length / 24))
    starts = range(1, response_length + 1, bin_width)
    kinds = (
        ("before", lengths_before, -0.2, "white", "////"),
        ("after", lengths_after, 0.2, DARK, None),
    )
    for name, lengths, shift, colour, hatch in kinds:
        shares = [
            sum(start <= length < start + bin_width for length in lengths) / len(lengths)
            for start in starts
        ]
        axes.bar(
            [number + shift for number in range(len(starts))],
            shares,
            width=0.4,
            color=colour,
            hatch=hatch,
            edgecolor=DARK,
            linewidth=0.8,
            label=f"{name}, mean {mean(lengths):.1f}",
        )
    axes.set_xticks(
        range(len(starts)),
        [span(start, bin_width, response_length) for start in starts],
        rotation=0 if bin_width == 1 else 90,
    )
    axes.set_xlabel(f"tokens in the response (at most {response_length})")
    axes.set_ylabel("share of responses")
    set_title(
        figure,
        f"The mean length {went(mean(lengths_before), mean(lengths_after), decimals=1)} tokens",
    )
    axes.legend(frameon=False)
    return figure


def values_along_response(
    tokens: Sequence[str],
    values: Sequence[float] | None,
    rewards: Sequence[float],
    advantages: Sequence[float],
    score: float,
) -> Figure:
    """One response, token by token: what the critic expects before each token, and what the token
    was worth.

    tokens: the text of each; values, rewards (after shaping), advantages: a number each; score: of
    the whole response.
    """
    figure, (above, below) = new_figure(2)
    x, step = range(len(tokens)), tokens_between(tokens)
    marker_size = 5 if step == 1 else 2
    above.axhline(score, color=ORANGE, linestyle="--", linewidth=1)
    if values is not None:
        above.plot(x, values, color=DARK, marker="o", markersize=marker_size)
    above.set_ylabel("V(s), before\nthe token")
    below.bar(x, advantages, color=PALE, edgecolor=DARK, linewidth=0.8 if step == 1 else 0.2)
    below.plot(x, rewards, color=BLUE, marker="x", markersize=marker_size, linestyle="none")
    below.axhline(0, color=DARK, linewidth=0.8)
    below.set_ylabel("bars: advantage\ncrosses: reward")
    name_tokens(below, tokens)
    below.set_xlabel("token of the response")
    if len(tokens):
        name_ends(above, [(score, "score", ORANGE)])
        expects = (
            "There is no critic"
            if values is None
            else f"The critic expects {values[0]:.2f} before the first token"
        )
        set_title(figure, f"{expects}; the response is scored {score:.2f}")
    return figure
