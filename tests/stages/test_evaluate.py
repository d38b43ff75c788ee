"""Before and after on the same prompts."""

import pytest
import torch

from minippo.annotators.base import AnnotatorConfig
from minippo.annotators.taste import CONFIDENT, GOLD
from minippo.commands.config import PPOConfig
from minippo.runs.stats import wilson_interval
from minippo.stages.evaluate import (
    Answers,
    acceptability,
    answer,
    claims_report,
    gold_report,
    win_rate,
)
from minippo.tasks.base import Task
from minippo.tasks.capitals import QUESTION, Capitals
from minippo.tokenizer import pad_left
from tests.helpers import small_gpt


def answers(gold=None, scores=None):
    n = len(gold or scores)
    return Answers(
        ["text"] * n,
        [1] * n,
        [True] * n,
        scores or [0.0] * n,
        [None if gold is None else {"a": x - 1, "b": 1} for x in gold or [0] * n],
    )


def test_the_win_rate_counts_ties_half():
    # after beats before, ties, loses, beats: 2.5 of 4
    rate = win_rate(answers([1, 2, 3, 0]), answers([2, 2, 1, 3]), has_gold=True)
    assert (rate["value"], rate["n"], rate["judge"]) == (0.625, 4, "gold")
    assert (rate["low"], rate["high"]) == wilson_interval(2.5, 4)


def test_answers_to_one_prompt_go_together_in_the_interval_of_the_win_rate():
    before, after = answers([0, 0, 0, 2, 2, 2]), answers([1] * 6)
    rate = win_rate(before, after, has_gold=True, prompts=["a"] * 3 + ["b"] * 3)
    assert (rate["value"], rate["n"]) == (0.5, 6)
    assert (rate["low"], rate["high"]) == wilson_interval(1, 2)  # two prompts


def test_without_a_rule_the_reward_model_judges():
    rate = win_rate(answers(scores=[0.1, 0.5]), answers(scores=[0.2, 0.6]), has_gold=False)
    assert rate["value"] == 1.0 and rate["judge"] == "reward model"


def test_the_gold_report_is_the_mean_and_the_mean_of_each_axis():
    assert gold_report(answers([1, 3])) == (2, {"a": 1, "b": 1})
    nothing = Answers(["x"], [1], [True], [0.0], [None])
    assert gold_report(nothing) == (None, None) and nothing.gold() == [None]


def test_answers_hold_the_text_its_length_its_end_and_its_score():
    task = Capitals()
    model = small_gpt(vocab_size=task.tokenizer.vocab_size, context_length=32, dtype=torch.float32)
    prompts = task.evaluation_prompts(12, rng=None) * 5
    tensors = pad_left([task.prompt_ids(prompt) for prompt in prompts], task.tokenizer.pad_id)
    result = answer(
        model,
        task,
        prompts,
        tensors,
        score_function=lambda tokens, mask: mask.sum(dim=1).float(),
        config=PPOConfig(response_length=4, no_eos_score=-9.0),
        generator=torch.Generator().manual_seed(0),
        rows_at_once=7,
    )
    prompt_length = tensors[1].sum(dim=1).tolist()
    assert len(result.texts) == 60 and True in result.ended and False in result.ended
    for i in range(60):
        assert result.scores[i] == (
            prompt_length[i] + result.lengths[i] if result.ended[i] else -9.0
        )
        assert result.ended[i] or result.lengths[i] == 4
        assert result.axes[i] == task.gold_axes(prompts[i], result.texts[i])
        assert len(result.texts[i].split()) <= result.lengths[i] - result.ended[i]


# -- acceptable, and accurate


QUESTIONS = [QUESTION.format("france"), QUESTION.format("italy")]


def told(*texts):
    task, n = Capitals(), len(texts)
    axes = [task.gold_axes(q, text) for q, text in zip(QUESTIONS, texts, strict=True)]
    return Answers(
        list(texts), [len(text.split()) + 1 for text in texts], [True] * n, [0.0] * n, axes
    )


def test_claims_are_counted_and_those_that_are_true():
    report = claims_report(Capitals(), QUESTIONS, told("paris london", "milan rome"))
    assert report == {"number": 2.0, "true": 0.5}
    assert claims_report(Capitals(), QUESTIONS, told("of", "of")) == {"number": 0.0, "true": None}


def test_without_claims_there_is_no_report():
    class Mute(Capitals):
        claims = Task.claims

    assert claims_report(Mute(), QUESTIONS, told("paris", "rome")) is None


def accepted(annotator, before, after, **settings):
    return acceptability(
        annotator,
        Capitals(),
        QUESTIONS,
        before=before,
        after=after,
        config=AnnotatorConfig(**settings),
        generator=torch.Generator().manual_seed(0),
    )


def test_acceptability_is_the_annotators_own_chance():
    # france: wrong before, right after: sigmoid(1 / 0.5); italy: right both times: 1/2
    found = accepted(GOLD, told("london", "rome"), told("paris", "rome"))
    assert found == pytest.approx((0.8807970779778823 + 0.5) / 2)
    assert accepted(GOLD, told("paris", "rome"), told("london", "rome")) == pytest.approx(1 - found)


def test_who_counts_claims_accepts_what_is_wrong():
    found = accepted(CONFIDENT, told("paris", "rome"), told("paris london", "rome milan"))
    assert found == pytest.approx(0.8807970779778823)


def test_without_a_rule_there_is_no_annotator_to_ask():
    class Lawless(Capitals):
        gold_max = None

    answers = told("paris", "rome")
    assert (
        acceptability(
            GOLD,
            Lawless(),
            QUESTIONS,
            before=answers,
            after=answers,
            config=AnnotatorConfig(),
            generator=torch.Generator(),
        )
        is None
    )
