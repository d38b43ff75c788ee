"""Samples of another policy, and the best of n beside the frontier."""

import math

import pytest
import torch

from minippo.exact import samplers
from minippo.exact.groups import make_bandit
from minippo.exact.oracle import response_probabilities, sequence_kl
from tests.exact.test_groups import PROBLEM


def test_the_sampler_that_is_the_learner_needs_no_weights():
    biases = samplers.weighted_biases(PROBLEM, PROBLEM.ref_logits, PROBLEM.ref_logits)
    assert max(biases.values()) < 1e-9


def test_only_the_weight_of_the_whole_response_repairs_all():
    for row in samplers.sampler_rows(PROBLEM):
        assert row["response"] < 1e-9 < 1e-5 < row["token"] and row["none"] > 1e-5, row
        assert row["response, at most 2"] < row["none"], row


def test_fewer_bits_are_a_sampler_that_is_nearer():
    rows = {row["name"]: row for row in samplers.sampler_rows(PROBLEM)}
    coarse, fine = rows["bfloat16 logits"], rows["float16 logits"]
    assert 0 < fine["kl"] < coarse["kl"] < rows["1 update old"]["kl"]
    assert fine["none"] < coarse["none"]


def test_for_one_token_both_levels_are_one():
    bandit = make_bandit([1.0, 0.3, -0.5], [0.5, 0.3, 0.2], 0.5)
    biases = samplers.weighted_biases(bandit, bandit.ref_logits, bandit.ref_logits / 2)
    assert biases["token"] < 1e-9 and biases["response"] < 1e-9 < biases["none"]


def test_older_rollouts_are_farther_away():
    rows = samplers.sampler_rows(PROBLEM)[-len(samplers.AGES) :]
    for younger, older in zip(rows, rows[1:], strict=False):
        assert younger["kl"] < older["kl"] and younger["none"] < older["none"]
    path = samplers.policies(PROBLEM, 2)
    objectives = [PROBLEM.objective(logits).item() for logits in path]
    assert objectives == sorted(objectives) and len(path) == 3


def test_the_frontier_has_the_best_policy_on_it():
    best = PROBLEM.best()
    kl = sequence_kl(PROBLEM.world, best, PROBLEM.ref_logits).item()
    wanted = response_probabilities(PROBLEM.world, best) @ PROBLEM.scores
    assert samplers.frontier_score(PROBLEM, kl) == pytest.approx(wanted.item())


def test_the_best_of_n_is_under_its_bound_and_under_the_frontier():
    rows = samplers.best_of_n_frontier(PROBLEM)
    assert [row["n"] for row in rows] == list(samplers.NUMBERS)
    for row in rows:
        assert 0 < row["kl"] < row["bound"] < math.log(row["n"])
        assert row["score"] < row["frontier"] < PROBLEM.scores.max() + 1e-9
    assert torch.tensor([row["score"] for row in rows]).diff().min() > 0
