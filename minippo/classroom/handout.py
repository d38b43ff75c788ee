"""The notebooks as they are handed out: the student's version, and the lecturer's with the answers.

A notebook is read from its source, beside the package in a checkout. The exercise is the stub
`def my_...` and the cell after it with `exercise.check(`.
"""

import ast
import copy
import importlib
import inspect
import json
import re
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple

import minippo
from minippo.errors import InputError

FOLDER = Path(minippo.__file__).parent.parent / "notebooks"
IMPORT = re.compile(r"^from minippo\.exercises\.(\w+) import exercise$", re.MULTILINE)
CHECK = "exercise.check("
QUESTION = re.compile(
    r"<details><summary>(.*?)</summary>\n\n(.*?)\n</details>", re.DOTALL
)  # (the question, its answer)
YOURS = "*Your answer:*"
BESIDE = "plots.py"  # what the notebooks import from their folder
Cell = dict[str, Any]


class Notebook(NamedTuple):
    """A notebook with an exercise: the name of its file, of the exercise, its cells, and where the
    stub and the check are among them."""

    file: str
    exercise: str
    cells: list[Cell]
    stub: int
    check: int

    def copies(self) -> list[Cell]:
        """The cells, to be changed."""
        return copy.deepcopy(self.cells)


def notebooks(folder: Path, names: Sequence[str] | None = None) -> list[Notebook]:
    """The notebooks that have an exercise, or one of these. InputError: there are none."""
    if not folder.is_dir():
        raise InputError(
            f"{folder}: the notebooks are not there; they come with the repository and not with "
            "the installed package, so build from a checkout"
        )
    found = [one for path in sorted(folder.glob("[0-9]*.py")) if (one := notebook_of(path))]
    missing = [name for name in names or () if name not in [one.exercise for one in found]]
    if missing or not found:
        what = f"exercise {missing[0]}" if missing else "exercise"
        raise InputError(f"{folder}: there is no notebook with an {what}")
    return [one for one in found if names is None or one.exercise in names]


