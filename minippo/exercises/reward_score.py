"""Exercise of notebook 05: the Bradley-Terry loss of pairs, from what the reward head says at every
position."""

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn.functional import logsigmoid

from minippo.exercises.changes import ANY, Arguments, goes_in, times
from minippo.exercises.draw import Draw, rows_in_words
from minippo.exercises.engine import Case, Change, Exercise, Mistake
from minippo.exercises.hints import HINTS
from minippo.reward_head import bradley_terry_loss, last_real_token


def reference(
    chosen_outputs: Tensor, chosen_mask: Tensor, rejected_outputs: Tensor, rejected_mask: Tensor
) -> Tensor:
    """Outputs [N,S] float and masks [N,S] bool of the preferred and of the other responses (S may
    differ) -> scalar."""
    return bradley_terry_loss(
        chosen_scores=read(chosen_outputs, last_real_token(chosen_outputs, chosen_mask)),
        rejected_scores=read(rejected_outputs, last_real_token(rejected_outputs, rejected_mask)),
    )


def read(outputs: Tensor, index: Tensor) -> Tensor:
    """The entry of each row at its index, [N]."""
    return outputs[torch.arange(len(outputs)), index]


FAR_BEHIND = (
    "log",
    "right until the chosen text is far behind: the sigmoid is then exactly 0 and its logarithm "
    "-inf, or exp is infinite; logsigmoid and softplus stay finite",
)


def cases(seed: bytes | None = None) -> list[Case]:
    """Pairs whose texts have pads on both sides, one batch with pads on the right only; widths
    differ. In the last the chosen texts are 1,000 behind."""
    draw = Draw("reward_score", seed)

    def mask(rows: int, width: int, left: int) -> Tensor:
        slots = torch.arange(width)
        firsts = draw.whole(0, left, rows)
        firsts[0] = left
        lasts = torch.minimum(firsts + draw.whole(1, 3, rows), torch.tensor(width - 1))
        lasts[-1] = width - 2
        return (slots >= firsts[:, None]) & (slots <= lasts[:, None])

    for rows, width, left, behind in (
        (2, 5, 1, 0),
        (3, 6, 2, 0),
        (5, 5, 0, 0),
        (4, 6, 2, 0),
        (2, 4, 1, 500),
    ):
        S = draw.longest(width)
        chosen_mask, rejected_mask = mask(rows, S, left), mask(rows, S + 1, left)
        draw.add(
            f"{rows} pairs, {rows_in_words(chosen_mask)} and {rows_in_words(rejected_mask)}"
            f"{', the chosen ones about 1,000 behind' if behind else ''}",
            FAR_BEHIND if behind else None,
            chosen_outputs=2 * draw.normal(*chosen_mask.shape) - behind,
            chosen_mask=chosen_mask,
            rejected_outputs=2 * draw.normal(*rejected_mask.shape) + behind,
            rejected_mask=rejected_mask,
        )
    return draw.cases()


def with_scores(
    score: Callable[[Tensor, Tensor], Tensor],
    loss: Callable[[Tensor, Tensor], Tensor] = lambda chosen, rejected: bradley_terry_loss(
        chosen_scores=chosen, rejected_scores=rejected
    ),
) -> Callable[..., Tensor]:
    """An answer that reads its scores and makes its loss in these ways."""

    def answer(
        chosen_outputs: Tensor, chosen_mask: Tensor, rejected_outputs: Tensor, rejected_mask: Tensor
    ) -> Tensor:
        return loss(score(chosen_outputs, chosen_mask), score(rejected_outputs, rejected_mask))

    return answer


def right_score(outputs: Tensor, mask: Tensor) -> Tensor:
    return read(outputs, last_real_token(outputs, mask))


def last_column(outputs: Tensor, mask: Tensor) -> Tensor:
    return outputs[:, -1]


def by_the_count(outputs: Tensor, mask: Tensor) -> Tensor:
    return read(outputs, mask.sum(dim=1) - 1)


def one_too_early(outputs: Tensor, mask: Tensor) -> Tensor:
    return read(outputs, last_real_token(outputs, mask) - 1)


def first_real_token(outputs: Tensor, mask: Tensor) -> Tensor:
    return read(outputs, mask.int().argmax(dim=1))


