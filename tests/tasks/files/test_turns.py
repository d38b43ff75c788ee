"""Conversations as one prompt and one answer: no role and no turn is lost."""

import pytest

from minippo.tasks.files.messages import Unusable
from minippo.tasks.files.turns import (
    Turn,
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

S, U, A = Turn("system", "be kind"), Turn("user", "q"), Turn("assistant", "a")
U2, A2 = Turn("user", "and?"), Turn("assistant", "b")


def message(role="user", content="q", **more):
    return {"role": role, "content": content} | more


def reason(function, *arguments):
    with pytest.raises(Unusable) as caught:
        function(*arguments)
    assert caught.value.field in ("f", None)
    return caught.value.what


# -- one text


def test_a_question_alone_is_the_prompt_and_a_system_message_stands_in_front():
    assert written([Turn("user", " q\n")], "f") == " q\n"
    assert written([S, U], "f") == "be kind\n\nq"
    assert not needs_roles([S, U])


def test_several_turns_are_written_with_their_roles():
    text = "be kind\n\nUser: q\n\nAssistant: a\n\nUser: and?\n\nAssistant:"
    assert written([S, U, A, U2], "f") == text and needs_roles([U, A, U2])
    assert written([A, U], "f") == "Assistant: a\n\nUser: q\n\nAssistant:"
    for turns in ([], [S], [U, A]):
        assert reason(written, turns, "f").endswith("do not end with the user's")


def test_the_last_turn_is_the_answer_and_must_be_the_assistants():
    assert split_last([S, U, A], "f") == ([S, U], "a")
    for turns in ([], [U], [U, A, U2]):
        assert "does not end with a message of the assistant" in reason(split_last, turns, "f")


# -- lists of messages


@pytest.mark.parametrize("names", [("role", "content"), ("from", "value")])
@pytest.mark.parametrize(
    "role, meant", [("human", "user"), ("User", "user"), ("gpt", "assistant"), ("system", "system")]
)
def test_roles_by_other_names(role, meant, names):
    assert turns_of([dict(zip(names, (role, "x")))], "f") == [Turn(meant, "x")]


def test_one_message_parts_of_text_and_an_empty_system_message():
    assert turns_of(message(), "f") == [U] and is_messages(message()) and not is_messages("q")
    parts = [{"type": "text", "text": "q"}, {"type": "text", "text": "!"}]
    assert turns_of([message(content=parts)], "f") == [Turn("user", "q!")]
    assert turns_of([message("system", ""), message()], "f") == [U]
    assert turns_of([message("system", None, weight=0), message(name="Jo", weight=0.5)], "f") == [U]


@pytest.mark.parametrize(
    "value, what",
    [
        ([], "is an empty list"),
        ([message("system", "")], "holds no message but an empty one"),
        (["a", "b"], "got a string in a list; of several texts make one row for each"),
        ([1.0], "each {role, content}, got a number in a list"),
        ([message("tool")], "a message whose role is 'tool'"),
        ([message(None)], "a message whose role is null"),
        ([message(content=None)], "must be a string, got null"),
        ([message(content=" ")], "is blank"),
        ([message(content=[{"type": "image_url"}])], "parts that are no text"),
        ([message(content=["q"])], "parts that are no text"),
        ([message("assistant", None, tool_calls=[{}])], "holds a message with tool_calls"),
        ([message(), message("system")], "a system message that is not the first"),
        ([message(), message("assistant", "a", weight=0)], "weight 0, which is not to be learned"),
    ],
)
def test_messages_that_are_no_text_are_refused(value, what):
    assert what in reason(turns_of, value, "f")


# -- a prompt and a list


def test_the_prompt_is_not_repeated():
    assert joined([U], [A], "f") == [U, A]
    assert joined([U], [U, A], "f") == [U, A]
    assert joined([S, U], [U, A], "f") == joined([U], [S, U, A], "f") == [S, U, A]
    assert joined([S, U], [S, U, A], "f") == [S, U, A]
    assert joined([], [U, A], "f") == [U, A] and joined([S], [U, A], "f") == [S, U, A]
    # the first or the last question of a longer conversation is often a field as well
    assert joined([U], [U, A, U2, A2], "f") == [U, A, U2, A2] == joined([U2], [U, A, U2, A2], "f")
    assert joined([U], [A, U2, A2], "f") == [U, A, U2, A2]
    assert without_system([S, U, A]) == [U, A]


def test_turns_that_do_not_fit_the_prompt_are_refused():
    assert "begins with other turns than the prompt" in reason(joined, [U2], [U, A], "f")
    assert "begins with other turns" in reason(joined, [U, A, U2], [U2, A2], "f")
    other = Turn("system", "be brief")
    assert "another system message" in reason(joined, [S, U], [other, U, A], "f")
    assert "a system message, which belongs to the prompt" in reason(joined, [U], [S, A], "f")


# -- transcripts


def test_a_transcript_is_parted_at_its_last_answer():
    text = "\n\nHuman: q\n\nAssistant: a\n\nHuman: and?\n\nAssistant: b\n\nc\n"
    assert is_transcript(text)
    prompt = "Human: q\n\nAssistant: a\n\nHuman: and?\n\nAssistant:"
    assert split_transcript(text, "f") == (prompt, "b\n\nc")
    assert split_transcript("User: q\n \nAssistant:a", "f") == ("User: q\n \nAssistant:", "a")


def test_what_is_no_transcript_and_what_has_no_answer():
    for text in ("Say Human: q", "Assistant: a", None, 3, ["Human: q"]):
        assert not is_transcript(text)
    for text in ("Human: q", "Human: q\nAssistant: a", "Human: q\n\nAssistant: a\n\nHuman: b"):
        assert "ends with a turn of Human" in reason(split_transcript, text, "f")
    assert reason(split_transcript, "Human: q\n\nAssistant: ", "f") == "is blank"
    assert reason(split_transcript, "Human: q\n\nAssistant:", "f") == "is empty"


# -- texts


@pytest.mark.parametrize(
    "value, what",
    [
        (None, "must be a string, got null"),
        ("", "is empty"),
        (" \n", "is blank"),
        ("a\0", "holds NUL at character 1, which no text holds"),
        ("\ud800", "a lone surrogate"),
        ("[{'role': 'user', 'content': 'q'}]", "a list of messages written as a string"),
        ('[{"from": "human"}]', "a list of messages written as a string"),
    ],
)
def test_texts_that_are_refused(value, what):
    assert what in reason(checked_text, value, "f")


def test_other_lists_are_texts():
    for text in ("[1, 2]", "[{}]", "[{'name': 'x'}]"):
        assert checked_text(text, "f") == text
