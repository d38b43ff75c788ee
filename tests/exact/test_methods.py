"""The records: their advantages are the product's, and their factors stand for their losses."""

import pytest
import torch

from minippo.exact.groups import all_groups, loss_gradients, make_problem
from minippo.exact.methods import METHODS, Estimator, Seen, kl_slopes, seen_world
from minippo.kl import kl_k2, kl_k3
from minippo.masked import whiten
from minippo.relatives.groups import standardised_advantages
from minippo.shaped_reward import shaped_rewards
from tests.helpers import assert_close

PROBLEM = make_problem(9)
WORLD = PROBLEM.world
LOGITS = torch.randn(
    PROBLEM.ref_logits.shape, generator=torch.Generator().manual_seed(3), dtype=torch.float64
)
GROUPS = all_groups(WORLD, 2)
BY_NAME = {method.name: method for method in METHODS}
EACH = pytest.mark.parametrize("method", METHODS, ids=BY_NAME)


@EACH
def test_at_ratios_of_1_the_gradient_is_advantage_times_factor(method):
    """So no clip acts there, and the factors can be asked for once."""
    advantages = method.advantages(Seen(WORLD, LOGITS, GROUPS))
    logprobs = WORLD.logprobs(LOGITS)
    batch = {"logprobs": logprobs, "old_logprobs": logprobs, "advantages": advantages}
    found = loss_gradients(GROUPS, method.loss, batch, method.per_row)
    estimator = Estimator(PROBLEM, method, GROUPS, "none")
    torch.testing.assert_close(found, estimator(LOGITS), rtol=1e-6, atol=1e-8)
    if method.free is not None:
        free = loss_gradients(GROUPS, method.free, batch, method.per_row)
        torch.testing.assert_close(free, found, rtol=1e-6, atol=1e-8)


def test_k1_in_the_reward_is_the_shaped_reward():
    world = seen_world(PROBLEM, LOGITS, "reward")
    wanted = shaped_rewards(
        scores=PROBLEM.scores,
        old_logprobs=WORLD.logprobs(LOGITS),
        ref_logprobs=WORLD.logprobs(PROBLEM.ref_logits),
        response_mask=WORLD.response_mask,
        kl_coef=PROBLEM.kl_coef,
    )
    assert_close(world.response_rewards, wanted)
    assert seen_world(PROBLEM, LOGITS, "none") is WORLD is seen_world(PROBLEM, LOGITS, "k3")


def test_the_group_sees_the_score_with_the_kl_in_it():
    world = seen_world(PROBLEM, LOGITS, "reward")
    found = BY_NAME["grpo"].advantages(Seen(world, LOGITS, GROUPS))
    for number in (0, 1, 50, 119):
        scores = world.response_rewards.sum(dim=1)[GROUPS.rows[number]]
        wanted = standardised_advantages(scores=scores, group_size=2)
        assert_close(found[number], wanted.unsqueeze(1).expand(2, 3))


def test_whitened_is_the_product_s_whitening_of_each_group():
    plain = BY_NAME["ppo, not whitened"].advantages(Seen(WORLD, LOGITS, GROUPS))
    white = BY_NAME["ppo"].advantages(Seen(WORLD, LOGITS, GROUPS))
    for number in (1, 2, 50, 118):
        mask = GROUPS.mask[number]
        assert_close(white[number], whiten(values=plain[number], mask=mask))


def test_the_slopes_of_the_kl_by_hand():
    d = WORLD.logprobs(LOGITS) - WORLD.logprobs(PROBLEM.ref_logits)
    assert_close(kl_slopes(PROBLEM, LOGITS, kl_k2), d)
    assert_close(kl_slopes(PROBLEM, LOGITS, kl_k3), 1 - (-d).exp())


def test_a_kl_in_the_loss_has_the_reduction_of_the_loss():
    method = BY_NAME["grpo"]
    plain, priced = (Estimator(PROBLEM, method, GROUPS, kl) for kl in ("none", "k3"))
    slopes = kl_slopes(PROBLEM, LOGITS, kl_k3)[GROUPS.rows]
    wanted = torch.where(GROUPS.mask, 0.5 * slopes * plain.factors, 0.0)
    assert_close(plain(LOGITS) - priced(LOGITS), wanted)
