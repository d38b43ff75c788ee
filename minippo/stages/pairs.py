"""Pairs to learn from without a reward model: where they come from, and how they are dealt.

    preferences          what an annotator has compared: stages.preferences
    judged_comparisons   responses of the reference of which a rule says which is better, on a task
                         that has no annotator
    Deal                 all of them in new orders, some for each update of a training

The responses to a prompt stay together, since each is read once however many pairs it is in.
"""

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

from minippo.algorithms.base import PairBatch
from minippo.algorithms.config import PPOConfig
from minippo.annotators.base import pair_indices
from minippo.gpt import GPT
from minippo.rollout import (
    Models,
    Responses,
    ScoreFunction,
    response_logits,
    response_logprobs,
    score_responses,
)
from minippo.sampling import continue_prompts, read_prompts
from minippo.stages.preferences import Comparisons

PRICE_WITHOUT_A_UNIT = 0.1  # of a nat, where a rule says which is better and not by how much


class Pairs(NamedTuple):
    """What a training learns from."""

    comparisons: Comparisons
    price: float
    seed: int = 0  # of the order in which they are dealt
    sampled: int = 0  # responses that were sampled for this and nothing else


def kept_prompts(comparisons: Comparisons) -> Comparisons:
    """Those of which at least one pair was compared. ValueError: there is none."""
    index = (comparisons.labels != 0).any(dim=1).nonzero().flatten()
    if len(index) == 0:
        raise ValueError("pairs: no two responses to a prompt are of different worth")
    return comparisons.rows(index)


@torch.no_grad()
def judged_comparisons(
    reference: GPT,
    draw_prompts: Callable[[int], tuple[Tensor, Tensor]],
    score_function: ScoreFunction,
    *,
    config: PPOConfig,
    samples: int,
    eos_id: int,
    pad_id: int,
    generator: torch.Generator,
) -> Comparisons:
    """Comparisons of the reference's responses: `samples` to each prompt, as many in all as the
    rollouts of a training would have; the one with the higher score is preferred."""
    tokens, mask = draw_prompts(max(1, config.num_updates * config.batch_size // samples))
    parts = []
    for rows in torch.arange(len(tokens)).split(64):
        drawn, drawn_mask, _ = continue_prompts(
            read_prompts(reference, tokens[rows], mask[rows], samples),
            response_length=config.response_length,
            temperature=config.temperature,
            generator=generator,
            eos_id=eos_id,
            pad_id=pad_id,
        )
        asked, asked_mask = (x[rows].repeat_interleave(samples, dim=0) for x in (tokens, mask))
        batch = Responses(asked, asked_mask, drawn, drawn_mask)
        scores, _ = score_responses(score_function, batch, config=config, eos_id=eos_id)
        parts.append((drawn, drawn_mask, scores))
    responses, response_mask, scores = (torch.cat(part) for part in zip(*parts, strict=True))
    shape = (len(tokens), samples)
    first, second = pair_indices(samples)
    by_prompt = scores.view(shape).double().cpu()
    labels = (by_prompt[:, first] - by_prompt[:, second]).sign().long()
    return Comparisons(
        tokens.cpu(),
        mask.cpu(),
        responses.view(*shape, -1).cpu(),
        response_mask.view(*shape, -1).cpu(),
        labels,
        torch.full(labels.shape, torch.nan),
    )


class Deal:
    """The pairs of a training, dealt to its updates: each gets as many batches, all different until
    every prompt has been seen, and then in a new order.

    A batch holds batch_size / num_mini_batches responses, as a minibatch of a rollout would. Which
    ones an update gets depends on its number and on the seed of the pairs alone, so a training that
    is taken up again needs to remember nothing.
    """

    def __init__(self, pairs: Pairs, models: Models, config: PPOConfig) -> None:
        self.models, self.config, self.price = models, config, pairs.price
        self.comparisons = kept_prompts(pairs.comparisons)
        number, samples = self.comparisons.response_tokens.shape[:2]
        responses = config.batch_size / config.num_mini_batches
        self.prompts = min(number, max(1, round(responses / samples)))  # of a batch
        steps = config.pair_passes * number / self.prompts
        self.steps = max(1, round(steps / config.num_updates))  # of an update
        order = torch.Generator().manual_seed(pairs.seed)
        needed = config.num_updates * self.steps * self.prompts
        rounds = -(-needed // number)
        self.order = torch.cat([torch.randperm(number, generator=order) for _ in range(rounds)])

    def of_update(self, update: int) -> list[PairBatch]:
        """The batches of an update, counted from 1."""
        size = self.steps * self.prompts
        mine = self.order[(update - 1) * size : update * size]
        return [self.batch(index) for index in mine.split(self.prompts)]

    @torch.no_grad()
    def batch(self, index: Tensor) -> PairBatch:
        """Some of the prompts, with what the reference says of their responses."""
        reference = self.models.reference
        device = next(reference.parameters()).device
        some = self.comparisons.rows(index)
        N, K, T = some.response_tokens.shape
        responses = Responses(
            some.prompt_tokens.repeat_interleave(K, dim=0).to(device),
            some.prompt_mask.repeat_interleave(K, dim=0).to(device),
            some.response_tokens.reshape(N * K, T).to(device),
            some.response_mask.reshape(N * K, T).to(device),
        )
        logits = response_logits(reference, responses, self.config.temperature)
        sums = response_logprobs(logits, responses).sum(dim=1).view(N, K)
        return PairBatch(responses, some.labels.to(device), sums, self.price)
