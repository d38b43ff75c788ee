"""The ladder's table against plain loops and against what the derivation promises; its figure; the
command that shows both."""

import functools
import itertools
import math
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

from minippo.exact import ladder
from minippo.exact.estimators import bias_and_variance
from minippo.exact.oracle import exact_gradient
from minippo.ppo import clipped_surrogate_loss
from minippo.trpo import surrogate_loss
from tests.exact.test_oracle import Sums
from tests.exact.test_world import rows_of
from tests.helpers import assert_close

ROOT = Path(__file__).parents[2]
KINDS = ["dense", "outcome-only", "cancelling"]
every_kind = pytest.mark.parametrize("kind", KINDS)
NAMES = [
    "policy gradient",
    "reward-to-go",
    "whole return - 10",
    "whole return - best constant",
    "whole return - mean of batch of 2",
    "whole return - other one of 2",
    "reward-to-go - exact V",
    "reward-to-go - wrong V",
    "GAE 0.95, exact V",
    "GAE 0.95, wrong V",
    "TD (lam 0), exact V",
    "TD (lam 0), wrong V",
    "TRPO's surrogate, GAE 0.95, exact V",
    "PPO clipped, GAE 0.95, exact V",
    "the same, mean over tokens, of 2",
]
WRONG_CRITIC = {"GAE 0.95, wrong V", "TD (lam 0), wrong V"}  # with lam < 1
COUPLED = {"whole return - mean of batch of 2", "the same, mean over tokens, of 2"}


@functools.cache
def gradients(seed):
    """Seed 0 as it is; the others in a world of three steps, which takes a quarter of the time."""
    with pytest.MonkeyPatch.context() as patch:
        if seed != 0:
            patch.setattr(ladder, "RESPONSE_LENGTH", 3)
        return ladder.gradient_table(seed)


@functools.cache
def advantages():
    return ladder.advantage_table(0)


def row(kind, name, seed=0):
    (found,) = [row for row in gradients(seed)[0][kind] if row["name"] == name]
    return found


# -- rewards and world


def sequences():
    """Every beginning of a response of the ladder's world."""
    return [
        tokens
        for n in range(1, 5)
        for tokens in itertools.product(range(3), repeat=n)
        if 0 not in tokens[:-1]
    ]


def test_the_three_kinds_of_reward():
    rewards = ladder.reward_functions(0)
    assert list(rewards) == KINDS
    for tokens in sequences():
        over = len(tokens) == 4 or tokens[-1] == 0
        dense, outcome, cancelling = (reward(0, tokens) for reward in rewards.values())
        assert outcome == (dense if over else 0.0)
        payment = rewards["cancelling"](0, tokens[:1])
        assert cancelling == {(True, False): payment, (False, True): -payment}.get(
            (len(tokens) == 1, over), 0.0
        )
        # of a response of one token: paid and paid back at once
        assert (payment == 0) == (tokens[0] == 0)
    assert len({rewards["dense"](0, tokens) for tokens in sequences()}) == len(sequences())
    assert rewards["cancelling"](0, (1,)) != rewards["cancelling"](0, (2,))
    assert rewards["dense"](1, (1,)) != rewards["dense"](0, (1,))  # of another prompt


def test_the_numbers_are_normal_with_mean_1_and_are_the_same_for_the_same_seed():
    numbers = [ladder.reward_functions(seed)["dense"](0, (1, 2)) for seed in range(2000)]
    assert numbers == [ladder.reward_functions(seed)["dense"](0, (1, 2)) for seed in range(2000)]
    assert (
        abs(np.mean(numbers) - 1) < 0.1
        and abs(np.std(numbers) - 1) < 0.1
        and len(set(numbers)) == 2000
    )


