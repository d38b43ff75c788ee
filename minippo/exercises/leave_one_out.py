"""Exercise of notebook 16: the advantages of a group of responses, without a critic."""

import torch
from torch import Tensor

from minippo.exercises.changes import ANY, comes_out
from minippo.exercises.draw import Draw
from minippo.exercises.engine import Case, Exercise, Mistake
from minippo.exercises.hints import HINTS
from minippo.relatives.groups import leave_one_out_advantages


def reference(scores: Tensor, group_size: int) -> Tensor:
    """scores [B], the group_size responses to a prompt in neighbouring rows -> [B]."""
    return leave_one_out_advantages(scores=scores, group_size=group_size)


def cases(seed: bytes | None = None) -> list[Case]:
    """Groups of 2 to 5, one case with a single prompt, one with scores far from 0."""
    draw = Draw("leave_one_out", seed)
    for prompts, size, around in ((3, 2, 0.0), (2, 4, 0.0), (1, 5, 0.0), (4, 3, 20.0)):
        prompts += 0 if draw.fixed or prompts == 1 else int(draw.whole(0, 2))
        means = around + 2 * draw.normal(prompts, 1)
        draw.add(
            f"{prompts * size} responses, {size} to each prompt"
            + f", scores around {around:g}" * (around > 0),
            scores=(means + draw.normal(prompts, size)).flatten(),
            group_size=size,
        )
    return draw.cases()


def groups(scores: Tensor, group_size: int) -> Tensor:
    """[B] -> [B/G,G]."""
    return scores.view(-1, group_size)


def others(scores: Tensor, group_size: int) -> Tensor:
    """The sum of the other scores of the group, [B/G,G]."""
    rows = groups(scores, group_size)
    return rows.sum(dim=1, keepdim=True) - rows


def standardised(scores: Tensor, group_size: int, correction: int) -> Tensor:
    rows = groups(scores, group_size)
    std = rows.std(dim=1, keepdim=True, correction=correction)
    return ((rows - rows.mean(dim=1, keepdim=True)) / std).flatten()


def interleaved(scores: Tensor, group_size: int) -> Tensor:
    """As if the responses to a prompt were B/G rows apart."""
    rows = scores.view(group_size, -1).T
    left = (rows.sum(dim=1, keepdim=True) - rows) / (group_size - 1)
    return (rows - left).T.flatten()


def of_the_batch(scores: Tensor, group_size: int) -> Tensor:
    left = (scores.sum() - scores) / (len(scores) - 1)
    return scores - left


MISTAKES = (
    Mistake(
        "baseline",
        "the own score is in the mean that is taken off: that is (G - 1)/G of what is wanted; "
        "leave it out",
        lambda scores, group_size: (
            groups(scores, group_size) - groups(scores, group_size).mean(dim=1, keepdim=True)
        ).flatten(),
    ),
    Mistake(
        "scale",
        "the sum of the others is divided by G; there are G - 1 others",
        lambda scores, group_size: (
            groups(scores, group_size) - others(scores, group_size) / group_size
        ).flatten(),
    ),
    Mistake(
        "mean for sum",
        "the sum of the others is taken off, not their mean",
        lambda scores, group_size: (
            groups(scores, group_size) - others(scores, group_size)
        ).flatten(),
    ),
    Mistake(
        "normalisation",
        "this is divided by the standard deviation of the group: GRPO does that, and a group of "
        "two then knows only who won",
        lambda scores, group_size: standardised(scores, group_size, 0),
    ),
    Mistake(
        "normalisation",
        "this is divided by the standard deviation of the group: GRPO does that, and a group of "
        "two then knows only who won",
        lambda scores, group_size: standardised(scores, group_size, 1),
    ),
    *(
        Mistake(
            "normalisation",
            "the advantages are divided by the standard deviation of the group; leave the scale",
            lambda scores, group_size, correction=correction: (
                standardised(scores, group_size, correction) * group_size / (group_size - 1)
            ),
        )
        for correction in (0, 1)
    ),
    Mistake(
        "baseline",
        "the sum of the whole group, own score included, is divided by G - 1; the own score is not "
        "one of the others",
        lambda scores, group_size: (
            groups(scores, group_size)
            - groups(scores, group_size).sum(dim=1, keepdim=True) / (group_size - 1)
        ).flatten(),
    ),
    Mistake(
        "batch",
        "the mean runs over the prompts; it has to run over the responses to one prompt",
        lambda scores, group_size: (
            groups(scores, group_size) - groups(scores, group_size).mean(dim=0, keepdim=True)
        ).flatten(),
    ),
    Mistake(
        "batch",
        "the groups are read the wrong way: the responses to one prompt are neighbouring rows",
        interleaved,
    ),
    Mistake(
        "batch",
        "the others of the whole batch are taken; other prompts say nothing about this one",
        of_the_batch,
    ),
    Mistake(
        "batch",
        "the mean of the whole batch is taken off; wanted is that of the prompt's other responses",
        lambda scores, group_size: scores - scores.mean(),
    ),
    Mistake(
        "baseline",
        "this is the baseline alone, the mean of the others; take it off the score",
        lambda scores, group_size: (others(scores, group_size) / (group_size - 1)).flatten(),
    ),
    Mistake(
        "sign",
        "the sign is turned: a score above the others is an advantage",
        lambda scores, group_size: -reference(scores, group_size),
    ),
    Mistake(
        "baseline",
        "the best of the others is taken off; wanted is their mean",
        lambda scores, group_size: torch.stack(
            [
                score - torch.cat((group[:i], group[i + 1 :])).max()
                for group in groups(scores, group_size)
                for i, score in enumerate(group)
            ]
        ),
    ),
    Mistake(
        "off by one",
        "only the next response of the group is taken off; wanted is the mean of all others",
        lambda scores, group_size: (
            groups(scores, group_size) - groups(scores, group_size).roll(-1, dims=1)
        ).flatten(),
    ),
    Mistake(
        "batch",
        "this is one row per prompt, [B/G, G]; wanted is [B], in the order of the scores",
        lambda scores, group_size: groups(reference(scores, group_size), group_size),
    ),
    Mistake(
        "formula",
        "nothing is taken off: these are the scores",
        lambda scores, group_size: scores.clone(),
    ),
)

CHANGES = (
    *ANY,
    comes_out(
        "normalisation",
        "this is divided by the standard deviation of the batch; leave the scale",
        lambda value, case: value / value.std(correction=0) if len(value) > 1 else value,
    ),
)

exercise = Exercise(
    "leave_one_out", reference, cases, MISTAKES, changes=CHANGES, hints=HINTS["leave_one_out"]
)
