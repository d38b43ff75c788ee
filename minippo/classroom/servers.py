"""The processes that run answers, seen from the grader.

A server gets a copy of what it needs and nothing else: the folder `box` and the module that
observes a function. It is told the inputs of the cases. What it sends back is data that the grader
reads with care; nothing of it is ever executed or unpickled.
"""

import contextlib
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import minippo
from minippo.classroom.box.frames import Ended, receive, send
from minippo.classroom.box.keeper import message_of
from minippo.classroom.box.reading import File
from minippo.classroom.box.room import Job, Limits
from minippo.classroom.box.server import STUDENT
from minippo.classroom.box.walls import Walls
from minippo.errors import TrainingError

PACKAGE = Path(minippo.__file__).parent
COPIED = ("classroom/__init__.py", "exercises/__init__.py", "exercises/observe.py")
PROGRAM = (
    "import sys; root, *places = sys.argv[1:]; sys.path[:] = [root + '/copy', *sys.path, *places]; "
    "from minippo.classroom.box.server import main; main(root)"
)
THREADS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")
PASSED_ON = ("PATH", "LD_LIBRARY_PATH")  # of the environment; a server gets nothing else of it
INSTALLED = ("site-packages", "dist-packages")
START_SECONDS, MORE_SECONDS = 120.0, 20.0
SANDBOXES = ("podman", "docker")


class Result(NamedTuple):
    """How the process of an answer ended (see `box.keeper.Ending`; "lost" where its keeper was
    lost), what it wrote, and how long it took."""

    how: str
    text: str = ""
    seconds: float = 0.0


class Sandbox(NamedTuple):
    """A container in which a server runs: podman or docker, and an image with Python and torch."""

    program: str
    image: str


class Settings(NamedTuple):
    """What all servers of a grading have in common. `hidden` must not be seen by an answer."""

    jobs: Mapping[str, Job]
    limits: Limits
    hidden: Sequence[str]
    folder: str | None = None  # where servers keep their copies; the system's by default
    walls: bool = True
    sandbox: Sandbox | None = None
    derivatives: bool = False  # prepare the server for torch.func and torch.autograd.functional


class Server:
    """A server, started when it is needed, and again when it was lost."""

    def __init__(self, settings: Settings):
        self.settings, self.walls = settings, Walls()
        self._process: subprocess.Popen[bytes] | None = None
        self._folder = tempfile.mkdtemp(prefix="minippo-grader-", dir=settings.folder)
        os.chmod(self._folder, 0o711)
        copy_box(Path(self._folder) / "copy")
        os.mkdir(os.path.join(self._folder, "root"))

    def run(self, files: Sequence[File], exercises: Sequence[str]) -> Iterator[tuple[str, Result]]:
        """(exercise, Result) for each of the exercises, as they come."""
        left = [*exercises]
        while left:
            try:
                yield from in_order(self._ask(files, [*left]), left)
            except Ended:
                self.stop()
                if left:
                    yield left.pop(0), Result("lost")
        if self.settings.sandbox:
            self.stop()  # a container for each student

    def start(self) -> None:
        """Start the server, if it does not run; TrainingError where it does not come up."""
        if self._process is not None:
            return
        self._process = subprocess.Popen(
            self._command(),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            start_new_session=True,
            cwd="/",
            env=dict.fromkeys(THREADS, "1")
            | {name: os.environ[name] for name in PASSED_ON if name in os.environ},
        )
        told = {
            "jobs": self.settings.jobs,
            "derivatives": self.settings.derivatives,
            "limits": self.settings.limits,
            "visible": [sys.prefix, sys.base_prefix, os.path.dirname(sys.executable)],
            "hidden": [*own_copies(), *self.settings.hidden],
            "walls": self.settings.walls and not self.settings.sandbox,
        }
        try:
            send(self._to(), told)
            walls = Walls(**receive(self._from(), START_SECONDS)["walls"])
            self.walls = Walls(True, True, True, True) if self.settings.sandbox else walls
        except Ended as error:
            raise TrainingError(f"no server for answers: {self._last_words()}") from error

    def stop(self) -> None:
        """End the server and what it has started."""
        if self._process is None:
            return
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self._process.pid, 9)
        self._process.wait()
        for pipe in (self._process.stdin, self._process.stdout, self._process.stderr):
            if pipe:
                with contextlib.suppress(OSError):
                    pipe.close()
        self._process = None

    def close(self) -> None:
        """End the server and remove its folder."""
        self.stop()
        shutil.rmtree(self._folder, ignore_errors=True)

    def _ask(self, files: Sequence[File], names: Sequence[str]) -> Iterator[tuple[str, Result]]:
        self.start()
        with contextlib.suppress(BrokenPipeError):
            os.write(self._to(), STUDENT)
        send(self._to(), message_of(files, names))
        while True:
            message = receive(self._from(), self.settings.limits.seconds + MORE_SECONDS)
            if message.get("done"):
                return
            if message.get("lost"):
                raise Ended("the keeper was lost")
            name = message.pop("exercise")
            yield name, Result(**message)

    def _command(self) -> list[str]:
        places = [place for place in paths_of_torch() if place]
        program = ["-I", "-S", "-B", "-c", PROGRAM]
        if self.settings.sandbox is None:
            return [sys.executable, *program, self._folder, *places]
        return container(self.settings.sandbox, self._folder, self.settings.limits, program)

    def _last_words(self) -> str:
        assert self._process is not None and self._process.stderr is not None
        process = self._process
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(process.pid, 9)
        lines = self._process.stderr.read().decode("utf-8", "replace").split("\n")
        return ([line for line in lines if line.strip()] or ["it said nothing"])[-1]

    def _to(self) -> int:
        assert self._process is not None and self._process.stdin is not None
        return self._process.stdin.fileno()

    def _from(self) -> int:
        assert self._process is not None and self._process.stdout is not None
        return self._process.stdout.fileno()