def test_the_world_has_31_responses_and_the_wrong_critic_is_wrong_by_1():
    errors = []
    for seed in range(20):
        world, policy, values, wrong_values = ladder.make_world(
            ladder.reward_functions(seed)["dense"], seed
        )
        assert (
            world.response_tokens.shape == (31, 4)
            and world.prompts == 1
            and policy().shape == (15, 3)
        )
        errors += (wrong_values - values).tolist()
    assert len(set(errors)) == 300 and abs(np.mean(errors)) < 0.2 and abs(np.std(errors) - 1) < 0.15
    returns = dict(zip(rows_of(world), world.response_rewards.tolist(), strict=True))
    sums = Sums(world, policy().detach())
    assert_close(
        values,
        [
            sums.mean_after(
                *state, lambda prompt, tokens: sum(returns[prompt, tokens][len(state[1]) :])
            )
            for state in world.states
        ],
    )


def test_the_same_seed_gives_the_same_table_and_another_seed_another(monkeypatch):
    monkeypatch.setattr(ladder, "RESPONSE_LENGTH", 1)
    assert ladder.gradient_table(3) == ladder.gradient_table(3) != ladder.gradient_table(4)
    assert ladder.advantage_table(3) == ladder.advantage_table(3) != ladder.advantage_table(4)


# -- the table of gradients, from loops over 31 responses and 961 pairs


class Plain:
    """The estimates in NumPy: for each response its probability, rewards, values, and the score of
    each token."""

    def __init__(self, kind):
        reward = ladder.reward_functions(0)[kind]
        self.world, self.policy, *critics = ladder.make_world(reward, 0)
        number = {state: k for k, state in enumerate(self.world.states)}
        sums = Sums(self.world, self.policy().detach())
        self.probabilities, self.rewards, self.values, self.scores = (
            [],
            [],
            {"exact": [], "wrong": []},
            [],
        )
        for prompt, tokens in rows_of(self.world):
            path = [(prompt, tokens[:t]) for t in range(len(tokens))]
            scores = np.zeros((len(tokens), len(number), 3))
            for t, (state, token) in enumerate(zip(path, tokens, strict=True)):
                scores[t, number[state]] = np.eye(3)[token] - sums.pi[state]
            self.probabilities.append(sums.probabilities[prompt, tokens])
            self.rewards.append(
                np.array([reward(prompt, tokens[: t + 1]) for t in range(len(tokens))])
            )
            self.scores.append(scores.reshape(len(tokens), -1))
            for values, critic in zip(self.values.values(), critics, strict=True):
                values.append(np.array([critic[number[state]].item() for state in path]))
        self.returns = np.array([rewards.sum() for rewards in self.rewards])
        self.summed_scores = np.array([scores.sum(axis=0) for scores in self.scores])
        self.gradient = self.probabilities @ (self.returns[:, None] * self.summed_scores)

    def gae(self, critic, lam):
        """The double sum of (4.3); with lam = 1 it is the reward-to-go minus V."""
        for rewards, values in zip(self.rewards, self.values[critic], strict=True):
            deltas = rewards + np.append(values[1:], 0.0) - values
            yield np.array(
                [
                    sum(lam ** (k - t) * deltas[k] for k in range(t, len(deltas)))
                    for t in range(len(deltas))
                ]
            )

    def best_constant(self):
        weights = self.probabilities * (self.summed_scores**2).sum(axis=1)
        return (weights @ self.returns) / weights.sum()

    def of_one(self, weights):
        """(bias, variance) from a weight for each token of each response."""
        return self.judge(
            self.probabilities,
            [w @ scores for w, scores in zip(weights, self.scores, strict=True)],
            1,
        )

    def of_two(self, estimate):
        """(bias, variance) of estimate(i, j), over all pairs of responses."""
        pairs = list(itertools.product(range(31), repeat=2))
        probabilities = [self.probabilities[i] * self.probabilities[j] for i, j in pairs]
        return self.judge(probabilities, [estimate(i, j) for i, j in pairs], 2)

    def judge(self, probabilities, samples, size):
        probabilities, samples = np.array(probabilities), np.array(samples)
        mean = probabilities @ samples
        return np.abs(mean - self.gradient).max(), size * (
            probabilities @ (samples - mean) ** 2
        ).sum()

    def table(self):
        returns, scores, lengths = (
            self.returns,
            self.summed_scores,
            [len(rewards) for rewards in self.rewards],
        )
        whole = [np.full(n, total) for n, total in zip(lengths, returns, strict=True)]
        advantages = list(self.gae("exact", 0.95))
        gae = self.of_one(advantages)
        pushes = [a @ s for a, s in zip(advantages, self.scores, strict=True)]
        expected_length = self.probabilities @ np.array(lengths)
        return [
            self.of_one(whole),
            self.of_one(
                [[rewards[t:].sum() for t in range(len(rewards))] for rewards in self.rewards]
            ),
            self.of_one([w - 10 for w in whole]),
            self.of_one([w - self.best_constant() for w in whole]),
            self.of_two(lambda i, j: (returns[i] - returns[j]) / 2 * (scores[i] - scores[j]) / 2),
            self.of_two(lambda i, j: (returns[i] - returns[j]) * (scores[i] - scores[j]) / 2),
            self.of_one(self.gae("exact", 1)),
            self.of_one(self.gae("wrong", 1)),
            gae,
            self.of_one(self.gae("wrong", 0.95)),
            self.of_one(self.gae("exact", 0)),
            self.of_one(self.gae("wrong", 0)),
            gae,
            gae,
            self.of_two(
                lambda i, j: expected_length * (pushes[i] + pushes[j]) / (lengths[i] + lengths[j])
            ),
        ]


