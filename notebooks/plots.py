"""How the notebooks draw: one palette that also works in grey, one resolution, and words for those
who cannot see the picture."""

import io
from typing import Any

from IPython.display import Image, display
from matplotlib.figure import Figure

from minippo.runs.figures.style import BLUE, DARK, ORANGE, PALE

DPI = 144
COLOURS = (DARK, BLUE, ORANGE, PALE)  # from dark to light, in this order on a page
LINES = ("-", "--", "-.", ":")


def panels(number: int = 1, *, height: float = 3.0, **options: Any) -> tuple[Figure, Any]:
    """(figure, axes) with `number` panels side by side; one panel has no list around it."""
    figure = Figure(figsize=(7, height), dpi=DPI, layout="constrained")
    axes = figure.subplots(1, number, **options)
    for panel in [axes] if number == 1 else axes:
        panel.spines[["top", "right"]].set_visible(False)
    return figure, axes


def name_line(axes: Any, x: float, y: float, text: str, colour: str = DARK) -> None:
    """Write a line's name beside it, in the place of a legend."""
    axes.annotate(
        text, (x, y), xytext=(4, 0), textcoords="offset points", color=colour, va="center"
    )


def show(figure: Figure, alt: str) -> None:
    """Show a figure; `alt` says in a sentence or two what is to be seen in it."""
    picture = io.BytesIO()
    figure.savefig(picture, format="png")
    display(Image(picture.getvalue(), width=int(72 * figure.get_figwidth()), alt=alt))
