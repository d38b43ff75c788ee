"""What is said of the derivation, and what the sums say: python -m minippo.exact.qualifications

Each function measures one sentence that textbooks and tutorials say without its condition.
docs/qualifications.md quotes the output.
"""

import functools
import sys
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from minippo.commands.wrapper import Parser, command
from minippo.exact.conditions import CONDITIONS
from minippo.exact.estimators import bias_and_variance, gradient_samples, mean_and_covariance
from minippo.exact.ladder import (
    Loss,
    Weights,
    make_world,
    minus_batch_mean,
    minus_constant,
    reward_functions,
    to_go,
    weighted,
    whole_returns,
)
from minippo.exact.oracle import exact_gradient, objective, reach_probabilities, sequence_kl
from minippo.exact.surrogates import (
    exact_advantages,
    exact_surrogate,
    sampled_batch,
    sampled_surrogate,
)
from minippo.exact.training import train_with_kl_in_reward
from minippo.exact.world import GPTPolicy, TabularPolicy, World
from minippo.kl import kl_k1, kl_k2, kl_k3
from minippo.logprobs import token_ratios
from minippo.ppo import clipped_surrogate_loss
from minippo.reward_to_go import rewards_to_go
from minippo.trpo import Effort, surrogate_loss, trpo_step


def variances(kind: str, losses: Sequence[Loss], seed: int) -> list[float]:
    """Total variances of unbiased estimators in the ladder's world of this kind of reward."""
    world, policy, *_ = make_world(reward_functions(seed)[kind], seed)
    exact = exact_gradient(world, policy)
    return [bias_and_variance(world, policy, loss, exact)[1] for loss in losses]


def reward_to_go_on_outcomes(seeds: Sequence[int] = range(5)) -> dict[str, Any]:
    """Largest relative difference between the variances of stage 1 and stage 2 when the only reward
    is the last."""
    pairs = [
        variances("outcome-only", (weighted(whole_returns), weighted(to_go)), seed)
        for seed in seeds
    ]
    return {"largest relative difference": max(abs(a - b) / a for a, b in pairs)}


def reward_to_go_on_cancelling_rewards(seeds: Sequence[int] = range(5)) -> dict[str, Any]:
    """Variances of stage 1 and stage 2 when the last token pays back what the first was paid."""
    pairs = [
        variances("cancelling", (weighted(whole_returns), weighted(to_go)), seed) for seed in seeds
    ]
    return {
        "policy gradient, largest": max(a for a, _ in pairs),
        "reward-to-go, least": min(b for _, b in pairs),
        "reward-to-go, largest": max(b for _, b in pairs),
    }


def value_baseline_on_bandits(bandits: int = 1000, arms: int = 5, seed: int = 0) -> dict[str, Any]:
    """How often the baseline V is worse than none on random softmax bandits, and how far it is from
    the best constant.

    logits and rewards are standard normal. The total variance of (r_a - b) grad log pi(a) is
    sum_a pi_a (r_a - b)^2 n_a - |grad J|^2 with n_a = |grad log pi(a)|^2 = 1 - 2 pi_a + sum_c
    pi_c^2.
    """
    generator = torch.Generator().manual_seed(seed)
    logits, rewards = (
        torch.randn(bandits, arms, generator=generator, dtype=torch.float64) for _ in range(2)
    )
    pi = torch.softmax(logits, dim=-1)
    norms = 1 - 2 * pi + (pi**2).sum(dim=1, keepdim=True)
    value = (pi * rewards).sum(dim=1, keepdim=True)
    best = (pi * norms * rewards).sum(dim=1, keepdim=True) / (pi * norms).sum(dim=1, keepdim=True)
    gradient_norm = ((pi * (rewards - value)) ** 2).sum(dim=1)
    none, with_value, with_best = (
        (pi * (rewards - b) ** 2 * norms).sum(dim=1) - gradient_norm for b in (0.0, value, best)
    )
    return {
        "bandits": bandits,
        "V worse than no baseline": int((with_value > none).sum()),
        "V no worse than the best constant": int((with_value <= with_best * (1 + 1e-12)).sum()),
        "median of variance with V / with the best": (with_value / with_best).median().item(),
    }


def large_constant_baseline(seed: int = 0) -> dict[str, Any]:
    """Bias and variance of stage 1 minus a constant, outcome-only reward."""
    world, policy, *_ = make_world(reward_functions(seed)["outcome-only"], seed)
    exact = exact_gradient(world, policy)
    return {
        f"constant {constant:g}": bias_and_variance(
            world, policy, weighted(minus_constant(constant)), exact
        )
        for constant in (0.0, 1.0, 10.0, 100.0)
    }