@every_kind
@pytest.mark.slow
def test_every_row_against_plain_loops(kind):
    table, sizes = gradients(0)
    plain = Plain(kind)
    assert_close(sizes[kind], np.abs(plain.gradient).max())
    assert [row["name"] for row in table[kind]] == NAMES and list(table) == list(sizes) == KINDS
    assert [row["stage"] for row in table[kind]] == [1, 2] + [3] * 6 + [4] * 4 + [5, 6, 6]
    for row, (bias, variance) in zip(table[kind], plain.table(), strict=True):
        assert_close([row["bias"], row["variance"]], [bias, variance])


# -- what the derivation promises

# the world of four steps takes seconds
every_seed = pytest.mark.parametrize("seed", [1, 2, pytest.param(0, marks=pytest.mark.slow)])


@every_kind
@every_seed
def test_which_rows_are_biased(kind, seed):
    table, sizes = gradients(seed)
    assert (sizes[kind] < 1e-10) == (kind == "cancelling")
    for row in table[kind]:
        if row["name"] in WRONG_CRITIC or row["name"] in COUPLED and kind != "cancelling":
            assert row["bias"] > 1e-3
        else:
            assert row["bias"] <= 1e-10


@every_kind
@every_seed
def test_relations_between_the_rows(kind, seed):
    def variance(name):
        return row(kind, name, seed)["variance"]

    sizes = gradients(seed)[1]
    mean, other = "whole return - mean of batch of 2", "whole return - other one of 2"
    assert_close(row(kind, mean, seed)["bias"], sizes[kind] / 2)
    assert_close(variance(other), 4 * variance(mean))  # twice as large
    for name in ("TRPO's surrogate, GAE 0.95, exact V", "PPO clipped, GAE 0.95, exact V"):
        assert_close(
            [row(kind, name, seed)[x] for x in ("bias", "variance")],
            [row(kind, "GAE 0.95, exact V", seed)[x] for x in ("bias", "variance")],
        )
    assert (
        variance("whole return - best constant")
        <= min(variance("policy gradient"), variance("whole return - 10")) + 1e-10
    )
    if kind == "outcome-only":
        assert_close(variance("reward-to-go"), variance("policy gradient"))
    if kind == "cancelling":
        assert_close(variance("policy gradient"), 0.0)
        assert variance("reward-to-go") > 1e-3


