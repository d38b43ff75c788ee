"""Each planted bug changes the numbers, and what is named for it notices."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from minippo.classroom.museum.bugs import BUGS
from minippo.classroom.museum.exhibits import HEALTHY, exhibit
from minippo.classroom.museum.planting import plant
from tests.tiny_runs import TINY

ROOT = Path(__file__).parents[3]
every_bug = pytest.mark.parametrize("bug", BUGS, ids=lambda bug: bug.name)
BY_A_TEST = [bug for bug in BUGS if bug.seen_by.startswith("tests/")]


def test_there_are_twelve_of_different_names_and_diagnostics():
    assert len({bug.name for bug in BUGS}) == 12
    seen_by = [bug.seen_by for bug in BUGS]
    assert len({*seen_by}) == 12 and len(BY_A_TEST) <= 4
    assert all(getattr(bug, field) for bug in BUGS for field in bug._fields)


@every_bug
def test_the_recorded_training_is_not_the_healthy_one(bug):
    assert exhibit(bug.name).metrics != exhibit(HEALTHY).metrics


@every_bug
def test_the_diagnostic_that_is_named_fired_in_the_recorded_training(bug):
    codes = [finding.code for finding in exhibit(bug.name).findings]
    assert bug in BY_A_TEST or bug.seen_by in codes


def test_none_fired_in_the_healthy_one():
    assert exhibit(HEALTHY).findings == []


def run(folder, *words):
    return subprocess.run(
        [sys.executable, *words],
        cwd=folder,
        env=os.environ | {"PYTHONPATH": str(folder)},
        capture_output=True,
        text=True,
    )


@pytest.mark.slow
@pytest.mark.parametrize("bug", BY_A_TEST, ids=lambda bug: bug.name)
def test_the_test_that_is_named_turns_red(bug, tmp_path):
    plant(bug, tmp_path)
    (tmp_path / "tests").symlink_to(ROOT / "tests")
    (tmp_path / "pyproject.toml").symlink_to(ROOT / "pyproject.toml")
    done = run(tmp_path, "-m", "pytest", "-n0", "-p", "no:randomly", bug.seen_by)
    assert done.returncode == 1 and " failed" in done.stdout


RUN = [*TINY, "--quiet", "--temperature", "0.7"]


def numbers(folder, out):
    """The rows of metrics of a tiny run, without the seconds, of the package in a folder."""
    done = run(folder, "-m", "minippo.train_toy", *RUN, "--out", str(out))
    assert done.returncode == 0, done.stderr
    rows = (out / "metrics.jsonl").read_text().splitlines()
    return [row.partition('"seconds"')[0] for row in rows]


@pytest.fixture(scope="module")
def right(tmp_path_factory):
    """The numbers without a bug."""
    return numbers(ROOT, tmp_path_factory.mktemp("right") / "run")


@pytest.mark.slow
@every_bug
def test_a_bug_changes_the_numbers_of_a_run(bug, tmp_path, right):
    plant(bug, tmp_path)
    assert numbers(tmp_path, tmp_path / "run") != right
