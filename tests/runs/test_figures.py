"""The figures: what is drawn, how many points, which words; that they are good to look at was
judged by eye."""

import io
import math
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from minippo.runs import figures

ROOT = Path(__file__).parents[2]


def png(figure):
    """The figure as it would be saved; any warning while drawing is an error here."""
    picture = io.BytesIO()
    figure.savefig(picture, format="png")
    assert picture.getvalue().startswith(b"\x89PNG") and len(picture.getvalue()) > 5000
    return picture.getvalue()


def texts(figure):
    return [text.get_text() for axes in figure.axes for text in axes.texts]


def title(figure):
    return figure.get_suptitle()


def updates(n, **more):
    return [
        {
            "update": i,
            "objective/scores": 0.1 * i,
            "objective/rlhf_reward": 0.08 * i,
            "objective/kl": 0.02 * i,
            "objective/kl_policy_to_ref_exact": 0.02 * i,
            **more,
        }
        for i in range(1, n + 1)
    ]


def test_no_figure_needs_or_touches_pyplot():
    code = (
        "import sys; from minippo.runs import figures; assert 'matplotlib' not in sys.modules; "
        "figures.response_lengths([1], [2], 2); assert 'matplotlib.pyplot' not in sys.modules"
    )
    # a fresh process: other tests may import it
    subprocess.run([sys.executable, "-c", code], check=True, cwd=ROOT)


class TestRewardAndKL:
    def test_two_panels_or_three_with_gold(self):
        assert len(figures.reward_and_kl(updates(5)).axes) == 2
        assert len(figures.reward_and_kl(updates(5, **{"objective/gold": None})).axes) == 2
        figure = figures.reward_and_kl(updates(5, **{"objective/gold": 3.0}))
        assert [axes.get_ylabel() for axes in figure.axes] == [
            "reward",
            "gold score",
            "KL, nats\nper sequence",
        ]
        png(figure)

    def test_every_update_is_a_point_and_every_line_has_its_name(self):
        figure = figures.reward_and_kl(updates(5))
        assert [len(line.get_xdata()) for axes in figure.axes for line in axes.lines] == [
            5,
            5,
            5,
            5,
        ]
        assert sorted(texts(figure)) == [
            "exact per state",
            "from samples",
            "score",
            "score - KL penalty",
        ]
        assert figure.axes[-1].get_xlabel() == "PPO update"
        assert (
            title(figure) == "The score rose from 0.10 to 0.50 while the KL rose from 0.02 to 0.10"
        )

    def test_lines_differ_in_more_than_colour(self):
        for axes in figures.reward_and_kl(updates(5)).axes:
            assert len({line.get_linestyle() for line in axes.lines}) == len(axes.lines)

    def test_names_of_lines_that_end_together_stand_apart(self):
        figure = figures.reward_and_kl(updates(5))
        low, high = sorted(text.xy[1] for text in figure.axes[1].texts)
        assert high - low > 0.1
        bottom, top = figure.axes[1].get_ylim()
        # one above, one below the common end, KL 0.1
        assert low < (0.1 - bottom) / (top - bottom) < high

    def test_gaps_one_update_and_none(self):
        rows = updates(4)
        rows[1]["objective/kl"] = None
        del rows[2]["objective/kl"]
        for some in (rows, updates(1), []):
            png(figures.reward_and_kl(some))


class TestScoreAgainstKL:
    def draw(self, **changes):
        arguments = dict(
            run_points=[(i, 0.1 * i, 0.05 * i) for i in range(1, 31)],
            optimal_frontier=[(0.0, 0.0), (2.0, 1.0), (4.0, 1.5)],
            best_of_n=[(2, 0.19, 0.1), (4, 0.64, 0.3)],
            reference_point=(0.0, 0.0),
            final_point=(3.0, 1.2),
        )
        return figures.score_against_kl(**(arguments | changes))

    def test_everything_is_drawn_and_named(self):
        figure = self.draw()
        (axes,) = figure.axes
        assert [len(line.get_xdata()) for line in axes.lines] == [3, 2, 30, 1, 1]
        legend = [text.get_text() for text in axes.get_legend().get_texts()]
        assert legend == [
            "best possible at each KL",
            "best of n samples (KL bound)",
            "this run, by update (training prompts)",
            "reference",
            "final policy",
        ]
        assert {"n=2", "n=4", "1", "30"} <= set(texts(figure)) and len(texts(figure)) < 14
        assert (
            axes.get_xlabel() == "KL(policy || reference), nats per sequence"
            and axes.get_ylabel() == "score"
        )
        png(figure)

    def test_the_title_reads_the_best_possible_off_the_frontier(self):
        # at KL 3, halfway from (2, 1.0) to (4, 1.5): 1.25
        assert (
            title(self.draw())
            == "At a KL of 3.00 nats the policy scores 1.20; the best possible there is 1.25"
        )
        assert (
            title(self.draw(final_point=(5.0, 1.2)))
            == "At a KL of 5.00 nats the policy scores 1.20"
        )

    def test_parts_may_be_missing(self):
        png(self.draw(run_points=[], optimal_frontier=[], best_of_n=[], final_point=None))
        png(self.draw(run_points=[(1, 0.0, 0.0)]))


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
        for sign, axes in zip((1.0, -1.0), figure.axes):
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
