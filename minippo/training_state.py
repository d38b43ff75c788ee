"""Everything that the rest of a policy's training depends on, as tensors and plain numbers.

The weights are not enough: Adam's averages decide the next step, the random generator the next rollout, and an adaptive
coefficient the next loss. With all of them a training that was stopped goes on as if it had not been.
"""

import torch

from minippo.errors import InputError


def training_tensors(*, policy, critic, optimizers, generator):
    """{name: tensor} of both models, of the optimisers' averages and of the generator."""
    tensors = {f"policy.{name}": tensor for name, tensor in policy.state_dict().items()}
    tensors |= {f"critic.{name}": tensor for name, tensor in critic.state_dict().items()}
    for number, optimizer in enumerate(optimizers):
        for index, parameter in enumerate(_parameters(optimizer)):
            for name, value in optimizer.state.get(parameter, {}).items():
                tensors[f"optimizer {number}.{index}.{name}"] = value
    return tensors | {"generator": generator.get_state()}


@torch.no_grad()
def restore_training(tensors, *, policy, critic, optimizers, generator):
    """Put back what training_tensors took. InputError when the tensors are not those of such a training."""
    try:
        for prefix, model in (("policy.", policy), ("critic.", critic)):
            model.load_state_dict({name.removeprefix(prefix): tensor for name, tensor in tensors.items()
                                   if name.startswith(prefix)})
        for number, optimizer in enumerate(optimizers):
            for index, parameter in enumerate(_parameters(optimizer)):
                prefix = f"optimizer {number}.{index}."
                own = {name.removeprefix(prefix): tensor for name, tensor in tensors.items() if name.startswith(prefix)}
                for name, tensor in own.items():
                    if name != "step" and tensor.shape != parameter.shape:
                        raise ValueError(f"{prefix}{name}: got shape {list(tensor.shape)}, wanted {list(parameter.shape)}")
                    own[name] = tensor.clone() if name == "step" else tensor.to(parameter.device, copy=True)
                if own:
                    optimizer.state[parameter] = own
        generator.set_state(tensors["generator"])
    except (KeyError, RuntimeError, TypeError, ValueError) as error:
        raise InputError(f"not the state of this training ({str(error).splitlines()[0]})") from error


def _parameters(optimizer):
    return [parameter for group in optimizer.param_groups for parameter in group["params"]]
