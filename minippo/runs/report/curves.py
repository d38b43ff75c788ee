"""Curves over the updates of a run, as SVG: small panels of one size, a name at the end of each
line, and a place for the cursor.

Two lines of a panel differ in their dashes as well as in colour, so they can be told apart in grey.
Colours are classes, which the page gives a meaning for light and dark.
"""

import math
import re
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from minippo.runs.figures.style import MOST_POINTS
from minippo.runs.read import is_number
from minippo.runs.report.texts import UNKNOWN, escaped, short

WIDTH, HEIGHT = 360, 190  # of a panel, in the units of its viewBox
LEFT, TOP, BOTTOM, RIGHT = 42, 12, 24, 10
LETTER = 5.9  # width of a letter of a label, about
LOOKS = 4  # lines that differ; more begin again


class Line(NamedTuple):
    """One line of a panel."""

    name: str
    xs: Sequence[float]
    ys: Sequence[float | None]  # None leaves a gap
    look: int


class Panel(NamedTuple):
    """One panel: what is drawn, in which unit."""

    title: str
    unit: str
    lines: Sequence[Line]


class Frame(NamedTuple):
    """Where the numbers of a panel come to lie."""

    left: float
    right: float
    x: tuple[float, float]
    y: tuple[float, float]
    top: float = TOP
    bottom: float = HEIGHT - BOTTOM

    def place(self, x: float, y: float) -> tuple[float, float]:
        """The point of the picture for a point of the plane."""
        across = (x - self.x[0]) / (self.x[1] - self.x[0])
        up = (y - self.y[0]) / (self.y[1] - self.y[0])
        return (
            self.left + across * (self.right - self.left),
            self.bottom - up * (self.bottom - self.top),
        )


