"""Files to records: JSON lines, a JSON array, CSV, TSV, Parquet, and gzip of each, known by their
first bytes whatever the ending says.

A file is read within its limit, also when it unpacks to more, and a record has a limit of its own,
so what is refused is refused in a memory that is bounded. A record that is broken is handed on as
Broken with its place, and the next one is read; where the place of the next one can't be known, the
file is refused.
"""

import csv
import gzip
import io
import json
import os
import re
import stat
import zlib
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import Any, NamedTuple

from minippo.errors import InputError
from minippo.runs.kinds import POINTER, known_kind
from minippo.runs.read import first_words, reason
from minippo.runs.text import printable
from minippo.tasks.files.messages import fault, shown

MIB = 2**20
LARGEST_RECORD = 4 * MIB  # characters
WINDOW = MIB // 4  # of a JSON array, parsed at a time
MOST_COLUMNS = 1000
GZIP, PARQUET = b"\x1f\x8b", b"PAR1"
DELIMITERS = {",": "CSV", "\t": "TSV", ";": "CSV with semicolons"}
AFTER = tuple(", ]\t\n\r")  # behind an element of an array
BLANK = re.compile(r"[ \t\n\r]*")


class Broken(NamedTuple):
    """Stands for a record that can't be parsed, and says why."""

    what: str


class Records(NamedTuple):
    """A file's records, each with the number of its line, or of its row where there are none."""

    kind: str
    unit: str
    rows: Iterator[tuple[int, Any]]


def open_records(path: str, name: str, *, limit: int, known: Collection[str]) -> Records:
    """The records of a file; `known` are the names by which the header of a table is recognised."""
    data = bytes_of(path, name, limit)
    if data.startswith(PARQUET):
        from minippo.tasks.files.parquet import parquet_rows

        return Records("Parquet", "row", parquet_rows(data, name, limit))
    text = text_of(data, name)
    del data
    start = text[BLANK.match(text).end() :][:1]  # pyright: ignore[reportOptionalMemberAccess]
    if start == "[":
        return Records("a JSON array", "row", array_items(text, name))
    delimiter = None if start == "{" else delimiter_of(text, name, known)
    if delimiter is not None:
        return Records(DELIMITERS[delimiter], "line", table_rows(text, name, delimiter))
    check_layout(name, text)
    return Records("JSON lines", "line", json_lines(text))


# -- bytes and text


def bytes_of(path: str, name: str, limit: int) -> bytes:
    """A regular file's bytes, unpacked; the size is looked at before anything is read."""
    try:
        status = os.stat(path)
        if stat.S_ISDIR(status.st_mode):
            raise fault(name, what="is a folder, a file is expected")
        if not stat.S_ISREG(status.st_mode):  # a pipe would wait forever
            raise fault(name, what="is not a regular file")
        if status.st_size > limit:
            raise fault(
                name, what=f"has {status.st_size} bytes, more than the {limit} that are read"
            )
        with open(path, "rb") as file:
            data = file.read(limit + 1)
    except OSError as error:
        raise fault(name, what=f"can't be read ({reason(error)})") from None
    if len(data) > limit:  # it has grown since
        raise fault(name, what=f"has more than the {limit} bytes that are read")
    if not data:
        raise fault(name, what="is empty")
    return unpacked(data, name, limit) if data.startswith(GZIP) else data


def unpacked(data: bytes, name: str, limit: int) -> bytes:
    """What gzip has packed, up to the limit."""
    try:
        with gzip.GzipFile(fileobj=io.BytesIO(data)) as file:
            found = file.read(limit + 1)
    except (OSError, EOFError, zlib.error) as error:
        raise fault(name, what=f"its gzip is damaged ({printable(first_words(error))})") from None
    if len(found) > limit:
        raise fault(name, what=f"unpacks to more than the {limit} bytes that are read")
    if not found:
        raise fault(name, what="is empty once unpacked")
    return found


def text_of(data: bytes, name: str, *, any_words: bool = False) -> str:
    """A file's text, its byte order mark taken off; any_words: a text may begin as it likes."""
    kind = known_kind(data)
    if kind and (not any_words or kind == POINTER):
        raise fault(name, what=kind)
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError as error:
        raise bad_byte(name, data, error.start, "is not UTF-8") from None
    if "\0" in text:
        raise bad_byte(name, data, data.index(b"\0"), "is NUL, which no text holds")
    return text.removeprefix("\ufeff")


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


def lines_of(text: str) -> Iterator[str]:
    """The lines with their ends. Not str.splitlines: a JSON string may hold U+2028 and its like,
    which are no ends of line here."""
    start = 0
    while start < len(text):
        end = text.find("\n", start) + 1 or len(text)
        yield text[start:end]
        start = end


# -- JSON


def json_lines(text: str) -> Iterator[tuple[int, Any]]:
    """The values of the lines that are not blank."""
    for number, line in enumerate(lines_of(text), start=1):
        if line.strip():
            yield number, parse_line(line.rstrip("\r\n"))


def parse_line(line: str) -> Any:
    """One line's JSON value; numbers become floats, for an int of thousands of digits is refused by
    Python."""
    if len(line) > LARGEST_RECORD:
        return Broken(f"has more than the {LARGEST_RECORD} characters that are read of a row")
    try:
        return json.loads(line, parse_int=float)
    except json.JSONDecodeError as error:
        near = shown(line[error.pos :]) if line[error.pos :].strip() else "the end of the line"
        return Broken(f"column {error.colno}: broken JSON ({error.msg}) at {near}")
    except RecursionError:
        return Broken("the JSON is nested too deeply")


