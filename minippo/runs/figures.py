"""The figures of a run. Each function takes plain numbers and returns a matplotlib Figure; none
keeps any state.

They are made to be read without colour: what differs in colour differs in line or marker too, and a
name stands beside its line wherever there is room. A title says what the figure shows, with the
numbers in it.
"""

import math

from minippo.runs.screen import printable

# from dark to light, also in grey
DARK, BLUE, ORANGE, PALE = "#1a1a1a", "#2a5d9c", "#d9822b", "#d9d9d9"
MOST_POINTS = 400


def reward_and_kl(updates):
    """Score, reward after the KL penalty, gold score if there is one, and KL, over the updates of a
    run.

    updates: rows of metrics.jsonl, with the names that stand there; null (None) leaves a gap.
    """
    x = [row.get("update", number) for number, row in enumerate(updates, start=1)]
    has_gold = any(row.get("objective/gold") is not None for row in updates)
    figure, panels = _panels(3 if has_gold else 2, height=5.5 if has_gold else 4.5)
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
            ("objective/kl_exact", "exact per state", ORANGE, "--"),
        ),
    )
    panels[-1].set_ylabel("KL, nats\nper sequence")
    panels[-1].set_xlabel("PPO update")
    scores = [row["objective/scores"] for row in updates if row.get("objective/scores") is not None]
    kls = [row["objective/kl"] for row in updates if row.get("objective/kl") is not None]
    if scores and kls:
        _title(
            figure,
            f"The score {_went(scores[0], scores[-1])} while the KL {_went(kls[0], kls[-1])}",
        )
    return figure


def score_against_kl(run_points, optimal_frontier, best_of_n, reference_point, final_point):
    """What the run paid in KL for its score, beside the best that can be had for each KL.

    run_points        [(update, kl, score)] of the rollouts, in order
    optimal_frontier  [(kl, score)] of pi_ref exp(r/c)/Z for several c, in order of KL; may be empty
    best_of_n         [(n, kl bound, score)]; may be empty
    reference_point   (0, score) of the reference policy
    final_point       (kl, score) of the policy as evaluated at the end, or None
    """
    figure, (axes,) = _panels(1)
    if optimal_frontier:
        kl, score = zip(*optimal_frontier)
        axes.plot(kl, score, color=DARK, linewidth=2, label="best possible at each KL")
    if best_of_n:
        _, kl, score = zip(*best_of_n)
        axes.plot(
            kl,
            score,
            color=BLUE,
            linestyle=":",
            marker="s",
            markersize=5,
            label="best of n samples (KL bound)",
        )
        _name_points(
            axes, [(f"n={n}", x, y) for n, x, y in best_of_n], offset=(-4, 5), align="right"
        )
    if run_points:
        _, kl, score = zip(*run_points)
        axes.plot(
            kl,
            score,
            color=ORANGE,
            marker="o",
            markersize=3,
            linewidth=1,
            label="this run, by update (training prompts)",
        )
        _name_points(axes, _some(run_points), offset=(5, -11), align="left")
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
        _title(figure, _score_and_best(final_point, optimal_frontier))
    axes.set_xlabel("KL(policy || reference), nats per sequence")
    axes.set_ylabel("score")
    axes.margins(x=0.08)  # room for the names to the left of KL 0
    # Five things share the plane and their ends meet at the optimum: names beside the lines would
    # cover them.
    axes.legend(frameon=False, loc="lower right")
    return figure


def response_lengths(lengths_before, lengths_after, response_length):
    """How long the responses were before and after PPO, as shares; response_length is the longest
    that is allowed."""
    figure, (axes,) = _panels(1)
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
            label=f"{name}, mean {_mean(lengths):.1f}",
        )
    axes.set_xticks(
        range(len(starts)),
        [_span(start, bin_width, response_length) for start in starts],
        rotation=0 if bin_width == 1 else 90,
    )
    axes.set_xlabel(f"tokens in the response (at most {response_length})")
    axes.set_ylabel("share of responses")
    _title(
        figure,
        f"The mean length {_went(_mean(lengths_before), _mean(lengths_after), decimals=1)} tokens",
    )
    axes.legend(frameon=False)
    return figure


