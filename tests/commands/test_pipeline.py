"""The stages of a run, each with its data, and what is kept of the policy's training."""

import json
import random

import pytest

from minippo.commands.path import enough
from minippo.commands.pipeline import as_tuples, mean_gold
from minippo.tasks.capitals import CAPITALS, QUESTION, Capitals
from minippo.tokenizer import pad_left, pad_right


def test_the_random_state_survives_json():
    rng = random.Random(3)
    rng.gauss(0, 1)
    other = random.Random()
    other.setstate(as_tuples(json.loads(json.dumps(rng.getstate()))))
    assert [rng.gauss(0, 1) for _ in range(5)] == [other.gauss(0, 1) for _ in range(5)]


def test_prompts_come_round_until_there_are_enough():
    assert enough(["a", "b", "c"], 7) == ["a", "b", "c", "a", "b", "c", "a"]
    assert enough(["a", "b", "c"], 2) == ["a", "b"]


class Rows:
    """As much of a rollout as is read."""

    def __init__(self, task, pairs):
        self.prompt_tokens, _ = pad_left([task.prompt_ids(p) for p, _ in pairs], 0)
        self.response_tokens, _ = pad_right([task.response_ids(r) for _, r in pairs], 0)


def test_the_mean_gold_is_that_of_the_texts():
    country, (right, rival) = next(iter(CAPITALS.items()))
    question = QUESTION.format(country)
    task = Capitals()
    rows = Rows(task, [(question, right), (question, rival), (question, right), (question, right)])
    assert mean_gold(task, rows) == pytest.approx(0.75)  # right, wrong, right, right
