"""Exercise of notebook 05: the Bradley-Terry loss of pairs, from what the reward head says at every
position."""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

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


def cases() -> list[Case]:
    """Three pairs whose texts have pads on both sides, and two pairs of which one side is padded;
    widths differ."""
    generator = torch.Generator().manual_seed(5)

    def side(S: int, firsts: Sequence[int], lasts: Sequence[int]) -> tuple[Tensor, Tensor]:
        slots = torch.arange(S)
        mask = (slots >= torch.tensor(firsts)[:, None]) & (slots <= torch.tensor(lasts)[:, None])
        return torch.randn(len(firsts), S, generator=generator, dtype=torch.float64) * 2, mask

    made = []
    for chosen, rejected in (
        (side(6, (1, 0, 2), (3, 4, 4)), side(7, (1, 0, 2), (5, 2, 4))),
        (side(4, (0, 0), (2, 1)), side(5, (0, 1), (4, 3))),
    ):
        made.append(
            {
                "chosen_outputs": chosen[0],
                "chosen_mask": chosen[1],
                "rejected_outputs": rejected[0],
                "rejected_mask": rejected[1],
            }
        )
    return made


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
