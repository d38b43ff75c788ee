"""Mean and covariance of estimators against loops over responses, against NumPy, and once against a
simulation."""

import itertools
import random
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from minippo.exact import estimators, oracle
from minippo.exact.world import World
from minippo.gae import gae_advantages
from tests.exact.test_oracle import (
    Sums,
    discounted,
    every_policy,
    every_world,
    policy_of,
    random_logits,
)
from tests.exact.test_world import reward, rows_of
from tests.helpers import assert_close, f64


def small_world():
    """Six responses to two prompts: (0), (1, 0), (1, 1) to each."""
    return World(reward, vocab_size=2, response_length=2, prompts=2, prompt_probs=f64([0.3, 0.7]))


def to_go(rewards):
    return rewards.flip(1).cumsum(dim=1).flip(1)


# Losses of a batch, as plain as can be; minus their gradient estimates something.


def reward_to_go_loss(batch):
    return -(batch.logprobs * to_go(batch.rewards) * batch.response_mask).sum() / len(
        batch.logprobs
    )


def curved_loss(batch):
    """Of every field, and not linear in the log-probabilities."""
    ratios = (2 * batch.logprobs - batch.old_logprobs).exp()
    return ((ratios * batch.values + batch.logprobs**2 * batch.rewards) * batch.response_mask).sum()


def unmasked_loss(batch):
    """A wrong loss that reads the padding: the oracle must judge it as it is. There the
    log-probability is 0 and stays so."""
    return ((batch.logprobs - 1) ** 2 * (batch.rewards + 3)).mean()


def minus_mean_loss(batch):
    """The rows are coupled: each is compared with the mean of the batch."""
    returns = batch.rewards.sum(dim=1, keepdim=True)
    return -(batch.logprobs * (returns - returns.mean()) * batch.response_mask).sum() / len(
        batch.logprobs
    )


def mean_over_tokens_loss(batch):
    return (
        -(batch.logprobs * to_go(batch.rewards) * batch.response_mask).sum()
        / batch.response_mask.sum()
    )


def direct_gradient(world, policy, loss, responses, values):
    """-grad loss of a batch of (prompt, tokens), by autograd from the parameters on; all tensors
    are filled by hand."""
    number, width = {state: k for k, state in enumerate(world.states)}, world.response_length
    log_pi = torch.log_softmax(policy(), dim=-1)
    columns = {"logprobs": [], "rewards": [], "values": [], "response_mask": []}
    for prompt, tokens in responses:
        ended = width - len(tokens)
        path = [(number[prompt, tokens[:t]], token) for t, token in enumerate(tokens)]
        columns["logprobs"].append(
            torch.stack(
                [log_pi[k, token] for k, token in path] + [torch.zeros(()).double()] * ended
            )
        )
        columns["rewards"].append(
            f64([reward(prompt, tokens[: t + 1]) for t in range(len(tokens))] + [0.0] * ended)
        )
        columns["values"].append(f64([values[k].item() for k, _ in path] + [0.0] * ended))
        columns["response_mask"].append(torch.tensor([True] * len(tokens) + [False] * ended))
    columns = {name: torch.stack(rows) for name, rows in columns.items()}
    batch = SimpleNamespace(**columns, old_logprobs=columns["logprobs"].detach())
    gradients = torch.autograd.grad(loss(batch), list(policy.parameters()), materialize_grads=True)
    return -torch.cat([gradient.flatten() for gradient in gradients])


# -- mean and covariance


@given(st.integers(1, 12), st.integers(1, 5), st.integers(0, 2**31))
def test_mean_and_covariance_against_numpy(n, size, seed):
    generator = np.random.default_rng(seed)
    samples, weights = generator.normal(1, 2, (n, size)), generator.random(n) + 0.01
    weights /= weights.sum()
    mean, covariance = estimators.mean_and_covariance(torch.tensor(weights), torch.tensor(samples))
    assert mean.shape == (size,) and covariance.shape == (size, size)
    assert_close(mean, np.average(samples, axis=0, weights=weights))
    assert_close(covariance, np.cov(samples.T, aweights=weights, ddof=0).reshape(size, size))


def test_mean_and_covariance_by_hand():
    # mean (1/4 * 4, 3/4 * 2); centred (3, -1.5) and (-1, .5): 1/4 * 9 + 3/4 = 3, -1/4 * 4.5 - 3/4 *
    # .5 = -1.5, .75
    mean, covariance = estimators.mean_and_covariance(
        f64([0.25, 0.75]), f64([[4.0, 0.0], [0.0, 2.0]])
    )
    assert mean.tolist() == [1.0, 1.5] and covariance.tolist() == [[3.0, -1.5], [-1.5, 0.75]]


