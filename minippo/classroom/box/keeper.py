"""The keeper of a room: runs a student's answers one after the other, each in a process that it
watches and ends.

Between two exercises everything that is left of the first is killed, and the folder is a new one.
The keeper never executes anything of a student's.
"""

import base64
import contextlib
import os
import select
import shutil
import stat
import time
from collections.abc import Sequence
from typing import Any, NamedTuple

from minippo.classroom.box.child import run_answer
from minippo.classroom.box.frames import receive, send
from minippo.classroom.box.processes import end_all_children
from minippo.classroom.box.reading import File
from minippo.classroom.box.room import Job, Room, folder_of
from minippo.classroom.box.walls import fresh_folder

PATIENCE, SHORTER = 3, 5  # after so many timeouts of a student, the limit is that much shorter


class Ending(NamedTuple):
    """How a process ended: "answered", "timeout", "memory", "killed", "too long" or "silent"; what
    it had written."""

    how: str
    text: str = ""


def keep(room: Room, incoming: int, outgoing: int, note: int) -> None:
    """Take a student's files from one descriptor, and write how each exercise went to another. What
    the watcher has killed for its memory is told by a byte in `note`."""
    message = receive(incoming)
    files = [File(name, base64.b64decode(content)) for name, content in message["files"]]
    timeouts = 0
    for number, name in enumerate(message["exercises"]):
        started = time.monotonic()
        if timeouts == PATIENCE:
            shorter = room.limits.seconds / SHORTER
            room = room._replace(limits=room.limits._replace(seconds=shorter))
        ending = one_answer(room, {**room.jobs[name]}, files, number > 0, note)
        seconds = time.monotonic() - started
        timeouts += ending.how == "timeout"
        send(outgoing, {"exercise": name, "seconds": seconds, **ending._asdict()})


def one_answer(room: Room, job: Job, files: Sequence[File], is_used: bool, note: int) -> Ending:
    """Run the answer to one exercise in a new process and a new folder."""
    folder = empty_folder(room, is_used)
    from_answer, to_keeper = os.pipe()
    process = os.fork()
    if process == 0:
        try:
            run_answer(room, job, files, folder, to_keeper)
        finally:
            os._exit(1)
    os.close(to_keeper)
    try:
        return gather(room, process, from_answer, note)
    finally:
        os.close(from_answer)
        end_all_children(process)
        if not room.walls.files:
            remove_folder(folder)


def empty_folder(room: Room, is_used: bool) -> str:
    """The folder of an answer, new and empty."""
    folder, user = folder_of(room), room.user()
    owner = os.getuid() if user is None else user
    if room.walls.files:
        fresh_folder(owner, is_used)
    else:
        os.mkdir(folder, 0o700)
        if user is not None:
            os.chown(folder, owner, owner)
    return folder


def remove_folder(folder: str) -> None:
    """Remove what an answer may have filled, folders without permissions included."""
    for parent, folders, _ in os.walk(folder):
        paths = [os.path.join(parent, name) for name in folders]
        for path in (path for path in paths if not os.path.islink(path)):
            with contextlib.suppress(OSError):
                os.chmod(path, stat.S_IRWXU)
    shutil.rmtree(folder, ignore_errors=True)


def gather(room: Room, process: int, pipe: int, note: int) -> Ending:
    """Read what a process writes until it ends, says too much, or takes too long."""
    end = time.monotonic() + room.limits.seconds
    parts, size, is_open, pause = [], 0, True, 0.001
    while True:
        left = end - time.monotonic()
        if left <= 0:
            return Ending("timeout")
        wait = min(left, 0.02 if is_open else pause)
        if is_open and select.select([pipe], [], [], wait)[0]:
            part = os.read(pipe, 1 << 16)
            parts.append(part)
            size, is_open = size + len(part), bool(part)
            if size > room.limits.answer:
                return Ending("too long")
            if is_open:
                continue
        ended, status = os.waitpid(process, os.WNOHANG)
        if ended:
            parts += rest_of(pipe)
            return judged(status, b"".join(parts), note)
        if not is_open:
            time.sleep(pause)
            pause = min(2 * pause, 0.02)


def rest_of(pipe: int) -> list[bytes]:
    """What a process had written before it ended; others may still hold the pipe open."""
    os.set_blocking(pipe, False)
    try:
        return [os.read(pipe, 1 << 20)]
    except BlockingIOError:
        return []


def judged(status: int, data: bytes, note: int) -> Ending:
    """What the exit status of a process says."""
    if os.WIFSIGNALED(status):
        number = os.WTERMSIG(status)
        if number == 24:  # SIGXCPU
            return Ending("timeout")
        return Ending("memory" if number == 9 and was_noted(note) else "killed", f"signal {number}")
    return Ending("answered", data.decode("utf-8", errors="replace")) if data else Ending("silent")


def was_noted(note: int) -> bool:
    """Has the watcher killed something since the last time?"""
    if not select.select([note], [], [], 0)[0]:
        return False
    os.read(note, 1 << 10)
    return True


def message_of(files: Sequence[File], exercises: Sequence[str]) -> dict[str, Any]:
    """What `keep` is sent."""
    plain = [(file.name, base64.b64encode(file.content).decode("ascii")) for file in files]
    return {"files": plain, "exercises": [*exercises]}
