"""The figure of the clip: every token in its case."""

import math

import numpy as np
import pytest

from minippo.runs import figures
from tests.runs.figures.drawn import png, texts, title


class TestClipCases:
    RATIOS = [0.5, 1.0, 1.1, 1.5, 0.5, 0.6, 1.0, 1.5, 9.0]
    ADVANTAGES = [1.0, 2.0, 0.5, 1.0, -1.0, -2.0, -0.5, -1.0, 0.0]

    def test_counts_by_hand(self):
        # A > 0: 0.5 below, 1.0 and 1.1 inside, 1.5 above (clipped). A < 0: 0.5 and 0.6 below
        # (clipped), 1.0, 1.5 above
        figure = figures.clip_cases(self.RATIOS, self.ADVANTAGES, 0.2)
        assert texts(figure) == [
            "not clipped,\npulled back\n1",
            "clipped,\ngradient 0\n1",
            "inside\n\n2",
            "clipped,\ngradient 0\n2",
            "not clipped,\npulled back\n1",
            "inside\n\n1",
        ]
        assert title(figure) == "The clip stops 3 of 8 tokens: their gradient is 0"
        assert all(axes.get_xlabel() for axes in figure.axes) and figure.axes[0].get_ylabel()
        png(figure)

    def test_points_lie_on_the_objective(self):
        import torch

        from minippo.ppo import clipped_surrogate_loss

        figure = figures.clip_cases(self.RATIOS, self.ADVANTAGES, 0.2)
        for sign, axes in zip((1.0, -1.0), figure.axes, strict=True):
            points = np.concatenate([np.asarray(dots.get_offsets()) for dots in axes.collections])
            assert len(points) == 4
            for ratio, drawn in points:
                loss = clipped_surrogate_loss(
                    logprobs=torch.tensor([[math.log(ratio)]], dtype=torch.float64),
                    old_logprobs=torch.zeros(1, 1, dtype=torch.float64),
                    advantages=torch.tensor([[sign]], dtype=torch.float64),
                    response_mask=torch.ones(1, 1, dtype=torch.bool),
                    cliprange=0.2,
                )
                assert drawn == pytest.approx(-loss.item(), abs=1e-9)

    def test_at_most_400_points_but_all_are_counted(self):
        figure = figures.clip_cases(np.ones(5000), np.ones(5000), 0.2)
        assert sum(len(dots.get_offsets()) for dots in figure.axes[0].collections) <= 400
        assert "inside\n\n5000" in texts(figure)

    def test_no_tokens_an_infinite_range_and_a_far_ratio(self):
        png(figures.clip_cases([], [], 0.2))
        figure = figures.clip_cases(self.RATIOS, self.ADVANTAGES, math.inf)
        assert texts(figure) == ["inside\n\n4", "inside\n\n4"]
        png(figure)
        figure = figures.clip_cases([50.0], [1.0], 0.2)
        assert figure.axes[0].get_xlim()[1] < 2 and texts(figure)[1].endswith("\n1")
        png(figure)
