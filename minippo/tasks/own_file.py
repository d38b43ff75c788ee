"""Something of the user's own, FILE.py:Name: a class that is a task, or a function that scores.

The file is Python and is executed, so it is imported only because the command line of this very
call names it: `load` is for what stands there, and `loaded` finds it again. Whatever the file does
wrong becomes one line, with the file and the line where it went wrong in it.
"""

import hashlib
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from traceback import walk_tb
from types import ModuleType
from typing import Any, NamedTuple

from minippo.errors import InputError, TrainingError
from minippo.runs.read import first_words, reason
from minippo.settings import is_own

MODULES: dict[tuple[str, str], ModuleType] = {}  # (path, digest) -> what was imported
LOADED: dict[str, "Own"] = {}  # what a command line of this process has named


class Own(NamedTuple):
    """What was found in a file."""

    file: str  # as it was named
    path: str  # from the root on
    name: str  # of the class or function
    found: Any
    digest: str  # of the file; of what it imports itself nothing is known

    @property
    def label(self) -> str:
        """sums.py:Sums, wherever the file lies."""
        return f"{os.path.basename(self.path)}:{self.name}"


def label_of(text: str) -> str:
    """sums.py:Sums of path/to/sums.py:Sums; any other text as it is."""
    return os.path.basename(text) if is_own(text) else text


def whole(text: str) -> str:
    """FILE.py:Name with the path from the root on; any other text as it is."""
    return os.path.abspath(text) if is_own(text) else text


def load(text: str, flag: str) -> Own:
    """Import the file of FILE.py:Name, once per process, and find the name in it. InputError names
    what is wrong."""
    file, _, name = text.rpartition(":")
    path = os.path.abspath(file)
    try:
        source = Path(path).read_bytes()
    except OSError as error:
        raise InputError(f"--{flag} {text}: cannot read {file}: {reason(error)}") from error
    digest = hashlib.sha256(source).hexdigest()
    if (path, digest) not in MODULES:
        MODULES[path, digest] = _import(source, file, path, digest)
    found = vars(MODULES[path, digest]).get(name)
    if found is None:
        raise InputError(f"--{flag} {text}: there is no {name} in {file}")
    LOADED[whole(text)] = Own(file, path, name, found, digest)
    return LOADED[whole(text)]


def loaded(text: str, flag: str) -> Own:
    """What this process has loaded. InputError: its command line did not name it."""
    if whole(text) not in LOADED:
        raise InputError(
            f"--{flag}: {text} is a file of your own, which is imported only when it is named; "
            f"name it with --{flag} FILE.py:{text.rpartition(':')[2]}"
        )
    return LOADED[whole(text)]


def _import(source: bytes, file: str, path: str, digest: str) -> ModuleType:
    """The module, under a name that no other has; its folder comes first for its own imports."""
    module = ModuleType(f"minippo_own_{digest[:12]}")
    module.__file__ = path
    sys.modules[module.__name__] = module  # dataclasses look for their module there
    folder = os.path.dirname(path)
    if sys.path[:1] != [folder]:
        sys.path.insert(0, folder)
    try:
        with in_one_line(Own(file, path, "", None, digest), InputError):
            exec(compile(source, path, "exec"), module.__dict__)
    except InputError:
        del sys.modules[module.__name__]
        raise
    return module


@contextmanager
def in_one_line(
    own: Own, kind: type[InputError] | type[TrainingError], doing: str = "", begins: str = ""
) -> Iterator[None]:
    """Whatever the code of a file raises inside becomes one line: file, line, what it is.

    `begins` is the place to name when it has not come as far as into the file. Ctrl-C goes through,
    and so do the errors of this package. SystemExit does not: a file that calls exit() must not end
    a training without a word.
    """
    try:
        yield
    except (KeyboardInterrupt, InputError, TrainingError):
        raise
    except BaseException as error:
        name, words = type(error).__name__, first_words(getattr(error, "msg", None) or error)
        said = name if words in ("", name) else f"{name}: {words}"
        place = _place(error, own.file, own.path)
        place = begins if begins and place == own.file else place
        raise kind(f"{place}: {doing}{said}") from error


def _place(error: BaseException, file: str, path: str) -> str:
    """file, line of the innermost frame in that file; a syntax error has a place of its own."""
    lines = [line for frame, line in walk_tb(error.__traceback__) if _is_in(frame, path)]
    if isinstance(error, SyntaxError) and error.filename is not None:
        if error.filename == path:
            return f"{file}, line {error.lineno}"
        where = f"{os.path.basename(error.filename)}, line {error.lineno}"
        return f"{file}, line {lines[-1]}: in {where}" if lines else f"{file}: in {where}"
    return f"{file}, line {lines[-1]}" if lines else file


def _is_in(frame: Any, path: str) -> bool:
    return frame.f_code.co_filename == path
