"""Recipes: the choices of six code bases, each a whole column of docs/recipes.md at once.

A recipe is data. What is not named has the default of this project, and learning rates, sizes and
numbers of updates are this project's in all of them: theirs belong to models of a billion
parameters. What a code base does that no setting says is in docs/recipes.md.
"""

from collections.abc import Mapping
from typing import Any

from minippo.algorithms.config import PPOConfig
from minippo.relatives.kl_losses import KL_LOSSES

NO_LIMIT = 1e9  # of the gradient's norm
RECIPES: Mapping[str, Mapping[str, Any]] = {
    "minippo": {},
    "openai-2019": dict(
        score_place="last_column",
        kl_controller="proportional",
        kl_coef=0.15,
        no_eos_score=-1.0,
        whiten_over="minibatch",
        whiten_rewards=True,
        critic="shared",
        num_mini_batches=1,
        temperature=0.7,
        old_logprobs="sampled",
        final_learning_rate=0.0,
        max_grad_norm=NO_LIMIT,
    ),
    "n-plus": dict(
        score_place="after_eos",
        value_after_end="kept",
        no_eos_score=-1.0,
        num_mini_batches=1,
        temperature=0.7,
        old_logprobs="sampled",
        final_learning_rate=0.0,
        max_grad_norm=NO_LIMIT,
    ),
    "trl": dict(
        score_place="after_eos",
        value_after_end="kept",
        no_eos_score=None,
        missing_eos_penalty=1.0,
        whiten_bessel=True,
        num_mini_batches=1,
        temperature=0.7,
        old_logprobs="sampled",
        final_learning_rate=0.0,
        max_grad_norm=NO_LIMIT,
    ),
    "openrlhf": dict(
        kl_coef=0.01,
        no_eos_score=None,
        lam=1.0,
        cliprange_value=0.5,
        vf_coef=1.0,
        num_ppo_epochs=1,
        num_mini_batches=8,
    ),
    "verl": dict(
        kl_reward="none",
        kl_loss="k3",
        allow_broken=True,
        kl_coef=0.001,
        no_eos_score=None,
        whiten_bessel=True,
        lam=1.0,
        cliprange_value=0.5,
        vf_coef=1.0,
        dual_clip=3.0,
        num_ppo_epochs=1,
        num_mini_batches=4,
        critic_start="sft",
        final_learning_rate=1.0,
    ),
    "cleanrl": dict(
        value_after_end="bootstrap",
        kl_reward="none",
        no_eos_score=None,
        whiten_over="minibatch",
        whiten_bessel=True,
        vf_coef=0.5,
        ent_coef=0.01,
        gamma=0.99,
        num_ppo_epochs=4,
        num_mini_batches=4,
        old_logprobs="sampled",
        critic_start="fresh",
        max_grad_norm=0.5,
        final_learning_rate=0.0,
    ),
}


def recipe_notes(recipe: str, config: PPOConfig) -> list[str]:
    """Lines for the screen: what the recipe sets, what was given besides and wins, and what of it
    does not lead to the optimum."""
    chosen = RECIPES[recipe]
    if not chosen:
        return []
    kept = [name for name, value in chosen.items() if getattr(config, name) == value]
    notes = [f"recipe {recipe}: {', '.join(f'{name} {text_of(chosen[name])}' for name in kept)}"]
    for name, value in chosen.items():
        given = getattr(config, name)
        if given != value:
            notes.append(
                f"--{name} {text_of(given)} was given besides and wins ({recipe}: {text_of(value)})"
            )
    if config.kl_loss != "none" and (why_not := KL_LOSSES[config.kl_loss].why_not):
        notes.append(f"{config.kl_loss} as a loss is what {recipe} does, and is broken: {why_not}")
    return notes


def text_of(value: Any) -> str:
    """A setting as the command line has it."""
    return str(value).lower() if value is None or isinstance(value, bool) else str(value)
