"""Which of two responses is better: sampled responses, and an annotator who compares them.

Who the annotator is, is chosen by name (minippo.annotators). By default it knows the task's gold
score and is not sure of itself, as people are not: P(first preferred) = sigmoid((gold_first -
gold_second) / temperature), the Bradley-Terry model. Responses of equal gold are not compared:
their label would be a coin, which nobody can learn.

What is asked for is one of three: which of two is better, for all pairs; a ranking of the responses
to a prompt; or a mark for each. The held-out responses are always compared in pairs, so that
accuracies can be compared.

All pairs of the K responses that were sampled for a prompt stay together, since the reward model
scores a response once however often it is compared.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from minippo.annotators import DEFAULT, REGISTRY
from minippo.annotators.base import (
    AnnotatorConfig,
    Shown,
    draw_labels,
    judge,
    pair_indices,
    preference_probabilities,
)
from minippo.annotators.opinions import draw_ranks, draw_ratings, labels_of_opinions
from minippo.gpt import GPT
from minippo.rollout import Sampling
from minippo.sampling import continue_prompts, read_prompts
from minippo.settings import Checked, count, setting
from minippo.tasks.base import Task
from minippo.tokenizer import pad_right, used_columns

PAIRS, RANKING, RATINGS = "pairs", "ranking", "ratings"
SFT, PRETRAIN = "sft", "pretrain"


@dataclass(frozen=True)
class PreferenceConfig(Checked):
    """Responses that a model samples, and who compares them."""

    preference_prompts: int = count(12000, "prompts to sample responses for", low=2)
    preference_samples: int = count(
        4, "responses per prompt; all pairs of them are compared", low=2, high=64
    )
    preference_heldout: int = count(
        400, "more prompts, for held-out pairs (files: pairs to hold out)"
    )
    preferences_from: str = setting(
        SFT,
        "the model whose responses are compared: the fine-tuned or the pretrained one",
        choices=(SFT, PRETRAIN),
    )
    rounds: int = count(
        1,
        "times that preferences are collected and a policy is trained: from the second on, of the "
        "policy before",
        high=20,
    )
    preference_labels: str = setting(
        PAIRS, "what the annotator gives for the training", choices=(PAIRS, RANKING, RATINGS)
    )
    annotator: str = setting(DEFAULT, "who says what is better", choices=tuple(REGISTRY))


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
    # where the annotator gave them, [N,K]: ranks, int64, 1 the best; ratings, float64
    ranks: torch.Tensor | None = None
    ratings: torch.Tensor | None = None
    # [N,pairs] share of a panel that was outvoted
    disagreement: torch.Tensor | None = None

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
            *(x if x is None else x[index] for x in (self.ranks, self.ratings, self.disagreement)),
        )


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
    """The gold annotator's labels for every pair of a prompt's responses, from their gold scores
    alone: gold [N,K] -> labels [N,pairs] in {1, -1, 0}, probabilities [N,pairs] (equation 0.16); 0
    where the gold scores are equal."""
    probabilities = preference_probabilities(gold, temperature)
    labels = draw_labels(probabilities, generator)
    first, second = pair_indices(gold.shape[1])
    return torch.where(gold[:, first] == gold[:, second], 0, labels), probabilities


def simulated_comparisons(
    model: GPT,
    task: Task,
    prompts: Sequence[str],
    *,
    config: PreferenceConfig,
    annotator: AnnotatorConfig,
    sampling: Sampling,
    generators: tuple[torch.Generator, torch.Generator],
    progress: Callable[[Iterable[Any]], Iterable[Any]] = iter,
) -> Comparisons:
    """Sample, compare, and keep it all as Comparisons; the generators are the sampler's and the
    annotator's."""
    prompt_tokens, prompt_mask, tokens, mask, gold = sample_candidates(
        model,
        task,
        prompts,
        samples=config.preference_samples,
        sampling=sampling,
        generator=generators[0],
        progress=progress,
    )
    decode = task.tokenizer.decode
    texts = [[decode(row) for row in rows] for rows in tokens.tolist()]
    shown = Shown(task, prompts, texts, mask.sum(dim=2), gold)
    found = judge(REGISTRY[config.annotator], shown, annotator, generators[1])
    pairs = Comparisons(
        prompt_tokens,
        prompt_mask,
        tokens,
        mask,
        found.labels,
        found.probabilities,
        disagreement=found.disagreement,
    )
    if config.preference_labels == PAIRS:
        return pairs
    return with_opinions(pairs, shown, asked=config, config=annotator, generator=generators[1])


def with_opinions(
    pairs: Comparisons,
    shown: Shown,
    *,
    asked: PreferenceConfig,
    config: AnnotatorConfig,
    generator: torch.Generator,
) -> Comparisons:
    """The same responses with a ranking or with ratings, as is asked; the labels of the pairs are
    what follows from these."""
    (worth,) = REGISTRY[asked.annotator].worth(shown, config)  # of the only member
    if asked.preference_labels == RANKING:
        ranks = draw_ranks(worth, temperature=config.annotator_temperature, generator=generator)
        return replace(pairs, ranks=ranks, labels=labels_of_opinions(-ranks))
    ratings = draw_ratings(worth, noise=config.rating_noise, generator=generator)
    return replace(pairs, ratings=ratings, labels=labels_of_opinions(ratings))


def together(parts: Sequence[Comparisons]) -> Comparisons:
    """The comparisons of several rounds as one record, the shorter prompts and responses padded."""
    if len(parts) == 1:
        return parts[0]
    P = max(part.prompt_tokens.shape[1] for part in parts)
    T = max(part.response_tokens.shape[2] for part in parts)

    def joined(name: str) -> Tensor | None:
        tensors = [getattr(part, name) for part in parts]
        if tensors[0] is None:
            return None
        if name.startswith("prompt_"):
            tensors = [F.pad(x, (P - x.shape[1], 0)) for x in tensors]
        elif name.startswith("response_"):
            tensors = [F.pad(x, (0, T - x.shape[2])) for x in tensors]
        return torch.cat(tensors)

    whole: dict[str, Any] = {name: joined(name) for name in vars(parts[0])}
    return Comparisons(**whole)


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
