"""Where the seconds of a PPO update go: by part of the update, and by kind of operation.

    python -m minippo.profile_update --run runs/tldr-ppo-default-0
    python -m minippo.profile_update --synthetic [--layers 2] [--width 64] ...

The first takes the fine-tuned model and the reward model of a finished run and makes a few updates
with the settings of that run, on the CPU: once to time the parts, and then once more, from where
that ended, to record every operation.

The second needs no run: it makes updates at a size that flags name, and prints one line of JSON
(see commands/synthetic_update.py). machine_gflops is the rate at which this machine computes the
products of such an update when it does nothing else, share the part of an update that they take.
"""

import copy
import json
import random
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import fields
from pathlib import Path
from typing import Any

import torch
from torch.profiler import ProfilerActivity, profile

from minippo.algorithms import REGISTRY
from minippo.commands.config import Config, resolve
from minippo.commands.of_run import settings_of
from minippo.commands.prepare import make_task
from minippo.commands.recipe import has_reward_model
from minippo.commands.synthetic_update import Size, measure_update
from minippo.commands.wrapper import Parser, command
from minippo.critic_head import Critic
from minippo.errors import InputError
from minippo.interchange.load import load_gpt, load_reward_model, load_tokenizer
from minippo.rollout import Models
from minippo.runs.seals import read_config
from minippo.stages import policy as trainer

KINDS = {  # kind -> what the names of its operators contain; the first that fits counts
    "matrix products and attention": ("mm", "linear", "attention"),
    "GELU and LayerNorm": ("gelu", "layer_norm"),
    "softmax, gather, sampling": (
        "softmax",
        "gather",
        "scatter",
        "multinomial",
        "exponential",
        "argmax",
    ),
    "optimiser and gradient norm": ("optimizer", "_foreach", "norm"),
    "copies and joins": ("copy", "cat", "clone", "contiguous"),
}


Times = dict[str, float]


def profile_updates(run: str, updates: int) -> tuple[Times, Times, float]:
    """({part: seconds}, {kind of operation: seconds}, seconds in all) of some updates."""
    config = run_config(run, updates)
    torch.set_num_threads(config.run.threads)
    models, world = models_and_world(run, config)
    settings = {
        "config": config.ppo,
        "algorithm": config.run.algorithm,
        "generator": torch.Generator().manual_seed(0),
    }
    with timed_parts(config.run.algorithm) as parts:
        begin = time.perf_counter()
        trainer.train_policy(models, world, **settings)
        total = time.perf_counter() - begin
    with profile(activities=[ProfilerActivity.CPU]) as record:
        trainer.train_policy(models, world, **settings)
    kinds: dict[str, float] = defaultdict(float)
    for event in record.key_averages():
        kinds[kind_of_operation(event.key)] += event.self_cpu_time_total / 1e6
    parts["prompts, metrics and the loop around"] = total - sum(parts.values())
    return dict(parts), dict(kinds), total


def models_and_world(run: str, config: Config) -> tuple[Models, trainer.World]:
    """What the training of this run begins with."""
    if not has_reward_model(config):
        raise InputError(
            f"{run}: a rule scored this run; what is measured here is an update with a reward "
            "model, so name a run that has one"
        )
    tokenizer = None if config.run.start_from is None else load_tokenizer(run, "sft")
    task = make_task(config, generator=torch.Generator().manual_seed(0), tokenizer=tokenizer)
    reference = load_gpt(run, "sft").requires_grad_(False)
    reward_model = load_reward_model(run).requires_grad_(False)
    has_critic = REGISTRY[config.run.algorithm].has_critic
    critic = Critic.from_reward_model(reward_model) if has_critic else None
    rng = random.Random(0)
    world = trainer.World(
        draw_prompts=lambda n: task.prompt_batch(task.training_prompts(n, rng=rng)),
        score_function=reward_model,
        eos_id=task.tokenizer.eos_id,
        pad_id=task.tokenizer.pad_id,
    )
    return Models(copy.deepcopy(reference).requires_grad_(True), reference, critic), world


