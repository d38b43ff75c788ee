"""Stage 5, trust region policy optimisation: the best step that changes the policy little.

The whole update, for a policy pi with parameters theta; trpo_step below is these lines:

    L(theta) = -mean ratio_t A_t                surrogate_loss: what a policy near pi_old is worth
    KL(theta) = mean KL(pi_old || pi)           mean_kl: how far it is from pi_old
    g = dL/dtheta                               the gradient, as in stage 4
    F v = d/dtheta (dKL/dtheta . v)             fisher_vector_product: F is the Hessian of KL
    x solves (F + damping I) x = g              conjugate_gradient: it needs only such products
    s = -sqrt(2 delta / x.F x) x                natural_gradient_step: to where KL is about delta
    for k = 0, 1, 2 ...                         line_search: until the true L and KL agree
        theta = theta_old + 0.5^k s
        done when L(theta) < L(theta_old) and KL(theta) <= delta
    theta = theta_old where no k will do

What stage 4 leaves. A gradient says which way, not how far; a small step may turn the policy over.

The surrogate. How much better than pi_old, the policy that made the samples, would a policy pi
nearby be? In a fixed state, the gain from choosing this token by pi and all later ones by pi_old is
sum_a pi(a|s) A(s,a), and that equals E_old[ pi(a|s) / pi_old(a|s) A(s,a) ]. The mean of ratio_t A_t
over the sampled tokens estimates it, with ratio_t = pi(a_t|s_t) / pi_old(a_t|s_t). At pi = pi_old
the ratio is 1 and grad ratio = grad log pi, so its gradient is that of stage 4, but for the mean
over tokens in place of the sum. Away from pi_old it leaves out that other tokens lead to other
states, so it may be trusted only while the policy is near.

The constraint. Near is measured on the distributions, not on theta: KL(pi_old || pi) = sum_v
pi_old(v|s) log(pi_old(v|s) / pi(v|s)), averaged over the sampled tokens' states, is to be at most
delta (not the TD residual of stage 4).

The step. Let s be the step in theta. Near theta_old, L changes by g.s. The KL is 0 there and at its
minimum, so it has no first-order part: it is about 1/2 s.F s, with F, the Fisher matrix, its second
derivative. Minimise g.s under 1/2 s.F s = delta: a Lagrange multiplier gives s = -c x with F x = g,
and the constraint gives c. This s is the natural gradient. From few samples F may be singular or
nearly so; F + damping I is not, and takes its place. F has as many rows as there are parameters, so
it is never built; a product F v takes the time of a few backward passes.

`loss` and `kl` below are functions without arguments that evaluate L and KL at the present
parameters, of whatever model. On a first reading the solver, from fisher_vector_product to
line_search, may be skipped.

What it does not promise. The paper proves that J rises when L + C max_s KL is minimised, with a
large C and exact advantages. The method uses neither C nor the maximum. A step with KL at most
delta can lower J: from batches of 16 responses, at delta = 0.1, in 12 of 50 small problems (`python
-m minippo.exact.qualifications`).

What is still wrong. Second derivatives, a linear solver and a line search, for one step per batch.
"""

from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from minippo.logprobs import mean_weighted_ratio
from minippo.masked import masked_mean, safe_unit, zero_padding
from minippo.shapes import (
    check_batch,
    check_count,
    check_data,
    check_mask,
    check_range,
    check_shapes,
)


class Effort(NamedTuple):
    """How hard trpo_step tries."""

    iterations: int = 10  # of conjugate_gradient
    tolerance: float = 1e-10  # of natural_gradient_step, in units of g.g
    backtracks: int = 10  # of line_search: how many lengths of the step


EFFORT = Effort()


def surrogate_loss(
    *, logprobs: Tensor, old_logprobs: Tensor, advantages: Tensor, response_mask: Tensor
) -> Tensor:
    """The policy loss of a policy near the one that sampled; the mean over True tokens.

    Equation (5.1)  L = -mean_{True t} ratio_t A_t,  ratio_t = exp(log pi - log pi_old)
    Source   Schulman et al. 2015, arXiv:1502.05477, section 5 (there maximised).
    Shapes   logprobs, old_logprobs, advantages [B,T] float; response_mask [B,T] bool -> scalar.
    Gradient to logprobs: -ratio_t A_t / (number of real tokens), 0 where masked. The rest is data.
    Limits   theta = theta_old: that of policy_gradient_loss, times B / (number of real tokens).
    Raises   ValueError: shapes differ, old_logprobs or advantages require grad, a bad mask.
    """
    check_batch(response_mask, data={"advantages": advantages}, logprobs=logprobs)
    return -mean_weighted_ratio(
        logprobs=logprobs,
        old_logprobs=old_logprobs,
        weights=advantages,
        response_mask=response_mask,
    )


