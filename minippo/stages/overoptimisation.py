"""How a score goes on rising while what it stands for falls: courses over the KL, the drop of gold,
and two laws that have been fitted to it.

A reward model is right about responses like those it was trained on. The further a policy goes from
them, measured by the KL to the reference, the more of what it finds is what the reward model
overrates. Source: Gao, Schulman and Hilton 2022, arXiv:2210.10760: with d = sqrt(KL), the gold
score less that of the reference is about d (a - b d) for the best of n samples and about
d (a - b log d) for reinforcement learning.
"""

import math
from collections.abc import Callable, Sequence
from typing import NamedTuple

from minippo.runs.stats import mean

WINDOW = 4  # rollouts whose mean is a point of a course: one alone is too noisy for a maximum
LEAST_KL = 1e-3  # nats; nearer to the reference d says nothing


class Point(NamedTuple):
    """Nats per response from the reference, the score there, and what that is worth."""

    kl: float
    score: float
    gold: float


class Fit(NamedTuple):
    """gold - gold at the reference = d (a - b x), x = d or log d; the residual is the root of the
    mean square that is left, `spread` the same without any law (of gold around its own mean)."""

    a: float
    b: float
    residual: float
    spread: float


def course(points: Sequence[Point], window: int = WINDOW) -> list[Point]:
    """Means over each `window` points that follow one another; fewer points are one mean."""
    starts = range(max(1, len(points) - window + 1))
    return [Point(*map(mean, zip(*points[i : i + window], strict=True))) for i in starts]


def gold_drop(points: Sequence[Point], gold_max: float) -> float:
    """(best gold on the way - gold at the end) / gold_max of a course; 0: it ends at its best."""
    golds = [point.gold for point in points]
    return (max(golds) - golds[-1]) / gold_max


def best_of_n_course(
    scores: Sequence[Sequence[float]], golds: Sequence[Sequence[float]], sizes: Sequence[int]
) -> list[Point]:
    """The best-scored of n samples of the reference, for each n: the bound log n - (n-1)/n on its
    KL, its score, its gold.

    scores, golds: [N][M], M samples of each of N prompts; n <= M. Every choice of n of the M
    samples counts, so with ranks 1 to M by score, sample r is the best one with probability
    C(r-1, n-1) / C(M, n). Samples of one score share what they have together.
    """
    points = []
    for n in sizes:
        worths = [
            _expected_best(of_prompt, gold, n)
            for of_prompt, gold in zip(scores, golds, strict=True)
        ]
        score, gold = (mean(part) for part in zip(*worths, strict=True))
        points.append(Point(math.log(n) - (n - 1) / n, score, gold))
    return points


def _expected_best(scores: Sequence[float], golds: Sequence[float], n: int) -> tuple[float, float]:
    """(score, gold) of the best-scored of n of these samples, drawn without replacement."""
    order = sorted(range(len(scores)), key=lambda i: scores[i])
    chances = [math.comb(rank, n - 1) / math.comb(len(scores), n) for rank in range(len(order))]
    score = sum(chance * scores[i] for chance, i in zip(chances, order, strict=True))
    shared: dict[float, list[float]] = {}  # score -> [its chance, its samples, their gold]
    for chance, i in zip(chances, order, strict=True):
        of_score = shared.setdefault(scores[i], [0.0, 0.0, 0.0])
        of_score[0] += chance
        of_score[1] += 1.0
        of_score[2] += golds[i]
    return score, sum(chance * gold / number for chance, number, gold in shared.values())


def fit_best_of_n(points: Sequence[Point], gold_at_reference: float) -> Fit | None:
    """d (a - b d), d = sqrt(KL), least squares; None with fewer than three points."""
    return _fit(points, gold_at_reference, lambda d: d)


def fit_reinforcement(points: Sequence[Point], gold_at_reference: float) -> Fit | None:
    """d (a - b log d), d = sqrt(KL), least squares; None with fewer than three points."""
    return _fit(points, gold_at_reference, math.log)


def _fit(
    points: Sequence[Point], gold_at_reference: float, law: Callable[[float], float]
) -> Fit | None:
    rows = [
        (math.sqrt(point.kl), point.gold - gold_at_reference)
        for point in points
        if point.kl > LEAST_KL
    ]
    if len(rows) < 3:
        return None
    # y = a u - b v with u = d, v = d law(d): the normal equations of two unknowns
    table = [(d, d * law(d), y) for d, y in rows]
    uu, vv, uv = (sum(r[i] * r[j] for r in table) for i, j in ((0, 0), (1, 1), (0, 1)))
    uy, vy = (sum(r[i] * r[2] for r in table) for i in (0, 1))
    determinant = uu * vv - uv * uv
    if determinant <= 1e-12 * uu * vv:  # all at one distance
        return None
    a, b = (uy * vv - vy * uv) / determinant, (uy * uv - vy * uu) / determinant
    errors = [y - (a * u - b * v) for u, v, y in table]
    around = mean(y for *_, y in table)
    return Fit(
        a,
        b,
        math.sqrt(mean(error * error for error in errors)),
        math.sqrt(mean((y - around) ** 2 for *_, y in table)),
    )
