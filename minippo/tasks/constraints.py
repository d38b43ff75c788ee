"""Posts whose prompts name constraints: the fact to begin the summary with, and one to leave out.

    post     dinner was good . i love chess . i am a baker . i live in rome . begin with city .
             no job . tl;dr :
    summary  in rome who loves chess

A training prompt names none, one of the two or both. Three of the six pairs are in no text of any
stage: whether they are followed shows whether a model knows what a constraint asks for, or only the
pairs that it has seen. The writers of the demonstrations follow each constraint more often than
not. That is tldr otherwise, with six words more.
"""

from collections.abc import Callable, Mapping
from random import Random
from typing import NamedTuple

from minippo.tasks.base import Segment
from minippo.tasks.tldr import AVERAGE, CUE, FACTS, PERFECT, Post, Tldr

FOLLOWED = 0.6  # of the constraints, by the writers of the demonstrations
NEW_PAIRS = "constraints in new pairs"


class Asked(NamedTuple):
    """What a prompt asks for; None: that constraint is not named."""

    first: str | None = None  # the fact to begin with
    left_out: str | None = None

    def text(self) -> str:
        """The constraints as a prompt names them."""
        begin = "" if self.first is None else f"begin with {self.first} . "
        return begin + ("" if self.left_out is None else f"no {self.left_out} . ")

    def order(self) -> list[str]:
        """The facts that a summary is to tell, in the order that is asked for."""
        facts = sorted(FACTS, key=lambda fact: fact != self.first)
        return [fact for fact in facts if fact != self.left_out]


# never seen in training: each fact comes first once, and is left out once
HELD_OUT = (Asked("job", "hobby"), Asked("city", "job"), Asked("hobby", "city"))
PAIRS = tuple(
    Asked(first, left_out)
    for first in FACTS
    for left_out in FACTS
    if first != left_out and (first, left_out) not in HELD_OUT
)
SEEN = (Asked(), *(Asked(first=f) for f in FACTS), *(Asked(left_out=f) for f in FACTS), *PAIRS)


class Constraints(Tldr):
    """Tldr with constraints. Evaluation prompts name two each: a pair that training prompts name
    too, about people whom they do not; the unfamiliar prompts name a pair that they do not.

    Gold is that of Tldr with the facts that are asked for, in the order that is asked for; the fact
    that is to be left out is worth its point to every summary, and costs where it is told.
    """

    prompt_length = 35

    def demonstrations(self, n: int, *, rng: Random) -> list[tuple[str, str]]:
        pairs = []
        for _ in range(n):
            post, asked = self.write_post(rng), rng.choice(SEEN)
            followed = Asked(*(part if rng.random() < FOLLOWED else None for part in asked))
            summary = self.write_summary(told(post, followed), AVERAGE, rng)
            pairs.append((prompt_of(post, asked), summary))
        return pairs

    def training_prompts(self, n: int, *, rng: Random) -> list[str]:
        return [prompt_of(self.write_post(rng), rng.choice(SEEN)) for _ in range(n)]

    def evaluation_prompts(self, n: int, *, rng: Random) -> list[str]:
        return self._prompts_with(PAIRS, n, rng)

    def unfamiliar_prompts(self, n: int, *, rng: Random) -> dict[str, list[str]]:
        return {NEW_PAIRS: self._prompts_with(HELD_OUT, n, rng)}

    def _prompts_with(self, pairs, n, rng):
        """At most n different prompts about the people of the evaluation."""
        prompts: dict[str, None] = {}
        for _ in range(20 * n):
            post = self.write_post(rng, for_evaluation=True)
            prompts[prompt_of(post, rng.choice(pairs))] = None
            if len(prompts) == n:
                break
        return list(prompts)

    def _restatement(self, post, rng):
        asked = rng.choice(SEEN)
        return [
            Segment(f"{post.body} {asked.text()}facts :", False),
            Segment(self.write_summary(told(post, asked), PERFECT, rng), True),
        ]

    def _wanted(self, prompt):
        return asked_by(prompt).order()

    def gold_axes(self, prompt: str, response: str) -> dict[str, float]:
        axes = super().gold_axes(prompt, response)
        given = len(FACTS) - len(self._wanted(prompt))  # so that the best is the same for all
        return axes | {"coverage": axes["coverage"] + given}

    def rules(self) -> Mapping[str, Callable[[str, str], bool]]:
        """What the prompt asks for, and what holds for every summary."""

        def facts_in(response: str) -> list[str]:
            return [fact for fact, _ in self._parse_summary(response)[0]]

        def begins(prompt: str, response: str) -> bool:
            first = asked_by(prompt).first
            return first is None or facts_in(response)[:1] == [first]

        def leaves_out(prompt: str, response: str) -> bool:
            return asked_by(prompt).left_out not in facts_in(response)

        def tells_the_rest(prompt: str, response: str) -> bool:
            return {*asked_by(prompt).order()} <= {*facts_in(response)}

        general = {k: v for k, v in super().rules().items() if not k.startswith("tells_the_")}
        return {
            "begins_as_asked": begins,
            "leaves_out_as_asked": leaves_out,
            "tells_the_rest": tells_the_rest,
            "keeps_all_that_is_asked": lambda prompt, response: all(
                rule(prompt, response) for rule in (begins, leaves_out, tells_the_rest)
            ),
            **general,
        }

    def _words(self):
        asked = " ".join(one.text() for one in SEEN)
        return sorted({*super()._words(), *asked.split()})


def told(post: Post, asked: Asked) -> dict[str, str]:
    """The facts of a post that are asked for, in the order that is asked for."""
    return {fact: post.facts[fact] for fact in asked.order()}


def prompt_of(post: Post, asked: Asked) -> str:
    return f"{post.body} {asked.text()}{CUE}"


def asked_by(prompt: str) -> Asked:
    """The constraints that a prompt names."""
    first, left_out = (
        next((fact for fact in FACTS if f"{opening} {fact} ." in prompt), None)
        for opening in ("begin with", "no")
    )
    return Asked(first, left_out)
