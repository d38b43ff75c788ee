"""The settings of the policy's training, and which of them contradict each other.

The first part says how much is done and how fast. The second part are the choices in which the
libraries differ; the default of each is what docs/rlhf.md finds right, with what the others cost.
"""

from dataclasses import dataclass

from minippo.relatives.kl_losses import KL_LOSSES, KL_REWARDS
from minippo.relatives.reductions import FACTORS
from minippo.settings import Checked, count, positive, setting


@dataclass(frozen=True)
class PPOConfig(Checked):
    """The policy's training. An algorithm's record lists those that only some algorithms read."""

    num_updates: int = count(30, "rollouts, each followed by num_ppo_epochs over it")
    batch_size: int = count(128, "responses per rollout")
    samples_per_prompt: int | None = setting(
        None,
        "responses to each prompt of a rollout, in neighbouring rows; a divisor of batch_size; "
        "none: the algorithm's own, 1 for most",
        low=1,
        high=10**6,
    )
    num_ppo_epochs: int = count(4, "passes over a rollout")
    value_epochs: int = count(4, "passes of the critic over a rollout")
    num_mini_batches: int = count(2, "optimiser steps per pass")
    response_length: int = count(14, "the most tokens of a response, EOS included", high=4096)
    temperature: float = positive(1.0, "of sampling, and of every log-probability")
    learning_rate: float = positive(
        6e-4, "at the start; falls linearly to final_learning_rate of it (trpo: the critic's)"
    )
    final_learning_rate: float = setting(
        0.1, "share of the learning rate left at the last update", low=0.0, high=1.0
    )
    kl_coef: float = positive(0.05, "price of a nat of KL to the fine-tuned model")
    gamma: float = setting(1.0, "discount", low=0.0, high=1.0)
    lam: float = setting(0.95, "GAE's lambda", low=0.0, high=1.0)
    cliprange: float = positive(0.2, "of the ratio")
    dual_clip: float | None = setting(
        None, "the largest ratio of a token with A < 0 that has a gradient; none: any", low=1.0
    )
    cliprange_low: float = setting(
        0.2, "of the ratio below 1, where the two sides differ", low=0.0, open_low=True
    )
    cliprange_high: float = positive(0.28, "of the ratio above 1, where the two sides differ")
    ratio_max: float = positive(5.0, "the largest weight that a ratio gives to a token")
    cliprange_value: float | None = setting(
        0.2, "of the values; none: not clipped", low=0.0, open_low=True
    )
    kl_old_coef: float = positive(
        1.0, "price of a nat of KL from the old policy, per token; adaptive: at the start"
    )
    kl_old_target: float = positive(
        0.03, "the KL from the old policy per token that an update aims at"
    )
    max_kl: float = positive(0.03, "TRPO's delta: the most KL from the old policy per token")
    damping: float = setting(0.5, "added to the diagonal of the Fisher matrix", low=0.0)
    cg_iterations: int = count(6, "of conjugate gradient")
    vf_coef: float = setting(0.1, "weight of the value loss", low=0.0)
    ent_coef: float = setting(0.0, "weight of the entropy bonus", low=0.0)
    max_grad_norm: float = positive(1.0, "gradients are scaled down to this norm")
    target_kl: float | None = setting(
        None,
        "stop the passes when approxkl of a pass's last minibatch, to the old policy, is above; "
        "none: never",
        low=0.0,
        open_low=True,
    )

    # -- what is an action, and what is it paid for
    action: str = setting(
        "token",
        "token: each token is an action; response: the whole response is one, with one ratio",
        choices=("token", "response"),
    )
    score_place: str = setting(
        "last_token",
        "where the score is paid: on the last token; after EOS, where there is room; in the last "
        "column of the batch",
        choices=("last_token", "after_eos", "last_column"),
    )
    value_after_end: str = setting(
        "zero",
        "zero: the end is worth 0; kept: the state after the last token has a value, which is "
        "learned; bootstrap: it has one where the length cut the response off",
        choices=("zero", "kept", "bootstrap"),
    )
    kl_in: str = setting(
        "own",
        "where the KL to the reference is: own: where the algorithm has it; reward: there, as k1; "
        "loss: there, in the algorithm's form, k2_response for most; none: nowhere",
        choices=("own", "reward", "loss", "none"),
    )
    kl_reward: str = setting("k1", "the KL in the reward", choices=("k1", *KL_REWARDS, "none"))
    kl_loss: str = setting(
        "none", "the KL as a term of the loss, at the price kl_coef", choices=("none", *KL_LOSSES)
    )
    kl_controller: str = setting(
        "fixed",
        "of kl_coef: fixed, proportional (openai-2019) or double_halve (the PPO paper's rule)",
        choices=("fixed", "proportional", "double_halve"),
    )
    kl_target: float = positive(6.0, "nats per response that a controller of kl_coef aims at")
    kl_horizon: float = positive(10000.0, "responses over which the proportional one corrects")
    no_eos_score: float | None = setting(
        -5.0, "score of a response without EOS; none: the reward model's own", low=-1e6, high=1e6
    )
    missing_eos_penalty: float = setting(
        0.0, "subtracted from the score of a response without EOS", low=0.0
    )
    mask_unended: bool = setting(False, "nothing is learned from a response without EOS")

    # -- scale
    whiten_advantages: bool = setting(True, "mean 0 and standard deviation 1 over the rollout")
    whiten_over: str = setting(
        "rollout", "over what advantages are whitened", choices=("rollout", "minibatch")
    )
    whiten_bessel: bool = setting(False, "whitening divides by n - 1, not by n")
    whiten_rewards: bool = setting(False, "standard deviation 1 over the rollout, the mean is kept")
    loss_reduction: str = setting(
        "token_mean", "from tokens to the policy's loss", choices=tuple(FACTORS)
    )

    # -- responses to one prompt beside each other, and pairs
    std_correction: int = count(
        0, "subtracted from the number of a group's responses in their deviation", 0, 1
    )
    overlong_buffer: int | None = setting(
        None,
        "the last tokens up to response_length, over which a penalty for the length rises to 1; "
        "0: none; none: a fifth of response_length",
        low=0,
        high=4096,
    )
    max_draws: int = count(4, "rollouts at most, until a batch is full of groups that differ")
    pair_passes: float = positive(1.0, "passes over the pairs, about")
    label_smoothing: float = setting(
        0.0, "how often a pair's label is thought to be wrong", low=0.0, high=0.499
    )

    # -- the critic
    critic: str = setting(
        "own", "own: a trunk of its own; shared: a head on the policy's", choices=("own", "shared")
    )
    critic_start: str = setting(
        "reward_model",
        "what the critic starts from: the reward model, the fine-tuned model, fresh weights",
        choices=("reward_model", "sft", "fresh"),
    )
    critic_warmup: int = count(0, "rollouts of the reference that the critic learns from first", 0)
    critic_lam: float | None = setting(
        None, "lambda of the critic's targets; none: that of the policy", low=0.0, high=1.0
    )

    # -- the rest
    lora_rank: int = count(
        0,
        "rank of the adapters that alone are trained of the policy (LoRA); 0: all of it is",
        0,
        256,
    )
    old_logprobs: str = setting(
        "rescored",
        "what the ratios divide by: log-probabilities of one pass, or those noted while sampling",
        choices=("rescored", "sampled"),
    )
    dropout: float = setting(0.0, "in the passes over a rollout; breaks the ratios", 0.0, 0.9)
    ptx_coef: float = setting(0.0, "weight of the pretraining loss (PPO-ptx)", low=0.0)
    allow_broken: bool = setting(False, "allow what is known not to lead to the optimum")

    def __post_init__(self) -> None:
        super().__post_init__()
        for wrong, field, reason in contradictions(self):
            if wrong:
                raise ValueError(f"{field}: {reason}")

    def is_priced(self) -> bool:
        """Is there a KL to the reference at all?"""
        return self.where_the_kl_is() != "none"

    def where_the_kl_is(self) -> str:
        """reward, loss or none."""
        if self.kl_reward != "none":
            return "reward"
        return "none" if self.kl_loss == "none" else "loss"


