"""Grade a folder of answers: python -m minippo.classroom grade FOLDER --out DIR

FOLDER holds a file or a folder for each student: .py or .ipynb, with functions named as in the
notebooks (my_gae) or as the exercises (gae). Nobody's code is trusted: it runs in processes of its
own, on inputs from a secret seed, and is judged elsewhere. DIR gets grades.csv, a page of feedback
for each student, summary.md and summary.png, and seed.txt where no seed was given. Started again,
it takes what has not changed from DIR. docs/for-lecturers.md says what the isolation is and is not.
"""

import contextlib
import os
import secrets
import shutil
import sys
from argparse import Namespace
from collections.abc import Mapping, Sequence
from pathlib import Path

from minippo.classroom import sheets
from minippo.classroom.box.room import Limits
from minippo.classroom.grading import Graded, Plan, grade_all
from minippo.classroom.judging import NAMES, exercise_named
from minippo.classroom.servers import SANDBOXES, Sandbox
from minippo.classroom.submissions import Student, changed, read_submissions
from minippo.classroom.summary import picture, table
from minippo.commands.wrapper import Parser, command
from minippo.errors import InputError
from minippo.runs.figures.style import check_drawing
from minippo.runs.text import counted, printable

SEED = "seed.txt"
MOST_JOBS, MOST_SECONDS, LEAST_MEMORY = 64, 3600, 256


def parser() -> Parser:
    """The flags, in both spellings."""
    made = Parser(prog="python -m minippo.classroom grade", description=__doc__)
    add = made.add_argument
    add("folder", metavar="FOLDER", help="a file or a folder for each student")
    add("--out", required=True, metavar="DIR", help="where the grades go; not inside FOLDER")
    add("--seed_file", "--seed-file", metavar="F", help="any bytes, from which the cases are drawn")
    add("--exercises", nargs="+", metavar="NAME", help=f"some of {' '.join(NAMES)}; all by default")
    add("--jobs", default="2", help="how many students at once (default: 2)")
    add("--only", metavar="NAME", help="grade this student anew, and keep the other grades")
    add("--points", metavar="FILE", help="lines NAME POINTS; an exercise is worth 1 otherwise")
    add("--seconds", default="10", help="the time limit of one exercise (default: 10)")
    add("--memory", default="2048", help="the memory limit of one exercise, MiB (default: 2048)")
    add("--sandbox", choices=SANDBOXES, help="run the answers in containers; needs --image")
    add("--image", help="the container's image: one with Python and torch")
    return made


def number(flag: str, text: str, least: int, most: int) -> int:
    """A whole number of a flag."""
    if not (text.isascii() and text.isdigit() and least <= int(text[:9]) <= most):
        raise InputError(f"{flag} {text}: wanted a whole number from {least} to {most}")
    return int(text[:9])


def chosen_exercises(given: Sequence[str] | None) -> tuple[str, ...]:
    """The exercises, in the notebooks' order."""
    names = [name for word in given or NAMES for name in word.split(",") if name]
    for name in names:
        exercise_named(name)
    return tuple(name for name in NAMES if name in names)


def sandbox_of(given: Namespace) -> Sandbox | None:
    """The container that was asked for."""
    if given.sandbox is None:
        if given.image is not None:
            raise InputError("--image: there is no container without --sandbox")
        return None
    if given.image is None:
        raise InputError(f"--sandbox {given.sandbox}: name an image with torch in it, --image NAME")
    if shutil.which(given.sandbox) is None:
        raise InputError(f"--sandbox {given.sandbox}: this program is not installed")
    return Sandbox(given.sandbox, given.image)


def read_points(path: str | None, exercises: Sequence[str]) -> dict[str, float]:
    """exercise -> points, from lines NAME POINTS."""
    found: dict[str, float] = {}
    if path is None:
        return found
    try:
        lines = Path(path).read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"--points {path}: cannot be read") from error
    for count, text in enumerate(lines, start=1):
        words = text.replace(",", " ").split()
        if not words or words[0].startswith("#"):
            continue
        try:
            name, points = words[0], float(words[1])
        except (IndexError, ValueError):
            name, points = "", -1.0
        if name not in NAMES or not 0 <= points < 1e6 or len(words) != 2:
            raise InputError(f"--points {path}, line {count}: wanted an exercise and its points")
        found[name] = points
    return {name: points for name, points in found.items() if name in exercises}


def output_folder(out: str, folder: str, seed_file: str | None) -> Path:
    """The folder for the grades. Neither it nor the seed may be where the students' files are."""
    if not out:
        raise InputError("--out: the name of the folder is empty")
    inside = os.path.realpath(folder)
    for flag, path in (("--out", out), ("--seed_file", seed_file)):
        if path and (os.path.realpath(path) + os.sep).startswith(inside + os.sep):
            raise InputError(f"{flag} {path}: is inside {folder}, where the answers are")
    path = Path(out)
    try:
        path.mkdir(mode=0o700, parents=True, exist_ok=True)
        (path / sheets.FEEDBACK).mkdir(mode=0o700, exist_ok=True)
    except OSError as error:
        raise InputError(f"--out {out}: cannot be used: {error.strerror}") from error
    return path