def mean_of_all(outputs: Tensor, mask: Tensor) -> Tensor:
    return torch.where(mask, outputs, 0.0).sum(dim=1) / mask.sum(dim=1)


def sum_of_all(outputs: Tensor, mask: Tensor) -> Tensor:
    return torch.where(mask, outputs, 0.0).sum(dim=1)


MISTAKES = (
    Mistake(
        "mask",
        "your score is read in the last column; in a shorter text that is a pad, and the head's "
        "answer to a pad depends on how long the others are",
        with_scores(last_column),
    ),
    Mistake(
        "mask",
        "the number of real tokens minus one is the last one's place only if the text begins in "
        "column 0; these have pads on the left as well",
        with_scores(by_the_count),
    ),
    Mistake(
        "off by one",
        "your score is read one token before the last real one: the head has not seen the end of "
        "the text there",
        with_scores(one_too_early),
    ),
    Mistake(
        "wrong token",
        "your score is read at the first real token, where the model has read next to nothing",
        with_scores(first_real_token),
    ),
    Mistake(
        "wrong token",
        "your score is the mean over all tokens; the score is one number, read where the whole "
        "text is known",
        with_scores(mean_of_all),
    ),
    Mistake(
        "wrong token",
        "your score is the sum over all tokens; the score is one number, read where the whole text "
        "is known",
        with_scores(sum_of_all),
    ),
    Mistake(
        "sign",
        "chosen and rejected have changed places: this loss is small when the rejected response "
        "scores higher",
        with_scores(
            right_score,
            lambda chosen, rejected: bradley_terry_loss(
                chosen_scores=rejected, rejected_scores=chosen
            ),
        ),
    ),
    Mistake(
        "sign",
        "this is the mean log-probability of the annotator's choices, at most 0; a loss is "
        "minimised",
        with_scores(right_score, lambda chosen, rejected: logsigmoid(chosen - rejected).mean()),
    ),
    Mistake(
        "log",
        "this is a mean of probabilities; the loss is made of their logarithms",
        with_scores(right_score, lambda chosen, rejected: -torch.sigmoid(chosen - rejected).mean()),
    ),
    Mistake(
        "log",
        "this is 1 minus the probability; the loss is made of logarithms of probabilities",
        with_scores(right_score, lambda chosen, rejected: torch.sigmoid(rejected - chosen).mean()),
    ),
    Mistake(
        "sum for mean",
        "the losses of the pairs are summed: the loss would grow with the batch",
        with_scores(right_score, lambda chosen, rejected: -logsigmoid(chosen - rejected).sum()),
    ),
    Mistake(
        "formula",
        "this judges every response by itself, as good or bad; the annotator has only compared, so "
        "only the difference of the two scores may count",
        with_scores(
            right_score,
            lambda chosen, rejected: -(logsigmoid(chosen) + logsigmoid(-rejected)).mean(),
        ),
    ),
    Mistake(
        "formula",
        "this is the difference itself, without the sigmoid: it has no end, and pairs that are "
        "long since in order pull as hard as those that are not",
        with_scores(right_score, lambda chosen, rejected: -(chosen - rejected).mean()),
    ),
    Mistake(
        "detach",
        "the values are right, but no gradient reaches the head's outputs: a detach, no_grad or "
        ".data is in the way",
        with_scores(lambda outputs, mask: right_score(outputs.detach(), mask)),
    ),
    Mistake(
        "detach",
        "only the chosen response gets a gradient; the rejected one must be pushed down as hard",
        with_scores(
            right_score,
            lambda chosen, rejected: bradley_terry_loss(
                chosen_scores=chosen, rejected_scores=rejected.detach()
            ),
        ),
    ),
    Mistake(
        "batch",
        "one loss per pair; an optimiser needs one number for the batch",
        with_scores(right_score, lambda c, r: -logsigmoid(c - r)),
    ),
    Mistake(
        "ratio",
        "this takes the logarithm of a quotient of sigmoids; the loss has the sigmoid of the "
        "difference",
        with_scores(right_score, lambda c, r: -(c.sigmoid().log() - r.sigmoid().log()).mean()),
    ),
    Mistake(
        "formula",
        "this is the sigmoid of the difference of two sigmoids; the scores go in as they are",
        with_scores(right_score, lambda c, r: -logsigmoid(c.sigmoid() - r.sigmoid()).mean()),
    ),
    Mistake(
        "formula",
        "this is a hinge with a margin of 1; the Bradley-Terry loss is -log sigmoid",
        with_scores(right_score, lambda c, r: torch.relu(1 - (c - r)).mean()),
    ),
    Mistake(
        "formula",
        "this is a hinge; the Bradley-Terry loss is -log sigmoid",
        with_scores(right_score, lambda c, r: torch.relu(r - c).mean()),
    ),
    Mistake(
        "formula",
        "the square of the difference has no sign: which of the two is better is lost",
        with_scores(right_score, lambda c, r: ((c - r) ** 2).mean()),
    ),
    Mistake(
        "mean for sum",
        "the difference is averaged before the sigmoid; each pair has a loss, and these are "
        "averaged",
        with_scores(right_score, lambda c, r: -logsigmoid((c - r).mean())),
    ),
    Mistake(
        "log",
        "the logarithm is missing, and the mean of the probabilities has become positive",
        with_scores(right_score, lambda c, r: torch.sigmoid(c - r).mean()),
    ),
    Mistake(
        "formula",
        "only the chosen score counts; the loss is made of the difference",
        with_scores(right_score, lambda c, r: -logsigmoid(c).mean()),
    ),
    Mistake(
        "batch",
        "every chosen text is compared with every rejected one; the pairs are rows",
        with_scores(right_score, lambda c, r: -logsigmoid(c[:, None] - r[None, :]).mean()),
    ),
)


