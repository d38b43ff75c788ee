"""What a policy makes of a reward model that it is held to loosely: the score rises, gold falls.

    python -m minippo.overoptimise --out DIR [--sizes 50 500 3000] [--annotators length]
                                   [--prices 0 0.05 0.2] [--seeds 0-4] [flags of train_toy]

For each reward model (one for every number of --preference_prompts in --sizes, and one for every
annotator in --annotators at the largest of these) the policy is trained at every price of the KL in
--prices; at the price 0 there is no KL in the reward. The stages before are run once per seed.
Runs of different seeds are made at the same time, each with one thread. The same command again goes
on where it was stopped.

DIR/overoptimise.json and table.md hold, for each reward model and price, the course of KL, score
and gold, and the drop: (best gold on the way - gold at the end) / the best possible gold, of means
over four rollouts; for each reward model the best of n samples of the reference with its score and
gold, and the laws d (a - b d) and d (a - b log d) fitted to gold over d = sqrt(KL).
DIR/figures/overoptimisation.png shows all of it on the same axes.
"""

import shlex
import sys
from collections.abc import Sequence
from pathlib import Path
from random import Random
from statistics import mean
from typing import Any

import torch

from minippo.commands.compare import ONE_THREAD, jobs_of, make_setting
from minippo.commands.comparison import Setting
from minippo.commands.flags import parse_arguments, read_value
from minippo.commands.measure import seeds_of
from minippo.commands.plan import Plan, carry_out, keep
from minippo.commands.recipe import has_reward_model
from minippo.commands.side_by_side import cores
from minippo.commands.speaker import Speaker, open_speaker
from minippo.commands.wrapper import Parser, command
from minippo.errors import InputError
from minippo.runs import figures
from minippo.runs.figures.overoptimisation import Panel
from minippo.runs.files import write_json, write_text_whole
from minippo.runs.folder import RunFolder
from minippo.runs.read import read_rows
from minippo.stages.evaluate import answer
from minippo.stages.overoptimisation import (
    Point,
    best_of_n_course,
    course,
    fit_best_of_n,
    fit_reinforcement,
    gold_drop,
)
from minippo.tokenizer import pad_left

RESULT = "overoptimise.json"
SAMPLES, PROMPTS = 64, 48  # of the reference, for the best of n
BEST_OF = (1, 2, 4, 8, 16, 32)
MUCH, LITTLE = 0.10, 0.03  # a drop that is called one, and one that is not
# what a run of many is spared: nothing of it is read here but the rough place of the optimum
SPARED = ["--optimum_prompts=32", "--optimum_draws=128", "--eval_prompts=100", "--no-report"]


# -- what is asked for


def make_parser() -> Parser:
    """The flags of its own; the others are for train_toy."""
    parser = Parser(prog="python -m minippo.overoptimise", description=__doc__)
    parser.add_argument("--out", metavar="DIR", help="the folder for all of it")
    parser.add_argument(
        "--sizes",
        nargs="+",
        default=["50", "500", "3000"],
        metavar="N",
        help="--preference_prompts (50 500 3000)",
    )
    parser.add_argument(
        "--annotators",
        nargs="*",
        default=["length"],
        metavar="NAME",
        help="each at the largest size (length)",
    )
    parser.add_argument(
        "--prices",
        nargs="+",
        default=["0", "0.05", "0.2"],
        metavar="FLOAT",
        help="of the KL (0 0.05 0.2)",
    )
    parser.add_argument("--seeds", default="0-4", help="first-last, or some with commas: 0,3,7")
    parser.add_argument(
        "--jobs", metavar="N", help="runs at the same time, of different seeds (one per core)"
    )
    return parser


def make_plan(arguments: Sequence[str]) -> Plan:
    """The Plan of a command line: a Setting for every reward model and price."""
    own, rest = make_parser().parse_known_args(arguments)
    if own.out is None:
        raise InputError("--out: name the folder, --out DIR")
    for name in ("seed", "resume", "kl_coef", "kl_reward", "preference_prompts", "annotator"):
        if any(word.partition("=")[0].replace("-", "_") == f"__{name}" for word in rest):
            raise InputError(f"--{name}: overoptimise says that to each run itself; see --help")
    sizes = [whole("sizes", "preference_prompts", text) for text in own.sizes]
    prices = [price_of(text) for text in own.prices]
    judges = [(f"{n} prompts", ["--preference_prompts", str(n)]) for n in sizes]
    largest = ["--preference_prompts", str(max(sizes))]
    judges += [(f"annotator {name}", [*largest, "--annotator", name]) for name in own.annotators]
    seeds = seeds_of(own.seeds)
    jobs = min(cores(), len(seeds)) if own.jobs is None else jobs_of(own.jobs)
    settings = [
        make_setting(
            number,
            f"{name}, price {price:g}",
            {"reward_model": name, "price": price},
            [*ONE_THREAD, *SPARED, *rest, *flags, *flags_of(price)],
            seeds[0],
        )
        for number, (name, flags, price) in enumerate(
            ((name, flags, price) for name, flags in judges for price in prices), start=1
        )
    ]
    check_settings(settings)
    vary = {"reward_model": [name for name, _ in judges], "price": prices}
    line = shlex.join(["python", "-m", "minippo.overoptimise", *arguments])
    return Plan(line, vary, seeds, settings, Path(own.out), parse_arguments(rest).quiet, jobs)


