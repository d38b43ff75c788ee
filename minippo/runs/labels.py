"""labels.jsonl: what somebody has said about pairs of a run's answers, one answer a line.

    {"seed": 0, "pair": 7, "prompt": "...", "a": "...", "b": "...", "label": "b"}

Lines are only ever added, and each is on the disk before the next pair is shown: whoever labels
loses nothing, whatever happens. "u" takes back what was said about its pair. A file that was cut,
by a kill or by a full disk, ends in half a line, which is left out when the file is taken up again.
"""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, NamedTuple

from minippo.errors import InputError, TrainingError
from minippo.runs.read import LARGEST_METRICS, open_plain, parse_object, read_bytes, reason

NAME = "labels.jsonl"
FIRST, SECOND, TIE, SKIP, UNDO = "a", "b", "t", "s", "u"
ANSWERS = (FIRST, SECOND, TIE, SKIP, UNDO)
TEXTS, NUMBERS = ("prompt", "a", "b"), ("seed", "pair")
ADD_FLAGS = sum(
    getattr(os, name, 0)
    for name in ("O_WRONLY", "O_APPEND", "O_CREAT", "O_NOFOLLOW", "O_CLOEXEC", "O_BINARY")
)


class Label(NamedTuple):
    """What was said about one pair."""

    seed: int  # of the sequence of pairs
    pair: int  # its place there, the first is 1
    prompt: str
    a: str
    b: str
    label: str  # one of ANSWERS

    def preference(self) -> tuple[str, str, str] | None:
        """(prompt, chosen, rejected); None where neither is preferred."""
        if self.label == FIRST:
            return self.prompt, self.a, self.b
        return (self.prompt, self.b, self.a) if self.label == SECOND else None


def read_label(line: bytes, place: str) -> Label:
    """The Label of a line. InputError, with `place`, when it is none."""
    record = parse_object(line, place)
    for name in (*NUMBERS, *TEXTS, "label"):
        if name not in record:
            raise InputError(f"{place}, field {name}: is missing")
    for name in NUMBERS:
        if type(record[name]) is not int or record[name] < 0:
            raise InputError(f"{place}, field {name}: wanted a whole number")
    for name in TEXTS:
        if not isinstance(record[name], str):
            raise InputError(f"{place}, field {name}: wanted a text")
    if record["label"] not in ANSWERS:
        raise InputError(f"{place}, field label: wanted one of {', '.join(ANSWERS)}")
    return Label(**{name: record[name] for name in Label._fields})


def in_force(labels: Iterable[Label]) -> list[Label]:
    """What holds of all that was said: the last word about each pair, and nothing where that was
    taken back; in the order in which it was said."""
    found: dict[tuple[int, int], Label] = {}
    for label in labels:
        found.pop((label.seed, label.pair), None)
        if label.label != UNDO:
            found[label.seed, label.pair] = label
    return [*found.values()]


class LabelFile:
    """The labels of a run's folder, open for more. InputError: they cannot be read or added to."""

    def __init__(self, run: Path, note: Callable[[str], None]) -> None:
        self.path = run / NAME
        self.labels = self._take_up(note) if os.path.lexists(self.path) else []
        try:
            self._descriptor = os.open(self.path, ADD_FLAGS, 0o666)
        except OSError as error:
            raise InputError(f"{self.path}: cannot be written: {reason(error)}") from error

    def __enter__(self) -> LabelFile:
        return self

    def __exit__(self, *_: Any) -> None:
        os.close(self._descriptor)

    def add(self, label: Label) -> None:
        """Append a line, whole and on the disk. TrainingError: it could not be, and the file is as
        it was."""
        size = os.fstat(self._descriptor).st_size
        data = json.dumps(label._asdict(), ensure_ascii=False).encode() + b"\n"
        try:
            while data:
                data = data[os.write(self._descriptor, data) :]
            os.fsync(self._descriptor)
        except OSError as error:
            with contextlib.suppress(OSError):
                os.truncate(self.path, size)
            raise TrainingError(f"cannot write {self.path}: {reason(error)}") from error
        self.labels.append(label)

    def _take_up(self, note: Callable[[str], None]) -> list[Label]:
        """The labels that are there. Half a line at the end is removed, and a whole one without its
        line end gets it; either is told."""
        *lines, rest = read_bytes(self.path, LARGEST_METRICS).split(b"\n")
        labels = [
            read_label(line, f"{self.path}, line {number}")
            for number, line in enumerate(lines, start=1)
            if line.strip()
        ]
        if not rest.strip():
            return labels
        place = f"{self.path}, line {len(lines) + 1}"
        whole = sum(len(line) + 1 for line in lines)
        try:
            labels.append(read_label(rest, place))
            self._end_at(whole + len(rest), b"\n")
            note(f"{place}: had no end of line, and has one now")
        except InputError:
            self._end_at(whole, b"")
            note(f"{place}: was half a line, and is left out; its pair is asked again")
        return labels

    def _end_at(self, size: int, end: bytes) -> None:
        with open_plain(self.path):  # no link, no pipe
            pass
        try:
            with open(self.path, "r+b") as file:
                file.truncate(size)
                file.seek(size)
                file.write(end)
        except OSError as error:
            raise InputError(f"{self.path}: cannot be written: {reason(error)}") from error