def reads(name: str, message: str, score: Callable[[Tensor, Tensor], Tensor]) -> Change:
    """The scores are read in another way."""

    def of_side(side: str) -> Callable[[Arguments], Tensor]:
        return lambda case: score(case[f"{side}_outputs"], case[f"{side}_mask"])[:, None].expand_as(
            case[f"{side}_outputs"]
        )

    return goes_in(
        name, message, chosen_outputs=of_side("chosen"), rejected_outputs=of_side("rejected")
    )


def largest(outputs: Tensor, mask: Tensor) -> Tensor:
    return outputs.masked_fill(~mask, -torch.inf).max(dim=1).values


CHANGES = (
    reads("mask", "your score is read in the last column, which may be a pad", last_column),
    reads(
        "mask",
        "the number of real tokens minus one is the last one's place only without pads on the left",
        by_the_count,
    ),
    reads("off by one", "your score is read one token before the last real one", one_too_early),
    reads(
        "off by one",
        "your score is read one slot after the last real token",
        lambda outputs, mask: read(
            outputs, (last_real_token(outputs, mask) + 1).clamp(max=outputs.shape[1] - 1)
        ),
    ),
    reads(
        "off by one",
        "your score is read at the number of real tokens, one slot too late even without pads on "
        "the left",
        lambda outputs, mask: read(outputs, mask.sum(dim=1).clamp(max=outputs.shape[1] - 1)),
    ),
    reads("wrong token", "your score is read at the first real token", first_real_token),
    reads("wrong token", "your score is read in the first column", lambda out, mask: out[:, 0]),
    reads("wrong token", "your score is the mean over all tokens", mean_of_all),
    reads(
        "wrong token",
        "your score is the mean over all columns, pads included",
        lambda outputs, mask: outputs.mean(dim=1),
    ),
    reads(
        "wrong token",
        "your score is the sum over all columns, pads included",
        lambda outputs, mask: outputs.sum(dim=1),
    ),
    reads("wrong token", "your score is the sum over all tokens", sum_of_all),
    reads("wrong token", "your score is the largest of all tokens", largest),
    goes_in(
        "sign",
        "chosen and rejected have changed places",
        chosen_outputs=lambda case: case["rejected_outputs"],
        chosen_mask=lambda case: case["rejected_mask"],
        rejected_outputs=lambda case: case["chosen_outputs"],
        rejected_mask=lambda case: case["chosen_mask"],
    ),
    times(
        "sum for mean",
        "the losses of the pairs are summed: the loss would grow with the batch",
        lambda case: len(case["chosen_mask"]),
    ),
    *ANY,
)

exercise = Exercise(
    "reward_score",
    reference,
    cases,
    MISTAKES,
    gradient_of=("chosen_outputs", "rejected_outputs"),
    changes=CHANGES,
    hints=HINTS["reward_score"],
)
