"""Which folder a run gets: a new one of its own name, or the one that the user names, if it is
free."""

import contextlib
import itertools
import os
from pathlib import Path

from minippo.errors import InputError
from minippo.runs.files import temporary_beside
from minippo.runs.read import reason, refuse_links

MARKS_OF_A_RUN = ("config.json", "summary.json", "metrics.jsonl", "checkpoints")


def new_folder(root: Path, name: str) -> Path:
    """Make root/name, or the first of name-2, name-3 ... that is free.

    mkdir itself says whether a name is taken: two runs that start at once get two folders.
    """
    try:
        root.mkdir(parents=True, exist_ok=True)
        paths = itertools.chain((root / name,), (root / f"{name}-{n}" for n in itertools.count(2)))
        return next(path for path in paths if _made(path))
    except OSError as error:
        raise InputError(
            f"no run folder can be made in {root}: {reason(error)}; name a place with --out"
        ) from error


def _made(path: Path) -> bool:
    """Make a folder; False where the name is taken."""
    try:
        path.mkdir()
    except FileExistsError:
        return False
    return True


def named_folder(out: str | Path, resume: bool) -> Path:
    """Make the folder that the user named, or take it when it is empty, or when its run is to be
    resumed."""
    if not str(out):
        raise InputError("--out: the name of the folder is empty")
    path = Path(out)
    try:
        path.mkdir(parents=True, exist_ok=True)
        names = [
            name
            for name in os.listdir(path)
            if not (name.startswith(".") and name.endswith(".tmp"))
        ]
    except FileExistsError as error:
        raise InputError(f"--out {path}: exists and is not a folder") from error
    except OSError as error:
        raise InputError(f"--out {path}: cannot be used: {reason(error)}") from error
    holds_a_run = any(mark in names for mark in MARKS_OF_A_RUN)
    if holds_a_run and not resume:
        raise InputError(
            f"--out {path}: holds a run already; name another folder, nothing was written over"
        )
    if names and not holds_a_run:
        raise InputError(
            f"--out {path}: is not empty; name another folder, nothing was written over"
        )
    if resume and not holds_a_run:
        raise InputError(f"--resume: {path} holds no run; leave --resume out to start one there")
    refuse_links(path / "checkpoints", path / "figures")
    return path


def check_writable(path: Path, what: str) -> None:
    """Find out now, not after minutes of training. Only a real write can tell: rights, quotas,
    read-only disks."""
    probe = temporary_beside(path / "probe")
    try:
        probe.write_bytes(b"can this be written?")
        probe.unlink()
    except OSError as error:
        with contextlib.suppress(OSError):
            probe.unlink(missing_ok=True)
        raise InputError(f"{what} {path}: cannot be written: {reason(error)}") from error
