"""Exercise of notebook 11: PPO's clipped policy loss of a batch."""

from collections.abc import Callable

import torch
from torch import Tensor

from minippo.exercises.draw import Draw, rows_in_words
from minippo.exercises.engine import Case, Exercise, Mistake
from minippo.ppo import clipped_surrogate_loss, unclipped_surrogate_loss


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
    range; in the last some ratios are about 5, with advantages below 0.

    The padding is full of numbers.
    """
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


def unclipped(
    logprobs: Tensor,
    old_logprobs: Tensor,
    advantages: Tensor,
    response_mask: Tensor,
    cliprange: float,
) -> Tensor:
    return unclipped_surrogate_loss(
        logprobs=logprobs,
        old_logprobs=old_logprobs,
        advantages=advantages,
        response_mask=response_mask,
    )


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


def detached(
    logprobs: Tensor,
    old_logprobs: Tensor,
    advantages: Tensor,
    response_mask: Tensor,
    cliprange: float,
) -> Tensor:
    return reference(logprobs.detach(), old_logprobs, advantages, response_mask, cliprange)


def mean_of_row_means(x: Tensor, mask: Tensor) -> Tensor:
    return (torch.where(mask, x, 0.0).sum(dim=1) / mask.sum(dim=1)).mean()


def mean_of_row_sums(x: Tensor, mask: Tensor) -> Tensor:
    return torch.where(mask, x, 0.0).sum(dim=1).mean()


def padded_mean(x: Tensor, mask: Tensor) -> Tensor:
    return torch.where(mask, x, 0.0).mean()


MISTAKES = (
    Mistake(
        "min for max",
        "the better of the two is taken: a token that is far enough "
        "is then pushed further, and one that "
        "went the wrong way is left there",
        made_of(torch.maximum),
    ),
    Mistake(
        "clip",
        "the clipped ratio is used alone: a token that went the "
        "wrong way gets no gradient back; compare "
        "it with the unclipped one",
        made_of(lambda plain, clipped: clipped),
    ),
    Mistake("clip", "nothing is clipped: this is the plain surrogate", unclipped),
    Mistake(
        "clip",
        "the range is that of the ratio, around 1, not around 0",
        made_of(clip=lambda r, e: r.clamp(-e, e)),
    ),
    Mistake(
        "clip",
        "the clip has one end only; it needs a lower and an upper "
        "one, since advantages have two signs",
        made_of(clip=lambda r, e: r.clamp(max=1 + e)),
    ),
    Mistake(
        "clip",
        "the smaller ratio is taken before the advantage has multiplied it: right for advantages "
        "above 0, and "
        "the other way round for those below; the minimum is over the two products",
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
        "the padding counts in the mean: average over the True "
        "tokens only, and divide by their number",
        made_of(average=lambda x, mask: x.mean()),
    ),
    Mistake(
        "mask",
        "the padding is left out of the sum but still counted in "
        "the divisor: divide by the number of "
        "True tokens",
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
        "the difference of the log-probabilities is the log of "
        "the ratio; the exponential is missing",
        made_of(ratio_of=lambda x: x),
    ),
    Mistake(
        "ratio",
        "this is the quotient of two log-probabilities; the ratio is the quotient of the "
        "probabilities, "
        "exp of a difference",
        made_of(log_ratio=lambda new, old: new / old, ratio_of=lambda x: x),
    ),
    Mistake(
        "ratio",
        "this is one ratio for a whole response; each token has its own",
        one_ratio_per_response,
    ),
    Mistake(
        "detach",
        "the value is right, but no gradient reaches logprobs: a "
        "detach, no_grad or .data is in the way",
        detached,
    ),
)

exercise = Exercise("clipped_loss", reference, cases, MISTAKES, gradient_of=("logprobs",))
