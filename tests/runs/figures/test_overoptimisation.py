"""Score and gold over the KL. That it is good to look at was judged by eye."""

import pytest

from minippo.runs.figures import overoptimisation
from minippo.runs.figures.overoptimisation import Panel, line
from tests.runs.figures.drawn import png, texts, title

COURSE = [(0.0, 0.0, 1.0), (1.0, 0.5, 2.0), (4.0, 0.9, 1.5)]


def test_a_row_for_each_reward_model_with_its_lines_at_d():
    panel = Panel("50 prompts", {"0": COURSE, "0.2": COURSE[:2]}, [(0.3, 0.4, 1.2)], [(0.5, 0.6)])
    figure = overoptimisation([panel, panel._replace(name="many", frontier=[])])
    assert len(figure.axes) == 4 and png(figure)
    score, gold = figure.axes[:2]
    frontier, free, priced, best = score.lines
    assert list(free.get_xdata()) == [0.0, 1.0, 2.0] and list(free.get_ydata()) == [0.0, 0.5, 0.9]
    assert list(frontier.get_ydata()) == [0.6] and list(best.get_ydata()) == [0.4]
    assert len(priced.get_xdata()) == 2
    assert list(gold.lines[0].get_ydata()) == [1.0, 2.0, 1.5]  # no frontier: of gold none is known
    assert score.get_ylabel() == "50 prompts\nscore" and gold.get_ylabel() == "gold"
    assert title(figure) == "What the reward model says, and what it is worth"
    shown = " ".join(texts(figure)) + " ".join(t.get_text() for t in figure.legends[0].texts)
    assert "PPO, price of the KL 0.2" in shown and "best of n (KL bound)" in shown


def test_a_kl_that_rounding_made_negative_is_at_the_reference():
    assert line([(-1e-9, 0.1, 0.2), (4.0, 0.3, 0.4)], 2) == ([0.0, pytest.approx(2.0)], [0.2, 0.4])
