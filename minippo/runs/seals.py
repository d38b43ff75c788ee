"""Which run a checkpoint belongs to: what it was made from, and what came out.

sha256.json (checkpoints.py) says that the files of a checkpoint are as somebody wrote them.
seal.json says what they are:

    depends_on  a digest of what this stage and those before it read: settings, seed, texts
    before      the seal of the stage before; null for the first
    result      a digest of the files that were made, but for the seconds in them

The seal of a stage is the digest of its seal.json. Nothing in it is drawn by chance, and nothing
tells of the machine or the folder: two runs of one seed have the same seals.

config.json carries a digest of the rest of itself, under the name sha256.
"""

import hashlib
import json
import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from minippo.errors import InputError
from minippo.runs.checkpoints import SEAL, digest
from minippo.runs.files import plain, write_json
from minippo.runs.read import LARGEST_NUMBERS, read_json

ORIGIN = "seal.json"
OWN_DIGEST = "sha256"  # of config.json
# fields that tell the time, or, like the digest of the metrics, depend on rows that do
TIMES = {"info.json": ("seconds",), "numbers.json": ("stage_seconds", "metrics")}


class Origin(NamedTuple):
    """What a checkpoint was made from."""

    depends_on: str  # a digest of settings, seed and texts
    before: str | None = None  # the seal of the stage before; None: there is none, or nobody asks


def digest_of(obj: object) -> str:
    """The SHA-256 of what JSON can say, whatever the order of its names."""
    return hashlib.sha256(json.dumps(plain(obj), sort_keys=True).encode()).hexdigest()


def write_origin(path: Path, origin: Origin) -> None:
    """seal.json of a checkpoint whose other files are written."""
    write_json(path / ORIGIN, origin._asdict() | {"result": _result_of(path, os.listdir(path))})


def check_origin(path: Path, origin: Origin) -> None:
    """InputError unless the checkpoint was made from this, and is what was made."""
    found = read_json(path / ORIGIN)
    if found.get("depends_on") != origin.depends_on:
        raise InputError(f"{path}: is of another run, with other settings, seed or texts")
    if origin.before is not None and found.get("before") != origin.before:
        raise InputError(f"{path}: was not made from the stage before it as that is now")
    if found.get("result") != _result_of(path, read_json(path / SEAL)):
        raise InputError(f"{path}: is not as this run wrote it")


def seal_of(path: Path) -> str:
    """The seal of a checkpoint: the digest of its seal.json."""
    return digest_of(read_json(path / ORIGIN))


def _result_of(path: Path, names: Iterable[str]) -> str:
    found = {}
    for name in sorted({*names} - {ORIGIN, SEAL}):
        if name in TIMES:
            content = read_json(path / name, LARGEST_NUMBERS)
            found[name] = digest_of({key: content[key] for key in content.keys() - TIMES[name]})
        else:
            found[name] = digest(path / name)
    return digest_of(found)


def sealed_config(config: Mapping[str, Any]) -> dict[str, Any]:
    """What config.json holds, with its own digest."""
    return {**config, OWN_DIGEST: digest_of(config)}


def read_config(path: str | Path) -> dict[str, Any]:
    """The content of a config.json. InputError when it cannot be read, or has a digest and is not
    what the run wrote."""
    config = read_json(path)
    if OWN_DIGEST in config:
        check_config(config, path)
    return config


def check_config(config: Mapping[str, Any], path: str | Path) -> None:
    """InputError when the content of a config.json is not what the run wrote."""
    rest = {name: value for name, value in config.items() if name != OWN_DIGEST}
    if config.get(OWN_DIGEST) != digest_of(rest):
        raise InputError(
            f"{path}: is not as the run wrote it; undo the change, or start a new run with the "
            "settings that you want"
        )
