"""Conversations: lists of messages and transcripts, written as one prompt and one answer.

The answer is the last turn, the assistant's; what comes before is the prompt. A single question is
the prompt as it is. Where there are more turns their roles are written down,

    User: ...

    Assistant: ...

    User: ...

    Assistant:

and a system message stands in front of it all, without a role.
"""

import re
from collections.abc import Sequence
from typing import Any, NamedTuple

from minippo.tasks.files.messages import Unusable, json_type, shown, shown_list

ROLES = {  # as they are called elsewhere
    "system": "system",
    **dict.fromkeys(("user", "human", "prompter"), "user"),
    **dict.fromkeys(("assistant", "gpt", "bot", "chatgpt", "model"), "assistant"),
}
CONTENT_NAMES = (("role", "content"), ("from", "value"))
NOT_TEXT = ("tool_calls", "function_call", "tool_call_id", "images", "audio")
MARK = re.compile(r"(?:\A\s*|\n[ \t]*\n\s*)(Human|User|Assistant):")
LISTED = re.compile(r"\s*\[\s*\{\s*['\"](role|content|from|value)['\"]\s*:")


class Turn(NamedTuple):
    """Who speaks (system, user or assistant), and what is said."""

    role: str
    text: str


def checked_text(value: Any, field: str) -> str:
    """The value, if it is a text that can be written as UTF-8, is not blank, and is no list of
    messages in quotes."""
    if not isinstance(value, str):
        raise Unusable(field, f"must be a string, got {json_type(value)}")
    if not value.strip():
        raise Unusable(field, "is blank" if value else "is empty")
    if "\0" in value:
        raise Unusable(field, f"holds NUL at character {value.index(chr(0))}, which no text holds")
    try:
        value.encode("utf-8")
    except UnicodeEncodeError as error:
        half = f"\\u{ord(value[error.start]):04x}"
        raise Unusable(
            field, f"holds {half}, a lone surrogate, which is half a character"
        ) from None
    if LISTED.match(value):
        raise Unusable(field, "is a list of messages written as a string; write the list itself")
    return value


# -- lists of messages


def is_messages(value: Any) -> bool:
    """Is this a list of messages, or a single one?"""
    return isinstance(value, (list, dict))


def asks(value: Any) -> bool:
    """Does an answer hold what was asked: a list with a message of the user, or a transcript?"""
    messages = value if isinstance(value, list) else [value]
    said = [
        message.get("role", message.get("from"))
        for message in messages
        if isinstance(message, dict)
    ]
    return is_transcript(value) or any(ROLES.get(str(role).lower()) == "user" for role in said)


def turns_of(value: Any, field: str) -> list[Turn]:
    """The turns of a list of {role, content} or {from, value}, or of a single one."""
    messages = [value] if isinstance(value, dict) else value
    if not messages:
        raise Unusable(field, "is an empty list")
    turns = [turn_of(message, field) for message in messages]
    if messages[-1].get("weight") in (0, False):
        raise Unusable(field, "ends with a message of weight 0, which is not to be learned")
    turns = [turn for turn in turns if turn is not None]
    if not turns:
        raise Unusable(field, "holds no message but an empty one of the system")
    if any(turn.role == "system" for turn in turns[1:]):
        raise Unusable(field, "holds a system message that is not the first")
    return turns


def turn_of(message: Any, field: str) -> Turn | None:
    """One message; None for a system message that says nothing."""
    if not isinstance(message, dict):
        wanted = "must be a text or a list of messages, each {role, content}"
        more = "; of several texts make one row for each" if isinstance(message, str) else ""
        raise Unusable(field, f"{wanted}, got {json_type(message)} in a list{more}")
    for name in NOT_TEXT:
        if message.get(name):
            raise Unusable(field, f"holds a message with {name}; only texts are read")
    names = next((names for names in CONTENT_NAMES if names[0] in message), None)
    if names is None:
        found = f"found {shown_list(message)}" if message else "it is empty"
        raise Unusable(
            field, f"holds an object without a role ({found}); write its text, or {{role, content}}"
        )
    role, content = (message.get(name) for name in names)
    if not isinstance(role, str) or role.lower() not in ROLES:
        known = "system, user and assistant are read"
        what = shown(role) if isinstance(role, str) else json_type(role)
        raise Unusable(field, f"holds a message whose role is {what}; {known}")
    role = ROLES[role.lower()]
    if role == "system" and (content is None or content == ""):
        return None
    return Turn(role, joined_parts(content, field))


