"""Exercise of notebook 11: PPO's clipped policy loss of a batch."""

from collections.abc import Callable

import torch
from torch import Tensor

from minippo.exercises.changes import (
    DOUBLED,
    HALVED,
    MASKS,
    ROW_MEANS,
    TURNED,
    goes_in,
    number,
    responses,
    slots,
    swapped,
    times,
    tokens,
)
from minippo.exercises.draw import Draw, rows_in_words
from minippo.exercises.engine import Case, Exercise, Mistake
from minippo.exercises.hints import HINTS
from minippo.ppo import clipped_surrogate_loss


def reference(
    logprobs: Tensor,
    old_logprobs: Tensor,
    advantages: Tensor,
    response_mask: Tensor,
    cliprange: float,
) -> Tensor:
    """logprobs, old_logprobs, advantages [B,T], response_mask [B,T], cliprange a number -> scalar,
    to be minimised."""
    return clipped_surrogate_loss(
        logprobs=logprobs,
        old_logprobs=old_logprobs,
        advantages=advantages,
        response_mask=response_mask,
        cliprange=cliprange,
    )


THIRD_BOUND = (
    "clip",
    "right until a ratio is far out with an advantage below 0: there the loss has one more bound "
    "than the objective, which lets such a token cost what it costs",
)


def cases(seed: bytes | None = None) -> list[Case]:
    """Ragged batches in which each sign of the advantage meets a ratio below, inside and above the
    range, numbers in the padding; in the last some ratios are about 5, with advantages below 0."""
    draw = Draw("clipped_loss", seed)
    for rows, longest, spare, far in ((2, 4, 0, 0), (3, 6, 1, 0), (4, 5, 2, 0), (2, 3, 0, 1)):
        T = draw.longest(longest)
        mask, cliprange = draw.mask(rows, T, T + spare), draw.one(0.12, 0.3)
        log_ratios = repeated(mask, -0.7, 0.6, 0.04, -0.6, 0.7, -0.05)
        log_ratios = log_ratios * draw.uniform(0.9, 1.1, *mask.shape)
        advantages = repeated(mask, 1.0, 1.0, -1.0, -1.0, -1.0) * draw.uniform(
            0.3, 2.3, *mask.shape
        )
        if far:
            log_ratios[:, 0] += 1.6 - log_ratios[:, 0] + 0.1 * draw.normal(rows)
            advantages[:, 0] = -advantages[:, 0].abs()
        old_logprobs = draw.uniform(-2.3, -0.3, *mask.shape)
        draw.add(
            f"{rows_in_words(mask)}, ratios from {log_ratios[mask].exp().min():.2f} to "
            f"{log_ratios[mask].exp().max():.2f}, cliprange {cliprange}, numbers in the padding",
            THIRD_BOUND if far else None,
            logprobs=old_logprobs + log_ratios,
            old_logprobs=old_logprobs,
            advantages=advantages,
            response_mask=mask,
            cliprange=cliprange,
        )
    return draw.cases()


def repeated(mask: Tensor, *numbers: float) -> Tensor:
    """A tensor of the mask's shape, filled with these numbers again and again."""
    return torch.tensor(numbers).repeat(mask.numel())[: mask.numel()].view(mask.shape)


def made_of(
    combine: Callable[[Tensor, Tensor], Tensor] = torch.minimum,
    *,
    log_ratio: Callable[[Tensor, Tensor], Tensor] = lambda new, old: new - old,
    ratio_of: Callable[[Tensor], Tensor] = torch.exp,
    clip: Callable[[Tensor, float], Tensor] = lambda r, e: r.clamp(1 - e, 1 + e),
    average: Callable[[Tensor, Tensor], Tensor] = lambda x, mask: x[mask].mean(),
    sign: int = -1,
) -> Callable[..., Tensor]:
    """An answer in which one of the parts is replaced."""

    def answer(
        logprobs: Tensor,
        old_logprobs: Tensor,
        advantages: Tensor,
        response_mask: Tensor,
        cliprange: float,
    ) -> Tensor:
        ratio = ratio_of(log_ratio(logprobs, old_logprobs))
        return sign * average(
            combine(ratio * advantages, clip(ratio, cliprange) * advantages), response_mask
        )

    return answer


