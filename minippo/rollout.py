"""The record of everything that a PPO update needs to know about some responses.

Position P-1+t of the model's output is where token t of the response was chosen: `choices` is that
slice, and nothing else makes it. See docs/architecture.md for the picture.

Shapes: B responses, P prompt positions (left-padded), T response slots, V vocabulary.
"""

from collections.abc import Callable
from dataclasses import dataclass, fields, replace
from typing import Any, NamedTuple, Protocol, TypeVar

import torch
from torch import Tensor

from minippo.critic_head import Critic
from minippo.gpt import GPT, LAST, KVCache, Positions
from minippo.kl import exact_kl, k1_variance
from minippo.logprobs import token_logprobs
from minippo.masked import zero_padding
from minippo.sampling import continue_prompts, join, read_prompts
from minippo.sampling import sample_responses as sample_responses
from minippo.shapes import check_mask, remember_as_good, rows_are_as_good
from minippo.tokenizer import used_columns

Record = TypeVar("Record", bound="Responses")


class ResponseScore:
    """Scores responses beside their prompts, as a rule over texts has to: it must know where the
    prompt ends."""

    def of(self, batch: "Responses") -> Tensor:
        """The score of each response, [B]."""
        raise NotImplementedError


# (tokens [B,S], mask [B,S]) -> scores [B], or one that is told where the prompts end
ScoreFunction = Callable[[Tensor, Tensor], Tensor] | ResponseScore


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
    @property
    def action(self) -> str: ...
    @property
    def value_after_end(self) -> str: ...
    @property
    def old_logprobs(self) -> str: ...


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


def logits_to_one_prompt(policy: GPT, batch: "Responses", temperature: float) -> Tensor:
    """The same for responses to one and the same prompt, which is read once."""
    cache = KVCache(policy.config.n_layer)
    hidden = policy.hidden(batch.prompt_tokens[:1], batch.prompt_mask[:1], cache, read=LAST)
    hidden = hidden.expand(len(batch), -1, -1)  # [B,1,D]: where all first tokens were chosen
    tokens, mask = batch.response_tokens[:, :-1], batch.response_mask[:, :-1]
    if tokens.shape[1] > 0:
        others = policy.hidden(tokens, mask, cache.repeat_rows(len(batch)))
        hidden = torch.cat((hidden, others), dim=1)  # [B,T,D]
    return policy.logits(hidden) / temperature


def response_values(critic: Critic, batch: "Responses", value_mask: Tensor | None = None) -> Tensor:
    """V(s_t) before each response token, [B,T]; 0 where the response has ended, or outside
    value_mask."""
    values = critic(*batch.whole(), read=choices(batch.prompt_tokens.shape[1]))
    return zero_padding(
        values=values, mask=batch.response_mask if value_mask is None else value_mask
    )


def logits_and_values(
    policy: GPT, critic: Critic, batch: "Rollout", temperature: float
) -> tuple[Tensor, Tensor]:
    """(response_logits, response_values) of a policy and its critic; a trunk that they share is
    read once."""
    if critic.trunk is not policy:
        logits = response_logits(policy, batch, temperature)
        return logits, response_values(critic, batch, batch.value_mask)
    hidden = policy.hidden(*batch.whole(), read=choices(batch.prompt_tokens.shape[1]))
    values = critic.head(hidden).squeeze(-1)  # [B,T]
    return policy.logits(hidden) / temperature, zero_padding(values=values, mask=batch.value_mask)


def values_at_the_end(critic: Critic, batch: "Responses") -> Tensor:
    """V of the state that the last token leads to, [B]: of the whole response."""
    prompt_length = batch.prompt_tokens.shape[1]
    last = prompt_length - 1 + batch.response_mask.sum(dim=1, keepdim=True)  # [B,1]
    rows = torch.arange(len(batch), device=last.device).unsqueeze(1)
    return critic(*batch.whole(), read=(rows, last)).squeeze(1)


def one_more(mask: Tensor) -> Tensor:
    """The mask with the slot behind each row's last True, where there is room, [B,T]."""
    more = torch.cat((mask[:, :1], mask[:, :-1]), dim=1)
    remember_as_good(more)
    return more


def value_slots(response_mask: Tensor, config: Sampling) -> Tensor:
    """The slots at which the critic is asked, [B,T]: before each action, and with a value that is
    kept after the end, one more."""
    if config.action == "response":
        first = torch.zeros_like(response_mask)
        first[:, 0] = True
        remember_as_good(first)
        return first
    return one_more(response_mask) if config.value_after_end == "kept" else response_mask


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
    if isinstance(score_function, ResponseScore):
        scores = score_function.of(batch)
    else:
        scores = score_function(*batch.whole())
    scores = apply_eos_rule(
        scores,
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
        rows = {name: x[index] for name, x in columns.items() if x is not None}
        for name, x in rows.items():
            rows_are_as_good(x, columns[name])
        return replace(self, **rows)

    def trimmed(self: Record) -> Record:
        """The same record without the columns that are padding in every row: prompts lose them on
        the left, all that belongs to the responses on the right."""
        P, T = used_columns(self.prompt_mask, self.slots())
        columns = {item.name: getattr(self, item.name) for item in fields(self)}
        short = {
            name: x[:, -P:] if name.startswith("prompt_") else x[:, :T]
            for name, x in columns.items()
            if x is not None and x.dim() > 1  # not scores [B]
        }
        for name, x in short.items():
            rows_are_as_good(x, columns[name])
        return replace(self, **short)

    def slots(self) -> Tensor:
        """The slots that something is said about, [B,T]."""
        return self.response_mask

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
    old_values: Tensor | None  # [B,T] of the critic, where there is one; 0 outside value_mask
    value_mask: Tensor  # [B,T] bool: the slots at which the critic is asked
    end_values: Tensor | None  # [B] of the critic at the whole response; None: the end is worth 0
    scores: Tensor  # [B] after the EOS rule
    old_logits: Tensor  # [B,T,V] of the policy: what the tokens were drawn from
    exact_kl: Tensor  # [B,T] KL(policy || reference) of those distributions
    k1_variance: Tensor  # [B,T] under the policy: how far one token may be from that KL

    def slots(self) -> Tensor:
        return self.response_mask | self.value_mask


def values_of(critic: Critic | None, batch: Responses, config: Sampling) -> dict[str, Any]:
    """What the critic says of some Responses, and where it is asked."""
    value_mask = value_slots(batch.response_mask, config)
    if critic is None:
        return {"old_values": None, "value_mask": value_mask, "end_values": None}
    values, end_values = response_values(critic, batch, value_mask), None
    if config.value_after_end != "zero":
        end_values = values_at_the_end(critic, batch)
    return {"old_values": values, "value_mask": value_mask, "end_values": end_values}


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

    `prompts` is (tokens [N,P], mask [N,P]); the score function gives a score per response, [B]. The
    responses to one prompt are in neighbouring rows, B = N * samples_per_prompt.
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
    rescored = response_logprobs(logits, batch)
    return Rollout(
        prompt_tokens,
        prompt_mask,
        tokens,
        mask,
        ended=ended,
        sample_logprobs=sample_logprobs,
        old_logprobs=sample_logprobs if config.old_logprobs == "sampled" else rescored,
        ref_logprobs=response_logprobs(ref_logits, batch),
        **values_of(models.critic, batch, config),
        scores=scores,
        old_logits=logits,
        exact_kl=zero_padding(values=exact_kl(logits=logits, ref_logits=ref_logits), mask=mask),
        k1_variance=zero_padding(
            values=k1_variance(logits=logits, ref_logits=ref_logits), mask=mask
        ),
    )
