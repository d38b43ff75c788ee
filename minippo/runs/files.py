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
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import Tensor


def temporary_beside(path: str | Path) -> Path:
    """A hidden name in the folder of `path` that nobody else uses; the same folder, because a
    rename must not copy."""
    path = Path(path)
    return path.with_name(f".{path.name}.{secrets.token_hex(4)}.tmp")


def write_bytes_whole(path: str | Path, data: bytes) -> None:
    """Write `data` to `path`; on any failure the old file stays as it was and nothing else is left
    behind."""
    temporary = temporary_beside(path)
    try:
        with open(temporary, "xb") as file:
            file.write(data)
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
    """A dict of tensors in safetensors format.

    The format refuses tensors that share memory. A tensor that has several names (a tied
    output layer) is written once, and the file's metadata says which names point to it.
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
