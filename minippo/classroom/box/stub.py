"""What stands in the place of minippo while an answer runs: everything can be imported, and nothing
is there.

`exercise.check` and `exercise.hint` do nothing, so that a notebook's last cell does no harm. Any
other use raises ReferenceNotHere.
"""

import importlib.abc
import importlib.machinery
import sys
from collections.abc import Sequence
from types import ModuleType
from typing import Any, NoReturn

NAMES = ("minippo", "plots", "checks")  # and what is inside; two of them lie beside the notebooks
HARMLESS = ("check", "hint")
OPERATORS = (
    "call iter len getitem setitem contains add radd sub rsub mul rmul truediv rtruediv pow rpow "
    "matmul rmatmul neg lt le gt ge float int bool enter index mro_entries"
).split()


class ReferenceNotHere(RuntimeError):
    """An answer has used minippo."""


class Stub:
    """Something of minippo, of which there is only the name."""

    def __init__(self, name: str):
        object.__setattr__(self, "_name", name)

    def __getattribute__(self, name: str) -> Any:
        if name in HARMLESS:
            return nothing
        if name.startswith("__"):
            return object.__getattribute__(self, name)
        return refuse(object.__getattribute__(self, "_name"))

    def __or__(self, other: Any) -> "Stub":  # in annotations
        return self

    __ror__ = __or__


def refuse(name: str) -> NoReturn:
    """Raise the error that says why."""
    raise ReferenceNotHere(
        f"{name} was used: minippo is not here while answers are checked; write the function "
        "with torch alone"
    )


def nothing(*_arguments: Any, **_options: Any) -> None:
    """What a check does here."""


def refusing(operator: str) -> Any:
    """The method of an operator that refuses."""

    def method(self: Stub, *_arguments: Any, **_options: Any) -> NoReturn:
        refuse(object.__getattribute__(self, "_name"))

    method.__name__ = operator
    return method


for _operator in OPERATORS:
    setattr(Stub, f"__{_operator}__", refusing(f"__{_operator}__"))


class StubModule(ModuleType):
    """A module in which every name is there."""

    def __getattr__(self, name: str) -> Stub:
        if name.startswith("__"):
            raise AttributeError(name)
        return Stub(f"{self.__name__}.{name}")


class Finder(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    """Finds a stub for every module of minippo."""

    def find_spec(
        self, fullname: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        if fullname.split(".")[0] in NAMES:
            return importlib.machinery.ModuleSpec(fullname, self, is_package=True)
        return None

    def create_module(self, spec: importlib.machinery.ModuleSpec) -> ModuleType:
        return StubModule(spec.name)

    def exec_module(self, module: ModuleType) -> None:
        """There is nothing to execute."""


def forget_the_package() -> None:
    """From here on, minippo is a stub in this process."""
    for name in [name for name in sys.modules if name.split(".")[0] in NAMES]:
        del sys.modules[name]
    sys.meta_path.insert(0, Finder())
