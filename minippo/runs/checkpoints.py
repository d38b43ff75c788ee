"""Folders of files that are whole or not there, with a seal that shows damage.

A checkpoint is a folder. It is filled under a temporary name and then renamed, so a kill at any moment leaves the old one
or the new one. Its last file, sha256.json, holds a digest of each of the others: a file that was cut off, changed or
mixed up with another run's is noticed before a number is read from it.
"""

import contextlib
import hashlib
import json
import os
import re
import shutil
from pathlib import Path

from minippo.errors import InputError
from minippo.runs.files import temporary_beside, write_json

SEAL = "sha256.json"
LARGEST_SEAL = 100_000  # bytes; ours have a few hundred
UPDATE = re.compile(r"update-(\d{7})")


@contextlib.contextmanager
def whole_folder(path):
    """Fill a temporary folder; it is sealed and takes the name `path` when all went well, and is removed when not.

    A folder cannot be renamed onto another that is not empty: an older one steps aside first, and comes back when the
    new one fails to take its place.
    """
    temporary, aside = temporary_beside(path), temporary_beside(path)
    try:
        temporary.mkdir()
        yield temporary
        write_json(temporary / SEAL, {file.name: digest(file) for file in sorted(temporary.iterdir())})
        if path.exists():
            os.replace(path, aside)
        os.replace(temporary, path)
    except BaseException:
        if aside.exists() and not path.exists():
            os.rename(aside, path)
        raise
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
        if path.exists():
            shutil.rmtree(aside, ignore_errors=True)


def digest(path):
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest() if hasattr(hashlib, "file_digest") else _digest(file)


def _digest(file):
    """What hashlib.file_digest does, for Python 3.10."""
    state = hashlib.sha256()
    while block := file.read(2**20):
        state.update(block)
    return state.hexdigest()


def check_seal(path):
    """Refuse a checkpoint that is not as it was written. InputError names the file."""
    try:
        if (path / SEAL).stat().st_size > LARGEST_SEAL:
            raise InputError(f"{path / SEAL}: too large for what it should be")
        wanted = json.loads((path / SEAL).read_bytes())
        for name in wanted:
            if Path(name).name != name or digest(path / name) != wanted[name]:
                raise InputError(f"{path / name}: is not as it was written")
    except OSError as error:
        raise InputError(f"{error.filename or path}: {error.strerror or error}") from error
    except (ValueError, TypeError, RecursionError) as error:
        raise InputError(f"{path / SEAL}: not JSON that can be read") from error


def updates_below(path):
    """[(number, folder)] of the states of a policy's training, the newest first."""
    names = os.listdir(path) if path.is_dir() else []
    numbers = [int(match[1]) for match in map(UPDATE.fullmatch, names) if match]
    return [(number, path / f"update-{number:07}") for number in sorted(numbers, reverse=True)]


def remove_leftovers(path):
    """Temporary files and folders that a kill has left, here and below."""
    for leftover in sorted(Path(path).rglob(".*.tmp"), reverse=True):
        shutil.rmtree(leftover, ignore_errors=True) if leftover.is_dir() else leftover.unlink(missing_ok=True)
