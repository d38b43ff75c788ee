"""Exercise of notebook 12: the share of real tokens at which the clip holds."""

import torch
from torch import Tensor

from minippo.exercises.draw import Draw, rows_in_words
from minippo.exercises.engine import Case, Exercise, Mistake
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
    steps = torch.tensor([-0.9, -0.7, -0.33, -0.04, 0.05, 0.28, 0.6, 0.8, 1.6])
    for rows, longest, spare, cliprange, padding in (
        (2, 5, 0, draw.one(0.12, 0.22), 1.0),
        (4, 9, 1, 0.3, 0.0),
        (5, 11, 2, draw.one(0.12, 0.22), 1.0),
        (3, 13, 2, 0.3, 1.0),
    ):
        T = draw.longest(longest)
        mask = draw.mask(rows, T, T + spare)
        fill = torch.where(mask, 1.0, padding)
        change = steps[draw.whole(0, len(steps) - 1, *mask.shape)]
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


def held(ratios: Tensor, advantages: Tensor | float, cliprange: float) -> Tensor:
    """Where the clipped branch is the smaller one, as numbers."""
    return (ratios.clamp(1 - cliprange, 1 + cliprange) * advantages < ratios * advantages).double()


def ratios_of(logprobs: Tensor, old_logprobs: Tensor) -> Tensor:
    return (logprobs - old_logprobs).exp()


def mean_over(numbers: Tensor, response_mask: Tensor) -> Tensor:
    return (numbers * response_mask).sum() / response_mask.sum()


def over_all_slots(
    logprobs: Tensor,
    old_logprobs: Tensor,
    advantages: Tensor,
    response_mask: Tensor,
    cliprange: float,
) -> Tensor:
    return (held(ratios_of(logprobs, old_logprobs), advantages, cliprange) * response_mask).mean()


def without_mask(
    logprobs: Tensor,
    old_logprobs: Tensor,
    advantages: Tensor,
    response_mask: Tensor,
    cliprange: float,
) -> Tensor:
    return held(ratios_of(logprobs, old_logprobs), advantages, cliprange).mean()


def padding_counted(
    logprobs: Tensor,
    old_logprobs: Tensor,
    advantages: Tensor,
    response_mask: Tensor,
    cliprange: float,
) -> Tensor:
    return (
        held(ratios_of(logprobs, old_logprobs), advantages, cliprange).sum() / response_mask.sum()
    )


def outside_the_range(
    logprobs: Tensor,
    old_logprobs: Tensor,
    advantages: Tensor,
    response_mask: Tensor,
    cliprange: float,
) -> Tensor:
    return mean_over(
        ((ratios_of(logprobs, old_logprobs) - 1).abs() > cliprange).double(), response_mask
    )


def ties_counted(
    logprobs: Tensor,
    old_logprobs: Tensor,
    advantages: Tensor,
    response_mask: Tensor,
    cliprange: float,
) -> Tensor:
    ratios = ratios_of(logprobs, old_logprobs)
    clipped = ratios.clamp(1 - cliprange, 1 + cliprange) * advantages <= ratios * advantages
    return mean_over(clipped.double(), response_mask)


def larger_branch(
    logprobs: Tensor,
    old_logprobs: Tensor,
    advantages: Tensor,
    response_mask: Tensor,
    cliprange: float,
) -> Tensor:
    return mean_over(held(ratios_of(logprobs, old_logprobs), -advantages, cliprange), response_mask)


def log_ratios(
    logprobs: Tensor,
    old_logprobs: Tensor,
    advantages: Tensor,
    response_mask: Tensor,
    cliprange: float,
) -> Tensor:
    return mean_over(held(1 + logprobs - old_logprobs, advantages, cliprange), response_mask)


def bare_log_ratios(
    logprobs: Tensor,
    old_logprobs: Tensor,
    advantages: Tensor,
    response_mask: Tensor,
    cliprange: float,
) -> Tensor:
    return mean_over(held(logprobs - old_logprobs, advantages, cliprange), response_mask)


def turned_ratio(
    logprobs: Tensor,
    old_logprobs: Tensor,
    advantages: Tensor,
    response_mask: Tensor,
    cliprange: float,
) -> Tensor:
    return mean_over(held(ratios_of(old_logprobs, logprobs), advantages, cliprange), response_mask)


