"""What a function does with the cases of an exercise: values, gradients, what it raised, what it
wrote into.

Nothing here knows the right answer or a mistake, and of minippo nothing is imported: a process that
runs a stranger's function needs this file alone. `to_plain` and `from_plain` turn cases and
observations into JSON's own types and back.
"""

import inspect
import math
import os
import sysconfig
import traceback
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import Any, NamedTuple

import torch
from torch import Tensor

Answer = Callable[..., Any]  # what a student has written returns anything
DTYPES = {
    str(dtype).removeprefix("torch."): dtype
    for dtype in (torch.float64, torch.float32, torch.float16, torch.bfloat16)
    + (torch.int64, torch.int32, torch.bool)
}
ONLY_FLOAT64 = "takes no float32, as a tensor of its own is float64 (make it with .to(x.dtype))"
LONGEST_TEXT = 400  # characters of a message
LIBRARIES = tuple(
    {
        os.path.dirname(os.path.abspath(torch.__file__)),
        os.path.dirname(os.path.dirname(os.path.abspath(__file__))),
        *(sysconfig.get_paths()[name] for name in ("stdlib", "purelib", "platlib")),
    }
)


class Case(dict[str, Any]):
    """The arguments of one call, by name.

    holds: what is in it, in words. where: how to see it. slip: None, or (name, message) of what an
    answer does that fails here and is right elsewhere; with the name None it passes with a remark.
    """

    holds: str = ""
    where: str = ""
    slip: tuple[str | None, str] | None = None


class Fault(NamedTuple):
    """Why there is no value: the kind and the message of the error, the last line of the student's
    own code that was reached, and the arguments that the function does not take."""

    kind: str
    message: str
    line: str = ""
    function: str = ""
    unknown: tuple[str, ...] = ()


class Observation(NamedTuple):
    """What a function did with one case: its value in float64, the gradient of the value's weighted
    total to each input that has one, the dtype that came back, a fault, and remarks."""

    value: Tensor | None
    gradients: dict[str, Tensor]
    dtype: str = ""
    fault: Fault | None = None
    remarks: tuple[str, ...] = ()


class NoTensor(Exception):
    """What a function returned, where that is no tensor."""


class MeanKL:
    """A function of parameters that can be sent as numbers: the mean over states of KL(policy at
    theta || policy at numbers), the logits being to_logits tanh(numbers).

    to_logits [states V,N], theta [N]; called with numbers [N] it gives a scalar in their dtype.
    """

    def __init__(self, to_logits: Tensor, theta: Tensor, states: int) -> None:
        self.to_logits, self.theta, self.states = to_logits, theta, states
        self.passes = 0  # how often a gradient came back through it

    def logits(self, numbers: Tensor) -> Tensor:
        """[N] -> [states,V]."""
        hidden = torch.tanh(numbers)
        if hidden.requires_grad and type(hidden) is Tensor:
            self._count(hidden)
        return (self.to_logits.to(numbers.dtype) @ hidden).view(self.states, -1)

    def _count(self, hidden: Tensor) -> None:
        def one_more(gradient: Tensor) -> None:
            self.passes += 1

        with suppress(RuntimeError):  # inside torch.func there are no hooks
            hidden.register_hook(one_more)

    def __call__(self, numbers: Tensor) -> Tensor:
        old = self.logits(self.theta.to(numbers.dtype)).log_softmax(dim=-1)
        new = self.logits(numbers).log_softmax(dim=-1)
        return (old.exp() * (old - new)).sum(dim=-1).mean()


def observe(
    function: Answer, cases: Sequence[dict[str, Any]], gradient_of: Sequence[str] = ()
) -> list[Observation]:
    """What the function does with each case; the inputs in `gradient_of` require grad."""
    return [observe_one(function, case, gradient_of) for case in cases]


def observe_one(
    function: Answer, case: dict[str, Any], gradient_of: Sequence[str] = ()
) -> Observation:
    """The same for one case. Whatever a student's code raises is for the student to see.

    A function that mixes float32 with float64 of its own is given float64, and a remark.
    """
    seen = _observe(function, case, gradient_of)
    if seen.fault is None or "dtype" not in seen.fault.message.replace("scalar type", "dtype"):
        return seen
    again = _observe(function, wide(case), gradient_of)
    if again.fault is not None:
        return seen
    return again._replace(remarks=(*again.remarks, ONLY_FLOAT64))


def wide(case: dict[str, Any]) -> dict[str, Any]:
    """A case with its floats in float64."""
    return {
        name: x.double() if isinstance(x, Tensor) and x.is_floating_point() else x
        for name, x in case.items()
    }


