"""Files of the user's own: imported once, under a name of their own, and every fault one line."""

import sys

import pytest

from minippo.errors import InputError, TrainingError
from minippo.tasks import own_file
from minippo.tasks.own_file import in_one_line, label_of, load, loaded, whole

NO_SOURCE = "ValueError" if sys.version_info < (3, 11, 4) else "SyntaxError"  # says Python


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    """A working directory; what is imported here is forgotten afterwards."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])
    monkeypatch.setattr(own_file, "MODULES", {})
    monkeypatch.setattr(own_file, "LOADED", {})
    return tmp_path


def write(text, name="own.py"):
    with open(name, "w") as file:
        file.write(text)


def refused(text="own.py:f"):
    with pytest.raises(InputError) as caught:
        load(text, "task")
    assert len(str(caught.value).splitlines()) == 1
    return str(caught.value)


def test_a_name_is_found_in_its_file(folder):
    write("def f():\n    return 3\n")
    own = load("own.py:f", "task")
    assert own.found() == 3 and own.path == str(folder / "own.py")
    assert (own.file, own.name, own.label) == ("own.py", "f", "own.py:f")


def test_a_file_is_imported_once_and_again_when_it_has_changed():
    write("import sys\nsys.times = getattr(sys, 'times', 0) + 1\nf = g = sys.times\n")
    try:
        assert load("own.py:f", "task").found == load("own.py:g", "reward").found == 1
        write("import sys\nsys.times += 1\nf = sys.times\n")
        assert load("own.py:f", "task").found == 2
    finally:
        del sys.times


def test_two_files_of_one_name_are_two_modules(folder):
    (folder / "other").mkdir()
    write("f = 1\n")
    write("f = 2\n", "other/own.py")
    assert load("own.py:f", "task").found == 1 and load("other/own.py:f", "task").found == 2
    assert "own" not in sys.modules


def test_its_folder_comes_first_for_its_own_imports(folder):
    (folder / "other").mkdir()
    write("value = 7\n", "other/helper_of_own.py")
    write("import helper_of_own\nf = helper_of_own.value\n", "other/own.py")
    try:
        assert load("other/own.py:f", "task").found == 7
    finally:
        del sys.modules["helper_of_own"]


def test_dataclasses_and_their_like_work():
    write(
        "from __future__ import annotations\nfrom dataclasses import dataclass\n"
        "@dataclass\nclass f:\n    x: int = 3\n"
    )
    assert load("own.py:f", "task").found().x == 3


def test_nothing_is_left_beside_the_file(folder):
    write("f = 1\n")
    load("own.py:f", "task")
    assert [path.name for path in folder.iterdir()] == ["own.py"]


@pytest.mark.parametrize(
    "text, line",
    [
        ("x = 1\ndef f(:\n", "own.py, line 2: SyntaxError: invalid syntax"),
        ("import no_such_module\n", "own.py, line 1: ModuleNotFoundError: No module named "),
        ("def f(): g()\ndef g(): 1/0\nf()\n", "own.py, line 2: ZeroDivisionError: division by z"),
        ("raise ValueError('a\\nb')\n", "own.py, line 1: ValueError: a"),
        ("raise ValueError\n", "own.py, line 1: ValueError"),
        ("\nexit(0)\n", "own.py, line 2: SystemExit: 0"),
        ("def f(): f()\nf()\n", "own.py, line 1: RecursionError: maximum recursion depth exc"),
        ("import json\njson.loads('{')\n", "own.py, line 2: JSONDecodeError: Expecting property"),
        ("\0", f"own.py: {NO_SOURCE}: source code string cannot contain null bytes"),
        (
            "f = 'ä'\n".encode("latin-1"),
            "own.py, line 1: SyntaxError: (unicode error) 'utf-8' codec can't",
        ),
    ],
)
def test_what_goes_wrong_in_it_is_one_line(text, line, folder):
    (folder / "own.py").write_bytes(text if isinstance(text, bytes) else text.encode())
    before = set(sys.modules)
    assert refused().startswith(line)
    assert not any(name.startswith("minippo_own_") for name in set(sys.modules) - before)


def test_a_syntax_error_elsewhere_names_both_files(folder):
    write("x = (\n", "broken_helper.py")
    write("\nimport broken_helper\n")
    assert refused().startswith("own.py, line 2: in broken_helper.py, line 1: SyntaxError: ")


def test_a_name_that_is_not_there():
    write("g = 1\n")
    assert refused() == "--task own.py:f: there is no f in own.py"


def test_a_file_that_is_not_there_or_none(folder):
    (folder / "folder.py").mkdir()
    assert (
        refused("none.py:f") == "--task none.py:f: cannot read none.py: No such file or directory"
    )
    assert refused("folder.py:f").endswith("cannot read folder.py: Is a directory")


def test_what_no_command_line_has_named_is_not_imported(folder):
    write("raise SystemExit\n")
    with pytest.raises(InputError, match="imported only when it is named; name it with --task FIL"):
        loaded(str(folder / "own.py:f"), "task")


def test_ctrl_c_and_errors_of_the_package_go_through():
    write("def f(error):\n    raise error\n")
    own = load("own.py:f", "task")
    for error in (KeyboardInterrupt(), InputError("a line"), TrainingError("a line")):
        with pytest.raises(type(error)), in_one_line(own, TrainingError):
            own.found(error)
    caught = pytest.raises(TrainingError, match="^own.py, line 2: doing: OSError: gone$")
    with caught, in_one_line(own, TrainingError, "doing: "):
        own.found(OSError("gone"))


def test_a_fault_before_the_file_has_a_place_too():
    write("def f():\n    pass\n")
    own = load("own.py:f", "task")
    caught = pytest.raises(InputError, match=r"^own.py, line 1: TypeError: f\(\) takes 0 positi")
    with caught, in_one_line(own, InputError, begins="own.py, line 1"):
        own.found(1)


def test_names_of_files():
    assert label_of("/a/b/sums.py:Sums") == "sums.py:Sums" and label_of("tldr") == "tldr"
    assert whole("/a/sums.py:Sums") == "/a/sums.py:Sums" and whole("tldr") == "tldr"
