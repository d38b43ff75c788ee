"""Which files of a folder hold what: preferences.jsonl, or .csv, .parquet.gz and their like."""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from minippo.errors import InputError
from minippo.runs.read import reason
from minippo.tasks.files.advice import ALONE
from minippo.tasks.files.messages import PAGE, shown_list, shown_path

KINDS = ("corpus", "demonstrations", "preferences", "prompts")
ENDINGS = (".jsonl", ".json", ".csv", ".tsv", ".parquet")
TEXT = ".txt"  # of a corpus that is one document
MISSING = (
    "preferences are missing; put {prompt, chosen, rejected} beside them as preferences.jsonl, or "
    f"{ALONE}"
)


class Found(NamedTuple):
    """A folder, the file in it for each thing that is there, and the other names."""

    folder: str
    files: dict[str, str]
    others: list[str]


def find_files(path: str | Path) -> Found:
    """The files of a folder; a path that is a file is the one of the preferences."""
    names = list_folder(path)
    if names is None:
        folder, name = os.path.split(os.fspath(path))
        return Found(folder, {"preferences": name}, [])
    files = {}
    for kind in KINDS:
        own = [name for name in names if is_of(name, kind)]
        if len(own) > 1:
            both = " and ".join(own[:2])
            raise InputError(f"--data {shown_path(path)}: holds both {both}; keep one of them")
        files |= dict.fromkeys([kind] if own else [], *own)
    if "preferences" not in files and "demonstrations" in files:
        raise InputError(f"--data {shown_path(path)}: holds demonstrations, and {MISSING}; {PAGE}")
    if "preferences" not in files:
        others = [name for name in names if name not in files.values()]
        readable = [name for name in others if name.removesuffix(".gz").endswith(ENDINGS)]
        is_one = len(readable) == 1
        file = shown_path(os.path.join(path, readable[0])) if is_one else "FILE"
        raise InputError(
            f"--data {shown_path(path)}: there is no preferences.jsonl in it, nor .json, .csv, "
            f".tsv or .parquet (found {shown_list(names)}); name the file itself, --data {file}; "
            f"{PAGE}"
        )
    return Found(os.fspath(path), files, [name for name in names if name not in files.values()])


def is_of(name: str, kind: str) -> bool:
    """Is this the name of a file for that thing?"""
    endings: Sequence[str] = (*ENDINGS, TEXT) if kind == "corpus" else ENDINGS
    return name.removesuffix(".gz") in [kind + ending for ending in endings]


def is_one_text(name: str) -> bool:
    """Is the whole file one document?"""
    return name.removesuffix(".gz").endswith(TEXT)


def list_folder(path: str | Path) -> list[str] | None:
    """The sorted names in a folder that must exist and hold something; None for what is no
    folder."""
    try:
        names = sorted(os.listdir(path))
    except FileNotFoundError:
        raise InputError(
            f"--data {shown_path(path)}: there is no such folder, and nothing is downloaded"
        ) from None
    except NotADirectoryError:
        return None
    except (OSError, ValueError) as error:  # ValueError: a NUL in the path
        raise InputError(f"--data {shown_path(path)}: can't be read ({reason(error)})") from None
    if not names:
        raise InputError(
            f"--data {shown_path(path)}: the folder is empty; it needs at least preferences.jsonl"
        )
    return names
