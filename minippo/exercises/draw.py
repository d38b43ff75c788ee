"""How the cases of an exercise are drawn: the fixed ones, and others of the same kind from a
seed."""

import hashlib
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from minippo.exercises.observe import Case


class Draw:
    """Numbers for the cases of an exercise, in float32: the same for the same exercise and seed."""

    def __init__(self, name: str, seed: bytes | None) -> None:
        self.name, self.fixed = name, seed is None
        digest = hashlib.sha256(name.encode() + b"\0" + (b"fixed" if seed is None else seed))
        self.generator = torch.Generator().manual_seed(int.from_bytes(digest.digest()[:7], "big"))
        self.made: list[Case] = []

    def normal(self, *shape: int) -> Tensor:
        return torch.randn(shape, generator=self.generator)

    def uniform(self, low: float, high: float, *shape: int) -> Tensor:
        return low + (high - low) * torch.rand(shape, generator=self.generator)

    def whole(self, low: int, high: int, *shape: int) -> Tensor:
        """Whole numbers from low to high, both included."""
        return torch.randint(low, high + 1, shape, generator=self.generator)

    def one(self, low: float, high: float) -> float:
        """A plain number with two digits."""
        return round(self.uniform(low, high).item(), 2)

    def order(self, n: int) -> list[int]:
        return torch.randperm(n, generator=self.generator).tolist()

    def longest(self, usual: int) -> int:
        """The usual length, or up to two more in a hidden case."""
        return usual if self.fixed else usual + int(self.whole(0, 2))

    def lengths(self, rows: int, longest: int) -> list[int]:
        """Lengths of rows in a drawn order: one has the longest, the others are shorter."""
        drawn = [longest, *(self.whole(1, max(1, longest - 1), rows - 1)).tolist()]
        return [drawn[i] for i in self.order(rows)]

    def mask(self, rows: int, longest: int, width: int) -> Tensor:
        """[rows,width] bool: a row is True in its first slots."""
        return mask_of_lengths(self.lengths(rows, longest), width)

    def add(self, holds: str, slip: tuple[str | None, str] | None = None, **arguments: Any) -> None:
        """One case more; `holds` says what is in it."""
        case = Case(arguments)
        case.holds, case.slip = holds, slip
        self.made.append(case)

    def cases(self) -> list[Case]:
        """All that were added: as they came, or, if they are hidden, in a drawn order."""
        if not self.fixed:
            self.made = [self.made[i] for i in self.order(len(self.made))]
        for k, case in enumerate(self.made):
            case.where = f"exercise.cases()[{k}]" if self.fixed else "a case that is not shown"
        return self.made


def mask_of_lengths(lengths: Sequence[int], width: int) -> Tensor:
    """[B] lengths -> [B,width] bool, row b True in its first lengths[b] slots: what the cases call
    response_mask."""
    return torch.arange(width) < torch.tensor(lengths)[:, None]


def rows_in_words(mask: Tensor) -> str:
    """What a mask holds: "rows of 2 and 4 tokens in 5 slots"."""
    counts = [str(n) for n in mask.sum(dim=-1).flatten().tolist()]
    listed = " and ".join([", ".join(counts[:-1]), counts[-1]] if counts[1:] else counts)
    return f"rows of {listed} tokens in {mask.shape[-1]} slots"
