"""Ctrl-C, heard at the end of an update and not in the middle of one."""

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from minippo.runs.screen import Screen


class Asked:
    """Has the user asked to stop? False until the first Ctrl-C."""

    def __init__(self) -> None:
        self.yes = False

    def __bool__(self) -> bool:
        return self.yes


@contextmanager
def asked_to_stop(screen: Screen) -> Iterator[Asked]:
    """Yields an Asked, true after a first Ctrl-C; a second one interrupts at once."""
    asked = Asked()

    def handler(*_: Any) -> None:
        asked.yes = True
        signal.signal(signal.SIGINT, signal.default_int_handler)
        screen.note("stopping after this update; once more to stop at once")

    try:
        before = signal.signal(signal.SIGINT, handler)
    except ValueError:  # only the main thread may say what a signal does
        yield asked
        return
    try:
        yield asked
    finally:
        signal.signal(signal.SIGINT, before)
