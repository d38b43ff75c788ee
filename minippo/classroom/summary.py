"""Which mistakes a class made: summary.md and summary.png."""

from __future__ import annotations

import io
from collections import Counter
from collections.abc import Sequence
from typing import TYPE_CHECKING

from minippo.classroom.grading import Graded
from minippo.classroom.judging import STATUSES, Grade
from minippo.runs.figures.style import BLUE, DARK, DPI, ORANGE, PALE, new_figure, set_title
from minippo.runs.text import counted

if TYPE_CHECKING:
    from matplotlib.figure import Figure

PARTS = (  # of a bar: what it counts, its colour, its hatching, and the colour of its number
    ("right", DARK, "", "white"),
    ("a known mistake", BLUE, "//", "white"),
    ("wrong in another way, or an error", ORANGE, "", DARK),
    ("no result", PALE, "..", DARK),
)


def part_of(grade: Grade) -> str:
    """Which part of a bar a grade belongs to."""
    right, known, other, none = (name for name, *_ in PARTS)
    if grade.status == "ok":
        return right
    if grade.mistake:
        return known
    return other if grade.status in ("wrong", "error") else none


def counts(graded: Sequence[Graded], exercises: Sequence[str]) -> dict[str, Counter[str]]:
    """exercise -> how many students are in each part of its bar."""
    found = {name: Counter[str]() for name in exercises}
    for one in graded:
        for grade in one.grades:
            found[grade.exercise][part_of(grade)] += 1
    return found


def table(graded: Sequence[Graded], exercises: Sequence[str]) -> str:
    """The page: the statuses of each exercise, and the mistakes, the most frequent ones first."""
    all_grades = [grade for one in graded for grade in one.grades]
    lines = [
        "# What the class did",
        "",
        f"{counted(len(graded), 'student')}, {counted(len(exercises), 'exercise')}.",
        "",
        f"| exercise | {' | '.join(STATUSES)} |",
        f"| --- |{' ---: |' * len(STATUSES)}",
    ]
    for name in exercises:
        of = Counter(grade.status for grade in all_grades if grade.exercise == name)
        lines.append(f"| {name} | {' | '.join(str(of[status]) for status in STATUSES)} |")
    lines += ["", "## Mistakes that have a name", ""]
    mistakes = Counter((g.exercise, g.mistake) for g in all_grades if g.mistake)
    if not mistakes:
        return "\n".join([*lines, "None."]) + "\n"
    lines += ["| students | exercise | mistake |", "| ---: | --- | --- |"]
    for (name, mistake), number in sorted(mistakes.items(), key=lambda one: (-one[1], one[0])):
        lines.append(f"| {number} | {name} | {mistake} |")
    return "\n".join(lines) + "\n"


def figure(graded: Sequence[Graded], exercises: Sequence[str]) -> Figure:
    """A bar for each exercise: right, a known mistake, wrong in another way, no result."""
    drawn, (axes,) = new_figure(1, height=1.6 + 0.32 * len(exercises))
    found = counts(graded, exercises)
    for place, name in enumerate(exercises):
        left = 0
        for part, colour, hatch, ink in PARTS:
            width = found[name][part]
            axes.barh(place, width, left=left, color=colour, hatch=hatch, edgecolor="white")
            if width * 25 >= len(graded):  # there is room for the number
                box = {"facecolor": colour, "edgecolor": "none", "pad": 1}
                middle = left + width / 2
                axes.text(middle, place, str(width), color=ink, bbox=box, ha="center", va="center")
            left += width
    axes.set_yticks(range(len(exercises)), exercises)
    axes.invert_yaxis()
    axes.set_xlim(0, max(1, len(graded)))
    axes.set_xlabel("students")
    handles = [
        axes.barh([0], [0], color=colour, hatch=hatch, edgecolor="white", label=part)
        for part, colour, hatch, _ in PARTS
    ]
    drawn.legend(handles=handles, loc="outside lower center", ncols=2, frameon=False)
    set_title(drawn, title(graded, exercises))
    return drawn


def title(graded: Sequence[Graded], exercises: Sequence[str]) -> str:
    """What the figure shows, with its numbers."""
    right = sum(grade.status == "ok" for one in graded for grade in one.grades)
    answers = len(graded) * len(exercises)
    return f"{right} of {counted(answers, 'answer')} of {counted(len(graded), 'student')} pass"


def picture(graded: Sequence[Graded], exercises: Sequence[str]) -> bytes:
    """The figure as a PNG."""
    data = io.BytesIO()
    figure(graded, exercises).savefig(data, format="png", dpi=DPI)
    return data.getvalue()
