"""AI feedback: each rule by hand, and the number that is kept."""

import pytest

from minippo.annotators.base import AnnotatorConfig
from minippo.annotators.rules import AI, RULES, rules_of
from minippo.tasks.base import Task
from minippo.tasks.capitals import Capitals
from minippo.tasks.tldr import Tldr
from tests.annotators.shown import FALSE, PROMPT, TRUE, shown

TEN = "so well just really basically a baker in rome chess"


@pytest.mark.parametrize(
    "name, kept, broken",
    [
        ("says_something", TRUE, ""),
        ("is_short", "a b c d e f g h i", TEN),
        ("repeats_nothing", TRUE, "a baker a baker"),
        ("tells_the_job", "a baker", "in rome"),
        ("tells_the_city", "in oslo", "a baker"),
        ("tells_the_hobby", TRUE, "in rome"),
        ("tells_nothing_false", "a baker", "a baker in oslo"),
        ("only_clauses", "so a baker", "baker a"),
    ],
)
def test_each_rule_by_hand(name, kept, broken):
    rule = rules_of(Tldr())[name]
    assert rule(PROMPT, kept) is True and rule(PROMPT, broken) is False


def test_the_rules_of_capitals():
    rules, question = rules_of(Capitals()), "what is the capital of france ?"
    assert rules["names_one_city"](question, "london")
    assert not rules["names_one_city"](question, "paris london")
    assert rules["names_the_capital"](question, "paris london")
    assert not rules["names_the_capital"](question, "london")


def test_the_number_of_rules_that_are_kept():
    # TRUE keeps all eight; FALSE tells something false; nothing at all breaks "says_something" and
    # the three "tells_the_..."
    worth = AI.worth(shown(TRUE, FALSE, ""), AnnotatorConfig())
    assert worth.tolist() == [[[8.0, 7.0, 4.0]]]
    few = AnnotatorConfig(annotator_rules="is_short, tells_nothing_false")
    assert AI.worth(shown(TRUE, FALSE, ""), few).tolist() == [[[2.0, 1.0, 2.0]]]


def test_a_name_that_no_rule_has_is_refused_with_those_that_there_are():
    refused = AI.refuses(Tldr(), AnnotatorConfig(annotator_rules="is_short,is_kind"))
    assert refused is not None and refused.startswith("no rule is called 'is_kind'; there are says")
    assert AI.refuses(Tldr(), AnnotatorConfig(annotator_rules="is_short")) is None
    assert "''" in (AI.refuses(Tldr(), AnnotatorConfig(annotator_rules="")) or "")


def test_a_task_without_rules_of_its_own_has_those_of_any_text():
    class Plain(Capitals):
        rules = Task.rules

    assert list(rules_of(Plain())) == list(RULES)
