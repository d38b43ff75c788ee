"""Ask the models of finished runs the same prompts, and say which answers are better.

    python -m minippo.evaluate RUN [--against OTHER[:STAGE] ...] [--eval_prompts 200] [--seed 0]

RUN's pretrained model, fine-tuned model and policy answer prompts that no training stage has seen;
--against adds a model of another run with the same words, so that a policy can be set against a
larger fine-tuned model. A table shows the gold score, how often an answer beats that of RUN's
fine-tuned model and that of its policy, and how many answers keep each of the task's rules. Where
the task has them, prompts of unfamiliar forms follow. --out FILE keeps the numbers as JSON.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from random import Random
from typing import Any

import torch

from minippo.annotators.rules import rules_of
from minippo.commands.comparison import number_text
from minippo.commands.export import LANGUAGE_MODELS, check_stage
from minippo.commands.speaker import Speaker, has_stage, no_score, open_speaker
from minippo.commands.talk import checked
from minippo.commands.wrapper import Parser, command
from minippo.errors import InputError
from minippo.gpt import GPT
from minippo.runs.files import write_json
from minippo.runs.read import parse_object, read_bytes
from minippo.runs.screen import Screen
from minippo.runs.stats import mean
from minippo.runs.text import counted
from minippo.stages.evaluate import Answers, answer, win_rate
from minippo.tasks.base import Task
from minippo.tokenizer import pad_left

FAMILIAR = "evaluation prompts"
RIVALS = ("sft", "policy")  # of the run: whom the answers are set against


def evaluation_prompts(speaker: Speaker, run: str, n: int, rng: Random) -> dict[str, list[str]]:
    """{kind: prompts}: the task's evaluation prompts and unfamiliar ones; where the task is not at
    hand, those that the run has kept as samples."""
    if speaker.task is None:
        return {FAMILIAR: sampled_prompts(Path(run) / "samples.jsonl")[:n]}
    unfamiliar = speaker.task.unfamiliar_prompts(n, rng=Random(rng.random()))
    familiar = {FAMILIAR: speaker.task.evaluation_prompts(n, rng=rng)}
    return familiar | {kind: list(prompts) for kind, prompts in unfamiliar.items()}


def sampled_prompts(path: Path) -> list[str]:
    """The prompts of a run's samples. InputError: there are none."""
    lines = read_bytes(path).splitlines()
    prompts = [parse_object(line, path).get("prompt") for line in lines]
    if not prompts or not all(isinstance(prompt, str) for prompt in prompts):
        raise InputError(f"{path}: holds no samples; the run is not finished")
    return [str(prompt) for prompt in prompts]


def task_of(speaker: Speaker) -> Task:
    """The task; without one, something that has its tokenizer and no rule."""
    if speaker.task is not None:
        return speaker.task
    task = Task()
    task.tokenizer = speaker.tokenizer
    return task


def rivals_of_other_runs(speaker: Speaker, names: Sequence[str]) -> dict[str, GPT]:
    """{OTHER:STAGE: model}. InputError: it reads other words, or it is not there."""
    found = {}
    for name in names:
        run, _, stage = name.rpartition(":") if ":" in name else (name, ":", "sft")
        check_stage(stage, LANGUAGE_MODELS)
        other = open_speaker(run, [stage], None)
        if other.tokenizer.to_dict() != speaker.tokenizer.to_dict():
            raise InputError(f"--against {name}: its tokenizer knows other words than the run's")
        found[f"{run}:{stage}"] = other.models[stage]
    return found


def answers_of(
    speaker: Speaker, models: Mapping[str, GPT], prompts: Sequence[str], seed: int
) -> dict[str, Answers]:
    """The Answers of every model; all draw with the same numbers."""
    task = task_of(speaker)
    rows = [speaker.prompt_ids(prompt) for prompt in prompts]
    tensors = pad_left(rows, speaker.tokenizer.pad_id)
    return {
        name: answer(
            model,
            task,
            prompts,
            tensors,
            score_function=speaker.reward_model or no_score,
            config=speaker.config.ppo,
            generator=torch.Generator().manual_seed(seed),
        )
        for name, model in models.items()
    }


