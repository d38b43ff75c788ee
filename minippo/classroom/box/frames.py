"""Messages between the grader and its servers: a length, then JSON. Nothing is ever unpickled."""

import json
import os
import select
import time
from typing import Any

LARGEST = 256 << 20
DIGITS = 12


class Ended(Exception):
    """The other side has gone, is silent for too long, or says what is no message."""


def send(descriptor: int, message: Any) -> None:
    """Write a message; Ended where nobody reads."""
    data = json.dumps(message).encode("ascii")
    data = f"{len(data):0{DIGITS}d}".encode("ascii") + data
    try:
        while data:
            data = data[os.write(descriptor, data) :]
    except OSError as error:
        raise Ended("nobody reads") from error


def receive(descriptor: int, seconds: float | None = None) -> Any:
    """Read a message; Ended where there is none within so many seconds."""
    end = None if seconds is None else time.monotonic() + seconds
    try:
        length = int(exactly(descriptor, DIGITS, end))
        if not 0 <= length <= LARGEST:
            raise Ended(f"a message of {length} bytes")
        return json.loads(exactly(descriptor, length, end))
    except (ValueError, RecursionError) as error:
        raise Ended("this is no message") from error


def exactly(descriptor: int, count: int, end: float | None) -> bytes:
    """So many bytes."""
    parts = []
    while count:
        if end is not None:
            left = end - time.monotonic()
            if left <= 0 or not select.select([descriptor], [], [], left)[0]:
                raise Ended("nothing came")
        part = os.read(descriptor, min(count, 1 << 20))
        if not part:
            raise Ended("it has gone")
        parts.append(part)
        count -= len(part)
    return b"".join(parts)
