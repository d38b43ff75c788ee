"""Next-token training: of a fresh model on a task's text (pretraining), then on its demonstrations
(fine-tuning, sft.py).

Both are the same loss, the mean of -log pi over the tokens that are to be learned; which those are,
the task says. What is only read (a post of the task tldr, the prompt of a demonstration) is in the
context and not in the loss: its words cannot be predicted, and learning to predict them would drown
the little that is to be learned.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from minippo.gpt import GPT
from minippo.settings import Checked, count, positive
from minippo.stages.optimise import muon_and_adamw, numbers_of, take_step, warmup_then_cosine
from minippo.tasks.base import Example
from minippo.tokenizer import pad_right

IGNORED = -100  # the label that cross_entropy leaves out


@dataclass(frozen=True)
class PretrainConfig(Checked):
    """Next-token loss on the task's text."""

    pretrain_steps: int = count(320, "optimiser steps")
    pretrain_batch_size: int = count(64, "documents per step")
    pretrain_learning_rate: float = positive(1e-2, "peak; warm-up, then a cosine down to a tenth")


def next_token_loss(model: GPT, examples: Sequence[Example], pad_id: int) -> Tensor:
    """The mean of -log pi over the target tokens of some Examples.

    Equation (0.15) L = -sum_i m_i log pi(x_i | x_<i) / sum_i m_i, with m_i = 1 where x_i is a
                    target
    Shapes   examples: lists of tokens and flags -> scalar.
    """
    device = next(model.parameters()).device
    tokens, _ = pad_right([example.tokens for example in examples], pad_id)  # [B,S]
    columns = [
        [i - 1 for i, flag in enumerate(example.is_target) if flag and i > 0]
        for example in examples
    ]  # of the tokens before the targets: where they are predicted
    read, is_there = pad_right(columns, 0)  # [B,R], R the most targets of a row
    rows = torch.arange(len(tokens)).unsqueeze(1)
    targets = torch.where(is_there, tokens[rows, read + 1], IGNORED)
    # With the pads on the right no real token can read one: causal attention alone is enough, and
    # quicker.
    hidden = model.hidden(tokens[:, :-1].to(device), read=(rows.to(device), read.to(device)))
    logits = model.logits(hidden)  # [B,R,V]
    return F.cross_entropy(logits.flatten(0, 1), targets.flatten().to(device), ignore_index=IGNORED)


def train_next_token(
    model: GPT,
    draw_examples: Callable[[int], Sequence[Example]],
    *,
    steps: int,
    learning_rate: float,
    pad_id: int,
    stage: str,
    progress: Callable[[Iterable], Iterable] = iter,
) -> list[float]:
    """Train a GPT on batches of Examples; returns the loss of every step.

    draw_examples(step) -> the Examples of that step. The learning rate warms up over 50 steps (or a
    tenth of them all) and falls along a cosine to a tenth. TrainingError when a loss or a gradient
    is not finite.
    """
    optimizers = muon_and_adamw(model, learning_rate=learning_rate, weight_decay=0.01)
    losses = []
    for step in progress(range(steps)):
        loss = next_token_loss(model, draw_examples(step), pad_id)
        rate = warmup_then_cosine(step, steps) * learning_rate
        take_step(optimizers, loss, rate, where=f"{stage}, step {step + 1}")
        losses.append(loss.detach())
    model.zero_grad()  # the last gradients would be copied with the model
    return numbers_of(losses)