def run_config(run: str, updates: int) -> Config:
    """The configuration of a run, with another number of updates."""
    path = Path(run) / "config.json"
    sections = read_config(path)
    return resolve(settings_of(path, sections) | {"num_updates": updates})


@contextmanager
def timed_parts(algorithm: str) -> Iterator[dict[str, float]]:
    """While it is open, the parts of an update are timed; gives {part: seconds}."""
    make_update = REGISTRY[algorithm].update
    update = getattr(make_update, "func", make_update)  # the class below a partial
    parts = (
        (trainer, "make_rollout", "rollout: sampling and rescoring"),
        (trainer, "estimate_advantages", "rewards and advantages"),
        (update, "__call__", "update: forward, backward, step"),
    )
    seconds: dict[str, float] = defaultdict(float)

    def timed(part: str, function: Callable[..., Any]) -> Callable[..., Any]:
        def call(*arguments: Any, **settings: Any) -> Any:
            begin = time.perf_counter()
            result = function(*arguments, **settings)
            seconds[part] += time.perf_counter() - begin
            return result

        return call

    originals = [getattr(owner, name) for owner, name, _ in parts]
    for (owner, name, part), function in zip(parts, originals, strict=True):
        setattr(owner, name, timed(part, function))
    try:
        yield seconds
    finally:
        for (owner, name, _), function in zip(parts, originals, strict=True):
            setattr(owner, name, function)


def kind_of_operation(name: str) -> str:
    """The kind that an operator of torch counts as."""
    return next(
        (kind for kind, marks in KINDS.items() if any(mark in name.lower() for mark in marks)),
        "everything else",
    )


def lines_of(title: str, seconds: Times, whole: float) -> list[str]:
    """A Markdown table of shares, the largest first."""
    rows = sorted(seconds.items(), key=lambda item: -item[1])
    return [
        f"| {title} | share |",
        "| --- | ---: |",
        *(f"| {name} | {100 * value / whole:.0f} % |" for name, value in rows),
    ]


@command
def main(arguments: Sequence[str] | None = None) -> int:
    """The command; returns its exit status."""
    parser = Parser(prog="python -m minippo.profile_update", description=__doc__)
    parser.add_argument("--run", help="the folder of a finished run")
    parser.add_argument("--updates", type=int, help="10; with --synthetic 12")
    parser.add_argument("--synthetic", action="store_true", help="an update of random models")
    sizes = parser.add_argument_group("with --synthetic")
    for item in fields(Size):
        if item.name != "updates":
            sizes.add_argument(f"--{item.name}", type=type(item.default), help=f"{item.default}")
    own = parser.parse_args(arguments)
    size = {item.name: getattr(own, item.name) for item in fields(Size)}
    size = {name: value for name, value in size.items() if value is not None}
    if own.synthetic:
        return print_synthetic(own.run, size)
    if own_size := [name for name in size if name != "updates"]:
        raise InputError(f"--{own_size[0]}: is read with --synthetic only; a run has its own")
    if own.run is None:
        raise InputError("--run: wanted the folder of a finished run, or --synthetic")
    updates = size.get("updates", 10)
    if updates < 1:
        raise InputError(f"--updates: wanted at least 1, got {updates}")
    parts, kinds, total = profile_updates(own.run, updates)
    print(f"{total / updates:.2f} s per update, mean of {updates}\n")
    print("\n".join(lines_of("part of an update", parts, total)) + "\n")
    print("\n".join(lines_of("kind of operation", kinds, sum(kinds.values()))))
    return 0


def print_synthetic(run: str | None, size: dict[str, Any]) -> int:
    """The line of JSON of an update at this size; the exit status."""
    if run is not None:
        raise InputError("--run: a synthetic update needs none; leave one of the two out")
    try:
        wanted = Size(**size)
    except ValueError as error:
        raise InputError(f"--{error}") from error
    print(json.dumps(measure_update(wanted)))
    return 0
