"""The grader's side of the servers: started when needed, started again when lost, and what is told
to whom."""

import contextlib
import os
import stat
import sys
from pathlib import Path

import pytest

import minippo
from minippo.classroom import servers
from minippo.classroom.box.frames import Ended
from minippo.classroom.box.reading import File
from minippo.classroom.box.room import Limits
from minippo.classroom.box.walls import Walls
from minippo.classroom.servers import Result, Sandbox, Server, Settings, container, own_copies
from minippo.errors import TrainingError
from tests.classroom.hostile_answers import at_the_top

FILES = [File("anna.py", at_the_top().encode())]
STAND_IN = """#!{python}
import os, sys
arguments = sys.argv[1:]
volume = next(a for a in arguments if a.startswith("--volume="))
folder = volume.partition("=")[2].partition("/copy:")[0]
with open({log!r}, "a") as log:
    print(*arguments[:3], file=log)
at = arguments.index("an-image")
program = arguments[at + 1 : -1]
os.environ["PYTHONPATH"] = {path!r}
os.execv(sys.executable, [sys.executable, *program[1:], folder])
"""


@pytest.fixture
def server(tmp_path):
    made = Server(Settings({}, Limits(), [], str(tmp_path)))
    with contextlib.closing(made):
        yield made


def script(server, monkeypatch, *visits):
    """Let a server answer its visits with these lists; an exception ends one."""
    left = [*visits]

    def ask(files, names):
        for one in left.pop(0):
            if one is Ended:
                raise Ended("gone")
            yield one, Result("answered", one)

    stopped = []
    monkeypatch.setattr(server, "_ask", ask)
    monkeypatch.setattr(server, "stop", lambda: stopped.append(1))
    return stopped


def test_results_come_in_order(server, monkeypatch):
    assert script(server, monkeypatch, ["a", "b"]) == []
    assert [name for name, _ in server.run(FILES, ["a", "b"])] == ["a", "b"]


def test_what_was_lost_is_said_and_the_rest_is_asked_again(server, monkeypatch):
    stopped = script(server, monkeypatch, ["a", Ended], ["c", "d"])
    found = [(name, result.how) for name, result in server.run(FILES, ["a", "b", "c", "d"])]
    assert found == [("a", "answered"), ("b", "lost"), ("c", "answered"), ("d", "answered")]
    assert len(stopped) == 1


def test_a_server_that_is_lost_each_time_still_ends(server, monkeypatch):
    script(server, monkeypatch, [Ended], [Ended])
    assert [result.how for _, result in server.run(FILES, ["a", "b"])] == ["lost", "lost"]


def test_an_answer_to_another_exercise_is_not_taken(server, monkeypatch):
    script(server, monkeypatch, ["b", Ended], ["b"])
    found = [(name, result.how) for name, result in server.run(FILES, ["a", "b"])]
    assert found == [("a", "lost"), ("b", "answered")]


def test_a_server_that_does_not_come_up_is_said(server, monkeypatch):
    monkeypatch.setattr(server, "_command", lambda: [sys.executable, "-c", "raise ValueError(3)"])
    with pytest.raises(TrainingError, match="no server for answers: ValueError: 3"):
        server.start()


def test_the_copy_is_the_box_and_what_observes(server):
    copy = Path(server._folder) / "copy" / "minippo"
    found = {str(path.relative_to(copy)) for path in copy.rglob("*.py")}
    of_the_box = {name for name in found if name.startswith("classroom/box/")}
    assert found - of_the_box == {
        "__init__.py",
        "classroom/__init__.py",
        "exercises/__init__.py",
        "exercises/observe.py",
    }
    assert len(of_the_box) == len([*servers.PACKAGE.glob("classroom/box/*.py")])
    assert stat.S_IMODE(os.stat(server._folder).st_mode) == 0o711
    server.close()
    assert not copy.exists()


def test_this_package_is_hidden_wherever_it_is(tmp_path, monkeypatch):
    package = str(Path(minippo.__file__).parent)
    assert package in own_copies()
    installed = tmp_path / "lib" / "python3.99" / "site-packages" / "minippo"
    installed.mkdir(parents=True)
    monkeypatch.setattr(sys, "prefix", str(tmp_path))
    assert str(installed) in own_copies()


def test_the_import_path_of_an_answer_has_installed_packages_only(monkeypatch, tmp_path):
    (tmp_path / "site-packages").mkdir()
    monkeypatch.setattr(
        sys, "path", ["", str(tmp_path), str(tmp_path / "site-packages"), *sys.path]
    )
    found = servers.paths_of_torch()
    assert str(tmp_path / "site-packages") in found and str(tmp_path) not in found
    assert str(servers.PACKAGE.parent) not in found


def test_a_container_gets_the_copy_and_nothing_else():
    words = container(Sandbox("podman", "torch:2"), "/f", Limits(), ["-c", "code"])
    assert words[:2] == ["podman", "run"] and words[-6:] == [
        *("torch:2", "python", "-B", "-c", "code", "/box")
    ]
    assert "--network=none" in words and "--read-only" in words and "--cap-drop=ALL" in words
    assert [word for word in words if word.startswith("--volume")] == [
        "--volume=/f/copy:/box/copy:ro"
    ]


@pytest.mark.slow
def test_with_a_sandbox_each_student_has_a_container(tmp_path, monkeypatch, grader):
    program = tmp_path / "docker"  # it starts the server without a container
    log = str(tmp_path / "log")
    path = os.pathsep.join(servers.paths_of_torch())
    program.write_text(STAND_IN.format(python=sys.executable, log=log, path=path))
    program.chmod(0o755)
    settings = Settings(
        grader.judge.jobs(), Limits(), [], str(tmp_path), True, Sandbox(str(program), "an-image")
    )
    with contextlib.closing(Server(settings)) as server:
        for _ in range(2):
            (found,) = server.run(FILES, ["gae"])
            assert grader.judge.grade(*found)[0].status == "ok"
        assert server.walls == Walls(True, True, True, True)
    assert (tmp_path / "log").read_text() == "run --rm --interactive\n" * 2


@pytest.mark.slow
def test_without_walls_an_answer_is_judged_all_the_same(tmp_path, grader):
    settings = Settings(grader.judge.jobs(), Limits(), [], str(tmp_path), walls=False)
    with contextlib.closing(Server(settings)) as server:
        killer = at_the_top("import os", "os.kill(os.getppid(), 9)").encode()
        found = [*server.run([File("k.py", killer)], ["gae", "policy_gradient_loss"])]
        assert [result.how for _, result in found] == ["lost", "lost"]
        (found,) = server.run(FILES, ["gae"])
        assert grader.judge.grade(*found)[0].status == "ok"
        assert server.walls.missing()
