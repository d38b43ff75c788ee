"""What students have handed in: a file or a folder each, read into memory before anything runs.

Nothing is followed that could lead elsewhere: a link is refused, and so is what is no plain file or
too large. Two entries of one name (anna.py and the folder anna) belong to one student.
"""

import hashlib
import os
import stat
from pathlib import Path
from typing import NamedTuple

from minippo.classroom.box.reading import File
from minippo.errors import InputError

ENDINGS = (".py", ".ipynb")
LARGEST_FILE, MOST_FILES, DEEPEST = 16 << 20, 64, 4
SKIPPED = ("__pycache__",)


class Student(NamedTuple):
    """Who handed in what: the name of the file or folder without its ending, the files that can be
    read, and what is to be said about the others."""

    name: str
    files: tuple[File, ...]
    remarks: tuple[str, ...] = ()

    def digest(self) -> str:
        """A digest of all that was handed in."""
        found = hashlib.sha256()
        for part in (self.name, *self.remarks):
            found.update(part.encode("utf-8", "surrogateescape") + b"\0")
        for file in self.files:
            name = file.name.encode("utf-8", "surrogateescape")
            found.update(b"%d %d " % (len(name), len(file.content)) + name + file.content)
        return found.hexdigest()


def read_submissions(folder: Path) -> list[Student]:
    """All students of a folder, by name. InputError where there is none."""
    try:
        entries = sorted(os.listdir(folder))
    except OSError as error:
        raise InputError(f"{folder}: {error.strerror}") from error
    students: dict[str, Student] = {}
    for entry in entries:
        if is_hidden(entry):
            continue
        read = read_student(folder / entry)
        known = students.get(read.name)
        students[read.name] = joined(known, read) if known else read
    if not students:
        raise InputError(f"{folder}: nobody has handed in anything there")
    return [students[name] for name in sorted(students)]


def is_hidden(name: str) -> bool:
    return name.startswith(".") or name in SKIPPED


def joined(one: Student, other: Student) -> Student:
    """The files of two entries of one student."""
    return Student(one.name, one.files + other.files, one.remarks + other.remarks)


def read_student(path: Path) -> Student:
    """What is at a path: a file, or a folder with files."""
    if path.is_dir() and not path.is_symlink():
        files, remarks = read_folder(path)
        return Student(path.name, tuple(files), tuple(remarks))
    name = path.stem or path.name
    if path.suffix not in ENDINGS and not path.is_symlink():
        return Student(name, (), (f"{path.name} is neither .py nor .ipynb",))
    read = read_file(path, path.name)
    return Student(name, (), (read,)) if isinstance(read, str) else Student(name, (read,))


def read_folder(path: Path) -> tuple[list[File], list[str]]:
    """(the files of a student's folder and of those in it, what is to be said about others)."""
    files: list[File] = []
    remarks: list[str] = []
    for place in walk(path, DEEPEST):
        name = str(place.relative_to(path))
        if place.is_symlink() or place.suffix in ENDINGS:
            read = read_file(place, name)
            if isinstance(read, str):
                remarks.append(read)
            elif len(files) == MOST_FILES:
                remarks.append(f"{name}: only the first {MOST_FILES} files are read")
                break
            else:
                files.append(read)
    if not files and not remarks:
        remarks.append("there is neither .py nor .ipynb in the folder")
    return files, remarks


def walk(path: Path, depth: int) -> list[Path]:
    """What is in a folder and in its folders, by name; links are not followed."""
    found: list[Path] = []
    try:
        names = sorted(os.listdir(path))
    except OSError:
        return found
    for place in (path / name for name in names if not is_hidden(name)):
        if place.is_dir() and not place.is_symlink():
            found += walk(place, depth - 1) if depth > 1 else []
        else:
            found.append(place)
    return found


def read_file(path: Path, name: str) -> File | str:
    """A file, or why it is not read."""
    if path.is_symlink():
        target = os.path.realpath(path)
        out = not target.startswith(os.path.realpath(path.parent) + os.sep)
        return f"{name} is a link{' out of the folder' if out else ''}; links are not followed"
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOFOLLOW)
    except OSError as error:
        return f"{name} cannot be read: {error.strerror}"
    with open(descriptor, "rb") as file:
        what = os.fstat(descriptor)
        if not stat.S_ISREG(what.st_mode):
            return f"{name} is no plain file"
        content = file.read(LARGEST_FILE + 1) if what.st_size <= LARGEST_FILE else None
    if content is None or len(content) > LARGEST_FILE:
        return f"{name} is larger than {LARGEST_FILE >> 20} MiB"
    return File(name, content)


def changed(before: list[Student], folder: Path) -> list[str]:
    """The students whose files are no longer those that were read."""
    try:
        now = {student.name: student.digest() for student in read_submissions(folder)}
    except InputError:
        now = {}
    then = {student.name: student.digest() for student in before}
    return sorted(name for name in {*then, *now} if then.get(name) != now.get(name))
