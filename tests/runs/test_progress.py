"""Lines that say how far it is, at the times when one is due."""

import pytest

from minippo.runs.progress import duration, told


def lines_of(seconds, total, done=0):
    """What is said of `total` items that take so many seconds each."""
    now, said = [0.0], []
    items = told(
        range(done, total),
        total=total,
        name="pretrain",
        unit="step",
        say=said.append,
        done=done,
        clock=lambda: now[0],
    )
    for _ in items:
        now[0] += seconds
    return said


def test_what_is_over_soon_says_nothing():
    assert lines_of(0.9, 10) == [] and lines_of(20.0, 1) == []


def test_every_ten_seconds_a_line_with_the_time_left():
    assert lines_of(5.0, 8) == [
        "pretrain       step 2 of 8, about 30 s left",
        "pretrain       step 4 of 8, about 20 s left",
        "pretrain       step 6 of 8, about 10 s left",
    ]


def test_what_was_done_before_took_no_time_now():
    assert lines_of(5.0, 8, done=4) == ["pretrain       step 6 of 8, about 10 s left"]


def test_what_takes_an_hour_is_told_of_less_often():
    assert 20 < len(lines_of(1.0, 3600)) < 40


def test_without_a_total_it_counts():
    said, now = [], iter(range(0, 100, 6))
    items = told(
        iter("abcd"), total=None, name="x", unit="step", say=said.append, clock=lambda: next(now)
    )
    assert [*items] == [*"abcd"]
    assert said == ["x              step 2", "x              step 4"]


@pytest.mark.parametrize(
    "seconds, text", [(18.2, "18 s"), (99, "99 s"), (181, "3 min"), (7500, "2 h 5 min")]
)
def test_a_duration_in_words(seconds, text):
    assert duration(seconds) == text
