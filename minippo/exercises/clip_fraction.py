"""Exercise of notebook 12: the share of real tokens at which the clip holds."""

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

from minippo.exercises.changes import (
    ANY,
    MASKS,
    ROW_MEANS,
    comes_out,
    goes_in,
    responses,
    slots,
    swapped,
    times,
    tokens,
)
from minippo.exercises.draw import Draw, rows_in_words
from minippo.exercises.engine import Case, Exercise, Mistake
from minippo.exercises.hints import HINTS
from minippo.ppo_statistics import ppo_diagnostics


def reference(
    logprobs: Tensor,
    old_logprobs: Tensor,
    advantages: Tensor,
    response_mask: Tensor,
    cliprange: float,
) -> Tensor:
    """logprobs, old_logprobs, advantages, response_mask [B,T] -> policy/clipfrac_avg of equation
    (6.6), a scalar."""
    numbers = ppo_diagnostics(
        logprobs=logprobs,
        old_logprobs=old_logprobs,
        advantages=advantages,
        response_mask=response_mask,
        cliprange=cliprange,
    )
    return torch.tensor(numbers["policy/clipfrac_avg"], dtype=logprobs.dtype)


def cases(seed: bytes | None = None) -> list[Case]:
    """Ragged batches whose ratios leave the range on both sides, some of them far; the padding
    holds numbers, or zeros as in a Rollout."""
    draw = Draw("clip_fraction", seed)
    steps = (  # log-ratios; 0.28 and -0.33 are in the range on one side of exp only
        torch.tensor([-0.9, -0.7, -0.04, 0.05, 0.28, 0.28, 0.6, 0.8, 1.6]),
        torch.tensor([-0.9, -0.7, -0.33, -0.33, -0.04, 0.05, 0.6, 0.8, 1.6]),
    )
    for rows, longest, spare, cliprange, padding in (
        (2, 5, 0, draw.one(0.12, 0.22), 1.0),
        (4, 9, 1, 0.3, 0.0),
        (5, 11, 2, draw.one(0.12, 0.22), 1.0),
        (3, 13, 2, 0.3, 1.0),
        (4, 7, 1, draw.one(0.12, 0.22), 1.0),
        (3, 10, 3, 0.3, 1.0),
    ):
        T = draw.longest(longest)
        mask = draw.mask(rows, T, T + spare)
        fill = torch.where(mask, 1.0, padding)
        change = steps[rows % 2][draw.whole(0, len(steps[0]) - 1, *mask.shape)]
        old_logprobs = draw.uniform(-2.5, -1.7, *mask.shape) * fill
        signs = draw.whole(0, 1, *mask.shape) * 2 - 1
        draw.add(
            f"{rows_in_words(mask)}, ratios from 0.4 to 5 for both signs of the advantage, "
            f"cliprange {cliprange}, {'numbers' if padding else 'zeros'} in the padding",
            logprobs=old_logprobs + change * draw.uniform(0.99, 1.01, *mask.shape) * fill,
            old_logprobs=old_logprobs,
            advantages=signs * draw.uniform(0.3, 2.3, *mask.shape) * fill,
            response_mask=mask,
            cliprange=cliprange,
        )
    return draw.cases()


class Given(NamedTuple):
    """The arguments of one call, for the mistakes."""

    logprobs: Tensor
    old_logprobs: Tensor
    advantages: Tensor
    response_mask: Tensor
    cliprange: float

    def ratios(self) -> Tensor:
        return (self.logprobs - self.old_logprobs).exp()

    def log_ratios(self) -> Tensor:
        return self.logprobs - self.old_logprobs

    def held(self, ratios: Tensor, advantages: Tensor | float | None = None) -> Tensor:
        """Where the clipped branch is the smaller one, as numbers."""
        A = self.advantages if advantages is None else advantages
        return (ratios.clamp(1 - self.cliprange, 1 + self.cliprange) * A < ratios * A).double()

    def mean(self, numbers: Tensor) -> Tensor:
        """The mean over the real tokens."""
        return (numbers.double() * self.response_mask).sum() / self.response_mask.sum()


def mistaken(formula: Callable[[Given], Tensor]) -> Callable[..., Tensor]:
    """The function with the exercise's arguments that computes this formula."""
    return lambda **arguments: formula(Given(**arguments))


def over_all_slots(given: Given) -> Tensor:
    return (given.held(given.ratios()) * given.response_mask).mean()


def without_mask(given: Given) -> Tensor:
    return given.held(given.ratios()).mean()


def padding_counted(given: Given) -> Tensor:
    return given.held(given.ratios()).sum() / given.response_mask.sum()


def outside_the_range(given: Given) -> Tensor:
    return given.mean((given.ratios() - 1).abs() > given.cliprange)


def ties_counted(given: Given) -> Tensor:
    ratios, A = given.ratios(), given.advantages
    return given.mean(ratios.clamp(1 - given.cliprange, 1 + given.cliprange) * A <= ratios * A)


def larger_branch(given: Given) -> Tensor:
    return given.mean(given.held(given.ratios(), -given.advantages))


def log_ratios(given: Given) -> Tensor:
    return given.mean(given.held(1 + given.log_ratios()))


def bare_log_ratios(given: Given) -> Tensor:
    return given.mean(given.held(given.log_ratios()))


def turned_ratio(given: Given) -> Tensor:
    return given.mean(given.held(1 / given.ratios()))


def rows_first(given: Given) -> Tensor:
    clipped = given.held(given.ratios()) * given.response_mask
    return (clipped.sum(dim=1) / given.response_mask.sum(dim=1)).mean()


def counted(given: Given) -> Tensor:
    return (given.held(given.ratios()) * given.response_mask).sum()


