"""Where the seconds of a PPO update go: by part of the update, and by kind of operation.

    python -m minippo.profile_update --run runs/tldr-ppo-default-0

Takes the fine-tuned model and the reward model of a finished run and makes a few updates with the
settings of that run, on the CPU: once to time the parts, and then once more, from where that ended,
to record every operation.
"""

import argparse
import copy
import random
import sys
import time
from collections import Counter
from pathlib import Path

import torch
from torch.profiler import ProfilerActivity, profile

from minippo import train_policy as trainer
from minippo.command_line import Parser
from minippo.config import FIELDS, resolve
from minippo.critic_head import Critic
from minippo.errors import InputError, TrainingError
from minippo.load import load_gpt, load_reward_model, load_tokenizer
from minippo.runs.read import read_json
from minippo.tasks import make_task

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


def profile_updates(run, updates):
    """({part: seconds}, {kind of operation: seconds}, seconds in all) of some updates."""
    config = run_config(run, updates)
    torch.set_num_threads(config.run.threads)
    tokenizer = None if config.run.start_from is None else load_tokenizer(run, "sft")
    task = make_task(config, generator=torch.Generator().manual_seed(0), tokenizer=tokenizer)
    reference, reward_model = (
        model.requires_grad_(False) for model in (load_gpt(run, "sft"), load_reward_model(run))
    )
    rng, tokenizer = random.Random(0), task.tokenizer
    settings = dict(
        policy=copy.deepcopy(reference).requires_grad_(True),
        critic=Critic.from_reward_model(reward_model),
        reference=reference,
        score_function=reward_model,
        draw_prompts=lambda n: task.prompt_batch(task.training_prompts(n, rng=rng)),
        config=config.ppo,
        algorithm=config.run.algorithm,
        generator=torch.Generator().manual_seed(0),
        eos_id=tokenizer.eos_id,
        pad_id=tokenizer.pad_id,
    )
    with timed_parts(config.run.algorithm) as parts:
        begin = time.perf_counter()
        trainer.train_policy(**settings)
        total = time.perf_counter() - begin
    with profile(activities=[ProfilerActivity.CPU]) as record:
        trainer.train_policy(**settings)
    kinds = Counter()
    for event in record.key_averages():
        kinds[kind_of_operation(event.key)] += event.self_cpu_time_total / 1e6
    parts["prompts, metrics and the loop around"] = total - sum(parts.values())
    return dict(parts), dict(kinds), total


def run_config(run, updates):
    """The configuration of a run, with another number of updates."""
    path = Path(run) / "config.json"
    sections = read_json(path)
    try:
        settings = {name: sections[section][name] for name, (section, _) in FIELDS.items()}
        return resolve(settings | {"num_updates": updates})
    except (ValueError, KeyError, TypeError) as error:
        raise InputError(f"{path}: not the configuration of a run ({error})") from error


class timed_parts:
    """While it is open, the parts of an update are timed; gives {part: seconds}."""

    def __init__(self, algorithm):
        self.parts = (
            (trainer, "make_rollout", "rollout: sampling and rescoring"),
            (trainer, "estimate_advantages", "rewards and advantages"),
            (trainer.UPDATES[algorithm], "__call__", "update: forward, backward, step"),
        )

    def __enter__(self):
        self.seconds, self.originals = (
            Counter(),
            [getattr(owner, name) for owner, name, _ in self.parts],
        )
        for (owner, name, part), function in zip(self.parts, self.originals):
            setattr(owner, name, self.timed(part, function))
        return self.seconds

    def __exit__(self, *_):
        for (owner, name, _), function in zip(self.parts, self.originals):
            setattr(owner, name, function)

    def timed(self, part, function):
        def call(*arguments, **settings):
            begin = time.perf_counter()
            result = function(*arguments, **settings)
            self.seconds[part] += time.perf_counter() - begin
            return result

        return call


def kind_of_operation(name):
    return next(
        (kind for kind, marks in KINDS.items() if any(mark in name.lower() for mark in marks)),
        "everything else",
    )


def lines_of(title, seconds, whole):
    """A Markdown table of shares, the largest first."""
    rows = sorted(seconds.items(), key=lambda item: -item[1])
    return [
        f"| {title} | share |",
        "| --- | ---: |",
        *(f"| {name} | {100 * value / whole:.0f} % |" for name, value in rows),
    ]


def main(arguments=None):
    parser = Parser(
        prog="python -m minippo.profile_update",
        allow_abbrev=False,
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--run", required=True, help="the folder of a finished run")
    parser.add_argument("--updates", type=int, default=10)
    try:
        own = parser.parse_args(arguments)
        if own.updates < 1:
            raise InputError(f"--updates: wanted at least 1, got {own.updates}")
        parts, kinds, total = profile_updates(own.run, own.updates)
    except (InputError, TrainingError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2 if isinstance(error, InputError) else 1
    print(f"{total / own.updates:.2f} s per update, mean of {own.updates}\n")
    print(
        "\n".join(
            [
                *lines_of("part of an update", parts, total),
                "",
                *lines_of("kind of operation", kinds, sum(kinds.values())),
            ]
        )
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
