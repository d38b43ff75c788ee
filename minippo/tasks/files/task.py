"""A user's own text and preference pairs, as bytes, or in the tokens of the model to start from.

There is no rule for what is good: the reward model is all there is.

A prompt ends with a line break, and the response begins after it; the corpus that is made of
demonstrations looks the same, so that the model has seen the format before it is fine-tuned.
"""

import hashlib
from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import replace
from functools import cached_property
from itertools import accumulate
from pathlib import Path
from random import Random

import torch

from minippo.errors import InputError
from minippo.runs.text import counted
from minippo.tasks.base import Example, Task, dealt
from minippo.tasks.files.lengths import check_lengths
from minippo.tasks.files.preferences import Preferences
from minippo.tasks.files.read import FolderData, read_folder
from minippo.tasks.files.rows import prompt_key
from minippo.tasks.files.split import split_by_prompt, without_prompts
from minippo.tokenizer import ByteTokenizer, HFTokenizer


class Files(Task):
    """The files of one folder, or one file of preferences; see minippo.tasks.files.read for what
    may be there. What has been read already is taken as it is.

    prompt_length and completion_length are in tokens; the line break and BOS come on top of the
    first, EOS is part of the second. Without a tokenizer a token is a byte. Sampled responses have
    a length of their own, the response_length of PPO.
    """

    name = "files"
    tokenizer: ByteTokenizer | HFTokenizer

    def __init__(
        self,
        folder: str | Path | FolderData,
        *,
        prompt_length: int,
        completion_length: int,
        heldout_pairs: int,
        truncate: bool,
        generator: torch.Generator,
        tokenizer: ByteTokenizer | HFTokenizer | None = None,
        preferences: Preferences | None = None,
    ) -> None:
        self.tokenizer = tokenizer or ByteTokenizer()
        data = check_lengths(
            folder if isinstance(folder, FolderData) else read_folder(folder),
            prompt_length=prompt_length,
            completion_length=completion_length,
            truncate=truncate,
            size=lambda text: len(self.tokenizer.encode_long(text)),
            unit=self.tokenizer.unit,
        )
        self.fingerprint = digest_of(data)
        if preferences is not None:  # in the place of the folder's own
            data = with_preferences(data, preferences)
            self.preferences_digest = preferences.digest
        training, heldout = split_by_prompt(
            data.preferences, heldout_pairs=heldout_pairs, generator=generator
        )
        data = without_prompts(data, heldout)
        self._line_break = self.tokenizer.encode("\n")
        self.prompt_length = 1 + prompt_length + len(self._line_break)
        self.document_length = self.prompt_length + completion_length
        self.room = self.document_length - 1  # of a window of the corpus; one is for BOS
        self._preferences = (training, heldout)
        self._demonstrations, self._corpus = data.demonstrations, data.corpus
        self._heldout_prompts = list(dict.fromkeys(prompt for prompt, _, _ in heldout))
        self._training_prompts = prompts_left(data.prompts, self._heldout_prompts)
        self.amounts = {
            "demonstration": len(self._demonstrations),
            "pair": len(training),
            "prompt": len(self._training_prompts),
            "window": windows_of([len(text.encode()) for text in self._corpus], self.room),
        }
        self.notes = (*self.tokenizer.notes, *data.notes, self._what_remains(len(heldout)))

    def _what_remains(self, heldout):
        pairs, demonstrations = (
            counted(self.amounts[name], name) for name in ("pair", "demonstration")
        )
        return (
            f"{counted(heldout, 'pair is', 'pairs are')} held out; without their prompts {pairs} "
            f"and {demonstrations} remain"
        )

    @cached_property
    def _documents(self):
        return [self.tokenizer.encode_long(text) for text in self._corpus]

    @cached_property
    def _ends(self):
        return list(accumulate(len(text) for text in self._documents))

    def pretraining_examples(self, n: int, *, step: int, rng: Random) -> list[Example]:
        return [self._window(rng) for _ in range(n)]

    def demonstrations(self, n: int, *, rng: Random) -> list[tuple[str, str]]:
        return dealt(self._demonstrations, n, rng=rng)

    def fixed_demonstrations(self) -> Sequence[tuple[str, str]]:
        return self._demonstrations

    def training_prompts(self, n: int, *, rng: Random) -> list[str]:
        return rng.choices(self._training_prompts, k=n)

    def evaluation_prompts(self, n: int, *, rng: Random) -> list[str]:
        return rng.sample(self._heldout_prompts, min(n, len(self._heldout_prompts)))

    def recorded_preferences(self) -> tuple[list[tuple[str, str, str]], list[tuple[str, str, str]]]:
        return self._preferences

    def prompt_ids(self, prompt: str) -> list[int]:
        return super().prompt_ids(prompt) + self._line_break

    def _window(self, rng):
        """A piece of the corpus as long as the longest document, wherever in it; long documents are
        met more often."""
        text = self._documents[bisect_right(self._ends, rng.randrange(self._ends[-1]))]
        start = rng.randrange(len(text) - self.room + 1) if len(text) > self.room else 0
        tokens = [*text[start : start + self.room]]
        if start + len(tokens) == len(text) and len(tokens) < self.room:
            tokens.append(self.tokenizer.eos_id)
        return Example([self.tokenizer.bos_id, *tokens], [False] + [True] * len(tokens))


def with_preferences(data: FolderData, found: Preferences) -> FolderData:
    """The data with the pairs of a file of their own. The texts that the folder's pairs have given,
    where it holds no others, stay."""
    return replace(
        data,
        preferences=found.pairs,
        sources=data.sources | {"preferences": found.sources},
        notes=[*data.notes, f"{found.note}, in the place of the folder's pairs"],
    )


def digest_of(data: FolderData) -> str:
    """A digest of the texts of some FolderData: a run that is taken up again must find what it
    began with."""
    texts = (data.corpus, data.demonstrations, data.preferences, data.prompts)
    return hashlib.sha256(repr(texts).encode()).hexdigest()


def windows_of(lengths: Sequence[int], room: int) -> int:
    """How many windows hold as much text as there is: a document is met in proportion to its
    length, and its window is the whole document or as long as the room."""
    met = sum(length * min(length, room) for length in lengths)
    return max(1, round(sum(lengths) ** 2 / met))


def prompts_left(prompts: Sequence[str], heldout: Sequence[str]) -> list[str]:
    """The prompts that are none of the held-out ones, compared without the white space around
    them and in one Unicode form."""
    unseen = {prompt_key(prompt) for prompt in heldout}
    if left := [prompt for prompt in prompts if prompt_key(prompt) not in unseen]:
        return left
    raise InputError(
        "prompts.jsonl: every prompt in it is one of the held-out preference pairs; add others"
    )
