"""A class: in order, whatever the jobs, and whoever handed in nothing."""

import pytest

from minippo.classroom import grading
from minippo.classroom.box.reading import File
from minippo.classroom.grading import NOTHING_RAN, Plan, grade_all
from minippo.classroom.submissions import Student
from minippo.errors import TrainingError
from tests.classroom.hostile_answers import at_the_top


def test_who_handed_in_nothing_has_no_results(grader):
    graded = grader.grade(Student("anna", (), ("anna.pdf is neither",)))
    assert [grade.status for grade in graded.grades] == ["no result"] * 2
    assert graded.remarks == ("anna.pdf is neither",) and graded.walls == NOTHING_RAN


def test_remarks_are_said_once(grader):
    file = File("a.py", (at_the_top() + "1 / 0\n").encode())
    graded = grader.grade(Student("anna", (file,), ("a link",)))
    assert len(graded.remarks) == 2 and graded.remarks[0] == "a link"
    assert [grade.status for grade in graded.grades] == ["ok", "ok"]


def test_one_by_one_the_server_is_closed_at_the_end(monkeypatch):
    events = []

    class Grader:
        def __init__(self, plan):
            self.server = self

        def close(self):
            events.append("closed")

        def grade(self, student):
            events.append(student)
            return student

    monkeypatch.setattr(grading, "Grader", Grader)
    monkeypatch.setattr(grading, "uses_derivatives", lambda _: False)
    assert [*grade_all(Plan(()), "abc", 1)] == ["a", "b", "c"] and events == [*"abc", "closed"]
    events.clear()
    begun = grade_all(Plan(()), "abc", 1)
    next(begun)
    begun.close()
    assert events == ["a", "closed"]


def test_a_process_that_is_lost_does_not_hang_the_grading(monkeypatch):
    class Pool:
        def __init__(self, *given, **options):
            self.asked = []

        def __enter__(self):
            return self

        def __exit__(self, *given):
            pass

        def imap(self, work, students):
            return self

        def next(self, seconds):
            raise grading.multiprocessing.TimeoutError

    class Context:
        def __init__(self):
            self.Pool = Pool

    monkeypatch.setattr(grading.multiprocessing, "get_context", lambda _: Context())
    monkeypatch.setattr(grading, "uses_derivatives", lambda _: False)
    with pytest.raises(TrainingError, match="start it again"):
        [*grade_all(Plan(()), ["a", "b"], 2)]


@pytest.mark.parametrize(
    "text, found",
    [
        ("torch.func.grad", True),
        ("from torch import func", True),
        ("torch.autograd.functional.hvp", True),
        ("from torch.autograd import functional", True),
        ("torch.nn.functional", False),
        ("torch.functional", False),
        ("", False),
    ],
)
def test_who_uses_derivatives_of_functions(text, found):
    student = Student("a", (File("a.py", b""), File("b.py", text.encode())))
    assert grading.uses_derivatives(student) == found
