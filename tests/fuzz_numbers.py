"""Random inputs for every function of the derivation and of PPO's relatives, in float32 with values
up to 1e38.

    python tests/fuzz_numbers.py [100000] [--seed 0]

Each input is computed in float32 and, from the same numbers, in float64. The float32 result must be
the right one (to 1e-3 of itself, or 1e-5 of what the same sum has without its signs), or an
infinity where a sum of that size does not fit float32 (a NaN where two infinities meet, or one and
a 0, but in no surrogate), or a ValueError. Any other NaN, a finite number that is wrong, or another
error ends the fuzzing with the input that made it. tests/test_fuzz_numbers.py tries a few thousand.
"""

import argparse
import inspect
import math
import random
import sys
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from minippo import (  # noqa: E402
    baseline,
    gae,
    kl,
    logprobs,
    masked,
    policy_gradient,
    ppo,
    reward_head,
    reward_to_go,
    shaped_reward,
    trpo,
)
from minippo.relatives import direct, groups, kl_losses, ratios, reductions, selection  # noqa: E402

FUNCTIONS: list[Callable[..., Any]] = [
    masked.zero_padding,
    masked.masked_sum,
    masked.masked_mean,
    masked.masked_variance,
    masked.whiten,
    masked.scale_to_unit_std,
    logprobs.token_logprobs,
    logprobs.token_entropy,
    logprobs.token_ratios,
    logprobs.mean_weighted_ratio,
    kl.kl_k1,
    kl.kl_k2,
    kl.kl_k3,
    kl.exact_kl,
    kl.k1_variance,
    policy_gradient.trajectory_returns,
    policy_gradient.policy_gradient_loss,
    reward_to_go.rewards_to_go,
    baseline.baseline_advantages,
    baseline.value_loss,
    baseline.batch_mean_baseline,
    baseline.leave_one_out_baseline,
    gae.td_residuals,
    gae.n_step_advantages,
    gae.gae_advantages,
    gae.value_targets,
    trpo.surrogate_loss,
    trpo.mean_kl,
    trpo.sampled_kl,
    ppo.unclipped_surrogate_loss,
    ppo.clipped_surrogate_loss,
    ppo.kl_penalised_surrogate_loss,
    ppo.clipped_value_loss,
    shaped_reward.shaped_rewards,
    reward_head.bradley_terry_loss,
    # the relatives, but for overlong_penalty and token_factors, which read lengths only
    groups.leave_one_out_advantages,
    groups.centred_advantages,
    groups.standardised_advantages,
    groups.token_weights,
    reductions.token_mean,
    reductions.sequence_mean,
    reductions.sequence_sum,
    reductions.constant_mean,
    ratios.sequence_surrogate_loss,
    ratios.gspo_surrogate_loss,
    ratios.asymmetric_clipped_surrogate_loss,
    ratios.dual_clipped_surrogate_loss,
    ratios.cispo_loss,
    ratios.truncated_importance_weights,
    direct.dpo_loss,
    direct.label_smoothed_dpo_loss,
    direct.ipo_loss,
    selection.best_of_n_probabilities,
    *(form.loss for form in kl_losses.KL_LOSSES.values()),
]
# an advantage belongs to a response there, or the whole loss does
OF_RESPONSES = (
    groups.token_weights,
    ratios.sequence_surrogate_loss,
    ratios.gspo_surrogate_loss,
    *(form.loss for form in kl_losses.KL_LOSSES.values() if form.per_response),
)
LARGEST = torch.finfo(torch.float32).max
V = 4


def number(rng: random.Random, most: float) -> float:
    """0, or a number of any size up to 10^most, more often than not a moderate one."""
    if rng.random() < 0.1:
        return 0.0
    exponent = rng.uniform(-3, 1) if rng.random() < 0.5 else rng.uniform(-38, most)
    return rng.choice((-1, 1)) * rng.uniform(1, 9) * 10 ** min(exponent, 37.5)


def tensor(rng: random.Random, *shape: int) -> torch.Tensor:
    """All of its numbers are of one kind: moderate, large, or anything."""
    most = rng.choice((1.0, 19.0, 38.0))
    numbers = [number(rng, most) for _ in range(math.prod(shape))]
    return torch.tensor(numbers, dtype=torch.float32).view(shape)


