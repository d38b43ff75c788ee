"""A plan of runs: several settings, each on the same seeds. For `compare` and `overoptimise`.

Each run lies in DIR/runs/SETTING/seed-N, in DIR/compare.json what is known of all of them so far.
The same plan in the same folder goes on where it was stopped; another one is refused.
"""

import sys
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from minippo.commands.comparison import Setting, as_json, check_summary
from minippo.commands.flags import parse_arguments
from minippo.commands.measure import begin_run, status_of, summary_of, without_places
from minippo.commands.report import write_side_by_side
from minippo.commands.sharing import share_stages
from minippo.commands.side_by_side import Job, Process, run_jobs
from minippo.errors import InputError, Interrupted, TrainingError
from minippo.runs.figures.style import check_drawing
from minippo.runs.files import write_json
from minippo.runs.folder import RunFolder
from minippo.runs.place import check_writable, named_folder
from minippo.runs.read import LARGEST_NUMBERS, read_json, reason
from minippo.runs.seals import digest_of
from minippo.runs.text import counted

RESULT = "compare.json"


@dataclass(frozen=True)
class Plan:
    """What is to be run, and where."""

    command: str  # as it was typed
    vary: dict[str, list[Any]]
    seeds: list[int]
    settings: list[Setting]
    out: Path
    quiet: bool
    jobs: int = 1  # runs at the same time

    def digest(self) -> str:
        """What makes it this comparison and no other; data may be moved meanwhile."""
        configs = [without_places(setting.config) for setting in self.settings]
        return digest_of([self.vary, self.seeds, configs])

    def folder(self, setting: Setting, seed: int) -> Path:
        """Where the run of this setting and seed lies."""
        return self.out / "runs" / setting.folder / f"seed-{seed}"

    def done(self, setting: Setting) -> dict[int, dict[str, Any]]:
        """{seed: summary} of the runs that are finished."""
        found = {}
        for seed in self.seeds:
            folder = self.folder(setting, seed)
            if (summary := summary_of(folder)) is not None:
                check_summary(summary, folder / "summary.json")
                found[seed] = summary
        return found


def open_folder(plan: Plan) -> RunFolder:
    """The folder of the comparison, new or begun by the same command. InputError: it holds
    something else."""
    if (plan.out / RESULT).exists():
        found = read_json(plan.out / RESULT, LARGEST_NUMBERS)
        if found.get("digest") != plan.digest():
            raise InputError(
                f"--out {plan.out}: holds the comparison of another command, "
                f"{found.get('command')!r}, and this is {plan.command!r}; name another --out"
            )
        return RunFolder(plan.out)
    named_folder(plan.out, resume=False)
    check_writable(plan.out, "--out")
    write_results(plan)
    return RunFolder(plan.out)


def run_all(plan: Plan) -> list[str]:
    """Every run that is not done, one seed after the other or side by side; returns what those that
    failed are called."""
    failed, left = [], Counter(dict.fromkeys(plan.seeds, len(plan.settings)))
    runs = {
        Job(f"{setting.name}, seed {seed}", seed, partial(begin, plan, setting, seed)): setting
        for seed in plan.seeds
        for setting in plan.settings
    }

    def ended(job: Job, status: int) -> None:
        status = status_of(plan.folder(runs[job], job.lane), status)
        if status == 130:
            raise KeyboardInterrupt
        if status != 0:
            failed.append(job.name)
            print(f"{job.name}: failed, with exit status {status}", file=sys.stderr, flush=True)
        left[job.lane] -= 1
        if left[job.lane] == 0:
            write_results(plan)

    run_jobs([*runs], plan.jobs, ended)
    return failed


def begin(plan: Plan, setting: Setting, seed: int) -> Process | None:
    """Begin one run, in a process of its own, unless it is done."""
    out, arguments = plan.folder(setting, seed), [*setting.arguments, "--seed", str(seed)]
    if summary_of(out) is None:
        config = parse_arguments(arguments).config
        others = [plan.folder(other, seed) for other in plan.settings if other is not setting]
        shared = share_stages(config, out, others)
        if not plan.quiet:
            number = plan.seeds.index(seed) * len(plan.settings) + plan.settings.index(setting) + 1
            title = f"run {number} of {len(plan.seeds) * len(plan.settings)}: {setting.name}"
            print(f"{title}, seed {seed}" + f" ({', '.join(shared)} as before)" * bool(shared))
    return begin_run(out, arguments, flag="--out", quiet=plan.quiet)


def results_of(plan: Plan) -> dict[str, Any]:
    """What compare.json holds, of the runs that are done."""
    about = {"command": plan.command, "digest": plan.digest()}
    done = [plan.done(setting) for setting in plan.settings]
    return {"vary": plan.vary, "seeds": plan.seeds} | as_json(plan.settings, done) | about


def write_results(plan: Plan) -> None:
    """compare.json as far as it is known."""
    keep(plan.out / RESULT, lambda path: write_json(path, results_of(plan)))


def keep(path: Path, write: Callable[[Path], None]) -> None:
    """Write a file. TrainingError, one line, where the disk refuses."""
    try:
        write(path)
    except OSError as error:
        raise TrainingError(f"cannot write {path}: {reason(error)}") from error


def carry_out(plan: Plan, show: Callable[[Plan, RunFolder], None]) -> None:
    """All runs of a plan, and then `show` them. Interrupted says how to go on; TrainingError: some
    runs have failed, after the others were shown."""
    check_drawing()
    folder = open_folder(plan)
    with folder.lock():
        try:
            failed = run_all(plan)
            show(plan, folder)
            lay_side_by_side(plan, folder)
        except (KeyboardInterrupt, Interrupted):
            raise Interrupted(f"interrupted; to go on: {plan.command}") from None
    if failed:
        number = len(plan.seeds) * len(plan.settings)
        raise TrainingError(
            f"{len(failed)} of {counted(number, 'run')} failed: {'; '.join(failed)}; the same "
            "command tries them again"
        )


def lay_side_by_side(plan: Plan, folder: RunFolder) -> None:
    """The report of the settings on the first seed, unless --no-report or too few are done."""
    folders = {setting.name: plan.folder(setting, plan.seeds[0]) for setting in plan.settings}
    runs = {name: path for name, path in folders.items() if summary_of(path) is not None}
    if len(runs) > 1 and plan.settings[0].config.run.report:
        line = write_side_by_side(folder, runs)
        if not plan.quiet:
            print(line)
