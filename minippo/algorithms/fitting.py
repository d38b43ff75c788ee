"""What of a configuration depends on the algorithm's record: where it has its KL, how many samples
a prompt needs, and which broken form is its own.

The record's own form of the KL is allowed, since it is what the algorithm is known by; allow_broken
of its settings stands for that form and for nothing else.
"""

from collections.abc import Mapping
from typing import Any

from minippo.algorithms.base import Algorithm
from minippo.algorithms.config import PPOConfig, contradictions_of_the_kl


def placed_kl(values: Mapping[str, Any], record: Algorithm) -> dict[str, str]:
    """kl_reward and kl_loss as kl_in has them; nothing where that is the algorithm's own."""
    where = values.get("kl_in", "own")
    if where == "own":
        return {}
    return {
        "kl_reward": "k1" if where == "reward" else "none",
        "kl_loss": record.kl_loss if where == "loss" else "none",
    }


def check_fit(config: PPOConfig, record: Algorithm, given: Mapping[str, Any]) -> None:
    """ValueError, with the field, where the algorithm cannot be trained so; given: what was set
    beside defaults and the record."""
    samples = record.samples(config)
    if samples < min(2, record.samples_per_prompt):
        raise ValueError(
            f"samples_per_prompt: --algorithm {record.name} compares the responses to a prompt "
            f"with each other; wanted at least 2, got {samples}"
        )
    if config.batch_size % samples:
        raise ValueError(
            f"batch_size: wanted a multiple of the {samples} samples per prompt "
            f"(--samples_per_prompt), got {config.batch_size}"
        )
    for name, value in placed_kl(vars(config), record).items():
        if getattr(config, name) != value:
            raise ValueError(
                f"kl_in: {config.kl_in} and --{name} {getattr(config, name)} contradict; leave one "
                "of them out"
            )
    broken = [] if given.get("allow_broken") else contradictions_of_the_kl(config, record.kl_loss)
    for wrong, name, reason in broken:
        if wrong:
            raise ValueError(f"{name}: {reason}")


def own_kl_note(config: PPOConfig, record: Algorithm) -> tuple[str, ...]:
    """A line for the screen, where the algorithm's own KL does not lead to the optimum."""
    reasons = [x for wrong, name, x in contradictions_of_the_kl(config) if wrong]
    if config.kl_loss != record.kl_loss or not reasons or "allow_broken" not in record.settings:
        return ()
    reason = reasons[0].partition(";")[0]
    return (f"{record.name}: {reason}; it is what the algorithm is known by",)
