"""Runs of a plan, one after the other or side by side, end with the same."""

from pathlib import Path

import pytest

from minippo.commands.compare import main, make_plan
from minippo.commands.overoptimise import make_plan as make_grid
from minippo.commands.plan import results_of, run_all
from minippo.errors import InputError
from tests.commands.test_compare import command, inside
from tests.tiny_runs import TINY, read_json


@pytest.mark.slow
def test_two_at_a_time_end_with_what_one_at_a_time_ends_with(tmp_path):
    for name, jobs in (("one", "1"), ("two", "2")):
        with inside() as (started, stages):
            assert main([*command(tmp_path / name), "--jobs", jobs]) == 0
        assert len(started) == 4 and stages["pretrain"] == 2  # shared within a seed
    found, wanted = (read_json(tmp_path / name / "compare.json") for name in ("two", "one"))
    for results in (found, wanted):
        for row in results["settings"]:
            row.pop("seconds")
    assert found["settings"] == wanted["settings"] and found["paired"] == wanted["paired"]


def test_the_seeds_take_turns_where_runs_are_side_by_side(tmp_path):
    for jobs, order in (("1", [0, 0, 2, 2]), ("2", [0, 2, 0, 2])):
        with inside(dict.fromkeys(range(1, 5), 1)) as (started, _):
            assert main([*command(tmp_path / jobs), "--jobs", jobs]) == 1
        assert [int(words[words.index("--seed") + 1]) for words in started] == order


def test_a_run_that_is_not_alone_has_one_thread_unless_another_number_is_asked_for():
    flags = ["--vary", "kl_coef", "0.1", "0.2", "--out", "x"]
    threads = [
        make_plan([*flags, *more]).settings[0].config.run.threads
        for more in ([], ["--jobs", "2"], ["--jobs", "2", "--threads", "2"])
    ]
    assert threads == [2, 1, 2]


def test_a_grid_uses_the_cores_there_are_and_its_numbers_do_not_depend_on_them(monkeypatch):
    grids = []
    for cores in (1, 2, 16):
        monkeypatch.setattr("minippo.commands.overoptimise.cores", lambda n=cores: n)
        grids.append(make_grid(["--out", "x", "--preset", "quick"]))
    assert [grid.jobs for grid in grids] == [1, 2, 5]
    assert {grid.digest() for grid in grids} == {grids[0].digest()}
    assert all(setting.config.run.threads == 1 for setting in grids[0].settings)


def test_a_folder_with_another_run_stops_the_others(tmp_path, monkeypatch):
    plan = make_plan([*command(tmp_path / "out", flags=[*TINY, "--jobs", "2"])])
    stopped = []
    monkeypatch.setattr("minippo.commands.side_by_side.stop", stopped.append)

    def begin(out: Path, *_, **__):
        if out.name == "seed-2":
            raise InputError("holds a run with other settings")
        return object()

    monkeypatch.setattr("minippo.commands.plan.begin_run", begin)
    with pytest.raises(InputError, match="other settings"):
        run_all(plan)
    assert len(stopped[0]) == 1 and results_of(plan)["settings"][0]["runs"] == []


@pytest.mark.parametrize("text", ["0", "-1", "two", "1.5", "1000"])
def test_a_number_of_jobs_that_makes_no_sense_is_refused(text, capsys):
    assert main(["--vary", "kl_coef", "0", "1", "--out", "x", f"--jobs={text}"]) == 2
    assert capsys.readouterr().err.startswith("error: --jobs: wanted a whole number from 1 to 256")
