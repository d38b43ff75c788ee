"""Bias, variance, and whom a step favours: by hand, and for which methods it is nothing."""

import math
from dataclasses import replace

import pytest
import torch

from minippo.exact.estimators import bias_and_variance as of_one_response
from minippo.exact.first_step import (
    DISTANCE,
    along,
    bias_and_variance,
    difficulty,
    interpolated,
    length_slopes,
    length_weights,
    right_gradient,
    stale_bias,
    verifier,
)
from minippo.exact.groups import all_groups, loss_gradients, make_bandit, make_problem
from minippo.exact.methods import METHODS, Estimator, Seen
from minippo.exact.oracle import sequence_kl
from minippo.exact.world import TabularPolicy
from minippo.policy_gradient import policy_gradient_loss, trajectory_returns
from minippo.relatives import groups as relative
from tests.helpers import assert_close, f64

PROBLEM = make_problem(9)
LOGITS = torch.randn(
    PROBLEM.ref_logits.shape, generator=torch.Generator().manual_seed(3), dtype=torch.float64
)
GROUPS = all_groups(PROBLEM.world, 2)
BY_NAME = {method.name: method for method in METHODS}
RIGHT = {"pg", "rtg", "baseline", "gae", "rloo", "dr_grpo"}  # the others are not the gradient
NOTHING = 1e-6  # the factors of some losses are made in 32 bits


def test_bias_and_cosine_by_hand():
    # m = (3, 4), g = (2, 0): c = 3 / 2, the rest is 4 across 3 along
    numbers = along(f64([3, 4]), f64([2, 0]))
    assert numbers == pytest.approx({"factor": 1.5, "bias": 4 / 3, "cosine": 0.6})
    assert along(f64([-1, 0]), f64([2, 0]))["factor"] < 0


def test_the_variance_of_the_page_and_the_clip_that_leaves_nothing():
    """Two actions with probability 1/2 and scores 1 and 0, in pairs: trace 1/8, so 1/4; at 0.65 the
    ratios are 1.3 and 0.7, and a clip of 0.2 has no gradient left."""
    coin = make_bandit([1.0, 0.0], [0.5, 0.5], 0.5)
    pairs = all_groups(coin.world, 2)
    numbers = bias_and_variance(Estimator(coin, BY_NAME["rloo"], pairs, "none"), coin.ref_logits)
    assert numbers["bias"] < 1e-12 and numbers["variance"] == pytest.approx(0.25)
    new = f64([[0.65, 0.35]]).log()
    assert round(sequence_kl(coin.world, coin.ref_logits, new).item(), 3) == 0.047
    batch = {
        "logprobs": coin.world.logprobs(new),
        "old_logprobs": coin.world.logprobs(coin.ref_logits),
        "advantages": BY_NAME["rloo"].advantages(Seen(coin.world, coin.ref_logits, pairs)),
    }
    assert loss_gradients(pairs, BY_NAME["rloo"].loss, batch, True).abs().max() == 0
    free = BY_NAME["rloo"].free
    assert free is not None and loss_gradients(pairs, free, batch, True).abs().max() > 0.1


@pytest.mark.parametrize("kl", ["reward", "none"])
@pytest.mark.parametrize("name", BY_NAME)
def test_which_first_steps_are_the_gradient(name, kl):
    estimator = Estimator(PROBLEM, BY_NAME[name], GROUPS, kl)
    assert (bias_and_variance(estimator, LOGITS)["bias"] < NOTHING) == (name in RIGHT)


def test_the_variance_is_that_of_one_response():
    policy = TabularPolicy(PROBLEM.world, generator=torch.Generator())
    policy.table.data.copy_(LOGITS)

    def loss(batch):
        weights = trajectory_returns(
            rewards=batch.rewards, response_mask=batch.response_mask, gamma=1.0
        )
        return policy_gradient_loss(
            logprobs=batch.logprobs, weights=weights, response_mask=batch.response_mask
        )

    exact = right_gradient(PROBLEM, LOGITS, 0.0).flatten()
    bias, variance = of_one_response(PROBLEM.world, policy, loss, exact)
    found = bias_and_variance(Estimator(PROBLEM, BY_NAME["pg"], GROUPS, "none"), LOGITS)
    assert bias < 1e-12 and math.isclose(found["variance"], variance, rel_tol=1e-9)


@pytest.mark.parametrize("name", ["rloo", "grpo"])
def test_a_factor_before_the_loss_changes_nothing(name):
    method = BY_NAME[name]
    longer = replace(method, loss=lambda **batch: 7 * method.loss(**batch))
    plain, other = (
        bias_and_variance(Estimator(PROBLEM, x, GROUPS, "none"), LOGITS) for x in (method, longer)
    )
    assert other.pop("factor") == pytest.approx(7 * plain.pop("factor"))
    assert other == pytest.approx(plain, abs=1e-9)


