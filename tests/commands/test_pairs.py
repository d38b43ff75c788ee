"""The pairs that a person compares: the same for a seed, different answers, whole ones."""

from itertools import islice

import pytest

from minippo.commands.config import resolve
from minippo.commands.pairs import DRAWS, pairs_of, prompts_of, two_answers
from minippo.errors import InputError
from minippo.interchange.load import load_gpt
from minippo.tasks import Capitals, Tldr
from minippo.tasks.base import Task
from tests.tiny_runs import random_gpt

SAMPLING = resolve({}).ppo


@pytest.fixture(scope="module")
def model(finished):
    return load_gpt(finished, "sft")


def some(model, number=6, seed=0, first=1):
    return [*islice(pairs_of(model, Tldr(), sampling=SAMPLING, seed=seed, first=first), number)]


def test_a_seed_has_its_pairs_wherever_one_begins(model):
    pairs = some(model)
    assert pairs == some(model) and some(model, seed=1)[0] != pairs[0]
    later = pairs[3].number
    assert some(model, 3, first=later) == pairs[3:]


def test_answers_differ_and_are_texts_that_the_task_reads_back(model):
    for pair in some(model, 8):
        assert pair.a != pair.b
        assert all(len(Tldr().response_ids(text)) <= SAMPLING.response_length for text in pair[2:])


def test_the_order_says_nothing_about_which_was_drawn_first(monkeypatch):
    """The likelier answer is mostly the first that is drawn; it must not mostly be a."""
    monkeypatch.setattr(
        "minippo.commands.pairs.sample_responses", lambda *_, **__: _two(Capitals())
    )
    firsts = [
        two_answers(random_gpt(9, 0), Capitals(), "paris", sampling=SAMPLING, seed=seed)[0]
        for seed in range(60)
    ]
    assert 18 <= firsts.count("paris") <= 42


def _two(task):
    """The answer "paris" first, and "rome" after it, both ended."""
    import torch

    rows = [task.response_ids("paris")] + [task.response_ids("rome")] * (DRAWS - 1)
    tokens = torch.tensor(rows)
    return tokens, torch.ones_like(tokens, dtype=torch.bool), None


class Few(Task):
    def training_prompts(self, n, *, rng):
        return rng.choices(["one", "two", "three"], k=n)


def test_few_prompts_come_all_before_one_comes_again():
    import random

    for seed in range(5):
        prompts = [*islice(prompts_of(Few(), random.Random(seed)), 30)]
        assert all(len({*prompts[i : i + 3]}) == 3 for i in range(0, 30, 3))


def test_a_model_with_one_answer_is_told(monkeypatch, model):
    monkeypatch.setattr("minippo.commands.pairs.two_answers", lambda *_, **__: None)
    with pytest.raises(
        InputError, match="200 prompts in a row to which the fine-tuned model gives"
    ):
        some(model, 1)