def _observe(function: Answer, case: dict[str, Any], gradient_of: Sequence[str]) -> Observation:
    arguments = {name: _fresh(value, name in gradient_of) for name, value in case.items()}
    with _torch_as_it_was():
        try:
            value = as_tensor(function(**arguments))
            gradients = _gradients(value, arguments, gradient_of)
        except (Exception, SystemExit) as error:
            return Observation(None, {}, fault=_fault(error, function, case))
    dtype = str(value.dtype).removeprefix("torch.")
    remarks = [
        f"writes into its argument {name}"
        for name, given in case.items()
        if isinstance(given, Tensor) and not _same(arguments[name].detach(), given)
    ]
    for kl in arguments.values():
        if isinstance(kl, MeanKL) and kl.passes >= len(kl.theta):
            remarks.append("takes a derivative for every parameter, as for the whole matrix")
    return Observation(value.detach().double(), gradients, dtype, None, tuple(remarks))


def _fresh(value: Any, wants_gradient: bool) -> Any:
    if isinstance(value, MeanKL):
        return MeanKL(value.to_logits, value.theta, value.states)
    return value.clone().requires_grad_(wants_gradient) if isinstance(value, Tensor) else value


@contextmanager
def _torch_as_it_was() -> Iterator[None]:
    """Whatever is called inside, the default dtype and the grad mode are afterwards as before; a
    warning is none of the answer's faults."""
    dtype, grad = torch.get_default_dtype(), torch.is_grad_enabled()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        torch.set_default_dtype(dtype)
        torch.set_grad_enabled(grad)


def as_tensor(value: Any) -> Tensor:
    """What a function returned; a plain number is taken for a tensor. NoTensor: it is none."""
    if value is None:
        raise NoTensor("the function returned None; is there a return?")
    if isinstance(value, (int, float)):
        return torch.tensor(float(value), dtype=torch.float64)
    if not isinstance(value, Tensor) or value.is_complex():
        raise NoTensor(f"the result is a {type(value).__name__}, wanted a tensor")
    return value


def _gradients(
    value: Tensor, arguments: dict[str, Any], gradient_of: Sequence[str]
) -> dict[str, Tensor]:
    """The gradient of the total of a value, in which each slot counts differently, to each input;
    zeros where none arrives."""
    inputs = [arguments[name] for name in gradient_of]
    found: Sequence[Tensor | None] = [None] * len(inputs)
    if value.requires_grad and inputs:
        weights = 1 + torch.arange(value.numel(), dtype=value.dtype).reshape(value.shape)
        total = (torch.where(value.isfinite(), value, 0.0) * weights).sum()
        found = torch.autograd.grad(total, inputs, allow_unused=True)
    return {
        name: torch.zeros_like(x, dtype=torch.float64) if grad is None else grad.detach().double()
        for name, x, grad in zip(gradient_of, inputs, found, strict=True)
    }


def _same(one: Tensor, other: Tensor) -> bool:
    """Every number is the same, NaN included."""
    return one.shape == other.shape and bool(
        ((one == other) | ((one != one) & (other != other))).all()
    )


# -- what was raised


def _fault(error: BaseException, function: Answer, case: dict[str, Any]) -> Fault:
    frames = traceback.extract_tb(error.__traceback__)
    own = [frame for frame in frames if not frame.filename.startswith((*LIBRARIES, "<frozen"))]
    unknown = unknown_arguments(function, case) if isinstance(error, TypeError) else ()
    message = str(error)[:LONGEST_TEXT]
    if not own:
        return Fault(type(error).__name__, message, unknown=unknown)
    line = own[-1].line or f"line {own[-1].lineno}"
    return Fault(type(error).__name__, message, line[:LONGEST_TEXT], own[-1].name, unknown)


def unknown_arguments(function: Answer, case: dict[str, Any]) -> tuple[str, ...]:
    """The arguments of a case that the function's own signature does not have."""
    try:
        parameters = inspect.signature(function).parameters
    except (TypeError, ValueError):
        return ()
    if any(p.kind is p.VAR_KEYWORD for p in parameters.values()):
        return ()
    return tuple(
        name
        for name in case
        if name not in parameters or parameters[name].kind is inspect.Parameter.POSITIONAL_ONLY
    )


# -- as JSON's own types


