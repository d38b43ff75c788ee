"""One process at a time works in a folder; tests/runs/test_folder.py tries the lock of a run."""

import pytest

from minippo.errors import InputError
from minippo.runs.lock import is_locked, locked


def test_somebody_at_work_is_seen_and_not_disturbed(tmp_path):
    assert not is_locked(tmp_path)
    with locked(tmp_path):
        assert is_locked(tmp_path)
        with pytest.raises(InputError, match="another process is at work"), locked(tmp_path):
            pass
    assert not is_locked(tmp_path)
    with locked(tmp_path) as taken:  # looking has left nothing behind
        assert taken


def test_where_nobody_can_say_nobody_is_at_work(tmp_path, monkeypatch):
    assert not is_locked(tmp_path / "nowhere")
    monkeypatch.setitem(__import__("sys").modules, "fcntl", None)
    assert not is_locked(tmp_path)
