"""The same run on several seeds, each in a process of its own, and a table of all of them with the
worst below.

    python -m minippo.measure --seeds 0-9 --root runs/measure --task tldr --preset default

Whatever is not --seeds or --root goes to minippo.train_toy. The table is Markdown, on the screen
and in ROOT/table.md. The same command again goes on: a seed that is finished is not run again, and
one that was interrupted is resumed. A folder with other settings is refused.
"""

import argparse
import os
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from minippo.commands.config import Config, resolve, stored_settings
from minippo.commands.flags import parse_arguments
from minippo.commands.own import NAMED, digest_of_reward
from minippo.commands.prepare import prepare
from minippo.commands.side_by_side import Process, stop
from minippo.commands.wrapper import Parser, command
from minippo.errors import InputError, Interrupted
from minippo.runs.files import write_text_whole
from minippo.runs.read import read_json
from minippo.runs.seals import read_config
from minippo.settings import is_own
from minippo.tasks import Files
from minippo.tasks.own_file import label_of

INSTEAD = {
    "seed": "name the seeds with --seeds first-last",
    "out": "name the folder for all of them with --root",
    "resume": "the same command once more goes on",
}
PLACES = ("data", "start_from")
MOST_SEEDS = 10_000

# header, how to get it from a summary, which of two values is the worse one, decimals
COLUMNS: tuple[tuple[str, Callable[[Any], Any], Callable[..., Any], int], ...] = (
    ("seconds", lambda s: s["seconds"]["total"], max, 0),
    ("in loops", lambda s: s["seconds_in_matmul_loops"], max, 0),
    ("MiB", lambda s: s["peak_memory_mib"], max, 0),
    ("RM accuracy", lambda s: _judged(s, "heldout_accuracy"), min, 3),
    ("ceiling", lambda s: _judged(s, "annotator_ceiling"), min, 3),
    ("skill", lambda s: _judged(s, "skill"), min, 3),
    ("gold share before", lambda s: _share(s, "sft"), min, 3),
    ("gold share after", lambda s: _share(s, "policy"), min, 3),
    ("gold before", lambda s: _gold(s, "sft"), min, 3),
    ("gold after", lambda s: _gold(s, "policy"), min, 3),
    ("training prompts before", lambda s: _on_training(s, "sft"), min, 3),
    ("training prompts after", lambda s: _on_training(s, "policy"), min, 3),
    ("win rate", lambda s: s["win_rate"]["value"], min, 3),
    ("optimality", lambda s: s["optimality"], min, 3),
    ("ESS", lambda s: s["optimum"]["effective_sample_size"], min, 0),
    ("least ESS", lambda s: s["optimum"]["effective_sample_size_min"], min, 0),
    ("EOS", lambda s: s["policy"]["eos_rate"], min, 3),
    ("KL", lambda s: s["policy"]["kl"], max, 2),
    ("P(right) before", lambda s: _right(s, "before"), min, 3),
    ("P(right) after", lambda s: _right(s, "after"), min, 3),
)


def table(summaries: Sequence[Mapping[str, Any]]) -> list[str]:
    """Lines of a Markdown table: a row per summary, and the worst of each column; columns without a
    number are left out."""
    columns = [
        column for column in COLUMNS if all(column[1](summary) is not None for summary in summaries)
    ]
    rows = [
        [f"{get(summary):.{decimals}f}" for _, get, _, decimals in columns] for summary in summaries
    ]
    worst = [
        f"{worse(get(summary) for summary in summaries):.{decimals}f}"
        for _, get, worse, decimals in columns
    ]
    lines = [["seed", *(header for header, *_ in columns)], ["---:"] * (len(columns) + 1)]
    lines += [
        [str(summary["seed"]), *row] for summary, row in zip(summaries, rows, strict=True)
    ] + [["worst", *worst]]
    return ["| " + " | ".join(line) + " |" for line in lines]


def _share(summary, which):
    """Mean gold of a stage over the best possible."""
    return None if summary["gold_max"] is None else summary[which]["gold"] / summary["gold_max"]


def _gold(summary, which):
    """Mean gold of a stage where nobody knows the best possible."""
    return summary[which]["gold"] if summary["gold_max"] is None else None


def _judged(summary, name):
    """A number of the reward model's report; None where a rule scores."""
    return None if summary["reward_model"] is None else summary["reward_model"][name]


def _on_training(summary, which):
    """The same as _share or _gold on prompts that were trained on."""
    training = summary.get("gold_training")
    return None if training is None else training[which] / (summary["gold_max"] or 1.0)


def _right(summary, when):
    """The mean probability of the right answers that the run watched."""
    rows = summary["answers"]
    return None if not rows else sum(row[f"right_{when}"] for row in rows) / len(rows)


def has_settings(out: Path, arguments: Sequence[str]) -> bool:
    """Was the run in this folder made with these arguments, and from what they name?"""
    wanted = parse_arguments(arguments).config
    try:
        found = read_config(out / "config.json")
        was = resolve(stored_settings(found))
    except (InputError, ValueError, KeyError, TypeError):
        return False
    if wanted.run.start_from is not None:
        wanted = replace(wanted, model=was.model)  # the size is that of the model to start from
    return without_places(was) == without_places(wanted) and has_inputs(found, was, wanted)