def to_plain(thing: Any) -> Any:
    """Cases, observations and lists of them as dicts, lists, strings and finite numbers."""
    if isinstance(thing, Tensor):
        dtype = str(thing.dtype).removeprefix("torch.")
        numbers = [to_plain(number) for number in thing.detach().flatten().tolist()]
        return {"tensor": dtype, "shape": list(thing.shape), "numbers": numbers}
    if isinstance(thing, MeanKL):
        return {
            "mean_kl": [to_plain(thing.to_logits), to_plain(thing.theta), to_plain(thing.states)]
        }
    if isinstance(thing, (Fault, Observation)):
        tag = "fault" if isinstance(thing, Fault) else "observation"
        return {tag: {name: to_plain(value) for name, value in thing._asdict().items()}}
    if isinstance(thing, dict):
        return {"named": {name: to_plain(value) for name, value in thing.items()}}
    if isinstance(thing, (list, tuple)):
        return [to_plain(value) for value in thing]
    if isinstance(thing, float) and not math.isfinite(thing):
        return {"number": str(thing)}
    return thing


def from_plain(plain: Any) -> Any:
    """What to_plain was given (tuples come back as lists, and of a case its arguments alone).
    ValueError: it is nothing that to_plain writes."""
    if plain is None or isinstance(plain, (bool, int, float, str)):
        return plain[:LONGEST_TEXT] if isinstance(plain, str) else plain
    if isinstance(plain, list):
        return [from_plain(value) for value in plain]
    if isinstance(plain, dict):
        for tag, reader in READERS.items():
            if tag in plain:
                return reader(plain)
    raise ValueError("this is nothing that to_plain writes")


def _tensor(plain: dict[str, Any]) -> Tensor:
    dtype, shape, numbers = DTYPES.get(plain["tensor"]), plain.get("shape"), plain.get("numbers")
    if dtype is None or not isinstance(shape, list) or not isinstance(numbers, list):
        raise ValueError("a tensor needs a dtype, a shape and numbers")
    if not all(type(size) is int and size >= 0 for size in shape):
        raise ValueError("a shape is a list of whole numbers")
    values = [from_plain(number) for number in numbers]
    if len(values) != math.prod(shape) or not all(type(v) in (bool, int, float) for v in values):
        raise ValueError("the numbers do not fill the shape")
    return torch.tensor(values, dtype=dtype).reshape(shape)


def _number(plain: dict[str, Any]) -> float:
    if plain["number"] not in ("inf", "-inf", "nan"):
        raise ValueError("a number in quotes is inf, -inf or nan")
    return float(plain["number"])


def _mean_kl(plain: dict[str, Any]) -> MeanKL:
    parts = from_plain(plain["mean_kl"])
    if isinstance(parts, list) and [type(part) for part in parts] == [Tensor, Tensor, int]:
        return MeanKL(parts[0], parts[1], parts[2])
    raise ValueError("a mean_kl needs two tensors and a number of states")


def _named(plain: dict[str, Any]) -> Case:
    named = plain["named"]
    values = _fields(named, tuple(named) if isinstance(named, dict) else ())
    return Case(zip(named, values, strict=True))


def _fields(plain: Any, names: tuple[str, ...]) -> list[Any]:
    """The values of these names, the only ones."""
    if not isinstance(plain, dict) or {*plain} != {*names}:
        raise ValueError(f"wanted the names {', '.join(names)}")
    return [from_plain(plain[name]) for name in names]


def _fault_from(plain: dict[str, Any]) -> Fault:
    kind, message, line, function, unknown = _fields(plain["fault"], Fault._fields)
    texts = (kind, message, line, function, *(unknown if isinstance(unknown, list) else [None]))
    if not all(isinstance(text, str) for text in texts):
        raise ValueError("a fault is made of strings")
    return Fault(kind, message, line, function, tuple(unknown))


def _observation(plain: dict[str, Any]) -> Observation:
    value, gradients, dtype, fault, remarks = _fields(plain["observation"], Observation._fields)
    if not isinstance(gradients, Case) or not isinstance(dtype, str):
        raise ValueError("an observation needs gradients and a dtype")
    if not all(isinstance(x, Tensor) for x in (*gradients.values(), *([] if fault else [value]))):
        raise ValueError("values and gradients are tensors")
    if not isinstance(fault, (Fault, type(None))) or not isinstance(remarks, list):
        raise ValueError("a fault is none or one, remarks are a list")
    if not all(isinstance(remark, str) for remark in remarks):
        raise ValueError("remarks are strings")
    gradients = {name: x.double() for name, x in gradients.items()}
    return Observation(None if fault else value.double(), gradients, dtype, fault, tuple(remarks))


READERS: dict[str, Callable[[dict[str, Any]], Any]] = {
    "tensor": _tensor,
    "number": _number,
    "mean_kl": _mean_kl,
    "named": _named,
    "fault": _fault_from,
    "observation": _observation,
}
