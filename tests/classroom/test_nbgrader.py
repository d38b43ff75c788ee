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


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # of nbgrader and what it needs
def test_nbgrader_autogrades_it(tmp_path):
    api = pytest.importorskip("nbgrader.api")
    folder = tmp_path / "course"
    assert main(["--out", str(folder), "--format", "nbgrader", "--exercises", "gae"]) == 0
    nbgrader(folder, "generate_assignment", NAME)
    release = folder / "release" / NAME
    handed_out = json.loads((release / f"{NAME}.ipynb").read_text())
    cells = marked_cells(handed_out["cells"])
    assert "raise NotImplementedError" in "".join(cells["exercise"]["source"])
    assert "".join(cells["question-1"]["source"]) == "YOUR ANSWER HERE"
    assert "SOLUTION" not in json.dumps(handed_out)
    for student in ("anna", "bob"):
        shutil.copytree(release, folder / "submitted" / student / NAME)
    right = marked_cells(nbgrader_cells(NOTEBOOK, 1.0))["exercise"]["source"]
    cells["exercise"]["source"] = right
    handed_in = folder / "submitted" / "anna" / NAME / f"{NAME}.ipynb"
    handed_in.write_text(json.dumps(handed_out))
    nbgrader(folder, "autograde", NAME)
    with api.Gradebook(f"sqlite:///{folder / 'gradebook.db'}") as book:
        scores = {one.student.id: one.score for one in book.assignment_submissions(NAME)}
        assert scores == {"anna": 1.0, "bob": 0.0}
        assert book.find_assignment(NAME).max_score == 7.0