def log_ratio_from_zero(given: Given) -> Tensor:
    return given.mean(given.log_ratios().abs() > given.cliprange)


def without_advantages(given: Given) -> Tensor:
    return given.mean(given.held(given.ratios(), 1.0))


def only_above(given: Given) -> Tensor:
    return given.mean((given.ratios() > 1 + given.cliprange) & (given.advantages > 0))


def only_below(given: Given) -> Tensor:
    return given.mean((given.ratios() < 1 - given.cliprange) & (given.advantages < 0))


def below_the_range(given: Given) -> Tensor:
    return given.mean(given.ratios() < 1 - given.cliprange)


def one_per_row(given: Given) -> Tensor:
    clipped = given.held(given.ratios()) * given.response_mask
    return clipped.sum(dim=1) / given.response_mask.sum(dim=1)


def sign_of_the_advantage(given: Given) -> Tensor:
    wrong_side = (given.log_ratios() * given.advantages) > 0
    return given.mean(wrong_side)


def of_the_product(given: Given) -> Tensor:
    product = given.ratios() * given.advantages
    return given.mean((product - 1).abs() > given.cliprange)


MISTAKES = (
    Mistake(
        "mask",
        "the mean is over all slots: pads are counted as tokens that are not clipped; divide by "
        "the number of real tokens",
        mistaken(over_all_slots),
    ),
    Mistake(
        "mask",
        "the padding takes part: what is there belongs to nobody, use the mask in the sum and in "
        "the count",
        mistaken(without_mask),
    ),
    Mistake(
        "mask",
        "the count is of real tokens, but clipped pads are in the sum as well",
        mistaken(padding_counted),
    ),
    Mistake(
        "clip",
        "these are the ratios outside the range; with an advantage that pulls such a ratio back, "
        "the minimum takes the unclipped branch, and the token is not clipped",
        mistaken(outside_the_range),
    ),
    Mistake(
        "clip",
        "tokens inside the range are counted: both branches are equal there; count where the "
        "clipped one is smaller",
        mistaken(ties_counted),
    ),
    Mistake(
        "clip",
        "the two ratios are compared without the advantage; with one below 0 the larger ratio "
        "makes the smaller branch",
        mistaken(without_advantages),
    ),
    Mistake(
        "clip",
        "these are the log-ratios that are far from 0; what counts is the ratio, and on which side "
        "the advantage wants it",
        mistaken(log_ratio_from_zero),
    ),
    Mistake(
        "clip",
        "only one side is counted: a ratio below the range with an advantage below 0 is clipped as "
        "well",
        mistaken(only_above),
    ),
    Mistake(
        "min for max",
        "the objective takes the smaller of the two branches; these are the tokens at which the "
        "clipped branch is the larger one",
        mistaken(larger_branch),
    ),
    Mistake(
        "ratio",
        "the difference of log-probabilities is the logarithm of the ratio: the range 1 - "
        "cliprange to 1 + cliprange is about the ratio itself",
        mistaken(log_ratios),
    ),
    Mistake(
        "ratio",
        "the ratio is the exponential of the difference of log-probabilities; yours lacks the "
        "exponential",
        mistaken(bare_log_ratios),
    ),
    Mistake(
        "old for new",
        "the ratio is upside down: it is the new probability over the old one",
        mistaken(turned_ratio),
    ),
    Mistake(
        "normalisation",
        "this is a mean of the means of the rows: a token of a short response counts more than one "
        "of a long response; take one mean over all real tokens",
        mistaken(rows_first),
    ),
    Mistake(
        "sum for mean", "this is the number of clipped tokens; a share is wanted", mistaken(counted)
    ),
    Mistake(
        "clip",
        "only one side is counted: a ratio above the range with an advantage above 0 is clipped as "
        "well",
        mistaken(only_below),
    ),
    Mistake(
        "clip",
        "the ratios below the range are counted, whatever the advantage; above the range tokens "
        "are clipped as well, and below only where the advantage is negative",
        mistaken(below_the_range),
    ),
    Mistake("batch", "one share per response; wanted is one for the batch", mistaken(one_per_row)),
    Mistake(
        "clip",
        "the range has no part in it: these are all tokens that have moved the way their advantage "
        "wants",
        mistaken(sign_of_the_advantage),
    ),
    Mistake(
        "clip",
        "the product of ratio and advantage is held against the range; the range is the ratio's",
        mistaken(of_the_product),
    ),
    Mistake(
        "mask",
        "the mask is the wrong way round: the padding counts, and the real tokens do not",
        mistaken(lambda given: given.held(given.ratios())[~given.response_mask].mean()),
    ),
)

CHANGES = (
    *MASKS,
    swapped(
        "old for new",
        "the ratio is upside down: it is the new probability over the old one",
        "logprobs",
        "old_logprobs",
    ),
    goes_in(
        "min for max",
        "these are the tokens at which the clipped branch is the larger one",
        advantages=lambda case: -case["advantages"],
    ),
    times("sum for mean", "this is the number of clipped tokens; a share is wanted", tokens),
    times(
        "mask",
        "the divisor counts all slots, pads included",
        lambda case: tokens(case) / slots(case),
    ),
    times(
        "sum for mean", "the divisor is the number of responses", lambda c: tokens(c) / responses(c)
    ),
    times("scale", "this is in per cent; a share is between 0 and 1", lambda case: 100.0),
    comes_out("sign", "this is the share that is not clipped", lambda value, case: 1 - value),
    ROW_MEANS,
    *ANY,
)

exercise = Exercise(
    "clip_fraction", reference, cases, MISTAKES, changes=CHANGES, hints=HINTS["clip_fraction"]
)
