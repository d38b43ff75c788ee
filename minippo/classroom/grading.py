"""Grading a whole class: every student on some server, the results in the students' order.

With one job everything happens in this process and its server; with more, each job is a process
with a judge and a server of its own. The results are the same.
"""

import contextlib
import multiprocessing
import re
import signal
import tempfile
from collections.abc import Generator, Iterator, Sequence
from typing import NamedTuple

import torch

from minippo.classroom.box.room import Limits
from minippo.classroom.box.walls import Walls
from minippo.classroom.judging import Grade, Judge
from minippo.classroom.servers import MORE_SECONDS, START_SECONDS, Sandbox, Server, Settings
from minippo.classroom.submissions import Student
from minippo.errors import TrainingError

DERIVATIVES = re.compile(rb"torch\.func\b|import func\b|autograd[. ](import )?functional|vmap")
NOTHING_RAN = Walls(processes=True, network=True, files=True, user=True)


class Plan(NamedTuple):
    """What is graded, and how. `hidden` are paths that no answer may see."""

    exercises: tuple[str, ...]
    seed: bytes | None = None  # None: the fixed cases
    limits: Limits = Limits()
    hidden: tuple[str, ...] = ()
    sandbox: Sandbox | None = None
    walls: bool = True  # False: none, for tests of what is said then
    folder: str | None = None
    derivatives: bool = False  # somebody uses torch.func or torch.autograd.functional


class Graded(NamedTuple):
    """A student's grades, what is to be said about the files, and what stood around the answers."""

    student: str
    grades: tuple[Grade, ...]
    remarks: tuple[str, ...]
    walls: Walls = Walls()


class Grader:
    """A judge and a server."""

    def __init__(self, plan: Plan):
        torch.set_num_threads(1)
        self.plan, self.judge = plan, Judge(plan.exercises, plan.seed)
        self.server = Server(
            Settings(
                self.judge.jobs(),
                plan.limits,
                plan.hidden,
                plan.folder,
                plan.walls,
                plan.sandbox,
                plan.derivatives,
            )
        )

    def grade(self, student: Student) -> Graded:
        """Run and judge all answers of a student."""
        if not student.files:
            grades = [Grade(n, "no result", "", "nothing readable") for n in self.plan.exercises]
            return Graded(student.name, tuple(grades), student.remarks, NOTHING_RAN)
        grades, remarks = [], [*student.remarks]
        for name, result in self.server.run(student.files, self.plan.exercises):
            grade, said = self.judge.grade(name, result)
            grades.append(grade)
            remarks += [remark for remark in said if remark not in remarks]
        return Graded(student.name, tuple(grades), tuple(remarks), self.server.walls)


def grade_all(plan: Plan, students: Sequence[Student], jobs: int) -> Generator[Graded, None, None]:
    """The grades of each student, in their order."""
    with tempfile.TemporaryDirectory(
        prefix="minippo-grading-", ignore_cleanup_errors=True
    ) as folder:
        plan = plan._replace(folder=folder, derivatives=any(map(uses_derivatives, students)))
        if min(jobs, len(students)) <= 1:
            yield from one_by_one(plan, students)
        else:
            yield from side_by_side(plan, students, min(jobs, len(students)))


def uses_derivatives(student: Student) -> bool:
    """Is torch.func or torch.autograd.functional named in a file? What these import takes seconds,
    and a server does it once for all."""
    return any(DERIVATIVES.search(file.content) for file in student.files)


def one_by_one(plan: Plan, students: Sequence[Student]) -> Iterator[Graded]:
    """With the judge in this process."""
    grader = Grader(plan)
    with contextlib.closing(grader.server):
        for student in students:
            yield grader.grade(student)


def side_by_side(plan: Plan, students: Sequence[Student], jobs: int) -> Iterator[Graded]:
    """With a judge in each of several processes, which are new ones: a fork would take along what
    this process has started."""
    context = multiprocessing.get_context("spawn")
    with context.Pool(jobs, initializer=begin, initargs=(plan,)) as pool:
        results = pool.imap(work, students)
        seconds = START_SECONDS + len(plan.exercises) * (plan.limits.seconds + MORE_SECONDS)
        for _ in students:
            try:
                yield results.next(2 * seconds)  # it may have had to wait for another one
            except multiprocessing.TimeoutError as error:
                raise TrainingError("a process of the grader was lost; start it again") from error


_grader: list[Grader] = []  # of a process of the pool


def begin(plan: Plan) -> None:
    """What a process of the pool does first. Ctrl-C is for the one that has started it."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    _grader[:] = [Grader(plan)]


def work(student: Student) -> Graded:
    """What a process of the pool does with a student."""
    return _grader[0].grade(student)
