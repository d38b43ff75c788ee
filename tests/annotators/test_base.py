"""The record of an annotator, and how a pair is judged."""

import pytest
import torch

from minippo.annotators.base import (
    Annotator,
    AnnotatorConfig,
    Shown,
    draw_labels,
    judge,
    one_opinion,
    pair_indices,
    preference_probabilities,
)
from minippo.annotators.taste import GOLD
from minippo.stages.preferences import annotate
from minippo.tasks.capitals import Capitals
from tests.annotators.shown import shown
from tests.helpers import assert_close, f64


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def test_every_pair_stands_once():
    first, second = pair_indices(3)
    assert (first.tolist(), second.tolist()) == ([0, 0, 1], [1, 2, 2])


def test_the_probability_of_a_pair_by_hand():
    # sigmoid((3 - 2) / 0.5) = 1 / (1 + exp(-2)), sigmoid((3 - 3) / 0.5) = 1/2, and the mirror
    found = preference_probabilities(f64([3.0, 2.0, 3.0]), 0.5)
    assert_close(found, [0.8807970779778823, 0.5, 0.11920292202211755])


def test_labels_are_drawn_with_their_probability():
    labels = draw_labels(f64([0.3]).expand(20000), seeded())
    assert set(labels.tolist()) == {1, -1}
    assert (labels == 1).double().mean().item() == pytest.approx(0.3, abs=0.015)


def test_the_gold_annotator_draws_what_it_always_drew():
    gold = torch.randint(0, 4, (50, 4), generator=seeded(1)).double()
    config = AnnotatorConfig(annotator_temperature=0.7)
    found = judge(GOLD, shown(gold=gold), config, seeded(2))
    labels, probabilities = annotate(gold, temperature=0.7, generator=seeded(2))
    assert torch.equal(found.labels, labels) and torch.equal(found.probabilities, probabilities)
    assert found.disagreement is None


def test_what_is_worth_the_same_is_not_compared():
    found = judge(GOLD, shown(gold=f64([[1.0, 1.0, 0.0]])), AnnotatorConfig(), seeded())
    assert found.labels[0, 0] == 0 and (found.labels[0, 1:] != 0).all()
    # two members: a pair is left out when it is the same to both of them
    two = Annotator("two", "", lambda *_: f64([[[1.0, 1.0, 0.0]], [[1.0, 2.0, 1.0]]]))
    assert judge(two, shown(gold=f64([[0, 0, 0]])), AnnotatorConfig(), seeded()).labels.all()


def test_who_has_one_opinion_can_do_more_than_compare():
    assert not GOLD.compares_only and GOLD.decide is one_opinion
    assert Annotator("x", "", GOLD.worth, decide=lambda *_: one_opinion(*_)).compares_only


def test_a_panel_of_an_even_number_is_refused():
    with pytest.raises(ValueError, match="^annotator_panel: wanted an odd number, got 4"):
        AnnotatorConfig(annotator_panel=4)


def test_a_table_asks_about_every_response():
    record = Shown(Capitals(), ["a", "b"], [["x", "yy"], ["", "z"]], f64([[1, 1]]), f64([[0, 0]]))
    found = record.table(lambda prompt, response: len(response) + 10 * (prompt == "b"))
    assert found.tolist() == [[1.0, 2.0], [10.0, 11.0]]
