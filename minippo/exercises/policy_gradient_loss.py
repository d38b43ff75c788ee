"""Exercise of notebook 03: the loss whose gradient is minus the policy gradient."""

import torch
from torch import Tensor

from minippo.exercises.changes import (
    DOUBLED,
    HALVED,
    MASKS,
    TURNED,
    goes_in,
    responses,
    slots,
    times,
    tokens,
)
from minippo.exercises.draw import Draw, rows_in_words
from minippo.exercises.engine import Case, Exercise, Mistake
from minippo.exercises.hints import HINTS
from minippo.masked import whiten
from minippo.policy_gradient import policy_gradient_loss


def reference(logprobs: Tensor, weights: Tensor, response_mask: Tensor) -> Tensor:
    """logprobs, weights, response_mask [B,T] -> scalar, equation (1.2); no gradient passes to the
    weights."""
    return policy_gradient_loss(
        logprobs=logprobs, weights=weights.detach(), response_mask=response_mask
    )


def cases(seed: bytes | None = None) -> list[Case]:
    """Ragged batches, full and with spare slots, a different number of rows and of tokens in each;
    there are numbers in the padding."""
    draw = Draw("policy_gradient_loss", seed)
    for rows, longest, spare in ((2, 3, 0), (4, 5, 1), (5, 4, 2), (3, 6, 1)):
        T = draw.longest(longest)
        mask = draw.mask(rows, T, T + spare)
        draw.add(
            f"{rows_in_words(mask)}, numbers in the padding, weights of both signs",
            logprobs=draw.uniform(-2.1, -0.1, *mask.shape),
            weights=draw.normal(*mask.shape) + 0.5,
            response_mask=mask,
        )
    return draw.cases()


def products(logprobs: Tensor, weights: Tensor, response_mask: Tensor) -> Tensor:
    """w_t log pi_t, 0 where masked; no gradient to the weights."""
    return torch.where(response_mask, weights.detach() * logprobs, 0.0)


def wrong_sign(logprobs: Tensor, weights: Tensor, response_mask: Tensor) -> Tensor:
    return -reference(logprobs, weights, response_mask)


def without_mask(logprobs: Tensor, weights: Tensor, response_mask: Tensor) -> Tensor:
    return reference(logprobs, weights, torch.ones_like(response_mask))


def weights_not_detached(logprobs: Tensor, weights: Tensor, response_mask: Tensor) -> Tensor:
    return -torch.where(response_mask, weights * logprobs, 0.0).sum(dim=1).mean()


def logprobs_detached(logprobs: Tensor, weights: Tensor, response_mask: Tensor) -> Tensor:
    return reference(logprobs.detach(), weights, response_mask)


def only_the_weights_learn(logprobs: Tensor, weights: Tensor, response_mask: Tensor) -> Tensor:
    return weights_not_detached(logprobs.detach(), weights, response_mask)


def sum_over_rows(logprobs: Tensor, weights: Tensor, response_mask: Tensor) -> Tensor:
    return -products(logprobs, weights, response_mask).sum()


def mean_over_tokens(logprobs: Tensor, weights: Tensor, response_mask: Tensor) -> Tensor:
    return -products(logprobs, weights, response_mask).sum() / response_mask.sum()


def mean_over_all_slots(logprobs: Tensor, weights: Tensor, response_mask: Tensor) -> Tensor:
    return -products(logprobs, weights, response_mask).mean()


def mean_within_each_row(logprobs: Tensor, weights: Tensor, response_mask: Tensor) -> Tensor:
    return -(
        products(logprobs, weights, response_mask).sum(dim=1) / response_mask.sum(dim=1)
    ).mean()


def one_loss_per_row(logprobs: Tensor, weights: Tensor, response_mask: Tensor) -> Tensor:
    return -products(logprobs, weights, response_mask).sum(dim=1)


def probabilities(logprobs: Tensor, weights: Tensor, response_mask: Tensor) -> Tensor:
    return reference(logprobs.exp(), weights, response_mask)


def product_of_sums(logprobs: Tensor, weights: Tensor, response_mask: Tensor) -> Tensor:
    whole = torch.where(response_mask, logprobs, 0.0).sum(dim=1)
    return -(torch.where(response_mask, weights.detach(), 0.0).sum(dim=1) * whole).mean()


def last_token_alone(logprobs: Tensor, weights: Tensor, response_mask: Tensor) -> Tensor:
    last = response_mask.sum(dim=1, keepdim=True) - 1
    return -(weights.detach() * logprobs).gather(1, last).mean()


