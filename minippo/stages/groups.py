"""Which of the sampled groups are learned from: all of them, or those whose scores differ.

A group is the responses to one prompt. Where its scores are all equal, its advantages are 0 and it
teaches nothing; DAPO (Yu et al. 2025, arXiv:2503.14476, "dynamic sampling") lets other prompts take
its place. What is said about the policy is said of the first rollout all the same: to leave groups
out there would show another policy.
"""

from collections.abc import Callable, Sequence
from dataclasses import fields
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import pad

from minippo.algorithms.base import Algorithm
from minippo.algorithms.config import PPOConfig
from minippo.rollout import Rollout


class Drawn(NamedTuple):
    """What was sampled for an update."""

    first: Rollout  # what the policy said to the prompts of this update
    learned: Rollout  # what is learned from
    metrics: dict[str, Any]


def draw(sample: Callable[[], Rollout], record: Algorithm, config: PPOConfig) -> Drawn:
    """The rollout of an update; where the algorithm drops groups of equal scores, as many rollouts
    as fill the batch with others, at most max_draws. A batch that is still not full stays smaller;
    one in which no group differs is the first rollout, which teaches nothing."""
    first = sample()
    if not record.drops_equal_groups:
        return Drawn(first, first, {})
    size, sampled = record.samples(config), [first]
    kept = [first.rows(rows_that_differ(first.scores, size))]
    while sum(map(len, kept)) < config.batch_size and len(sampled) < config.max_draws:
        sampled.append(sample())
        kept.append(sampled[-1].rows(rows_that_differ(sampled[-1].scores, size)))
    learned = joined([part for part in kept if len(part)], config.batch_size) or first
    metrics = {
        "val/draws": len(sampled),
        "val/groups_that_differ": sum(map(len, kept)) / sum(map(len, sampled)),
        "val/batch_rows": len(learned) if any(map(len, kept)) else 0,
    }
    return Drawn(first, learned, metrics)


def rows_that_differ(scores: Tensor, group_size: int) -> Tensor:
    """The indices of the rows of the groups whose scores are not all equal."""
    groups = scores.view(-1, group_size)
    differ = groups.amax(dim=1) > groups.amin(dim=1)
    return differ.repeat_interleave(group_size).nonzero().flatten()


def joined(parts: Sequence[Rollout], most: int) -> Rollout | None:
    """The rows of several rollouts as one, the first `most` of them; shorter prompts are padded on
    the left. None: there is no row."""
    if not parts:
        return None
    width = max(part.prompt_tokens.shape[1] for part in parts)
    columns: dict[str, Any] = {}
    for name in (item.name for item in fields(Rollout)):
        tensors = [getattr(part, name) for part in parts]
        if name.startswith("prompt_"):
            tensors = [pad(x, (width - x.shape[1], 0)) for x in tensors]
        columns[name] = None if tensors[0] is None else torch.cat(tensors)[:most]
    return Rollout(**columns)
