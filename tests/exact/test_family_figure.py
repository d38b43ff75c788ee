"""The picture of the family shows the numbers of its table."""

import pytest

from minippo.exact.family_figure import CHANCES, LINES, family_figure
from minippo.exact.first_step import difficulty
from minippo.relatives.groups import standardised_advantages

TABLE = {
    "steps": [
        {"name": "first", "published": {"bias": 0.25}, "k1": {"bias": 0.5}},
        {"name": "second", "published": {"bias": 0.0}, "k1": {"bias": 0.75}},
    ]
}


def test_the_bars_and_the_lines():
    left, right = family_figure(TABLE).axes
    assert [label.get_text() for label in left.get_yticklabels()] == ["first", "second"]
    assert [bar.get_width() for bar in left.patches] == [0.25, 0.0, 0.5, 0.75]
    assert len(right.lines) == len(LINES) == 4
    for (size, *_), line in zip(LINES, right.lines, strict=True):
        even = difficulty(standardised_advantages, size, 0.5)
        wanted = [difficulty(standardised_advantages, size, p) / even for p in CHANCES]
        assert list(line.get_ydata()) == pytest.approx(wanted)
        assert line.get_label() == f"groups of {size}"
