"""The recorded trainings, and their dashboards without names."""

import json
import re

import pytest

from minippo.classroom.museum.bugs import BUGS
from minippo.classroom.museum.exhibits import (
    DATA,
    KEPT,
    PANELS,
    dashboard,
    exhibit,
    file_of,
    letters,
    record,
    rounded,
    said,
)


def test_each_bug_has_one_letter_and_a_seed_gives_another_order():
    assert [*letters(0)] == list("ABCDEFGHIJKL")
    assert {bug.name for bug in letters(0).values()} == {bug.name for bug in BUGS}
    assert letters(0) == letters(0) and letters(0) != letters(1)
    assert [*letters(0).values()] != list(BUGS)


@pytest.mark.parametrize(
    "shown", ["AGL", pytest.param("BCDEFHIJK", marks=pytest.mark.slow)], ids=["three", "the others"]
)
def test_nothing_in_a_dashboard_or_a_files_name_says_which_bug_it_is(shown):
    for path in DATA.iterdir():
        assert re.fullmatch(r"healthy\.json|\d\d\.json", path.name)
    titles = set()
    for letter in shown:
        figure = dashboard(letter)
        titles.add(tuple(axes.get_title(loc="left") for axes in figure.axes))
        assert re.fullmatch(
            letter + r" \(dashed: a healthy run\); reward model's accuracy [\d.]+, healthy [\d.]+",
            figure.get_suptitle(),
        )
    assert len(titles) == 1


def test_a_dashboard_shows_the_training_and_the_healthy_one_behind_it():
    figure = dashboard("B")
    assert len(figure.axes) == len(PANELS)
    behind, shown = figure.axes[0].lines
    rows = exhibit(letters()["B"].name).metrics
    assert list(shown.get_ydata()) == [row["objective/scores"] for row in rows]
    assert list(behind.get_ydata()) == [r["objective/scores"] for r in exhibit("healthy").metrics]


def test_a_run_is_recorded(finished, tmp_path, monkeypatch):
    record(finished, tmp_path / "healthy.json")
    monkeypatch.setattr("minippo.classroom.museum.exhibits.DATA", tmp_path)
    found = exhibit("healthy")
    rows = (finished / "metrics.jsonl").read_text().splitlines()
    assert [*found.metrics[0]] == [*KEPT] and len(found.metrics) == len(rows)
    score = json.loads(rows[0])["objective/scores"]
    assert found.metrics[0]["objective/scores"] == pytest.approx(score, rel=1e-4)
    assert rounded(0.123456789) == 0.12346 and rounded(None) is None and rounded(3) == 3


def test_what_the_diagnostics_said():
    by_code = {bug.seen_by: letter for letter, bug in letters().items()}
    assert any("P001" in line for line in said(by_code["P001"]))
    assert all(said(letter) for letter in letters())
    assert file_of(BUGS[0].name).name == "01.json"
