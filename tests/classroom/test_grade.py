"""The command grade: its arguments, what it writes, and that it goes on where it was stopped.

What the answers do is played here by a stand-in for the servers; test_the_command_as_it_is_used is
the whole.
"""

import csv
import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest

import minippo
from minippo.classroom import grade
from minippo.classroom.box.walls import Walls
from minippo.classroom.grading import NOTHING_RAN, Graded
from minippo.classroom.judging import NAMES, Grade
from tests.classroom.hostile_answers import at_the_top, in_gae

ROOT = Path(minippo.__file__).parent.parent


@pytest.fixture
def folder(tmp_path):
    made = tmp_path / "answers"
    made.mkdir()
    for name in ("anna", "bob", "=carl"):
        (made / f"{name}.py").write_text("right" if name != "bob" else "wrong")
    return made


@pytest.fixture
def asked(monkeypatch):
    """The (plan, students, jobs) that were asked for; an answer passes whose file says right."""
    found = []

    def grade_all(plan, students, jobs):
        found.append((plan, [student.name for student in students], jobs))
        for student in students:
            status = "ok" if student.files[0].content == b"right" else "wrong"
            mistake = "" if status == "ok" else "sign"
            grades = [Grade(name, status, mistake, "said") for name in plan.exercises]
            yield Graded(student.name, tuple(grades), (), NOTHING_RAN)

    monkeypatch.setattr(grade, "grade_all", grade_all)
    monkeypatch.setattr(grade, "picture", lambda *_: b"a picture")
    return found


@pytest.fixture
def run(folder, tmp_path, asked):
    """The command on the folder; its exit status."""
    return lambda *flags: grade.main([str(folder), "--out", str(tmp_path / "out"), *flags])


def rows(out):
    with open(out / "grades.csv", encoding="utf-8", newline="") as file:
        return {row["student"]: row for row in csv.DictReader(file)}


def test_what_is_written(run, tmp_path, asked, capsys):
    assert run() == 0
    out = tmp_path / "out"
    assert {name: row["total"] for name, row in rows(out).items()} == {
        "'=carl": str(len(NAMES)),
        "anna": str(len(NAMES)),
        "bob": "0",
    }
    assert sorted(os.listdir(out / "feedback")) == ["=carl.md", "anna.md", "bob.md"]
    assert "# bob" in (out / "feedback" / "bob.md").read_text()
    assert "| 1 | gae | sign |" in (out / "summary.md").read_text()
    assert (out / "summary.png").read_bytes() == b"a picture"
    for path in (*out.glob("*.*"), *(out / "feedback").iterdir()):
        assert stat.S_IMODE(path.stat().st_mode) == 0o600, path
    ((plan, students, jobs),) = asked
    assert plan.exercises == NAMES and students == ["=carl", "anna", "bob"] and jobs == 2
    printed = capsys.readouterr().out
    assert f"seed: {plan.seed.decode().strip()}, kept in {out / 'seed.txt'}" in printed
    assert (out / "seed.txt").read_bytes() == plan.seed and f"bob: 0 of {len(NAMES)}" in printed
    text = (out / "grades.csv").read_text()
    assert str(tmp_path) not in text and "isolated" not in text


def test_the_paths_that_no_answer_may_see(run, folder, tmp_path, asked):
    seed = tmp_path / "my seed"
    seed.write_bytes(b"\xff\0")
    assert run("--seed-file", str(seed)) == 0
    assert asked[0][0].seed == b"\xff\0" and not (tmp_path / "out" / "seed.txt").exists()
    assert {*asked[0][0].hidden} == {str(folder), str(tmp_path / "out"), str(seed)}


def test_a_second_run_grades_what_has_changed(run, folder, tmp_path, asked, capsys):
    run()
    before = (tmp_path / "out" / "grades.csv").read_bytes()
    assert run() == 0 and len(asked) == 1
    assert (tmp_path / "out" / "grades.csv").read_bytes() == before
    assert "0 students graded, 3 kept from before" in capsys.readouterr().out
    (folder / "bob.py").write_text("right")
    (folder / "dora.py").write_text("right")
    (folder / "anna.py").unlink()
    assert run() == 0 and asked[-1][1] == ["bob", "dora"]
    assert {*rows(tmp_path / "out")} == {"'=carl", "bob", "dora"}
    assert run("--exercises", "gae") == 0 and len(asked[-1][1]) == 3
    seed = tmp_path / "seed"
    seed.write_text("new")
    assert run("--seed_file", str(seed)) == 0 and len(asked[-1][1]) == 3


def test_what_was_stopped_goes_on(run, tmp_path, asked, monkeypatch):
    whole = grade.grade_all

    def stopped(*given):
        for number, graded in enumerate(whole(*given)):
            if number == 2:
                raise KeyboardInterrupt
            yield graded

    monkeypatch.setattr(grade, "grade_all", stopped)
    assert run() == 130
    assert {*rows(tmp_path / "out")} == {"'=carl", "anna"}
    monkeypatch.setattr(grade, "grade_all", whole)
    assert run() == 0 and asked[-1][1] == ["bob"]
    assert {*rows(tmp_path / "out")} == {"'=carl", "anna", "bob"}


def test_one_student_is_graded_anew(run, folder, tmp_path, asked):
    run()
    (folder / "anna.py").write_text("wrong")
    (folder / "bob.py").write_text("right")
    assert run("--only", "bob") == 0 and asked[-1][1] == ["bob"]
    assert {name: row["total"] for name, row in rows(tmp_path / "out").items()} == {
        "'=carl": str(len(NAMES)),
        "anna": str(len(NAMES)),
        "bob": str(len(NAMES)),
    }


