"""The conditions of sentences that hold in one place and are said of all: more rows for `python -m
minippo.exact.qualifications`, which prints them after its own."""

import functools
import math
import statistics
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from minippo.exact.estimators import bias_and_variance, gradient_samples
from minippo.exact.ladder import gae, make_world, reward_functions, weighted
from minippo.exact.oracle import (
    exact_gradient,
    reach_probabilities,
    response_probabilities,
    sequence_kl,
    values_and_action_values,
)
from minippo.exact.surrogates import exact_surrogate
from minippo.exact.world import GPTPolicy, TabularPolicy, World
from minippo.kl import exact_kl, kl_k2
from minippo.trpo import conjugate_gradient, fisher_vector_product, flat_gradient


def value_baseline_by_mean_reward(
    means: Sequence[float] = (0.0, 1.0, 2.0), bandits: int = 1000, arms: int = 5, seed: int = 0
) -> dict[str, Any]:
    """How often the baseline V has more variance than none, on softmax bandits whose rewards are
    normal with these means and standard deviation 1."""
    generator = torch.Generator().manual_seed(seed)
    logits, noise = (
        torch.randn(bandits, arms, generator=generator, dtype=torch.float64) for _ in range(2)
    )
    pi = torch.softmax(logits, dim=-1)
    norms = 1 - 2 * pi + (pi**2).sum(dim=1, keepdim=True)  # |grad log pi(a)|^2
    answers = {}
    for mean in means:
        rewards = noise + mean
        value = (pi * rewards).sum(dim=1, keepdim=True)
        # both variances are this second moment minus the same squared length of the gradient
        none, with_value = ((pi * (rewards - b) ** 2 * norms).sum(dim=1) for b in (0.0, value))
        answers[f"mean {mean:g}"] = {
            "V worse than no baseline": int((with_value > none).sum()),
            "of": bandits,
        }
    return answers


def lam_zero_with_shared_parameters(worlds: int = 24) -> dict[str, Any]:
    """In how many worlds lam = 0 with the exact V has more variance of the gradient than a larger
    lam: for a table, whose states share no parameter, and for a one-layer GPT, whose states do."""
    counts = {"table": 0, "GPT": 0}
    largest = 0.0
    for seed in range(worlds):
        world = World(reward_functions(seed)["dense"], response_length=3)
        for name, kind in (("table", TabularPolicy), ("GPT", GPTPolicy)):
            policy = kind(world, generator=torch.Generator().manual_seed(seed))
            exact = exact_gradient(world, policy)
            values, _ = values_and_action_values(world, policy().detach())
            variances = [
                bias_and_variance(world, policy, weighted(gae(lam)), exact, values=values)[1]
                for lam in (0.0, 0.25, 0.5, 0.75, 1.0)
            ]
            counts[name] += min(variances) < variances[0] * (1 - 1e-9)
            if name == "GPT":
                largest = max(largest, variances[0] / min(variances))
    return {**counts, "of": worlds, "largest ratio to the best lam, GPT": largest}


def mean_over_tokens_by_batch(sizes: Sequence[int] = (1, 2, 3, 128)) -> dict[str, Any]:
    """The bias (largest entry) of stages 5 and 6 as they are computed: the mean over the tokens of
    a batch, times the expected length; rewards on every token, GAE 0.95, the exact V.

    With g and n the gradient and the length of a response, a batch gives E[n] sum g / sum n. Of its
    B terms all have the same mean, so that is B E[n] E[g_1 / (n_1 + the sum of the others)], and
    the sum of lengths has a distribution that is quickly listed.
    """
    world, policy, values, _ = make_world(reward_functions(0)["dense"], 0)
    probabilities, gradients = gradient_samples(world, policy, weighted(gae(0.95)), values=values)
    lengths = world.response_mask.sum(dim=1)
    mean_length = probabilities @ lengths.double()
    one = torch.zeros(world.response_length + 1, dtype=torch.float64)
    one.index_add_(0, lengths, probabilities)  # P(n) of one response
    exact, others, biases = exact_gradient(world, policy), torch.ones(1, dtype=torch.float64), {}
    for size in range(1, max(sizes) + 1):
        if size in sizes:
            total = lengths.unsqueeze(1) + torch.arange(len(others))
            share = (others / total.clamp(min=1)).sum(dim=1)  # E[1 / sum n] given n_1
            mean = size * mean_length * ((probabilities * share) @ gradients)
            biases[f"batch of {size}"] = (mean - exact).abs().max().item()
        others = convolved(others, one)
    return biases


def convolved(p: Tensor, q: Tensor) -> Tensor:
    """The distribution of the sum of two independent counts."""
    padded = torch.nn.functional.pad(p, (len(q) - 1, len(q) - 1))
    return padded.unfold(0, len(q), 1) @ q.flip(0)