# -- samples of the gradient


@every_world
@every_policy
@pytest.mark.parametrize("loss", [reward_to_go_loss, curved_loss, unmasked_loss])
def test_gradients_of_single_responses_against_autograd_from_the_parameters_on(world, kind, loss):
    policy = policy_of(world, kind)
    values = torch.randn(
        len(world.states), generator=torch.Generator().manual_seed(3), dtype=torch.float64
    )
    for critic in (values, None):
        probabilities, gradients = estimators.gradient_samples(world, policy, loss, values=critic)
        brute, critic = (
            Sums(world, policy().detach()).probabilities,
            torch.zeros_like(values) if critic is None else critic,
        )
        assert_close(probabilities, [brute[row] for row in rows_of(world)])
        for row, gradient in zip(rows_of(world), gradients, strict=True):
            assert_close(gradient, direct_gradient(world, policy, loss, [row], critic))


@every_policy
@pytest.mark.parametrize(
    "loss", [reward_to_go_loss, curved_loss, unmasked_loss, minus_mean_loss, mean_over_tokens_loss]
)
def test_gradients_of_pairs_against_autograd_from_the_parameters_on(kind, loss):
    world = small_world()
    policy = policy_of(world, kind)
    values = f64([0.5, -1.0, 2.0, 0.25])
    probabilities, gradients = estimators.gradient_samples(
        world, policy, loss, values=values, size=2
    )
    brute, pairs = (
        Sums(world, policy().detach()).probabilities,
        list(itertools.product(rows_of(world), repeat=2)),
    )
    assert_close(probabilities, [brute[first] * brute[second] for first, second in pairs])
    for pair, gradient in zip(pairs, gradients, strict=True):
        assert_close(gradient, direct_gradient(world, policy, loss, pair, values))


def test_batches_of_three_are_all_triples():
    world = small_world()
    policy = policy_of(world, "tabular")
    probabilities, gradients = estimators.gradient_samples(world, policy, minus_mean_loss, size=3)
    single, _ = estimators.gradient_samples(world, policy, minus_mean_loss)
    assert_close(
        probabilities, [a * b * c for a, b, c in itertools.product(single.tolist(), repeat=3)]
    )
    assert gradients.shape == (216, 8)
    mean, _ = estimators.mean_and_covariance(probabilities, gradients)
    returns = [
        sum(reward(prompt, tokens[: t + 1]) for t in range(len(tokens)))
        for prompt, tokens in rows_of(world)
    ]
    scores = estimators.gradient_samples(
        world, policy, lambda batch: -batch.logprobs[batch.response_mask].sum()
    )[1]
    assert_close(mean, 2 / 3 * ((single * f64(returns)) @ scores))  # (n-1)/n of the gradient


def test_what_a_loss_sees():
    world, seen = small_world(), []
    policy = policy_of(world, "tabular")

    def look(batch):
        seen.append(batch)
        return curved_loss(batch)

    estimators.gradient_samples(world, policy, look, size=2)
    rows = rows_of(world)
    assert len(seen) == 36
    for batch, pair in zip(seen, itertools.product(range(6), repeat=2), strict=True):
        assert batch.logprobs.requires_grad and torch.equal(batch.logprobs, batch.old_logprobs)
        assert not any(x.requires_grad for x in (batch.old_logprobs, batch.rewards, batch.values))
        assert (batch.values == 0).all()  # without a critic
        assert batch.response_mask.sum(dim=1).tolist() == [len(rows[row][1]) for row in pair]
        with pytest.raises(AttributeError):  # frozen
            batch.rewards = None
    assert policy.table.grad is None


# -- bias and variance


@every_policy
def test_bias_is_the_largest_difference_and_variance_the_trace(kind):
    world = small_world()
    policy = policy_of(world, kind)
    exact = oracle.exact_gradient(world, policy)
    bias, variance = estimators.bias_and_variance(world, policy, reward_to_go_loss, exact)
    brute = Sums(world, policy().detach()).probabilities
    gradients = {
        row: direct_gradient(world, policy, reward_to_go_loss, [row], torch.zeros(4))
        for row in brute
    }
    mean = sum(p * gradients[row] for row, p in brute.items())
    assert_close(
        [bias, variance],
        [0.0, sum(p * (gradients[row] - mean).square().sum().item() for row, p in brute.items())],
    )
    shift = torch.zeros_like(exact)
    shift[:3] = f64([0.25, -0.75, 0.5])
    assert_close(
        estimators.bias_and_variance(world, policy, reward_to_go_loss, exact + shift),
        [0.75, variance],
    )
    nothing = estimators.bias_and_variance(
        world, policy, lambda batch: 0.0 * batch.logprobs.sum(), exact
    )
    assert_close(nothing, [exact.abs().max(), 0.0])


