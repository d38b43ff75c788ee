"""What a run that is over was made with: its settings and its task.

A task that is in a file of the user's own, or in a folder, is not in the run. The file is imported
only when this call's command line names it, and either has to be what it was.
"""

import os
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from minippo.commands.config import Config, resolve, stored_settings
from minippo.commands.own import load_named
from minippo.commands.prepare import make_task
from minippo.commands.recipe import stage_seed
from minippo.errors import InputError
from minippo.interchange.load import load_tokenizer
from minippo.runs.read import first_words
from minippo.runs.seals import read_config
from minippo.settings import is_own
from minippo.tasks import Files
from minippo.tasks.base import Task
from minippo.tasks.own_file import Own, label_of, loaded


def has_stage(run: str, stage: str) -> bool:
    """Has the run a checkpoint of this stage?"""
    return (Path(run) / "checkpoints" / stage).is_dir()


def stored_config(run: str) -> dict[str, Any]:
    """The config.json of a run. InputError: there is none, or it was changed."""
    path = Path(run) / "config.json"
    if not path.exists():
        raise InputError(f"{run}: holds no run")
    return read_config(path)


def settings_of(path: Path, sections: Mapping[str, Any]) -> dict[str, Any]:
    """{field: value} of the config.json at `path`. InputError where this version can't read it."""
    try:
        settings = stored_settings(sections)
        resolve(settings)
    except (ValueError, KeyError, TypeError) as error:
        raise InputError(
            f"{path}: not the configuration of a run of this version ({first_words(error)}); use "
            "the version that made it, or make the run again"
        ) from error
    return settings


def config_of(run: str, temperature: float | None = None) -> Config:
    """The settings of a run, with another temperature if one is given."""
    stored = stored_config(run)
    config = resolve(settings_of(Path(run) / "config.json", stored))
    if temperature is None:
        return config
    return replace(config, ppo=replace(config.ppo, temperature=temperature))


def task_of_run(
    run: str, config: Config, *, named: str | None = None, data: str | None = None
) -> Task:
    """The task of a run, as it was. InputError: a file or a folder of it is not named, or is
    another now.

    named: FILE.py:Class of this call's command line, for a task of the user's own; data: the folder
    of the task files, where it has been moved.
    """
    if named is not None or is_own(config.run.task):
        own = named_again(config.run.task, named, "task")
        config = replace(config, run=replace(config.run, task=f"{own.path}:{own.name}"))
    if data is not None:
        if config.run.task != Files.name:
            raise InputError(f"--data: the run is about {label_of(config.run.task)}, not files")
        config = replace(config, run=replace(config.run, data=os.path.abspath(data)))
    is_files = config.run.task == Files.name
    task = make_task(
        config,
        generator=torch.Generator().manual_seed(stage_seed(config.run.seed, "split")),
        tokenizer=load_tokenizer(run, "sft") if is_files else None,
    )
    check_digest(run, "data", task.fingerprint, f"--data {config.run.data}" if is_files else "")
    return task


def named_again(recorded: str, named: str | None, flag: str) -> Own:
    """What the command line names, which must be what the run was made with. InputError: it is
    not."""
    wanted = label_of(recorded)
    if named is None:
        raise InputError(
            f"--{flag}: the run was made with a file of your own, {wanted}, which is imported only "
            f"when it is named; name it with --{flag} FILE.py:{wanted.rpartition(':')[2]}"
        )
    if not is_own(named):
        raise InputError(f"--{flag} {named}: wanted FILE.py:NAME")
    if label_of(named) != wanted:
        hint = "" if is_own(recorded) else f"; leave --{flag} out"
        raise InputError(f"--{flag} {named}: the run was made with --{flag} {wanted}{hint}")
    return loaded(load_named({flag: named})[flag], flag)


def check_digest(run: str, name: str, digest: str | None, what: str = "") -> None:
    """InputError where the texts or the code of a run are others than when it was made."""
    versions = stored_config(run).get("versions")
    was = versions.get(name) if isinstance(versions, dict) else None
    if was != digest:
        place = what or ("--task" if name == "data" else f"--{name}")
        raise InputError(f"{place}: is not as it was when the run in {run} was made; put it back")
