"""Several runs at the same time, each in a process of its own.

Jobs of one lane come one after the other, since a later one begins with stages of an earlier one
(commands/sharing.py); jobs of different lanes have nothing in common, and run side by side.

Two runs with a thread each get through more of the work on two cores than one run with two threads:
models of this size leave a second thread little to do (docs/performance.md).
"""

import os
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from typing import Any

POLL = 0.1  # seconds between two looks at several processes

Process = subprocess.Popen[Any]


@dataclass(frozen=True)
class Job:
    """Something to be run. `begin` starts it, or finds that it is done and returns None."""

    name: str
    lane: int
    begin: Callable[[], Process | None]


def run_jobs(jobs: Sequence[Job], at_once: int, ended: Callable[[Job, int], None]) -> None:
    """Begin every job, at most `at_once` at a time and one of each lane, and tell `ended` the exit
    status of each.

    Whatever is raised, here, in `begin` or in `ended`: what runs is told to stop, and waited for.
    """
    waiting, running = [*jobs], {}
    try:
        while (job := next_job(waiting, running.values(), at_once)) or running:
            if job is None:
                end_first(running, ended)
                continue
            waiting.remove(job)
            if (process := job.begin()) is None:
                ended(job, 0)
            else:
                running[process] = job
    finally:
        stop([*running])


def next_job(waiting: Sequence[Job], running: Collection[Job], at_once: int) -> Job | None:
    """The first job of a lane that is free; of several lanes, the one in which most is left, so
    that no lane is worked off alone at the end. None while nothing can be begun."""
    busy = {job.lane for job in running}
    free = [job for job in waiting if job.lane not in busy]
    if not free or len(running) >= at_once:
        return None
    left = Counter(job.lane for job in free)
    return free[0] if at_once == 1 else max(free, key=lambda job: left[job.lane])


def end_first(running: dict[Process, Job], ended: Callable[[Job, int], None]) -> None:
    """Waits until some of the processes have ended, and takes them out."""
    if len(running) == 1:
        next(iter(running)).wait()
    while not (done := [process for process in running if process.poll() is not None]):
        time.sleep(POLL)
    for process in done:
        ended(running.pop(process), process.returncode)


def stop(processes: Sequence[Process]) -> None:
    """Each run ends with the update that it is in. At a terminal it has heard of Ctrl-C too."""
    if sys.stdin is None or not sys.stdin.isatty():
        for process in processes:
            process.send_signal(signal.SIGINT)
    for process in processes:
        process.wait()


def cores() -> int:
    """How many this process may use."""
    try:
        return len(os.sched_getaffinity(0))
    except AttributeError:  # not on every system
        return os.cpu_count() or 1
