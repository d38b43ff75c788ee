"""A task of the user's own, made of texts and one rule.

    class Sums(RuleTask):
        best = 1.0
        settings = {"response_length": 4}

        def prompts(self, split): ...       # "train" or "heldout"
        def demonstrations(self): ...       # [(prompt, completion)], imperfect on purpose
        def rule(self, prompt, response): ...

RuleTask is what the user writes; OwnTask makes of it what a run needs, and looks at every text
before anything is trained. docs/your-own-task.md has three of them.
"""

import math
from collections.abc import Mapping, Sequence
from numbers import Real
from random import Random
from typing import Any

from minippo.errors import InputError
from minippo.runs.seals import digest_of
from minippo.runs.text import counted
from minippo.tasks.base import Example, Segment, Task, dealt
from minippo.tasks.own_file import Own, in_one_line
from minippo.tasks.own_rule import OwnRule, kind_of, shown
from minippo.tokenizer import ByteTokenizer, WordTokenizer

SPLITS = ("train", "heldout")
REQUIRED = {  # what a class has to have, and what that is
    "prompts": "lists of texts for the splits train and heldout",
    "demonstrations": "imperfect examples to fine-tune on",
    "rule": "a number for a prompt and a response",
}
LONGEST = 4096  # tokens of a prompt or of a document


class RuleTask:
    """A task as its user writes it: three methods, and four things that may be said besides."""

    best: float | None = None  # the best score of a response, if it is known
    words: bool = False  # tokens are words, those of all its texts; otherwise bytes
    settings: Mapping[str, Any] = {}  # this task's own defaults, {field: value}; flags win

    def prompts(self, split: str) -> Sequence[str]:
        """The prompts of "train", or those of "heldout", which no stage trains on."""
        raise NotImplementedError

    def demonstrations(self) -> Sequence[tuple[str, str]]:
        """(prompt, completion), as imperfect as people's."""
        raise NotImplementedError

    def pretraining_texts(self) -> Sequence[str] | None:
        """Texts to read before; None: prompt and completion of the demonstrations."""
        return None

    def rule(self, prompt: str, response: str) -> float | Mapping[str, float]:
        """What a response is worth: a number, or several under names whose sum counts. Both texts
        are decoded, without EOS."""
        raise NotImplementedError


