"""Drawing responses from a model, token by token.

Shapes: N prompts, B responses, P prompt positions (left-padded), T response slots, V vocabulary; of
the responses that go on there are A, and U of them have begun differently.
"""

from typing import Any

import torch
from torch import Tensor, nn

from minippo.errors import TrainingError
from minippo.gpt import GPT, LAST, KVCache


@torch.no_grad()
def sample_responses(
    model: nn.Module,
    prompt_tokens: Tensor,
    prompt_mask: Tensor,
    *,
    response_length: int,
    temperature: float,
    generator: torch.Generator,
    eos_id: int,
    pad_id: int,
) -> tuple[Tensor, Tensor, Tensor]:
    """Draw a response to each prompt from the model, token by token.

    Shapes   prompt_tokens [N,P] int64, prompt_mask [N,P] bool, left-padded, BOS first (see
             Task.prompt_batch) -> response_tokens [B,T] int64, response_mask [B,T] bool, logprobs
             [B,T] float, with B = N and T = response_length. After a row's EOS: pad_id, False, 0.
    Limits   logprobs are those of the distribution that was sampled from, softmax(logits /
             temperature). For several responses to each prompt see read_prompts.
    Raises   ValueError, TrainingError: see read_prompts and continue_prompts.
    """
    return continue_prompts(
        read_prompts(model, prompt_tokens, prompt_mask),
        response_length=response_length,
        temperature=temperature,
        generator=generator,
        eos_id=eos_id,
        pad_id=pad_id,
    )


@torch.no_grad()
def read_prompts(
    model: nn.Module, prompt_tokens: Tensor, prompt_mask: Tensor, samples_per_prompt: int = 1
) -> "Reading":
    """Read each prompt once, however many responses it is to have.

    Shapes   prompt_tokens [N,P] int64, prompt_mask [N,P] bool -> a Reading for B = N *
             samples_per_prompt responses; those to a prompt are neighbours.
    Limits   a GPT keeps keys and values, any other model reads all anew for each token.
    Raises   ValueError: samples_per_prompt below 1, a prompt that does not end at the last column,
             a model in training mode with dropout.
    """
    _check_reading(model, prompt_mask, samples_per_prompt)
    kind = _CachedReading if isinstance(model, GPT) else _WholeReading
    return kind(model, prompt_tokens, prompt_mask, samples_per_prompt)


