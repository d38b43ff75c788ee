"""Three ways to learn from a rollout: one step of the policy gradient, one step of TRPO, many small
steps of PPO.

Each is a class that is made once per run with the models and the configuration, makes its
optimisers, and is then called with every rollout:

    update(rollout, advantages, targets, learning_rate=, where=) -> (metrics, ratios and advantages
    of real tokens)

`advantages` are the weights of the algorithm (train_policy.WEIGHTS), `targets` what the critic
should have said, or None when there is no critic. Metrics are averages over the optimiser steps,
each taken before its step.
"""

import torch
from torch.nn.attention import SDPBackend, sdpa_kernel

from minippo.baseline import value_loss
from minippo.errors import TrainingError
from minippo.logprobs import token_entropy, token_ratios
from minippo.masked import masked_mean
from minippo.policy_gradient import policy_gradient_loss
from minippo.ppo import (
    adapt_kl_coef,
    clipped_surrogate_loss,
    clipped_value_loss,
    kl_penalised_surrogate_loss,
    ppo_diagnostics,
    unclipped_surrogate_loss,
    value_diagnostics,
)
from minippo.rollout import response_logits, response_logprobs, response_values
from minippo.train_sft import check_finite, named_weights, take_step
from minippo.trpo import mean_kl, surrogate_loss, trpo_step


def adam(config, **models):
    """One optimiser for these models; its parameters are named "policy.wte.weight" and so on.

    eps as in the PPO implementations of OpenAI: it keeps the steps small where the gradients are
    tiny.
    """
    return torch.optim.Adam(named_weights(**models), lr=config.learning_rate, eps=1e-5)


def minibatches(rollout, config, generator):
    """Indices of the rows of a pass, in num_mini_batches parts, in a new order."""
    order = torch.randperm(len(rollout), generator=generator, device=rollout.response_mask.device)
    return order.tensor_split(config.num_mini_batches)


class Update:
    """What a checkpoint keeps of an update: its optimisers, and numbers that change over the
    run."""

    def optimizers(self):
        return [self.optimizer, self.critic.optimizer]

    def numbers(self):
        return {}

    def set_numbers(self, numbers):
        pass


class PolicyGradientUpdate(Update):
    """Stages 1 to 4: one optimiser step on the whole rollout, then value_epochs passes for the
    critic, if any."""

    def __init__(self, policy, critic, config, generator):
        self.policy, self.config = policy, config
        self.optimizer = adam(config, policy=policy)
        self.critic = CriticPasses(critic, config, generator)

    def __call__(self, rollout, advantages, targets, *, learning_rate, where):
        mask = rollout.response_mask
        logits = response_logits(self.policy, rollout, self.config.temperature)
        logprobs = response_logprobs(logits, rollout)
        loss = policy_gradient_loss(logprobs=logprobs, weights=advantages, response_mask=mask)
        norm = take_step(
            self.optimizer,
            loss,
            learning_rate,
            where=where,
            max_grad_norm=self.config.max_grad_norm,
        )
        metrics = step_metrics(
            rollout, advantages, logits.detach(), logprobs.detach(), loss, norm, self.config
        )
        metrics |= self.critic(rollout, targets, learning_rate=learning_rate, where=where)
        return metrics, tokens_after(self.policy, rollout, advantages, self.config)


