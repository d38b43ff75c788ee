"""The server: what it holds, which walls it finds, what becomes of its keepers."""

import os
import subprocess
import sys

import pytest

from minippo.classroom.box import server
from minippo.classroom.box.room import Limits, Room
from minippo.classroom.box.walls import Walls
from minippo.classroom.servers import PROGRAM, copy_box, paths_of_torch

LOOK = """
import sys
print(sorted(n for n in sys.modules if n.split('.')[0] == 'minippo'))
print(any('exercises/gae' in str(getattr(m, '__file__', '')) for m in list(sys.modules.values())))
try: import minippo.exercises.gae
except ImportError as error: print(error)
"""


@pytest.mark.slow
def test_a_server_has_the_box_and_nothing_else_of_the_package(tmp_path):
    copy_box(tmp_path / "copy")
    program = PROGRAM.replace("main(root)", "") + LOOK
    done = subprocess.run(
        [sys.executable, "-I", "-S", "-B", "-c", program, str(tmp_path), *paths_of_torch()],
        capture_output=True,
        text=True,
        timeout=120,
        cwd="/",
    )
    modules, found, refused = done.stdout.splitlines()
    assert found == "False" and refused == "No module named 'minippo.exercises.gae'"
    assert {
        name
        for name in eval(modules)
        if not name.startswith("minippo.classroom") and name.count(".")
    } == {"minippo.exercises", "minippo.exercises.observe"}


@pytest.fixture
def room(tmp_path):
    return Room({}, Limits(), [], [], str(tmp_path), 0, 0)


def test_the_best_plan_that_works_is_taken(room, monkeypatch):
    tried = []

    def works(room):
        tried.append(room.walls)
        return len(tried) == 2

    monkeypatch.setattr(server, "works", works)
    monkeypatch.setattr(server.sys, "platform", "linux")
    monkeypatch.setattr(server.os, "getuid", lambda: 0)
    assert server.best_walls(room, True) == server.PLANS[1] == tried[1]
    assert server.best_walls(room, False) == Walls()
    monkeypatch.setattr(server.os, "getuid", lambda: 1000)
    tried.clear()
    assert server.best_walls(room, True) == server.PLANS[3] and not any(w.user for w in tried)
    monkeypatch.setattr(server.sys, "platform", "darwin")
    assert server.best_walls(room, True) == Walls()


def test_a_plan_is_tried_in_a_process(room, monkeypatch):
    assert server.works(room)
    monkeypatch.setattr(server, "needed", lambda: ["/nowhere"])
    assert not server.works(room)

    def refused(_):
        raise OSError("no")

    monkeypatch.setattr(server, "enter", refused)
    monkeypatch.setattr(server, "needed", list)
    assert not server.works(room)


def test_a_keeper_that_is_lost_ends_the_server(room, monkeypatch):
    sent = []
    monkeypatch.setattr(server, "send", lambda _, message: sent.append(message))
    monkeypatch.setattr(server, "keep", lambda *_: None)
    server.serve(room, 0, 0)

    def lost(*_):
        os._exit(5)

    monkeypatch.setattr(server, "keep", lost)
    with pytest.raises(server.Ended):
        server.serve(room, 0, 0)
    assert sent == [{"done": True}, {"lost": True}]
