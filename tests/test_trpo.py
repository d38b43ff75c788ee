import itertools
import math
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.nn.attention import SDPBackend, sdpa_kernel

from minippo import kl, policy_gradient, ppo, trpo
from minippo.logprobs import token_logprobs
from tests.helpers import (
    BAD_MASKS,
    assert_close,
    batch_of,
    check_common_refusals,
    check_layout_does_not_matter,
    check_padding_is_never_read,
    f64,
    mask_of_lengths,
    ragged_batches,
    ragged_masks,
    small_gpt,
    value_and_gradients,
)

INF, NAN = float("inf"), float("nan")
POLICY, PAIR = "logprobs old_logprobs advantages", "logprobs old_logprobs"
# the logits of three tokens, each of shape [B,T]
NEW, OLD = ["new_0", "new_1", "new_2"], ["old_0", "old_1", "old_2"]
seeds = st.integers(0, 1000)


def mean_kl_of_columns(*, response_mask, **columns):
    """mean_kl with each token's logits as an argument of shape [B,T], the shape that the helpers
    know."""
    return trpo.mean_kl(
        logits=torch.stack([columns[name] for name in NEW], dim=-1),
        response_mask=response_mask,
        old_logits=torch.stack([columns[name] for name in OLD], dim=-1),
    )


LOSSES = {
    "surrogate_loss": (lambda **batch: trpo.surrogate_loss(**batch), POLICY, ["logprobs"]),
    "mean_kl": (mean_kl_of_columns, " ".join(NEW + OLD), NEW),
    "sampled_kl": (lambda **batch: trpo.sampled_kl(**batch), PAIR, ["logprobs"]),
}


def problem_of(logits, parameters, mask, seed):
    """A sampled batch: the surrogate and the KL as functions of no arguments; pi_old is the policy
    as it is now."""
    generator = torch.Generator().manual_seed(seed)
    old_logits = logits().detach()
    actions = torch.randint(0, old_logits.shape[-1], mask.shape, generator=generator)
    old_logprobs = token_logprobs(logits=old_logits, tokens=actions)
    advantages = torch.randn(mask.shape, generator=generator, dtype=torch.float64).to(
        old_logits.dtype
    )

    def loss(advantages=advantages):
        return trpo.surrogate_loss(
            logprobs=token_logprobs(logits=logits(), tokens=actions),
            old_logprobs=old_logprobs,
            advantages=advantages,
            response_mask=mask,
        )

    def kl_of_old_and_new():
        constant = 3  # the same policy, up to rounding, which can leave a KL just below 0
        return trpo.mean_kl(logits=logits(), old_logits=old_logits + constant, response_mask=mask)

    return SimpleNamespace(
        logits=logits,
        parameters=parameters,
        mask=mask,
        loss=loss,
        kl=kl_of_old_and_new,
        size=sum(x.numel() for x in parameters),
    )


def softmax_problem(mask, seed, states=3, vocabulary=4, scale=1.0):
    """A table [states, V] of logits; each slot of the batch visits a state."""
    generator = torch.Generator().manual_seed(seed)
    table = (
        scale * torch.randn(states, vocabulary, generator=generator, dtype=torch.float64)
    ).requires_grad_()
    visited = torch.randint(0, states, mask.shape, generator=generator)
    problem = problem_of(lambda: table[visited], [table], mask, seed)
    problem.table, problem.visited = table, visited
    return problem


def gpt_problem(mask, seed, dtype=torch.float64):
    model = small_gpt(
        vocab_size=4, context_length=mask.shape[1], n_layer=1, n_embd=4, seed=seed, dtype=dtype
    )
    tokens = torch.randint(0, 4, mask.shape, generator=torch.Generator().manual_seed(seed))

    def logits():
        with sdpa_kernel(SDPBackend.MATH):  # the fused attention has no second derivative
            return model(tokens)

    return problem_of(logits, list(model.parameters()), mask, seed)


PROBLEMS = {"softmax": softmax_problem, "gpt": gpt_problem}


def gradient_of(scalar, parameters, **options):
    return torch.cat([x.flatten() for x in torch.autograd.grad(scalar, parameters, **options)])


def dense_fisher(problem):
    """mean over True tokens of sum_a pi(a) (grad log pi(a)) (grad log pi(a))^T, from first
    derivatives only."""
    log_pi = problem.logits().log_softmax(-1)[problem.mask]  # [n,V]
    fisher = torch.zeros(problem.size, problem.size, dtype=torch.float64)
    for one in log_pi.flatten():
        score = gradient_of(one, problem.parameters, retain_graph=True)
        fisher += one.detach().exp() * torch.outer(score, score) / len(log_pi)
    return fisher


def fisher_product_of(problem, damping=0.0):
    kl_gradient = gradient_of(problem.kl(), problem.parameters, create_graph=True)
    return lambda vector: trpo.fisher_vector_product(
        kl_gradient=kl_gradient, parameters=problem.parameters, vector=vector, damping=damping
    )


def random_vector(size, seed):
    return torch.randn(
        size, generator=torch.Generator().manual_seed(seed + 10_000), dtype=torch.float64
    )


def random_positive_definite(size, seed):
    root = random_vector((size, size), seed)
    return root @ root.T / size + 0.5 * torch.eye(size, dtype=torch.float64)


def values_of(parameters):
    return [parameter.detach().clone() for parameter in parameters]


def the_same(parameters, before):
    return all(torch.equal(x, old) for x, old in zip(parameters, before, strict=True))


def tracked(rows):
    return f64(rows).requires_grad_()


# hand-worked numbers


def test_surrogate_by_hand():
    # ratios .75 / .5 = 1.5, .125 / .25 = .5 and .5 / .25 = 2; products 1.5 * 2 = 3, .5 * -4 = -2
    # and 2 * 1 = 2: L = -(3 - 2 + 2) / 3 = -1. One mean over the three tokens: a mean of row means
    # would be -(.5 + 2) / 2 = -1.25
    batch = {
        "logprobs": f64([[0.75, 0.125], [0.5, NAN]]).log(),
        "old_logprobs": f64([[0.5, 0.25], [0.25, NAN]]).log(),
        "advantages": f64([[2.0, -4.0], [1.0, NAN]]),
        "response_mask": mask_of_lengths([2, 1]),
    }
    loss, gradients = value_and_gradients(trpo.surrogate_loss, batch, ["logprobs"])
    assert_close(loss, -1)
    assert_close(gradients["logprobs"], [[-1, 2 / 3], [-2 / 3, 0]])  # -ratio A / 3


def test_mean_kl_by_hand_and_its_direction():
    # state 1: old (1/2, 1/2), new (1/4, 3/4): 1/2 log 2 + 1/2 log(2/3) = .143841; state 2: both
    # (1/2, 1/2): 0 KL(new || old) in state 1 would be 1/4 log(1/2) + 3/4 log(3/2) = .130812
    old, new = (
        f64([[[0.5, 0.5], [0.5, 0.5], [NAN, NAN]]]).log(),
        f64([[[0.25, 0.75], [0.5, 0.5], [NAN, NAN]]]).log(),
    )
    logits = (new + 7).requires_grad_()  # a constant added to all logits changes nothing
    found = trpo.mean_kl(logits=logits, old_logits=old - 2, response_mask=mask_of_lengths([2], 3))
    assert_close(found, (0.5 * math.log(2) + 0.5 * math.log(2 / 3)) / 2)
    assert round(2 * found.item(), 6) == 0.143841
    gradient = torch.autograd.grad(found, logits)[0]
    assert_close(gradient, [[[-0.125, 0.125], [0, 0], [0, 0]]])  # (pi - pi_old) / 2
    other = trpo.mean_kl(logits=old, old_logits=new, response_mask=mask_of_lengths([2], 3))
    assert round(2 * other.item(), 6) == 0.130812


