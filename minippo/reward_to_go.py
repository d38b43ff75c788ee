"""Stage 2, reward-to-go: a token answers only for what comes after it.

What stage 1 leaves. Its weight for token t is the whole return, and part of that return had been
received before token t was chosen. No choice at t can change it. In the gradient it is a random
number times grad log pi(a_t|s_t).

Why it may go. Let b be any number that is known before a_t is drawn. Then

    E[ b grad log pi(a_t|s_t) | s_t ] = b sum_a pi(a|s_t) grad log pi(a|s_t) = b grad sum_a
    pi(a|s_t) = b grad 1 = 0.

The rewards r_0 ... r_{t-1} are such numbers. Without them the expectation is as before.

The change. w_t = sum_{k>=t} gamma^(k-t) r_k in place of R(tau). The loss stays
policy_gradient_loss.

A word on gamma. From R(tau) the derivation gives gamma^t times this weight: the discount counts
from the start of the response. Most implementations leave the factor gamma^t out, else late tokens
would hardly learn. With gamma = 1 it makes no difference; with gamma < 1 the gradient is no longer
that of the discounted J. People take gamma < 1 all the same where rewards far ahead are mostly
noise.

When it helps (`python -m minippo.exact` shows the three cases):

1. Rewards on many tokens: it lowers the variance, from 32.9 to 17.3 there.
2. A past reward that tends to cancel a later one: their sum varies less than the later one alone,
   and reward-to-go raises the variance, from 0 to 0.07 there.
3. A reward at the end only: nothing comes before it, and with gamma = 1 the weights are those of
   stage 1.

What is still wrong. If all returns lie between 5 and 7, every token of every sample is pushed up,
good or bad, and only the difference between the pushes teaches. The next stage, baseline, subtracts
what was to be expected.
"""

import torch
from torch import Tensor

from minippo.masked import zero_padding
from minippo.shapes import check_batch, check_range


def rewards_to_go(*, rewards: Tensor, response_mask: Tensor, gamma: float) -> Tensor:
    """The return from each token on.

    Equation (2.1)  G_t = sum_{k>=t} gamma^(k-t) r_k = r_t + gamma G_{t+1},  G_end = 0
    Source   Sutton and Barto 2018, Reinforcement Learning, section 3.3 (the return G_t; their
             R_{t+1} is our r_t).
    Shapes   rewards [B,T] float; response_mask [B,T] bool -> [B,T]; 0 where masked.
    Gradient none: rewards are data.
    Limits   gamma=0: the rewards themselves. A reward on the last True slot alone, gamma=1:
             trajectory_returns of stage 1.
    Raises   ValueError: shapes differ, rewards require grad, a bad mask, gamma outside [0, 1].
    """
    check_batch(response_mask, data={"rewards": rewards})
    check_range("[0, 1]", gamma=gamma)
    rewards = zero_padding(values=rewards, mask=response_mask)
    returns_to_go = torch.zeros_like(rewards)
    # [B], G_{t+1}; stays 0 over the padding because the rewards are 0 there
    running = torch.zeros_like(rewards[:, 0])
    for t in reversed(range(rewards.shape[1])):
        running = rewards[:, t] + gamma * running
        returns_to_go[:, t] = running
    return returns_to_go
