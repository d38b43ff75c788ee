"""A notebook as the student gets it, and as the lecturer does."""

import json

import pytest

from minippo.classroom.handout import (
    FOLDER,
    YOURS,
    as_file,
    cells_of,
    lecturer_cells,
    notebook_of,
    notebooks,
    student_cells,
)
from minippo.classroom.judging import exercise_named
from minippo.errors import InputError

ALL = notebooks(FOLDER)
BEGINS_WITH_REFERENCES = ("ppo_loss",)  # notebook 14, until one's own functions are put in
EACH = pytest.mark.parametrize("notebook", ALL, ids=[one.exercise for one in ALL])


def test_all_notebooks_with_a_check_are_found():
    wanted = [
        p.stem for p in sorted(FOLDER.glob("[0-9]*.py")) if "exercise.check(" in p.read_text()
    ]
    assert [one.file for one in ALL] == [f"{stem}.ipynb" for stem in wanted] and len(ALL) >= 15


@EACH
def test_the_student_gets_the_stub_and_three_questions_without_answers(notebook):
    cells = student_cells(notebook)
    text = "\n".join(one["source"] for one in cells)
    assert text.count(YOURS) == 3 and "<details>" not in text and "</details>" not in text
    assert "raise NotImplementedError  # your code here" in cells[notebook.stub]["source"]
    assert f"from checks import {notebook.exercise} as exercise" in cells[notebook.check]["source"]
    assert ("minippo.exercises" in text) == (notebook.exercise in BEGINS_WITH_REFERENCES)


@EACH
def test_the_lecturers_answer_passes_and_the_questions_are_answered(notebook):
    cells = lecturer_cells(notebook)
    names = {}
    exec(cells[notebook.stub]["source"], names)
    (function,) = [f for name, f in names.items() if name.startswith("my_")]
    assert exercise_named(notebook.exercise).verdict(function).passed
    assert sum(one["source"].count("</details>") for one in cells) == 3
    assert notebook.cells[notebook.stub] != cells[notebook.stub]


def test_the_cells_are_those_of_the_built_notebook():
    built = json.loads((FOLDER / "07_gae.ipynb").read_text(encoding="utf-8"))["cells"]
    found = cells_of((FOLDER / "07_gae.py").read_text(encoding="utf-8"))
    assert [(one["cell_type"], "".join(one["source"])) for one in built] == [
        (one["cell_type"], one["source"]) for one in found
    ]


def test_a_file_is_a_notebook_without_outputs():
    notebook = notebook_of(FOLDER / "07_gae.py")
    content = as_file(student_cells(notebook))
    assert content == as_file(student_cells(notebook))
    cells = json.loads(content)["cells"]
    assert not any(one.get("outputs") or one.get("execution_count") for one in cells)
    assert len({one["id"] for one in cells}) == len(cells) == len(notebook.cells)


@pytest.mark.slow  # the import takes seconds
def test_its_format_is_the_published_one():
    nbformat = pytest.importorskip("nbformat")
    for notebook in ALL:
        for cells in (student_cells(notebook), lecturer_cells(notebook)):
            nbformat.validate(nbformat.reads(as_file(cells).decode(), as_version=4))


def test_where_there_are_no_notebooks_one_line_says_so(tmp_path):
    with pytest.raises(InputError, match="build from a checkout"):
        notebooks(tmp_path / "notebooks")
    with pytest.raises(InputError, match="no notebook with an exercise$"):
        notebooks(tmp_path)
    with pytest.raises(InputError, match="no notebook with an exercise dpo_loss"):
        notebooks(tmp_path, ["dpo_loss"])
    broken = tmp_path / "01_a.py"
    broken.write_text("# %%\nfrom minippo.exercises.gae import exercise\nexercise.check(0)\n")
    with pytest.raises(InputError, match="has no stub"):
        notebooks(tmp_path)