def joined_parts(content: Any, field: str) -> str:
    """A message's text; a list of parts is read where all are texts."""
    if isinstance(content, list) and content:
        texts = [
            part.get("text") if isinstance(part, dict) and part.get("type") == "text" else None
            for part in content
        ]
        if None in texts:
            raise Unusable(field, "holds a message with parts that are no text")
        content = "".join(checked_text(text, field) for text in texts)
    return checked_text(content, field)


def split_last(turns: Sequence[Turn], field: str) -> tuple[list[Turn], str]:
    """(the turns before it, the answer), which is the last turn and the assistant's."""
    if not turns or turns[-1].role != "assistant":
        raise Unusable(field, "does not end with a message of the assistant")
    return [*turns[:-1]], turns[-1].text


def joined(prompt: Sequence[Turn], turns: Sequence[Turn], field: str) -> list[Turn]:
    """The prompt and then the answer's turns, of which the prompt may be the beginning already."""
    if not prompt or not turns:
        return [*prompt, *turns]
    asked, own = without_system(prompt), without_system(turns[:-1])
    if own and own[0].role == "user":  # the list is the whole conversation
        repeated = own[: len(asked)] == asked or is_among(asked, own)
        if not repeated:
            raise Unusable(field, "begins with other turns than the prompt")
        systems = {turn.text for turn in (*prompt, *turns) if turn.role == "system"}
        if len(systems) > 1:
            raise Unusable(field, "has another system message than the prompt")
        return [*(Turn("system", text) for text in systems), *own, turns[-1]]
    if turns[0].role == "system":
        raise Unusable(field, "holds a system message, which belongs to the prompt")
    return [*prompt, *turns]


def is_among(asked: Sequence[Turn], own: Sequence[Turn]) -> bool:
    """Is a prompt of one question among those of the conversation?"""
    questions = [turn.text.strip() for turn in own if turn.role == "user"]
    return len(asked) == 1 and asked[0].text.strip() in questions


def without_system(turns: Sequence[Turn]) -> list[Turn]:
    """The turns of user and assistant."""
    return [turn for turn in turns if turn.role != "system"]


def written(turns: Sequence[Turn], field: str) -> str:
    """A prompt in one text: see the head of this file."""
    spoken = without_system(turns)
    if not spoken or spoken[-1].role != "user":
        raise Unusable(field, "the turns before the answer do not end with the user's")
    front = [turn.text for turn in turns if turn.role == "system"]
    if len(spoken) == 1:
        return "\n\n".join([*front, spoken[0].text])
    labelled = [f"{turn.role.capitalize()}: {turn.text}" for turn in spoken]
    return "\n\n".join([*front, *labelled, "Assistant:"])


def needs_roles(turns: Sequence[Turn]) -> bool:
    """Is the prompt written with its roles?"""
    return len(without_system(turns)) > 1


# -- transcripts


def is_transcript(text: Any) -> bool:
    """A text that begins with the user's turn: 'Human: ...' or 'User: ...'."""
    found = MARK.match(text) if isinstance(text, str) else None
    return found is not None and found[1] != "Assistant"


def split_transcript(text: str, field: str) -> tuple[str, str]:
    """(all up to the last 'Assistant:', the answer after it), without the blanks around them."""
    *_, last = MARK.finditer(checked_text(text, field))
    if last[1] != "Assistant":
        raise Unusable(
            field, f"begins like a transcript and ends with a turn of {last[1]}, not of Assistant"
        )
    return text[: last.end()].strip(), checked_text(text[last.end() :], field).strip()
