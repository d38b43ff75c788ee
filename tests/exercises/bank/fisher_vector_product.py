"""Exercise 10, `fisher_vector_product`: answers as people write them, with their mistakes."""

import torch
from torch.autograd import grad


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
        at = at.double().requires_grad_()
        return grad(kl(at), at)[0]

    return (
        gradient(theta.double() + 1e-5 * vector) - gradient(theta.double() - 1e-5 * vector)
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


def with_dot(kl, theta, vector, damping):
    copy = theta.detach().clone()
    copy.requires_grad = True
    slope = grad(kl(copy), copy, create_graph=True)[0]
    return grad(torch.dot(slope, vector), copy)[0].detach() + vector * damping


def in_float64(kl, theta, vector, damping):
    return two_grads(kl, theta.double(), vector.double(), damping)


def with_backward(kl, theta, vector, damping):
    x = theta.clone().requires_grad_()
    (g,) = grad(kl(x), x, create_graph=True)
    (g * vector).sum().backward()
    return x.grad + damping * vector


def with_functional(kl, theta, vector, damping):
    return torch.autograd.functional.hvp(kl, theta, vector)[1] + damping * vector


def damping_twice(kl, theta, vector, damping):
    return two_grads(kl, theta, vector, damping) + damping * vector


def damping_subtracted(kl, theta, vector, damping):
    return two_grads(kl, theta, vector, 0.0) - damping * vector


def only_damping(kl, theta, vector, damping):
    return damping * vector


def negative_and_undamped(kl, theta, vector, damping):
    return -two_grads(kl, theta, vector, 0.0)


def doubled(kl, theta, vector, damping):
    return 2 * two_grads(kl, theta, vector, damping)


def ones_and_a_number(kl, theta, vector, damping):
    return two_grads(kl, theta, torch.ones_like(vector), 0.0) + damping


def at_other_parameters(kl, theta, vector, damping):
    return two_grads(kl, torch.zeros_like(theta), vector, damping)


def undamped_diagonal(kl, theta, vector, damping):
    return torch.autograd.functional.hessian(kl, theta).diagonal() * vector


def unit_vector(kl, theta, vector, damping):
    return two_grads(kl, theta, vector / vector.norm(), damping)


def twice(kl, theta, vector, damping):
    return two_grads(kl, theta, two_grads(kl, theta, vector, 0.0), 0.0) + damping * vector


def half_of_it(kl, theta, vector, damping):
    return two_grads(kl, theta, vector, 0.0) / 2 + damping * vector


RIGHT = [
    two_grads,
    with_grad_outputs,
    still_with_a_graph,
    by_the_matrix,
    by_small_differences,
    with_dot,
    in_float64,
    with_backward,
    with_functional,
]
WRONG = {
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
    damping_twice: "damping",
    damping_subtracted: "damping",
    only_damping: "formula",
    negative_and_undamped: "sign and damping",
    doubled: "scale",
    ones_and_a_number: "formula",
    at_other_parameters: "formula",
    undamped_diagonal: "formula and damping",
    unit_vector: "formula",
    twice: "formula",
    half_of_it: "scale",
}
