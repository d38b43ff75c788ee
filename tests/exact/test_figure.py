"""The ladder's figure: bars as high as the table says, and to be read without colour."""

from itertools import pairwise

import pytest

from minippo.exact import ladder
from minippo.exact.figure import BARS, ladder_figure
from tests.exact.test_ladder import KINDS, advantages, gradients, row
from tests.runs.figures.drawn import png


@pytest.mark.slow
def test_the_bars_are_as_high_as_the_table_says():
    axes, _ = ladder_figure(gradients(1)[0], advantages()).axes
    assert [bars.get_label() for bars in axes.containers] == [f"{kind} reward" for kind in KINDS]
    for kind, bars in zip(KINDS, axes.containers, strict=True):
        assert [bar.get_height() for bar in bars] == [
            row(kind, name, 1)["variance"] for name in BARS
        ]
        assert [round(bar.get_x() + bar.get_width() / 2) for bar in bars] == list(range(len(BARS)))
    assert [label.get_text() for label in axes.get_xticklabels()] == list(BARS.values())
    heights = [bar.get_height() for bars in axes.containers for bar in bars]
    for text, height in zip(axes.texts, heights, strict=True):
        assert abs(float(text.get_text()) - height) <= (0.0051 if height < 1 else 0.051)
    starts = [bars[0].get_x() for bars in axes.containers]
    assert starts == sorted(starts)  # in the order of the legend
    edges = sorted(
        (bar.get_x(), bar.get_x() + bar.get_width()) for bars in axes.containers for bar in bars
    )
    # no bar hides another
    assert all(right <= left + 1e-9 for (_, right), (left, _) in pairwise(edges))
    # the title says so
    assert all(row(kind, name, 1)["bias"] < 1e-10 for kind in KINDS for name in BARS)
    assert "variance" in axes.get_ylabel() and "unbiased" in axes.get_title() and len(BARS) == 6


def test_the_dial_shows_the_rows_of_the_dense_reward():
    figure = ladder_figure(gradients(1)[0], advantages())
    _, axes = figure.axes
    dense = advantages()["dense"]
    wanted = {
        "bias squared, wrong V": [row["tilt"] ** 2 for row in dense["wrong V"]],
        "variance, wrong V": [row["variance"] for row in dense["wrong V"]],
        "variance, exact V (bias 0)": [row["variance"] for row in dense["exact V"]],
    }
    assert [line.get_label() for line in axes.lines] == list(wanted)
    for line, errors in zip(axes.lines, wanted.values(), strict=True):
        assert list(line.get_xdata()) == list(ladder.LAMBDAS)
        assert list(line.get_ydata()) == errors
    assert max(row["tilt"] for row in dense["exact V"]) < 1e-10  # as its label says
    assert axes.get_xlabel() == "lam" and axes.get_ylim()[0] == 0
    png(figure)


def test_the_figure_can_be_read_without_colour():
    left, right = ladder_figure(gradients(1)[0], advantages()).axes
    greys = {
        (round(sum(bars[0].get_facecolor()[:3]), 1), bars[0].get_hatch())
        for bars in left.containers
    }
    assert len(greys) == 3
    assert (
        len({line.get_linestyle() for line in right.lines})
        == len({line.get_marker() for line in right.lines})
        == 3
    )
    assert [len(axes.get_legend().get_texts()) for axes in (left, right)] == [3, 3]
