"""What the annotator makes of the policy: the tables of docs/annotators.md.

    python benchmarks/annotators.py [--cases NAME ...] [--seeds 100 101 102] [--threads 1]
        [--work DIR]

The quick preset of the task tldr, one case after the other. Pretraining and fine-tuning know
nothing of the annotator, so the cases of a seed share them; the stages after them are those of
`train_toy`, with the same bits. Every case of every seed leaves a line in DIR/results.jsonl, and a
line that is there is not measured again. The tables are Markdown; a cell is the mean over the
seeds, and in brackets the least and the most.
"""

import argparse
import copy
import json
import shutil
import tempfile
from pathlib import Path
from typing import Any

import torch

from minippo.annotators import REGISTRY
from minippo.commands.config import Config, check_used, resolve
from minippo.commands.path import enough
from minippo.commands.pipeline import fine_tune, pretrain
from minippo.commands.prepare import prepare
from minippo.commands.run import Run
from minippo.commands.train import reward_and_policy
from minippo.gpt import GPT
from minippo.reward_head import RewardModel
from minippo.runs.folder import RunFolder
from minippo.runs.screen import Screen
from minippo.runs.stats import mean
from minippo.stages.calibration import BINS
from minippo.stages.evaluate import Answers, acceptability, answer, claims_report, gold_report

CASES: dict[str, dict[str, Any]] = {
    "gold": {},
    "noisy": {"annotator": "noisy"},
    "length": {"annotator": "length"},
    "length 2": {"annotator": "length", "annotator_length_bias": 2.0},
    "confident": {"annotator": "confident"},
    "adversarial": {"annotator": "adversarial"},
    "panel": {"annotator": "panel"},
    "rules": {"annotator": "rules"},
    "ranking": {"preference_labels": "ranking"},
    "ratings": {"preference_labels": "ratings"},
    "one layer": {"reward_layers": 1},
    "pretrained": {"preferences_from": "pretrain"},
    "2 rounds": {"rounds": 2, "preference_prompts": 1500},
}
COLUMNS = {
    "held-out accuracy": ("accuracy", 3),
    "ceiling": ("ceiling", 3),
    "gold": ("gold", 2),
    "KL": ("kl", 2),
    "words": ("length", 1),
    "claims": ("claims", 2),
    "of them true": ("true", 3),
    "acceptability": ("acceptability", 3),
}


def config_of(seed: int, threads: int, settings: dict[str, Any]) -> Config:
    """The quick preset with these settings."""
    settings = {"preset": "quick", "seed": seed, "threads": threads} | settings
    config = resolve(settings)
    check_used(settings, config)
    return config


def run_in(folder: Path, config: Config) -> Run:
    """A Run whose files go into this folder."""
    config, task, _ = prepare(config)
    folder.mkdir(parents=True, exist_ok=True)
    return Run(config, task, torch.device("cpu"), RunFolder(folder), Screen(quiet=True))


def measure(run: Run, sft: GPT) -> dict[str, Any]:
    """One case: the reward model, the policy, and what its responses are like."""
    reward_model, report, trained = reward_and_policy(run, sft)
    prompts = enough(
        run.task.evaluation_prompts(
            run.config.eval.eval_prompts, rng=run.rng("evaluation prompts")
        ),
        run.config.eval.eval_prompts,
    )
    before, after = (
        answers_of(run, model, prompts, reward_model, name)
        for name, model in (("before", trained.models.reference), ("after", trained.models.policy))
    )
    accepted = acceptability(
        REGISTRY[run.config.preference.annotator],
        run.task,
        prompts,
        before=before,
        after=after,
        config=run.config.annotator,
        generator=run.generator("acceptability"),
    )
    about = {
        "accuracy": report["heldout_accuracy"],
        "ceiling": report["annotator_ceiling"],
        "disagreement": report.get("disagreement"),
        "calibration": report["calibration"],
        "earlier": report.get("earlier_accuracy"),
        "kl": trained.rows[-1]["objective/kl"],
        "acceptability": accepted,
    }
    return about | kind_of(run, prompts, after) | {"sft": kind_of(run, prompts, before)}


def answers_of(
    run: Run, model: GPT, prompts: list[str], reward_model: RewardModel, name: str
) -> Answers:
    """The answers that the evaluation of a run takes."""
    return answer(
        model,
        run.task,
        prompts,
        run.prompt_tensors(prompts),
        score_function=reward_model,
        config=run.config.ppo,
        generator=run.generator(name),
    )


