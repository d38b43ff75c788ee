"""What a grading leaves behind: grades.csv, a page of feedback for each student, and graded.jsonl,
from which a later run takes what has not changed.

All of them are for the lecturer alone (mode 600). grades.csv has neither times nor paths in it.
"""

import csv
import hashlib
import io
import json
import os
from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path
from typing import IO, Any

import minippo
from minippo.classroom.box.walls import Walls
from minippo.classroom.grading import Graded, Plan
from minippo.classroom.judging import STATUSES, Grade
from minippo.classroom.submissions import Student
from minippo.errors import InputError, TrainingError
from minippo.runs.text import printable

GRADES, PROGRESS, FEEDBACK = "grades.csv", "graded.jsonl", "feedback"
FORMULA = ("=", "+", "-", "@", "\t", "\r")
LONGEST_NAME = 200  # bytes of a file's name


def descriptor_of(path: Path, how: int) -> int:
    """A file for its owner alone, opened for writing; a link in its place is not followed."""
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_NOFOLLOW | how, 0o600)
        os.fchmod(descriptor, 0o600)
    except OSError as error:
        raise InputError(f"{path}: {error.strerror}") from error
    return descriptor


def open_private(path: Path, how: int = os.O_TRUNC) -> IO[str]:
    """The same as a text file; `how` is O_TRUNC or O_APPEND."""
    return open(
        descriptor_of(path, how), "w", encoding="utf-8", newline="", errors="backslashreplace"
    )


def write_private(path: Path, content: str | bytes) -> None:
    """The same, with its content."""
    data = content if isinstance(content, bytes) else content.encode("utf-8", "backslashreplace")
    try:
        with open(descriptor_of(path, os.O_TRUNC), "wb") as file:
            file.write(data)
    except OSError as error:
        raise TrainingError(f"{path}: {error.strerror}") from error


# -- the table


def harmless(cell: str) -> str:
    """A cell that no spreadsheet takes for a formula, on one line."""
    cell = printable(as_text(cell))
    return f"'{cell}" if cell.startswith(FORMULA) else cell


def as_text(name: str) -> str:
    """A name that can be written: bytes that are no UTF-8 become escapes."""
    return name.encode("utf-8", "backslashreplace").decode()


def line(cells: Sequence[str]) -> str:
    """One line of the table."""
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerow(map(harmless, cells))
    return text.getvalue()


def head(exercises: Sequence[str]) -> str:
    """The first line."""
    names = [f"{name}{of}" for name in exercises for of in ("", "_status", "_mistake")]
    return line(["student", *names, "total"])


def row(graded: Graded, points: Mapping[str, float]) -> str:
    """The line of a student."""
    cells = [graded.student]
    for grade in graded.grades:
        cells += [str(int(grade.status == "ok")), grade.status, grade.mistake]
    return line([*cells, f"{total(graded, points):g}"])


def total(graded: Graded, points: Mapping[str, float]) -> float:
    """The points of a student."""
    return sum(points.get(g.exercise, 1.0) for g in graded.grades if g.status == "ok")


# -- the feedback


def feedback_name(student: str) -> str:
    """The name of a student's page; where the name cannot be kept, a digest tells them apart."""
    name = printable(as_text(student)).replace("/", "_")
    if name != student or len(name.encode()) > LONGEST_NAME:
        digest = hashlib.sha256(student.encode("utf-8", "surrogateescape")).hexdigest()[:8]
        name = name.encode()[:LONGEST_NAME].decode(errors="ignore") + f"-{digest}"
    return name + ".md"


def feedback(graded: Graded, points: Mapping[str, float]) -> str:
    """The page of a student."""
    most = sum(points.get(grade.exercise, 1.0) for grade in graded.grades)
    lines = [
        f"# {escape(printable(as_text(graded.student)))}",
        "",
        f"{total(graded, points):g} of {most:g} points.",
    ]
    for grade in graded.grades:
        mistake = f" ({grade.mistake})" if grade.mistake else ""
        lines += ["", f"## {grade.exercise}: {grade.status}{mistake}", ""]
        lines += [f"    {text}" for text in grade.message.split("\n")]
    if graded.remarks:
        lines += ["", "## About the files", ""]
        lines += [f"    {text}" for remark in graded.remarks for text in remark.split("\n")]
    return "\n".join(lines) + "\n"


# -- what a later run needs


def key_of(student: Student, plan: Plan) -> str:
    """A digest of all that a student's grades depend on."""
    seed = hashlib.sha256(plan.seed or b"").hexdigest()
    parts = [minippo.__version__, seed, plan.exercises, plan.limits, student.digest()]
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()


def remember(file: IO[str], graded: Graded, key: str) -> None:
    """Append a student's grades."""
    grades = [grade._asdict() for grade in graded.grades]
    kept = {"student": as_text(graded.student), "key": key, "grades": grades}
    file.write(json.dumps(kept | {"remarks": graded.remarks, "walls": graded.walls}) + "\n")
    file.flush()


def remembered(path: Path) -> dict[str, tuple[str, Any]]:
    """student -> (key, what was kept), of the lines that are whole."""
    found = {}
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError):
        return {}
    for text in lines:
        try:
            kept = json.loads(text)
            found[kept["student"]] = (kept["key"], kept)
        except (ValueError, KeyError, TypeError):  # the line at which a run was stopped
            continue
    return found


def graded_of(student: Student, kept: Any) -> Graded | None:
    """What was kept of a student; None where it is not what `remember` writes."""
    try:
        grades = tuple(Grade(**grade) for grade in kept["grades"])
        if not all(grade.status in STATUSES for grade in grades):
            return None
        return Graded(student.name, grades, tuple(kept["remarks"]), Walls(*kept["walls"]))
    except (KeyError, TypeError):
        return None
