"""Annotators who are many or unreliable: how often they go wrong, and who with whom."""

import itertools

import pytest
import torch

from minippo.annotators.base import AnnotatorConfig, judge
from minippo.annotators.crowd import ADVERSARIAL, NOISY, PANEL, majority_probability, mixed, vote
from minippo.annotators.taste import GOLD
from minippo.tasks.base import Task
from minippo.tasks.capitals import Capitals
from tests.annotators.shown import FALSE, TRUE, shown
from tests.helpers import assert_close, f64

N = 20000
PLAIN = f64([[1.0, 0.0, -1.0]]).expand(N, 3)  # pairs (0,1), (0,2), (1,2): the first is better


def judged(annotator, gold=PLAIN, seed=0, **settings):
    config = AnnotatorConfig(annotator_temperature=0.01, **settings)
    return judge(annotator, shown(gold=gold), config, torch.Generator().manual_seed(seed))


def test_the_mixed_chance_by_hand():
    assert_close(mixed(f64([0.9, 0.5]), 0.2), [0.8 * 0.9 + 0.2 * 0.1, 0.5])


@pytest.mark.parametrize("annotator", [NOISY, ADVERSARIAL])
def test_the_share_of_wrong_labels_is_the_one_that_was_asked_for(annotator):
    field = annotator.fields[0]
    found = judged(annotator, **{field: 0.3})
    # one label in three correlated ones of a prompt: sqrt(0.3 * 0.7 / 20000) = 0.003
    assert (found.labels == -1).double().mean().item() == pytest.approx(0.3, abs=0.015)
    assert_close(found.probabilities, f64([[0.7, 0.7, 0.7]]).expand(N, 3))


def test_slips_are_independent_and_adversaries_are_wrong_in_all_labels_of_a_prompt():
    of_noise = (judged(NOISY, annotator_noise=0.3).labels == -1).double()
    of_foes = (judged(ADVERSARIAL, annotator_adversaries=0.3).labels == -1).double()
    all_three = [x.prod(dim=1).mean().item() for x in (of_noise, of_foes)]
    assert all_three == pytest.approx([0.3**3, 0.3], abs=0.015)


@pytest.mark.parametrize("share, sign", [(0.0, 1), (1.0, -1)])
@pytest.mark.parametrize("annotator", [NOISY, ADVERSARIAL])
def test_nobody_and_everybody(annotator, share, sign):
    found = judged(annotator, **{annotator.fields[0]: share})
    assert (found.labels == sign).all()


def test_without_slips_the_noisy_annotator_draws_as_gold_does():
    gold = torch.randn(200, 4, generator=torch.Generator().manual_seed(1)).double()
    one, other = judged(NOISY, gold, annotator_noise=0.0), judged(GOLD, gold)
    assert torch.equal(one.labels, other.labels)


# -- the panel


def test_members_of_a_panel_have_a_favourite_axis():
    # TRUE has coverage 3 and nothing else; FALSE has coverage 3, accuracy -6, and the rest 0.
    # Weight 4: coverage counts 3 times more for the first member, accuracy for the second, and
    # coherence, which is 0, for the third.
    config = AnnotatorConfig(annotator_panel=3, annotator_taste=4.0)
    worth = PANEL.worth(shown(TRUE, FALSE), config)
    assert worth.tolist() == [[[12.0, 6.0]], [[3.0, -21.0]], [[3.0, -3.0]]]


def test_more_members_than_axes_begin_again():
    config = AnnotatorConfig(annotator_panel=5, annotator_taste=4.0)
    worth = PANEL.worth(shown(TRUE, FALSE), config)  # four axes
    assert torch.equal(worth[4], worth[0])


def test_the_chance_of_a_majority_by_hand_and_by_enumeration():
    # two of three: 0.9 * 0.8 * 0.3 + 0.9 * 0.2 * 0.7 + 0.1 * 0.8 * 0.7 + 0.9 * 0.8 * 0.7
    chances = [0.9, 0.8, 0.7]
    assert_close(majority_probability(f64(chances)), 0.216 + 0.126 + 0.056 + 0.504)
    chances = [0.9, 0.2, 0.6, 0.55, 0.3]
    total = 0.0
    for votes in itertools.product((0, 1), repeat=5):
        share = 1.0
        for p, voted in zip(chances, votes, strict=True):
            share *= p if voted else 1 - p
        total += share * (sum(votes) > 2)
    assert_close(majority_probability(f64(chances)), total)
    assert_close(majority_probability(f64([[0.3, 0.6]])), [0.3, 0.6])  # a panel of one


def test_the_vote_comes_out_as_often_as_it_says():
    chances = f64([0.9, 0.3, 0.6]).view(3, 1, 1).expand(3, N, 1)
    found = vote(chances, AnnotatorConfig(), torch.Generator().manual_seed(0))
    assert (found.labels == 1).double().mean().item() == pytest.approx(
        found.probabilities[0, 0].item(), abs=0.015
    )


def test_the_disagreement_is_the_share_that_was_outvoted():
    sure = f64([1.0, 1.0, 0.0, 1.0, 0.0]).view(5, 1, 1)
    found = vote(sure, AnnotatorConfig(), torch.Generator().manual_seed(0))
    assert found.labels.item() == 1 and found.disagreement.item() == pytest.approx(2 / 5)
    same = vote(torch.ones(5, 1, 1).double(), AnnotatorConfig(), torch.Generator())
    assert same.disagreement.item() == 0.0


def test_a_panel_needs_a_rule():
    class Lawless(Capitals):
        gold_max = None
        gold_axes = Task.gold_axes

    assert PANEL.refuses(Lawless(), AnnotatorConfig()) == "the task capitals has no rule"
    assert PANEL.refuses(Capitals(), AnnotatorConfig()) is None


@pytest.mark.parametrize("annotator", [NOISY, ADVERSARIAL, PANEL])
def test_they_compare_and_do_no_more(annotator):
    assert annotator.compares_only
