"""Ctrl-C: after the update at first, at once the second time."""

import signal

from minippo.commands.train import main
from minippo.runs.folder import RunFolder
from tests.commands.test_resume import SMALL


def test_a_second_ctrl_c_stops_at_once_and_the_old_handler_comes_back(tmp_path, monkeypatch):
    before = signal.getsignal(signal.SIGINT)

    def interrupt(self, row):
        signal.raise_signal(signal.SIGINT)
        signal.raise_signal(signal.SIGINT)
        raise AssertionError("still running")

    monkeypatch.setattr(RunFolder, "append_metrics", interrupt)
    assert main([*SMALL, "--out", str(tmp_path / "run"), "--quiet"]) == 130
    assert signal.getsignal(signal.SIGINT) is before
