"""Everything that the rest of a policy's training depends on, as tensors and plain numbers.

The weights are not enough: Adam's averages decide the next step, the random generator the next
rollout, and an adaptive coefficient the next loss. With all of them a training that was stopped
goes on as if it had not been.
"""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from minippo.errors import InputError
from minippo.runs.moments import are_moments
from minippo.runs.read import first_words, is_number
from minippo.stages.optimise import named_parameters

NamedModels = Mapping[str, nn.Module]  # those that are trained, by name
OF_ADAM = {"step", "exp_avg", "exp_avg_sq"}
OF_AN_UPDATE = ("gradients", "optimiser", "activations")  # bytes, of stages.memory
WORDS = 624  # of the state of a random.Random; then the place where the next number is read


def training_tensors(
    *, models: NamedModels, optimizers: list[Optimizer], generator: torch.Generator
) -> dict[str, Tensor]:
    """{name: tensor} of what is trained of the models, of the optimisers' averages and of the
    generator."""
    tensors: dict[str, Tensor] = {}
    for model_name, model in models.items():
        frozen = frozen_tensors(model)
        moving = {name: x for name, x in model.state_dict().items() if name not in frozen}
        tensors |= {f"{model_name}.{name}": tensor for name, tensor in moving.items()}
    for number, optimizer in enumerate(optimizers):
        for index, (_, parameter) in enumerate(named_parameters(optimizer)):
            for name, value in optimizer.state.get(parameter, {}).items():
                tensors[f"optimizer {number}.{index}.{name}"] = value
    return tensors | {"generator": generator.get_state()}


def frozen_tensors(model: nn.Module) -> dict[str, Tensor]:
    """The parameters that no training moves, as under LoRA most of the policy's; a state does not
    hold them."""
    return {name: p.detach() for name, p in model.named_parameters() if not p.requires_grad}


@torch.no_grad()
def restore_training(
    tensors: dict[str, Tensor],
    *,
    models: NamedModels,
    optimizers: list[Optimizer],
    generator: torch.Generator,
) -> None:
    """Put back what training_tensors took. InputError when the tensors are not those of such a
    training."""
    try:
        for name, model in models.items():
            model.load_state_dict(_below(f"{name}.", tensors) | frozen_tensors(model))
            _check_finite(f"{name}.", model)
        for number, optimizer in enumerate(optimizers):
            _restore_averages(f"optimizer {number}.", tensors, optimizer)
        generator.set_state(tensors["generator"])
    except (KeyError, RuntimeError, TypeError, ValueError) as error:
        raise InputError(
            f"tensors.safetensors: not the state of this training ({first_words(error)})"
        ) from error


def _restore_averages(prefix: str, tensors: dict[str, Tensor], optimizer: Optimizer) -> None:
    for index, (_, parameter) in enumerate(named_parameters(optimizer)):
        place = f"{prefix}{index}."
        averages = _averages(place, _below(place, tensors), parameter)
        if averages:
            optimizer.state[parameter] = averages


def _below(prefix: str, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """The tensors whose names begin with the prefix, without it."""
    return {
        name.removeprefix(prefix): tensor
        for name, tensor in tensors.items()
        if name.startswith(prefix)
    }


def _averages(prefix: str, own: dict[str, Tensor], parameter: Tensor) -> dict[str, Tensor]:
    """What Adam is to keep for a parameter; nothing where it has not moved yet."""
    for name, tensor in own.items():
        _check_average(prefix, name, tensor, parameter)
    if own and own.keys() != OF_ADAM:
        raise ValueError(f"{prefix}*: wanted {', '.join(sorted(OF_ADAM))}")
    return {name: tensor.to(parameter.device, copy=True) for name, tensor in own.items()}


def _check_finite(prefix, model):
    for name, tensor in model.state_dict().items():
        if not bool(tensor.isfinite().all()):
            raise ValueError(f"{prefix}{name}: not a finite number")


def _check_average(prefix, name, tensor, parameter):
    """ValueError unless the tensor is one that Adam keeps for this parameter."""
    shape = () if name == "step" else parameter.shape
    if tensor.shape != shape:
        raise ValueError(f"{prefix}{name}: got shape {list(tensor.shape)}, wanted {list(shape)}")
    if tensor.dtype != parameter.dtype or not bool(tensor.isfinite().all()):
        raise ValueError(f"{prefix}{name}: not finite numbers of type {parameter.dtype}")
    if name == "step" and tensor < 1 or name == "exp_avg_sq" and bool((tensor < 0).any()):
        raise ValueError(f"{prefix}{name}: less than Adam ever has")


def check_numbers(numbers: Any, update: int, also: tuple[str, ...] = ()) -> None:
    """InputError, with the field, unless these are the plain numbers of a state after this update.

    also: names of more numbers above 0 that the algorithm goes on from.
    """
    minibatch = numbers.get("minibatch")
    good = {
        "update": type(numbers.get("update")) is int and numbers["update"] == update,
        "stage_seconds": is_number(numbers.get("stage_seconds")) and numbers["stage_seconds"] >= 0,
        "kl_coef": is_number(numbers.get("kl_coef")) and numbers["kl_coef"] > 0,
        "rng": _is_random_state(numbers.get("rng")),
        "minibatch": isinstance(minibatch, dict)
        and _are_pairs(minibatch.get("ratios"), minibatch.get("advantages")),
        "path": _is_path(numbers.get("path", [])),
        "memory": _are_bytes(numbers.get("memory")),
        "moments": are_moments(numbers.get("moments", [])),
    } | {name: is_number(numbers.get(name)) and numbers[name] > 0 for name in also}
    for name, is_good in good.items():
        if not is_good:
            raise InputError(
                f"update-{update:07}/numbers.json, field {name}: not that of a training after "
                f"update {update}"
            )


def _is_random_state(state):
    """The state of a random.Random as JSON has it. Words that are all 0 would give the same number
    forever."""
    if not (
        isinstance(state, list) and len(state) == 3 and state[0] == 3 and isinstance(state[1], list)
    ):
        return False
    *words, place = state[1] or [None]
    return (
        len(words) == WORDS
        and all(type(word) is int and 0 <= word < 2**32 for word in words)
        and any(words[1:])
        and type(place) is int
        and 0 <= place <= WORDS
        and (state[2] is None or is_number(state[2]))
    )


def _is_path(points):
    return isinstance(points, list) and all(
        isinstance(point, list) and len(point) == 3 and all(map(is_number, point))
        for point in points
    )


def _are_bytes(memory):
    return (
        isinstance(memory, dict)
        and memory.keys() == set(OF_AN_UPDATE)
        and all(type(number) is int and number >= 0 for number in memory.values())
    )


def _are_pairs(ratios, advantages):
    return (
        isinstance(ratios, list)
        and isinstance(advantages, list)
        and len(ratios) == len(advantages)
        and all(map(is_number, ratios))
        and all(map(is_number, advantages))
    )
