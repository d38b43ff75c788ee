"""The reward model's training on pairs, rankings or ratings, then a zero and a unit for its scores.

A prompt is read once and its K responses go on from that reading (a key/value cache through which
gradients flow), and each response is scored once for all the pairs that it is in. Pairs and
rankings say only which score is higher, so the zero and the unit are chosen afterwards: by default
0 is the mean over the demonstrations, 1 the standard deviation over the fine-tuned model's own
responses. Then kl_coef means the same in every run.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from minippo.gpt import LAST, KVCache
from minippo.reward_head import RewardModel, bradley_terry_loss
from minippo.reward_loss import plackett_luce_loss, rating_loss
from minippo.runs.stats import clustered_interval
from minippo.settings import Checked, count, positive, setting
from minippo.stages.optimise import muon_and_adamw, numbers_of, take_step
from minippo.stages.preferences import Comparisons, pair_indices
from minippo.tasks.base import Example
from minippo.tokenizer import pad_right

WARMUP_STEPS = 20
DEMONSTRATIONS, SAMPLES, NONE = "demonstrations", "samples", "none"


@dataclass(frozen=True)
class RewardConfig(Checked):
    """The reward model: its size, its training, the zero and the unit of its scores."""

    reward_epochs: int = count(2, "passes over the preferences")
    reward_batch_size: int = count(32, "prompts per step")
    reward_learning_rate: float = positive(3e-3, "peak; warm-up, then linearly to 0")
    reward_weight_decay: float = setting(0.3, "per step, times the learning rate", low=0.0)
    reward_layers: int | None = setting(
        None,
        "blocks of the fine-tuned model that it keeps, the first ones; none: all (with fewer the "
        "critic starts from the fine-tuned model)",
        1,
        100,
    )
    reward_zero: str = setting(
        DEMONSTRATIONS,
        "whose mean score is 0: the demonstrations', the fine-tuned model's own samples', nobody's",
        choices=(DEMONSTRATIONS, SAMPLES, NONE),
    )
    reward_unit: str = setting(
        SAMPLES,
        "whose standard deviation is 1: the fine-tuned model's own samples', nobody's",
        choices=(SAMPLES, NONE),
    )


def response_scores(reward_model: RewardModel, comparisons: Comparisons) -> Tensor:
    """The scores of all responses, [N,K]; the same numbers as reward_model(prompt + response), at a
    fraction of the work."""
    N, K, T = comparisons.response_tokens.shape
    cache = KVCache(reward_model.trunk.config.n_layer)
    prompts = comparisons.prompt_tokens, comparisons.prompt_mask
    reward_model.trunk.hidden(*prompts, cache, read=LAST)  # what it says of a prompt is not used
    tokens, mask = (
        x.reshape(N * K, T) for x in (comparisons.response_tokens, comparisons.response_mask)
    )
    return reward_model(tokens, mask, cache.repeat_rows(K)).view(N, K)


def pair_margins(scores: Tensor, labels: Tensor) -> Tensor:
    """Score of the preferred minus score of the other, for each pair that was compared, [pairs
    compared]."""
    first, second = pair_indices(scores.shape[1]).to(scores.device)
    margins = (scores[:, first] - scores[:, second]) * labels  # [N,pairs]
    return margins[labels != 0]


def reward_loss(scores: Tensor, batch: Comparisons) -> Tensor:
    """The loss of scores [N,K], by what the annotator gave: a ranking, ratings, or labels of
    pairs."""
    if batch.ranks is not None:
        return plackett_luce_loss(scores=scores, ranks=batch.ranks)
    if batch.ratings is not None:
        return rating_loss(scores=scores, ratings=batch.ratings)
    margins = pair_margins(scores, batch.labels)
    return bradley_terry_loss(chosen_scores=margins, rejected_scores=torch.zeros_like(margins))


def train_reward_model(
    reward_model: RewardModel,
    comparisons: Comparisons,
    *,
    config: RewardConfig,
    generator: torch.Generator,
    progress: Callable[[Iterable[Any]], Iterable[Any]] = iter,
) -> list[float]:
    """Training on what the annotator gave; returns the loss of every step that had a pair to learn
    from.

    The batches are drawn with `generator`. The learning rate warms up and falls linearly to 0.
    TrainingError when a loss or a gradient is not finite.
    """
    device = next(reward_model.parameters()).device
    optimizers = muon_and_adamw(
        reward_model,
        learning_rate=config.reward_learning_rate,
        weight_decay=config.reward_weight_decay,
    )
    losses = []
    batches = [
        batch
        for _ in range(config.reward_epochs)
        for batch in torch.randperm(len(comparisons), generator=generator).split(
            config.reward_batch_size
        )
    ]
    warmup = min(WARMUP_STEPS, max(1, len(batches) // 5))
    for step, index in enumerate(progress(batches)):
        batch = comparisons.rows(index)
        if batch.number_of_pairs() == 0:
            continue  # every response of these prompts is as good as every other
        batch = to_device(batch, device)
        loss = reward_loss(response_scores(reward_model, batch), batch)
        share = min(1.0, (step + 1) / warmup) * (1 - step / len(batches))
        take_step(
            optimizers,
            loss,
            share * config.reward_learning_rate,
            where=f"reward model, step {step + 1}",
        )
        losses.append(loss.detach())
    reward_model.zero_grad()  # the last gradients would be copied with the model
    return numbers_of(losses)


@torch.no_grad()
def heldout_report(
    reward_model: RewardModel, comparisons: Comparisons, *, chunk: int = 100
) -> dict[str, float | None]:
    """How often the reward model agrees with the annotator on pairs that it was not trained on, and
    how often one can.

    heldout_accuracy   share of pairs in which the preferred response scores higher; equal scores
                       count half
    heldout_low, _high its 95 % interval, clustered by prompt (stats.clustered_interval): the pairs
                       of a prompt share its responses, or are the same pair, so their errors go
                       together; rows with the same prompt tokens are one prompt
    annotator_ceiling  mean of max(p, 1-p), p the annotator's own probability: what knowing the rule
                       would get
    skill              (accuracy - 0.5) / (ceiling - 0.5); the ceiling and the skill are None where
                       p is not known
    disagreement       share of a panel's members who were outvoted, a pair; only where one votes
    """
    scores = all_scores(reward_model, comparisons, chunk=chunk).cpu()
    first, second = pair_indices(scores.shape[1])
    # [N,pairs]: 1 agrees, -1 not
    signs = (scores[:, first] - scores[:, second]).sign() * comparisons.labels
    compared = comparisons.labels != 0
    rights = ((1 + signs[compared].double()) / 2).tolist()
    prompts = prompt_numbers(comparisons).unsqueeze(1).expand_as(compared)[compared].tolist()
    low, high = clustered_interval(rights, prompts)
    accuracy = sum(rights) / len(rights)
    p = comparisons.probabilities[compared]
    ceiling = None if p.isnan().any() else torch.maximum(p, 1 - p).mean().item()
    split = comparisons.disagreement
    return {
        "heldout_accuracy": accuracy,
        "heldout_low": low,
        "heldout_high": high,
        "heldout_pairs": len(rights),
        "annotator_ceiling": ceiling,
        "skill": None if ceiling is None or ceiling <= 0.5 else (accuracy - 0.5) / (ceiling - 0.5),
    } | ({} if split is None else {"disagreement": split[compared].mean().item()})


def prompt_numbers(comparisons: Comparisons) -> Tensor:
    """A number for each row, [N], that rows with the same prompt share."""
    tokens = torch.where(comparisons.prompt_mask, comparisons.prompt_tokens, -1)
    return torch.unique(tokens, dim=0, return_inverse=True)[1]


@torch.no_grad()
def set_zero_and_unit(
    reward_model: RewardModel,
    demonstrations: Sequence[Example],
    own_scores: Tensor,
    *,
    pad_id: int,
    zero: str = DEMONSTRATIONS,
    unit: str = SAMPLES,
) -> None:
    """Set center and scale: mean 0 over the demonstrations (Examples), standard deviation 1 over
    `own_scores`; or as `zero` and `unit` say.

    own_scores: raw scores of responses that the fine-tuned model sampled. They are taken as they
    are when they hardly differ (standard deviation under 1e-6): a unit made of rounding errors
    would blow the scores up.
    """
    spread = own_scores.std(correction=0)
    if zero == DEMONSTRATIONS:
        reward_model.center.fill_(scores_of(reward_model, demonstrations, pad_id).mean())
    elif zero == SAMPLES:
        reward_model.center.fill_(own_scores.mean())
    if unit == SAMPLES and spread > 1e-6:
        reward_model.scale.fill_(spread)


def scores_of(reward_model: RewardModel, examples: Sequence[Example], pad_id: int) -> Tensor:
    """The scores of whole texts, [n]."""
    device = next(reward_model.parameters()).device
    parts = [
        pad_right([example.tokens for example in examples[i : i + 100]], pad_id)
        for i in range(0, len(examples), 100)
    ]
    return torch.cat([reward_model(tokens.to(device), mask.to(device)) for tokens, mask in parts])


@torch.no_grad()
def all_scores(reward_model: RewardModel, comparisons: Comparisons, *, chunk: int = 100) -> Tensor:
    """The scores of every response of some Comparisons, [N,K]."""
    device = next(reward_model.parameters()).device
    parts = torch.arange(len(comparisons)).split(chunk)
    return torch.cat(
        [response_scores(reward_model, to_device(comparisons.rows(part), device)) for part in parts]
    )


def to_device(record: Comparisons, device: torch.device) -> Comparisons:
    """The same record with every tensor on the device."""
    tensors = {name: value for name, value in vars(record).items() if value is not None}
    return replace(record, **{name: value.to(device) for name, value in tensors.items()})
