"""What a function does with cases, and the plain form in which it is sent."""

import ast
import inspect
import json

import pytest
import torch

from minippo import trpo
from minippo.exercises import observe as module
from minippo.exercises.observe import Case, MeanKL, from_plain, observe, to_plain
from tests.helpers import assert_close

CASES = [Case(x=torch.tensor([1.0, 2.0, 4.0]), n=2)]


def seen(function, gradient_of=()):
    return observe(function, CASES, gradient_of)[0]


def test_the_value_and_the_gradient_of_its_weighted_total():
    found = seen(lambda x, n: n * x**2, ("x",))
    assert found.value.tolist() == [2.0, 8.0, 32.0] and found.dtype == "float32"
    # sum_i i * 2 x_i^2 with i = 1, 2, 3 -> i * 4 x_i
    assert found.gradients["x"].tolist() == [4.0, 16.0, 48.0]
    assert seen(lambda x, n: x.detach(), ("x",)).gradients["x"].tolist() == [0.0, 0.0, 0.0]


def test_what_a_function_leaves_behind_is_put_right():
    def careless(x, n):
        torch.set_default_dtype(torch.float16)
        torch.set_grad_enabled(False)
        x[0] = 5.0
        return x

    found = seen(careless)
    assert found.remarks == ("writes into its argument x",)
    assert torch.get_default_dtype() is torch.float32 and torch.is_grad_enabled()
    assert CASES[0]["x"].tolist() == [1.0, 2.0, 4.0]


def helper(x):
    return torch.nn.functional.linear(x, torch.ones(2, 2))


def calls_a_helper(x, n):
    return helper(x)


def test_the_line_of_a_fault_is_the_students_own():
    fault = seen(calls_a_helper).fault
    assert fault.kind == "RuntimeError" and fault.function == "helper"
    assert fault.line == "return torch.nn.functional.linear(x, torch.ones(2, 2))"
    source = "def answer(x, n):\n    return x.no_such_method()\n"
    names = {}
    exec(compile(source, "<submission>", "exec"), names)
    assert seen(names["answer"]).fault.line == "line 2"


def test_only_the_signature_says_that_arguments_were_renamed():
    def inside(x, n):
        return torch.sum(x, nonsense=n)

    @torch.no_grad()
    def decorated(x, n):
        return int(x, n)

    assert seen(lambda y, n: y).fault.unknown == ("x",)
    assert seen(inside).fault.unknown == () and seen(decorated).fault.unknown == ()
    assert seen(lambda **all: all["x"].no, ()).fault.unknown == ()


@pytest.mark.parametrize("function", [lambda x, n: exit(), lambda x, n: None, lambda x, n: 1j])
def test_leaving_and_returning_nothing_are_faults(function):
    assert seen(function).fault is not None and seen(function).value is None


def test_the_kl_that_can_be_sent_is_that_of_the_package():
    generator = torch.Generator().manual_seed(0)
    weights, theta, other = (
        torch.randn(size, generator=generator, dtype=torch.float64) for size in ((6, 4), 4, 4)
    )
    kl = MeanKL(weights, theta, 2)
    logits = [(weights @ torch.tanh(x)).view(1, 2, 3) for x in (other, theta)]
    mask = torch.ones(1, 2, dtype=torch.bool)
    wanted = trpo.mean_kl(logits=logits[0], old_logits=logits[1], response_mask=mask)
    assert_close(kl(other), wanted)
    assert kl(theta).item() == 0.0 and kl(theta.float()).dtype == torch.float32


def test_a_derivative_for_every_parameter_is_remarked():
    kl = MeanKL(torch.randn(6, 4), torch.randn(4), 2)

    def by_the_matrix(kl, theta):
        return torch.autograd.functional.hessian(kl, theta) @ theta

    (found,) = observe(by_the_matrix, [Case(kl=kl, theta=kl.theta)])
    assert found.fault is None and "for every parameter" in found.remarks[0]


def test_cases_and_observations_come_back_from_json():
    cases = [
        Case(
            x=torch.tensor([[1.5, torch.nan], [torch.inf, -torch.inf]]),
            mask=torch.tensor([True, False]),
            ids=torch.tensor([3, 4]),
            empty=torch.zeros(0, 2),
            n=3,
            gamma=0.1,
            bound=float("inf"),
            kl=MeanKL(torch.ones(2, 2), torch.ones(2), 1),
        )
    ]
    plain = to_plain(cases)
    back = from_plain(json.loads(json.dumps(plain, allow_nan=False)))
    assert to_plain(back) == plain and back[0]["x"].dtype == torch.float32
    assert back[0]["mask"].dtype == torch.bool and back[0]["empty"].shape == (0, 2)
    assert back[0]["kl"](torch.zeros(2)) == cases[0]["kl"](torch.zeros(2))
    for function in (lambda x, n: x / 0, lambda x, n: x[7], lambda x, n: 3):
        found = observe(function, CASES, ("x",))
        assert to_plain(from_plain(json.loads(json.dumps(to_plain(found))))) == to_plain(found)


TENSOR = {"tensor": "float32", "shape": [1], "numbers": [1.0]}


@pytest.mark.parametrize(
    "plain",
    [
        {"nothing": 1},
        {"tensor": "complex64", "shape": [1], "numbers": [1]},
        TENSOR | {"shape": [2]},
        TENSOR | {"shape": [-1]},
        TENSOR | {"shape": [True]},
        TENSOR | {"numbers": ["1"]},
        TENSOR | {"numbers": [[1.0]]},
        TENSOR | {"shape": 1},
        {"number": "1e5"},
        {"number": ["nan"]},
        {"named": [1]},
        {"mean_kl": [1, 2, 3]},
        {"fault": {"kind": "x"}},
        {"fault": dict.fromkeys(("kind", "message", "line", "function", "unknown"), "x")},
        {"observation": {}},
        {"observation": {"value": 1, "gradients": {"named": {}}, "dtype": "", "fault": None}},
        {
            "observation": {
                "value": 1.0,
                "gradients": {"named": {}},
                "dtype": "",
                "fault": None,
                "remarks": [],
            }
        },
    ],
)
def test_what_to_plain_does_not_write_is_refused(plain):
    with pytest.raises(ValueError):
        from_plain(plain)


def test_it_imports_torch_and_the_standard_library_alone():
    tree = ast.parse(inspect.getsource(module))
    names = {
        name.split(".")[0]
        for node in ast.walk(tree)
        for name in (
            [alias.name for alias in node.names]
            if isinstance(node, ast.Import)
            else [node.module]
            if isinstance(node, ast.ImportFrom)
            else []
        )
    }
    assert "torch" in names and "minippo" not in names
