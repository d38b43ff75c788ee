"""Where the methods end: closed forms on one state with four actions, jumps, single responses."""

import math

import pytest
import torch

from minippo.exact.ends import End, end_of, follow, natural, same_end, turns_over
from minippo.exact.groups import all_groups, make_bandit, make_problem
from minippo.exact.methods import Estimator, Method, in_groups, over_constant, ppo_loss
from minippo.exact.oracle import reach_probabilities, response_probabilities
from minippo.relatives import groups as relative
from tests.helpers import assert_close, f64

SCORES, REF, PRICE = f64([1.0, 0.3, -0.5, 0.2]), f64([0.4, 0.3, 0.2, 0.1]), 0.8
BANDIT = make_bandit(SCORES.tolist(), REF.tolist(), PRICE)
ADVANTAGES = {
    "leave one out": relative.leave_one_out_advantages,
    "centred": relative.centred_advantages,
    "standardised": relative.standardised_advantages,
}


def end(advantages, kl, group_size, problem=BANDIT):
    """Of a method whose loss is a mean over rows."""
    method = Method("tried", in_groups(ADVANTAGES[advantages]), over_constant(ppo_loss))
    estimator = Estimator(problem, method, all_groups(problem.world, group_size), kl)
    start, best = problem.ref_logits, problem.best()
    return end_of(problem.world, estimator.step, start, best, 0.5 / problem.kl_coef), estimator


def probabilities(logits):
    return response_probabilities(BANDIT.world, logits)


def check_interior(found, wanted):
    assert found.kind == "interior"
    torch.testing.assert_close(probabilities(found.logits), wanted, rtol=0, atol=1e-7)


def tilted(price):
    """ref exp(score / price) / Z."""
    weights = REF * (SCORES / price).exp()
    return weights / weights.sum()


def against_the_reference(price):
    """price ref / (lambda - score), lambda so that the sum is 1."""
    low, high = SCORES.max().item(), SCORES.max().item() + price
    for _ in range(200):
        middle = (low + high) / 2
        low, high = (middle, high) if (price * REF / (middle - SCORES)).sum() > 1 else (low, middle)
    return price * REF / (high - SCORES)


@pytest.mark.parametrize("group_size", [2, 3, 4])
@pytest.mark.parametrize("advantages", ["leave one out", "centred"])
def test_with_k1_in_the_reward_the_end_is_the_best_policy(advantages, group_size):
    check_interior(end(advantages, "reward", group_size)[0], tilted(PRICE))


@pytest.mark.parametrize("group_size", [2, 3])
def test_with_k2_in_the_loss_the_centred_pay_more_for_the_kl(group_size):
    larger = PRICE * group_size / (group_size - 1)
    check_interior(end("centred", "k2", group_size)[0], tilted(larger))
    check_interior(end("leave one out", "k2", group_size)[0], tilted(PRICE))


@pytest.mark.parametrize("group_size", [2, 3])
def test_with_k3_in_the_loss_the_end_is_that_of_the_other_kl(group_size):
    larger = PRICE * group_size / (group_size - 1)
    check_interior(end("centred", "k3", group_size)[0], against_the_reference(larger))
    check_interior(end("leave one out", "k3", group_size)[0], against_the_reference(PRICE))


def test_grpo_in_pairs_ends_where_winning_balances_k3():
    found, _ = end("standardised", "k3", 2)
    p = probabilities(found.logits)
    wins = torch.stack([p[score > SCORES].sum() - p[score < SCORES].sum() for score in SCORES])
    check_interior(found, PRICE * REF / (PRICE - wins))


@pytest.mark.parametrize("advantages", ADVANTAGES)
def test_without_a_kl_the_end_is_the_best_response(advantages):
    found, _ = end(advantages, "none", 2)
    assert (found.kind, found.response) == ("one response", 0)
    assert probabilities(found.logits)[0] > 0.999


def test_standardised_with_k1_in_the_reward_jumps_at_the_best_policy():
    found, estimator = end("standardised", "reward", 3)
    assert found.kind == "jump"
    assert (probabilities(found.logits) - tilted(PRICE)).abs().sum() / 2 < 0.01
    at_best = estimator.step(BANDIT.best() + 1e-9 * f64([[1, -1, 1, -1]]))
    assert at_best.abs().max() > 1e-3  # a step that does not become small
    for advantages, kl in (("centred", "reward"), ("standardised", "k3"), ("centred", "none")):
        assert not turns_over(BANDIT.world, end(advantages, kl, 2)[1].step, BANDIT.best())


def test_a_step_that_leads_nowhere_has_no_end():
    def round_and_round(logits):
        return 0.01 * f64([[1, -1, 1, -1]]) * (-1) ** int(logits[0, 0] * 1e6)

    found = follow(BANDIT.world, round_and_round, BANDIT.ref_logits, size=0.1, steps=7)
    assert (found.kind, found.steps) == ("none", 7)


def test_the_natural_step_multiplies_responses_by_what_they_are_worth():
    """The gradient of E[score], divided so, adds score minus mean to log p, whatever the tree."""
    problem = make_problem(9)
    world, logits = problem.world, problem.ref_logits.clone().requires_grad_()
    (gradient,) = torch.autograd.grad(problem.objective(logits, 0.0), logits)
    per_token = natural(world, logits.detach(), gradient)
    gain = (per_token[world.state_index, world.response_tokens] * world.response_mask).sum(dim=1)
    p = response_probabilities(world, logits.detach())
    assert_close(gain, problem.scores - p @ problem.scores)
    assert_close(natural(world, logits.detach(), per_token * 0), 0 * per_token)
    assert reach_probabilities(world, logits.detach())[0] == 1


def test_which_ends_are_the_same():
    here, near, far = (End("interior", f64([[x, 0, 0, 0]]), 1) for x in (0, 1e-8, 1))
    assert same_end(BANDIT.world, here, near) and not same_end(BANDIT.world, here, far)
    one, two = (End("one response", here.logits, 1, response) for response in (0, 1))
    assert same_end(BANDIT.world, one, one) and not same_end(BANDIT.world, one, two)
    assert not same_end(BANDIT.world, one, here)
    none = End("none", here.logits, 1)
    assert not same_end(BANDIT.world, none, none)
    jumps = [End("jump", f64([[x, 0, 0, 0]]), 1) for x in (0, 0.01, 0.2)]
    assert same_end(BANDIT.world, *jumps[:2]) and not same_end(BANDIT.world, jumps[0], jumps[2])
    assert math.isclose(tilted(PRICE).sum().item(), 1)


def test_the_example_of_the_page():
    """Two actions, scores 1 and 0, reference 1/2, price 1/2; pairs with k3 in the loss."""
    coin = make_bandit([1.0, 0.0], [0.5, 0.5], 0.5)
    for advantages, wanted in (("centred", 0.5**0.5), ("standardised", (1 + 5**0.5) / 4)):
        found, _ = end(advantages, "k3", 2, coin)
        p = response_probabilities(coin.world, found.logits)
        assert abs(p[0].item() - wanted) < 1e-7, advantages
    e2 = math.exp(2)
    best = response_probabilities(coin.world, coin.best())
    assert_close(best[0], e2 / (e2 + 1))
    top = 0.5 * math.log((e2 + 1) / 2)
    assert_close(coin.objective(coin.best()), top)
    centred, _ = end("centred", "k3", 2, coin)
    assert abs((coin.objective(centred.logits) - 0.5).item() / (top - 0.5) - 0.75) < 0.005
