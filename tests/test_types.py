"""Every public function says what it takes and what it returns."""

import ast
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import minippo

ROOT = Path(minippo.__file__).parent
SOURCES = {
    str(path.relative_to(ROOT)): path.read_text(encoding="utf-8")
    for path in sorted(ROOT.rglob("*.py"))
}


def unannotated(source):
    """{function: what has no annotation} of all functions whose names have no underscore in front,
    and of __init__ and its like; nested ones and methods included, lambdas not."""
    found = {}
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)) and is_public(node.name):
            arguments = node.args
            given = arguments.posonlyargs + arguments.args + arguments.kwonlyargs
            given += [one for one in (arguments.vararg, arguments.kwarg) if one]
            missing = [
                one.arg
                for place, one in enumerate(given)
                if one.annotation is None and not (place == 0 and one.arg in ("self", "cls"))
            ]
            if node.returns is None and node.name != "__init__":
                missing.append("return")
            if missing:
                found[node.name] = missing
    return found


def is_public(name):
    return not name.startswith("_") or (name.startswith("__") and name.endswith("__"))


@pytest.mark.parametrize("name", SOURCES)
def test_every_public_function_is_annotated(name):
    assert unannotated(SOURCES[name]) == {}


@pytest.mark.parametrize(
    "source, found",
    [
        ("def f(a: int) -> int: ...", {}),
        ("def f(a: int): ...", {"f": ["return"]}),
        ("def f(a, /, b, *c, d, **e) -> None: ...", {"f": ["a", "b", "d", "c", "e"]}),
        ("def _f(a): ...", {}),
        ("def _f(a):\n    def g(b) -> int: ...", {"g": ["b"]}),
        ("class A:\n    def f(self, a) -> int: ...", {"f": ["a"]}),
        ("class A:\n    def __call__(self): ...", {"__call__": ["return"]}),
        ("class A:\n    def __init__(self, a: int): ...", {}),
        ("async def f(): ...", {"f": ["return"]}),
    ],
)
def test_what_is_missing_is_found(source, found):
    assert unannotated(source) == found


def test_the_package_says_that_it_is_typed():
    assert (ROOT / "py.typed").is_file()
    pyproject = ROOT.parent / "pyproject.toml"
    if pyproject.exists():  # a checkout; what is installed has the file already
        assert 'minippo = ["py.typed", ' in pyproject.read_text(encoding="utf-8")


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("basedpyright") is None, reason="basedpyright is not installed")
def test_basedpyright_has_nothing_to_say():
    done = subprocess.run(
        ["basedpyright", "--pythonpath", sys.executable, "minippo"],
        cwd=ROOT.parent,
        capture_output=True,
        text=True,
        timeout=600,
    )
    assert done.returncode == 0, done.stdout
