"""The keeper: how the process of an answer ended, and what it leaves."""

import base64
import os
import time

import pytest

from minippo.classroom.box import keeper
from minippo.classroom.box.keeper import Ending, message_of, one_answer, remove_folder
from minippo.classroom.box.reading import File
from minippo.classroom.box.room import Limits, Room


@pytest.fixture
def room(tmp_path):
    return Room({}, Limits(0.5, 1 << 30, 1000), [], [], str(tmp_path), 0, 0)


@pytest.fixture
def note():
    ends = os.pipe()
    yield ends
    for end in ends:
        os.close(end)


@pytest.fixture
def ending_of(room, note, monkeypatch):
    """The Ending of a process that does something with its pipe."""

    def find(work):
        monkeypatch.setattr(keeper, "run_answer", lambda *given: work(given[-1]))
        return one_answer(room, {}, [], False, note[0])

    return find


@pytest.mark.parametrize(
    "work, ending",
    [
        (lambda pipe: (os.write(pipe, b"text"), os._exit(0)), Ending("answered", "text")),
        (lambda pipe: (os.write(pipe, b"\xff"), os._exit(0)), Ending("answered", "\ufffd")),
        (lambda pipe: os._exit(0), Ending("silent")),
        (lambda pipe: os._exit(3), Ending("silent")),
        (lambda pipe: os.write(pipe, b"x" * 2000), Ending("too long")),
        (lambda pipe: os.kill(os.getpid(), 15), Ending("killed", "signal 15")),
        (lambda pipe: os.kill(os.getpid(), 24), Ending("timeout")),
        (lambda pipe: os.kill(os.getpid(), 9), Ending("killed", "signal 9")),
        (lambda pipe: (os.close(pipe), os._exit(0)), Ending("silent")),
    ],
)
def test_how_a_process_ended(work, ending, ending_of):
    assert ending_of(work) == ending


def test_what_a_process_has_forked_does_not_keep_it(ending_of):
    def forks(pipe):
        if os.fork() == 0:
            time.sleep(60)
        os.write(pipe, b"done")
        os._exit(0)

    assert ending_of(forks) == Ending("answered", "done")


def test_a_process_that_takes_too_long(ending_of, room):
    assert ending_of(lambda pipe: time.sleep(60)) == Ending("timeout")
    begun = time.monotonic()
    assert ending_of(lambda pipe: (os.close(pipe), time.sleep(60))) == Ending("timeout")
    assert time.monotonic() - begun < 10


def test_what_was_killed_for_its_memory(ending_of, note):
    os.write(note[1], b"m")
    assert ending_of(lambda pipe: os.kill(os.getpid(), 9)).how == "memory"
    assert ending_of(lambda pipe: os.kill(os.getpid(), 9)).how == "killed"


def test_the_folder_of_an_answer_is_there_and_then_removed(ending_of, tmp_path):
    def says_what_is_there(pipe):
        os.write(pipe, str(len(os.listdir(tmp_path))).encode())
        os._exit(0)

    assert ending_of(says_what_is_there) == Ending("answered", "1")
    assert os.listdir(tmp_path) == []


def test_a_folder_without_permissions_is_removed(tmp_path):
    deep = tmp_path / "a" / "b" / "c"
    deep.mkdir(parents=True)
    (deep / "file").write_text("")
    (tmp_path / "a" / "link").symlink_to(tmp_path.parent)
    (tmp_path / "a" / "b").chmod(0)
    remove_folder(str(tmp_path / "a"))
    assert os.listdir(tmp_path) == [] and tmp_path.parent.exists()


def test_three_timeouts_make_the_limit_shorter(room, monkeypatch):
    limits, sent = [], []
    monkeypatch.setattr(keeper, "receive", lambda _: message_of([], "abcde"))
    monkeypatch.setattr(keeper, "send", lambda _, message: sent.append(message["how"]))

    def times_out(room, *_):
        limits.append(room.limits.seconds)
        return Ending("timeout")

    monkeypatch.setattr(keeper, "one_answer", times_out)
    keeper.keep(room._replace(jobs=dict.fromkeys("abcde", {})), 0, 0, 0)
    assert limits == [0.5, 0.5, 0.5, 0.1, 0.1] and sent == ["timeout"] * 5


def test_files_travel_as_they_are():
    message = message_of([File("a.py", b"\xff\0")], ("x", "y"))
    assert message["exercises"] == ["x", "y"]
    assert base64.b64decode(message["files"][0][1]) == b"\xff\0"
