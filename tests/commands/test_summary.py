"""What a run says at its end, worked out by hand where it can be."""

import math
import random
from types import SimpleNamespace

import pytest
import torch

from minippo.commands import summary
from minippo.commands.config import resolve
from minippo.commands.summary import (
    add_costs,
    first_rows,
    more_lines,
    optimality_of,
    response_probability,
    sample_rows,
    watched_answers,
)
from minippo.stages.evaluate import Answers
from minippo.tasks.arithmetic import Arithmetic
from minippo.tasks.capitals import Capitals
from tests.helpers import small_gpt

TASK = Capitals()


def optimum(objective, high):
    return {"objective": objective, "high": high}


def test_the_optimality_is_the_share_of_the_way():
    # from 1 to 5 there are 4, and the policy has gone 3 of them
    assert optimality_of({"objective": 4}, {"objective": 1}, optimum(5, 5.5)) == 0.75
    assert optimality_of({"objective": 0}, {"objective": 1}, optimum(5, 5.5)) == -0.25


def test_without_room_there_is_no_optimality():
    own, reference = {"objective": 1.2}, {"objective": 1.0}
    assert optimality_of(own, reference, optimum(1.0, 1.0)) is None
    assert optimality_of(own, reference, optimum(1.5, 2.0)) is None  # less than its own error
    assert optimality_of(own, reference, optimum(1.5, 1.9)) == pytest.approx(0.4)


def run_of(task=TASK, temperature=1.0):
    config = resolve({"task": "capitals", "temperature": temperature})
    return SimpleNamespace(
        task=task,
        config=config,
        device=torch.device("cpu"),
        prompt_tensors=task.prompt_batch,
        seconds={"sft": 2.0, "policy": 3.0},
        seconds_of_writing=0.5,
    )


def model(seed=0):
    return small_gpt(TASK.tokenizer.vocab_size, 32, seed=seed)


@pytest.mark.parametrize("temperature", [1.0, 0.5])
def test_the_probability_of_a_response_is_the_product_of_its_tokens(temperature):
    prompt, right, _ = TASK.answers_to_watch()[0]
    gpt, read, said = model(), TASK.prompt_ids(prompt), TASK.response_ids(right)
    logits = gpt(torch.tensor([read + said]))[0] / temperature
    log_pi = torch.log_softmax(logits, dim=-1)
    wanted = sum(log_pi[len(read) - 1 + i, token].item() for i, token in enumerate(said))
    found = response_probability(run_of(temperature=temperature), gpt, prompt, right)
    assert found == pytest.approx(math.exp(wanted))


def test_watched_answers_hold_both_probabilities_before_and_after():
    before, after = model(0), model(1)
    rows = watched_answers(run_of(), before, after)
    assert [row["prompt"] for row in rows] == [prompt for prompt, *_ in TASK.answers_to_watch()]
    row = rows[3]
    for when, gpt in (("before", before), ("after", after)):
        for kind in ("right", "rival"):
            wanted = response_probability(run_of(), gpt, row["prompt"], row[kind])
            assert row[f"{kind}_{when}"] == wanted


def test_the_table_names_each_watched_answer_and_their_mean():
    row = {"prompt": "q", "right": "a", "rival": "b"}
    numbers = {"right_before": 0.1, "right_after": 0.7, "rival_before": 0.5, "rival_after": 0.2}
    second = row | {"prompt": "r"} | numbers | {"right_before": 0.3, "right_after": 0.9}
    machine = {"device": "cpu", "threads": 2, "seconds_in_matmul_loops": 12.3}
    lines = more_lines({"answers": [row | numbers, second], **machine})
    assert lines["q"] == "a 0.100 -> 0.700, b 0.500 -> 0.200"
    assert lines["right answer, mean"] == "0.200 -> 0.800"
    assert lines["machine"].startswith("cpu, 2 threads; the run took 12 times")
    assert set(more_lines({"answers": None, **machine})) == {"machine"}


def test_costs_are_the_sum_of_the_stages():
    summary = {"matmul_loop_seconds": 0.1}
    add_costs(run_of(), summary)
    assert summary["seconds"] == {"sft": 2.0, "policy": 3.0, "total": 5.0}
    assert summary["seconds_in_matmul_loops"] == pytest.approx(50)
    assert summary["seconds_of_writing"] == 0.5 and summary["peak_memory_mib"] > 0


def test_samples_put_before_and_after_beside_their_prompt():
    def answers(*texts):
        axes = [{"a": 1.0, "b": len(text)} for text in texts]
        return Answers(list(texts), [1, 1], [True, True], [float(len(t)) for t in texts], axes)

    rows = sample_rows(["p", "q"], answers("x", "yy"), answers("zzz", ""))
    assert rows[0] == {
        "prompt": "p",
        "before": "x",
        "after": "zzz",
        "score_before": 1.0,
        "score_after": 3.0,
        "gold_before": 2.0,
        "gold_after": 4.0,
    }
    assert rows[1]["prompt"] == "q" and rows[1]["gold_after"] == 1.0


def test_gold_on_training_prompts_is_that_of_before_and_after(monkeypatch):
    asked = []

    def answers(run, models, score, prompts, of):
        asked.extend(prompts)
        pair = [[{"a": value} for _ in prompts] for value in (0.25, 0.75)]
        return [Answers([""] * len(axes), [1], [True], [0.0], axes) for axes in pair]

    monkeypatch.setattr(summary, "before_and_after", answers)
    few = Arithmetic(5)
    config = SimpleNamespace(eval=SimpleNamespace(eval_prompts=7))
    run = SimpleNamespace(task=few, config=config, rng=lambda name: random.Random(0))
    assert summary.gold_on_training_prompts(run, None, None) == {
        "sft": 0.25,
        "policy": 0.75,
        "different_prompts": 5,
    }
    assert len(asked) == 7 and set(asked) == set(few.fixed_prompts())


def test_the_first_prompts():
    tokens, mask = first_rows((torch.arange(6).view(3, 2), torch.ones(3, 2, dtype=torch.bool)), 2)
    assert tokens.tolist() == [[0, 1], [2, 3]] and mask.shape == (2, 2)
