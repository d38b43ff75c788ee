"""Ctrl-C while Python is still importing: one line, and out.

An import takes seconds, and Ctrl-C in it would end in a traceback of somebody else's package, or be
lost there. So until a command takes over, it ends the process at once: there is nothing to save.
"""

import contextlib
import os
import signal
import sys
from collections.abc import Iterator
from typing import Any


def leave_at_once(*_: Any) -> None:
    """End the process as Ctrl-C ends a command: one line, exit status 130."""
    with contextlib.suppress(OSError):
        os.write(2, b"interrupted\n")
    os._exit(130)


def while_importing() -> None:
    """From here on Ctrl-C ends the process at once, and so does a reader who has left (`| head`).
    Not where whoever has started the process wants something else of either."""
    with contextlib.suppress(ValueError):  # only the main thread may say what a signal does
        if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
            signal.signal(signal.SIGINT, leave_at_once)
        if hasattr(signal, "SIGPIPE") and signal.getsignal(signal.SIGPIPE) is signal.SIG_IGN:
            signal.signal(signal.SIGPIPE, signal.SIG_DFL)


def while_working() -> None:
    """From here on Ctrl-C is a KeyboardInterrupt again, and a closed pipe an OSError."""
    if signal.getsignal(signal.SIGINT) is leave_at_once:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    if hasattr(signal, "SIGPIPE") and signal.getsignal(signal.SIGPIPE) is signal.SIG_DFL:
        with contextlib.suppress(ValueError):
            signal.signal(signal.SIGPIPE, signal.SIG_IGN)


@contextlib.contextmanager
def importing() -> Iterator[None]:
    """`while_importing` for what is in here; afterwards all is as it was, and in a process that was
    about to leave at once, where nothing is left to do, Ctrl-C is not heard any more."""
    numbers = [getattr(signal, name) for name in ("SIGINT", "SIGPIPE") if hasattr(signal, name)]
    before = {number: signal.getsignal(number) for number in numbers}
    if before[signal.SIGINT] is leave_at_once:
        before[signal.SIGINT] = signal.SIG_IGN
    while_importing()
    try:
        yield
    finally:
        with contextlib.suppress(ValueError):
            for number, handler in before.items():
                signal.signal(number, handler)


def is_being_run() -> bool:
    """Is Python looking for a module of this package, to run it: python -m minippo.NAME?"""
    return sys.argv[:1] == ["-m"]
