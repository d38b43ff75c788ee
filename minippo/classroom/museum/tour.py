"""Twelve trainings with one planted bug each: name the bug from the curves, then find the line.

    python -m minippo.classroom museum --out DIR [--seed 0]      a dashboard for each, without names
    python -m minippo.classroom museum --guess C "value after the end" [--seed 0]
    python -m minippo.classroom museum --names                   what the bugs are called
    python -m minippo.classroom museum --plant NAME DIR          a copy of the package with that bug
    python -m minippo.classroom museum --fix NAME                the fix as a diff
    python -m minippo.classroom museum --train DIR               train all of them anew, into DIR

The order of the letters follows from --seed. A copy with a bug runs where it is the first on the
path: PYTHONPATH=DIR python -m minippo.train_toy ... from another folder. Notebook 15 is about this.
"""

import os
import shlex
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from minippo.classroom.museum.bugs import BUGS, Bug
from minippo.classroom.museum.exhibits import (
    FLAGS,
    HEALTHY,
    dashboard,
    file_of,
    letters,
    record,
    said,
)
from minippo.classroom.museum.hunt import guess, names
from minippo.classroom.museum.planting import PACKAGE, bug_called, fix, plant
from minippo.commands.wrapper import Parser, command
from minippo.errors import InputError, TrainingError
from minippo.runs.figures.style import check_drawing
from minippo.runs.files import write_text_whole

PAGE = "museum.md"


def hang(out: Path, seed: int) -> None:
    """Write a dashboard for each letter, and a page with what the diagnostics said."""
    check_drawing()
    out.mkdir(parents=True, exist_ok=True)
    lines = ["# A museum of bugs", "", "Each training has one of these bugs:", ""]
    lines += [f"- {name}" for name in names()]
    for letter in letters(seed):
        dashboard(letter, seed).savefig(out / f"{letter}.png", format="png")
        lines += ["", f"## {letter}", "", f"![The curves of {letter}]({letter}.png)", ""]
        lines += [f"    {line}" for line in said(letter, seed)]
    lines += [
        "",
        f'To guess: python -m minippo.classroom museum --seed {seed} --guess A "NAME"',
        "",
    ]
    write_text_whole(out / PAGE, "\n".join(lines))
    print(f"{len(letters(seed))} trainings in {out / PAGE}")


def train_one(name: str, bug: Bug | None, out: Path, flags: Sequence[str] = FLAGS) -> Path:
    """Train with a bug, or without one, in a process of its own; returns the folder of the run."""
    run = out / name.replace(" ", "-")
    with tempfile.TemporaryDirectory() as folder:
        source = PACKAGE.parent if bug is None else plant(bug, folder)
        environment = os.environ | {"PYTHONPATH": str(source)}
        program = [sys.executable, "-m", "minippo.train_toy", *flags, "--quiet"]
        done = subprocess.run(
            [*program, "--out", os.path.abspath(run)],
            cwd=folder,
            env=environment,
            capture_output=True,
            text=True,
        )
    if done.returncode != 0:
        last = (done.stderr.strip().splitlines() or ["no word"])[-1]
        raise TrainingError(f"{name}: {shlex.join(program)} ended with {done.returncode}: {last}")
    return run


def train_all(out: Path) -> None:
    """Train the healthy one and all with a bug, and write what is kept of them beside the runs."""
    kept = out / "data"
    kept.mkdir(parents=True, exist_ok=True)
    for name, bug in ((HEALTHY, None), *((bug.name, bug) for bug in BUGS)):
        run = train_one(name, bug, out)
        record(run, kept / file_of(name).name)
        print(f"{name}: {run}", flush=True)


@command
def main(arguments: Sequence[str] | None = None) -> int:
    """The command; returns its exit status."""
    parser = Parser(prog="python -m minippo.classroom museum", description=__doc__)
    parser.add_argument("--out", metavar="DIR", help="where the dashboards go")
    parser.add_argument("--seed", type=int, default=0, help="of the order of the letters (0)")
    parser.add_argument("--guess", nargs=2, metavar=("LETTER", "NAME"), help="is it this bug?")
    parser.add_argument("--names", action="store_true", help="what the bugs are called")
    parser.add_argument(
        "--plant", nargs=2, metavar=("NAME", "DIR"), help="a copy of the package with the bug"
    )
    parser.add_argument("--fix", metavar="NAME", help="the fix of a bug as a diff")
    parser.add_argument("--train", metavar="DIR", help="train all of them anew")
    own = parser.parse_args(arguments)
    if own.guess is not None:
        answer = guess(*own.guess, seed=own.seed)
        print(f"{'right' if answer.right else 'no'}. {answer.message}")
    elif own.names:
        print("\n".join(names()))
    elif own.plant is not None:
        print(f"planted in {plant(bug_called(own.plant[0]), own.plant[1]) / 'minippo'}")
    elif own.fix is not None:
        print(fix(bug_called(own.fix)), end="")
    elif own.train is not None:
        train_all(Path(own.train))
    elif own.out is not None:
        hang(Path(own.out), own.seed)
    else:
        raise InputError("--out: name the folder for the dashboards, --out DIR")
    return 0
