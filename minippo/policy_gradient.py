"""Stage 1, the plain policy gradient: make what was rewarded more likely.

Where we are. The policy pi is a language model with parameters theta. It answers a prompt token by
token: in state s_t (the prompt and the tokens so far) it draws the action a_t (the next token) with
probability pi(a_t|s_t), and receives a reward r_t. In RLHF (reinforcement learning from human
feedback) most rewards are 0 and the last is a score of the whole response. Prompt and response
together are the trajectory tau; its return is R(tau) = sum_t gamma^t r_t. gamma, the discount, is 1
for most of this project; less makes late rewards count less. We want the expected return to rise,
over prompts and draws: J(theta) = E[R(tau)].

A batch is B responses, padded to T tokens: every tensor is [B,T], logprobs[b,t] = log pi(a_t|s_t),
and response_mask is True on real tokens.

The problem. Theta decides only the probabilities of the draw. A reward has no derivative with
respect to theta.

The idea. J is a sum over all trajectories, J = sum_tau p(tau) R(tau), and theta is only in p. As
grad p = p grad log p,

    grad J = sum_tau p(tau) R(tau) grad log p(tau) = E[ R(tau) grad log p(tau) ].

The probability of a trajectory is that of its prompt times those of its tokens. The logarithm makes
a sum of the product, and the prompt's part does not depend on theta:

    grad J = E[ sum_t R(tau) grad log pi(a_t|s_t) ].

An expectation over samples of the policy itself can be estimated: sample B responses and take the
mean. The estimate has no bias (its mean is the gradient); how far one sample lies from the mean is
its variance, and the next stages lower it.

The loss. Autograd wants a scalar that has this gradient. It is sum_t w_t log pi_t with the weights
w_t = R(tau) taken as plain numbers, and a minus sign because optimisers minimise. Its value means
nothing: it is no measure of success, and it can rise while the policy gets better. Its gradient is
right at the policy that made the samples, hence for one step; then draw new samples. That is called
on-policy.

Stages 2, 3 and 4 keep this loss and change only the weights.

What is still wrong. Every token is rewarded for the whole response, also for rewards that had come
before it. That is right on average and noisy in each sample. The next stage, reward_to_go, leaves
those rewards out.

How to read the functions. Equation, Source and Shapes say what they compute; Gradient, what passes
through (data is a tensor that must not require grad); Limits, the special cases; Raises, what is
refused.
"""

from torch import Tensor

from minippo.masked import zero_padding
from minippo.shapes import check_batch, check_range


def trajectory_returns(*, rewards: Tensor, response_mask: Tensor, gamma: float) -> Tensor:
    """The return of the whole response, written on each of its tokens: the weights of this stage.

    Equation (1.1)  w_t = R(tau) = sum_{k>=0} gamma^k r_k, the same at every True t
    Source   Williams 1992, Simple statistical gradient-following algorithms for connectionist
             reinforcement learning.
    Shapes   rewards [B,T] float; response_mask [B,T] bool -> [B,T]; 0 where masked.
    Gradient none: rewards are data.
    Limits   gamma=1: the sum of the row. gamma=0: the first reward.
    Raises   ValueError: shapes differ, rewards require grad, a bad mask, gamma outside [0, 1].
    """
    check_batch(response_mask, data={"rewards": rewards})
    check_range("[0, 1]", gamma=gamma)
    rewards = zero_padding(values=rewards, mask=response_mask)
    discounts = rewards.new_tensor([gamma**t for t in range(rewards.shape[1])])  # [T]
    returns = (discounts * rewards).sum(dim=1, keepdim=True)  # [B,T] -> [B,1]
    return zero_padding(values=returns.expand_as(rewards), mask=response_mask)  # [B,1] -> [B,T]


def policy_gradient_loss(*, logprobs: Tensor, weights: Tensor, response_mask: Tensor) -> Tensor:
    """The loss of stages 1 to 4: its gradient is minus the policy gradient; sum over t, mean over
    b.

    Equation (1.2)  L = -1/B sum_b sum_{True t} w_t log pi(a_t|s_t)
    Source   Williams 1992; Sutton et al. 2000, Policy gradient methods for reinforcement learning
             with function approximation.
    Shapes   logprobs, weights [B,T] float; response_mask [B,T] bool -> scalar.
    Gradient to logprobs: -w_t / B; exactly 0 where masked. None to weights, they are data.
    Limits   with w_t = R(tau) the expected gradient is that of -J, when the responses are samples
             of this very policy.
    Raises   ValueError: shapes differ, weights require grad, a bad mask.
    """
    check_batch(response_mask, data={"weights": weights}, logprobs=logprobs)
    # both selected before the product: 0 * NaN is NaN
    logprobs = zero_padding(values=logprobs, mask=response_mask)
    weights = zero_padding(values=weights, mask=response_mask)
    return -(weights * logprobs).sum(dim=1).mean()  # [B,T] -> [B] -> scalar
