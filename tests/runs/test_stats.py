"""The intervals against numbers worked by hand and against simulations, and a memory peak that is
one."""

import math
import random
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from minippo.runs import stats
from minippo.runs.stats import (
    clustered_interval,
    items_to_tell,
    peak_memory_mib,
    t_interval,
    t_quantile,
    wilson_interval,
)

ROOT = Path(__file__).parents[2]


def test_half_of_ten_by_hand():
    # z = 2: middle 0.5 + 4/20 = 0.7; half-width 2 sqrt(0.25/10 + 4/400) = 2 sqrt(0.035); both over
    # 1 + 4/10
    low, high = wilson_interval(5, 10, z=2.0)
    assert low == pytest.approx((0.7 - 2 * math.sqrt(0.035)) / 1.4, abs=1e-12)  # 0.2327
    assert high == pytest.approx((0.7 + 2 * math.sqrt(0.035)) / 1.4, abs=1e-12)  # 0.7673


def test_nothing_and_everything_by_hand():
    # wins = 0: middle z^2/2n equals the half-width, so the interval is 0 to (z^2/n)/(1 + z^2/n)
    z2 = 1.959964**2
    assert wilson_interval(0, 20) == (0.0, pytest.approx(z2 / (20 + z2), abs=1e-12))
    assert wilson_interval(20, 20) == (pytest.approx(20 / (20 + z2), abs=1e-12), 1.0)
    assert wilson_interval(0, 1)[0] == 0.0 and wilson_interval(1, 1)[1] == 1.0


def test_ties_count_half():
    assert wilson_interval(7, 10)[0] < wilson_interval(7.5, 10)[0] < wilson_interval(8, 10)[0]


@given(n=st.integers(1, 10_000), data=st.data())
def test_it_is_an_interval_around_the_share_and_mirrors(n, data):
    wins = data.draw(st.integers(0, 2 * n)) / 2
    low, high = wilson_interval(wins, n)
    assert 0 <= low <= wins / n <= high <= 1 and low < high
    assert wilson_interval(n - wins, n) == (
        pytest.approx(1 - high, abs=1e-9),
        pytest.approx(1 - low, abs=1e-9),
    )


@given(wins=st.integers(0, 50), n=st.integers(50, 500))
def test_the_ends_solve_the_equation_of_the_score_test(wins, n):
    # low and high are the shares q at which (wins/n - q)^2 = z^2 q (1 - q) / n
    for q in wilson_interval(wins, n):
        assert (wins / n - q) ** 2 == pytest.approx(1.959964**2 * q * (1 - q) / n, abs=1e-9)


@pytest.mark.parametrize(
    "wins, n, message",
    [(0, 0, "n must"), (-1, 5, "wins must"), (5.5, 5, "wins must"), (math.nan, 5, "wins must")],
)
def test_refusals(wins, n, message):
    with pytest.raises(ValueError, match=message):
        wilson_interval(wins, n)


# -- the interval of items that go together by prompt


def of_prompts(*rights):
    """(rights, prompts) of prompts with these items."""
    return [x for items in rights for x in items], [
        i for i, items in enumerate(rights) for _ in items
    ]


def test_one_item_per_prompt_is_wilsons_interval():
    found = clustered_interval([1, 1, 0, 1, 1], range(5))
    assert found == pytest.approx(wilson_interval(4, 5))
    assert found == pytest.approx((0.376, 0.964), abs=5e-4)
    assert clustered_interval([1, 0.5, 0], "abc") == pytest.approx(wilson_interval(1.5, 3))


def test_one_prompt_counts_once_however_many_items_it_has():
    found = clustered_interval([1, 1, 0, 1, 1], ["a"] * 5)
    assert found == pytest.approx(wilson_interval(0.8, 1))
    assert found == pytest.approx((0.133, 0.990), abs=5e-4)
    assert clustered_interval([1] * 50, ["a"] * 50) == wilson_interval(1, 1)


def test_prompts_that_are_all_right_or_all_wrong_count_once_each():
    found = clustered_interval(*of_prompts(*[[1] * 10] * 14, *[[0] * 10] * 6))
    assert found == pytest.approx(wilson_interval(14, 20))
    assert found == pytest.approx((0.481, 0.855), abs=5e-4)


@pytest.mark.parametrize("right, share", [(1, 1.0), (0, 0.0)])
def test_where_all_are_right_or_all_wrong_each_prompt_counts_once(right, share):
    found = clustered_interval(*of_prompts(*[[right] * 6] * 5))
    assert found == pytest.approx(wilson_interval(5 * share, 5))


def test_prompts_with_equal_shares_by_hand():
    # nothing is seen, together is 6: d = (6 * 0 + 3 * 6) / 9 = 2, so 36 items count as 18
    found = clustered_interval(*of_prompts(*[[1, 1, 1, 1, 0, 0]] * 6))
    assert found == pytest.approx(wilson_interval(12, 18))