def test_sampled_kl_by_hand():
    # old 1/2, 1/2, 1/4 and new 1/4, 3/4, 1/2: (log 2 + log(2/3) - log 2) / 3 = log(2/3) / 3, below
    # 0 by bad luck
    batch = {
        "logprobs": f64([[0.25, 0.75], [0.5, NAN]]).log(),
        "old_logprobs": f64([[0.5, 0.5], [0.25, NAN]]).log(),
        "response_mask": mask_of_lengths([2, 1]),
    }
    found, gradients = value_and_gradients(trpo.sampled_kl, batch, ["logprobs"])
    assert_close(found, math.log(2 / 3) / 3)
    assert_close(gradients["logprobs"], [[-1 / 3, -1 / 3], [-1 / 3, 0]])


def test_fisher_vector_product_by_hand():
    # one state with pi (1/4, 3/4): F = diag(pi) - pi pi^T = 3/16 [[1, -1], [-1, 1]]; F (3, 1) =
    # (3/8, -3/8)
    logits = f64([[[0.25, 0.75]]]).log().requires_grad_()
    kl_of = trpo.mean_kl(
        logits=logits, old_logits=logits.detach(), response_mask=mask_of_lengths([1])
    )
    kl_gradient = trpo.flat_gradient(kl_of, [logits], create_graph=True)
    arguments = {"kl_gradient": kl_gradient, "parameters": [logits], "vector": f64([3.0, 1.0])}
    assert_close(trpo.fisher_vector_product(**arguments, damping=0.0), [0.375, -0.375])
    # and once more, plus .5 * (3, 1)
    product = trpo.fisher_vector_product(**arguments, damping=0.5)
    assert_close(product, [1.875, 0.125])
    assert not product.requires_grad


def test_conjugate_gradient_by_hand():
    # F = [[4, 1], [1, 3]], b = (1, 2). r = p = (1, 2), r.r = 5, F p = (6, 7), p.F p = 20, alpha =
    # 1/4: x = (.25, .5), r = (1 - 1.5, 2 - 1.75) = (-.5, .25), r.r = .3125, beta = .3125 / 5 =
    # .0625: p = (-.5 + .0625, .25 + .125) = (-.4375, .375), F p = (-1.375, .6875), p.F p = .859375,
    # alpha = .3125 / .859375 = 4/11: x = (.25 - 4/11 * .4375, .5 + 4/11 * .375) = (1/11, 7/11), the
    # solution
    fisher, b = f64([[4.0, 1.0], [1.0, 3.0]]), f64([1.0, 2.0])

    def solve(**options):
        return trpo.conjugate_gradient(lambda v: fisher @ v, b, **options)

    assert_close(solve(iterations=1, tolerance=0), [0.25, 0.5])
    assert_close(solve(iterations=2, tolerance=0), [1 / 11, 7 / 11])
    assert_close(solve(iterations=9, tolerance=1e-20), [1 / 11, 7 / 11])
    # the tolerance is compared with r.r, which is 5, .3125 and then 0
    assert_close(solve(iterations=9, tolerance=0.313), [0.25, 0.5])
    assert_close(solve(iterations=9, tolerance=0.312), [1 / 11, 7 / 11])
    # just as large is not smaller: it goes on
    assert_close(solve(iterations=9, tolerance=0.3125), [1 / 11, 7 / 11])
    assert_close(solve(iterations=9, tolerance=5.1), [0, 0])
    assert torch.equal(b, f64([1.0, 2.0]))


def test_natural_gradient_step_by_hand():
    # F = diag(1, 4), g = (2, 4): x = (2, 1), x.F x = 4 + 4 = 8, sqrt(2 * 1 / 8) = .5: s = -(1, .5)
    fisher = f64([1.0, 4.0])
    step = trpo.natural_gradient_step(
        gradient=f64([2.0, 4.0]),
        matvec=lambda v: fisher * v,
        delta=1.0,
        iterations=2,
        tolerance=1e-20,
    )
    assert_close(step, [-1, -0.5])  # the plain gradient points to (-1, -2)
    assert_close(0.5 * (step * fisher * step).sum(), 1.0)  # (1 + 4 * .25) / 2 = delta


def search(
    loss, step, *, kl=lambda theta: 0 * theta, start=0.0, delta=0.5, backtracks=10, **options
):
    """A line search over one number: the share that was taken, the number afterwards, and where the
    loss was asked."""
    theta, seen = tracked([start]), []

    def loss_now():
        seen.append(theta.item())
        return loss(theta.sum())

    share = trpo.line_search(
        loss=loss_now,
        kl=lambda: kl(theta.sum()),
        parameters=[theta],
        step=f64([step]),
        delta=delta,
        backtracks=backtracks,
        **options,
    )
    return share, theta.item(), seen


def test_line_search_halves_twice_because_of_the_kl():
    # the loss falls all the way; theta^2 / 2 = 8, 2, .5 at theta = 4, 2, 1, and .5 is still within
    # delta
    assert search(lambda x: -x, 4.0, kl=lambda x: x**2 / 2) == (0.25, 1.0, [0, 4, 2, 1])
    assert search(lambda x: -x, 4.0, kl=lambda x: x**2 / 2, backtracks=3) == (
        0.25,
        1.0,
        [0, 4, 2, 1],
    )
    assert search(lambda x: -x, 4.0, kl=lambda x: x**2 / 2, backtracks=2) == (0.0, 0.0, [0, 4, 2])


def test_line_search_halves_twice_because_of_the_loss():
    # (theta - 1)^2 = 1 at 0, then 9, 1 and 0 at theta = 4, 2, 1: as high as before is not lower
    assert search(lambda x: (x - 1) ** 2, 4.0) == (0.25, 1.0, [0, 4, 2, 1])


def test_line_search_by_other_shares():
    # (8 - 1)^2 = 49, (4 - 1)^2 = 9, (2 - 1)^2 = 1 and 0 at theta = 8, 4, 2, 1
    assert search(lambda x: (x - 1) ** 2, 8.0) == (0.125, 1.0, [0, 8, 4, 2, 1])
    assert search(lambda x: -x, 4.0) == (1.0, 4.0, [0, 4])
    # from theta = 3, each time from there: 3 - 4 = -1, 3 - 2 = 1 and 3 - 1 = 2; (theta - 2)^2 = 1,
    # then 9, 1, 0
    assert search(lambda x: (x - 2) ** 2, -4.0, start=3.0) == (0.25, 2.0, [3, -1, 1, 2])


