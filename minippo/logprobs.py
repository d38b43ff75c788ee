"""From the scores of a model to the probability of what it did.

A language model gives one number per word of the vocabulary, the logits. The policy gradient needs
log pi(a_t|s_t) of the token that was chosen, and PPO the ratio of that probability now to what it
was when the token was sampled. All of it is computed in log space, where a probability of 1e-30 is
an ordinary number.
"""

import torch
from torch import Tensor

from minippo.masked import zero_padding
from minippo.shapes import check_batch, check_ids, check_shapes


def token_logprobs(*, logits: Tensor, tokens: Tensor) -> Tensor:
    """Log-probability of each chosen token.

    Equation (0.7)  log pi(a_t|s_t) = z_t[a_t] - log sum_v exp(z_t[v])
    Source   the definition of the softmax.
    Shapes   logits [B,T,V] float, response-aligned; tokens [B,T] int64 -> [B,T]; elementwise, the
             caller masks.
    Gradient to logits: one-hot(a_t) - pi(.|s_t).
    Limits   adding a constant to z_t changes nothing. A logit of -inf is a token that cannot be
             chosen.
    Raises   ValueError: shapes differ, tokens not int64, a token id outside [0, V).
    """
    check_shapes(logits=(logits, "B T V"), tokens=(tokens, "int64 B T"))
    check_ids(logits.shape[-1], tokens=tokens)
    log_pi = torch.log_softmax(logits, dim=-1)
    return log_pi.gather(-1, tokens.unsqueeze(-1)).squeeze(-1)  # [B,T,V] -> [B,T]


def token_entropy(*, logits: Tensor) -> Tensor:
    """Entropy of the next-token distribution at every position, in nats.

    Equation (0.8)  H(pi(.|s_t)) = -sum_v pi_v log pi_v, with 0 log 0 = 0
    Source   Shannon 1948, A Mathematical Theory of Communication, section 6.
    Shapes   logits [B,T,V] float -> [B,T]; elementwise, the caller masks.
    Gradient to logits: -pi_v (log pi_v + H); 0 at a logit of -inf.
    Limits   log V for equal logits, 0 when one token has all the probability.
    Raises   ValueError: logits are not a float tensor of three dimensions.
    """
    check_shapes(logits=(logits, "B T V"))
    log_pi = torch.log_softmax(logits, dim=-1)
    pi = log_pi.exp()
    # before the product: 0 * -inf is NaN
    finite_log_pi = torch.where(pi > 0, log_pi, torch.zeros_like(log_pi))
    return -(pi * finite_log_pi).sum(dim=-1)  # [B,T,V] -> [B,T]


def token_ratios(*, logprobs: Tensor, old_logprobs: Tensor, response_mask: Tensor) -> Tensor:
    """How much more likely each token has become since it was sampled.

    Equation (0.9)  ratio_t = pi(a_t|s_t) / pi_old(a_t|s_t) = exp(log pi - log pi_old)
    Source   Schulman et al. 2017, arXiv:1707.06347, section 3.
    Shapes   logprobs, old_logprobs [B,T] float; response_mask [B,T] bool -> [B,T]; 0 where masked.
    Gradient to logprobs: ratio_t; exactly 0 where masked. None to old_logprobs, they are data.
    Limits   1 at theta = theta_old. Overflows to inf when the log-ratio passes 88 in float32.
    Raises   ValueError: shapes differ, old_logprobs requires grad, a bad mask.
    """
    check_batch(response_mask, data={"old_logprobs": old_logprobs}, logprobs=logprobs)
    log_ratios = zero_padding(values=logprobs - old_logprobs, mask=response_mask)
    return zero_padding(values=log_ratios.exp(), mask=response_mask)
