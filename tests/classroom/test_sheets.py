"""grades.csv, the feedback, and what a later run takes from graded.jsonl."""

import csv
import io
import stat

import pytest

from minippo.classroom import sheets
from minippo.classroom.box.reading import File
from minippo.classroom.grading import NOTHING_RAN, Graded, Plan
from minippo.classroom.judging import Grade
from minippo.classroom.sheets import (
    feedback,
    feedback_name,
    graded_of,
    harmless,
    head,
    key_of,
    remember,
    remembered,
    row,
    total,
    write_private,
)
from minippo.classroom.submissions import Student
from minippo.errors import InputError

GRADES = (Grade("gae", "ok", "", "agrees"), Grade("value_loss", "wrong", "sign", "no\n<b>"))
ANNA = Graded("anna", GRADES, ("anna.py is a link",), NOTHING_RAN)


@pytest.mark.parametrize(
    "cell, written",
    [
        ("anna", "anna"),
        ("=1+1", "'=1+1"),
        ("+1", "'+1"),
        ("-1", "'-1"),
        ("@x", "'@x"),
        ("\tx", "\\tx"),
        ("a\nb", "a\\nb"),
        ("\x1b[0m", "\\x1b[0m"),
        ("caf\udce9", "caf\\udce9"),
        ("", ""),
    ],
)
def test_no_cell_is_a_formula_or_moves_a_cursor(cell, written):
    assert harmless(cell) == written


def test_the_table():
    text = head(["gae", "value_loss"]) + row(ANNA, {}) + row(ANNA._replace(student='=a,"b'), {})
    rows = [*csv.DictReader(io.StringIO(text))]
    assert text.startswith("student,gae,gae_status,gae_mistake,value_loss,value_loss_status,")
    assert rows[0] == {
        "student": "anna",
        "gae": "1",
        "gae_status": "ok",
        "gae_mistake": "",
        "value_loss": "0",
        "value_loss_status": "wrong",
        "value_loss_mistake": "sign",
        "total": "1",
    }
    assert rows[1]["student"] == "'=a,\"b"


def test_points():
    assert total(ANNA, {"gae": 2.5, "value_loss": 4}) == 2.5
    assert row(ANNA, {"gae": 2.5}).endswith(",2.5\n") and row(ANNA, {"gae": 3}).endswith(",3\n")


def test_the_page_of_a_student():
    page = feedback(ANNA._replace(student="<anna>"), {"gae": 2})
    assert page == (
        "# &lt;anna&gt;\n\n2 of 3 points.\n\n## gae: ok\n\n    agrees\n\n"
        "## value_loss: wrong (sign)\n\n    no\n    <b>\n\n## About the files\n\n"
        "    anna.py is a link\n"
    )


def test_pages_have_names_of_their_own():
    names = ["anna", "a\nb", "a\\nb", "caf\udce9", "x" * 250, "x" * 251, ".."]
    made = [feedback_name(name) for name in names]
    assert len({*made}) == len(names) and made[0] == "anna.md"
    assert all("/" not in name and len(name.encode()) < 255 for name in made)


def test_files_are_for_their_owner_and_links_are_not_followed(tmp_path):
    write_private(tmp_path / "a", "text\udce9")
    assert (tmp_path / "a").read_text() == "text\\udce9"
    assert stat.S_IMODE((tmp_path / "a").stat().st_mode) == 0o600
    (tmp_path / "a").chmod(0o644)
    write_private(tmp_path / "a", b"new")
    assert stat.S_IMODE((tmp_path / "a").stat().st_mode) == 0o600
    (tmp_path / "link").symlink_to(tmp_path / "a")
    with pytest.raises(InputError):
        write_private(tmp_path / "link", "x")
    assert (tmp_path / "a").read_bytes() == b"new"


def test_what_is_remembered_comes_back(tmp_path):
    path = tmp_path / "graded.jsonl"
    with sheets.open_private(path) as file:
        remember(file, ANNA._replace(student="caf\udce9"), "key")
        remember(file, ANNA, "old")
        remember(file, ANNA, "new")
        file.write('{"student": "half')
    found = remembered(path)
    assert {name: key for name, (key, _) in found.items()} == {"caf\\udce9": "key", "anna": "new"}
    assert graded_of(Student("anna", ()), found["anna"][1]) == ANNA
    assert remembered(tmp_path / "nowhere") == {}


@pytest.mark.parametrize(
    "kept", [{}, {"grades": 3}, {"grades": [{}], "remarks": [], "walls": []}, []]
)
def test_what_is_damaged_is_graded_anew(kept):
    assert graded_of(Student("anna", ()), kept) is None


def test_the_key_holds_all_that_grades_depend_on(monkeypatch):
    student = Student("anna", (File("a.py", b"1"),))
    plan = Plan(("gae",), b"seed")
    keys = {
        key_of(student, plan),
        key_of(student._replace(files=(File("a.py", b"2"),)), plan),
        key_of(student, plan._replace(seed=b"other")),
        key_of(student, plan._replace(exercises=("gae", "value_loss"))),
        key_of(student, plan._replace(limits=plan.limits._replace(seconds=1.0))),
    }
    assert key_of(student, plan._replace(folder="/tmp/x", hidden=("/y",))) in keys
    monkeypatch.setattr(sheets.minippo, "__version__", "99")
    assert len(keys | {key_of(student, plan)}) == 6