@pytest.mark.parametrize("damping, delta", [(0.0, 0.02), (0.5, 0.04)])
def test_trpo_step_by_hand(damping, delta):
    # one state, two tokens, pi_old (1/2, 1/2), each token sampled once, A = 1 and -1.
    # d ratio_a / dz = e_a - pi: g = -1/2 ((1/2, -1/2) - (-1/2, 1/2)) = (-1/2, 1/2)
    # F = [[1/4, -1/4], [-1/4, 1/4]] has g as a direction with F g = g / 2
    # damping 0:   x = 2 g = (-1, 1),  x.F x = 1,            s = -sqrt(2 * .02) x      = (.2, -.2)
    # damping 1/2: x = g, x.(F + 1/2) x = 1/2, s = -sqrt(2 * .04 / .5) x = .4 * (1/2, -1/2) = (.2,
    # -.2) with d = .4 between the logits pi(a_1) = 1 / (1 + exp(-.4)): KL = log cosh .2 = .01987, L
    # = -(2 pi(a_1) - 1) = -tanh .2
    logits = tracked([[[0.0, 0.0]]])
    mask, old = mask_of_lengths([2]), f64([[0.5, 0.5]]).log()

    def loss():
        return trpo.surrogate_loss(
            logprobs=logits[0].log_softmax(-1),
            old_logprobs=old,
            advantages=f64([[1.0, -1.0]]),
            response_mask=mask,
        )

    def kl_now():
        return trpo.mean_kl(
            logits=logits.expand(1, 2, 2),
            old_logits=torch.zeros(1, 2, 2).double(),
            response_mask=mask,
        )

    assert loss() == 0
    share = trpo.trpo_step(loss=loss, kl=kl_now, parameters=[logits], delta=delta, damping=damping)
    assert share == 1.0
    assert_close(logits.detach(), [[[0.2, -0.2]]])
    assert_close(kl_now().detach(), math.log(math.cosh(0.2)))
    assert_close(loss().detach(), -math.tanh(0.2))


def test_flat_gradient_by_hand():
    # a^2 . 1 + b c: gradients (2, 4), 5 and 3; the last tensor has no part in it
    a, b, c, unused = tracked([[1.0], [2.0]]), tracked(3.0), tracked(5.0), tracked([1.0, 1.0])
    scalar = (a**2).sum() + b * c
    assert_close(
        trpo.flat_gradient(scalar, [a, b, c, unused], retain_graph=True), [2, 4, 5, 3, 0, 0]
    )
    again = trpo.flat_gradient(scalar, [c, a], create_graph=True)
    assert_close(again.detach(), [3, 2, 4])
    assert_close(trpo.flat_gradient(again.sum(), [a, b]), [2, 2, 1])


# the theorems


@given(seeds)
def test_the_sampled_kl_is_the_exact_one_on_average(seed):
    # three True tokens, three words: all 27 batches that the old policy can sample, each with its
    # probability
    mask = mask_of_lengths([2, 1])
    logits, old_logits = torch.randn(
        2, 2, 2, 3, generator=torch.Generator().manual_seed(seed), dtype=torch.float64
    )
    logits.requires_grad_()
    expected = 0
    for sample in itertools.product(range(3), repeat=3):
        tokens = torch.tensor([[sample[0], sample[1]], [sample[2], 0]])
        old_logprobs = token_logprobs(logits=old_logits, tokens=tokens)
        found = trpo.sampled_kl(
            logprobs=token_logprobs(logits=logits, tokens=tokens),
            old_logprobs=old_logprobs,
            response_mask=mask,
        )
        expected = expected + old_logprobs[mask].sum().exp() * found
    exact = trpo.mean_kl(logits=logits, old_logits=old_logits, response_mask=mask)
    assert_close(expected.detach(), exact.detach())
    assert_close(torch.autograd.grad(expected, logits)[0], torch.autograd.grad(exact, logits)[0])


@given(ragged_masks(), seeds)
def test_fisher_products_against_the_matrix_of_a_softmax_table(mask, seed):
    problem = softmax_problem(mask, seed)
    fisher, pi = np.zeros((12, 12)), problem.table.detach().softmax(-1).numpy()
    for state in problem.visited[mask].tolist():
        for action in range(4):
            # grad log pi(a|s): one-hot(a) - pi(.|s) in the row of the state, 0 in the others
            score = np.zeros((3, 4))
            score[state] = np.eye(4)[action] - pi[state]
            fisher += pi[state, action] * np.outer(score, score) / mask.sum().item()
    product, damped = fisher_product_of(problem), fisher_product_of(problem, damping=0.3)
    assert_close(torch.stack([product(v) for v in torch.eye(12, dtype=torch.float64)]), fisher)
    v = random_vector(12, seed)
    assert_close(damped(v), torch.from_numpy(fisher) @ v + 0.3 * v)
    for state in range(3):  # a constant added to all logits of a state leaves the policy as it is
        null = torch.zeros(3, 4, dtype=torch.float64)
        null[state] = 1.7
        assert_close(product(null.flatten()), torch.zeros(12))
        assert_close(damped(null.flatten()), 0.3 * null.flatten())


@pytest.mark.parametrize("seed", range(2))
def test_fisher_products_against_the_matrix_of_a_gpt(seed):
    problem = gpt_problem(mask_of_lengths([3, 1, 2], 4), seed)
    fisher, product = dense_fisher(problem), fisher_product_of(problem, damping=0.01)
    for n in range(5):
        v = random_vector(problem.size, n)
        assert_close(product(v), fisher @ v + 0.01 * v)


def test_a_token_forbidden_to_both_takes_no_part_in_the_fisher_matrix():
    logits = tracked([[[0.3, -INF, -0.5, 0.1]]])
    kept = logits.detach()[0, 0, [0, 2, 3]].softmax(-1)
    found = trpo.mean_kl(
        logits=logits, old_logits=logits.detach(), response_mask=mask_of_lengths([1])
    )
    kl_gradient = trpo.flat_gradient(found, [logits], create_graph=True)
    product = trpo.fisher_vector_product(
        kl_gradient=kl_gradient, parameters=[logits], vector=f64([1.0, 9.0, -2.0, 3.0]), damping=0.0
    )
    wanted = (torch.diag(kept) - torch.outer(kept, kept)) @ f64([1.0, -2.0, 3.0])
    assert_close(product, [wanted[0], 0, wanted[1], wanted[2]])


@given(st.integers(1, 8), seeds)
def test_conjugate_gradient_solves_the_system(size, seed):
    fisher, b = random_positive_definite(size, seed), random_vector(size, seed + 1)
    found = trpo.conjugate_gradient(lambda v: fisher @ v, b, iterations=3 * size, tolerance=1e-28)
    assert_close(found, torch.linalg.solve(fisher, b))


@pytest.mark.parametrize("name", PROBLEMS)
def test_conjugate_gradient_solves_the_damped_fisher_system(name):
    problem = PROBLEMS[name](mask_of_lengths([3, 1, 2], 4), 0)
    g = gradient_of(problem.loss(), problem.parameters)
    found = trpo.conjugate_gradient(
        fisher_product_of(problem, damping=0.1), g, iterations=60, tolerance=1e-28
    )
    damped = dense_fisher(problem) + 0.1 * torch.eye(problem.size, dtype=torch.float64)
    assert_close(found, torch.linalg.solve(damped, g))


def test_as_many_iterations_as_different_eigenvalues():
    eigenvalues, b, calls = f64([2.0, 5.0, 2.0, 5.0, 2.0]), f64([1.0, 2.0, 3.0, 4.0, 5.0]), []

    def matvec(v):
        calls.append(v)
        return eigenvalues * v

    assert_close(trpo.conjugate_gradient(matvec, b, iterations=2, tolerance=0), b / eigenvalues)
    calls.clear()
    assert_close(
        trpo.conjugate_gradient(
            lambda v: 2 * matvec(v) / eigenvalues, b, iterations=9, tolerance=0
        ),
        b / 2,
    )
    assert len(calls) == 1  # one eigenvalue, one product
    calls.clear()
    zero = torch.zeros(5, dtype=torch.float64)
    assert torch.equal(trpo.conjugate_gradient(matvec, zero, iterations=9, tolerance=0), zero)
    assert not calls


