"""Numbers that a run reports: an interval around a share or a mean, the most memory used, and how
fast this machine is just now."""

from __future__ import annotations

import math
import os
import sys
import time
from collections import defaultdict
from collections.abc import Hashable, Iterable, Sequence
from typing import TYPE_CHECKING

from minippo.runs.text import counted

if TYPE_CHECKING:
    import torch

LONG_ENOUGH = 5.0  # seconds of a stage that can be told from a hiccup
Z_95 = 1.959964  # beyond it, on both sides together, 5 % of the normal distribution lie
PRIOR_PROMPTS = 3  # as many prompts as are added that speak for "all of a prompt go together"


def mean(numbers: Iterable[float]) -> float:
    """Of at least one number."""
    numbers = list(numbers)
    return sum(numbers) / len(numbers)


def wilson_interval(wins: float, n: float, z: float = Z_95) -> tuple[float, float]:
    """The Wilson score interval for a share of `wins` in `n` trials: 95 % with the z given here.

    Equation  (p + z^2/2n  -+  z sqrt(p (1 - p)/n + z^2/4n^2)) / (1 + z^2/n),  p = wins / n
    Source    Wilson 1927, "Probable inference, the law of succession, and statistical inference".
    A tie counts as half a win, so `wins` may end in .5; the interval is then slightly too wide,
    never too narrow.
    Raises    ValueError: n < 1, wins outside [0, n].
    """
    if n < 1:
        raise ValueError(f"n must be at least 1, got {n!r}")
    if not 0 <= wins <= n:
        raise ValueError(f"wins must lie between 0 and n = {n}, got {wins!r}")
    share = wins / n
    middle = share + z * z / (2 * n)
    half_width = z * math.sqrt(share * (1 - share) / n + z * z / (4 * n * n))
    low, high = ((middle + sign * half_width) / (1 + z * z / n) for sign in (-1, 1))
    # At 0 and n the formula gives 0 and 1 exactly; rounding would put them a hair to either side.
    return (0.0 if wins == 0 else max(0.0, low)), (1.0 if wins == n else min(1.0, high))


def clustered_interval(rights: Sequence[float], prompts: Sequence[Hashable]) -> tuple[float, float]:
    """The 95 % interval of the mean of `rights`, whose items of one prompt tend to go together.

    rights: 1, 0, or 1/2 for a tie, of each item; prompts: which prompt it belongs to.

    Equation  wilson_interval(p n, n) with n = M / d. Of the m_g items of prompt g let r_g be right,
              M = sum m_g, p = sum r_g / M, v the variance of the items, G the number of prompts:
                seen      = sum (r_g - m_g p)^2 / (M v)
                together  = sum m_g^2 / M, what it would be if all items of a prompt went together
                d         = max(1, seen, (G seen + 3 together) / (G + 3))
    Source    Kish 1965, Survey Sampling (the design effect d); Wilson 1927.
    Limits    One item per prompt: Wilson's interval for the items. One prompt, or items that are
              all equal: nothing can be seen, d is `together`, and one prompt counts as one item.
              It is never narrower than the interval of as many items that are independent.
    Raises    ValueError: no item, or lengths that differ.

    A few prompts say little about how far their items go together, so what is seen is mixed with
    the worst case, as if three more prompts had shown that. tests/runs/test_stats.py tries how
    often the interval holds the truth.
    """
    independent = len(rights) / design_effect(rights, prompts)
    share = math.fsum(rights) / max(1, len(rights))
    return wilson_interval(share * independent, independent)


def design_effect(rights: Sequence[float], prompts: Sequence[Hashable]) -> float:
    """How many of the items count as one, at least 1: the d of `clustered_interval`, from what it
    is given."""
    by_prompt: defaultdict[Hashable, list[float]] = defaultdict(list)
    for right, prompt in zip(rights, prompts, strict=True):
        by_prompt[prompt].append(right)
    items, n_prompts = max(1, len(rights)), len(by_prompt)
    share = math.fsum(rights) / items
    squares = math.fsum((right - share) ** 2 for right in rights)  # M v
    together = sum(len(group) ** 2 for group in by_prompt.values()) / items
    if n_prompts < 2 or squares == 0:
        return max(1.0, together)
    excess = [math.fsum(group) - len(group) * share for group in by_prompt.values()]
    seen = math.fsum(x * x for x in excess) / squares
    mixed = (n_prompts * seen + PRIOR_PROMPTS * together) / (n_prompts + PRIOR_PROMPTS)
    return max(1.0, seen, mixed)


def items_to_tell(rights: Sequence[float], prompts: Sequence[Hashable]) -> int | None:
    """After about how many items the interval would leave 1/2 outside, if they went on as they
    have; None where just half of them are right, and no number would do.

    Equation  Wilson's interval of a share p in n trials holds 1/2 where (p - 1/2)^2 <= z^2 / (4 n),
              so n = d z^2 / (4 (p - 1/2)^2), and the next whole number; d: `clustered_interval`.
    """
    off = math.fsum(rights) / max(1, len(rights)) - 0.5
    if off == 0:
        return None
    return math.floor(design_effect(rights, prompts) * (Z_95 / (2 * off)) ** 2) + 1


