"""The command status: which exercises of one's own file pass."""

import json

import pytest

from minippo.classroom import status
from minippo.classroom.grading import NOTHING_RAN, Graded
from minippo.classroom.judging import NAMES, Grade
from minippo.classroom.status import lines_of, main
from tests.classroom.hostile_answers import PASSES, RIGHT, in_gae

GRADES = (
    Grade("gae", "ok", "", "values agree"),
    Grade("value_loss", "wrong", "sign", "the sign is turned"),
    Grade("objective", "no result", "", "there is no function my_objective or objective"),
)


def test_what_is_there_gets_a_line():
    assert lines_of(Graded("anna", GRADES, ("a.py is a link",), NOTHING_RAN)) == [
        "gae                    passed: values agree",
        "value_loss             not yet: the sign is turned",
        "note: a.py is a link",
        "1 of 3 exercises pass; 1 function not found",
    ]
    assert lines_of(Graded("anna", GRADES[:1], (), NOTHING_RAN))[-1] == "1 of 1 exercise pass"


def test_the_whole_folder_is_one_student(tmp_path, monkeypatch, capsys):
    asked = []

    def grade_all(plan, students, jobs):
        asked.append((plan, students))
        yield Graded("anna", GRADES, (), NOTHING_RAN)

    monkeypatch.setattr(status, "grade_all", grade_all)
    (tmp_path / "07.py").write_text("a")
    (tmp_path / "08.ipynb").write_text("b")
    assert main([str(tmp_path)]) == 0
    ((plan, (student,)),) = asked
    assert plan.seed is None and plan.exercises == NAMES and len(student.files) == 2
    assert "1 of 3 exercises pass" in capsys.readouterr().out


@pytest.mark.parametrize("name, message", [("no.py", "nothing of this name"), ("a.txt", "neither")])
def test_what_cannot_be_read(name, message, tmp_path, capsys):
    (tmp_path / "a.txt").write_text("")
    assert main([str(tmp_path / name)]) == 2
    assert message in capsys.readouterr().err


@pytest.mark.slow
def test_a_notebook(tmp_path, capsys):
    cells = ["%matplotlib inline", RIGHT + PASSES, "from minippo.exercises.gae import exercise"]
    cells = [{"cell_type": "code", "source": cell} for cell in [*cells, "exercise.check(my_gae)"]]
    (tmp_path / "07_gae.ipynb").write_text(json.dumps({"cells": cells}))
    assert main([str(tmp_path / "07_gae.ipynb")]) == 0
    out = capsys.readouterr().out
    assert (
        "gae                    passed: values" in out
        and f"2 of {len(NAMES)} exercises pass" in out
    )
    (tmp_path / "a.py").write_text(in_gae("return -right_gae(**given)"))
    assert main([str(tmp_path / "a.py")]) == 0
    assert "gae                    not yet: " in capsys.readouterr().out
