"""Exercise of notebook 01: the log-probability of each token of a response, from the logits of the
whole text."""

import torch
from torch import Tensor

from minippo.exercises.draw import Draw, rows_in_words
from minippo.exercises.engine import Case, Exercise, Mistake
from minippo.logprobs import token_logprobs


def reference(logits: Tensor, tokens: Tensor, prompt_length: int, response_mask: Tensor) -> Tensor:
    """logits [B,S,V] and tokens [B,S] of prompt + response, response_mask [B,T] -> [B,T], 0 where
    the mask is False."""
    T = response_mask.shape[1]
    chosen = token_logprobs(
        logits=logits[:, prompt_length - 1 : prompt_length - 1 + T],
        tokens=tokens[:, prompt_length:],
    )
    return torch.where(response_mask, chosen, 0.0)


FAR_APART = (
    "log",
    "right until the logits are far apart: a softmax is then exactly 0 and its logarithm -inf, or an "
    "exponential is infinite; log_softmax and logsumexp stay with logarithms",
)


def cases(seed: bytes | None = None) -> list[Case]:
    """Ragged batches, one of them with a prompt of a single token; the last with logits 0 and
    10,000."""
    draw = Draw("token_logprobs", seed)
    for rows, P, longest, spare, V in ((2, 3, 3, 0, 5), (3, 1, 4, 1, 4), (4, 2, 5, 2, 7)):
        T = draw.longest(longest)
        mask = draw.mask(rows, T, T + spare)
        S = P + T + spare
        draw.add(
            f"{rows_in_words(mask)} after a prompt of {P}, a vocabulary of {V}",
            logits=2 * draw.normal(rows, S, V),
            tokens=draw.whole(0, V - 1, rows, S),
            prompt_length=P,
            response_mask=mask,
        )
    mask = draw.mask(3, 4, 4)
    logits = torch.zeros(3, 6, 5).scatter(2, draw.whole(0, 4, 3, 6, 1), 1e4)
    draw.add(
        f"{rows_in_words(mask)}, every logit is 0 or 10,000",
        FAR_APART,
        logits=logits,
        tokens=draw.whole(0, 4, 3, 6),
        prompt_length=2,
        response_mask=mask,
    )
    return draw.cases()


def without_shift(
    logits: Tensor, tokens: Tensor, prompt_length: int, response_mask: Tensor
) -> Tensor:
    chosen = token_logprobs(logits=logits[:, prompt_length:], tokens=tokens[:, prompt_length:])
    return torch.where(response_mask, chosen, 0.0)


def shift_the_wrong_way(
    logits: Tensor, tokens: Tensor, prompt_length: int, response_mask: Tensor
) -> Tensor:
    T = response_mask.shape[1]
    chosen = token_logprobs(
        logits=logits[:, prompt_length:],
        tokens=tokens[:, prompt_length - 1 : prompt_length - 1 + T],
    )
    return torch.where(response_mask, chosen, 0.0)


def without_mask(
    logits: Tensor, tokens: Tensor, prompt_length: int, response_mask: Tensor
) -> Tensor:
    return reference(logits, tokens, prompt_length, torch.ones_like(response_mask))


def raw_logits(logits: Tensor, tokens: Tensor, prompt_length: int, response_mask: Tensor) -> Tensor:
    T = response_mask.shape[1]
    chosen = (
        logits[:, prompt_length - 1 : prompt_length - 1 + T]
        .gather(-1, tokens[:, prompt_length:, None])
        .squeeze(-1)
    )
    return torch.where(response_mask, chosen, 0.0)


def probabilities(
    logits: Tensor, tokens: Tensor, prompt_length: int, response_mask: Tensor
) -> Tensor:
    return torch.where(
        response_mask, reference(logits, tokens, prompt_length, response_mask).exp(), 0.0
    )


def detached(logits: Tensor, tokens: Tensor, prompt_length: int, response_mask: Tensor) -> Tensor:
    return reference(logits.detach(), tokens, prompt_length, response_mask)


def wrong_sign(logits: Tensor, tokens: Tensor, prompt_length: int, response_mask: Tensor) -> Tensor:
    return -reference(logits, tokens, prompt_length, response_mask)


MISTAKES = (
    Mistake(
        "shift",
        "the logits at position i say what comes at i + 1; yours are read at the position of the "
        "token itself, "
        "where the model has already seen it",
        without_shift,
    ),
    Mistake(
        "shift",
        "the shift goes the other way: the logits are one position "
        "BEFORE the token that they choose",
        shift_the_wrong_way,
    ),
    Mistake(
        "mask",
        "slots after the end of a response are not 0: padding is not data, use the mask",
        without_mask,
    ),
    Mistake(
        "softmax",
        "these are the logits of the chosen tokens; log-probabilities need the log-softmax over "
        "the vocabulary",
        raw_logits,
    ),
    Mistake(
        "log",
        "these are probabilities; take their logarithm (log_softmax does both without underflow)",
        probabilities,
    ),
    Mistake(
        "detach",
        "the values are right, but no gradient reaches the logits: "
        "a detach, no_grad or .data is in the way",
        detached,
    ),
    Mistake("sign", "the sign is turned: a log-probability is at most 0", wrong_sign),
)

exercise = Exercise("token_logprobs", reference, cases, MISTAKES, gradient_of=("logits",))
