import itertools

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from minippo import policy_gradient
from tests.helpers import (
    assert_close,
    batch_of,
    check_common_refusals,
    check_layout_does_not_matter,
    check_padding_is_never_read,
    f64,
    mask_of_lengths,
    ragged_batches,
    value_and_gradients,
)

NAN = float("nan")
seeds = st.integers(0, 2**31)
unit = st.floats(0, 1)


def returns_at(gamma):
    """The weights of this stage as a function of tensors only."""
    return lambda **batch: policy_gradient.trajectory_returns(**batch, gamma=gamma)


class World:
    """All responses of at most `width` tokens from so many; token 0 ends a response. The prompt is
    always the same.

    The policy is one row of logits for each state, a state being the tokens so far. J and its
    gradient come from the sum over all responses, differentiated by autograd: nothing of the
    package takes part in it.
    """

    def __init__(self, seed, vocab_size=3, width=2):
        self.responses = [
            tokens
            for length in range(1, width + 1)
            for tokens in itertools.product(range(vocab_size), repeat=length)
            if 0 not in tokens[:-1] and (tokens[-1] == 0 or length == width)
        ]
        states = sorted({tokens[:t] for tokens in self.responses for t in range(len(tokens))})
        self.mask = mask_of_lengths([len(tokens) for tokens in self.responses], width)
        self.token, self.state = torch.zeros(2, len(self.responses), width, dtype=torch.int64)
        for row, tokens in enumerate(self.responses):
            for t, token in enumerate(tokens):
                self.token[row, t], self.state[row, t] = token, states.index(tokens[:t])
        self.generator = torch.Generator().manual_seed(seed)
        self.logits, self.action_rewards = (
            self.draw(len(states), vocab_size),
            self.draw(len(states), vocab_size),
        )
        self.n_states = len(states)

    def draw(self, *shape):
        return torch.randn(shape, generator=self.generator, dtype=torch.float64)

    def along(self, table):
        """Along each response what a table says of its states [S], or of its states and tokens
        [S,V]: [R,T]."""
        return (
            table[self.state] if table.dim() == 1 else table[self.state, self.token]
        ).masked_fill(~self.mask, NAN)

    @property
    def rewards(self):
        return self.along(self.action_rewards)

    def log_probabilities(self, logits):
        """log p(tau) of each response."""
        return self.along(logits.log_softmax(dim=-1)).masked_fill(~self.mask, 0.0).sum(dim=1)

    def expected_return(self, gamma, logits=None):
        """J, from its definition."""
        probabilities = self.log_probabilities(self.logits if logits is None else logits).exp()
        discounts = gamma ** torch.arange(self.mask.shape[1], dtype=torch.float64)
        return (
            probabilities * (discounts * self.rewards.masked_fill(~self.mask, 0.0)).sum(dim=1)
        ).sum()

    def gradient_of_expected_return(self, gamma):
        logits = self.logits.clone().requires_grad_()
        return torch.autograd.grad(self.expected_return(gamma, logits), logits)[0]

    def expected_loss(self, weights_of, logits, batch_size=1, sampled_from=None):
        """The mean of policy_gradient_loss over all batches, each counted by its probability (a
        plain number).

        weights_of(rows) gives the weights of the batch that consists of these responses.
        """
        sampled_from = self.logits if sampled_from is None else sampled_from
        probabilities = self.log_probabilities(sampled_from).exp()
        assert_close(probabilities.sum(), 1)
        logprobs = self.along(logits.log_softmax(dim=-1))
        total = 0.0
        for rows in itertools.product(range(len(self.responses)), repeat=batch_size):
            rows = list(rows)
            loss = policy_gradient.policy_gradient_loss(
                logprobs=logprobs[rows], weights=weights_of(rows), response_mask=self.mask[rows]
            )
            total = total + probabilities[rows].prod() * loss
        return total

    def expected_gradient(self, weights_of, batch_size=1, sampled_from=None):
        logits = self.logits.clone().requires_grad_()
        return torch.autograd.grad(
            self.expected_loss(weights_of, logits, batch_size, sampled_from), logits
        )[0]

    def total_variance(self, weights_of):
        """The variance of the gradient of one response's loss, summed over the parameters."""
        logits = self.logits.clone().requires_grad_()
        logprobs = self.along(logits.log_softmax(dim=-1))
        losses = [
            policy_gradient.policy_gradient_loss(
                logprobs=logprobs[[row]], weights=weights_of([row]), response_mask=self.mask[[row]]
            )
            for row in range(len(self.responses))
        ]
        gradients = torch.stack(
            [torch.autograd.grad(loss, logits, retain_graph=True)[0].flatten() for loss in losses]
        )
        probabilities = self.log_probabilities(self.logits).exp().unsqueeze(1)
        mean = (probabilities * gradients).sum(dim=0)
        return (probabilities * (gradients - mean) ** 2).sum()


