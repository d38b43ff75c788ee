"""A user's own texts and preference pairs: one folder in, one FolderData out, or one line that says
what is wrong.

    read_folder      corpus, demonstrations, preferences and prompts; what is missing is derived,
                     and said in `notes`
    check_lengths    texts longer than the context are refused, or cut at a word when asked
    split_by_prompt  the pairs that the reward model is tested on share no prompt with those it
                     learns from
    without_prompts  a held-out pair's chosen answer must not come back as a demonstration

In this order: a cut can make two prompts equal, so pairs are split after it. Files are only ever
opened for reading.
"""

import json
import os
import stat
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from minippo.errors import InputError
from minippo.runs.kinds import POINTER, known_kind
from minippo.runs.read import reason
from minippo.runs.text import counted
from minippo.tasks.files.messages import fault, json_type, shown, shown_list, shown_path

MAX_BYTES = 256 * 2**20
CORPUS_FILES = ("corpus.txt", "corpus.jsonl")
FIELDS = {
    "corpus.jsonl": ("text",),
    "demonstrations.jsonl": ("prompt", "completion"),
    "preferences.jsonl": ("prompt", "chosen", "rejected"),
    "prompts.jsonl": ("prompt",),
}
READ_FILES = ("corpus.txt", *FIELDS)


class Source(NamedTuple):
    """Where an item is, the first line being 1; for a derived item, where it was taken from."""

    file: str
    line: int


@dataclass(frozen=True)
class FolderData:
    """What a folder holds; `sources[name][i]` is where item i of the list `name` came from."""

    corpus: list[str]  # documents; corpus.txt is one
    demonstrations: list[tuple[str, str]]  # prompt, completion
    preferences: list[tuple[str, str, str]]  # prompt, chosen, rejected
    prompts: list[str]
    notes: list[str]  # one line each, for the screen
    sources: dict[str, list[Source]]


def read_folder(path: str | Path) -> FolderData:
    """Read a folder of texts and preferences; InputError, in one line, for whatever is wrong with
    it."""
    names = list_folder(path)
    check_names(path, names)
    items, sources = {}, {}
    read = [name for name in READ_FILES if name in names]
    for name in read:
        kind = name.split(".")[0]
        reader = read_text_file if name == "corpus.txt" else read_json_lines
        items[kind], sources[kind] = reader(path, name)
    notes = [f"read {', '.join(f'{name} ({amount(name, items)})' for name in read)}"]
    notes += derive_missing(items, sources)
    unread = [name for name in names if name not in READ_FILES]
    if unread:
        notes.append(f"not read: {shown_list(unread)}")
    return FolderData(**items, notes=notes, sources=sources)


def list_folder(path: str | Path) -> list[str]:
    """The sorted names in a folder that must exist and hold something."""
    try:
        names = sorted(os.listdir(path))
    except FileNotFoundError:
        raise InputError(
            f"--data {shown_path(path)}: there is no such folder, and nothing is downloaded"
        ) from None
    except NotADirectoryError:
        raise InputError(f"--data {shown_path(path)}: is not a folder") from None
    except (OSError, ValueError) as error:  # ValueError: a NUL in the path
        raise InputError(f"--data {shown_path(path)}: can't be read ({reason(error)})") from None
    if not names:
        raise InputError(
            f"--data {shown_path(path)}: the folder is empty; it needs at least preferences.jsonl"
        )
    return names


def check_names(path: str | Path, names: Sequence[str]) -> None:
    """Preferences are the one thing that nothing else can stand in for; two corpora leave open
    which one is meant."""
    if all(name in names for name in CORPUS_FILES):
        raise InputError(
            f"--data {shown_path(path)}: holds both corpus.txt and corpus.jsonl; keep one of them"
        )
    if "preferences.jsonl" not in names:
        raise InputError(
            f"--data {shown_path(path)}: there is no preferences.jsonl in it (found "
            f"{shown_list(names)})"
        )


def amount(name: str, items: dict[str, list[Any]]) -> str:
    """How much was read from one file, in the file's own unit."""
    kind = name.split(".")[0]
    if name == "corpus.txt":
        return counted(len(items[kind][0].encode()), "byte")
    units = {"corpus": "document", "preferences": "pair"}
    return counted(len(items[kind]), units.get(kind, kind.removesuffix("s")))


def derive_missing(items: dict[str, list[Any]], sources: dict[str, list[Source]]) -> list[str]:
    """Fill in, from the preferences, what the folder does not hold; returns the notes that say
    so."""
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
        items["prompts"], sources["prompts"] = first_of_each(prompts, lines, key=str.strip)
        notes.append(
            f"no prompts.jsonl: the prompts are the {len(items['prompts'])} "
            "different ones of the preferences"
        )
    if "corpus" not in items:
        items["corpus"] = [
            f"{prompt}\n{completion}" for prompt, completion in items["demonstrations"]
        ]
        sources["corpus"] = list(sources["demonstrations"])
        own = sources["corpus"][0].file == "demonstrations.jsonl"
        one = "demonstration" if own else "chosen answer"
        number = counted(
            len(items["corpus"]), f"{one} with its prompt", f"{one}s with their prompts"
        )
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


def read_text_file(path: str | Path, name: str) -> tuple[list[Any], list[Source]]:
    """A whole file as one document."""
    text = read_text(path, name).replace("\r\n", "\n")
    if not text.strip():
        raise fault(name, what="holds no text, only blank lines")
    return [text], [Source(name, 1)]