@pytest.mark.parametrize("name", PROBLEMS)
def test_the_kl_of_a_small_step_is_half_s_fisher_s(name):
    problem = PROBLEMS[name](mask_of_lengths([3, 1, 2], 4), 1)
    s = random_vector(problem.size, 1)
    s = s / s.norm()
    quadratic = 0.5 * s @ dense_fisher(problem) @ s
    before = torch.nn.utils.parameters_to_vector(problem.parameters).detach()

    def error(length):
        torch.nn.utils.vector_to_parameters(before + length * s, problem.parameters)
        return (problem.kl() - length**2 * quadratic).item()

    assert abs(error(0.005)) < 0.05 * 0.005**2 * quadratic
    for length in (0.01, 0.005):  # half the length, an eighth of the error
        assert abs(error(length) / error(length / 2) - 8) < 0.4


@given(st.integers(2, 6), seeds, st.floats(0.01, 10))
def test_no_step_of_the_same_kl_lowers_the_linearised_loss_more(size, seed, delta):
    fisher, g = random_positive_definite(size, seed), random_vector(size, seed + 1)
    best = trpo.natural_gradient_step(
        gradient=g, matvec=lambda v: fisher @ v, delta=delta, iterations=3 * size, tolerance=1e-28
    )
    assert_close(0.5 * best @ fisher @ best, delta)
    for n in range(20):
        step = random_vector(size, 100 * seed + n)
        near = best + 0.1 * best.norm() * step  # far ones and near ones
        for other in (step, near):
            other = other * torch.sqrt(2 * delta / (other @ fisher @ other))
            assert g @ other >= g @ best


@given(st.integers(2, 6), seeds)
def test_the_natural_step_does_not_depend_on_how_the_parameters_are_written(size, seed):
    # theta = M phi: gradient M^T g, matrix M^T F M; the step in phi, carried over by M, is the step
    # in theta
    fisher, g = random_positive_definite(size, seed), random_vector(size, seed + 1)
    change = torch.eye(size, dtype=torch.float64) + 0.3 * random_positive_definite(size, seed + 2)
    options = {"delta": 0.3, "iterations": 4 * size, "tolerance": 1e-28}
    step = trpo.natural_gradient_step(gradient=g, matvec=lambda v: fisher @ v, **options)
    other = trpo.natural_gradient_step(
        gradient=change.T @ g, matvec=lambda v: change.T @ fisher @ change @ v, **options
    )
    assert_close(change @ other, step)


# reductions


@given(ragged_batches("old_logprobs advantages"))
def test_at_the_old_policy_the_gradient_is_the_policy_gradient(batch):
    mask = batch["response_mask"]
    here = {"logprobs": batch["old_logprobs"]}
    loss, gradients = value_and_gradients(trpo.surrogate_loss, batch | here, ["logprobs"])
    _, wanted = value_and_gradients(
        policy_gradient.policy_gradient_loss,
        here | {"weights": batch["advantages"], "response_mask": mask},
        ["logprobs"],
    )
    assert_close(gradients["logprobs"], wanted["logprobs"] * len(mask) / mask.sum())
    assert_close(loss, -batch["advantages"][mask].mean())


@given(ragged_batches(POLICY))
def test_the_unclipped_surrogate_of_ppo_is_the_same(batch):
    loss, gradients = value_and_gradients(trpo.surrogate_loss, batch, ["logprobs"])
    other, other_gradients = value_and_gradients(ppo.unclipped_surrogate_loss, batch, ["logprobs"])
    assert torch.equal(loss, other)
    assert torch.equal(gradients["logprobs"], other_gradients["logprobs"])


@given(ragged_batches(" ".join(NEW + OLD)))
def test_mean_kl_is_the_mean_of_the_exact_kl_from_the_old_policy(batch):
    new, old = (torch.stack([batch[name] for name in names], dim=-1) for names in (NEW, OLD))
    wanted = kl.exact_kl(logits=old, ref_logits=new)[batch["response_mask"]].mean()
    assert_close(mean_kl_of_columns(**batch), wanted)
    assert mean_kl_of_columns(**batch) >= 0


@given(ragged_batches(" ".join(NEW)))
def test_at_the_old_policy_kl_and_gradient_are_zero(batch):
    batch = batch | {old: batch[new] for old, new in zip(OLD, NEW, strict=True)}
    found, gradients = value_and_gradients(mean_kl_of_columns, batch, NEW)
    assert found == 0
    for gradient in gradients.values():
        assert_close(gradient, torch.zeros(gradient.shape))


@given(st.integers(1, 6), seeds, st.floats(0.01, 10))
def test_with_the_identity_the_natural_step_is_the_gradient_at_a_set_length(size, seed, delta):
    g = random_vector(size, seed)
    step = trpo.natural_gradient_step(
        gradient=g, matvec=lambda v: v, delta=delta, iterations=1, tolerance=1e-20
    )
    assert_close(step, -math.sqrt(2 * delta) * g / g.norm())


@given(st.integers(2, 6), seeds)
def test_the_natural_step_does_not_depend_on_the_scale_of_the_loss(size, seed):
    fisher, g = random_positive_definite(size, seed), random_vector(size, seed + 1)
    steps = [
        trpo.natural_gradient_step(
            gradient=scale * g,
            matvec=lambda v: fisher @ v,
            delta=0.1,
            iterations=3 * size,
            tolerance=1e-28,
        )
        for scale in (1, 7)
    ]
    assert_close(steps[1], steps[0])


def test_no_gradient_no_step():
    step = trpo.natural_gradient_step(
        gradient=torch.zeros(3).double(),
        matvec=lambda v: 2 * v,
        delta=0.1,
        iterations=5,
        tolerance=0,
    )
    assert torch.equal(step, torch.zeros(3).double())


# the whole step


def test_a_step_helps_within_the_kl_or_changes_nothing():
    shares = []
    for seed in range(80):
        draw = np.random.default_rng(seed)
        mask = mask_of_lengths(draw.integers(1, 6, size=3).tolist(), 6)
        problem = softmax_problem(mask, seed, states=4, scale=draw.uniform(0.5, 4))
        before, loss_before = values_of(problem.parameters), problem.loss().item()
        delta = 10 ** draw.uniform(-3, 0)
        share = trpo.trpo_step(
            loss=problem.loss,
            kl=problem.kl,
            parameters=problem.parameters,
            delta=delta,
            damping=10 ** draw.uniform(-5, -1),
            effort=trpo.Effort(backtracks=int(draw.choice([1, 2, 10]))),
        )
        assert problem.kl() <= delta
        if share == 0.0:
            assert the_same(problem.parameters, before)
        else:
            assert problem.loss() < loss_before
            assert not the_same(problem.parameters, before)
        shares.append(share)
    assert (
        shares.count(0.0) >= 5
        and shares.count(1.0) >= 5
        and sum(0 < share < 1 for share in shares) >= 5
    )


