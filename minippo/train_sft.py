"""Next-token training: of a fresh model on a task's text (pretraining), then on its demonstrations
(fine-tuning).

Both are the same loss, the mean of -log pi over the tokens that are to be learned; which those are,
the task says. What is only read (a post of the task tldr, the prompt of a demonstration) is in the
context and not in the loss: its words cannot be foretold, and learning to foretell them would drown
the little that is to be learned.
"""

import math

import torch
from torch.nn import functional as F

from minippo.errors import TrainingError
from minippo.tokenizer import pad_right

IGNORED = -100  # the label that cross_entropy leaves out
WARMUP_STEPS = 50


def next_token_loss(model, examples, pad_id):
    """The mean of -log pi over the target tokens of some Examples.

    Equation (0.15) L = -sum_i m_i log pi(x_i | x_<i) / sum_i m_i, with m_i = 1 where x_i is a
                    target
    Shapes   examples: lists of tokens and flags -> scalar.
    """
    labels = [
        [token if flag else IGNORED for token, flag in zip(example.tokens, example.is_target)]
        for example in examples
    ]
    device = next(model.parameters()).device
    # [B,S]
    tokens = pad_right([example.tokens for example in examples], pad_id)[0].to(device)
    targets = pad_right(labels, IGNORED)[0].to(device)
    # With the pads on the right no real token can read one: causal attention alone is enough, and
    # quicker.
    # [B,S-1,V]
    logits = model(tokens[:, :-1])
    return F.cross_entropy(logits.flatten(0, 1), targets[:, 1:].flatten(), ignore_index=IGNORED)


def train_next_token(model, draw_examples, *, steps, learning_rate, pad_id, stage, progress=iter):
    """Train a GPT on batches of Examples; returns the loss of every step.

    draw_examples(step) -> the Examples of that step. The learning rate warms up over 50 steps (or a
    tenth of them all) and falls along a cosine to a tenth. TrainingError when a loss or a gradient
    is not finite.
    """
    optimizer = torch.optim.AdamW(
        model.named_parameters(), lr=learning_rate, betas=(0.9, 0.98), weight_decay=0.01
    )
    losses = []
    for step in progress(range(steps)):
        loss = next_token_loss(model, draw_examples(step), pad_id)
        take_step(
            optimizer,
            loss,
            warmup_then_cosine(step, steps) * learning_rate,
            where=f"{stage}, step {step + 1}",
        )
        losses.append(loss.item())
    optimizer.zero_grad()  # the last gradients would be copied with the model
    return losses


def take_step(optimizer, loss, learning_rate, *, where, max_grad_norm=1.0):
    """One optimiser step at this learning rate, with the gradient's norm held down; returns the
    norm it had.

    TrainingError names the stage, the step and the tensor when the loss or a gradient is not
    finite: nothing is skipped over. The optimiser must have been made with named parameters.
    """
    check_finite(where, loss=loss)
    optimizer.zero_grad()
    loss.backward()
    named = [
        (name, parameter)
        for name, parameter in named_parameters(optimizer)
        if parameter.grad is not None
    ]
    parameters = [parameter for _, parameter in named]
    norm = torch.nn.utils.get_total_norm([parameter.grad for parameter in parameters])
    if not math.isfinite(norm):
        check_finite(
            where,
            **{
                f"P010 grad-none: the gradient of {name}": parameter.grad
                for name, parameter in named
            },
        )
        check_finite(where, **{"the gradient's norm": norm})
    torch.nn.utils.clip_grads_with_norm_(parameters, max_grad_norm, norm)
    for group in optimizer.param_groups:
        group["lr"] = learning_rate
    optimizer.step()
    return norm.item()


def named_weights(**models):
    """[("policy.wte.weight", parameter) and so on] of these models, each under its own name."""
    return [
        (f"{model_name}.{name}", parameter)
        for model_name, model in models.items()
        for name, parameter in model.named_parameters()
    ]


def named_parameters(optimizer):
    """[(name, parameter)] of an optimiser that was made with named parameters."""
    return [
        pair
        for group in optimizer.param_groups
        for pair in zip(group["param_names"], group["params"], strict=True)
    ]


def check_finite(where, advice="try a smaller learning rate", **tensors):
    """TrainingError with stage, step and name of the first tensor that holds a NaN or an
    infinity."""
    for name, tensor in tensors.items():
        bad = ~tensor.detach().isfinite()
        if bool(bad.any()):
            places = f" in {int(bad.sum())} of {bad.numel()} places" if bad.numel() > 1 else ""
            raise TrainingError(f"{where}: {name} is {tensor[bad][0].item()}{places}; {advice}")


def warmup_then_cosine(step, steps):
    """The share of the peak learning rate at a step: a cosine from 1 down to 0.1, and a linear rise
    in front of it."""
    warmup = min(WARMUP_STEPS, max(1, steps // 10))
    return min(1.0, (step + 1) / warmup) * (
        0.1 + 0.9 * 0.5 * (1 + math.cos(math.pi * step / steps))
    )
