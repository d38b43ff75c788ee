"""The rows of the family's table: what they hold, and what the whole command finds."""

import pytest
import torch

from minippo.exact import relatives
from minippo.exact.ends import End
from minippo.exact.groups import all_groups
from minippo.exact.methods import METHODS, Estimator
from minippo.exact.oracle import response_probabilities
from tests.exact.test_groups import PROBLEM
from tests.helpers import assert_close, f64

BY_NAME = {method.name: method for method in METHODS}


@pytest.fixture
def small(monkeypatch):
    """Groups of 2, and no other start."""
    monkeypatch.setattr(relatives, "GROUP_SIZE", 2)
    monkeypatch.setattr(relatives, "OTHER_STARTS", 0)


def test_a_row_of_the_steps(small):
    row = relatives.step_row(PROBLEM, BY_NAME["rloo"], 9)
    assert (row["name"], row["kl"], row["critic"]) == ("rloo", "reward", False)
    assert row["published"] == row["k1"] and row["published"]["bias"] < 1e-9
    assert row["stale"]["free"] < 1e-9 < row["stale"]["clipped"]
    assert relatives.step_row(PROBLEM, BY_NAME["pg"], 9)["stale"] is None


def test_the_ends_with_and_without_the_kl(small):
    ends = relatives.Ends(PROBLEM, 9)
    dr_grpo = BY_NAME["dr_grpo"]
    without, reward = ends.of(dr_grpo, "none"), ends.of(dr_grpo, "reward")
    assert without["kind"] == "one response" and without["is the best"]
    assert without["response"] == [1, 0] and without["share"] < 0.9
    assert reward["kind"] == "interior" and reward["total variation"] < 1e-6
    assert reward["share"] == pytest.approx(1)
    assert ends.of(dr_grpo, "none") is without  # followed once


def test_methods_with_one_field_are_followed_once():
    groups = all_groups(PROBLEM.world, 2)
    dapo, cispo, gspo = (
        Estimator(PROBLEM, BY_NAME[name], groups, "none") for name in ("dapo", "cispo", "gspo")
    )
    assert relatives.is_same_field(dapo, cispo) and not relatives.is_same_field(dapo, gspo)
    other = Estimator(PROBLEM, BY_NAME["cispo"], groups, "reward")
    assert not relatives.is_same_field(dapo, other)


def test_no_end_has_no_numbers():
    row = relatives.end_row(PROBLEM, End("none", PROBLEM.ref_logits, 5000))
    assert row["total variation"] is None and row["share"] is None and row["response"] is None


def test_the_share_of_what_can_be_gained():
    assert relatives.share_of_best(PROBLEM, PROBLEM.ref_logits) == 0
    assert relatives.share_of_best(PROBLEM, PROBLEM.best()) == pytest.approx(1)
    ref, best = (
        response_probabilities(PROBLEM.world, x) for x in (PROBLEM.ref_logits, PROBLEM.best())
    )
    row = relatives.distribution_row(PROBLEM, best, ref, best)
    assert row["share"] == pytest.approx(1) and row["total variation"] == 0
    sure = torch.nn.functional.one_hot(PROBLEM.scores.argmax(), 15).double()
    wanted = PROBLEM.scores.max() + 0.5 * ref[PROBLEM.scores.argmax()].log()
    start = ref @ PROBLEM.scores
    top = PROBLEM.objective(PROBLEM.best())
    found = relatives.distribution_row(PROBLEM, sure, ref, best)["share"]
    assert_close(f64(found), (wanted - start) / (top - start))


def test_rounds_of_the_best_of_4_end_at_the_best_response():
    once, often = relatives.best_of_n_rows(PROBLEM)
    assert once["name"] == "best of 4 (rft once)" and often["name"] == "best of 4, 50 rounds"
    best = response_probabilities(PROBLEM.world, PROBLEM.best())[PROBLEM.scores.argmax()]
    assert often["total variation"] == pytest.approx(1 - best.item())


def test_difficulty_by_size_of_group():
    rows = {row["name"]: row for row in relatives.difficulty_rows()}
    assert rows["centred"]["64"] == pytest.approx(1)
    assert round(rows["standardised"]["64"], 2) == 3.39


@pytest.mark.slow
def test_only_in_the_reward_the_kl_leads_to_the_best_policy():
    shares = {row["name"]: row["shares"] for row in relatives.placement_rows(worlds=1)}
    assert shares["k1 in the reward"] == [pytest.approx(1)]
    assert 0.5 < shares["k3 in the loss"][0] < shares["k2 in the loss"][0] < 0.99


@pytest.mark.slow
def test_the_direct_losses_of_whole_responses():
    rows = {row["name"]: row for row in relatives.direct_rows(PROBLEM)}
    assert rows["dpo"]["kind"] == "interior" and rows["dpo"]["total variation"] < 1e-6
    assert rows["dpo, smoothing 0.1"]["total variation"] > 0.01 < rows["ipo"]["total variation"]
