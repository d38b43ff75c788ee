"""Every number of a run: the sections that the stages hold, and the presets.

The command line is made from these fields: `learning_rate` is the flag --learning_rate (or
--learning-rate). The defaults are those of the task tldr; PRESETS says where the other tasks and
the quick preset differ. `resolve` puts the layers together: defaults, preset, algorithm, what the
user set; a recipe stands between the algorithm and the user.
"""

from collections.abc import Mapping
from dataclasses import Field, asdict, dataclass, fields
from typing import Any

from minippo import algorithms, annotators
from minippo.algorithms import DEFAULT, REGISTRY
from minippo.algorithms.config import READ_WITH, PPOConfig
from minippo.algorithms.fitting import check_fit, placed_kl
from minippo.algorithms.recipes import RECIPES
from minippo.annotators.base import AnnotatorConfig
from minippo.settings import Checked, count, is_own, setting
from minippo.stages.evaluate import EvalConfig
from minippo.stages.preferences import PAIRS, RATINGS, PreferenceConfig
from minippo.stages.pretrain import PretrainConfig
from minippo.stages.reward import RewardConfig
from minippo.stages.sft import SFTConfig
from minippo.tasks import TASKS, Arithmetic, Files, Tldr

OWN_TASK = "FILE.py:Class"  # how a task of the user's own is named, and the key of its presets


@dataclass(frozen=True)
class RunConfig(Checked):
    """What is run, and where."""

    task: str = setting("tldr", "the world of the run", choices=tuple(TASKS), own=OWN_TASK)
    data: str | None = setting(
        None,
        "the folder of your own text and preferences, or the file of the preferences, for "
        "--task files",
    )
    preferences: str | None = setting(
        None,
        "a file of preferences that people made, in the place of the annotator: labels.jsonl of "
        "python -m minippo.label, or lines of {prompt, chosen, rejected}",
    )
    start_from: str | None = setting(
        None,
        "the folder of a GPT-2 in Hugging Face's files, in the place of pretraining, "
        "for --task files",
    )
    truncate: bool = setting(False, "cut texts that are longer than the context, at a word")
    skip_bad_rows: bool = setting(False, "leave out the rows of --data that can't be used")
    algorithm: str = setting(DEFAULT, "how the policy is trained", choices=tuple(REGISTRY))
    recipe: str = setting(
        "minippo", "the choices of a code base, all at once", choices=tuple(RECIPES)
    )
    reward: str = setting(
        "model",
        "what scores a response: a reward model that learns from preferences, the task's rule, or "
        "a function of your own",
        choices=("model", "rule"),
        own="FILE.py:function",
    )
    preset: str = setting(
        "default",
        "quick: the same job, smaller (capitals, arithmetic: the same)",
        choices=("default", "quick"),
    )
    seed: int = setting(0, "every random number follows from it", low=0, high=2**31 - 1)
    device: str = setting(
        "auto", "auto takes CUDA when there is one", choices=("auto", "cpu", "cuda")
    )
    threads: int = setting(2, "threads of the CPU", low=1, high=256)
    tensorboard: bool = setting(
        False, "write the metrics as TensorBoard events too; needs the package tensorboard"
    )
    report: bool = setting(
        True, "end with report.html, and answer 20 prompts now and then on the way for it"
    )
    save_every: int = count(
        10, "updates of the policy between two states that --resume can go on from"
    )


@dataclass(frozen=True)
class TaskConfig(Checked):
    """The size of the world."""

    tldr_values: int = setting(5, "tldr: different jobs, cities and hobbies", low=3, high=6)
    tldr_constraints: bool = setting(False, "tldr: prompts that name constraints to be followed")
    arithmetic_problems: int | None = setting(
        None, "arithmetic: different sums to train on; none: all that are not held out", low=2
    )
    prompt_length: int = count(
        160, "files: the longest prompt, in tokens (bytes, without --start_from)", low=4, high=4096
    )
    completion_length: int = count(
        320, "files: the longest completion, in tokens, one for EOS included", low=5, high=4096
    )
    pairs: int | None = setting(None, "files: take the first so many pairs; none: all", low=2)
    data_limit: int = count(
        64, "files: MiB that are read of a file, after unpacking (of a corpus 256 up)", high=4096
    )


@dataclass(frozen=True)
class ModelConfig(Checked):
    """The size of the GPT; the critic has a trunk of the same size, and so has the reward model,
    unless --reward_layers says otherwise."""

    n_layer: int = count(3, "blocks", high=100)
    n_head: int = count(4, "attention heads; a divisor of n_embd", high=100)
    n_embd: int = count(64, "width", high=4096)

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.n_embd % self.n_head:
            raise ValueError(f"n_head: wanted a divisor of n_embd {self.n_embd}, got {self.n_head}")


