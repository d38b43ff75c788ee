"""Pairs of answers to be compared by a person, one after the other: two different answers of a
run's fine-tuned model to one of its training prompts.

The pair with number k of a seed is always the same pair, however many were asked before: it has a
generator of its own. A prompt to which the model has no two answers leaves a gap in the numbers.

An answer is only shown if it has ended, and if its text is read as the tokens that it was: what
somebody judges is what a reward model will learn from.
"""

from collections.abc import Iterator
from random import Random
from typing import NamedTuple

import torch

from minippo.commands.recipe import stage_seed
from minippo.errors import InputError
from minippo.gpt import GPT
from minippo.rollout import Sampling, sample_responses
from minippo.runs.text import counted
from minippo.tasks.base import Task

DRAWS = 8  # answers that are drawn for a prompt, of which two that differ are shown
TRIES = 20  # prompts that are passed over, for one that was not asked before
MOST_PASSED = 200  # prompts in a row without two answers


class Pair(NamedTuple):
    """A prompt and two answers to it."""

    number: int  # of its prompt in the sequence of a seed, from 1 on
    prompt: str
    a: str
    b: str


def pairs_of(
    model: GPT, task: Task, *, sampling: Sampling, seed: int, first: int = 1
) -> Iterator[Pair]:
    """The pairs of a seed from number `first` on, without end. InputError: the model has no two
    answers to show."""
    passed = 0
    prompts = prompts_of(task, Random(stage_seed(seed, "label prompts")))
    for number, prompt in enumerate(prompts, start=1):
        if number < first:
            continue
        of_the_pair = stage_seed(seed, f"label {number}")
        answers = two_answers(model, task, prompt, sampling=sampling, seed=of_the_pair)
        if answers is not None:
            passed = 0
            yield Pair(number, prompt, *answers)
            continue
        passed += 1
        if passed == MOST_PASSED:
            raise InputError(
                f"{counted(passed, 'prompt')} in a row to which the fine-tuned model gives no two "
                f"different answers that end within {counted(sampling.response_length, 'token')}: "
                "there is nothing to compare"
            )


def prompts_of(task: Task, rng: Random) -> Iterator[str]:
    """Training prompts without end; where there are few, all of them before one comes again, or
    nearly."""
    seen: set[str] = set()
    while True:
        drawn = (task.training_prompts(1, rng=rng)[0] for _ in range(TRIES))
        prompt = next((prompt for prompt in drawn if prompt not in seen), None)
        if prompt is None:
            seen.clear()
        else:
            seen.add(prompt)
            yield prompt


def two_answers(
    model: GPT, task: Task, prompt: str, *, sampling: Sampling, seed: int
) -> tuple[str, str] | None:
    """Two different answers in an order that says nothing; None where the model has not two."""
    tokenizer, generator = task.tokenizer, torch.Generator().manual_seed(seed)
    prompts = (x.expand(DRAWS, -1) for x in task.prompt_batch([prompt]))
    tokens, mask, _ = sample_responses(
        model,
        *prompts,
        response_length=sampling.response_length,
        temperature=sampling.temperature,
        generator=generator,
        eos_id=tokenizer.eos_id,
        pad_id=tokenizer.pad_id,
    )
    found: dict[str, None] = {}
    for row, length in zip(tokens.tolist(), mask.sum(dim=1).tolist(), strict=True):
        text = tokenizer.decode(row[:length])
        if row[:length] == task.response_ids(text):
            found[text] = None
    if len(found) < 2:
        return None
    a, b, *_ = found
    # the first that was drawn is likely to be the likelier one
    return (a, b) if torch.rand((), generator=generator) < 0.5 else (b, a)
