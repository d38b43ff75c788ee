"""Exercise 10: right answers of several kinds pass, and each wrong one is told what it is."""

import torch
from torch.autograd import grad

from minippo.exercises.fisher_vector_product import exercise
from tests.exercises.exercise_checks import check_exercise


def two_grads(kl, theta, vector, damping):
    theta = theta.detach().clone().requires_grad_(True)
    (g,) = grad(kl(theta), theta, create_graph=True)
    (hv,) = grad((g * vector).sum(), theta)
    return hv + damping * vector


def with_grad_outputs(kl, theta, vector, damping):
    theta.requires_grad_(True)
    g = grad(kl(theta), theta, create_graph=True)[0]
    return grad(g, theta, grad_outputs=vector, retain_graph=True)[0] + damping * vector


def still_with_a_graph(kl, theta, vector, damping):
    x = theta.clone().requires_grad_()
    (g,) = grad(kl(x), x, create_graph=True)
    return grad(g @ vector, x, create_graph=True)[0] + damping * vector


def by_the_matrix(kl, theta, vector, damping):
    F = torch.autograd.functional.hessian(kl, theta)
    return (F + damping * torch.eye(len(theta), dtype=F.dtype)) @ vector


def by_small_differences(kl, theta, vector, damping):
    def gradient(at):
        at = at.clone().requires_grad_()
        return grad(kl(at), at)[0]

    return (
        gradient(theta + 1e-5 * vector) - gradient(theta - 1e-5 * vector)
    ) / 2e-5 + damping * vector


def outer_product_of_the_gradient(kl, theta, vector, damping):
    theta = theta.clone().requires_grad_()
    (g,) = grad(kl(theta), theta)
    return g * (g @ vector) + damping * vector


def no_damping(kl, theta, vector, damping):
    return two_grads(kl, theta, vector, damping) - damping * vector


def plus_damping(kl, theta, vector, damping):
    return two_grads(kl, theta, vector, 0.0) + damping


def times_one_plus_damping(kl, theta, vector, damping):
    hv = two_grads(kl, theta, vector, 0.0)
    return hv + damping * hv


def sum_then_multiply(kl, theta, vector, damping):
    theta = theta.clone().requires_grad_()
    (g,) = grad(kl(theta), theta, create_graph=True)
    (h,) = grad(g.sum(), theta)
    return h * vector + damping * vector


def forgets_the_vector(kl, theta, vector, damping):
    theta = theta.clone().requires_grad_()
    (g,) = grad(kl(theta), theta, create_graph=True)
    (h,) = grad(g.sum(), theta)
    return h + damping * vector


def diagonal_only(kl, theta, vector, damping):
    return (torch.autograd.functional.hessian(kl, theta).diagonal() + damping) * vector


def quadratic_form(kl, theta, vector, damping):
    return vector.dot(two_grads(kl, theta, vector, damping))


def solved(kl, theta, vector, damping):
    F = torch.autograd.functional.hessian(kl, theta)
    return torch.linalg.inv(F + damping * torch.eye(len(theta), dtype=F.dtype)) @ vector


def minus(kl, theta, vector, damping):
    theta = theta.clone().requires_grad_()
    (g,) = grad(-kl(theta), theta, create_graph=True)
    return grad(g @ vector, theta)[0] + damping * vector


def test_the_exercise():
    check_exercise(
        exercise,
        correct=[
            two_grads,
            with_grad_outputs,
            still_with_a_graph,
            by_the_matrix,
            by_small_differences,
        ],
        wrong={
            outer_product_of_the_gradient: "formula",
            no_damping: "damping",
            plus_damping: "damping",
            times_one_plus_damping: "damping",
            sum_then_multiply: "formula",
            forgets_the_vector: "formula",
            diagonal_only: "formula",
            quadratic_form: "formula",
            solved: "formula",
            minus: "sign",
        },
    )


def test_a_first_derivative_without_its_graph_is_told_by_the_line():
    def no_graph(kl, theta, vector, damping):
        theta = theta.clone().requires_grad_()
        (g,) = grad(kl(theta), theta)
        return grad(g @ vector, theta)[0] + damping * vector

    assert "does not require grad" in exercise.verdict(no_graph).message