def clip_cases(ratios, advantages, cliprange):
    """The clipped objective of a token as a function of its ratio, and where the tokens of a
    minibatch stand on it.

    The objective is divided by |A|, so that every token with A > 0 lies on one curve and every one
    with A < 0 on the other. Counts are over all tokens, the points are at most 400 of them; tokens
    with A = 0 are in neither panel.
    """
    figure, panels = _panels(2, height=4.5, side_by_side=True)
    tokens = [
        (float(ratio), 1 if advantage > 0 else -1)
        for ratio, advantage in zip(ratios, advantages)
        if advantage
    ]
    left, right = _ratio_view([ratio for ratio, _ in tokens], cliprange)
    stopped = 0
    for axes, sign in zip(panels, (1, -1)):
        mine = sorted(ratio for ratio, its_sign in tokens if its_sign == sign)
        _clip_panel(axes, mine, sign, cliprange, left, right)
        stopped += sum(_is_stopped(ratio, sign, cliprange) for ratio in mine)
    _title(figure, f"The clip stops {stopped} of {len(tokens)} tokens: their gradient is 0")
    return figure


def values_along_response(tokens, values, rewards, advantages, score):
    """One response, token by token: what the critic expects before each token, and what the token
    was worth.

    tokens: the text of each; values, rewards (after shaping), advantages: a number each; score: of
    the whole response.
    """
    figure, (above, below) = _panels(2)
    # more than 40 texts side by side cannot be read
    x, step = range(len(tokens)), math.ceil(len(tokens) / 40)
    marker_size = 5 if step == 1 else 2
    above.axhline(score, color=ORANGE, linestyle="--", linewidth=1)
    above.plot(x, values, color=DARK, marker="o", markersize=marker_size)
    above.set_ylabel("V(s), before\nthe token")
    below.bar(x, advantages, color=PALE, edgecolor=DARK, linewidth=0.8 if step == 1 else 0.2)
    below.plot(x, rewards, color=BLUE, marker="x", markersize=marker_size, linestyle="none")
    below.axhline(0, color=DARK, linewidth=0.8)
    below.set_ylabel("bars: advantage\ncrosses: reward")
    below.set_xticks(
        x[::step],
        [_drawable(text) for text in tokens[::step]],
        rotation=60,
        ha="right",
        rotation_mode="anchor",
        parse_math=False,
    )
    below.set_xlabel("token of the response")
    if len(tokens):
        _name_ends(above, [(score, "score", ORANGE)])
        _title(
            figure,
            f"The critic expects {values[0]:.2f} before the first token; "
            f"the response is scored {score:.2f}",
        )
    return figure


