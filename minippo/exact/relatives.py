"""The rows of python -m minippo.exact.family: what each method's step is, where it ends, and whom
it favours. The columns are explained in docs/family.md.
"""

from functools import partial
from typing import Any

import torch
from torch import Tensor

from minippo.exact.ends import End, end_of, same_end
from minippo.exact.first_step import (
    bias_and_variance,
    difficulty,
    length_slopes,
    length_weights,
    stale_bias,
)
from minippo.exact.groups import Problem, all_groups, make_problem
from minippo.exact.methods import METHODS, Estimator, Method
from minippo.exact.oracle import response_probabilities, total_variation
from minippo.exact.pairs import minimum
from minippo.relatives import direct
from minippo.relatives import groups as relative
from minippo.relatives.selection import best_of_n_probabilities

GROUP_SIZE, OTHER_STARTS, BEST_OF = 4, 3, 4
ADVANTAGES = {
    "leave one out": relative.leave_one_out_advantages,
    "centred": relative.centred_advantages,
    "standardised": relative.standardised_advantages,
}
SIZES = (2, 3, 4, 8, 16, 64)


def random_logits(problem: Problem, seed: int) -> Tensor:
    """A policy that is neither the reference nor the best."""
    generator = torch.Generator().manual_seed(1000 + seed)
    shape = problem.ref_logits.shape
    return torch.randn(shape, generator=generator, dtype=torch.float64)


def share_of_best(problem: Problem, logits: Tensor) -> float:
    """(J - J(ref)) / (J* - J(ref)) with J = E[score] - kl_coef KL."""
    reached, ref, best = (
        problem.objective(x).item() for x in (logits, problem.ref_logits, problem.best())
    )
    return (reached - ref) / (best - ref)


def step_row(problem: Problem, method: Method, seed: int) -> dict[str, Any]:
    """The first step at a random policy, and one after the policy has moved."""
    groups = all_groups(problem.world, GROUP_SIZE)
    logits = random_logits(problem, seed)
    published = Estimator(problem, method, groups, method.kl)
    rewarded = Estimator(problem, method, groups, "reward")
    return {
        "name": method.name,
        "kl": method.kl,
        "published": bias_and_variance(published, logits),
        "k1": bias_and_variance(rewarded, logits),
        "stale": stale_bias(problem, method, groups, logits) if method.free else None,
        "length weights": length_weights(groups, published.factors, problem.ref_logits),
        "length slopes": length_slopes(problem, method, groups),
        "critic": method.critic,
    }


class Ends:
    """The ends of methods in one problem; methods with one mean field are followed once."""

    def __init__(self, problem: Problem, seed: int) -> None:
        self.problem, self.best = problem, problem.best()
        self.groups = all_groups(problem.world, GROUP_SIZE)
        self.starts = [problem.ref_logits] + [
            random_logits(problem, 100 + seed + number) for number in range(OTHER_STARTS)
        ]
        self.known: list[tuple[Estimator, dict[str, Any]]] = []

    def of(self, method: Method, kl: str) -> dict[str, Any]:
        """{"kind", "response", "total variation", "share", "same from other starts"}."""
        estimator = Estimator(self.problem, method, self.groups, kl)
        for other, row in self.known:
            if is_same_field(other, estimator):
                return row
        row = self.row(estimator)
        self.known.append((estimator, row))
        return row

    def row(self, estimator: Estimator) -> dict[str, Any]:
        world = self.problem.world
        size = 0.5 / (self.problem.kl_coef * estimator.scale)
        ends = [end_of(world, estimator.step, start, self.best, size) for start in self.starts]
        same = all(same_end(world, ends[0], end) for end in ends[1:])
        return end_row(self.problem, ends[0]) | {"same from other starts": same}


def is_same_field(one: Estimator, other: Estimator) -> bool:
    return (
        one.method.advantages is other.method.advantages
        and one.kl == other.kl
        and torch.allclose(one.factors, other.factors, rtol=0, atol=1e-7)
    )


