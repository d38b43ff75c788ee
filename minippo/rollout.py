"""Sampling responses, and the record of everything that a PPO update needs to know about them.

Position P-1+t of the model's output is where token t of the response was chosen: `choices` is that
slice, and nothing else makes it. See docs/architecture.md for the picture.

Shapes: B responses, P prompt positions (left-padded), T response slots, V vocabulary.
"""

from collections.abc import Callable
from dataclasses import dataclass, fields, replace
from typing import Any, NamedTuple, Protocol, TypeVar

import torch
from torch import Tensor, nn

from minippo.critic_head import Critic
from minippo.errors import TrainingError
from minippo.gpt import GPT, LAST, KVCache, Positions
from minippo.kl import exact_kl, k1_variance
from minippo.logprobs import token_logprobs
from minippo.masked import zero_padding
from minippo.shapes import check_mask, rows_are_as_good

ScoreFunction = Callable[[Tensor, Tensor], Tensor]  # (tokens [B,S], mask [B,S]) -> scores [B]
Record = TypeVar("Record", bound="Responses")


class Sampling(Protocol):
    """The settings that a rollout reads; those of PPOConfig will do."""

    @property
    def response_length(self) -> int: ...
    @property
    def temperature(self) -> float: ...
    @property
    def no_eos_score(self) -> float | None: ...
    @property
    def missing_eos_penalty(self) -> float: ...


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
        self.begins_as = _repeated(torch.arange(len(tokens)), samples_per_prompt, tokens.device)

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
        self.begins_as = _repeated(torch.arange(len(tokens)), samples_per_prompt, tokens.device)

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


def _repeated(x: Tensor, times: int, device: torch.device) -> Tensor:
    return x.repeat_interleave(times).to(device)


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


def choices(prompt_length: int) -> Positions:
    """The positions at which the response's tokens were chosen: all that stand before one."""
    return slice(None), slice(prompt_length - 1, -1)


def before_actions(x: Tensor, prompt_length: int) -> Tensor:
    """[B,P+T,...] -> [B,T,...]: for each response token, what stood at the position before it."""
    return x[choices(prompt_length)]


def response_logits(policy: GPT, batch: "Responses", temperature: float) -> Tensor:
    """The logits that the tokens of some Responses were chosen from, [B,T,V]; the last block and
    the output layer run on no other position."""
    read = choices(batch.prompt_tokens.shape[1])
    return policy.logits(policy.hidden(*batch.whole(), read=read)) / temperature


def response_values(critic: Critic, batch: "Responses") -> Tensor:
    """V(s_t) before each response token, [B,T]; 0 where the response has ended."""
    values = critic(*batch.whole(), read=choices(batch.prompt_tokens.shape[1]))
    return zero_padding(values=values, mask=batch.response_mask)


def response_logprobs(logits: Tensor, batch: "Responses") -> Tensor:
    """log pi(a_t|s_t) of the response tokens, [B,T]; 0 where the response has ended."""
    return zero_padding(
        values=token_logprobs(logits=logits, tokens=batch.response_tokens), mask=batch.response_mask
    )


def apply_eos_rule(
    scores: Tensor, ended: Tensor, *, no_eos_score: float | None, missing_eos_penalty: float
) -> Tensor:
    """Scores [B] of responses that did not end get replaced by no_eos_score (unless None), and
    lowered by the penalty."""
    unended = scores - missing_eos_penalty
    if no_eos_score is not None:
        unended = torch.full_like(scores, no_eos_score - missing_eos_penalty)
    return torch.where(ended, scores, unended)


def score_responses(
    score_function: ScoreFunction, batch: "Responses", *, config: Sampling, eos_id: int
) -> tuple[Tensor, Tensor]:
    """(scores [B] after the EOS rule, ended [B] bool) of some Responses."""
    ended = (batch.response_tokens == eos_id).any(dim=1)
    scores = apply_eos_rule(
        score_function(*batch.whole()),
        ended,
        no_eos_score=config.no_eos_score,
        missing_eos_penalty=config.missing_eos_penalty,
    )
    return scores, ended