def stage_1(world, gamma):
    return lambda rows: returns_at(gamma)(
        rewards=world.rewards[rows], response_mask=world.mask[rows]
    )


def differ(one, other):
    """So far apart that no rounding explains it."""
    return (one - other).abs().max() > 1e-3


# hand-worked numbers

BY_HAND = {
    "rewards": f64([[1.0, 2.0, 4.0, 9.0], [3.0, NAN, NAN, NAN]]),
    "response_mask": mask_of_lengths([3, 1], 4),
}


def test_trajectory_returns_by_hand():
    # gamma = .5: 1 + .5 * 2 + .25 * 4 = 3 on each of the three tokens, 3 on the one token; the 9 is
    # padding
    assert_close(returns_at(0.5)(**BY_HAND), [[3, 3, 3, 0], [3, 0, 0, 0]])
    # gamma = 1: 1 + 2 + 4 = 7
    assert_close(returns_at(1.0)(**BY_HAND), [[7, 7, 7, 0], [3, 0, 0, 0]])


def test_loss_by_hand():
    # row 0: 2 * -.5 + 3 * -1 = -4; row 1: -1 * -2 = 2; minus the mean over the two rows: -(-4 + 2)
    # / 2 = 1
    batch = {
        "logprobs": f64([[-0.5, -1.0], [-2.0, NAN]]),
        "weights": f64([[2.0, 3.0], [-1.0, NAN]]),
        "response_mask": mask_of_lengths([2, 1]),
    }
    loss, gradients = value_and_gradients(policy_gradient.policy_gradient_loss, batch, ["logprobs"])
    assert_close(loss, 1)
    assert_close(gradients["logprobs"], [[-1, -1.5], [0.5, 0]])  # -w / 2


def test_a_rewarded_token_becomes_more_likely():
    # one state, two tokens; token 1 was drawn and has a weight of 1
    logits = f64([[0.0, 0.0]]).requires_grad_()
    loss = policy_gradient.policy_gradient_loss(
        logprobs=logits.log_softmax(dim=-1)[:, 1:],
        weights=f64([[1.0]]),
        response_mask=mask_of_lengths([1]),
    )
    # -grad log pi(1) = -(onehot - pi) = -(-.5, .5): a step against it raises logit 1 and lowers
    # logit 0
    assert_close(torch.autograd.grad(loss, logits)[0], [[0.5, -0.5]])


def test_the_loss_can_rise_while_the_policy_gets_better():
    world = World(0, vocab_size=2, width=1)
    world.action_rewards = f64([[0.0, 1.0]])
    # J = p(1), the expected loss is -p log p: at p = .1 it is .230, at p = .3 it is .361
    for p, loss in ((0.1, 0.2302585092994046), (0.3, 0.3611918412977808)):
        world.logits = f64([[1 - p, p]]).log()
        assert_close(world.expected_return(1.0), p)
        assert_close(world.expected_loss(stage_1(world, 1.0), world.logits), loss)


