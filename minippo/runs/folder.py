"""The folder of one run.

    config.json  metrics.jsonl  samples.jsonl  summary.json  figures/*.png
    checkpoints/<stage>/  checkpoints/update-<number>/ (the last two states of the policy's
                          training)

Two kinds of trouble are told apart. A folder that cannot be used is the user's to change:
InputError, before anything is trained. A write that fails later (a disk that fills) ends the run:
TrainingError. Either is one line.
"""

from __future__ import annotations

import contextlib
import io
import itertools
import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from minippo.errors import InputError, TrainingError
from minippo.runs.checkpoints import (
    check_seal,
    remove,
    remove_leftovers,
    updates_below,
    whole_folder,
)
from minippo.runs.files import (
    temporary_beside,
    tensors_to_bytes,
    write_bytes_whole,
    write_json,
    write_jsonl,
)
from minippo.runs.read import (
    LARGEST_NUMBERS,
    is_number,
    load_tensors,
    read_json,
    read_rows,
    reason,
    refuse_links,
)

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from torch import Tensor, nn

    StateReader = Callable[[], tuple[dict[str, Tensor], dict[str, Any]]]

MARKS_OF_A_RUN = ("config.json", "summary.json", "metrics.jsonl", "checkpoints")
OF_A_CHECKPOINT = ("model.safetensors", "config.json", "tokenizer.json", "info.json")
OF_A_STATE = ("tensors.safetensors", "numbers.json")
STATES_KEPT = 2  # the newest, and the one before in case the newest is damaged
DRAWN = ("objective/scores", "objective/kl")  # no figure can be made of a row without them


class RunFolder:
    """Where a run keeps what it makes. Get one from `RunFolder.create`."""

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        # empty, unless a run is taken up again
        self._metrics = read_rows(self.path / "metrics.jsonl")

    @classmethod
    def create(
        cls,
        out: str | Path | None = None,
        *,
        default_name: str,
        root: str | Path = "runs",
        resume: bool = False,
    ) -> RunFolder:
        """The folder `out`; without one, root/default_name, with -2, -3 ... when that is taken.

        Raises InputError when a folder that was named holds anything (a run may be held with
        `resume`), is a file, or cannot be made or written to.
        """
        path = _new_folder(Path(root), default_name) if out is None else _named_folder(out, resume)
        _check_writable(path, "--out" if out is not None else "the run folder")
        return cls(path)

    def remove_leftovers(self) -> None:
        """Temporary files that a kill has left, and states that it did not let be removed."""
        remove_leftovers(self.path)
        self._remove_old_states()

    def read_config(self) -> dict[str, Any]:
        """config.json as it was saved. InputError when it cannot be read."""
        path = self.path / "config.json"
        config = read_json(path)
        versions = config.get("versions", {})
        if not isinstance(versions, dict) or any(
            len(str(value)) > 100 for value in versions.values()
        ):
            raise InputError(f"{path}, field versions: wanted an object of short texts and numbers")
        return config

    def is_finished(self) -> bool:
        """Has the run written its summary, which comes last?"""
        return (self.path / "summary.json").exists()

    def save_config(self, config: Mapping[str, Any]) -> None:
        """config.json, one object."""
        with _one_line(self.path / "config.json") as path:
            write_json(path, config)

    @contextlib.contextmanager
    def lock(self) -> Iterator[None]:
        """While it is open no other process can work in this folder. InputError when one does
        already."""
        try:
            import fcntl
        except ImportError:  # not on this system
            yield
            return
        descriptor = os.open(self.path, os.O_RDONLY)
        try:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError as error:
                raise InputError(
                    f"--out {self.path}: another process is at work in this folder"
                ) from error
            yield
        finally:
            os.close(descriptor)

    def metrics_until(self, update: float) -> list[dict[str, Any]]:
        """The rows of metrics.jsonl up to this update; later ones are dropped, they will be made
        again."""
        self._metrics = [row for row in self._metrics if row.get("update", 0) <= update]
        return list(self._metrics)

    def append_metrics(self, row: Mapping[str, Any]) -> None:
        """Add one update to metrics.jsonl. The file is written anew each time, so that it never
        ends in half a line."""
        self._metrics.append(dict(row))
        with _one_line(self.path / "metrics.jsonl") as path:
            write_jsonl(path, self._metrics)

    def save_samples(self, rows: Iterable[Mapping[str, Any]]) -> None:
        """samples.jsonl, one object per prompt."""
        with _one_line(self.path / "samples.jsonl") as path:
            write_jsonl(path, rows)

    def save_summary(self, summary: Mapping[str, Any]) -> None:
        """summary.json, one object."""
        with _one_line(self.path / "summary.json") as path:
            write_json(path, summary)

    def save_figure(self, name: str, figure: Figure) -> Path:
        """figures/<name>.png; returns its path. The picture is made in memory first."""
        with _one_line(self.path / "figures" / f"{name}.png") as path:
            picture = io.BytesIO()
            figure.savefig(picture, format="png")
            path.parent.mkdir(exist_ok=True)
            write_bytes_whole(path, picture.getvalue())
        return path

    def save_checkpoint(
        self,
        stage: str,
        model: nn.Module,
        *,
        model_config: Mapping[str, Any],
        tokenizer: Mapping[str, Any],
        info: Mapping[str, Any] | None = None,
    ) -> Path:
        """checkpoints/<stage>/ with model.safetensors, config.json, tokenizer.json; returns its
        path.

        `info` goes to info.json beside them: what a run that is taken up again needs to know of the
        stage.
        """
        with _one_line(self.path / "checkpoints" / stage) as path:
            path.parent.mkdir(exist_ok=True)
            with whole_folder(path) as temporary:
                write_bytes_whole(
                    temporary / "model.safetensors", tensors_to_bytes(model.state_dict())
                )
                write_json(temporary / "config.json", model_config)
                write_json(temporary / "tokenizer.json", tokenizer)
                if info is not None:
                    write_json(temporary / "info.json", info)
        return path

    def whole_checkpoint(self, stage: str) -> tuple[Path, dict[str, Any]] | tuple[None, None]:
        """(path, info) of a stage's checkpoint, or (None, None) when there is none. InputError when
        it is damaged."""
        path = self.path / "checkpoints" / stage
        if not os.path.lexists(path):
            return None, None
        check_seal(path, *OF_A_CHECKPOINT)
        info = read_json(path / "info.json")
        seconds = info.get("seconds")
        if not isinstance(seconds, dict) or not all(is_number(value) for value in seconds.values()):
            raise InputError(f"{path / 'info.json'}, field seconds: wanted a number for each stage")
        return path, info

    def save_state(
        self, update: int, tensors: Mapping[str, Tensor], numbers: Mapping[str, Any]
    ) -> None:
        """checkpoints/update-<number>/ with the state of the policy's training; all but the last
        two are removed."""
        with _one_line(self.path / "checkpoints" / f"update-{update:07}") as path:
            path.parent.mkdir(exist_ok=True)
            with whole_folder(path) as temporary:
                write_bytes_whole(temporary / "tensors.safetensors", tensors_to_bytes(tensors))
                write_json(temporary / "numbers.json", numbers)
        for newer, path in updates_below(self.path / "checkpoints"):
            # of a training that went on from a damaged state, and is being made again
            if newer > update:
                remove(path)
        self._remove_old_states()

    def _remove_old_states(self):
        for _, old in updates_below(self.path / "checkpoints")[STATES_KEPT:]:
            remove(old)

    def states(self) -> list[tuple[int, StateReader]]:
        """The states of the policy's training, the newest first: (update, function that reads it).

        The function returns (tensors, numbers), or raises InputError when a file of that state is
        damaged, or when the metrics of the updates before it are not all there.
        """

        def reader(update: int, path: Path) -> StateReader:
            def read() -> tuple[dict[str, Tensor], dict[str, Any]]:
                check_seal(path, *OF_A_STATE)
                self._check_metrics(update)
                return load_tensors(path / "tensors.safetensors"), read_json(
                    path / "numbers.json", LARGEST_NUMBERS
                )

            return read

        return [
            (update, reader(update, path))
            for update, path in updates_below(self.path / "checkpoints")
        ]

    def _check_metrics(self, update):
        rows = [row for row in self._metrics if row["update"] <= update]
        if [row["update"] for row in rows] != list(range(1, update + 1)):
            raise InputError(
                f"{self.path / 'metrics.jsonl'}: has not one row for each update up to {update}"
            )
        for row in rows:
            for name in DRAWN:
                if not is_number(row.get(name)):
                    raise InputError(
                        f"{self.path / 'metrics.jsonl'}: no number {name} of update {row['update']}"
                    )


