"""From settings to a world: the task of a run, and the model that it starts from."""

import hashlib
import os
from contextlib import suppress
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, NamedTuple

import torch

from minippo.annotators import REGISTRY
from minippo.commands.config import Config, ModelConfig
from minippo.commands.own import own_score
from minippo.commands.recipe import context_needed, stage_seed
from minippo.errors import InputError
from minippo.gpt import GPT
from minippo.interchange.foreign import read_gpt2
from minippo.interchange.load import load_tokenizer
from minippo.runs.files import tensor_parts
from minippo.runs.read import read_json
from minippo.runs.seals import digest_of
from minippo.settings import is_own
from minippo.tasks import TASKS, Arithmetic, Constraints, Files, Tldr
from minippo.tasks.base import Task
from minippo.tasks.files import Reading
from minippo.tasks.files.preferences import Preferences, check_texts, read_preferences, take
from minippo.tasks.files.read import read_folder
from minippo.tasks.own_file import label_of, loaded
from minippo.tasks.rule import OwnTask
from minippo.tokenizer import Tokenizer


class Start(NamedTuple):
    """Digests of the model that a run starts from, as config.json keeps them."""

    model: str
    tokenizer: str


def prepare(config: Config, resumed: Any = None) -> tuple[Config, Task, Start | None]:
    """(config, task, digests of the model to start from); the size and the tokenizer are those of
    that model, and a resumed run has kept them."""
    model, tokenizer, start = starting_point(config, resumed)
    if model is not None:
        config = replace(config, model=size_of(model, config))
    generator = torch.Generator().manual_seed(stage_seed(config.run.seed, "split"))
    people = config.run.preferences
    found = None if people is None else read_preferences(people)
    task = make_task(config, generator=generator, tokenizer=tokenizer, preferences=found)
    if is_own(config.run.reward):
        own_score(config.run.reward, task)
    needed = context_needed(config, task)
    if model is not None and model.config.context_length < needed:
        raise InputError(
            f"--start_from {config.run.start_from}: its context has {model.config.context_length} "
            f"tokens, this run needs {needed}; lower --prompt_length, --completion_length or "
            "--response_length"
        )
    check_annotator(config, task)
    check_reward_layers(config)
    return whole_paths(config), task, start


def check_annotator(config: Config, task: Task) -> None:
    """InputError where the annotator cannot work for the task, with the reason."""
    name = config.preference.annotator
    if task.recorded_preferences() is not None:
        return  # people have compared
    reason = REGISTRY[name].refuses(task, config.annotator)
    if reason is not None:
        raise InputError(f"--annotator {name}: {reason}")


def check_reward_layers(config: Config) -> None:
    """InputError where the reward model would be larger than the policy."""
    layers, there = config.reward.reward_layers, config.model.n_layer
    if layers is not None and layers > there:
        raise InputError(
            f"--reward_layers: the reward model keeps first blocks of the policy; wanted at most "
            f"{there}, got {layers}"
        )


def whole_paths(config: Config) -> Config:
    """With folders that are named from the root on: a run can be taken up again from anywhere."""
    names = ("data", "start_from", "preferences")
    named = {name: getattr(config.run, name) for name in names}
    found = {name: os.path.abspath(folder) for name, folder in named.items() if folder}
    return replace(config, run=replace(config.run, **found))


def size_of(model: GPT, config: Config) -> ModelConfig:
    """The section of the configuration that describes a model from elsewhere."""
    names = ("n_layer", "n_head", "n_embd")
    try:
        return ModelConfig(**{name: getattr(model.config, name) for name in names})
    except ValueError as error:
        raise InputError(f"--start_from {config.run.start_from}: {error}") from error


def starting_point(config: Config, resumed: Any) -> tuple[GPT | None, Any, Start | None]:
    """(model, tokenizer, their digests) of --start_from; without the model for a run that has taken
    it over already."""
    folder = config.run.start_from
    if folder is None or config.run.task != Files.name:
        return None, None, None
    if resumed is None:
        return read_start(folder)
    start, was_in = recorded_start(resumed)
    with suppress(InputError):  # no checkpoint yet, or a damaged one: it is taken over again
        tokenizer = load_tokenizer(resumed, "pretrain")
        if was_in == os.path.abspath(folder) and digest_of(tokenizer.to_dict()) == start.tokenizer:
            return None, tokenizer, start
    model, tokenizer, _ = read_start(folder, wanted=start.model)
    return model, tokenizer, start


