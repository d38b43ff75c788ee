"""Exercise of notebook 01: the log-probability of each token of a response, from the logits of the
whole text."""

import math

import torch
from torch import Tensor

from minippo.exercises.changes import ANY, INVERTED, MASKS, comes_out, goes_in
from minippo.exercises.draw import Draw, rows_in_words
from minippo.exercises.engine import Case, Exercise, Mistake
from minippo.exercises.hints import HINTS
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
    "right until the logits are far apart: a softmax is then exactly 0 and its logarithm -inf, or "
    "an exponential is infinite; log_softmax and logsumexp stay with logarithms",
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


def over_all_numbers(
    logits: Tensor, tokens: Tensor, prompt_length: int, response_mask: Tensor
) -> Tensor:
    """The softmax of all logits of the batch together."""
    T = response_mask.shape[1]
    read = logits[:, prompt_length - 1 : prompt_length - 1 + T]
    chosen = raw_logits(logits, tokens, prompt_length, response_mask) - read.logsumexp((0, 1, 2))
    return torch.where(response_mask, chosen, 0.0)


MISTAKES = (
    Mistake(
        "softmax",
        "one softmax runs over the whole batch; each position has its own, over the vocabulary",
        over_all_numbers,
    ),
    Mistake(
        "shift",
        "the logits at position i say what comes at i + 1; yours are read at the position of the "
        "token itself, where the model has already seen it",
        without_shift,
    ),
    Mistake(
        "shift",
        "the shift goes the other way: the logits are one position BEFORE the token that they "
        "choose",
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
        "the values are right, but no gradient reaches the logits: a detach, no_grad or .data is "
        "in the way",
        detached,
    ),
    Mistake("sign", "the sign is turned: a log-probability is at most 0", wrong_sign),
    Mistake(
        "softmax",
        "the softmax runs over the positions; it has to run over the vocabulary",
        lambda logits, tokens, prompt_length, response_mask: raw_logits(
            logits.log_softmax(dim=1), tokens, prompt_length, response_mask
        ),
    ),
    Mistake(
        "softmax",
        "the softmax runs over the rows of the batch; it has to run over the vocabulary",
        lambda logits, tokens, prompt_length, response_mask: raw_logits(
            logits.log_softmax(dim=0), tokens, prompt_length, response_mask
        ),
    ),
    Mistake(
        "softmax",
        "the softmax runs over the positions of the response; it has to run over the vocabulary",
        lambda logits, tokens, prompt_length, response_mask: raw_logits(
            torch.nn.functional.pad(
                logits[:, prompt_length - 1 : -1].log_softmax(dim=1), (0, 0, prompt_length - 1, 1)
            ),
            tokens,
            prompt_length,
            response_mask,
        ),
    ),
    Mistake(
        "wrong token",
        "this is the log-probability of the likeliest token; wanted is that of the token given",
        lambda logits, tokens, prompt_length, response_mask: torch.where(
            response_mask,
            logits.log_softmax(dim=-1)[:, prompt_length - 1 : -1].max(dim=-1).values,
            0.0,
        ),
    ),
    Mistake(
        "shift",
        "the columns are those of the prompt: the response begins at prompt_length",
        lambda logits, tokens, prompt_length, response_mask: torch.where(
            response_mask,
            token_logprobs(logits=logits[:, :-1], tokens=tokens[:, 1:])[
                :, : response_mask.shape[1]
            ],
            0.0,
        ),
    ),
    Mistake(
        "shift",
        "the columns are those of the prompt: the response begins at prompt_length",
        lambda logits, tokens, prompt_length, response_mask: torch.where(
            response_mask,
            token_logprobs(logits=logits, tokens=tokens)[:, : response_mask.shape[1]],
            0.0,
        ),
    ),
    Mistake(
        "batch",
        "the log-probabilities are summed to one number per response; wanted is [B,T]",
        lambda logits, tokens, prompt_length, response_mask: reference(
            logits, tokens, prompt_length, response_mask
        ).sum(dim=1),
    ),
    Mistake(
        "softmax",
        "the logits are divided by their sum; a softmax has exponentials",
        lambda logits, tokens, prompt_length, response_mask: raw_logits(
            logits / logits.sum(dim=-1, keepdim=True), tokens, prompt_length, response_mask
        ),
    ),
    Mistake(
        "softmax",
        "the largest logit is subtracted; the normaliser is the logarithm of the sum of the "
        "exponentials",
        lambda logits, tokens, prompt_length, response_mask: raw_logits(
            logits - logits.max(dim=-1, keepdim=True).values, tokens, prompt_length, response_mask
        ),
    ),
    Mistake(
        "softmax",
        "the softmax is applied twice: log_softmax takes logits, not probabilities",
        lambda logits, tokens, prompt_length, response_mask: reference(
            logits.softmax(dim=-1), tokens, prompt_length, response_mask
        ),
    ),
    Mistake(
        "log",
        "the sum of the exponentials is subtracted without its logarithm",
        lambda logits, tokens, prompt_length, response_mask: raw_logits(
            logits - logits.exp().sum(dim=-1, keepdim=True), tokens, prompt_length, response_mask
        ),
    ),
)

CHANGES = (
    INVERTED,
    comes_out(
        "log",
        "the logarithm is that to the base 2; log-probabilities have the natural one",
        lambda value, case: value / math.log(2),
    ),
    *MASKS,
    goes_in(
        "shift",
        "the logits are read at the position of the token itself; those at position i say what "
        "comes at i + 1",
        logits=lambda case: case["logits"].roll(-1, dims=1),
    ),
    goes_in(
        "shift",
        "the logits are read two positions before the token; it is one",
        logits=lambda case: case["logits"].roll(1, dims=1),
    ),
    comes_out(
        "log",
        "these are probabilities; take their logarithm",
        lambda value, case: torch.where(case["response_mask"], value.exp(), 0.0),
    ),
    goes_in(
        "shift",
        "the tokens are read one position too early",
        tokens=lambda case: case["tokens"].roll(1, dims=1),
    ),
    goes_in(
        "shift",
        "the tokens are read one position too late",
        tokens=lambda case: case["tokens"].roll(-1, dims=1),
    ),
    *ANY,
)

exercise = Exercise(
    "token_logprobs",
    reference,
    cases,
    MISTAKES,
    gradient_of=("logits",),
    changes=CHANGES,
    hints=HINTS["token_logprobs"],
)
