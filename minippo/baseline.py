"""Stage 3, baselines: measure an action against what was to be expected in its state.

What stage 2 leaves. A reward-to-go of 5 is good news where 3 was expected and bad news where 7 was.
Without that comparison the sign of a token's push says nothing about the token, and the pushes are
larger than they need to be.

Why it may be subtracted. Stage 2 showed that E[b grad log pi(a_t|s_t)] = 0 for any b that is known
before a_t is drawn. So w_t = G_t - b(s_t), with G_t the reward-to-go, has the same expected
gradient, whatever b(s_t) is: good, bad, or learned from earlier batches and wrong. What it must not
depend on is a_t and what follows from it.

Words. V(s) = E[G_t | s_t = s] is the value of a state: the return to be expected from it. A critic
is a network that estimates it; values[b,t] is its V(s_t), before a_t is drawn. At this stage it is
trained on the rewards-to-go of the batch, with value_loss, after the policy's step. G_t - V(s_t) is
a sample of the advantage: how much better a_t turned out than what the policy does on average in
s_t. V is written for the value and for the critic's estimate of it; where it matters, the former is
called the exact V.

Which b. Each of these goes into `baseline_advantages` as `values`, a number as a [B,T] tensor
filled with it:

    batch_mean_baseline         the mean return of the batch; contains the row's own, which follows
                                from a_t: a bias
    leave_one_out_baseline      the mean return of the other rows: no bias
    next_moving_average         the mean of earlier batches, the recent ones weighing more: no bias,
                                a little late
    optimal_constant_baseline   the constant with the least variance, when the weights are whole
                                returns (stage 1)
    a critic's V(s_t)           the only one that knows the state

The first four are about returns of whole responses. Where rewards come on the way, they are too
high for late tokens when rewards are positive, which costs variance and brings no further bias. The
variance here is the sum over all components of the gradient.

V is the usual choice, and not the one with the least variance: that one weighs each action by the
size of its gradient. In 289 of 1,000 random problems of one token with rewards of
mean 0, V is worse than no baseline; where the mean is twice the standard deviation, in 3 of 1,000
(`python -m minippo.exact.qualifications`).

What is still wrong. G_t is one sample of all that followed, and usually the noisier the more tokens
are still to come. The critic estimates its mean. The next stage, gae, lets the critic replace the
far end.
"""

import torch
from torch import Tensor

from minippo.masked import masked_mean, zero_padding
from minippo.policy_gradient import trajectory_returns
from minippo.reward_to_go import rewards_to_go
from minippo.shapes import check_batch, check_data, check_range, check_shapes


def baseline_advantages(
    *, rewards: Tensor, values: Tensor, response_mask: Tensor, gamma: float
) -> Tensor:
    """Reward-to-go minus a baseline: the Monte Carlo estimate of the advantage, when values is V.

    Equation (3.1)  w_t = G_t - b(s_t),  b = values
    Source   Williams 1992 (baseline); Schulman et al. 2016, arXiv:1506.02438, section 2, lists the
             family of such weights.
    Shapes   rewards, values [B,T] float; response_mask [B,T] bool -> [B,T]; 0 where masked.
    Gradient none: all arguments are data.
    Limits   values=0: rewards_to_go of stage 2. The expected policy gradient does not depend on
             values, if they are known before a_t is drawn.
    Raises   ValueError: shapes differ, rewards or values require grad, a bad mask, gamma outside
             [0, 1].
    """
    check_batch(response_mask, data={"rewards": rewards, "values": values})
    returns_to_go = rewards_to_go(rewards=rewards, response_mask=response_mask, gamma=gamma)
    return zero_padding(values=returns_to_go - values, mask=response_mask)


def value_loss(*, values: Tensor, value_targets: Tensor, response_mask: Tensor) -> Tensor:
    """Squared error of the critic; the mean over True tokens.

    Equation (3.2)  L = 1/2 mean_{True t} (V(s_t) - y_t)^2,  y_t = value_targets
    Source   Schulman et al. 2016, arXiv:1506.02438, section 5 (value function by regression).
    Shapes   values, value_targets [B,T] float; response_mask [B,T] bool -> scalar.
    Gradient to values: (V - y) / (number of real tokens); exactly 0 where masked. None to
             value_targets, they are data.
    Limits   0 when the critic is right everywhere; the best constant is the mean of the targets.
    Raises   ValueError: shapes differ, value_targets requires grad, a bad mask.
    """
    check_batch(response_mask, data={"value_targets": value_targets}, values=values)
    # selected before the square
    errors = zero_padding(values=values - value_targets, mask=response_mask)
    return 0.5 * masked_mean(values=errors**2, mask=response_mask)


