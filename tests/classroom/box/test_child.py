"""One answer, without the process around it: that is test_keeper.py's."""

import os

import pytest
import torch

from minippo.classroom.box.child import answer_of, close_all_but, mentions
from minippo.classroom.box.reading import File
from minippo.exercises.observe import Observation, from_plain, to_plain

DOUBLED = "def my_doubled(x):\n    return 2 * x\n"


@pytest.fixture
def job(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    cases = to_plain([{"x": torch.tensor([1.0, 2.0])}])
    return {"functions": ["my_doubled", "doubled"], "cases": cases, "gradient_of": ["x"]}


def ran(job, *files):
    return answer_of(job, [File(name, text.encode()) for name, text in files])


def test_values_and_gradients_come_back(job):
    found = ran(job, ("a.py", DOUBLED))
    (seen,) = from_plain(found["observations"])
    assert isinstance(seen, Observation) and seen.value.tolist() == [2.0, 4.0]
    assert seen.gradients["x"].tolist() == [2.0, 4.0] and found["remarks"] == []


def test_a_function_that_is_not_there(job):
    found = ran(job, ("a.py", "def other(x): return my_doubled"))
    assert found == {"missing": job["functions"], "remarks": []}


def test_a_file_that_does_not_have_the_name_does_not_run(job, tmp_path):
    found = ran(job, ("a.py", DOUBLED), ("b.py", "open('ran', 'w')"), ("c.py", "my_doubledx = 1/0"))
    assert "observations" in found and not (tmp_path / "ran").exists()


def test_a_file_can_import_its_neighbour(job, tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(str(tmp_path))
    helper = ("helper_of_a_student.py", "two = 2\n")
    found = ran(job, ("a.py", "from helper_of_a_student import two\n" + DOUBLED), helper)
    assert from_plain(found["observations"])[0].value is not None and found["remarks"] == []


def test_leaving_from_inside_the_function(job):
    found = ran(job, ("a.py", "import sys\ndef my_doubled(x): sys.exit(3)"))
    assert "SystemExit" in str(found)
    found = ran(job, ("a.py", "def my_doubled(x): raise KeyboardInterrupt"))
    assert found["raised"] == "KeyboardInterrupt"


@pytest.mark.parametrize(
    "content, found",
    [
        (b"def my_doubled(x)", True),
        (b"doubled = 1", True),
        (b"redoubled", False),
        (b"", False),
        ("my_doubled".encode("utf-16"), True),
    ],
)
def test_whether_a_file_has_a_name(content, found):
    assert mentions(File("a.py", content), ["my_doubled", "doubled"]) == found


def test_only_the_pipe_stays_open():
    ends = os.pipe()
    child = os.fork()
    if child == 0:
        close_all_but(ends[1])
        is_open = [os.path.exists(f"/dev/fd/{n}") for n in (3, 4, 5, ends[0])]
        os.write(1, b"this goes nowhere")
        os.write(3, str(is_open).encode())
        os._exit(0)
    os.waitpid(child, 0)
    text = os.read(ends[0], 100).decode()
    assert text.startswith("[True, False, False") and "nowhere" not in text
    os.close(ends[0])
    os.close(ends[1])