class TRPOUpdate(Update):
    """Stage 5: one step in a trust region on the whole rollout, then value_epochs passes for the
    critic."""

    def optimizers(self):
        return [self.critic.optimizer]

    def __init__(self, policy, critic, config, generator):
        self.policy, self.config = policy, config
        self.critic = CriticPasses(critic, config, generator)

    def __call__(self, rollout, advantages, targets, *, learning_rate, where):
        config, mask = self.config, rollout.response_mask

        def logits():
            return response_logits(self.policy, rollout, config.temperature)

        def loss():
            return surrogate_loss(
                logprobs=response_logprobs(logits(), rollout),
                old_logprobs=rollout.old_logprobs,
                advantages=advantages,
                response_mask=mask,
            )

        def kl():
            with sdpa_kernel(SDPBackend.MATH):  # the fused attention has no second derivative
                return mean_kl(logits=logits(), old_logits=rollout.old_logits, response_mask=mask)

        with torch.no_grad():
            before = logits()
            metrics = step_metrics(
                rollout,
                advantages,
                before,
                response_logprobs(before, rollout),
                loss(),
                None,
                config,
            )
        try:
            share = trpo_step(
                loss=loss,
                kl=kl,
                parameters=self.policy.parameters(),
                delta=config.max_kl,
                damping=config.damping,
                iterations=config.cg_iterations,
            )
        except ValueError as error:
            raise TrainingError(f"{where}: {error}") from error
        metrics |= {"policy/step_share": share} | self.critic(
            rollout, targets, learning_rate=learning_rate, where=where
        )
        return metrics, tokens_after(self.policy, rollout, advantages, config)


class PPOUpdate(Update):
    """Stage 6: num_ppo_epochs passes of minibatches; policy and critic share an optimiser.

    Each step minimises   policy loss + vf_coef * clipped value loss - ent_coef * entropy.
    """

    def __init__(self, policy, critic, config, generator):
        self.policy, self.critic, self.config, self.generator = policy, critic, config, generator
        self.optimizer = adam(config, policy=policy, critic=critic)

    def optimizers(self):
        return [self.optimizer]

    def policy_loss(self, **terms):
        return clipped_surrogate_loss(**terms, cliprange=self.config.cliprange)

    def __call__(self, rollout, advantages, targets, *, learning_rate, where):
        config, steps = self.config, []
        for _ in range(config.num_ppo_epochs):
            for index in minibatches(rollout, config, self.generator):
                batch = rollout.rows(index)
                mask = batch.response_mask
                logits = response_logits(self.policy, batch, config.temperature)
                logprobs, values = (
                    response_logprobs(logits, batch),
                    response_values(self.critic, batch),
                )
                value_terms = dict(
                    values=values,
                    old_values=batch.old_values,
                    value_targets=targets[index],
                    response_mask=mask,
                    cliprange_value=config.cliprange_value,
                )
                policy_loss = self.policy_loss(
                    logprobs=logprobs,
                    old_logprobs=batch.old_logprobs,
                    advantages=advantages[index],
                    response_mask=mask,
                )
                value_loss, entropy = (
                    clipped_value_loss(**value_terms),
                    masked_mean(values=token_entropy(logits=logits), mask=mask),
                )
                check_finite(where, policy_loss=policy_loss, value_loss=value_loss, entropy=entropy)
                loss = policy_loss + config.vf_coef * value_loss - config.ent_coef * entropy
                norm = take_step(
                    self.optimizer,
                    loss,
                    learning_rate,
                    where=where,
                    max_grad_norm=config.max_grad_norm,
                )
                steps.append(
                    step_metrics(
                        batch,
                        advantages[index],
                        logits.detach(),
                        logprobs.detach(),
                        policy_loss,
                        norm,
                        config,
                    )
                    | {
                        "loss/value_avg": value_loss.item(),
                        "val/clipfrac_avg": value_diagnostics(**value_terms)["val/clipfrac_avg"],
                    }
                )
            if config.target_kl is not None and steps[-1]["policy/approxkl_avg"] > config.target_kl:
                break
        metrics = {name: sum(step[name] for step in steps) / len(steps) for name in steps[0]}
        # of the first minibatch: 0 when sound
        metrics["val/ratio_first"] = steps[0]["val/ratio_first"]
        return metrics, ratios_and_advantages(logprobs.detach(), batch, advantages[index])


class UnclippedPPOUpdate(PPOUpdate):
    """The same with nothing to hold the ratios."""

    def policy_loss(self, **terms):
        return unclipped_surrogate_loss(**terms)


