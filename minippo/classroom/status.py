"""Which exercises pass: python -m minippo.classroom status PATH

PATH is a file, a notebook, or a folder of them: your own. Every function that has the name of an
exercise (my_gae, or gae) is run on the fixed cases, as a grader would run it: in a process of its
own, in an empty folder, without minippo. The grader's cases are others.
"""

import os
from collections.abc import Sequence
from pathlib import Path

from minippo.classroom.box.room import Limits
from minippo.classroom.grading import Graded, Plan, grade_all
from minippo.classroom.judging import ABSENT, NAMES
from minippo.classroom.submissions import read_student
from minippo.commands.wrapper import Parser, command
from minippo.errors import InputError
from minippo.runs.text import counted

WIDTH = max(map(len, NAMES)) + 2


def lines_of(graded: Graded) -> list[str]:
    """A line for each exercise that is there, what is said about the files, and the count."""
    found = []
    for grade in graded.grades:
        if grade.message.startswith(ABSENT):
            continue
        word = "passed" if grade.status == "ok" else "not yet"
        found.append(f"{grade.exercise:{WIDTH}}{word}: {grade.message}")
    right = sum(grade.status == "ok" for grade in graded.grades)
    absent = len(graded.grades) - len(found)
    found += [f"note: {remark}" for remark in graded.remarks]
    end = f"; {counted(absent, 'function')} not found" if absent else ""
    return [*found, f"{right} of {counted(len(graded.grades), 'exercise')} pass{end}"]


@command
def main(arguments: Sequence[str] | None = None) -> int:
    """The command; returns its exit status."""
    parser = Parser(prog="python -m minippo.classroom status", description=__doc__)
    parser.add_argument("path", metavar="PATH", help="a file, a notebook, or a folder of them")
    path = Path(parser.parse_args(arguments).path)
    if not path.exists():
        raise InputError(f"{path}: there is nothing of this name")
    if not hasattr(os, "fork"):
        raise InputError("status needs a system with fork: Linux, macOS, or WSL on Windows")
    student = read_student(Path(os.path.realpath(path)))
    if not student.files:
        raise InputError(f"{path}: {'; '.join(student.remarks)}")
    (graded,) = grade_all(Plan(NAMES, None, Limits()), [student], jobs=1)
    print("\n".join(lines_of(graded)))
    return 0
