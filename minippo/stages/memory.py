"""How many bytes a policy's training holds, and what for.

    models       the weights of policy, reference, reward model and critic; what two of them share
                 is counted once, at the first
    gradients    a number for each weight that is trained
    optimiser    Adam's two averages of that number
    activations  what the forward passes of one optimiser step keep until the backward pass has
                 read it: the most at any moment of the first update

All four are counted, none is worked out from a formula. Not counted: the rollout, the keys and
values of the tokens being sampled, what a single operation needs for itself, and TRPO's vectors
beside the weights.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

from torch import Tensor, nn
from torch.autograd.graph import saved_tensors_hooks

from minippo.rollout import Models
from minippo.stages.policy import Step, trained

Bytes = dict[str, int]


def place_of(tensor: Tensor) -> int:
    """The address of the memory that a tensor looks into; views of one tensor share it. A tensor
    that shows no memory (a subclass may not) has a place of its own, below 0."""
    try:
        return tensor.untyped_storage().data_ptr()
    except RuntimeError:
        return -id(tensor)


def size_of(tensor: Tensor) -> int:
    """The bytes of that memory."""
    try:
        return tensor.untyped_storage().nbytes()
    except RuntimeError:
        return tensor.numel() * tensor.element_size()


def new_bytes(tensors: Iterable[Tensor], seen: set[int]) -> int:
    """The bytes of the memory behind these tensors, without what has been seen before."""
    total = 0
    for tensor in tensors:
        if place_of(tensor) not in seen:
            seen.add(place_of(tensor))
            total += size_of(tensor)
    return total


def bytes_of_models(models: Mapping[str, nn.Module | None]) -> Bytes:
    """{name: bytes of parameters and buffers}, each once; 0 where there is no model."""
    seen: set[int] = set()
    return {
        name: 0 if model is None else new_bytes([*model.parameters(), *model.buffers()], seen)
        for name, model in models.items()
    }


class SavedForBackward(saved_tensors_hooks):
    """While it is open, watches what autograd keeps for backward passes beside the weights of these
    models; `most` is the largest number of bytes that there was at one time."""

    def __init__(self, *models: nn.Module | None) -> None:
        super().__init__(self._keep, lambda kept: kept.tensor)
        given = [model for model in models if model is not None]
        self.weights = {place_of(x) for model in given for x in model.parameters()}
        self.users: dict[int, int] = {}  # place -> saved tensors that look into it
        self.now = self.most = 0

    def _keep(self, tensor: Tensor) -> "_Kept":
        return _Kept(tensor.detach(), self)

    def add(self, tensor: Tensor, users: int) -> None:
        """One saved tensor more, or with -1 one less."""
        place = place_of(tensor)
        if place in self.weights:
            return
        before = self.users.get(place, 0)
        self.users[place] = before + users
        if 0 in (before, before + users):  # the first one, or the last one
            self.now += users * size_of(tensor)
            self.most = max(self.most, self.now)


class _Kept:
    """A tensor that autograd keeps; when it lets go of it, the count falls."""

    def __init__(self, tensor: Tensor, count: SavedForBackward) -> None:
        self.tensor, self.count = tensor, count
        count.add(tensor, 1)

    def __del__(self) -> None:
        self.count.add(self.tensor, -1)


def watch_first(
    updates: Iterable[Step], models: Models, tell: Callable[[Bytes], Any]
) -> Iterator[Step]:
    """The same steps. `tell` is given the bytes of the first one, without the models', before it is
    passed on."""
    steps, saved = iter(updates), SavedForBackward(*models)
    with saved:
        first = next(steps, None)
    if first is None:
        return
    gradients = [
        p.grad for m in trained(models).values() for p in m.parameters() if p.grad is not None
    ]
    averages = [x for name, x in first.state()[0].items() if name.startswith("optimizer ")]
    tell(
        {
            "gradients": new_bytes(gradients, set()),
            "optimiser": new_bytes(averages, set()),
            "activations": saved.most,
        }
    )
    yield first
    yield from steps


def memory_report(
    models: Models, reward_model: nn.Module | None, of_update: Bytes
) -> dict[str, Any]:
    """The models and what an update needs beside them: summary["memory"]."""
    named = {
        "reference": models.reference,
        "reward_model": reward_model,
        "policy": models.policy,  # with LoRA the adapters: the rest is the reference's
        "critic": models.critic,  # on a shared trunk the head: the rest is the policy's
    }
    sizes = bytes_of_models(named)
    return {"models": sizes, **of_update, "total": sum(sizes.values()) + sum(of_update.values())}
