"""The walls: each tried in a process of its own. What test_hostile.py shows of a whole answer is
not repeated here."""

import os
import resource
import subprocess
import sys
from pathlib import Path

import pytest

import minippo
from minippo.classroom.box import walls
from minippo.classroom.box.walls import Walls, address_space, call, lower, places

ROOT = Path(minippo.__file__).parent.parent
LINUX = pytest.mark.skipif(sys.platform != "linux", reason="namespaces")


def in_a_process(*lines):
    """What the lines print, run in a new process."""
    program = "\n".join(["import os", "from minippo.classroom.box.walls import *", *lines])
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, timeout=60, cwd=ROOT
    )
    return done.stdout + done.stderr


def test_what_is_missing_is_said():
    assert Walls(True, True, True, True).missing() == Walls(True, True, True).missing() == []
    assert Walls(processes=True, network=True, user=True).missing() == [
        "it can read and write this user's files"
    ]
    assert len(Walls().missing()) == 3


def test_a_call_that_fails_says_which_and_why():
    with pytest.raises(OSError, match="umount2: "):
        call("umount2", "/nowhere", 0)


def test_of_places_the_outer_ones_are_enough(tmp_path, monkeypatch):
    monkeypatch.setattr(walls, "SYSTEM", [])
    inner, link = tmp_path / "a" / "b", tmp_path / "link"
    inner.mkdir(parents=True)
    link.symlink_to(inner)
    a, linked = str(tmp_path / "a"), str(link)
    assert places([str(inner), a, linked, "/", "/nowhere"]) == [a, linked]


def test_limits_only_go_down():
    out = in_a_process(
        "limit(5.0, 1 << 33, 4000)",
        "lower(resource.RLIMIT_NOFILE, 1000)",
        "print([resource.getrlimit(getattr(resource, 'RLIMIT_' + name))[0] for name in",
        "       ('CPU', 'FSIZE', 'NOFILE', 'CORE')])",
    )
    assert out == f"[7, {16 << 20}, 64, 0]\n"


@LINUX
def test_the_address_space_is_limited():
    out = in_a_process(
        "limit(5.0, address_space() + (64 << 20), 4000)",
        "try: bytearray(128 << 20)",
        "except MemoryError: print('none left')",
    )
    assert out == "none left\n"


def test_the_address_space_of_this_process():
    assert 1 << 20 < address_space() < 1 << 45


def test_a_limit_that_the_system_does_not_know_is_left_alone():
    before = resource.getrlimit(resource.RLIMIT_CORE)
    lower(10**6, 1) if sys.platform == "nowhere" else lower(resource.RLIMIT_CORE, before[1])
    assert resource.getrlimit(resource.RLIMIT_CORE)[1] == before[1]


@LINUX
def test_rights_are_given_up():
    out = in_a_process(
        "become(None)",
        "status = open('/proc/self/status').read()",
        "print([line.split()[1] for line in status.splitlines()",
        "       if line.startswith(('CapEff', 'CapPrm', 'NoNewPrivs'))])",
    )
    assert out == "['0000000000000000', '0000000000000000', '1']\n"


@LINUX
@pytest.mark.skipif(os.getuid() != 0, reason="only root can become somebody else")
def test_root_becomes_somebody_else():
    out = in_a_process("become(1_900_000_001)", "print(os.getresuid(), os.getgroups())")
    assert out == "(1900000001, 1900000001, 1900000001) []\n"


@LINUX
def test_a_new_root_holds_what_was_asked_for(tmp_path):
    seen = tmp_path / "seen"
    (seen / "hidden").mkdir(parents=True)
    (seen / "file").write_text("text")
    (seen / "secret").write_text("seed")
    (seen / "hidden" / "reference.py").write_text("")
    root = tmp_path / "root"
    root.mkdir()
    out = in_a_process(
        "try: unshare_all(os.getuid() == 0)",
        "except OSError as error: print('refused'); os._exit(0)",
        "if os.fork(): os.wait(); os._exit(0)",
        f"hidden = [{str(seen / 'hidden')!r}, {str(seen / 'secret')!r}, '/elsewhere']",
        f"new_root({str(root)!r}, [{str(seen)!r}], hidden)",
        "fresh_folder(os.getuid(), False)",
        "open(WORK + '/note', 'w').close()",
        "fresh_folder(os.getuid(), True)",
        f"os.chdir({str(seen)!r})",
        "print(sorted(os.listdir('.')), os.listdir('hidden'), end=' ')",
        "try: open('secret')",
        "except OSError as error: print(error.errno, end=' ')",
        "try: open('file', 'a')",
        "except OSError as error: print(error.errno, end=' ')",
        "print(os.getpid(), os.listdir(WORK), os.listdir('..'), os.path.exists('/proc/1'))",
    )
    if out == "refused\n":
        pytest.skip("this system grants no namespaces")
    assert out == "['file', 'hidden', 'secret'] [] 13 30 1 [] ['seen'] False\n"
