"""lam on long responses: how much of what a first token was worth comes back to it.

The world is a chain of T tokens. In each state there are two to choose from, with probability 1/2
each, and the first one decides: the score is 1 or 0, and it comes at the end. So there are two
kinds of response, V is 1/2 in the first state, and the score itself in all that follow. The first
token's advantage is +-1/2, that of each other token 0.

A critic that knows nothing says 0 everywhere. Then the generalised advantage at the first token is
lam^(T-1) times the score, which comes from T - 1 tokens away, and lam takes its share at each. A
critic that has learned the score hands it on at once, whatever lam is. But its targets are made
with a lam too, and one below 1 brings it the score as slowly: after n exact fits, what arrives is
the probability of at most n heads in T - 1 throws of a coin that shows heads with probability
1 - lam. Hence two of them, 1 for the critic's targets and less for the policy (decoupled GAE).

Source   Yuan et al. 2025, arXiv:2503.01491 (VC-PPO).
"""

from typing import Any

import torch
from torch import Tensor

from minippo.gae import gae_advantages, value_targets
from minippo.ppo_statistics import explained_variance

LENGTHS, LENGTH = (1, 12, 24, 48), 48
LAM, CRITIC_LAMS, FITS = 0.95, (0.95, 1.0), (0, 1, 2, 4, 8)


def chain(length: int) -> dict[str, Tensor]:
    """Both kinds of response, each with probability 1/2: rewards and response_mask, [2,T]; the
    first row is the good one."""
    rewards = torch.zeros(2, length, dtype=torch.float64)
    rewards[0, -1] = 1.0
    return {"rewards": rewards, "response_mask": torch.ones(2, length, dtype=torch.bool)}


def share_that_arrives(batch: dict[str, Tensor], values: Tensor, lam: float) -> float:
    """By how much the two first tokens differ in advantage; 1 is right."""
    advantages = gae_advantages(**batch, values=values, gamma=1.0, lam=lam)
    return (advantages[0, 0] - advantages[1, 0]).item()


def fitted(batch: dict[str, Tensor], values: Tensor, lam: float) -> tuple[Tensor, Tensor]:
    """(the critic after an exact fit to its targets, the targets), [2,T]: each state has its own
    value, and the first state is one for both rows."""
    advantages = gae_advantages(**batch, values=values, gamma=1.0, lam=lam)
    mask = batch["response_mask"]
    targets = value_targets(advantages=advantages, values=values, response_mask=mask)
    new = targets.clone()
    new[:, 0] = targets[:, 0].mean()
    return new, targets


def without_a_critic_rows() -> list[dict[str, float]]:
    """[{"length", "share": what arrives at the first token where the critic says 0 everywhere}]."""
    batches = [(length, chain(length)) for length in LENGTHS]
    return [
        {"length": length, "share": share_that_arrives(x, torch.zeros_like(x["rewards"]), LAM)}
        for length, x in batches
    ]


def critic_rows() -> list[dict[str, Any]]:
    """[{"fits": how often the critic was fitted, and for each lam of the critic's targets {"share",
    "targets" and "returns": how much of their variance it explains, before it is fitted to them}}],
    with lam = LAM for the policy throughout."""
    rows: list[dict[str, Any]] = [{"fits": number} for number in FITS]
    batch = chain(LENGTH)
    for lam in CRITIC_LAMS:
        values = torch.zeros_like(batch["rewards"])
        returns = batch["rewards"].sum(dim=1, keepdim=True).expand_as(values)
        for number in range(max(FITS) + 1):
            new, targets = fitted(batch, values, lam)
            if number in FITS:
                about = {"values": values, "response_mask": batch["response_mask"]}
                rows[FITS.index(number)][f"{lam:g}"] = {
                    "share": share_that_arrives(batch, values, LAM),
                    "targets": explained_variance(**about, value_targets=targets),
                    "returns": explained_variance(**about, value_targets=returns),
                }
            values = new
    return rows
