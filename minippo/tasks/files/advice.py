"""What to do about a record without the fields that are looked for: one phrase, by what is there in
their place. Nothing is read by these rules; a name that might mean something else is asked for."""

import json
import re
from collections.abc import Mapping
from typing import Any

from minippo.tasks.files.known import RATINGS, is_given
from minippo.tasks.files.messages import shown, shown_list

OWN_TASK = "docs/your-own-task.md"
ALONE = (  # what can be done with demonstrations and no preferences
    "let a rule judge, which needs demonstrations alone: --task FILE.py:Class --reward rule "
    f"({OWN_TASK})"
)
BETTER_AND_WORSE = (
    ("winner", "loser"),
    ("win", "lose"),
    ("good", "bad"),
    ("better", "worse"),
    ("best", "worst"),
    ("preferred", "dispreferred"),
    ("preferred", "rejected"),
    ("accepted", "rejected"),
    ("positive", "negative"),
    ("pos", "neg"),
    ("response_j", "response_k"),
)
OTHER_PROMPTS = ("query", "inputs", "problem", "user", "text_prompt", "orig_instruction", "source")
OTHER_ANSWERS = ("target", "targets", "generation", "solution", "reply", "assistant", "summary")
OTHER_LISTS = ("conversation", "dialogue", "dialog", "trajectory")
ABOUT = re.compile("model|policy|_id|^id|rating|score|mask|rank", re.IGNORECASE)
ONE_OF_TWO = re.compile(r"(.*?)[ _-]?([ab01]|[12])", re.IGNORECASE | re.DOTALL)
SIDES = ("ab", "01", "12")


def is_text(value: Any) -> bool:
    """Is this a text with something in it?"""
    return isinstance(value, str) and bool(value.strip())


def is_talk(value: Any) -> bool:
    """Is this a list of messages, or a single one?"""
    first = value[0] if isinstance(value, list) and value else value
    return isinstance(first, dict) and bool(first.keys() & {"role", "from"})


def is_answer(value: Any) -> bool:
    """May this be an answer?"""
    return is_text(value) or is_talk(value)


def for_pairs(record: Mapping[str, Any], answers: tuple[str, ...], asked: tuple[str, ...]) -> str:
    """What to do about a record without chosen and rejected. `answers` are the fields that hold the
    answer of a demonstration, `asked` those that hold a prompt."""
    found = (
        wrapped(record, asked)
        or better_and_worse(record)
        or two_answers(record)
        or one_answer(record, answers)
        or several_answers(record)
    )
    return found and f"; {found}"


def wrapped(record: Mapping[str, Any], asked: tuple[str, ...]) -> str:
    """The rows are inside of a field, or the record is in quotes."""
    for field, value in record.items():
        if isinstance(value, str) and value.lstrip().startswith("{") and is_object(value):
            return f"{shown(field)} is an object in quotes; write the object itself"
        if record.keys() & {*asked} or not isinstance(value, list) or is_talk(value):
            continue
        if value and all(isinstance(one, dict) for one in value):
            return f"{shown(field)} holds objects; if they are the rows, write these as an array"
    return ""


def is_object(text: str) -> bool:
    """Is this text a JSON object?"""
    try:
        return isinstance(json.loads(text), dict)
    except (ValueError, RecursionError):
        return False


def better_and_worse(record: Mapping[str, Any]) -> str:
    """The two answers have other names."""
    names = [
        (field, field.lower().replace("chosen", "rejected"))
        for field in record
        if "chosen" in field.lower() and not ABOUT.search(field)
    ]
    for better, worse in (*names, *BETTER_AND_WORSE):
        if is_answer(record.get(better)) and is_answer(record.get(worse)):
            return f"call {shown(better)} chosen and {shown(worse)} rejected, if they are that"
    for field, value in record.items():
        if "chosen" in field and is_numbers(value):
            return "there are tokens and no texts; write the texts, as chosen and rejected"
    return ""


def is_numbers(value: Any) -> bool:
    """Is this a list of numbers?"""
    return isinstance(value, list) and bool(value) and isinstance(value[0], (int, float))


def one_answer(record: Mapping[str, Any], answers: tuple[str, ...]) -> str:
    """There is one answer: a demonstration, or one that somebody has rated."""
    fields = [field for field in (*answers, *OTHER_LISTS) if is_answer(record.get(field))]
    if not fields:
        return ""
    rated = [field for field in record if RATINGS.search(field) and is_given(record, field)]
    if rated:
        return (
            f"there is one answer, which {shown(rated[0])} rates; choose a better and a worse "
            "answer to each prompt, as the recipe for marks does"
        )
    return (
        f"this is a demonstration, with its answer in {shown(fields[0])}, and preferences are "
        "missing: name this file demonstrations, put {prompt, chosen, rejected} beside it in a "
        f"folder as preferences, or {ALONE}"
    )


def two_answers(record: Mapping[str, Any]) -> str:
    """There are two answers, and something else says which is better."""
    found: dict[str, dict[str, str]] = {}
    for field, value in record.items():
        parts = ONE_OF_TWO.fullmatch(field)
        if parts and is_answer(value) and not ABOUT.search(field):
            found.setdefault(parts[1].lower(), {})[parts[2].lower()] = field
    for fields in found.values():
        for first, second in SIDES:
            if first in fields and second in fields:
                names = shown_list([fields[first], fields[second]])
                return f"of {names} write the better one as chosen, the other as rejected"
    return ""


def several_answers(record: Mapping[str, Any]) -> str:
    """There is a list of answers."""
    for field, value in record.items():
        if isinstance(value, list) and len(value) > 1 and isinstance(value[0], (str, dict)):
            return f"of those in {shown(field)} write a better one as chosen, a worse as rejected"
    return ""


def for_completion(record: Mapping[str, Any]) -> str:
    """What to do about a demonstration without an answer."""
    for field in OTHER_ANSWERS:
        if is_answer(record.get(field)):
            return f"; call {shown(field)} completion, if it is the answer"
    for field in OTHER_LISTS:
        if is_talk(record.get(field)):
            return f"; call {shown(field)} messages"
    for field, value in record.items():
        if isinstance(value, list) and value:
            return f"; write what {shown(field)} holds as prompt and completion, or as messages"
    if is_text(record.get("text")):
        return (
            "; where the answer begins in 'text' would be a guess: write prompt and completion, or "
            "name the file corpus"
        )
    return ""


def for_prompt(record: Mapping[str, Any]) -> str:
    """What to do about a record without a prompt."""
    for field in (*OTHER_PROMPTS, *OTHER_LISTS):
        if is_answer(record.get(field)):
            return f"; call {shown(field)} prompt, if it is the prompt"
    if record.keys() >= {"chosen", "rejected"}:
        return "; write what both answers are answers to into a field prompt"
    return ""
