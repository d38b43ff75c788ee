"""Which mistakes are recognised: one, two at once, and none where an agreement says nothing."""

from dataclasses import replace

import torch

from minippo.exercises.changes import NO_MASK, TURNED, comes_out, number
from minippo.exercises.draw import Draw
from minippo.exercises.engine import Exercise, Mistake


def reference(x, response_mask, gamma):
    return torch.where(response_mask, gamma * x, 0.0)


def cases(seed=None):
    draw = Draw("recognise", seed)
    for width in (3, 4):
        mask = draw.mask(2, width - 1, width)
        draw.add("rows", x=draw.normal(2, width), response_mask=mask, gamma=0.5)
    return draw.cases()


def squared(x, response_mask, gamma):
    return torch.where(response_mask, gamma * x**2, 0.0)


EXERCISE = Exercise(
    "recognise",
    reference,
    cases,
    (Mistake("formula", "squared", squared),),
    gradient_of=("x",),
    changes=(NO_MASK, number("discount", "no gamma", gamma=1.0), TURNED),
)


def name(answer):
    return EXERCISE.verdict(answer).mistake


def test_one_mistake_by_what_it_does():
    assert name(lambda x, response_mask, gamma: gamma * x) == "mask"
    assert name(lambda x, response_mask, gamma: x * response_mask) == "discount"
    assert name(lambda x, response_mask, gamma: gamma * x * x * response_mask) == "formula"


def test_two_mistakes_get_both_names():
    assert name(lambda x, response_mask, gamma: x) == "mask and discount"
    assert name(lambda x, response_mask, gamma: gamma * x**2) == "formula and mask"
    assert name(lambda x, response_mask, gamma: -(x**2) * gamma * response_mask) == (
        "formula and sign"
    )
    assert name(lambda x, response_mask, gamma: gamma * x.detach()) == "mask and detach"
    assert name(lambda x, response_mask, gamma: -gamma * (x * response_mask).data) == (
        "sign and detach"
    )


def test_three_mistakes_get_three_names():
    assert name(lambda x, response_mask, gamma: -x) == "mask and discount and sign"
    assert name(lambda x, response_mask, gamma: -gamma * x**2) == "formula and mask and sign"
    assert name(lambda x, response_mask, gamma: -x.detach()) == (
        "mask and discount and sign and detach"
    )


def test_how_many_at_once_are_looked_for_is_the_exercises_to_say():
    two = replace(EXERCISE, most=2)
    assert two.verdict(lambda x, response_mask, gamma: x).mistake == "mask and discount"
    assert two.verdict(lambda x, response_mask, gamma: -gamma * x**2).mistake != (
        "formula and mask and sign"
    )


def test_three_at_once_do_not_explain_what_is_made_of_0_and_1():
    def many(seed=None):
        draw = Draw("yes or no", seed)
        draw.add("rows", x=draw.normal(3, 20), response_mask=draw.mask(3, 15, 20), gamma=0.5)
        return draw.cases()

    def above(x, response_mask, gamma):
        return torch.where(response_mask, (gamma * x > 0.3).double(), 0.0)

    def three(x, response_mask, gamma):
        return 1 - (x > 0.3).double()

    turned = comes_out("sign", "", lambda value, case: 1 - value)
    changes = (NO_MASK, number("discount", "no gamma", gamma=1.0), turned)
    yes_or_no = Exercise("yes or no", above, many, (), changes=changes)
    assert yes_or_no.verdict(three).mistake is None
    scaled = comes_out("sign", "", lambda value, case: 3 - value)
    others = Exercise("others", above, many, (), changes=(*changes[:2], scaled))
    assert others.verdict(lambda **case: 2 + three(**case)).mistake == "mask and discount and sign"


def test_a_wrong_padding_is_named_whatever_is_in_it():
    filled = reference(**cases()[0])
    assert filled.shape == (2, 3)
    assert name(lambda x, response_mask, gamma: (gamma * x).masked_fill(~response_mask, -7.0)) == (
        "mask"
    )
    assert name(lambda x, response_mask, gamma: (-gamma * x).masked_fill(~response_mask, 3.0)) == (
        "sign and mask"
    )


def test_what_does_something_else_has_no_name():
    assert name(lambda x, response_mask, gamma: torch.where(response_mask, x.cos(), 0.0)) is None
    assert name(lambda x, response_mask, gamma: torch.zeros_like(x)) is None
    assert name(lambda x, response_mask, gamma: torch.full_like(x, torch.nan)) is None


def test_changes_that_have_no_name_in_common_give_none():
    rivals = (number("scale", "", gamma=1.0), number("discount", "", gamma=1.0))
    two = Exercise("rivals", reference, cases, (), changes=rivals)
    assert two.verdict(lambda x, response_mask, gamma: x * response_mask).mistake is None


def test_a_mistake_that_changes_few_numbers_is_not_named_by_them():
    def one_number(x, response_mask, gamma):
        found = reference(x, response_mask, gamma)
        return torch.where(found == found.max(), found + 1, found)

    rare = Exercise(
        "rare", reference, lambda seed=None: cases(seed)[:1], (Mistake("formula", "", one_number),)
    )
    assert not rare.verdict(one_number).passed and rare.verdict(one_number).mistake is None