@every_kind
@pytest.mark.slow
def test_the_best_constant_is_the_best(kind):
    world, policy, *_ = ladder.make_world(ladder.reward_functions(0)[kind], 0)
    best, exact = ladder.best_constant(world, policy).item(), exact_gradient(world, policy)

    def variance(constant):
        return bias_and_variance(
            world, policy, ladder.weighted(ladder.minus_constant(constant)), exact
        )[1]

    assert_close(best, Plain(kind).best_constant())
    assert_close(variance(best), row(kind, "whole return - best constant")["variance"])
    distances = [1e-3, 0.1, 1.0, 3.0]
    above, below = (
        [variance(best + sign * distance) for distance in distances] for sign in (1, -1)
    )
    assert_close(above, below)  # a parabola
    assert [variance(best)] + above == sorted([variance(best)] + above) and above[0] > variance(
        best
    )


@pytest.mark.parametrize(
    "loss, options", [(surrogate_loss, {}), (clipped_surrogate_loss, {"cliprange": 0.2})]
)
def test_a_ratio_loss_summed_over_tokens_does_not_couple_the_rows_and_the_mean_over_tokens_does(
    monkeypatch, loss, options
):
    monkeypatch.setattr(ladder, "RESPONSE_LENGTH", 2)
    world, policy, values, _ = ladder.make_world(ladder.reward_functions(0)["dense"], 0)
    exact = exact_gradient(world, policy)
    one, two = (
        [
            bias_and_variance(
                world,
                policy,
                wrap(loss, ladder.gae(0.95), **options),
                exact,
                values=values,
                size=size,
            )
            for wrap in (ladder.ratio_loss, ladder.mean_over_tokens)
        ]
        for size in (1, 2)
    )
    assert_close(one[0], two[0])
    assert abs(one[1][1] - two[1][1]) > 1e-3


# -- the table of advantages


@every_kind
def test_the_advantages_of_the_exact_critic(kind):
    rows = advantages()[kind]["exact V"]
    assert (
        [row["lam"] for row in rows]
        == list(ladder.LAMBDAS)
        == [0.0, 0.25, 0.5, 0.75, 0.9, 0.95, 1.0]
    )
    assert_close(
        [[row["bias"], row["tilt"], row["gradient bias"]] for row in rows], [[0.0] * 3] * len(rows)
    )
    variances = [row["variance"] for row in rows]
    if kind == "cancelling":  # what comes is known as soon as the first token is
        assert_close(variances, [0.0] * len(rows))
    else:
        assert_close(variances[0], 0.0)
        assert all(less < more for less, more in pairwise(variances))


@every_kind
def test_the_advantages_of_the_wrong_critic(kind):
    rows = advantages()[kind]["wrong V"]
    assert [row["lam"] for row in rows] == list(ladder.LAMBDAS)
    for name in ("tilt", "gradient bias"):
        values = [row[name] for row in rows]
        assert values == sorted(values, reverse=True) and values[-2] > 1e-3
        assert_close(values[-1], 0.0)
    plain = Plain(kind)  # at lam = 1 the error is that of V itself, wherever a token is
    lengths = [len(values) for values in plain.values["exact"]]
    squares = [
        ((exact - wrong) ** 2).sum()
        for exact, wrong in zip(plain.values["exact"], plain.values["wrong"], strict=True)
    ]
    mean_square = (plain.probabilities @ np.array(squares)) / (
        plain.probabilities @ np.array(lengths)
    )
    assert_close(rows[-1]["bias"], math.sqrt(mean_square))
    assert_close(
        [rows[0]["variance"], rows[-1]["variance"]],
        [0.0, advantages()[kind]["exact V"][-1]["variance"]],
    )


@every_kind
@pytest.mark.parametrize("critic", ["exact", "wrong"])
def test_the_gradients_of_the_advantages(kind, critic):
    plain, rows = Plain(kind), advantages()[kind][f"{critic} V"]
    for row in rows:
        assert_close(
            [row["gradient bias"], row["gradient variance"]],
            plain.of_one(plain.gae(critic, row["lam"])),
        )