def report_on(
    speaker: Speaker, prompts: Sequence[str], found: Mapping[str, Answers]
) -> dict[str, dict[str, Any]]:
    """{model: its row}: gold, score, length, EOS, wins against the run's own models, and the share
    of answers that keep each rule."""
    task = task_of(speaker)
    rules, report = rules_of(task), {}
    for name, answers in found.items():
        gold = [x for x in answers.gold() if x is not None]
        kept = {
            rule: mean(check(p, text) for p, text in zip(prompts, answers.texts, strict=True))
            for rule, check in rules.items()
        }
        report[name] = {
            "gold": mean(gold) if gold else None,
            "score": mean(answers.scores) if speaker.reward_model is not None else None,
            "length": mean(answers.lengths),
            "eos_rate": mean(answers.ended),
            "rules": kept,
            "against": {
                rival: win_rate(found[rival], answers, has_gold=task.has_gold, prompts=prompts)
                for rival in RIVALS
                if rival in found and rival != name and can_judge(speaker, task)
            },
        }
    return report


def can_judge(speaker: Speaker, task: Task) -> bool:
    """Is there anything that says which of two answers is better?"""
    return task.has_gold or speaker.reward_model is not None


def lines_of(kind: str, n: int, report: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """The report on one kind of prompts as Markdown."""
    rivals = [rival for rival in RIVALS if any(rival in row["against"] for row in report.values())]
    columns = ["gold", "score", "length", "EOS", *(f"wins against {rival}" for rival in rivals)]
    lines = ["", f"{counted(n, 'prompt')}: {kind}", ""]
    lines += [row_text(["model", *columns]), row_text(["---", *["---:"] * len(columns)])]
    for name, row in report.items():
        cells = [number_text(row[key]) for key in ("gold", "score", "length", "eos_rate")]
        cells += [wins_text(row["against"].get(rival)) for rival in rivals]
        lines.append(row_text([name, *cells]))
    lines += ["", row_text(["answers that keep the rule", *report])]
    lines.append(row_text(["---", *["---:"] * len(report)]))
    for rule in next(iter(report.values()))["rules"]:
        kept = (number_text(row["rules"][rule]) for row in report.values())
        lines.append(row_text([rule, *kept]))
    return lines


def row_text(cells: Sequence[str]) -> str:
    """A row of a table in Markdown."""
    return f"| {' | '.join(cells)} |"


def wins_text(wins: Mapping[str, Any] | None) -> str:
    """'0.875 (0.830 to 0.910)'."""
    if wins is None:
        return "-"
    return f"{wins['value']:.3f} ({wins['low']:.3f} to {wins['high']:.3f})"


def make_parser() -> Parser:
    """The flags."""
    parser = Parser(prog="python -m minippo.evaluate", description=__doc__)
    parser.add_argument("run_folder", nargs="?", metavar="RUN", help="the folder of the run")
    parser.add_argument("--run", metavar="DIR", help="the same, by name")
    parser.add_argument(
        "--against",
        nargs="+",
        default=[],
        metavar="RUN:STAGE",
        help="models of other runs with the same words (STAGE: sft where it is not said)",
    )
    parser.add_argument(
        "--task", metavar="FILE.py:Class", help="again, where the run has a task of your own"
    )
    parser.add_argument(
        "--reward", metavar="FILE.py:function", help="again, where a function of yours scored it"
    )
    parser.add_argument("--eval_prompts", default="200", metavar="INT", help="of each kind (200)")
    parser.add_argument("--seed", default="0", metavar="INT", help="of prompts and draws (0)")
    parser.add_argument("--out", metavar="FILE", help="the numbers as JSON")
    return parser


@command
def main(arguments: Sequence[str] | None = None) -> int:
    """The command; returns its exit status."""
    own = make_parser().parse_args(arguments)
    run = own.run or own.run_folder
    if run is None:
        raise InputError("which run? python -m minippo.evaluate RUN")
    n, seed = checked("eval_prompts", own.eval_prompts), checked("seed", own.seed)
    stages = [stage for stage in LANGUAGE_MODELS if has_stage(run, stage)]
    speaker = open_speaker(run, stages or None, None, task=own.task, reward=own.reward)
    models = dict(speaker.models) | rivals_of_other_runs(speaker, own.against)
    results, screen = {}, Screen()
    for kind, prompts in evaluation_prompts(speaker, run, n, Random(seed)).items():
        report = report_on(speaker, prompts, answers_of(speaker, models, prompts, seed))
        results[kind] = {"prompts": len(prompts), "models": report}
        for line in lines_of(kind, len(prompts), report):
            screen.note(line)
    if own.out is not None:
        write_json(Path(own.out), results)
    return 0