def mean_kl(*, logits: Tensor, old_logits: Tensor, response_mask: Tensor) -> Tensor:
    """KL(old || new), exact at every visited state; the mean over True tokens.

    Equation (5.2)  mean_{True t} sum_v pi_old(v|s_t) log(pi_old(v|s_t) / pi(v|s_t)), 0 log 0 = 0
    Source   Schulman et al. 2015, arXiv:1502.05477, section 4 (average KL divergence).
    Shapes   logits, old_logits [B,T,V] float; response_mask [B,T] bool -> scalar.
    Gradient to logits: (pi - pi_old) / (number of real tokens), 0 at theta_old; its derivative
             there is the Fisher matrix of the logits. None to old_logits.
    Limits   0 when the two agree, never negative but for rounding. The old policy comes first:
             states and tokens are its own.
    Raises   ValueError: shapes differ, old_logits require grad, a bad mask.
    """
    check_shapes(
        logits=(logits, "B T V"),
        old_logits=(old_logits, "B T V"),
        response_mask=(response_mask, "bool B T"),
    )
    check_mask(response_mask=response_mask)
    check_data(old_logits=old_logits)
    real = response_mask.unsqueeze(-1).expand_as(logits)  # [B,T] -> [B,T,V]
    log_pi = torch.log_softmax(zero_padding(values=logits, mask=real), dim=-1)
    log_old = torch.log_softmax(zero_padding(values=old_logits, mask=real), dim=-1)
    old = log_old.exp()
    differences = torch.where(old > 0, log_old - log_pi, 0.0)  # before the product: 0 * inf is NaN
    kl = (old * differences).sum(dim=-1)  # [B,T,V] -> [B,T]
    return masked_mean(values=kl, mask=response_mask)


def sampled_kl(*, logprobs: Tensor, old_logprobs: Tensor, response_mask: Tensor) -> Tensor:
    """KL(old || new) from sampled tokens, for stage 6; the mean over True tokens.

    Equation (5.3)  mean_{True t} (log pi_old(a_t|s_t) - log pi(a_t|s_t))
    Source   the definition of the KL, with its expectation replaced by samples of the old policy.
    Shapes   logprobs, old_logprobs [B,T] float; response_mask [B,T] bool -> scalar.
    Gradient to logprobs: -1 / (number of real tokens), 0 where masked. The rest is data.
    Limits   can be negative. On average it is (5.2) where all responses have one length.
    Raises   ValueError: shapes differ, old_logprobs require grad, a bad mask.
    """
    check_batch(response_mask, data={"old_logprobs": old_logprobs}, logprobs=logprobs)
    return masked_mean(values=old_logprobs - logprobs, mask=response_mask)


def fisher_vector_product(
    *, kl_gradient: Tensor, parameters: Sequence[Tensor], vector: Tensor, damping: float
) -> Tensor:
    """F v + damping v, without F.

    Equation (5.4)  F v = d/dtheta (dKL/dtheta . v)
    Source   Schulman et al. 2015, arXiv:1502.05477, appendix C.
    Shapes   kl_gradient [N]: the flat gradient of mean_kl at theta_old to the parameters, N numbers
             in all, made with create_graph=True; vector [N] -> [N].
    Gradient none: the result is data.
    Limits   F is the Hessian of the KL only where the KL is 0, at theta_old.
    Raises   ValueError: shapes differ, vector requires grad, damping out of range.
    """
    check_shapes(kl_gradient=(kl_gradient, "N"), vector=(vector, "N"))
    check_data(vector=vector)
    check_range("[0, inf)", damping=damping)
    _pieces("vector", vector, parameters)
    return flat_gradient(kl_gradient @ vector, parameters, retain_graph=True) + damping * vector


