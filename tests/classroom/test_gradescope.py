"""The autograder for Gradescope: what is in the zip, and what results.json says."""

import io
import json
import os
import shutil
import subprocess
import sys
import zipfile

import pytest

from minippo.classroom.box.walls import Walls
from minippo.classroom.gradescope import (
    FAILED,
    NOT_GRADED,
    SEED,
    about_walls,
    archive,
    grade_submission,
    results,
)
from minippo.classroom.grading import Graded
from minippo.classroom.judging import Grade
from tests.classroom.hostile_answers import PASSES, RIGHT, at_the_top, in_gae

EXERCISES = ("policy_gradient_loss", "gae")
VISIBILITIES = ("hidden", "after_due_date", "after_published", "visible")
FORMATS = ("text", "html", "simple_format", "md", "ansi")
OF_ALL = {  # Gradescope's published format: a field -> is this a value of it?
    "score": lambda x: type(x) in (int, float),
    "execution_time": lambda x: type(x) in (int, float),
    "output": lambda x: isinstance(x, str),
    "output_format": FORMATS.__contains__,
    "test_output_format": FORMATS.__contains__,
    "test_name_format": FORMATS.__contains__,
    "visibility": VISIBILITIES.__contains__,
    "stdout_visibility": VISIBILITIES.__contains__,
    "extra_data": lambda x: isinstance(x, dict),
    "leaderboard": lambda x: isinstance(x, list),
    "tests": lambda x: isinstance(x, list),
}
OF_A_TEST = {
    "score": OF_ALL["score"],
    "max_score": OF_ALL["score"],
    "status": ("passed", "failed").__contains__,
    "name": OF_ALL["output"],
    "name_format": FORMATS.__contains__,
    "number": OF_ALL["output"],
    "output": OF_ALL["output"],
    "output_format": FORMATS.__contains__,
    "tags": lambda x: isinstance(x, list) and all(isinstance(tag, str) for tag in x),
    "visibility": VISIBILITIES.__contains__,
    "extra_data": OF_ALL["extra_data"],
}


def valid(found):
    """{exercise: (score, max_score, output)} of results that keep to the format."""
    assert all(OF_ALL[name](value) for name, value in found.items())
    assert "score" in found or found["tests"]
    for test in found["tests"]:
        assert all(OF_A_TEST[name](value) for name, value in test.items())
        assert 0 <= test["score"] <= test["max_score"]
    return {t["name"]: (t["score"], t["max_score"], t["output"]) for t in found["tests"]}


@pytest.fixture
def autograder(tmp_path):
    """A folder as Gradescope's /autograder."""
    (tmp_path / "submission").mkdir()
    zipfile.ZipFile(io.BytesIO(archive(EXERCISES, {"gae": 2.5}, b"x"))).extractall(
        tmp_path / "source"
    )
    return tmp_path


def run(folder, python=sys.executable):
    """run_autograder, and the results."""
    environment = os.environ | {"AUTOGRADER_ROOT": str(folder), "MINIPPO_PYTHON": python}
    program = ["bash", str(folder / "source" / "run_autograder")]
    subprocess.run(program, env=environment, check=True, capture_output=True)
    return valid(json.loads((folder / "results" / "results.json").read_text()))


def test_grades_become_tests_with_points():
    grades = (Grade("gae", "ok", "", "fine"), Grade("dpo_loss", "wrong", "sign", "it is turned"))
    graded = Graded("anna", grades, ("a.py is a link",), Walls(processes=True, files=True))
    found = results(graded, {"gae": 2.5, "dpo_loss": 1.0})
    assert valid(found) == {
        "gae": (2.5, 2.5, "ok: fine"),
        "dpo_loss": (0.0, 1.0, "wrong (sign): it is turned"),
    }
    assert found["output"] == "a.py is a link"
    found["tests"].append(about_walls(graded))
    assert "it has the network" in valid(found)["isolation"][2]
    assert found["tests"][-1]["visibility"] == "hidden"
    assert about_walls(graded._replace(walls=Walls(*[True] * 4)))["output"] == "every wall stood"


def test_the_zip_has_what_is_needed_the_same_each_time():
    content = archive(EXERCISES, {}, b"x")
    assert content == archive(EXERCISES, {}, b"x")
    opened = zipfile.ZipFile(io.BytesIO(content))
    modes = {one.filename: one.external_attr >> 16 for one in opened.infolist()}
    assert modes["setup.sh"] == modes["run_autograder"] == 0o100755
    assert {"minippo/exercises/gae.py", "minippo/classroom/box/server.py", SEED} <= {*modes}
    assert not any("__pycache__" in name for name in modes)
    assert b"'torch>=" in opened.read("setup.sh")
    without = zipfile.ZipFile(io.BytesIO(archive(EXERCISES, {}, None)))
    assert SEED not in without.namelist()
    assert valid(json.loads(without.read(NOT_GRADED)))["gae"][:2] == (0.0, 1.0)


@pytest.mark.skipif(shutil.which("bash") is None, reason="needs bash")
def test_a_grader_that_crashes_leaves_results(autograder):
    for python in ("/bin/false", "/nowhere/python"):
        found = run(autograder, python)
        assert found == {
            "policy_gradient_loss": (0.0, 1.0, f"no result: {FAILED}"),
            "gae": (0.0, 2.5, f"no result: {FAILED}"),
        }


@pytest.mark.slow
def test_a_right_submission_gets_its_points(autograder):
    (autograder / "submission" / "a.py").write_text(RIGHT + PASSES)
    found = run(autograder)
    assert [found[name][0] for name in EXERCISES] == [1.0, 2.5]


@pytest.mark.slow
@pytest.mark.parametrize(
    "files, loss, gae",
    [
        ({"a.py": in_gae("return -right_gae(**given)")}, "ok: ", "wrong (sign): "),
        ({"a.py": at_the_top("import os") + "os._exit(0)"}, "no result: ", "no result: "),
        ({"a.py": in_gae("raise KeyError(1)")}, "ok: ", "error: "),
        ({}, "no result: nothing readable", "no result: nothing readable"),
        ({"a.txt": "gae"}, "no result: nothing readable", "no result: nothing readable"),
    ],
    ids=["wrong", "exits", "raises", "empty", "text"],
)
def test_other_submissions(files, loss, gae, autograder):
    for name, content in files.items():
        (autograder / "submission" / name).write_text(content)
    (autograder / "results").mkdir()
    grade_submission(str(autograder))
    found = valid(json.loads((autograder / "results" / "results.json").read_text()))
    assert found["policy_gradient_loss"][2].startswith(loss)
    assert found["gae"][2].startswith(gae)
    assert [found[name][0] > 0 for name in EXERCISES] == [loss == "ok: ", False]
