"""One answer to one exercise, in a process of its own: the student's file is executed, the function
is called on inputs, and what it returned is written to a pipe."""

import json
import os
import re
import sys
from collections.abc import Sequence
from typing import Any

from minippo.classroom.box.reading import File, Loaded, function_named, load, said
from minippo.classroom.box.room import Job, Room
from minippo.classroom.box.stub import Stub, forget_the_package
from minippo.classroom.box.walls import PROCESSES, become, die_with_parent, limit
from minippo.exercises import observe

ANSWER = 3  # the only descriptor that is open, beside the three that lead nowhere
ENVIRONMENT = {
    "PATH": "/usr/bin:/bin",
    "LANG": "C.UTF-8",
    "PYTHONHASHSEED": "0",
    "USER": "student",
    "LOGNAME": "student",
    "OMP_NUM_THREADS": "1",
    "MPLBACKEND": "agg",
    "MPLCONFIGDIR": ".",
}


def run_answer(room: Room, job: Job, files: Sequence[File], folder: str, pipe: int) -> None:
    """What the process does, from its first line to its last; it does not return."""
    os.setsid()
    close_all_but(pipe)
    os.chdir(folder)
    already = job["processes"]
    limits = room.limits
    limit(limits.seconds, room.addresses + limits.memory, already + PROCESSES)
    become(room.user())
    die_with_parent()
    os.environ.clear()
    os.environ.update(ENVIRONMENT, HOME=folder, TMPDIR=folder)
    copy = os.path.dirname(room.root) + "/copy"
    sys.path[:] = [folder, *(place for place in sys.path if place != copy)]
    sys.argv = ["submission"]
    forget_the_package()
    try:
        text = json.dumps(answer_of(job, files))
    except BaseException as error:  # SystemExit, and whatever a student's code leaves behind
        text = json.dumps({"raised": said(error)})
    data = text.encode("ascii")
    while data:
        data = data[os.write(ANSWER, data) :]
    os._exit(0)


def close_all_but(pipe: int) -> None:
    """Input and output lead nowhere, the pipe is ANSWER, and nothing else is open."""
    nowhere = os.open(os.devnull, os.O_RDWR)
    pipe = os.dup(pipe) if pipe <= ANSWER else pipe
    for descriptor in (0, 1, 2):
        os.dup2(nowhere, descriptor)
    os.dup2(pipe, ANSWER)
    os.closerange(ANSWER + 1, 1024)


def answer_of(job: Job, files: Sequence[File]) -> dict[str, Any]:
    """What the function of an exercise returns on its cases, in a plain form."""
    cases = observe.from_plain(job["cases"])
    for file in files:
        if file.name.endswith(".py"):
            with open(os.path.basename(file.name), "wb") as copy:
                copy.write(file.content)
    loaded: list[tuple[str, Loaded]] = []
    for file in files:
        if mentions(file, job["functions"]):
            loaded.append((file.name, load(file)))
    function, remarks = function_named(loaded, job["functions"], lambda value: type(value) is Stub)
    remarks = [remark for _, one in loaded for remark in one.remarks] + remarks
    if function is None:
        return {"missing": job["functions"], "remarks": remarks}
    try:
        observations = observe.observe(function, cases, job["gradient_of"])
    except BaseException as error:  # sys.exit() in the function
        return {"raised": said(error), "remarks": remarks}
    return {"observations": observe.to_plain(observations), "remarks": remarks}


def mentions(file: File, functions: Sequence[str]) -> bool:
    """Is one of the names in a file? What does not have it need not run. UTF-16 has a 0 in every
    other place."""
    content = file.content.replace(b"\0", b"")
    names = "|".join(map(re.escape, functions)).encode()
    return re.search(rb"(?<!\w)(?:" + names + rb")(?!\w)", content) is not None