def in_sample_mean(seed: int = 0) -> dict[str, Any]:
    """The expected gradient with the batch's own mean as baseline, as a multiple of the exact one;
    whole returns."""
    world = World(reward_functions(seed)["dense"], response_length=2)
    policy = TabularPolicy(world, generator=torch.Generator().manual_seed(seed))
    exact, multiples = exact_gradient(world, policy), {}
    for n in (2, 3):
        mean, _ = mean_and_covariance(
            *gradient_samples(world, policy, weighted(minus_batch_mean), size=n)
        )
        factor = (mean @ exact / (exact @ exact)).item()
        multiples[f"n = {n}"] = {
            "factor": factor,
            "residual": (mean - factor * exact).abs().max().item(),
        }
    return multiples


def discounted_gradient(
    seed: int = 0, gammas: Sequence[float] = (1.0, 0.99, 0.9, 0.5)
) -> dict[str, Any]:
    """Bias of sum_t G_t grad log pi_t for the discounted J, relative to the gradient's size,
    without and with gamma^t."""
    world, policy, *_ = make_world(reward_functions(seed)["dense"], seed)
    answers = {}
    for gamma in gammas:
        exact = exact_gradient(world, policy, gamma)
        answers[f"gamma {gamma:g}"] = {
            name: (
                bias_and_variance(world, policy, weighted(weights(gamma)), exact)[0]
                / exact.abs().max()
            ).item()
            for name, weights in (
                ("without gamma^t", discounted_to_go),
                ("with gamma^t", discounted_to_go_from_the_start),
            )
        }
    return answers


def discounted_to_go(gamma: float) -> Weights:
    """What is usually written: G_t, the discounted sum from token t on."""
    return lambda batch: rewards_to_go(
        rewards=batch.rewards, response_mask=batch.response_mask, gamma=gamma
    )


def discounted_to_go_from_the_start(gamma: float) -> Weights:
    """What the gradient of the discounted J has: gamma^t G_t."""
    return lambda batch: (
        gamma ** torch.arange(batch.rewards.shape[1]).double() * discounted_to_go(gamma)(batch)
    )


def ratios_after_clipping(
    seeds: Sequence[int] = range(10),
    steps: int = 20,
    cliprange: float = 0.2,
    learning_rate: float = 1e-2,
) -> dict[str, Any]:
    """Where the ratios of a batch of 64 are after Adam steps, clipped or not; a one-layer GPT,
    exact advantages."""
    losses = {
        "clipped": functools.partial(clipped_surrogate_loss, cliprange=cliprange),
        "unclipped": surrogate_loss,
    }
    answers = {}
    for name, loss in losses.items():
        ratios = [ratios_after(loss, seed, steps, learning_rate) for seed in seeds]
        shares = [((x - 1).abs() > cliprange).double().mean().item() for x in ratios]
        answers[f"{name}, {steps} steps"] = {
            "share of tokens outside, mean over seeds": sum(shares) / len(shares),
            "least share": min(shares),
            "ratios from": min(x.min().item() for x in ratios),
            "to": max(x.max().item() for x in ratios),
        }
    return answers


def ratios_after(
    loss: Callable[..., Tensor], seed: int, steps: int, learning_rate: float
) -> Tensor:
    """The ratios of the tokens of a batch of 64 after some steps of Adam on it."""
    generator = torch.Generator().manual_seed(seed)
    world = World(reward_functions(seed)["outcome-only"], response_length=4)
    policy = GPTPolicy(world, generator=generator)
    index = sampled_batch(world, policy, 64, generator)
    old_logits, mask = policy().detach(), world.response_mask[index]
    data = {"old_logprobs": world.logprobs(old_logits)[index], "response_mask": mask}
    advantages = exact_advantages(world, old_logits)[index]
    optimizer = torch.optim.Adam(policy.parameters(), lr=learning_rate)
    for _ in range(steps):
        optimizer.zero_grad()
        loss(logprobs=world.logprobs(policy())[index], advantages=advantages, **data).backward()
        optimizer.step()
    return token_ratios(logprobs=world.logprobs(policy().detach())[index], **data)[mask]


def trpo_can_lower_the_objective(
    deltas: Sequence[float] = (1e-3, 1e-2, 1e-1, 1.0),
    seeds: Sequence[int] = range(50),
    rows: int = 16,
) -> dict[str, Any]:
    """In how many of the seeds one TRPO step lowers J, with exact advantages and expectations, and
    with a batch of 16."""
    counts = {}
    for delta in deltas:
        exact = [trpo_step_of(None, seed, delta) for seed in seeds]
        sampled = [trpo_step_of(rows, seed, delta) for seed in seeds]
        counts[f"delta {delta:g}"] = {
            "exact": sum(gain < 0 for gain, _ in exact),
            "sampled": sum(gain < 0 for gain, _ in sampled),
            "of": len(seeds),
            "largest KL / delta": max(kl / delta for _, kl in exact + sampled),
        }
    return counts


