"""The files of a model that anybody may have written: JSON, and tensors in one file or in several.

What JSON allows is read: numbers of any size, NaN, fields of which nothing is known here. A number
is only refused where it is used. Links are followed, since a download cache of Hugging Face is made
of them; the files themselves are those of the folder that was named, whatever an index says.
"""

import json
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from torch import Tensor

from minippo.errors import InputError
from minippo.runs.kinds import LONGEST_START, known_kind
from minippo.runs.read import LARGEST_TOKENIZER, first_words, is_deep, reason

WEIGHTS, INDEX = "model.safetensors", "model.safetensors.index.json"
SHARD = r"\w[\w.-]*\.safetensors"  # a name, and no way out of the folder
OTHER_WEIGHTS = ("*.safetensors", "*.bin", "*.pt", "*.pth", "*.ckpt", "*.h5", "*.msgpack", "*.gguf")
PICKLES = (".bin", ".pt", ".pth", ".ckpt")
# what torch.compile, DistributedDataParallel and FSDP put into the names of the parameters
WRAPPERS = ("_orig_mod", "module", "_fsdp_wrapped_module", "_checkpoint_wrapped_module")
LONGEST_WHOLE = 100  # digits; a longer number is read as a float
DEEPEST = 100  # lists and objects in one another


# -- the folder


def check_folder(folder: Path) -> None:
    """InputError where this is not the folder of a model, with what it is instead."""
    if not folder.is_dir():
        if folder.is_file():
            raise InputError(f"{folder}: is a file; give the folder of the model")
        raise InputError(
            f"{folder}: there is no such folder, and nothing is downloaded; give the folder of a "
            "GPT-2 on this machine"
        )
    if run := _run_of(folder):
        raise InputError(
            f"{folder}: is from a run of minippo; to have its model in such files: "
            f"python -m minippo.export --run {run} --to hf DIR2"
        )
    if _has_weights(folder):
        return
    if (folder / "adapter_config.json").exists():
        raise InputError(
            f"{folder}: holds a LoRA adapter and not the model; merge the two in peft: "
            "model.merge_and_unload().save_pretrained(DIR)"
        )
    if not (folder / "config.json").exists() and (inner := _models_inside(folder)):
        raise InputError(f"{folder}: holds models in folders of their own; give {inner[0]}")


def _run_of(folder):
    """The run folder that this is, or whose checkpoint it is; else None."""
    if any(folder.glob("checkpoints/*/config.json")) and not _has_weights(folder):
        return folder
    is_checkpoint = folder.parent.name == "checkpoints" and (folder / "info.json").exists()
    return folder.parent.parent if is_checkpoint else None


def _has_weights(folder):
    return (folder / WEIGHTS).exists() or (folder / INDEX).exists()


def _models_inside(folder):
    """A download cache keeps its models in snapshots/, a training program in checkpoint-N."""
    found = [*folder.glob("snapshots/*/config.json"), *folder.glob("checkpoint-*/config.json")]
    return sorted(path.parent for path in found)


# -- JSON


def read_foreign_json(path: Path) -> dict[str, Any]:
    """The object that a JSON file holds, with any number that JSON can write."""
    data = _bytes_of(path)
    try:
        found = json.loads(data.decode("utf-8-sig"), parse_int=_whole)
    except RecursionError:
        raise InputError(f"{path}: not JSON that can be read (nested too deeply)") from None
    except ValueError as error:  # broken JSON, or bytes that are not UTF-8
        what = known_kind(data) or f"not JSON that can be read ({first_words(error)})"
        raise InputError(f"{path}: {what}") from error
    if not isinstance(found, dict):
        raise InputError(f"{path}: not JSON that can be read (wanted an object)")
    if is_deep(found, DEEPEST):
        raise InputError(f"{path}: not JSON that can be read (nested too deeply)")
    return found


