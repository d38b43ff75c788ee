"""A call that takes long is told of once, and nothing else happens."""

import time

from minippo.tasks.patience import Patience


def test_a_long_call_is_told_while_it_goes_on_and_once():
    told, patience = [], Patience(seconds=0.05)
    patience.tell = told.append
    with patience.call("a prompt", "a response\n"):
        limit = time.monotonic() + 10
        while not told and time.monotonic() < limit:
            time.sleep(0.005)
    (line,) = told
    assert "'a response\\n' to 'a prompt'" in line and line.endswith("; it goes on")
    with patience.call("another", "call"):
        time.sleep(0.1)
    assert len(told) == 1


def test_short_calls_are_not_told_of():
    told, patience = [], Patience(seconds=5.0)
    patience.tell = told.append
    for _ in range(50):
        with patience.call("a", "b"):
            pass
    assert not told


def test_nobody_watches_where_nobody_listens():
    patience = Patience(seconds=0.001)
    with patience.call("a", "b"):
        time.sleep(0.01)
    assert patience._watcher is None
