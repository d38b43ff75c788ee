"""Gradient ascent without sampling noise, against the best policy, which is known in closed
form."""

import functools
import math
import random
from itertools import pairwise

import pytest
import torch

from minippo.exact import oracle
from minippo.exact.training import expected_gradient_loss, train_with_kl_in_reward
from minippo.exact.world import GPTPolicy, TabularPolicy, World
from minippo.kl import kl_k1, kl_k2, kl_k3
from minippo.trpo import flat_gradient
from tests.helpers import assert_close, f64

KL_COEF, LEARNING_RATE = 0.5, 2.0
WORLDS = {
    "with EOS": {"vocab_size": 3, "response_length": 3},
    "two prompts": {
        "vocab_size": 2,
        "response_length": 3,
        "prompts": 2,
        "prompt_probs": f64([0.3, 0.7]),
        "has_eos": False,
    },
    "two prompts, with EOS": {"vocab_size": 3, "response_length": 2, "prompts": 2},
}


def make(name, policy=TabularPolicy):
    world = World(
        lambda prompt, tokens: random.Random(f"0 {prompt} {tokens}").gauss(1, 1), **WORLDS[name]
    )
    return world, policy(world, generator=torch.Generator().manual_seed(0))


@functools.cache
def trained(name, estimator, steps):
    """(world, trained policy, logits of the reference, records)."""
    world, policy = make(name)
    ref_logits = policy().detach().clone()
    records = train_with_kl_in_reward(
        world,
        policy,
        kl_estimator=estimator,
        kl_coef=KL_COEF,
        steps=steps,
        learning_rate=LEARNING_RATE,
        record_every=50,
    )
    return world, policy, ref_logits, records


def best_response_probabilities(world, ref_logits):
    """pi_ref(tau) exp(return / kl_coef) / Z, with one Z for each prompt: over whole responses, not
    over states."""
    mass = (
        oracle.response_probabilities(world, ref_logits)
        * (world.response_rewards.sum(dim=1) / KL_COEF).exp()
    )
    z = torch.zeros(world.prompts).double().index_add(0, world.prompt_index, mass)
    return world.prompt_probs[world.prompt_index] * mass / z[world.prompt_index]


# the expected gradient


@pytest.mark.parametrize("name", WORLDS)
@pytest.mark.parametrize("policy", [TabularPolicy, GPTPolicy])
def test_with_the_rewards_of_the_world_the_gradient_is_minus_the_exact_one(name, policy):
    world, policy = make(name, policy)
    found = flat_gradient(
        expected_gradient_loss(world, policy, world.response_rewards), list(policy.parameters())
    )
    exact = oracle.exact_gradient(world, policy)
    assert_close(found, -exact)
    assert exact.abs().max() > 0.1


@pytest.mark.parametrize("name", WORLDS)
def test_the_gradient_is_linear_in_the_rewards_and_does_not_read_what_follows_the_end(name):
    world, policy = make(name)
    parameters = list(policy.parameters())

    def gradient(rewards):
        return flat_gradient(expected_gradient_loss(world, policy, rewards), parameters)

    rewards = world.response_rewards.masked_fill(~world.response_mask, float("nan"))
    assert_close(gradient(3 * rewards), 3 * gradient(world.response_rewards))
    assert_close(gradient(torch.zeros_like(rewards)), torch.zeros(parameters[0].numel()))


def test_rewards_that_require_grad_are_refused():
    world, policy = make("with EOS")
    with pytest.raises(ValueError, match="rewards: got a tensor that requires grad"):
        expected_gradient_loss(
            world,
            policy,
            -kl_k1(logprobs=world.logprobs(policy()), ref_logprobs=world.response_rewards),
        )


# k1 in the reward


@pytest.mark.parametrize("name", WORLDS)
def test_k1_leads_to_the_best_policy(name):
    world, policy, ref_logits, records = trained(name, kl_k1, 600)
    assert [row["step"] for row in records] == list(range(0, 601, 50))
    assert records[0]["total variation"] > 0.3 and records[-1]["total variation"] < 0.02
    assert all(row["optimality gap"] > -1e-9 for row in records)
    gaps = [row["optimality gap"] for row in records]
    assert gaps == sorted(gaps, reverse=True) and gaps[0] > 0.5 and gaps[-1] < 0.005
    # the same by the closed form over whole responses
    best, reached = (
        best_response_probabilities(world, ref_logits),
        oracle.response_probabilities(world, policy().detach()),
    )
    assert_close(best.sum(), 1)
    assert 0.5 * (best - reached).abs().sum() < 0.02