@torch.no_grad()
def continue_prompts(
    reading: "Reading",
    *,
    response_length: int,
    temperature: float,
    generator: torch.Generator,
    eos_id: int,
    pad_id: int,
) -> tuple[Tensor, Tensor, Tensor]:
    """Draw the responses of a Reading, which is used up; see sample_responses.

    Responses to one prompt that are the same so far are read once: of 500 draws from a policy that
    is sure of itself, few begin differently.

    Raises   ValueError: response_length below 1, temperature not above 0, PAD equal to EOS.
             TrainingError: a probability is NaN.
    """
    _check_drawing(response_length, temperature, eos_id, pad_id)
    logits = reading.first_logits  # [U,V] after each of U different beginnings
    begins_as = reading.begins_as  # [A] which of these each response has that goes on, A = B as yet
    rows = torch.arange(len(begins_as), device=logits.device)  # [A] which response it is
    shape = (len(rows), response_length)
    tokens = torch.full(shape, pad_id, device=logits.device)  # [B,T]
    mask = torch.zeros(shape, dtype=torch.bool, device=logits.device)
    logprobs = torch.zeros(shape, dtype=logits.dtype, device=logits.device)
    for t in range(response_length):
        log_pi = torch.log_softmax(logits / temperature, dim=-1)
        if bool(log_pi.isnan().any()):
            raise TrainingError(
                "sampling: the model's probabilities are not numbers; try a smaller learning rate, "
                "or a higher temperature"
            )
        drawn = torch.multinomial(log_pi.exp()[begins_as], 1, generator=generator)[:, 0]  # [A]
        tokens[rows, t], mask[rows, t] = drawn, True
        logprobs[rows, t] = log_pi[begins_as, drawn]
        goes_on = drawn != eos_id
        rows, begins_as, drawn = rows[goes_on], begins_as[goes_on], drawn[goes_on]
        if t == response_length - 1 or len(rows) == 0:
            break
        V = logits.shape[1]
        different, begins_as = torch.unique(begins_as * V + drawn, return_inverse=True)
        logits = reading.logits_after(different // V, different % V)
    return tokens, mask, logprobs


class _CachedReading:
    """Each prompt is read once, and each drawn token once: a key/value cache keeps the rest."""

    def __init__(self, gpt: Any, tokens: Tensor, mask: Tensor, samples_per_prompt: int) -> None:
        self.gpt, self.cache = gpt, KVCache(gpt.config.n_layer)
        self.first_logits = gpt.logits(gpt.hidden(tokens, mask, self.cache, read=LAST)[:, 0])
        self.begins_as = _each_prompt(tokens, samples_per_prompt)

    def logits_after(self, beginnings: Tensor, tokens: Tensor) -> Tensor:
        """The logits after one more token, [U,V]: beginnings [U] of those read last, tokens [U]."""
        self.cache = self.cache.rows(beginnings)
        column = tokens.unsqueeze(1)
        return self.gpt(column, torch.ones_like(column, dtype=torch.bool), self.cache)[:, -1]


class _WholeReading:
    """All is read anew for each token: for any model, and to check the cache."""

    def __init__(self, model: Any, tokens: Tensor, mask: Tensor, samples_per_prompt: int) -> None:
        self.model, self.tokens, self.mask = model, tokens, mask
        self.first_logits = model(tokens, mask)[:, -1]  # [N,V]
        self.begins_as = _each_prompt(tokens, samples_per_prompt)

    def logits_after(self, beginnings: Tensor, tokens: Tensor) -> Tensor:
        """The logits after one more token, [U,V]: beginnings [U] of those read last, tokens [U]."""
        column = tokens.unsqueeze(1)
        self.tokens, self.mask = join(
            self.tokens[beginnings],
            self.mask[beginnings],
            column,
            torch.ones_like(column, dtype=torch.bool),
        )
        return self.model(self.tokens, self.mask)[:, -1]


Reading = _CachedReading | _WholeReading


def _each_prompt(tokens: Tensor, times: int) -> Tensor:
    """[0, 0, .., 1, 1, ..]: the number of each prompt, so many times."""
    return torch.arange(len(tokens), device=tokens.device).repeat_interleave(times)


def _check_reading(model: nn.Module, prompt_mask: Tensor, samples_per_prompt: int) -> None:
    if samples_per_prompt < 1:
        raise ValueError(f"samples_per_prompt must be at least 1, got {samples_per_prompt}")
    if not bool(prompt_mask[:, -1].all()):
        raise ValueError(
            "prompt_mask: a prompt ends before the last column; prompts are padded on the left"
        )
    if isinstance(model, GPT) and model.training and model.config.dropout > 0:
        raise ValueError(
            "model: in training mode with dropout; what is sampled would not be what is scored"
        )


def _check_drawing(response_length: int, temperature: float, eos_id: int, pad_id: int) -> None:
    if response_length < 1:
        raise ValueError(f"response_length must be at least 1, got {response_length}")
    if not 0 < temperature < float("inf"):
        raise ValueError(f"temperature must be a finite number above 0, got {temperature}")
    if pad_id == eos_id:
        raise ValueError(
            f"P004 pad-eos: pad_id and eos_id are both {pad_id}: the end of a response could not "
            "be told from padding"
        )


def join(
    prompt_tokens: Tensor, prompt_mask: Tensor, response_tokens: Tensor, response_mask: Tensor
) -> tuple[Tensor, Tensor]:
    """Prompt and response side by side: tokens [B,P+T], mask [B,P+T]."""
    return torch.cat((prompt_tokens, response_tokens), dim=1), torch.cat(
        (prompt_mask, response_mask), dim=1
    )