@dataclass(frozen=True)
class Config:
    """The whole configuration, a section per stage."""

    run: RunConfig
    task: TaskConfig
    model: ModelConfig
    pretrain: PretrainConfig
    sft: SFTConfig
    preference: PreferenceConfig
    annotator: AnnotatorConfig
    reward: RewardConfig
    ppo: PPOConfig
    eval: EvalConfig

    def to_dict(self) -> dict[str, dict[str, Any]]:
        """{section: {field: value}}: what config.json holds."""
        return asdict(self)


# these have an annotator
SIMULATED = (*(name for name in TASKS if name != Files.name), OWN_TASK)
TASKS_THAT_READ = {  # where not every task does
    "tldr_values": (Tldr.name,),
    "tldr_constraints": (Tldr.name,),
    "arithmetic_problems": (Arithmetic.name,),
    "prompt_length": (Files.name,),
    "completion_length": (Files.name,),
    "pairs": (Files.name,),
    "data_limit": (Files.name,),
    "preference_prompts": SIMULATED,
    "preference_samples": SIMULATED,
    "preference_labels": SIMULATED,
    "preferences_from": SIMULATED,
    "rounds": SIMULATED,
    "annotator": SIMULATED,
} | {item.name: SIMULATED for item in fields(AnnotatorConfig)}

SECTIONS: dict[str, Any] = {item.name: item.type for item in fields(Config)}
FIELDS: dict[str, tuple[str, Field]] = {  # name -> (its section, the field)
    item.name: (section, item) for section, kind in SECTIONS.items() for item in fields(kind)
}