@pytest.mark.parametrize("name", WORLDS)
def test_k1_climbs_the_objective_step_by_step(name):
    world, policy = make(name)
    ref_logits = policy().detach().clone()
    best, _ = oracle.optimal_policy(world, ref_logits, KL_COEF)
    records = train_with_kl_in_reward(
        world,
        make(name)[1],
        kl_estimator=kl_k1,
        kl_coef=KL_COEF,
        steps=20,
        learning_rate=LEARNING_RATE,
        record_every=1,
    )
    assert len(records) == 21
    for row in records:  # ascent on E[return] - kl_coef KL, differentiated by autograd
        logits = policy()
        kl = oracle.sequence_kl(world, logits, ref_logits)
        climbed = oracle.objective(world, logits) - KL_COEF * kl
        assert_close(row["objective"], climbed.item())
        assert_close(row["kl"], kl.item())
        assert_close(row["total variation"], oracle.total_variation(world, logits, best).item())
        assert_close(row["largest logit"], logits.abs().max().item())
        with torch.no_grad():
            policy.table += LEARNING_RATE * torch.autograd.grad(climbed, policy.table)[0]


@pytest.mark.parametrize("name", WORLDS)
def test_what_the_records_say_of_the_reference(name):
    world, _, ref_logits, records = trained(name, kl_k1, 50)
    start, best = records[0], best_response_probabilities(world, ref_logits)
    reference = oracle.response_probabilities(world, ref_logits)
    returns = world.response_rewards.sum(dim=1)
    # the best objective by its definition, from the best distribution of responses
    best_objective = (best * (returns - KL_COEF * (best / reference).log())).sum()
    assert start["kl"] == 0
    assert_close(start["objective"], reference @ returns)
    assert_close(start["optimality gap"], best_objective - reference @ returns)
    assert_close(start["total variation"], 0.5 * (best - reference).abs().sum())


def test_the_policy_is_trained_in_place_and_the_reference_is_the_policy_as_it_came():
    world, policy, ref_logits, records = trained("with EOS", kl_k1, 50)
    assert (policy.table - ref_logits).abs().max() > 1
    assert_close(oracle.sequence_kl(world, policy().detach(), ref_logits), records[-1]["kl"])


def test_no_steps_leave_the_policy_as_it_was():
    _, policy, ref_logits, records = trained("with EOS", kl_k1, 0)
    assert torch.equal(policy.table, ref_logits) and len(records) == 1


# k2 and k3 in the reward


@pytest.mark.parametrize(
    "name, apart", [("with EOS", 0.4), ("two prompts", 0.5), ("two prompts, with EOS", 0.025)]
)
def test_k2_comes_to_rest_elsewhere(name, apart):
    _, policy, _, records = trained(name, kl_k2, 600)
    assert torch.isfinite(policy.table).all()
    assert all(math.isfinite(number) for row in records for number in row.values())
    assert all(row["optimality gap"] > -1e-9 for row in records)
    late = [row["total variation"] for row in records if row["step"] >= 400]
    assert min(late) > apart and max(late) - min(late) < 0.01


@pytest.mark.parametrize(
    "name, apart", [("with EOS", 0.4), ("two prompts", 0.1), ("two prompts, with EOS", 0.025)]
)
def test_with_k3_the_policy_comes_to_rest_elsewhere_and_the_logits_run_away(name, apart):
    *_, records = trained(name, kl_k3, 400)
    assert all(row["optimality gap"] > -1e-9 for row in records)
    rows = [row for row in records if row["step"] >= 150]
    assert min(row["total variation"] for row in rows) > apart
    assert abs(rows[0]["total variation"] - rows[-1]["total variation"]) < 1e-3
    growth = [after["largest logit"] - before["largest logit"] for before, after in pairwise(rows)]
    assert min(growth) > 5 and max(growth) - min(growth) < 0.01 * max(growth)


def test_with_k3_the_numbers_end():
    *_, records = trained("with EOS", kl_k3, 600)
    finite = [all(math.isfinite(number) for number in row.values()) for row in records]
    assert finite == [row["step"] <= 400 for row in records]
    assert math.isnan(records[-1]["objective"]) and math.isnan(records[-1]["largest logit"])


@pytest.mark.parametrize("learning_rate, steps", [(2.0, 100), (0.2, 1000)])
def test_with_k3_each_step_pushes_a_token_that_was_given_up_equally_far(learning_rate, steps):
    # pi (-kl_coef k3) with k3 = pi_ref / pi - ... tends to -kl_coef pi_ref as pi goes to 0: the
    # push does not fade. Token 1 with pi_ref = .5 falls by learning_rate .5 .5 each step, and token
    # 0 rises by the same
    world = World(lambda prompt, tokens: 3.0 * (tokens == (0,)), vocab_size=2, response_length=1)
    policy = TabularPolicy(world, generator=torch.Generator().manual_seed(0), scale=0.0)
    records = train_with_kl_in_reward(
        world,
        policy,
        kl_estimator=kl_k3,
        kl_coef=0.5,
        steps=steps,
        learning_rate=learning_rate,
        record_every=steps // 2,
    )
    half, end = records[1:]
    assert (
        abs((end["largest logit"] - half["largest logit"]) / (learning_rate * 0.25 * steps / 2) - 1)
        < 0.01
    )
    # the best policy gives token 1 the share 1 / (1 + exp(3 / .5)) = .0025; this one gives it
    # nothing
    assert abs(end["total variation"] - 1 / (1 + math.exp(6))) < 1e-6
