"""The files of a run folder that a report is made from: plain values, from whoever wrote them."""

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from minippo.errors import InputError
from minippo.runs.diagnostics import Finding
from minippo.runs.files import plain
from minippo.runs.moments import are_moments
from minippo.runs.read import (
    LARGEST_METRICS,
    is_number,
    parse_object,
    read_bytes,
    read_good_rows,
    read_json,
)
from minippo.runs.screen import findings_of
from minippo.runs.seals import read_config

FINISHED, AT_WORK, STOPPED = "finished", "at work", "stopped"
LARGEST_ROW = 2**22  # bytes of a sample, with its tokens
LARGEST_SUMMARY = 2**23
MARKS = ("before", "after")


class Files(NamedTuple):
    """What one run has to say."""

    name: str  # of its folder
    config: Mapping[str, Any]
    rows: Sequence[Mapping[str, Any]]  # of metrics
    summary: Mapping[str, Any] | None  # None: the run is not over
    samples: Sequence[Mapping[str, Any]]
    moments: Sequence[Mapping[str, Any]]
    state: str
    findings: Sequence[Finding] = ()  # of its diagnostics
    left_out: str = ""  # half a line of metrics, of a run that was copied or stopped in the middle


def read_files(path: str | Path, summary: Mapping[str, Any] | None = None) -> Files:
    """The Files of a run folder; `summary` where the run is just about to write its own.
    InputError: it is no run, or a file is not what a run writes."""
    path = Path(path)
    check_is_run(path)
    if summary is None and os.path.lexists(path / "summary.json"):
        summary = read_json(path / "summary.json", LARGEST_SUMMARY)
    config = read_config(path / "config.json")
    rows, left_out = read_metrics(path / "metrics.jsonl", is_over=summary is not None)
    moments = read_lines(path / "samples_over_time.jsonl")
    if not are_moments(moments):
        raise InputError(f"{path / 'samples_over_time.jsonl'}: not the rows that a run writes")
    samples = read_lines(path / "samples.jsonl")
    if not all(map(is_sample, samples)):
        raise InputError(f"{path / 'samples.jsonl'}: not the rows that a run writes")
    name = os.path.basename(os.path.abspath(path))
    files = Files(name, config, rows, None, samples, moments, STOPPED, left_out=left_out)
    if summary is None:
        return files
    found: dict[str, Any] = plain(summary)
    return files._replace(summary=found, state=FINISHED, findings=findings_of(found))


def check_is_run(path: Path) -> None:
    """InputError where this is no folder of a run."""
    if not os.path.lexists(path):
        raise InputError(f"{path}: there is no such folder")
    if not os.path.isdir(path):
        raise InputError(f"{path}: is a file; name the folder of a run")
    if not os.path.lexists(path / "config.json"):
        raise InputError(f"{path}: holds no run, whose folder has a config.json")


def read_metrics(path: Path, *, is_over: bool) -> tuple[list[dict[str, Any]], str]:
    """(a row for each update, what was left out). Of a run that is not over the last line may be
    half a one. InputError, with what to do: another is broken, or a row is missing."""
    rows, trouble = read_good_rows(path)
    left_out = ""
    if trouble is not None and not is_over and is_last(path, len(rows)):
        left_out, trouble = f"{path}: its last line is half a line, and is left out", None
    if trouble is None and [row["update"] for row in rows] != [*range(1, len(rows) + 1)]:
        trouble = InputError(f"{path}: has not one row for each update from the first on")
    if trouble is not None:
        first = f"remove {path.with_name('summary.json')}, then " if is_over else ""
        raise InputError(
            f"{trouble}; to make the rows again: {first}python -m minippo.train_toy --resume --out "
            f"{path.parent}"
        )
    return rows, left_out


def is_last(path: Path, good: int) -> bool:
    """Is the line after so many good ones the last, without an end?"""
    lines = read_bytes(path, LARGEST_METRICS).split(b"\n")
    return bool(lines[-1].strip()) and good == sum(bool(line.strip()) for line in lines) - 1


def read_lines(path: Path) -> list[dict[str, Any]]:
    """The objects of a JSONL file, none where there is none."""
    if not os.path.lexists(path):
        return []
    lines = read_bytes(path, LARGEST_METRICS).split(b"\n")
    rows = []
    for number, line in enumerate(lines, start=1):
        if len(line) > LARGEST_ROW:
            raise InputError(f"{path}, line {number}: has more than {LARGEST_ROW} bytes")
        if line.strip():
            rows.append(parse_object(line, f"{path}, line {number}"))
    return rows


def is_sample(row: Mapping[str, Any]) -> bool:
    """Is this a row of samples.jsonl?"""
    names = [f"{mark}_{when}" for mark in ("score", "gold") for when in MARKS]
    return all(isinstance(row.get(name), str) for name in ("prompt", *MARKS)) and all(
        row.get(name) is None or is_number(row[name]) for name in names
    )
