"""What every task gives to a run, and the one way in which text becomes tokens.

A prompt is BOS and its words; a response is its words and EOS. A document is a list of segments,
each with a flag: is this text to be learned, or only read? Pretraining and fine-tuning are the same
next-token loss over such documents.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from random import Random
from typing import Any, NamedTuple

from torch import Tensor

from minippo.tokenizer import Tokenizer, pad_left

Recorded = tuple[str, str, str]  # prompt, chosen, rejected


class Segment(NamedTuple):
    """A piece of a document; the next-token loss counts its tokens when `is_target`."""

    text: str
    is_target: bool


class Example(NamedTuple):
    """A document as tokens, and which of them the loss counts."""

    tokens: list[int]
    is_target: list[bool]


def dealt(items: Sequence[Any], n: int, *, rng: Random) -> list[Any]:
    """n of the items: all of them in a new order, as often as needed."""
    drawn: list[Any] = []
    while len(drawn) < n:
        drawn += rng.sample(items, len(items))
    return drawn[:n]


class Task:
    """One world: its words, its texts, its prompts and, where there is one, its rule for what is
    good.

    rng is always a random.Random of the caller: a task keeps no randomness of its own.
    """

    name: str
    tokenizer: Tokenizer
    document_length: int  # no document that it trains on has more tokens
    prompt_length: int  # tokens of the longest prompt, BOS included
    gold_max: float | None = None  # the best possible mean gold score; None where none is known
    fingerprint: str | None = None  # of the files that it was made from; None where there are none
    notes: tuple[str, ...] = ()  # lines for the screen: what was derived, dropped or cut
    # (training, held-out) pairs that people made, and a digest of the file of --preferences
    recorded: tuple[list[Recorded], list[Recorded]] | None = None
    preferences_digest: str | None = None
    # how much there is to train on, {"demonstration": 300, ...}; empty where the task makes as
    # much as it is asked for
    amounts: Mapping[str, int] = {}

    def pretraining_examples(self, n: int, *, step: int, rng: Random) -> list[Example]:
        """n documents for this step of the pretraining."""
        raise NotImplementedError

    def demonstrations(self, n: int, *, rng: Random) -> list[tuple[str, str]]:
        """n pairs (prompt, completion), as imperfect as people's."""
        raise NotImplementedError

    def training_prompts(self, n: int, *, rng: Random) -> list[str]:
        """n prompts to sample preferences and PPO's rollouts from."""
        raise NotImplementedError

    def evaluation_prompts(self, n: int, *, rng: Random) -> list[str]:
        """At most n prompts, all different, for figures and tables; no training stage sees them
        unless the task says so."""
        raise NotImplementedError

    def unfamiliar_prompts(self, n: int, *, rng: Random) -> Mapping[str, Sequence[str]]:
        """{how they differ: n prompts} of forms that no stage of a training has seen, and that the
        rule can judge; none where the task has one form."""
        return {}

    def fixed_prompts(self) -> Sequence[str]:
        """All training prompts, where they are a fixed set that has no evaluation prompt in it;
        none where a rule makes new ones, or where there are no others."""
        return ()

    @property
    def has_gold(self) -> bool:
        """Is there a rule that says what a response is worth?"""
        return self.gold_max is not None

    def gold_axes(self, prompt: str, response: str) -> dict[str, float] | None:
        """{axis: points} of a response; their sum is its gold score. None where the task has no
        rule."""
        return None

    def claims(self, prompt: str, response: str) -> list[bool] | None:
        """One item for each different thing that a response claims: is it true? None where the task
        does not say what a claim is."""
        return None

    def rules(self) -> Mapping[str, Callable[[str, str], bool]]:
        """{name: check of (prompt, response)}: what AI feedback can ask of a response in this
        world, beside what it can ask of any text (annotators.rules)."""
        return {}

    def recorded_preferences(self) -> tuple[list[Recorded], list[Recorded]] | None:
        """(training, held-out) lists of (prompt, chosen, rejected) that people made; None: an
        annotator is simulated."""
        return self.recorded

    def fixed_demonstrations(self) -> Sequence[tuple[str, str]]:
        """All demonstrations, where they are a fixed set; none where a rule makes new ones."""
        return ()

    def answers_to_watch(self) -> list[tuple[str, str, str]]:
        """[(prompt, right answer, rival answer)] whose probabilities are shown before and after;
        mostly none."""
        return []

    def gold(self, prompt: str, response: str) -> float | None:
        """The gold score, or None."""
        axes = self.gold_axes(prompt, response)
        return None if axes is None else sum(axes.values())

    def prompt_ids(self, prompt: str) -> list[int]:
        return [self.tokenizer.bos_id, *self.tokenizer.encode(prompt)]

    def prompt_batch(self, prompts: Sequence[str]) -> tuple[Tensor, Tensor]:
        """Prompts as (tokens [N,P], mask [N,P]), with the pads on the left."""
        return pad_left([self.prompt_ids(prompt) for prompt in prompts], self.tokenizer.pad_id)

    def response_ids(self, response: str) -> list[int]:
        return [*self.tokenizer.encode(response), self.tokenizer.eos_id]

    def document(self, segments: Iterable[Segment]) -> Example:
        """Segments -> Example, with BOS before and EOS behind; EOS is always learned, BOS never."""
        tokens, is_target = [self.tokenizer.bos_id], [False]
        for text, flag in segments:
            ids = self.tokenizer.encode(text)
            tokens += ids
            is_target += [flag] * len(ids)
        return Example([*tokens, self.tokenizer.eos_id], [*is_target, True])

    def demonstration_example(self, prompt: str, completion: str) -> Example:
        """The prompt is read, the completion is learned."""
        read, learned = self.prompt_ids(prompt), self.response_ids(completion)
        return Example(read + learned, [False] * len(read) + [True] * len(learned))
