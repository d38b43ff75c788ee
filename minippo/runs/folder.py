"""The folder of one run.

    config.json  metrics.jsonl  samples.jsonl  summary.json  figures/*.png  checkpoints/<stage>/

Two kinds of trouble are told apart. A folder that cannot be used is the user's to change: InputError, before anything
is trained. A write that fails later (a disk that fills) ends the run: TrainingError. Either is one line.
"""

import contextlib
import io
import itertools
import json
import os
import shutil
from pathlib import Path

from minippo.errors import InputError, TrainingError
from minippo.runs.files import temporary_beside, write_bytes_whole, write_json, write_jsonl

MARKS_OF_A_RUN = ("config.json", "summary.json", "metrics.jsonl", "checkpoints")


class RunFolder:
    """Where a run keeps what it makes. Get one from `RunFolder.create`."""

    def __init__(self, path):
        self.path = Path(path)
        self._metrics = _read_jsonl(self.path / "metrics.jsonl")  # empty, unless a run is taken up again

    @classmethod
    def create(cls, out=None, *, default_name, root="runs", resume=False):
        """The folder `out`; without one, root/default_name, with -2, -3 ... when that is taken.

        Raises InputError when a folder that was named holds anything (a run may be held with `resume`), is a file, or
        cannot be made or written to.
        """
        path = _new_folder(Path(root), default_name) if out is None else _named_folder(out, resume)
        _check_writable(path, "--out" if out is not None else "the run folder")
        return cls(path)

    def save_config(self, config):
        """config.json, one object."""
        with _one_line(self.path / "config.json") as path:
            write_json(path, config)

    def append_metrics(self, row):
        """Add one update to metrics.jsonl. The file is written anew each time, so that it never ends in half a line."""
        self._metrics.append(dict(row))
        with _one_line(self.path / "metrics.jsonl") as path:
            write_jsonl(path, self._metrics)

    def save_samples(self, rows):
        """samples.jsonl, one object per prompt."""
        with _one_line(self.path / "samples.jsonl") as path:
            write_jsonl(path, rows)

    def save_summary(self, summary):
        """summary.json, one object."""
        with _one_line(self.path / "summary.json") as path:
            write_json(path, summary)

    def save_figure(self, name, figure):
        """figures/<name>.png; returns its path. The picture is made in memory first."""
        with _one_line(self.path / "figures" / f"{name}.png") as path:
            picture = io.BytesIO()
            figure.savefig(picture, format="png")
            path.parent.mkdir(exist_ok=True)
            write_bytes_whole(path, picture.getvalue())
        return path

    def save_checkpoint(self, stage, model, *, model_config, tokenizer, extra_tensors=None):
        """checkpoints/<stage>/ with model.safetensors, config.json, tokenizer.json; returns its path.

        `extra_tensors` (an optimiser's state, say) go to extra.safetensors beside them: who wants the model only need
        not read them.
        """
        with _one_line(self.path / "checkpoints" / stage) as path:
            path.parent.mkdir(exist_ok=True)
            with _whole_folder(path) as temporary:
                write_bytes_whole(temporary / "model.safetensors", tensors_to_bytes(model.state_dict()))
                write_json(temporary / "config.json", model_config)
                write_json(temporary / "tokenizer.json", tokenizer)
                if extra_tensors is not None:
                    write_bytes_whole(temporary / "extra.safetensors", tensors_to_bytes(extra_tensors))
        return path


def load_checkpoint(path):
    """(tensors by name, config, tokenizer) of a folder that save_checkpoint made.

    Raises InputError, naming the file, when one of the three is missing or cannot be read.
    """
    config, tokenizer = (_read_json(Path(path) / name) for name in ("config.json", "tokenizer.json"))
    return load_tensors(Path(path) / "model.safetensors"), config, tokenizer


def tensors_to_bytes(tensors):
    """A dict of tensors in safetensors format.

    The format refuses tensors that share memory. A tensor that stands under several names (a tied output layer) is
    written once, and the file's metadata says which names point to it.
    """
    from safetensors.torch import save

    first_name, written, same_as = {}, {}, {}
    for name, tensor in tensors.items():
        identity = (tensor.data_ptr(), tensor.dtype, tuple(tensor.shape), tensor.stride())
        if tensor.numel() and identity in first_name:
            same_as[name] = first_name[identity]
        else:
            first_name[identity] = name
            written[name] = tensor.detach().to("cpu", copy=True).contiguous()
    return save(written, metadata={"same_as": json.dumps(same_as)})


