"""Exercise of notebook 10: the Fisher matrix times a vector, by two derivatives of the KL and
without the matrix."""

import functools
from collections.abc import Callable

import torch
from torch import Tensor

from minippo import trpo
from minippo.exercises.changes import ANY, comes_out, goes_in, number
from minippo.exercises.draw import Draw
from minippo.exercises.engine import Case, Exercise, Mistake
from minippo.exercises.hints import HINTS
from minippo.exercises.observe import MeanKL


def kl_gradient(kl: Callable[[Tensor], Tensor], theta: Tensor) -> tuple[Tensor, Tensor]:
    """(parameters that require grad, the gradient of the KL to them with its graph)."""
    theta = theta.clone().requires_grad_()
    return theta, trpo.flat_gradient(kl(theta), [theta], create_graph=True)


def reference(
    kl: Callable[[Tensor], Tensor], theta: Tensor, vector: Tensor, damping: float
) -> Tensor:
    """kl(theta) -> scalar, 0 at this theta [N]; vector [N] -> F vector + damping vector, [N]."""
    theta, slope = kl_gradient(kl, theta)
    return trpo.fisher_vector_product(
        kl_gradient=slope, parameters=[theta], vector=vector, damping=damping
    )


def cases(seed: bytes | None = None) -> list[Case]:
    """Policies of a few states whose logits share their parameters, so that F is not diagonal."""
    draw = Draw("fisher_vector_product", seed)
    for N, states, V in ((4, 2, 3), (5, 3, 4), (7, 2, 5)):
        n, damping = draw.longest(N), draw.one(0.2, 0.7)
        theta = draw.normal(n)
        draw.add(
            f"{n} parameters, a policy of {states} states and {V} tokens, damping {damping}",
            kl=MeanKL(1.5 * draw.normal(states * V, n), theta, states),
            theta=theta,
            vector=draw.normal(n),
            damping=damping,
        )
    return draw.cases()


@functools.lru_cache(maxsize=64)
def matrix(kl: Callable[[Tensor], Tensor], theta: tuple[float, ...]) -> Tensor:
    """F at theta, [N,N], column by column; remembered, since many mistakes are compared."""
    at = torch.tensor(theta, dtype=torch.float64)
    axes = torch.eye(len(theta), dtype=torch.float64)
    return torch.stack([reference(kl, at, axis, 0.0) for axis in axes])


def product(
    kl: Callable[[Tensor], Tensor], theta: Tensor, vector: Tensor, damping: float
) -> Tensor:
    """F vector + damping vector, by the matrix."""
    return matrix(kl, tuple(theta.tolist())) @ vector.double() + damping * vector


def first_derivative_only(
    kl: Callable[[Tensor], Tensor], theta: Tensor, vector: Tensor, damping: float
) -> Tensor:
    _, slope = kl_gradient(kl, theta)
    return (slope * vector).detach() + damping * vector


def without_damping(
    kl: Callable[[Tensor], Tensor], theta: Tensor, vector: Tensor, damping: float
) -> Tensor:
    return product(kl, theta, vector, 0.0)


def damping_as_a_number(
    kl: Callable[[Tensor], Tensor], theta: Tensor, vector: Tensor, damping: float
) -> Tensor:
    return product(kl, theta, vector, 0.0) + damping


def damping_times_the_product(
    kl: Callable[[Tensor], Tensor], theta: Tensor, vector: Tensor, damping: float
) -> Tensor:
    return (1 + damping) * product(kl, theta, vector, 0.0)


def sum_of_the_gradient(
    kl: Callable[[Tensor], Tensor], theta: Tensor, vector: Tensor, damping: float
) -> Tensor:
    return product(kl, theta, torch.ones_like(vector), 0.0) * vector + damping * vector


def vector_left_out(
    kl: Callable[[Tensor], Tensor], theta: Tensor, vector: Tensor, damping: float
) -> Tensor:
    return product(kl, theta, torch.ones_like(vector), 0.0) + damping * vector


def diagonal(
    kl: Callable[[Tensor], Tensor], theta: Tensor, vector: Tensor, damping: float
) -> Tensor:
    axes = torch.eye(len(theta), dtype=theta.dtype)
    return (
        torch.stack([product(kl, theta, axis, 0.0) @ axis for axis in axes]) * vector
        + damping * vector
    )


def both_sides(
    kl: Callable[[Tensor], Tensor], theta: Tensor, vector: Tensor, damping: float
) -> Tensor:
    return vector @ product(kl, theta, vector, damping)


def inverse(
    kl: Callable[[Tensor], Tensor], theta: Tensor, vector: Tensor, damping: float
) -> Tensor:
    axes = torch.eye(len(theta), dtype=theta.dtype)
    return torch.linalg.solve(
        torch.stack([product(kl, theta, axis, damping) for axis in axes]), vector
    )


def wrong_sign(
    kl: Callable[[Tensor], Tensor], theta: Tensor, vector: Tensor, damping: float
) -> Tensor:
    return -product(kl, theta, vector, 0.0) + damping * vector


def finite_step(
    kl: Callable[[Tensor], Tensor], theta: Tensor, vector: Tensor, damping: float
) -> Tensor:
    """The gradient at theta + vector: at theta it is 0, so this is the difference of the two."""
    return kl_gradient(kl, theta + vector)[1].detach() + damping * vector


