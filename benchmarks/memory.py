"""What the models of PPO cost in memory, in five variants of the same training.

    python benchmarks/memory.py [settings, as for train_toy]

For each variant the models are built with fresh weights at the size of `train_toy`, and one update
is made: nothing is trained before, since bytes do not depend on what the weights are. Prompts are
those of the task; a policy that knows nothing seldom ends a response, so that nearly all have full
length, which is the most that the activations can be. Printed are KiB, a line per variant, as
docs/memory.md has them.
"""

import copy
import random
import sys
from typing import Any

import torch

from minippo.algorithms import REGISTRY
from minippo.commands.flags import parse_arguments
from minippo.commands.prepare import prepare
from minippo.commands.recipe import context_needed
from minippo.critic_head import Critic
from minippo.gpt import GPT, GPTConfig
from minippo.lora import with_adapters
from minippo.reward_head import RewardModel
from minippo.rollout import Models
from minippo.stages.memory import memory_report, watch_first
from minippo.stages.policy import World, policy_updates

VARIANTS = {
    "own critic": [],
    "shared critic": ["--critic", "shared"],
    "no critic (pg)": ["--algorithm", "pg"],
    "LoRA, rank 8": ["--lora_rank", "8"],
    "LoRA, no critic (pg)": ["--lora_rank", "8", "--algorithm", "pg"],
}
COLUMNS = ("reference", "reward_model", "policy", "critic", "gradients", "optimiser", "activations")


def memory_of(settings: list[str]) -> dict[str, Any]:
    """summary["memory"] of the first update of a run with these settings."""
    config, task = prepare(parse_arguments(settings).config)[:2]
    generator, rng = torch.Generator().manual_seed(0), random.Random(0)
    size = GPTConfig(
        vocab_size=task.tokenizer.vocab_size,
        context_length=context_needed(config, task),
        **vars(config.model),
    )
    reference = GPT(size, generator=generator)
    reward_model = RewardModel(reference, generator=generator).requires_grad_(False)
    policy, critic = copy.deepcopy(reference), None
    if config.ppo.lora_rank:
        policy = with_adapters(reference, config.ppo.lora_rank, generator=generator)
    if REGISTRY[config.run.algorithm].has_critic:
        shared = config.ppo.critic == "shared"
        critic = Critic.sharing(policy) if shared else Critic.from_reward_model(reward_model)
    models = Models(policy, reference.requires_grad_(False), critic)
    world = World(
        lambda n: task.prompt_batch(task.training_prompts(n, rng=rng)),
        score_function=reward_model,
        eos_id=task.tokenizer.eos_id,
        pad_id=task.tokenizer.pad_id,
    )
    updates = policy_updates(
        models, world, config=config.ppo, generator=generator, algorithm=config.run.algorithm
    )
    found: dict[str, int] = {}
    next(watch_first(updates, models, found.update))
    return memory_report(models, reward_model, found)


def main() -> int:
    """The command; returns its exit status."""
    torch.set_num_threads(1)
    print("| KiB | " + " | ".join(COLUMNS).replace("_", " ") + " | total |")
    print("|---|" + "---:|" * (len(COLUMNS) + 1))
    for name, settings in VARIANTS.items():
        found = memory_of([*sys.argv[1:], *settings])
        flat = found["models"] | found
        numbers = [flat[column] for column in (*COLUMNS, "total")]
        print(f"| {name} | " + " | ".join(f"{n / 1024:.0f}" for n in numbers) + " |")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
