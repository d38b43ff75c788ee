"""A GPU that is not there: CPU numbers that are called a GPU's, and CUDA's rules for them.

On a machine without a GPU nobody notices a tensor that was made on the wrong device: there is only
one. Here a tensor that is moved to DEVICE keeps its numbers in a CPU tensor and says that it is on
DEVICE. Each operator passes through `operate`, which sees where its arguments are:

    what CUDA would refuse            is noted in BROKEN, with the line of the package that did it
    what makes CUDA wait for numbers  is counted in LOOKS, with that line

A broken rule does not end a run, so that one run shows all of them. Memory, speed and what an
operator does inside cannot be seen. Importing this module gives the process its device and another
torch.Generator; the rules hold in `with DeviceRules():`. By hand, with the flags of train_toy:

    python -m tests.pretended_device --algorithm ppo --out DIR
"""

import sys
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_flatten, tree_map_only, tree_unflatten
from torch.utils.backend_registration import _setup_privateuseone_for_python_backend

import minippo

_setup_privateuseone_for_python_backend("pretended")
DEVICE, CPU = torch.device("pretended", 0), torch.device("cpu")
PACKAGE = str(Path(minippo.__file__).parent)

aten = torch.ops.aten
COPYING = {aten._to_copy.default, aten.copy_.default}
READING = {aten.index.Tensor, aten._unsafe_index.Tensor}  # (tensor, indices)
WRITING = {aten.index_put.default, aten.index_put_.default, aten._index_put_impl_.default}  # values
FILLING = {aten.fill.Tensor, aten.fill_.Tensor}  # elementwise, although torch does not tag them so


BROKEN: list[tuple[str, str]] = []  # (what the rule says, the line: "minippo/gae.py:96")
LOOKS: Counter[tuple[str, str]] = Counter()  # {(what was waited for, the line): times}


def place() -> str:
    """The innermost line of the package that is being executed."""
    frame = sys._getframe()
    while frame is not None and not frame.f_code.co_filename.startswith(PACKAGE):
        frame = frame.f_back
    path = frame and f"minippo{frame.f_code.co_filename.removeprefix(PACKAGE)}:{frame.f_lineno}"
    return path or "outside the package"


class OnDevice(torch.Tensor):
    """A tensor on DEVICE; `numbers` is the CPU tensor that holds what is in it."""

    numbers: torch.Tensor

    @staticmethod
    def __new__(cls, numbers: torch.Tensor) -> "OnDevice":
        shape, steps, offset = numbers.size(), numbers.stride(), numbers.storage_offset()
        self = torch.Tensor._make_wrapper_subclass(
            cls, shape, strides=steps, storage_offset=offset, dtype=numbers.dtype, device=DEVICE
        )
        self.numbers = numbers
        return self

    @classmethod
    def __torch_dispatch__(cls, func, types, args=(), kwargs=None):
        return operate(func, args, kwargs or {})

    # What torch does without an operator that could be seen, or cannot do for such a tensor.

    def numpy(self, **options: Any) -> Any:
        BROKEN.append(("numpy() of a tensor on the device", place()))
        return self.numbers.detach().numpy(**options)

    def __array__(self, *options: Any) -> Any:
        return self.numpy().__array__(*options)

    def tolist(self) -> Any:
        return self.cpu().tolist()

    def data_ptr(self) -> int:
        return self.numbers.data_ptr()

    def new_tensor(self, data: Any, *, dtype: torch.dtype | None = None) -> torch.Tensor:
        return torch.tensor(data, dtype=dtype or self.dtype).to(DEVICE)

    def __deepcopy__(self, memo: dict[int, Any]) -> torch.Tensor:
        copy = OnDevice(self.numbers.detach().clone()).requires_grad_(self.requires_grad)
        is_parameter = isinstance(self, torch.nn.Parameter)
        memo[id(self)] = torch.nn.Parameter(copy, self.requires_grad) if is_parameter else copy
        return memo[id(self)]


class Generator(torch.Generator):
    """torch.Generator on either device, known by its address: operators get another object."""

    on_device: dict[int, bool] = {}
    kept: list["Generator"] = []  # so that no address is used twice

    def __new__(cls, device: torch.device | str = "cpu") -> "Generator":
        return super().__new__(cls)

    def __init__(self, device: torch.device | str = "cpu"):
        self.on_device[self._cdata] = torch.device(device).type == DEVICE.type
        self.kept.append(self)

    @property
    def device(self) -> torch.device:
        return DEVICE if self.on_device[self._cdata] else CPU