def check_layout(name: str, text: str) -> None:
    """Refuse one JSON object over several lines in its own words: every line of it is broken."""
    filled = (line for line in lines_of(text) if line.strip())
    first = next(filled, "")
    if next(filled, None) is None or not first.lstrip().startswith("{") or begins_with_json(first):
        return
    if begins_with_json(text[: 2 * LARGEST_RECORD]):
        raise fault(
            name,
            what="begins with a JSON object over several lines; write each object on a line of its "
            "own, or all of them as one array, [{...}, {...}]",
        )


def begins_with_json(text: str) -> bool:
    """Is there a whole JSON value, whatever follows it?"""
    with suppress(ValueError, RecursionError):
        json.JSONDecoder(parse_int=float).raw_decode(text.lstrip())
        return True
    return False


def array_items(text: str, name: str) -> Iterator[tuple[int, Any]]:
    """The elements of a JSON array with their numbers, parsed a window at a time, so that memory is
    that of the largest element and not that of the file."""
    place, number = text.index("[") + 1, 0
    place = past_blank(text, place)
    while text[place : place + 1] != "]":
        number += 1
        value, place = next_element(text, place, name, number)
        yield number, value
        place = past_blank(text, place)
        if text[place : place + 1] == ",":
            place = past_blank(text, place + 1)
            if text[place : place + 1] != "]":
                continue
        elif text[place : place + 1] == "]":
            continue
        raise broken_array(text, place, name, "Expecting ',' or ']'")
    if (place := past_blank(text, place + 1)) < len(text):
        raise broken_array(text, place, name, "Extra data")


def next_element(text: str, place: int, name: str, number: int) -> tuple[Any, int]:
    """(an element of an array, where it ends)."""
    decoder, size = json.JSONDecoder(parse_int=float), WINDOW
    while True:
        part = text[place : place + size]
        is_rest = place + size >= len(text)
        try:
            value, end = decoder.raw_decode(part)
            if is_rest or part[end : end + 1] in AFTER:  # a number may go on behind the window
                return value, place + end
            what, where = "Expecting ',' or ']'", end
        except json.JSONDecodeError as error:
            what, where = error.msg, error.pos
            if is_rest:
                raise broken_array(text, place + where, name, what) from None
        except RecursionError:
            what = "the JSON is nested too deeply"
            raise fault(name, number, what=what, unit="row") from None
        if size >= LARGEST_RECORD:
            what = f"{what}, in the {LARGEST_RECORD} characters that are read of a row"
            raise broken_array(text, place + where, name, what)
        size *= 2


def past_blank(text: str, place: int) -> int:
    """The first place from here on that is not blank."""
    return BLANK.match(text, place).end()  # pyright: ignore[reportOptionalMemberAccess]


def broken_array(text: str, place: int, name: str, what: str) -> InputError:
    """The fault for an array whose next element can't be found."""
    line, column = text.count("\n", 0, place) + 1, place - text.rfind("\n", 0, place)
    near = shown(text[place : place + 100]) if text[place:].strip() else "the end of the file"
    return fault(name, line, what=f"column {column}: broken JSON ({what}) at {near}")


# -- tables


def delimiter_of(text: str, name: str, known: Collection[str]) -> str | None:
    """What parts the columns, by the names in the first line; None where this is no table."""
    header = next((line for line in lines_of(text) if line.strip()), "")[:LARGEST_RECORD]
    found = {
        delimiter: len({part.strip().strip('"') for part in header.split(delimiter)} & {*known})
        for delimiter in DELIMITERS
    }
    best = max(found, key=lambda delimiter: found[delimiter])
    if found[best]:
        return best
    endings = name.lower().split(".")[1:]
    if "tsv" in endings:
        return "\t"
    return "," if "csv" in endings else None


def table_rows(text: str, name: str, delimiter: str) -> Iterator[tuple[int, Any]]:
    """The rows of a table as objects, with the line that each begins in."""
    header = None
    for number, row in split_rows(text, name, delimiter):
        if row and header is None:
            header = checked_header(row, name, number)
        elif row and header is not None:
            yield number, as_object(header, row)


def split_rows(text: str, name: str, delimiter: str) -> Iterator[tuple[int, list[str]]]:
    """The rows, the header among them, with the line that each begins in; [] for a blank one."""
    begins, reader = 1, csv.reader(lines_of(text), delimiter=delimiter, strict=True)
    with longest_field(LARGEST_RECORD):
        try:
            for row in reader:
                number, begins = begins, reader.line_num + 1
                yield number, row
        except csv.Error as error:
            what = f"the table is broken ({printable(first_words(error))})"
            raise fault(name, reader.line_num, what=what) from None


def checked_header(row: Sequence[str], name: str, number: int) -> list[str]:
    """The names of the columns, each different."""
    names = [part.strip() for part in row]
    if len(names) > MOST_COLUMNS:
        what = f"has {len(names)} columns, more than the {MOST_COLUMNS} that are read"
        raise fault(name, number, what=what)
    if twice := [part for part in names if names.count(part) > 1]:
        raise fault(name, number, what=f"two columns are called {shown(twice[0])}")
    return names


def as_object(header: Sequence[str], row: Sequence[str]) -> Any:
    """{column: text} of a row that has as many as the header."""
    if len(row) != len(header):
        return Broken(f"has {len(row)} columns, the header has {len(header)}")
    if sum(map(len, row)) > LARGEST_RECORD:
        return Broken(f"has more than the {LARGEST_RECORD} characters that are read of a row")
    return dict(zip(header, row))


@contextmanager
def longest_field(size: int) -> Iterator[None]:
    """The library's limit for one field, which belongs to the whole process, for a while."""
    before = csv.field_size_limit(size)
    try:
        yield
    finally:
        csv.field_size_limit(before)
