"""The committed notebooks are built from their sources, hold no error, are small enough, and keep
their form."""

import ast
import base64
import functools
import re
import sys
from pathlib import Path

import pytest

import minippo

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT / "notebooks"))
import build  # noqa: E402

SOURCES = build.sources()
NUMBERS = pytest.mark.parametrize("source", SOURCES, ids=[source.stem[:2] for source in SOURCES])
LARGEST_PICTURE = 300_000
LONGEST_CELL = 30  # lines
PARTS = (
    "**Goal:**",
    "three predictions",
    "## What would break this",
    "## Questions",
    "## Exercise",
    "## References",
)


@functools.cache
def notebook_of(source):
    # two seconds to import, which only the worker that comes here has to spend
    nbformat = pytest.importorskip("nbformat")
    return nbformat.read(source.with_suffix(".ipynb"), as_version=4)


def code_cells(source):
    return [cell for cell in notebook_of(source).cells if cell.cell_type == "code"]


@NUMBERS
@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # of the tools that execute notebooks
def test_it_executes_from_its_source_and_every_cell_can_be_run_twice(source, monkeypatch):
    """With MINIPPO_FAST=1; the committed outputs come from a run without it."""
    monkeypatch.setenv("MINIPPO_FAST", "1")
    cells = build.execute(source, times=2).cells
    for first, second in zip(cells[::2], cells[1::2], strict=True):
        for output in (*first.get("outputs", ()), *second.get("outputs", ())):
            assert output.output_type != "error" and output.get("name") != "stderr", output
        assert shown(first) == shown(second), first.source


def shown(cell):
    """What a cell printed, without the seconds it took or was to take, and its pictures."""
    times = r" +\d+\.\d s\n|.* of \d+, about .* left\n"
    return [
        (re.sub(times, "", output.get("text", "")), output.get("data"))
        for output in cell.get("outputs", ())
    ]


@functools.cache
def public_names():
    """What the modules of the package define, but for the exercises and the page, which defines
    things again on purpose."""
    names = set()
    for path in Path(minippo.__file__).parent.rglob("*.py"):
        if not {"exercises", "one_page.py"} & set(path.parts):
            names |= {
                node.name
                for node in ast.parse(path.read_text()).body
                if isinstance(node, (ast.FunctionDef, ast.ClassDef))
                and not node.name.startswith("_")
            }
    return names


@NUMBERS
def test_it_is_built_from_its_source_as_it_stands(source):
    assert build.is_current(source), f"run: python notebooks/build.py {source.stem[:2]}"


@NUMBERS
def test_no_output_holds_an_error(source):
    for cell in code_cells(source):
        for output in cell.outputs:
            assert output.output_type != "error" and "Traceback" not in output.get("text", "")
            assert output.get("name") != "stderr", output.get("text")


@NUMBERS
def test_every_code_cell_was_run_in_order(source):
    assert [cell.execution_count for cell in code_cells(source)] == list(
        range(1, len(code_cells(source)) + 1)
    )


@NUMBERS
def test_pictures_are_png_and_small(source):
    for cell in code_cells(source):
        for output in cell.outputs:
            for kind, data in output.get("data", {}).items():
                assert kind in ("image/png", "text/plain"), kind
                if kind == "image/png":
                    assert len(base64.b64decode(data)) <= LARGEST_PICTURE


@NUMBERS
def test_cells_are_short_and_define_nothing_that_the_package_defines(source):
    names = public_names()
    for cell in code_cells(source):
        assert len(cell.source.splitlines()) <= LONGEST_CELL, cell.source
        defined = {
            node.name
            for node in ast.walk(ast.parse(cell.source))
            if isinstance(node, (ast.FunctionDef, ast.ClassDef))
        }
        assert not defined & names, defined & names


@NUMBERS
def test_it_has_all_its_parts(source):
    text = "\n".join(
        cell.source for cell in notebook_of(source).cells if cell.cell_type == "markdown"
    )
    places = [text.find(part) for part in PARTS]
    assert -1 not in places and places == sorted(places), dict(zip(PARTS, places, strict=True))
    assert len(re.findall(r"<details><summary>\d\. ", text)) == 3 == text.count("</details>")
    predictions = text[text.index("three predictions") :]
    assert [predictions.find(f"\n{number}. ") > 0 for number in (1, 2, 3)] == [True] * 3


@NUMBERS
def test_the_exercise_is_left_open(source):
    cells = [cell for cell in code_cells(source) if "exercise.check(" in cell.source]
    assert len(cells) == 1
    assert (
        "".join(output.get("text", "") for output in cells[0].outputs)
        == "not yet: the function is not written yet\n"
    )


@NUMBERS
def test_links_lead_somewhere(source):
    for cell in notebook_of(source).cells:
        if cell.cell_type == "markdown":
            for target in re.findall(r"\]\(([^)#]+)[^)]*\)", cell.source):
                assert target.startswith("https://") or (source.parent / target).exists(), target
            for target in re.findall(r"(?:docs|minippo)/[\w/-]+\.(?:md|py)", cell.source):
                assert (ROOT / target).exists(), target


@NUMBERS
def test_a_number_quoted_in_prose_is_one_that_a_cell_shows(source):
    """Decimals in the text, equation numbers and arXiv's aside, stand in some output or in some
    code."""
    shown = "\n".join(
        cell.source + "".join(str(output.get("text", "")) for output in cell.outputs)
        for cell in code_cells(source)
    )
    for cell in notebook_of(source).cells:
        if cell.cell_type == "markdown":
            text = re.sub(r"equations? \(?\d\.\d+\)?|\(\d\.\d+\)|arXiv:\d+\.\d+", "", cell.source)
            for number in re.findall(r"(?<![\w.])\d+\.\d+(?![\w.]*\d)", text):
                assert number in shown, f"{number} in: {cell.source[:200]}"
