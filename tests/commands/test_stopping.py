"""Ctrl-C: heard after the update at first, at once the second time."""

import signal
import threading

import pytest

from minippo.commands.stopping import asked_to_stop
from minippo.commands.train import main
from minippo.runs.folder import RunFolder
from minippo.runs.screen import Screen
from tests.commands.test_resume import SMALL


def ctrl_c():
    signal.raise_signal(signal.SIGINT)


def test_the_first_ctrl_c_asks_and_the_second_interrupts(capsys):
    with asked_to_stop(Screen(quiet=False)) as asked:
        assert not asked
        ctrl_c()
        assert asked and "stopping after this update" in capsys.readouterr().out
        with pytest.raises(KeyboardInterrupt):
            ctrl_c()


@pytest.mark.parametrize("error", [None, ValueError])
def test_the_old_handler_comes_back_however_it_ends(error):
    before = signal.getsignal(signal.SIGINT)
    try:
        with asked_to_stop(Screen(quiet=True)):
            assert signal.getsignal(signal.SIGINT) is not before
            if error:
                raise error
    except ValueError:
        assert error
    assert signal.getsignal(signal.SIGINT) is before


def test_a_thread_cannot_hear_it_and_works_all_the_same():
    heard = []

    def work():
        with asked_to_stop(Screen(quiet=True)) as asked:
            heard.append(bool(asked))

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert heard == [False]


def test_a_second_ctrl_c_stops_at_once_and_the_old_handler_comes_back(tmp_path, monkeypatch):
    before = signal.getsignal(signal.SIGINT)

    def interrupt(self, row):
        ctrl_c()
        ctrl_c()
        raise AssertionError("still running")

    monkeypatch.setattr(RunFolder, "append_metrics", interrupt)
    assert main([*SMALL, "--out", str(tmp_path / "run"), "--quiet"]) == 130
    assert signal.getsignal(signal.SIGINT) is before
