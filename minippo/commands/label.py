"""You are the annotator: which of two answers of a run's fine-tuned model is better?

    python -m minippo.label RUN                     from a terminal, or a pipe
    python -m minippo.label RUN --pairs 100         100 answers in all, those of earlier calls too

One answer a line: a or b is better, t (a tie), s (skip this pair), u (undo the last answer), q
(quit, as the end of the input is). Each is saved at once, in RUN/labels.jsonl, and the same command
goes on where it was left. Now and then it says whether the run's reward model agrees with you more
often than a coin would. To train on your labels:

    python -m minippo.train_toy --preferences RUN/labels.jsonl
"""

import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from minippo.commands.export import check_run
from minippo.commands.of_run import config_of, has_stage, task_of_run
from minippo.commands.pairs import Pair, pairs_of
from minippo.commands.talk import checked, lines_of
from minippo.commands.wrapper import Parser, command
from minippo.errors import InputError
from minippo.interchange.load import load_gpt, load_reward_model
from minippo.reward_head import RewardModel
from minippo.runs.folder import RunFolder
from minippo.runs.labels import FIRST, NAME, SECOND, SKIP, TIE, UNDO, Label, LabelFile, in_force
from minippo.runs.screen import Screen
from minippo.runs.stats import clustered_interval, items_to_tell, mean
from minippo.runs.text import counted, said
from minippo.stages.preferences import recorded_comparisons
from minippo.stages.reward import all_scores
from minippo.tasks.base import Task

QUIT = "q"
MEANING = {
    FIRST: "a is better",
    SECOND: "b is better",
    TIE: "a tie",
    SKIP: "skip",
    UNDO: "undo the last answer",
    QUIT: "quit",
}
WORDS = {"tie": TIE, "skip": SKIP, "undo": UNDO, "quit": QUIT}  # may be written out
EVERY = 10  # labels, from one word about the reward model to the next
KNOWN = ", ".join(f"{letter} ({meaning})" for letter, meaning in MEANING.items())


@dataclass
class Session:
    """One sitting: whose answers are compared, what was said about them, and where it is kept."""

    pairs: Iterator[Pair]
    file: LabelFile
    seed: int
    most: int | None  # labels in all; None: until q
    judge: "Judge"
    screen: Screen
    waiting: list[Pair]  # pairs to show before the next of the sequence

    def run(self) -> None:
        """Ask until it is over."""
        lines = iter(()) if sys.stdin is None else lines_of(sys.stdin)
        while not self.is_over():
            pair = self.waiting.pop() if self.waiting else next(self.pairs)
            self.show(pair)
            answer = self.answer(lines)
            if answer == QUIT:
                break
            if answer == UNDO:
                self.waiting.append(pair)
                self.undo()
                continue
            self.file.add(Label(self.seed, *pair, answer))
            self.judge.look(in_force(self.file.labels), self.screen)
        self.say_goodbye()

    def is_over(self) -> bool:
        """Are there as many labels as were wanted, or is nobody reading any more?"""
        has_left = getattr(sys.stdout, "error", None) is not None
        return has_left or self.most is not None and len(self.labels()) >= self.most

    def labels(self) -> list[Label]:
        """What holds of this sequence of pairs."""
        return [label for label in in_force(self.file.labels) if label.seed == self.seed]

    def show(self, pair: Pair) -> None:
        """A prompt, and the two answers beside each other."""
        number = len(self.labels()) + 1
        self.screen.note("")
        self.screen.paragraph(f"{number}. prompt: {pair.prompt}")
        self.screen.beside([FIRST, SECOND], [said(text) for text in pair[2:]])

    def answer(self, lines: Iterator[Any]) -> str:
        """The next answer that is known; what is not known is said, and asked again."""
        at_terminal = sys.stdin is not None and sys.stdin.isatty()
        while True:
            if at_terminal:
                print("a, b, t, s, u, q? ", end="", flush=True)
            line = next(lines, None)
            if line is None:
                if at_terminal:
                    print()
                return QUIT
            word = (line.text or "").lower()
            word = WORDS.get(word, word)
            if word in MEANING:
                return word
            said = line.trouble or repr((line.text or "")[:20])
            self.screen.note(f"line {line.number}: {said} is no answer; known: {KNOWN}")

    def undo(self) -> None:
        """Take back the last answer of this sequence, and have its pair shown again."""
        labels = self.labels()
        if not labels:
            self.screen.note("there is nothing to undo")
            return
        last = labels[-1]
        self.file.add(last._replace(label=UNDO))
        self.waiting.append(Pair(last.pair, last.prompt, last.a, last.b))
        self.screen.note(f"taken back: {last.label}")

    def say_goodbye(self) -> None:
        """How many labels there are, what the reward model makes of them, what they are good
        for."""
        labels = in_force(self.file.labels)
        said = Counter(label.label for label in labels)
        parts = (
            f"{said[FIRST]} a, {said[SECOND]} b, {counted(said[TIE], 'tie')}, {said[SKIP]} skipped"
        )
        self.screen.note(f"{self.file.path}: {counted(len(labels), 'label')} ({parts})")
        self.judge.tell(labels, self.screen)
        if said[FIRST] + said[SECOND]:
            self.screen.note(
                f"to train on them: python -m minippo.train_toy --preferences {self.file.path}"
            )