def clip_of_the_product(
    logprobs: Tensor,
    old_logprobs: Tensor,
    advantages: Tensor,
    response_mask: Tensor,
    cliprange: float,
) -> Tensor:
    products = (logprobs - old_logprobs).exp() * advantages
    return -torch.minimum(products, products.clamp(1 - cliprange, 1 + cliprange))[
        response_mask
    ].mean()


def smaller_ratio(
    logprobs: Tensor,
    old_logprobs: Tensor,
    advantages: Tensor,
    response_mask: Tensor,
    cliprange: float,
) -> Tensor:
    ratio = (logprobs - old_logprobs).exp()
    return -(torch.minimum(ratio, ratio.clamp(1 - cliprange, 1 + cliprange)) * advantages)[
        response_mask
    ].mean()


def one_ratio_per_response(
    logprobs: Tensor,
    old_logprobs: Tensor,
    advantages: Tensor,
    response_mask: Tensor,
    cliprange: float,
) -> Tensor:
    summed = torch.where(response_mask, logprobs - old_logprobs, 0.0).sum(dim=1, keepdim=True)
    return reference(
        summed.expand_as(logprobs), torch.zeros_like(logprobs), advantages, response_mask, cliprange
    )


def mean_of_row_means(x: Tensor, mask: Tensor) -> Tensor:
    return (torch.where(mask, x, 0.0).sum(dim=1) / mask.sum(dim=1)).mean()


def mean_of_row_sums(x: Tensor, mask: Tensor) -> Tensor:
    return torch.where(mask, x, 0.0).sum(dim=1).mean()


def padded_mean(x: Tensor, mask: Tensor) -> Tensor:
    return torch.where(mask, x, 0.0).mean()


