"""One file to its items: every record read by the rules of schema.py, every one that can't be used
told in one pass, and what was not read named."""

import re
import unicodedata
from collections import Counter
from collections.abc import Sequence
from typing import Any, NamedTuple

from minippo.errors import InputError
from minippo.runs.text import counted
from minippo.tasks.files.container import MIB, Broken, open_records
from minippo.tasks.files.known import is_given
from minippo.tasks.files.messages import Unusable, fault, shown
from minippo.tasks.files.schema import KNOWN, Row, example, row_of

MOST_TOLD = 3  # reasons are told, and rows of each; the others are counted
MOST_BAD = 100_000  # after so many of them the file is given up
MOST_NAMES = 1000  # of fields that are not read, counted each for itself
LONGEST_REASONS = 480  # characters, of all reasons together
TEMPLATE = re.compile(  # how the chat templates of some models mark the turns
    r"<\|(im_start|im_end|user|assistant|system|start_header_id|eot_id|endoftext)\|>|\[/?INST\]"
    r"|<</?SYS>>|###\s?(Human|Assistant|Instruction|Response):"
)


class Reading(NamedTuple):
    """How a folder is read: the limit of a file in MiB, whether rows that can't be used are left
    out, how many pairs are taken (None: all), and whether anything is pretrained."""

    limit: int = 64
    skip_bad_rows: bool = False
    pairs: int | None = None
    pretrains: bool = True


AS_IT_IS = Reading()


class Source(NamedTuple):
    """Where an item is, the first line being 1; for a derived item, where it was taken from."""

    file: str
    line: int
    unit: str = "line"

    @property
    def place(self) -> str:
        """'line 3', or 'row 3' where a file has no lines."""
        return f"{self.unit} {self.line}"


class Items(NamedTuple):
    """What a file holds: its items with their sources, and lines for the screen."""

    items: list[Any]
    sources: list[Source]
    notes: list[str]


class BadRows:
    """The rows that can't be used: all counted, the first few reasons with their first rows."""

    def __init__(self, name: str, unit: str, kind: str) -> None:
        self.name, self.unit, self.kind, self.count = name, unit, kind, 0
        self.told: dict[tuple[str | None, str], list[int]] = {}  # a reason, its first rows
        self.counts: Counter[tuple[str | None, str]] = Counter()  # of those reasons

    def add(self, number: int, error: Unusable) -> None:
        """One more."""
        self.count += 1
        reason = error.field, error.what
        if reason in self.told or len(self.told) < MOST_TOLD:
            self.counts[reason] += 1
            rows = self.told.setdefault(reason, [])
            rows += [number] if len(rows) < MOST_TOLD else []
        if self.count > MOST_BAD:
            raise self.refusal(None)

    def refusal(self, total: int | None) -> InputError:
        """One line with all of them; total: how many rows there are, None where that is not
        known."""
        (field, first), (number, *_) = next(iter(self.told.items()))
        wanted = f"; wanted {example(self.kind)}"
        if self.count == 1:
            advice = wanted if total == 1 else "; --skip_bad_rows leaves it out"
            return fault(self.name, number, field, first + advice, unit=self.unit)
        if self.count == total:
            what = f"none of its {total} rows can be used: {self.first_few()}{wanted}"
            return fault(self.name, what=what)
        many = f"{self.count} of {total}" if total else f"more than {MOST_BAD}"
        what = f"{many} rows can't be used: {self.first_few()}; --skip_bad_rows leaves them out"
        return fault(self.name, what=what)

    def note(self, total: int) -> str:
        """That they were left out."""
        return f"{self.name}: {self.count} of {total} rows left out: {self.first_few()}"

    def first_few(self) -> str:
        """'lines 3, 4, field prompt: is empty; line 7: ...; and 5 more'."""
        parts, longest = [], LONGEST_REASONS // len(self.told)
        for (field, what), numbers in self.told.items():
            rows = self.counts[field, what]
            place = f"{self.unit}{'s' if rows > 1 else ''} {', '.join(map(str, numbers))}"
            place += f" and {rows - len(numbers)} more" if rows > len(numbers) else ""
            place += f", field {field}" if field else ""
            parts.append(f"{place}: {what if len(what) <= longest else what[:longest] + '...'}")
        more = self.count - self.counts.total()
        return "; ".join([*parts, f"and {more} more"] if more else parts)


class Unread:
    """The fields that are not read, with the number of rows that have them."""

    def __init__(self) -> None:
        self.rows: Counter[str] = Counter()

    def add(self, record: dict[str, Any], row: Row) -> None:
        """Those of one row."""
        for field in sorted(record.keys() - row.read):
            if is_given(record, field) and self.has_room(field):
                self.rows[field] += 1

    def has_room(self, field: str) -> bool:
        """Is this one counted for itself?"""
        return field in self.rows or len(self.rows) < MOST_NAMES

    def notes(self, name: str) -> list[str]:
        """One line, or none."""
        if not self.rows:
            return []
        names = [f"{shown(field)} ({rows})" for field, rows in sorted(self.rows.items())]
        more = f" and {len(names) - 5} more" if len(names) > 5 else ""
        return [f"{name}: fields not read, with their rows: {', '.join(names[:5])}{more}"]


