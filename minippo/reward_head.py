"""The reward model: a GPT trunk and one scalar, read at the last real token; and the loss that
trains it.

A response is judged as a whole, so its score is read where the model has seen all of it.
`per_token` shows what the same head says at every earlier position: those numbers are never trained
and mean little.
"""

import copy
from dataclasses import replace

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from minippo.gpt import GPT, KVCache
from minippo.shapes import check_dtype, check_shape


class RewardModel(nn.Module):
    """RewardModel(gpt)(tokens [B,S], mask [B,S] bool or None) -> scores [B].

    The trunk is a copy of `gpt`, or with `layers` of its first blocks; the head starts random and
    small. score = (raw - center) / scale,
    where `center` and `scale` are constants that are set once after training (0 and 1 until then).
    """

    center: Tensor
    scale: Tensor

    def __init__(
        self, gpt: GPT, *, layers: int | None = None, generator: torch.Generator | None = None
    ) -> None:
        super().__init__()
        # the copy of a frozen model can be trained
        self.trunk = first_blocks(gpt, layers).requires_grad_(True)
        self.head = nn.Linear(
            gpt.config.n_embd, 1, device=gpt.wte.weight.device, dtype=gpt.wte.weight.dtype
        )
        nn.init.normal_(self.head.weight, std=(gpt.config.n_embd + 1) ** -0.5, generator=generator)
        nn.init.zeros_(self.head.bias)
        self.register_buffer("center", self.head.bias.new_zeros(()))
        self.register_buffer("scale", self.head.bias.new_ones(()))

    def forward(
        self, tokens: Tensor, mask: Tensor | None = None, cache: KVCache | None = None
    ) -> Tensor:
        rows = torch.arange(len(tokens), device=tokens.device)
        last = (rows.unsqueeze(1), last_real_token(tokens, mask).unsqueeze(1))
        return self.score(self.trunk.hidden(tokens, mask, cache, read=last)[:, 0])  # [B]

    def per_token(self, tokens: Tensor, mask: Tensor | None = None) -> Tensor:
        """The head at every position, [B, S]; 0 at pads."""
        scores = self.score(self.trunk.hidden(tokens, mask))
        return scores if mask is None else torch.where(mask, scores, 0.0)

    def score(self, hidden: Tensor) -> Tensor:
        """[..., D] -> [...]."""
        return (self.head(hidden).squeeze(-1) - self.center) / self.scale


def first_blocks(gpt: GPT, layers: int | None) -> GPT:
    """A copy of a GPT that ends after its first `layers` blocks; None: all of them.

    What is left out is what the last blocks would have added to the stream. The last LayerNorm is
    kept and now reads an earlier stream than it was trained on; training the smaller model mends
    that. ValueError: there are not that many blocks.
    """
    if layers is not None and not 1 <= layers <= gpt.config.n_layer:
        raise ValueError(f"layers: wanted 1 to {gpt.config.n_layer}, got {layers}")
    trunk = copy.deepcopy(gpt)
    if layers is not None and layers < gpt.config.n_layer:
        trunk.h = trunk.h[:layers]
        trunk.config = replace(gpt.config, n_layer=layers)
    return trunk


def last_real_token(tokens: Tensor, mask: Tensor | None) -> Tensor:
    """The index of each row's last True, [B]; the last column where there is no mask."""
    if mask is None:
        return torch.full((len(tokens),), tokens.shape[1] - 1, device=tokens.device)
    if not bool(mask.any(dim=1).all()):
        raise ValueError("mask: a row without a real token has no score")
    return (mask * torch.arange(1, mask.shape[1] + 1, device=mask.device)).argmax(dim=1)


def bradley_terry_loss(*, chosen_scores: Tensor, rejected_scores: Tensor) -> Tensor:
    """How badly the scores explain that people chose what they chose.

    Equation (0.14) L = -mean_n log sigmoid(chosen_n - rejected_n)
    Source   Bradley and Terry 1952; as a reward-model loss: Stiennon et al. 2020, arXiv:2009.01325,
             section 3.4.
    Shapes   chosen_scores, rejected_scores [N] float -> scalar.
    Gradient to both; it depends on differences only, so a constant added to all scores changes
    nothing.
    Limits   equal scores: log 2; chosen far above: 0; chosen far below: the margin itself.
    Raises   ValueError: shapes differ, not one-dimensional, no pair.
    """
    check_shape("chosen_scores", chosen_scores, "N")
    check_dtype("float", rejected_scores=rejected_scores)
    if rejected_scores.shape != chosen_scores.shape:
        raise ValueError(
            f"rejected_scores must have the shape of chosen_scores, {list(chosen_scores.shape)}, "
            f"got {list(rejected_scores.shape)}"
        )
    if chosen_scores.numel() == 0:
        raise ValueError("chosen_scores: no pair")
    return -F.logsigmoid(chosen_scores - rejected_scores).mean()
