"""Annotators with one opinion: what a response is worth to each of them."""

import pytest

from minippo.annotators.base import AnnotatorConfig
from minippo.annotators.taste import CONFIDENT, GOLD, LENGTH
from minippo.tasks.base import Task
from minippo.tasks.capitals import Capitals
from minippo.tasks.tldr import Tldr
from tests.annotators.shown import FALSE, TRUE, shown

SHORT = "a baker"


def worth(annotator, **settings):
    config = AnnotatorConfig(**settings)
    return annotator.worth(shown(TRUE, FALSE, SHORT), config).tolist()


def test_gold_is_the_rule():
    # three facts, all true: 3; all wrong: 3 - 6; one fact: 1
    assert worth(GOLD) == [[[3.0, -3.0, 1.0]]]


def test_length_adds_for_every_token():
    # 7, 7 and 2 words, and EOS
    assert worth(LENGTH, annotator_length_bias=0.5) == [[[3 + 4.0, -3 + 4.0, 1 + 1.5]]]
    assert worth(LENGTH, annotator_length_bias=0.0) == worth(GOLD)


def test_confidence_counts_claims_right_or_wrong():
    assert worth(CONFIDENT, annotator_claim_bias=1.0) == [[[3.0, 3.0, 1.0]]]
    assert worth(CONFIDENT, annotator_claim_bias=0.25) == [[[3.0, -1.5, 1.0]]]
    assert worth(CONFIDENT, annotator_claim_bias=0.0) == worth(GOLD)


def test_the_confident_annotator_needs_claims():
    class Mute(Capitals):
        claims = Task.claims

    config = AnnotatorConfig()
    assert CONFIDENT.refuses(Mute(), config) == "the task capitals does not say what a claim is"
    assert CONFIDENT.refuses(Capitals(), config) is None
    assert CONFIDENT.refuses(Tldr(), config) is None


@pytest.mark.parametrize("annotator", [GOLD, LENGTH, CONFIDENT])
def test_they_rank_and_rate_as_well(annotator):
    assert not annotator.compares_only
