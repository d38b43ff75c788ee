"""What the choices of RLHF do to the gradient, exactly: python -m minippo.exact.choices

The world has one prompt, three tokens and at most three steps. The policy gives its tokens 1/2, 1/4
and 1/4 in some order in each state, so a batch of 64 responses in which each response stands
64 p(response) times is the distribution itself: what the product computes from this batch is what
it computes on average from a large one. No sampling is left, and whatever differs from the gradient
of E[score] - kl_coef KL(policy || reference) is bias of the choice.

    bias     length of what is left of the mean gradient when its best multiple of the right one is
             taken out, over that multiple: 0 is right up to the size of the step
    cosine   between the two; below 0 the step goes the wrong way

Two critics: one that is right, and one that says half of what is right everywhere.
"""

import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from minippo.algorithms.base import Experience, actions_of
from minippo.algorithms.config import PPOConfig
from minippo.algorithms.terms import kl_term, reduced
from minippo.commands.wrapper import Parser, command
from minippo.exact.oracle import response_probabilities, sequence_kl
from minippo.exact.world import EOS, World
from minippo.masked import zero_padding
from minippo.ppo import clipped_surrogate_loss
from minippo.rollout import Rollout, apply_eos_rule, value_slots
from minippo.stages.credit import estimate_advantages, token_rewards

KL_COEF, RESPONSES = 0.3, 64
PLAIN = {"kl_coef": KL_COEF, "no_eos_score": None, "whiten_advantages": False}
LOSS = {"kl_reward": "none", "allow_broken": True}
CHOICES: list[tuple[str, dict[str, Any]]] = [
    ("the default without whitening, lam 1", {"lam": 1.0}),
    ("the default without whitening, lam 0.95", {}),
    ("lam 0", {"lam": 0.0}),
    ("gamma 0.9", {"gamma": 0.9, "lam": 1.0}),
    ("whitened over the rollout", {"lam": 1.0, "whiten_advantages": True}),
    ("whitened, with Bessel", {"lam": 1.0, "whiten_advantages": True, "whiten_bessel": True}),
    ("rewards scaled, their mean kept", {"lam": 1.0, "whiten_rewards": True}),
    ("the whole response as one action", {"action": "response"}),
    ("score behind EOS, its value kept", {"score_place": "after_eos", "value_after_end": "kept"}),
    ("score behind EOS, worth nothing", {"score_place": "after_eos"}),
    ("score in the last column", {"score_place": "last_column"}),
    ("bootstrap where the length cut off", {"value_after_end": "bootstrap", "lam": 1.0}),
    ("no EOS: score replaced by -1", {"no_eos_score": -1.0, "lam": 1.0}),
    ("no EOS: 1 subtracted", {"missing_eos_penalty": 1.0, "lam": 1.0}),
    ("no EOS: not learned from", {"mask_unended": True, "lam": 1.0}),
    ("mean per response", {"loss_reduction": "sequence_mean", "lam": 1.0}),
    ("sum per response", {"loss_reduction": "sequence_sum", "lam": 1.0}),
    ("sum over a constant", {"loss_reduction": "constant_mean", "lam": 1.0}),
    ("no KL", {"kl_reward": "none", "lam": 1.0}),
    ("k2 in the reward", {"kl_reward": "k2", "allow_broken": True, "lam": 1.0}),
    ("k3 in the reward", {"kl_reward": "k3", "allow_broken": True, "lam": 1.0}),
    ("exact KL in the reward", {"kl_reward": "exact", "allow_broken": True, "lam": 1.0}),
    ("k2 of the response as a loss", LOSS | {"kl_loss": "k2_response", "lam": 1.0}),
    ("weighted k1 of the response as a loss", LOSS | {"kl_loss": "k1_response", "lam": 1.0}),
    (
        "the same, advantages whitened",
        LOSS | {"kl_loss": "k2_response", "lam": 1.0, "whiten_advantages": True},
    ),
    ("k1 as a loss", LOSS | {"kl_loss": "k1", "lam": 1.0}),
    ("k2 per token as a loss", LOSS | {"kl_loss": "k2", "lam": 1.0}),
    ("weighted k1 per token as a loss", LOSS | {"kl_loss": "weighted_k1", "lam": 1.0}),
    ("k3 per token as a loss", LOSS | {"kl_loss": "k3", "lam": 1.0}),
]


