"""Held-out pairs share no prompt with what is trained on."""

from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import TypeVar

import torch

from minippo.errors import InputError
from minippo.tasks.files.read import FolderData
from minippo.tasks.files.rows import prompt_key

Value = TypeVar("Value")


def keep(values: Iterable[Value], wanted: Iterable[bool]) -> list[Value]:
    """The values whose flag is True."""
    return [value for value, flag in zip(values, wanted, strict=True) if flag]


def split_by_prompt(
    preferences: Sequence[tuple[str, str, str]], *, heldout_pairs: int, generator: torch.Generator
) -> tuple[list[tuple[str, str, str]], list[tuple[str, str, str]]]:
    """(training, held_out): two lists of pairs, each in the order they came, with no prompt on both
    sides.

    Whole prompts are held out, in random order, until there are `heldout_pairs` pairs; a prompt
    that would bring them above half of all pairs is passed over, so fewer may be held out than
    asked. Prompts are compared without the white space around them and in one Unicode form
    (prompt_key). InputError when there are fewer than two different prompts.
    """
    if heldout_pairs < 1:
        raise ValueError(f"heldout_pairs must be at least 1, got {heldout_pairs}")
    sizes = {}
    for prompt, _, _ in preferences:
        sizes[prompt_key(prompt)] = sizes.get(prompt_key(prompt), 0) + 1
    if len(sizes) < 2:
        raise InputError(
            "preferences, field prompt: at least 2 different "
            "prompts are needed, one to learn from "
            f"and one to test on; found {len(sizes)}"
        )
    held_out, total, prompts = set(), 0, list(sizes)
    for i in torch.randperm(len(prompts), generator=generator).tolist():
        if total < heldout_pairs and total + sizes[prompts[i]] <= len(preferences) // 2:
            held_out.add(prompts[i])
            total += sizes[prompts[i]]
    sides = [prompt_key(pair[0]) in held_out for pair in preferences]
    return keep(preferences, [not side for side in sides]), keep(preferences, sides)


def without_prompts(data: FolderData, held_out: Iterable[tuple[str, str, str]]) -> FolderData:
    """The data without the preferences and demonstrations, and the corpus made of them, of the
    held-out pairs' prompts.

    A model fine-tuned on a held-out pair's chosen answer would find it likely, and the test would
    flatter the reward model that starts from it. The list of prompts stays: sampling an answer
    shows nobody the held-out ones.
    """
    unseen = {prompt_key(prompt) for prompt, _, _ in held_out}
    wanted = {
        kind: [prompt_key(item[0]) not in unseen for item in getattr(data, kind)]
        for kind in ("preferences", "demonstrations")
    }
    if not any(wanted["demonstrations"]):
        name = data.files.get("demonstrations", "demonstrations")
        raise InputError(
            f"{name}: every prompt in it is one of the held-out preference pairs; "
            "add other prompts, or hold out fewer pairs"
        )
    dropped = {
        source
        for source, flag in zip(
            data.sources["demonstrations"], wanted["demonstrations"], strict=True
        )
        if not flag
    }
    wanted["corpus"] = [source not in dropped for source in data.sources["corpus"]]
    items = {kind: keep(getattr(data, kind), flags) for kind, flags in wanted.items()}
    sources = {kind: keep(data.sources[kind], flags) for kind, flags in wanted.items()}
    return replace(data, **items, sources=data.sources | sources)
