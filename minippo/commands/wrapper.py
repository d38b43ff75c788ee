"""What all commands have in common: one style of error, Ctrl-C, and output that nobody reads.

    0    done
    1    the work itself failed, with one line that says where and what to try
    2    the arguments or the input files are wrong, with one line that names the culprit
    130  interrupted

Errors go to stderr, in one line, the last. Standard output may be a closed pipe (`| head`), may be
closed altogether or may lie on a full disk: the work goes on, since what counts is in files, and
only a disk's refusal is told at the end.

Nothing heavy is imported here, so that a door can catch Ctrl-C, or a package that is missing, while
the command itself is being imported.
"""

import argparse
import functools
import importlib
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, redirect_stdout, suppress
from typing import IO, Any, NoReturn, Protocol

from minippo.errors import InputError, Interrupted, TrainingError
from minippo.interrupts import importing, while_working

OUT_OF_MEMORY = (  # in torch's words, or those of the libraries below it
    "can't allocate memory",
    "cannot allocate memory",
    "out of memory",
    "not enough memory",
    "bad_alloc",
    "alloc_failed",
    "size calculation overflowed",
    "multiplication overflow",
)


WAIT = "loading torch ..."  # what takes longest


class Main(Protocol):
    """The main function of a command."""

    def __call__(self, arguments: Sequence[str] | None = None) -> int: ...


class Parser(argparse.ArgumentParser):
    """An ArgumentParser that raises InputError where argparse would print its usage and leave."""

    def __init__(self, **options: Any):
        options = {"formatter_class": argparse.RawDescriptionHelpFormatter} | options
        super().__init__(allow_abbrev=False, **options)

    def error(self, message: str) -> NoReturn:
        raise InputError(message)


def command(main: Main) -> Main:
    """The main function of a command: takes its arguments, by default those of the process, and
    returns its exit status, whatever happens."""

    @functools.wraps(main)
    def guarded_main(arguments: Sequence[str] | None = None) -> int:
        while_working()
        return guarded(lambda: main(arguments))

    return guarded_main


def door(module: str) -> int:
    """Import a module and call its main; its exit status."""
    with importing():
        return guarded(lambda: imported(module).main())


def imported(module: str) -> Any:
    """The module. Its imports take seconds, and a terminal is told so until they are done."""
    waits = sys.stdout is not None and sys.stdout.isatty()
    if waits:
        print(WAIT, end="\r", flush=True)
    try:
        return importlib.import_module(module)
    finally:
        if waits:
            print(" " * len(WAIT), end="\r", flush=True)


def guarded(work: Callable[[], int]) -> int:
    """Do the work; every way in which it can end becomes an exit status and at most one line."""
    with harmless_output() as output:
        status = _status_of(work)
    if output is not None and (trouble := output.close_down()) and status == 0:
        return _tell(f"error: standard output: {trouble}", 1)
    return status


def _status_of(work: Callable[[], int]) -> int:
    try:
        return work()
    except InputError as error:
        return _tell(f"error: {error}", 2)
    except TrainingError as error:
        return _tell(f"error: {error}", 1)
    except Interrupted as error:
        return _tell(str(error), 130)
    except KeyboardInterrupt:
        return _tell("interrupted", 130)
    except SystemExit as leaving:  # --help, --version
        return leaving.code if isinstance(leaving.code, int) else 0
    except ModuleNotFoundError as error:
        if (error.name or "").split(".")[0] == "minippo":
            raise
        advice = "pip install -r requirements.txt, or use the environment where that was done"
        return _tell(f"error: the package {error.name} is not installed; {advice}", 2)
    except (MemoryError, RuntimeError) as error:
        if isinstance(error, RuntimeError) and not is_out_of_memory(error):
            raise
        advice = "try a smaller --batch_size, --preference_samples or --n_embd"
        return _tell(f"error: out of memory; {advice}", 1)


def is_out_of_memory(error: RuntimeError) -> bool:
    """Is this what torch says when it gets no memory, on the CPU or on a GPU?"""
    return any(words in str(error).lower() for words in OUT_OF_MEMORY)


def _tell(line: str, status: int) -> int:
    """Write one line to stderr, if there is one; returns the status."""
    from minippo.runs.text import printable

    if sys.stderr is not None:
        with suppress(OSError, ValueError):
            print(printable(line), file=sys.stderr, flush=True)
    return status


class Output:
    """Standard output that cannot fail: what cannot be written is dropped, and why is kept."""

    def __init__(self, stream: IO[str] | None):
        self.stream, self.error = stream, None

    def write(self, text: str) -> int:
        if self.stream is not None and self.error is None:
            try:
                self.stream.write(text)
            except (OSError, ValueError) as error:
                self.error = error
        return len(text)

    def flush(self) -> None:
        if self.stream is not None and self.error is None:
            try:
                self.stream.flush()
            except (OSError, ValueError) as error:
                self.error = error

    def isatty(self) -> bool:
        return self.stream is not None and self.error is None and self.stream.isatty()

    def close_down(self) -> str | None:
        """Flush for the last time. The system's words when a disk refused, None when all is well or
        when whoever read has left."""
        self.flush()
        if self.error is None or self.stream is None:
            return None
        with suppress(OSError, ValueError, AttributeError):  # Python flushes again when it leaves
            os.dup2(os.open(os.devnull, os.O_WRONLY), self.stream.fileno())
        if isinstance(self.error, (BrokenPipeError, ValueError)):
            return None
        return getattr(self.error, "strerror", None) or str(self.error)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.stream, name)


@contextmanager
def harmless_output() -> Iterator[Output | None]:
    """While it is open, standard output is an Output; None when it was one already."""
    if isinstance(sys.stdout, Output):
        yield None
        return
    _fill_standard_descriptors()
    output = Output(sys.stdout)
    with redirect_stdout(output):  # pyright: ignore[reportArgumentType]
        yield output


def _fill_standard_descriptors() -> None:
    """Where standard output was closed, the next file that is opened would take its number, and
    stray output would go into it."""
    with suppress(OSError):
        while (descriptor := os.open(os.devnull, os.O_RDWR)) <= 2:
            pass
        os.close(descriptor)
