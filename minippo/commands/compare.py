"""The same run with several settings, each on the same seeds, and what differs.

    python -m minippo.compare --vary kl_coef 0.01 0.05 0.2 --seeds 0-4 --out runs/price
    python -m minippo.compare --vary algorithm pg gae ppo --vary lam 0.9 1.0 --out DIR

--vary FIELD A B ... names any setting of minippo.train_toy and its values (true, false and none
are written so); with several --vary every combination is run. All other flags go to train_toy, but
--seed, --resume and --out. Stages that the settings do not touch are run once per seed.

Each run lies in DIR/runs/SETTING/seed-N. The means, and the paired differences with their 95 % t
intervals over the seeds, are on the screen and in DIR/compare.json and table.md; the course of the
runs is in DIR/figures/courses.png, and the settings on the first seed are side by side in
DIR/report.html (--no-report leaves it out). The same command again goes on where it was stopped.

--jobs N makes N runs at the same time, of different seeds, each with one thread unless --threads
says otherwise. All of it takes less time, each run more.
"""

import argparse
import itertools
import re
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from minippo.commands.comparison import Setting, table
from minippo.commands.config import FIELDS, Config
from minippo.commands.flags import OWN_FLAGS, about_unknown, parse_arguments, read_value
from minippo.commands.measure import seeds_of
from minippo.commands.plan import Plan, carry_out, keep, results_of
from minippo.commands.prepare import prepare
from minippo.commands.recipe import has_reward_model, recipes, reward_read
from minippo.commands.train import find_device
from minippo.commands.wrapper import Parser, command
from minippo.errors import InputError
from minippo.runs import figures
from minippo.runs.files import write_text_whole
from minippo.runs.folder import RunFolder
from minippo.runs.read import read_rows
from minippo.runs.seals import digest_of
from minippo.settings import kind_of, may_be_none

INSTEAD = {
    "seed": "name the seeds with --seeds, as in --seeds 0-4",
    "resume": "the same command once more goes on",
}
MOST_RUNS, MOST_JOBS = 10_000, 256
ONE_THREAD = ["--threads", "1"]  # of a run that is not alone; a flag that comes later wins


# -- what is asked for


def make_plan(arguments: Sequence[str]) -> Plan:
    """The Plan of a command line. InputError names the flag."""
    parser = Parser(prog="python -m minippo.compare", description=__doc__)
    parser.add_argument(
        "--vary", metavar="FIELD A B ...", help="a setting of train_toy and its values"
    )
    parser.add_argument("--seeds", default="0-4", help="first-last, or some with commas: 0,3,7")
    parser.add_argument("--out", metavar="DIR", help="the folder for all of it")
    parser.add_argument("--jobs", default="1", metavar="N", help="runs at the same time (1)")
    for name in INSTEAD:
        parser.add_argument(f"--{name}", nargs="?", const="", help=argparse.SUPPRESS)
    varied, rest = take_varied(arguments)
    own, rest = parser.parse_known_args(rest)
    for name, instead in INSTEAD.items():
        if getattr(own, name) is not None:
            raise InputError(f"--{name}: compare says that to each run itself; {instead}")
    if own.out is None:
        raise InputError("--out: name the folder for the comparison, --out DIR")
    jobs, seeds, values = jobs_of(own.jobs), seeds_of(own.seeds), read_varied(varied, rest)
    if jobs > 1:
        rest = [*ONE_THREAD, *rest]
    number = len(seeds) * len([*itertools.product(*values.values())])
    if number > MOST_RUNS:
        raise InputError(f"--vary: that is {number} runs; wanted at most {MOST_RUNS}")
    settings = make_settings(values, rest, seeds[0])
    vary = {name: [value for value, _ in pairs] for name, pairs in values.items()}
    line = shlex.join(["python", "-m", "minippo.compare", *arguments])
    quiet = parse_arguments(settings[0].arguments).quiet
    return Plan(line, vary, seeds, settings, Path(own.out), quiet, jobs)


def jobs_of(text: str) -> int:
    """How many runs at the same time. InputError names the flag."""
    if not text.isdecimal() or not 1 <= int(text) <= MOST_JOBS:
        raise InputError(f"--jobs: wanted a whole number from 1 to {MOST_JOBS}, got {text!r}")
    return int(text)


def take_varied(arguments: Sequence[str]) -> tuple[list[list[str]], list[str]]:
    """(the words after each --vary up to the next flag, the other arguments)."""
    varied, rest = [], []
    words = rest
    for word in arguments:
        if word == "--vary":
            words = []
            varied.append(words)
            continue
        if word.startswith("--"):
            words = rest
        words.append(word)
    return varied, rest


Values = list[tuple[Any, str]]  # each with the text that it was given as