torch.Generator = Generator


class DeviceRules(TorchDispatchMode):
    """Inside it, operators without a tensor of the device are looked at as well."""

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        return operate(func, args, kwargs or {})


def operate(func: Any, args: Any, kwargs: dict[str, Any]) -> Any:
    """Do with the numbers what was to be done on the device, and note what CUDA says to it."""
    leaves, spec = tree_flatten((args, kwargs))
    ours = [x for x in leaves if isinstance(x, OnDevice)]
    others = [x for x in leaves if is_elsewhere(x)]
    asked = kwargs.get("device")
    to_device = bool(ours) if asked is None else torch.device(asked).type == DEVICE.type
    for generator in (x for x in leaves if isinstance(x, torch._C.Generator)):
        if Generator.on_device.get(generator._cdata, False) != to_device:
            BROKEN.append((f"{func}: generator and draw are on two devices", place()))
    if not ours and not to_device:
        return func(*args, **kwargs)
    if ours and others and (reason := why_refused(func, args, others)):
        BROKEN.append((f"{func}: {reason}", place()))
    to_cpu = not to_device or (func is aten.copy_.default and is_elsewhere(args[0]))
    if what := why_waiting(func, args, others, to_cpu):
        LOOKS[what, place()] += 1
    on_cpu, options = tree_unflatten([numbers_of(x) for x in leaves], spec)
    result = func(*on_cpu, **options)
    if to_cpu:
        return result
    given = {id(x.numbers): x for x in ours}  # in place: the very tensor that was given
    return tree_map_only(torch.Tensor, lambda x: given.get(id(x), OnDevice(x)), result)


def is_elsewhere(x: Any) -> bool:
    return isinstance(x, torch.Tensor) and not isinstance(x, OnDevice)


def numbers_of(x: Any) -> Any:
    return x.numbers if isinstance(x, OnDevice) else CPU if isinstance(x, torch.device) else x


def why_refused(func: Any, args: Any, others: list[torch.Tensor]) -> str | None:
    """What is wrong with CPU tensors beside those of the device; None where CUDA takes them."""
    if func in COPYING or (func in READING | WRITING and not is_elsewhere(args[0])):
        values = args[2] if func in WRITING else None
        is_bad = values is not None and is_elsewhere(values) and values.dim() > 0
        return "values of the CPU into a tensor on the device" if is_bad else None
    if func in READING | WRITING:
        return "an index or values on the device, a tensor of the CPU"
    if (func in FILLING or torch.Tag.pointwise in func.tags) and all(x.dim() == 0 for x in others):
        return None  # one number of the CPU goes with anything
    return f"a tensor of the CPU, {list(others[0].shape)}, beside one on the device"


def why_waiting(func: Any, args: Any, others: list[torch.Tensor], to_cpu: bool) -> str | None:
    """What the program cannot have until the device has done all that was asked of it before."""
    if func in COPYING:
        return "copy to the CPU" if to_cpu else "copy to the device" if others else None
    if func in READING | WRITING:
        indices = [x for x in args[1] if x is not None]
        if any(x.dtype in (torch.bool, torch.uint8) for x in indices):
            return "boolean index"
        return "copy of an index" if any(map(is_elsewhere, indices)) else None
    if {torch.Tag.data_dependent_output, torch.Tag.dynamic_output_shape} & set(func.tags):
        return "number" if func is aten._local_scalar_dense.default else str(func)
    return None


def train(arguments: Sequence[str]) -> int:
    """train_toy on the device, under its rules; returns the exit status."""
    from minippo.commands import train as command

    command.find_device = lambda name: DEVICE
    with DeviceRules():
        return command.main(arguments)


if __name__ == "__main__":
    status = train(sys.argv[1:])
    for (what, line), times in LOOKS.most_common():
        print(f"{times:6d}  {what}  {line}")
    for (rule, line), times in Counter(BROKEN).items():
        print(f"broken {times} times: {rule} at {line}")
    sys.exit(status or bool(BROKEN))
