"""When two numbers are the same: within the tolerance, or what the right answer itself is off."""

import torch

from minippo.exercises.compare import close, is_right, right_of, value_of
from minippo.exercises.observe import Case, observe_one


def case(*numbers, slip=None):
    made = Case(x=torch.tensor(numbers))
    made.slip = slip
    return made


def test_the_tolerance_is_relative_to_one_plus_the_number():
    one = torch.tensor([1.0, 1000.0])
    assert close(one, one * (1 + 9e-5)) and not close(one, one * (1 + 3e-4))
    assert close(torch.zeros(1), torch.full((1,), 9e-5))
    assert not close(torch.zeros(1), torch.full((1,), 3e-4))
    assert close(torch.zeros(1), torch.full((1,), 3e-4), slack=1e-3)
    assert not close(one, one[:1]) and not close(None, one)


def test_an_extreme_case_is_as_wide_as_four_times_the_right_answers_own_error():
    def cancels(x):
        return (x + 1e4) - 1e4

    usual, extreme = case(0.12345), case(0.12345, slip=("log", ""))
    right = right_of(cancels, extreme)
    error = abs(cancels(extreme["x"]).item() - 0.12345)
    assert right.value_slack == 4 * abs(error) or abs(right.value_slack - 4 * error) < 1e-6
    assert right_of(cancels, usual).value_slack == 0.0
    assert is_right(observe_one(cancels, extreme), right)


def test_the_value_of_what_fails_is_none():
    assert value_of(lambda x: x[9], case(1.0)) is None
    assert value_of(lambda x: 2 * x, case(1.0)).tolist() == [2.0]