def conjugate_gradient(
    matvec: Callable[[Tensor], Tensor], b: Tensor, *, iterations: int, tolerance: float
) -> Tensor:
    """Solve F x = b for a symmetric positive definite F, given only its products with vectors.

    Equation (5.5)  x = 0, r = p = b; then  alpha = r.r / p.F p,  x += alpha p,  r' = r - alpha F p,
                    p = r' + (r'.r' / r.r) p
    Source   Hestenes and Stiefel 1952, Methods of conjugate gradients for solving linear systems.
    Shapes   matvec: function [N] -> [N]; b [N] float -> x [N].
    Gradient none: call it on data.
    Limits   exact after as many iterations as F has different eigenvalues, but for rounding. b=0:
             x=0. It stops when r.r < tolerance, and when r is no more than the rounding of b: to go
             on would divide noise by noise.
    Raises   ValueError: b is not [N] or requires grad, a number out of range, p.F p <= 0 or NaN.
    """
    check_shapes(b=(b, "N"))
    check_data(b=b)
    check_count(iterations=iterations)
    check_range("[0, inf)", tolerance=tolerance)
    unit = safe_unit(b)
    b, tolerance = b / unit, tolerance / unit**2
    x, residual, direction = torch.zeros_like(b), b, b
    squared = residual @ residual
    rounding = torch.finfo(b.dtype).eps ** 2 * squared
    for _ in range(iterations):
        if squared < tolerance or squared <= rounding:
            break
        product = matvec(direction)
        curvature = direction @ product
        if not curvature > 0:
            raise ValueError(
                f"matvec: got p.F p = {curvature.item():.3g}, wanted more than 0; try more damping"
            )
        alpha = squared / curvature
        x, residual = x + alpha * direction, residual - alpha * product
        squared, before = residual @ residual, squared
        direction = residual + squared / before * direction
    return x * unit


def natural_gradient_step(
    *,
    gradient: Tensor,
    matvec: Callable[[Tensor], Tensor],
    delta: float,
    iterations: int,
    tolerance: float,
) -> Tensor:
    """The step that lowers the loss most within the bound on the KL, as far as F x = g is solved.

    Equation (5.6)  s = -sqrt(2 delta / x.F x) x,  F x = g
    Source   Kakade 2001, A natural policy gradient; Schulman et al. 2015, appendix C (the scaling).
    Shapes   gradient [N]; matvec: function [N] -> [N], the product with F + damping I -> [N].
    Gradient none: all arguments are data.
    Limits   1/2 s.(F + damping I) s = delta, so 1/2 s.F s is a little less. The size of the
             gradient does not matter: tolerance counts in units of g.g here. A gradient of 0: no
             step. To add s as it is, without a line search, is the natural policy gradient.
    Raises   ValueError: gradient is not [N] or requires grad, a number out of range, p.F p <= 0.
    """
    check_shapes(gradient=(gradient, "N"))
    check_data(gradient=gradient)
    check_range("(0, inf)", delta=delta)
    check_range("[0, inf)", tolerance=tolerance)
    gradient = gradient / safe_unit(gradient)  # it counts in units of itself
    absolute = tolerance * (gradient @ gradient).item()
    x = conjugate_gradient(matvec, gradient, iterations=iterations, tolerance=absolute)
    curvature = x @ matvec(x)
    if curvature == 0:
        return torch.zeros_like(gradient)
    return -torch.sqrt(2 * delta / curvature) * x


