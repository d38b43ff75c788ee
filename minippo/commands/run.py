"""What every stage of a run needs: configuration, task, device, folder, screen and clock."""

import random
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from minippo.algorithms import REGISTRY
from minippo.algorithms.base import Algorithm
from minippo.commands.config import Config
from minippo.commands.recipe import context_needed, recipes, stage_before, stage_seed
from minippo.errors import InputError
from minippo.runs.diagnostics import Finding, diagnose, never_asked, reward_coin, seen_often
from minippo.runs.folder import RunFolder
from minippo.runs.screen import Screen
from minippo.runs.seals import Origin, check_origin, seal_of
from minippo.runs.stats import held_up
from minippo.stages.policy import Row, State
from minippo.stages.training_state import check_numbers
from minippo.tasks.base import Task

Model = TypeVar("Model", bound=nn.Module)


class Report:
    """What a stage has to show: the figures on its line, and the models to keep."""

    def __init__(self) -> None:
        self.text: list[str] = []
        self.kept: list[tuple[str, nn.Module, dict[str, Any]]] = []

    def say(self, text: str) -> None:
        """Put this on the stage's line."""
        self.text.append(text)

    def keep(self, stage: str, model: nn.Module, **info: Any) -> None:
        """Write a checkpoint when the stage is over."""
        self.kept.append((stage, model, info))