@dataclass(frozen=True)
class Small:
    """The world, and what policy, reference and scores are in it."""

    world: World
    logits: Tensor  # [K,V] of the policy; each state has 1/2, 1/4 and 1/4 in some order
    ref_logits: Tensor  # [K,V]
    scores: Tensor  # [N] of each response
    counts: Tensor  # [N] how often each response stands in the batch


def small_world(seed: int) -> Small:
    """A world with random preferences and scores."""
    generator = torch.Generator().manual_seed(seed)
    world = World(lambda prompt, tokens: 0.0, vocab_size=3, response_length=3)
    K, N = len(world.states), len(world.response_tokens)
    shares = torch.tensor([1 / 2, 1 / 4, 1 / 4], dtype=torch.float64)
    orders = torch.stack([torch.randperm(3, generator=generator) for _ in range(K)])
    logits = shares.log()[orders]
    ref_logits, scores = (
        torch.randn(shape, generator=generator, dtype=torch.float64) for shape in ((K, 3), (N,))
    )
    counts = (RESPONSES * response_probabilities(world, logits)).round().long()
    return Small(world, logits, ref_logits, scores, counts)


def objective(small: Small, logits: Tensor, config: PPOConfig) -> Tensor:
    """E[score after the EOS rule] - kl_coef KL(policy || reference)."""
    scores = scores_of(small, ended_of(small), config)
    expected = (response_probabilities(small.world, logits) * scores).sum()
    return expected - config.kl_coef * sequence_kl(small.world, logits, small.ref_logits).sum()


def ended_of(small: Small) -> Tensor:
    """Which responses hold EOS, [N]; padding has its number too."""
    tokens, mask = small.world.response_tokens, small.world.response_mask
    return ((tokens == EOS) & mask).any(dim=1)


def scores_of(small: Small, ended: Tensor, config: PPOConfig) -> Tensor:
    return apply_eos_rule(
        small.scores,
        ended,
        no_eos_score=config.no_eos_score,
        missing_eos_penalty=config.missing_eos_penalty,
    )


def whole_batch(small: Small, config: PPOConfig, critic: float) -> Rollout:
    """The batch that is the distribution; the critic says `critic` times what is right."""
    world, ended = small.world, ended_of(small)
    mask, rows = world.response_mask, torch.arange(len(ended)).repeat_interleave(small.counts)
    logprobs, ref_logprobs = (world.logprobs(x) for x in (small.logits, small.ref_logits))
    pi, log_ratio = (
        torch.softmax(small.logits, -1),
        small.logits.log_softmax(-1) - small.ref_logits.log_softmax(-1),
    )
    kl = (pi * log_ratio).sum(dim=-1)  # [K]
    nothing = torch.zeros_like(logprobs)
    one_per_row = Rollout(
        torch.zeros(len(ended), 1, dtype=torch.int64),
        torch.ones(len(ended), 1, dtype=torch.bool),
        world.response_tokens,
        mask,
        ended=ended,
        sample_logprobs=logprobs,
        old_logprobs=logprobs,
        ref_logprobs=ref_logprobs,
        old_values=nothing,
        value_mask=mask,
        end_values=None,
        scores=scores_of(small, ended, config),
        old_logits=small.logits[world.state_index],
        exact_kl=world.along_responses(kl),
        k1_variance=nothing,
    )
    values, end_values = right_values(small, one_per_row, config)
    value_mask = value_slots(mask, config)
    behind = torch.cat((nothing[:, :1], mask[:, :-1] & ~mask[:, 1:]), dim=1).bool()
    values = torch.where(behind, end_values.unsqueeze(1), values)
    known = replace(
        one_per_row,
        old_values=critic * zero_padding(values=values, mask=value_mask),
        value_mask=value_mask,
        end_values=None if config.value_after_end == "zero" else critic * end_values,
    )
    return known.rows(rows)


