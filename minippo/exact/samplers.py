"""When the samples are not the policy's own: another temperature, logits of 16 bits, or rollouts
that are some updates old; what weights for them repair. And the best of n beside the best policies
of the same KL.

The step is that of plain policy gradient with the mean score as its baseline, on samples of another
policy, weighted by (9.10): not at all, each token by its own ratio, or all tokens by the ratio of
the whole response.
"""

import math
from typing import Any

import torch
from torch import Tensor

from minippo.exact.ends import natural
from minippo.exact.first_step import along, right_gradient
from minippo.exact.groups import Problem, all_groups, mean_gradient
from minippo.exact.oracle import optimal_policy, response_probabilities, sequence_kl
from minippo.relatives.ratios import truncated_importance_weights
from minippo.relatives.selection import best_of_n_probabilities

INF = math.inf
WEIGHTS: dict[str, tuple[str, float] | None] = {  # name -> (level, weight_max)
    "none": None,
    "token": ("token", INF),
    "response": ("response", INF),
    "response, at most 2": ("response", 2.0),
}
TEMPERATURES, AGES, NUMBERS = (0.8, 0.9, 1.1), (1, 2, 4, 8, 16), (2, 4, 8, 16, 64)
ROUNDED = {"bfloat16 logits": torch.bfloat16, "float16 logits": torch.float16}
UPDATE = 0.1  # natural step of the objective that is called an update


def weighted_biases(problem: Problem, learner: Tensor, sampler: Tensor) -> dict[str, float]:
    """The bias of the learner's step on samples of the sampler, by kind of weight; the right
    gradient is that of E[score]."""
    world = problem.world
    responses = all_groups(world, 1)
    p = responses.probabilities(sampler)
    centred = problem.scores - response_probabilities(world, learner) @ problem.scores
    old, other = world.logprobs(learner), world.logprobs(sampler)
    biases = {}
    for name, kind in WEIGHTS.items():
        weights = torch.ones_like(old)
        if kind is not None:
            weights = truncated_importance_weights(
                old_logprobs=old,
                sampler_logprobs=other,
                response_mask=world.response_mask,
                level=kind[0],
                weight_max=kind[1],
            )
        per_token = (centred.unsqueeze(1) * weights)[responses.rows]
        mean = mean_gradient(responses, p, learner, per_token)
        biases[name] = along(mean.flatten(), right_gradient(problem, learner, 0.0).flatten())
    return {name: numbers["bias"] for name, numbers in biases.items()}


def policies(problem: Problem, updates: int) -> list[Tensor]:
    """The reference, and the policy after each of some exact updates."""
    path = [problem.ref_logits.log_softmax(-1)]
    for _ in range(updates):
        step = right_gradient(problem, path[-1], problem.kl_coef)
        moved = path[-1] + UPDATE * natural(problem.world, path[-1], step)
        path.append(moved.log_softmax(-1))
    return path


def sampler_rows(problem: Problem) -> list[dict[str, Any]]:
    """[{"name", "kl" (sampler || learner), one bias per kind of weight}]."""
    path = policies(problem, max(AGES))
    learner = path[-1]
    samplers = {f"temperature {t:g}": learner / t for t in TEMPERATURES}
    samplers |= {name: learner.to(dtype).double() for name, dtype in ROUNDED.items()}
    samplers |= {f"{age} update{'s' if age > 1 else ''} old": path[-1 - age] for age in AGES}
    return [
        {"name": name, "kl": sequence_kl(problem.world, sampler, learner).item()}
        | weighted_biases(problem, learner, sampler)
        for name, sampler in samplers.items()
    ]


def frontier_score(problem: Problem, kl: float) -> float:
    """The most that E[score] can be at a KL to the reference: of pi_ref exp(score / price) / Z, at
    the price that has this KL."""
    low, high = 1e-3, 1e3
    for _ in range(100):
        price = math.sqrt(low * high)
        logits, _ = optimal_policy(problem.world, problem.ref_logits, price)
        reached = sequence_kl(problem.world, logits, problem.ref_logits).item()
        low, high = (price, high) if reached > kl else (low, price)
    return (response_probabilities(problem.world, logits) @ problem.scores).item()


def best_of_n_frontier(problem: Problem) -> list[dict[str, float]]:
    """[{"n", "kl", "bound" log n - (n-1)/n, "score", "frontier": the most at this KL}]."""
    ref = response_probabilities(problem.world, problem.ref_logits)
    rows = []
    for n in NUMBERS:
        p = best_of_n_probabilities(probabilities=ref, scores=problem.scores, n=n)
        kl = torch.where(p > 0, p * (p / ref).log(), 0.0).sum().item()
        rows.append(
            {
                "n": n,
                "kl": kl,
                "bound": math.log(n) - (n - 1) / n,
                "score": (p @ problem.scores).item(),
                "frontier": frontier_score(problem, kl),
            }
        )
    return rows