def test_items_that_go_together_in_part_by_hand():
    # 3, 1 and 2 of 4 are right: seen = (1 + 1 + 0) / (12 / 4) = 2/3; together is 4, so
    # d = (3 * 2/3 + 3 * 4) / 6 = 7/3
    found = clustered_interval(*of_prompts([1, 1, 1, 0], [1, 0, 0, 0], [1, 1, 0, 0]))
    assert found == pytest.approx(wilson_interval(18 / 7, 36 / 7))


RIGHTS = st.sampled_from([0, 0.5, 1])


@given(st.lists(st.lists(RIGHTS, min_size=1, max_size=6), min_size=1, max_size=9))
def test_it_is_never_narrower_than_that_of_independent_items(rights):
    items, prompts = of_prompts(*rights)
    low, high = clustered_interval(items, prompts)
    least_low, least_high = wilson_interval(sum(items), len(items))
    assert 0 <= low <= least_low + 1e-9 and least_high - 1e-9 <= high <= 1


@given(st.lists(RIGHTS, min_size=1, max_size=9), st.integers(2, 4))
def test_copies_tell_nothing_new(items, copies):
    once = clustered_interval(items, range(len(items)))
    assert clustered_interval(items * copies, [*range(len(items))] * copies) == pytest.approx(once)


def test_an_interval_of_nothing_is_refused():
    with pytest.raises(ValueError, match="n must be at least 1"):
        clustered_interval([], [])
    with pytest.raises(ValueError):
        clustered_interval([1, 0], [1])


@pytest.mark.slow
@pytest.mark.parametrize("prompts", [2, 5, 20])
@pytest.mark.parametrize("together", [0.0, 0.3, 1.0])
@pytest.mark.parametrize("share", [0.5, 0.7, 0.9])
def test_it_holds_the_truth_about_as_often_as_it_says(prompts, together, share):
    """The share right of a prompt is drawn from a beta distribution in which two of its items have
    the correlation `together`. 600 times."""
    rng, hits = random.Random(0), 0
    for _ in range(600):
        rights = []
        for _ in range(prompts):
            if together in (0, 1):
                p = share if together == 0 else float(rng.random() < share)
            else:
                scale = 1 / together - 1
                p = rng.betavariate(share * scale, (1 - share) * scale)
            rights.append([float(rng.random() < p) for _ in range(rng.randint(1, 6))])
        low, high = clustered_interval(*of_prompts(*rights))
        hits += low <= share <= high
    assert hits / 600 >= 0.88


@pytest.mark.skipif(sys.platform == "win32", reason="no such count there")
def test_the_peak_of_memory_grows_with_what_is_held():
    assert peak_memory_mib() > 10
    code = (
        "from minippo.runs.stats import peak_memory_mib as peak; "
        "before = peak(); ballast = b'x' * 2**26; "
        "held = peak(); del ballast; print(before, held, peak())"
    )
    printed = subprocess.run(
        [sys.executable, "-c", code], check=True, cwd=ROOT, capture_output=True, text=True
    ).stdout
    before, held, after = map(float, printed.split())  # in a small process of its own
    # a peak does not fall; the kernel counts in batches
    assert 50 < held - before < 80 and after > held - 1


def test_the_units_of_both_sources(tmp_path, monkeypatch):
    (tmp_path / "status").write_text("Name:\tpython\nVmHWM:\t  2048 kB\n")
    assert stats._peak_from_proc(tmp_path / "status") == 2.0
    assert stats._peak_from_proc(tmp_path / "nothing") is None
    resource = pytest.importorskip("resource")
    monkeypatch.setattr(
        resource, "getrusage", lambda _: type("Usage", (), {"ru_maxrss": 3 * 2**20})
    )
    monkeypatch.setattr(stats.sys, "platform", "linux")
    assert stats._peak_from_getrusage() == 3 * 2**10
    monkeypatch.setattr(stats.sys, "platform", "darwin")
    assert stats._peak_from_getrusage() == 3.0


@pytest.mark.parametrize(
    "load, processors, threads, is_busy",
    [
        (0.0, 2, 2, False),
        (0.9, 2, 2, False),  # not one processor is taken
        (1.0, 2, 2, True),
        (9.0, 2, 2, True),
        (9.0, 2, 1, False),  # one thread waits for nobody
        (0.0, 1, 2, True),
        (3.0, 8, 5, False),
        (3.5, 8, 6, True),
    ],
)
def test_more_threads_than_free_processors_are_told(
    load, processors, threads, is_busy, monkeypatch
):
    monkeypatch.setattr(stats.os, "getloadavg", lambda: (load, 0.0, 0.0))
    monkeypatch.setattr(stats.os, "sched_getaffinity", lambda _: set(range(processors)))
    line = stats.busy(threads)
    assert (line is not None) == is_busy
    assert line is None or f"(load {load:.1f}, {processors} processors)" in line


def test_a_system_that_does_not_know_its_load_is_not_busy(monkeypatch):
    def unknown():
        raise OSError

    monkeypatch.setattr(stats.os, "getloadavg", unknown)
    assert stats.busy(64) is None


