"""The folder of one run.

    config.json  metrics.jsonl  samples.jsonl  summary.json  figures/*.png
    samples_over_time.jsonl  report.html
    checkpoints/<stage>/  checkpoints/update-<number>/ (the last two states of the policy's
                          training)
    rounds/<number>/      metrics.jsonl and checkpoints/ of the rounds before the last

Two kinds of trouble are told apart. A folder that cannot be used is the user's to change:
InputError, before anything is trained. A write that fails later (a disk that fills) ends the run:
TrainingError. Either is one line.
"""

from __future__ import annotations

import contextlib
import io
import os
from collections.abc import Callable, Iterable, Mapping
from contextlib import AbstractContextManager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from minippo.errors import InputError, TrainingError
from minippo.runs.checkpoints import (
    check_seal,
    link_folder,
    remove,
    remove_leftovers,
    updates_below,
    whole_folder,
)
from minippo.runs.files import (
    write_bytes_whole,
    write_json,
    write_jsonl,
    write_tensors_whole,
    write_text_whole,
)
from minippo.runs.lock import locked
from minippo.runs.place import check_writable, named_folder, new_folder
from minippo.runs.read import (
    LARGEST_NUMBERS,
    is_number,
    load_tensors,
    read_good_rows,
    read_json,
    read_rows,
    reason,
)
from minippo.runs.seals import OWN_DIGEST, Origin, check_config, digest_of, write_origin

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from torch import Tensor, nn

    StateReader = Callable[[], tuple[dict[str, Tensor], dict[str, Any]]]

OF_A_CHECKPOINT = ("model.safetensors", "config.json", "tokenizer.json", "info.json")
OF_A_STATE = ("tensors.safetensors", "numbers.json")
STATES_KEPT = 2  # the newest, and the one before in case the newest is damaged
DRAWN = ("objective/scores", "objective/kl")  # no figure can be made of a row without them


