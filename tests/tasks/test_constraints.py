"""Posts whose prompts name constraints: gold and rules by hand, and pairs that no stage shows."""

import random

import pytest

from minippo.tasks.constraints import (
    HELD_OUT,
    NEW_PAIRS,
    PAIRS,
    SEEN,
    Asked,
    Constraints,
    asked_by,
    prompt_of,
)
from minippo.tasks.tldr import FACTS, Tldr
from tests.tasks.test_base import learned_and_read

TASK = Constraints()
BODY = "i am a baker . i live in rome . i love chess . dinner was good ."


def asking(first=None, left_out=None):
    return f"{BODY} {Asked(first, left_out).text()}tl;dr :"


@pytest.mark.parametrize("asked", [*SEEN, *HELD_OUT])
def test_what_a_prompt_asks_for_can_be_read_from_it(asked):
    post = TASK.write_post(random.Random(0))
    prompt = prompt_of(post, asked)
    assert asked_by(prompt) == asked and prompt.endswith("tl;dr :")
    assert prompt.startswith(post.body) and ("begin with" in prompt) == (asked.first is not None)


def test_each_fact_comes_first_and_is_left_out_once_in_the_pairs_of_either_side():
    assert len({*SEEN, *HELD_OUT}) == len(SEEN) + len(HELD_OUT) == 13
    for pairs in (PAIRS, HELD_OUT):
        for part in zip(*pairs, strict=True):
            assert sorted(part) == sorted(FACTS)


def test_no_stage_shows_a_pair_that_is_held_out():
    texts = learned_and_read(TASK, 2000, random.Random(0))
    shown = [*texts["pretraining"], *texts["training"], *(p for p, _ in texts["demonstrations"])]
    assert {asked_by(text) for text in shown} == {*SEEN}
    prompts = TASK.evaluation_prompts(300, rng=random.Random(1))
    assert {*map(asked_by, prompts)} == {*PAIRS} and len({*prompts}) == 300
    ((kind, new),) = TASK.unfamiliar_prompts(300, rng=random.Random(1)).items()
    assert kind == NEW_PAIRS and {*map(asked_by, new)} == {*HELD_OUT} and len({*new}) == 300


def test_the_demonstrations_follow_each_constraint_more_often_than_not():
    rules = TASK.rules()
    pairs = TASK.demonstrations(4000, rng=random.Random(0))
    for rule, part in (("begins_as_asked", 0), ("leaves_out_as_asked", 1)):
        named = [pair for pair in pairs if asked_by(pair[0])[part] is not None]
        share = sum(rules[rule](*pair) for pair in named) / len(named)
        assert 0.55 < share < 0.85, rule  # by chance too


@pytest.mark.parametrize(
    "asked, response, gold",
    [
        (("city", "job"), "in rome who loves chess", 3.0),
        # the order of tldr, where another is asked for: -1
        (("city", None), "a baker in rome who loves chess", 2.0),
        (("city", None), "in rome a baker who loves chess", 3.0),
        # what is to be left out: not in its place, -1, and two words too many, -0.5
        ((None, "job"), "a baker in rome who loves chess", 1.5),
        ((None, "job"), "in rome who loves chess", 3.0),
        # false besides: -2
        ((None, "job"), "a nurse in rome who loves chess", -0.5),
        # nothing: the point of the fact to be left out, and -1
        (("hobby", "city"), "", 0.0),
        ((None, None), "a baker in rome who loves chess", 3.0),
    ],
)
def test_gold_by_hand(asked, response, gold):
    assert TASK.gold(asking(*asked), response) == gold and TASK.gold_max == 3


def test_without_constraints_it_is_the_gold_of_tldr():
    rng, plain = random.Random(0), Tldr()
    for prompt, completion in plain.demonstrations(300, rng=rng):
        assert TASK.gold_axes(prompt, completion) == plain.gold_axes(prompt, completion)


@pytest.mark.parametrize(
    "response, kept",
    [
        ("in rome who loves chess", (True, True, True, True)),
        ("who loves chess in rome", (False, True, True, False)),
        ("in rome a baker who loves chess", (True, False, True, False)),
        ("in rome", (True, True, False, False)),
        ("", (False, True, False, False)),
        # a rule about the order and one about what is told do not ask whether it is true
        ("in oslo who loves chess", (True, True, True, True)),
    ],
)
def test_the_rules_of_a_prompt_by_hand(response, kept):
    rules = TASK.rules()
    names = ("begins_as_asked", "leaves_out_as_asked", "tells_the_rest", "keeps_all_that_is_asked")
    prompt = asking("city", "job")
    assert tuple(rules[name](prompt, response) for name in names) == kept
    assert rules["tells_nothing_false"](prompt, response) == ("oslo" not in response)
    assert "tells_the_job" not in rules


def test_a_restatement_follows_every_constraint():
    rng, rules = random.Random(0), TASK.rules()
    for text in learned_and_read(TASK, 200, rng)["pretraining"]:
        if " facts : " in text:
            post, summary = text.split(" facts : ")
            assert rules["keeps_all_that_is_asked"](post, summary), text


def test_the_best_summary_is_worth_the_same_whatever_is_asked():
    clauses = {"job": "a baker", "city": "in rome", "hobby": "who loves chess"}
    for asked in (*SEEN, *HELD_OUT):
        best = " ".join(clauses[fact] for fact in asked.order())
        assert TASK.gold(asking(*asked), best) == 3, asked
