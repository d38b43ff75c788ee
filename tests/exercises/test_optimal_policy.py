"""Exercise 13: right answers of several kinds pass, and each wrong one is told what it is."""

import torch

from minippo.exact.oracle import optimal_policy
from minippo.exact.world import TabularPolicy, World
from minippo.exercises.optimal_policy import exercise, reference
from tests.exercises.bank import optimal_policy as bank
from tests.exercises.exercise_checks import check_exercise
from tests.helpers import assert_close


def test_the_exercise():
    check_exercise(exercise, bank)


def test_it_is_the_best_policy_of_the_enumerable_world():
    world = World(
        lambda prompt, tokens: float(sum(tokens)) - len(tokens), vocab_size=3, response_length=3
    )
    ref_logits = TabularPolicy(world, generator=torch.Generator().manual_seed(0))().detach()
    best_logits, _ = optimal_policy(world, ref_logits, 0.7)
    log_ref, scores = world.logprobs(ref_logits), world.response_rewards.sum(dim=1)
    got = reference(log_ref[None], world.response_mask[None], scores[None], 0.7)
    assert_close(got[0], world.logprobs(best_logits).sum(dim=1))
