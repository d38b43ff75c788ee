"""Every way in which a command can end: one exit status, at most one line, and nothing is lost."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

import minippo
from minippo.commands.wrapper import (
    WAIT,
    Output,
    Parser,
    command,
    guarded,
    imported,
    is_out_of_memory,
)
from minippo.errors import InputError, Interrupted, TrainingError

ENVIRONMENT = os.environ | {"PYTHONPATH": str(Path(minippo.__file__).parent.parent)}


def ends_with(error):
    """The status of work that ends with this exception."""

    def work():
        raise error

    return guarded(work)


# -- exit status


@pytest.mark.parametrize(
    "error, status, line",
    [
        (InputError("--flag: is wrong"), 2, "error: --flag: is wrong"),
        (TrainingError("policy, update 3: loss is nan"), 1, "error: policy, update 3: loss is nan"),
        (Interrupted("interrupted; to go on: X"), 130, "interrupted; to go on: X"),
        (KeyboardInterrupt(), 130, "interrupted"),
        (
            MemoryError(),
            1,
            "error: out of memory; try a smaller --batch_size, --preference_samples or --n_embd",
        ),
        (
            RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried"),
            1,
            "error: out of memory; try a smaller --batch_size, --preference_samples or --n_embd",
        ),
        (
            ModuleNotFoundError("No module named 'torch'", name="torch"),
            2,
            "error: the package torch is not installed; pip install -r requirements.txt, or use "
            "the environment where that was done",
        ),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, BaseException) else "",
)
def test_an_end_is_one_line_and_a_status(error, status, line, capsys):
    assert ends_with(error) == status
    assert capsys.readouterr() == ("", line + "\n")


def test_work_that_ends_well_says_nothing(capsys):
    assert guarded(lambda: 0) == 0 and guarded(lambda: 7) == 7
    assert capsys.readouterr() == ("", "")


def test_help_and_version_leave_with_their_status():
    assert ends_with(SystemExit(0)) == 0 and ends_with(SystemExit(None)) == 0
    assert ends_with(SystemExit(3)) == 3


@pytest.mark.parametrize(
    "error", [RuntimeError("shapes differ"), ModuleNotFoundError("x", name="minippo.nowhere")]
)
def test_a_mistake_of_our_own_is_not_hidden(error):
    with pytest.raises(type(error)):
        ends_with(error)


def test_control_characters_of_a_message_are_made_harmless(capsys):
    ends_with(InputError("--out \x1b[31mred"))
    assert "\x1b" not in capsys.readouterr().err


def test_words_of_torch_for_no_memory():
    for words in (
        "CUDA out of memory. Tried to allocate",
        "not enough memory: you tried",
        "CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`",
        "std::bad_alloc",
        "Storage size calculation overflowed with sizes=[1000000, 1000000]",
        "numel: integer multiplication overflow",
        "unable to mmap 64 bytes from file </m>: Cannot allocate memory (12)",
    ):
        assert is_out_of_memory(RuntimeError(words))
    assert not is_out_of_memory(RuntimeError("a memory of old times"))


def test_a_command_takes_arguments_and_keeps_its_name():
    @command
    def main(arguments=None):
        """What it does."""
        return len(arguments)

    assert main(["a", "b"]) == 2 and (main.__name__, main.__doc__) == ("main", "What it does.")


def test_a_parser_raises_instead_of_leaving():
    parser = Parser(prog="x")
    parser.add_argument("--size", type=int)
    with pytest.raises(InputError, match="--size"):
        parser.parse_args(["--size", "many"])
    with pytest.raises(InputError, match="--siz"):  # no abbreviations
        parser.parse_args(["--siz", "1"])


# -- output that cannot be written


class Full:
    """A stream on a disk without room."""

    def __init__(self, error):
        self.error, self.calls = error, 0

    def write(self, text):
        self.calls += 1
        raise self.error

    def flush(self):
        raise self.error

    def isatty(self):
        return False


def test_what_cannot_be_written_is_dropped_and_the_reason_kept():
    stream = Full(OSError(28, "No space left on device"))
    output = Output(stream)
    assert output.write("one") == 3 and output.write("two") == 3
    output.flush()
    assert stream.calls == 1 and not output.isatty()
    assert output.close_down() == "No space left on device"


def test_a_reader_who_has_left_is_no_error():
    output = Output(Full(BrokenPipeError()))
    output.write("one")
    assert output.close_down() is None


def test_closed_output_is_no_error():
    output = Output(None)
    assert output.write("one") == 3 and output.close_down() is None and not output.isatty()


SCRIPT = """
import sys
from minippo.commands.wrapper import guarded

def work():
    for number in range(20000):
        print(number)
    open("done", "w").write("all")
    return 0

sys.exit(guarded(work))
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs a shell")
@pytest.mark.parametrize(
    "redirection, status, words",
    [
        ("| head -n 1", 0, ""),
        (">&-", 0, ""),
        ("> /dev/full", 1, "error: standard output: No space left on device\n"),
        (">&- 2>&- <&-", 0, ""),
    ],
)
def test_the_work_goes_on_whatever_becomes_of_its_output(redirection, status, words, tmp_path):
    if "/dev/full" in redirection and not os.path.exists("/dev/full"):
        pytest.skip("no /dev/full here")
    (tmp_path / "script.py").write_text(SCRIPT)
    done = subprocess.run(
        ["bash", "-c", f"set -o pipefail; {sys.executable} script.py {redirection}"],
        cwd=tmp_path,
        env=ENVIRONMENT,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert (done.returncode, done.stderr) == (status, words)
    assert (tmp_path / "done").read_text() == "all"


@pytest.mark.parametrize("is_terminal", [True, False])
def test_a_terminal_is_told_while_imports_take_their_time(is_terminal, capsys, monkeypatch):
    monkeypatch.setattr("sys.stdout.isatty", lambda: is_terminal)
    with pytest.raises(ModuleNotFoundError):
        imported("minippo.there_is_no_such_module")
    out = capsys.readouterr().out
    assert out == (f"{WAIT}\r{' ' * len(WAIT)}\r" if is_terminal else "")
