"""Before and after: the fine-tuned model and the trained policy on the same prompts, the task's
evaluation prompts.

One response each per prompt gives the gold score with its axes, the win rate, the lengths and the
samples. Score, KL and objective come from the many draws of stages/optimum.py, since small
differences count there.
"""

from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from minippo.annotators.base import Annotator, AnnotatorConfig, Shown, judge
from minippo.gpt import GPT
from minippo.rollout import Responses, Sampling, ScoreFunction, sample_responses, score_responses
from minippo.runs.stats import clustered_interval, mean
from minippo.settings import Checked, count
from minippo.tasks.base import Task


@dataclass(frozen=True)
class EvalConfig(Checked):
    """What is measured at the end."""

    eval_prompts: int = count(500, "evaluation prompts, one response each before and after")
    optimum_prompts: int = count(64, "prompts for the estimate of the best possible objective")
    optimum_draws: int = count(
        512, "draws per prompt from the reference, and as many from the policy", low=2
    )


@dataclass(frozen=True)
class Answers:
    """One response per prompt, with what was said about it."""

    texts: list[str]
    lengths: list[int]  # tokens, EOS included
    ended: list[bool]  # has an EOS
    scores: list[float]
    axes: list[dict[str, float] | None]  # gold axes

    def gold(self) -> list[float | None]:
        """The gold scores, None each where the task has no rule."""
        return [None if axes is None else sum(axes.values()) for axes in self.axes]


@torch.no_grad()
def answer(
    model: GPT,
    task: Task,
    prompts: Sequence[str],
    prompt_tensors: Sequence[Tensor],
    *,
    score_function: ScoreFunction,
    config: Sampling,
    generator: torch.Generator,
    rows_at_once: int = 256,
) -> Answers:
    """The model's Answers to prompts (texts, and as tensors). The scores are those after the EOS
    rule."""
    tokenizer, parts = task.tokenizer, []
    for start in range(0, len(prompts), rows_at_once):
        prompt_tokens, prompt_mask = (x[start : start + rows_at_once] for x in prompt_tensors)
        tokens, mask, _ = sample_responses(
            model,
            prompt_tokens,
            prompt_mask,
            response_length=config.response_length,
            temperature=config.temperature,
            generator=generator,
            eos_id=tokenizer.eos_id,
            pad_id=tokenizer.pad_id,
        )
        batch = Responses(prompt_tokens, prompt_mask, tokens, mask)
        scores, ended = score_responses(
            score_function, batch, config=config, eos_id=tokenizer.eos_id
        )
        parts.append((tokens.tolist(), mask.sum(dim=1).tolist(), ended.tolist(), scores.tolist()))
    tokens, lengths, ended, scores = (sum(part, []) for part in zip(*parts, strict=True))
    texts = [tokenizer.decode(row) for row in tokens]
    return Answers(
        texts,
        lengths,
        ended,
        scores,
        [task.gold_axes(prompt, text) for prompt, text in zip(prompts, texts, strict=True)],
    )


def win_rate(
    before: Answers, after: Answers, *, has_gold: bool, prompts: Sequence[Hashable] | None = None
) -> dict[str, Any]:
    """How often the response after beats the one before, ties half, with its 95 % interval.

    prompts: what each was an answer to, where some were asked more than once; answers to one prompt
    go together (stats.clustered_interval). None: all are different.
    """
    old, new = (_judged(answers, has_gold) for answers in (before, after))
    wins = [1.0 if b > a else 0.5 if b == a else 0.0 for a, b in zip(old, new, strict=True)]
    low, high = clustered_interval(wins, range(len(wins)) if prompts is None else prompts)
    return {
        "value": sum(wins) / len(new),
        "low": low,
        "high": high,
        "n": len(new),
        "judge": "gold" if has_gold else "reward model",
    }


def gold_report(answers: Answers) -> tuple[float, dict[str, float]] | tuple[None, None]:
    """(mean gold score, mean of each axis), or (None, None) where the task has no rule."""
    known = [axes for axes in answers.axes if axes is not None]
    if not known:
        return None, None
    axes = {name: mean(axes[name] for axes in known) for name in known[0]}
    return mean(_judged(answers, has_gold=True)), axes


def claims_report(
    task: Task, prompts: Sequence[str], answers: Answers
) -> dict[str, float | None] | None:
    """How much is claimed, and how much of that is true: {"number": claims per response, "true":
    share of the claims, None where there are none}. None where the task does not say what a claim
    is."""
    found = [task.claims(prompt, text) for prompt, text in zip(prompts, answers.texts, strict=True)]
    claims = [claim for claims in found for claim in claims or ()]
    if found[0] is None:
        return None
    return {"number": len(claims) / len(found), "true": mean(claims) if claims else None}


def acceptability(
    annotator: Annotator,
    task: Task,
    prompts: Sequence[str],
    *,
    before: Answers,
    after: Answers,
    config: AnnotatorConfig,
    generator: torch.Generator,
) -> float | None:
    """The mean chance that the annotator prefers the response after to the one before, 1/2 each
    where both are worth the same; None where the task has no rule, and so no annotator."""
    if task.gold_max is None:
        return None
    both = list(zip(before.texts, after.texts, strict=True))
    lengths = torch.tensor([before.lengths, after.lengths]).T
    gold = torch.tensor([before.gold(), after.gold()], dtype=torch.float64).T
    shown = Shown(task, prompts, both, lengths, gold)
    return 1 - judge(annotator, shown, config, generator).probabilities.mean().item()


def _judged(answers: Answers, has_gold: bool) -> list[float]:
    """The gold scores where the task has a rule, else those of the reward model."""
    return [x for x in answers.gold() if x is not None] if has_gold else answers.scores
