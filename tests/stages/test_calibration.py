"""The calibration table: by hand, and for a model that means what it says."""

import pytest
import torch

from minippo.runs.stats import wilson_interval
from minippo.stages.calibration import calibration_table
from minippo.stages.preferences import Comparisons
from tests.helpers import f64


def compared(labels, prompts=None):
    """Comparisons of two responses each, of which only labels and prompts are read."""
    n = len(labels)
    ids = torch.tensor(list(range(n)) if prompts is None else prompts).unsqueeze(1)
    ones = torch.ones(n, 2, 1, dtype=torch.int64)
    return Comparisons(
        ids, torch.ones_like(ids).bool(), ones, ones.bool(), torch.tensor(labels), torch.zeros(n, 1)
    )


def logit(p):
    return torch.special.logit(f64(p)).item()


def test_the_table_by_hand():
    # probabilities 0.55, 0.55, 0.95, and 0.95 for the second, which was chosen; the last is a tie
    # that nobody compared
    scores = f64([[logit(0.55), 0], [logit(0.55), 0], [logit(0.95), 0], [0, logit(0.95)], [9, 0]])
    low, high = calibration_table(scores, compared([[1], [-1], [1], [-1], [0]]))
    assert low["predicted"] == pytest.approx(0.55) and low["chosen"] == 0.5
    assert high["predicted"] == pytest.approx(0.95) and high["chosen"] == 1.0
    assert (low["pairs"], high["pairs"], low["prompts"]) == (2, 2, 2)
    assert (low["low"], low["high"]) == wilson_interval(1, 2)


def test_equal_scores_count_half_in_the_first_bin():
    (row,) = calibration_table(f64([[1.0, 1.0]]), compared([[1]]))
    assert (row["predicted"], row["chosen"]) == (0.5, 0.5)


def test_a_probability_of_one_is_in_the_last_bin():
    (row,) = calibration_table(f64([[1e3, 0.0]]), compared([[-1]]))
    assert (row["predicted"], row["chosen"]) == (1.0, 0.0)


def test_the_pairs_of_a_prompt_are_one_cluster():
    scores, labels = f64([[2.0, 0.0]] * 4), [[1], [-1], [1], [1]]
    (apart,) = calibration_table(scores, compared(labels))
    (together,) = calibration_table(scores, compared(labels, [7, 7, 7, 7]))
    assert (apart["prompts"], together["prompts"]) == (4, 1)
    assert together["high"] - together["low"] > apart["high"] - apart["low"]


def test_the_unit_is_what_a_difference_is_measured_in():
    (row,) = calibration_table(f64([[1.0, 0.0]]), compared([[1]]), unit=0.5)
    assert row["predicted"] == pytest.approx(torch.sigmoid(torch.tensor(2.0)).item())


def test_who_draws_from_these_scores_is_on_the_line():
    generator = torch.Generator().manual_seed(0)
    scores = torch.randn(20000, 2, generator=generator).double()
    chance = torch.sigmoid(scores[:, :1] - scores[:, 1:])
    draws = torch.rand(20000, 1, generator=generator) < chance
    for row in calibration_table(scores, compared(torch.where(draws, 1, -1).tolist())):
        assert row["low"] - 0.01 < row["predicted"] < row["high"] + 0.01
