"""Records to rows, by named rules: which fields are the prompt and the answers.

A row has its texts in the order of FIELDS, and says by which rules it was read. What can't be read
without a guess is Unusable, with the reason. docs/your-data.md has the rules in a table.
"""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from minippo.tasks.files.advice import for_completion, for_pairs, for_prompt
from minippo.tasks.files.known import (
    check_demonstration,
    check_nothing_lost,
    check_pair,
    check_schema,
    is_given,
)
from minippo.tasks.files.messages import Unusable, json_type, shown, shown_list
from minippo.tasks.files.turns import (
    Turn,
    asks,
    checked_text,
    is_messages,
    is_transcript,
    joined,
    needs_roles,
    split_last,
    split_transcript,
    turns_of,
    without_system,
    written,
)

FIELDS = {
    "corpus": ("text",),
    "demonstrations": ("prompt", "completion"),
    "preferences": ("prompt", "chosen", "rejected"),
    "prompts": ("prompt",),
}
PROMPTS = ("prompt", "question", "instruction")
MORE = ("input", "context")  # of the prompt, after it
SYSTEM = ("system", "system_prompt")  # of the prompt, in front of it
ANSWERS = ("completion", "output", "response", "answer")
LISTS = ("messages", "conversations")
KNOWN = {*PROMPTS, *MORE, *SYSTEM, *ANSWERS, *LISTS, "text", "chosen", "rejected", "label"}
BEFORE = "the prompt is what comes before the answer"
IN_TURNS = "prompts of several turns are written with 'User:' and 'Assistant:'"
OF_MESSAGES = "answers are the last of a list of messages"
OF_TRANSCRIPTS = "transcripts are parted at their last 'Assistant:'"


class Row(NamedTuple):
    """A row's texts, the fields that it read, the rules by which; of which form it is, which is one
    in a file; and whether it may be learned."""

    texts: tuple[str, ...]
    read: frozenset[str]
    rules: tuple[str, ...] = ()
    form: str = ""
    learned: bool = True


class Prompt(NamedTuple):
    """The turns of a prompt, none where the record has no field for it."""

    turns: list[Turn]
    field: str | None
    read: tuple[str, ...]
    rules: tuple[str, ...]


def row_of(kind: str, record: Any) -> Row:
    """The Row of a record of that kind of file. Unusable says why there is none."""
    if not isinstance(record, dict):
        raise Unusable(None, f"must be an object like {example(kind)}, got {json_type(record)}")
    if not record:
        raise missing(record, FIELDS[kind][0])
    return READERS[kind](record)


def example(kind: str) -> str:
    """What a line of a file looks like."""
    return "{" + ", ".join(f'"{field}": "..."' for field in FIELDS[kind]) + "}"


def corpus_row(record: Mapping[str, Any]) -> Row:
    """A document."""
    return Row((checked_text(required(record, "text"), "text"),), frozenset(["text"]))


def prompt_row(record: Mapping[str, Any]) -> Row:
    """A prompt alone."""
    prompt = required_prompt(record)
    rules = prompt.rules + ((IN_TURNS,) if needs_roles(prompt.turns) else ())
    check_nothing_lost(record, {*prompt.read}, is_text=not is_messages(record[prompt.read[0]]))
    text = written(prompt.turns, prompt.read[0])
    return Row((text,), frozenset(prompt.read), rules, f"{prompt.field}")


# -- pairs


def preference_row(record: Mapping[str, Any]) -> Row:
    """A pair: its prompt is a field, or what both answers begin with."""
    if not {"chosen", "rejected"} <= record.keys():
        check_schema(record)
        check_unpaired(record)
        field = "rejected" if "chosen" in record else "chosen"
        raise missing(record, field, for_pairs(record, (*ANSWERS, *LISTS), PROMPTS))
    looked_at = check_pair(record)
    row = pair_of(record, with_list(record, prompt_of(record)))
    marks = [f"{field} must be above {other}, and neither is learned" for field, other in looked_at]
    read = row.read.union(*looked_at)
    return row._replace(read=read, rules=(*row.rules, *marks))


