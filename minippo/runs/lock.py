"""One process at a time works in the folder of a run."""

import errno
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from minippo.errors import InputError

TAKEN = (errno.EWOULDBLOCK, errno.EAGAIN, errno.EACCES)  # by whoever holds the lock


@contextmanager
def locked(path: Path, flag: str = "--out") -> Iterator[bool]:
    """While it is open no other process can work in this folder. InputError when one does already,
    with the flag that names it, if there is one; False where the system, or the file system, has no
    locks."""
    try:
        import fcntl
    except ImportError:  # not on this system
        yield False
        return
    descriptor = os.open(path, os.O_RDONLY)
    try:
        yield _lock(path, flag, lambda: fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB))
    finally:
        os.close(descriptor)


def is_locked(path: str | Path) -> bool:
    """Is a process at work in this folder? False where nobody can say."""
    with suppress(ImportError, OSError):
        import fcntl

        descriptor = os.open(path, os.O_RDONLY)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)  # let go with the descriptor
        except OSError as error:
            return error.errno in TAKEN
        finally:
            os.close(descriptor)
    return False


def _lock(path: Path, flag: str, take: Callable[[], None]) -> bool:
    try:
        take()
    except OSError as error:
        if error.errno not in TAKEN:
            return False
        named = f"{flag} {path}".lstrip()
        raise InputError(f"{named}: another process is at work in this folder") from error
    return True
