"""A disk that fails at any write ends the run in one line, and the run goes on afterwards as if
nothing had been."""

import contextlib
import errno
import os

import pytest

from minippo.commands.train import main
from minippo.runs import files
from tests.commands.test_resume import SMALL, content, resume, run

# of files in this run, each of which ends in a rename; eight folders are renamed as well
WRITES = 66


class FaultyDisk:
    """Lets every write pass but one, which fails in a given way; counts them all."""

    def __init__(self, monkeypatch, number, kind):
        self.number, self.kind, self.opened, self.synced, self.renamed = number, kind, 0, 0, 0
        self.fsync, self.replace, self.unlink = os.fsync, os.replace, files.Path.unlink
        monkeypatch.setattr(files, "open", self.open_, raising=False)
        monkeypatch.setattr(files.os, "fsync", self.fsync_)
        monkeypatch.setattr(files.os, "replace", self.replace_)
        if kind == "half a file stays":
            monkeypatch.setattr(
                files.Path, "unlink", lambda path, **options: self.unlink_(path, **options)
            )

    def open_(self, path, mode):
        self.opened += 1
        fails = self.opened == self.number and self.kind.startswith("half")
        return HalfAFile(open(path, mode)) if fails else open(path, mode)

    def fsync_(self, descriptor):
        self.synced += 1
        self.fail_at(self.synced, "fsync", errno.ENOSPC)
        self.fsync(descriptor)

    def replace_(self, source, target):
        self.renamed += 1
        self.fail_at(self.renamed, "rename", errno.EIO)
        self.replace(source, target)

    def unlink_(self, path, missing_ok=False):
        if path.name.endswith(".tmp") and not path.name.startswith(".probe"):
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        self.unlink(path, missing_ok=missing_ok)

    def fail_at(self, count, kind, number):
        if count == self.number and self.kind == kind:
            raise OSError(number, os.strerror(number))


class HalfAFile(contextlib.AbstractContextManager):
    """A file on a disk that is full after half of the data."""

    def __init__(self, file):
        self.file = file

    def write(self, data):
        self.file.write(data[: len(data) // 2])
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    def __exit__(self, *_):
        self.file.close()


@pytest.fixture(scope="module")
def counted(tmp_path_factory):
    """(a run, the disk that has counted its writes)"""
    with pytest.MonkeyPatch.context() as patch:
        disk = FaultyDisk(patch, -1, "none")
        return run(tmp_path_factory.mktemp("whole") / "run"), disk


@pytest.fixture(scope="module")
def undisturbed(counted):
    return counted[0]


def test_the_writes_are_all_counted(counted):
    _, disk = counted
    assert (disk.opened, disk.synced, disk.renamed) == (WRITES, WRITES, WRITES + 8)


KINDS = ("fsync", "half a file", "rename", "half a file stays")


@pytest.mark.parametrize(
    "number, kind",
    [
        *((1, "fsync"), (21, "half a file stays"), (33, "half a file"), (WRITES + 8, "rename")),
        *(
            pytest.param(*place, marks=pytest.mark.slow)
            for place in zip((4, 18, 24, 46, 47), (*KINDS[1:], *KINDS[2:]), strict=True)
        ),
    ],
)
def test_a_write_that_fails_costs_nothing_but_time(
    number, kind, undisturbed, tmp_path, monkeypatch, capsys
):
    out = tmp_path / "run"
    with monkeypatch.context() as patch:
        FaultyDisk(patch, number, kind)
        assert main([*SMALL, "--out", str(out), "--quiet"]) == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"error: cannot write {out}")
    if (out / "config.json").exists():
        assert resume(out) == 0
    else:  # nothing was begun, and what is left of it is not looked for in a new run
        run(out)
        assert content(out)[:4] == content(undisturbed)[:4]
        return
    assert content(out) == content(undisturbed)


@pytest.mark.by_hand
@pytest.mark.parametrize("kind", KINDS)
def test_every_write(kind, undisturbed, tmp_path, monkeypatch, capsys):
    """python -m pytest -m by_hand tests/runs/test_faults.py"""
    for number in range(1, WRITES + 1 + 8 * (kind == "rename")):
        test_a_write_that_fails_costs_nothing_but_time(
            number, kind, undisturbed, tmp_path / f"{number}", monkeypatch, capsys
        )
