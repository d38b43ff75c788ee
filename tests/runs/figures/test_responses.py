"""The figures of the responses: their lengths, and the critic's values along them."""

import numpy as np
import pytest

from minippo.runs import figures
from tests.runs.figures.drawn import png, title


class TestResponseLengths:
    def test_shares_by_hand(self):
        figure = figures.response_lengths([1, 1, 2, 4], [4, 4], 4)
        (axes,) = figure.axes
        assert [bar.get_height() for bar in axes.patches] == [
            0.5,
            0.25,
            0.0,
            0.25,
            0.0,
            0.0,
            0.0,
            1.0,
        ]
        assert title(figure) == "The mean length rose from 2.0 to 4.0 tokens"
        assert axes.get_xlabel() and axes.get_ylabel() == "share of responses"
        png(figure)

    def test_long_responses_are_binned_and_every_one_is_counted(self):
        figure = figures.response_lengths(list(range(1, 301)), np.full(7, 300), 300)
        heights = [bar.get_height() for bar in figure.axes[0].patches]
        assert len(heights) <= 48 and sum(heights) == pytest.approx(2.0)
        png(figure)


class TestValuesAlongResponse:
    def test_one_value_and_one_bar_per_token(self):
        figure = figures.values_along_response(
            tokens=["a", "b", "<eos>"],
            values=[0.1, 0.2, 0.3],
            rewards=[0.0, 0.0, 1.0],
            advantages=[0.5, -0.5, 0.7],
            score=1.2,
        )
        above, below = figure.axes
        assert [len(line.get_xdata()) for line in above.lines if line.get_marker() == "o"] == [3]
        assert [bar.get_height() for bar in below.patches] == [0.5, -0.5, 0.7]
        assert [label.get_text() for label in below.get_xticklabels()] == ["a", "b", "<eos>"]
        assert above.get_ylabel() and below.get_ylabel() and below.get_xlabel()
        assert (
            title(figure)
            == "The critic expects 0.10 before the first token; the response is scored 1.20"
        )
        png(figure)

    def test_any_token_text_can_be_drawn(self):
        tokens = ["$x_$", "$", "\x1b[2J", "\n", " ", "\u6f22", "\\", "\udc80", ""]
        figure = figures.values_along_response(tokens, [0.0] * 9, [0.0] * 9, [0.0] * 9, 0.0)
        labels = [label.get_text() for label in figure.axes[1].get_xticklabels()]
        assert labels == ["$x_$", "$", "\\x1b[2J", "\\n", "\u2423", "\u25a1", "\\", "\\udc80", ""]
        png(figure)

    def test_of_many_tokens_some_are_named(self):
        figure = figures.values_along_response(
            ["x"] * 300, [0.0] * 300, [0.0] * 300, [0.0] * 300, 0.0
        )
        assert len(figure.axes[1].get_xticklabels()) <= 40 and len(figure.axes[1].patches) == 300
        png(figure)
