"""Reading the files of a run. They are data, whoever wrote them: nothing in them is executed, and
nothing is believed.

Only plain files are opened: not a link, which may lead anywhere, nor a pipe, which would wait for
ever. Of each no more is read than its kind can need, so a file of any size costs the same memory.
What is wrong is one InputError with the file.
"""

from __future__ import annotations

import contextlib
import errno
import json
import math
import os
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

from minippo.errors import InputError

if TYPE_CHECKING:
    from torch import Tensor

LARGEST_JSON = 2**20  # bytes; ours have up to a few thousand
LARGEST_TOKENIZER = 2**26  # one that somebody else has made may have a few hundred thousand words
LARGEST_NUMBERS = 2**25  # numbers.json holds a minibatch, two numbers for each of its tokens
LARGEST_METRICS = 2**26  # some fifty thousand updates
LARGEST_LINE = 2**16  # of metrics.jsonl
LARGEST_HEADER = 2**21  # of a safetensors file; a state of a hundred layers has half of it
DEEPEST = 20  # lists and objects in one another
MOST_DIGITS = 20  # of a whole number
# of the numbers in our tensors: weights and averages, and the state of a generator
KINDS = ("F32", "U8")
MOST_SHOWN = 200  # characters of a library's own message

# Where a system lacks a flag, it lacks what the flag is against.
OPEN_FLAGS = sum(
    getattr(os, name, 0)
    for name in ("O_RDONLY", "O_NOFOLLOW", "O_NONBLOCK", "O_CLOEXEC", "O_BINARY")
)


@contextlib.contextmanager
def open_plain(path: str | Path) -> Iterator[BinaryIO]:
    """The file, open for reading. InputError when it is no plain file, or when it cannot be
    read."""
    try:
        descriptor = os.open(path, OPEN_FLAGS)
        try:
            if not stat.S_ISREG(os.fstat(descriptor).st_mode):
                raise InputError(f"{path}: is not a plain file")
            with open(descriptor, "rb", closefd=False) as file:
                yield file
        finally:
            os.close(descriptor)
    except OSError as error:
        link = error.errno == errno.ELOOP or os.path.islink(path)
        raise InputError(
            f"{path}: {'is a link, and links are not followed' if link else reason(error)}"
        ) from error


def refuse_links(*folders: str | Path) -> None:
    """InputError for the first of these folders that is a link: what lies behind it is not the
    run's."""
    for folder in folders:
        if os.path.islink(folder):
            raise InputError(f"{folder}: is a link, and links are not followed")


def read_bytes(path: str | Path, limit: int = LARGEST_JSON) -> bytes:
    """The bytes of a file that has at most `limit` of them, also when it grows while it is read."""
    with open_plain(path) as file:
        data = file.read(limit + 1) if os.fstat(file.fileno()).st_size <= limit else None
    if data is None or len(data) > limit:
        raise InputError(f"{path}: has more than the {limit} bytes that are read of such a file")
    return data


def read_json(path: str | Path, limit: int = LARGEST_JSON) -> dict[str, Any]:
    """The object that a JSON file holds."""
    return parse_object(read_bytes(path, limit), path)


def read_rows(path: str | Path) -> list[dict[str, Any]]:
    """The rows of a metrics.jsonl, none where there is no file."""
    return parse_rows(read_bytes(path, LARGEST_METRICS), path) if os.path.lexists(path) else []


def read_good_rows(path: str | Path) -> tuple[list[dict[str, Any]], InputError | None]:
    """The rows before the first one that is broken, and what is wrong with that one."""
    rows: list[dict[str, Any]] = []
    data = read_bytes(path, LARGEST_METRICS) if os.path.lexists(path) else b""
    try:
        for row in each_row(data, path):
            rows.append(row)  # noqa: PERF402 - those before a broken one are kept
    except InputError as error:
        return rows, error
    return rows, None


# -- what the bytes hold


def parse_object(data: bytes, where: str | Path) -> dict[str, Any]:
    """A JSON object, its numbers finite, its depth bounded. InputError, with `where`, for anything
    else."""
    try:
        found = json.loads(
            data.decode("utf-8"), parse_float=_finite, parse_int=_whole, parse_constant=_no_number
        )
    except RecursionError:
        raise InputError(f"{where}: not JSON that can be read (nested too deeply)") from None
    except ValueError as error:  # broken JSON, or bytes that are not UTF-8
        raise InputError(f"{where}: not JSON that can be read ({first_words(error)})") from error
    if not isinstance(found, dict):
        raise InputError(f"{where}: not JSON that can be read (wanted an object)")
    if is_deep(found):
        raise InputError(f"{where}: not JSON that can be read (nested too deeply)")
    return found


