"""Stage 4, generalised advantage estimation: how far to look before trusting the critic.

What stage 3 leaves. The weight G_t - V(s_t) waits for all rewards up to the end of the response,
and each sampled token on the way adds noise. As a weight it brings no bias to the gradient,
whatever the critic says, and much variance. It is called the Monte Carlo estimate of the advantage
A(s_t,a_t) = Q(s_t,a_t) - V(s_t), with Q the return to be expected from t on when a_t is chosen, r_t
included. `baseline_advantages` of stage 3 computes it. A_t below is always an estimate of
A(s_t,a_t).

The other end. Look at one reward, then let the critic say what the rest is worth:

    delta_t = r_t + gamma V(s_{t+1}) - V(s_t)        the TD residual (temporal difference)

The noise of later tokens is gone, and the error of the critic has come in. An error in V(s_t) is
harmless, as in stage 3; one in V(s_{t+1}), which depends on a_t, is a bias. With the exact V the
mean of delta_t, given s_t and a_t, is the advantage.

Between them. n rewards and then the critic: the n-step estimate, one for every n. It is sum_{l<n}
gamma^l delta_{t+l}: the values in between cancel. Rather than choose an n, mix them all with
weights (1 - lam) lam^(n-1). delta_{t+l} occurs in every estimate with n > l, and the weights of
those add up to lam^l. Hence A_t = sum_l (gamma lam)^l delta_{t+l}, one backward pass over the
residuals. lam = 0 is the TD residual, the limit lam = 1 is Monte Carlo. People start from 0.95:
high, since a critic is wrong at first.

The change. w_t = A_t in the same policy_gradient_loss. The critic's targets are y_t = A_t + V(s_t):
what it should have said. For lam < 1 they contain its own later values, so its errors fade over
several batches and not at once.

A response is over after its last True slot, by EOS (the end-of-sequence token) or by reaching T:
the value there is 0, in every function below. Other code puts V(s_T) after a response that was cut
off.

What is still wrong. All this holds at the policy that made the samples, so for a small step. How
small, it does not say, and a step too long can ruin the policy that all later samples come from.
The next stage, trpo, measures steps by how much the policy changes.
"""

import torch
from torch import Tensor

from minippo.masked import zero_padding
from minippo.shapes import check_batch, check_count, check_range


def td_residuals(*, rewards: Tensor, values: Tensor, response_mask: Tensor, gamma: float) -> Tensor:
    """One-step surprise: what came plus what is now expected, minus what was expected.

    Equation (4.1)  delta_t = r_t + gamma V(s_{t+1}) - V(s_t),  V(s_end) = 0
    Source   Schulman et al. 2016, arXiv:1506.02438, section 3.
    Shapes   rewards, values [B,T] float; response_mask [B,T] bool -> [B,T]; 0 where masked.
    Gradient none: all arguments are data.
    Limits   gamma=0: r_t - V(s_t). Discounted and summed from t on: the Monte Carlo return minus
             V(s_t).
    Raises   ValueError: shapes differ, rewards or values require grad, a bad mask, gamma outside
             [0, 1].
    """
    check_batch(response_mask, data={"rewards": rewards, "values": values})
    check_range("[0, 1]", gamma=gamma)
    rewards = zero_padding(values=rewards, mask=response_mask)
    # V(s_end) = 0 for short rows; _next sees to full ones
    values = zero_padding(values=values, mask=response_mask)
    return zero_padding(values=rewards + gamma * _next(values) - values, mask=response_mask)


def n_step_advantages(
    *, rewards: Tensor, values: Tensor, response_mask: Tensor, gamma: float, n: int
) -> Tensor:
    """Advantage from n rewards, then the critic.

    Equation (4.2)  A_t^(n) = sum_{l<n} gamma^l delta_{t+l}
                            = r_t + ... + gamma^(n-1) r_{t+n-1} + gamma^n V(s_{t+n}) - V(s_t)
    Source   Schulman et al. 2016, arXiv:1506.02438, section 3.
    Shapes   rewards, values [B,T] float; response_mask [B,T] bool -> [B,T]; 0 where masked.
    Gradient none: all arguments are data.
    Limits   n=1: the TD residual; n larger than what is left of the response: Monte Carlo,
             baseline_advantages of stage 3.
    Raises   ValueError: shapes differ, rewards or values require grad, a bad mask, gamma outside
             [0, 1], n < 1.
    """
    check_count(n=n)
    deltas = td_residuals(rewards=rewards, values=values, response_mask=response_mask, gamma=gamma)
    advantages = deltas
    for _ in range(min(n, deltas.shape[1]) - 1):
        advantages = deltas + gamma * _next(advantages)
    return advantages


def gae_advantages(
    *, rewards: Tensor, values: Tensor, response_mask: Tensor, gamma: float, lam: float
) -> Tensor:
    """Generalised advantage estimate for every response token.

    Equation (4.3)  A_t = delta_t + gamma lam A_{t+1},  A_end = 0
                        = sum_{l>=0} (gamma lam)^l delta_{t+l}
    Source   Schulman et al. 2016, arXiv:1506.02438, equation 16.
    Shapes   rewards, values [B,T] float; response_mask [B,T] bool -> [B,T]; 0 where masked.
    Gradient none: all arguments are data.
    Limits   lam=1: Monte Carlo, baseline_advantages of stage 3; lam=0: the one-step TD residual.
    Raises   ValueError: shapes differ, rewards or values require grad, a bad mask, gamma or lam
             outside [0, 1].
    """
    check_range("[0, 1]", lam=lam)
    deltas = td_residuals(rewards=rewards, values=values, response_mask=response_mask, gamma=gamma)
    advantages = torch.zeros_like(deltas)
    # [B], A_{t+1}; stays 0 over the padding because delta is 0 there
    running = torch.zeros_like(deltas[:, 0])
    for t in reversed(range(deltas.shape[1])):
        running = deltas[:, t] + gamma * lam * running
        advantages[:, t] = running
    return advantages


def value_targets(*, advantages: Tensor, values: Tensor, response_mask: Tensor) -> Tensor:
    """What the critic should have said: its own value plus the advantage that was found.

    Equation (4.4)  y_t = A_t + V(s_t)
    Source   common practice; with the advantages of (4.3) this is the lambda-return of TD(lambda).
    Shapes   advantages, values [B,T] float; response_mask [B,T] bool -> [B,T]; 0 where masked.
    Gradient none: all arguments are data.
    Limits   lam=1: the reward-to-go, whatever the critic says. Take the advantages before they are
             whitened (stage 6).
    Raises   ValueError: shapes differ, advantages or values require grad, a bad mask.
    """
    check_batch(response_mask, data={"advantages": advantages, "values": values})
    return zero_padding(values=advantages + values, mask=response_mask)


def _next(x: Tensor) -> Tensor:
    """The entry of slot t+1 in slot t, and 0 in the last slot."""
    return torch.cat([x[:, 1:], torch.zeros_like(x[:, :1])], dim=1)
