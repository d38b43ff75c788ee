"""Exercise 10: right answers of several kinds pass, and each wrong one is told what it is."""

from torch.autograd import grad

from minippo.exercises.fisher_vector_product import exercise
from tests.exercises.bank import fisher_vector_product as bank
from tests.exercises.exercise_checks import check_exercise


def test_the_exercise():
    check_exercise(exercise, bank)


def test_a_first_derivative_without_its_graph_is_told_by_the_line():
    def no_graph(kl, theta, vector, damping):
        theta = theta.clone().requires_grad_()
        (g,) = grad(kl(theta), theta)
        return grad(g @ vector, theta)[0] + damping * vector

    assert "does not require grad" in exercise.verdict(no_graph).message