@pytest.mark.parametrize("name", PROBLEMS)
@pytest.mark.parametrize("seed", range(3))
def test_the_step_is_the_one_of_the_dense_matrix(name, seed):
    problem = PROBLEMS[name](mask_of_lengths([3, 1, 2], 4), seed)
    g = gradient_of(problem.loss(), problem.parameters)
    damped = dense_fisher(problem) + 0.1 * torch.eye(problem.size, dtype=torch.float64)
    x = torch.linalg.solve(damped, g)
    wanted = -torch.sqrt(2 * 0.05 / (x @ damped @ x)) * x
    before = torch.nn.utils.parameters_to_vector(problem.parameters).detach()
    share = trpo.trpo_step(
        loss=problem.loss,
        kl=problem.kl,
        parameters=problem.parameters,
        delta=0.05,
        damping=0.1,
        effort=trpo.Effort(iterations=60, tolerance=1e-28),
    )
    after = torch.nn.utils.parameters_to_vector(problem.parameters).detach()
    assert share > 0
    assert_close(after - before, share * wanted)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_a_step_of_a_gpt_leaves_its_tensors_as_they_were_made(dtype):
    problem = gpt_problem(mask_of_lengths([4, 1, 3]), 0, dtype)
    before, loss_before = values_of(problem.parameters), problem.loss().item()
    places = [parameter.data_ptr() for parameter in problem.parameters]
    share = trpo.trpo_step(
        loss=problem.loss,
        kl=problem.kl,
        parameters=iter(problem.parameters),
        delta=0.01,
        damping=0.1,
    )
    assert isinstance(share, float) and share > 0
    assert 0 < problem.kl() <= 0.01
    assert problem.loss() < loss_before
    assert not any(torch.equal(x, old) for x, old in zip(problem.parameters, before, strict=True))
    assert [parameter.data_ptr() for parameter in problem.parameters] == places
    assert len({parameter.untyped_storage().data_ptr() for parameter in problem.parameters}) == len(
        places
    )
    for parameter in problem.parameters:
        assert (
            parameter.dtype == dtype
            and parameter.requires_grad
            and parameter.is_leaf
            and parameter.grad is None
        )
    problem.loss().backward()  # the next step finds an ordinary model


@pytest.mark.parametrize("name", PROBLEMS)
def test_without_advantages_nothing_changes(name):
    problem = PROBLEMS[name](mask_of_lengths([3, 1, 2], 4), 0)
    before = values_of(problem.parameters)
    zero = torch.zeros(3, 4, dtype=torch.float64)
    share = trpo.trpo_step(
        loss=lambda: problem.loss(zero),
        kl=problem.kl,
        parameters=problem.parameters,
        delta=0.1,
        damping=0.1,
    )
    assert share == 0.0
    assert the_same(problem.parameters, before)


def test_the_options_of_the_solver_and_of_the_search_arrive():
    def step(**options):
        problem = softmax_problem(mask_of_lengths([5, 3, 4]), 0, scale=2.0)
        before, g = (
            values_of(problem.parameters)[0],
            gradient_of(problem.loss(), problem.parameters),
        )
        share = trpo.trpo_step(
            loss=problem.loss,
            kl=problem.kl,
            parameters=problem.parameters,
            delta=0.5,
            damping=0.01,
            effort=trpo.Effort(**options),
        )
        return share, (problem.table.detach() - before).flatten(), g

    share, moved, g = step(iterations=1)  # one iteration: along the gradient
    assert_close(moved / moved.norm(), -g / g.norm())
    assert step(tolerance=1e3)[0] == 0.0  # no iteration, no step
    share, moved, _ = step()
    assert 0 < share < 1
    # what they are when nobody says
    assert torch.equal(moved, step(iterations=10, tolerance=1e-10, backtracks=10)[1])
    # as many lengths as it takes
    assert_close(moved, step(backtracks=1 - round(math.log2(share)))[1])
    assert step(backtracks=-round(math.log2(share)))[0] == 0.0  # one fewer


def test_ten_iterations_and_ten_lengths_when_nobody_says():
    def solution(**options):
        theta = torch.zeros(20, dtype=torch.float64, requires_grad=True)
        # 20 different ones: each of 20 iterations makes a difference
        eigenvalues = torch.arange(1, 21).double()
        trpo.trpo_step(
            loss=lambda: theta.sum(),
            kl=lambda: 0.5 * (eigenvalues * theta**2).sum(),
            parameters=[theta],
            delta=0.1,
            damping=0.0,
            effort=trpo.Effort(**options),
        )
        return theta.detach()

    assert torch.equal(solution(), solution(iterations=10))
    assert not torch.equal(solution(), solution(iterations=11))

    # the step is sqrt(2 * .5) = 1; 1/2 x^2 + 4^19 x^4 is at most .5 from x = 2^-10 on
    def share(**options):
        theta = tracked([0.0])
        return trpo.trpo_step(
            loss=lambda: -theta.sum(),
            kl=lambda: (theta**2 / 2 + 4**19 * theta**4).sum(),
            parameters=[theta],
            delta=0.5,
            damping=0.0,
            effort=trpo.Effort(**options),
        )

    assert share(backtracks=11) == 2**-10
    assert share() == share(backtracks=10) == 0.0


DOES_NOT_HELP = {  # how far the parameters have moved -> what loss and kl say; 0 at the start
    "the loss rises": (lambda moved: moved, lambda moved: 0 * moved),
    "the loss stays": (lambda moved: 0 * moved, lambda moved: 0 * moved),
    "the loss is NaN elsewhere": (
        lambda moved: torch.where(moved > 0, NAN, 0.0),
        lambda moved: 0 * moved,
    ),
    "the loss is NaN everywhere": (lambda moved: NAN * moved, lambda moved: 0 * moved),
    "the loss is inf elsewhere": (
        lambda moved: torch.where(moved > 0, INF, 0.0),
        lambda moved: 0 * moved,
    ),
    "the KL is too large": (
        lambda moved: -moved,
        lambda moved: torch.where(moved > 0, 0.1000001, 0.0),
    ),
    "the KL is NaN": (lambda moved: -moved, lambda moved: NAN * moved),
    "the KL is inf": (lambda moved: -moved, lambda moved: torch.where(moved > 0, INF, 0.0)),
}


@pytest.mark.parametrize("name", DOES_NOT_HELP)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_line_search_takes_no_step_that_does_not_help(name, dtype):
    parameters = [
        f64([[0.1, 0.7], [1e-9, -3e7]]).to(dtype).requires_grad_(),
        f64([1 / 3]).to(dtype).requires_grad_(),
    ]
    before = values_of(parameters)

    def moved():
        return sum((x - old).abs().sum() for x, old in zip(parameters, before, strict=True))

    loss, kl_of = DOES_NOT_HELP[name]
    share = trpo.line_search(
        loss=lambda: loss(moved()),
        kl=lambda: kl_of(moved()),
        parameters=parameters,
        delta=0.1,
        step=f64([1e5, 0.1, 0.3, 7.0, -0.1]).to(dtype),
        backtracks=4,
    )
    assert share == 0.0
    assert the_same(parameters, before)
    assert all(parameter.requires_grad for parameter in parameters)


def test_a_step_of_nan_is_not_taken():
    theta = tracked([1.0, 2.0])
    share = trpo.line_search(
        loss=lambda: -theta.sum(),
        kl=lambda: f64(0.0),
        parameters=[theta],
        delta=0.1,
        step=f64([NAN, 1.0]),
        backtracks=3,
    )
    assert share == 0.0
    assert torch.equal(theta, f64([1.0, 2.0]))


def test_the_pieces_of_a_step_go_to_their_tensors():
    parameters = [tracked([[0.0, 0.0], [0.0, 0.0]]), tracked(0.0), tracked([[0.0], [0.0]])]
    share = trpo.line_search(
        loss=lambda: -sum(x.sum() for x in parameters),
        kl=lambda: f64(0.0),
        delta=0.1,
        backtracks=1,
        parameters=iter(parameters),
        step=torch.arange(1, 8).double(),
    )
    assert share == 1.0
    assert [x.tolist() for x in parameters] == [[[1, 2], [3, 4]], 5, [[6], [7]]]


