"""The files of a run, read for its report."""

import pytest

from minippo.errors import InputError
from minippo.runs.report.read import FINISHED, STOPPED, read_files
from tests.made_runs import HOSTILE, change, row, summary, write_run


def test_a_run_that_is_over(tmp_path):
    files = read_files(write_run(tmp_path / "run", "x"))
    assert files.name == "run" and files.state == FINISHED
    assert files.rows == [row(update) for update in range(1, 7)]
    assert files.summary == summary("x") and len(files.samples) == 5 and len(files.moments) == 4
    assert [(f.code, f.seen) for f in files.findings] == [("P011", "x")]


def test_a_run_that_was_stopped(tmp_path):
    files = read_files(write_run(tmp_path / "run", updates=2, finished=False))
    assert files.state == STOPPED and files.summary is None and files.findings == ()
    assert files.samples == [] and len(files.rows) == 2


def test_one_that_has_hardly_begun(tmp_path):
    path = write_run(tmp_path / "run", updates=2, finished=False)
    for name in ("metrics.jsonl", "samples_over_time.jsonl"):
        (path / name).unlink()
    files = read_files(path)
    assert (files.rows, files.moments) == ([], [])


def test_the_summary_that_is_about_to_be_written(tmp_path):
    path = write_run(tmp_path / "run", finished=False)
    about = summary() | {"optimality": float("nan"), "path": ((0, 0.0, 0.5),)}
    files = read_files(path, about)
    assert files.summary is not None and files.state == FINISHED
    assert files.summary["optimality"] is None and files.summary["path"] == [[0, 0.0, 0.5]]


def test_the_name_is_the_folder_wherever_it_is_named_from(tmp_path, monkeypatch):
    monkeypatch.chdir(write_run(tmp_path / "mine"))
    assert read_files(".").name == "mine"


def test_a_folder_that_is_no_run(tmp_path):
    with pytest.raises(InputError, match="holds no run"):
        read_files(tmp_path)


BROKEN = (
    ("metrics.jsonl", '{"update": 0}\n'),
    ("samples.jsonl", '{"prompt": 3}\n'),
    ("samples.jsonl", "[]\n"),
    ("samples_over_time.jsonl", '{"update": 3}\n'),
    ("samples_over_time.jsonl", "{" * 100_000),
    ("summary.json", "NaN"),
    ("config.json", "3"),
)


@pytest.mark.parametrize("name, text", BROKEN)
def test_a_file_that_no_run_writes_is_named(name, text, tmp_path):
    path = write_run(tmp_path / "run", HOSTILE)
    (path / name).write_text(text)
    with pytest.raises(InputError, match=name) as caught:
        read_files(path)
    assert len(str(caught.value).splitlines()) == 1


def test_a_configuration_that_was_changed_is_refused(tmp_path):
    path = write_run(tmp_path / "run")
    change(path, "config.json", sha256="0" * 64)
    with pytest.raises(InputError, match="is not as the run wrote it"):
        read_files(path)
