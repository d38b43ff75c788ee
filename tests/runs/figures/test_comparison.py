"""Lines and bands of several settings. That they are good to look at was judged by eye."""

import math

import pytest

from minippo.runs.figures import courses
from minippo.runs.figures.comparison import band
from tests.runs.figures.drawn import png, texts, title


def run(*scores, **more):
    return [
        {"update": n, "objective/scores": score, **more} for n, score in enumerate(scores, start=1)
    ]


def test_the_band_is_the_t_interval_over_the_runs():
    x, middle, low, high = band([run(1.0, 4.0), run(3.0, 4.0)], "objective/scores")
    assert (x, middle) == ([1, 2], [2.0, 4.0])
    # deviation sqrt(2), 12.7062 of them over sqrt(2): 12.7062 to either side; no spread, no width
    assert (low[0], high[0]) == pytest.approx((2 - 12.7062, 2 + 12.7062), abs=1e-4)
    assert (low[1], high[1]) == (4.0, 4.0)


def test_one_run_has_no_band_and_what_is_missing_leaves_a_gap():
    x, middle, low, high = band([run(1.0, None, 3.0)], "objective/scores")
    assert x == [1, 2, 3] and math.isnan(middle[1]) and low[0] == middle[0] == high[0] == 1.0


def test_each_setting_is_named_where_it_ends_and_panels_without_numbers_are_left_out():
    figure = courses({"a 1": [run(1.0, 2.0), run(2.0, 2.5)], "a 2": [run(0.0, 1.0)], "a 3": []})
    assert sorted(texts(figure)) == ["a 1", "a 2"]
    assert [axes.get_ylabel() for axes in figure.axes] == ["score"]
    assert title(figure) == "Mean of 2 seeds, and the 95 % interval of the mean"
    assert title(courses({"a": [run(1.0)]})) == "Mean of 1 seed"
    more = {"objective/gold": 1.0, "objective/kl": 0.5}
    assert len(courses({"a": [run(1.0, 2.0, **more)]}).axes) == 3


def test_many_settings_or_long_names_are_named_below():
    for names in ([f"lam 0.{n}" for n in range(8)], ["kl_coef 0.01, algorithm ppo_x", "b $1$"]):
        figure = courses({name: [run(1.0, 2.0)] for name in names})
        assert figure.legends and len(figure.legends[0].get_texts()) == len(names)
        png(figure)


def test_without_any_run_there_is_an_empty_figure():
    png(courses({"a": [], "b": []}))
