"""Ctrl-C while modules are being imported, and what the process hears before and after."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

import minippo
from minippo.interrupts import (
    importing,
    is_being_run,
    leave_at_once,
    while_importing,
    while_working,
)

ENVIRONMENT = os.environ | {"PYTHONPATH": str(Path(minippo.__file__).parent.parent)}


@pytest.fixture
def as_python_starts():
    """Python's own handlers, and afterwards those of the tests."""
    before = signal.getsignal(signal.SIGINT)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


def test_while_something_is_imported_and_then_as_it_was(as_python_starts):
    pipe = signal.getsignal(signal.SIGPIPE)
    with importing():
        assert signal.getsignal(signal.SIGINT) is leave_at_once
        assert signal.getsignal(signal.SIGPIPE) is signal.SIG_DFL
        while_working()
        assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
        assert signal.getsignal(signal.SIGPIPE) is signal.SIG_IGN
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    assert signal.getsignal(signal.SIGPIPE) is pipe


def test_when_all_is_done_it_is_too_late(as_python_starts):
    while_importing()
    with importing():
        pass
    assert signal.getsignal(signal.SIGINT) is signal.SIG_IGN
    signal.signal(signal.SIGPIPE, signal.SIG_IGN)


@pytest.mark.parametrize("handler", [signal.SIG_IGN, print])
def test_who_wants_something_else_of_ctrl_c_gets_it(handler, as_python_starts):
    signal.signal(signal.SIGINT, handler)
    with importing():
        assert signal.getsignal(signal.SIGINT) is handler
        while_working()
        assert signal.getsignal(signal.SIGINT) is handler


def test_whether_a_module_is_being_run(monkeypatch):
    assert not is_being_run()
    monkeypatch.setattr(sys, "argv", ["-m"])
    assert is_being_run()


SLOW_IMPORT = """
print("importing", flush=True)
import time
time.sleep(60)
"""


# a process that a shell has put into the background hears no Ctrl-C, nor do its children
HEARING = """
import os, signal, sys
signal.signal(signal.SIGINT, signal.SIG_DFL)
os.execv(sys.executable, [sys.executable, *sys.argv[1:]])
"""


def interrupted(folder, *words):
    """(status, errors) of a process that hears Ctrl-C while torch, which is a slow module here, is
    being imported."""
    (folder / "torch.py").write_text(SLOW_IMPORT)
    paths = f"{folder}{os.pathsep}{ENVIRONMENT['PYTHONPATH']}"
    process = subprocess.Popen(
        [sys.executable, "-c", HEARING, *words],
        env=ENVIRONMENT | {"PYTHONPATH": paths},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None and process.stdout.readline() == "importing\n"
    time.sleep(0.1)
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=30)
    return process.returncode, errors


@pytest.mark.skipif(sys.platform == "win32", reason="no such signal there")
@pytest.mark.parametrize("name", ["train_toy", "exact.qualifications", "one_page"])
def test_ctrl_c_during_an_import_is_one_line(name, tmp_path):
    assert interrupted(tmp_path, "-m", f"minippo.{name}") == (130, "interrupted\n")


@pytest.mark.skipif(sys.platform == "win32", reason="no such signal there")
def test_who_imports_the_package_keeps_python_s_own_way(tmp_path):
    status, errors = interrupted(tmp_path, "-c", "import minippo.gpt")
    assert status == -signal.SIGINT and errors.endswith("KeyboardInterrupt\n")


@pytest.mark.skipif(sys.platform == "win32", reason="no such signal there")
@pytest.mark.slow
def test_one_page_ends_with_its_reader():
    words = f"set -o pipefail; {sys.executable} -m minippo.one_page | head -n 1"
    done = subprocess.run(
        ["bash", "-c", words], env=ENVIRONMENT, capture_output=True, text=True, timeout=120
    )
    assert done.stdout.startswith("update   1") and done.stderr == ""