def right_values(small: Small, rollout: Rollout, config: PPOConfig) -> tuple[Tensor, Tensor]:
    """(V before each token [N,T], V of the whole response [N]): the mean of what is still paid.

    Behind EOS it is the score where that is paid there, and 0 otherwise; where the length cut a
    response off it is taken to be 0.
    """
    world, mask = small.world, rollout.response_mask
    rewards = token_rewards(rollout, mask, config)
    to_go = rewards.flip(1).cumsum(1).flip(1)  # [N,T]
    p = response_probabilities(world, small.logits)
    weight = (p.unsqueeze(1) * mask).flatten()
    place = world.state_index.flatten()
    total = torch.zeros(len(world.states), dtype=torch.float64)
    value = total.index_add(0, place, weight * to_go.flatten())
    reach = total.index_add(0, place, weight)
    behind = rollout.scores if config.score_place == "after_eos" else 0 * rollout.scores
    room = mask.sum(dim=1) < mask.shape[1]
    return world.along_responses(value / reach), torch.where(room, behind, 0.0)


def mean_gradient(small: Small, config: PPOConfig, critic: float) -> Tensor:
    """Minus the gradient of the loss of PPO's first step, by the logits of every state, [K,V]."""
    rollout = whole_batch(small, config, critic)
    _, advantages, targets = estimate_advantages(rollout, config)
    logits = small.logits.clone().requires_grad_()
    rows = torch.arange(len(small.counts)).repeat_interleave(small.counts)
    logprobs = small.world.logprobs(logits)[rows]
    batch = Experience(rollout, advantages, targets, config.kl_coef)
    actions = actions_of(logprobs, batch, config)
    loss = clipped_surrogate_loss(**reduced(actions, config), cliprange=config.cliprange)
    if config.kl_loss != "none":
        loss = loss + kl_term(logprobs, batch, actions, config)
    return -torch.autograd.grad(loss, logits)[0]


def bias_and_cosine(found: Tensor, right: Tensor) -> tuple[float, float]:
    """(|m - c g| / |c g| with c g the part of m along g, the cosine of m and g)."""
    along = (found * right).sum() / (right * right).sum()
    cosine = (found * right).sum() / (found.norm() * right.norm())
    return ((found - along * right).norm() / (along * right).norm()).item(), cosine.item()


def table(worlds: int = 10) -> list[dict[str, Any]]:
    """A row per choice: the median bias and the least cosine over the worlds, for both critics.

    The right gradient is that of the objective with the scores that the EOS rule makes.
    """
    rows = []
    for name, settings in CHOICES:
        config = PPOConfig(**{**PLAIN, **settings})
        row: dict[str, Any] = {"choice": name}
        for critic, label in ((1.0, "right critic"), (0.5, "half critic")):
            found = []
            for seed in range(worlds):
                small = small_world(seed)
                logits = small.logits.clone().requires_grad_()
                (right,) = torch.autograd.grad(objective(small, logits, config), logits)
                found.append(bias_and_cosine(mean_gradient(small, config, critic), right))
            biases, cosines = (torch.tensor(column) for column in zip(*found, strict=True))
            row[label] = {"bias": biases.median().item(), "cosine": cosines.min().item()}
        rows.append(row)
    return rows


@command
def main(arguments: Sequence[str] | None = None) -> int:
    """The command; returns its exit status."""
    parser = Parser(prog="python -m minippo.exact.choices", description=__doc__)
    parser.parse_args(arguments)
    torch.set_num_threads(1)  # tensors of a few numbers
    print(f"{'':40}{'right critic':>20}{'half critic':>20}")
    print(f"{'choice':40}" + f"{'bias':>11}{'cosine':>9}" * 2)
    for row in table():
        numbers = [row[label] for label in ("right critic", "half critic")]
        text = "".join(f"{x['bias']:>11.1e}{x['cosine']:>9.3f}" for x in numbers)
        print(f"{row['choice']:40}{text}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
