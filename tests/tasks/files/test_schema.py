"""Records as people publish them: read rightly by a named rule, or refused with the reason."""

import pytest

from minippo.tasks.files.messages import Unusable
from minippo.tasks.files.schema import (
    BEFORE,
    FIELDS,
    IN_TURNS,
    OF_MESSAGES,
    OF_TRANSCRIPTS,
    example,
    row_of,
)

PAIR, ONE = "preferences", "demonstrations"
AB = {"chosen": "a", "rejected": "b"}


def user(text="q"):
    return {"role": "user", "content": text}


def assistant(text="a"):
    return {"role": "assistant", "content": text}


def system(text="s"):
    return {"role": "system", "content": text}


def both(*before):
    """chosen and rejected as whole lists that begin in the same way."""
    return {"chosen": [*before, assistant("a")], "rejected": [*before, assistant("b")]}


def spoken(*turns):
    return [{"from": role, "value": text} for role, text in turns]


LONG = [system(), user("q1"), assistant("a1"), user("q2")]
WRITTEN = "s\n\nUser: q1\n\nAssistant: a1\n\nUser: q2\n\nAssistant:"
HH = "\n\nHuman: q1\n\nAssistant: a1\n\nHuman: q2\n\nAssistant:"


@pytest.mark.parametrize(
    "record, texts, rules",
    [
        ({"prompt": " q"} | AB, (" q", "a", "b"), ()),
        (
            {"question": "q", "prompt": None} | AB,
            ("q", "a", "b"),
            ["the prompt is the field question"],
        ),
        (
            {"instruction": "i", "input": "x"} | AB,
            ("i\n\nx", "a", "b"),
            ["the prompt is the field instruction", "input is put after the instruction"],
        ),
        (  # Orca's pairs
            {"system": "s", "question": "q"} | AB,
            ("s\n\nq", "a", "b"),
            ["the prompt is the field question", "system is put in front of the prompt"],
        ),
        ({"system": "", "prompt": "q", "input": None} | AB, ("q", "a", "b"), ()),
        (  # TRL, explicit and conversational
            {"prompt": [user()], "chosen": [assistant("a")], "rejected": [assistant("b")]},
            ("q", "a", "b"),
            [OF_MESSAGES],
        ),
        ({"prompt": [user()]} | both(user()), ("q", "a", "b"), [OF_MESSAGES]),
        (both(user()), ("q", "a", "b"), [OF_MESSAGES, BEFORE]),  # implicit
        ({"prompt": "q", "messages": [user()]} | both(user()), ("q", "a", "b"), [OF_MESSAGES]),
        ({"prompt": "q2"} | both(*LONG), (WRITTEN, "a", "b"), [OF_MESSAGES, IN_TURNS]),
        ({"prompt": LONG} | both(), (WRITTEN, "a", "b"), [OF_MESSAGES, IN_TURNS]),
        (both(*LONG), (WRITTEN, "a", "b"), [OF_MESSAGES, BEFORE, IN_TURNS]),
        (
            {"system": "s"} | both(*LONG[1:]),
            (WRITTEN, "a", "b"),
            ["system is put in front of the prompt", OF_MESSAGES, BEFORE, IN_TURNS],
        ),
        (  # Anthropic's transcripts
            {"chosen": f"{HH} a", "rejected": f"{HH} b\n\n- c"},
            (HH.strip(), "a", "b\n\n- c"),
            [OF_TRANSCRIPTS, BEFORE],
        ),
        (
            {"prompt": HH, "chosen": f"{HH} a", "rejected": f"{HH} b"},
            (HH.strip(), "a", "b"),
            [OF_TRANSCRIPTS],
        ),
        ({"prompt": HH, "chosen": " a", "rejected": " b", "response": " a"}, (HH, " a", " b"), ()),
        (
            {"prompt": "q", "score_chosen": 2.0, "score_rejected": 1.0} | AB,
            ("q", "a", "b"),
            ["score_chosen must be above score_rejected, and neither is learned"],
        ),
    ],
)
def test_pairs(record, texts, rules):
    row = row_of(PAIR, record)
    assert (row.texts, row.rules) == (texts, tuple(rules)) and row.learned


@pytest.mark.parametrize(
    "record, texts",
    [
        ({"prompt": "q", "completion": "a"}, ("q", "a")),
        ({"instruction": "i", "input": "", "output": "o", "text": "t"}, ("i", "o")),  # Alpaca
        ({"instruction": "i", "context": "c", "response": "r"}, ("i\n\nc", "r")),  # Dolly
        ({"question": "q", "answer": "a"}, ("q", "a")),
        ({"id": "1", "system_prompt": "s", "question": "q", "response": "r"}, ("s\n\nq", "r")),
        ({"messages": [user(), assistant()]}, ("q", "a")),
        ({"prompt": "q1", "prompt_id": "1", "messages": [*LONG, assistant()]}, (WRITTEN, "a")),
        ({"conversations": spoken(("human", "q"), ("gpt", "a"))}, ("q", "a")),  # ShareGPT
        ({"prompt": [user()], "completion": [assistant()], "label": True}, ("q", "a")),
    ],
)
def test_demonstrations(record, texts):
    row = row_of(ONE, record)
    assert row.texts == texts and row.learned