def parse_rows(data: bytes, where: str | Path) -> list[dict[str, Any]]:
    """Objects line by line, each with the number of its update and beside it numbers, texts and
    nulls only."""
    return list(each_row(data, where))


def each_row(data: bytes, where: str | Path) -> Iterator[dict[str, Any]]:
    """The same one after the other, up to the InputError for one that is broken."""
    for number, line in enumerate(data.split(b"\n") if data else (), start=1):
        place = f"{where}, line {number}"
        if len(line) > LARGEST_LINE:
            raise InputError(f"{place}: has more than {LARGEST_LINE} bytes")
        if line.strip():
            row = parse_object(line, place)
            _check_row(row, place)
            yield row


def _check_row(row, place):
    if not is_count(row.get("update")):
        raise InputError(f"{place}, field update: wanted the number of an update")
    for name, value in row.items():
        if not (value is None or isinstance(value, str) or is_number(value)):
            raise InputError(f"{place}, field {name[:MOST_SHOWN]}: wanted a number")


def is_number(value: object) -> bool:
    """A whole number or a fraction, and not true or false."""
    return type(value) in (int, float)


def is_count(value: object) -> bool:
    """A whole number, 1 or more."""
    return type(value) is int and value >= 1


def is_deep(value: object, deepest: int = DEEPEST) -> bool:
    """Are there more than `deepest` lists and objects in one another? Looked at level by level,
    without recursion."""
    level = [value]
    for _ in range(deepest):
        level = [
            child
            for item in level
            if isinstance(item, (dict, list))
            for child in (item.values() if isinstance(item, dict) else item)
        ]
    return any(isinstance(item, (dict, list)) for item in level)


def _finite(text):
    value = float(text)
    return value if math.isfinite(value) else _no_number(text)


def _whole(text):
    return int(text) if len(text) <= MOST_DIGITS else _no_number(text)


def _no_number(text):
    raise ValueError(f"{text[:MOST_DIGITS]}: no number that is written here")


# -- tensors


def load_tensors(path: str | Path) -> dict[str, Tensor]:
    """The tensors of one file that files.tensors_to_bytes made, on the CPU. Nothing in the file is
    ever executed."""
    with _open_tensors(path) as file:
        names = file.keys()
        for name in names:
            if (kind := file.get_slice(name).get_dtype()) not in KINDS:
                raise ValueError(f"{name[:MOST_SHOWN]}: numbers of kind {kind}")
        tensors = {name: file.get_tensor(name) for name in names}
        return tensors | {name: tensors[first] for name, first in _same_as(file, path).items()}


def declared_tensors(path: str | Path) -> dict[str, tuple[tuple[int, ...], str]]:
    """{name: (shape, kind of number)} as the head of the file says: no tensor is read, and none has
    memory yet."""
    with _open_tensors(path) as file:
        names = file.keys()
        slices = {name: file.get_slice(name) for name in names}
        return {name: (tuple(part.get_shape()), part.get_dtype()) for name, part in slices.items()}


@contextlib.contextmanager
def _open_tensors(path):
    """The file in the hands of the library.

    It refuses a head that does not fit: tensors that overlap, leave a hole, end outside of the
    file, or have a shape of another size than their bytes. It reads a head of a hundred million
    bytes, though, so the length is looked at before.
    """
    from safetensors import SafetensorError, safe_open

    with open_plain(path) as file:
        length = int.from_bytes(file.read(8), "little")
    if length > LARGEST_HEADER:
        raise InputError(f"{path}: not a checkpoint that can be read (a head of {length} bytes)")
    try:
        with safe_open(path, framework="pt") as file:
            yield file
    except OSError as error:
        raise InputError(f"{path}: {reason(error)}") from error
    except (SafetensorError, ValueError, TypeError, RuntimeError, OverflowError) as error:
        raise InputError(
            f"{path}: not a checkpoint that can be read ({first_words(error)})"
        ) from error


def _same_as(file, path):
    """{name: name of the tensor in the file that it shares}, from the file's metadata."""
    text = (file.metadata() or {}).get("same_as", "{}")
    same_as, names = parse_object(text.encode("utf-8"), f"{path}, same_as"), set(file.keys())
    if (
        not all(isinstance(first, str) and first in names for first in same_as.values())
        or names & same_as.keys()
    ):
        raise ValueError("same_as: wanted other names of tensors in this file")
    return same_as


# -- messages


def reason(error: Exception) -> str:
    """The system's own words, without the error number and the path that str(error) puts around
    them."""
    return getattr(error, "strerror", None) or str(error) or type(error).__name__


def first_words(error: object) -> str:
    """One line of a library's message, cut where a hostile file made it long."""
    line, *_ = str(error).splitlines() or [type(error).__name__]
    return line if len(line) <= MOST_SHOWN else line[:MOST_SHOWN] + "..."
