"""Stage 4: how much better than expected was this token, when the consequences come later.

Waiting for all rewards (Monte Carlo) is right on average and noisy. Looking one step ahead and then trusting the critic
(TD) is quiet and as wrong as the critic. Between them lie the n-step estimates, and the generalised advantage estimate
is their mix with weights (1 - lam) lam^(n-1).

A response is over after its last True slot, by EOS or by reaching T: the value there is 0, in every function below.
"""

import torch

from minippo.masked import zero_padding
from minippo.shapes import check_count, check_data, check_mask, check_range, check_shapes


def td_residuals(*, rewards, values, response_mask, gamma):
    """One-step surprise: what came plus what is now expected, minus what was expected.

    Equation (4.1)  delta_t = r_t + gamma V(s_{t+1}) - V(s_t),  V(s_end) = 0
    Source   Schulman et al. 2016, arXiv:1506.02438, section 3.
    Shapes   rewards, values [B,T] float; response_mask [B,T] bool -> [B,T]; 0 where masked.
    Gradient none: all arguments are data.
    Limits   gamma=0: r_t - V(s_t). Discounted and summed from t on: the Monte Carlo return minus V(s_t).
    Raises   ValueError: shapes differ, rewards or values require grad, a bad mask, gamma outside [0, 1].
    """
    _check(rewards=rewards, values=values, response_mask=response_mask)
    check_range("[0, 1]", gamma=gamma)
    rewards = zero_padding(values=rewards, mask=response_mask)
    values = zero_padding(values=values, mask=response_mask)  # this also makes V(s_end) = 0
    return zero_padding(values=rewards + gamma * _next(values) - values, mask=response_mask)


def n_step_advantages(*, rewards, values, response_mask, gamma, n):
    """Advantage from n rewards, then the critic.

    Equation (4.2)  A_t^(n) = sum_{l<n} gamma^l delta_{t+l}
                            = r_t + ... + gamma^(n-1) r_{t+n-1} + gamma^n V(s_{t+n}) - V(s_t)
    Source   Schulman et al. 2016, arXiv:1506.02438, section 3.
    Shapes   rewards, values [B,T] float; response_mask [B,T] bool -> [B,T]; 0 where masked.
    Gradient none: all arguments are data.
    Limits   n=1: the TD residual; n larger than what is left of the response: Monte Carlo minus V(s_t).
    Raises   ValueError: shapes differ, rewards or values require grad, a bad mask, gamma outside [0, 1], n < 1.
    """
    check_count(n=n)
    deltas = td_residuals(rewards=rewards, values=values, response_mask=response_mask, gamma=gamma)
    advantages = deltas
    for _ in range(min(n, deltas.shape[1]) - 1):
        advantages = deltas + gamma * _next(advantages)
    return advantages


def gae_advantages(*, rewards, values, response_mask, gamma, lam):
    """Generalised advantage estimate for every response token.

    Equation (4.3)  A_t = delta_t + gamma lam A_{t+1},  A_end = 0
                        = sum_{l>=0} (gamma lam)^l delta_{t+l}
    Source   Schulman et al. 2016, arXiv:1506.02438, equation 16.
    Shapes   rewards, values [B,T] float; response_mask [B,T] bool -> [B,T]; 0 where masked.
    Gradient none: all arguments are data.
    Limits   lam=1: reward-to-go minus values; lam=0: the one-step TD residual.
    Raises   ValueError: shapes differ, rewards or values require grad, a bad mask, gamma or lam outside [0, 1].
    """
    check_range("[0, 1]", gamma=gamma, lam=lam)
    deltas = td_residuals(rewards=rewards, values=values, response_mask=response_mask, gamma=gamma)
    advantages = torch.zeros_like(deltas)
    running = torch.zeros_like(deltas[:, 0])  # [B], A_{t+1}; stays 0 over the padding because delta is 0 there
    for t in reversed(range(deltas.shape[1])):
        running = deltas[:, t] + gamma * lam * running
        advantages[:, t] = running
    return advantages


def value_targets(*, advantages, values, response_mask):
    """What the critic should have said: its own value plus the advantage that was found.

    Equation (4.4)  R_t = A_t + V(s_t)
    Source   common practice; with the advantages of (4.3) this is the lambda-return of TD(lambda).
    Shapes   advantages, values [B,T] float; response_mask [B,T] bool -> [B,T]; 0 where masked.
    Gradient none: all arguments are data.
    Limits   lam=1: the reward-to-go, whatever the critic says. Take the advantages before they are whitened.
    Raises   ValueError: shapes differ, advantages or values require grad, a bad mask.
    """
    _check(advantages=advantages, values=values, response_mask=response_mask)
    return zero_padding(values=advantages + values, mask=response_mask)


def _next(x):
    """The entry of slot t+1 in slot t, and 0 in the last slot."""
    return torch.cat([x[:, 1:], torch.zeros_like(x[:, :1])], dim=1)


def _check(*, response_mask, **data):
    check_shapes(**{name: (tensor, "B T") for name, tensor in data.items()}, response_mask=(response_mask, "bool B T"))
    check_mask(response_mask=response_mask)
    check_data(**data)
