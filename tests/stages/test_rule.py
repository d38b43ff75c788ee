"""A rule as the score: it reads texts, and knows where the prompt ends."""

import pytest
import torch

from minippo.algorithms.base import PPOConfig
from minippo.rollout import Responses, score_responses
from minippo.stages.rule import RuleScore
from minippo.tasks.arithmetic import Arithmetic
from minippo.tokenizer import WordTokenizer, pad_left, pad_right

WORDS = WordTokenizer(["a", "b", "c"])


def batch_of(tokenizer, pairs, ended=True):
    """Responses to prompts of different lengths."""
    eos = [tokenizer.eos_id] if ended else []
    prompts = pad_left(
        [[tokenizer.bos_id, *tokenizer.encode(p)] for p, _ in pairs], tokenizer.pad_id
    )
    responses = pad_right([tokenizer.encode(r) + eos for _, r in pairs], tokenizer.pad_id)
    return Responses(*prompts, *responses)


def test_the_rule_is_told_prompt_and_response_without_pads_and_eos():
    asked = []
    score = RuleScore(lambda prompt, response: asked.append((prompt, response)) or 0.5, WORDS)
    pairs = [("a b c", "c"), ("a", "b c a"), ("b", "")]
    scores = score.of(batch_of(WORDS, pairs))
    assert asked == pairs
    assert scores.dtype == torch.float32 and scores.tolist() == [0.5, 0.5, 0.5]


def test_every_response_has_the_score_of_its_own_text():
    task = Arithmetic()
    pairs = [("3 7 + 4 5 =", "8 2"), ("3 7 + 4 5 =", "7 2"), ("1 0 + 1 1 =", "2 1")]
    scores = RuleScore(task.gold, task.tokenizer).of(batch_of(task.tokenizer, pairs))
    assert scores.tolist() == [1.0, 0.0, 1.0]


@pytest.mark.parametrize("ended, wanted", [(True, [2.0, 2.0]), (False, [-5.0, -5.0])])
def test_the_eos_rule_still_applies(ended, wanted):
    score = RuleScore(lambda prompt, response: 2.0, WORDS)
    batch = batch_of(WORDS, [("a", "b"), ("b", "c")], ended)
    scores, found = score_responses(
        score, batch, config=PPOConfig(no_eos_score=-5.0), eos_id=WORDS.eos_id
    )
    assert scores.tolist() == wanted and found.tolist() == [ended, ended]
