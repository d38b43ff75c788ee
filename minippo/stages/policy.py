"""The policy's training on a language model: rollout, rewards, advantages, update; then again.

The policy starts as a copy of the fine-tuned model, which stays as it is and is called the
reference. One update, from prompt to gradient:

    make_rollout         sample responses, score them, and record what policy, reference and critic
                         say about each token
    estimate_advantages  (credit) rewards per token, what each token was worth, the critic's targets
    algorithm.update     (algorithms/) one policy gradient step, one TRPO step, or several passes of
                         PPO minibatches
      take_step          (optimise) backward, the gradient's norm held down, one step of the
                         optimiser

The algorithms differ in two functions, and in little else: with the same seed and as many samples
per prompt they see the same first rollout. One that learns from pairs looks at its rollouts, for
the metrics, and reads pairs in their place.

The trainer knows nothing of tasks and texts: prompts come from a function, scores from another. The
probes of tests/stages/test_policy.py are small worlds made of two such functions.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.nn.utils import parameters_to_vector
from torch.optim import Optimizer

from minippo.algorithms import DEFAULT, REGISTRY
from minippo.algorithms.base import PAIRS, Algorithm, Experience, Update, of_the_critic
from minippo.algorithms.config import PPOConfig
from minippo.algorithms.policy_gradient import CriticPasses
from minippo.critic_head import Critic
from minippo.errors import TrainingError
from minippo.gpt import GPT
from minippo.kl import kl_k1
from minippo.masked import masked_mean, zero_padding
from minippo.ppo_statistics import explained_variance
from minippo.reward_to_go import rewards_to_go
from minippo.rollout import Models, Rollout, ScoreFunction, make_rollout, response_logits
from minippo.stages.credit import (
    REWARD_SLOTS,
    estimate_advantages,
    learned_from,
    next_kl_coef,
    rewards_of,
)
from minippo.stages.groups import draw
from minippo.stages.optimise import check_finite, named_parameters, named_weights
from minippo.stages.pairs import Deal, Pairs
from minippo.stages.training_state import restore_training, training_tensors
from minippo.tasks.base import Example
from minippo.trpo import mean_kl

Row = dict[str, Any]  # of metrics: numbers, None for what is not known, and a text of names
State = tuple[dict[str, Tensor], dict[str, Any]]  # all that the rest of a training depends on


@dataclass(frozen=True)
class World:
    """What the trainer is told about texts.

    draw_prompts(n) -> (tokens [n,P], mask [n,P]); score_function(tokens [B,S], mask [B,S]) -> [B];
    gold_function(rollout) -> mean gold score, for the metrics only.
    """

    draw_prompts: Callable[[int], tuple[Tensor, Tensor]]
    score_function: ScoreFunction
    eos_id: int
    pad_id: int
    gold_function: Callable[[Rollout], float] | None = None
    draw_texts: Callable[[int], Sequence[Example]] | None = None  # of the pretraining, for PPO-ptx
    pairs: Pairs | None = None  # for an algorithm that learns from them


class Step(NamedTuple):
    """One update that was made."""

    row: Row  # its metrics
    rollout: Rollout
    tokens: dict[str, list[float]]  # ratios and advantages of a minibatch
    state: Callable[[], State]


def train_policy(models: Models, world: World, **settings: Any) -> list[Row]:
    """All updates of policy_updates, which says what the settings are; returns their rows of
    metrics."""
    return [step.row for step in policy_updates(models, world, **settings)]


def policy_updates(
    models: Models,
    world: World,
    *,
    config: PPOConfig,
    generator: torch.Generator,
    algorithm: str = DEFAULT,
    progress: Callable[[Iterable], Iterable] = iter,
    start: State | None = None,
) -> Iterator[Step]:
    """Train policy and critic in place, and yield each update when it is made.

    start: the state of an earlier training's step, to go on from. TrainingError, with the tensor's
    name, when a score, a reward, a loss or a gradient is not finite.
    """
    record, update_on = REGISTRY[algorithm], begun(models, algorithm, config, generator)
    deal, done = deal_of(world, models, record, config), 0
    if start is None:
        warm_up_critic(models, world, algorithm, config, generator)
    else:
        done = resume_from(start, models, update_on, generator)
        config = replace(config, kl_coef=start[1]["kl_coef"])
    for update in progress(range(done + 1, config.num_updates + 1)):
        where = f"policy, update {update}"
        sample = partial(finite_rollout, where, models, world, record, config, generator)
        first, rollout, drawn = draw(sample, record, config)
        rewards, advantages, targets = estimate_advantages(rollout, config, algorithm)
        check_finite(where, rewards=rewards, advantages=advantages)
        head_before = head_of(models.critic)
        rate = learning_rate_of(update, config)
        experience: Any = experience_of(rollout, advantages, targets, world, config)
        if deal is not None:  # the rollout is only looked at
            experience = deal.of_update(update)
        updated = update_on(experience, learning_rate=rate, where=where)
        check_finite(where, **dict(named_weights(**trained(models))))  # after the last step
        kl_old_to_policy = kl_from_old(models.policy, rollout, config)
        update_on.look_back(kl_old_to_policy)
        if first is not rollout:
            rewards = rewards_of(first, config)
        row: Row = {"update": update, "episode": update * len(first), "lr": rate}
        row |= rollout_metrics(first, rewards, config) | updated.metrics | drawn
        if targets is not None:
            row |= critic_metrics(rollout, rewards, targets, config)
            row["val/critic_head_change"] = (head_of(models.critic) - head_before).norm().item()
        row["policy/without_gradient"] = without_gradient(update_on.optimizers)
        row["policy/kl_old_to_policy"] = kl_old_to_policy
        row["objective/gold"] = world.gold_function and world.gold_function(first)
        config = replace(config, kl_coef=next_kl_coef(config.kl_coef, row["objective/kl"], config))
        state = state_after(update, models, update_on, generator, config.kl_coef)
        yield Step(row, first, updated.tokens, state)


def begun(models: Models, algorithm: str, config: PPOConfig, generator: torch.Generator) -> Update:
    """The update of the algorithm, and the models without dropout: the ratio of the first minibatch
    must be 1."""
    for model in models:
        if model is not None:
            model.eval()
    return REGISTRY[algorithm].update(models, config, generator)


def experience_of(
    rollout: Rollout, advantages: Tensor, targets: Tensor | None, world: World, config: PPOConfig
) -> Experience:
    """What the update sees of a rollout."""
    texts = texts_for(world, len(rollout), config)
    whole = Experience(rollout, advantages, targets, config.kl_coef, texts)
    return learned_from(whole, config)


def warm_up_critic(
    models: Models, world: World, algorithm: str, config: PPOConfig, generator: torch.Generator
) -> None:
    """Let the critic learn from critic_warmup rollouts of the policy that has not begun to move."""
    if models.critic is None or config.critic_warmup == 0:
        return
    passes = CriticPasses(models.critic, config, generator)
    for number in range(1, config.critic_warmup + 1):
        where = f"critic, rollout {number}"
        rollout = finite_rollout(where, models, world, REGISTRY[algorithm], config, generator)
        _, advantages, targets = estimate_advantages(rollout, config, algorithm)
        passes(
            Experience(rollout, advantages, targets),
            learning_rate=config.learning_rate,
            where=where,
        )


def deal_of(world: World, models: Models, record: Algorithm, config: PPOConfig) -> Deal | None:
    """The pairs that the updates get; None for an algorithm that learns from rollouts."""
    if record.learns_from != PAIRS:
        return None
    if world.pairs is None:
        raise ValueError("pairs: this world has none")
    return Deal(world.pairs, models, config)


def texts_for(world: World, n: int, config: PPOConfig) -> Sequence[Example] | None:
    """Texts of the pretraining for a rollout of n responses; None without PPO-ptx."""
    if config.ptx_coef == 0:
        return None
    if world.draw_texts is None:
        raise ValueError("ptx_coef: this world has no texts of a pretraining")
    return world.draw_texts(n)


def learning_rate_of(update: int, config: PPOConfig) -> float:
    """It falls linearly from learning_rate to final_learning_rate of it, which the last update
    has. To 0 it falls behind the last update: a rate of 0 would train nothing."""
    steps = config.num_updates - (1 if config.final_learning_rate > 0 else 0)
    done = (update - 1) / max(1, steps)
    return config.learning_rate * (1 - (1 - config.final_learning_rate) * done)


def trained(models: Models) -> dict[str, GPT | Critic]:
    """The models that an update changes, under their names."""
    named = {"policy": models.policy, "critic": models.critic}
    return {name: model for name, model in named.items() if model is not None}


def state_after(
    update: int, models: Models, update_on: Update, generator: torch.Generator, kl_coef: float
) -> Callable[[], State]:
    """A function that takes the state; to be called before the next update, or not at all."""
    return lambda: (
        training_tensors(
            models=trained(models), optimizers=update_on.optimizers, generator=generator
        ),
        {"update": update, "kl_coef": kl_coef, **update_on.numbers},
    )


def resume_from(start: State, models: Models, update_on: Update, generator: torch.Generator) -> int:
    """Put everything back as it was; returns the number of the update that was made last."""
    tensors, numbers = start
    restore_training(
        tensors, models=trained(models), optimizers=update_on.optimizers, generator=generator
    )
    update_on.numbers = {name: numbers[name] for name in update_on.numbers}
    return numbers["update"]


def finite_rollout(
    where: str,
    models: Models,
    world: World,
    record: Algorithm,
    config: PPOConfig,
    generator: torch.Generator,
) -> Rollout:
    """A Rollout whose scores, log-probabilities and values are numbers; TrainingError when they are
    not."""
    samples = 1 if record.learns_from == PAIRS else record.samples(config)
    try:
        rollout = make_rollout(
            models,
            world.draw_prompts(config.batch_size // samples),
            score_function=world.score_function,
            config=config,
            generator=generator,
            eos_id=world.eos_id,
            pad_id=world.pad_id,
            samples_per_prompt=samples,
        )
    except TrainingError as error:  # the sampler does not know which update it works for
        raise TrainingError(f"{where}: {error}") from error
    check_finite(where, "look at the reward model", scores=rollout.scores)
    check_finite(
        where,
        old_logprobs=rollout.old_logprobs,
        ref_logprobs=rollout.ref_logprobs,
        old_values=rollout.old_values,
    )
    return rollout


def head_of(critic: Critic | None) -> Tensor:
    """A copy of the weights of the critic's last layer, as one vector; empty without a critic."""
    if critic is None:
        return torch.empty(0)
    return parameters_to_vector(critic.head.parameters()).detach().clone()