class OwnTask(Task):
    """The task of a RuleTask. InputError, with its file, for whatever is wrong with its texts."""

    tokenizer: ByteTokenizer | WordTokenizer

    def __init__(self, own: Own) -> None:
        self.own, self.name = own, own.label
        self.rule_task = made(own)
        self.gold_max = best_of(self.rule_task, own)
        self.rule = OwnRule(own, self.rule_task.rule)
        with in_one_line(own, InputError):
            texts = self._texts()
        self.tokenizer = self._tokenizer(texts)
        self._normalise(texts)
        self._check_split()
        self._check_lengths()
        self.fingerprint = digest_of([own.label, own.digest, list(texts.values())])
        # what is wrong at once is told at once
        self.rule(*self._demonstrations[0], kind=InputError)
        self.amounts = {
            "demonstration": len(self._demonstrations),
            "prompt": len(self._prompts["train"]),
            "text": len(self._documents),
        }
        self.notes = (self._about_tokens(), *self._about_leaks())

    # -- what a run asks for

    def pretraining_examples(self, n: int, *, step: int, rng: Random) -> list[Example]:
        return [self.document(segments) for segments in rng.choices(self._documents, k=n)]

    def demonstrations(self, n: int, *, rng: Random) -> list[tuple[str, str]]:
        return dealt(self._demonstrations, n, rng=rng)

    def fixed_demonstrations(self) -> Sequence[tuple[str, str]]:
        return self._demonstrations

    def training_prompts(self, n: int, *, rng: Random) -> list[str]:
        return rng.choices(self._prompts["train"], k=n)

    def evaluation_prompts(self, n: int, *, rng: Random) -> list[str]:
        heldout = self._prompts["heldout"]
        return rng.sample(heldout, min(n, len(heldout)))

    def fixed_prompts(self) -> Sequence[str]:
        return self._prompts["train"]

    @property
    def has_gold(self) -> bool:
        return True

    def gold_axes(self, prompt: str, response: str) -> dict[str, float]:
        return self.rule(prompt, response)

    # -- the texts

    def _texts(self):
        """{what: texts} of the class, each asked for twice: they must be the same."""
        task = self.rule_task
        asked = {
            "prompts('train')": lambda: task.prompts("train"),
            "prompts('heldout')": lambda: task.prompts("heldout"),
            "demonstrations()": task.demonstrations,
            "pretraining_texts()": task.pretraining_texts,
        }
        texts = {}
        for what, get in asked.items():
            texts[what] = self._checked(what, get())
            if texts[what] != self._checked(what, get()):
                self._refuse(what, "gives other texts when it is asked again; seed its randomness")
        return texts

    def _checked(self, what, given):
        """A list of what was wanted. InputError for the first item that is something else."""
        if given is None and what == "pretraining_texts()":
            return []
        if not isinstance(given, (list, tuple)) or not given:
            kind = "an empty list" if isinstance(given, (list, tuple)) else kind_of(given)
            self._refuse(what, f"wanted a list with something in it, got {kind}")
        is_pairs = what == "demonstrations()"
        for number, item in enumerate(given, start=1):
            if is_pairs and not (
                isinstance(item, (list, tuple))
                and len(item) == 2
                and all(isinstance(text, str) for text in item)
            ):
                self._refuse(what, f"item {number} is not (prompt, completion): {shown(item)}")
            if not is_pairs and not isinstance(item, str):
                self._refuse(what, f"item {number} is not a text: {shown(item)}")
            first: Any = item[0] if is_pairs else item
            if not first.strip():
                self._refuse(what, f"item {number} has an empty text where a prompt should be")
        return [tuple(item) for item in given] if is_pairs else list(given)

    def _tokenizer(self, texts):
        """Bytes read everything; words are those of all texts of the task."""
        flat = [text for part in texts.values() for item in part for text in _each(item)]
        if not self.rule_task.words:
            for text in flat:
                try:
                    text.encode()
                except UnicodeEncodeError:
                    self._refuse("a text", f"no tokenizer can read it: {shown(text)}")
            return ByteTokenizer()
        try:
            return WordTokenizer(sorted({word for text in flat for word in text.split()}))
        except ValueError as error:
            return self._refuse("words", str(error).removeprefix("words: "))

    def _normalise(self, texts):
        """The texts as the tokenizer gives them back: between words there is one space."""
        again = (lambda text: " ".join(text.split())) if self.rule_task.words else str
        self._prompts = {
            split: list(dict.fromkeys(map(again, texts[f"prompts('{split}')"]))) for split in SPLITS
        }
        self._demonstrations = [
            (again(prompt), again(completion)) for prompt, completion in texts["demonstrations()"]
        ]
        self._pretraining = [again(text) for text in texts["pretraining_texts()"]]
        self._documents = [[Segment(text, True)] for text in self._pretraining] or [
            [Segment(text, True) for text in pair] for pair in self._demonstrations
        ]

    def _check_split(self):
        heldout = set(self._prompts["heldout"])
        for prompt in self._prompts["train"]:
            if prompt in heldout:
                self._refuse("prompts", f"{shown(prompt)} is in train and in heldout")
        for number, (prompt, _) in enumerate(self._demonstrations, start=1):
            if prompt in heldout:
                self._refuse(
                    "demonstrations()",
                    f"item {number}, {shown(prompt)}, is a held-out prompt; those are for the "
                    "figures, and no stage trains on them",
                )

    def _check_lengths(self):
        prompts = [*self._prompts["train"], *self._prompts["heldout"]]
        prompts += [prompt for prompt, _ in self._demonstrations]
        longest = max(prompts, key=lambda prompt: len(self.prompt_ids(prompt)))
        self.prompt_length = len(self.prompt_ids(longest))
        self.longest_completion = max(
            len(self.response_ids(completion)) for _, completion in self._demonstrations
        )
        documents = [len(self.document(segments).tokens) for segments in self._documents]
        self.document_length = max(*documents, self.prompt_length + self.longest_completion)
        if self.document_length > LONGEST:
            self._refuse(
                "its texts", f"the longest has {self.document_length} tokens; at most {LONGEST}"
            )

    def _about_tokens(self):
        if not self.rule_task.words:
            return f"{self.own.name}: a token is a byte, so that every text can be read"
        words = counted(self.tokenizer.vocab_size - 3, "word")
        return f"{self.own.name}: a token is one of {words}, those of its texts; others are refused"

    def _about_leaks(self):
        """Pretraining texts that begin with a held-out prompt."""
        heldout = tuple(self._prompts["heldout"])
        leaks = sum(text.startswith(heldout) for text in self._pretraining)
        if leaks:
            said = counted(leaks, "pretraining text begins", "pretraining texts begin")
            yield f"{self.own.name}: {said} with a held-out prompt, so that is not new"

    def _refuse(self, what, why):
        raise InputError(f"{self.own.file}: {self.own.name}: {what}: {why}")


def made(own: Own) -> RuleTask:
    """An object of the user's class. InputError: it is none, or lacks what a task needs."""
    kind, file, name = own.found, own.file, own.name
    if not (isinstance(kind, type) and issubclass(kind, RuleTask)):
        raise InputError(
            f"{file}: {name} is not a task; write class {name}(RuleTask), with "
            "from minippo.tasks import RuleTask"
        )
    for method, what in REQUIRED.items():
        if getattr(kind, method) is getattr(RuleTask, method):
            raise InputError(f"{file}: {name} needs {method}, {what}")
        if not callable(getattr(kind, method)):
            raise InputError(f"{file}: {name}.{method} is no method; wanted {what}")
    if not isinstance(kind.words, bool):
        raise InputError(f"{file}: {name}.words: wanted True or False, got {shown(kind.words)}")
    if not isinstance(kind.settings, Mapping):
        raise InputError(f"{file}: {name}.settings: wanted a dict, got {shown(kind.settings)}")
    with in_one_line(own, InputError):
        return kind()


def best_of(task: RuleTask, own: Own) -> float | None:
    """The best score that the class names. InputError: it is no number."""
    if task.best is None:
        return None
    if not isinstance(task.best, Real) or not 0 < task.best < math.inf:
        raise InputError(
            f"{own.file}: {own.name}.best: wanted a number above 0, or None, got {shown(task.best)}"
        )
    return float(task.best)


def _each(item: str | tuple[str, str]) -> tuple[str, ...]:
    return (item,) if isinstance(item, str) else item