@dataclass(frozen=True)
class Responses:
    """Prompts and sampled responses."""

    prompt_tokens: Tensor  # [B,P] int64
    prompt_mask: Tensor  # [B,P] bool
    response_tokens: Tensor  # [B,T] int64
    response_mask: Tensor  # [B,T] bool

    def whole(self) -> tuple[Tensor, Tensor]:
        """Prompt and response side by side: what the models read."""
        return join(self.prompt_tokens, self.prompt_mask, self.response_tokens, self.response_mask)

    def rows(self: Record, index: Tensor) -> Record:
        """The same record of some rows: a minibatch."""
        columns = {item.name: getattr(self, item.name) for item in fields(self)}
        rows = replace(self, **{name: x[index] for name, x in columns.items() if x is not None})
        rows_are_as_good(rows.response_mask, self.response_mask)
        rows_are_as_good(rows.response_tokens, self.response_tokens)
        return rows

    def trimmed(self: Record) -> Record:
        """The same record without the columns that are padding in every row: prompts lose them on
        the left, all that belongs to the responses on the right."""
        masks = self.prompt_mask.any(dim=0), self.response_mask.any(dim=0)
        P, T = torch.stack([mask.sum() for mask in masks]).tolist()
        columns = {item.name: getattr(self, item.name) for item in fields(self)}
        short = {
            name: x[:, -P:] if name.startswith("prompt_") else x[:, :T]
            for name, x in columns.items()
            if x is not None and x.dim() > 1  # not scores [B]
        }
        trimmed = replace(self, **short)
        rows_are_as_good(trimmed.response_mask, self.response_mask)
        rows_are_as_good(trimmed.response_tokens, self.response_tokens)
        return trimmed

    def __len__(self) -> int:
        return len(self.prompt_tokens)


@dataclass(frozen=True)
class Rollout(Responses):
    """What was sampled, and what every model said about it at that moment. All of it is data: no
    gradient passes."""

    ended: Tensor  # [B] bool: the response has an EOS
    sample_logprobs: Tensor  # [B,T] as sampled
    old_logprobs: Tensor  # [B,T] the same, rescored in one pass: what the ratios divide by
    ref_logprobs: Tensor  # [B,T] of the frozen reference
    old_values: Tensor | None  # [B,T] of the critic, where there is one
    scores: Tensor  # [B] after the EOS rule
    old_logits: Tensor  # [B,T,V] of the policy: what the tokens were drawn from
    exact_kl: Tensor  # [B,T] KL(policy || reference) of those distributions
    k1_variance: Tensor  # [B,T] under the policy: how far one token may be from that KL


class Models(NamedTuple):
    """The models of the policy's training; the critic is None where the algorithm has none."""

    policy: GPT
    reference: GPT  # the fine-tuned model, which stays as it is
    critic: Critic | None


@torch.no_grad()
def make_rollout(
    models: Models,
    prompts: tuple[Tensor, Tensor],
    *,
    score_function: ScoreFunction,
    config: Sampling,
    generator: torch.Generator,
    eos_id: int,
    pad_id: int,
    samples_per_prompt: int = 1,
) -> Rollout:
    """Sample responses and record a Rollout.

    `prompts` is (tokens [N,P], mask [N,P]); `score_function(tokens [B,P+T], mask)` gives a score
    per response, [B]. The responses to one prompt are in neighbouring rows, B = N *
    samples_per_prompt.
    """
    tokens, mask, sample_logprobs = continue_prompts(
        read_prompts(models.policy, *prompts, samples_per_prompt),
        response_length=config.response_length,
        temperature=config.temperature,
        generator=generator,
        eos_id=eos_id,
        pad_id=pad_id,
    )
    check_mask(response_mask=mask)
    prompt_tokens, prompt_mask = (x.repeat_interleave(samples_per_prompt, dim=0) for x in prompts)
    batch = Responses(prompt_tokens, prompt_mask, tokens, mask)
    logits, ref_logits = (
        response_logits(model, batch, config.temperature)
        for model in (models.policy, models.reference)
    )
    scores, ended = score_responses(score_function, batch, config=config, eos_id=eos_id)
    return Rollout(
        prompt_tokens,
        prompt_mask,
        tokens,
        mask,
        ended=ended,
        sample_logprobs=sample_logprobs,
        old_logprobs=response_logprobs(logits, batch),
        ref_logprobs=response_logprobs(ref_logits, batch),
        old_values=None if models.critic is None else response_values(models.critic, batch),
        scores=scores,
        old_logits=logits,
        exact_kl=zero_padding(values=exact_kl(logits=logits, ref_logits=ref_logits), mask=mask),
        k1_variance=zero_padding(
            values=k1_variance(logits=logits, ref_logits=ref_logits), mask=mask
        ),
    )
