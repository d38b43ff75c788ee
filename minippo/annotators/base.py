"""What an annotator is: what a response is worth to them, and how a label comes of it.

    worth   of every response, to each of the annotator's members: [M,N,K], mostly one member
    decide  from the members' chances of preferring the first of a pair, one label

An annotator is a record of these two. Every label is a draw, and the chance with which it was drawn
is kept beside it: from these chances follows how often even someone who knew the annotator's mind
would be wrong (the ceiling of a reward model's accuracy).

Responses that are worth the same to every member are not compared: their label would be a coin,
which nobody can learn.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from minippo.settings import Checked, count, positive, setting
from minippo.tasks.base import Task


@dataclass(frozen=True)
class AnnotatorConfig(Checked):
    """What the annotators are like. A record lists those that only some annotators read."""

    annotator_temperature: float = positive(
        0.5, "P(first preferred) = sigmoid(difference of worth / temperature)"
    )
    annotator_noise: float = setting(0.2, "share of the labels that are flipped", 0.0, 1.0)
    annotator_length_bias: float = setting(
        0.5, "points that every token of a response adds to its worth", -100.0, 100.0
    )
    annotator_claim_bias: float = setting(
        1.0, "share of the worth that is the number of claims; the rest is the gold score", 0.0, 1.0
    )
    annotator_adversaries: float = setting(
        0.2, "share of the annotators who say the opposite of what they think", 0.0, 1.0
    )
    annotator_panel: int = count(3, "members of the panel; an odd number", high=99)
    annotator_taste: float = setting(
        4.0, "weight of a panel member's favourite axis of the gold score", 0.0, 100.0
    )
    annotator_rules: str = setting(
        "all", "names of the rules that count, with commas between them; all: every rule there is"
    )
    rating_noise: float = setting(
        0.5, "standard deviation of a rating's error, in points of worth", low=0.0
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.annotator_panel % 2 == 0:
            raise ValueError(
                f"annotator_panel: wanted an odd number, got {self.annotator_panel}; an even panel "
                "can be split in halves"
            )


@dataclass(frozen=True)
class Shown:
    """N prompts with K responses each, as annotators see them."""

    task: Task
    prompts: Sequence[str]
    responses: Sequence[Sequence[str]]  # [N][K]
    lengths: Tensor  # [N,K] tokens, EOS included
    gold: Tensor  # [N,K] float64

    def table(self, function: Callable[[str, str], float]) -> Tensor:
        """function(prompt, response) of every response, [N,K] float64."""
        found = [
            [function(prompt, response) for response in responses]
            for prompt, responses in zip(self.prompts, self.responses, strict=True)
        ]
        return torch.tensor(found, dtype=torch.float64)


class Judgement(NamedTuple):
    """What was said about the pairs of each prompt."""

    labels: Tensor  # [N,pairs] int64: 1 first preferred, -1 second preferred, 0 not compared
    probabilities: Tensor  # [N,pairs] the chance that the label was going to be 1
    disagreement: Tensor | None = None  # [N,pairs] share of the members who were outvoted


Worth = Callable[[Shown, AnnotatorConfig], Tensor]  # [M,N,K] float64
Decide = Callable[[Tensor, AnnotatorConfig, torch.Generator], Judgement]  # of [M,N,pairs]


def draw_labels(probabilities: Tensor, generator: torch.Generator) -> Tensor:
    """1 with these probabilities and else -1."""
    draws = torch.rand(probabilities.shape, dtype=probabilities.dtype, generator=generator)
    return torch.where(draws < probabilities, 1, -1)


def one_opinion(
    probabilities: Tensor, config: AnnotatorConfig, generator: torch.Generator
) -> Judgement:
    """The label that the only member draws."""
    return Judgement(draw_labels(probabilities[0], generator), probabilities[0])


@dataclass(frozen=True)
class Annotator:
    """One annotator. See the module's docstring; `summary` is the line in a list."""

    name: str
    summary: str
    worth: Worth
    decide: Decide = one_opinion
    fields: tuple[str, ...] = ()  # of the settings that not every annotator reads, those they do
    # why they cannot work for a task, or with these settings; None where they can
    refuses: Callable[[Task, AnnotatorConfig], str | None] = lambda task, config: None

    @property
    def compares_only(self) -> bool:
        """Can they say which of two is better, and no more? A ranking or a rating is the opinion of
        one."""
        return self.decide is not one_opinion


def pair_indices(k: int) -> Tensor:
    """Every pair of K responses once: (first [pairs], second [pairs]), first < second."""
    return torch.triu_indices(k, k, offset=1)


def preference_probabilities(worth: Tensor, temperature: float) -> Tensor:
    """How likely the first response of each pair is to be preferred.

    Equation (0.16) P(i preferred to j) = sigmoid((worth_i - worth_j) / temperature)
    Source   Bradley and Terry 1952.
    Shapes   worth [...,K] float -> [...,pairs], pairs as in `pair_indices`.
    Limits   temperature to 0: the better one always; to infinity: a coin.
    """
    first, second = pair_indices(worth.shape[-1])
    return torch.sigmoid((worth[..., first] - worth[..., second]) / temperature)


def judge(
    annotator: Annotator, shown: Shown, config: AnnotatorConfig, generator: torch.Generator
) -> Judgement:
    """The annotator's Judgement on every pair of every prompt's responses."""
    worth = annotator.worth(shown, config)
    probabilities = preference_probabilities(worth, config.annotator_temperature)
    judgement = annotator.decide(probabilities, config, generator)
    first, second = pair_indices(worth.shape[-1])
    is_equal = (worth[..., first] == worth[..., second]).all(dim=0)  # [N,pairs]
    return judgement._replace(labels=torch.where(is_equal, 0, judgement.labels))