@every_policy
def test_a_batch_of_uncoupled_rows_has_the_mean_and_the_variance_per_trajectory_of_one(kind):
    world = small_world()
    policy = policy_of(world, kind)
    anywhere = oracle.exact_gradient(world, policy) + 1
    values = f64([0.5, -1.0, 2.0, 0.25])

    def with_values(batch):  # uses the critic, so that both sizes must be given it
        advantages = (to_go(batch.rewards) - batch.values) * batch.response_mask
        return -(batch.logprobs * advantages).sum() / len(batch.logprobs)

    one, two, three = (
        estimators.bias_and_variance(world, policy, with_values, anywhere, values=values, size=size)
        for size in (1, 2, 3)
    )
    assert_close(one, two)
    assert_close(one, three)
    assert_close(one[0], 1.0)  # right on average, whatever the critic says
    assert (
        abs(one[1] - estimators.bias_and_variance(world, policy, with_values, anywhere)[1]) > 1e-2
    )


def simulate(world, logits, number, seed):
    """(whole returns [n], scores [n,D], reward-to-go gradients [n,D]) of responses that are sampled
    token by token."""
    draw, pi, shape = random.Random(seed), Sums(world, logits).pi, logits.shape
    index = {state: k for k, state in enumerate(world.states)}
    returns, scores, gradients = (
        np.zeros((number, 1)),
        np.zeros((number, *shape)),
        np.zeros((number, *shape)),
    )
    for row in range(number):
        (prompt,) = draw.choices(range(world.prompts), world.prompt_probs.tolist())
        state, tokens = (prompt, ()), ()
        while state in pi:
            tokens += tuple(draw.choices(range(world.vocab_size), pi[state]))
            state = (prompt, tokens)
        returns[row] = discounted(prompt, tokens, 1.0)
        for t, token in enumerate(tokens):
            k = index[prompt, tokens[:t]]
            score = np.eye(world.vocab_size)[token] - pi[prompt, tokens[:t]]
            scores[row, k] = score
            gradients[row, k] = score * discounted(prompt, tokens, 1.0, since=t)
    return returns, scores.reshape(number, -1), gradients.reshape(number, -1)


def test_bias_and_variance_against_a_simulation():
    world = World(reward, vocab_size=3, response_length=3, prompts=2, prompt_probs=f64([0.3, 0.7]))
    policy = policy_of(world, "tabular")
    returns, scores, gradients = simulate(world, policy().detach(), 20_000, seed=0)
    first, second = slice(0, None, 2), slice(1, None, 2)
    mean_of_two = (returns[first] + returns[second]) / 2
    pairs = (
        (returns[first] - mean_of_two) * scores[first]
        + (returns[second] - mean_of_two) * scores[second]
    ) / 2
    for loss, size, samples in ((reward_to_go_loss, 1, gradients), (minus_mean_loss, 2, pairs)):
        mean, covariance = estimators.mean_and_covariance(
            *estimators.gradient_samples(world, policy, loss, size=size)
        )
        error = np.abs(samples.mean(axis=0) - mean.numpy())
        assert (error <= 5 * samples.std(axis=0) / len(samples) ** 0.5).all()
        _, variance = estimators.bias_and_variance(world, policy, loss, mean, size=size)
        assert abs(samples.var(axis=0).sum() * size / variance - 1) < 0.05
        assert np.abs(np.cov(samples.T) - covariance.numpy()).max() < 0.05 * covariance.abs().max()


# -- estimates of the advantage


