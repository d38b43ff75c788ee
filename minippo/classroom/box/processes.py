"""Finding and ending processes: by session, by namespace, and by a scan of /proc."""

import contextlib
import os
import resource
import signal

PAGE = resource.getpagesize()


def parents() -> dict[int, int]:
    """process -> its parent, of all that /proc shows; empty where there is none."""
    found = {}
    with contextlib.suppress(OSError):
        for name in filter(str.isdigit, os.listdir("/proc")):
            with contextlib.suppress(OSError, ValueError, IndexError):
                found[int(name)] = int(text_of(f"/proc/{name}/stat").rpartition(")")[2].split()[1])
    return found


def descendants(process: int) -> list[int]:
    """The children of a process, theirs, and so on; not itself."""
    children: dict[int, list[int]] = {}
    for child, parent in parents().items():
        children.setdefault(parent, []).append(child)
    found, open_ends = [], [process]
    while open_ends:
        new = children.get(open_ends.pop(), [])
        found += new
        open_ends += new
    return found


def private_bytes(process: int) -> int:
    """The memory of a process that is no file's; 0 when it is gone."""
    try:
        _, resident, shared, *_ = map(int, text_of(f"/proc/{process}/statm").split())
    except (OSError, ValueError):
        return 0
    return (resident - shared) * PAGE


def owned_by(user: int) -> int:
    """How many processes and threads a user has."""
    count = 0
    for process in parents():
        with contextlib.suppress(OSError):
            if os.stat(f"/proc/{process}").st_uid == user:
                count += len(os.listdir(f"/proc/{process}/task"))
    return count


def text_of(path: str) -> str:
    with open(path, encoding="utf-8", errors="replace") as file:
        return file.read()


def end(process: int) -> None:
    """Kill a process, if it is there."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.kill(process, signal.SIGKILL)


def end_session(leader: int) -> None:
    """Kill the group of a session's leader."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(leader, signal.SIGKILL)


def end_all_children(leader: int) -> None:
    """Kill whatever an answer has left behind, and collect it.

    The first process of a namespace may signal all others at once. Elsewhere the session is
    killed, and what has left the session is found among the descendants: orphans come to the
    keeper, which has adopted them.
    """
    for _ in range(1000):
        if os.getpid() == 1:
            end(-1)
        else:
            end_session(leader)
            for process in descendants(os.getpid()):
                end(process)
        if not collected():
            return


def collected() -> bool:
    """Wait for a child that has ended or is about to; False where there is none left."""
    try:
        os.waitpid(-1, 0)
    except ChildProcessError:
        return False
    return True
