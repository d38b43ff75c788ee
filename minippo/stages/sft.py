"""Supervised fine-tuning: the pretrained GPT goes on with the task's demonstrations.

The prompt of a demonstration is read, its completion is learned. What comes out is the policy that
PPO starts from, and the reference that it is held near to.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from random import Random

from minippo.gpt import GPT
from minippo.settings import Checked, count, positive
from minippo.stages.pretrain import train_next_token
from minippo.tasks.base import Task


@dataclass(frozen=True)
class SFTConfig(Checked):
    """Next-token loss on the demonstrations' completions."""

    sft_steps: int = count(80, "optimiser steps")
    sft_batch_size: int = count(64, "demonstrations per step")
    sft_learning_rate: float = positive(2e-3, "peak; warm-up, then a cosine down to a tenth")


def train_on_demonstrations(
    model: GPT,
    task: Task,
    *,
    config: SFTConfig,
    rng: Random,
    progress: Callable[[Iterable], Iterable] = iter,
) -> list[float]:
    """Train the GPT in place on demonstrations of the task; returns the loss of every step."""
    return train_next_token(
        model,
        lambda step: [
            task.demonstration_example(*pair)
            for pair in task.demonstrations(config.sft_batch_size, rng=rng)
        ],
        steps=config.sft_steps,
        learning_rate=config.sft_learning_rate,
        pad_id=task.tokenizer.pad_id,
        stage="sft",
        progress=progress,
    )