# padding, layout, and tokens that are forbidden


@pytest.mark.parametrize("name", LOSSES)
def test_padding_and_layout(name):
    function, names, gradient_to = LOSSES[name]
    batch = batch_of(names, mask_of_lengths([3, 1, 4], 5), 0)
    check_padding_is_never_read(function, batch, gradient_to)
    check_layout_does_not_matter(function, batch, gradient_to)


@pytest.mark.parametrize("filler", [NAN, INF, -INF])
def test_padding_does_not_reach_gradient_and_fisher_matrix(filler):
    mask, v = mask_of_lengths([3, 1, 2], 4), random_vector(12, 0)
    plain = softmax_problem(mask, 0)
    filled = problem_of(
        lambda: plain.logits().masked_fill(~mask.unsqueeze(-1), filler), plain.parameters, mask, 0
    )
    assert torch.equal(
        gradient_of(filled.loss(), [plain.table]), gradient_of(plain.loss(), [plain.table])
    )
    assert torch.equal(fisher_product_of(filled)(v), fisher_product_of(plain)(v))


@pytest.mark.parametrize("new_end", [0.3, -INF])
def test_a_token_forbidden_to_the_old_policy(new_end):
    # 0 log 0 = 0: the last token takes no part in the sum, whatever the new policy thinks of it
    logits, old_logits = tracked([[[0.2, 0.1, new_end]]]), f64([[[0.5, -1.0, -INF]]])
    found = trpo.mean_kl(logits=logits, old_logits=old_logits, response_mask=mask_of_lengths([1]))
    pi, old = logits.detach().softmax(-1)[0, 0], old_logits.softmax(-1)[0, 0]
    assert_close(found.detach(), sum(old[v] * torch.log(old[v] / pi[v]) for v in range(2)))
    assert_close(torch.autograd.grad(found, logits)[0], [[[pi[0] - old[0], pi[1] - old[1], pi[2]]]])


def test_a_token_forbidden_to_the_new_policy_alone_is_infinitely_far():
    logits, old_logits = f64([[[0.0, -INF], [0.0, 0.0]]]), torch.zeros(1, 2, 2, dtype=torch.float64)
    assert (
        trpo.mean_kl(logits=logits, old_logits=old_logits, response_mask=mask_of_lengths([2]))
        == INF
    )
    in_padding = logits.flip(1)
    assert (
        trpo.mean_kl(
            logits=in_padding, old_logits=old_logits, response_mask=mask_of_lengths([1], 2)
        )
        == 0
    )


def test_the_arguments_are_left_as_they_were():
    for function, names, _ in LOSSES.values():
        batch = batch_of(names, mask_of_lengths([3, 1]), 0)
        before = {name: x.clone() for name, x in batch.items()}
        function(**batch)
        assert all(torch.equal(batch[name], before[name]) for name in batch)


@pytest.mark.parametrize("name", LOSSES)
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32, torch.float64])
def test_the_dtype_is_kept(name, dtype):
    function, names, _ = LOSSES[name]
    one = torch.ones(1, 2, dtype=dtype)
    assert function(**dict.fromkeys(names.split(), one), response_mask=one.bool()).dtype == dtype


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_the_dtype_of_the_steps_is_kept(dtype):
    g, diagonal = torch.tensor([2.0, 4.0], dtype=dtype), torch.tensor([1.0, 4.0], dtype=dtype)
    options = {"iterations": 2, "tolerance": 1e-10}
    x = trpo.conjugate_gradient(lambda v: diagonal * v, g, **options)
    step = trpo.natural_gradient_step(
        gradient=g, matvec=lambda v: diagonal * v, delta=1.0, **options
    )
    assert x.dtype == step.dtype == dtype
    assert_close(x, [2, 1])
    assert_close(step, [-1, -0.5])


# refusals


@pytest.mark.parametrize(
    "name, data",
    [("surrogate_loss", ["old_logprobs", "advantages"]), ("sampled_kl", ["old_logprobs"])],
)
def test_refusals(name, data):
    check_common_refusals(
        getattr(trpo, name), batch_of(LOSSES[name][1], mask_of_lengths([1]), 0), data=data
    )


LOGITS = torch.zeros(2, 3, 4)


@pytest.mark.parametrize(
    "bad, message",
    [
        ({"logits": LOGITS[..., 0]}, r"logits: got shape \[2, 3\], wanted \[B, T, V\]"),
        (
            {"old_logits": LOGITS[..., :1]},
            r"old_logits: got shape \[2, 3, 1\], wanted \[B, T, V\] with .*V = 4 as in logits",
        ),
        (
            {"old_logits": LOGITS[:1]},
            r"old_logits: got shape \[1, 3, 4\], wanted \[B, T, V\] with B = 2 as in logits",
        ),
        (
            {"old_logits": LOGITS[:, :1]},
            r"old_logits: got shape \[2, 1, 4\], wanted \[B, T, V\] with .*T = 3 as in logits",
        ),
        (
            {"logits": LOGITS[..., :0], "old_logits": LOGITS[..., :0]},
            "logits: got .*, wanted at least one element",
        ),
        ({"logits": LOGITS.long()}, "logits: got dtype torch.int64, wanted float"),
        ({"old_logits": LOGITS.tolist()}, "old_logits: got list, wanted a tensor"),
        (
            {"old_logits": torch.zeros(2, 3, 4, requires_grad=True)},
            "old_logits: got a tensor that requires grad, wanted data",
        ),
    ]
    + [({"response_mask": mask}, message) for mask, message in BAD_MASKS],
)
def test_refused_logits_and_masks(bad, message):
    good = {"logits": LOGITS, "old_logits": LOGITS, "response_mask": mask_of_lengths([3, 1])}
    trpo.mean_kl(**good)
    with pytest.raises(ValueError, match=message):
        trpo.mean_kl(**good | bad)


@pytest.mark.parametrize(
    "bad, message",
    [
        ({"kl_gradient": torch.zeros(2, 1)}, r"kl_gradient: got shape \[2, 1\], wanted \[N\]"),
        (
            {"vector": f64([1.0])},
            r"vector: got shape \[1\], wanted \[N\] with N = 2 as in kl_gradient",
        ),
        ({"vector": f64([[1.0, 1.0]])}, r"vector: got shape \[1, 2\], wanted \[N\]"),
        ({"vector": torch.ones(2).long()}, "vector: got dtype torch.int64, wanted float"),
        ({"vector": tracked([1.0, 1.0])}, "vector: got a tensor that requires grad, wanted data"),
    ]
    + [
        ({"damping": x}, r"damping: got .*, wanted a number in \[0, inf\)")
        for x in (-0.1, INF, NAN, "1")
    ],
)
def test_refused_fisher_vector_products(bad, message):
    theta = tracked([1.0, 2.0])
    kl_gradient = trpo.flat_gradient((theta**2).sum(), [theta], create_graph=True)
    good = {
        "kl_gradient": kl_gradient,
        "parameters": [theta],
        "vector": f64([1.0, 1.0]),
        "damping": 0.0,
    }
    assert_close(trpo.fisher_vector_product(**good), [2, 2])
    with pytest.raises(ValueError, match=message):
        trpo.fisher_vector_product(**good | bad)


