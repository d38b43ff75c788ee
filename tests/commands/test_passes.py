"""How often a run sees its data: worked out by hand, and said where the data does not grow."""

from types import SimpleNamespace

import pytest

from minippo.commands.config import resolve
from minippo.commands.passes import passes
from minippo.tasks import Tldr

SETTINGS = {
    "task": "files",
    "pretrain_steps": 10,
    "pretrain_batch_size": 4,
    "sft_steps": 350,
    "sft_batch_size": 32,
    "reward_epochs": 5,
    "num_updates": 25,
    "batch_size": 32,
}


def line(amounts, **settings):
    task = SimpleNamespace(amounts=amounts)
    return passes(resolve(SETTINGS | settings), task)


def test_the_passes_by_hand():
    amounts = {"demonstration": 30, "pair": 30, "prompt": 60, "window": 100}
    # 40 windows, 350 * 32 demonstrations, 25 * 32 prompts
    assert line(amounts) == (
        "passes over the data: 0.4 over 100 windows (--pretrain_steps), "
        "373 over 30 demonstrations (--sft_steps), 5 over 30 pairs (--reward_epochs), "
        "13 over 60 prompts (--num_updates)",
        "30 demonstrations are seen 373 times, and a small model learns by heart what it sees so "
        "often (P013): fewer --sft_steps, or more demonstrations",
    )
    few = line(amounts | {"demonstration": 224})  # 50 times is not too often
    assert len(few) == 1 and "50 over 224 demonstrations" in few[0]
    assert len(line(amounts | {"demonstration": 223})) == 2


@pytest.mark.parametrize("number, text", [(1, "11200 over 1 demonstration "), (3200, "3.5 over")])
def test_few_and_many(number, text):
    amounts = {"demonstration": number, "pair": 1, "prompt": 1, "window": 1}
    assert text in line(amounts)[0] and "over 1 pair (" in line(amounts)[0]


def test_what_is_taken_over_is_not_pretrained():
    amounts = {"demonstration": 1, "pair": 1, "prompt": 1, "window": 1}
    assert "window" not in line(amounts, start_from="DIR2")[0]


def test_a_task_that_makes_its_data_has_no_passes():
    assert passes(resolve({}), Tldr()) == ()
