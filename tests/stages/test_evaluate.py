"""Before and after on the same prompts."""

import torch

from minippo.commands.config import PPOConfig
from minippo.runs.stats import wilson_interval
from minippo.stages.evaluate import Answers, answer, gold_report, win_rate
from minippo.tasks.capitals import Capitals
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
