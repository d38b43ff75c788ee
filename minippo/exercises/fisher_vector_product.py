"""Exercise of notebook 10: the Fisher matrix times a vector, by two derivatives of the KL and
without the matrix."""

from collections.abc import Callable

import torch
from torch import Tensor

from minippo import trpo
from minippo.exercises.draw import Draw
from minippo.exercises.engine import Case, Exercise, Mistake
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


def first_derivative_only(
    kl: Callable[[Tensor], Tensor], theta: Tensor, vector: Tensor, damping: float
) -> Tensor:
    _, slope = kl_gradient(kl, theta)
    return (slope * vector).detach() + damping * vector


def without_damping(
    kl: Callable[[Tensor], Tensor], theta: Tensor, vector: Tensor, damping: float
) -> Tensor:
    return reference(kl, theta, vector, 0.0)


def damping_as_a_number(
    kl: Callable[[Tensor], Tensor], theta: Tensor, vector: Tensor, damping: float
) -> Tensor:
    return reference(kl, theta, vector, 0.0) + damping


def damping_times_the_product(
    kl: Callable[[Tensor], Tensor], theta: Tensor, vector: Tensor, damping: float
) -> Tensor:
    return (1 + damping) * reference(kl, theta, vector, 0.0)


def sum_of_the_gradient(
    kl: Callable[[Tensor], Tensor], theta: Tensor, vector: Tensor, damping: float
) -> Tensor:
    return reference(kl, theta, torch.ones_like(vector), 0.0) * vector + damping * vector


def vector_left_out(
    kl: Callable[[Tensor], Tensor], theta: Tensor, vector: Tensor, damping: float
) -> Tensor:
    return reference(kl, theta, torch.ones_like(vector), 0.0) + damping * vector


def diagonal(
    kl: Callable[[Tensor], Tensor], theta: Tensor, vector: Tensor, damping: float
) -> Tensor:
    axes = torch.eye(len(theta), dtype=theta.dtype)
    return (
        torch.stack([reference(kl, theta, axis, 0.0) @ axis for axis in axes]) * vector
        + damping * vector
    )


def both_sides(
    kl: Callable[[Tensor], Tensor], theta: Tensor, vector: Tensor, damping: float
) -> Tensor:
    return vector @ reference(kl, theta, vector, damping)


def inverse(
    kl: Callable[[Tensor], Tensor], theta: Tensor, vector: Tensor, damping: float
) -> Tensor:
    axes = torch.eye(len(theta), dtype=theta.dtype)
    return torch.linalg.solve(
        torch.stack([reference(kl, theta, axis, damping) for axis in axes]), vector
    )


def wrong_sign(
    kl: Callable[[Tensor], Tensor], theta: Tensor, vector: Tensor, damping: float
) -> Tensor:
    return -reference(kl, theta, vector, 0.0) + damping * vector


def finite_step(
    kl: Callable[[Tensor], Tensor], theta: Tensor, vector: Tensor, damping: float
) -> Tensor:
    """The gradient at theta + vector: at theta it is 0, so this is the difference of the two."""
    return kl_gradient(kl, theta + vector)[1].detach() + damping * vector


def half(kl: Callable[[Tensor], Tensor], theta: Tensor, vector: Tensor, damping: float) -> Tensor:
    return reference(kl, theta, vector, 0.0) / 2 + damping * vector


MISTAKES = (
    Mistake(
        "formula",
        "only the damping is left: the first derivative of the KL "
        "is 0 at the present parameters, what is wanted "
        "is its second derivative times the vector",
        first_derivative_only,
    ),
    Mistake(
        "damping",
        "the product with F is right, but damping * vector is "
        "missing; without it F may be singular",
        without_damping,
    ),
    Mistake(
        "damping",
        "the damping is a multiple of the identity: it adds damping "
        "* vector, not one number to every "
        "entry",
        damping_as_a_number,
    ),
    Mistake(
        "damping",
        "the damping has multiplied F; it is added to F's diagonal, where it also acts when F is 0",
        damping_times_the_product,
    ),
    Mistake(
        "formula",
        "the gradient was summed and the vector multiplied in "
        "afterwards: that is the row sums of F "
        "times the vector, entry by entry; the vector has to meet the gradient before the second "
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
)

exercise = Exercise("fisher_vector_product", reference, cases, MISTAKES)