@torch.no_grad()
def line_search(
    *,
    loss: Callable[[], Tensor],
    kl: Callable[[], Tensor],
    parameters: Iterable[Tensor],
    step: Tensor,
    delta: float,
    backtracks: int,
) -> float:
    """Move along a step, halved until it helps; returns the share of it that was taken.

    Equation (5.7)  theta + 0.5^k s, for the first k < backtracks that lowers L and has KL <= delta
    Source   Schulman et al. 2015, arXiv:1502.05477, appendix C.
    Shapes   loss, kl: functions of no arguments -> scalar; parameters: list of tensors, N numbers
             in all; step [N] -> a number.
    Gradient none: the parameters are changed in place.
    Limits   when no length helps, 0.0, and when loss or kl raises, the error: either way the old
             parameters are back, bit for bit. What is not finite does not help.
    Raises   ValueError: step is not as long as the parameters, backtracks or delta out of range.
    """
    check_count(backtracks=backtracks)
    check_range("(0, inf)", delta=delta)
    parameters = list(parameters)
    pieces = _pieces("step", step, parameters)
    before = [parameter.clone() for parameter in parameters]
    loss_before, taken = loss(), 0.0
    try:
        for k in range(backtracks):
            for parameter, old, piece in zip(parameters, before, pieces):
                parameter.copy_(old + 0.5**k * piece)
            if -torch.inf < loss() < loss_before and -torch.inf < kl() <= delta:
                taken = 0.5**k
                break
    finally:
        if taken == 0:
            for parameter, old in zip(parameters, before):
                parameter.copy_(old)
    return taken


def trpo_step(
    *,
    loss: Callable[[], Tensor],
    kl: Callable[[], Tensor],
    parameters: Iterable[Tensor],
    delta: float,
    damping: float,
    effort: Effort = EFFORT,
) -> float:
    """One update of the policy, in place; returns the share of the full step that was taken.

    Equation (5.8)  theta <- theta + 0.5^k s; s: (5.6) with g = dL/dtheta and F of (5.4); k: (5.7)
    Source   Schulman et al. 2015, arXiv:1502.05477, appendix C.
    Shapes   loss, kl: functions of no arguments -> scalar with gradient to the parameters, kl twice
             differentiable and 0 at the present parameters; parameters: tensors -> a number.
    Gradient none: the parameters are changed in place.
    Limits   KL(old || new) <= delta afterwards, and the surrogate is lower than before, or nothing
             has changed and it returns 0.0.
    Raises   ValueError: a number out of range, loss, KL or gradient not finite, p.F p <= 0.
    """
    parameters = list(parameters)
    loss_now, kl_now = loss(), kl()
    gradient = flat_gradient(loss_now, parameters)
    kl_gradient = flat_gradient(kl_now, parameters, create_graph=True)
    for name, value, slope in (("loss", loss_now, gradient), ("kl", kl_now, kl_gradient)):
        if not (value.isfinite() and slope.isfinite().all()):
            wanted = "wanted a finite number with a finite gradient"
            raise ValueError(f"{name}: got {value.item():.3g}, {wanted}")

    def matvec(vector: Tensor) -> Tensor:
        return fisher_vector_product(
            kl_gradient=kl_gradient, parameters=parameters, vector=vector, damping=damping
        )

    iterations, tolerance, backtracks = effort
    step = natural_gradient_step(
        gradient=gradient, matvec=matvec, delta=delta, iterations=iterations, tolerance=tolerance
    )
    return line_search(
        loss=loss, kl=kl, parameters=parameters, step=step, delta=delta, backtracks=backtracks
    )


def flat_gradient(
    scalar: Tensor,
    parameters: Sequence[Tensor],
    *,
    retain_graph: bool | None = None,
    create_graph: bool = False,
) -> Tensor:
    """The gradient of a scalar to a list of tensors, as one vector.

    Equation (5.9)  g = dL/dtheta, the tensors of theta one after the other
    Source   none needed.
    Shapes   scalar; parameters: N numbers in all; the rest as in torch.autograd.grad -> [N].
    Gradient to the parameters with create_graph=True, else none.
    Limits   0 for a parameter that the scalar does not depend on.
    Raises   RuntimeError (torch): the scalar carries no gradient.
    """
    gradients = torch.autograd.grad(
        scalar,
        parameters,
        retain_graph=retain_graph,
        create_graph=create_graph,
        materialize_grads=True,
    )
    return torch.cat([gradient.reshape(-1) for gradient in gradients])


def _pieces(name: str, vector: Tensor, parameters: Sequence[Tensor]) -> list[Tensor]:
    """A vector [N] in pieces of the parameters' shapes."""
    sizes = [parameter.numel() for parameter in parameters]
    if vector.shape != (sum(sizes),):
        raise ValueError(
            f"{name}: got shape {list(vector.shape)}, wanted [{sum(sizes)}] as in the parameters"
        )
    return [piece.view_as(parameter) for piece, parameter in zip(vector.split(sizes), parameters)]
