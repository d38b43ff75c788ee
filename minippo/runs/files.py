"""Files that are written whole or not at all.

A run can be interrupted, or the disk can fill, at any moment. Each file is therefore written under
a temporary name in the same folder, forced to the disk, and only then given its real name: a reader
sees the old content or the new one, never half of either. An OSError is let out; whoever calls
knows what it means.
"""

from __future__ import annotations

import contextlib
import json
import math
import os
import secrets
import struct
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import Tensor


# torch's names of numbers and those of safetensors, in the order of its files from the end
KINDS = {
    "torch.bool": "BOOL",
    "torch.uint8": "U8",
    "torch.int8": "I8",
    "torch.int16": "I16",
    "torch.float16": "F16",
    "torch.bfloat16": "BF16",
    "torch.int32": "I32",
    "torch.float32": "F32",
    "torch.float64": "F64",
    "torch.int64": "I64",
}
ALIGNED = 8  # bytes, at whose multiple the numbers begin


def temporary_beside(path: str | Path) -> Path:
    """A hidden name in the folder of `path` that nobody else uses; the same folder, because a
    rename must not copy."""
    path = Path(path)
    return path.with_name(f".{path.name}.{secrets.token_hex(4)}.tmp")


def write_bytes_whole(path: str | Path, data: bytes) -> None:
    """Write `data` to `path`; on any failure the old file stays as it was and nothing else is left
    behind."""
    write_parts_whole(path, [data])


def write_tensors_whole(path: str | Path, tensors: Mapping[str, Tensor]) -> None:
    """Write a dict of tensors in safetensors format."""
    write_parts_whole(path, tensor_parts(tensors))


def write_parts_whole(path: str | Path, parts: Iterable[bytes | memoryview]) -> None:
    """Write bytes that come in parts; whole or not at all, as above."""
    temporary = temporary_beside(path)
    try:
        with open(temporary, "xb") as file:
            for part in parts:
                file.write(part)
            file.flush()
            os.fsync(file.fileno())  # the content must be on the disk before the name points at it
        os.replace(temporary, path)
    except BaseException:  # Ctrl-C included
        with contextlib.suppress(OSError):  # the first failure is the one to tell
            temporary.unlink(missing_ok=True)
        raise


def write_text_whole(path: str | Path, text: str) -> None:
    """Write `text` as UTF-8, with the line ends that it has."""
    write_bytes_whole(path, text.encode("utf-8"))


def write_json(path: str | Path, obj: object) -> None:
    """Write one object, indented by two spaces; what is not finite becomes null."""
    write_text_whole(path, json.dumps(plain(obj), indent=2, allow_nan=False) + "\n")


def write_jsonl(path: str | Path, rows: Iterable[object]) -> None:
    """Write one object per line; what is not finite becomes null."""
    write_text_whole(path, "".join(json.dumps(plain(row), allow_nan=False) + "\n" for row in rows))


def plain(obj: Any) -> Any:
    """A copy made of what JSON knows: NaN and infinity become None, arrays become lists, paths
    become text."""
    if hasattr(obj, "tolist"):  # a NumPy or torch array, or one of their scalars
        obj = obj.tolist()
    if isinstance(obj, dict):
        return {key: plain(value) for key, value in obj.items()}
    if isinstance(obj, (list, tuple)):
        return [plain(value) for value in obj]
    if isinstance(obj, float) and not math.isfinite(obj):
        return None
    return str(obj) if isinstance(obj, Path) else obj


def tensors_to_bytes(tensors: Mapping[str, Tensor]) -> bytes:
    """A dict of tensors in safetensors format."""
    return b"".join(tensor_parts(tensors))


def tensor_parts(tensors: Mapping[str, Tensor]) -> Iterator[bytes | memoryview]:
    """The same in parts, first the head and then the numbers of each tensor as they lie in memory:
    a model of a gigabyte is written without a copy of it.

    The bytes are those of safetensors.torch.save: the widest numbers first, then by name. A tensor
    that has several names (a tied output layer) is written once, and the file's metadata says which
    names point to it.
    """
    first_name: dict[Any, str] = {}
    written: dict[str, Tensor] = {}
    same_as: dict[str, str] = {}
    for name, tensor in tensors.items():
        identity = (tensor.data_ptr(), tensor.dtype, tuple(tensor.shape), tensor.stride())
        if tensor.numel() and identity in first_name:
            same_as[name] = first_name[identity]
        else:
            first_name[identity] = name
            written[name] = tensor
    names = sorted(written, key=lambda name: (-width_of(written[name]), name))
    head: dict[str, Any] = {"__metadata__": {"same_as": json.dumps(same_as)}}
    end = 0
    for name in names:
        start, end = end, end + written[name].nbytes
        kind = KINDS[str(written[name].dtype)]
        head[name] = {
            "dtype": kind,
            "shape": list(written[name].shape),
            "data_offsets": [start, end],
        }
    text = json.dumps(head, ensure_ascii=False, separators=(",", ":")).encode()
    text += b" " * (-len(text) % ALIGNED)
    yield struct.pack("<Q", len(text)) + text
    for name in names:
        yield numbers_of(written[name])


def width_of(tensor: Tensor) -> int:
    """The place of its kind of numbers among the others, the widest last."""
    return [*KINDS].index(str(tensor.dtype))


def numbers_of(tensor: Tensor) -> memoryview:
    """The bytes of a tensor, in place where it lies on the CPU in one piece."""
    import torch

    flat = tensor.detach().cpu().contiguous().reshape(-1)
    return flat.view(torch.uint8).numpy().data
