"""Curves: where a number comes to lie, and what is said beside it."""

import re

import pytest

from minippo.runs.figures.style import MOST_POINTS
from minippo.runs.report.curves import (
    LEFT,
    WIDTH,
    Frame,
    Line,
    Panel,
    chart,
    data_of,
    frame_of,
    line_of,
    names_at_ends,
    narrow,
    path_of,
    ticks,
)
from tests.made_runs import HOSTILE

FRAME = Frame(left=10, right=110, x=(0, 10), y=(-1, 1), top=5, bottom=105)


def test_a_point_lies_where_its_numbers_say_and_up_is_more():
    assert FRAME.place(0, -1) == (10, 105)
    assert FRAME.place(10, 1) == (110, 5)
    assert FRAME.place(5, 0) == (60, 55)


@pytest.mark.parametrize(
    "low, high, found",
    [
        (0, 1, [0, 0.2, 0.4, 0.6, 0.8, 1]),
        (-0.3, 0.8, [-0.25, 0, 0.25, 0.5, 0.75]),
        (1, 30, [10, 20, 30]),
        (0, 0.004, [0, 0.001, 0.002, 0.003, 0.004]),
    ],
)
def test_ticks_are_round_numbers(low, high, found):
    assert ticks(low, high) == pytest.approx(found)


def test_a_line_keeps_its_gaps_and_a_point_alone_is_a_dot():
    line = Line("a", [0, 1, 2, 3, 4], [0.0, 1.0, None, 0.5, None], 0)
    text = path_of(line, FRAME)
    assert 'd="M10.0 55.0L20.0 5.0"' in text
    assert '<circle class="dot look0" cx="40.0" cy="30.0" r="2.5"/>' in text


def test_a_metric_that_no_row_has_makes_no_line():
    rows = [{"update": 1, "a": None, "b": 2.0}, {"update": 2, "b": "<b>"}]
    assert line_of("a", rows, "a", 0) is None and line_of("c", rows, "c", 0) is None
    assert line_of("b", rows, "b", 1) == Line("b", [1, 2], [2.0, None], 1)


def test_a_long_run_is_thinned_and_keeps_its_last_update():
    rows = [{"update": i, "a": float(i)} for i in range(1, 10 * MOST_POINTS)]
    line = line_of("a", rows, "a", 0)
    assert line is not None and len(line.xs) <= MOST_POINTS + 1
    assert (line.xs[0], line.xs[-1]) == (1, 10 * MOST_POINTS - 1)


def test_names_at_the_ends_do_not_overlap():
    lines = [
        Line(name, [0, 1], [0.0, y], i) for i, (name, y) in enumerate(zip("abc", (1, 1, 0.98)))
    ]
    heights = sorted(map(float, re.findall(r' y="([\d.]+)"', names_at_ends(lines, FRAME))))
    assert len(heights) == 3 and min(b - a for a, b in zip(heights, heights[1:])) >= 11.9
    assert names_at_ends(lines[:1], FRAME) == ""


@pytest.mark.parametrize("ys", [[0.0, 0.0], [5.0, 5.0], [-3.0], [1e-9, 1e9], [-1e-12, 1.0]])
def test_whatever_the_numbers_are_they_lie_inside(ys):
    line = Line("a", list(range(1, len(ys) + 1)), ys, 0)
    frame = frame_of([line])
    for x, y in zip(line.xs, ys, strict=True):
        across, down = frame.place(x, y)
        assert LEFT <= across <= WIDTH and frame.top <= down <= frame.bottom + 0.01


def test_a_panel_says_where_its_lines_begin_and_end():
    panel = Panel("KL<", "nats", [Line("k1", [1, 2], [0.0, 1.5], 0), Line("e", [1, 2], [0, 2], 1)])
    text = chart(panel, [(2, "P011")])
    assert 'data-rest="k1 0 to 1.5; e 0 to 2"' in text and ">P011</text>" in text
    assert text.count('class="line look') == 2 and text.count('class="spot look') == 2
    assert "KL&lt;" in text and "KL<" not in text


def test_a_name_is_escaped():
    text = chart(Panel(HOSTILE, HOSTILE, [Line(HOSTILE, [1], [1.0], 0), Line("b", [1], [2.0], 1)]))
    assert "<img" not in text and "&lt;img" in text


def test_the_cursor_knows_the_frame_and_the_numbers():
    panel = Panel("a", "", [Line("b", [1, 2], [0.123456, None], 0)])
    frame, data = frame_of(panel.lines), data_of(panel)
    assert data["lines"] == [{"name": "b", "x": [1, 2], "y": [0.1235, None]}]
    assert data["frame"] == pytest.approx(
        [frame.left, frame.right, frame.top, frame.bottom, *frame.x, *frame.y], abs=1e-5
    )


@pytest.mark.parametrize(
    "value, text",
    [(-4000.0, "-4e3"), (1e12, "1e12"), (2.5e-7, "2.5e-7"), (-0.25, "-0.25"), (0.0, "0")],
)
def test_a_number_beside_an_axis_has_little_room(value, text):
    assert narrow(value) == text and float(text) == value
