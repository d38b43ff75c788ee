"""The oracle against sums over all responses in plain Python, finite differences, and the closed
form of the best policy.

The oracle walks the tree of states; the sums below know only responses and their probabilities.
test_world.py lists the responses and checks the order of the states, on which everything here
rests.
"""

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from minippo.exact import oracle
from minippo.exact.world import TabularPolicy, World
from tests.exact.test_world import all_responses, gpt_policy, reward, rows_of
from tests.helpers import assert_close, f64

CASES = {
    "EOS": dict(vocab_size=3, response_length=3),
    "two prompts, no EOS": dict(
        vocab_size=2, response_length=3, prompts=2, prompt_probs=f64([0.3, 0.7]), has_eos=False
    ),
    "three prompts": dict(
        vocab_size=3, response_length=2, prompts=3, prompt_probs=f64([0.5, 0.2, 0.3])
    ),
    "one step": dict(vocab_size=4, response_length=1, prompts=2, prompt_probs=f64([0.9, 0.1])),
}
GAMMAS = [1.0, 0.7, 0.0]
every_world = pytest.mark.parametrize(
    "world", [World(reward, **case) for case in CASES.values()], ids=CASES
)
every_policy = pytest.mark.parametrize("kind", ["tabular", "GPT"])


def policy_of(world, kind, seed=0):
    if kind == "GPT":
        return gpt_policy(world, seed, n_embd=4)
    return TabularPolicy(world, generator=torch.Generator().manual_seed(seed))


def random_logits(world, seed=0):
    return policy_of(world, "tabular", seed)().detach()


class Sums:
    """Everything about a policy in a world, from the list of its responses: a probability for each
    (prompt, tokens)."""

    def __init__(self, world, logits):
        self.pi = {}
        for state, row in zip(world.states, logits.tolist(), strict=True):
            total = sum(math.exp(x) for x in row)
            self.pi[state] = [math.exp(x) / total for x in row]
        self.prompt_probs = world.prompt_probs.tolist()
        has_eos = bool((world.next_state[0] == -1).any())
        self.probabilities = {}
        for prompt, asked in enumerate(self.prompt_probs):
            for tokens in all_responses(world.vocab_size, world.response_length, has_eos):
                steps = [self.pi[prompt, tokens[:t]][token] for t, token in enumerate(tokens)]
                self.probabilities[prompt, tokens] = asked * math.prod(steps)

    def mean(self, number):
        """E[number(prompt, tokens)]."""
        return sum(p * number(*response) for response, p in self.probabilities.items())

    def mean_after(self, prompt, beginning, number):
        """The same, given that the response begins so."""
        begins = {
            response: p
            for response, p in self.probabilities.items()
            if response[0] == prompt and response[1][: len(beginning)] == beginning
        }
        return sum(p * number(*response) for response, p in begins.items()) / sum(begins.values())


def discounted(prompt, tokens, gamma, since=0):
    """The return of a response, from a step on."""
    return sum(
        gamma ** (t - since) * reward(prompt, tokens[: t + 1]) for t in range(since, len(tokens))
    )


def brute_objective(world, logits, gamma):
    return Sums(world, logits).mean(lambda prompt, tokens: discounted(prompt, tokens, gamma))


def slope(function, step=5e-4):
    """The derivative of function(x) at 0 from five points: right up to step^4."""
    return (8 * (function(step) - function(-step)) - (function(2 * step) - function(-2 * step))) / (
        12 * step
    )


def along(policy, direction, function):
    """A function of x: function(logits) where the parameters are moved by x times the direction."""
    start = torch.nn.utils.parameters_to_vector(policy.parameters()).detach().clone()

    def moved(x):
        torch.nn.utils.vector_to_parameters(start + x * direction, policy.parameters())
        value = function(policy().detach())
        torch.nn.utils.vector_to_parameters(start, policy.parameters())
        return value

    return moved


