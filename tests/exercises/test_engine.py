"""The check of an answer: what passes, what is said of a mistake that is known, and what of one
that is not."""

import pytest
import torch

from minippo.exercises.changes import NO_MASK
from minippo.exercises.draw import Draw
from minippo.exercises.engine import MISTAKE_NAMES, Exercise, Mistake
from minippo.exercises.observe import Observation, observe


def doubled(x, mask):
    return torch.where(mask, 2 * x, 0.0)


def cases(seed=None):
    draw = Draw("doubled", seed)
    mask = torch.tensor([[True, True], [True, False]])
    for n in range(2):
        x = torch.tensor([[1.0, -2.0], [3.0, 4.0]]) + n
        draw.add("two rows", x=x if seed is None else draw.normal(2, 2), mask=mask)
    return draw.cases()


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
    hints=("twice", "twice x", "2 * x"),
)


@pytest.mark.parametrize(
    "answer",
    [
        doubled,
        lambda x, mask: (x + x) * mask,
        lambda x, mask: (x.double() * 2).masked_fill(~mask, 0.0),
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


def deeper(x, mask):
    return torch.stack([x, mask[:1]])


def stub(x, mask):
    raise NotImplementedError


def takes_no_such_keyword(x, mask):
    return torch.sum(x, nonsense=1)


@pytest.mark.parametrize(
    "answer, mistake, parts",
    [
        (stub, None, ["the function is not written yet"]),
        (lambda x, mask: None, None, ["exercise.cases()[0]", "returned None; is there a return?"]),
        (lambda x, mask: "2", None, ["the result is a str, wanted a tensor"]),
        (raises, None, ["case 0", "IndexError", "(in raises: return x[5])"]),
        (deeper, None, ["RuntimeError", "(in deeper: return torch.stack([x, mask[:1]]))"]),
        (takes_no_such_keyword, None, ["TypeError", "in takes_no_such_keyword"]),
        (lambda y, mask: 2 * y * mask, None, ["the names of the stub: x, mask; yours lacks x"]),
        (lambda x, mask: doubled(x, mask)[0], None, ["has shape [2], wanted [2, 2]"]),
        (lambda x, mask: 2 * (x * mask).sum(1), "sum for mean", ["summed over the row"]),
        (lambda x, mask: -2 * x * mask, "sign", ["the sign is turned"]),
        (lambda x, mask: (2 * x * mask).detach(), "detach", ["no gradient"]),
        (lambda x, mask: (2 * x * mask).detach() + 0 * x, "detach", ["no gradient"]),
        (
            lambda x, mask: 3 * x * mask,
            None,
            ["case 0 (exercise.cases()[0]): two rows", "is 3 at [0, 0], wanted 2; 3 of 4 places"],
        ),
        (lambda x, mask: (3 * x * mask).detach() - x * mask, "detach", ["the gradient to x"]),
        (lambda x, mask: x / 0 * mask, None, ["wanted 2"]),
        (lambda x, mask: (-2 * x * mask).detach(), "sign and detach", ["the sign is turned"]),
        (lambda x, mask: -2 * (x * x / 2 - x * x / 4) * mask, None, []),
        (lambda x, mask: (2 * x * mask).half(), "precision", ["16-bit"]),
    ],
)
def test_what_is_said_of_wrong_answers(answer, mistake, parts):
    verdict = EXERCISE.verdict(answer)
    assert not verdict.passed and verdict.mistake == mistake, verdict
    assert all(part in verdict.message for part in parts), verdict.message


def test_a_keyword_error_inside_the_function_is_not_taken_for_renamed_arguments():
    assert "stub" not in EXERCISE.verdict(takes_no_such_keyword).message


def test_an_answer_that_is_right_on_the_first_case_only_does_not_pass():
    first = cases()[0]["x"][0, 0]
    assert not EXERCISE.verdict(
        lambda x, mask: doubled(x, mask) if x[0, 0] == first else -doubled(x, mask)
    ).passed


def test_writing_into_an_argument_passes_with_a_remark():
    def writes_into_its_input(x, mask):
        result = doubled(x, mask)
        x.data.zero_()
        return result

    verdict = EXERCISE.verdict(writes_into_its_input)
    assert verdict.passed and "but it writes into its argument x" in verdict.message
    assert EXERCISE.verdict(doubled).message == "values and gradients agree on 2 cases"


def test_float64_of_ones_own_passes_with_a_remark():
    def mixes(x, mask):
        return x @ torch.eye(2, dtype=torch.float64) * 2 * mask

    verdict = EXERCISE.verdict(mixes)
    assert verdict.passed and "takes no float32" in verdict.message


def test_a_number_is_taken_for_a_tensor():
    def three(seed=None):
        draw = Draw("total", seed)
        draw.add("three ones", x=torch.ones(3))
        return draw.cases()

    total = Exercise("total", lambda x: x.sum(), three, ())
    assert total.verdict(lambda x: 3.0).passed and total.verdict(lambda x: 3).passed
    assert "the result is 2, wanted 3" in total.verdict(lambda x: 2.0).message


def slippery(seed=None):
    """log(1 + exp(x)), which is x where exp is infinite; and a case where any answer may fail."""
    draw = Draw("softplus", seed)
    draw.add("ordinary", x=torch.tensor([0.5, -1.0, 2.0, 0.1]))
    draw.add("far out", ("log", "exp overflows"), x=torch.tensor([1000.0, -1000.0]))
    draw.add("NaN", (None, "gives a number for NaN"), x=torch.tensor([torch.nan, 1.0]))
    return draw.cases()


def test_what_fails_in_an_extreme_case_alone_has_the_name_of_that_case():
    softplus = Exercise("softplus", lambda x: torch.nn.functional.softplus(x), slippery, ())
    verdict = softplus.verdict(lambda x: torch.log(1 + torch.exp(x)))
    assert (verdict.passed, verdict.mistake) == (False, "log")
    assert "exp overflows" in verdict.message and "far out" in verdict.message
    assert softplus.verdict(lambda x: torch.logaddexp(x, torch.zeros_like(x))).passed
    remark = softplus.verdict(lambda x: torch.logaddexp(x, torch.zeros_like(x)).nan_to_num(7.0))
    assert remark.passed and "but it gives a number for NaN" in remark.message


def test_judging_does_not_run_the_answer():
    calls = []

    def counted(x, mask):
        calls.append(1)
        return -doubled(x, mask)

    given = cases(b"secret")
    seen = observe(counted, given, ("x",))
    assert len(calls) == len(given)
    assert EXERCISE.judge(seen, given).mistake == "sign" and len(calls) == len(given)


def test_of_a_hidden_case_no_right_number_is_told():
    given = cases(b"secret")
    message = EXERCISE.judge(observe(lambda x, mask: 3 * x * mask, given, ("x",)), given).message
    assert "a case that is not shown" in message and "wanted" not in message


def test_results_that_are_missing_or_no_number_are_refused():
    given = cases()
    assert not EXERCISE.judge([], given).passed
    nan = Observation(torch.full((2, 2), torch.nan).double(), {"x": torch.zeros(2, 2).double()})
    assert not EXERCISE.judge([nan, nan], given).passed
    assert not EXERCISE.judge([nan._replace(gradients={}), nan], given).passed


def test_check_prints_the_verdict(capsys):
    EXERCISE.check(stub)
    EXERCISE.check(doubled)
    assert capsys.readouterr().out == (
        "not yet: the function is not written yet\npassed: values and gradients agree on 2 cases\n"
    )


def test_hints_come_one_by_one(capsys):
    for _ in range(4):
        EXERCISE.hint()
    assert capsys.readouterr().out.splitlines() == [
        "hint 1 of 3: twice",
        "hint 2 of 3: twice x",
        "hint 3 of 3: 2 * x",
        "hint 3 of 3: 2 * x",
    ]


def test_the_names_of_mistakes_are_different():
    assert len(set(MISTAKE_NAMES)) == len(MISTAKE_NAMES) and NO_MASK.name in MISTAKE_NAMES