Contradiction = tuple[bool, str, str]  # is it so? the field; why it is refused, and what to do
ANYWAY = "; --allow_broken tries it all the same"


def contradictions(config: PPOConfig) -> list[Contradiction]:
    """What this configuration might be refused for."""
    smallest = config.batch_size
    if config.whiten_over == "minibatch":
        smallest //= config.num_mini_batches
    others = [
        (
            config.dual_clip is not None and config.dual_clip <= 1 + config.cliprange,
            "dual_clip",
            f"wanted more than 1 + cliprange, {1 + config.cliprange:g}, got {config.dual_clip}",
        ),
        (
            config.num_mini_batches > config.batch_size,
            "num_mini_batches",
            f"wanted at most batch_size {config.batch_size}, got {config.num_mini_batches}",
        ),
        (
            config.whiten_advantages and smallest < 2,
            "whiten_advantages",
            "a batch of one response has no spread over responses to divide by; use a larger "
            "--batch_size, fewer --num_mini_batches, or --no-whiten_advantages",
        ),
        (
            config.critic == "shared" and config.critic_warmup > 0,
            "critic_warmup",
            "with --critic shared the critic's passes would move the policy; leave it out",
        ),
        (
            config.lora_rank > 0 and config.critic == "shared",
            "lora_rank",
            "with --critic shared the value loss would pull at the adapters, which are all that "
            "the policy has to learn with; use --critic own",
        ),
        (
            (config.overlong_buffer or 0) > config.response_length,
            "overlong_buffer",
            f"wanted at most response_length {config.response_length}, got "
            f"{config.overlong_buffer}",
        ),
        (
            config.kl_controller != "fixed" and not config.is_priced(),
            "kl_controller",
            "there is no KL to control; leave it out, or --kl_reward none",
        ),
    ]
    return others + ([] if config.allow_broken else contradictions_of_the_kl(config))


