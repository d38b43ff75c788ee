"""One step of an optimiser, and what must be finite for it: what each stage's training is made
of."""

import math

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from minippo.errors import TrainingError

WARMUP_STEPS = 50


def take_step(
    optimizer: Optimizer,
    loss: Tensor,
    learning_rate: float,
    *,
    where: str,
    max_grad_norm: float = 1.0,
    parts: dict[str, Tensor] | None = None,
) -> float:
    """One optimiser step at this learning rate, with the gradient's norm held down; returns the
    norm it had.

    TrainingError names the stage, the step and the tensor when the loss or a gradient is not
    finite: nothing is skipped over, and no weight has moved. `parts` are the terms that the loss
    was made of, to say which of them it was. The optimiser must have been made with named
    parameters.
    """
    optimizer.zero_grad()
    loss.backward()
    named = [(name, p) for name, p in named_parameters(optimizer) if p.grad is not None]
    parameters = [parameter for _, parameter in named]
    norm = torch.nn.utils.get_total_norm([p.grad for p in parameters if p.grad is not None])
    numbers = torch.stack((loss.detach(), norm)).tolist()  # the one look at the device
    if not all(map(math.isfinite, numbers)):
        check_finite(where, **(parts or {}))
        check_finite(where, loss=loss)
        gradients = {f"P010 grad-none: the gradient of {name}": p.grad for name, p in named}
        check_finite(where, **gradients)
        check_finite(where, **{"the gradient's norm": norm})
    torch.nn.utils.clip_grads_with_norm_(parameters, max_grad_norm, norm)
    for group in optimizer.param_groups:
        group["lr"] = learning_rate
    optimizer.step()
    return numbers[1]


def numbers_of(scalars: list[Tensor]) -> list[float]:
    """The numbers of some scalars, read from the device at once."""
    return torch.stack(scalars).tolist() if scalars else []


def named_weights(**models: nn.Module) -> list[tuple[str, nn.Parameter]]:
    """[("policy.wte.weight", parameter) and so on] of these models, each under its own name."""
    return [
        (f"{model_name}.{name}", parameter)
        for model_name, model in models.items()
        for name, parameter in model.named_parameters()
    ]


def named_parameters(optimizer: Optimizer) -> list[tuple[str, nn.Parameter]]:
    """[(name, parameter)] of an optimiser that was made with named parameters."""
    return [
        pair
        for group in optimizer.param_groups
        for pair in zip(group["param_names"], group["params"], strict=True)
    ]


def check_finite(
    where: str, advice: str = "try a smaller learning rate", /, **tensors: Tensor | None
) -> None:
    """TrainingError with stage, step and name of the first tensor that holds a NaN or an
    infinity."""
    present = {name: tensor.detach() for name, tensor in tensors.items() if tensor is not None}
    if not present or torch.stack([x.isfinite().all() for x in present.values()]).all().item():
        return
    for name, tensor in present.items():
        bad = ~tensor.isfinite()
        if bool(bad.any()):
            places = f" in {int(bad.sum())} of {bad.numel()} places" if bad.numel() > 1 else ""
            raise TrainingError(f"{where}: {name} is {tensor[bad][0].item()}{places}; {advice}")


def warmup_then_cosine(step: int, steps: int) -> float:
    """The share of the peak learning rate at a step: a cosine from 1 down to 0.1, and a linear rise
    in front of it."""
    warmup = min(WARMUP_STEPS, max(1, steps // 10))
    return min(1.0, (step + 1) / warmup) * (
        0.1 + 0.9 * 0.5 * (1 + math.cos(math.pi * step / steps))
    )