MISTAKES = (
    Mistake(
        "min for max",
        "the better of the two is taken: a token that is far enough is then pushed further, and "
        "one that went the wrong way is left there",
        made_of(torch.maximum),
    ),
    Mistake(
        "clip",
        "the clipped ratio is used alone: a token that went the wrong way gets no gradient back; "
        "compare it with the unclipped one",
        made_of(lambda plain, clipped: clipped),
    ),
    Mistake("clip", "nothing is clipped: this is the plain surrogate", made_of(lambda r, c: r)),
    Mistake(
        "clip",
        "the logarithm of the ratio is clipped to cliprange around 0; the range is the ratio's, "
        "around 1",
        made_of(log_ratio=lambda new, old: new - old, clip=lambda r, e: r.log().clamp(-e, e).exp()),
    ),
    Mistake(
        "clip",
        "the clip has one end only; it needs a lower and an upper one, since advantages have two "
        "signs",
        made_of(clip=lambda r, e: r.clamp(min=1 - e)),
    ),
    Mistake(
        "ratio",
        "the ratio is the difference of log-probabilities plus 1, which is right near 1 only; it "
        "is the exponential of the difference",
        made_of(ratio_of=lambda x: 1 + x),
    ),
    Mistake(
        "ratio",
        "this is the difference of the two probabilities; the ratio is their quotient",
        made_of(log_ratio=lambda new, old: new.exp() - old.exp(), ratio_of=lambda x: x),
    ),
    Mistake(
        "ratio",
        "this is the new probability without the old one: the ratio divides by what sampled the "
        "token",
        made_of(log_ratio=lambda new, old: new),
    ),
    Mistake(
        "batch",
        "one number per response; an optimiser needs one for the batch",
        made_of(average=lambda x, m: torch.where(m, x, 0.0).sum(dim=1) / m.sum(dim=1)),
    ),
    Mistake(
        "batch",
        "one number per token; an optimiser needs one for the batch",
        made_of(average=lambda x, m: torch.where(m, x, 0.0)),
    ),
    Mistake(
        "clip",
        "the range is that of the ratio, around 1, not around 0",
        made_of(clip=lambda r, e: r.clamp(-e, e)),
    ),
    Mistake(
        "clip",
        "the clip has one end only; it needs a lower and an upper one, since advantages have two "
        "signs",
        made_of(clip=lambda r, e: r.clamp(max=1 + e)),
    ),
    Mistake(
        "clip",
        "the smaller ratio is taken before the advantage has multiplied it: right for advantages "
        "above 0, and the other way round for those below; the minimum is over the two products",
        smaller_ratio,
    ),
    Mistake(
        "clip",
        "the product of ratio and advantage is clipped; clip the ratio, then multiply",
        clip_of_the_product,
    ),
    Mistake(
        "sign",
        "the sign is turned: a loss is minimised, the objective is to be maximised",
        made_of(sign=1),
    ),
    Mistake(
        "mask",
        "the padding counts in the mean: average over the True tokens only, and divide by their "
        "number",
        made_of(average=lambda x, mask: x.mean()),
    ),
    Mistake(
        "mask",
        "the padding is left out of the sum but still counted in the divisor: divide by the number "
        "of True tokens",
        made_of(average=padded_mean),
    ),
    Mistake(
        "normalisation",
        "this is a mean over rows of means over tokens: a token of a short response then weighs "
        "more; wanted is one mean over all True tokens",
        made_of(average=mean_of_row_means),
    ),
    Mistake(
        "normalisation",
        "the tokens are summed and the rows averaged; wanted is one mean over all True tokens",
        made_of(average=mean_of_row_sums),
    ),
    Mistake(
        "sum for mean",
        "this is the sum over the True tokens; wanted is the mean",
        made_of(average=lambda x, mask: x[mask].sum()),
    ),
    Mistake(
        "old for new",
        "the ratio is upside down: new probability over old",
        made_of(log_ratio=lambda new, old: old - new),
    ),
    Mistake(
        "ratio",
        "the difference of the log-probabilities is the log of the ratio; the exponential is "
        "missing",
        made_of(ratio_of=lambda x: x),
    ),
    Mistake(
        "ratio",
        "this is the quotient of two log-probabilities; the ratio is the quotient of the "
        "probabilities, exp of a difference",
        made_of(log_ratio=lambda new, old: new / old, ratio_of=lambda x: x),
    ),
    Mistake(
        "ratio",
        "this is one ratio for a whole response; each token has its own",
        one_ratio_per_response,
    ),
    Mistake(
        "detach",
        "the value is right, but no gradient reaches logprobs: a detach, no_grad or .data is in "
        "the way",
        made_of(log_ratio=lambda new, old: new.detach() - old),
    ),
)

CHANGES = (
    *MASKS,
    TURNED,
    swapped(
        "old for new",
        "the ratio is upside down: new probability over old",
        "logprobs",
        "old_logprobs",
    ),
    times("sum for mean", "this is the sum over the True tokens; wanted is the mean", tokens),
    times(
        "normalisation",
        "the tokens are summed and the rows averaged; wanted is one mean over all True tokens",
        lambda case: tokens(case) / responses(case),
    ),
    times(
        "mask",
        "the padding is still counted in the divisor",
        lambda case: tokens(case) / slots(case),
    ),
    goes_in(
        "sign",
        "either the advantages have the wrong sign before the minimum is taken, or the larger of "
        "the two products is taken and the minus is missing: both are the same",
        advantages=lambda case: -case["advantages"],
    ),
    number("clip", "nothing is clipped", cliprange=1e6),
    goes_in(
        "clip", "the range is half as wide as it should be", cliprange=lambda c: c["cliprange"] / 2
    ),
    goes_in(
        "formula",
        "the advantages count with their size alone; the sign says which way to go",
        advantages=lambda case: case["advantages"].abs(),
    ),
    ROW_MEANS,
    DOUBLED,
    HALVED,
)

exercise = Exercise(
    "clipped_loss",
    reference,
    cases,
    MISTAKES,
    gradient_of=("logprobs",),
    changes=CHANGES,
    hints=HINTS["clipped_loss"],
)
