"""Runs at the same time: how many, of which lanes, and what Ctrl-C does to them."""

import signal
import subprocess
import sys
from functools import partial

import pytest

from minippo.commands.side_by_side import Job, cores, next_job, run_jobs

SLEEPS = "import time\ntime.sleep(60)"


class Stages:
    """Processes that end when they are looked at for the n-th time; keeps who ran beside whom."""

    def __init__(self):
        self.running, self.beside = set(), []

    def job(self, name, lane, looks=2, status=0):
        return Job(name, lane, lambda: self.start(name, looks, status))

    def start(self, name, looks, status):
        self.running.add(name)
        self.beside.append(frozenset(self.running))
        return Process(self, name, looks, status)


class Process:
    def __init__(self, stages, name, looks, status):
        self.stages, self.name, self.looks, self.status = stages, name, looks, status
        self.returncode, self.signals = None, []

    def poll(self):
        self.looks -= 1
        return self.wait() if self.looks <= 0 else None

    def wait(self):
        self.stages.running.discard(self.name)
        self.returncode = self.status
        return self.status

    def send_signal(self, number):
        self.signals.append(number)


@pytest.fixture(autouse=True)
def no_sleep(monkeypatch):
    monkeypatch.setattr("minippo.commands.side_by_side.POLL", 0.0)


def test_one_at_a_time_is_one_after_the_other_in_their_order():
    stages, seen = Stages(), []
    jobs = [stages.job(f"{lane}{i}", lane) for lane in (0, 1) for i in "ab"]
    run_jobs(jobs, 1, lambda job, status: seen.append((job.name, status)))
    assert seen == [("0a", 0), ("0b", 0), ("1a", 0), ("1b", 0)]
    assert all(len(beside) == 1 for beside in stages.beside)


def test_never_two_of_a_lane_and_never_more_than_wanted():
    stages, seen = Stages(), []
    jobs = [
        stages.job((lane, i), lane, looks=1 + (lane + i) % 3)
        for lane in range(5)
        for i in "12"
        for i in [int(i)]
    ]
    run_jobs(jobs, 3, lambda job, status: seen.append(job.name))
    assert sorted(seen) == sorted(job.name for job in jobs)
    assert max(map(len, stages.beside)) == 3
    for beside in stages.beside:
        assert len({lane for lane, _ in beside}) == len(beside)
    for lane in range(5):  # of one lane in their order
        assert [i for found, i in seen if found == lane] == [1, 2]


def test_the_longest_lane_is_not_left_to_the_end():
    """Three lanes of two jobs, two at once: six jobs in three pairs, and none alone."""
    stages = Stages()
    jobs = [stages.job((lane, i), lane, looks=1) for lane in range(3) for i in range(2)]
    run_jobs(jobs, 2, lambda job, status: None)
    assert stages.beside[1::2] == [frozenset(pair) for pair in stages.beside[1::2]]
    assert [len(beside) for beside in stages.beside] == [1, 2] * 3


def test_a_job_of_a_busy_lane_waits():
    a, b, c = (Job(name, lane, lambda: None) for name, lane in (("a", 0), ("b", 0), ("c", 1)))
    assert next_job([b, c], [a], 2) is c
    assert next_job([b], [a], 2) is None
    assert next_job([], [], 2) is None


def test_what_is_done_counts_and_the_status_is_told():
    stages, seen = Stages(), []
    jobs = [Job("done", 0, lambda: None), stages.job("fails", 1, status=3)]
    run_jobs(jobs, 2, lambda job, status: seen.append((job.name, status)))
    assert sorted(seen) == [("done", 0), ("fails", 3)]


@pytest.mark.parametrize("terminal, heard", [(False, [signal.SIGINT]), (True, [])])
def test_ctrl_c_stops_all_that_run_and_begins_nothing_more(monkeypatch, terminal, heard):
    stages, begun = Stages(), []

    def begin(name, looks):
        begun.append(stages.start(name, looks, 0))
        return begun[-1]

    def ended(job, status):
        raise KeyboardInterrupt

    monkeypatch.setattr("sys.stdin", type("In", (), {"isatty": lambda self: terminal})())
    jobs = [
        Job(name, lane, lambda n=name, k=looks: begin(n, k))
        for lane, (name, looks) in enumerate([("short", 1), ("long", 99), ("later", 1)])
    ]
    with pytest.raises(KeyboardInterrupt):
        run_jobs(jobs, 2, ended)
    assert [process.name for process in begun] == ["short", "long"]
    assert begun[1].signals == heard and begun[1].returncode == 0  # waited for


@pytest.mark.slow
def test_real_processes_are_told_and_waited_for(monkeypatch):
    monkeypatch.setattr("sys.stdin", None)
    monkeypatch.setattr("minippo.commands.side_by_side.POLL", 0.05)
    begun = []

    def begin(code):
        hears = partial(signal.signal, signal.SIGINT, signal.SIG_DFL)  # where it was ignored before
        begun.append(subprocess.Popen([sys.executable, "-c", code], preexec_fn=hears))
        return begun[-1]

    def ended(job, status):
        raise KeyboardInterrupt

    jobs = [Job("short", 0, lambda: begin("")), Job("long", 1, lambda: begin(SLEEPS))]
    with pytest.raises(KeyboardInterrupt):
        run_jobs(jobs, 2, ended)
    assert begun[0].returncode == 0
    assert begun[1].returncode not in (None, 0)  # by the signal, however far it had come


def test_the_cores_of_this_process():
    assert cores() >= 1
