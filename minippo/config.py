"""Every number of a run, in frozen dataclasses, checked when they are made; one per stage.

The command line is made from these fields: `learning_rate` is the flag --learning_rate (or
--learning-rate). The defaults are those of the task tldr; PRESETS says where the other tasks and
the preset quick differ. `resolve` puts the three layers together: defaults, preset, what the user
set.
"""

import math
from dataclasses import asdict, dataclass, field, fields

PPO = ("ppo", "ppo_unclipped", "ppo_kl", "ppo_adaptive_kl")
ONE_STEP_WITH_CRITIC = ("baseline", "gae", "trpo")  # these train the critic apart from the policy
ALGORITHMS = ("pg", "rtg", *ONE_STEP_WITH_CRITIC, *PPO)


def setting(default, help, low=None, high=None, choices=None, open_low=False, only=None):
    """A field with its range: [low, high], or (low, high] with open_low; `only` these algorithms
    read it, or all."""
    return field(
        default=default,
        metadata={
            "help": help,
            "low": low,
            "high": high,
            "choices": choices,
            "open_low": open_low,
            "only": only,
        },
    )


def positive(default, help, only=None):
    return setting(default, help, low=0.0, open_low=True, only=only)


def count(default, help, low=1, high=10**6, only=None):
    return setting(default, help, low=low, high=high, only=only)


class Checked:
    """Refuses, when made, a value of the wrong type, not finite or out of its range; the message
    names the field."""

    def __post_init__(self):
        for item in fields(self):
            check_value(item, getattr(self, item.name))


def check_value(item, value):
    """ValueError unless the value fits the field."""
    if value is None:
        if may_be_none(item):
            return
        raise ValueError(f"{item.name}: needs a value")
    kind, limits = kind_of(item), item.metadata
    if kind is float and type(value) is int:
        value = float(value) if abs(value) < 1e300 else math.inf
    if type(value) is not kind:
        raise ValueError(f"{item.name}: wanted {KINDS[kind]}, got {value!r}")
    if limits["choices"] and value not in limits["choices"]:
        raise ValueError(
            f"{item.name}: wanted one of {', '.join(map(str, limits['choices']))}, got {value!r}"
        )
    if kind is float and not math.isfinite(value):
        raise ValueError(f"{item.name}: wanted a finite number, got {value!r}")
    low, high = limits["low"], limits["high"]
    too_low = low is not None and (value <= low if limits["open_low"] else value < low)
    if too_low or (high is not None and value > high):
        raise ValueError(f"{item.name}: wanted {_range(limits)}, got {value!r}")


KINDS = {int: "a whole number", float: "a number", bool: "true or false", str: "a text"}


def kind_of(item):
    """int, float, bool or str: the type that stands in the annotation, without its "or None"."""
    return next(
        kind
        for kind in KINDS
        if kind.__name__ == str(getattr(item.type, "__name__", item.type)).split(" ")[0]
    )


def may_be_none(item):
    return "None" in str(item.type)


def _range(limits):
    low, high = limits["low"], limits["high"]
    if high is None:
        return f"more than {low}" if limits["open_low"] else f"at least {low}"
    return f"a number in {'(' if limits['open_low'] else '['}{low}, {high}]"


@dataclass(frozen=True)
class RunConfig(Checked):
    """What is run, and where."""

    task: str = setting("tldr", "the world of the run", choices=("tldr", "capitals", "files"))
    data: "str | None" = setting(
        None, "the folder of your own text and preferences, for --task files"
    )
    start_from: "str | None" = setting(
        None,
        "the folder of a GPT-2 in Hugging Face's files, in the place of pretraining, "
        "for --task files",
    )
    truncate: bool = setting(False, "cut texts that are longer than the context, at a word")
    algorithm: str = setting("ppo", "how the policy is trained", choices=ALGORITHMS)
    preset: str = setting(
        "default", "quick: the same job, smaller (capitals: the same)", choices=("default", "quick")
    )
    seed: int = setting(0, "every random number follows from it", low=0, high=2**31 - 1)
    device: str = setting(
        "auto", "auto takes CUDA when there is one", choices=("auto", "cpu", "cuda")
    )
    threads: int = setting(2, "threads of the CPU", low=1, high=256)
    tensorboard: bool = setting(
        False, "write the metrics as TensorBoard events too; needs the package tensorboard"
    )
    save_every: int = count(
        10, "updates of the policy between two states that --resume can go on from"
    )


@dataclass(frozen=True)
class TaskConfig(Checked):
    """The size of the world."""

    tldr_values: int = setting(5, "tldr: different jobs, cities and hobbies", low=3, high=6)
    prompt_length: int = count(
        160, "files: the longest prompt, in tokens (bytes, without --start_from)", low=4, high=4096
    )
    completion_length: int = count(
        320, "files: the longest completion, in tokens, one for EOS included", low=5, high=4096
    )