def pair_of(record: Mapping[str, Any], prompt: Prompt) -> Row:
    """The Row of a record with chosen and rejected, by the form that they have."""
    chosen, rejected = record["chosen"], record["rejected"]
    if is_messages(chosen) and is_messages(rejected):
        return pair_of_messages(record, prompt)
    if is_transcript(chosen) and is_transcript(rejected):
        return pair_of_transcripts(record, prompt)
    answers = [checked_text(record[field], field) for field in ("chosen", "rejected")]
    if prompt.field is None:
        raise missing(
            record, "prompt", f", and chosen and rejected are no conversations{for_prompt(record)}"
        )
    return finished(record, prompt, [*prompt.turns], answers)


def check_unpaired(record: Mapping[str, Any]) -> None:
    """Rows of one answer and a label are no pairs."""
    pair = record.keys() & {"chosen", "rejected"}
    if not pair and "label" in record and record.keys() & {*ANSWERS}:
        raise Unusable(
            "label",
            "one answer and a label are no pair, which is two answers to one prompt; name "
            "the file demonstrations, and the rows whose label is true are learned",
        )


def pair_of_messages(record: Mapping[str, Any], prompt: Prompt) -> Row:
    """chosen and rejected are the last messages of two conversations that are the same before."""
    parts = []
    for field in ("chosen", "rejected"):
        turns = joined(prompt.turns, turns_of(record[field], field), field)
        parts.append(split_last(turns, field))
    (context, chosen), (other, rejected) = parts
    if context != other:
        raise Unusable("rejected", "and chosen differ before their last messages")
    if not without_system(context):
        raise missing(record, "prompt", ", and the lists begin with the answer")
    return finished(record, prompt, context, [chosen, rejected], OF_MESSAGES)


def pair_of_transcripts(record: Mapping[str, Any], prompt: Prompt) -> Row:
    """chosen and rejected are whole transcripts that are the same up to the last 'Assistant:'."""
    (context, chosen), (other, rejected) = (
        split_transcript(record[field], field) for field in ("chosen", "rejected")
    )
    if context != other:
        raise Unusable("rejected", "and chosen differ before their last 'Assistant:'")
    asked = without_system(prompt.turns)
    if asked and not (len(asked) == 1 and asked[0].text.strip() in context):
        raise Unusable("chosen", "begins with other turns than the prompt")
    front = [turn for turn in prompt.turns if turn.role == "system"]
    turns = [*front, Turn("user", context)]
    return finished(record, prompt, turns, [chosen, rejected], OF_TRANSCRIPTS)


def finished(
    record: Mapping[str, Any],
    prompt: Prompt,
    context: list[Turn],
    answers: list[str],
    how: str = "",
) -> Row:
    """The Row of a pair whose answers must differ."""
    if answers[0].strip() == answers[1].strip():
        raise Unusable("rejected", "is equal to chosen, so nothing is preferred")
    text = written(context, prompt.field or "chosen")
    read = {*prompt.read, "chosen", "rejected"}
    check_nothing_lost(record, read, is_text=not how)
    before = "" if prompt.field else BEFORE
    rules = (*prompt.rules, how, before, IN_TURNS if needs_roles(context) else "")
    form = f"{prompt.field or 'no prompt'}, {how or 'texts'}"
    return Row((text, *answers), frozenset(read), tuple(filter(None, rules)), form)


# -- demonstrations


def demonstration_row(record: Mapping[str, Any]) -> Row:
    """A prompt and an answer that is learned, unless its label is false."""
    check_demonstration(record)
    given = [field for field in ANSWERS if is_given(record, field)]
    lists = [field for field in LISTS if is_given(record, field) and is_messages(record[field])]
    fields = given or lists
    if len(fields) > 1:
        raise Unusable(fields[1], f"and {fields[0]} are both there; keep one of them")
    if not fields:
        raise no_answer(record)
    (field,) = fields
    prompt, value = prompt_of(record), record[field]
    how = OF_MESSAGES if is_messages(value) else ""
    turns = turns_of(value, field) if how else [Turn("assistant", checked_text(value, field))]
    if not how and prompt.field is None:
        raise missing(record, "prompt", for_prompt(record))
    context, answer = split_last(joined(prompt.turns, turns, field), field)
    if not without_system(context):
        raise missing(record, "prompt", f", and {field} begins with the answer")
    learned = label_of(record)
    read = {*prompt.read, field, *(["label"] if "label" in record else [])}
    check_nothing_lost(record, read, is_text=not how)
    named = f"the answer is the field {field}" if field not in ("completion", *lists) else ""
    before = "" if prompt.field else BEFORE
    rules = (*prompt.rules, named, how, before, IN_TURNS if needs_roles(context) else "")
    texts = (written(context, prompt.field or field), answer)
    form = f"{prompt.field or 'no prompt'}, {field}, {how or 'texts'}"
    form += ", a label" if "label" in record else ""
    return Row(texts, frozenset(read), tuple(filter(None, rules)), form, learned)


