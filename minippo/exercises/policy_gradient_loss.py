"""Exercise of notebook 03: the loss whose gradient is minus the policy gradient."""

import torch
from torch import Tensor

from minippo.exercises.draw import Draw, rows_in_words
from minippo.exercises.engine import Case, Exercise, Mistake
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
    for rows, longest, spare in ((2, 3, 0), (4, 5, 1), (5, 4, 2)):
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


MISTAKES = (
    Mistake(
        "sign",
        "the sign is turned: an optimiser minimises, and this "
        "loss makes rewarded tokens less likely",
        wrong_sign,
    ),
    Mistake(
        "mask",
        "slots after the end of a response count: there are numbers "
        "in the padding, and nobody chose them",
        without_mask,
    ),
    Mistake(
        "detach",
        "the value is right, but a gradient passes through the weights; they are numbers here",
        weights_not_detached,
    ),
    Mistake(
        "detach",
        "the value is right, but no gradient reaches the log-probabilities, "
        "the only place where theta is",
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
        "mean for sum",
        "a mean over all real tokens; the tokens of a response are summed, because the log of its "
        "probability is a sum, and only then comes the mean over responses",
        mean_over_tokens,
    ),
    Mistake(
        "normalisation",
        "a mean over all B * T slots: the padding is in the divisor",
        mean_over_all_slots,
    ),
    Mistake(
        "mean for sum",
        "each response is divided by its own length; a token of "
        "a long response then counts less, and "
        "the mean is no longer grad J",
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
)

exercise = Exercise(
    "policy_gradient_loss", reference, cases, MISTAKES, gradient_of=("logprobs", "weights")
)