def load_tensors(path):
    """The tensors of one file that tensors_to_bytes made, on the CPU. Nothing in the file is ever executed."""
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="pt") as file:
            tensors = {name: file.get_tensor(name) for name in file.keys()}
            same_as = json.loads((file.metadata() or {}).get("same_as", "{}"))
        return tensors | {name: tensors[first] for name, first in same_as.items()}
    except OSError as error:
        raise InputError(f"{path}: {_reason(error)}") from error
    except (SafetensorError, ValueError, KeyError) as error:
        raise InputError(f"{path}: not a checkpoint that can be read ({error})") from error


def _new_folder(root, name):
    """Make root/name, or the first of name-2, name-3 ... that is free.

    mkdir itself says whether a name is taken: two runs that start at once get two folders.
    """
    try:
        root.mkdir(parents=True, exist_ok=True)
        for number in itertools.count(1):
            path = root / (name if number == 1 else f"{name}-{number}")
            with contextlib.suppress(FileExistsError):
                path.mkdir()
                return path
    except OSError as error:
        raise InputError(f"no run folder can be made in {root}: {_reason(error)}; name a place with --out") from error


def _named_folder(out, resume):
    """Make the folder that the user named, or take it when it is empty, or when its run is to be resumed."""
    if not str(out):
        raise InputError("--out: the name of the folder is empty")
    path = Path(out)
    try:
        path.mkdir(parents=True, exist_ok=True)
        names = os.listdir(path)
    except FileExistsError as error:
        raise InputError(f"--out {path}: exists and is not a folder") from error
    except OSError as error:
        raise InputError(f"--out {path}: cannot be used: {_reason(error)}") from error
    holds_a_run = any(mark in names for mark in MARKS_OF_A_RUN)
    if holds_a_run and not resume:
        raise InputError(f"--out {path}: holds a run already; name another folder, nothing was written over")
    if names and not holds_a_run:
        raise InputError(f"--out {path}: is not empty; name another folder, nothing was written over")
    return path


def _check_writable(path, what):
    """Find out now, not after minutes of training. Only a real write can tell: rights, quotas, read-only disks."""
    probe = temporary_beside(path / "probe")
    try:
        probe.write_bytes(b"can this be written?")
        probe.unlink()
    except OSError as error:
        with contextlib.suppress(OSError):
            probe.unlink(missing_ok=True)
        raise InputError(f"{what} {path}: cannot be written: {_reason(error)}") from error


@contextlib.contextmanager
def _one_line(path):
    """An OSError of the write inside becomes one line that names the path."""
    try:
        yield path
    except OSError as error:
        raise TrainingError(f"cannot write {path}: {_reason(error)}") from error


@contextlib.contextmanager
def _whole_folder(path):
    """Fill a temporary folder; it takes the name `path` when all went well, and is removed when not.

    A folder cannot be renamed onto another that is not empty: an older one steps aside first, and comes back when the
    new one fails to take its place.
    """
    temporary, aside = temporary_beside(path), temporary_beside(path)
    try:
        temporary.mkdir()
        yield temporary
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


def _read_json(path):
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise InputError(f"{path}: {_reason(error)}") from error
    except ValueError as error:  # broken JSON, or bytes that are not UTF-8
        raise InputError(f"{path}: not JSON that can be read ({error})") from error


def _read_jsonl(path):
    """The rows of a file, none where there is no file."""
    if not path.exists():
        return []
    rows = []
    for number, line in enumerate(path.read_bytes().splitlines(), start=1):
        try:
            rows.append(json.loads(line))
        except ValueError as error:
            raise InputError(f"{path}, line {number}: not JSON that can be read ({error})") from error
    return rows


def _reason(error):
    """The system's own words, without the error number and the path that str(error) puts around them."""
    return error.strerror or str(error) or type(error).__name__