def arguments_for(function: Callable[..., Any], rng: random.Random) -> dict[str, Any]:
    """Arguments of the right shapes and any size."""
    B, T = rng.randint(2, 3), rng.randint(1, 4)
    lengths = torch.tensor([[rng.randint(1, T)] for _ in range(B)])
    made: dict[str, Callable[[], Any]] = {
        "mask": lambda: torch.arange(T) < lengths,
        "response_mask": lambda: torch.arange(T) < lengths,
        "tokens": lambda: torch.tensor([[rng.randrange(V) for _ in range(T)] for _ in range(B)]),
        "logits": lambda: tensor(rng, B, T, V),
        "ref_logits": lambda: tensor(rng, B, T, V),
        "old_logits": lambda: tensor(rng, B, T, V),
        "scores": lambda: tensor(rng, B),
        "chosen_scores": lambda: tensor(rng, B),
        "rejected_scores": lambda: tensor(rng, B),
        "gamma": lambda: rng.choice((0.0, 1.0, rng.random())),
        "lam": lambda: rng.choice((0.0, 1.0, rng.random())),
        "n": lambda: rng.randint(1, 5),
        "cliprange": lambda: rng.choice((0.2, math.inf, 10 ** rng.uniform(-6, 38))),
        "cliprange_value": lambda: rng.choice((0.2, math.inf, 10 ** rng.uniform(-6, 38))),
        "kl_coef": lambda: 10 ** rng.uniform(-6, 6),
        "kl_old_coef": lambda: 10 ** rng.uniform(-6, 6),
        **for_relatives(rng, B, T),
    }
    if function in OF_RESPONSES:
        made["advantages"] = lambda: tensor(rng, B)
    names = inspect.signature(function).parameters
    return {name: made.get(name, lambda: tensor(rng, B, T))() for name in names}


def for_relatives(rng: random.Random, B: int, T: int) -> dict[str, Callable[[], Any]]:
    """The same for what only PPO's relatives are given."""
    bounds = ("cliprange_low", "cliprange_high", "dual_clip", "ratio_max", "weight_max")
    pairs = [f"{ref}{which}_logprobs" for ref in ("", "ref_") for which in ("chosen", "rejected")]
    return {
        **dict.fromkeys(bounds, lambda: rng.choice((3.0, math.inf, 10 ** rng.uniform(-6, 38)))),
        **dict.fromkeys(pairs, lambda: tensor(rng, B)),
        "group_size": lambda: B,
        "correction": lambda: rng.randint(0, 1),
        "length": lambda: rng.randint(1, T),
        "level": lambda: rng.choice(("token", "response")),
        "beta": lambda: 10 ** rng.uniform(-6, 6),
        "label_smoothing": lambda: rng.choice((0.0, rng.uniform(0, 0.49))),
        "probabilities": lambda: tensor(rng, B).softmax(dim=0),
    }


TERMS = ("values", "rewards", "advantages", "weights", "value_targets", "old_values", "scores")
NEVER_NAN = (logprobs.mean_weighted_ratio, ratios.cispo_loss)
# a ratio that is infinite meets another with the opposite sign there, or a KL of 0
BARE_RATIOS = (kl_losses.k1_response_loss, kl_losses.k2_response_loss, kl_losses.weighted_k1_loss)
OF_ALL_ROWS = (baseline.batch_mean_baseline, baseline.leave_one_out_baseline)


def in_double(arguments: dict[str, Any]) -> dict[str, Any]:
    """The same numbers in float64."""
    return {
        name: x.double() if isinstance(x, torch.Tensor) and x.is_floating_point() else x
        for name, x in arguments.items()
    }


def rounding_of(function: Callable[..., Any], arguments: dict[str, Any]) -> torch.Tensor | float:
    """What the rounding errors of a result are a share of: 1 for logarithms of probabilities, and
    else the largest of the terms that it sums, which are those of its row."""
    if "logits" in arguments or "chosen_scores" in arguments:
        return 1.0
    if "group_size" in arguments or "probabilities" in arguments:  # summed in float64
        return 0.0
    terms = [arguments[name].double().abs() for name in TERMS if name in arguments]
    if not terms:
        return 0.0
    rows = torch.stack([x.flatten(1).amax(dim=1) if x.dim() > 1 else x for x in terms]).sum(dim=0)
    if function is baseline.leave_one_out_baseline:
        own = torch.eye(len(rows), dtype=torch.bool)
        rows = rows.expand(len(rows), -1).masked_fill(own, 0.0).amax(dim=1)
    return rows.unsqueeze(1)  # [B,1]


