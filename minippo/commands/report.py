"""A run on one HTML page: python -m minippo.report RUN [RUN ...]

Every run ends with such a page, RUN/report.html. This makes it again, or makes that of a run that
is going on or was stopped; several runs are laid side by side, in report.html here or in --out.
The page holds all that it shows and asks the network for nothing.

Only files of the run folder are read. Nothing is imported for it: a task that is in a file of the
user's own is not needed.
"""

import math
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from minippo.algorithms import REGISTRY
from minippo.commands.config import FIELDS
from minippo.commands.wrapper import Parser, command
from minippo.errors import InputError
from minippo.runs.diagnostics import Finding, diagnose_all, never_asked
from minippo.runs.files import write_text_whole
from minippo.runs.folder import RunFolder
from minippo.runs.lock import is_locked
from minippo.runs.read import open_plain, reason
from minippo.runs.report.page import MARK, MOST_RUNS, make_page
from minippo.runs.report.read import AT_WORK, STOPPED, Files, read_files
from minippo.runs.text import counted, printable

STATES = {AT_WORK: "going on", STOPPED: "not over, and no process is at work in it"}
DEFAULT = "report.html"


def write_report(folder: RunFolder, summary: Mapping[str, Any]) -> None:
    """report.html of a run that is about to write its summary, which comes last."""
    folder.save_report(make_page([read_files(folder.path, summary)]))


def write_side_by_side(folder: RunFolder, runs: Mapping[str, Path]) -> str:
    """report.html of runs that are over, {name: folder}, in a folder that has them; returns the
    line that says where it is, or why there is none."""
    if len(runs) > MOST_RUNS:
        most = counted(MOST_RUNS, "run")
        return f"no report: it lays at most {most} side by side, and these are {len(runs)}"
    try:
        page = make_page([read_files(path)._replace(name=name) for name, path in runs.items()])
    except InputError as error:
        return f"no report: {error}"
    folder.save_report(page)
    return f"{folder.path / DEFAULT}: {counted(len(runs), 'run')} side by side"


def files_of(run: str) -> Files:
    """The Files of a run, with what its diagnostics say so far where it is not over."""
    files = read_files(run)
    if files.summary is not None:
        return files
    if is_locked(run):
        files = files._replace(state=AT_WORK)
    return files._replace(findings=findings_so_far(files, run))


def findings_so_far(files: Files, run: str) -> list[Finding]:
    """What the diagnostics say of the rows that are there."""
    try:
        algorithm, epochs, minibatches = (
            files.config[FIELDS[name][0]][name]
            for name in ("algorithm", "num_ppo_epochs", "num_mini_batches")
        )
        silent = never_asked(REGISTRY[algorithm].silent_diagnostics, steps=epochs * minibatches)
        return diagnose_all(files.rows, silent, more_to_come=True)
    except (KeyError, TypeError) as error:
        raise InputError(
            f"{run}: not a run of this version (config.json or metrics.jsonl lack {error})"
        ) from error


def so_far(files: Files) -> list[str]:
    """Lines for the screen: how far a run is that is not over, and what its page lacks."""
    lines = [files.left_out] if files.left_out else []
    updates = counted(len(files.rows), "update")
    if files.summary is None:
        lines.append(
            f"{files.name} is {STATES[files.state]}; the page shows {updates} of its policy"
        )
    elif not files.rows:
        lines.append(f"{files.name} has no metrics.jsonl any more, so the page has no curves")
    return lines


def check_place(path: Path) -> None:
    """InputError where the page would replace a file that is none, or where there is no folder for
    it."""
    if path.is_dir():
        raise InputError(f"--out {path}: is a folder; name a file")
    if os.path.lexists(path):
        with open_plain(path) as file:
            start = file.read(len(MARK))
        if start != MARK.encode():
            raise InputError(f"--out {path}: is no report, and is not written over; name another")


@command
def main(arguments: Sequence[str] | None = None) -> int:
    """The command; returns its exit status."""
    parser = Parser(prog="python -m minippo.report", description=__doc__)
    parser.add_argument("runs", nargs="+", metavar="RUN", help="the folder of a run")
    parser.add_argument(
        "--out", metavar="FILE", help="of the page (default: RUN/report.html; of several, here)"
    )
    own = parser.parse_args(arguments)
    found = [files_of(run) for run in own.runs]
    page = make_page(found)
    default = Path(own.runs[0], DEFAULT) if len(own.runs) == 1 else Path(DEFAULT)
    path = default if own.out is None else Path(own.out)
    check_place(path)
    try:
        write_text_whole(path, page)
    except OSError as error:
        raise InputError(f"--out {path}: cannot be written: {reason(error)}") from error
    for files in found:
        for line in so_far(files):
            print(printable(line))
    print(f"{path}: {math.ceil(len(page.encode()) / 1024)} KiB")
    return 0