def t_quantile(degrees: int, share: float = 0.95) -> float:
    """The t beyond which, on both sides together, 1 - share of Student's distribution lies.

    Equation  P(|T| <= t) with theta = atan(t / sqrt(n)), n degrees of freedom, is
                n odd   2/pi (theta + sin (cos + 2/3 cos^3 + 2/3 4/5 cos^5 + ... to cos^(n-2)))
                n even  sin (1 + 1/2 cos^2 + 1/2 3/4 cos^4 + ... to cos^(n-2))
              and it rises with theta, which is found by halving.
    Source    Student 1908, "The probable error of a mean"; Abramowitz and Stegun 26.7.3, 26.7.4.
    Raises    ValueError: degrees < 1, share outside (0, 1).
    """
    if degrees < 1:
        raise ValueError(f"degrees must be at least 1, got {degrees!r}")
    if not 0 < share < 1:
        raise ValueError(f"share must lie between 0 and 1, got {share!r}")
    low, high = 0.0, math.pi / 2
    while low < (theta := (low + high) / 2) < high:
        low, high = (theta, high) if _inside(theta, degrees) < share else (low, theta)
    return math.sqrt(degrees) * math.tan(theta)


def _inside(theta, degrees):
    """P(|T| <= sqrt(degrees) tan(theta))."""
    sine, cosine, is_odd = math.sin(theta), math.cos(theta), degrees % 2
    term, total = (cosine if is_odd else 1.0), 0.0
    for k in range(1 + is_odd, degrees, 2):  # the powers of cosine that are in the sum
        total += term
        term *= cosine * cosine * k / (k + 1)
    return 2 / math.pi * (theta + sine * total) if is_odd else sine * total


def t_interval(numbers: Sequence[float], share: float = 0.95) -> tuple[float, float] | None:
    """The t interval of the mean of independent numbers, of equal spread and roughly normal; None
    for a single number, which says nothing about the spread.

    Equation  mean -+ t s / sqrt(n), s^2 = sum (x - mean)^2 / (n - 1), t of n - 1 degrees of freedom
    Source    Student 1908, "The probable error of a mean".
    Raises    ValueError: no number.
    """
    n = len(numbers)
    if n < 1:
        raise ValueError("numbers: wanted at least one")
    if n == 1:
        return None
    middle = math.fsum(numbers) / n
    deviation = math.sqrt(math.fsum((x - middle) ** 2 for x in numbers) / (n - 1))
    half_width = t_quantile(n - 1, share) * deviation / math.sqrt(n)
    return middle - half_width, middle + half_width


def busy(threads: int) -> str | None:
    """A warning where other work leaves fewer processors than threads; None where all is well.

    Threads wait for each other: when one of two has to wait for a processor, both do.
    """
    try:
        load, processors = os.getloadavg()[0], len(os.sched_getaffinity(0))
    except (AttributeError, OSError):  # not on this system
        return None
    if threads <= max(1, math.ceil(processors - load)):
        return None
    return (
        f"this machine is busy (load {load:.1f}, {processors} processors): --threads {threads} may "
        "take several times as long as --threads 1"
    )


def held_up(seconds: float, processor_seconds: float, threads: int) -> str | None:
    """A line about a stage that took far longer than its threads have worked; None where it did
    not, or took less than LONG_ENOUGH seconds.

    Threads that have the processors to themselves work 0.7 to 1 of the time. processor_seconds are
    those of all threads together.
    """
    worked = processor_seconds / threads
    if seconds < LONG_ENOUGH or seconds < 1.8 * worked:
        return None
    advice = "; --threads 1 may be faster" if threads > 1 else ""
    return (
        f"the machine is busy: {seconds:.0f} s for {worked:.0f} s of work on "
        f"{counted(threads, 'thread')}{advice}"
    )


def peak_memory_of(device: torch.device) -> float | None:
    """The most memory that this run has held where it computes, in MiB: on a GPU that of its
    tensors."""
    if device.type == "cuda":
        import torch

        return torch.cuda.max_memory_allocated(device) / 2**20
    return peak_memory_mib()


def peak_memory_mib() -> float | None:
    """The most main memory that this process has held, in MiB; None where the system does not
    say."""
    return _peak_from_proc() or _peak_from_getrusage()


def _peak_from_proc(path="/proc/self/status"):
    """Linux's own count. getrusage is the second choice there: it also counts what the parent held
    before exec."""
    try:
        with open(path, encoding="ascii", errors="replace") as file:
            kib = [line.split()[1] for line in file if line.startswith("VmHWM:")]
    except OSError:
        return None
    return int(kib[0]) / 1024 if kib else None


def _peak_from_getrusage():
    try:
        import resource
    except ImportError:  # Windows
        return None
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    # macOS counts bytes, Linux KiB
    return peak / 2**20 if sys.platform == "darwin" else peak / 1024


def matmul_loop_seconds(device: torch.device | str = "cpu") -> float:
    """Seconds for a fixed loop of matrix products, 200 of 512 x 512: the unit in which runs on two
    machines compare."""
    import torch

    a = torch.full((512, 512), 1e-3, device=device)
    if a.device.type != "cpu":  # the first product waits for the library
        (a @ a).sum().item()
    begin = time.perf_counter()
    for _ in range(200):
        a = (a @ a).clamp(1e-3, 1e-3)
    a[0, 0].item()  # a GPU is asked for a number when it is to be waited for
    return time.perf_counter() - begin
