"""How long a class takes to grade, and what it got wrong: a made-up class of 200.

    python benchmarks/classroom.py FOLDER [--students 200]           write the class alone
    python benchmarks/classroom.py FOLDER --grade 14 18 [--jobs 2]   and time its grading

writes the class into FOLDER/class, a file for each student. --grade N runs
`python -m minippo.classroom grade` on the first N exercises, from its start to its end and with a
fixed seed, and prints the seconds and how many of the ordinary students' answers got the verdict
that they should have; the grades are in FOLDER/grades-N. The answers are those of
tests/exercises/bank: a student answers each exercise rightly with a chance of their own, between
0.2 and 0.95, leaves out one in twelve, and makes one of the listed mistakes otherwise. One student
in twenty has handed in something hostile or careless, of tests/classroom/hostile_answers.py, with
right answers to the other exercises. The same number of students gives the same class.
"""

import argparse
import ast
import csv
import importlib
import random
import subprocess
import sys
import textwrap
import time
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

sys.path.insert(0, str(Path(__file__).parent.parent))

from minippo.classroom.judging import NAMES
from tests.classroom.hostile_answers import QUICK, SLOW

HOSTILE_ONE_IN, ABSENT_ONE_IN = 20, 12
Expected = dict[str, dict[str, bool | None]]


def answer(bank: ModuleType, name: str, function: Any) -> str:
    """One function of a bank under the name of the exercise, with what it needs of its module, in a
    scope of its own: two banks may have a helper of the same name."""
    source = Path(bank.__file__ or "").read_text(encoding="utf-8")
    body, lists = ast.parse(source).body[1:], ("RIGHT", "WRONG")
    if getattr(bank, function.__name__, None) is function:
        body, chosen = needed(body, function.__name__, lists), function.__name__
    else:  # it was made by another function, as those of ppo_loss
        where = next(one for one in lists if function in getattr(bank, one))
        chosen = f"[*{where}][{[*getattr(bank, where)].index(function)}]"
    text = textwrap.indent("\n\n".join(map(ast.unparse, body)), "    ")
    scope = f"def answers_to_{name}():\n{text}\n    return {chosen}\n"
    return f"{scope}\n\nmy_{name} = answers_to_{name}()\n\n\n"


def needed(body: list[ast.stmt], name: str, lists: Sequence[str]) -> list[ast.stmt]:
    """Of a module without its lists: imports, assignments, and what these and a function need."""
    kinds = (ast.FunctionDef, ast.ClassDef)
    body = [
        node
        for node in body
        if isinstance(node, kinds)
        or not any(isinstance(n, ast.Name) and n.id in lists for n in ast.walk(node))
    ]
    defined = {node.name: node for node in body if isinstance(node, kinds)}
    rest = [node for node in body if not isinstance(node, kinds)]
    found, open_ends = {name}, [defined[name], *rest]
    while open_ends:
        used = {n.id for n in ast.walk(open_ends.pop()) if isinstance(n, ast.Name)}
        new = [one for one in used if one in defined and one not in found]
        found |= {*new}
        open_ends += [defined[one] for one in new]
    return [node for node in body if node in rest or getattr(node, "name", None) in found]


def student(
    draw: random.Random, banks: dict[str, ModuleType], chance: float
) -> tuple[str, dict[str, bool | None]]:
    """The file of a student who answers rightly with this chance, and {exercise: is it right}, None
    where there is no answer."""
    parts, expected = [], dict.fromkeys(NAMES)
    for name in NAMES:
        bank = banks[name]
        if draw.randrange(ABSENT_ONE_IN) == 0 and chance < 1:
            continue
        is_right = draw.random() < chance
        # minippo is not there when an answer is graded, and that is no mistake to be counted
        alone = [one for one in bank.RIGHT if one.__name__ != "in_the_package"]
        function = draw.choice(alone if is_right else [*bank.WRONG])
        parts.append(answer(bank, name, function))
        expected[name] = is_right
    return "\n".join(parts), expected


def write_class(folder: Path, students: int) -> Expected:
    """Write the files of the class; returns {ordinary student: {exercise: is the answer right}}."""
    folder.mkdir(parents=True)
    expected = {}
    draw = random.Random(students)
    banks = {name: importlib.import_module(f"tests.exercises.bank.{name}") for name in NAMES}
    hostile = [text for text, _ in (QUICK | SLOW).values()]
    draw.shuffle(hostile)
    for number in range(students):
        is_hostile = number % HOSTILE_ONE_IN == 0
        text, answers = student(draw, banks, 1.0 if is_hostile else draw.uniform(0.2, 0.95))
        if is_hostile:
            text += hostile[(number // HOSTILE_ONE_IN) % len(hostile)]
        else:
            expected[f"student-{number:03d}"] = answers
        (folder / f"student-{number:03d}.py").write_text(text, encoding="utf-8")
    return expected


def as_expected(status: str, is_right: bool | None) -> bool:
    """Is this the status that an answer should have?"""
    if is_right is None:
        return status == "no result"
    return (status == "ok") == is_right


def graded(folder: Path, expected: Expected, exercises: int, jobs: int) -> str:
    """Grade the class on the first exercises; returns a line with what it took."""
    out = folder / f"grades-{exercises}"
    seed = folder / "seed.txt"
    seed.write_text("a class", encoding="utf-8")
    program = [sys.executable, "-m", "minippo.classroom", "grade", str(folder / "class")]
    program += ["--out", str(out), "--seed_file", str(seed), "--jobs", str(jobs)]
    program += ["--exercises", *NAMES[:exercises]]
    begun = time.monotonic()
    subprocess.run(program, check=True, stdout=subprocess.DEVNULL)
    seconds = time.monotonic() - begun
    with (out / "grades.csv").open(encoding="utf-8", newline="") as file:
        rows = {row["student"]: row for row in csv.DictReader(file)}
    sound = [
        as_expected(rows[name][f"{exercise}_status"], answers[exercise])
        for name, answers in expected.items()
        for exercise in NAMES[:exercises]
    ]
    return (
        f"{len(list((folder / 'class').iterdir()))} students x {exercises} exercises, {jobs} jobs: "
        f"{seconds:.0f} s; {sum(sound)} of {len(sound)} answers of "
        "ordinary students got the right verdict"
    )


def main() -> int:
    """Write the class, and grade it if that was asked for."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folder", type=Path)
    parser.add_argument("--students", type=int, default=200)
    parser.add_argument("--grade", type=int, nargs="+", default=[], metavar="EXERCISES")
    parser.add_argument("--jobs", type=int, default=2)
    given = parser.parse_args()
    expected = write_class(given.folder / "class", given.students)
    for exercises in given.grade:
        print(graded(given.folder, expected, exercises, given.jobs), flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
