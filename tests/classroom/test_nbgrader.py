"""Assignments for nbgrader: the cells' metadata, and its own autograde."""

import json
import os
import shutil
import subprocess
import sys

import pytest

from minippo.classroom.build import main
from minippo.classroom.handout import FOLDER, notebook_of
from minippo.classroom.nbgrader import BEGIN, END, course, nbgrader_cells, questions_apart

NAME = "07_gae"
NOTEBOOK = notebook_of(FOLDER / f"{NAME}.py")


def marked_cells(cells):
    """grade_id -> cell."""
    found = [one for one in cells if "nbgrader" in one["metadata"]]
    named = {one["metadata"]["nbgrader"]["grade_id"]: one for one in found}
    assert len(named) == len(found)
    return named


def test_solution_test_and_three_written_answers():
    cells = marked_cells(nbgrader_cells(NOTEBOOK, 2.5))
    assert [*cells] == ["question-1", "question-2", "question-3", "exercise", "check"]
    kinds = {name: cell["metadata"]["nbgrader"] for name, cell in cells.items()}
    assert kinds["exercise"] == {
        "grade": False,
        "grade_id": "exercise",
        "locked": False,
        "schema_version": 3,
        "solution": True,
        "task": False,
    }
    assert kinds["check"]["points"] == 2.5 and kinds["check"]["locked"]
    assert kinds["check"]["grade"] and not kinds["check"]["solution"]
    assert all(kinds[f"question-{n}"]["points"] == 2.0 for n in (1, 2, 3))
    assert cells["check"]["source"].endswith("\nassert exercise.check(my_gae).passed")
    lines = cells["exercise"]["source"].split("\n")
    assert lines[0].startswith("def my_gae(") and lines[1] == f"    {BEGIN}"
    assert lines[-1] == f"    {END}"


def test_a_question_and_its_answer_are_cells_of_their_own():
    text = (
        "## Q\n\n<details><summary>1. A?</summary>\n\nYes.\n</details>\n\n"
        "<details><summary>2. B?</summary>\n\nNo.\n</details>\n\n## Exercise\n\nWrite."
    )
    assert [cell["source"].strip() for cell in questions_apart(text)] == [
        "## Q\n\n**1. A?**",
        "Yes.",
        "**2. B?**",
        "No.",
        "## Exercise\n\nWrite.",
    ]
    assert [cell["source"] for cell in questions_apart("a\n")] == ["a"]


def test_each_assignment_has_what_its_notebook_needs():
    files = course([NOTEBOOK], {}, {"plots.py": b"p"})
    folder = f"source/{NAME}"
    wanted = {"nbgrader_config.py", f"{folder}/{NAME}.ipynb", f"{folder}/plots.py"}
    assert wanted | {f"{folder}/checks.json", f"{folder}/checks/__init__.py"} <= {*files}
    assert course([NOTEBOOK], {}, {"plots.py": b"p"}) == files


def nbgrader(folder, *arguments):
    """Run one of nbgrader's commands there."""
    path = os.pathsep.join([os.environ["PATH"], os.path.dirname(sys.executable)])
    places = os.pathsep.join([str(FOLDER.parent), os.environ.get("PYTHONPATH", "")])
    subprocess.run(
        [sys.executable, "-m", "nbgrader", *arguments],
        cwd=folder,
        env=os.environ | {"PATH": path, "PYTHONPATH": places, "MINIPPO_FAST": "1"},
        check=True,
        capture_output=True,
    )


def solved(cells, name):
    """Put the right answer into the exercise of an assignment."""
    right = marked_cells(nbgrader_cells(notebook_of(FOLDER / f"{name}.py"), 1.0))
    cells["exercise"]["source"] = right["exercise"]["source"]


def raising(cells, name):
    """An answer whose check fails with the student's own exception."""
    first = right_line(cells)
    cells["exercise"]["source"] = f"{first}\n    raise ValueError('a slip')\n"


def right_line(cells):
    """The line that begins the function."""
    return next(
        line for line in "".join(cells["exercise"]["source"]).splitlines() if line.startswith("def")
    )


def left(cells, name):
    """Nothing is done."""


ANSWERS = {"anna": (solved, 1.0), "bob": (left, 0.0), "cara": (raising, 0.0)}


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # of nbgrader and what it needs
def test_nbgrader_autogrades_three_notebooks(tmp_path):
    api = pytest.importorskip("nbgrader.api")
    folder = tmp_path / "course"
    exercises = ["gae", "kl_estimators", "leave_one_out"]
    assert main(["--out", str(folder), "--format", "nbgrader", "--exercises", *exercises]) == 0
    for name in ("07_gae", "09_kl_three_ways", "16_over_optimisation"):
        nbgrader(folder, "generate_assignment", name)
        release = folder / "release" / name
        text = (release / f"{name}.ipynb").read_text()
        assert "SOLUTION" not in text
        for student, (change, _) in ANSWERS.items():
            handed_out = json.loads(text)
            cells = marked_cells(handed_out["cells"])
            assert "raise NotImplementedError" in "".join(cells["exercise"]["source"])
            assert "".join(cells["question-1"]["source"]) == "YOUR ANSWER HERE"
            change(cells, name)
            handed_in = folder / "submitted" / student / name
            shutil.copytree(release, handed_in)
            (handed_in / f"{name}.ipynb").write_text(json.dumps(handed_out))
        nbgrader(folder, "autograde", name)
        with api.Gradebook(f"sqlite:///{folder / 'gradebook.db'}") as book:
            scores = {one.student.id: one.score for one in book.assignment_submissions(name)}
            assert scores == {student: score for student, (_, score) in ANSWERS.items()}
            assert book.find_assignment(name).max_score == 7.0
