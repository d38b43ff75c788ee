"""The figures of the policy's training: how many points, which words."""

from minippo.runs import figures
from tests.runs.figures.drawn import png, texts, title, updates


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

    def test_the_title_begins_with_gold_and_says_when_the_run_is_hacked(self):
        rows = [
            row | {"objective/gold": gold}
            for row, gold in zip(updates(8), [0.9, 0.7, 0, 0, 0, 0, 0.2, 0.4], strict=True)
        ]
        assert title(figures.reward_and_kl(rows)) == (
            "Gold fell from 0.90 to 0.40 while the score rose from 0.10 to 0.80"
        )
        # the means of the first and the last quarter: of 0.9 and 0.7, of 0.2 and 0.4
        assert title(figures.reward_and_kl(rows, hacked=True)) == (
            "Hacked: gold fell from 0.80 to 0.30 while the score rose from 0.15 to 0.75"
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
            "this run, by update",
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

    def test_a_hacked_run_is_called_so_before_anything_else(self):
        wanted = "Hacked: gold fell while the score came to 1.20 at a KL of 3.00 nats"
        assert title(self.draw(hacked=True)) == wanted

    def test_parts_may_be_missing(self):
        png(self.draw(run_points=[], optimal_frontier=[], best_of_n=[], final_point=None))
        png(self.draw(run_points=[(1, 0.0, 0.0)]))
