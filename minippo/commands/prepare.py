"""From settings to a world: the task of a run, and the model that it starts from."""

from contextlib import suppress
from dataclasses import replace
from typing import Any

import torch

from minippo.commands.config import Config, ModelConfig
from minippo.commands.run import context_needed, stage_seed
from minippo.errors import InputError
from minippo.gpt import GPT
from minippo.interchange.foreign import read_gpt2
from minippo.interchange.load import load_tokenizer
from minippo.tasks import TASKS, Files, Tldr
from minippo.tasks.base import Task


def prepare(config: Config, resumed: Any = None) -> tuple[Config, Task]:
    """(config, task); the size and the tokenizer of a model to start from are its own, and a
    resumed run has kept them."""
    model, tokenizer = starting_point(config, resumed)
    if model is not None:
        config = replace(config, model=size_of(model, config))
    generator = torch.Generator().manual_seed(stage_seed(config.run.seed, "split"))
    task = make_task(config, generator=generator, tokenizer=tokenizer)
    needed = context_needed(config, task)
    if model is not None and model.config.context_length < needed:
        raise InputError(
            f"--start_from {config.run.start_from}: its context has {model.config.context_length} "
            f"tokens, this run needs {needed}; lower --prompt_length, --completion_length or "
            "--response_length"
        )
    return config, task


def size_of(model: GPT, config: Config) -> ModelConfig:
    """The section of the configuration that describes a model from elsewhere."""
    names = ("n_layer", "n_head", "n_embd")
    try:
        return ModelConfig(**{name: getattr(model.config, name) for name in names})
    except ValueError as error:
        raise InputError(f"--start_from {config.run.start_from}: {error}") from error


def starting_point(config: Config, resumed: Any) -> tuple[GPT | None, Any]:
    """(model, tokenizer) of --start_from; (None, tokenizer) for a run that has taken over the model
    already."""
    if config.run.start_from is None or config.run.task != Files.name:
        return None, None
    if resumed is not None:
        with suppress(InputError):  # no checkpoint yet, or a damaged one: it is taken over again
            return None, load_tokenizer(resumed, "pretrain")
    return read_gpt2(config.run.start_from)


def make_task(config: Config, *, generator: torch.Generator, tokenizer: Any = None) -> Task:
    """The task that the configuration names. InputError: --data is missing, or given to a task that
    has no files.

    `tokenizer` is that of the model to start from, for the task files; without one it reads bytes.
    """
    name, folder = config.run.task, config.run.data
    if name == Files.name:
        if folder is None:
            raise InputError("--data: the task files needs a folder, --data DIR")
        return Files(
            folder,
            prompt_length=config.task.prompt_length,
            completion_length=config.task.completion_length,
            heldout_pairs=config.preference.preference_heldout,
            truncate=config.run.truncate,
            generator=generator,
            tokenizer=tokenizer,
        )
    own = {
        "truncate": f"has texts to cut, the task {name} makes its own",
        "data": f"reads a folder, the task {name} makes its own text",
        "start_from": f"can go on with a model, the task {name} has words of its own",
    }
    for flag, why in own.items():
        if getattr(config.run, flag) not in (None, False):
            raise InputError(f"--{flag}: only the task files {why}")
    if name == Tldr.name:
        return Tldr(values_per_fact=config.task.tldr_values)
    return TASKS[name]()