def without_places(config: Config) -> dict[str, Any]:
    """The same run wherever its data, its model and files of the user's own are: {field: value}."""
    run: dict[str, Any] = {**vars(config.run), **dict.fromkeys(PLACES)}
    run |= {name: label_of(run[name]) for name in NAMED}
    return config.to_dict() | {"run": run}


def places(config: Config) -> dict[str, str | None]:
    """{flag: the folder that it names}."""
    named = {name: getattr(config.run, name) for name in PLACES}
    return {name: folder and os.path.abspath(folder) for name, folder in named.items()}


def has_inputs(found: Mapping[str, Any], was: Config, wanted: Config) -> bool:
    """Are data and model still those that the run began with? Where they are gone, their place has
    to do."""
    own = [getattr(wanted.run, name) for name in NAMED if is_own(getattr(wanted.run, name))]
    if wanted.run.task != Files.name and not own:
        return places(was) == places(wanted)
    try:
        _, task, start = prepare(wanted)
    except InputError:
        return places(was) == places(wanted)
    versions = found.get("versions", {})
    if versions.get("reward") != digest_of_reward(wanted.run.reward):
        return False
    return task.fingerprint == versions.get("data") and (start and start._asdict()) == found.get(
        "start"
    )


def resuming(out: Path, arguments: Sequence[str]) -> list[str]:
    """What train_toy is told to go on with the run in this folder: also where its data or its
    model is now."""
    wanted = parse_arguments(arguments).config
    now, was = (
        places(config)
        for config in (wanted, resolve(stored_settings(read_json(out / "config.json"))))
    )
    moved = {name: folder for name, folder in now.items() if folder and folder != was[name]}
    # files of the user's own are named again: nothing imports them otherwise
    named = {name: getattr(wanted.run, name) for name in NAMED}
    moved |= {name: text for name, text in named.items() if is_own(text)}
    return ["--resume", *(word for name in moved for word in (f"--{name}", str(moved[name])))]


def summary_of(out: Path) -> dict[str, Any] | None:
    """The summary of a finished run; None where there is none that can be read."""
    try:
        return read_json(out / "summary.json")
    except InputError:
        return None


def begin_run(
    out: Path, arguments: Sequence[str], *, flag: str = "--root", quiet: bool = False
) -> Process | None:
    """Start train_toy in a process of its own, or go on with the run that was stopped in this
    folder; None where it is finished. `flag` named the folder; `quiet`: the run prints errors
    only."""
    begun = (out / "config.json").exists()
    if begun and not has_settings(out, arguments):
        raise InputError(f"{flag}: {out} holds a run with other settings; name another {flag}")
    if summary_of(out) is not None:
        return None
    own = resuming(out, arguments) if begun else [*arguments]
    program = [sys.executable, "-m", "minippo.train_toy", *own, "--out", str(out), "--quiet"]
    sys.stdout.flush()  # what is printed here comes before what is printed there
    options: dict[str, Any] = {"stdout": subprocess.DEVNULL} if quiet else {}
    return subprocess.Popen(program, **options)


def status_of(out: Path, status: int) -> int:
    """That of a run in this folder which has ended: what it could not print is told by then, and is
    no reason to stop."""
    return 0 if summary_of(out) is not None else status


def run_once(out: Path, arguments: Sequence[str]) -> int:
    """Run train_toy, or go on with it; its exit status."""
    process = begin_run(out, arguments)
    if process is None:
        return 0
    try:
        return status_of(out, process.wait())
    except KeyboardInterrupt:
        stop([process])
        raise Interrupted("interrupted; to go on: the same command once more") from None


def seeds_of(text: str) -> list[int]:
    """The seeds of "first-last", of one number, or of several of these with commas between
    them."""
    seeds: list[int] = []
    try:
        for part in text.split(","):
            first, last = (int(end) for end in (part.split("-") * 2)[:2])
            if part.count("-") > 1 or not first <= last < first + MOST_SEEDS:
                raise ValueError
            seeds += range(first, last + 1)
    except ValueError:
        raise InputError(f"--seeds: wanted first-last, as in 0-9, got {text!r}") from None
    if len({*seeds}) < len(seeds):
        raise InputError(f"--seeds: names a seed twice, got {text!r}")
    return seeds


@command
def main(arguments: Sequence[str] | None = None) -> int:
    """The command; returns its exit status."""
    parser = Parser(prog="python -m minippo.measure", description=__doc__)
    parser.add_argument(
        "--seeds", default="0-9", help="first-last, or some with commas between them"
    )
    parser.add_argument(
        "--root", default="runs/measure", type=Path, help="where the run folders and the table go"
    )
    for name in INSTEAD:
        parser.add_argument(f"--{name}", nargs="?", const="", help=argparse.SUPPRESS)
    own, passed_on = parser.parse_known_args(arguments)
    for name, instead in INSTEAD.items():
        if getattr(own, name) is not None:
            raise InputError(f"--{name}: measure says that to each run itself; {instead}")
    summaries = []
    for seed in seeds_of(own.seeds):
        out = own.root / f"seed-{seed}"
        status = run_once(out, [*passed_on, "--seed", str(seed)])
        if status != 0:
            return status
        summaries.append(read_json(out / "summary.json"))
    lines = table(summaries)
    write_text_whole(own.root / "table.md", "\n".join(lines) + "\n")
    print("\n".join(lines))
    return 0