def whole(flag: str, name: str, text: str) -> int:
    """A number of prompts. InputError names the flag."""
    value = read_value(name, text)
    if not isinstance(value, int) or value < 2:
        raise InputError(f"--{flag}: wanted numbers of prompts of at least 2, got {text!r}")
    return value


def price_of(text: str) -> float:
    """A price of the KL, 0 included. InputError names the flag."""
    try:
        price = float(text)
    except ValueError:
        price = -1.0
    if not 0 <= price < float("inf"):
        raise InputError(f"--prices: wanted numbers that are not negative, got {text!r}")
    return price


def flags_of(price: float) -> list[str]:
    """How train_toy is told; at the price 0 there is no KL in the reward."""
    return ["--kl_reward", "none"] if price == 0 else ["--kl_coef", repr(price)]


def check_settings(settings: Sequence[Setting]) -> None:
    """InputError where there is no reward model, or no gold to set it against."""
    config = settings[0].config
    if not has_reward_model(config):
        raise InputError("--reward: a rule is what is wanted itself; there is nothing to overrate")
    if config.run.task == "files":
        raise InputError("--task files: has no rule that says what a response is worth")


# -- what came of it


def courses_of(plan: Plan, setting: Setting) -> dict[int, list[Point]]:
    """{seed: the course of its policy}."""
    return {
        seed: course(
            [
                Point(row["objective/kl"], row["objective/scores"], row["objective/gold"])
                for row in read_rows(plan.folder(setting, seed) / "metrics.jsonl")
            ]
        )
        for seed in plan.done(setting)
    }


def price_report(plan: Plan, setting: Setting, courses: dict[int, list[Point]]) -> dict[str, Any]:
    """What one price led to. Drops: null where the best possible gold is not known."""
    summaries = plan.done(setting).values()
    best = next((summary["gold_max"] for summary in summaries), None)
    drops = None if best is None else [gold_drop(points, best) for points in courses.values()]
    steps = [[*step] for step in zip(*courses.values(), strict=False)]
    return {
        "price": setting.values["price"],
        "seeds": [*courses],
        "drops": drops,
        "accuracy": [summary["reward_model"]["heldout_accuracy"] for summary in summaries],
        "course": [[mean(part) for part in zip(*step, strict=True)] for step in steps],
        "courses": [[[*point] for point in points] for points in courses.values()],
    }


def best_of_n_of(speaker: Speaker, seed: int) -> list[Point]:
    """Best of n of a run's own fine-tuned model, judged by its own reward model. InputError: the
    task is not at hand."""
    task, judge = speaker.task, speaker.reward_model
    if task is None or judge is None:
        raise InputError("overoptimise: needs a task with a rule, and a reward model")
    prompts = task.evaluation_prompts(PROMPTS, rng=Random(seed))
    asked = [prompt for prompt in prompts for _ in range(SAMPLES)]
    answers = answer(
        speaker.models["sft"],
        task,
        asked,
        pad_left([speaker.prompt_ids(prompt) for prompt in asked], speaker.tokenizer.pad_id),
        score_function=judge,
        config=speaker.config.ppo,
        generator=torch.Generator().manual_seed(seed),
    )
    golds = [0.0 if gold is None else gold for gold in answers.gold()]
    scores, worths = (
        [values[i : i + SAMPLES] for i in range(0, len(values), SAMPLES)]
        for values in (answers.scores, golds)
    )
    return best_of_n_course(scores, worths, BEST_OF)


