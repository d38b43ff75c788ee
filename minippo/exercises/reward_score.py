"""Exercise of notebook 05: the Bradley-Terry loss of pairs, from what the reward head says at every
position."""

from collections.abc import Callable

import torch
from torch import Tensor

from minippo.exercises.draw import Draw, rows_in_words
from minippo.exercises.engine import Case, Exercise, Mistake
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

    for rows, width, left, behind in ((2, 5, 1, 0), (3, 6, 2, 0), (5, 5, 0, 0), (2, 4, 1, 500)):
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
        "your score is read in the last column; in a shorter text that is a pad, and the "
        "head's answer to a "
        "pad depends on how long the others are",
        with_scores(last_column),
    ),
    Mistake(
        "mask",
        "the number of real tokens minus one is the last one's place only if the text begins in "
        "column 0; these "
        "have pads on the left as well",
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
        "your score is the sum over all tokens; the score is one number, read where the whole "
        "text is known",
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
        "this is the mean log-probability of the annotator's "
        "choices, at most 0; a loss is minimised",
        with_scores(
            right_score,
            lambda chosen, rejected: torch.nn.functional.logsigmoid(chosen - rejected).mean(),
        ),
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
        with_scores(
            right_score,
            lambda chosen, rejected: -torch.nn.functional.logsigmoid(chosen - rejected).sum(),
        ),
    ),
    Mistake(
        "formula",
        "this judges every response by itself, as good or bad; the annotator has only compared, "
        "so only the "
        "difference of the two scores may count",
        with_scores(
            right_score,
            lambda chosen, rejected: (
                -(
                    torch.nn.functional.logsigmoid(chosen)
                    + torch.nn.functional.logsigmoid(-rejected)
                ).mean()
            ),
        ),
    ),
    Mistake(
        "formula",
        "this is the difference itself, without the sigmoid: it has no end, and pairs that are "
        "long since in order "
        "pull as hard as those that are not",
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
)

exercise = Exercise(
    "reward_score", reference, cases, MISTAKES, gradient_of=("chosen_outputs", "rejected_outputs")
)
