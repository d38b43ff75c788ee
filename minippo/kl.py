"""How far the policy has moved from the reference, per token.

Everything here is about one direction, KL(policy || reference), and the estimators average over
samples of the policy. The exact KL needs the whole vocabulary; k1, k2 and k3 need only the
log-probabilities of the token that was sampled. Their values are good estimates of the KL. Their
gradients, used as a loss, are another matter: see each Gradient line.
"""

import torch
from torch import Tensor

from minippo.shapes import check_data, check_shapes


def kl_k1(*, logprobs: Tensor, ref_logprobs: Tensor) -> Tensor:
    """The plain estimator of KL(policy || reference) from samples of the policy.

    Equation (0.10)  k1 = d,  d = log pi(a_t|s_t) - log pi_ref(a_t|s_t)
    Source   Schulman 2020, Approximating KL Divergence, joschu.net/blog/kl-approx.html (k1).
    Shapes   logprobs, ref_logprobs [B,T] float (or any equal shapes) -> the same; elementwise, the
             caller masks.
    Gradient to logprobs: 1. Its expectation is that of the score, E[grad log pi] = 0: no penalty
    when used as a loss.
    Limits   unbiased; a single value can be negative. 0 when the two policies agree.
    Raises   ValueError: shapes differ, ref_logprobs requires grad.
    """
    return _differences(logprobs, ref_logprobs)


def kl_k2(*, logprobs: Tensor, ref_logprobs: Tensor) -> Tensor:
    """Half the squared log-ratio, over samples of the policy: close to KL(policy || reference) when
    that is small.

    Equation (0.11)  k2 = d^2 / 2
    Source   Schulman 2020, Approximating KL Divergence, joschu.net/blog/kl-approx.html (k2).
    Shapes   logprobs, ref_logprobs [B,T] float (or any equal shapes) -> the same; elementwise, the
             caller masks.
    Gradient to logprobs: d. For one token its expectation is the gradient of KL(policy ||
    reference).
    Limits   biased, by a term of third order in d; never negative. 0 when the two policies agree.
    Raises   ValueError: shapes differ, ref_logprobs requires grad.
    """
    return _differences(logprobs, ref_logprobs) ** 2 / 2


def kl_k3(*, logprobs: Tensor, ref_logprobs: Tensor) -> Tensor:
    """An estimator of KL(policy || reference) from samples of the policy that is never negative.

    Equation (0.12)  k3 = exp(-d) - 1 + d
    Source   Schulman 2020, Approximating KL Divergence, joschu.net/blog/kl-approx.html (k3).
    Shapes   logprobs, ref_logprobs [B,T] float (or any equal shapes) -> the same; elementwise, the
             caller masks.
    Gradient to logprobs: 1 - exp(-d). For one token its expectation is the gradient of KL(reference
             || policy), which is the other direction.
    Limits   unbiased where the policy can reach all the reference can; large when the reference
             likes a token that the policy has almost given up. 0 when the two policies agree.
    Raises   ValueError: shapes differ, ref_logprobs requires grad.
    """
    d = _differences(logprobs, ref_logprobs)
    small = d.abs() < 0.5  # there exp(-d) - 1 + d would be the small difference of large numbers
    near, series = torch.where(small, d, 0.0), torch.ones_like(d)
    for n in reversed(range(3, 18)):  # 1 - d/3 (1 - d/4 (1 - d/5 ...))
        series = 1 - near / n * series
    return torch.where(small, near**2 / 2 * series, torch.expm1(-torch.where(small, 0.5, d)) + d)


def exact_kl(*, logits: Tensor, ref_logits: Tensor) -> Tensor:
    """KL(policy || reference) at every position, summed over the vocabulary.

    Equation (0.13)  KL_t = sum_v pi_v (log pi_v - log pi_ref_v), with 0 log 0 = 0
    Source   Kullback and Leibler 1951, On Information and Sufficiency.
    Shapes   logits, ref_logits [B,T,V] float -> [B,T]; elementwise, the caller masks.
    Gradient to logits: pi_v (log pi_v - log pi_ref_v - KL_t); 0 at a logit of -inf. None to
    ref_logits, they are data.
    Limits   0 when the two agree, never negative. +inf when the policy can choose what the
             reference cannot.
    Raises   ValueError: shapes differ, ref_logits requires grad.
    """
    check_shapes(logits=(logits, "B T V"), ref_logits=(ref_logits, "B T V"))
    check_data(ref_logits=ref_logits)
    log_pi, log_ref = torch.log_softmax(logits, dim=-1), torch.log_softmax(ref_logits, dim=-1)
    pi = log_pi.exp()
    # before the product: 0 * inf is NaN
    d = torch.where(pi > 0, log_pi - log_ref, torch.zeros_like(pi))
    return (pi * d).sum(dim=-1)  # [B,T,V] -> [B,T]


@torch.no_grad()
def k1_variance(*, logits: Tensor, ref_logits: Tensor) -> Tensor:
    """The variance of k1 over the token, at every position: how far one sample may be from the KL.

    Equation (0.19)  Var_t = sum_v pi_v (d_v - KL_t)^2,  d_v = log pi_v - log pi_ref_v, KL_t (0.13)
    Source   the definition of a variance; k1 as in (0.10).
    Shapes   logits, ref_logits [B,T,V] float -> [B,T]; elementwise, the caller masks.
    Gradient none: it runs without a graph.
    Limits   0 when the two agree. Tokens that the policy cannot choose do not count; +inf when it
             can choose what the reference cannot.
    Raises   ValueError: shapes differ, ref_logits requires grad.
    """
    check_shapes(logits=(logits, "B T V"), ref_logits=(ref_logits, "B T V"))
    check_data(ref_logits=ref_logits)
    log_pi = logits.log_softmax(dim=-1)
    # a constant changes no variance: without the softmax of ref_logits no digit is lost to it
    d = torch.where(log_pi.isfinite(), logits - ref_logits, 0.0)
    mean = torch.where(log_pi.isfinite(), log_pi.exp() * d, 0.0).sum(dim=-1, keepdim=True)
    # a product of a tiny pi and a huge square, neither of which need fit the dtype
    terms = (log_pi / 2 + (d - mean).abs().log()).exp() ** 2
    return torch.where(mean.isfinite(), terms, torch.inf).sum(dim=-1)


def _differences(logprobs: Tensor, ref_logprobs: Tensor) -> Tensor:
    check_shapes(logprobs=(logprobs, "..."), ref_logprobs=(ref_logprobs, "..."))
    check_data(ref_logprobs=ref_logprobs)
    return logprobs - ref_logprobs
