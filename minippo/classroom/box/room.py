"""What a server knows: the exercises' inputs, the limits, and where the walls go.

No seed, no expected value and no mistake is in it.
"""

import os
from typing import Any, NamedTuple

from minippo.classroom.box.walls import (
    WORK,
    Walls,
    adopt_orphans,
    die_with_parent,
    new_root,
    unshare_all,
)

Job = dict[str, Any]  # "functions": accepted names; "cases": inputs, plain; "gradient_of"
FIRST_USER = 1_900_000_000  # a number that belongs to nobody; one for each server


class Limits(NamedTuple):
    """Of one exercise of one student: wall time, bytes of memory, bytes of the answer."""

    seconds: float = 10.0
    memory: int = 2 << 30
    answer: int = 8 << 20


class Room(NamedTuple):
    """What a server was told, and which walls it can build."""

    jobs: dict[str, Job]
    limits: Limits
    visible: list[str]
    hidden: list[str]
    root: str  # an empty folder, over which a new root is mounted
    addresses: int  # bytes that the server itself has taken
    owner: int  # the user that answers run as, where root gives them another one
    walls: Walls = Walls()

    def user(self) -> int | None:
        """The user that answers become; None where they keep the server's."""
        return self.owner if self.walls.user else None


def enter(room: Room) -> int:
    """Fork the keeper of a room, behind its walls; returns its process id, and 0 in the keeper.

    OSError where the system refuses a wall."""
    if room.walls.processes:
        unshare_all(as_root=os.getuid() == 0)
    child = os.fork()
    if child == 0:
        die_with_parent()
        adopt_orphans()
        if room.walls.files:
            new_root(room.root, room.visible, room.hidden)
    return child


def folder_of(room: Room) -> str:
    """Where an answer works."""
    return WORK if room.walls.files else os.path.join(room.root, f"work-{os.getpid()}")
