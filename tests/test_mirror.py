"""The tests mirror the modules: minippo/stages/sft.py has tests/stages/test_sft.py."""

from pathlib import Path

import pytest

import minippo

PACKAGE, TESTS = Path(minippo.__file__).parent, Path(__file__).parent
MODULES = sorted(str(path.relative_to(PACKAGE)) for path in PACKAGE.rglob("*.py"))
FILES = sorted(str(path.relative_to(TESTS)) for path in TESTS.rglob("test_*.py"))

ELSEWHERE = {  # a module -> the file that tests it under another name
    "__main__.py": "test_main.py",
    "algorithms/__init__.py": "algorithms/test_registry.py",
    "annotators/__init__.py": "annotators/test_registry.py",
    "exact/__main__.py": "exact/test_tables.py",
    "classroom/__main__.py": "classroom/test_table.py",
    "commands/drawing.py": "commands/test_summary.py",
}
WITHOUT = {  # modules without a test file, and why
    "errors.py": "three names of exceptions",
    "__init__.py": "a docstring and the version, which test_main.py prints",
    "train_toy.py": "a door; test_main.py opens them all",
    "compare.py": "a door",
    "measure.py": "a door",
    "talk.py": "a door",
    "evaluate.py": "a door",
    "overoptimise.py": "a door",
    "label.py": "a door",
    "report.py": "a door",
    "export.py": "a door",
    "diagnostics.py": "a door",
    "profile_update.py": "a door",
    "classroom/__init__.py": "a docstring",
    "classroom/museum/__init__.py": "a docstring",
    "classroom/box/__init__.py": "a docstring",
    "commands/__init__.py": "empty",
    "exact/__init__.py": "a docstring",
    "exercises/__init__.py": "a list of names, which test_engine.py reads",
    "interchange/__init__.py": "a docstring",
    "relatives/__init__.py": "a docstring",
    "runs/__init__.py": "a docstring",
    "runs/report/__init__.py": "a docstring",
    "runs/figures/__init__.py": "the names of the figures, by which its tests call them",
    "stages/__init__.py": "a docstring",
    "tasks/__init__.py": "the names of the tasks, by which test_prepare.py makes them",
    "tasks/files/__init__.py": "one name",
}
OF_MORE = {  # files about no single module, and what they are about
    "classroom/test_hostile.py": "answers that are hostile or careless, graded",
    "classroom/test_missing_walls.py": "each wall taken away, so that its answer gets through",
    "commands/test_resume.py": "a run that is stopped and taken up again",
    "runs/test_faults.py": "a disk that fails at any write of a run",
    "runs/report/test_browser.py": "the report in a browser",
    "tasks/files/test_published.py": "formats in which people publish their data",
    "runs/test_hostile.py": "hostile content of every file that is read",
    "recipes/test_library_conventions.py": "what other code bases compute, by hand",
    "recipes/test_recipes.py": "the product against them",
    "exercises/test_bank.py": "how many answers of a bank the check judges rightly",
    "test_fuzz_numbers.py": "the derivation with numbers of any size",
    "stages/test_metrics.py": "the value of every logged metric",
    "test_coverage_page.py": "a page",
    "test_device_rules.py": "whole runs under the rules of a device",
    "test_docs.py": "the pages",
    "test_errata.py": "claims that are often made",
    "test_for_lecturers.py": "a page",
    "test_layers.py": "who imports whom",
    "test_limits.py": "the size of files and functions",
    "test_metrics_page.py": "a page",
    "test_mirror.py": "this",
    "test_notebooks.py": "the notebooks",
    "test_readme.py": "a page",
    "test_slips.py": "slips of the pen, each seen by a test",
    "test_theorems.py": "theorems that several modules share",
    "test_types.py": "annotations",
    "test_your_data.py": "a page",
}


def mirror(module: str) -> str:
    path = Path(module)
    return str(path.with_name(f"test_{path.name}"))


@pytest.mark.parametrize("module", MODULES)
def test_every_module_has_its_test_file(module):
    if module not in WITHOUT:
        assert ELSEWHERE.get(module, mirror(module)) in FILES


@pytest.mark.parametrize("file", FILES)
def test_every_test_file_has_its_module(file):
    modules = {ELSEWHERE.get(module, mirror(module)) for module in MODULES if module not in WITHOUT}
    assert (file in modules) != (file in OF_MORE)


def test_the_exceptions_are_still_there():
    assert {*ELSEWHERE, *WITHOUT} <= set(MODULES) and set(OF_MORE) <= set(FILES)
    assert not set(ELSEWHERE) & set(WITHOUT)
