"""The critic: a GPT trunk and one scalar at every position, V(s) = the return to be expected from
this prefix on.

It has the shape of the reward model and another task. The reward model reads a finished response
and stays frozen; the critic reads every prefix and learns all along what the present policy will
make of it.
"""

import copy

import torch
from torch import Tensor, nn

from minippo.gpt import GPT, Positions
from minippo.reward_head import RewardModel


class Critic(nn.Module):
    """Critic(gpt)(tokens [B,S], mask [B,S] bool or None) -> values [B,S]; 0 at pads. With `read`
    (see gpt.py) only those values are computed, [B,R].

    The trunk is a copy of `gpt`. The head starts at zero, so the first values are 0 whatever the
    trunk says.
    """

    def __init__(self, gpt: GPT) -> None:
        super().__init__()
        # the copy of a frozen model can be trained
        self.trunk = copy.deepcopy(gpt).requires_grad_(True)
        self.head = nn.Linear(
            gpt.config.n_embd, 1, device=gpt.wte.weight.device, dtype=gpt.wte.weight.dtype
        )
        nn.init.zeros_(self.head.weight)
        nn.init.zeros_(self.head.bias)

    @classmethod
    def sharing(cls, policy: GPT) -> "Critic":
        """A critic whose trunk is the policy's own, not a copy: what one learns moves the other."""
        critic = cls(policy)
        critic.trunk = policy
        return critic

    @classmethod
    def from_reward_model(cls, reward_model: RewardModel) -> "Critic":
        """A critic that starts as a copy of the reward model: trunk, head, centring and scale."""
        critic = cls(reward_model.trunk)
        with torch.no_grad():
            critic.head.weight.copy_(reward_model.head.weight / reward_model.scale)
            critic.head.bias.copy_(
                (reward_model.head.bias - reward_model.center) / reward_model.scale
            )
        return critic

    @classmethod
    def start(cls, reward_model: RewardModel, gpt: GPT) -> "Critic":
        """From the reward model where that is as large as the policy, and else from `gpt`, the
        fine-tuned model, with a head of zeros."""
        if reward_model.trunk.config == gpt.config:
            return cls.from_reward_model(reward_model)
        return cls(gpt)

    def forward(
        self, tokens: Tensor, mask: Tensor | None = None, read: Positions | None = None
    ) -> Tensor:
        values = self.head(self.trunk.hidden(tokens, mask, read=read)).squeeze(-1)  # [B, S]
        if mask is None:
            return values
        return torch.where(mask if read is None else mask[read], values, 0.0)
