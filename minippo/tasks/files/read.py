"""A user's own texts and preference pairs: one folder in, one FolderData out, or one line that says
what is wrong.

    read_folder      corpus, demonstrations, preferences and prompts; what is missing is derived,
                     and said in `notes`
    check_lengths    texts longer than the context are refused, or cut at a word when asked
    split_by_prompt  the pairs that the reward model is tested on share no prompt with those it
                     learns from
    without_prompts  a held-out pair's chosen answer must not come back as a demonstration

In this order: a cut can make two prompts equal, so pairs are split after it. Files are only ever
opened for reading. find.py says which files there are, container.py what records a file holds,
schema.py and turns.py what a record says, rows.py what all of them come to.
"""

import os
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from minippo.errors import InputError
from minippo.runs.text import counted
from minippo.tasks.files.container import MIB, bytes_of, text_of
from minippo.tasks.files.find import KINDS, find_files, is_one_text
from minippo.tasks.files.messages import PAGE, fault, shown_list
from minippo.tasks.files.rows import AS_IT_IS, Items, Reading, Source, prompt_key, read_rows

CORPUS_LIMIT = 256  # MiB, where --data_limit is not more


@dataclass(frozen=True)
class FolderData:
    """What a folder holds; `sources[name][i]` is where item i of the list `name` came from."""

    corpus: list[str]  # documents; corpus.txt is one
    demonstrations: list[tuple[str, str]]  # prompt, completion
    preferences: list[tuple[str, str, str]]  # prompt, chosen, rejected
    prompts: list[str]
    notes: list[str]  # one line each, for the screen
    sources: dict[str, list[Source]]
    files: dict[str, str]  # the names of the files that are there


def read_folder(path: str | Path, reading: Reading = AS_IT_IS) -> FolderData:
    """Read a folder of texts and preferences, or one file of preferences; InputError, in one line,
    for whatever is wrong with it."""
    found = find_files(path)
    kinds = [kind for kind in KINDS if kind in found.files]
    read = {kind: read_file(found.folder, found.files[kind], kind, reading) for kind in kinds}
    read["preferences"] = fewer_pairs(read["preferences"], reading.pairs)
    items = {kind: read[kind].items for kind in kinds}
    sources = {kind: read[kind].sources for kind in kinds}
    amounts = (f"{found.files[kind]} ({amount(found.files[kind], kind, items)})" for kind in kinds)
    notes = [f"read {', '.join(amounts)}", *(note for kind in kinds for note in read[kind].notes)]
    notes += derive_missing(items, sources, pretrains=reading.pretrains)
    if found.others:
        notes.append(f"not read: {shown_list(found.others)}")
    return FolderData(**items, notes=notes, sources=sources, files=found.files)


def read_file(folder: str, name: str, kind: str, reading: Reading) -> Items:
    """One file's items; a corpus may be larger than the others. A refusal ends with the page that
    says what is read."""
    path = os.path.join(folder, name)
    limit = max(reading.limit, CORPUS_LIMIT) if kind == "corpus" else reading.limit
    try:
        if is_one_text(name) and kind == "corpus":
            return read_text_file(path, name, limit)
        return read_rows(path, name, kind, reading, limit)
    except InputError as error:
        raise InputError(f"{error}; {PAGE}") from None


def fewer_pairs(read: Items, pairs: int | None) -> Items:
    """The first so many pairs, all where None."""
    if pairs is None:
        return read
    name, there = read.sources[0].file, len(read.items)
    if pairs > there:
        raise InputError(f"--pairs {pairs}: {name} holds {counted(there, 'pair')}")
    note = f"{name}: the first {pairs} of {there} pairs are taken"
    return Items(read.items[:pairs], read.sources[:pairs], [*read.notes, note])


def amount(name: str, kind: str, items: dict[str, list[Any]]) -> str:
    """How much was read from one file, in the file's own unit."""
    if kind == "corpus" and is_one_text(name):
        return counted(len(items[kind][0].encode()), "byte")
    units = {"corpus": "document", "preferences": "pair"}
    return counted(len(items[kind]), units.get(kind, kind.removesuffix("s")))


def derive_missing(
    items: dict[str, list[Any]], sources: dict[str, list[Source]], *, pretrains: bool = True
) -> list[str]:
    """Fill in, from the preferences, what the folder does not hold; returns the notes that say
    so, and that of the corpus only where something is pretrained."""
    notes = []
    pairs, lines = items["preferences"], sources["preferences"]
    if "demonstrations" not in items:
        chosen = [(prompt, chosen) for prompt, chosen, _ in pairs]
        items["demonstrations"], sources["demonstrations"] = first_of_each(chosen, lines)
        notes.append(
            "no demonstrations.jsonl: fine-tuning uses the "
            f"{counted(len(items['demonstrations']), 'chosen answer')}"
        )
    if "prompts" not in items:
        prompts = [prompt for prompt, _, _ in pairs]
        items["prompts"], sources["prompts"] = first_of_each(prompts, lines, key=prompt_key)
        notes.append(
            f"no prompts.jsonl: the prompts are the {len(items['prompts'])} "
            "different ones of the preferences"
        )
    if "corpus" not in items:
        items["corpus"] = [
            f"{prompt}\n{completion}" for prompt, completion in items["demonstrations"]
        ]
        sources["corpus"] = list(sources["demonstrations"])
        own = sources["corpus"][0].file != sources["preferences"][0].file
        one = "demonstration" if own else "chosen answer"
        number = counted(
            len(items["corpus"]), f"{one} with its prompt", f"{one}s with their prompts"
        )
        if pretrains:
            notes.append(f"no corpus.txt or corpus.jsonl: pretraining reads the {number}")
    return notes


def first_of_each(
    values: Iterable[Any],
    sources: Iterable[Source],
    *,
    key: Callable[[Any], Any] = lambda value: value,
) -> tuple[list[Any], list[Source]]:
    """The values without repetitions, in order, with the source of each."""
    first = {}
    for value, source in zip(values, sources, strict=True):
        first.setdefault(key(value), (value, source))
    return [value for value, _ in first.values()], [source for _, source in first.values()]


def read_text_file(path: str, name: str, limit: int) -> Items:
    """A whole file as one document."""
    text = text_of(bytes_of(path, name, limit * MIB), name, any_words=True).replace("\r\n", "\n")
    if not text.strip():
        raise fault(name, what="holds no text, only blank lines")
    return Items([text], [Source(name, 1)], [])


def same_answer(pair: Sequence[str]) -> bool:
    """Whether a pair's two answers differ by nothing, or by white space around them alone."""
    _, chosen, rejected = pair
    return chosen.strip() == rejected.strip()