def end_row(problem: Problem, end: End) -> dict[str, Any]:
    """What is said of an end; numbers are None where there is none."""
    found = end.kind != "none"
    tokens = None
    if end.response is not None:
        world = problem.world
        mask = world.response_mask[end.response]
        tokens = world.response_tokens[end.response][mask].tolist()
    apart = total_variation(problem.world, end.logits, problem.best()).item()
    return {
        "kind": end.kind,
        "steps": end.steps,
        "response": tokens,
        "is the best": end.response == int(problem.scores.argmax()),
        "total variation": apart if found else None,
        "share": share_of_best(problem, end.logits) if found else None,
    }


def direct_rows(problem: Problem) -> list[dict[str, Any]]:
    """DPO and its kin at beta = kl_coef, and the best of n."""
    beta = problem.kl_coef
    losses = {
        "dpo": (partial(direct.dpo_loss, beta=beta), 1 / beta**2),
        "dpo, smoothing 0.1": (
            partial(direct.label_smoothed_dpo_loss, beta=beta, label_smoothing=0.1),
            1 / beta**2,
        ),
        "ipo": (partial(direct.ipo_loss, beta=beta), 0.25),
    }
    rows = []
    for name, (loss, size) in losses.items():
        logits, found = minimum(problem, loss, size)
        end = End("interior" if found else "none", logits, 0)
        rows.append({"name": name} | end_row(problem, end))
    return [*rows, *best_of_n_rows(problem)]


def best_of_n_rows(problem: Problem) -> list[dict[str, Any]]:
    """The best of n of the reference once, which is one round of rft, and again and again."""
    ref, best = (
        response_probabilities(problem.world, x) for x in (problem.ref_logits, problem.best())
    )
    rows, p = [], ref
    for rounds in range(1, 51):
        p = best_of_n_probabilities(probabilities=p, scores=problem.scores, n=BEST_OF)
        if rounds in (1, 50):
            name = f"best of {BEST_OF}" + (f", {rounds} rounds" if rounds > 1 else " (rft once)")
            rows.append({"name": name, **distribution_row(problem, p, ref, best)})
    return rows


def distribution_row(problem: Problem, p: Tensor, ref: Tensor, best: Tensor) -> dict[str, Any]:
    """The same for a distribution over responses that no logits are known of."""

    def objective(q: Tensor) -> float:
        kl = torch.where(q > 0, q * (q / ref).log(), 0.0).sum()
        return ((q * problem.scores).sum() - problem.kl_coef * kl).item()

    reached, start, end = objective(p), objective(ref), objective(best)
    return {
        "kind": "closed form",
        "total variation": 0.5 * (p - best).abs().sum().item(),
        "share": (reached - start) / (end - start),
    }


def difficulty_rows() -> list[dict[str, Any]]:
    """c_G(0.01) / c_G(0.5) by kind of advantage and size of the group."""
    return [
        {"name": name}
        | {str(size): difficulty(f, size, 0.01) / difficulty(f, size, 0.5) for size in SIZES}
        for name, f in ADVANTAGES.items()
    ]


def placement_rows(worlds: int = 5) -> list[dict[str, Any]]:
    """How far towards the best objective the exact policy gradient of the score goes with the KL in
    the reward, or per token in the loss, in several worlds."""
    sums, rows = METHODS[0], []
    for name, kl in (
        ("k1 in the reward", "reward"),
        ("k2 in the loss", "k2"),
        ("k3 in the loss", "k3"),
    ):
        shares = []
        for seed in range(worlds):
            problem = make_problem(seed)
            estimator = Estimator(problem, sums, all_groups(problem.world, 1), kl)
            size = 0.125 / problem.kl_coef  # the slope of k3 is steep
            start = problem.ref_logits
            end = end_of(problem.world, estimator.step, start, problem.best(), size)
            shares.append(end_row(problem, end)["share"])
        rows.append({"name": name, "shares": shares})
    return rows
