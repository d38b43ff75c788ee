"""What is said of an answer that is not right."""

import torch

from minippo.exercises.compare import right_of
from minippo.exercises.draw import Draw
from minippo.exercises.messages import difference, enough_digits, of_fault, smallest
from minippo.exercises.observe import Fault, observe


def cases():
    draw = Draw("messages", None)
    draw.add("six numbers", x=torch.tensor([[1.0, 2.0, 3.0], [4.0, 5.0, 6.0]]))
    draw.add("two numbers", x=torch.tensor([[1.0, 2.0]]))
    return draw.cases()


def same(x):
    return x


def test_a_table_of_the_rows_that_differ():
    (case, _), rights = cases(), [right_of(same, case) for case in cases()]
    (seen,) = observe(lambda x: x + torch.tensor([[0.0, 0.0, 0.0], [0.0, 0.25, 0.0]]), [case])
    assert difference(0, case, seen, rights[0]).splitlines() == [
        "case 0 (exercise.cases()[0]): six numbers",
        "  the result is 5.25 at [1, 1], wanted 5; 1 of 6 places differ",
        "    row 1  yours     4  5.25*    6 ",
        "           right     4     5*    6 ",
    ]


def test_the_smallest_failing_case_is_shown():
    rights = [right_of(same, case) for case in cases()]
    seen = observe(lambda x: 2 * x, cases())
    assert smallest([0, 1], rights, seen) == 1


def test_as_many_digits_as_tell_two_numbers_apart():
    assert enough_digits(1.0, 2.0) == 4
    assert enough_digits(-1.49812, -1.49837) == 5
    assert enough_digits(1.00001, 1.00002) == 6


def test_the_cause_of_an_exception_is_told():
    fault = Fault("RuntimeError", "element 0 of tensors does not require grad", "grad(y, x)", "f")
    case = cases()[0]
    own = (("does not require grad", "create_graph=True is missing"),)
    assert of_fault(0, fault, case, own).endswith("likely: create_graph=True is missing")
    assert "detach" in of_fault(0, fault, case)
    leaf = fault._replace(message="a leaf Variable that requires grad is being used in-place")
    assert "make a new tensor" in of_fault(0, leaf, case)
    assert "likely" not in of_fault(0, fault._replace(message="something else"), case)
