"""Exercises written down as numbers: checks.json, and the package that reads it.

Of each exercise travel the fixed cases and what the right answer, every listed mistake and the
right answer after every change, or two of them, give there: values and gradients. No function
travels.
"""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from torch import Tensor

import minippo
from minippo.classroom.judging import exercise_named
from minippo.classroom.travelling import FORMAT
from minippo.exercises.engine import Exercise
from minippo.exercises.observe import Answer, Case, observe_one, to_plain, wide
from minippo.exercises.recognise import Change

PACKAGE = Path(minippo.__file__).parent
JUDGE = ("observe", "compare", "messages", "recognise", "engine")  # of the exercises
DIGITS, DIGITS_OF_TWO = 9, 6  # of a mistake's numbers and of two at once; what is right is whole
INIT = '''"""The checks of the exercises, which are there to teach: they compare with the numbers in
checks.json. `from checks import gae as exercise`, `exercise.check(my_gae)`, `exercise.hint()`."""

from pathlib import Path

from checks.judge.travelling import exercise_in

FILE = Path(__file__).resolve().parent.parent / "checks.json"


def __getattr__(name):
    if name.startswith("_"):
        raise AttributeError(name)
    return exercise_in(FILE, name)
'''


class Tensors:
    """The tensors of an exercise, each kept once."""

    def __init__(self) -> None:
        self.places: dict[str, int] = {}

    def place(self, tensor: Tensor, digits: int | None) -> int:
        """Where a tensor is in the list."""
        plain = to_plain(tensor)
        if digits is not None:
            plain["numbers"] = [rounded(number, digits) for number in plain["numbers"]]
        return self.places.setdefault(json.dumps(plain), len(self.places))

    def plain(self) -> list[Any]:
        """All of them."""
        return [json.loads(text) for text in self.places]


def rounded(number: Any, digits: int) -> Any:
    """A number with so many digits; what is none stays."""
    return float(f"{number:.{digits}g}") if isinstance(number, float) else number


def rows_of(
    function: Answer,
    cases: Sequence[Case],
    gradient_of: Sequence[str],
    tensors: Tensors,
    digits: int | None = DIGITS,
) -> list[dict[str, Any]]:
    """What a function gives for each case in float64, and for an extreme one in float32 as well."""
    rows = []
    for case in cases:
        versions = {"wide": wide(case)} | ({} if case.slip is None else {"own": case})
        row = {}
        for name, version in versions.items():
            seen = observe_one(function, version, gradient_of)
            row[name] = (
                seen.value
                if seen.value is None
                else {
                    "value": tensors.place(seen.value, digits),
                    "gradients": {n: tensors.place(g, digits) for n, g in seen.gradients.items()},
                }
            )
        rows.append(row)
    return rows


def written_down(exercise: Exercise) -> dict[str, Any]:
    """An exercise as JSON's own types; travelling.exercise_from reads it."""
    cases, tensors = exercise.cases(), Tensors()

    def rows(function: Answer, digits: int | None = DIGITS) -> list[dict[str, Any]]:
        return rows_of(function, cases, exercise.gradient_of, tensors, digits)

    def two_at_once(first: Change) -> dict[str, Any]:
        """place of a second change -> what both give; two of one name are left out."""
        changed = first.apply(exercise.reference)
        return {
            str(j): rows(second.apply(changed), DIGITS_OF_TWO)
            for j, second in enumerate(exercise.changes)
            if second.name != first.name
        }

    return {
        "gradient_of": list(exercise.gradient_of),
        "cases": [
            {"arguments": to_plain(dict(case)), "holds": case.holds, "slip": case.slip}
            for case in cases
        ],
        "right": rows(exercise.reference, None),
        "mistakes": [[m.name, m.message, rows(m.function)] for m in exercise.mistakes],
        "changes": [
            [c.name, c.message, rows(c.apply(exercise.reference)), two_at_once(c)]
            for c in exercise.changes
        ],
        "hints": list(exercise.hints),
        "causes": [list(cause) for cause in exercise.causes],
        "tensors": tensors.plain(),
    }


def checks_json(names: Sequence[str]) -> str:
    """checks.json of these exercises."""
    found = {name: written_down(exercise_named(name)) for name in names}
    return json.dumps({"format": FORMAT, "exercises": found}, allow_nan=False) + "\n"


def checks_files(names: Sequence[str]) -> dict[str, bytes]:
    """name -> content of what the checks need: the numbers, and a package without any answer."""
    sources = {name: PACKAGE / "exercises" / f"{name}.py" for name in JUDGE}
    sources["travelling"] = PACKAGE / "classroom" / "travelling.py"
    files = {
        f"checks/judge/{name}.py": moved(path.read_text(encoding="utf-8"))
        for name, path in sources.items()
    }
    files["checks/judge/__init__.py"] = '"""What the checks do."""\n'
    files |= {"checks/__init__.py": INIT, "checks.json": checks_json(names)}
    return {name: text.encode() for name, text in files.items()}


def moved(source: str) -> str:
    """A module's source with its neighbours where they are in the student's folder."""
    return source.replace("from minippo.exercises.", "from checks.judge.")
