"""Finding and ending processes."""

import os
import subprocess
import sys
import time

import pytest

from minippo.classroom.box.processes import (
    descendants,
    end,
    end_session,
    owned_by,
    parents,
    private_bytes,
)

pytestmark = pytest.mark.skipif(not os.path.isdir("/proc/self"), reason="needs /proc")

ESCAPING = """
import os, sys, time
if os.fork() == 0:
    os.setsid()
    if os.fork() == 0:
        os.write(to_keeper, str(os.getpid()).encode())
        time.sleep(60)
    os._exit(0)
os.wait()
"""
KEEPING = f"""
import os, sys
from minippo.classroom.box.processes import end_all_children, descendants
from minippo.classroom.box.walls import adopt_orphans
adopt_orphans()
here, to_keeper = os.pipe()
child = os.fork()
if child == 0:
    os.setsid()
    exec({ESCAPING!r})
    os._exit(0)
os.waitpid(child, 0)
print(os.read(here, 20).decode())
print(len(descendants(os.getpid())), flush=True)
end_all_children(child)
print(len(descendants(os.getpid())), flush=True)
"""


def test_this_process_is_its_parents_child():
    assert parents()[os.getpid()] == os.getppid()
    assert os.getpid() in descendants(os.getppid())
    assert private_bytes(os.getpid()) > 1 << 20 and private_bytes(1 << 30) == 0
    assert owned_by(os.getuid()) >= 1 and owned_by(1_999_999_999) == 0


def test_what_has_left_its_session_is_found_by_whoever_adopts_orphans():
    done = subprocess.run(
        [sys.executable, "-c", KEEPING], capture_output=True, text=True, timeout=60
    )
    escaped, before, after = map(int, done.stdout.split())
    assert (before, after) == (1, 0)
    assert escaped not in parents()


def test_ending_what_is_gone_does_nothing():
    process = subprocess.Popen(["sleep", "60"], start_new_session=True)
    end_session(process.pid)
    assert process.wait(10) == -9
    time.sleep(0)
    end(process.pid)
    end_session(process.pid)
