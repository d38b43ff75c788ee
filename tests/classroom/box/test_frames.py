"""Messages between the grader and its servers."""

import contextlib
import os

import pytest

from minippo.classroom.box import frames
from minippo.classroom.box.frames import Ended, receive, send


@pytest.fixture
def pipe():
    ends = os.pipe()
    yield ends
    for end in ends:
        with contextlib.suppress(OSError):
            os.close(end)


def test_what_is_sent_is_received(pipe):
    message = {"a": [1, 2.5, None, "caf\udce9 \n"], "b": float("inf")}
    send(pipe[1], message)
    assert receive(pipe[0], 1.0) == message


@pytest.mark.parametrize("data", [b"x" * 12, b"000000000002[", b"000000000001{", b"-00000000001"])
def test_what_is_no_message_is_refused(pipe, data):
    os.write(pipe[1], data)
    os.close(pipe[1])
    with pytest.raises(Ended):
        receive(pipe[0], 1.0)


def test_a_message_that_is_too_large_is_not_read(pipe, monkeypatch):
    monkeypatch.setattr(frames, "LARGEST", 3)
    send(pipe[1], "long")
    with pytest.raises(Ended, match="6 bytes"):
        receive(pipe[0], 1.0)


def test_silence_ends(pipe):
    with pytest.raises(Ended, match="nothing came"):
        receive(pipe[0], 0.01)


def test_nobody_reads(pipe):
    os.close(pipe[0])
    with pytest.raises(Ended, match="nobody reads"):
        send(pipe[1], 1)
