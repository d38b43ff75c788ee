"""What a command line names in files of the user's own: --task FILE.py:Class and --reward
FILE.py:function.

`load_named` imports them, when the flags are read and at no other time. A run keeps their place
and a digest; whoever reads the run later imports nothing, unless the flag is given again.
"""

from collections.abc import Mapping
from random import Random
from typing import Any

from minippo.commands.config import FIELDS, resolve
from minippo.errors import InputError
from minippo.settings import is_own
from minippo.stages.rule import RuleScore
from minippo.tasks.base import Task
from minippo.tasks.own_file import load, loaded, whole
from minippo.tasks.own_rule import OwnRule, shown
from minippo.tasks.rule import made

NAMED = ("task", "reward")  # the flags that may name something in a file


def load_named(settings: Mapping[str, Any]) -> dict[str, Any]:
    """The settings with whole paths, when what they name has been imported. InputError: it cannot
    be."""
    named = {name: settings[name] for name in NAMED if is_own(settings.get(name) or "")}
    for flag, text in named.items():
        load(text, flag)
    return {**settings, **{flag: whole(text) for flag, text in named.items()}}


def defaults_of(task: str | None) -> dict[str, Any]:
    """The settings that a class of the user's own holds; none for another task. InputError: a name
    or a value that does not fit."""
    if task is None or not is_own(task):
        return {}
    own = loaded(task, "task")
    defaults, where = dict(made(own).settings), f"{own.file}: {own.name}.settings"
    for name in defaults:
        if name not in FIELDS or FIELDS[name][0] == "run":
            raise InputError(f"{where}: {shown(name)} is no setting that a task may have")
    try:
        resolve({"task": task}, defaults)
    except ValueError as error:
        raise InputError(f"{where}: {error}") from error
    return defaults


def own_rule(reward: str) -> OwnRule:
    """The function that --reward names. InputError: it is no function."""
    own = loaded(reward, "reward")
    if not callable(own.found) or isinstance(own.found, type):
        raise InputError(f"{own.file}: {own.name} is no function of a prompt and a response")
    return OwnRule(own, own.found)


def digest_of_reward(reward: str) -> str | None:
    """Of the file that --reward names; None where it names none."""
    return loaded(reward, "reward").digest if is_own(reward) else None


def own_score(reward: str, task: Task) -> tuple[OwnRule, RuleScore]:
    """The same, and as what scores responses of a task. It is asked about a demonstration first, so
    that what is wrong at once is told at once, with InputError."""
    rule = own_rule(reward)
    rule(*task.demonstrations(1, rng=Random(0))[0], kind=InputError)
    return rule, RuleScore(rule.score, task.tokenizer)
