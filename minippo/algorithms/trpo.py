"""Stage 5: one step in a trust region on the whole rollout, then the critic's passes.

The surrogate and the KL are functions of no arguments, since the line search asks for both at every
length of the step that it tries.
"""

import torch
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel

from minippo.algorithms.base import (
    Algorithm,
    Experience,
    Updated,
    actions_of,
    metrics_of_steps,
    step_statistics,
    tokens_after,
)
from minippo.algorithms.config import PPOConfig
from minippo.algorithms.policy_gradient import CRITIC_FIELDS, CriticPasses, gae_weights
from minippo.errors import TrainingError
from minippo.rollout import Models, response_logits, response_logprobs
from minippo.trpo import Effort, mean_kl, surrogate_loss, trpo_step


class TRPOUpdate:
    """A step that lowers the surrogate most within max_kl; the policy has no optimiser."""

    def __init__(self, models: Models, config: PPOConfig, generator: torch.Generator):
        self.policy, self.config = models.policy, config
        self.critic = CriticPasses(models.critic, config, generator)
        self.optimizers = self.critic.optimizers
        self.numbers: dict[str, float] = {}

    def __call__(self, experience: Experience, *, learning_rate: float, where: str) -> Updated:
        config, rollout = self.config, experience.rollout

        def logits() -> Tensor:
            return response_logits(self.policy, rollout, config.temperature)

        def loss() -> Tensor:
            return surrogate_loss(
                logprobs=response_logprobs(logits(), rollout),
                old_logprobs=rollout.old_logprobs,
                advantages=experience.advantages,
                response_mask=rollout.response_mask,
            )

        def kl() -> Tensor:
            with sdpa_kernel(SDPBackend.MATH):  # the fused attention has no second derivative
                return mean_kl(
                    logits=logits(),
                    old_logits=rollout.old_logits,
                    response_mask=rollout.response_mask,
                )

        with torch.no_grad():
            before = logits()
            logprobs = response_logprobs(before, rollout)
            actions = actions_of(logprobs, experience, config)
            statistics = step_statistics(actions, before, rollout, loss(), config)
        try:
            share = trpo_step(
                loss=loss,
                kl=kl,
                parameters=[p for p in self.policy.parameters() if p.requires_grad],
                delta=config.max_kl,
                damping=config.damping,
                effort=Effort(iterations=config.cg_iterations),
            )
        except ValueError as error:
            raise TrainingError(f"{where}: {error}") from error
        metrics = metrics_of_steps([statistics])
        metrics |= {"policy/grad_norm": None, "policy/step_share": share}
        metrics |= self.critic(experience, learning_rate=learning_rate, where=where)
        return Updated(metrics, tokens_after(self.policy, experience, config))

    def look_back(self, kl_old_to_policy: float) -> None:
        """Nothing changes: the trust region keeps its width."""


TRPO = Algorithm(
    name="trpo",
    summary="trust region policy optimisation: one step with a bound on the KL",
    weights=gae_weights,
    update=TRPOUpdate,
    fields=("lam", "critic_lam", "max_kl", "damping", "cg_iterations", *CRITIC_FIELDS),
    silent_diagnostics=("P007",),
)
