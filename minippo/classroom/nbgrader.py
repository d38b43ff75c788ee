"""Assignments for nbgrader, one for each notebook: solutions, tests and written answers.

`nbgrader generate_assignment` makes the students' version of what is in source/, `nbgrader
autograde` runs what they hand in. The test cell is the check that knows numbers only; it runs in
the student's own kernel, so what it gives is a hint and no mark that could be relied on.
"""

from collections.abc import Mapping, Sequence

from minippo.classroom.handout import (
    QUESTION,
    Cell,
    Notebook,
    answer,
    as_file,
    cell,
    indented,
    travelling_check,
)
from minippo.classroom.recording import checks_files

SCHEMA = 3  # of nbgrader's metadata
POINTS_OF_A_QUESTION = 2.0  # as the rubric of docs/for-lecturers.md has it
BEGIN, END = "### BEGIN SOLUTION", "### END SOLUTION"
CONFIG = "nbgrader_config.py"
SETTINGS = """c = get_config()  # noqa: F821
c.CourseDirectory.course_id = "minippo"
c.ExecutePreprocessor.timeout = 600  # seconds for one cell; some of them train
"""


def marked(name: str, *, solution: bool, points: float | None = None) -> Cell:
    """The metadata of a cell. With points it is graded; what is no solution is locked."""
    of_grade = {} if points is None else {"points": points}
    return {
        "grade": points is not None,
        "grade_id": name,
        "locked": not solution,
        "schema_version": SCHEMA,
        "solution": solution,
        "task": False,
        **of_grade,
    }


def nbgrader_cells(notebook: Notebook, points: float) -> list[Cell]:
    """A notebook with the right answer as a solution, its check as a test, and an answer to be
    marked by hand below each question."""
    head, body = answer(notebook)
    solution = "\n".join([head, indented("\n".join([BEGIN, body, END]))])
    check = travelling_check(notebook).replace("exercise.check(", "assert exercise.check(", 1)
    made: list[Cell] = []
    for k, one in enumerate(notebook.copies()):
        if k == notebook.stub:
            made.append(cell("code", solution, nbgrader=marked("exercise", solution=True)))
        elif k == notebook.check:
            test = check.rstrip() + ".passed"
            made.append(cell("code", test, nbgrader=marked("check", solution=False, points=points)))
        elif one["cell_type"] == "markdown":
            made += questions_apart(one["source"])
        else:
            made.append(one)
    return made


def questions_apart(text: str) -> list[Cell]:
    """The cells of a text: each question ends one, and its answer is the next."""
    made, begin = [], 0
    for number, found in enumerate(QUESTION.finditer(text), start=1):
        made.append(cell("markdown", text[begin : found.start()] + f"**{found[1]}**"))
        of_hand = marked(f"question-{number}", solution=True, points=POINTS_OF_A_QUESTION)
        made.append(cell("markdown", found[2], nbgrader=of_hand))
        begin = found.end()
    rest = text[begin:].strip("\n")
    return [*made, cell("markdown", rest)] if rest else made


def course(
    chosen: Sequence[Notebook], points: Mapping[str, float], beside: Mapping[str, bytes]
) -> dict[str, bytes]:
    """The files of a course: its settings, and a folder in source/ for each notebook with what lies
    beside it."""
    files = {CONFIG: SETTINGS.encode()}
    for one in chosen:
        folder = f"source/{one.file.removesuffix('.ipynb')}"
        content = as_file(nbgrader_cells(one, points.get(one.exercise, 1.0)))
        files[f"{folder}/{one.file}"] = content
        needed = {**beside, **checks_files([one.exercise])}
        files |= {f"{folder}/{name}": text for name, text in needed.items()}
    return files
