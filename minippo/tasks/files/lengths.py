"""Texts that are longer than the context: found, counted, described, and cut only when asked.

Lengths are those of the tokenizer's tokens; `size` measures a text in them.
"""

from bisect import bisect_right
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from itertools import chain
from typing import NamedTuple

from minippo.errors import InputError
from minippo.runs.text import counted
from minippo.tasks.files.messages import fault, shown
from minippo.tasks.files.read import FolderData, first_of_each, same_answer
from minippo.tasks.files.rows import Source, prompt_key
from minippo.tasks.files.schema import FIELDS
from minippo.tasks.files.split import keep

LONGEST_CHARACTER = 4  # bytes of UTF-8


class LongText(NamedTuple):
    """A text that has no room: where it is, its size, and the size that there is room for."""

    place: str
    field: str
    size: int
    room: int


def size_in_bytes(text: str) -> int:
    return len(text.encode())


def check_lengths(
    data: FolderData,
    *,
    prompt_length: int,
    completion_length: int,
    truncate: bool,
    size: Callable[[str], int] = size_in_bytes,
    unit: str = "bytes",
) -> FolderData:
    """The data with every text within its room, in tokens, which size(text) counts; a response also
    needs one for its EOS.

    Too long and `truncate` False: InputError with the count and the longest. True: a prompt loses
    its beginning and a response its end, at a word where there is one; pairs that become equal are
    dropped; `notes` says how many. The corpus is cut into windows anyway, so it is never too long.
    """
    check_room(prompt_length=prompt_length, completion_length=completion_length)
    rooms = {"prompt": prompt_length} | dict.fromkeys(
        ("completion", "chosen", "rejected"), completion_length - 1
    )
    too_long = find_long_texts(data, rooms, size)
    if not too_long:
        return data
    if not truncate:
        raise InputError(describe_long_texts(data, too_long, unit))
    return cut_texts(data, rooms, too_long, size)


def check_room(*, prompt_length: int, completion_length: int) -> None:
    """A cut must leave at least one character, whichever it is."""
    if prompt_length < LONGEST_CHARACTER:
        raise InputError(
            f"--prompt_length must be at least {LONGEST_CHARACTER}, got {prompt_length}"
        )
    if completion_length < LONGEST_CHARACTER + 1:
        raise InputError(
            f"--completion_length must be at least {LONGEST_CHARACTER + 1}, got {completion_length}"
        )


def find_long_texts(
    data: FolderData, rooms: Mapping[str, int], size_of: Callable[[str], int]
) -> dict[str, list[LongText]]:
    """{kind: its LongTexts}; what was derived from the preferences is not counted a second time."""
    too_long = {}
    for kind in ("preferences", "demonstrations", "prompts"):
        sizes = (
            LongText(source.place, field, size_at(source, field, text, size_of), rooms[field])
            for source, texts in own_items(data, kind)
            for field, text in zip(FIELDS[kind], texts, strict=True)
        )
        if found := [text for text in sizes if text.size > text.room]:
            too_long[kind] = found
    return too_long


def size_at(source: Source, field: str, text: str, size_of: Callable[[str], int]) -> int:
    """The size of a text. What its tokenizer refuses is said with the place of the text."""
    try:
        return size_of(text)
    except InputError as error:
        raise fault(source.file, source.line, field, str(error), unit=source.unit) from error


def own_items(data: FolderData, kind: str) -> list[tuple[Source, tuple[str, ...]]]:
    """(source, texts) of the items that are in the file itself; the derived ones have another
    file as source."""
    return [
        (source, (item,) if isinstance(item, str) else item)
        for source, item in zip(data.sources[kind], getattr(data, kind), strict=True)
        if source.file == data.files.get(kind)
    ]


def describe_long_texts(
    data: FolderData, too_long: Mapping[str, Sequence[LongText]], unit: str
) -> str:
    """One line: per file how many and the longest, then what to do about it."""
    parts, flags = [], set()
    for kind, texts in too_long.items():
        flags |= {
            "--prompt_length" if text.field == "prompt" else "--completion_length" for text in texts
        }
        # the one that most room is missing for
        longest = max(texts, key=lambda text: text.size - text.room)
        room = f"{longest.room}" if longest.field == "prompt" else f"{longest.room} and the EOS"
        parts.append(
            f"{data.files[kind]}: {share(data, kind, texts)} "
            f"{'is' if len(texts) == 1 else 'are'} longer than the context "
            f"(longest: {longest.size} {unit} at {longest.place}, "
            f"field {longest.field}; room for {room})"
        )
    return (
        f"{'; '.join(parts)}; pass --truncate to cut them at a word, or raise "
        f"{' and '.join(sorted(flags))}"
    )


