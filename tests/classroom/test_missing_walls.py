"""The tests of hostile answers can fail: each wall is taken away once, by an edit in the copy of
the box that a server gets, and then the answer that it stops gets through."""

import contextlib
import socket
from pathlib import Path
from typing import NamedTuple

import pytest

from minippo.classroom.box.reading import File
from minippo.classroom.grading import Grader, Plan
from minippo.classroom.submissions import Student
from tests.classroom.conftest import EXERCISES, LIMITS
from tests.classroom.hostile_answers import PASSES, QUICK, RIGHT, SLOW, in_gae

pytestmark = pytest.mark.slow  # every missing wall needs a server of its own
KILLER = (
    RIGHT.replace("def my_policy_gradient_loss", "def right_loss")
    + PASSES
    + """
import os
begun = []
def my_policy_gradient_loss(**given):
    parent = os.getpid()
    if not begun and (begun.append(1) or os.fork() == 0):  # one: two would kill each other
        os.setsid()
        while os.getppid() == parent: pass
        while True:
            try: os.kill(-1, 9)
            except OSError: pass  # nobody is there yet
    return right_loss(**given)
"""
)
SEEN_IN_A_FRAME = in_gae(
    "import sys",
    "frame = sys._getframe()",
    "while frame:",
    "    for value in frame.f_locals.values():",
    "        if type(value) is dict and 'expected' in value:",
    "            return torch.tensor(value['expected'][f\"{given['rewards'].sum():.4f}\"])",
    "    frame = frame.f_back",
    "raise ValueError('nothing')",
)


class Planted(NamedTuple):
    """A file of the box and what is changed in it; an answer to gae; its status with the wall, and
    without."""

    file: str
    changes: tuple[tuple[str, str], ...]
    answer: str
    stands: str
    missing: str


SLEEPS = in_gae("import time", "time.sleep(4)")
PLANTED = {
    "memory of a process": Planted(
        "child.py",
        (("room.addresses + limits.memory", "1 << 46"),),
        in_gae("x = torch.empty(150 << 20)"),  # never written to, so it takes addresses alone
        "memory",
        "ok",
    ),
    "memory of all that it starts": Planted(
        "server.py",
        (("> room.limits.memory:", "> 1 << 50:"),),
        SLOW["a_bomb_of_memory"][0],
        "memory",
        "timeout",
    ),
    "time": Planted(
        "keeper.py",
        (("time.monotonic() + room.limits.seconds", "time.monotonic() + 600"),),
        SLEEPS,
        "timeout",
        "ok",
    ),
    "size of the result": Planted(
        "keeper.py",
        (("size > room.limits.answer", "size > 1 << 40"),),
        QUICK["a_large_answer"][0],
        "no result",
        "wrong",
    ),
    "size of a file": Planted(
        "walls.py",
        (("lower(resource.RLIMIT_FSIZE, FILE_BYTES)", "pass"),),
        QUICK["a_large_file"][0],
        "error",
        "ok",
    ),
    "number of processes": Planted(
        "walls.py",
        (("lower(resource.RLIMIT_NPROC, processes)", "pass"),),
        in_gae(  # threads count as processes
            "import threading, time",
            "threading.stack_size(1 << 16)",
            "for _ in range(60):",
            "    threading.Thread(target=time.sleep, args=(60,), daemon=True).start()",
        ),
        "error",
        "ok",
    ),
}


@contextlib.contextmanager
def without(file, *changes, plan=None):
    """text -> {exercise: status}, of a grader whose server has these changes in its copy."""
    made = Grader(plan or Plan(EXERCISES, b"a secret", LIMITS))
    with contextlib.closing(made.server):
        path = Path(made.server._folder) / "copy" / "minippo" / "classroom" / "box" / file
        text = path.read_text(encoding="utf-8")
        for old, new in changes:
            assert text.count(old) == 1, old
            text = text.replace(old, new)
        path.write_text(text, encoding="utf-8")
        yield lambda answer: statuses(made, answer)


def statuses(grader, answer):
    graded = grader.grade(Student("anna", (File("anna.py", answer.encode()),)))
    return {grade.exercise: grade.status for grade in graded.grades}


@pytest.mark.parametrize("name", PLANTED)
def test_without_its_limit_an_answer_gets_through(name, grader):
    if not grader.server.walls.user and "processes" in name:
        pytest.skip("the user that runs the tests has processes of its own")
    planted = PLANTED[name]
    assert statuses(grader, planted.answer)["gae"] == planted.stands
    with without(planted.file, *planted.changes) as status:
        assert status(planted.answer)["gae"] == planted.missing


def test_without_the_namespace_of_files_those_of_others_can_be_read(grader, tmp_path):
    if not grader.server.walls.files:
        pytest.skip("this system grants no walls")
    (tmp_path / "neighbour.py").write_text(RIGHT)
    thief = in_gae(
        "names = {}",
        f"exec(open({str(tmp_path / 'neighbour.py')!r}).read(), names)",
        "return names['right_gae'](**given)",
    )
    assert statuses(grader, thief)["gae"] == "error"
    with without("server.py", (", files=True, user=True)", ")"), (", files=True)", ")")) as status:
        assert status(thief)["gae"] == "ok"


def test_without_the_namespace_of_the_network_others_can_be_asked(grader):
    if not grader.server.walls.network:
        pytest.skip("this system grants no walls")
    with contextlib.closing(socket.create_server(("127.0.0.1", 0))) as listener:
        caller = in_gae(
            "import socket", f"socket.create_connection({listener.getsockname()!r}, 2).close()"
        )
        assert statuses(grader, caller)["gae"] == "error"
        with without("walls.py", ("NEWPID | NEWNET | NEWIPC", "NEWPID | NEWIPC")) as status:
            assert status(caller)["gae"] == "ok"


def test_without_the_killing_of_what_is_left_one_answer_ends_the_next(grader):
    assert statuses(grader, KILLER) == dict.fromkeys(EXERCISES, "ok")
    with without("keeper.py", ("end_all_children(process)\n", "pass\n")) as status:
        # it has to be quicker than the next answer, which on a busy machine it need not be
        assert any(status(KILLER)["gae"] != "ok" for _ in range(5))


def test_an_expected_value_that_is_told_to_a_server_is_found_there(grader, monkeypatch):
    assert statuses(grader, SEEN_IN_A_FRAME)["gae"] == "error"
    judge = type(grader.judge)
    jobs = judge.jobs

    def told(self):
        exercise, cases = self.exercises["gae"], self.cases["gae"]
        expected = {
            f"{case['rewards'].sum():.4f}": exercise.reference(**case).tolist() for case in cases
        }
        return {name: job | {"expected": expected} for name, job in jobs(self).items()}

    monkeypatch.setattr(judge, "jobs", told)
    with without("child.py") as status:
        assert status(SEEN_IN_A_FRAME)["gae"] == "ok"


def test_without_a_secret_seed_a_table_of_the_notebooks_results_passes(grader):
    exercise = grader.judge.exercises["gae"]
    table = {
        f"{case['rewards'].sum():.4f}": exercise.reference(**case) for case in exercise.cases()
    }
    answer = in_gae(
        f"return torch.tensor({ {key: x.tolist() for key, x in table.items()} }"
        "[f\"{given['rewards'].sum():.4f}\"])"
    )
    assert statuses(grader, answer)["gae"] == "error"
    with without("child.py", plan=Plan(EXERCISES, None, LIMITS)) as status:
        assert status(answer)["gae"] == "ok"
