"""Which of two responses is better: sampled responses, and an annotator who compares them.

The simulated annotator knows the task's gold score and is not sure of itself, as people are not:
P(first preferred) = sigmoid((gold_first - gold_second) / temperature), the Bradley-Terry model.
Responses of equal gold are not compared: their label would be a coin, which nobody can learn.

All pairs of the K responses that were sampled for a prompt stay together, since the reward model
scores a response once however often it is compared.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from minippo.gpt import GPT
from minippo.rollout import Sampling
from minippo.sampling import continue_prompts, read_prompts
from minippo.settings import Checked, count, positive
from minippo.tasks.base import Task
from minippo.tokenizer import pad_right, used_columns


@dataclass(frozen=True)
class PreferenceConfig(Checked):
    """Responses sampled from the fine-tuned model, and who compares them."""

    preference_prompts: int = count(12000, "prompts to sample responses for", low=2)
    preference_samples: int = count(
        4, "responses per prompt; all pairs of them are compared", low=2, high=64
    )
    preference_heldout: int = count(
        400, "more prompts, for held-out pairs (files: pairs to hold out)"
    )
    annotator_temperature: float = positive(
        0.5, "P(first preferred) = sigmoid(difference of gold / temperature)"
    )


@dataclass(frozen=True)
class Comparisons:
    """N prompts with K responses each, and what the annotator said about the K (K-1) / 2 pairs of
    each prompt."""

    prompt_tokens: torch.Tensor  # [N,P] int64, left-padded
    prompt_mask: torch.Tensor  # [N,P] bool
    response_tokens: torch.Tensor  # [N,K,T] int64
    response_mask: torch.Tensor  # [N,K,T] bool
    # [N,pairs] int64: 1 first preferred, -1 second preferred, 0 not compared
    labels: torch.Tensor
    # [N,pairs] the annotator's own P(first preferred); NaN where it is not known
    probabilities: torch.Tensor

    def __len__(self) -> int:
        return len(self.prompt_tokens)

    def number_of_pairs(self) -> int:
        return int((self.labels != 0).sum())

    def rows(self, index: Tensor) -> "Comparisons":
        """Some of the prompts, with columns that are padding in all of them cut away."""
        prompts, responses = self.prompt_mask[index], self.response_mask[index]
        P, T = used_columns(prompts, responses)
        return Comparisons(
            self.prompt_tokens[index][:, -P:],
            prompts[:, -P:],
            self.response_tokens[index][:, :, :T],
            responses[:, :, :T],
            self.labels[index],
            self.probabilities[index],
        )


def pair_indices(k: int) -> Tensor:
    """Every pair of K responses once: (first [pairs], second [pairs]), first < second."""
    return torch.triu_indices(k, k, offset=1)


def sample_candidates(
    model: GPT,
    task: Task,
    prompts: Sequence[str],
    *,
    samples: int,
    sampling: Sampling,
    generator: torch.Generator,
    chunk: int = 64,
    progress: Callable[[Iterable[Any]], Iterable[Any]] = iter,
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    """`samples` responses of the model to each prompt (texts), with the task's gold score of each.

    Returns (prompt_tokens, prompt_mask, response_tokens [N,K,T], response_mask [N,K,T], gold
    [N,K]).
    """
    tokenizer, device = task.tokenizer, next(model.parameters()).device
    prompt_tokens, prompt_mask = task.prompt_batch(prompts)
    parts = []
    for start in progress(range(0, len(prompts), chunk)):
        rows = slice(start, start + chunk)
        parts.append(
            continue_prompts(
                read_prompts(
                    model, prompt_tokens[rows].to(device), prompt_mask[rows].to(device), samples
                ),
                response_length=sampling.response_length,
                temperature=sampling.temperature,
                generator=generator,
                eos_id=tokenizer.eos_id,
                pad_id=tokenizer.pad_id,
            )[:2]
        )
    tokens, mask = (
        torch.cat(part).cpu().view(len(prompts), samples, sampling.response_length)
        for part in zip(*parts, strict=True)
    )
    gold = [
        [task.gold(prompt, tokenizer.decode(row)) for row in rows]
        for prompt, rows in zip(prompts, tokens.tolist(), strict=True)
    ]
    return prompt_tokens, prompt_mask, tokens, mask, torch.tensor(gold, dtype=torch.float64)


def annotate(
    gold: Tensor, *, temperature: float, generator: torch.Generator
) -> tuple[Tensor, Tensor]:
    """The annotator's labels for every pair of a prompt's responses, from their gold scores [N,K].

    Equation (0.16) P(i preferred to j) = sigmoid((gold_i - gold_j) / temperature)
    Source   Bradley and Terry 1952.
    Shapes   gold [N,K] -> labels [N,pairs] in {1, -1, 0}, probabilities [N,pairs]; 0 where the gold
             scores are equal.
    """
    first, second = pair_indices(gold.shape[1])
    difference = gold[:, first] - gold[:, second]  # [N,pairs]
    probabilities = torch.sigmoid(difference / temperature)
    draws = torch.rand(difference.shape, dtype=gold.dtype, generator=generator)
    labels = torch.where(draws < probabilities, 1, -1)
    return torch.where(difference == 0, 0, labels), probabilities


def simulated_comparisons(
    model: GPT,
    task: Task,
    prompts: Sequence[str],
    *,
    config: PreferenceConfig,
    sampling: Sampling,
    generator: torch.Generator,
    annotator_generator: torch.Generator,
    progress: Callable[[Iterable[Any]], Iterable[Any]] = iter,
) -> Comparisons:
    """Sample, compare, and keep it all as Comparisons."""
    prompt_tokens, prompt_mask, tokens, mask, gold = sample_candidates(
        model,
        task,
        prompts,
        samples=config.preference_samples,
        sampling=sampling,
        generator=generator,
        progress=progress,
    )
    labels, probabilities = annotate(
        gold, temperature=config.annotator_temperature, generator=annotator_generator
    )
    return Comparisons(prompt_tokens, prompt_mask, tokens, mask, labels, probabilities)


def recorded_comparisons(task: Task, pairs: Sequence[tuple[str, str, str]]) -> Comparisons:
    """Comparisons from texts (prompt, chosen, rejected); what the annotators' own probabilities
    were is not known."""
    tokenizer = task.tokenizer
    prompt_tokens, prompt_mask = task.prompt_batch([prompt for prompt, _, _ in pairs])
    answers = [
        task.response_ids(answer) for _, chosen, rejected in pairs for answer in (chosen, rejected)
    ]
    tokens, mask = pad_right(answers, tokenizer.pad_id)
    shape = (len(pairs), 2, tokens.shape[1])
    return Comparisons(
        prompt_tokens,
        prompt_mask,
        tokens.view(shape),
        mask.view(shape),
        torch.ones(len(pairs), 1, dtype=torch.int64),
        torch.full((len(pairs), 1), float("nan")),
    )