def in_order(
    results: Iterator[tuple[str, Result]], left: list[str]
) -> Iterator[tuple[str, Result]]:
    """The results of the exercises that are left, which are taken off the list as they come."""
    for name, result in results:
        if name != left[0]:
            raise Ended("a result that nobody has asked for")
        del left[0]
        yield name, result


def copy_box(target: Path) -> None:
    """Copy what a server needs, and nothing else of this package."""
    box = [str(path.relative_to(PACKAGE)) for path in PACKAGE.glob("classroom/box/*.py")]
    for name in (*COPIED, *box):
        place = target / "minippo" / name
        place.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(PACKAGE / name, place)
    (target / "minippo" / "__init__.py").touch()


def paths_of_torch() -> list[str]:
    """Where torch and other packages are: of the import path, the folders of installed packages.

    The current folder, the program's own and that of this package are not among them, unless torch
    is there.
    """
    needed = {Path(module.__file__).parents[1].resolve() for module in loaded_packages()}
    found: list[str] = []
    for place in map(Path, filter(None, sys.path)):
        is_wanted = place.name in INSTALLED or place.resolve() in needed
        if place.is_dir() and is_wanted and str(place.absolute()) not in found:
            found.append(str(place.absolute()))
    return found


def own_copies() -> list[str]:
    """This package, and what is installed under its name for this Python or for the system's."""
    roots = {sys.prefix, sys.base_prefix, "/usr", "/usr/local"}
    patterns = [f"lib*/python3*/{name}/minippo" for name in INSTALLED]
    found = [path for root in roots for pattern in patterns for path in Path(root).glob(pattern)]
    found += [Path(place) / "minippo" for place in paths_of_torch()]
    return sorted({str(PACKAGE), *map(str, found)})


def loaded_packages() -> Iterable[Any]:
    """What an answer may not lack."""
    import numpy
    import torch

    return (torch, numpy)


def container(sandbox: Sandbox, folder: str, limits: Limits, program: Sequence[str]) -> list[str]:
    """The command that runs a server in a container: no network, nothing to write to, no rights,
    and nothing of this machine but the copy of the box."""
    return [
        sandbox.program,
        *("run", "--rm", "--interactive", "--network=none", "--read-only", "--cap-drop=ALL"),
        *("--security-opt=no-new-privileges", "--pids-limit=64", "--user=65534:65534"),
        f"--memory={limits.memory + (1 << 30)}",
        *("--tmpfs=/box/root:rw,size=64m,mode=777", f"--volume={folder}/copy:/box/copy:ro"),
        *(f"--env={name}=1" for name in THREADS),
        *(sandbox.image, "python", "-B", "-c", program[-1], "/box"),
    ]
