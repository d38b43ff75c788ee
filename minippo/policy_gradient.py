"""Stage 1, the vanilla policy gradient: make what was rewarded more likely.

Where we are. A language model pi answers a prompt token by token. In state s_t (the prompt and the tokens so far) it
draws the action a_t (the next token) and receives a reward r_t. A whole response tau has the return R(tau) = sum_t
gamma^t r_t, and we want its expectation J(theta) = E[R(tau)] to rise. gamma, the discount, is 1 for most of this
book.

The problem. Between the parameters theta and the reward stands a random draw. No gradient passes through a draw.

The idea. J is a sum over all responses, J = sum_tau p(tau) R(tau), and theta is only in p. As grad p = p grad log p,

    grad J = sum_tau p(tau) R(tau) grad log p(tau) = E[ R(tau) grad log p(tau) ].

The probability of a response is that of its prompt times those of its tokens. The logarithm makes a sum of the
product, and the prompt's part does not depend on theta:

    grad J = E[ sum_t R(tau) grad log pi(a_t|s_t) ].

An expectation over samples of the policy itself can be estimated: sample B responses and take the mean.

The loss. Autograd wants a scalar that has this gradient. It is sum_t w_t log pi_t with the weights w_t = R(tau) taken
as plain numbers, and a minus sign because optimisers minimise. Its value means nothing: it is no measure of success,
and it can rise while the policy gets better. Its gradient is right at the policy that made the samples, hence for one
step; then sample anew.

Stages 2, 3 and 4 keep this loss and change only the weights.

What is still wrong. Every token is praised for the whole response, also for rewards that had come before it. That is
right on average and noisy in each sample. The next stage, reward_to_go, leaves those rewards out.
"""

from minippo.masked import zero_padding
from minippo.shapes import check_batch, check_range


def trajectory_returns(*, rewards, response_mask, gamma):
    """The return of the whole response, written on each of its tokens: the weights of this stage.

    Equation (1.1)  w_t = R(tau) = sum_{k>=0} gamma^k r_k, the same at every True t
    Source   Williams 1992, Simple statistical gradient-following algorithms (REINFORCE).
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


def policy_gradient_loss(*, logprobs, weights, response_mask):
    """The loss of stages 1 to 4: its gradient is minus the policy gradient; sum over t, mean over b.

    Equation (1.2)  L = -1/B sum_b sum_{True t} w_t log pi(a_t|s_t)
    Source   Williams 1992; Sutton et al. 2000, Policy gradient methods for reinforcement learning with function
             approximation.
    Shapes   logprobs, weights [B,T] float; response_mask [B,T] bool -> scalar.
    Gradient to logprobs: -w_t / B; exactly 0 where masked. None to weights, they are data.
    Limits   with w_t = R(tau) the expected gradient is that of -J, when the responses are samples of this very policy.
    Raises   ValueError: shapes differ, weights require grad, a bad mask.
    """
    check_batch(response_mask, data={"weights": weights}, logprobs=logprobs)
    logprobs = zero_padding(values=logprobs, mask=response_mask)  # both selected before the product: 0 * NaN is NaN
    weights = zero_padding(values=weights, mask=response_mask)
    return -(weights * logprobs).sum(dim=1).mean()  # [B,T] -> [B] -> scalar
