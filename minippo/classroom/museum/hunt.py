"""A student's guesses: which bug it is, and in which line."""

import ast
from collections.abc import Mapping
from typing import NamedTuple

from minippo.classroom.museum.bugs import BUGS, Bug
from minippo.classroom.museum.exhibits import letters
from minippo.classroom.museum.planting import bug_called, files_of, fix, wrong_source
from minippo.errors import InputError


class Answer(NamedTuple):
    """right, and what there is to say about it."""

    right: bool
    message: str


def names() -> list[str]:
    """What the bugs are called, in alphabetical order: what a guess may be."""
    return sorted(bug.name for bug in BUGS)


def bug_behind(letter: str, seed: int = 0) -> Bug:
    """The bug of a training. InputError: there is no such letter."""
    found = letters(seed)
    if letter not in found:
        raise InputError(f"{letter!r}: wanted one of {', '.join(found)}")
    return found[letter]


def guess(letter: str, name: str, seed: int = 0) -> Answer:
    """Is this the bug behind the letter? InputError: no bug is called so."""
    bug, guessed = bug_behind(letter, seed), bug_called(name)
    if guessed is bug:
        return Answer(True, f"{bug.what} Seen by {bug.seen_by}. Whose it was: {bug.who}")
    return Answer(False, f"with {guessed.name!r} one would see this: {guessed.curves}")


def check(guesses: Mapping[str, str], seed: int = 0) -> int:
    """Print what there is to say about each guess, {letter: name}; returns how many are right."""
    answers = {letter: guess(letter, name, seed) for letter, name in guesses.items()}
    for letter, answer in answers.items():
        print(f"{letter}: {'right' if answer.right else 'no'}. {answer.message}")
    number = sum(answer.right for answer in answers.values())
    print(f"{number} of {len(answers)}")
    return number


def faulty_function(letter: str, seed: int = 0) -> str:
    """The function that holds the bug, or its first part, as it was run."""
    bug = bug_behind(letter, seed)
    file = files_of(bug)[0]
    source = wrong_source(bug, file)
    (number, *_) = wrong_lines(bug)
    functions = [
        node
        for node in ast.walk(ast.parse(source))
        if isinstance(node, ast.FunctionDef) and node.lineno <= number <= (node.end_lineno or 0)
    ]
    innermost = max(functions, key=lambda node: node.lineno)
    lines = source.splitlines()[innermost.lineno - 1 : innermost.end_lineno]
    return "\n".join(lines)


def wrong_lines(bug: Bug) -> list[int]:
    """The numbers of the lines in the first faulty file that are wrong, or that stand where a line
    is missing."""
    file = files_of(bug)[0]
    edit = next(edit for edit in bug.edits if edit.file == file)
    source = wrong_source(bug, file)
    if not edit.wrong:  # lines are missing: the one that now stands in their place
        (before, _) = unbroken(file, edit.right)
        return [before.count("\n") + 1]
    start = source[: source.index(edit.wrong)].count("\n") + 1
    right = edit.right.splitlines()
    return [
        start + i
        for i, line in enumerate(edit.wrong.splitlines())
        if line.strip() and line not in right
    ]


def unbroken(file: str, text: str) -> tuple[str, str]:
    """What stands before and behind a text in a file of the package."""
    source = wrong_source(BUGS[0]._replace(edits=()), file)
    before, _, behind = source.partition(text)
    return before, behind


def check_line(letter: str, line: str, seed: int = 0) -> Answer:
    """Is this a line that is wrong? Blanks around it do not matter."""
    bug = bug_behind(letter, seed)
    source = wrong_source(bug, files_of(bug)[0]).splitlines()
    wrong = {source[number - 1].strip() for number in wrong_lines(bug)}
    if line.strip() in wrong:
        return Answer(True, f"{bug.what} The fix:\n\n{fix(bug)}")
    return Answer(False, "that line is as it should be; what does each line read, and of when?")
