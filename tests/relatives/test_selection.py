"""The best of n by hand, by listing all draws, and its KL under the bound."""

import itertools
import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from minippo.relatives.selection import best_of_n_probabilities
from tests.helpers import assert_close, f64

NOT_FINITE = "scores: wanted finite numbers, got NaN or infinity among them$"
NO_DISTRIBUTION = "probabilities: wanted numbers of at least 0 with sum 1$"


@st.composite
def distributions(draw):
    size = draw(st.integers(1, 4))
    weights = f64(draw(st.lists(st.integers(0, 5), min_size=size, max_size=size)))
    weights[0] += 1  # at least one is possible
    scores = f64(draw(st.lists(st.integers(-1, 1), min_size=size, max_size=size)))
    return {"probabilities": weights / weights.sum(), "scores": scores}


def test_by_hand():
    """1/2 of score 0, 1/4 twice of score 1, n = 2: the worst is left with 1/4, and the other two
    share 3/4. Of three scores: 1/4, then (3/4)^2 - (1/2)^2 = 5/16 and 1 - 9/16 = 7/16."""
    p = f64([0.5, 0.25, 0.25])
    tied = best_of_n_probabilities(probabilities=p, scores=f64([0, 1, 1]), n=2)
    assert_close(tied, [1 / 4, 3 / 8, 3 / 8])
    result = best_of_n_probabilities(probabilities=p, scores=f64([0, 1, 2]), n=2)
    assert_close(result, [1 / 4, 5 / 16, 7 / 16])
    unequal = best_of_n_probabilities(
        probabilities=f64([0.2, 0.6, 0.2]), scores=f64([5, 5, -1]), n=3
    )
    assert_close(unequal, [0.992 / 4, 0.992 * 3 / 4, 0.008])  # shared by their probability


@settings(max_examples=15)
@given(distributions(), st.integers(1, 4))
def test_by_listing_all_draws(batch, n):
    """Each draw of n goes to one of its best, all of them with the same chance."""
    p, scores = batch["probabilities"], batch["scores"]
    wanted = torch.zeros_like(p)
    for draw in itertools.product(range(len(p)), repeat=n):
        best = [y for y in draw if scores[y] == scores[list(draw)].max()]
        for y in best:
            wanted[y] += p[list(draw)].prod() / len(best)
    assert_close(best_of_n_probabilities(**batch, n=n), wanted)


@settings(max_examples=15)
@given(distributions())
def test_the_best_of_one_is_the_policy_and_of_very_many_the_best_of_the_support(batch):
    p, scores = batch["probabilities"], batch["scores"]
    assert_close(best_of_n_probabilities(**batch, n=1), p)
    best = (scores == scores[p > 0].max()) & (p > 0)
    wanted = torch.where(best, p, 0.0) / p[best].sum()
    assert_close(best_of_n_probabilities(**batch, n=10**6), wanted)


@settings(max_examples=15)
@given(distributions(), st.integers(2, 64))
def test_the_kl_is_under_the_bound_and_not_on_it(batch, n):
    p, best = batch["probabilities"], best_of_n_probabilities(**batch, n=n)
    kl = torch.where(best > 0, best * (best / p).log(), 0.0).sum().item()
    assert kl < math.log(n) - (n - 1) / n


def test_round_after_round_the_sum_stays_1():
    p = f64([0.1, 0.2, 0.3, 0.4])
    for _ in range(50):
        p = best_of_n_probabilities(probabilities=p, scores=f64([3, 1, 2, 0]), n=4)
    assert_close(p, [1, 0, 0, 0])


def test_small_probabilities_keep_their_digits():
    p = torch.tensor([1 - 1e-12, 1e-12], dtype=torch.float64)
    result = best_of_n_probabilities(probabilities=p, scores=f64([0, 1]), n=4)
    assert abs(result[1].item() / 4e-12 - 1) < 1e-4
    half = best_of_n_probabilities(probabilities=torch.tensor([0.5, 0.5]).half(), scores=p, n=2)
    assert half.dtype == torch.float16 and half.tolist() == [0.75, 0.25]


@pytest.mark.parametrize(
    "bad, message",
    [
        ({"n": 0}, "n: got 0"),
        ({"n": 1.5}, "n: got 1.5"),
        ({"scores": f64([1, 2, 3])}, r"scores: got shape \[3\], wanted \[Y\] with Y = 2 as in"),
        ({"scores": f64([1, float("nan")])}, NOT_FINITE),
        ({"scores": f64([1, float("inf")])}, NOT_FINITE),
        ({"probabilities": f64([0.5, 0.4])}, NO_DISTRIBUTION),
        ({"probabilities": f64([1.5, -0.5])}, NO_DISTRIBUTION),
        ({"probabilities": f64([float("nan"), 1])}, NO_DISTRIBUTION),
        ({"probabilities": f64([[0.5, 0.5]])}, r"probabilities: got shape \[1, 2\], wanted \[Y\]"),
        ({"probabilities": f64([0.5, 0.5]).requires_grad_()}, "probabilities: .*requires grad"),
        ({"scores": f64([1, 2]).requires_grad_()}, "scores: .*requires grad"),
    ],
)
def test_refusals(bad, message):
    good = {"probabilities": f64([0.5, 0.5]), "scores": f64([0, 1]), "n": 2}
    best_of_n_probabilities(**good)
    with pytest.raises(ValueError, match=f"^{message}"):
        best_of_n_probabilities(**good | bad)