# the theorem: the expected gradient of the loss is minus that of J


def test_the_world_is_what_it_should_be():
    world = World(0, vocab_size=3, width=2)
    assert world.responses == [(0,), (1, 0), (1, 1), (1, 2), (2, 0), (2, 1), (2, 2)]
    assert world.n_states == 3 and world.mask.sum(dim=1).tolist() == [1, 2, 2, 2, 2, 2, 2]
    pi = world.logits.softmax(dim=-1)  # states: (), (1,), (2,)
    assert_close(
        world.log_probabilities(world.logits).exp()[[0, 3]],
        torch.stack([pi[0, 0], pi[0, 1] * pi[1, 2]]),
    )
    r = world.action_rewards
    wanted = sum(
        pi[0, a] * r[0, a] + sum(pi[0, a] * pi[a, b] * 0.5 * r[a, b] for b in range(3) if a)
        for a in range(3)
    )
    assert_close(world.expected_return(0.5), wanted)


@given(seeds, unit, st.sampled_from([(3, 2), (2, 3), (3, 3)]))
@settings(max_examples=20)
def test_the_expected_gradient_is_that_of_the_discounted_return(seed, gamma, size):
    world = World(seed, *size)
    assert_close(
        world.expected_gradient(stage_1(world, gamma)), -world.gradient_of_expected_return(gamma)
    )


@pytest.mark.parametrize("gamma", [1.0, 0.7, 0.0])
def test_the_expected_gradient_is_that_of_the_discounted_return_in_one_world(gamma):
    world = World(3, vocab_size=2, width=3)
    assert_close(
        world.expected_gradient(stage_1(world, gamma)), -world.gradient_of_expected_return(gamma)
    )


def test_the_gradient_of_a_batch_has_the_same_mean():
    world = World(4)
    assert_close(
        world.expected_gradient(stage_1(world, 0.9), batch_size=2),
        -world.gradient_of_expected_return(0.9),
    )


def test_samples_of_another_policy_give_another_gradient():
    world = World(5)
    gradient = world.expected_gradient(
        stage_1(world, 1.0), sampled_from=world.logits + world.draw(3, 3)
    )
    assert differ(gradient, -world.gradient_of_expected_return(1.0))


# reductions


@given(ragged_batches("rewards"))
def test_gamma_1_is_the_sum_and_gamma_0_the_first_reward(batch):
    mask = batch["response_mask"]
    sums = batch["rewards"].masked_fill(~mask, 0.0).sum(dim=1, keepdim=True)
    assert_close(returns_at(1)(**batch), torch.where(mask, sums, 0.0))
    assert torch.equal(returns_at(0)(**batch), torch.where(mask, batch["rewards"][:, :1], 0.0))


# gradient flow and padding


def test_padding_and_layout():
    batch = batch_of("logprobs weights", mask_of_lengths([3, 1, 4], 5), 0)
    check_padding_is_never_read(policy_gradient.policy_gradient_loss, batch, ["logprobs"])
    check_layout_does_not_matter(policy_gradient.policy_gradient_loss, batch, ["logprobs"])


def test_padding_and_layout_of_the_returns():
    batch = batch_of("rewards", mask_of_lengths([3, 1, 4], 5), 0)
    check_padding_is_never_read(returns_at(0.9), batch)
    check_layout_does_not_matter(returns_at(0.9), batch)


def test_a_nan_on_a_token_is_not_hidden():
    batch = {"rewards": f64([[1.0, NAN], [1.0, 2.0]]), "response_mask": mask_of_lengths([2, 2])}
    returns = returns_at(0.5)(**batch)
    assert returns[0].isnan().all() and returns[1].tolist() == [2, 2]
    loss = policy_gradient.policy_gradient_loss(
        logprobs=batch["rewards"], weights=returns, response_mask=batch["response_mask"]
    )
    assert loss.isnan()