def k1_as_a_loss(steps: int = 10, learning_rate: float = 0.5, seed: int = 0) -> dict[str, Any]:
    """Gradient descent on the expectation of k1 alone, as a loss, over samples of the policy that
    it starts from.

    At that policy the gradient is 0. One push away from it, in a random direction, and every step
    lowers E_old[log pi] further, which is minus KL(old, new) plus a constant.
    """
    world = World(reward_functions(seed)["dense"], response_length=3)
    policy = TabularPolicy(world, generator=torch.Generator().manual_seed(seed))
    old_logits = policy().detach().clone()
    probabilities = response_probabilities(world, old_logits)

    def loss() -> Tensor:  # log pi_ref is a constant here
        return probabilities @ world.logprobs(policy()).sum(dim=1)

    first = flat_gradient(loss(), list(policy.parameters())).abs().max().item()
    with torch.no_grad():
        noise = torch.randn(policy.table.shape, generator=torch.Generator().manual_seed(seed))
        policy.table.add_(noise, alpha=0.1)
    kls = [sequence_kl(world, old_logits, policy()).item()]
    for _ in range(steps):
        (gradient,) = torch.autograd.grad(loss(), policy.table)
        with torch.no_grad():
            policy.table.sub_(gradient, alpha=learning_rate)
        kls.append(sequence_kl(world, old_logits, policy()).item())
    return {
        "gradient at the sampling policy": first,
        "KL(old, new) after one push": kls[0],
        f"after {steps} steps of the loss": kls[-1],
    }


def k2_as_a_value(scales: Sequence[float] = (0.1, 0.5, 1.0, 2.0)) -> dict[str, Any]:
    """The mean of k2 and the KL that it is to estimate, for two tokens whose logits are (s, -s) in
    the policy and (-s, s) in the reference."""
    answers = {}
    for scale in scales:
        logits = torch.tensor([[[scale, -scale]]], dtype=torch.float64)
        pi, ref = torch.log_softmax(logits, dim=-1), torch.log_softmax(-logits, dim=-1)
        mean = (pi.exp() * kl_k2(logprobs=pi, ref_logprobs=ref)).sum().item()
        answers[f"s {scale:g}"] = {
            "KL": exact_kl(logits=logits, ref_logits=-logits).item(),
            "mean of k2": mean,
        }
    return answers


def where_a_ratio_overflows() -> dict[str, Any]:
    """The largest log-ratio whose ratio is finite, by the type of the numbers."""
    types = (torch.float16, torch.bfloat16, torch.float32, torch.float64)
    return {str(dtype).removeprefix("torch."): math.log(torch.finfo(dtype).max) for dtype in types}


def conjugate_gradient_loses_its_orthogonality(
    seeds: Sequence[int] = range(10), iterations: Sequence[int] = (1, 3, 10)
) -> dict[str, Any]:
    """How far the residual after some products is from being orthogonal to the first one, b itself:
    |cosine|. In exact arithmetic it is 0. The system is that of the exact TRPO
    step."""
    cosines = {k: [] for k in iterations}
    for seed in seeds:
        world = World(reward_functions(seed)["outcome-only"], response_length=4)
        generator = torch.Generator().manual_seed(seed)
        policy = GPTPolicy(world, generator=generator, n_embd=4)
        parameters, old_logits = list(policy.parameters()), policy().detach()
        tokens = reach_probabilities(world, old_logits).sum()
        b = flat_gradient(exact_surrogate(world, policy, old_logits)(), parameters)
        kl = sequence_kl(world, old_logits, policy()) / tokens
        matvec = functools.partial(
            fisher_products, flat_gradient(kl, parameters, create_graph=True), parameters
        )
        for k in iterations:
            residual = b - matvec(conjugate_gradient(matvec, b, iterations=k, tolerance=0.0))
            cosines[k].append(abs(residual @ b).item() / (residual.norm() * b.norm()).item())
    return {
        f"{k} products": {"median": statistics.median(found), "largest": max(found)}
        for k, found in cosines.items()
    }


def fisher_products(kl_gradient: Tensor, parameters: Sequence[Tensor], vector: Tensor) -> Tensor:
    return fisher_vector_product(
        kl_gradient=kl_gradient, parameters=parameters, vector=vector, damping=1e-3
    )


CONDITIONS = (
    (
        "V is often worse than no baseline: where the mean reward is 0, the standard deviation 1",
        value_baseline_by_mean_reward,
    ),
    (
        "With the exact V lam 0 has the least variance: in a table; not always with shared "
        "parameters",
        lam_zero_with_shared_parameters,
    ),
    (
        "The surrogate has the gradient of J at the old policy: as a mean over tokens with a bias",
        mean_over_tokens_by_batch,
    ),
    (
        "k1 as a loss does nothing: at the policy that sampled; later it pushes away from it",
        k1_as_a_loss,
    ),
    ("k2 estimates the KL: where it is small", k2_as_a_value),
    ("A ratio is the exponential of a difference: where that is finite", where_a_ratio_overflows),
    (
        "Conjugate gradient keeps its residuals orthogonal: for few products",
        conjugate_gradient_loses_its_orthogonality,
    ),
)
