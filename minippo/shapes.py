"""One guard for the arguments of the mathematics, so that a wrong shape is an error and not a
broadcast.

PyTorch stretches a [B,1] tensor over a [B,T] one without a word, and a mask of integers selects
rows where a mask of booleans selects tokens. Both give a number, and the number is wrong. The
functions below look first, and their ValueError names the argument, what came and what was wanted.
"""

import math
import weakref
from numbers import Integral, Real

import torch
from torch import Tensor


def check_shapes(**arguments: tuple[Tensor, str]) -> None:
    """Refuse tensors whose dtype or shape is not the one that was announced, and empty ones.

    Each argument is a pair (tensor, wanted). `wanted` is a list of dimension names such as "B T"; a
    name stands for one size in the whole call. "..." stands for one whole shape, the same wherever
    it is used. The dtype comes first when it is not a float: "bool B T", "int64 B T".
    """
    known = {}
    for name, (tensor, wanted) in arguments.items():
        check_shape(name, tensor, wanted, known)
        if tensor.numel() == 0:
            raise ValueError(
                f"{name}: got shape {list(tensor.shape)}, wanted at "
                "least one element in every dimension"
            )


def check_shape(
    name: str, tensor: Tensor, wanted: str, known: dict[str, tuple[object, str]] | None = None
) -> None:
    """The same for one tensor, which may be empty; `known` maps a dimension to (its size, the
    argument that set it)."""
    known = {} if known is None else known
    words = wanted.split()
    dtype = words.pop(0) if words[0] in ("bool", "int64") else "float"
    check_dtype(dtype, **{name: tensor})
    shape = list(tensor.shape)
    sizes = [shape] if words == ["..."] else shape
    agree = (
        known.setdefault(word, (size, name))[0] == size
        for word, size in zip(words, sizes, strict=True)
    )
    if len(sizes) == len(words) and all(agree):
        return
    sources = [
        f"{word} = {known[word][0]} as in {known[word][1]}"
        for word in dict.fromkeys(words)
        if word in known
    ]
    where = f" with {', '.join(sources)}" if sources else ""
    raise ValueError(f"{name}: got shape {shape}, wanted [{', '.join(words)}]{where}")


def check_dtype(wanted: str, **tensors: Tensor) -> None:
    """Refuse what is not a tensor of the wanted dtype: "float" (any width), "bool" or "int64"."""
    for name, tensor in tensors.items():
        if not isinstance(tensor, torch.Tensor):
            raise ValueError(f"{name}: got {type(tensor).__name__}, wanted a tensor")
        fits = (
            tensor.is_floating_point()
            if wanted == "float"
            else tensor.dtype == getattr(torch, wanted)
        )
        if not fits:
            raise ValueError(f"{name}: got dtype {tensor.dtype}, wanted {wanted}")


def check_mask(**masks: Tensor) -> None:
    """Refuse a response mask unless every row is one or more True from t=0 on, and then only False.

    A mask that has been found good is not read again: on a GPU each look waits for all that was
    started before.
    """
    for name, mask in masks.items():
        check_shapes(**{name: (mask, "bool B T")})
        if is_known_good(mask):
            continue
        good = mask[:, 0].all() & ~(mask[:, 1:] & ~mask[:, :-1]).any()
        if good.item():
            remember_as_good(mask)
            continue
        empty_rows = (~mask.any(dim=1)).nonzero()
        if len(empty_rows) > 0:
            raise ValueError(
                f"{name}: row {empty_rows[0].item()} has no True, wanted at least one in every row"
            )
        late = (mask[:, 1:] & ~mask[:, :-1]).nonzero()  # a True right after a False
        if len(late) > 0:
            row, slot = late[0].tolist()
            raise ValueError(
                f"{name}: row {row} is True at t={slot + 1} after a False, wanted True from t=0 on"
            )


def check_ids(size: int, **tensors: Tensor) -> None:
    """Refuse token ids outside [0, size). Ids that have been found good are not read again."""
    for name, ids in tensors.items():
        if is_known_good(ids, size):
            continue
        low, high = torch.stack(ids.aminmax()).tolist()
        if low < 0 or high >= size:
            raise ValueError(f"{name}: got ids from {low} to {high}, wanted ids in [0, {size})")
        remember_as_good(ids, size)


# {id of a mask or of token ids: (itself, the version that was read, the size of check_ids)}
_GOOD: dict[int, tuple[weakref.ref[Tensor], int, int]] = {}


def remember_as_good(tensor: Tensor, size: int = 0) -> None:
    """Spare check_mask a mask that is known to pass, or check_ids token ids below a size."""
    if tensor.is_inference():
        return  # such a tensor does not say whether it was written into
    key = id(tensor)
    alive = weakref.ref(tensor, lambda _: _GOOD.pop(key, None))
    _GOOD[key] = alive, tensor._version, size


def is_known_good(tensor: Tensor, size: int = 0) -> bool:
    """Has a check passed this very tensor, and has nothing been written into it since?"""
    known = _known_size(tensor)
    return known is not None and known <= size


def rows_are_as_good(rows: Tensor, whole: Tensor) -> None:
    """What is known of a tensor is known of some of its rows."""
    known = _known_size(whole)
    if known is not None:
        remember_as_good(rows, known)


def _known_size(tensor: Tensor) -> int | None:
    """The size that is remembered with a tensor; None without one, or if it was written into."""
    if id(tensor) not in _GOOD:
        return None
    alive, version, size = _GOOD[id(tensor)]
    return size if alive() is tensor and version == tensor._version else None


def check_data(**tensors: Tensor) -> None:
    """Refuse data that requires grad: a loss would then train through what it should take as
    given."""
    for name, tensor in tensors.items():
        if tensor.requires_grad:
            raise ValueError(
                f"{name}: got a tensor that requires grad, wanted data (see detach and no_grad)"
            )


def check_batch(response_mask: Tensor, *, data: dict[str, Tensor], **current: Tensor) -> None:
    """The guard of a function on responses: a mask and float tensors of its shape [B,T]; `data`
    must not require grad."""
    tensors = {name: (tensor, "B T") for name, tensor in {**current, **data}.items()}
    check_shapes(**tensors, response_mask=(response_mask, "bool B T"))
    check_mask(response_mask=response_mask)
    check_data(**data)


def check_range(interval: str, **scalars: float) -> None:
    """Refuse numbers outside an interval written as in mathematics: "[0, 1]", "(0, inf]". NaN is in
    no interval."""
    low, high = (float(end) for end in interval[1:-1].split(","))
    for name, value in scalars.items():
        if not isinstance(value, Real) or isinstance(value, bool):
            raise ValueError(f"{name}: got {type(value).__name__}, wanted a number in {interval}")
        above = value >= low if interval[0] == "[" else value > low
        below = value <= high if interval[-1] == "]" else value < high
        if math.isnan(value) or not (above and below):
            raise ValueError(f"{name}: got {value}, wanted a number in {interval}")


def check_count(**counts: int) -> None:
    """Refuse what is not a whole number of at least 1."""
    for name, value in counts.items():
        if not isinstance(value, Integral) or isinstance(value, bool) or value < 1:
            raise ValueError(f"{name}: got {value}, wanted a whole number of at least 1")