BAD_SOLVER_ARGUMENTS = [
    ({"iterations": x}, "iterations: got .*, wanted a whole number of at least 1")
    for x in (0, -1, 1.5, True)
] + [
    ({"tolerance": x}, r"tolerance: got .*, wanted a number in \[0, inf\)")
    for x in (-1e-9, INF, NAN)
]
NOT_POSITIVE = [  # functions in place of the product with a positive definite matrix
    (lambda v: -v, r"matvec: got p.F p = -2, wanted more than 0; try more damping"),
    (lambda v: 0 * v, r"matvec: got p.F p = 0, wanted more than 0; try more damping"),
    (lambda v: v.flip(0) * f64([1.0, -1.0]), r"matvec: got p.F p = 0, wanted more than 0"),
    (lambda v: NAN * v, r"matvec: got p.F p = nan, wanted more than 0"),
]


@pytest.mark.parametrize(
    "bad, message",
    BAD_SOLVER_ARGUMENTS
    + [
        ({"b": f64([[1.0, 1.0]])}, r"b: got shape \[1, 2\], wanted \[N\]"),
        ({"b": torch.ones(2).long()}, "b: got dtype torch.int64, wanted float"),
        ({"b": [1.0, 1.0]}, "b: got list, wanted a tensor"),
        ({"b": tracked([1.0, 1.0])}, "b: got a tensor that requires grad, wanted data"),
    ]
    + [({"matvec": matvec}, message) for matvec, message in NOT_POSITIVE],
)
def test_refused_systems(bad, message):
    good = {"matvec": lambda v: v, "b": f64([1.0, 1.0]), "iterations": 3, "tolerance": 0.0}
    trpo.conjugate_gradient(**good)
    with pytest.raises(ValueError, match=message):
        trpo.conjugate_gradient(**good | bad)


@pytest.mark.parametrize(
    "bad, message",
    BAD_SOLVER_ARGUMENTS
    + [
        ({"gradient": tracked([1.0, 1.0])}, "got a tensor that requires grad, wanted data"),
        ({"gradient": f64([[1.0, 1.0]])}, r"got shape \[1, 2\], wanted \[N\]"),
    ]
    + [({"delta": x}, r"delta: got .*, wanted a number in \(0, inf\)") for x in (0, -0.1, INF, NAN)]
    + [({"matvec": matvec}, message) for matvec, message in NOT_POSITIVE],
)
def test_refused_natural_gradient_steps(bad, message):
    good = {
        "gradient": f64([1.0, 1.0]),
        "matvec": lambda v: v,
        "delta": 0.1,
        "iterations": 3,
        "tolerance": 0.0,
    }
    trpo.natural_gradient_step(**good)
    with pytest.raises(ValueError, match=message):
        trpo.natural_gradient_step(**good | bad)


@pytest.mark.parametrize(
    "bad, message",
    [
        ({"step": f64([1.0])}, r"step: got shape \[1\], wanted \[3\] as in the parameters"),
        ({"step": f64([1.0] * 4)}, r"step: got shape \[4\], wanted \[3\] as in the parameters"),
        (
            {"step": f64([[1.0] * 3])},
            r"step: got shape \[1, 3\], wanted \[3\] as in the parameters",
        ),
    ]
    + [
        ({"backtracks": x}, "backtracks: got .*, wanted a whole number of at least 1")
        for x in (0, -1, 1.5, True)
    ]
    + [
        ({"delta": x}, r"delta: got .*, wanted a number in \(0, inf\)") for x in (0, -0.1, INF, NAN)
    ],
)
def test_refused_line_searches(bad, message):
    parameters = [tracked([1.0, 2.0]), tracked([3.0])]
    before = values_of(parameters)
    good = {
        "loss": lambda: parameters[0].sum(),
        "kl": lambda: f64(0.0),
        "parameters": parameters,
        "step": f64([1.0, 1.0, 1.0]),
        "delta": 0.1,
        "backtracks": 3,
    }
    assert trpo.line_search(**good) == 0.0  # uphill
    with pytest.raises(ValueError, match=message):
        trpo.line_search(**good | bad)
    assert the_same(parameters, before)


@pytest.mark.parametrize(
    "bad, message",
    BAD_SOLVER_ARGUMENTS
    + [({"delta": x}, r"delta: got .*, wanted a number in \(0, inf\)") for x in (0, -0.1, INF, NAN)]
    + [
        ({"damping": x}, r"damping: got .*, wanted a number in \[0, inf\)")
        for x in (-0.1, INF, NAN)
    ]
    + [
        ({"backtracks": x}, "backtracks: got .*, wanted a whole number of at least 1")
        for x in (0, -1, 1.5)
    ],
)
@pytest.mark.parametrize("advantage", [0.0, 1.0])
def test_refused_numbers_of_the_whole_step(bad, message, advantage):
    problem = softmax_problem(mask_of_lengths([3, 1, 2], 4), 0)
    before = values_of(problem.parameters)
    good = {
        "loss": lambda: advantage * problem.loss(),
        "kl": problem.kl,
        "parameters": problem.parameters,
        "delta": 0.1,
        "damping": 0.1,
    }
    (name,) = bad
    if name in trpo.Effort._fields:
        bad = {"effort": trpo.Effort(**bad)}
    with pytest.raises(ValueError, match=message):
        trpo.trpo_step(**good | bad)
    assert the_same(problem.parameters, before)
    trpo.trpo_step(**good)


@pytest.mark.parametrize("factor", [NAN, INF])
@pytest.mark.parametrize("name", ["loss", "kl"])
def test_refused_gradients_of_the_whole_step(name, factor):
    problem = softmax_problem(mask_of_lengths([3, 1, 2], 4), 0)
    before = values_of(problem.parameters)
    good = {
        "loss": problem.loss,
        "kl": problem.kl,
        "parameters": problem.parameters,
        "delta": 0.1,
        "damping": 0.1,
    }
    with pytest.raises(
        ValueError, match=f"^{name}: got .*, wanted a finite number with a finite gradient"
    ):
        trpo.trpo_step(**good | {name: lambda: factor * problem.table.sum()})
    assert the_same(problem.parameters, before)


def test_a_loss_that_is_not_finite_is_refused_even_with_a_finite_gradient():
    theta = tracked([1.0])
    for bad in (NAN, INF, -INF):
        with pytest.raises(ValueError, match="^loss: got .*, wanted a finite number"):
            trpo.trpo_step(
                loss=lambda: theta.sum() + bad,
                kl=lambda: ((theta - 1) ** 2).sum(),
                parameters=[theta],
                delta=0.1,
                damping=0.0,
            )
    assert torch.equal(theta, f64([1.0]))


def test_a_loss_that_falls_without_end_is_not_accepted():
    theta = tracked([1.0])
    share = trpo.line_search(
        loss=lambda: torch.where(theta.sum() < 1, -INF, 0.0),
        kl=lambda: f64(0.0),
        parameters=[theta],
        step=f64([-1.0]),
        delta=0.1,
        backtracks=3,
    )
    assert share == 0.0 and torch.equal(theta, f64([1.0]))


def test_a_kl_of_minus_infinity_is_not_accepted():
    theta = tracked([1.0])
    share = trpo.line_search(
        loss=lambda: theta.sum(),
        kl=lambda: f64(-INF),
        parameters=[theta],
        step=f64([-1.0]),
        delta=0.1,
        backtracks=3,
    )
    assert share == 0.0 and torch.equal(theta, f64([1.0]))