def test_points_and_some_of_the_exercises(run, tmp_path, asked):
    points = tmp_path / "points"
    points.write_text("# of the sheet\ngae 2.5\n\nvalue_loss, 3\n")
    assert run("--points", str(points), "--exercises", "value_loss,gae", "objective") == 0
    assert asked[0][0].exercises == ("objective", "value_loss", "gae")
    assert rows(tmp_path / "out")["anna"]["total"] == "6.5"


def test_what_changes_meanwhile_is_named(run, folder, tmp_path, asked, monkeypatch, capsys):
    whole = grade.grade_all

    def overwriting(*given):
        for graded in whole(*given):
            (folder / "bob.py").write_text("right")
            yield graded

    monkeypatch.setattr(grade, "grade_all", overwriting)
    assert run() == 1
    error = capsys.readouterr().err
    assert error == (
        "bob: changed while the answers ran; graded is what was read before the first of them\n"
    )
    assert rows(tmp_path / "out")["bob"]["total"] == "0"


def test_where_nothing_isolates_a_line_says_so(run, tmp_path, monkeypatch, capsys):
    def unsafe(plan, students, jobs):
        for student in students:
            yield Graded(student.name, (), (), Walls(user=True))

    monkeypatch.setattr(grade, "grade_all", unsafe)
    assert run() == 0
    line = (tmp_path / "out" / "grades.csv").read_text().splitlines()[-1]
    assert "not isolated: an answer ran where it can read and write this user's files" in line
    assert "not isolated: " in capsys.readouterr().out


@pytest.mark.parametrize(
    "flags, message",
    [
        (["--jobs", "0"], "--jobs 0: wanted a whole number from 1 to 64"),
        (["--seconds", "1.5"], "--seconds 1.5: wanted a whole number"),
        (["--memory", "\u0663"], "--memory \u0663: wanted a whole number"),
        (["--exercises", "gea"], "--exercises: there is no gea; wanted some of objective"),
        (["--only", "dora"], "--only dora: nobody of this name is in"),
        (["--points", "nowhere"], "--points nowhere: cannot be read"),
        (["--seed_file", "nowhere"], "nowhere: No such file"),
        (["--image", "x"], "--image: there is no container without --sandbox"),
        (["--sandbox", "podman"], "--sandbox podman: name an image"),
        (["--sandbox", "lxc"], "argument --sandbox: invalid choice"),
        (["--out", ""], "--out: the name of the folder is empty"),
    ],
)
def test_wrong_arguments_are_told_in_a_line(flags, message, run, capsys):
    assert run(*flags) == 2
    error = capsys.readouterr().err
    assert error.startswith(f"error: {message}") and error.count("\n") == 1


def test_a_sandbox_that_is_not_installed(run, monkeypatch, capsys):
    monkeypatch.setattr(grade.shutil, "which", lambda _: None)
    assert run("--sandbox", "docker", "--image", "x") == 2
    assert "this program is not installed" in capsys.readouterr().err


@pytest.mark.parametrize("text", ["gae", "gae x", "gea 1", "gae 1 2", "gae -1", "gae nan"])
def test_points_that_are_none(text, run, tmp_path, capsys):
    points = tmp_path / "points"
    points.write_text(f"value_loss 1\n{text}\n")
    assert run("--points", str(points)) == 2
    assert "line 2: wanted an exercise and its points" in capsys.readouterr().err


def test_neither_grades_nor_seed_are_put_among_the_answers(run, folder, capsys):
    assert run("--out", str(folder / "out")) == 2
    assert run("--seed_file", str(folder / "anna.py")) == 2
    assert capsys.readouterr().err.count("where the answers are") == 2
    assert not (folder / "out").exists()


def test_an_empty_seed_is_none(run, tmp_path, capsys):
    (tmp_path / "seed").write_text("\n")
    assert run("--seed_file", str(tmp_path / "seed")) == 2
    assert "is empty" in capsys.readouterr().err


@pytest.mark.slow
def test_the_command_as_it_is_used(tmp_path):
    folder = tmp_path / "answers"
    folder.mkdir()
    (folder / "anna.py").write_text(at_the_top())
    (folder / "bob.py").write_text(in_gae("return -right_gae(**given)"))
    (folder / "eve.py").write_text(in_gae("import sys", "sys.exit()") + "print(14)\n")
    (folder / "zoe.pdf").write_text("not an answer")
    (tmp_path / "seed").write_bytes(b"secret")
    tables = []
    for jobs in ("1", "2"):
        out = tmp_path / jobs
        done = subprocess.run(
            [sys.executable, "-m", "minippo.classroom", "grade", str(folder), "--out", str(out)]
            + ["--seed-file", str(tmp_path / "seed"), "--jobs", jobs]
            + ["--exercises", "gae", "policy_gradient_loss"],
            cwd=ROOT,
            capture_output=True,
            text=True,
            timeout=200,
        )
        assert done.returncode == 0, done.stderr
        tables.append((out / "grades.csv").read_bytes())
    assert tables[0] == tables[1]
    found = {name: row["gae_status"] for name, row in rows(out).items() if name[0] != "#"}
    assert found == {"anna": "ok", "bob": "wrong", "eve": "error", "zoe": "no result"}