class Run:
    """One run of train_toy, from config.json to summary.json."""

    def __init__(
        self,
        config: Config,
        task: Task,
        device: torch.device,
        folder: RunFolder,
        screen: Screen,
        resume: bool = False,
        model: str | None = None,
        number: int | None = None,
    ):
        """`model`: the digest of the model that the run starts from, if it starts from one;
        `number`: of a round of the run that is not its last."""
        self.config, self.task, self.device = config, task, device
        self.folder, self.screen, self.resume = folder, screen, resume
        self.model, self.number = model, number or config.preference.rounds
        self.depends_on = recipes(config, task, model, number)
        self.home = folder.path  # of the whole run, where a round has a folder of its own
        self.policy_before: str | None = None  # the seal of the policy of the round before
        self.rounds: list[dict[str, Any]] = []  # what the rounds before this one came to
        self.seals: dict[str, str] = {}  # of the stages that are there
        self.seconds: dict[str, float] = {}
        self.findings: list[Finding] = []
        self.was_held_up = False
        self.seconds_of_writing = 0.0  # checkpoints, states and metrics

    @property
    def algorithm(self) -> Algorithm:
        return REGISTRY[self.config.run.algorithm]

    # -- rounds

    def in_round(self, number: int) -> "Run":
        """The same run in a round that is not its last, with a folder and a clock of its own."""
        path = self.home / "rounds" / str(number)
        folder = RunFolder.inside(path, note=self.screen.note if self.resume else None)
        part = Run(
            self.config,
            self.task,
            self.device,
            folder,
            self.screen,
            self.resume,
            self.model,
            number,
        )
        part.home, part.policy_before = self.home, self.policy_before
        part.seals = {name: self.seals[name] for name in ("pretrain", "sft") if name in self.seals}
        return part

    def take_over(self, part: "Run", report: dict[str, Any]) -> None:
        """Go on after a round that is done: what the next one is made from, and what it cost."""
        self.policy_before = part.seals["policy"]
        self.seconds |= {f"round {part.number} {name}": s for name, s in part.seconds.items()}
        self.seconds_of_writing += part.seconds_of_writing
        fired = [finding._asdict() for finding in part.findings]
        self.rounds.append({"round": part.number, "reward_model": report, "diagnostics": fired})

    # -- the clock and the screen

    @contextmanager
    def stage(self, name: str, seconds_before: float = 0.0) -> Iterator[Report]:
        """Times a stage. Its models are saved before its line is printed: a line can fail."""
        begin, report = time.perf_counter() - seconds_before, Report()
        worked = time.process_time()
        yield report
        self.seconds[name] = time.perf_counter() - begin
        self.look_at_the_clock(self.seconds[name] - seconds_before, time.process_time() - worked)
        for stage, model, info in report.kept:
            self.save(stage, model, **info)
        self.screen.stage(name, ", ".join(report.text), self.seconds[name])

    def look_at_the_clock(self, seconds: float, processor_seconds: float) -> None:
        """Say once in a run that other work holds it up."""
        if self.device.type == "cpu" and not self.was_held_up:
            line = held_up(seconds, processor_seconds, self.config.run.threads)
            self.was_held_up = line is not None
            if line is not None:
                self.screen.note(line)

    @contextmanager
    def writing(self) -> Iterator[None]:
        """Times what is written so that the run can be taken up again."""
        begin = time.perf_counter()
        yield
        self.seconds_of_writing += time.perf_counter() - begin

    def bar(self, name: str) -> Callable[[Iterable], Iterable]:
        """A progress bar for the loops of a stage."""
        return lambda items: self.screen.progress(items, name)

    # -- randomness

    def generator(self, name: str, device: torch.device | str = "cpu") -> torch.Generator:
        """A generator of tensors for this use and no other."""
        return torch.Generator(device=device).manual_seed(stage_seed(self.config.run.seed, name))

    def rng(self, name: str) -> random.Random:
        """The same for texts."""
        return random.Random(stage_seed(self.config.run.seed, name))

    def prompt_tensors(self, prompts: Sequence[str]) -> tuple[Tensor, Tensor]:
        """(tokens, mask) of prompts, on the device."""
        tokens, mask = self.task.prompt_batch(prompts)
        return tokens.to(self.device), mask.to(self.device)

    # -- checkpoints

    def save(self, stage: str, model: nn.Module, **info: Any) -> None:
        """Write the checkpoint of a stage."""
        trunk: Any = getattr(model, "trunk", model)
        with self.writing():
            path = self.folder.save_checkpoint(
                stage,
                model,
                model_config=asdict(trunk.config),
                tokenizer=self.task.tokenizer.to_dict(),
                info={"seconds": self.seconds, **info},
                origin=self.origin(stage),
            )
            self.seals[stage] = seal_of(path)

    def origin(self, stage: str) -> Origin:
        """What a stage of this run is made from."""
        before = self.seals.get(stage_before(self.config, stage) or "")
        if stage == "reward_model" and self.policy_before is not None:
            before = self.policy_before
        return Origin(self.depends_on[stage], before)

    def saved(self, stage: str, load: Callable[[Any], Model]) -> Model | None:
        """The model of a stage that a resumed run had finished; None when it had not, or when its
        files are damaged or another run's."""
        if not self.resume:
            return None
        try:
            path, info = self.folder.whole_checkpoint(stage)
            if path is None or info is None:
                return None
            check_origin(path, self.origin(stage))
            model = load(self.folder.path).to(self.device)
            size: Any = getattr(model, "trunk", model).config
            if (
                size.vocab_size != self.task.tokenizer.vocab_size
                or size.context_length < context_needed(self.config, self.task)
            ):
                raise InputError(f"{path / 'config.json'}: not the size of this run's models")
        except InputError as error:
            self.screen.note(f"{error}; the stage {stage} is done again")
            return None
        self.seals[stage] = seal_of(path)
        self.seconds |= info["seconds"]
        self.screen.note(f"{stage}: as it was saved")
        return model

    def saved_state(self) -> State | None:
        """The newest state of this policy's training that is whole."""
        origin = self.origin("policy")
        states = self.folder.states(lambda path: check_origin(path, origin))
        for update, read in states if self.resume else ():
            try:
                state = read()
                check_numbers(state[1], update, also=self.algorithm.numbers)
            except InputError as error:
                self.screen.note(
                    f"{error}; going back to the state before it, or to the stage's beginning"
                )
                continue
            self.screen.note(f"policy: from update {update}")
            return state
        return None

    # -- diagnostics

    def look_at(self, rows: Sequence[Row], loud: bool = True) -> None:
        """Ask the diagnostics about the last row of the policy's metrics; each of them speaks once
        in a run."""
        ppo = self.config.ppo
        silent = never_asked(
            self.algorithm.silent_diagnostics,
            steps=ppo.num_ppo_epochs * ppo.num_mini_batches,
            priced=ppo.is_priced(),
        )
        found = diagnose(
            rows,
            silent={*silent, *(finding.code for finding in self.findings)},
            more_to_come=rows[-1]["update"] < ppo.num_updates,
        )
        self.add_findings(found, loud)

    def look_before(self, report: dict[str, Any] | None, loud: bool = True) -> None:
        """Ask those about the stages in front of the policy's training; report: the reward
        model's, None where there is none."""
        sft = self.config.sft
        drawn = sft.sft_steps * sft.sft_batch_size
        found = (
            seen_often(self.task.fixed_demonstrations(), drawn),
            None if report is None else reward_coin(report),
        )
        self.add_findings([finding for finding in found if finding is not None], loud)

    def add_findings(self, found: list[Finding], loud: bool) -> None:
        """Keep what was found, and say it."""
        self.findings += found
        for finding in found if loud else ():
            self.screen.warn(str(finding))

    def look_at_earlier(self, rows: Sequence[Row]) -> None:
        """The same about the updates that were made before; what has been said is not said
        again."""
        try:
            for end in range(1, len(rows) + 1):
                self.look_at(rows[:end], loud=False)
        except (KeyError, TypeError, ValueError) as error:
            raise InputError(
                f"{self.folder.path}/metrics.jsonl: not the metrics of this run ({error})"
            ) from error

    def circumstances(self) -> str:
        """What helps to understand a fault: the diagnostics that fired before it, and the last good
        checkpoint."""
        fired = ", ".join(f"{found.code} {found.name}" for found in self.findings) or "none"
        last = max(
            (self.folder.path / "checkpoints").glob("[!.]*"),
            key=lambda path: path.stat().st_mtime_ns,
            default="none",
        )
        return f"; diagnostics that fired: {fired}; last good checkpoint: {last}"