def read_varied(varied: Sequence[Sequence[str]], rest: Sequence[str]) -> dict[str, Values]:
    """{field: its values} of what stands after each --vary. InputError: no such field, no two
    values, or one that is set elsewhere too."""
    if not varied:
        raise InputError("--vary: name a setting and its values, as in --vary kl_coef 0.01 0.05")
    set_once = {word.partition("=")[0].removeprefix("--").replace("-", "_") for word in rest}
    found: dict[str, Values] = {}
    for field, *texts in (words or [""] for words in varied):
        name = field.replace("-", "_")
        check_field(name)
        if name in found:
            raise InputError(f"--vary {name}: is varied twice")
        if {name, f"no_{name}"} & set_once:
            raise InputError(f"--{name}: is varied; leave it out besides")
        found[name] = [(read_text(name, text), text) for text in texts]
        values = [value for value, _ in found[name]]
        if len(values) < 2:
            raise InputError(f"--vary {name}: wanted two values or more, got {len(values)}")
        for i, value in enumerate(values):
            if value in values[:i]:
                raise InputError(f"--vary {name}: {texts[i]} is there twice")
    return found


def check_field(name: str) -> None:
    """InputError unless this is a setting that can be varied."""
    if not name:
        raise InputError("--vary: name a setting and its values, as in --vary kl_coef 0.01 0.05")
    if name == "seed":
        raise InputError(f"--vary seed: {INSTEAD['seed']}")
    if name in OWN_FLAGS:
        raise InputError(f"--vary {name}: is no setting of a run")
    if name not in FIELDS:
        raise InputError(f"--vary {name}: {about_unknown(f'--{name}').partition(': ')[2]}")


def read_text(name: str, text: str) -> Any:
    """The value that a text stands for."""
    item = FIELDS[name][1]
    if kind_of(item) is not bool or (may_be_none(item) and text.lower() == "none"):
        return read_value(name, text)
    if text.lower() not in ("true", "false"):
        raise InputError(f"--vary {name}: wanted true or false, got {text!r}")
    return text.lower() == "true"


def make_settings(values: dict[str, Values], rest: Sequence[str], first_seed: int) -> list[Setting]:
    """A Setting for every combination, with all that can be wrong with it found out now."""
    settings = []
    for number, combination in enumerate(itertools.product(*values.values()), start=1):
        given = dict(zip(values, combination, strict=True))
        name = ", ".join(f"{field} {spelled(value)}" for field, (value, _) in given.items())
        told = [word for field, pair in given.items() for word in flag(field, *pair)]
        of_it = {field: value for field, (value, _) in given.items()}
        settings.append(make_setting(number, name, of_it, [*rest, *told], first_seed))
    return settings


def make_setting(
    number: int, name: str, values: dict[str, Any], arguments: list[str], first_seed: int
) -> Setting:
    """The Setting of these arguments for train_toy. InputError says what is wrong with them."""
    request = parse_arguments([*arguments, "--seed", str(first_seed)])
    find_device(request.config.run.device)
    config, task, start = prepare(request.config)
    return Setting(
        name=name,
        folder=f"{number}-{re.sub(r'[^A-Za-z0-9._]+', '-', name)[:80]}",
        values=values,
        arguments=arguments,
        config=config,
        judge=judge_of(recipes(config, task, start and start.model), config),
    )


def judge_of(recipe: dict[str, str], config: Config) -> str:
    """What the score depends on: all that the reward model does, or a rule."""
    if has_reward_model(config):
        return recipe["reward_model"]
    return digest_of([*reward_read(config).items()])


def spelled(value: Any) -> str:
    """One way to write a value, however it was given."""
    return str(value).lower() if value is None or isinstance(value, bool) else str(value)


def flag(field: str, value: Any, text: str) -> list[str]:
    """How train_toy is told."""
    if isinstance(value, bool):
        return [f"--{field}" if value else f"--no-{field}"]
    return [f"--{field}={text}"]


# -- what came of it


def show_results(plan: Plan, folder: RunFolder) -> None:
    """The table, on the screen and in a file, and the figure."""
    lines = table(results_of(plan))
    text = "\n".join(lines) + "\n"
    keep(plan.out / "table.md", lambda path: write_text_whole(path, text))
    courses = {
        setting.name: [
            read_rows(plan.folder(setting, seed) / "metrics.jsonl") for seed in plan.done(setting)
        ]
        for setting in plan.settings
    }
    folder.save_figure("courses", figures.courses(courses))
    print("\n".join(lines))


@command
def main(arguments: Sequence[str] | None = None) -> int:
    """The command; returns its exit status."""
    carry_out(make_plan(sys.argv[1:] if arguments is None else arguments), show_results)
    return 0