@dataclass(frozen=True)
class ModelConfig(Checked):
    """The size of the GPT; the reward model and the critic each have a trunk of the same size."""

    n_layer: int = count(3, "blocks", high=100)
    n_head: int = count(4, "attention heads; a divisor of n_embd", high=100)
    n_embd: int = count(64, "width", high=4096)

    def __post_init__(self):
        super().__post_init__()
        if self.n_embd % self.n_head:
            raise ValueError(f"n_head: wanted a divisor of n_embd {self.n_embd}, got {self.n_head}")


@dataclass(frozen=True)
class PretrainConfig(Checked):
    """Next-token loss on the task's text."""

    pretrain_steps: int = count(1200, "optimiser steps")
    pretrain_batch_size: int = count(64, "documents per step")
    pretrain_learning_rate: float = positive(2e-3, "peak; warm-up, then a cosine down to a tenth")


@dataclass(frozen=True)
class SFTConfig(Checked):
    """Next-token loss on the demonstrations' completions."""

    sft_steps: int = count(150, "optimiser steps")
    sft_batch_size: int = count(64, "demonstrations per step")
    sft_learning_rate: float = positive(5e-4, "peak; warm-up, then a cosine down to a tenth")


@dataclass(frozen=True)
class PreferenceConfig(Checked):
    """Responses sampled from the fine-tuned model, and who compares them."""

    preference_prompts: int = count(12000, "prompts to sample responses for", low=2)
    preference_samples: int = count(
        4, "responses per prompt; all pairs of them are compared", low=2, high=64
    )
    preference_heldout: int = count(
        400, "more prompts, for held-out pairs (files: pairs to hold out)"
    )
    annotator_temperature: float = positive(
        0.5, "P(first preferred) = sigmoid(difference of gold / temperature)"
    )


@dataclass(frozen=True)
class RewardConfig(Checked):
    """Bradley-Terry training of the reward model."""

    reward_epochs: int = count(2, "passes over the preferences")
    reward_batch_size: int = count(32, "prompts per step")
    reward_learning_rate: float = positive(2e-3, "peak; warm-up, then linearly to 0")
    reward_weight_decay: float = setting(0.01, "AdamW's", low=0.0)


@dataclass(frozen=True)
class PPOConfig(Checked):
    """The policy's training."""

    num_updates: int = count(40, "rollouts, each followed by num_ppo_epochs over it")
    batch_size: int = count(128, "responses per rollout")
    num_ppo_epochs: int = count(4, "passes over a rollout", only=PPO)
    value_epochs: int = count(4, "passes of the critic over a rollout", only=ONE_STEP_WITH_CRITIC)
    num_mini_batches: int = count(2, "optimiser steps per pass", only=ONE_STEP_WITH_CRITIC + PPO)
    response_length: int = count(14, "the most tokens of a response, EOS included", high=4096)
    temperature: float = positive(1.0, "of sampling, and of every log-probability")
    learning_rate: float = positive(
        4e-4, "at the start; falls linearly to final_learning_rate of it (trpo: the critic's)"
    )
    final_learning_rate: float = setting(
        0.1, "share of the learning rate left at the last update", low=0.0, high=1.0
    )
    kl_coef: float = positive(0.05, "price of a nat of KL to the fine-tuned model")
    gamma: float = setting(1.0, "discount", low=0.0, high=1.0)
    lam: float = setting(0.95, "GAE's lambda", low=0.0, high=1.0, only=("gae", "trpo", *PPO))
    cliprange: float = positive(0.2, "of the ratio", only=("ppo",))
    cliprange_value: float = positive(0.2, "of the values", only=PPO)
    kl_old_coef: float = positive(
        1.0,
        "price of a nat of KL from the old policy, per token; adaptive: at the start",
        only=("ppo_kl", "ppo_adaptive_kl"),
    )
    kl_old_target: float = positive(
        0.03,
        "the KL from the old policy per token that an update aims at",
        only=("ppo_adaptive_kl",),
    )
    max_kl: float = positive(
        0.03, "TRPO's delta: the most KL from the old policy per token", only=("trpo",)
    )
    damping: float = setting(
        0.5, "added to the diagonal of the Fisher matrix", low=0.0, only=("trpo",)
    )
    cg_iterations: int = count(6, "of conjugate gradient", only=("trpo",))
    vf_coef: float = setting(0.1, "weight of the value loss", low=0.0, only=PPO)
    ent_coef: float = setting(0.0, "weight of the entropy bonus", low=0.0, only=PPO)
    max_grad_norm: float = positive(1.0, "gradients are scaled down to this norm")
    whiten_advantages: bool = setting(True, "mean 0 and standard deviation 1 over the rollout")
    whiten_rewards: bool = setting(False, "standard deviation 1 over the rollout, the mean is kept")
    no_eos_score: "float | None" = setting(
        -5.0, "score of a response without EOS; none: the reward model's own", low=-1e6, high=1e6
    )
    missing_eos_penalty: float = setting(
        0.0, "subtracted from the score of a response without EOS", low=0.0
    )
    target_kl: "float | None" = setting(
        None,
        "stop the passes when approxkl of a pass's last minibatch, to the old "
        "policy, is above; none: never",
        low=0.0,
        open_low=True,
        only=PPO,
    )

    def __post_init__(self):
        super().__post_init__()
        if self.num_mini_batches > self.batch_size:
            raise ValueError(
                f"num_mini_batches: wanted at most batch_size {self.batch_size}, "
                f"got {self.num_mini_batches}"
            )