def _panels(number, *, height=4.5, side_by_side=False):
    """A figure without pyplot, whose list of figures would outlive the run, and its axes in reading
    order."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7, height), dpi=120, layout="constrained")
    FigureCanvasAgg(figure)
    rows, columns = (1, number) if side_by_side else (number, 1)
    panels = figure.subplots(rows, columns, sharex=True, squeeze=False).ravel()
    for axes in panels:
        axes.spines[["top", "right"]].set_visible(False)
    return figure, panels


def _title(figure, text):
    """Over the whole figure: over the axes alone it would run into what stands to their right."""
    figure.suptitle(text, fontsize="large")


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
    _name_ends(axes, ends)


def _name_ends(axes, ends):
    """Write (y, label, colour) to the right of the axes at height y, moved apart where two would
    overlap."""
    low, high = axes.get_ylim()
    panel_height = 0.7 * axes.figure.get_figheight() / len(axes.figure.axes)  # inches, about
    line_height = 0.2 / panel_height  # as a share of the panel
    ends = sorted(ends, key=lambda end: end[0])
    wanted = [(y - low) / (high - low) for y, _, _ in ends]
    heights = []
    for height in wanted:
        heights.append(max(height, heights[-1] + line_height) if heights else height)
    # moving apart only went up: take half of it back
    raised = (sum(heights) - sum(wanted)) / max(1, len(ends))
    for height, (_, label, colour) in zip(heights, ends):
        axes.annotate(
            label,
            (1.01, height - raised),
            xycoords="axes fraction",
            color=colour,
            va="center",
            annotation_clip=False,
        )


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


def _some(points, apart=0.12):
    """Points of a path (name, x, y) to name: the first, the last, and those far enough from the one
    named before."""
    spans = [
        max(point[i] for point in points) - min(point[i] for point in points) or 1.0 for i in (1, 2)
    ]

    def is_far(a, b):
        return math.hypot((a[1] - b[1]) / spans[0], (a[2] - b[2]) / spans[1]) >= apart

    named = [points[0]]
    for point in points[1:]:
        if is_far(point, named[-1]) and is_far(point, points[-1]):
            named.append(point)
    return named + [points[-1]] if len(points) > 1 else named


def _score_and_best(final_point, optimal_frontier):
    """A title; the best possible score at the final KL is read off the frontier, where it reaches
    that far."""
    kl, score = final_point
    title = f"At a KL of {kl:.2f} nats the policy scores {score:.2f}"
    if optimal_frontier and optimal_frontier[0][0] <= kl <= optimal_frontier[-1][0]:
        import numpy as np

        title += f"; the best possible there is {np.interp(kl, *zip(*optimal_frontier)):.2f}"
    return title


def _clip_panel(axes, ratios, sign, cliprange, left, right):
    """One sign of the advantage: the curve, the stretch where it is flat, the points, and how many
    are where."""
    low, high = 1 - cliprange, 1 + cliprange
    corners = [x for x in (left, low, high, right) if left <= x <= right]
    axes.plot(
        corners,
        [_objective(x, sign, cliprange) for x in corners],
        color=DARK,
        linewidth=1.6,
        zorder=1,
    )
    drawn = [
        min(max(ratio, left), right)
        for ratio in ratios[:: math.ceil(len(ratios) / MOST_POINTS) or 1]
    ]
    for stopped, marker, colour in ((False, "o", BLUE), (True, "x", ORANGE)):
        x = [ratio for ratio in drawn if _is_stopped(ratio, sign, cliprange) == stopped]
        axes.scatter(
            x,
            [_objective(ratio, sign, cliprange) for ratio in x],
            s=18,
            marker=marker,
            color=colour,
            alpha=0.5,
            zorder=2,
        )
    below, inside, above = _counts(ratios, cliprange)
    flat, other = "clipped,\ngradient 0", "not clipped,\npulled back"
    names = (other, flat) if sign > 0 else (flat, other)
    if math.isfinite(cliprange):
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


def _objective(ratio, sign, cliprange):
    """min(ratio A, clip(ratio, 1 - cliprange, 1 + cliprange) A) for A = sign."""
    return min(ratio * sign, min(max(ratio, 1 - cliprange), 1 + cliprange) * sign)


def _is_stopped(ratio, sign, cliprange):
    """Whether the clipped branch is the smaller one: the ratio has moved past the range, and in A's
    favour."""
    return ratio > 1 + cliprange if sign > 0 else ratio < 1 - cliprange


def _counts(ratios, cliprange):
    """How many ratios lie below, inside and above the clip range."""
    below = sum(ratio < 1 - cliprange for ratio in ratios)
    above = sum(ratio > 1 + cliprange for ratio in ratios)
    return below, len(ratios) - below - above, above


def _ratio_view(ratios, cliprange):
    """The stretch of ratios that is drawn, the same to either side of 1; points beyond it are drawn
    at its edge."""
    unit = cliprange if math.isfinite(cliprange) else 0.25
    furthest = max((abs(ratio - 1) for ratio in ratios), default=0.0)
    reach = min(max(2.5 * unit, 1.05 * furthest), 4 * unit)
    return 1 - reach, 1 + reach


def _span(start, bin_width, longest):
    end = min(start + bin_width - 1, longest)
    return str(start) if start == end else f"{start}-{end}"


def _went(before, after, decimals=2):
    verb = "rose" if after > before else "fell" if after < before else "stayed"
    return f"{verb} from {before:.{decimals}f} to {after:.{decimals}f}"


def _mean(numbers):
    return sum(numbers) / len(numbers)


def _drawable(text):
    """A token's text as the font can draw it; an empty square stands for a character that the font
    lacks."""
    from matplotlib.font_manager import FontProperties, findfont, get_font

    known = get_font(findfont(FontProperties())).get_charmap()
    return "".join(c if ord(c) in known else "\N{WHITE SQUARE}" for c in printable(text)).replace(
        " ", "\N{OPEN BOX}"
    )
