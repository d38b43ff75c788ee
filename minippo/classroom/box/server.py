"""The fork server: imports torch once, and forks a room for every student who is announced.

It is started by minippo.classroom.servers with a copy of this folder. It reads no student's file:
the keeper that it forks does, so nothing of one student is in the memory of the next.
"""

import gc
import os
import sys
import time

import torch

from minippo.classroom.box import stub  # noqa: F401  (imported before the package is forgotten)
from minippo.classroom.box.frames import Ended, exactly, receive, send
from minippo.classroom.box.keeper import keep
from minippo.classroom.box.processes import descendants, end, owned_by, private_bytes
from minippo.classroom.box.room import FIRST_USER, Limits, Room, enter
from minippo.classroom.box.walls import Walls, address_space, become, die_with_parent, fresh_folder

STUDENT = b"s"
PLANS = (  # what is tried, the best first; only root can change the user
    Walls(processes=True, network=True, files=True, user=True),
    Walls(processes=True, network=True, files=True),
    Walls(processes=True, network=True, user=True),
    Walls(processes=True, network=True),
    Walls(user=True),
)
POLL = 0.2  # seconds between two looks at the memory


def main(root: str) -> None:
    """Serve until the grader closes the pipe."""
    die_with_parent()
    incoming, outgoing = os.dup(0), os.dup(1)
    nowhere = os.open(os.devnull, os.O_RDWR)
    os.dup2(nowhere, 0)
    os.dup2(nowhere, 1)
    torch.set_num_threads(1)
    told = receive(incoming)
    warm_up(told["derivatives"])
    room = Room(
        told["jobs"],
        Limits(*told["limits"]),
        [*told["visible"], *sys.path[1:]],  # without the copy of the box
        told["hidden"],
        os.path.join(root, "root"),
        address_space(),
        FIRST_USER + os.getpid() % 100_000,
    )
    room = room._replace(walls=best_walls(room, told["walls"]))
    send(outgoing, {"walls": room.walls._asdict()})
    try:
        while exactly(incoming, 1, None) == STUDENT:
            serve(room, incoming, outgoing)
    except Ended:
        return


def warm_up(derivatives: bool) -> None:
    """Let torch do once what it does the first time, so that no child has to: what torch.func and
    torch.autograd.functional import takes seconds."""
    x = torch.ones(2, 2, requires_grad=True)
    (x.log_softmax(-1) @ x).sum().backward()
    if derivatives:
        v = torch.ones(2)
        torch.autograd.functional.hvp(cubes, v, v)
        torch.func.jvp(torch.func.grad(cubes), (v,), (v,))
    gc.collect()
    gc.freeze()


def cubes(x: torch.Tensor) -> torch.Tensor:
    """[N] -> scalar."""
    return (x**3).sum()


def best_walls(room: Room, is_wanted: bool) -> Walls:
    """The most walls that this system grants: each plan is tried in a process."""
    if is_wanted and sys.platform == "linux":
        for plan in PLANS:
            if (not plan.user or os.getuid() == 0) and works(room._replace(walls=plan)):
                return plan
    return Walls()


def works(room: Room) -> bool:
    """Can a room with these walls be entered, and is Python still there?"""
    process = os.fork()
    if process == 0:
        status = 1
        try:
            child = enter(room)
            status = works_inside(room) if child == 0 else os.waitpid(child, 0)[1]
        finally:
            os._exit(1 if status else 0)
    return os.waitpid(process, 0)[1] == 0


def works_inside(room: Room) -> int:
    """0 where an answer can work in a room, which is this process's."""
    if room.walls.files:
        fresh_folder(os.getuid(), False)
    become(room.user())
    return 0 if all(os.access(place, os.R_OK) for place in needed()) else 1


def needed() -> list[str]:
    """Files that an answer cannot do without."""
    return [str(torch.__file__), os.__file__]


def serve(room: Room, incoming: int, outgoing: int) -> None:
    """Fork the room of one student, and wait until it is done."""
    jobs = {name: job | {"processes": processes_before(room)} for name, job in room.jobs.items()}
    process = os.fork()
    if process == 0:
        status = 1
        try:
            die_with_parent()
            status = watch(room._replace(jobs=jobs), incoming, outgoing)
        finally:
            os._exit(status)
    if os.waitpid(process, 0)[1] != 0:
        send(outgoing, {"lost": True})
        raise Ended("a keeper was lost, and with it what it had not read")
    send(outgoing, {"done": True})


def processes_before(room: Room) -> int:
    """How many processes the user of the answers has already."""
    return 0 if room.walls.user else owned_by(os.getuid())


def watch(room: Room, incoming: int, outgoing: int) -> int:
    """Fork a keeper and look after the memory of what it starts; returns its exit status."""
    from_here, to_keeper = os.pipe()
    keeper = enter(room)
    if keeper == 0:
        status = 1
        try:
            keep(room, incoming, outgoing, from_here)
            status = 0
        finally:
            os._exit(status)
    base = private_bytes(keeper)
    while True:
        ended, status = wait_for(keeper, POLL)
        if ended:
            return os.waitstatus_to_exitcode(status) and 1
        started = descendants(keeper)
        if sum(max(0, private_bytes(process) - base) for process in started) > room.limits.memory:
            os.write(to_keeper, b"m")
            for process in started:
                end(process)


def wait_for(process: int, seconds: float) -> tuple[int, int]:
    """(the process or 0, its status): wait for its end, but no longer than this."""
    stop = time.monotonic() + seconds
    pause = 0.002
    while True:
        ended, status = os.waitpid(process, os.WNOHANG)
        if ended or time.monotonic() > stop:
            return ended, status
        time.sleep(pause)
        pause = min(2 * pause, 0.05)
