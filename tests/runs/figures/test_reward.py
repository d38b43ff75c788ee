"""The figures of the reward model: its calibration, and its head along a response."""

import pytest

from minippo.runs import figures
from tests.runs.figures.drawn import png, texts, title

ROWS = [
    {"predicted": 0.55, "chosen": 0.52, "low": 0.4, "high": 0.6, "pairs": 30, "prompts": 20},
    {"predicted": 0.95, "chosen": 0.81, "low": 0.7, "high": 0.9, "pairs": 90, "prompts": 60},
]


class TestRewardCalibration:
    def test_points_intervals_and_title_by_hand(self):
        figure = figures.reward_calibration(ROWS)
        (axes,) = figure.axes
        line = axes.lines[1]
        assert line.get_xdata().tolist() == [0.55, 0.95]
        assert line.get_ydata().tolist() == [0.52, 0.81]
        # (30 * 0.03 + 90 * 0.14) / 120 = 0.1125
        assert title(figure) == "On held-out pairs the reward model is too sure by 0.112"
        assert {"30 pairs", "90 pairs"} <= set(texts(figure))
        png(figure)

    def test_a_careful_model_is_called_so(self):
        rows = [row | {"chosen": 1.0, "high": 1.0} for row in ROWS]
        assert "too careful by 0.150" in title(figures.reward_calibration(rows))

    def test_nothing_can_be_drawn(self):
        png(figures.reward_calibration([]))


class TestRewardAlongResponse:
    def test_the_head_after_each_token(self):
        figure = figures.reward_along_response(["a", "baker", "</s>"], [0.1, 0.9, 0.4], 0.4)
        (axes,) = figure.axes
        assert axes.lines[1].get_ydata() == pytest.approx([0.1, 0.9, 0.4])
        assert title(figure) == "After the first token the head says 0.10, at the end 0.40"
        png(figure)

    @pytest.mark.parametrize("n", [0, 100])
    def test_no_tokens_and_many(self, n):
        png(figures.reward_along_response(["x"] * n, [0.0] * n, 0.0))