def half(kl: Callable[[Tensor], Tensor], theta: Tensor, vector: Tensor, damping: float) -> Tensor:
    return product(kl, theta, vector, 0.0) / 2 + damping * vector


MISTAKES = (
    Mistake(
        "formula",
        "only the damping is left: the first derivative of the KL is 0 at the present parameters, "
        "what is wanted is its second derivative times the vector",
        first_derivative_only,
    ),
    Mistake(
        "damping",
        "the product with F is right, but damping * vector is missing; without it F may be "
        "singular",
        without_damping,
    ),
    Mistake(
        "damping",
        "the damping is a multiple of the identity: it adds damping * vector, not one number to "
        "every entry",
        damping_as_a_number,
    ),
    Mistake(
        "damping",
        "the damping has multiplied F; it is added to F's diagonal, where it also acts when F is 0",
        damping_times_the_product,
    ),
    Mistake(
        "formula",
        "the gradient was summed and the vector multiplied in afterwards: that is the row sums of "
        "F times the vector, entry by entry; the vector has to meet the gradient before the second "
        "derivative",
        sum_of_the_gradient,
    ),
    Mistake(
        "formula",
        "the vector is missing in the second derivative: the sum of the gradient's entries gives F "
        "times a vector of ones",
        vector_left_out,
    ),
    Mistake(
        "formula",
        "this is the diagonal of F times the vector; F has entries beside the diagonal, parameters "
        "work together",
        diagonal,
    ),
    Mistake(
        "formula", "this is one number, v.F v; wanted is the vector F v + damping v", both_sides
    ),
    Mistake(
        "formula", "this is F^-1 v; the product F v is wanted, the solver comes later", inverse
    ),
    Mistake(
        "sign",
        "the sign of F v is turned: at its minimum the KL curves upwards, so v.F v is at least 0",
        wrong_sign,
    ),
    Mistake(
        "formula",
        "this is the gradient of the KL at theta + vector; F v is how the gradient changes for an "
        "infinitely small step, so a second derivative is needed",
        finite_step,
    ),
    Mistake(
        "scale",
        "this is half of F v: 1/2 v.F v approximates the KL, and F itself is the second derivative "
        "without the half",
        half,
    ),
    Mistake(
        "formula",
        "this is the outer product of the gradient; the gradient of the KL is 0 here, and so is "
        "that product",
        lambda kl, theta, vector, damping: damping * vector,
    ),
    Mistake(
        "damping",
        "damping * vector is subtracted; it is added",
        lambda kl, theta, vector, damping: product(kl, theta, vector, 0.0) - damping * vector,
    ),
    Mistake(
        "formula",
        "the vector is taken at unit length; F v is as long as F makes it",
        lambda kl, theta, vector, damping: product(kl, theta, vector / vector.norm(), damping),
    ),
    Mistake(
        "formula",
        "this is the vector without the matrix",
        lambda kl, theta, vector, damping: vector.clone(),
    ),
    Mistake(
        "damping",
        "the damping is squared; F v + damping v is wanted",
        lambda kl, theta, vector, damping: product(kl, theta, vector, damping**2),
    ),
    Mistake(
        "formula",
        "F has been applied twice",
        lambda kl, theta, vector, damping: (
            product(kl, theta, product(kl, theta, vector, 0.0), 0.0) + damping * vector
        ),
    ),
    Mistake(
        "damping",
        "the damping has multiplied F v instead of the vector",
        lambda kl, theta, vector, damping: product(kl, theta, vector, 0.0) * damping + vector,
    ),
)

CHANGES = (
    number("damping", "damping * vector is missing", damping=0.0),
    number("damping", "the damping is 1 whatever it should be", damping=1.0),
    goes_in("damping", "the damping has the wrong sign", damping=lambda case: -case["damping"]),
    goes_in(
        "formula",
        "the vector is missing: this is F times a vector of ones",
        vector=lambda case: torch.ones_like(case["vector"]),
    ),
    goes_in(
        "formula",
        "F is taken at other parameters than theta",
        theta=lambda case: torch.zeros_like(case["theta"]),
    ),
    goes_in(
        "formula",
        "F is taken at theta + vector; it belongs to theta",
        theta=lambda case: case["theta"] + case["vector"],
    ),
    comes_out(
        "damping",
        "damping * vector is in it twice",
        lambda value, case: value + case["damping"] * case["vector"],
    ),
    comes_out(
        "damping",
        "damping * vector is missing",
        lambda value, case: value - case["damping"] * case["vector"],
    ),
    comes_out(
        "damping",
        "the damping is added as one number to every entry",
        lambda value, case: value - case["damping"] * case["vector"] + case["damping"],
    ),
    *ANY,
)
CAUSES = (
    (
        "does not require grad",
        "the first derivative has no graph: torch.autograd.grad(..., create_graph=True), and theta "
        "must be a copy that requires grad before kl is called with it",
    ),
    (
        "backward through the graph a second time",
        "the first derivative has no graph of its own: torch.autograd.grad(..., create_graph=True)",
    ),
    (
        "not have been used in the graph",
        "kl was called with another tensor than the one that the derivative is taken to",
    ),
)

exercise = Exercise(
    "fisher_vector_product",
    reference,
    cases,
    MISTAKES,
    changes=CHANGES,
    hints=HINTS["fisher_vector_product"],
    causes=CAUSES,
)