def directions(policy):
    """Each parameter of a table; five random directions of a network. All of length 1."""
    size = sum(parameter.numel() for parameter in policy.parameters())
    if isinstance(policy, TabularPolicy):
        return torch.eye(size, dtype=torch.float64)
    moves = torch.randn(5, size, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    return moves / moves.norm(dim=1, keepdim=True)


# -- probabilities, objective, gradient


@every_world
def test_response_probabilities(world):
    logits = random_logits(world)
    probabilities = oracle.response_probabilities(world, logits)
    brute = Sums(world, logits).probabilities
    assert len(probabilities) == len(brute)
    assert_close(probabilities, [brute[row] for row in rows_of(world)])
    assert_close(probabilities.sum(), 1.0)


@every_world
@pytest.mark.parametrize("gamma", GAMMAS)
def test_objective(world, gamma):
    logits = random_logits(world)
    assert_close(oracle.objective(world, logits, gamma), brute_objective(world, logits, gamma))
    if gamma == 1.0:
        assert torch.equal(oracle.objective(world, logits), oracle.objective(world, logits, 1.0))


@every_world
@every_policy
@pytest.mark.parametrize("gamma", [1.0, 0.7])
def test_exact_gradient_against_finite_differences(world, kind, gamma):
    policy = policy_of(world, kind)
    gradient, moves = oracle.exact_gradient(world, policy, gamma), directions(policy)
    assert gradient.shape == moves[0].shape
    slopes = [
        slope(along(policy, move, lambda logits: brute_objective(world, logits, gamma)))
        for move in moves
    ]
    assert_close(moves @ gradient, slopes)
    if gamma == 1.0:
        assert torch.equal(oracle.exact_gradient(world, policy), gradient)


# -- values and the distribution of states


@every_world
@pytest.mark.parametrize("gamma", GAMMAS)
def test_values_are_conditional_means_of_what_is_still_to_come(world, gamma):
    logits = random_logits(world).requires_grad_()
    values, action_values = oracle.values_and_action_values(world, logits, gamma)
    assert not values.requires_grad and not action_values.requires_grad
    sums = Sums(world, logits.detach())
    brute_values, brute_action_values = [], []
    for prompt, before in world.states:

        def to_go(prompt, tokens):
            return discounted(prompt, tokens, gamma, since=len(before))

        brute_values.append(sums.mean_after(prompt, before, to_go))
        brute_action_values.append(
            [sums.mean_after(prompt, (*before, token), to_go) for token in range(world.vocab_size)]
        )
    assert_close(values, brute_values)
    assert_close(action_values, brute_action_values)
    if gamma == 1.0:
        assert torch.equal(oracle.values_and_action_values(world, logits)[0], values)


@every_world
def test_reach_probabilities(world):
    logits = random_logits(world)
    sums, reach = Sums(world, logits), oracle.reach_probabilities(world, logits)
    passing = [
        sums.mean(
            lambda p, tokens: (
                p == prompt and len(tokens) > len(before) and tokens[: len(before)] == before
            )
        )
        for prompt, before in world.states
    ]
    assert_close(reach, passing)
    assert_close(reach.sum(), sums.mean(lambda prompt, tokens: len(tokens)))


# -- distances between policies


@every_world
def test_entropy_kl_and_total_variation(world):
    logits, other_logits = random_logits(world), random_logits(world, seed=1)
    sums, others = Sums(world, logits), Sums(world, other_logits)

    def information(prompt, tokens):  # of a response once the prompt is known
        return -math.log(sums.probabilities[prompt, tokens] / sums.prompt_probs[prompt])

    def log_ratio(prompt, tokens):
        return math.log(sums.probabilities[prompt, tokens] / others.probabilities[prompt, tokens])

    differences = [
        sums.probabilities[response] - others.probabilities[response]
        for response in sums.probabilities
    ]
    assert_close(oracle.entropy(world, logits), sums.mean(information))
    assert_close(oracle.sequence_kl(world, logits, other_logits), sums.mean(log_ratio))
    assert_close(
        oracle.total_variation(world, logits, other_logits), sum(map(abs, differences)) / 2
    )
    assert_close(
        oracle.total_variation(world, logits, other_logits), sum(max(x, 0.0) for x in differences)
    )
    assert (
        oracle.sequence_kl(world, logits, logits) == 0
        and oracle.total_variation(world, logits, logits) == 0
    )


@every_world
def test_entropy_of_a_uniform_policy_that_always_goes_on(world):
    logits = torch.zeros_like(random_logits(world))
    logits[:, 0][world.next_state[:, -1] >= 0] = -800.0  # token 0 only at the last step
    others = world.vocab_size - 1
    assert_close(
        oracle.entropy(world, logits),
        (world.response_length - 1) * math.log(others) + math.log(world.vocab_size),
    )


@every_world
def test_gradients_go_through_both_policies_of_the_kl(world):
    first, second = policy_of(world, "tabular"), policy_of(world, "tabular", seed=1)
    size = sum(parameter.numel() for parameter in first.parameters())
    gradients = torch.autograd.grad(
        oracle.sequence_kl(world, first(), second()), [first.table, second.table]
    )
    fixed_first, fixed_second = first().detach(), second().detach()
    move = torch.randn(size, generator=torch.Generator().manual_seed(2), dtype=torch.float64)

    def kl(logits, other_logits):
        p, q = (Sums(world, x).probabilities for x in (logits, other_logits))
        return sum(p[response] * math.log(p[response] / q[response]) for response in p)

    assert_close(
        gradients[0].flatten() @ move,
        slope(along(first, move, lambda logits: kl(logits, fixed_second))),
    )
    assert_close(
        gradients[1].flatten() @ move,
        slope(along(second, move, lambda logits: kl(fixed_first, logits))),
    )
    (gradient,) = torch.autograd.grad(oracle.entropy(world, first()), first.table)

    def brute_entropy(logits):
        sums = Sums(world, logits)
        return -sums.mean(
            lambda *response: math.log(
                sums.probabilities[response] / sums.prompt_probs[response[0]]
            )
        )

    assert_close(gradient.flatten() @ move, slope(along(first, move, brute_entropy)))


# -- scores and the Fisher matrix


@every_world
@every_policy
def test_score_vectors_against_single_log_probabilities(world, kind):
    policy = policy_of(world, kind)
    scores = oracle.score_vectors(policy)
    size = sum(parameter.numel() for parameter in policy.parameters())
    assert scores.shape == (len(world.states), world.vocab_size, size)
    moves = directions(policy)[:5]
    for k in range(len(world.states)):
        for token in range(world.vocab_size):
            row = policy()[k]
            log_pi = row[token] - row.exp().sum().log()
            single = torch.autograd.grad(log_pi, list(policy.parameters()), materialize_grads=True)
            assert_close(scores[k, token], torch.cat([gradient.flatten() for gradient in single]))
    for move in moves:  # and once without autograd

        def log_pi_of(logits):
            return torch.tensor(np.log(list(Sums(world, logits).pi.values())))

        assert_close(scores @ move, slope(along(policy, move, log_pi_of)))


def test_scores_of_a_table_by_hand():
    world = World(reward, vocab_size=2, response_length=2)
    policy = TabularPolicy(world, generator=torch.Generator())
    with torch.no_grad():
        policy.table.copy_(f64([[0.0, math.log(3)], [0.0, 0.0]]))  # pi = (1/4, 3/4) and (1/2, 1/2)
    assert_close(
        oracle.score_vectors(policy),
        [[[0.75, -0.75, 0, 0], [-0.25, 0.25, 0, 0]], [[0, 0, 0.5, -0.5], [0, 0, -0.5, 0.5]]],
    )
    # the second state is reached with 3/4: 3/16 [1 -1; -1 1] for the first and 3/4 * 1/4 [1 -1; -1
    # 1] for the second
    block = f64([[1, -1], [-1, 1]]) * 3 / 16
    assert_close(oracle.fisher_matrix(world, policy), torch.block_diag(block, block))


@every_world
@every_policy
def test_fisher_matrix_is_the_second_derivative_of_the_kl(world, kind):
    policy = gpt_policy(world, n_embd=2) if kind == "GPT" else policy_of(world, kind)
    parameters = list(policy.parameters())
    logits, number = policy(), {state: k for k, state in enumerate(world.states)}
    log_pi = logits - logits.exp().sum(dim=1, keepdim=True).log()

    def log_new(prompt, tokens):
        return sum(log_pi[number[prompt, tokens[:t]], token] for t, token in enumerate(tokens))

    kl = -Sums(world, logits.detach()).mean(log_new)  # plus a constant

    def flat(gradients):
        return torch.cat([gradient.flatten() for gradient in gradients])

    first = flat(torch.autograd.grad(kl, parameters, create_graph=True, materialize_grads=True))
    hessian = torch.stack(
        [
            flat(torch.autograd.grad(x, parameters, retain_graph=True, materialize_grads=True))
            for x in first
        ]
    )
    assert_close(oracle.fisher_matrix(world, policy), hessian)


@every_world
def test_a_number_added_to_all_logits_of_a_state_is_nothing_to_the_fisher_matrix_all_else_counts(
    world,
):
    policy = policy_of(world, "tabular")
    fisher = oracle.fisher_matrix(world, policy)
    states = len(world.states)
    # [K,D], one state each
    shifts = torch.eye(states, dtype=torch.float64).repeat_interleave(world.vocab_size, dim=1)
    assert_close(fisher @ shifts.T, torch.zeros(fisher.shape[0], states))
    assert_close(fisher, fisher.T)
    eigenvalues = torch.linalg.eigvalsh(fisher)
    assert_close(eigenvalues[:states], torch.zeros(states))
    assert (eigenvalues[states:] > 1e-6).all()


# -- the best policy


def regularised(world, logits, ref_logits, kl_coef):
    """E[return] - kl_coef KL(pi || ref), from the responses."""
    p, q = (Sums(world, x).probabilities for x in (logits, ref_logits))
    return sum(
        p[response] * (discounted(*response, 1.0) - kl_coef * math.log(p[response] / q[response]))
        for response in p
    )


@every_world
@pytest.mark.parametrize("kl_coef", [0.2, 1.0, 5.0])
def test_optimal_policy_is_the_reference_times_exp_of_the_return(world, kl_coef):
    ref_logits = random_logits(world)
    logits, best = oracle.optimal_policy(world, ref_logits, kl_coef)
    reference = Sums(world, ref_logits)
    weights = {
        response: p * math.exp(discounted(*response, 1.0) / kl_coef)
        for response, p in reference.probabilities.items()
    }
    # p(x) Z(x)
    totals = [
        sum(w for (prompt, _), w in weights.items() if prompt == asked)
        for asked in range(world.prompts)
    ]
    wanted = {
        (prompt, tokens): reference.prompt_probs[prompt] * w / totals[prompt]
        for (prompt, tokens), w in weights.items()
    }
    brute = Sums(world, logits).probabilities
    assert_close(list(brute.values()), [wanted[response] for response in brute])
    log_z = [
        math.log(total / asked) for total, asked in zip(totals, reference.prompt_probs, strict=True)
    ]
    assert_close(
        best,
        kl_coef * sum(asked * z for asked, z in zip(reference.prompt_probs, log_z, strict=True)),
    )
    assert_close(best, regularised(world, logits, ref_logits, kl_coef))


@every_world
@given(seed=st.integers(0, 2**31), distance=st.floats(0, 3))
def test_no_policy_is_better_than_the_optimal_one(world, seed, distance):
    ref_logits = random_logits(world)
    logits, best = oracle.optimal_policy(world, ref_logits, 0.5)
    elsewhere = logits + distance * random_logits(world, seed)
    assert regularised(world, elsewhere, ref_logits, 0.5) <= best.item() + 1e-10


@every_world
@pytest.mark.parametrize("kl_coef", [0.2, 1.0])
def test_at_the_optimal_policy_the_gradient_is_0_and_at_the_reference_it_is_not(world, kl_coef):
    ref_logits = random_logits(world)
    best, _ = oracle.optimal_policy(world, ref_logits, kl_coef)
    for logits, is_best in ((best, True), (ref_logits, False)):
        logits = logits.clone().requires_grad_()
        value = oracle.objective(world, logits) - kl_coef * oracle.sequence_kl(
            world, logits, ref_logits
        )
        (gradient,) = torch.autograd.grad(value, logits)
        if is_best:
            assert_close(gradient, torch.zeros_like(gradient))
        else:
            assert gradient.abs().max() > 1e-2


def test_a_small_kl_coef_finds_the_largest_return_and_a_large_one_stays_at_the_reference():
    world = World(reward, vocab_size=3, response_length=3)
    ref_logits = random_logits(world)
    returns = {response: discounted(*response, 1.0) for response in rows_of(world)}
    # exp(return / 1e-3) alone would overflow
    logits, best = oracle.optimal_policy(world, ref_logits, 1e-3)
    probabilities = oracle.response_probabilities(world, logits)
    assert (
        rows_of(world)[probabilities.argmax()] == max(returns, key=returns.get)
        and probabilities.max() > 0.999
    )
    assert abs(best.item() - max(returns.values())) < 0.01
    logits, best = oracle.optimal_policy(world, ref_logits, 1e4)
    assert oracle.total_variation(world, logits, ref_logits) < 1e-3
    assert abs(best - oracle.objective(world, ref_logits)) < 1e-3