def label_of(record: Mapping[str, Any]) -> bool:
    """May the answer be learned? True where there is no label."""
    if "label" not in record:
        return True
    label = record["label"]
    word = label.strip().lower() if isinstance(label, str) else label
    if word is True or word is False:
        return word
    if word not in ("true", "false"):
        raise Unusable("label", f"must be true or false, got {shown(str(label))}")
    return word == "true"


def no_answer(record: Mapping[str, Any]) -> Unusable:
    """Nothing to learn: blank, or another kind of file."""
    check_schema(record)
    for field in ANSWERS:
        if field in record:
            checked: Callable[[Any, str], Any] = (
                turns_of if is_messages(record[field]) else checked_text
            )
            try:
                checked(record[field], field)
            except Unusable as error:
                return error
    if record.keys() & {"chosen", "rejected"}:
        return Unusable(None, "is a pair; name the file preferences")
    return missing(record, "completion", for_completion(record))


# -- prompts


def prompt_of(record: Mapping[str, Any]) -> Prompt:
    """The prompt's turns: one of PROMPTS, with one of MORE after it and one of SYSTEM in front."""
    field, more, system = (only_one(record, names) for names in (PROMPTS, MORE, SYSTEM))
    front = [Turn("system", checked_text(record[system], system))] if system else []
    read = tuple(name for name in (field, more, system) if name)
    rules = [f"{system} is put in front of the prompt"] if system else []
    if field is None:
        present = next((name for name in PROMPTS if name in record), None)
        if present is not None and not is_messages(record.get("chosen")):
            checked_text(record[present], present)
        if more:
            raise Unusable(more, "is there without a prompt; call it prompt if it is one")
        return Prompt(front, None, read, tuple(rules))
    if field != "prompt":
        rules.insert(0, f"the prompt is the field {field}")
    value = record[field]
    if is_messages(value):
        turns = turns_of(value, field)
        if more or (system and turns[0].role == "system"):
            raise Unusable(more or system, "stands beside a prompt that is a list of messages")
        return Prompt([*front, *turns], field, read, tuple(rules))
    text = checked_text(value, field)
    if more:
        text = f"{text}\n\n{checked_text(record[more], more)}"
        rules.append(f"{more} is put after the {field}")
    return Prompt([*front, Turn("user", text)], field, read, tuple(rules))


def required_prompt(record: Mapping[str, Any]) -> Prompt:
    """The prompt of a record that must have one."""
    prompt = prompt_of(record)
    if prompt.field is None:
        raise missing(record, "prompt", for_prompt(record))
    return prompt


def with_list(record: Mapping[str, Any], prompt: Prompt) -> Prompt:
    """The prompt of a pair; without a field for it a list of messages that ends with the user's,
    where there is one beside the pair."""
    if prompt.field is not None or asks(record["chosen"]):
        return prompt
    for field in LISTS:
        if not is_given(record, field) or not is_messages(record[field]):
            continue
        turns = turns_of(record[field], field)
        if turns[-1].role == "user":
            rules = (f"the prompt is the field {field}", *prompt.rules)
            return Prompt([*prompt.turns, *turns], field, (*prompt.read, field), rules)
    return prompt


def only_one(record: Mapping[str, Any], names: tuple[str, ...]) -> str | None:
    """Which of these fields is there; Unusable where two are, with different contents."""
    given = [name for name in names if is_given(record, name)]
    if len(given) > 1 and any(record[name] != record[given[0]] for name in given):
        raise Unusable(given[1], f"and {given[0]} are both there and differ; keep one of them")
    return given[0] if given else None


def required(record: Mapping[str, Any], field: str) -> Any:
    """A field that must be there."""
    if field not in record:
        raise missing(record, field)
    return record[field]


def missing(record: Mapping[str, Any], field: str, why: str = "") -> Unusable:
    """A field is not there; what is."""
    found = f"found {shown_list(record)}" if record else "the object is empty"
    return Unusable(field, f"is missing ({found}){why}")


READERS: dict[str, Callable[[Mapping[str, Any]], Row]] = {
    "corpus": corpus_row,
    "demonstrations": demonstration_row,
    "preferences": preference_row,
    "prompts": prompt_row,
}
