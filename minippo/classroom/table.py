"""The commands of the classroom: python -m minippo.classroom NAME ..."""

import importlib
import sys
from collections.abc import Sequence

from minippo.commands.wrapper import command
from minippo.errors import InputError

COMMANDS = {  # name -> the module whose main it is, and what it does
    "build": ("minippo.classroom.build", "the notebooks to hand out, and those with the answers"),
    "grade": ("minippo.classroom.grade", "grade a folder of answers; nobody's code is trusted"),
    "museum": ("minippo.classroom.museum.tour", "twelve trainings with a planted bug each"),
    "status": ("minippo.classroom.status", "which exercises of a file, notebook or folder pass"),
}


def usage() -> str:
    """The list."""
    lines = [f"  {name:10}{what}" for name, (_, what) in COMMANDS.items()]
    head = "usage: python -m minippo.classroom NAME ..."
    return "\n".join([head, "", *lines, "", "python -m minippo.classroom NAME --help says more."])


@command
def main(arguments: Sequence[str] | None = None) -> int:
    """List the commands, or run one; returns its exit status."""
    name, *rest = [*(sys.argv[1:] if arguments is None else arguments)] or ["--help"]
    if name in ("--help", "-h"):
        print(usage())
        return 0
    if name not in COMMANDS:
        raise InputError(f"{name}: there is no such command; wanted one of {', '.join(COMMANDS)}")
    return importlib.import_module(COMMANDS[name][0]).main(rest)