def read_rows(path: str, name: str, kind: str, reading: Reading, limit: int) -> Items:
    """The items of a file: a string where it has one field, otherwise a tuple."""
    records = open_records(path, name, limit=limit * MIB, known=KNOWN)
    bad, unread = BadRows(name, records.unit, kind), Unread()
    rows: list[Row] = []
    sources: list[Source] = []
    total, form, forbidden = 0, None, 0
    for number, record in records.rows:
        total += 1
        try:
            row = usable_row(kind, record, form)
        except Unusable as error:
            bad.add(number, error)
            continue
        form = form or (row.form, f"{records.unit} {number}")
        unread.add(record, row)
        if not row.learned:
            forbidden += 1
            continue
        rows.append(row)
        sources.append(Source(name, number, records.unit))
    if bad.count and (not reading.skip_bad_rows or bad.count == total):
        raise bad.refusal(total)
    if not rows:
        what = "every label in it is false" if forbidden else "holds no item, only blank lines"
        raise fault(name, what=f"{what}" if forbidden else what)
    notes = [bad.note(total)] if bad.count else []
    if forbidden:
        notes.append(f"{name}: {counted(forbidden, 'row')} with label false not learned")
    rules = tuple(dict.fromkeys(rule for row in rows for rule in row.rules))
    texts, repeated = without_repeated_prompts([row.texts for row in rows], name)
    how = [f"it is {records.kind}"] if is_other(name, records.kind) else []
    notes += [f"{name}: {'; '.join([*how, *rules])}"] if how or rules else []
    notes += repeated + with_template(texts, name) + unread.notes(name)
    return Items([one[0] if len(one) == 1 else one for one in texts], sources, notes)


def with_template(rows: Sequence[tuple[str, ...]], name: str) -> list[str]:
    """A line for the screen where texts hold the marks of a chat template, which are learned like
    any other text; a document, which is a text alone, may hold what it likes."""
    marks = [found[0] for row in rows[: len(rows) * (len(rows[0]) > 1)] if (found := marked(row))]
    if not marks:
        return []
    what = f"{counted(len(marks), 'row holds', 'rows hold')} marks of a chat template"
    return [f"{name}: {what} such as {shown(marks[0])}; they are read as texts"]


def marked(row: Sequence[str]) -> re.Match[str] | None:
    """The first mark of a chat template in the texts of a row."""
    return next(filter(None, map(TEMPLATE.search, row)), None)


def usable_row(kind: str, record: Any, form: tuple[str, str] | None) -> Row:
    """The row of a record, of the same form as the first (its form, where it was)."""
    if isinstance(record, Broken):
        raise Unusable(None, record.what)
    row = row_of(kind, record)
    if form is not None and row.form != form[0]:
        what = f"is of another form than {form[1]} ({row.form}, there {form[0]})"
        raise Unusable(None, f"{what}; a file has one")
    return row


def is_other(name: str, kind: str) -> bool:
    """Is the file of another kind than its ending says?"""
    endings = {"JSON lines": "jsonl", "a JSON array": "json", "CSV": "csv", "TSV": "tsv"}
    return endings.get(kind, kind.lower()) not in name.lower().split(".")


def without_repeated_prompts(
    rows: Sequence[tuple[str, ...]], name: str
) -> tuple[Sequence[tuple[str, ...]], list[str]]:
    """(the rows, a line for the screen): where every answer begins with its prompt, that is taken
    off; where only some do, they are left as they are and counted."""
    repeats = [repeats_prompt(row) for row in rows]
    number = sum(repeats)
    if number < len(rows):
        some = f"{name}: in {number} of {counted(len(rows), 'row')} the answers begin with the"
        return rows, [f"{some} prompt; they are read as they are"] if number > 1 else []
    cut = [
        (row[0], *(text.strip()[len(row[0].strip()) :].strip() for text in row[1:])) for row in rows
    ]
    return cut, [f"{name}: the answers repeat the prompt, which is taken off"]


def repeats_prompt(row: Sequence[str]) -> bool:
    """Do all answers begin with the prompt, with something after it?"""
    prompt, *answers = (text.strip() for text in row)
    return bool(answers) and all(
        answer.startswith(prompt) and answer[len(prompt) :].strip() for answer in answers
    )


def prompt_key(prompt: str) -> str:
    """By which prompts are the same: without the blanks around them, and in one Unicode form."""
    return unicodedata.normalize("NFC", prompt.strip())