def read_start(folder: str, wanted: str | None = None) -> tuple[GPT, Tokenizer, Start]:
    """(model, tokenizer, their digests) of a folder. InputError when it is not the model that is
    wanted."""
    model, tokenizer = read_gpt2(folder)
    of_tokenizer = digest_of(tokenizer.to_dict())
    weights = hashlib.sha256()
    for part in tensor_parts(model.state_dict()):
        weights.update(part)
    found = digest_of([asdict(model.config), weights.hexdigest(), of_tokenizer])
    if wanted not in (None, found):
        raise InputError(
            f"--start_from {folder}: is not the model that the run began with; name the folder "
            "where that is now"
        )
    return model, tokenizer, Start(found, of_tokenizer)


def recorded_start(run: str | Path) -> tuple[Start, str | None]:
    """(digests of the model that a run began with, the folder that it was in)."""
    path = Path(run) / "config.json"
    config = read_json(path)
    try:
        return Start(**config["start"]), config["run"]["start_from"]
    except (KeyError, TypeError) as error:
        raise InputError(f"{path}, field start: wanted two digests") from error


def reading_of(config: Config) -> Reading:
    """How the files of --data are read."""
    return Reading(
        limit=config.task.data_limit,
        skip_bad_rows=config.run.skip_bad_rows,
        pairs=config.task.pairs,
        pretrains=config.run.start_from is None,
    )


def make_task(
    config: Config,
    *,
    generator: torch.Generator,
    tokenizer: Any = None,
    preferences: Preferences | None = None,
) -> Task:
    """The task that the configuration names. InputError: --data is missing, or given to a task that
    has no files, or it cannot read the preferences.

    `tokenizer` is that of the model to start from, for the task files; without one it reads bytes.
    `preferences`, of a file, stand in the place of an annotator, or of the folder's own.
    """
    if config.run.task == Files.name:
        task = files_of(config, generator, tokenizer, preferences)
    else:
        task = own_words(config)
    if preferences is not None:
        room = task.prompt_length if config.run.task == Files.name else None
        check_texts(task, preferences, context=context_needed(config, task), prompts=room)
        if config.run.task != Files.name:
            heldout = config.preference.preference_heldout
            take(task, preferences, heldout, generator)
    return task


def files_of(
    config: Config,
    generator: torch.Generator,
    tokenizer: Any = None,
    preferences: Preferences | None = None,
) -> Files:
    """The task of a folder."""
    if config.run.data is None:
        raise InputError("--data: the task files needs a folder or a file, --data PATH")
    return Files(
        read_folder(config.run.data, reading_of(config)),
        prompt_length=config.task.prompt_length,
        completion_length=config.task.completion_length,
        heldout_pairs=config.preference.preference_heldout,
        truncate=config.run.truncate,
        generator=generator,
        tokenizer=tokenizer,
        preferences=preferences,
    )


def own_words(config: Config) -> Task:
    """A task that makes its own texts."""
    name = config.run.task
    name = label_of(name)
    own = {
        "truncate": f"has texts to cut, the task {name} makes its own",
        "skip_bad_rows": f"reads rows, the task {name} makes its own",
        "data": f"reads a folder, the task {name} makes its own text",
        "start_from": f"can go on with a model, the task {name} has words of its own",
    }
    for flag, why in own.items():
        if getattr(config.run, flag) not in (None, False):
            raise InputError(f"--{flag}: only the task files {why}")
    if is_own(config.run.task):
        return OwnTask(loaded(config.run.task, "task"))
    if name == Tldr.name:
        kind = Constraints if config.task.tldr_constraints else Tldr
        return kind(values_per_fact=config.task.tldr_values)
    if name == Arithmetic.name:
        return Arithmetic(problems=config.task.arithmetic_problems)
    return TASKS[name]()
