"""Folders of files that are whole or not there, with a seal that shows damage.

A checkpoint is a folder. It is filled under a temporary name and then renamed, so a kill at any
moment leaves the old one or the new one. Its last file, sha256.json, holds a digest of each of the
others: a file that was cut off, changed or mixed up with another run's is noticed before a number
is read from it.
"""

import contextlib
import hashlib
import os
import re
import shutil
from collections.abc import Iterator
from pathlib import Path

from minippo.errors import InputError
from minippo.runs.files import temporary_beside, write_json
from minippo.runs.read import open_plain, read_json, refuse_links

SEAL = "sha256.json"
PLAIN_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")  # leads nowhere else
UPDATE = re.compile(r"update-([0-9]{7})")


@contextlib.contextmanager
def whole_folder(path: Path) -> Iterator[Path]:
    """Fill a temporary folder; it is sealed and takes the name `path` when all went well, and is
    removed when not.

    A folder cannot be renamed onto another that is not empty: an older one steps aside first, and
    comes back when the new one fails to take its place.
    """
    temporary, aside = temporary_beside(path), temporary_beside(path)
    try:
        temporary.mkdir()
        yield temporary
        write_json(
            temporary / SEAL, {file.name: digest(file) for file in sorted(temporary.iterdir())}
        )
        if os.path.lexists(path):
            os.replace(path, aside)
        os.replace(temporary, path)
    except BaseException:
        if os.path.lexists(aside) and not os.path.lexists(path):
            os.rename(aside, path)
        raise
    finally:
        remove(temporary)
        if os.path.lexists(path):
            remove(aside)


def link_folder(source: Path, path: Path) -> None:
    """The sealed files of one folder in another: linked, since nobody writes into a file that is
    there; copied where there are no links."""
    with whole_folder(path) as temporary:
        for name in read_json(source / SEAL):
            try:
                os.link(source / name, temporary / name)
            except OSError:
                shutil.copyfile(source / name, temporary / name)


def remove(path: str | Path) -> None:
    """Remove a file, a folder with all in it, or a link and nothing behind it; what cannot be
    removed stays."""
    # Recursion: folders in folders, a thousand deep
    with contextlib.suppress(OSError, RecursionError):
        shutil.rmtree(path) if os.path.isdir(path) and not os.path.islink(path) else os.unlink(path)


def digest(path: Path) -> str:
    """The SHA-256 of a plain file."""
    state = hashlib.sha256()
    with open_plain(path) as file:
        while block := file.read(2**20):
            state.update(block)
    return state.hexdigest()


def check_seal(path: Path, *names: str) -> None:
    """Refuse a checkpoint without these files, or with one that is not as it was written.
    InputError names the file."""
    refuse_links(path.parent, path)
    wanted = read_json(path / SEAL)
    for name in names:
        if name not in wanted:
            raise InputError(f"{path / SEAL}: does not seal {name}")
    for name in wanted:
        if not PLAIN_NAME.fullmatch(name):
            raise InputError(
                f"{path / SEAL}: {name[:40]!r} is not the name of a file in this folder"
            )
        if digest(path / name) != wanted[name]:
            raise InputError(f"{path / name}: is not as it was written")


def updates_below(path: Path) -> list[tuple[int, Path]]:
    """[(number, folder)] of the states of a policy's training, the newest first."""
    names = os.listdir(path) if path.is_dir() else []
    numbers = [int(match[1]) for match in map(UPDATE.fullmatch, names) if match]
    return [(number, path / f"update-{number:07}") for number in sorted(numbers, reverse=True)]


def remove_leftovers(path: str | Path, depth: int = 3) -> None:
    """Temporary files and folders that a kill has left, here and in the folders below; links are
    not followed."""
    entries = []
    with contextlib.suppress(OSError), os.scandir(path) as found:
        entries = list(found)
    for entry in entries:
        if entry.name.startswith(".") and entry.name.endswith(".tmp"):
            remove(entry.path)
        elif depth > 1 and entry.is_dir(follow_symlinks=False):
            remove_leftovers(entry.path, depth - 1)
