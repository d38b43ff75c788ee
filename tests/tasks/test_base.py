"""What every task has in common: documents, and texts that follow from the seed alone."""

import os
import random
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import minippo
from minippo.commands.config import resolve
from minippo.tasks.arithmetic import Arithmetic
from minippo.tasks.base import Segment, Task
from minippo.tasks.capitals import Capitals
from minippo.tasks.constraints import Constraints
from minippo.tasks.tldr import Tldr
from minippo.tokenizer import ByteTokenizer, WordTokenizer

# -- documents


class Bytes(Task):
    tokenizer = ByteTokenizer()


@given(st.lists(st.tuples(st.text(max_size=5), st.booleans()), max_size=5))
def test_a_document_is_bos_its_segments_and_eos_each_flagged_as_asked(segments):
    task = Bytes()
    tokens, is_target = task.document([Segment(*pair) for pair in segments])
    assert (tokens[0], is_target[0]) == (task.tokenizer.bos_id, False)
    assert (tokens[-1], is_target[-1]) == (task.tokenizer.eos_id, True)
    inside = list(zip(tokens, is_target, strict=True))[1:-1]
    assert inside == [(token, flag) for text, flag in segments for token in text.encode()]


def test_a_document_by_hand():
    task = Bytes()
    task.tokenizer = WordTokenizer(["a", "b", "?"])
    assert task.document([Segment("a ?", False), Segment("b", True)]) == (
        [1, 3, 5, 4, 2],
        [False, False, False, True, True],
    )


def test_a_demonstration_is_read_up_to_the_completion_and_learned_from_there():
    example = Bytes().demonstration_example("hi", "yo")
    assert example == ([257, *b"hi", *b"yo", 258], [False] * 3 + [True] * 3)


@pytest.mark.parametrize(
    "task",
    [*map(Tldr, (3, 4, 5, 6)), Constraints(), Capitals(), Arithmetic(), Arithmetic(40)],
    ids=["3", "4", "5", "6", "constraints", "capitals", "arithmetic", "few sums"],
)
class TestEveryToyWorld:
    def test_its_texts_are_in_its_vocabulary_and_fit_the_context(self, task):
        rng = random.Random(1)
        limit = resolve({"task": task.name}).ppo.response_length
        for step in (0, 10**6):
            assert all(
                len(example.tokens) <= task.document_length
                for example in task.pretraining_examples(500, step=step, rng=rng)
            )
        for prompt, completion in task.demonstrations(1000, rng=rng):
            assert (
                len(task.demonstration_example(prompt, completion).tokens) <= task.document_length
            )
            assert len(task.response_ids(completion)) <= limit
        for prompt in task.training_prompts(500, rng=rng) + task.evaluation_prompts(500, rng=rng):
            assert task.tokenizer.decode(task.prompt_ids(prompt)) == prompt

    def test_its_vocabulary_holds_no_word_that_no_text_uses(self, task):
        texts = learned_and_read(task, 2000, random.Random(2))
        used = {word for text in texts["pretraining"] + texts["training"] for word in text.split()}
        used |= {word for pair in texts["demonstrations"] for text in pair for word in text.split()}
        assert set(task.tokenizer.words[3:]) == used

    def test_the_same_seed_gives_the_same_texts_and_another_seed_others(self, task):
        first, second = (learned_and_read(task, 50, random.Random(7)) for _ in range(2))
        assert first == second and first == learned_and_read(
            type(task)(*sizes_of(task)), 50, random.Random(7)
        )
        other = learned_and_read(task, 50, random.Random(8))
        assert all(
            first[kind] != other[kind] for kind in ("pretraining", "demonstrations", "training")
        )

    def test_it_draws_from_the_given_generator_only(self, task):
        random.seed(0)
        before, torch_before = random.getstate(), torch.get_rng_state()
        learned_and_read(task, 20, random.Random(0))
        assert random.getstate() == before and torch.equal(torch.get_rng_state(), torch_before)

    def test_it_gives_as_many_texts_as_asked_and_evaluation_prompts_once_each(self, task):
        rng = random.Random(3)
        assert (
            len(task.pretraining_examples(7, step=0, rng=rng))
            == len(task.demonstrations(7, rng=rng))
            == 7
        )
        assert len(task.training_prompts(7, rng=rng)) == 7
        prompts = task.evaluation_prompts(7, rng=rng)
        assert len(prompts) == len(set(prompts)) == 7

    def test_nobody_has_recorded_preferences_of_it(self, task):
        assert task.recorded_preferences() is None


@pytest.mark.slow
def test_the_texts_and_their_tokens_are_the_same_in_another_process():
    source = """
import random
from minippo.tasks import Arithmetic, Capitals, Tldr
tasks = (Tldr(5), Capitals(), Arithmetic())
print([task.pretraining_examples(3, step=0, rng=random.Random(7)) for task in tasks])"""
    environment = os.environ | {
        "PYTHONPATH": str(Path(minippo.__file__).parent.parent),
        "PYTHONHASHSEED": "1",  # of Python's own hashes, on which the order of a set depends
    }
    done = subprocess.run(
        [sys.executable, "-c", source],
        env=environment,
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    here = [
        task.pretraining_examples(3, step=0, rng=random.Random(7))
        for task in (Tldr(5), Capitals(), Arithmetic())
    ]
    assert done.stdout == f"{here}\n" and "Example" in done.stdout


def sizes_of(task):
    own = {"tldr": lambda: task.values_per_fact, "arithmetic": lambda: len(task.problems)}
    return [own[task.name]()] if task.name in own else []


def decoded(task, examples):
    return [task.tokenizer.decode(example.tokens) for example in examples]


def targets_of(task, example):
    """The text that the loss of a document counts."""
    return task.tokenizer.decode([token for token, flag in zip(*example, strict=True) if flag])


def learned_and_read(task, n, rng):
    """Every text of a task by its kind, as the stages draw them."""
    return {
        "pretraining": decoded(
            task,
            task.pretraining_examples(n, step=0, rng=rng)
            + task.pretraining_examples(n, step=10**6, rng=rng),
        ),
        "demonstrations": task.demonstrations(n, rng=rng),
        "training": task.training_prompts(n, rng=rng),
        "evaluation": task.evaluation_prompts(n, rng=rng),
    }


def test_a_task_says_what_a_claim_is_or_does_not():
    assert Task().claims("prompt", "response") is None and dict(Task().rules()) == {}