def kind_of(run: Run, prompts: list[str], answers: Answers) -> dict[str, Any]:
    """Gold score, words and claims of some answers."""
    claims = claims_report(run.task, prompts, answers) or {}
    return {
        "gold": gold_report(answers)[0],
        "length": mean(len(text.split()) for text in answers.texts),
        "claims": claims.get("number"),
        "true": claims.get("true"),
    }


def measure_seed(seed: int, wanted: list[str], own: Any, work: Path) -> None:
    """Every wanted case of a seed that has not been measured."""
    there = {(row["case"], row["seed"]) for row in results(work)}
    missing = [name for name in wanted if (name, seed) not in there]
    if not missing:
        return
    shared = work / f"shared-{seed}"
    shutil.rmtree(shared, ignore_errors=True)
    base = run_in(shared, config_of(seed, own.threads, {}))
    sft = fine_tune(base, pretrain(base))
    for name in missing:
        folder = work / "case"
        shutil.rmtree(folder, ignore_errors=True)
        shutil.copytree(shared, folder)
        run = run_in(folder, config_of(seed, own.threads, CASES[name]))
        run.seals |= base.seals
        row = {"case": name, "seed": seed} | measure(run, copy.deepcopy(sft))
        with open(work / "results.jsonl", "a", encoding="utf-8") as file:
            file.write(json.dumps(row) + "\n")
        print(name, seed, flush=True)


def results(work: Path) -> list[dict[str, Any]]:
    """The rows that are there."""
    path = work / "results.jsonl"
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def cell(numbers: list[float | None], decimals: int) -> str:
    """The mean, the least and the most."""
    known = [number for number in numbers if number is not None]
    if not known:
        return "-"
    least, most = (f"{end:.{decimals}f}" for end in (min(known), max(known)))
    return f"{mean(known):.{decimals}f} ({least} to {most})"


def table(rows: list[dict[str, Any]]) -> str:
    """A line for the fine-tuned model and one for each case."""
    lines = [f"| case | {' | '.join(COLUMNS)} |", "| --- |" + " ---: |" * len(COLUMNS)]
    names = list(dict.fromkeys(row["case"] for row in rows))
    groups = {name: [row for row in rows if row["case"] == name] for name in names}
    if names:
        groups = {"before PPO": [row["sft"] for row in groups[names[0]]]} | groups
    for name, group in groups.items():
        cells = [cell([row.get(key) for row in group], n) for key, n in COLUMNS.values()]
        lines.append(f"| {name} | {' | '.join(cells)} |")
    return "\n".join(lines)


def pooled(parts: list[dict[str, float]], key: str) -> float:
    """The mean over the pairs of all seeds."""
    return sum(part["pairs"] * part[key] for part in parts) / sum(part["pairs"] for part in parts)


def calibrations(rows: list[dict[str, Any]]) -> str:
    """For each case and bin, over all pairs of all seeds: predicted -> chosen."""
    lines = ["| case | predicted -> chosen, from unsure to sure |", "| --- | --- |"]
    for name in dict.fromkeys(row["case"] for row in rows):
        bins: dict[int, list[dict[str, float]]] = {}
        for part in (part for row in rows if row["case"] == name for part in row["calibration"]):
            number = min(BINS - 1, int((part["predicted"] - 0.5) * 2 * BINS))
            bins.setdefault(number, []).append(part)
        shown = [
            f"{pooled(bins[number], 'predicted'):.2f} -> {pooled(bins[number], 'chosen'):.2f}"
            for number in sorted(bins)
        ]
        lines.append(f"| {name} | {'; '.join(shown)} |")
    return "\n".join(lines)


def main() -> int:
    """The command; returns its exit status."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--cases", nargs="+", default=list(CASES), choices=list(CASES))
    parser.add_argument("--seeds", nargs="+", type=int, default=[100, 101, 102])
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--work", type=Path, default=None)
    own = parser.parse_args()
    torch.set_num_threads(own.threads)
    work = own.work or Path(tempfile.mkdtemp(prefix="annotators-"))
    work.mkdir(parents=True, exist_ok=True)
    for seed in own.seeds:
        measure_seed(seed, own.cases, own, work)
    rows = [row for row in results(work) if row["case"] in own.cases and row["seed"] in own.seeds]
    rows.sort(key=lambda row: (own.cases.index(row["case"]), row["seed"]))
    print(f"{table(rows)}\n\n{calibrations(rows)}")
    for name, text in (
        ("disagreement", "outvoted members of the panel, share of a pair's votes"),
        ("earlier", "accuracy of the first round's reward model on pairs of the second"),
    ):
        known = [row[name] for row in rows if row.get(name) is not None]
        print(f"\n{text}: {cell(known, 3)}")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
