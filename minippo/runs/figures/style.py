"""What the figures share: a palette that also works in grey, panels, titles, names on lines."""

from __future__ import annotations

import math
import os
from collections.abc import Sequence
from typing import TYPE_CHECKING, cast

from minippo.errors import InputError
from minippo.runs.read import first_words
from minippo.runs.text import printable

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# from dark to light, also in grey
DARK, BLUE, ORANGE, PALE = "#1a1a1a", "#2a5d9c", "#d9822b", "#d9d9d9"
DPI = 144
MOST_POINTS = 400


def check_drawing() -> None:
    """InputError, with the reason, where no figure could be drawn: before the work whose end it
    would be."""
    try:
        from matplotlib.backends import backend_agg  # noqa: F401
    except ModuleNotFoundError:
        raise  # the command says what to install
    except (ImportError, OSError, RuntimeError, ValueError) as error:
        cause = f"MPLBACKEND={os.environ['MPLBACKEND']}: " if "MPLBACKEND" in os.environ else ""
        raise InputError(
            f"{cause}matplotlib cannot be imported, and no figure drawn ({first_words(error)})"
        ) from error


def new_figure(
    number: int, *, height: float = 4.5, side_by_side: bool = False
) -> tuple[Figure, list[Axes]]:
    """A figure without pyplot, whose list of figures would outlive the run, and its axes in reading
    order."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7, height), dpi=DPI, layout="constrained")
    FigureCanvasAgg(figure)
    rows, columns = (1, number) if side_by_side else (number, 1)
    panels = list(figure.subplots(rows, columns, sharex=True, squeeze=False).ravel())
    for axes in panels:
        axes.spines[["top", "right"]].set_visible(False)
    return figure, panels


def set_title(figure: Figure, text: str) -> None:
    """Over the whole figure: over the axes alone it would run into what is to their right."""
    figure.suptitle(text, fontsize="large")


def name_ends(axes: Axes, ends: Sequence[tuple[float, str, str]]) -> None:
    """Write (y, label, colour) to the right of the axes at height y, moved apart where two would
    overlap."""
    low, high = axes.get_ylim()
    figure = cast("Figure", axes.figure)
    panel_height = 0.7 * figure.get_figheight() / len(figure.axes)  # inches, about
    line_height = 0.2 / panel_height  # as a share of the panel
    ends = sorted(ends, key=lambda end: end[0])
    wanted = [(y - low) / (high - low) for y, _, _ in ends]
    heights = []
    for height in wanted:
        heights.append(max(height, heights[-1] + line_height) if heights else height)
    # moving apart only went up: take half of it back
    raised = (sum(heights) - sum(wanted)) / max(1, len(ends))
    for height, (_, label, colour) in zip(heights, ends, strict=True):
        axes.annotate(
            label,
            (1.01, height - raised),
            xycoords="axes fraction",
            color=colour,
            va="center",
            annotation_clip=False,
        )


def span(start: int, bin_width: int, longest: int) -> str:
    end = min(start + bin_width - 1, longest)
    return str(start) if start == end else f"{start}-{end}"


def went(before: float, after: float, decimals: int = 2) -> str:
    verb = "rose" if after > before else "fell" if after < before else "stayed"
    return f"{verb} from {before:.{decimals}f} to {after:.{decimals}f}"


def tokens_between(tokens: Sequence[str]) -> int:
    """Every how many tokens one is named below an axis: more than 40 texts side by side cannot be
    read."""
    return max(1, math.ceil(len(tokens) / 40))


def name_tokens(axes: Axes, tokens: Sequence[str]) -> None:
    """The tokens of a response below the axis, as many of them as can be read."""
    step = tokens_between(tokens)
    axes.set_xticks(
        range(len(tokens))[::step],
        [drawable(text) for text in tokens[::step]],
        rotation=60,
        ha="right",
        rotation_mode="anchor",
        parse_math=False,
    )


def drawable(text: str) -> str:
    """A token's text as the font can draw it, with an empty square for a character that the font
    lacks."""
    from matplotlib.font_manager import FontProperties, findfont, get_font

    known = get_font(findfont(FontProperties())).get_charmap()
    return "".join(c if ord(c) in known else "\N{WHITE SQUARE}" for c in printable(text)).replace(
        " ", "\N{OPEN BOX}"
    )