def read_json_lines(path: str | Path, name: str) -> tuple[list[Any], list[Source]]:
    """The fields of every line that is not blank: a string where the file has one field, otherwise
    a tuple."""
    items, sources = [], []
    # Not str.splitlines: a JSON string may hold U+2028 and its like, which are no ends of line
    # here.
    lines = read_text(path, name).split("\n")
    check_layout(name, lines)
    for number, line in enumerate(lines, start=1):
        if line.strip():
            items.append(parse_line(name, number, line))
            sources.append(Source(name, number))
    if not items:
        raise fault(name, what="holds no item, only blank lines")
    return items, sources


def check_layout(name: str, lines: Sequence[str]) -> None:
    """Refuse one JSON value over several lines, in its own words: every line of it is broken
    JSON."""
    lines = [line for line in lines if line.strip()]
    if len(lines) < 2 or begins_with_json(lines[0]):
        return
    start = lines[0].lstrip()[0]
    if start == "[" or (start == "{" and begins_with_json("\n".join(lines))):
        what = "one JSON array" if start == "[" else "a JSON object"
        raise fault(
            name,
            what=f"begins with {what} over several lines; write each object on a line of its "
            f"own, like {example(name)}",
        )


def begins_with_json(text: str) -> bool:
    """Is there a whole JSON value, whatever follows it?"""
    with suppress(ValueError, RecursionError):
        json.JSONDecoder(parse_int=float).raw_decode(text.lstrip())
        return True
    return False


def read_text(path: str | Path, name: str) -> str:
    """A file's text, its byte order mark taken off."""
    data = bytes_of(path, name)
    kind = known_kind(data)
    if kind and (name != "corpus.txt" or kind == POINTER):  # other words may begin a text
        raise fault(name, what=kind)
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError as error:
        raise bad_byte(name, data, error.start, "is not UTF-8") from None
    if "\0" in text:
        raise bad_byte(name, data, data.index(b"\0"), "is NUL, which no text holds")
    return text.removeprefix("\ufeff")


def bytes_of(path: str | Path, name: str) -> bytes:
    """A regular file's bytes; the size is looked at before anything is read."""
    full = os.path.join(path, name)
    try:
        status = os.stat(full)
        if stat.S_ISDIR(status.st_mode):
            raise fault(name, what="is a folder, a file is expected")
        if not stat.S_ISREG(status.st_mode):  # a pipe would wait forever
            raise fault(name, what="is not a regular file")
        if status.st_size > MAX_BYTES:
            raise fault(
                name, what=f"has {status.st_size} bytes, more than the {MAX_BYTES} that are read"
            )
        with open(full, "rb") as file:
            data = file.read(MAX_BYTES + 1)
        if len(data) > MAX_BYTES:  # it has grown since
            raise fault(name, what=f"has more than the {MAX_BYTES} bytes that are read")
    except OSError as error:
        raise fault(name, what=f"can't be read ({reason(error)})") from None
    if not data:
        raise fault(name, what="is empty")
    return data


def bad_byte(name: str, data: bytes, offset: int, what: str) -> InputError:
    """The fault for one byte that does not belong into a text."""
    if kind := known_kind(data):
        return fault(name, what=kind)
    line = data.count(b"\n", 0, offset) + 1
    return fault(
        name,
        line,
        what=f"byte 0x{data[offset]:02x} at byte offset {offset} {what}; save the file as UTF-8",
    )


def parse_line(name: str, number: int, line: str) -> str | tuple[str, ...]:
    """One JSON object's fields, checked."""
    record = parse_json(name, number, line)
    if not isinstance(record, dict):
        raise fault(
            name, number, what=f"must be an object like {example(name)}, got {json_type(record)}"
        )
    values = tuple(text_field(name, number, record, field) for field in FIELDS[name])
    if name == "preferences.jsonl" and same_answer(values):
        raise fault(name, number, "rejected", "is equal to chosen, so nothing is preferred")
    return values[0] if len(values) == 1 else values


def parse_json(name: str, number: int, line: str) -> Any:
    """One line's JSON value; numbers become floats, for an int of thousands of digits is refused by
    Python."""
    try:
        return json.loads(line, parse_int=float)
    except json.JSONDecodeError as error:
        near = shown(line[error.pos :]) if line[error.pos :].strip() else "the end of the line"
        raise fault(
            name, number, what=f"column {error.colno}: broken JSON ({error.msg}) at {near}"
        ) from None
    except RecursionError:
        raise fault(name, number, what="the JSON is nested too deeply") from None


def text_field(name: str, number: int, record: Mapping[str, Any], field: str) -> str:
    """One field of an object: a string that can be written as UTF-8 and is not blank."""
    if field not in record:
        found = f"found {shown_list(record)}" if record else "the object is empty"
        raise fault(name, number, field, f"is missing ({found})")
    text = record[field]
    if not isinstance(text, str):
        raise fault(name, number, field, f"must be a string, got {json_type(text)}")
    if not text.strip():
        raise fault(name, number, field, "is blank" if text else "is empty")
    if "\0" in text:
        raise fault(
            name, number, field, f"holds NUL at character {text.index(chr(0))}, which no text holds"
        )
    try:
        text.encode("utf-8")
    except UnicodeEncodeError as error:
        half = f"\\u{ord(text[error.start]):04x}"
        raise fault(
            name, number, field, f"holds {half}, a lone surrogate, which is half a character"
        ) from None
    return text


def same_answer(pair: Sequence[str]) -> bool:
    """Whether a pair's two answers differ by nothing, or by white space around them alone."""
    _, chosen, rejected = pair
    return chosen.strip() == rejected.strip()


def example(name: str) -> str:
    """What a line of a file looks like."""
    return json.dumps(dict.fromkeys(FIELDS[name], "..."))