def trpo_step_of(rows: int | None, seed: int, delta: float) -> tuple[float, float]:
    """(what one TRPO step adds to J, its KL), from a batch of so many rows; from exact expectations
    when `rows` is None.

    The KL is the exact mean over the old policy's tokens, in both. A one-layer GPT, outcome-only
    reward.
    """
    generator = torch.Generator().manual_seed(seed)
    world = World(reward_functions(seed)["outcome-only"], response_length=4)
    policy = GPTPolicy(world, generator=generator, n_embd=4)
    old_logits = policy().detach()
    tokens = reach_probabilities(world, old_logits).sum()
    if rows is None:
        loss = exact_surrogate(world, policy, old_logits)
    else:
        index = sampled_batch(world, policy, rows, generator)
        loss = sampled_surrogate(world, policy, old_logits, index)

    def kl() -> Tensor:
        return sequence_kl(world, old_logits, policy()) / tokens

    # F x = g to the last digits: after ten products the answer, and with it this count, hangs on
    # how the machine rounds
    effort = Effort(iterations=100, tolerance=1e-16)
    parameters = policy.parameters()
    trpo_step(loss=loss, kl=kl, parameters=parameters, delta=delta, damping=1e-3, effort=effort)
    gain = objective(world, policy()) - objective(world, old_logits)
    return gain.item(), kl().item()


def kl_estimators_in_the_reward(
    seed: int = 0, kl_coef: float = 0.5, steps: int = 1200, learning_rate: float = 2.0
) -> dict[str, Any]:
    """Total variation to the optimal policy after exact gradient ascent with k1, k2 or k3 in the
    reward."""
    answers = {}
    for name, estimator in (("k1", kl_k1), ("k2", kl_k2), ("k3", kl_k3)):
        world = World(reward_functions(seed)["dense"], response_length=3)
        policy = TabularPolicy(world, generator=torch.Generator().manual_seed(seed))
        records = train_with_kl_in_reward(
            world,
            policy,
            kl_estimator=estimator,
            kl_coef=kl_coef,
            steps=steps,
            learning_rate=learning_rate,
            record_every=max(1, steps // 6),
        )
        answers[name] = {f"step {row['step']}": row["total variation"] for row in records} | {
            "largest logit at the end": records[-1]["largest logit"]
        }
    return answers


QUALIFICATIONS = (
    (
        "Reward-to-go lowers the variance: not with an outcome-only "
        "reward, where it changes nothing",
        reward_to_go_on_outcomes,
    ),
    (
        "Reward-to-go lowers the variance: not with cancelling rewards, where it raises it",
        reward_to_go_on_cancelling_rewards,
    ),
    (
        "The value function is the baseline with the least variance: it is not",
        value_baseline_on_bandits,
    ),
    (
        "Any constant baseline will do: without bias, (bias, variance) below",
        large_constant_baseline,
    ),
    ("Subtract the mean of the batch: it scales the gradient by (n-1)/n", in_sample_mean),
    (
        "The policy gradient with a discount: without gamma^t it is biased for the discounted J",
        discounted_gradient,
    ),
    ("Clipping keeps the ratio within 1 +- 0.2: it does not", ratios_after_clipping),
    ("TRPO improves monotonically: seeds in which one step lowers J", trpo_can_lower_the_objective),
    (
        "k1, k2 and k3 all estimate the KL; in the reward only k1 leads to the optimal policy "
        "(total variation)",
        kl_estimators_in_the_reward,
    ),
    *CONDITIONS,
)


def as_text(value: object) -> str:
    """A number, a tuple or a dict on one line."""
    if isinstance(value, dict):
        return ", ".join(f"{name} {as_text(item)}" for name, item in value.items())
    if isinstance(value, tuple):
        return "(" + ", ".join(map(as_text, value)) + ")"
    return f"{value:.3g}" if isinstance(value, float) else str(value)


@command
def main(arguments: Sequence[str] | None = None) -> int:
    """The command; returns its exit status."""
    Parser(
        prog="python -m minippo.exact.qualifications",
        description="What is often said about policy gradients, with the condition that is left "
        "out, in numbers. It takes no arguments and about a minute.",
    ).parse_args(arguments)
    torch.set_num_threads(1)  # tensors of a few numbers: more threads only wait for each other
    for sentence, measure in QUALIFICATIONS:
        print(sentence, flush=True)
        for name, value in measure().items():
            print(f"    {name}: {as_text(value)}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
