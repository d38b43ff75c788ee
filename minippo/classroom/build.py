"""The notebooks with an exercise, ready to hand out: python -m minippo.classroom build --out DIR

DIR/student/ has the notebooks with stubs, with the questions unanswered and with checks that know
numbers only (checks.json): they work where minippo is installed without minippo.exercises.
DIR/lecturer/ has the same notebooks with the right answers' source and the questions' answers. A
check in a student's own kernel teaches and gives no marks; `grade` does, and so does the autograder
in DIR/gradescope.zip, of --format gradescope. --format nbgrader makes the folder of a course. DIR
is written whole or not at all, and the same command gives the same bytes. docs/for-lecturers.md
says more.
"""

import contextlib
import hashlib
import json
import os
import shutil
from argparse import Namespace
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from minippo.classroom.grade import chosen_exercises, read_points, seed_of
from minippo.classroom.gradescope import archive
from minippo.classroom.handout import (
    BESIDE,
    FOLDER,
    Notebook,
    as_file,
    lecturer_cells,
    notebooks,
    student_cells,
)
from minippo.classroom.nbgrader import course
from minippo.classroom.recording import checks_files
from minippo.commands.wrapper import Parser, command
from minippo.errors import InputError
from minippo.runs.files import temporary_beside
from minippo.runs.text import counted

Files = Mapping[str, bytes]  # name -> content
LIST = "files.json"  # what has been written to a folder, so that it may be written again
MADE_BY = "python -m minippo.classroom build"
CACHES = ("__pycache__", ".ipynb_checkpoints")
FOR_STUDENTS = """# Notebooks

    jupyter lab

in this folder, where minippo is installed. Write the function that a notebook asks for, and run
the cell below it: it compares your function with numbers in `checks.json`, values and gradients,
and names the mistake if it knows it. `exercise.hint()` helps. These checks are there to learn from;
they are not the ones that give marks.
"""
FOR_LECTURERS = """# Notebooks with the answers

Keep this folder to yourself. The exercises hold the right answer, and below each question its
answer is folded. What students get is in the folder `student`.
"""


def notebooks_format(chosen: Sequence[Notebook], given: Namespace) -> Files:
    """The folders student and lecturer."""
    beside = (FOLDER / BESIDE).read_bytes()
    files = {f"{folder}/{BESIDE}": beside for folder in ("student", "lecturer")}
    for one in chosen:
        files[f"student/{one.file}"] = as_file(student_cells(one))
        files[f"lecturer/{one.file}"] = as_file(lecturer_cells(one))
    checks = checks_files([one.exercise for one in chosen])
    files |= {f"student/{name}": content for name, content in checks.items()}
    files["student/README.md"] = FOR_STUDENTS.encode()
    files["lecturer/README.md"] = FOR_LECTURERS.encode()
    return files


def gradescope_format(chosen: Sequence[Notebook], given: Namespace) -> Files:
    """The zip of an autograder."""
    names = [one.exercise for one in chosen]
    seed = None if given.seed_file is None else seed_of(Path(), given.seed_file)
    return {"gradescope.zip": archive(names, read_points(given.points, names), seed)}


def nbgrader_format(chosen: Sequence[Notebook], given: Namespace) -> Files:
    """The folder of a course."""
    points = read_points(given.points, [one.exercise for one in chosen])
    return course(chosen, points, {BESIDE: (FOLDER / BESIDE).read_bytes()})


FORMATS: dict[str, Callable[[Sequence[Notebook], Namespace], Files]] = {
    "notebooks": notebooks_format,
    "nbgrader": nbgrader_format,
    "gradescope": gradescope_format,
}
ONLY_FOR = {"seed_file": ("gradescope",), "points": ("gradescope", "nbgrader")}  # flag -> formats


def parser() -> Parser:
    """The flags."""
    made = Parser(prog="python -m minippo.classroom build", description=__doc__)
    add = made.add_argument
    add("--out", required=True, metavar="DIR", help="a new folder, or one that this command made")
    add("--format", choices=FORMATS, default="notebooks", help="for whom (default: notebooks)")
    add("--exercises", nargs="+", metavar="NAME", help="the notebooks of these; all by default")
    add("--seed_file", "--seed-file", metavar="F", help="gradescope: any bytes, for the cases")
    add("--points", metavar="FILE", help="gradescope, nbgrader: lines NAME POINTS; 1 otherwise")
    return made


def refuse_flags_of_others(given: Namespace) -> None:
    """InputError where a flag has no meaning for the format."""
    for flag, formats in ONLY_FOR.items():
        if getattr(given, flag) is not None and given.format not in formats:
            names = " or ".join(formats)
            raise InputError(f"--{flag}: is for --format {names}; leave it out with {given.format}")


def write_whole(out: Path, files: Files) -> None:
    """Write a folder with these files and a list of them. InputError where something else is in the
    folder, or where it cannot be written; then it is as it was."""
    refuse_what_is_not_ours(out)
    digests = {name: hashlib.sha256(files[name]).hexdigest() for name in sorted(files)}
    listed = json.dumps({"made by": MADE_BY, "files": digests}, indent=1) + "\n"
    new, old = temporary_beside(out), temporary_beside(out)
    try:
        for name, content in {**files, LIST: listed.encode()}.items():
            place = new / name
            place.parent.mkdir(parents=True, exist_ok=True)
            place.write_bytes(content)
        if out.exists():
            os.rename(out, old)
        os.rename(new, out)
    except OSError as error:
        raise InputError(f"--out {out}: cannot be written: {error.strerror}") from error
    finally:
        if old.exists() and not out.exists():
            os.rename(old, out)
        for left in (new, old):
            shutil.rmtree(left, ignore_errors=True)


def refuse_what_is_not_ours(out: Path) -> None:
    """InputError unless the folder is new, empty, or as this command has left it."""
    if not os.path.lexists(out):
        return
    if not out.is_dir():
        raise InputError(f"--out {out}: is no folder")
    known: dict[str, str] = {}
    with contextlib.suppress(OSError, ValueError, KeyError, TypeError):
        listed = json.loads((out / LIST).read_text(encoding="utf-8"))
        known = listed["files"] if listed["made by"] == MADE_BY else {}
    for path in sorted(out.rglob("*")):
        name = path.relative_to(out).as_posix()
        if path.is_dir() and not path.is_symlink() or set(CACHES) & set(path.parts):
            continue
        if name == LIST and known:
            continue
        if name not in known:
            raise InputError(
                f"--out {out}: holds {name}, which is not of this command; take another"
            )
        if hashlib.sha256(path.read_bytes()).hexdigest() != known[name]:
            raise InputError(f"--out {out}: {name} was changed since; take another folder")


@command
def main(arguments: Sequence[str] | None = None) -> int:
    """The command; returns its exit status."""
    given = parser().parse_args(arguments)
    if not given.out:
        raise InputError("--out: the name of the folder is empty")
    refuse_flags_of_others(given)
    out = Path(os.path.realpath(given.out))
    refuse_what_is_not_ours(out)
    names = None if given.exercises is None else chosen_exercises(given.exercises)
    chosen = notebooks(FOLDER, names)
    write_whole(out, FORMATS[given.format](chosen, given))
    print(f"{given.out}: {counted(len(chosen), 'notebook')}, format {given.format}")
    return 0