class KLPenalisedPPOUpdate(PPOUpdate):
    """The same with a fixed price on KL(old || new)."""

    def __init__(self, policy, critic, config, generator):
        super().__init__(policy, critic, config, generator)
        self.kl_old_coef = config.kl_old_coef

    def numbers(self):
        return {"kl_old_coef": self.kl_old_coef}

    def set_numbers(self, numbers):
        self.kl_old_coef = numbers["kl_old_coef"]

    def policy_loss(self, **terms):
        return kl_penalised_surrogate_loss(**terms, kl_old_coef=self.kl_old_coef)

    def __call__(self, rollout, advantages, targets, **options):
        metrics, tokens = super().__call__(rollout, advantages, targets, **options)
        return metrics | {"objective/kl_old_coef": self.kl_old_coef}, tokens


class AdaptiveKLPPOUpdate(KLPenalisedPPOUpdate):
    """The same with a price that follows the KL that the last update made."""

    def __call__(self, rollout, advantages, targets, **options):
        metrics, tokens = super().__call__(rollout, advantages, targets, **options)
        self.kl_old_coef = adapt_kl_coef(
            kl_coef=self.kl_old_coef,
            kl=kl_from_old(self.policy, rollout, self.config),
            target=self.config.kl_old_target,
        )
        return metrics, tokens


class CriticPasses:
    """value_epochs passes of minibatches over the value loss, with an optimiser of the critic's
    own."""

    def __init__(self, critic, config, generator):
        self.critic, self.config, self.generator = critic, config, generator
        self.optimizer = adam(config, critic=critic)

    def __call__(self, rollout, targets, *, learning_rate, where):
        if targets is None:
            return {"loss/value_avg": None, "val/clipfrac_avg": None}
        losses = []
        for _ in range(self.config.value_epochs):
            for index in minibatches(rollout, self.config, self.generator):
                batch = rollout.rows(index)
                loss = value_loss(
                    values=response_values(self.critic, batch),
                    value_targets=targets[index],
                    response_mask=batch.response_mask,
                )
                take_step(
                    self.optimizer,
                    loss,
                    learning_rate,
                    where=where,
                    max_grad_norm=self.config.max_grad_norm,
                )
                losses.append(loss.item())
        return {"loss/value_avg": sum(losses) / len(losses), "val/clipfrac_avg": 0.0}


# -- what is reported


def step_metrics(batch, advantages, logits, logprobs, policy_loss, grad_norm, config):
    """What a step of the policy looked like before it was taken."""
    mask = batch.response_mask
    metrics = ppo_diagnostics(
        logprobs=logprobs,
        old_logprobs=batch.old_logprobs,
        advantages=advantages,
        response_mask=mask,
        cliprange=config.cliprange,
    )
    metrics["val/ratio_first"] = metrics.pop("ratio_max_deviation")  # max |ratio - 1|
    return metrics | {
        "loss/policy_avg": policy_loss.item(),
        "policy/grad_norm": grad_norm,
        "policy/entropy_avg": masked_mean(values=token_entropy(logits=logits), mask=mask).item(),
    }


@torch.no_grad()
def kl_from_old(policy, rollout, config):
    """KL(old || new) per token, exact at the states of the rollout: how far the update has gone."""
    logits = response_logits(policy, rollout, config.temperature)
    return mean_kl(
        logits=logits, old_logits=rollout.old_logits, response_mask=rollout.response_mask
    ).item()


@torch.no_grad()
def tokens_after(policy, rollout, advantages, config):
    """The ratios after the update, and the advantages, of the real tokens of the rollout."""
    logprobs = response_logprobs(response_logits(policy, rollout, config.temperature), rollout)
    return ratios_and_advantages(logprobs, rollout, advantages)


def ratios_and_advantages(logprobs, batch, advantages):
    """The same from log-probabilities that are at hand."""
    mask = batch.response_mask
    ratios = token_ratios(logprobs=logprobs, old_logprobs=batch.old_logprobs, response_mask=mask)
    return {"ratios": ratios[mask].tolist(), "advantages": advantages[mask].tolist()}