def batch_mean_baseline(*, rewards: Tensor, response_mask: Tensor, gamma: float) -> Tensor:
    """The mean return of the batch, on every token.

    Equation (3.3)  b = 1/B sum_i R(tau_i)
    Source   Williams 1992 (comparison with a running mean); the rows of one batch stand in for the
             past.
    Shapes   rewards [B,T] float; response_mask [B,T] bool -> [B,T]; 0 where masked.
    Gradient none: rewards are data.
    Limits   a row's own return is in its baseline. With independent rows, and gamma=1 or whole
             returns, the expected gradient is (B-1)/B of the true one. For B=1 and whole returns
             every weight is 0.
    Raises   ValueError: shapes differ, rewards require grad, a bad mask, gamma outside [0, 1].
    """
    returns = trajectory_returns(rewards=rewards, response_mask=response_mask, gamma=gamma)
    return zero_padding(values=returns[:, 0].mean().expand_as(returns), mask=response_mask)


def leave_one_out_baseline(*, rewards: Tensor, response_mask: Tensor, gamma: float) -> Tensor:
    """The mean return of the other rows, on every token of a row.

    Equation (3.4)  b_i = 1/(B-1) sum_{j != i} R(tau_j)
    Source   Kool et al. 2019, Buy 4 REINFORCE samples, get a baseline for free; Ahmadian et al.
             2024, arXiv:2402.14740.
    Shapes   rewards [B,T] float; response_mask [B,T] bool -> [B,T]; 0 where masked.
    Gradient none: rewards are data.
    Limits   whole returns minus this are B/(B-1) times whole returns minus the batch mean (3.3). In
             the sources all rows answer one prompt; with different prompts there still is no bias,
             but easy prompts are compared with hard ones.
    Raises   ValueError: shapes differ, rewards require grad, a bad mask, gamma outside [0, 1], a
             batch of one row.
    """
    returns = trajectory_returns(rewards=rewards, response_mask=response_mask, gamma=gamma)
    if len(returns) < 2:
        raise ValueError(
            "rewards: got one row, wanted at least two: the baseline "
            "of a row is the mean of the others"
        )
    # the sum of all minus one's own would lose the others' digits beside a large return
    itself = torch.eye(len(returns), dtype=torch.bool, device=returns.device)
    others = returns[:, 0].expand_as(itself).masked_fill(itself, 0.0).sum(dim=1, keepdim=True)
    others = others / (len(returns) - 1)  # [B,1]
    return zero_padding(values=others.expand_as(returns), mask=response_mask)


def next_moving_average(
    *, moving_average: float, rewards: Tensor, response_mask: Tensor, gamma: float, decay: float
) -> float:
    """The mean return of the batches so far, recent ones weighing more: a number, the baseline of
    the next batch.

    Equation (3.5)  m' = decay m + (1 - decay) 1/B sum_i R(tau_i)
    Source   Williams 1992 (reinforcement comparison).
    Shapes   rewards [B,T] float; response_mask [B,T] bool; moving_average a number -> a number.
    Gradient none: rewards are data.
    Limits   decay=0: the mean of this batch. This batch's own baseline is m, not m': m is settled
             before its samples are drawn.
    Raises   ValueError: shapes differ, rewards require grad, a bad mask, gamma or decay outside [0,
             1], moving_average not finite.
    """
    check_range("[0, 1]", decay=decay)
    check_range("(-inf, inf)", moving_average=moving_average)
    returns = trajectory_returns(rewards=rewards, response_mask=response_mask, gamma=gamma)
    return decay * moving_average + (1 - decay) * returns[:, 0].mean().item()


def optimal_constant_baseline(*, returns: Tensor, squared_norms: Tensor) -> Tensor:
    """The constant that makes the variance of whole-return policy gradients least.

    Equation (3.6)  b = sum_i n_i R(tau_i) / sum_i n_i,  n_i = |grad_theta log p(tau_i)|^2
    Source   Greensmith, Bartlett and Baxter 2004, Variance reduction techniques for gradient
             estimates in reinforcement learning.
    Shapes   returns, squared_norms [B] float -> scalar. The caller computes the norms, one gradient
             per row. For an exact expectation multiply them by the probabilities of the rows.
    Gradient none: all arguments are data.
    Limits   the mean return when all norms are equal. Computed from the very batch it is used on,
             it is biased like (3.3).
    Raises   ValueError: shapes differ, an argument requires grad, a norm that is negative or not
             finite, norms that are all 0.
    """
    check_shapes(returns=(returns, "B"), squared_norms=(squared_norms, "B"))
    check_data(returns=returns, squared_norms=squared_norms)
    if not (squared_norms >= 0).all() or not 0 < squared_norms.sum() < torch.inf:
        raise ValueError(
            "squared_norms: got numbers below 0, not finite or all "
            "0, wanted squared lengths of gradients"
        )
    return (squared_norms * returns).sum() / squared_norms.sum()
