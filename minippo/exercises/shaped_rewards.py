"""Exercise of notebook 08: from one score per response to one reward per token."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from minippo.exercises.changes import (
    ANY,
    FIRST_ROW,
    INVERTED,
    NO_MASK,
    ONE_SLOT_MORE,
    Arguments,
    comes_out,
    goes_in,
    number,
    swapped,
)
from minippo.exercises.draw import Draw, rows_in_words
from minippo.exercises.engine import Case, Change, Exercise, Mistake
from minippo.exercises.hints import HINTS
from minippo.kl import kl_k3
from minippo.shaped_reward import shaped_rewards


def reference(
    scores: Tensor, logprobs: Tensor, ref_logprobs: Tensor, response_mask: Tensor, kl_coef: float
) -> Tensor:
    """scores [B]; logprobs, ref_logprobs [B,T]; response_mask [B,T] bool -> rewards [B,T], 0 where
    the mask is False.

    The rewards are data: no gradient goes back to the log-probabilities.
    """
    return shaped_rewards(
        scores=scores,
        old_logprobs=logprobs.detach(),
        ref_logprobs=ref_logprobs,
        response_mask=response_mask,
        kl_coef=kl_coef,
    )


def cases(seed: bytes | None = None) -> list[Case]:
    """Ragged batches, full and with spare slots; what is in the padding is not 0."""
    draw = Draw("shaped_rewards", seed)
    for rows, longest, spare, kl_coef in (
        (2, 3, 0, draw.one(0.2, 0.4)),
        (3, 5, 1, draw.one(0.05, 0.1)),
        (4, 4, 2, draw.one(1.2, 1.8)),
    ):
        T = draw.longest(longest)
        mask = draw.mask(rows, T, T + spare)
        draw.add(
            f"{rows_in_words(mask)}, kl_coef {kl_coef}, numbers in the padding",
            scores=1 + draw.normal(rows),
            logprobs=draw.uniform(-2, 0, *mask.shape),
            ref_logprobs=draw.uniform(-2, 0, *mask.shape),
            response_mask=mask,
            kl_coef=kl_coef,
        )
    return draw.cases()


def put(scores: Tensor, mask: Tensor, place: Tensor) -> Tensor:
    """The scores at these slots [B], [B,T]; 0 elsewhere."""
    return torch.zeros(mask.shape, dtype=scores.dtype).scatter(
        1, place.unsqueeze(1), scores.unsqueeze(1)
    )


def last_slot(mask: Tensor) -> Tensor:
    return mask.sum(dim=1) - 1


def with_parts(
    penalty: Callable[..., Tensor] | None = None,
    paid: Callable[[Tensor, Tensor], Tensor] | None = None,
    attached: bool = False,
) -> Callable[..., Tensor]:
    """An answer of a penalty (logprobs, ref_logprobs, mask, kl_coef) and of scores paid out
    (scores, mask)."""

    def answer(
        scores: Tensor,
        logprobs: Tensor,
        ref_logprobs: Tensor,
        response_mask: Tensor,
        kl_coef: float,
    ) -> Tensor:
        logprobs = logprobs if attached else logprobs.detach()
        costs = (penalty or usual_penalty)(logprobs, ref_logprobs, response_mask, kl_coef)
        return costs + (paid or usual_pay)(scores, response_mask)

    return answer


def usual_penalty(logprobs: Tensor, ref_logprobs: Tensor, mask: Tensor, kl_coef: float) -> Tensor:
    return torch.where(mask, -kl_coef * (logprobs - ref_logprobs), 0.0)


def usual_pay(scores: Tensor, mask: Tensor) -> Tensor:
    return put(scores, mask, last_slot(mask))


def penalty_at_the_end(
    logprobs: Tensor, ref_logprobs: Tensor, mask: Tensor, kl_coef: float
) -> Tensor:
    return put(
        usual_penalty(logprobs, ref_logprobs, mask, kl_coef).sum(dim=1), mask, last_slot(mask)
    )


def no_penalty_where_the_score_is(
    logprobs: Tensor, ref_logprobs: Tensor, mask: Tensor, kl_coef: float
) -> Tensor:
    return usual_penalty(logprobs, ref_logprobs, mask, kl_coef) * (
        1 - put(torch.ones(len(mask)), mask, last_slot(mask))
    )


def in_last_column(scores: Tensor, mask: Tensor) -> Tensor:
    return put(scores, mask, torch.full((len(mask),), mask.shape[1] - 1))


def full_price(logprobs: Tensor, ref_logprobs: Tensor, mask: Tensor, kl_coef: float) -> Tensor:
    return usual_penalty(logprobs, ref_logprobs, mask, 1.0)


SLIPS: tuple[tuple[str, str, dict[str, Any]], ...] = (  # name, message, {penalty, paid}
    (
        "wrong token",
        "the score is paid in the last column; a shorter response has ended before, and its score "
        "is paid on a pad",
        {"paid": in_last_column},
    ),
    (
        "wrong token",
        "the score is paid on a pad and then masked away: shorter responses get none",
        {"paid": lambda scores, mask: in_last_column(scores, mask) * mask},
    ),
    (
        "wrong token",
        "every token is paid the whole score: a response of n tokens gets it n times",
        {"paid": lambda scores, mask: scores.unsqueeze(1) * mask},
    ),
    (
        "wrong token",
        "the score is paid on the first token; it is known when the last one is there",
        {"paid": lambda scores, mask: put(scores, mask, torch.zeros(len(mask), dtype=torch.int64))},
    ),
    (
        "mean for sum",
        "the score is shared out over the tokens; it is paid once, on the last real token",
        {"paid": lambda scores, mask: scores.unsqueeze(1) * mask / mask.sum(dim=1, keepdim=True)},
    ),
    (
        "off by one",
        "the score is paid one token before the last real one",
        {"paid": lambda scores, mask: put(scores, mask, (last_slot(mask) - 1).clamp(min=0))},
    ),
    (
        "off by one",
        "the last token pays no penalty: the score is added to its penalty, it doesn't replace it",
        {"penalty": no_penalty_where_the_score_is},
    ),
    (
        "mask",
        "slots after the end of a response are not 0: padding costs nothing, use the mask",
        {
            "penalty": lambda logprobs, ref_logprobs, mask, kl_coef: (
                -kl_coef * (logprobs - ref_logprobs)
            )
        },
    ),
    (
        "sign",
        "the penalty has the wrong sign: a token that the policy likes more than the reference "
        "does must cost something",
        {"penalty": lambda *arguments: -usual_penalty(*arguments)},
    ),
    ("scale", "kl_coef is missing", {"penalty": full_price}),
    (
        "sum for mean",
        "the penalties of all tokens are on the last one; each token pays for its own distance, so "
        "that blame falls on the tokens that earned it",
        {"penalty": penalty_at_the_end},
    ),
    (
        "formula",
        "this penalty is k3; as a reward it does not lead to the policy that is wanted, the plain "
        "log-ratio does",
        {
            "penalty": lambda logprobs, ref_logprobs, mask, kl_coef: torch.where(
                mask, -kl_coef * kl_k3(logprobs=logprobs, ref_logprobs=ref_logprobs), 0.0
            )
        },
    ),
    (
        "formula",
        "the absolute log-ratio fines a token that the policy likes less than the reference; the "
        "plain one pays for it, and only so does the sum estimate the KL",
        {"penalty": lambda *arguments: -usual_penalty(*arguments).abs()},
    ),
    (
        "ratio",
        "this takes the difference of probabilities; the distance is made of log-probabilities",
        {
            "penalty": lambda logprobs, ref_logprobs, mask, kl_coef: usual_penalty(
                logprobs.exp(), ref_logprobs.exp(), mask, kl_coef
            )
        },
    ),
    (
        "log",
        "this takes the ratio of the probabilities; the distance is its logarithm",
        {
            "penalty": lambda logprobs, ref_logprobs, mask, kl_coef: torch.where(
                mask, -kl_coef * (logprobs - ref_logprobs).exp(), 0.0
            )
        },
    ),
)


def all_scaled(
    scores: Tensor, logprobs: Tensor, ref_logprobs: Tensor, response_mask: Tensor, kl_coef: float
) -> Tensor:
    return kl_coef * reference(scores, logprobs, ref_logprobs, response_mask, 1.0)


MISTAKES = (
    Mistake(
        "detach",
        "the values are right, but a gradient goes back to the log-probabilities: rewards are data",
        with_parts(attached=True),
    ),
    Mistake(
        "formula",
        "no token pays for its distance: the penalty, kl_coef times the log-ratio, is missing",
        with_parts(penalty=lambda logprobs, *_: torch.zeros_like(logprobs)),
    ),
    Mistake(
        "scale",
        "kl_coef multiplies the score as well; it is the price of the distance only",
        all_scaled,
    ),
    *(Mistake(name, message, with_parts(**parts)) for name, message, parts in SLIPS),
    Mistake(
        "formula",
        "the score multiplies the penalty; it is added on top of it at the last real token",
        lambda scores, logprobs, ref_logprobs, response_mask, kl_coef: (
            scores[:, None] * usual_penalty(logprobs.detach(), ref_logprobs, response_mask, kl_coef)
        ),
    ),
    Mistake(
        "batch",
        "one number per response; wanted is one reward per token, [B,T]",
        lambda scores, logprobs, ref_logprobs, response_mask, kl_coef: (
            scores
            + usual_penalty(logprobs.detach(), ref_logprobs, response_mask, kl_coef).sum(dim=1)
        ),
    ),
    Mistake(
        "scale",
        "the score is divided by kl_coef, or the whole is; kl_coef is the price of the distance",
        lambda scores, logprobs, ref_logprobs, response_mask, kl_coef: reference(
            scores / kl_coef, logprobs, ref_logprobs, response_mask, 1.0
        ),
    ),
)


def paid(name: str, message: str, pay: Callable[[Tensor, Tensor], Tensor]) -> Change:
    """The scores are paid out in another way; whatever else is in the result stays."""

    def make(value: Tensor, case: Arguments) -> Tensor:
        scores, mask = case["scores"], case["response_mask"]
        return value - usual_pay(scores, mask) + pay(scores, mask)

    return comes_out(name, message, make)


CHANGES = (
    INVERTED,
    *(paid(name, message, parts["paid"]) for name, message, parts in SLIPS if "paid" in parts),
    paid("formula", "the score is missing", lambda scores, mask: torch.zeros(mask.shape)),
    paid("sign", "the score is subtracted", lambda scores, mask: -usual_pay(scores, mask)),
    NO_MASK._replace(
        name="wrong token and mask",
        message="the mask is not used: slots after the end pay for their distance, and the score "
        "is in the last column, not on the last real token",
    ),
    FIRST_ROW,
    ONE_SLOT_MORE,
    swapped(
        "sign",
        "the difference of log-probabilities is the wrong way round: a token that the policy likes "
        "more than the reference does must cost something",
        "logprobs",
        "ref_logprobs",
    ),
    number("scale", "kl_coef is missing", kl_coef=1.0),
    number("formula", "no token pays for its distance", kl_coef=0.0),
    goes_in(
        "ratio",
        "this takes the difference of probabilities; the distance is made of log-probabilities",
        logprobs=lambda case: case["logprobs"].exp(),
        ref_logprobs=lambda case: case["ref_logprobs"].exp(),
    ),
    *ANY,
)

exercise = Exercise(
    "shaped_rewards",
    reference,
    cases,
    MISTAKES,
    gradient_of=("logprobs",),
    changes=CHANGES,
    hints=HINTS["shaped_rewards"],
)
