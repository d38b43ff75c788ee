"""What stands in the place of minippo in the process of an answer."""

import subprocess
import sys

import pytest

from minippo.classroom.box import stub
from minippo.classroom.box.stub import Finder, ReferenceNotHere, Stub

PROGRAM = f"""
import importlib.util, sys
spec = importlib.util.spec_from_file_location("stub", {stub.__file__!r})
stub = importlib.util.module_from_spec(spec)
spec.loader.exec_module(stub)
stub.forget_the_package()
import minippo.anything.at_all as whole
from minippo.exercises.gae import exercise, reference
from minippo.kl import *
import plots
exercise.check(len); exercise.hint()
def typed(x: reference, y: "int | reference", z: reference | None = None): pass
for use in (lambda: exercise.verdict(len), lambda: reference(1), lambda: whole.x + 1,
            lambda: plots.show(), lambda: [*whole.names], lambda: bool(reference)):
    try: use()
    except stub.ReferenceNotHere as error: print(error)
assert not hasattr(whole, "__wrapped__")
"""


def test_everything_can_be_imported_and_nothing_used():
    done = subprocess.run(
        [sys.executable, "-I", "-c", PROGRAM], capture_output=True, text=True, timeout=60
    )
    lines = done.stdout.splitlines()
    assert done.returncode == 0, done.stderr
    assert lines[0].startswith("minippo.exercises.gae.exercise was used: minippo is not here")
    assert [line.split(" ")[0] for line in lines[1:]] == [
        "minippo.exercises.gae.reference",
        "minippo.anything.at_all.x",
        "plots.show",
        "minippo.anything.at_all.names",
        "minippo.exercises.gae.reference",
    ]


@pytest.mark.parametrize(
    "use",
    [lambda s: s(), lambda s: s[0], lambda s: 2 * s, lambda s: -s, lambda s: len(s), lambda s: s.x],
)
def test_any_use_says_why(use):
    with pytest.raises(ReferenceNotHere, match="x.y was used: minippo is not here while answers"):
        use(Stub("x.y"))


def test_a_class_cannot_be_derived_from_it():
    with pytest.raises(ReferenceNotHere):
        exec("class Mine(given): pass", {"given": Stub("x")})


def test_other_modules_are_found_as_ever():
    assert Finder().find_spec("minippotamus") is None and Finder().find_spec("torch") is None
    assert Finder().find_spec("minippo.x") is not None
