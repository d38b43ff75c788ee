"""What each stage of a run depends on, and nothing else: the contents of its seal.

Not the threads, the device, the folders, save_every or what is printed: a run may be moved, and
may go on with other threads. What the machine has to be is checked by commands.train.
"""

import zlib
from dataclasses import asdict
from typing import Any

from minippo import algorithms, annotators
from minippo.commands.config import Config
from minippo.runs.seals import digest_of
from minippo.settings import is_own
from minippo.tasks import Arithmetic, Files, Tldr
from minippo.tasks.base import Task
from minippo.tasks.own_file import label_of, loaded

BY_A_MODEL = "model"  # the value of --reward with which one is trained
SAMPLING = ("response_length", "temperature")


def stage_seed(seed: int, name: str) -> int:
    """A number for each (seed, stage): no stage's randomness depends on how much of it another one
    used."""
    return zlib.crc32(f"{seed} {name}".encode())


def context_needed(config: Config, task: Task) -> int:
    """Tokens of the longest sequence that any stage will read."""
    return max(task.document_length, task.prompt_length + config.ppo.response_length)


def stage_before(config: Config, stage: str) -> str | None:
    """The stage whose model this one goes on from; None for the first."""
    judge = "reward_model" if has_reward_model(config) else "sft"
    before = {"sft": "pretrain", "reward_model": "sft", "policy": judge, "critic": judge}
    return before.get(stage)


def has_reward_model(config: Config) -> bool:
    """Does this run train a reward model? With a rule there is nothing to learn."""
    return config.run.reward == BY_A_MODEL


def recipes(
    config: Config, task: Task, model: str | None = None, number: int | None = None
) -> dict[str, str]:
    """{stage: digest of what it and the stages before it depend on}; `model` is the digest of the
    model to start from, `number` that of a round which is not the last."""
    read = settings_read(config, task, model)
    if number is not None:
        read["reward_model"] |= {"round": number}
    found: dict[str, str] = {}
    for stage, settings in read.items():
        found[stage] = digest_of([settings, found.get(stage_before(config, stage) or "")])
    return found


def settings_read(config: Config, task: Task, model: str | None = None) -> dict[str, Any]:
    """{stage: what it reads beside the stage before}, in the order of the stages."""
    algorithm = config.run.algorithm
    policy = {"algorithm": algorithm, **reward_read(config)} | {
        name: value
        for name, value in asdict(config.ppo).items()
        if algorithm in (algorithms.readers_of(name) or [algorithm])
    }
    sampling = {name: getattr(config.ppo, name) for name in SAMPLING}
    recorded = task.recorded_preferences() is not None
    simulated = people_read(config, task) if recorded else annotator_read(config)
    if config.preference.rounds > 1:  # the policies of the rounds before are asked as well
        simulated |= {"policy": policy}
    judge = {"reward_model": asdict(config.reward) | simulated | sampling}
    return {
        "pretrain": world_read(config, task) | model_read(config, task, model),
        "sft": asdict(config.sft),
        **(judge if has_reward_model(config) else {}),
        "policy": policy,
        "critic": policy,
    }


def reward_read(config: Config) -> dict[str, Any]:
    """What scores, and which file it is in when that is the user's own, wherever that lies."""
    reward = config.run.reward
    if not is_own(reward):
        return {"reward": reward}
    return {"reward": label_of(reward), "reward_file": loaded(reward, "reward").digest}


def people_read(config: Config, task: Task) -> dict[str, Any]:
    """The file of --preferences, wherever it lies, and how much of it is held out; nothing where
    the pairs are those of the task's folder, which is read from the first stage on."""
    if task.preferences_digest is None:
        return {}
    heldout = config.preference.preference_heldout
    return {"preferences": task.preferences_digest, "preference_heldout": heldout}


def annotator_read(config: Config) -> dict[str, Any]:
    """What is asked of the simulated annotator, and what that one reads."""
    annotator = config.preference.annotator
    return asdict(config.preference) | {
        name: value
        for name, value in asdict(config.annotator).items()
        if annotator in (annotators.readers_of(name) or [annotator])
    }


def world_read(config: Config, task: Task) -> dict[str, Any]:
    """The seed, and what the task is made from."""
    world = {"task": task.name, "seed": config.run.seed, "texts": task.fingerprint}
    if task.name == Tldr.name:
        asked = {"tldr_constraints": True} if config.task.tldr_constraints else {}
        return world | {"tldr_values": config.task.tldr_values} | asked
    if task.name == Arithmetic.name:
        return world | {"arithmetic_problems": config.task.arithmetic_problems}
    if task.name != Files.name:
        return world
    if task.preferences_digest is not None:  # demonstrations of held-out prompts are left out
        world |= {"preferences": task.preferences_digest}
    return world | {
        "prompt_length": config.task.prompt_length,
        "completion_length": config.task.completion_length,
        "truncate": config.run.truncate,
        "preference_heldout": config.preference.preference_heldout,
    }  # pairs, skip_bad_rows and data_limit decide which texts there are, and those have a digest


def model_read(config: Config, task: Task, model: str | None) -> dict[str, Any]:
    """What the pretraining begins with: a size, or the model of somebody else."""
    if model is not None:
        return {"model": model}
    size = asdict(config.model) | {"context_length": context_needed(config, task)}
    return size | asdict(config.pretrain)
