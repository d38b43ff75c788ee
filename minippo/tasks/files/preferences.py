"""Preferences in one file, for whatever task: what --preferences names.

Two forms, told apart by the first line: {"prompt", "chosen", "rejected"}, or what python -m
minippo.label has written (runs/labels.py). Ties and what was skipped prefer nothing: they are left
out, and counted. Half a line at the end of such a file, as a crash leaves it, is left out here as
label itself does, and said; the file stays as it is.
"""

import hashlib
from collections import Counter
from collections.abc import Sequence
from typing import Any, NamedTuple

import torch

from minippo.errors import InputError
from minippo.runs.labels import SKIP, TIE, UNDO, in_force, read_label
from minippo.runs.read import parse_object
from minippo.runs.text import counted
from minippo.tasks.base import Task
from minippo.tasks.files.container import MIB, Broken, bytes_of, parse_line, text_of
from minippo.tasks.files.messages import Unusable, fault, json_type, shown
from minippo.tasks.files.read import same_answer
from minippo.tasks.files.rows import Source, prompt_key
from minippo.tasks.files.schema import required
from minippo.tasks.files.split import split_by_prompt
from minippo.tasks.files.turns import checked_text

FIELDS = ("prompt", "chosen", "rejected")
LIMIT = 256 * MIB  # bytes that are read of a file
LABEL = "label"  # what only the second form has
BEGINNING = b'{"seed": '  # of the second form
FORMS = '{"prompt", "chosen", "rejected"}, or labels.jsonl as python -m minippo.label writes it'


class Preferences(NamedTuple):
    """What somebody prefers, with the line of each pair."""

    pairs: list[tuple[str, str, str]]  # prompt, chosen, rejected
    sources: list[Source]
    digest: str  # of the file's text, wherever it lies
    note: str  # for the screen


def read_preferences(file: str) -> Preferences:
    """The pairs of a file. InputError, with file, line and field, for whatever is wrong with it."""
    data, cut = without_half_line(bytes_of(file, file, LIMIT))
    text = text_of(data, file) if data.strip() else ""
    lines = [(n, line) for n, line in enumerate(text.split("\n"), start=1) if line.strip()]
    if not lines:
        but = cut and f" but {cut}"
        raise fault(file, what=f"holds nothing{but}; wanted lines of {FORMS}")
    first = parse_json(file, *lines[0])
    has_labels = isinstance(first, dict) and LABEL in first
    pairs, sources, note = (labelled if has_labels else written)(file, lines)
    note += cut and f"; left out: {cut}"
    if len({prompt_key(prompt) for prompt, _, _ in pairs}) < 2:
        raise fault(
            file,
            what=f"{note}; pairs of at least 2 different prompts are needed, one to learn from and "
            "one to test on",
        )
    return Preferences(pairs, sources, hashlib.sha256(text.encode()).hexdigest(), f"{file}: {note}")


def without_half_line(data: bytes) -> tuple[bytes, str]:
    """(the bytes, what was left out of them): half a line at the end of what label has written."""
    start = data.rfind(b"\n") + 1
    if not data.startswith(BEGINNING) or not data[start:].strip():
        return data, ""
    try:
        parse_object(data[start:], "")
    except InputError:
        number = data.count(b"\n", 0, start) + 1
        return data[:start], f"line {number}, which is half a line, cut by a crash"
    return data, ""


def parse_json(file: str, number: int, line: str) -> Any:
    """The JSON value of a line. InputError says where it is broken."""
    value = parse_line(line)
    if isinstance(value, Broken):
        raise fault(file, number, what=value.what)
    return value


def text_field(file: str, number: int, record: dict[str, Any], field: str) -> str:
    """A text of an object. InputError where there is none that can be used."""
    try:
        return checked_text(required(record, field), field)
    except Unusable as error:
        raise fault(file, number, field, error.what) from None


Read = tuple[list[tuple[str, str, str]], list[Source], str]  # pairs, their lines, a note


def written(file: str, lines: Sequence[tuple[int, str]]) -> Read:
    """The form with chosen and rejected answers."""
    pairs, sources = [], []
    for number, line in lines:
        record = parse_json(file, number, line)
        if not isinstance(record, dict):
            raise fault(file, number, what=f"wanted {FORMS}, got {json_type(record)}")
        pair = tuple(text_field(file, number, record, field) for field in FIELDS)
        if same_answer(pair):
            raise fault(file, number, "rejected", "is equal to chosen, so nothing is preferred")
        pairs.append(pair)
        sources.append(Source(file, number))
    return pairs, sources, counted(len(pairs), "pair")


def labelled(file: str, lines: Sequence[tuple[int, str]]) -> Read:
    """The form with labels; an answer in it may be empty, as a model's may."""
    labels = {read_label(line.encode(), f"{file}, line {n}"): n for n, line in lines}
    held = in_force(labels)
    said = Counter(label.label for label in held)
    undone = sum(label.label == UNDO for label in labels)
    pairs, sources = [], []
    for label in held:
        pair = label.preference()
        if pair is not None:
            pairs.append(pair)
            sources.append(Source(file, labels[label]))
    note = f"{counted(len(pairs), 'pair')} of {counted(len(held), 'label')}"
    if said[TIE] + said[SKIP]:
        note += (
            f"; {counted(said[TIE], 'tie')} and {said[SKIP]} skipped are left out, as nothing is "
            "preferred there"
        )
    return pairs, sources, note + (f"; {undone} taken back" if undone else "")


def check_texts(
    task: Task, found: Preferences, *, context: int, prompts: int | None = None
) -> None:
    """InputError, with file and line, for a text that a task cannot read: a word that its tokenizer
    does not know, more than `context` tokens of prompt and answer, or more than `prompts` of a
    prompt."""
    for (prompt, *answers), source in zip(found.pairs, found.sources, strict=True):
        fields = ("prompt", prompt), *zip(FIELDS[1:], answers, strict=True)
        for field, text in fields:
            unknown = [word for word in text.split() if not is_known(task, word)]
            if unknown:
                raise fault(
                    source.file,
                    source.line,
                    field,
                    f"the word {shown(unknown[0])} is not known; the tokenizer of --task "
                    f"{task.name} has a list of words, and python -m minippo.talk shows it",
                )
        length = len(task.prompt_ids(prompt))
        whole = length + max(len(task.response_ids(answer)) for answer in answers)
        for what, tokens, room in (
            ("the prompt has", length, prompts or context),
            ("prompt and answer have", whole, context),
        ):
            if tokens > room:
                why = f"{what} {counted(tokens, 'token')}; there is room for {room}"
                raise fault(source.file, source.line, what=why)


def is_known(task: Task, word: str) -> bool:
    """Can the task's tokenizer read it?"""
    try:
        task.tokenizer.encode(word)
    except ValueError:
        return False
    return True


def take(task: Task, found: Preferences, heldout_pairs: int, generator: torch.Generator) -> None:
    """Give a task preferences that people made, split into those to learn from and those to test
    on, which are at most half."""
    training, heldout = split_by_prompt(
        found.pairs, heldout_pairs=heldout_pairs, generator=generator
    )
    task.recorded, task.preferences_digest = (training, heldout), found.digest
    task.amounts = {**task.amounts, "pair": len(training)}
    task.notes = (
        *task.notes,
        f"{found.note}; {counted(len(heldout), 'pair is', 'pairs are')} held out "
        f"(--preference_heldout {heldout_pairs}, at most half), {len(training)} to learn from",
    )
