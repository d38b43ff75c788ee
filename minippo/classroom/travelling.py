"""An exercise that was written down as numbers: what the student version checks with.

Together with five modules of minippo/exercises that know no answer (observe, compare, messages,
recognise, engine) this file is copied into the student's folder, where their names begin with
checks.judge. The right values, those of every listed mistake and those of the right answer after
one change or two are read from checks.json beside that package; recording.py has written them. The
engine is the same, so the tolerance and the names of the mistakes are.
"""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from minippo.exercises.engine import Exercise
from minippo.exercises.observe import Case, MeanKL, from_plain
from minippo.exercises.recognise import Change, Function, Mistake

FORMAT = 1
_read: dict[Path, dict[str, Any]] = {}


class NotRecorded(RuntimeError):
    """A function is asked for what was not written down, or what it failed with."""


def key_of(case: dict[str, Any]) -> tuple[object, ...]:
    """What tells the arguments of one call from those of another, whatever the dtype of floats."""
    parts: list[object] = []
    for name, value in sorted(case.items()):
        for part in (value.to_logits, value.theta) if isinstance(value, MeanKL) else (value,):
            is_tensor = isinstance(part, Tensor)
            numbers = part.detach().double() if is_tensor else part
            parts.append((name, numbers.numpy().tobytes() if is_tensor else repr(numbers)))
    return tuple(parts)


def is_narrow(case: dict[str, Any]) -> bool:
    """Are the floats of a case float32, as it was drawn?"""
    return any(isinstance(x, Tensor) and x.dtype == torch.float32 for x in case.values())


class Carry(torch.autograd.Function):
    """A recorded value whose weighted total (see observe) has the recorded gradients."""

    @staticmethod
    def forward(ctx: Any, value: Tensor, gradients: list[Tensor], *_inputs: Tensor) -> Tensor:
        """value [...], gradients like the inputs -> the value."""
        finite = value.flatten().isfinite().nonzero()
        ctx.place = int(finite[0]) if len(finite) else None
        ctx.gradients = gradients
        return value.clone()

    @staticmethod
    def backward(ctx: Any, *outputs: Tensor) -> Any:
        """Of the total, every slot's weight is known: one slot is enough to carry all."""
        share = 0.0 if ctx.place is None else outputs[0].flatten()[ctx.place] / (1 + ctx.place)
        return None, None, *[gradient * share for gradient in ctx.gradients]


class Recorded:
    """A function that knows its values on the cases, and nothing else.

    rows: for each case {"wide": record, "own": record}, the second one only of extreme cases; a
    record is None, where the function failed, or the places of its value and of its gradients among
    the tensors.
    """

    def __init__(self, rows: list[dict[str, Any]], keys: dict[Any, int], tensors: list[Tensor]):
        self.rows, self.keys, self.tensors = rows, keys, tensors
        self.after: dict[int, Recorded] = {}  # place of a change -> this function after it

    def __call__(self, **case: Any) -> Tensor:
        k = self.keys.get(key_of(case))
        if k is None:
            raise NotRecorded("these are not the arguments of a case")
        row = self.rows[k]
        record = row["own" if is_narrow(case) and "own" in row else "wide"]
        if record is None:
            raise NotRecorded("there is no value")
        value = self.tensors[record["value"]]
        wanted = {n: i for n, i in record["gradients"].items() if case[n].requires_grad}
        if not wanted:
            return value.clone()
        inputs = [case[name] for name in wanted]
        gradients = [
            self.tensors[i].to(x.dtype) for i, x in zip(wanted.values(), inputs, strict=True)
        ]
        return Carry.apply(value, gradients, *inputs)


def not_recorded(**_case: Any) -> Tensor:
    """Mistakes that come together, of which no numbers travel."""
    raise NotRecorded("no numbers of these mistakes at once")


def change_of(place: int, name: str, message: str) -> Change:
    """A change whose effect on some functions is known."""

    def apply(function: Function) -> Function:
        known = function.after if isinstance(function, Recorded) else {}
        return known.get(place, not_recorded)

    return Change(name, message, apply)


def case_of(number: int, plain: dict[str, Any]) -> Case:
    """A case with its arguments, and what is said of it."""
    case = from_plain(plain["arguments"])
    case.holds, case.where = plain["holds"], f"exercise.cases()[{number}]"
    case.slip = None if plain["slip"] is None else (plain["slip"][0], plain["slip"][1])
    return case


def exercise_from(name: str, plain: dict[str, Any]) -> Exercise:
    """The exercise that was written down."""
    cases = [case_of(k, one) for k, one in enumerate(plain["cases"])]
    keys = {key_of(case): k for k, case in enumerate(cases)}
    tensors = [from_plain(tensor) for tensor in plain["tensors"]]

    def recorded(rows: list[dict[str, Any]]) -> Recorded:
        return Recorded(rows, keys, tensors)

    reference = recorded(plain["right"])
    for i, (_, _, rows, then) in enumerate(plain["changes"]):
        reference.after[i] = changed = recorded(rows)
        changed.after = {int(j): recorded(both) for j, both in then.items()}
    return Exercise(
        name,
        reference,
        fixed(cases),
        tuple(Mistake(n, text, recorded(rows)) for n, text, rows in plain["mistakes"]),
        gradient_of=tuple(plain["gradient_of"]),
        changes=tuple(change_of(i, n, text) for i, (n, text, *_) in enumerate(plain["changes"])),
        hints=tuple(plain["hints"]),
        causes=tuple((part, cause) for part, cause in plain["causes"]),
    )


def fixed(cases: list[Case]) -> Callable[..., list[Case]]:
    """The cases of an exercise that has no others."""

    def given(seed: bytes | None = None) -> list[Case]:
        if seed is not None:
            raise ValueError("only the fixed cases are here; others are drawn by the grader")
        return cases

    return given


def exercise_in(file: Path, name: str) -> Exercise:
    """The exercise of this name in a checks.json; AttributeError where it is not in it."""
    if file not in _read:
        _read[file] = json.loads(file.read_text(encoding="utf-8"))
    found = _read[file]
    if found["format"] != FORMAT:
        raise ValueError(f"{file}: has format {found['format']}, wanted {FORMAT}")
    if name not in found["exercises"]:
        names = ", ".join(found["exercises"])
        raise AttributeError(f"there is no exercise {name}; there are {names}")
    return exercise_from(name, found["exercises"][name])
