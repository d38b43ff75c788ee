"""Exercise of notebook 15: the largest distance of a ratio from 1."""

from collections.abc import Callable

import torch
from torch import Tensor

from minippo.exercises.changes import FIRST_ROW, NO_MASK, ONE_SLOT_MORE, comes_out, swapped
from minippo.exercises.draw import Draw, rows_in_words
from minippo.exercises.engine import Case, Exercise, Mistake
from minippo.exercises.hints import HINTS


def reference(logprobs: Tensor, old_logprobs: Tensor, response_mask: Tensor) -> Tensor:
    """logprobs, old_logprobs, response_mask [B,T] -> max over True of |ratio - 1|, a scalar."""
    return ((logprobs - old_logprobs)[response_mask].exp() - 1).abs().max()


def cases(seed: bytes | None = None) -> list[Case]:
    """Ragged batches in which the farthest ratio is above 1, or below it; the padding has ratios
    that are farther still, or is 0 as in a Rollout."""
    draw = Draw("first_ratio", seed)
    for rows, longest, spare, farthest, padding in (
        (2, 4, 1, -0.5, 1.0),
        (3, 6, 0, 0.7, 1.0),
        (4, 5, 2, -0.9, 1.0),
        (5, 7, 1, 0.4, 0.0),
        (3, 9, 2, -0.3, 1.0),
    ):
        T = draw.longest(longest)
        mask = draw.mask(rows, T, T + spare)
        small = draw.uniform(-0.15, 0.15, *mask.shape)
        row = int(draw.whole(0, rows - 1))
        column = int(draw.whole(0, int(mask[row].sum()) - 1))
        small[row, column] = farthest * draw.one(0.95, 1.05)
        change = torch.where(mask, small, padding * draw.uniform(1.0, 2.0, *mask.shape))
        fill = torch.where(mask, 1.0, padding)
        old_logprobs = draw.uniform(-3.0, -1.0, *mask.shape) * fill
        side = "above" if farthest > 0 else "below"
        draw.add(
            f"{rows_in_words(mask)}, the farthest ratio is {side} 1, "
            f"{'farther ones' if padding else 'zeros'} in the padding",
            logprobs=old_logprobs + change,
            old_logprobs=old_logprobs,
            response_mask=mask,
        )
    return draw.cases()


def of_log_ratios(formula: Callable[[Tensor], Tensor]) -> Callable[..., Tensor]:
    """The function with the exercise's arguments that computes this of the log-ratios of the real
    tokens, [N]."""

    def function(logprobs: Tensor, old_logprobs: Tensor, response_mask: Tensor) -> Tensor:
        return formula((logprobs - old_logprobs)[response_mask])

    return function


MISTAKES = (
    Mistake(
        "mask",
        "the padding takes part: nobody chose what is there; select with the mask first",
        lambda logprobs, old_logprobs, response_mask: (
            ((logprobs - old_logprobs).exp() - 1).abs().max()
        ),
    ),
    Mistake(
        "ratio",
        "this is the largest log-ratio; the ratio is its exponential",
        of_log_ratios(lambda d: d.abs().max()),
    ),
    Mistake(
        "ratio",
        "this is the largest ratio less 1: a ratio below 1 is away from 1 as well; take abs",
        of_log_ratios(lambda d: (d.exp() - 1).max()),
    ),
    Mistake(
        "ratio",
        "this is the largest ratio itself; how far is it from 1?",
        of_log_ratios(lambda d: d.exp().max()),
    ),
    Mistake(
        "ratio",
        "the 1 is taken from the log-ratio; a log-ratio that has not moved is 0",
        of_log_ratios(lambda d: (d - 1).abs().max()),
    ),
    Mistake(
        "old for new",
        "the ratio is upside down: it is the new probability over the old one",
        of_log_ratios(lambda d: ((-d).exp() - 1).abs().max()),
    ),
    Mistake(
        "ratio",
        "this is the quotient of the log-probabilities; the ratio is the exponential of their "
        "difference",
        lambda logprobs, old_logprobs, response_mask: (
            (logprobs[response_mask] / old_logprobs[response_mask] - 1).abs().max()
        ),
    ),
    Mistake(
        "ratio",
        "this is the difference of the probabilities; wanted is their quotient",
        lambda logprobs, old_logprobs, response_mask: (
            (logprobs[response_mask].exp() - old_logprobs[response_mask].exp()).abs().max()
        ),
    ),
    Mistake(
        "formula",
        "this is the mean of the distances; one token that is far away is what it looks for",
        of_log_ratios(lambda d: (d.exp() - 1).abs().mean()),
    ),
    Mistake(
        "batch",
        "this is the mean over the responses of each one's largest distance; wanted is the largest "
        "of all",
        lambda logprobs, old_logprobs, response_mask: (
            (torch.where(response_mask, logprobs - old_logprobs, 0.0).exp() - 1)
            .abs()
            .amax(dim=1)
            .mean()
        ),
    ),
    Mistake(
        "formula",
        "this is the smallest distance; wanted is the largest",
        of_log_ratios(lambda d: (d.exp() - 1).abs().min()),
    ),
    Mistake(
        "formula",
        "the mean is taken before the distance: ratios above and below 1 cancel",
        of_log_ratios(lambda d: (d.exp().mean() - 1).abs()),
    ),
    Mistake(
        "formula",
        "the distance is squared; wanted is its absolute value",
        of_log_ratios(lambda d: (d.exp() - 1).square().max()),
    ),
    Mistake(
        "ratio",
        "these are the ratios of whole responses, the products over their tokens; wanted is the "
        "ratio of each token",
        lambda logprobs, old_logprobs, response_mask: (
            (torch.where(response_mask, logprobs - old_logprobs, 0.0).sum(1).exp() - 1).abs().max()
        ),
    ),
    Mistake(
        "batch",
        "one number per response; wanted is one for the batch",
        lambda logprobs, old_logprobs, response_mask: (
            (torch.where(response_mask, logprobs - old_logprobs, 0.0).exp() - 1)
            .abs()
            .max(dim=1)
            .values
        ),
    ),
    Mistake(
        "batch",
        "one number per token; wanted is the largest of them",
        lambda logprobs, old_logprobs, response_mask: (
            torch.where(response_mask, logprobs - old_logprobs, 0.0).exp() - 1
        ).abs(),
    ),
    Mistake(
        "mask",
        "the padding was set to a ratio of 0, which is 1 away from 1; select the tokens, or set "
        "the log-ratio to 0",
        lambda logprobs, old_logprobs, response_mask: (
            ((logprobs - old_logprobs).exp() * response_mask - 1).abs().max()
        ),
    ),
)

CHANGES = (
    NO_MASK,
    FIRST_ROW,
    ONE_SLOT_MORE,
    swapped("old for new", "the ratio is upside down", "logprobs", "old_logprobs"),
    comes_out("sign", "the sign is turned: a distance is not negative", lambda value, case: -value),
    comes_out("scale", "this is twice what it should be", lambda value, case: 2 * value),
    comes_out("scale", "this is half of what it should be", lambda value, case: value / 2),
)

exercise = Exercise(
    "first_ratio", reference, cases, MISTAKES, changes=CHANGES, hints=HINTS["first_ratio"]
)
