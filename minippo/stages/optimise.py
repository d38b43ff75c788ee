"""One step of an optimiser, and what must be finite for it: what each stage's training is made
of."""

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from minippo.errors import TrainingError
from minippo.lora import has_adapters

WARMUP_STEPS = 50


def muon_and_adamw(
    model: nn.Module, *, learning_rate: float, weight_decay: float
) -> list[Optimizer]:
    """The optimisers of the supervised stages: Muon for the matrices of the blocks, AdamW for the
    rest (embeddings, biases, LayerNorms, a head).

    Muon makes all directions of a matrix's step equally long (it replaces the averaged gradient
    U S V^T by about U V^T), so that what the gradient says quietly is learned as fast as what it
    says loudly. Its steps are scaled to the size that AdamW's have, and one rate serves both.
    Source: Jordan et al. 2024, Muon; the scale: Liu et al. 2025, arXiv:2502.16982.
    """
    named = list(model.named_parameters())
    matrices = [(name, p) for name, p in named if ".h." in f".{name}" and p.dim() == 2]
    by_muon = {name for name, _ in matrices}
    rest = [(name, p) for name, p in named if name not in by_muon]
    return [
        torch.optim.Muon(
            matrices, lr=learning_rate, weight_decay=weight_decay, adjust_lr_fn="match_rms_adamw"
        ),
        torch.optim.AdamW(
            rest, lr=learning_rate, betas=(0.9, 0.98), weight_decay=weight_decay, fused=True
        ),
    ]


def take_step(
    optimizers: Sequence[Optimizer],
    loss: Tensor,
    learning_rate: float,
    *,
    where: str,
    max_grad_norm: float = 1.0,
    parts: dict[str, Tensor] | None = None,
) -> float:
    """One step of the optimisers at this learning rate, with the norm of the whole gradient held
    down; returns the norm it had.

    TrainingError names the stage, the step and the tensor when the loss or a gradient is not
    finite: nothing is skipped over, and no weight has moved. `parts` are the terms that the loss
    was made of, to say which of them it was. The optimisers must have been made with named
    parameters.
    """
    for optimizer in optimizers:
        optimizer.zero_grad()
    loss.backward()
    named = [
        (name, parameter)
        for optimizer in optimizers
        for name, parameter in named_parameters(optimizer)
        if parameter.grad is not None
    ]
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
    for optimizer in optimizers:
        for group in optimizer.param_groups:
            group["lr"] = learning_rate
        optimizer.step()
    return numbers[1]


def numbers_of(scalars: list[Tensor]) -> list[float]:
    """The numbers of some scalars, read from the device at once."""
    return torch.stack(scalars).tolist() if scalars else []


def named_weights(**models: nn.Module) -> list[tuple[str, nn.Parameter]]:
    """[("policy.wte.weight", parameter) and so on] of these models, each under its own name; of a
    model with adapters those only, since the rest belongs to another."""
    return [
        (f"{model_name}.{name}", parameter)
        for model_name, model in models.items()
        for name, parameter in model.named_parameters()
        if parameter.requires_grad or not has_adapters(model)
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