def test_when_the_loss_fails_the_old_parameters_are_put_back():
    theta = tracked([1.0])

    def loss():
        if theta.item() != 1:
            raise KeyboardInterrupt
        return theta.sum()

    with pytest.raises(KeyboardInterrupt):
        trpo.line_search(
            loss=loss,
            kl=lambda: f64(0.0),
            parameters=[theta],
            step=f64([-1.0]),
            delta=0.1,
            backtracks=3,
        )
    assert torch.equal(theta, f64([1.0]))


def test_the_size_of_the_gradient_does_not_change_the_natural_step():
    matrix = f64([[2.0, 0.5], [0.5, 1.0]])
    steps = [
        trpo.natural_gradient_step(
            gradient=scale * f64([1.0, -3.0]),
            matvec=lambda v: matrix @ v,
            delta=0.1,
            iterations=10,
            tolerance=1e-10,
        )
        for scale in (1.0, 1e-8, 1e8)
    ]
    assert_close(steps[1], steps[0])
    assert_close(steps[2], steps[0])


def test_more_iterations_than_needed_do_not_divide_noise_by_noise():
    generator = torch.Generator().manual_seed(0)
    for _ in range(50):
        root = torch.randn(4, 4, generator=generator, dtype=torch.float64)
        matrix, b = (
            1e-3 * (root @ root.T + 0.1 * torch.eye(4).double()),
            torch.randn(4, generator=generator).double(),
        )
        x = trpo.conjugate_gradient(lambda v: matrix @ v, b, iterations=500, tolerance=0.0)
        assert_close(matrix @ x, b)


@pytest.mark.parametrize("left, calls_wanted", [(1e-15, 2), (1e-17, 1)])
def test_a_residual_no_larger_than_the_rounding_is_none(left, calls_wanted):
    # F = diag(1, 2), b = (1, left): after one iteration x = b, r = (0, -left), and the rounding of
    # b is 2e-16
    diagonal, calls = f64([1.0, 2.0]), []

    def matvec(v):
        calls.append(v)
        return diagonal * v

    trpo.conjugate_gradient(matvec, f64([1.0, left]), iterations=2, tolerance=0.0)
    assert len(calls) == calls_wanted


@pytest.mark.parametrize("length", [1, 3])
def test_a_vector_of_another_length_than_the_parameters_is_refused(length):
    theta = tracked([1.0, 2.0])
    gradient = trpo.flat_gradient((theta**2).sum(), [theta], create_graph=True)
    wrong = gradient[:1].expand(length)
    with pytest.raises(
        ValueError, match=rf"vector: got shape \[{length}\], wanted \[2\] as in the parameters"
    ):
        trpo.fisher_vector_product(
            kl_gradient=wrong, parameters=[theta], vector=torch.ones(length).double(), damping=0.0
        )


def test_a_probability_that_has_underflowed_counts_as_0():
    kl = trpo.mean_kl(
        logits=torch.tensor([[[0.0, -INF]]]),
        old_logits=torch.tensor([[[0.0, -1000.0]]]),
        response_mask=mask_of_lengths([1]),
    )
    assert kl == 0


def test_refused_second_derivative_that_is_not_positive():
    # a KL has its minimum at the old policy; the sine, which is no KL, bends downwards at 1
    theta = tracked([1.0])
    with pytest.raises(
        ValueError, match="matvec: got p.F p = .*, wanted more than 0; try more damping"
    ):
        trpo.trpo_step(
            loss=lambda: -theta.sum(),
            kl=lambda: theta.sin().sum(),
            parameters=[theta],
            delta=0.1,
            damping=0.0,
        )
    assert torch.equal(theta, f64([1.0]))


def test_refused_gradient_of_a_constant():
    with pytest.raises(RuntimeError, match="does not require grad"):
        trpo.flat_gradient(f64(1.0), [tracked([1.0])])


# an independent transcription


@given(ragged_batches(POLICY))
def test_surrogate_and_sampled_kl_against_numpy(batch):
    new, old, advantages, mask = (
        batch[name].numpy() for name in (*POLICY.split(), "response_mask")
    )
    products, differences, gradient = [], [], np.zeros(mask.shape)
    for b, t in zip(*np.nonzero(mask), strict=True):
        ratio = np.exp(new[b, t]) / np.exp(old[b, t])
        products.append(ratio * advantages[b, t])
        differences.append(old[b, t] - new[b, t])
        gradient[b, t] = -ratio * advantages[b, t] / mask.sum()
    loss, gradients = value_and_gradients(trpo.surrogate_loss, batch, ["logprobs"])
    assert_close(loss, -np.mean(products))
    assert_close(gradients["logprobs"], gradient)
    pair = {name: batch[name] for name in (*PAIR.split(), "response_mask")}
    found, gradients = value_and_gradients(trpo.sampled_kl, pair, ["logprobs"])
    assert_close(found, np.mean(differences))
    assert_close(gradients["logprobs"], np.where(mask, -1 / mask.sum(), 0.0))


@given(ragged_batches(" ".join(NEW + OLD)))
def test_mean_kl_against_numpy(batch):
    mask = batch["response_mask"].numpy()
    new, old = (np.stack([batch[name].numpy() for name in names], axis=-1) for names in (NEW, OLD))
    kls, gradient = [], np.zeros((*mask.shape, 3))
    for b, t in zip(*np.nonzero(mask), strict=True):
        q, p = (np.exp(z[b, t]) / np.exp(z[b, t]).sum() for z in (new, old))
        kls.append(sum(p[v] * np.log(p[v] / q[v]) for v in range(3)))
        gradient[b, t] = (q - p) / mask.sum()
    found, gradients = value_and_gradients(mean_kl_of_columns, batch, NEW)
    assert_close(found, np.mean(kls))
    assert_close(torch.stack([gradients[name] for name in NEW], dim=-1), gradient)


@given(st.integers(1, 6), st.integers(1, 8), st.sampled_from([1e-20, 1e-3, 0.1, 1.0]), seeds)
def test_conjugate_gradient_against_numpy(size, iterations, tolerance, seed):
    fisher, b = random_positive_definite(size, seed).numpy(), random_vector(size, seed + 1).numpy()
    x = np.zeros(size)
    r, p = b - fisher @ x, b - fisher @ x
    for _ in range(iterations):
        if np.dot(r, r) < tolerance:
            break
        alpha = np.dot(r, r) / np.dot(p, np.dot(fisher, p))
        x = x + alpha * p
        following = b - np.dot(fisher, x)  # the residual itself, not its recurrence
        p = following + np.dot(following, following) / np.dot(r, r) * p
        r = following
    matrix = torch.from_numpy(fisher)
    found = trpo.conjugate_gradient(
        lambda v: matrix @ v, torch.from_numpy(b), iterations=iterations, tolerance=tolerance
    )
    assert_close(found, x)


@pytest.mark.parametrize("size", [1e-40, 1e-25, 1e19, 1e30])
def test_gradients_whose_squares_do_not_fit_are_solved_all_the_same(size):
    # F = 2 I, delta 0.01: s = -sqrt(0.02 / (x.F x)) x with x along (3, 4), so s = -0.1 (0.6, 0.8)
    gradient = torch.tensor([3.0, 4.0]) * size
    solved = trpo.conjugate_gradient(lambda v: 2 * v, gradient, iterations=5, tolerance=0.0)
    torch.testing.assert_close(solved, gradient / 2, rtol=1e-5, atol=0)
    step = trpo.natural_gradient_step(
        gradient=gradient, matvec=lambda v: 2 * v, delta=0.01, iterations=5, tolerance=1e-10
    )
    torch.testing.assert_close(step, torch.tensor([-0.06, -0.08]))
