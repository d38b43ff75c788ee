"""Annotators who are many, or not reliable: what they say is not what one of them thinks.

    noisy        a share of the labels is flipped, each for itself: slips
    adversarial  a share of the annotators says the opposite, always: all labels of a prompt come
                 from one annotator, and go wrong together
    panel        several annotators with different tastes vote; how many were outvoted is kept

The first two give the same label with the same chance. What differs is who goes wrong with whom.
"""

import torch
from torch import Tensor

from minippo.annotators.base import Annotator, AnnotatorConfig, Judgement, Shown, draw_labels
from minippo.annotators.taste import gold_worth
from minippo.tasks.base import Task


def mixed(probabilities: Tensor, share: float) -> Tensor:
    """The chance of a label that is the opposite in a share of the cases: (1 - s) p + s (1 - p)."""
    return (1 - share) * probabilities + share * (1 - probabilities)


def flip_some(
    probabilities: Tensor, config: AnnotatorConfig, generator: torch.Generator
) -> Judgement:
    """Draw a label, and flip annotator_noise of them."""
    chances = mixed(probabilities[0], config.annotator_noise)
    return Judgement(draw_labels(chances, generator), chances)


def oppose(probabilities: Tensor, config: AnnotatorConfig, generator: torch.Generator) -> Judgement:
    """All labels of a prompt are the opposite where its annotator is an adversary.

    The probabilities are those of one who does not know whose prompt it was.
    """
    share, prompts = config.annotator_adversaries, len(probabilities[0])
    is_adversary = torch.rand(prompts, 1, dtype=torch.float64, generator=generator) < share
    labels = draw_labels(probabilities[0], generator)
    return Judgement(torch.where(is_adversary, -labels, labels), mixed(probabilities[0], share))


def tastes(shown: Shown, config: AnnotatorConfig) -> Tensor:
    """What each member of the panel makes of the responses, [M,N,K]: member m counts axis m of the
    gold score annotator_taste times, and the others once. With more members than axes it begins
    again with the first axis."""
    table = [
        [shown.task.gold_axes(prompt, response) or {} for response in responses]
        for prompt, responses in zip(shown.prompts, shown.responses, strict=True)
    ]
    names = list(table[0][0])
    axes = torch.tensor(
        [[[of[name] for name in names] for of in row] for row in table], dtype=torch.float64
    )  # [N,K,axes]
    extra = (config.annotator_taste - 1) * axes
    members = [m % len(names) for m in range(config.annotator_panel)]
    return torch.stack([shown.gold + extra[..., favourite] for favourite in members])


def majority_probability(probabilities: Tensor) -> Tensor:
    """The chance that more than half of the members prefer the first.

    Equation P(sum_m b_m > M/2), b_m independent, P(b_m = 1) = p_m: one member after the other, the
             chance that k of them have said yes (the Poisson-binomial distribution).
    Shapes   probabilities [M,...] -> [...]. M is odd.
    """
    yes = [torch.ones_like(probabilities[0])]  # the chance of 0, 1, 2 ... so far
    for p in probabilities:
        stays, grows = [(1 - p) * x for x in yes], [p * x for x in yes]
        yes = [
            a + b
            for a, b in zip(
                [*stays, torch.zeros_like(p)], [torch.zeros_like(p), *grows], strict=True
            )
        ]
    return torch.stack(yes[len(probabilities) // 2 + 1 :]).sum(dim=0).clamp(max=1.0)


def vote(probabilities: Tensor, config: AnnotatorConfig, generator: torch.Generator) -> Judgement:
    """Every member draws a label of their own, and the majority's is taken."""
    votes = draw_labels(probabilities, generator)  # [M,N,pairs]
    total = votes.sum(dim=0)
    outvoted = (1 - total.abs() / len(votes)) / 2  # total = for - against, M = for + against
    return Judgement(total.sign(), majority_probability(probabilities), outvoted)


def has_no_axes(task: Task, config: AnnotatorConfig) -> str | None:
    """Why a panel cannot work for this task."""
    return f"the task {task.name} has no rule" if task.gold_max is None else None


NOISY = Annotator(
    "noisy",
    "the rule, with a share of the labels flipped",
    gold_worth,
    decide=flip_some,
    fields=("annotator_noise",),
)
ADVERSARIAL = Annotator(
    "adversarial",
    "the rule, and a share of the annotators says the opposite",
    gold_worth,
    decide=oppose,
    fields=("annotator_adversaries",),
)
PANEL = Annotator(
    "panel",
    "several annotators with different tastes, and the majority decides",
    tastes,
    decide=vote,
    fields=("annotator_panel", "annotator_taste"),
    refuses=has_no_axes,
)
