"""Low-rank adapters: a policy that trains a few numbers beside weights that it shares with the
reference.

The problem: the policy and the reference it is held near to are two copies of one model, and the
optimiser keeps three more numbers for each weight of the policy.

The idea: leave every weight W [O,I] as it is, and learn only a difference that is the product of
two thin matrices, A [r,I] and B [O,r]:

    y = x W^T + b + (alpha / r) (x A^T) B^T

- r (I + O) numbers are trained where there were I O.
- B starts at zero, so the difference starts at zero: the policy starts as the reference, exactly.
- W never moves, so the policy without its adapters IS the reference. `with_adapters` makes a policy
  on the very tensors of the model it is given, and the two are one trunk in memory.
- W + (alpha / r) B A is a weight like any other: `merged` writes the policy as a plain GPT.

The factor alpha / r keeps the size of a step about the same when r is changed. The price is that
the difference can have no more than r directions per matrix; and the learning rate that suits the
weights need not suit the adapters.

Source: Hu et al. 2021, arXiv:2106.09685, section 4.1. There only attention's matrices have
adapters; here all matrices of the blocks do. Embeddings, biases and LayerNorms are frozen.
"""

import copy

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from minippo.gpt import GPT, Linear

ALPHA = 16.0  # with r = 16 the factor is 1


class Adapted(nn.Module):
    """A linear layer with an adapter: Adapted(base, rank)(x [...,I]) -> [...,O].

    `weight` and `bias` are the parameters of `base` themselves, not copies.
    """

    def __init__(
        self,
        base: Linear,
        rank: int,
        *,
        alpha: float = ALPHA,
        generator: torch.Generator | None = None,
    ) -> None:
        super().__init__()
        self.weight, self.bias, self.scale = base.weight, base.bias, alpha / rank
        O, I = base.weight.shape  # noqa: E741
        # rows of length about 1: what A makes of a normalised x has the size of x's entries
        self.A = nn.Parameter(base.weight.new_empty(rank, I))
        nn.init.normal_(self.A, std=I**-0.5, generator=generator)
        self.B = nn.Parameter(base.weight.new_zeros(O, rank))

    def forward(self, x: Tensor) -> Tensor:
        return self.part(x, slice(None))

    def part(self, x: Tensor, outputs: slice) -> Tensor:
        """forward(x)[..., outputs], and no other output is computed."""
        as_it_was = F.linear(x, self.weight[outputs], self.bias[outputs])
        return as_it_was + self.scale * F.linear(F.linear(x, self.A), self.B[outputs])

    def merged_weight(self) -> Tensor:
        """The weight of the plain layer that does the same, [O,I]."""
        return self.weight + self.scale * self.B @ self.A


def with_adapters(
    gpt: GPT, rank: int, *, alpha: float = ALPHA, generator: torch.Generator | None = None
) -> GPT:
    """A policy that computes what `gpt` does, on its very weights, and has adapters to learn with.

    `gpt` is frozen by this, and stays what it is whatever the policy learns.
    """
    gpt.requires_grad_(False)
    # the modules are copied; a parameter is its own copy
    policy = copy.deepcopy(gpt, {id(parameter): parameter for parameter in gpt.parameters()})
    for name, layer in list(policy.h.named_modules()):
        if isinstance(layer, Linear):
            adapted = Adapted(layer, rank, alpha=alpha, generator=generator)
            policy.h.set_submodule(name, adapted)
    return policy


@torch.no_grad()
def has_adapters(model: nn.Module) -> bool:
    """Are only parts of this model trained, beside weights that are another's?"""
    return any(isinstance(module, Adapted) for module in model.modules())


def merged(policy: GPT) -> GPT:
    """A plain GPT that computes what the policy does, with weights of its own."""
    weights = policy.state_dict()
    for name, layer in policy.named_modules():
        if isinstance(layer, Adapted):
            del weights[f"{name}.A"], weights[f"{name}.B"]
            weights[f"{name}.weight"] = layer.merged_weight()
    plain = GPT(policy.config).to(policy.wte.weight)
    plain.load_state_dict(weights)
    return plain.train(policy.training)
