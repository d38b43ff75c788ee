"""The data of one step: batches, advantages and surrogates, against the exact sums."""

import torch

from minippo import trpo
from minippo.exact import ladder, oracle, surrogates
from minippo.exact.world import GPTPolicy, TabularPolicy, World
from tests.helpers import assert_close

NOTHING = 1e-10


def gpt_in_the_world_of(seed):
    generator = torch.Generator().manual_seed(seed)
    world = World(ladder.reward_functions(seed)["outcome-only"], response_length=4)
    return world, GPTPolicy(world, generator=generator, n_embd=4), generator


def test_the_exact_surrogate_has_the_gradient_of_the_objective():
    world, policy, _ = gpt_in_the_world_of(0)
    old_logits = policy().detach()
    loss, parameters = (
        surrogates.exact_surrogate(world, policy, old_logits),
        list(policy.parameters()),
    )
    length = oracle.reach_probabilities(world, old_logits).sum()
    assert_close(
        -length * trpo.flat_gradient(loss(), parameters), oracle.exact_gradient(world, policy)
    )
    assert abs(loss().item()) < NOTHING  # the mean advantage


def test_over_all_responses_the_sampled_surrogate_is_the_exact_one():
    # two tokens of probability one half: each of the eight responses drawn once is the exact
    # expectation
    world = World(
        lambda prompt, tokens: sum(tokens) * (1.5 - tokens[0]), vocab_size=2, has_eos=False
    )
    policy = TabularPolicy(world, generator=torch.Generator().manual_seed(0), scale=0.0)
    old_logits = policy().detach().clone()
    sampled = surrogates.sampled_surrogate(world, policy, old_logits, torch.arange(8))
    exact = surrogates.exact_surrogate(world, policy, old_logits)
    with torch.no_grad():  # away from the old policy
        policy.table += torch.linspace(-1, 1, 14).view(7, 2) ** 2
    assert_close(sampled(), exact().item())
    gradients = [trpo.flat_gradient(loss(), list(policy.parameters())) for loss in (sampled, exact)]
    assert_close(*gradients)
    assert gradients[1].abs().max() > 0.01


def test_a_batch_is_drawn_from_the_policy():
    world, policy, generator = gpt_in_the_world_of(0)
    index = surrogates.sampled_batch(world, policy, 20_000, generator)
    probabilities = oracle.response_probabilities(world, policy().detach())
    counts = torch.bincount(index, minlength=len(probabilities))
    assert ((counts - 20_000 * probabilities).abs() <= 5 * (20_000 * probabilities).sqrt()).all()


def test_exact_advantages_have_mean_0_in_every_state():
    world, policy, _ = gpt_in_the_world_of(1)
    logits = policy().detach()
    advantages = surrogates.exact_advantages(world, logits)
    assert (advantages[~world.response_mask] == 0).all()
    by_state = torch.zeros(len(world.states)).double()
    for state, token in {
        (s, a)
        for s, a in zip(
            world.state_index[world.response_mask].tolist(),
            world.response_tokens[world.response_mask].tolist(),
        )
    }:
        here = world.response_mask & (world.state_index == state) & (world.response_tokens == token)
        assert advantages[here].unique().numel() == 1
        by_state[state] += logits[state].softmax(dim=-1)[token] * advantages[here][0]
    assert_close(by_state, torch.zeros_like(by_state))
    assert advantages.abs().max() > 0.1