class Judge:
    """The run's reward model, held against the labels."""

    def __init__(self, reward_model: RewardModel | None, task: Task) -> None:
        self.reward_model, self.task = reward_model, task
        self._rights: dict[tuple[str, str, str], float] = {}

    def look(self, labels: Sequence[Label], screen: Screen) -> None:
        """Say something when there are EVERY more labels with a preference."""
        number = sum(label.preference() is not None for label in labels)
        if labels[-1].preference() is not None and number % EVERY == 0:
            self.tell(labels, screen)

    def tell(self, labels: Sequence[Label], screen: Screen) -> None:
        """One line: does it agree with the labels more often than a coin?"""
        found = [pair for label in labels if (pair := label.preference()) is not None]
        if not found:
            return
        if self.reward_model is None:
            screen.note("this run has no reward model to hold against your labels")
            return
        rights = [self.right(self.reward_model, pair) for pair in found]
        screen.note(verdict(rights, [prompt for prompt, _, _ in found]))

    @torch.no_grad()
    def right(self, reward_model: RewardModel, pair: tuple[str, str, str]) -> float:
        """1 where the preferred answer scores higher, 0 where the other does, 1/2 at a tie."""
        if pair not in self._rights:
            scores = all_scores(reward_model, recorded_comparisons(self.task, [pair]))
            self._rights[pair] = (1 + (scores[0, 0] - scores[0, 1]).sign().item()) / 2
        return self._rights[pair]


def verdict(rights: Sequence[float], prompts: Sequence[str]) -> str:
    """What may be said of a reward model that was right so often: the interval of its accuracy
    leaves a coin's 1/2 outside, or not yet, and then after how many labels it would."""
    share, (low, high) = mean(rights), clustered_interval(rights, prompts)
    number = counted(len(rights), "label")
    numbers = f"{share:.2f} of {number}, 95 % interval {low:.2f} to {high:.2f}"
    if low > 0.5:
        return f"the reward model beats a coin: it agrees with {numbers}"
    if high < 0.5:
        return f"the reward model is worse than a coin: it agrees with {numbers}"
    needed = items_to_tell(rights, prompts) if share > 0.5 else None  # below it no rate leads there
    more = "" if needed is None else f"; at this rate it takes about {counted(needed, 'label')}"
    return f"the reward model can't be told from a coin yet: it agrees with {numbers}{more}"


def make_parser() -> Parser:
    """The flags."""
    parser = Parser(prog="python -m minippo.label", description=__doc__)
    parser.add_argument("words", nargs="*", metavar="RUN", help="the folder of the run")
    parser.add_argument("--run", metavar="DIR", help="the same, by name")
    parser.add_argument("--pairs", metavar="INT", help="labels in all (default: until q)")
    parser.add_argument("--seed", default="0", metavar="INT", help="of the pairs (default: 0)")
    parser.add_argument(
        "--task", metavar="FILE.py:Class", help="again, where the run has a task of your own"
    )
    parser.add_argument(
        "--data", metavar="DIR", help="of a run about files, where the folder has been moved"
    )
    return parser


@command
def main(arguments: Sequence[str] | None = None) -> int:
    """The command; returns its exit status."""
    own = make_parser().parse_args(arguments)
    words = own.words if own.run is None else [own.run, *own.words]
    if len(words) != 1:
        raise InputError(
            f"{words[1]!r} is a word too many; one run is labelled at a time"
            if words
            else "which run? python -m minippo.label RUN"
        )
    seed = checked("seed", own.seed)
    most = None if own.pairs is None else checked("preference_prompts", own.pairs, "pairs")
    label(words[0], seed=seed, most=most, named=own.task, data=own.data)
    return 0


def label(run: str, *, seed: int, most: int | None, named: str | None, data: str | None) -> None:
    """Label the pairs of a run. InputError: it has no fine-tuned model, or somebody else is at
    work in its folder."""
    config = config_of(run)
    check_run(Path(run), "sft")
    task = task_of_run(run, config, named=named, data=data)
    model = load_gpt(run, "sft")
    reward_model = load_reward_model(run) if has_stage(run, "reward_model") else None
    torch.set_num_threads(1)  # a few short answers leave nothing for a second
    screen = Screen()
    with (
        RunFolder(run, note=lambda _: None).lock("") as is_locked,
        LabelFile(Path(run), screen.note) as file,
    ):
        there = [label for label in in_force(file.labels) if label.seed == seed]
        asked = [label.pair for label in file.labels if label.seed == seed]
        if not is_locked:
            screen.note(f"{run}: no locks here, so nothing keeps a second labeller away")
        screen.note(f"answers: {KNOWN}")
        if there:
            screen.note(f"{NAME} holds {counted(len(there), 'label')} of these pairs; going on")
        session = Session(
            pairs_of(model, task, sampling=config.ppo, seed=seed, first=max(asked, default=0) + 1),
            file,
            seed,
            most,
            Judge(reward_model, task),
            screen,
            taken_back(file.labels, seed),
        )
        session.run()


def taken_back(labels: Sequence[Label], seed: int) -> list[Pair]:
    """The pairs whose answers were taken back and which have none now, the last one first to be
    shown."""
    held = {(label.seed, label.pair) for label in in_force(labels)}
    found = {
        label.pair: Pair(label.pair, label.prompt, label.a, label.b)
        for label in labels
        if label.seed == seed and (seed, label.pair) not in held
    }
    return [found[number] for number in sorted(found, reverse=True)]