def test_the_loop_and_the_memory_are_those_of_the_device(monkeypatch):
    assert 0 < stats.matmul_loop_seconds("cpu") < 600
    assert stats.peak_memory_of(torch.device("cpu")) == pytest.approx(peak_memory_mib(), rel=0.2)
    monkeypatch.setattr(torch.cuda, "max_memory_allocated", lambda device: 3 * 2**20)
    assert stats.peak_memory_of(torch.device("cuda")) == 3.0


# -- Student's t


@pytest.mark.parametrize(
    "degrees, at_90, at_95, at_99",  # as they are in printed tables
    [
        (1, 6.314, 12.706, 63.657),
        (2, 2.920, 4.303, 9.925),
        (3, 2.353, 3.182, 5.841),
        (4, 2.132, 2.776, 4.604),
        (5, 2.015, 2.571, 4.032),
        (9, 1.833, 2.262, 3.250),
        (10, 1.812, 2.228, 3.169),
        (30, 1.697, 2.042, 2.750),
        (120, 1.658, 1.980, 2.617),
    ],
)
def test_the_quantiles_of_t_are_those_of_the_tables(degrees, at_90, at_95, at_99):
    for share, tabulated in ((0.9, at_90), (0.95, at_95), (0.99, at_99)):
        assert t_quantile(degrees, share) == pytest.approx(tabulated, abs=5.1e-4)


def test_two_quantiles_have_a_closed_form_and_many_degrees_are_a_normal():
    # one degree: tan(pi p/2); two: p sqrt(2/(1 - p^2))
    assert t_quantile(1) == pytest.approx(math.tan(0.475 * math.pi), rel=1e-12)
    assert t_quantile(2) == pytest.approx(0.95 * math.sqrt(2 / (1 - 0.95**2)), rel=1e-12)
    assert t_quantile(100_001) == pytest.approx(1.959964, abs=1e-4)
    assert t_quantile(100_000) == pytest.approx(1.959964, abs=1e-4)


def test_a_t_interval_by_hand():
    # mean 2, s^2 = (1 + 0 + 1)/2 = 1, t of 2 degrees 4.3027: 2 -+ 4.3027/sqrt(3)
    assert t_interval([1.0, 2.0, 3.0]) == pytest.approx((2 - 2.48414, 2 + 2.48414), abs=1e-4)
    assert t_interval([0.5, 0.5]) == (0.5, 0.5)
    assert t_interval([0.5]) is None


def test_the_t_interval_holds_the_mean_as_often_as_it_says():
    rng = random.Random(3)
    samples = ([rng.gauss(1.0, 2.0) for _ in range(4)] for _ in range(4000))
    held = sum(low <= 1.0 <= high for low, high in map(t_interval, samples)) / 4000
    assert 0.935 < held < 0.965  # 0.95, four standard errors to either side


@pytest.mark.parametrize(
    "call", [lambda: t_quantile(0), lambda: t_quantile(3, 1.0), lambda: t_interval([])]
)
def test_what_t_has_no_answer_to_is_refused(call):
    with pytest.raises(ValueError, match="at least|between 0 and 1"):
        call()


@pytest.mark.parametrize(
    "seconds, worked, threads, line",
    [
        (30.0, 40.0, 2, None),  # two threads that worked 20 of 30 seconds
        (4.9, 0.1, 2, None),  # too short to tell
        (36.0, 40.0, 2, "36 s for 20 s of work on 2 threads; --threads 1 may be faster"),
        (36.0, 10.0, 1, "36 s for 10 s of work on 1 thread"),
    ],
)
def test_a_stage_that_waited_more_than_it_worked_was_held_up(seconds, worked, threads, line):
    found = stats.held_up(seconds, worked, threads)
    assert found == (None if line is None else f"the machine is busy: {line}")


def test_how_many_items_would_tell_a_share_from_a_half():
    """The first number at which Wilson's interval of that share leaves 1/2 outside: at 0.6 that is
    1.96^2 / (4 0.01) = 96.04, at 0.75 15.4."""
    assert items_to_tell([1.0] * 6 + [0.0] * 4, range(10)) == 97
    assert items_to_tell([1.0] * 3 + [0.0], range(4)) == 16
    assert items_to_tell([0.0] * 3 + [1.0], range(4)) == 16
    assert items_to_tell([1.0, 0.0], range(2)) is None
    for share in (0.6, 0.75, 0.9):
        needed = items_to_tell(
            [1.0] * round(100 * share) + [0.0] * round(100 - 100 * share), range(100)
        )
        assert wilson_interval(share * needed, needed)[0] > 0.5
        assert wilson_interval(share * (needed - 1), needed - 1)[0] <= 0.5


def test_items_that_go_together_take_more_of_them():
    rights = [1.0] * 30 + [0.0] * 10
    apart, together = (
        items_to_tell(rights, prompts) for prompts in (range(40), [0] * 20 + [1] * 20)
    )
    assert together > 5 * apart
