"""How long a class takes to grade, and what it got wrong: a made-up class of 200.

    python benchmarks/classroom.py FOLDER [--students 200]
    python -m minippo.classroom grade FOLDER --out DIR

writes the class into FOLDER, a file for each student. The answers are those of
tests/exercises/bank: a student answers each exercise rightly with a chance of their own, between
0.2 and 0.95, leaves out one in twelve, and makes one of the listed mistakes otherwise. One student
in twenty has handed in something hostile or careless, of tests/classroom/hostile_answers.py, with
right answers to the other exercises. The same number of students gives the same class.
"""

import argparse
import ast
import importlib
import random
import sys
import textwrap
from pathlib import Path
from types import ModuleType
from typing import Any

sys.path.insert(0, str(Path(__file__).parent.parent))

from minippo.classroom.judging import NAMES
from tests.classroom.hostile_answers import QUICK, SLOW

HOSTILE_ONE_IN, ABSENT_ONE_IN = 20, 12


def answer(bank: ModuleType, name: str, function: Any) -> str:
    """One function of a bank under the name of the exercise, with what it needs of its module, in a
    scope of its own: two banks may have a helper of the same name."""
    source = Path(bank.__file__ or "").read_text(encoding="utf-8")
    body = ast.parse(source).body
    defined = {
        node.name: node for node in body if isinstance(node, (ast.FunctionDef, ast.ClassDef))
    }
    needed, open_ends = set(), [function.__name__]
    while open_ends:
        needed.add(open_ends[-1])
        names = {n.id for n in ast.walk(defined[open_ends.pop()]) if isinstance(n, ast.Name)}
        open_ends += [one for one in names if one in defined and one not in needed]
    lists = ("RIGHT", "WRONG")
    kept = [
        node
        for node in body[1:]
        if (isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) not in lists)
        or isinstance(node, (ast.Import, ast.ImportFrom))
        or getattr(node, "name", None) in needed
    ]
    text = textwrap.indent("\n\n".join(map(ast.unparse, kept)), "    ")
    scope = f"def answers_to_{name}():\n{text}\n    return {function.__name__}\n"
    return f"{scope}\n\nmy_{name} = answers_to_{name}()\n\n\n"


def student(draw: random.Random, banks: dict[str, ModuleType], chance: float) -> str:
    """The file of a student who answers rightly with this chance."""
    parts = []
    for name in NAMES:
        bank = banks[name]
        if draw.randrange(ABSENT_ONE_IN) == 0 and chance < 1:
            continue
        is_right = draw.random() < chance
        function = draw.choice(bank.RIGHT if is_right else [*bank.WRONG])
        parts.append(answer(bank, name, function))
    return "\n".join(parts)


def main() -> int:
    """Write the class."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--students", type=int, default=200)
    given = parser.parse_args()
    given.folder.mkdir(parents=True)
    draw = random.Random(given.students)
    banks = {name: importlib.import_module(f"tests.exercises.bank.{name}") for name in NAMES}
    hostile = [text for text, _ in (QUICK | SLOW).values()]
    draw.shuffle(hostile)
    for number in range(given.students):
        is_hostile = number % HOSTILE_ONE_IN == 0
        text = student(draw, banks, 1.0 if is_hostile else draw.uniform(0.2, 0.95))
        if is_hostile:
            text += hostile[(number // HOSTILE_ONE_IN) % len(hostile)]
        (given.folder / f"student-{number:03d}.py").write_text(text, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