@given(ragged_batches("rewards"), unit)
def test_a_row_does_not_know_the_others(batch, gamma):
    rows = [
        returns_at(gamma)(**{name: x[b : b + 1] for name, x in batch.items()})
        for b in range(len(batch["rewards"]))
    ]
    assert_close(returns_at(gamma)(**batch), torch.cat(rows))


def test_a_batch_is_the_mean_of_its_parts_by_their_rows():
    batch = batch_of("logprobs weights", mask_of_lengths([3, 1, 4, 2], 5), 0)
    whole, whole_gradients = value_and_gradients(
        policy_gradient.policy_gradient_loss, batch, ["logprobs"]
    )
    for split in (1, 2, 3):
        total, gradients = 0.0, []
        for part in (slice(None, split), slice(split, None)):
            small = {name: x[part] for name, x in batch.items()}
            share = len(small["weights"]) / 4
            loss, gradient = value_and_gradients(
                policy_gradient.policy_gradient_loss, small, ["logprobs"]
            )
            total = total + share * loss
            gradients.append(share * gradient["logprobs"])
        assert_close(total, whole)
        assert_close(torch.cat(gradients), whole_gradients["logprobs"])


def test_the_arguments_are_left_as_they_were():
    batch = batch_of("rewards logprobs weights", mask_of_lengths([3, 1]), 0)
    before = {name: x.clone() for name, x in batch.items()}
    returns_at(0.9)(rewards=batch["rewards"], response_mask=batch["response_mask"])
    policy_gradient.policy_gradient_loss(
        **{name: batch[name] for name in ("logprobs", "weights", "response_mask")}
    )
    assert all(torch.equal(batch[name], before[name]) for name in batch)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32, torch.float64])
def test_the_dtype_is_kept(dtype):
    one = torch.ones(1, 2, dtype=dtype)
    assert returns_at(0.9)(rewards=one, response_mask=one.bool()).dtype == dtype
    assert (
        policy_gradient.policy_gradient_loss(
            logprobs=one, weights=one, response_mask=one.bool()
        ).dtype
        == dtype
    )


# refusals


def test_refusals():
    batch = batch_of("logprobs weights", mask_of_lengths([1]), 0)
    check_common_refusals(policy_gradient.policy_gradient_loss, batch, data=["weights"])


def test_refusals_of_the_returns():
    check_common_refusals(
        returns_at(0.9), batch_of("rewards", mask_of_lengths([1]), 0), data=["rewards"]
    )


@pytest.mark.parametrize("bad", [-0.1, 1.1, NAN, float("inf"), "0.9", True, None, f64(0.9)])
def test_refused_numbers(bad):
    with pytest.raises(ValueError, match=r"gamma: got .*, wanted a number in \[0, 1\]"):
        returns_at(bad)(**BY_HAND)


# an independent transcription


@given(ragged_batches("rewards logprobs weights"), unit)
def test_against_numpy(batch, gamma):
    rewards, logprobs, weights, mask = (
        batch[name].numpy() for name in ("rewards", "logprobs", "weights", "response_mask")
    )
    returns, wanted_gradient, total = np.zeros(mask.shape), np.zeros(mask.shape), 0.0
    for b, t in zip(*np.nonzero(mask), strict=True):
        returns[b, t] = sum(gamma**k * rewards[b, k] for k in range(mask.shape[1]) if mask[b, k])
        total -= weights[b, t] * logprobs[b, t] / len(mask)
        wanted_gradient[b, t] = -weights[b, t] / len(mask)
    assert_close(
        returns_at(gamma)(rewards=batch["rewards"], response_mask=batch["response_mask"]), returns
    )
    inputs = {name: batch[name] for name in ("logprobs", "weights", "response_mask")}
    loss, gradients = value_and_gradients(
        policy_gradient.policy_gradient_loss, inputs, ["logprobs"]
    )
    assert_close(loss, total)
    assert_close(gradients["logprobs"], wanted_gradient)