def _new_folder(root: Path, name: str) -> Path:
    """Make root/name, or the first of name-2, name-3 ... that is free.

    mkdir itself says whether a name is taken: two runs that start at once get two folders.
    """
    try:
        root.mkdir(parents=True, exist_ok=True)
        paths = itertools.chain((root / name,), (root / f"{name}-{n}" for n in itertools.count(2)))
        return next(path for path in paths if _made(path))
    except OSError as error:
        raise InputError(
            f"no run folder can be made in {root}: {reason(error)}; name a place with --out"
        ) from error


def _made(path: Path) -> bool:
    """Make a folder; False where the name is taken."""
    try:
        path.mkdir()
    except FileExistsError:
        return False
    return True


def _named_folder(out: str | Path, resume: bool) -> Path:
    """Make the folder that the user named, or take it when it is empty, or when its run is to be
    resumed."""
    if not str(out):
        raise InputError("--out: the name of the folder is empty")
    path = Path(out)
    try:
        path.mkdir(parents=True, exist_ok=True)
        names = [
            name
            for name in os.listdir(path)
            if not (name.startswith(".") and name.endswith(".tmp"))
        ]
    except FileExistsError as error:
        raise InputError(f"--out {path}: exists and is not a folder") from error
    except OSError as error:
        raise InputError(f"--out {path}: cannot be used: {reason(error)}") from error
    holds_a_run = any(mark in names for mark in MARKS_OF_A_RUN)
    if holds_a_run and not resume:
        raise InputError(
            f"--out {path}: holds a run already; name another folder, nothing was written over"
        )
    if names and not holds_a_run:
        raise InputError(
            f"--out {path}: is not empty; name another folder, nothing was written over"
        )
    if resume and not holds_a_run:
        raise InputError(f"--resume: {path} holds no run; leave --resume out to start one there")
    refuse_links(path / "checkpoints", path / "figures")
    return path


def _check_writable(path, what):
    """Find out now, not after minutes of training. Only a real write can tell: rights, quotas,
    read-only disks."""
    probe = temporary_beside(path / "probe")
    try:
        probe.write_bytes(b"can this be written?")
        probe.unlink()
    except OSError as error:
        with contextlib.suppress(OSError):
            probe.unlink(missing_ok=True)
        raise InputError(f"{what} {path}: cannot be written: {reason(error)}") from error


@contextlib.contextmanager
def _one_line(path):
    """An OSError of the write inside becomes one line that names the path."""
    try:
        yield path
    except OSError as error:
        raise TrainingError(f"cannot write {path}: {reason(error)}") from error