def test_a_policy_at_a_distance():
    def kl(logits):
        return sequence_kl(PROBLEM.world, LOGITS, logits)

    new = interpolated(LOGITS, PROBLEM.best(), kl, DISTANCE)
    assert kl(new).item() == pytest.approx(DISTANCE)
    assert_close(interpolated(f64([0.0]), f64([4.0]), lambda x: x[0], 1.0), [1.0])


def test_only_the_ratio_of_the_whole_response_is_right_away_from_the_sampler():
    found = {
        name: stale_bias(PROBLEM, BY_NAME[name], GROUPS, LOGITS)
        for name in ("trpo", "ppo, not whitened", "rloo", "dr_grpo", "cispo")
    }
    assert {name for name, x in found.items() if x["free"] < NOTHING} == {"rloo"}
    assert found["trpo"]["free"] == found["trpo"]["clipped"]
    assert found["ppo, not whitened"]["free"] == pytest.approx(found["trpo"]["free"])
    assert all(found[name]["clipped"] > 0.05 for name in found)


def test_the_weight_of_a_token_by_length():
    for name, wanted in (
        ("pg", [1, 1, 1]),
        ("grpo", [1, 1 / 2, 1 / 3]),
        ("gspo", [1, 1 / 2, 1 / 3]),
    ):
        method = BY_NAME[name]
        factors = Estimator(PROBLEM, method, GROUPS, "none").factors
        weights = length_weights(GROUPS, factors, PROBLEM.ref_logits)
        assert weights == pytest.approx(wanted, abs=1e-6)
    # a mean over tokens of 2 responses: 1 / (l + the length of the other), enumerated
    factors = Estimator(PROBLEM, BY_NAME["dapo"], GROUPS, "none").factors
    found = length_weights(GROUPS, factors, PROBLEM.ref_logits)
    world = PROBLEM.world
    p = world.logprobs(PROBLEM.ref_logits).sum(dim=1).exp()
    lengths = world.response_mask.sum(dim=1)
    means = [(p / (length + lengths)).sum().item() for length in (1, 2, 3)]
    assert found == pytest.approx([mean / means[0] for mean in means])


def test_what_is_right_makes_neither_right_nor_wrong_responses_longer():
    """And a mean per response makes right ones shorter and wrong ones longer."""
    slopes = {name: length_slopes(PROBLEM, BY_NAME[name], GROUPS) for name in BY_NAME}
    for name, slope in slopes.items():
        assert (max(map(abs, slope.values())) < NOTHING) == (name in RIGHT), (name, slope)
    assert slopes["grpo"]["right"] < -0.01 and slopes["grpo"]["wrong"] > 0.1
    assert verifier(PROBLEM).sum() not in (0, 15)


@pytest.mark.parametrize("p", [0.01, 0.3, 0.5])
def test_difficulty_in_closed_form(p):
    one_out, centred, standard = (
        relative.leave_one_out_advantages,
        relative.centred_advantages,
        relative.standardised_advantages,
    )
    for size in (2, 3, 4, 8):
        assert difficulty(one_out, size, p) == pytest.approx(1)
        assert difficulty(centred, size, p) == pytest.approx((size - 1) / size)
        wanted = sum(
            math.comb(size, k) * p**k * (1 - p) ** (size - k) * math.sqrt(k / size * (1 - k / size))
            for k in range(size + 1)
        ) / (p * (1 - p))
        found = difficulty(standard, size, p)
        assert found == pytest.approx(wanted) and found <= math.sqrt(size - 1) + 1e-9
    assert difficulty(standard, 2, p) == pytest.approx(1)
    assert difficulty(standard, 3, p) == pytest.approx(math.sqrt(2))


def test_large_groups_ascend_the_arc_sine():
    for p in (0.2, 0.5):
        limit = 1 / math.sqrt(p * (1 - p))
        found = difficulty(relative.standardised_advantages, 64, p)
        assert found == pytest.approx(limit, rel=0.05)


@pytest.mark.parametrize(
    "size, ratio", [(2, 1.0), (3, 1.0), (4, 1.07), (8, 1.41), (16, 1.93), (64, 3.39)]
)
def test_the_ratio_of_the_hard_and_the_even(size, ratio):
    hard, even = (difficulty(relative.standardised_advantages, size, p) for p in (0.01, 0.5))
    assert round(hard / even, 2) == ratio