def rows_first(
    logprobs: Tensor,
    old_logprobs: Tensor,
    advantages: Tensor,
    response_mask: Tensor,
    cliprange: float,
) -> Tensor:
    clipped = held(ratios_of(logprobs, old_logprobs), advantages, cliprange) * response_mask
    return (clipped.sum(dim=1) / response_mask.sum(dim=1)).mean()


def counted(
    logprobs: Tensor,
    old_logprobs: Tensor,
    advantages: Tensor,
    response_mask: Tensor,
    cliprange: float,
) -> Tensor:
    return (held(ratios_of(logprobs, old_logprobs), advantages, cliprange) * response_mask).sum()


def log_ratio_from_zero(
    logprobs: Tensor,
    old_logprobs: Tensor,
    advantages: Tensor,
    response_mask: Tensor,
    cliprange: float,
) -> Tensor:
    return mean_over(((logprobs - old_logprobs).abs() > cliprange).double(), response_mask)


def without_advantages(
    logprobs: Tensor,
    old_logprobs: Tensor,
    advantages: Tensor,
    response_mask: Tensor,
    cliprange: float,
) -> Tensor:
    return mean_over(held(ratios_of(logprobs, old_logprobs), 1.0, cliprange), response_mask)


def only_above(
    logprobs: Tensor,
    old_logprobs: Tensor,
    advantages: Tensor,
    response_mask: Tensor,
    cliprange: float,
) -> Tensor:
    return mean_over(
        ((ratios_of(logprobs, old_logprobs) > 1 + cliprange) & (advantages > 0)).double(),
        response_mask,
    )


MISTAKES = (
    Mistake(
        "mask",
        "the mean is over all slots: pads are counted as tokens that "
        "are not clipped; divide by the number "
        "of real tokens",
        over_all_slots,
    ),
    Mistake(
        "mask",
        "the padding takes part: what is there belongs to nobody, "
        "use the mask in the sum and in the "
        "count",
        without_mask,
    ),
    Mistake(
        "mask",
        "the count is of real tokens, but clipped pads are in the sum as well",
        padding_counted,
    ),
    Mistake(
        "clip",
        "these are the ratios outside the range; with an advantage "
        "that pulls such a ratio back, the "
        "minimum takes the unclipped branch, and the token is not clipped",
        outside_the_range,
    ),
    Mistake(
        "clip",
        "tokens inside the range are counted: both branches are equal there; count where the "
        "clipped one "
        "is smaller",
        ties_counted,
    ),
    Mistake(
        "clip",
        "the two ratios are compared without the advantage; with one below 0 the larger ratio "
        "makes the smaller "
        "branch",
        without_advantages,
    ),
    Mistake(
        "clip",
        "these are the log-ratios that are far from 0; what counts "
        "is the ratio, and on which side the "
        "advantage wants it",
        log_ratio_from_zero,
    ),
    Mistake(
        "clip",
        "only one side is counted: a ratio below the range with "
        "an advantage below 0 is clipped as well",
        only_above,
    ),
    Mistake(
        "min for max",
        "the objective takes the smaller of the two branches; these are the tokens at which the "
        "clipped branch is the larger one",
        larger_branch,
    ),
    Mistake(
        "ratio",
        "the difference of log-probabilities is the logarithm of the ratio: the range 1 - "
        "cliprange to 1 "
        "+ cliprange is about the ratio itself",
        log_ratios,
    ),
    Mistake(
        "ratio",
        "the ratio is the exponential of the difference of "
        "log-probabilities; yours lacks the exponential",
        bare_log_ratios,
    ),
    Mistake(
        "old for new",
        "the ratio is upside down: it is the new probability over the old one",
        turned_ratio,
    ),
    Mistake(
        "normalisation",
        "this is a mean of the means of the rows: a token of a short response counts more than "
        "one of a long response; take one mean over all real tokens",
        rows_first,
    ),
    Mistake("sum for mean", "this is the number of clipped tokens; a share is wanted", counted),
)

exercise = Exercise("clip_fraction", reference, cases, MISTAKES)
