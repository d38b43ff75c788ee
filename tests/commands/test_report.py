"""python -m minippo.report."""

import os
import shutil
import sys

import pytest

from minippo.commands.report import main
from minippo.errors import InputError
from minippo.runs.folder import RunFolder
from minippo.runs.read import read_json
from minippo.runs.report.page import MARK
from tests.made_runs import HOSTILE, change, write_run
from tests.tiny_runs import read_rows, run


@pytest.fixture(scope="module")
def reported(tmp_path_factory):
    """A run that has ended with its report."""
    return run(tmp_path_factory.mktemp("reported") / "run", "--quiet", "--report")


def test_the_screen_says_where_it_is(tmp_path, capsys):
    out = run(tmp_path / "run", "--report")
    assert f"report{' ' * 17}{out / 'report.html'}\n" in capsys.readouterr().out


def test_a_run_without_a_page_is_a_run_all_the_same(tmp_path, monkeypatch, capsys):
    from minippo.commands import report

    def broken(runs):
        raise InputError("x: not the files of this version")

    monkeypatch.setattr(report, "make_page", broken)
    out = run(tmp_path / "run", "--report")
    assert "no report: x: not the files of this version\n" in capsys.readouterr().out
    assert (out / "summary.json").exists() and not (out / "report.html").exists()


def test_a_run_ends_with_its_report_and_the_command_makes_the_same(reported, capsys):
    path = reported / "report.html"
    own = path.read_bytes()
    path.unlink()
    assert main([str(reported)]) == 0
    assert path.read_bytes() == own and own.decode().startswith(MARK)
    assert capsys.readouterr().out.startswith(f"{path}: ")


def timeless(page):
    """A page without its part Seconds."""
    before, _, after = page.partition('<section id="seconds">')
    return before + after.partition("</section>")[2]


def test_twins_have_the_same_page_but_for_the_seconds(reported, tmp_path):
    twin = run(tmp_path / "elsewhere" / "twin", "--quiet", "--report")
    pages = [(folder / "report.html").read_text() for folder in (reported, twin)]
    assert timeless(pages[0]) == timeless(pages[1]) != pages[0]


def test_what_the_page_says_is_what_the_run_came_to(reported):
    page = (reported / "report.html").read_text()
    for row in read_rows(reported / "samples.jsonl"):
        assert row["prompt"] in page and row["after"] in page
    wins = read_json(reported / "summary.json")["win_rate"]["value"]
    assert f"<b>Wins {wins:.0%}".replace("%", " %") in page