MISTAKES = (
    Mistake(
        "wrong token",
        "the last token of a response counts alone; all of them were chosen",
        last_token_alone,
    ),
    Mistake(
        "mean for sum",
        "a mean over all real tokens; the tokens of a response are summed, because the log of its "
        "probability is a sum, and only then comes the mean over responses",
        mean_over_tokens,
    ),
    Mistake(
        "sign",
        "the sign is turned: an optimiser minimises, and this loss makes rewarded tokens less "
        "likely",
        wrong_sign,
    ),
    Mistake(
        "mask",
        "slots after the end of a response count: there are numbers in the padding, and nobody "
        "chose them",
        without_mask,
    ),
    Mistake(
        "detach",
        "the value is right, but a gradient passes through the weights; they are numbers here",
        weights_not_detached,
    ),
    Mistake(
        "detach",
        "the value is right, but no gradient reaches the log-probabilities, the only place where "
        "theta is",
        logprobs_detached,
    ),
    Mistake(
        "detach",
        "the value is right, but the gradient goes to the weights instead of the log-probabilities",
        only_the_weights_learn,
    ),
    Mistake(
        "sum for mean",
        "this is the sum over the responses; the gradient would grow with the batch size",
        sum_over_rows,
    ),
    Mistake(
        "normalisation",
        "a mean over all B * T slots: the padding is in the divisor",
        mean_over_all_slots,
    ),
    Mistake(
        "mean for sum",
        "each response is divided by its own length; a token of a long response then counts less, "
        "and the mean is no longer grad J",
        mean_within_each_row,
    ),
    Mistake(
        "batch",
        "one number per response; an optimiser needs one number for the batch",
        one_loss_per_row,
    ),
    Mistake(
        "log",
        "the weights multiply probabilities; the trick needs log-probabilities, and that is what "
        "you were given",
        probabilities,
    ),
    Mistake(
        "formula",
        "the weights are added up before they meet the tokens; each token has a weight of its own",
        product_of_sums,
    ),
    Mistake(
        "formula",
        "the weights have no part in it: each token's log-probability is multiplied by its weight",
        lambda logprobs, weights, response_mask: reference(
            logprobs, torch.ones_like(weights), response_mask
        ),
    ),
    Mistake(
        "formula",
        "the weights are added; each multiplies the log-probability of its token",
        lambda logprobs, weights, response_mask: (
            -torch.where(response_mask, logprobs + weights.detach(), 0.0).sum(dim=1).mean()
        ),
    ),
    Mistake(
        "formula",
        "the return of the whole response multiplies every token; each token has a weight of its "
        "own",
        lambda logprobs, weights, response_mask: reference(
            logprobs,
            torch.where(response_mask, weights, 0.0).sum(1, keepdim=True).expand_as(weights),
            response_mask,
        ),
    ),
    Mistake(
        "baseline",
        "the mean of the weights has been subtracted; they come as they are to be used",
        lambda logprobs, weights, response_mask: reference(
            logprobs, weights - weights[response_mask].mean(), response_mask
        ),
    ),
    Mistake(
        "scale",
        "the weights have been whitened; they come as they are to be used",
        lambda logprobs, weights, response_mask: reference(
            logprobs,
            (weights - weights[response_mask].mean()) / weights[response_mask].std(),
            response_mask,
        ),
    ),
    Mistake(
        "scale",
        "the weights have been whitened; they come as they are to be used",
        lambda logprobs, weights, response_mask: reference(
            logprobs, whiten(values=weights.detach(), mask=response_mask), response_mask
        ),
    ),
    Mistake(
        "formula",
        "the absolute values of the weights are used; a negative one makes a token less likely",
        lambda logprobs, weights, response_mask: reference(logprobs, weights.abs(), response_mask),
    ),
    Mistake(
        "ratio",
        "this is a ratio of the policy to itself: its value is another one, and (1.2) has the "
        "log-probability",
        lambda logprobs, weights, response_mask: (
            -torch.where(response_mask, (logprobs - logprobs.detach()).exp() * weights.detach(), 0)
            .sum(dim=1)
            .mean()
        ),
    ),
    Mistake(
        "batch",
        "one number per token; an optimiser needs one number for the batch",
        lambda logprobs, weights, response_mask: -products(logprobs, weights, response_mask),
    ),
    Mistake(
        "mask",
        "the mask is the wrong way round: the padding counts, and the real tokens do not",
        lambda logprobs, weights, response_mask: (
            -torch.where(response_mask, 0.0, weights.detach() * logprobs).sum(dim=1).mean()
        ),
    ),
)

CHANGES = (
    *MASKS,
    TURNED,
    times("sum for mean", "this is the sum over the responses, not the mean", responses),
    times(
        "mean for sum",
        "a mean over all tokens; the tokens of a response are summed, and then comes the mean over "
        "responses",
        lambda case: responses(case) / tokens(case),
    ),
    times(
        "normalisation",
        "a mean over all B * T slots: the padding is in the divisor",
        lambda case: responses(case) / slots(case),
    ),
    times(
        "batch",
        "the sum goes over the responses and the mean over the slots: the other way round",
        lambda case: len(case["response_mask"]) / case["response_mask"].shape[1],
    ),
    goes_in(
        "log",
        "the weights multiply probabilities; the trick needs log-probabilities, which you have",
        logprobs=lambda case: case["logprobs"].exp(),
    ),
    DOUBLED,
    HALVED,
)

exercise = Exercise(
    "policy_gradient_loss",
    reference,
    cases,
    MISTAKES,
    gradient_of=("logprobs", "weights"),
    changes=CHANGES,
    hints=HINTS["policy_gradient_loss"],
)