def size_of_a_sum(function: Callable[..., Any], arguments: dict[str, Any]) -> float:
    """The size of what a scalar is the sum of, without its signs: the rounding errors of a mean are
    a share of it."""
    if function.__module__.startswith("minippo.relatives") and "values" not in arguments:
        return mean_of_parts(function, in_double(arguments))
    changed = {name: x.abs() if name in TERMS else x for name, x in in_double(arguments).items()}
    return float(function(**changed).abs())


def mean_of_parts(function: Callable[..., Any], arguments: dict[str, Any]) -> float:
    """The same for a mean over responses or tokens: the function of each of them alone."""
    tensors = {name: x for name, x in arguments.items() if isinstance(x, torch.Tensor)}
    B, *T = next(iter(tensors.values())).shape
    parts: list[Any] = [slice(b, b + 1) for b in range(B)]
    if function not in OF_RESPONSES and T:
        slots = arguments["response_mask"].nonzero().tolist()
        parts = [(slice(b, b + 1), slice(t, t + 1)) for b, t in slots]
    sizes = [
        abs(float(function(**arguments | {name: x[part] for name, x in tensors.items()})))
        for part in parts
    ]
    return sum(sizes) / len(sizes)


def largest_part(function: Callable[..., Any], arguments: dict[str, Any]) -> float:
    """No part of the work is larger; where it does not fit float32, an infinity is no surprise."""
    floats = [
        x.double().abs().max().item()
        for x in arguments.values()
        if isinstance(x, torch.Tensor) and x.is_floating_point()
    ]
    numbers = [abs(x) for x in arguments.values() if isinstance(x, float) and math.isfinite(x)]
    if function in BARE_RATIOS and not math.isfinite(mean_of_parts(function, arguments)):
        return math.inf
    squared = ("variance", "value_loss", "k2", "ipo", "whiten", "scale_to_unit_std")
    if any(word in function.__name__ for word in squared):
        return (4 * max(floats)) ** 2
    if function in (policy_gradient.policy_gradient_loss, ratios.cispo_loss):
        return 16 * math.prod(floats)
    return 16 * len(floats) * max(floats) * max([1.0, *numbers])


def judge(function: Callable[..., Any], arguments: dict[str, Any]) -> str:
    """ "right", "refused" or "infinite"; AssertionError for anything else."""
    try:
        result = function(**arguments)
    except ValueError:
        return "refused"
    wanted = function(**in_double(arguments))
    of_two_infinities = largest_part(function, arguments) > LARGEST
    never_nan = "surrogate" in function.__name__ or function in NEVER_NAN
    if bool(result.isnan().any()):
        assert of_two_infinities and not never_nan, "a NaN"
        return "infinite"
    scale = rounding_of(function, arguments)
    if result.dim() == 0 and "logits" not in arguments and "chosen_scores" not in arguments:
        scale = size_of_a_sum(function, arguments)
        scale = scale if math.isfinite(scale) else 0.0
    fits, error = result.isfinite(), (result.double() - wanted).abs()
    tiny = torch.finfo(torch.float32).tiny
    good = error <= 1e-3 * wanted.abs() + 1e-5 * scale + tiny
    assert bool((good | ~fits).all()), f"got {result.tolist()}, wanted {wanted.tolist()}"
    if bool(fits.all()):
        return "right"
    too_large = largest_part(function, arguments) > LARGEST or bool(
        (wanted[~fits].abs() > 0.1 * LARGEST).all()
    )
    assert too_large, f"infinite: got {result.tolist()}, wanted {wanted.tolist()}"
    return "infinite"


def fuzz(number_of_inputs: int, seed: int) -> Counter[str]:
    """How many ended how; AssertionError, with the input, at the first that is wrong."""
    rng, ended = random.Random(seed), Counter[str]()
    for i in range(number_of_inputs):
        function = FUNCTIONS[i % len(FUNCTIONS)]
        arguments = arguments_for(function, rng)
        try:
            ended[judge(function, arguments)] += 1
        except Exception as error:
            raise AssertionError(f"{function.__name__}, input {i}: {error}; {arguments}") from error
    return ended


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("inputs", nargs="?", type=int, default=100_000)
    parser.add_argument("--seed", type=int, default=0)
    own = parser.parse_args()
    torch.set_num_threads(1)
    print(dict(fuzz(own.inputs, own.seed)))
