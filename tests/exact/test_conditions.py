"""The conditions of what is said: each number against a calculation of its own."""

import itertools
import math

import pytest
import torch

from minippo.exact import conditions, ladder, oracle
from minippo.exact.estimators import bias_and_variance
from minippo.exact.qualifications import value_baseline_on_bandits
from minippo.ppo import clipped_surrogate_loss
from minippo.trpo import trpo_step
from tests.helpers import assert_close


def test_v_is_seldom_worse_than_nothing_where_rewards_are_far_from_zero():
    found = conditions.value_baseline_by_mean_reward()
    counts = [row["V worse than no baseline"] for row in found.values()]
    assert list(found) == ["mean 0", "mean 1", "mean 2"]
    assert counts[0] == value_baseline_on_bandits()["V worse than no baseline"]
    assert counts[0] > 200 > 100 > counts[1] > 20 > counts[2]


def test_lam_0_is_best_in_a_table_and_not_always_with_shared_parameters():
    found = conditions.lam_zero_with_shared_parameters(worlds=6)
    assert found["table"] == 0 < found["GPT"] <= found["of"] == 6
    assert 1 < found["largest ratio to the best lam, GPT"] < 2


def test_the_bias_of_a_mean_over_tokens_is_that_of_the_batches_listed_one_by_one():
    found = conditions.mean_over_tokens_by_batch(sizes=(1, 2))
    world, policy, values, _ = ladder.make_world(ladder.reward_functions(0)["dense"], 0)
    exact = oracle.exact_gradient(world, policy)
    length = oracle.reach_probabilities(world, policy().detach()).sum()
    loss = ladder.mean_over_tokens(clipped_surrogate_loss, ladder.gae(0.95), cliprange=0.2)
    for size, bias in zip((1, 2), found.values(), strict=True):
        listed, _ = bias_and_variance(
            world, policy, lambda batch: length * loss(batch), exact, values=values, size=size
        )
        assert_close(bias, listed)


def test_the_bias_of_a_mean_over_tokens_falls_with_the_batch():
    found = conditions.mean_over_tokens_by_batch(sizes=(1, 2, 8, 64))
    biases = list(found.values())
    assert biases == sorted(biases, reverse=True) and biases[-1] < 0.02 * biases[0]


def test_the_distribution_of_a_sum():
    p, q = (torch.tensor(x, dtype=torch.float64) for x in ([0.0, 0.3, 0.7], [0.5, 0.1, 0.4]))
    wanted = torch.zeros(5, dtype=torch.float64)
    for (i, a), (j, b) in itertools.product(enumerate(p), enumerate(q)):
        wanted[i + j] += a * b
    assert_close(conditions.convolved(p, q), wanted)


def test_k1_as_a_loss_does_nothing_at_first_and_then_drives_the_policy_away():
    found = conditions.k1_as_a_loss(steps=5)
    first, pushed, after = found.values()
    assert first < 1e-12 and 0 < pushed < 0.01 and after > 2 * pushed


def test_k2_by_hand():
    # d = +-2 s: the mean of d^2 / 2 is 2 s^2, and the KL 2 s tanh(s)
    for text, row in conditions.k2_as_a_value((0.5, 2.0)).items():
        s = float(text.split()[1])
        assert row["mean of k2"] == pytest.approx(2 * s**2)
        assert row["KL"] == pytest.approx(2 * s * math.tanh(s))


def test_the_largest_log_ratios():
    found = conditions.where_a_ratio_overflows()
    assert found["float32"] == pytest.approx(88.72, abs=0.01)
    assert found["float64"] == pytest.approx(709.78, abs=0.01)
    for name, largest in found.items():
        dtype = getattr(torch, name)
        inside, outside = torch.tensor([0.99 * largest, 1.01 * largest]).to(dtype).exp()
        assert inside.isfinite() and outside.isinf()


def test_residuals_of_conjugate_gradient_are_orthogonal_after_few_products_only():
    found = conditions.conjugate_gradient_loses_its_orthogonality(range(3), (1, 10))
    assert found["1 products"]["largest"] < 1e-12
    assert found["10 products"]["largest"] > 1e-9 > found["1 products"]["median"]


def test_the_count_of_trpo_steps_that_lower_j_does_not_hang_on_rounding(monkeypatch):
    """The same count when every parameter is off by a few of its last digits."""
    from minippo.exact import qualifications

    def nudged(*, parameters, **options):
        parameters = list(parameters)
        with torch.no_grad():
            for parameter in parameters:
                parameter.mul_(1 + 1e-13)
        return trpo_step(parameters=parameters, **options)

    gains = [qualifications.trpo_step_of(None, seed, 1.0)[0] for seed in (0, 10, 12)]
    monkeypatch.setattr(qualifications, "trpo_step", nudged)
    again = [qualifications.trpo_step_of(None, seed, 1.0)[0] for seed in (0, 10, 12)]
    assert max(abs(a - b) for a, b in zip(gains, again, strict=True)) < 1e-4