# (task, preset) -> what differs from the defaults; a pair that is not here has none
PRESETS: dict[tuple[str, str], dict[str, Any]] = {
    ("tldr", "default"): {},
    ("tldr", "quick"): {
        "tldr_values": 3,
        "n_layer": 2,
        "pretrain_steps": 200,
        "preference_prompts": 3000,
        "preference_heldout": 200,
        "num_updates": 16,
        "eval_prompts": 300,
    },
    ("capitals", "default"): {
        "n_layer": 2,
        "pretrain_steps": 100,
        "preference_prompts": 10000,
        "preference_heldout": 200,
        "annotator_temperature": 0.4,
        "response_length": 4,
        "num_updates": 40,
    },
    ("arithmetic", "default"): {
        "reward": "rule",
        "pretrain_steps": 300,
        "pretrain_batch_size": 128,
        "sft_steps": 120,
        "preference_prompts": 6000,
        "preference_heldout": 200,
        "annotator_temperature": 0.4,
        "response_length": 4,
        "eval_prompts": 1000,
    },
    ("files", "default"): {
        "pretrain_steps": 400,
        "pretrain_batch_size": 16,
        "sft_steps": 160,
        "sft_batch_size": 32,
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
}
PRESETS[OWN_TASK, "default"] = {
    "pretrain_steps": 300,
    "sft_steps": 120,
    "preference_prompts": 3000,
    "preference_heldout": 200,
    "eval_prompts": 300,
    "optimum_prompts": 32,
    "optimum_draws": 256,
}
PRESETS[OWN_TASK, "quick"] = PRESETS[OWN_TASK, "default"]
PRESETS["capitals", "quick"] = PRESETS["capitals", "default"]
PRESETS["arithmetic", "quick"] = PRESETS["arithmetic", "default"]
PRESETS["files", "quick"] = PRESETS["files", "default"] | {
    "pretrain_steps": 120,
    "sft_steps": 140,
    "response_length": 160,
    "num_updates": 25,
    "batch_size": 32,
    "eval_prompts": 100,
    "optimum_prompts": 4,
    "optimum_draws": 64,
}


def kind_of_task(task: str) -> str:
    """Its name, FILE.py:Class for any of the user's own."""
    return OWN_TASK if is_own(task) else task


def resolve(settings: Mapping[str, Any], of_the_task: Mapping[str, Any] | None = None) -> Config:
    """A Config from {field: value}: the defaults, the preset's, the algorithm's, those of a task of
    the user's own, the recipe's, then these. ValueError names a field."""
    for name in settings:
        if name not in FIELDS:
            raise ValueError(f"{name}: there is no such setting")
    run = RunConfig(**_section("run", settings))
    of_ppo = readers_of("vf_coef")
    if RECIPES[run.recipe] and run.algorithm not in of_ppo:
        raise ValueError(
            f"recipe: {run.recipe} is a set of choices of PPO; --algorithm {run.algorithm} reads "
            f"only some of them; it is for {', '.join(of_ppo)}"
        )
    record = REGISTRY[run.algorithm]
    values = PRESETS.get((kind_of_task(run.task), run.preset), {})
    values = values | dict(record.settings) | dict(of_the_task or {})
    if {**values, **settings}.get("reward", "model") != "model":
        values = {"critic_start": "sft"} | values  # there is no reward model to start from
    values |= placed_kl(settings, record) | dict(RECIPES[run.recipe]) | dict(settings)
    config = Config(**{name: kind(**_section(name, values)) for name, kind in SECTIONS.items()})
    check_fit(config.ppo, record, dict(RECIPES[run.recipe]) | dict(settings))
    return config


def readers_of(name: str) -> tuple[str, ...]:
    """Names of the algorithms, or of the annotators, that read a setting that not all of them do;
    else none."""
    return algorithms.readers_of(name) or annotators.readers_of(name)


def _section(section: str, values: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in values.items() if FIELDS[name][0] == section}


def stored_settings(sections: Mapping[str, Any]) -> dict[str, Any]:
    """{field: value} of a stored configuration. KeyError: it lacks one, another version made it."""
    return {name: sections[section][name] for name, (section, _) in FIELDS.items()}


def check_used(settings: Mapping[str, Any], config: Config) -> None:
    """Refuse what was set and would change nothing: this algorithm, this task, or this start does
    not read it. ValueError names it."""
    algorithm, task = config.run.algorithm, kind_of_task(config.run.task)
    if config.run.reward == "rule" and task == Files.name:
        raise ValueError(
            "reward: --task files has no rule that scores a response; leave --reward out, and a "
            "reward model learns from the preferences"
        )
    if config.run.reward != "model" and settings.get("critic_start") == "reward_model":
        raise ValueError(
            f"critic_start: --reward {config.run.reward} trains no reward model; take sft or fresh"
        )
    ppo = config.ppo
    whitens = ppo.whiten_advantages or ppo.whiten_rewards
    if settings.get("whiten_bessel") and not whitens and algorithm in readers_of("whiten_bessel"):
        raise ValueError("whiten_bessel: nothing is whitened; leave it out, or --whiten_advantages")
    for name in settings:
        tasks = TASKS_THAT_READ.get(name, (task,))
        if task not in tasks:
            raise ValueError(
                f"{name}: --task {task} does not use it; it is for --task {', '.join(tasks)}"
            )
        reason = REGISTRY[algorithm].ignores.get(name)
        check_reader(name, "algorithm", algorithm, algorithms.readers_of(name), reason)
        check_reader(name, "annotator", config.preference.annotator, annotators.readers_of(name))
        other, values = READ_WITH.get(name, (name, None))
        if values is not None and getattr(config.ppo, other) not in values:
            got, wanted = (str(x).lower() for x in (getattr(config.ppo, other), values[0]))
            raise ValueError(
                f"{name}: with --{other} {got} it is not used; leave it out, or --{other} {wanted}"
            )
        if config.run.reward != "model" and FIELDS[name][0] in (
            "preference",
            "annotator",
            "reward",
        ):
            raise ValueError(
                f"{name}: --reward {config.run.reward} trains no reward model; leave it out, or "
                "take --reward model"
            )
        if config.run.start_from is not None and FIELDS[name][0] in ("model", "pretrain"):
            raise ValueError(
                f"{name}: --start_from takes a model as it is, and does not pretrain it"
            )
    check_labels(settings, config)


def check_reader(
    name: str, flag: str, chosen: str, readers: tuple[str, ...], reason: str | None = None
) -> None:
    """ValueError where only others read the setting, with the reason if there is one."""
    if readers and chosen not in readers:
        why = "" if reason is None else f" ({chosen}: {reason})"
        raise ValueError(
            f"{name}: --{flag} {chosen} does not use it; it is for {', '.join(readers)}{why}"
        )


def check_labels(settings: Mapping[str, Any], config: Config) -> None:
    """ValueError where the annotator cannot give what is asked for, or where nothing is rated."""
    labels, annotator = config.preference.preference_labels, config.preference.annotator
    if labels != PAIRS and annotators.REGISTRY[annotator].compares_only:
        raise ValueError(
            f"preference_labels: --annotator {annotator} compares pairs and gives no {labels}; use "
            f"--preference_labels {PAIRS}, or another annotator"
        )
    if "rating_noise" in settings and labels != RATINGS:
        raise ValueError(
            f"rating_noise: --preference_labels {labels} does not use it; it is for {RATINGS}"
        )
