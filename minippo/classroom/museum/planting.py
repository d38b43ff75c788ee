"""A copy of the package with one bug in it, and the bug's fix as a diff."""

import difflib
import shutil
from pathlib import Path

from minippo.classroom.museum.bugs import BUGS, Bug
from minippo.errors import InputError

PACKAGE = Path(__file__).parents[2]
LEFT_OUT = ("__pycache__", "classroom")  # of the copy: the museum is not shown inside itself


def bug_called(name: str) -> Bug:
    """The bug of that name. InputError: there is none."""
    for bug in BUGS:
        if bug.name == name:
            return bug
    near = difflib.get_close_matches(name, [bug.name for bug in BUGS], n=1)
    meant = "".join(f"; did you mean {one!r}?" for one in near)
    raise InputError(f"no bug is called {name[:40]!r}{meant}; museum --names prints what they are")


def wrong_source(bug: Bug, file: str) -> str:
    """A file of the package with the bug in it. ValueError: the right lines are not there exactly
    once, so the package has changed and the bug must follow."""
    source = (PACKAGE / file).read_text(encoding="utf-8")
    for edit in bug.edits:
        if edit.file == file:
            if source.count(edit.right) != 1:
                raise ValueError(f"{bug.name}: {file} does not hold the right lines exactly once")
            source = source.replace(edit.right, edit.wrong)
    return source


def files_of(bug: Bug) -> list[str]:
    """The files that the bug is in."""
    return list(dict.fromkeys(edit.file for edit in bug.edits))


def plant(bug: Bug, folder: str | Path) -> Path:
    """Make folder/minippo, a copy of the package with the bug in it, and return the folder. What
    runs with that folder first on its path runs the bug. InputError: there is one already."""
    folder = Path(folder)
    target = folder / "minippo"
    if target.exists():
        raise InputError(f"{target}: is there already; name another folder")
    shutil.copytree(PACKAGE, target, ignore=shutil.ignore_patterns(*LEFT_OUT))
    for file in files_of(bug):
        (target / file).write_text(wrong_source(bug, file), encoding="utf-8")
    return folder


def fix(bug: Bug) -> str:
    """The way back as a unified diff, from wrong to right."""
    lines: list[str] = []
    for file in files_of(bug):
        wrong = wrong_source(bug, file).splitlines(keepends=True)
        right = (PACKAGE / file).read_text(encoding="utf-8").splitlines(keepends=True)
        lines += difflib.unified_diff(wrong, right, f"a/minippo/{file}", f"b/minippo/{file}", n=1)
    return "".join(lines)