@pytest.mark.parametrize("label, learned", [(True, True), (False, False), ("False", False)])
def test_what_has_the_label_false_is_not_learned(label, learned):
    row = row_of(ONE, {"prompt": "q", "completion": "a", "label": label})
    assert row.learned is learned and "label" in row.read


def test_prompts_and_documents():
    assert row_of("prompts", {"prompt": LONG}).texts == (WRITTEN,)
    assert row_of("prompts", {"question": "q", "answers": ["a"]}).texts == ("q",)
    assert row_of("corpus", {"text": "t", "label": 1.0}).texts == ("t",)
    for kind, fields in FIELDS.items():
        assert row_of(kind, dict(zip(fields, "abc"))).texts == tuple("abc"[: len(fields)])
        assert fields[-1] in example(kind)


@pytest.mark.parametrize(
    "kind, record, field, what",
    [
        (PAIR, {}, "prompt", "is missing (the object is empty)"),
        (PAIR, {"prompt": "q", "chosen": "a"}, "rejected", "is missing"),
        (PAIR, AB, "prompt", "chosen and rejected are no conversations"),
        (PAIR, {"input": "q"} | AB, "input", "call it prompt if it is one"),
        (PAIR, {"prompt": "q", "question": "r"} | AB, "question", "both there and differ"),
        (PAIR, {"prompt": None} | AB, "prompt", "must be a string, got null"),
        (
            PAIR,
            {"prompt": "q", "chosen": "a", "rejected": " a\n"},
            "rejected",
            "is equal to chosen",
        ),
        (PAIR, {"prompt": "q", "label": 0.0} | AB, "label", "may say otherwise"),
        (PAIR, {"prompt": "q", "chosen": [assistant()], "rejected": "b"}, "chosen", "a list"),
        (PAIR, {"prompt": "q", "chosen": "a", "rejected": ["b", "c"]}, "rejected", "a list"),
        (PAIR, {"prompt": "q", "chosen": ["a"], "rejected": ["b"]}, "chosen", "one row for each"),
        (PAIR, {"prompt": "z"} | both(user()), "chosen", "begins with other turns"),
        (PAIR, both(), "prompt", "the lists begin with the answer"),
        (PAIR, both(user(), assistant()), "chosen", "do not end with the user's"),
        (
            PAIR,
            {"chosen": [user("q"), assistant()], "rejected": [user("r"), assistant("b")]},
            "rejected",
            "differ before their last messages",
        ),
        (
            PAIR,
            {"chosen": f"{HH} a", "rejected": "\n\nHuman: q1\n\nAssistant: b"},
            "rejected",
            "differ before their last 'Assistant:'",
        ),
        (PAIR, {"chosen": f"{HH} a", "rejected": f"{HH} a\n\nHuman: b"}, "rejected", "of Human"),
        (
            PAIR,
            {"prompt": "z", "chosen": f"{HH} a", "rejected": f"{HH} b"},
            "chosen",
            "begins with other turns",
        ),
        (PAIR, {"prompt": "q", "completion": "a", "label": True}, "label", "are no pair"),
        (PAIR, {"prompt": "q", "answers": [{"answer": "a", "rank": 1.0}]}, None, "Nectar"),
        (PAIR, {"prompt": "q", "history": [["x", "y"]]} | AB, "history", "belongs to the prompt"),
        (PAIR, {"prompt": [system(), user()], "system": "s"} | both(), "system", "a list of"),
        (ONE, {"prompt": "q"}, "completion", "is missing"),
        (ONE, {"prompt": "q", "completion": ""}, "completion", "is empty"),
        (ONE, {"completion": "a"}, "prompt", "is missing"),
        (ONE, {"prompt": "q"} | AB, None, "name the file preferences"),
        (ONE, {"prompt": "q", "output": "a", "response": "b"}, "response", "keep one of them"),
        (ONE, {"prompt": "q", "completion": "a", "label": 1.0}, "label", "must be true or false"),
        (ONE, {"prompt": "q", "completion": "a", "label": None}, "label", "must be true or false"),
        (ONE, {"prompt": "q", "response": "a", "helpfulness": 1.0}, "helpfulness", "rates the"),
        (ONE, {"messages": [user(), assistant(), user()]}, "messages", "does not end with"),
        (ONE, {"messages": [assistant()]}, "prompt", "messages begins with the answer"),
        (ONE, {"message_tree_id": "1", "text": "q"}, None, "messages of trees"),
        ("prompts", {"text": "q"}, "prompt", "is missing (found 'text')"),
        ("prompts", {"prompt": [user(), assistant()]}, "prompt", "do not end with the user's"),
        ("corpus", {"content": "t"}, "text", "is missing"),
        ("corpus", ["t"], None, 'must be an object like {"text": "..."}, got a list'),
    ],
)
def test_refusals(kind, record, field, what):
    with pytest.raises(Unusable) as caught:
        row_of(kind, record)
    assert caught.value.field == field and what in caught.value.what


def test_an_answer_of_a_labelled_row_is_of_another_form():
    row = {"prompt": "q", "completion": "a"}
    assert row_of(ONE, row).form != row_of(ONE, row | {"label": True}).form
    assert (
        row_of(PAIR, {"prompt": "q"} | AB).form
        == row_of(PAIR, {"prompt": "q", "input": "x"} | AB).form
    )