class RunFolder:
    """Where a run keeps what it makes. Get one from `RunFolder.create`."""

    def __init__(self, path: str | Path, note: Callable[[str], None] | None = None) -> None:
        """With `note`, a row of metrics that is broken is told there, and it and those after it are
        left out; without, it is an InputError."""
        self.path = Path(path)
        # empty, unless a run is taken up again
        metrics = self.path / "metrics.jsonl"
        if note is None:
            self._metrics = read_rows(metrics)
            return
        self._metrics, trouble = read_good_rows(metrics)
        if trouble is not None:
            note(f"{trouble}; what it held from there on is made again")

    @classmethod
    def create(
        cls,
        out: str | Path | None = None,
        *,
        default_name: str,
        root: str | Path = "runs",
        resume: bool = False,
        note: Callable[[str], None] | None = None,
    ) -> RunFolder:
        """The folder `out`; without one, root/default_name, with -2, -3 ... when that is taken.

        Raises InputError when a folder that was named holds anything (a run may be held with
        `resume`), is a file, or cannot be made or written to. `note`: see RunFolder.
        """
        path = new_folder(Path(root), default_name) if out is None else named_folder(out, resume)
        check_writable(path, "--out" if out is not None else "the run folder")
        return cls(path, note)

    @classmethod
    def inside(cls, path: Path, note: Callable[[str], None] | None = None) -> RunFolder:
        """A folder within that of a run, for one of its rounds. `note`: see RunFolder."""
        with _one_line(path):
            path.mkdir(parents=True, exist_ok=True)
        folder = cls(path, note)
        folder.remove_leftovers()
        return folder

    def remove_leftovers(self) -> None:
        """Temporary files that a kill has left, and states that it did not let be removed."""
        remove_leftovers(self.path)
        self._remove_old_states()

    def read_config(self) -> dict[str, Any]:
        """config.json as it was saved. InputError when it cannot be read, or was changed."""
        config = self.stored_config()
        if OWN_DIGEST in config:
            check_config(config, self.path / "config.json")
        return config

    def stored_config(self) -> dict[str, Any]:
        """config.json, whoever wrote it. InputError when it cannot be read."""
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
        try:
            return bool(read_json(self.path / "summary.json"))
        except InputError:  # not there, or damaged: it is made again
            return False

    def check_whole(self) -> None:
        """InputError for the first checkpoint, or row of metrics, that is not as it was written."""
        for path in filter(Path.is_dir, sorted((self.path / "checkpoints").glob("[!.]*"))):
            check_seal(path)
        for _, read in self.states():
            read()
        for path in filter(Path.is_dir, sorted((self.path / "rounds").glob("[!.]*"))):
            RunFolder(path).check_whole()

    def save_config(self, config: Mapping[str, Any]) -> None:
        """config.json, one object."""
        with _one_line(self.path / "config.json") as path:
            write_json(path, config)

    def lock(self, flag: str = "--out") -> AbstractContextManager[bool]:
        """While it is open no other process can work in this folder, which `flag` names in the
        message; see runs.lock."""
        return locked(self.path, flag)

    def metrics_until(self, update: float) -> list[dict[str, Any]]:
        """The rows of metrics.jsonl up to this update; later ones are dropped, they will be made
        again."""
        self._metrics = self._rows_until(update)
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

    def save_moments(self, rows: Iterable[Mapping[str, Any]]) -> None:
        """samples_over_time.jsonl; see runs.moments."""
        with _one_line(self.path / "samples_over_time.jsonl") as path:
            write_jsonl(path, rows)

    def save_report(self, page: str) -> None:
        """report.html, which can be made again from the other files."""
        with _one_line(self.path / "report.html") as path:
            write_text_whole(path, page)

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
        origin: Origin | None = None,
    ) -> Path:
        """checkpoints/<stage>/ with model.safetensors, config.json, tokenizer.json; returns its
        path.

        `info` goes to info.json beside them: what a run that is taken up again needs to know of the
        stage; `origin` to seal.json: what the stage was made from.
        """
        with _one_line(self.path / "checkpoints" / stage) as path:
            path.parent.mkdir(exist_ok=True)
            with whole_folder(path) as temporary:
                write_tensors_whole(temporary / "model.safetensors", model.state_dict())
                write_json(temporary / "config.json", model_config)
                write_json(temporary / "tokenizer.json", tokenizer)
                if info is not None:
                    write_json(temporary / "info.json", info)
                if origin is not None:
                    write_origin(temporary, origin)
        return path

    def take_checkpoint(self, stage: str, source: Path) -> Path:
        """checkpoints/<stage>/ with the files of another run's, which must be whole; they are
        linked where the file system can do that, and copied where not. Returns its path."""
        check_seal(source, *OF_A_CHECKPOINT)
        with _one_line(self.path / "checkpoints" / stage) as path:
            path.parent.mkdir(exist_ok=True)
            link_folder(source, path)
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
        self,
        update: int,
        tensors: Mapping[str, Tensor],
        numbers: Mapping[str, Any],
        origin: Origin | None = None,
    ) -> None:
        """checkpoints/update-<number>/ with the state of the policy's training, and a digest of the
        metrics so far; all but the last two are removed."""
        with _one_line(self.path / "checkpoints" / f"update-{update:07}") as path:
            path.parent.mkdir(exist_ok=True)
            with whole_folder(path) as temporary:
                write_tensors_whole(temporary / "tensors.safetensors", tensors)
                digest = digest_of(self._rows_until(update))
                write_json(temporary / "numbers.json", {**numbers, "metrics": digest})
                if origin is not None:
                    write_origin(temporary, origin)
        for newer, path in updates_below(self.path / "checkpoints"):
            # of a training that went on from a damaged state, and is being made again
            if newer > update:
                remove(path)
        self._remove_old_states()

    def _remove_old_states(self):
        for _, old in updates_below(self.path / "checkpoints")[STATES_KEPT:]:
            remove(old)

    def states(self, check: Callable[[Path], None] | None = None) -> list[tuple[int, StateReader]]:
        """The states of the policy's training, the newest first: (update, function that reads it).

        The function returns (tensors, numbers), or raises InputError when a file of that state is
        damaged, when `check` refuses its folder, or when the metrics of the updates before it are
        not those that were written.
        """

        def reader(update: int, path: Path) -> StateReader:
            def read() -> tuple[dict[str, Tensor], dict[str, Any]]:
                check_seal(path, *OF_A_STATE)
                if check is not None:
                    check(path)
                numbers = read_json(path / "numbers.json", LARGEST_NUMBERS)
                self._check_metrics(update, numbers.pop("metrics", None))
                return load_tensors(path / "tensors.safetensors"), numbers

            return read

        return [
            (update, reader(update, path))
            for update, path in updates_below(self.path / "checkpoints")
        ]

    def check_metrics(self) -> None:
        """InputError when the rows up to the newest state are not those that were written."""
        for update, path in updates_below(self.path / "checkpoints")[:1]:
            numbers = read_json(path / "numbers.json", LARGEST_NUMBERS)
            if "metrics" in numbers:
                self._check_metrics(update, numbers["metrics"])

    def _rows_until(self, update: float) -> list[dict[str, Any]]:
        return [row for row in self._metrics if row.get("update", 0) <= update]

    def _check_metrics(self, update, digest):
        path, rows = self.path / "metrics.jsonl", self._rows_until(update)
        if [row["update"] for row in rows] != list(range(1, update + 1)):
            raise InputError(f"{path}: has not one row for each update up to {update}")
        for row in rows:
            for name in DRAWN:
                if not is_number(row.get(name)):
                    raise InputError(f"{path}: no number {name} of update {row['update']}")
        if digest != digest_of(rows):
            raise InputError(f"{path}: the rows up to update {update} are not as they were written")


@contextlib.contextmanager
def _one_line(path):
    """An OSError of the write inside becomes one line that names the path."""
    try:
        yield path
    except OSError as error:
        raise TrainingError(f"cannot write {path}: {reason(error)}") from error
