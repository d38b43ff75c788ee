"""What the policy and the critic of a run start from."""

import copy

from minippo.commands.run import Run
from minippo.critic_head import Critic
from minippo.gpt import GPT
from minippo.lora import with_adapters
from minippo.reward_head import RewardModel
from minippo.runs.text import counted


def first_policy(run: Run, sft: GPT) -> GPT:
    """The policy before the first update: a copy of the fine-tuned model; with lora_rank its very
    weights, which it leaves as they are, and adapters."""
    rank = run.config.ppo.lora_rank
    if rank == 0:
        # in a later round the reference is frozen already
        return copy.deepcopy(sft).requires_grad_(True)
    return with_adapters(sft, rank, generator=run.generator("adapters", run.device))


def first_critic(
    run: Run, policy: GPT, sft: GPT, reward_model: RewardModel | None
) -> Critic | None:
    """The critic before the first update; None where the algorithm has none.

    shared         a head on the policy's own trunk
    reward_model   a copy of the reward model: what it says of a prefix is the first guess; one with
                   fewer layers than the policy gives no start: then it is sft, and that is said
    sft            a copy of the fine-tuned model, with a head of zeros; so it is where a rule
                   scores, and there is no reward model
    fresh          random weights, with a head of zeros
    """
    if not run.algorithm.has_critic:
        return None
    config = run.config.ppo
    if config.critic == "shared":
        return Critic.sharing(policy)
    if config.critic_start == "reward_model" and reward_model is not None:
        if reward_model.trunk.config != sft.config:
            run.screen.note(
                "critic: from the fine-tuned model, since a reward model of "
                f"{counted(reward_model.trunk.config.n_layer, 'block')} gives no start to one of "
                f"{sft.config.n_layer} (--critic_start sft says the same)"
            )
        return Critic.start(reward_model, sft)
    if config.critic_start != "fresh":
        return Critic(sft)
    return Critic(GPT(sft.config, generator=run.generator("critic weights")).to(run.device))
