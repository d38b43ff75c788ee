"""The check of an answer: what passes, what is said of a mistake that is known, and what of one
that is not."""

import pytest
import torch

from minippo.exercises.engine import MISTAKE_NAMES, Exercise, Mistake


def doubled(x, mask):
    return torch.where(mask, 2 * x, 0.0)


def cases():
    mask = torch.tensor([[True, True], [True, False]])
    return [
        {"x": torch.tensor([[1.0, -2.0], [3.0, 4.0]], dtype=torch.float64) + n, "mask": mask}
        for n in range(2)
    ]


EXERCISE = Exercise(
    "doubled",
    doubled,
    cases,
    (
        Mistake("sign", "the sign is turned", lambda x, mask: -doubled(x, mask)),
        Mistake("sum for mean", "summed over the row", lambda x, mask: doubled(x, mask).sum(dim=1)),
        Mistake("detach", "no gradient", lambda x, mask: doubled(x.detach(), mask)),
    ),
    gradient_of=("x",),
)


@pytest.mark.parametrize(
    "answer",
    [
        doubled,
        lambda x, mask: (x + x) * mask,
        lambda x, mask: (x.float() * 2).masked_fill(~mask, 0.0),
        lambda x, mask: torch.stack(
            [
                torch.stack([2 * v if m else 0 * v for v, m in zip(*row, strict=True)])
                for row in zip(x, mask, strict=True)
            ]
        ),
    ],
)
def test_right_answers_of_any_form_pass(answer):
    assert EXERCISE.verdict(answer) == (True, None, "values and gradients agree on 2 cases")


def raises(x, mask):
    return x[5]


def stub(x, mask):
    raise NotImplementedError


@pytest.mark.parametrize(
    "answer, mistake, message",
    [
        (stub, None, "the function is not written yet"),
        (lambda x, mask: None, None, "case 1: the function returned None; is there a return?"),
        (lambda x, mask: "2", None, "case 1: the result is a str, wanted a tensor"),
        (
            raises,
            None,
            "case 1 raised IndexError: index 5 is out of bounds for dimension 0 with size 2 (in "
            "raises: return x[5])",
        ),
        (
            lambda x, mask: doubled(x, mask)[0],
            None,
            "case 1: the result has shape [2], wanted [2, 2]",
        ),
        (lambda x, mask: 2 * (x * mask).sum(1), "sum for mean", "summed over the row"),
        (lambda x, mask: -2 * x * mask, "sign", "the sign is turned"),
        (lambda x, mask: (2 * x * mask).detach(), "detach", "no gradient"),
        (
            lambda x, mask: 3 * x * mask,
            None,
            "case 1: the result is 3 at [0, 0], wanted 2; 3 of 4 places differ",
        ),
        (lambda x, mask: (2 * x * mask).detach() + 0 * x, "detach", "no gradient"),
        (
            lambda x, mask: (3 * x * mask).detach() - x * mask,
            None,
            "case 1: the values are right, but the gradient to x is -1 at [0, 0], wanted 2; 3 of "
            "4 places differ",
        ),
        (
            lambda x, mask: 2 * x,
            None,
            "case 1: the result is 8 at [1, 1], wanted 0; 1 of 4 places differ",
        ),
        (lambda x, mask: x / 0 * mask, None, None),
        (
            lambda x, mask: (-2 * x * mask).detach(),
            "sign",
            "the sign is turned; beside that the gradient is not right",
        ),
        (
            lambda y, mask: 2 * y * mask,
            None,
            "the arguments must keep the names of the stub: x, mask",
        ),
    ],
)
def test_what_is_said_of_wrong_answers(answer, mistake, message):
    verdict = EXERCISE.verdict(answer)
    assert not verdict.passed and verdict.mistake == mistake
    assert message is None or verdict.message == message


def test_an_answer_that_is_right_on_the_first_case_only_does_not_pass():
    first = cases()[0]["x"][0, 0]
    assert not EXERCISE.verdict(
        lambda x, mask: doubled(x, mask) if x[0, 0] == first else -doubled(x, mask)
    ).passed


def test_the_answer_cannot_change_the_inputs_of_the_check():
    def writes_into_its_input(x, mask):
        result = doubled(x, mask)
        x.data.zero_()
        return result

    assert EXERCISE.verdict(writes_into_its_input).passed and EXERCISE.verdict(doubled).passed


def test_a_number_is_taken_for_a_tensor():
    total = Exercise(
        "total", lambda x: x.sum(), lambda: [{"x": torch.ones(3, dtype=torch.float64)}], ()
    )
    assert total.verdict(lambda x: 3.0).passed and total.verdict(lambda x: 3).passed
    assert total.verdict(lambda x: 2.0).message == "case 1: the result is 2, wanted 3"


def test_check_prints_the_verdict(capsys):
    EXERCISE.check(stub)
    EXERCISE.check(doubled)
    assert capsys.readouterr().out == (
        "not yet: the function is not written yet\npassed: values and gradients agree on 2 cases\n"
    )


def test_the_names_of_mistakes_are_different():
    assert len(set(MISTAKE_NAMES)) == len(MISTAKE_NAMES)
