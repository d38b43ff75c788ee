"""A grader of two exercises that all tests of the classroom share: its server starts once."""

import contextlib

import pytest

from minippo.classroom.box.reading import File
from minippo.classroom.box.room import Limits
from minippo.classroom.grading import Grader, Plan
from minippo.classroom.submissions import Student

EXERCISES = ("policy_gradient_loss", "gae")
LIMITS = Limits(3.0, 512 << 20, 1 << 20)


@pytest.fixture(scope="session")
def grader():
    """Judge and server; the time limit is short."""
    made = Grader(Plan(EXERCISES, b"a secret", LIMITS))
    with contextlib.closing(made.server):
        made.server.start()
        yield made


@pytest.fixture(scope="session")
def answer(grader):
    """text -> {exercise: Grade}, and the remarks under None, of a student with this one file."""

    def run(content, name="anna.py"):
        content = content.encode() if isinstance(content, str) else content
        graded = grader.grade(Student("anna", (File(name, content),)))
        return {grade.exercise: grade for grade in graded.grades} | {None: graded.remarks}

    return run