def judge_report(plan: Plan, settings: Sequence[Setting]) -> dict[str, Any]:
    """What one reward model led to, at every price, with the best of n and the fitted laws."""
    courses = [courses_of(plan, setting) for setting in settings]
    best = [
        best_of_n_of(open_speaker(str(plan.folder(settings[0], seed)), ["sft"], None), seed)
        for seed in courses[0]
    ]
    best_of_n = [Point(*map(mean, zip(*points, strict=True))) for points in zip(*best, strict=True)]
    prices = [
        price_report(plan, setting, found) for setting, found in zip(settings, courses, strict=True)
    ]
    first = best_of_n[0].gold if best_of_n else 0.0  # the best of one is the reference
    cheapest = min(prices, key=lambda row: row["price"])
    points = [Point(*point) for point in cheapest["course"]]
    fits = {
        "best_of_n": fit_best_of_n(best_of_n, first),
        "reinforcement": fit_reinforcement(points, first),
    }
    return {
        "name": settings[0].values["reward_model"],
        "gold_at_reference": first,
        "best_of_n": [[n, *point] for n, point in zip(BEST_OF, best_of_n, strict=False)],
        "frontier": frontier_of(plan, settings),
        "fits": {name: fit and fit._asdict() for name, fit in fits.items()},
        "prices": prices,
    }


def frontier_of(plan: Plan, settings: Sequence[Setting]) -> list[list[float]]:
    """(KL, score) of the best policies for this reward model, at the lowest price above 0 and
    higher ones: for each of these the mean over the seeds, as in the courses, so that no mean of
    policies lies above. None where there is no such price."""
    priced = [setting for setting in settings if setting.values["price"] > 0]
    if not priced:
        return []
    lowest = plan.done(min(priced, key=lambda setting: setting.values["price"]))
    by_price = zip(*(summary["frontier"] for summary in lowest.values()), strict=True)
    return [[mean(part) for part in zip(*points, strict=True)] for points in by_price]


def results_of(plan: Plan) -> dict[str, Any]:
    """What overoptimise.json holds."""
    names = plan.vary["reward_model"]
    groups = [[s for s in plan.settings if s.values["reward_model"] == name] for name in names]
    grid = {"sizes x prices x seeds": [len(names), len(plan.vary["price"]), len(plan.seeds)]}
    return {
        "command": plan.command,
        "grid": grid | plan.vary,
        "seeds": plan.seeds,
        "reward_models": [judge_report(plan, group) for group in groups],
    }


def table(results: dict[str, Any]) -> list[str]:
    """Lines of Markdown: a row for each reward model and price, then the laws."""
    lines = [
        "| reward model | accuracy | price | KL at the end | score at the end | best gold | "
        f"gold at the end | drop | drops >= {MUCH:g} | drops <= {LITTLE:g} |",
        "|---|---:|---:|---:|---:|---:|---:|---:|---:|---:|",
    ]
    for judge in results["reward_models"]:
        for row in judge["prices"]:
            if row["course"]:
                lines.append(row_of(judge["name"], row))
    lines += ["", "gold - gold of the reference, d = sqrt(KL):", ""]
    for judge in results["reward_models"]:
        for name, law in (("best_of_n", "d"), ("reinforcement", "log d")):
            if fit := judge["fits"][name]:
                lines.append(
                    f"    {judge['name']}, {name.replace('_', ' ')}: d ({fit['a']:.2f} - "
                    f"{fit['b']:.2f} {law}), residual {fit['residual']:.3f} of {fit['spread']:.3f}"
                )
    return lines


def row_of(name: str, row: dict[str, Any]) -> str:
    """A row of the table."""
    kl, score, gold = row["course"][-1]
    best, drops, n = max(point[2] for point in row["course"]), row["drops"], len(row["seeds"])
    cells = [name, f"{mean(row['accuracy']):.3f}", f"{row['price']:g}", f"{kl:.2f}"]
    cells += [f"{score:.2f}", f"{best:.2f}", f"{gold:.2f}"]
    if drops is None:
        cells += ["-"] * 3
    else:
        many, few = (sum(drop >= MUCH for drop in drops), sum(drop <= LITTLE for drop in drops))
        cells += [f"{mean(drops):.3f}", f"{many} of {n}", f"{few} of {n}"]
    return f"| {' | '.join(cells)} |"


def show_results(plan: Plan, folder: RunFolder) -> None:
    """The numbers in a file, the table on the screen and in another, and the figure."""
    results = results_of(plan)
    keep(plan.out / RESULT, lambda path: write_json(path, results))
    lines = table(results)
    keep(plan.out / "table.md", lambda path: write_text_whole(path, "\n".join(lines) + "\n"))
    panels = [
        Panel(
            judge["name"],
            {f"{row['price']:g}": row["course"] for row in judge["prices"]},
            [point[1:] for point in judge["best_of_n"]],
            judge["frontier"],
        )
        for judge in results["reward_models"]
    ]
    folder.save_figure("overoptimisation", figures.overoptimisation(panels))
    print("\n".join(lines))


@command
def main(arguments: Sequence[str] | None = None) -> int:
    """The command; returns its exit status."""
    carry_out(make_plan(sys.argv[1:] if arguments is None else arguments), show_results)
    return 0