def test_several_runs_and_another_place(reported, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    other = write_run(tmp_path / "other")
    assert main([str(reported), str(other)]) == 0
    assert "2 runs side by side" in (tmp_path / "report.html").read_text()
    assert main([str(other), "--out", "one.html"]) == 0
    assert "side by side" not in (tmp_path / "one.html").read_text()
    assert not (other / "report.html").exists()


def test_a_run_that_is_going_on_and_one_that_was_stopped(reported, tmp_path, capsys):
    path = shutil.copytree(reported, tmp_path / "run")
    for name in ("summary.json", "samples.jsonl", "report.html"):
        (path / name).unlink()
    shutil.rmtree(path / "checkpoints")  # which no page needs
    assert main([str(path)]) == 0
    assert "It was stopped" in (path / "report.html").read_text()
    updates = len(read_rows(path / "metrics.jsonl"))
    told = f"run is not over, and no process is at work in it; the page shows {updates} updates"
    assert capsys.readouterr().out.startswith(told)
    with RunFolder(path).lock():
        assert main([str(path)]) == 0
    assert "It is going on" in (path / "report.html").read_text()
    assert capsys.readouterr().out.startswith("run is going on; the page shows")


def test_half_a_line_of_metrics_is_left_out_and_another_broken_one_refused(
    reported, tmp_path, capsys
):
    path = shutil.copytree(reported, tmp_path / "run")
    (path / "summary.json").unlink()
    metrics = path / "metrics.jsonl"
    whole = metrics.read_bytes().splitlines(keepends=True)
    metrics.write_bytes(b"".join(whole) + whole[-1][:30])
    assert main([str(path)]) == 0
    first, second, _ = capsys.readouterr().out.splitlines()
    assert first == f"{metrics}: its last line is half a line, and is left out"
    assert f"the page shows {len(whole)} updates" in second
    again = f"to make the rows again: python -m minippo.train_toy --resume --out {path}\n"
    for lines in ([whole[0][:30], *whole[1:]], whole[1:], [*whole[:-1], whole[-1][:30] + b"\n"]):
        metrics.write_bytes(b"".join(lines))
        assert main([str(path)]) == 2
        error = capsys.readouterr().err
        assert error.startswith(f"error: {metrics}") and error.endswith(again)


def test_a_run_that_is_over_has_whole_metrics(reported, tmp_path, capsys):
    path = shutil.copytree(reported, tmp_path / "run")
    whole = (path / "metrics.jsonl").read_bytes()
    (path / "metrics.jsonl").write_bytes(whole[:-30])
    assert main([str(path)]) == 2
    assert f"remove {path / 'summary.json'}, then python -m" in capsys.readouterr().err
    (path / "metrics.jsonl").unlink()
    assert main([str(path)]) == 0
    assert "has no metrics.jsonl any more" in capsys.readouterr().out


def test_the_diagnostics_are_asked_of_a_run_that_is_not_over(tmp_path, monkeypatch):
    from minippo.commands import report
    from minippo.runs.diagnostics import Finding

    path = write_run(tmp_path / "run", updates=3, finished=False)
    found = [Finding("P005", "no-eos", 3, "no response has ended")]
    monkeypatch.setattr(report, "diagnose_all", lambda rows, silent, more_to_come: found)
    (files,) = [report.files_of(str(path))]
    assert list(files.findings) == found


def test_a_folder_that_is_no_run(tmp_path, capsys):
    (tmp_path / "file").write_text("x")
    for path, what in (
        (tmp_path, "holds no run, whose folder has a config.json"),
        (tmp_path / "no", "there is no such folder"),
        (tmp_path / "file", "is a file; name the folder of a run"),
    ):
        assert main([str(path)]) == 2
        assert capsys.readouterr().err == f"error: {path}: {what}\n"
    assert main([]) == 2 and "RUN" in capsys.readouterr().err
    assert os.listdir(tmp_path) == ["file"]


@pytest.mark.parametrize(
    "name, text", [("config.json", "{"), ("summary.json", '{"sft": 1}'), ("metrics.jsonl", "x")]
)
def test_whatever_is_in_its_files_the_error_is_one_line(name, text, tmp_path, capsys):
    path = write_run(tmp_path / "run", HOSTILE)
    (path / name).write_text(text)
    assert main([str(path)]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("error: ") and not (path / "report.html").exists()


def test_an_algorithm_that_there_is_not(tmp_path, capsys):
    path = write_run(tmp_path / "run", updates=3, finished=False)
    config = read_json(path / "config.json")
    change(path, "config.json", run=config["run"] | {"algorithm": "none"})
    assert main([str(path)]) == 2
    assert "not a run of this version" in capsys.readouterr().err


def test_no_file_of_the_users_is_written_over(tmp_path, capsys):
    path, mine = write_run(tmp_path / "run"), tmp_path / "mine.html"
    mine.write_text("<html>mine</html>")
    assert main([str(path), "--out", str(mine)]) == 2
    assert "is no report, and is not written over" in capsys.readouterr().err
    assert mine.read_text() == "<html>mine</html>"
    for place, words in ((tmp_path, "is a folder"), (tmp_path / "no" / "a.html", "cannot be")):
        assert main([str(path), "--out", str(place)]) == 2
        assert words in capsys.readouterr().err
    assert main([str(path)]) == 0 and main([str(path)]) == 0  # its own it replaces


def test_nothing_is_imported_that_a_run_names(tmp_path, monkeypatch):
    path = write_run(tmp_path / "run")
    (tmp_path / "mine_own.py").write_text("raise SystemExit('imported')")
    config = read_json(path / "config.json")
    config["run"] |= {"task": str(tmp_path / "mine_own.py") + ":Mine"}
    change(path, "config.json", run=config["run"])
    before = {*sys.modules}
    assert main([str(path)]) == 0
    assert not [name for name in {*sys.modules} - before if "mine_own" in name]
    page = (path / "report.html").read_text()
    assert "mine_own.py:Mine" in page and str(tmp_path) not in page
