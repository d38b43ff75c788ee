"""Fine-tuning on the best of n samples, in rounds: rft.

A round samples samples_per_prompt responses to each prompt from the policy as it is, keeps of each
group the one with the highest score, and makes num_ppo_epochs passes over those with the loss of
maximum likelihood. The first round's samples are the reference's.

    advantage   1 for the best of a group, 0 for the others; equals share
    ratio       none
    reduction   sum over tokens, mean over rows
    KL          none: what holds the policy is that it learns from its own samples

Groups whose scores are all equal have no best. Their mean gradient is 0 where the policy is the one
that sampled, so they are left out.

Source   rejection sampling fine-tuning: Touvron et al. 2023, arXiv:2307.09288, section 3.2.3; of
         what a verifier accepts: Yuan et al. 2023, arXiv:2308.01825.
"""

import torch
from torch import Tensor

from minippo.algorithms.base import Actions, Algorithm, Experience, Updated
from minippo.algorithms.config import PPOConfig
from minippo.algorithms.group import GROUP_SIZE, IGNORED, GroupUpdate, paid_to, size_of_group
from minippo.algorithms.ratios import Ratio
from minippo.policy_gradient import policy_gradient_loss
from minippo.relatives.groups import token_weights
from minippo.rollout import Models


def best_of_the_group(
    rewards: Tensor, values: Tensor | None, mask: Tensor, config: PPOConfig
) -> Tensor:
    """1 for the best of a group, shared by equals; 0 for the others, and where all are equal."""
    groups = paid_to(rewards, mask).view(-1, size_of_group(config))  # [N,G]
    best = groups.amax(dim=1, keepdim=True)
    is_best = groups == best
    shares = is_best / is_best.sum(dim=1, keepdim=True)
    shares = torch.where(is_best.all(dim=1, keepdim=True), 0.0, shares)
    return token_weights(advantages=shares.flatten().to(rewards.dtype), response_mask=mask)


def likelihood(actions: Actions, config: PPOConfig) -> Tensor:
    return policy_gradient_loss(
        logprobs=actions["logprobs"],
        weights=actions["advantages"],
        response_mask=actions["response_mask"],
    )


MAXIMUM_LIKELIHOOD = Ratio(likelihood, (), None, is_of_response=True)


NOTHING_IS_HELD = {"policy/clipfrac_avg": None}


class SelectionUpdate:
    """Passes of minibatches over those that were chosen."""

    def __init__(self, models: Models, config: PPOConfig, generator: torch.Generator):
        self.learn = GroupUpdate(models, config, generator, ratio=MAXIMUM_LIKELIHOOD)
        self.optimizers, self.numbers = self.learn.optimizers, self.learn.numbers

    def __call__(self, experience: Experience, *, learning_rate: float, where: str) -> Updated:
        chosen = (experience.advantages[:, 0] > 0).nonzero().flatten()
        if len(chosen) > 0:
            experience = experience.rows(chosen)
        updated = self.learn(experience, learning_rate=learning_rate, where=where)
        return updated._replace(metrics=updated.metrics | NOTHING_IS_HELD)

    def look_back(self, kl_old_to_policy: float) -> None:
        """Nothing changes."""


NO_KL = "there is no KL in it"
RFT = Algorithm(
    name="rft",
    summary="fine-tuning on the best of n samples, in rounds",
    weights=best_of_the_group,
    update=SelectionUpdate,
    has_critic=False,
    samples_per_prompt=GROUP_SIZE,
    settings={"whiten_advantages": False, "kl_reward": "none"},
    fields=("num_ppo_epochs", "num_mini_batches"),
    ignores=IGNORED
    | dict.fromkeys(("kl_reward", "kl_controller", "kl_target", "kl_horizon"), NO_KL)
    | {"old_logprobs": "there is no ratio in it"},
    silent_diagnostics=("P007",),
    ranges=None,
)