def without_gradient(optimizers: list[Optimizer]) -> str | None:
    """Names of the parameters that an optimiser was to change and that no gradient has reached;
    None when there is none."""
    names = [
        name
        for optimizer in optimizers
        if optimizer.state
        for name, parameter in named_parameters(optimizer)
        if parameter.grad is None
    ]
    return ", ".join(names) or None


@torch.no_grad()
def kl_from_old(policy: GPT, rollout: Rollout, config: PPOConfig) -> float:
    """KL(old || new) per token, exact at the states of the rollout: how far the update has gone."""
    logits = response_logits(policy, rollout, config.temperature)
    return mean_kl(
        logits=logits, old_logits=rollout.old_logits, response_mask=rollout.response_mask
    ).item()


# -- what is reported of a rollout


def rollout_metrics(rollout: Rollout, rewards: Tensor, config: PPOConfig) -> Row:
    """What a rollout says about the policy that made it; the numbers are read from the device at
    once."""
    mask, n = rollout.response_mask, len(rollout)
    k1 = kl_k1(logprobs=rollout.old_logprobs, ref_logprobs=rollout.ref_logprobs)
    gap = (rollout.sample_logprobs - rollout.old_logprobs).abs()
    scalars = {
        "objective/scores": rollout.scores.mean(),
        "objective/kl": zero_padding(values=k1, mask=mask).sum() / n,
        "objective/kl_policy_to_ref_exact": rollout.exact_kl.sum() / n,
        "objective/kl_se": rollout.k1_variance.sum().sqrt(),  # errors of tokens are uncorrelated
        "objective/entropy": -rollout.old_logprobs.sum() / n,
        "val/num_eos_tokens": rollout.ended.sum(),
        "val/eos_rate": rollout.ended.float().mean(),
        "val/response_length": mask.sum(dim=1).float().mean(),
        "val/score_std": rollout.scores.std(correction=0),
        "val/reward_avg": rewards.sum() / mask.sum(),
        "sample/logp_gap": masked_mean(values=gap, mask=mask),
    }
    numbers = torch.stack([x.double() for x in scalars.values()]).tolist()
    row: Row = dict(zip(scalars, numbers, strict=True))
    row["objective/kl_se"] /= n
    row["val/num_eos_tokens"] = int(row["val/num_eos_tokens"])
    penalty = config.kl_coef * row["objective/kl"]
    return row | {
        "objective/non_score_reward": -penalty,
        "objective/rlhf_reward": row["objective/scores"] - penalty,
        "objective/kl_coef": config.kl_coef,
    }


def critic_metrics(rollout: Rollout, rewards: Tensor, targets: Tensor, config: PPOConfig) -> Row:
    """What it says about the critic before the critic has seen these targets.

    The targets contain the critic's own later values, the rewards-to-go contain none of it.
    """
    slots = REWARD_SLOTS[config.score_place](rollout.response_mask)
    returns = rewards_to_go(rewards=rewards, response_mask=slots, gamma=config.gamma)
    wanted = {"val/explained_variance": targets, "val/explained_variance_returns": returns}
    return {
        name: explained_variance(
            values=of_the_critic(rollout.old_values),
            value_targets=values,
            response_mask=rollout.value_mask,
        )
        for name, values in wanted.items()
    }