def contradictions_of_the_kl(config: PPOConfig, own: str | None = None) -> list[Contradiction]:
    """Those that allow_broken overrules; own: a form in the loss that the algorithm is known by."""
    in_loss = config.kl_loss != "none"
    of_loss = KL_LOSSES[config.kl_loss].why_not if in_loss and config.kl_loss != own else None
    of_reward = KL_REWARDS.get(config.kl_reward)
    return [
        (
            of_loss is not None,
            "kl_loss",
            f"{config.kl_loss} as a loss is broken: {of_loss}; use k2_response{ANYWAY}",
        ),
        (
            of_reward is not None,
            "kl_reward",
            f"{config.kl_reward} in the reward is broken: {of_reward}; use k1{ANYWAY}",
        ),
        (
            in_loss and config.kl_reward != "none",
            "kl_loss",
            f"the KL is in the reward too and would be paid twice; add --kl_reward none{ANYWAY}",
        ),
        (
            in_loss and config.whiten_advantages and config.kl_loss != own,
            "kl_loss",
            "whitening changes the unit of the advantages and not that of this loss, so kl_coef "
            f"would mean something else at each update; add --no-whiten_advantages{ANYWAY}",
        ),
    ]


# setting -> (the setting that it depends on, its values that read it)
READ_WITH = {
    "kl_target": ("kl_controller", ("proportional", "double_halve")),
    "kl_horizon": ("kl_controller", ("proportional",)),
    "whiten_over": ("whiten_advantages", (True,)),
    "critic_start": ("critic", ("own",)),
    "gamma": ("action", ("token",)),
    "lam": ("action", ("token",)),
    "critic_lam": ("action", ("token",)),
    "score_place": ("action", ("token",)),
    "value_after_end": ("action", ("token",)),
    "loss_reduction": ("action", ("token",)),
}
