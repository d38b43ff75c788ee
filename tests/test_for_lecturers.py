"""docs/for-lecturers.md: its commands exist, and what it says of the grader's files and limits is
so. What the commands do: tests/classroom."""

import re
import shlex
from pathlib import Path

import pytest

import minippo
from minippo.classroom.box import keeper, walls
from minippo.classroom.box.room import Limits
from minippo.classroom.grade import chosen_exercises, parser
from minippo.classroom.judging import STATUSES
from minippo.classroom.sheets import FEEDBACK, GRADES, PROGRESS
from minippo.classroom.table import COMMANDS

ROOT = Path(minippo.__file__).parent.parent
PAGE = (ROOT / "docs" / "for-lecturers.md").read_text(encoding="utf-8")
OF_THE_BENCHMARK = ("--students", "--grade")
LINES = re.findall(r"^    python -m minippo\.classroom (.*)$", PAGE, re.MULTILINE)


@pytest.mark.parametrize("line", LINES)
def test_every_command_on_the_page_is_one(line):
    name, *arguments = shlex.split(line)
    assert name in COMMANDS
    if name == "grade":
        assert parser().parse_args(arguments).folder == "FOLDER"


def test_the_page_shows_all_commands():
    assert {line.split()[0] for line in LINES} == {*COMMANDS}


def test_flags_files_and_statuses_are_those_of_the_command():
    section = PAGE[PAGE.index("## Grading a class") : PAGE.index("## Marking")]
    flags = {flag for action in parser()._actions for flag in action.option_strings}
    assert {flag for flag in re.findall(r"--\w+", section) if flag not in OF_THE_BENCHMARK} <= flags
    for name in (GRADES, PROGRESS, f"{FEEDBACK}/STUDENT.md", "summary.md", "seed.txt"):
        assert f"`{name}`" in section
    assert f"({', '.join(STATUSES)})" in section.replace("\n", " ")
    assert chosen_exercises(["gae", "clipped_loss"]) == ("gae", "clipped_loss")


def test_the_limits_are_those_of_the_box():
    page = " ".join(PAGE.split())
    limits = Limits()
    assert f"({limits.seconds:.0f} s, {limits.memory >> 20} MiB)" in page
    assert f"the size of a file ({walls.FILE_BYTES >> 20} MiB)" in page
    assert f"processes ({walls.PROCESSES}) and open files ({walls.OPEN_FILES})" in page
    assert f"({walls.FOLDER_BYTES >> 20} MiB), which is thrown away" in page
    assert (keeper.PATIENCE, keeper.SHORTER) == (3, 5)


def test_the_rubric_has_a_row_for_each_notebook():
    rows = re.findall(
        r"^\| \[(\d\d)\]\(\.\./notebooks/(\w+)\.ipynb\) \|(.*)\|$", PAGE, re.MULTILINE
    )
    assert [number for number, *_ in rows] == [f"{n:02}" for n in range(14)]
    for number, notebook, reasons in rows:
        source = (ROOT / "notebooks" / f"{notebook}.py").read_text(encoding="utf-8")
        assert notebook.startswith(number) and len(reasons.split("|")) == 3
        assert len(re.findall(r"<summary>\d\.", source)) == 3