def brute_errors(world, logits, estimates, gamma):
    """{"bias", "tilt", "variance"} by loops over responses, states and tokens."""
    sums = Sums(world, logits)
    estimate = {
        (row, t): estimates[n, t].item()
        for n, row in enumerate(rows_of(world))
        for t in range(len(row[1]))
    }
    squares, visits = {"bias": 0.0, "tilt": 0.0, "variance": 0.0}, 0.0
    for prompt, before in world.states:
        depth, errors, variances, weights = len(before), [], [], []
        value = sums.mean_after(
            prompt, before, lambda p, tokens: discounted(p, tokens, gamma, since=depth)
        )
        for token in range(world.vocab_size):
            begins = {
                row: p
                for row, p in sums.probabilities.items()
                if row[0] == prompt and row[1][: depth + 1] == (*before, token)
            }
            weight = sum(begins.values())
            mean = sum(p * estimate[row, depth] for row, p in begins.items()) / weight
            variances.append(
                sum(p * (estimate[row, depth] - mean) ** 2 for row, p in begins.items()) / weight
            )
            errors.append(
                mean
                - (
                    sum(p * discounted(*row, gamma, since=depth) for row, p in begins.items())
                    / weight
                    - value
                )
            )
            weights.append(weight)
        shared = sum(w * error for w, error in zip(weights, errors, strict=True)) / sum(weights)
        squares["bias"] += sum(w * error**2 for w, error in zip(weights, errors, strict=True))
        squares["tilt"] += sum(
            w * (error - shared) ** 2 for w, error in zip(weights, errors, strict=True)
        )
        squares["variance"] += sum(
            w * variance for w, variance in zip(weights, variances, strict=True)
        )
        visits += sum(weights)
    means = {name: square / visits for name, square in squares.items()}
    return {
        "bias": means["bias"] ** 0.5,
        "tilt": means["tilt"] ** 0.5,
        "variance": means["variance"],
    }


def assert_same(found, wanted):
    assert set(found) == set(wanted)
    assert_close([found[name] for name in wanted], list(wanted.values()))


@every_world
@pytest.mark.parametrize("gamma", [1.0, 0.6])
def test_advantage_errors_against_loops(world, gamma):
    logits = random_logits(world)
    estimates = torch.randn(
        world.response_mask.shape, generator=torch.Generator().manual_seed(4), dtype=torch.float64
    )
    found = estimators.advantage_errors(world, logits, estimates, gamma)
    assert_same(found, brute_errors(world, logits, estimates, gamma))
    assert all(isinstance(x, float) for x in found.values())
    padding = estimates.masked_fill(~world.response_mask, float("nan"))
    assert estimators.advantage_errors(world, logits, padding, gamma) == found
    if gamma == 1.0:
        assert estimators.advantage_errors(world, logits, estimates) == found


def exact_advantages(world, logits, gamma):
    """A along the responses, from conditional means."""
    sums = Sums(world, logits)

    def q(prompt, tokens, since):
        return sums.mean_after(
            prompt, tokens, lambda p, whole: discounted(p, whole, gamma, since=since)
        )

    advantages = torch.zeros(world.response_mask.shape, dtype=torch.float64)
    for row, (prompt, tokens) in enumerate(rows_of(world)):
        for t in range(len(tokens)):
            advantages[row, t] = q(prompt, tokens[: t + 1], t) - q(prompt, tokens[:t], t)
    return advantages


@every_world
def test_with_exact_values_no_lam_is_biased_and_lam_0_has_no_variance(world):
    logits, gamma = random_logits(world), 0.8
    values, _ = oracle.values_and_action_values(world, logits, gamma)
    variances = []
    for lam in (0.0, 0.5, 1.0):
        estimates = gae_advantages(
            rewards=world.response_rewards,
            values=world.along_responses(values),
            gamma=gamma,
            lam=lam,
            response_mask=world.response_mask,
        )
        errors = estimators.advantage_errors(world, logits, estimates, gamma)
        assert_close([errors["bias"], errors["tilt"]], [0.0, 0.0])
        variances.append(errors["variance"])
    assert_close(variances[0], 0.0)
    assert variances == sorted(variances) and (
        world.response_length == 1 or variances[2] > variances[1] > 1e-4
    )


@every_world
def test_tilt_leaves_out_what_the_tokens_of_a_state_share(world):
    logits, gamma = random_logits(world), 0.8
    advantages = exact_advantages(world, logits, gamma)
    per_state = torch.randn(
        len(world.states), generator=torch.Generator().manual_seed(5), dtype=torch.float64
    )
    errors = estimators.advantage_errors(
        world, logits, advantages + world.along_responses(per_state), gamma
    )
    visits = oracle.reach_probabilities(world, logits)
    size = ((visits * per_state**2).sum() / visits.sum()).sqrt().item()
    assert_same(errors, {"bias": size, "tilt": 0.0, "variance": 0.0})
    # all advantages doubled: an error of A itself, whose mean over the tokens of a state is 0
    doubled = estimators.advantage_errors(world, logits, 2 * advantages, gamma)
    assert doubled["bias"] > 0.1
    assert_close(doubled["tilt"], doubled["bias"])
    assert estimators.advantage_errors(world, logits, advantages, gamma)["variance"] >= 0
