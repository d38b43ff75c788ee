"""The plane of KL and score: what the run paid for its score, and the best that could be had, from
the same numbers as figures/score_against_kl.png."""

from collections.abc import Mapping, Sequence
from typing import Any

from minippo.runs.figures.training import points_apart
from minippo.runs.report.curves import Frame, axes
from minippo.runs.report.texts import escaped, number

WIDTH, HEIGHT = 460, 300
LEFT, RIGHT, TOP, BOTTOM = 46, 14, 14, 40
Points = Sequence[Sequence[float]]


def plane(summary: Mapping[str, Any]) -> str:
    """The picture of one run, from its summary.json; nothing where there is no path."""
    path = [(kl, score) for _, kl, score in summary.get("path") or ()]
    frontier = [(kl, score) for kl, score in summary.get("frontier") or ()]
    best = [(kl, score) for _, kl, score in summary.get("best_of_n") or ()]
    if not path:
        return ""
    frame = frame_of([*path, *frontier, *best])
    curves = (("frontier", frontier), ("best", best), ("path", path))
    lines = "".join(
        f'<path class="line {kind}" d="{joined(points, frame)}"/>'
        for kind, points in curves
        if points
    )
    updates = [update for update, *_ in summary["path"]]
    said = (
        f"Score against KL: from {number(path[0][1])} at a KL of {number(path[0][0])} to "
        f"{number(path[-1][1])} at {number(path[-1][0])} nats"
    )
    return (
        f'<figure class="plane"><svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img" '
        f'aria-label="{escaped(said)}">'
        + axes(frame, whole=False)
        + lines
        + dots(best, frame, "square", [f"best of {n}" for n, *_ in summary.get("best_of_n") or ()])
        + dots(path, frame, "step", [f"update {update}" for update in updates])
        + ends(path, frame)
        + named_updates(summary, frame)
        + titles(frame)
        + f"</svg><figcaption>{legend([kind for kind, points in curves if points])}"
        f"<p>{escaped(said)}. {room(summary)}</p></figcaption></figure>"
    )


def frame_of(points: Points) -> Frame:
    """A frame with room for all points."""
    spans = []
    for values in zip(*points, strict=True):
        low, high = min(values), max(values)
        pad = (high - low) * 0.06 or 1.0
        spans.append((low - pad, high + pad))
    return Frame(LEFT, WIDTH - RIGHT, spans[0], spans[1], TOP, HEIGHT - BOTTOM)


def joined(points: Points, frame: Frame) -> str:
    """The points as a path."""
    places = [frame.place(x, y) for x, y in points]
    return "M" + "L".join(f"{x:.1f} {y:.1f}" for x, y in places)


def dots(points: Points, frame: Frame, kind: str, names: Sequence[str]) -> str:
    """A mark for each point, which tells its numbers."""
    parts = []
    for name, (kl, score) in zip(names, points, strict=True):
        x, y = frame.place(kl, score)
        title = f"<title>{escaped(name)}: KL {number(kl)}, score {number(score)}</title>"
        if kind == "square":
            shape = f'<rect class="{kind}" x="{x - 3:.1f}" y="{y - 3:.1f}" width="6" height="6">'
            parts.append(shape + title + "</rect>")
        else:
            shape = f'<circle class="{kind}" cx="{x:.1f}" cy="{y:.1f}" r="3">'
            parts.append(shape + title + "</circle>")
    return "".join(parts)


def ends(path: Points, frame: Frame) -> str:
    """Names beside where the policy began and where it ended."""
    (x, y), (to_x, to_y) = (frame.place(*point) for point in (path[0], path[-1]))
    below = to_y + 19
    if is_under(to_x, below, x, y) or is_under(to_x, to_y, x, y):
        below = min(y, to_y) - 14  # where the two names would cover each other
    return (
        f'<text class="name" x="{x + 8:.1f}" y="{y + 4:.1f}">reference</text>'
        f'<circle class="end" cx="{to_x:.1f}" cy="{to_y:.1f}" r="5.5"/>'
        f'<text class="name" x="{to_x:.1f}" y="{below:.1f}" text-anchor="middle">policy</text>'
    )


NAME = (80, 16)  # width and height of 'reference' beside its point, in the units of the figure


def is_under(x: float, y: float, at_x: float, at_y: float) -> bool:
    """Would something at x, y be covered by the name 'reference' of the point at_x, at_y?"""
    return at_x - 10 < x < at_x + NAME[0] and abs(y - at_y) < NAME[1]


LEGEND = {
    "frontier": "best possible at each KL",
    "best": "best of n samples, at a bound of its KL",
    "path": "this run, by update",
}


def legend(kinds: Sequence[str]) -> str:
    """The names of the lines, below: their ends meet at the optimum, and names would cover them."""
    items = "".join(
        '<li><svg class="key" viewBox="0 0 30 10" aria-hidden="true">'
        f'<path class="line {kind}" d="M1 5h28"/></svg> {LEGEND[kind]}</li>'
        for kind in kinds
    )
    return f'<ul class="legend">{items}</ul>'


def named_updates(summary: Mapping[str, Any], frame: Frame) -> str:
    """The updates of some points of the path, those that have room."""
    parts = []
    points = points_apart([tuple(point) for point in summary["path"]])
    begins = frame.place(*points[0][1:])
    for update, kl, score in points[1:-1]:
        x, y = frame.place(kl, score)
        if is_under(x + 6, y + 11, *begins):
            continue
        parts.append(f'<text class="tick" x="{x + 6:.1f}" y="{y + 11:.1f}">{update}</text>')
    return "".join(parts)


def titles(frame: Frame) -> str:
    """What the axes are."""
    middle = (frame.left + frame.right) / 2
    return (
        f'<text class="tick" x="{middle:.1f}" y="{frame.bottom + 33:.1f}" text-anchor="middle">'
        "KL from the fine-tuned model, nats per response</text>"
        f'<text class="tick" x="{frame.left + 5:.1f}" y="{frame.top + 9:.1f}">score</text>'
    )


def room(summary: Mapping[str, Any]) -> str:
    """How far the end lies from the best objective, in words."""
    optimum, policy = summary["optimum"], summary["policy"]
    return escaped(
        f"Its objective, score - price * KL, is {number(policy['objective'], 3)}; the best "
        f"possible is {number(optimum['objective'], 3)} ({number(optimum['low'], 3)} to "
        f"{number(optimum['high'], 3)}), from draws with an effective sample size of "
        f"{number(optimum['effective_sample_size'], 0)}."
    )