@dataclass(frozen=True)
class EvalConfig(Checked):
    """What is measured at the end."""

    eval_prompts: int = count(500, "evaluation prompts, one response each before and after")
    optimum_prompts: int = count(64, "prompts for the estimate of the best possible objective")
    optimum_draws: int = count(
        512, "draws per prompt from the reference, and as many from the policy", low=2
    )


@dataclass(frozen=True)
class Config:
    """The whole configuration, a section per stage."""

    run: RunConfig
    task: TaskConfig
    model: ModelConfig
    pretrain: PretrainConfig
    sft: SFTConfig
    preference: PreferenceConfig
    reward: RewardConfig
    ppo: PPOConfig
    eval: EvalConfig

    def to_dict(self):
        return asdict(self)


SECTIONS = {item.name: item.type for item in fields(Config)}  # name of the section -> its dataclass
FIELDS = {item.name: (section, item) for section, kind in SECTIONS.items() for item in fields(kind)}

PRESETS = {  # (task, preset) -> what differs from the defaults above
    ("tldr", "default"): {},
    ("tldr", "quick"): {
        "tldr_values": 3,
        "n_layer": 2,
        "pretrain_steps": 600,
        "preference_prompts": 3000,
        "preference_heldout": 200,
        "num_updates": 20,
        "eval_prompts": 300,
    },
    ("capitals", "default"): {
        "n_layer": 2,
        "pretrain_steps": 200,
        "preference_prompts": 10000,
        "preference_heldout": 200,
        "annotator_temperature": 0.4,
        "response_length": 4,
        "num_updates": 60,
        "learning_rate": 3e-4,
    },
    ("files", "default"): {
        "pretrain_steps": 1000,
        "pretrain_batch_size": 16,
        "sft_steps": 400,
        "sft_batch_size": 32,
        "sft_learning_rate": 1e-3,
        "preference_heldout": 200,
        "reward_epochs": 5,
        "reward_learning_rate": 1e-3,
        "response_length": 240,
        "num_updates": 60,
        "batch_size": 64,
        "learning_rate": 2e-4,
        "eval_prompts": 200,
        "optimum_prompts": 16,
        "optimum_draws": 128,
    },
    ("files", "quick"): {
        "pretrain_steps": 300,
        "pretrain_batch_size": 16,
        "sft_steps": 350,
        "sft_batch_size": 32,
        "sft_learning_rate": 1e-3,
        "preference_heldout": 200,
        "reward_epochs": 5,
        "reward_learning_rate": 1e-3,
        "response_length": 160,
        "num_updates": 25,
        "batch_size": 32,
        "learning_rate": 2e-4,
        "eval_prompts": 100,
        "optimum_prompts": 4,
        "optimum_draws": 64,
    },
}
PRESETS["capitals", "quick"] = PRESETS["capitals", "default"]

ALGORITHM_SETTINGS = {  # algorithm -> what differs from PPO, for every task
    # Whitening subtracts a mean, which is a baseline: it would make all four of them stage 3. They
    # take one step where PPO takes num_ppo_epochs * num_mini_batches, hence a larger one.
    "pg": {"whiten_advantages": False, "learning_rate": 1e-3},
    "rtg": {"whiten_advantages": False, "learning_rate": 1e-3},
    "baseline": {"whiten_advantages": False, "learning_rate": 1e-3},
    "gae": {"whiten_advantages": False, "learning_rate": 1e-3},
}


def resolve(settings):
    """A Config from {field: value}: the defaults, the preset's, the algorithm's, then these.
    ValueError names a field."""
    for name in settings:
        if name not in FIELDS:
            raise ValueError(f"{name}: there is no such setting")
    run = RunConfig(**{name: value for name, value in settings.items() if FIELDS[name][0] == "run"})
    values = PRESETS[run.task, run.preset] | ALGORITHM_SETTINGS.get(run.algorithm, {}) | settings
    sections = {
        section: {name: value for name, value in values.items() if FIELDS[name][0] == section}
        for section in SECTIONS
    }
    return Config(**{section: kind(**sections[section]) for section, kind in SECTIONS.items()})


def check_used(settings):
    """Refuse what was set and would change nothing: this algorithm, or this start, does not read
    it. ValueError names it."""
    algorithm = settings.get("algorithm", FIELDS["algorithm"][1].default)
    for name in settings:
        only = FIELDS[name][1].metadata["only"]
        if only is not None and algorithm not in only:
            raise ValueError(
                f"{name}: --algorithm {algorithm} does not use it; it is for {', '.join(only)}"
            )
        if settings.get("start_from") is not None and FIELDS[name][0] in ("model", "pretrain"):
            raise ValueError(
                f"{name}: --start_from takes a model as it is, and does not pretrain it"
            )
