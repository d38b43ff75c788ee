"""Score against KL."""

import re

import pytest

from minippo.runs.report.plane import frame_of, plane
from tests.made_runs import summary


def test_the_plane_has_every_point_of_the_summary():
    found = summary()
    text = plane(found)
    assert text.count('<circle class="step"') == 3 and text.count('<rect class="square"') == 2
    points = re.search(r'class="line frontier" d="M([^"]+)"', text)
    frame = frame_of([p[-2:] for name in ("frontier", "best_of_n", "path") for p in found[name]])
    assert points is not None
    places = [[float(x) for x in point.split()] for point in points[1].split("L")]
    assert places == [pytest.approx(frame.place(*p), abs=0.06) for p in found["frontier"]]
    assert "update 3: KL 0.75, score 1.00" in text and "best of 2: KL 0.20, score 0.90" in text


def test_it_is_said_in_words_too():
    text = plane(summary())
    assert "Score against KL: from 0.50 at a KL of 0.00 to 1.50 at 1.25 nats" in text
    assert "is 1.438; the best possible is 1.500 (1.400 to 1.600)" in text


def test_what_is_not_known_is_not_drawn():
    text = plane(summary() | {"frontier": [], "best_of_n": []})
    assert "best possible at each KL" not in text and "this run, by update" in text
    assert plane(summary() | {"path": []}) == ""


def test_the_names_of_the_ends_do_not_cover_each_other_nor_numbers():
    """A run that has hardly moved, beside a frontier that reaches far."""
    near = [[0, 0.0, 0.5], [1, 0.02, 0.44], [2, 0.03, 0.38], [3, 0.1, 0.5]]
    text = plane(summary() | {"path": near, "frontier": [[0.0, 0.5], [3.0, 1.5]]})
    names = {
        name: (float(x), float(y))
        for x, y, name in re.findall(
            r'<text class="name" x="([^"]+)" y="([^"]+)"[^>]*>(\w+)<', text
        )
    }
    assert abs(names["policy"][1] - names["reference"][1]) > 15
    (x, y) = names["reference"]
    numbers = re.findall(r'<text class="tick" x="([^"]+)" y="([^"]+)">\d<', text)
    assert not any(x - 18 < float(a) < x + 72 and abs(float(b) - y) < 12 for a, b in numbers)
