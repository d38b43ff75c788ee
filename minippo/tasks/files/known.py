"""Published schemas that are no pairs yet, by their fields: each is refused with its name, and
docs/your-data.md holds a recipe for it. And fields whose meaning must not be lost."""

import re
from collections.abc import Mapping
from typing import Any

from minippo.tasks.files.messages import Unusable, shown

SCHEMAS = (  # fields that are there together, what that is; docs/your-data.md has a recipe for it
    ({"human_ref_A", "human_ref_B", "labels"}, "two answers and a label (SHP)"),
    ({"summaries", "choice"}, "two summaries and a choice"),
    ({"answer_0", "answer_1", "score_0"}, "two answers with scores (WebGPT)"),
    (
        {"response_0", "response_1", "better_response_id"},
        "two responses and which is better (PKU-SafeRLHF)",
    ),
    ({"conversation_a", "conversation_b", "winner"}, "two conversations and a winner (an arena)"),
    ({"response_a", "response_b", "winner_tie"}, "two responses and a winner (an arena)"),
    ({"output_1", "output_2", "preference"}, "two outputs and a preference (AlpacaFarm)"),
    (
        {"response_1", "response_2", "preference_strength"},
        "two responses and a strength (HelpSteer)",
    ),
    ({"response1", "response2", "overall_preference"}, "two responses and a strength (HelpSteer)"),
    ({"preferred_output", "non_preferred_output"}, "two outputs of one input (OpenAI)"),
    ({"prompt", "answers"}, "several ranked answers (Nectar)"),
    ({"question", "answers"}, "several answers with scores"),
    ({"instruction", "completions"}, "several rated completions (UltraFeedback)"),
    ({"message_tree_id"}, "messages of trees (OpenAssistant)"),
    ({"message_id", "parent_id"}, "messages of trees (OpenAssistant)"),
    ({"prompt", "response", "helpfulness"}, "responses with marks (HelpSteer)"),
)
NO_PAIRS = (  # the same of what has no recipe
    ({"transcript", "rating"}, "single transcripts with a rating (red teaming)"),
    ({"summary", "axes"}, "single summaries with ratings"),
    ({"prompt", "completions", "labels"}, "the steps of one answer, rated (stepwise supervision)"),
    ({"prompt", "completions"}, "several completions of a prompt"),
    ({"prompt", "responses"}, "several responses to a prompt"),
)
CHOICES = re.compile(
    r"(labels?|preference|preferred|choice|winner\w*|better\w*|safer\w*|(is_)?tie|swapped"
    r"|overall_preference|preference_strength)",
    re.IGNORECASE,
)
RATINGS = re.compile(
    r"scor|rating|rated|label|\brank|_rank|reward|helpful|correct|safe|harm|toxic|vote|quality"
    r"|preferen|grade|verdict|accept|feedback",
    re.IGNORECASE,
)
PARTS = ("tools", "functions", "tool_calls", "images", "image", "audio", "documents")
BEGINNINGS = re.compile(  # of the answers
    r"prefix|prefill|(initial|previous|partial)_(\w+_)?(steps?|response|answer|output|solution)"
)
EARLIER_TURNS = ("history", "conversation", "conversations", "dialogue", "messages")
MARKS = re.compile("scor|rating|reward|grade", re.IGNORECASE)
DIFFERENCES = re.compile(
    "margin|(score|rating|reward|grade)s?_(margin|diff|difference|delta|gap)", re.IGNORECASE
)
TWO_MARKS = re.compile("(score|rating|reward|grade)s?", re.IGNORECASE)


def is_given(record: Mapping[str, Any], field: str) -> bool:
    """Is there something in a field?"""
    value = record.get(field)
    return not (value is None or value == [] or value == {} or is_blank(value))


def is_blank(value: Any) -> bool:
    """Is this a text of blanks only?"""
    return isinstance(value, str) and not value.strip()


def check_schema(record: Mapping[str, Any]) -> None:
    """Unusable, by its name, for a schema that needs a recipe."""
    for fields, what in (*SCHEMAS, *NO_PAIRS):
        if fields <= record.keys():
            names = ", ".join(sorted(fields))
            advice = "there is a recipe that makes pairs of it"
            if (fields, what) in NO_PAIRS:
                advice = "choose a better and a worse answer to each prompt"
            raise Unusable(None, f"has the fields {names}: {what}; {advice}")


def check_pair(record: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Unusable where a field says which answer is the better one, and might not mean chosen; the
    pairs of fields with marks that were compared."""
    for field, value in record.items():
        if CHOICES.fullmatch(field) and is_given(record, field):
            raise Unusable(
                field,
                "stands beside chosen and rejected and may say otherwise; leave it out where "
                "chosen is the better answer",
            )
        if isinstance(value, str) and value.strip().lower() == "tie":
            raise Unusable(field, "is 'tie', so nothing is preferred")
        check_difference(field, value)
    return [pair for field in sorted(record) if (pair := compared(record, field))]


def compared(record: Mapping[str, Any], field: str) -> tuple[str, str] | None:
    """This field and that of the other answer, where both are marks. Unusable where that of chosen
    is not the higher one."""
    other = field.replace("chosen", "rejected")
    if field == other or not MARKS.search(field):
        return None
    high, low = number_of(record[field]), number_of(record.get(other))
    if high is None or low is None:
        return None
    if high < low:
        raise Unusable(field, f"is {high:g} and lower than {shown(other)}, {low:g}")
    if high == low:
        raise Unusable(
            field,
            f"and {shown(other)} are both {low:g}: a tie, so nothing is preferred; leave out the "
            "two fields if they mean something else",
        )
    return field, other


def check_difference(field: str, value: Any) -> None:
    """Unusable where one field compares the two answers and does not favour chosen."""
    number = number_of(value)
    if DIFFERENCES.fullmatch(field) and number is not None and number < 0:
        raise Unusable(field, f"is {number:g}, below 0, so rejected may be the better answer")
    if TWO_MARKS.fullmatch(field) and isinstance(value, list) and len(value) == 2:
        first, second = map(number_of, value)
        if first is not None and first == second:
            raise Unusable(field, f"is {first:g} for both answers: a tie, so nothing is preferred")


def number_of(value: Any) -> float | None:
    """A number, or a text of a table that is one."""
    if isinstance(value, bool) or not isinstance(value, (int, float, str)):
        return None
    try:
        return float(value)
    except ValueError:
        return None


def check_demonstration(record: Mapping[str, Any]) -> None:
    """Unusable where rows are rated: the bad ones would be learned like the good ones."""
    for field in record:
        if field != "label" and RATINGS.search(field) and is_given(record, field):
            raise Unusable(
                field,
                "rates the answers, and all of them would be learned; keep the rows that are "
                "good and leave the field out",
            )


def check_nothing_lost(record: Mapping[str, Any], read: set[str], *, is_text: bool) -> None:
    """Unusable where a part of the prompt would be dropped; earlier turns are in a list of messages
    anyway, and not in a text."""
    beginnings = filter(BEGINNINGS.fullmatch, record)
    for field in (*PARTS, *beginnings, *(EARLIER_TURNS if is_text else ())):
        if field not in read and is_given(record, field):
            raise Unusable(
                field,
                "belongs to the prompt and is not read; put it into the prompt, or leave it out",
            )
