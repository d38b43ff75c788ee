"""Exercise of notebook 01: the log-probability of each token of a response, from the logits of the
whole text."""

import torch
from torch import Tensor

from minippo.exercises.engine import Case, Exercise, Mistake, mask_of_lengths
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


def cases() -> list[Case]:
    """Two ragged batches, one of them with a prompt of a single token."""
    generator = torch.Generator().manual_seed(1)
    made = []
    for B, P, lengths, V in ((2, 3, (4, 2), 5), (3, 1, (1, 3, 2), 4)):
        T = max(lengths)
        made.append(
            {
                "logits": torch.randn(B, P + T, V, generator=generator, dtype=torch.float64),
                "tokens": torch.randint(V, (B, P + T), generator=generator),
                "prompt_length": P,
                "response_mask": mask_of_lengths(lengths, T),
            }
        )
    return made


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