def share(data: FolderData, kind: str, texts: Sequence[LongText]) -> str:
    """'37 of 2682 texts'; every field of every line is a text."""
    number = len(own_items(data, kind)) * len(FIELDS[kind])
    return f"{len(texts)} of {counted(number, 'text')}"


def cut_texts(
    data: FolderData,
    rooms: Mapping[str, int],
    too_long: Mapping[str, Sequence[LongText]],
    size: Callable[[str], int],
) -> FolderData:
    """A new FolderData without a text that is too long."""
    notes = [
        f"{data.files[kind]}: {share(data, kind, texts)} cut at a word"
        for kind, texts in too_long.items()
    ]
    pairs, demonstrations = (
        cut_items(items, rooms, size) for items in (data.preferences, data.demonstrations)
    )
    different = [not same_answer(pair) for pair in pairs]
    equal, name = different.count(False), data.files["preferences"]
    if equal == len(pairs):
        raise InputError(
            f"{name}: after --truncate chosen and rejected "
            f"are equal in {'the only pair' if equal == 1 else f'all {equal} pairs'}; "
            "raise --completion_length"
        )
    if equal:
        notes.append(
            f"{name}: {equal} of {counted(len(pairs), 'pair')} dropped, "
            "their answers equal after the cut"
        )
    sources = data.sources | {"preferences": keep(data.sources["preferences"], different)}
    prompts = [cut(prompt, "prompt", rooms, size) for prompt in data.prompts]
    if "prompts" not in data.files:  # derived, and so each one once
        prompts, sources["prompts"] = first_of_each(
            prompts, data.sources["prompts"], key=prompt_key
        )
    return replace(
        data,
        preferences=keep(pairs, different),
        demonstrations=demonstrations,
        prompts=prompts,
        notes=data.notes + notes,
        sources=sources,
    )


def cut_items(
    items: Iterable[tuple[str, ...]], rooms: Mapping[str, int], size: Callable[[str], int]
) -> list[tuple[str, ...]]:
    """Tuples of a prompt and one or two answers, each text cut to its room."""
    return [
        (
            cut(prompt, "prompt", rooms, size),
            *(cut(answer, "completion", rooms, size) for answer in answers),
        )
        for prompt, *answers in items
    ]


def cut(text: str, field: str, rooms: Mapping[str, int], size: Callable[[str], int]) -> str:
    """A text cut to the room of its field. InputError where nothing of it fits."""
    piece = (cut_front if field == "prompt" else cut_end)(text, rooms[field], size)
    if not piece:
        raise InputError(
            f"{shown(text)}: not a single character of it fits into {rooms[field]} tokens; raise "
            f"--{field}_length"
        )
    return piece


def cut_end(text: str, room: int, size: Callable[[str], int] = size_in_bytes) -> str:
    """The beginning of a text of at most the size `room`, up to a white space where there is one;
    "" where nothing fits.

    A piece is measured as it will be read: the tokens of a text are not those of its pieces, and a
    shorter one can have more of them.
    """
    if size(text) <= room or size(text := text.strip()) <= room:
        return text
    # about so many characters fit
    most = bisect_right(range(1, len(text)), room, key=lambda length: size(text[:length]))
    # text[most], the first character that is out, counts too: with a space there, nothing was cut
    # in two.
    ends = range(most, 0, -1)
    pieces = (text[:end].rstrip() for end in chain(filter(lambda i: text[i].isspace(), ends), ends))
    return next((piece for piece in pieces if size(piece) <= room), "")


def cut_front(text: str, room: int, size: Callable[[str], int] = size_in_bytes) -> str:
    """The end of a text of at most the size `room`, from a white space on where there is one; ""
    where nothing fits."""
    return cut_end(text[::-1], room, lambda reversed_text: size(reversed_text[::-1]))[::-1]