def notebook_of(path: Path) -> Notebook | None:
    """The notebook of a source, if it has an exercise."""
    try:
        cells = cells_of(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{path}: cannot be read") from error
    for k, one in enumerate(cells):
        named = IMPORT.search(one["source"])
        if one["cell_type"] == "code" and CHECK in one["source"] and named:
            stubs = [j for j in range(k) if cells[j]["source"].startswith("def my_")]
            if not stubs:
                raise InputError(f"{path}: the exercise has no stub, a cell with def my_...")
            return Notebook(f"{path.stem}.ipynb", named[1], cells, stubs[-1], k)
    return None


def cells_of(text: str) -> list[Cell]:
    """The cells of a source in jupytext's percent format; what stands before the first is none."""
    cells: list[Cell] = []
    for part in re.split(r"^# %%", text, flags=re.MULTILINE)[1:]:
        first, _, source = part.partition("\n")
        source = source.strip("\n")
        is_text = first.strip() == "[markdown]"
        if is_text:
            source = re.sub(r"^# ?", "", source, flags=re.MULTILINE)
        cells.append(cell("markdown" if is_text else "code", source))
    return cells


def cell(kind: str, source: str, **metadata: Any) -> Cell:
    """A cell of a notebook."""
    of_code = {"execution_count": None, "outputs": []} if kind == "code" else {}
    return {"cell_type": kind, "metadata": metadata, "source": source, **of_code}


def as_file(cells: Sequence[Cell]) -> bytes:
    """The file of a notebook with these cells; the same cells give the same bytes."""
    numbered = [
        {"id": f"cell-{k}", **one, "source": one["source"].splitlines(keepends=True)}
        for k, one in enumerate(cells)
    ]
    kernel = {"name": "python3", "display_name": "Python 3", "language": "python"}
    whole = {
        "cells": numbered,
        "metadata": {"kernelspec": kernel, "language_info": {"name": "python"}},
        "nbformat": 4,
        "nbformat_minor": 5,
    }
    text = json.dumps(whole, indent=1, sort_keys=True, ensure_ascii=False)
    return (text + "\n").encode()


def student_cells(notebook: Notebook) -> list[Cell]:
    """The stub as it is, the check that knows numbers only, and the questions without answers."""
    cells = notebook.copies()
    for one in cells:
        if one["cell_type"] == "markdown":
            one["source"] = QUESTION.sub(rf"**\1**\n\n{YOURS}", one["source"])
    cells[notebook.check]["source"] = travelling_check(notebook)
    return cells


def travelling_check(notebook: Notebook) -> str:
    """The source of the check without minippo.exercises."""
    return IMPORT.sub(
        r"from checks import \1 as exercise", notebook.cells[notebook.check]["source"]
    )


def lecturer_cells(notebook: Notebook) -> list[Cell]:
    """The right answer's source in the place of the stub; the rest stays."""
    cells = notebook.copies()
    head, body = answer(notebook)
    cells[notebook.stub]["source"] = f"{head}\n{indented(body)}"
    return cells


def indented(text: str) -> str:
    """One level further in."""
    return "\n".join(f"    {line}" if line else line for line in text.split("\n"))


def answer(notebook: Notebook) -> tuple[str, str]:
    """(the head of the stub's function, the body of the right answer, not indented): what the
    reference needs is defined in the body, and then it is called."""
    stub = notebook.cells[notebook.stub]["source"]
    function = ast.parse(stub).body[0]
    assert isinstance(function, ast.FunctionDef)
    names = [a.arg for a in (*function.args.args, *function.args.kwonlyargs)]
    module = importlib.import_module(f"minippo.exercises.{notebook.exercise}")
    given = ", ".join(f"{name}={name}" for name in names)
    parts = [*needed(module, "reference"), f"return reference({given})"]
    return stub[: stub.index("):") + 2], "\n".join(parts)


def needed(module: ModuleType, name: str) -> list[str]:
    """The sources of a module's own name and of all that it needs, in the module's order; imports
    first."""
    source = inspect.getsource(module)
    owners = {n: node for node in ast.parse(source).body for n in names_made(node)}
    wanted, open_ends = set(), [name]
    while open_ends:
        one = open_ends.pop()
        if one in owners and one not in wanted:
            wanted.add(one)
            node = owners[one]
            if not isinstance(node, (ast.Import, ast.ImportFrom)):
                open_ends += [n.id for n in ast.walk(node) if isinstance(n, ast.Name)]
    nodes = list(dict.fromkeys(owners[one] for one in owners if one in wanted))
    parts = [part_of(node, source, wanted) for node in nodes]
    return [part for kind in (True, False) for is_import, part in parts if is_import is kind]


def names_made(node: ast.stmt) -> list[str]:
    """The names that a statement of a module defines."""
    if isinstance(node, (ast.Import, ast.ImportFrom)):
        return [alias.asname or alias.name.split(".")[0] for alias in node.names]
    if isinstance(node, (ast.FunctionDef, ast.ClassDef)):
        return [node.name]
    if isinstance(node, ast.Assign):
        return [target.id for target in node.targets if isinstance(target, ast.Name)]
    return []


def part_of(node: ast.stmt, source: str, wanted: set[str]) -> tuple[bool, str]:
    """(is it an import, the source of a statement): of an import what is wanted, a definition with
    a blank line around it."""
    if isinstance(node, (ast.Import, ast.ImportFrom)):
        kept = copy.deepcopy(node)
        kept.names = [a for a in node.names if (a.asname or a.name.split(".")[0]) in wanted]
        return True, ast.unparse(kept)
    text = ast.get_source_segment(source, node) or ""
    if isinstance(node, (ast.FunctionDef, ast.ClassDef)):
        decorators = [f"@{ast.unparse(one)}" for one in node.decorator_list]
        text = "\n" + "\n".join([*decorators, text]) + "\n"
    return False, text