def seed_of(out: Path, seed_file: str | None) -> bytes:
    """The bytes from which the cases are drawn: those of a file, or those of the run before, or new
    ones."""
    place = Path(seed_file) if seed_file else out / SEED
    if seed_file or place.exists():
        try:
            seed = place.read_bytes()
        except OSError as error:
            raise InputError(f"{place}: {error.strerror}") from error
        if not seed.strip():
            raise InputError(f"{place}: is empty; a seed is any bytes, as long as they are secret")
        return seed
    text = secrets.token_hex(16) + "\n"
    sheets.write_private(place, text)
    print(f"seed: {text.strip()}, kept in {place}")
    return text.encode()


class Class:
    """One grading: the students, the plan, and what is kept from before."""

    def __init__(self, students: list[Student], plan: Plan, out: Path, points: Mapping[str, float]):
        self.students, self.plan, self.out, self.points = students, plan, out, points
        self.kept = sheets.remembered(out / sheets.PROGRESS)

    def old(self, student: Student, only: str | None) -> Graded | None:
        """The grades of a student that still stand."""
        key, kept = self.kept.get(sheets.as_text(student.name), ("", None))
        is_same = key == sheets.key_of(student, self.plan)
        stands = student.name != only if only is not None else is_same
        return sheets.graded_of(student, kept) if kept is not None and stands else None

    def run(self, jobs: int, only: str | None) -> list[Graded]:
        """Grade whoever has to be graded; everything is written as it comes."""
        old = {student.name: self.old(student, only) for student in self.students}
        left = [s for s in self.students if old[s.name] is None and only in (None, s.name)]
        found: list[Graded] = []
        with (
            contextlib.closing(grade_all(self.plan, left, jobs)) as new,
            sheets.open_private(self.out / sheets.GRADES) as grades,
            sheets.open_private(self.out / sheets.PROGRESS, os.O_APPEND) as progress,
        ):
            grades.write(sheets.head(self.plan.exercises))
            for student in self.students:
                graded = old[student.name]
                if graded is None and student in left:
                    graded = next(new)
                    sheets.remember(progress, graded, sheets.key_of(student, self.plan))
                    self.tell(graded)
                if graded is not None:
                    grades.write(sheets.row(graded, self.points))
                    grades.flush()
                    found.append(graded)
            if unsafe := missing_walls(found):
                grades.write(sheets.line([f"# {unsafe}"]))
                print(unsafe)
        kept = len(found) - len(left)
        print(f"{counted(len(left), 'student')} graded, {kept} kept from before")
        return found

    def tell(self, graded: Graded) -> None:
        """A line on the screen, and the student's page."""
        right = sum(grade.status == "ok" for grade in graded.grades)
        name = printable(sheets.as_text(graded.student))
        print(f"{name}: {right} of {len(graded.grades)}", flush=True)


def missing_walls(graded: Sequence[Graded]) -> str:
    """What did not stand between the answers and this machine, in one line; "" where all did."""
    missing = {words: None for one in graded for words in one.walls.missing()}
    if not missing:
        return ""
    return f"not isolated: an answer ran where {', '.join(missing)}"


@command
def main(arguments: Sequence[str] | None = None) -> int:
    """The command; returns its exit status."""
    given = parser().parse_args(arguments)
    exercises = chosen_exercises(given.exercises)
    jobs = number("--jobs", given.jobs, 1, MOST_JOBS)
    limits = Limits(
        float(number("--seconds", given.seconds, 1, MOST_SECONDS)),
        number("--memory", given.memory, LEAST_MEMORY, 1 << 20) << 20,
    )
    if not hasattr(os, "fork"):
        raise InputError("grading needs a system with fork: Linux, macOS, or WSL on Windows")
    check_drawing()
    folder = Path(given.folder)
    students = read_submissions(folder)
    if given.only is not None and given.only not in [student.name for student in students]:
        raise InputError(f"--only {given.only}: nobody of this name is in {folder}")
    points, sandbox = read_points(given.points, exercises), sandbox_of(given)
    out = output_folder(given.out, given.folder, given.seed_file)
    seed = seed_of(out, given.seed_file)
    hidden = [given.folder, given.out, *([given.seed_file] if given.seed_file else [])]
    plan = Plan(exercises, seed, limits, tuple(map(os.path.abspath, hidden)), sandbox)
    graded = Class(students, plan, out, points).run(jobs, given.only)
    for one in graded:
        page = out / sheets.FEEDBACK / sheets.feedback_name(one.student)
        sheets.write_private(page, sheets.feedback(one, points))
    sheets.write_private(out / "summary.md", table(graded, exercises))
    sheets.write_private(out / "summary.png", picture(graded, exercises))
    print(f"{out / sheets.GRADES}: {counted(len(graded), 'student')}")
    return tell_changes(changed(students, folder))


def tell_changes(names: Sequence[str]) -> int:
    """Name the students whose files are others now; returns the exit status."""
    for name in names:
        print(
            f"{printable(sheets.as_text(name))}: changed while the answers ran; graded is what was "
            "read before the first of them",
            file=sys.stderr,
        )
    return 1 if names else 0