def _bytes_of(path):
    try:
        if not path.is_file():
            raise InputError(f"{path}: there is no such file")
        if path.stat().st_size > LARGEST_TOKENIZER:
            raise InputError(
                f"{path}: has more than the {LARGEST_TOKENIZER} bytes that are read of such a file"
            )
        return path.read_bytes()
    except OSError as error:
        raise InputError(f"{path}: {reason(error)}") from error


def _whole(text):
    return int(text) if len(text) <= LONGEST_WHOLE else float(text)


# -- tensors


def load_weights(folder: Path) -> tuple[Path, dict[str, Tensor]]:
    """(file to name in messages, tensors by their plain names) of a folder, in one file or in
    several."""
    if (folder / WEIGHTS).exists():
        path = folder / WEIGHTS
        tensors = load_foreign_tensors(path)
    elif (folder / INDEX).exists():
        path = folder / INDEX
        tensors = load_shards(path)
    else:
        raise InputError(f"{folder}: {_why_no_weights(folder)}")
    plain = {plain_name(name): tensor for name, tensor in tensors.items()}
    if len(plain) < len(tensors):
        name = _twice(plain_name(name) for name in tensors)
        raise InputError(f"{path}: {name}: is there under two names")
    return path, plain


def plain_name(name: str) -> str:
    """'module._orig_mod.transformer.h.0.ln_1.bias' -> 'h.0.ln_1.bias'."""
    parts = [part for part in name.split(".") if part not in WRAPPERS]
    return ".".join(parts).removeprefix("transformer.")


def load_foreign_tensors(path: Path) -> dict[str, Tensor]:
    """The tensors of a safetensors file, of any type of number."""
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        return load_file(path)
    except OSError as error:
        raise InputError(f"{path}: {reason(error)}") from error
    except (SafetensorError, ValueError, TypeError, RuntimeError) as error:
        # asked only now: the length that a good file begins with can look like anything
        with open(path, "rb") as file:
            what = known_kind(file.read(LONGEST_START))
        what = what or f"not a file of tensors that can be read ({first_words(error)})"
        raise InputError(f"{path}: {what}") from error


def load_shards(index: Path) -> dict[str, Tensor]:
    """The tensors of all the files that an index names: each is in one of them, and where the
    index says."""
    places = places_of(index)
    tensors: dict[str, Tensor] = {}
    for name in sorted(set(places.values())):
        path = index.parent / name
        if not path.exists():
            raise InputError(f"{path}: there is no such file, and {index.name} names it")
        found = load_foreign_tensors(path)
        if name_of_both := _twice([*tensors, *found]):
            raise InputError(f"{path}: {name_of_both}: is in another file as well")
        for tensor, file in places.items():
            if file == name and tensor not in found:
                raise InputError(f"{path}: {tensor}: is not in it, and {index.name} says so")
        tensors |= found
    return tensors


def places_of(index: Path) -> dict[str, str]:
    """{tensor: file} of an index. InputError where it is none, and where it names a file outside
    its folder."""
    places = read_foreign_json(index).get("weight_map")
    if not isinstance(places, dict) or not places:
        raise InputError(f"{index}: weight_map: wanted an object, {{tensor: file}}")
    for file in places.values():
        if not isinstance(file, str) or not re.fullmatch(SHARD, file):
            raise InputError(
                f"{index}: weight_map: wanted names of safetensors files in this folder, got "
                f"{first_words(repr(file))}"
            )
    return places


def _twice(names: Iterable[str]) -> str | None:
    """The first name that is there twice."""
    seen: set[str] = set()
    return next((name for name in names if name in seen or seen.add(name)), None)


def _why_no_weights(folder):
    found = sorted({path.name for pattern in OTHER_WEIGHTS for path in folder.glob(pattern)})
    if not found:
        return f"there is no {WEIGHTS} in it"
    if all(name.endswith(PICKLES) for name in found):
        return (
            f"{found[0]} is a pickle, and nothing is unpickled here; save the weights as {WEIGHTS}"
        )
    return f"there is no {WEIGHTS} in it (found {', '.join(found[:5])}); save the weights so"
