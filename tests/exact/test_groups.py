"""All groups without their order: as many as there are, with the right probabilities, and the same
means as ordered ones have through autograd one by one."""

import math

import pytest
import torch

from minippo.exact import groups as exact_groups
from minippo.exact.estimators import gradient_samples, mean_and_covariance
from minippo.exact.groups import (
    all_groups,
    group_gradients,
    make_bandit,
    make_problem,
    mean_gradient,
    token_factors,
    with_scores,
)
from minippo.exact.methods import METHODS, Estimator
from minippo.exact.oracle import objective, response_probabilities, sequence_kl
from minippo.exact.world import TabularPolicy
from tests.helpers import assert_close, f64

PROBLEM = make_problem(9)
LOGITS = torch.randn(
    PROBLEM.ref_logits.shape, generator=torch.Generator().manual_seed(3), dtype=torch.float64
)
BY_NAME = {method.name: method for method in METHODS}


def test_every_multiset_once_with_its_probability():
    bandit = make_bandit([1.0, 0.0], [0.25, 0.75], 0.5)
    pairs = all_groups(bandit.world, 2)
    assert pairs.rows.tolist() == [[0, 0], [0, 1], [1, 1]]
    assert_close(pairs.probabilities(bandit.ref_logits), [1 / 16, 2 * 3 / 16, 9 / 16])
    fours = all_groups(PROBLEM.world, 4)
    assert len(PROBLEM.world.response_tokens) == 15 and len(fours.rows) == math.comb(18, 4) == 3060
    assert_close(fours.probabilities(LOGITS).sum(), 1.0)


@pytest.mark.parametrize("name", ["pg", "gae", "ppo, not whitened", "rloo", "grpo", "dapo"])
def test_the_mean_and_the_covariance_are_those_of_ordered_groups_one_by_one(name):
    method, world = BY_NAME[name], PROBLEM.world
    groups = all_groups(world, 2)
    estimator = Estimator(PROBLEM, method, groups, "none")
    to_logprobs = estimator(LOGITS)
    advantages = method.advantages(exact_seen(groups))
    table = {
        tuple(sorted(rows)): advantages[number] for number, rows in enumerate(groups.rows.tolist())
    }
    policy = TabularPolicy(world, generator=torch.Generator())
    policy.table.data.copy_(LOGITS)
    number_of = {tuple(x.tolist()): n for n, x in enumerate(world.logprobs(LOGITS))}

    def loss(batch):
        rows = [number_of[tuple(x.tolist())] for x in batch.old_logprobs]
        order = sorted(range(2), key=rows.__getitem__)
        given = table[tuple(sorted(rows))][torch.tensor(order).argsort()]
        return method.loss(
            logprobs=batch.logprobs,
            old_logprobs=batch.old_logprobs,
            advantages=given[:, 0] if method.per_row else given,
            response_mask=batch.response_mask,
        )

    mean, covariance = mean_and_covariance(*gradient_samples(world, policy, loss, size=2))
    p, samples = groups.probabilities(LOGITS), group_gradients(groups, LOGITS, to_logprobs)
    torch.testing.assert_close(mean, p @ samples, rtol=1e-6, atol=1e-8)
    assert_close(p @ samples, mean_gradient(groups, p, LOGITS, to_logprobs).flatten())
    second = p @ (samples**2).sum(dim=1) - (p @ samples) @ (p @ samples)
    torch.testing.assert_close(covariance.trace(), second, rtol=1e-6, atol=1e-8)


def exact_seen(groups):
    from minippo.exact.methods import Seen

    return Seen(PROBLEM.world, LOGITS, groups)


def test_the_factors_are_those_of_the_losses():
    """One token beside three: 1/4 for each of them as a mean over tokens, 1/2 and 1/6 as a mean
    per response."""
    groups = all_groups(PROBLEM.world, 2)
    lengths = groups.mask.sum(dim=2).tolist()
    place = lengths.index([1, 3]) if [1, 3] in lengths else lengths.index([3, 1])
    order = sorted(range(2), key=lengths[place].__getitem__)  # the short one first
    for name, wanted in (
        ("dapo", [[1 / 4, 0, 0], [1 / 4] * 3]),
        ("grpo", [[1 / 2, 0, 0], [1 / 6] * 3]),
        ("gspo", [[1 / 2, 0, 0], [1 / 6] * 3]),
        ("rloo", [[1 / 2, 0, 0], [1 / 2] * 3]),
        ("dr_grpo", [[1 / 6, 0, 0], [1 / 6] * 3]),
    ):
        method = BY_NAME[name]
        factors = token_factors(groups, method.loss, method.per_row)[place][order]
        torch.testing.assert_close(factors, f64(wanted), rtol=1e-6, atol=1e-7)


def test_the_objective_and_the_best_policy():
    world = PROBLEM.world
    assert_close(PROBLEM.objective(LOGITS, 0.0), objective(world, LOGITS))
    price = 0.5 * sequence_kl(world, LOGITS, PROBLEM.ref_logits)
    assert_close(PROBLEM.objective(LOGITS), objective(world, LOGITS) - price)
    p, ref = (response_probabilities(world, x) for x in (PROBLEM.best(), PROBLEM.ref_logits))
    wanted = ref * (PROBLEM.scores / 0.5).exp()
    assert_close(p, wanted / wanted.sum())


def test_other_scores_stand_on_the_last_token():
    scores = torch.arange(15).double()
    other = with_scores(PROBLEM, scores)
    assert_close(other.scores, scores)
    assert_close(
        objective(other.world, LOGITS), response_probabilities(other.world, LOGITS) @ scores
    )
    assert not torch.equal(PROBLEM.scores, scores) and exact_groups.make_problem(9).kl_coef == 0.5