def line_of(name: str, rows: Sequence[Mapping[str, Any]], metric: str, look: int) -> Line | None:
    """The line of a metric; None where no row has a number for it. At most so many points as can
    be told apart."""
    step = max(1, -(-len(rows) // MOST_POINTS))
    rows = [row for i, row in enumerate(rows) if i % step == 0 or i == len(rows) - 1]
    ys = [row.get(metric) if is_number(row.get(metric)) else None for row in rows]
    if all(y is None for y in ys):
        return None
    return Line(name, [row["update"] for row in rows], ys, look)


def frame_of(lines: Sequence[Line]) -> Frame:
    """A frame with room for all lines, and for their names to the right."""
    ys = [y for line in lines for y in line.ys if y is not None]
    xs = [x for line in lines for x in line.xs]
    low, high = min(ys), max(ys)
    if 0 < low <= 0.35 * high:
        low = 0.0
    pad = (high - low) * 0.05 or abs(high) * 0.1 or 1.0
    longest = max(len(line.name) for line in lines) if len(lines) > 1 else 0
    right = WIDTH - RIGHT - LETTER * longest
    first, last = min(xs), max(xs)
    return Frame(
        LEFT,
        right,
        (first, last if last > first else first + 1),
        (low - pad * (low != 0), high + pad),
    )


def narrow(value: float) -> str:
    """A number for the side of an axis, where there is room for six characters: '-2e3'."""
    return re.sub(r"e([+-])0*", lambda found: "e" + found[1].strip("+"), short(value))


def ticks(low: float, high: float, most: int = 5) -> list[float]:
    """Round numbers between two, at most so many and one more."""
    rough = (high - low) / most
    unit = 10.0 ** math.floor(math.log10(rough))
    step = next(unit * k for k in (1, 2, 2.5, 5, 10) if unit * k >= rough * 0.999)
    first = math.ceil(low / step - 1e-9)
    return [step * k for k in range(first, math.floor(high / step + 1e-9) + 1)]


def axes(frame: Frame, whole: bool = True) -> str:
    """Grid lines with their numbers; `whole`: along x only whole numbers."""
    parts = []
    for y in ticks(*frame.y):
        height = frame.place(frame.x[0], y)[1]
        parts.append(
            f'<path class="grid" d="M{frame.left:.1f} {height:.1f}H{frame.right:.1f}"/>'
            f'<text class="tick" x="{frame.left - 5:.1f}" y="{height + 3.5:.1f}" '
            f'text-anchor="end">{narrow(y)}</text>'
        )
    for x in ticks(*frame.x):
        if whole and x != int(x):
            continue
        along = frame.place(x, frame.y[0])[0]
        parts.append(
            f'<path class="grid" d="M{along:.1f} {frame.bottom:.1f}v4"/>'
            f'<text class="tick" x="{along:.1f}" y="{frame.bottom + 15:.1f}" '
            f'text-anchor="middle">{short(x) if not whole else int(x)}</text>'
        )
    parts.append(f'<path class="axis" d="M{frame.left:.1f} {frame.bottom:.1f}H{frame.right:.1f}"/>')
    return "".join(parts)


def path_of(line: Line, frame: Frame) -> str:
    """The line itself, with gaps where nothing is known; a point alone is a dot."""
    pieces: list[list[tuple[float, float]]] = [[]]
    for x, y in zip(line.xs, line.ys, strict=True):
        if y is None:
            pieces.append([])
        else:
            pieces[-1].append(frame.place(x, y))
    d = "".join(
        "M" + "L".join(f"{x:.1f} {y:.1f}" for x, y in piece) for piece in pieces if len(piece) > 1
    )
    dots = "".join(
        f'<circle class="dot look{line.look}" cx="{x:.1f}" cy="{y:.1f}" r="2.5"/>'
        for piece in pieces
        if len(piece) == 1
        for x, y in piece
    )
    return (f'<path class="line look{line.look}" d="{d}"/>' if d else "") + dots


def names_at_ends(lines: Sequence[Line], frame: Frame) -> str:
    """The name of each line beside its end, moved apart where two would overlap."""
    if len(lines) < 2:
        return ""
    wanted = sorted(
        (frame.place(0, next(y for y in reversed(line.ys) if y is not None))[1], line)
        for line in lines
    )
    heights: list[float] = []
    for height, _ in wanted:
        heights.append(max(height, heights[-1] + 12) if heights else height)
    # moving apart only went down: take half of it back, as far as there is room
    down = sum(heights) - sum(height for height, _ in wanted)
    back = max(0.0, min(down / len(wanted), heights[0] - frame.top))
    return "".join(
        f'<text class="name look{line.look}" x="{frame.right + 5:.1f}" '
        f'y="{height - back + 3.5:.1f}">{escaped(line.name)}</text>'
        for height, (_, line) in zip(heights, wanted, strict=True)
    )


def marks_of(marks: Sequence[tuple[int, str]], frame: Frame) -> str:
    """A dotted line with a code where a diagnostic has fired."""
    parts = []
    for update, code in marks:
        if frame.x[0] <= update <= frame.x[1]:
            x = frame.place(update, frame.y[0])[0]
            anchor = "end" if x > (frame.left + frame.right) / 2 else "start"
            parts.append(
                f'<path class="mark" d="M{x:.1f} {frame.top:.1f}V{frame.bottom:.1f}"/>'
                f'<text class="tick" x="{x + (-3 if anchor == "end" else 3):.1f}" '
                f'y="{frame.top + 8:.1f}" text-anchor="{anchor}">{escaped(code)}</text>'
            )
    return "".join(parts)


def course(line: Line) -> str:
    """'-0.135 to 0.774', from the first to the last number that is known."""
    known = [y for y in line.ys if y is not None]
    return f"{short(known[0])} to {short(known[-1])}" if known else UNKNOWN


def chart(panel: Panel, marks: Sequence[tuple[int, str]] = ()) -> str:
    """A panel as HTML: its title, what it begins and ends with, and the picture."""
    frame = frame_of(panel.lines)
    many = len(panel.lines) > 1
    said = "; ".join((f"{line.name} " if many else "") + course(line) for line in panel.lines)
    picture = (
        f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img" '
        f'aria-label="{escaped(panel.title)} over the updates: {escaped(said)}">'
        + axes(frame)
        + marks_of(marks, frame)
        + "".join(path_of(line, frame) for line in panel.lines)
        + names_at_ends(panel.lines, frame)
        + f'<path class="cursor" d="M0 {frame.top:.1f}V{frame.bottom:.1f}" visibility="hidden"/>'
        + "".join(
            f'<circle class="spot look{line.look}" r="3.5" visibility="hidden"/>'
            for line in panel.lines
        )
        + "</svg>"
    )
    return (
        f'<figure class="panel" tabindex="0"><figcaption><b>{escaped(panel.title)}</b> '
        f"<small>{escaped(panel.unit)}</small></figcaption>"
        f'<p class="readout" data-rest="{escaped(said)}">{escaped(said)}</p>{picture}</figure>'
    )


def data_of(panel: Panel) -> dict[str, Any]:
    """What the cursor has to know of a panel."""
    frame = frame_of(panel.lines)
    return {
        "frame": [round(float(v), 6) for v in (frame.left, frame.right, frame.top, frame.bottom)]
        + [*frame.x, *frame.y],
        "width": WIDTH,
        "lines": [
            {
                "name": line.name,
                "x": [*line.xs],
                "y": [None if y is None else float(f"{y:.4g}") for y in line.ys],
            }
            for line in panel.lines
        ],
    }
