import math
from decimal import Context, Decimal, localcontext

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from minippo import kl
from tests.helpers import assert_close, f64

ESTIMATORS = ["kl_k1", "kl_k2", "kl_k3"]
INF = float("inf")


def random_logits(seed, vocabulary=5):
    return torch.randn(
        1, 1, vocabulary, generator=torch.Generator().manual_seed(seed), dtype=torch.float64
    )


def log_pi_of(logits):
    """The log-probability of every token of the vocabulary: [1,1,V] -> [1,V], as if each had been
    sampled once."""
    return logits.log_softmax(-1).squeeze(0)


# hand-worked numbers

COIN, BENT = [[0.5, 0.5]], [[0.9, 0.1]]  # the policy, the reference


def test_estimators_by_hand():
    logprobs, ref_logprobs = f64(COIN).log(), f64(BENT).log()
    # d = log(.5 / .9) = -.587787, log(.5 / .1) = 1.609438
    assert_close(
        kl.kl_k1(logprobs=logprobs, ref_logprobs=ref_logprobs), [[math.log(5 / 9), math.log(5)]]
    )
    # .345493 / 2 and 2.590290 / 2
    assert_close(
        kl.kl_k2(logprobs=logprobs, ref_logprobs=ref_logprobs),
        [[math.log(5 / 9) ** 2 / 2, math.log(5) ** 2 / 2]],
    )
    # .9 / .5 - 1 - .587787 = .212213, .1 / .5 - 1 + 1.609438 = .809438
    assert_close(
        kl.kl_k3(logprobs=logprobs, ref_logprobs=ref_logprobs),
        [[0.8 + math.log(5 / 9), math.log(5) - 0.8]],
    )


def test_exact_kl_by_hand_and_its_direction():
    # KL(coin || bent) = .5 log(.5 / .9) + .5 log(.5 / .1) = .510826
    # KL(bent || coin) = .9 log(.9 / .5) + .1 log(.1 / .5) = .368064
    coin, bent = f64([COIN]).log(), f64([BENT]).log()
    assert_close(
        kl.exact_kl(logits=coin, ref_logits=bent), [[0.5 * math.log(5 / 9) + 0.5 * math.log(5)]]
    )
    assert_close(
        kl.exact_kl(logits=bent, ref_logits=coin), [[0.9 * math.log(9 / 5) + 0.1 * math.log(1 / 5)]]
    )


def test_the_variance_of_k1_by_hand():
    # pi = (1/2, 1/2), ref = (1/5, 4/5): d = (log 5/2, log 5/8), so the variance is
    # ((log 5/2 - log 5/8) / 2)^2 = (log 2)^2
    even, ref_logits = f64([[[0.0, 0.0]]]), f64([[[1.0, 4.0]]]).log()
    assert_close(kl.k1_variance(logits=even, ref_logits=ref_logits), [[math.log(2) ** 2]])
    first = f64([[[0.0, -math.inf]]])  # the other token is forbidden
    assert kl.k1_variance(logits=first, ref_logits=first).item() == 0.0
    assert kl.k1_variance(logits=first, ref_logits=even).item() == 0.0
    assert kl.k1_variance(logits=even, ref_logits=first).item() == math.inf


# the theorem, by enumeration of the vocabulary


@given(st.integers(0, 1000))
def test_k1_and_k3_are_unbiased_and_k2_is_not(seed):
    logits, ref_logits = random_logits(seed), random_logits(seed + 1)
    pi, exact = log_pi_of(logits).exp(), kl.exact_kl(logits=logits, ref_logits=ref_logits).sum()
    pair = {"logprobs": log_pi_of(logits), "ref_logprobs": log_pi_of(ref_logits)}
    assert_close((pi * kl.kl_k1(**pair)).sum(), exact)
    assert_close((pi * kl.kl_k3(**pair)).sum(), exact)
    # 0 = E[exp(-d)] - 1 = -E[d] + E[d^2]/2 - ..., so what k2 leaves out is E[exp(-d) - 1 + d -
    #   d^2/2]
    d = pair["logprobs"] - pair["ref_logprobs"]
    assert_close(
        (pi * kl.kl_k2(**pair)).sum() - exact, (pi * (1 - d + d**2 / 2 - (-d).exp())).sum()
    )


def test_the_bias_of_k2_by_hand():
    # coin against bent: E[k2] = (.172747 + 1.295145) / 2 = .733946, exact .510826, bias .223120
    pair = {"logprobs": f64(COIN).log(), "ref_logprobs": f64(BENT).log()}
    exact = kl.exact_kl(logits=f64([COIN]).log(), ref_logits=f64([BENT]).log())
    bias = (0.5 * kl.kl_k2(**pair)).sum() - exact.sum()
    assert round(bias.item(), 5) == 0.22312


@given(st.integers(0, 1000))
def test_what_their_gradients_estimate_as_a_loss(seed):
    logits, ref_logits = random_logits(seed).requires_grad_(), random_logits(seed + 1)
    log_pi, log_ref = log_pi_of(logits), log_pi_of(ref_logits)
    # how often each token is sampled; a sampled loss does not see that this depends on theta
    pi = log_pi.detach().exp()

    def gradient(loss):
        return torch.autograd.grad(loss, logits, retain_graph=True)[0]

    to_reference = gradient(kl.exact_kl(logits=logits, ref_logits=ref_logits).sum())
    from_reference = gradient((log_ref.exp() * (log_ref - log_pi)).sum())  # KL(reference || policy)
    pair = {"logprobs": log_pi, "ref_logprobs": log_ref}
    assert_close(gradient((pi * kl.kl_k1(**pair)).sum()), torch.zeros(1, 1, 5))
    assert_close(gradient((pi * kl.kl_k2(**pair)).sum()), to_reference)
    assert_close(gradient((pi * kl.kl_k3(**pair)).sum()), from_reference)


# reductions


@given(st.integers(0, 1000))
def test_zero_when_they_agree_and_never_negative(seed):
    logits, ref_logits = random_logits(seed), random_logits(seed + 1)
    pair = {"logprobs": log_pi_of(logits), "ref_logprobs": log_pi_of(ref_logits)}
    for name in ESTIMATORS:
        assert (
            getattr(kl, name)(logprobs=pair["logprobs"], ref_logprobs=pair["logprobs"]) == 0
        ).all()
    assert_close(kl.exact_kl(logits=logits + 3, ref_logits=logits), [[0]])
    assert (kl.kl_k2(**pair) >= 0).all() and (kl.kl_k3(**pair) >= 0).all()
    assert kl.exact_kl(logits=logits, ref_logits=ref_logits) >= 0


def test_k3_keeps_its_digits_near_zero():
    # exp(-d) - 1 + d = d^2 / 2 - d^3 / 6 + ...; with d = 1e-6 it is 5e-13, of which exp(-d) - 1
    # keeps three digits
    k3 = kl.kl_k3(logprobs=f64([[1e-6]]), ref_logprobs=f64([[0.0]])).item()
    assert abs(k3 / 5e-13 - 1) < 1e-3


# gradient flow, and tokens that are forbidden


def test_gradients_of_the_estimators():
    d = f64([[-0.7, 0.0, 1.3]])
    for name, wanted in [("kl_k1", torch.ones_like(d)), ("kl_k2", d), ("kl_k3", 1 - (-d).exp())]:
        tracked = d.clone().requires_grad_()
        result = getattr(kl, name)(logprobs=tracked, ref_logprobs=torch.zeros_like(d))
        assert_close(torch.autograd.grad(result.sum(), tracked)[0], wanted)


def test_gradient_of_the_exact_kl():
    logits, ref_logits = random_logits(0).requires_grad_(), random_logits(1)
    exact = kl.exact_kl(logits=logits, ref_logits=ref_logits)
    log_pi = logits.detach().log_softmax(-1)
    wanted = log_pi.exp() * (log_pi - ref_logits.log_softmax(-1) - exact.detach().unsqueeze(-1))
    assert_close(torch.autograd.grad(exact.sum(), logits)[0], wanted)


@pytest.mark.parametrize("ref_end", [0.3, -INF])
def test_a_token_forbidden_to_the_policy(ref_end):
    # 0 log 0 = 0: the last token takes no part, whatever the reference thinks of it
    ref_logits = f64([[[0.5, -1.0, ref_end]]])
    logits = f64([[[0.2, 0.1, -INF]]]).requires_grad_()
    exact = kl.exact_kl(logits=logits, ref_logits=ref_logits)
    pi, pi_ref = logits.detach().softmax(-1)[0, 0], ref_logits.softmax(-1)[0, 0]
    wanted = sum(pi[v] * torch.log(pi[v] / pi_ref[v]) for v in range(2))
    assert_close(exact, [[wanted]])
    gradient = torch.autograd.grad(exact.sum(), logits)[0][0, 0]
    assert_close(
        gradient,
        [
            pi[0] * (torch.log(pi[0] / pi_ref[0]) - wanted),
            pi[1] * (torch.log(pi[1] / pi_ref[1]) - wanted),
            0,
        ],
    )


def test_a_token_forbidden_to_the_reference_alone_is_infinitely_far():
    assert kl.exact_kl(logits=f64([[[0.0, 0.0]]]), ref_logits=f64([[[0.0, -INF]]])).item() == INF


def test_a_probability_that_underflows_counts_as_zero():
    logits, ref_logits = torch.tensor([[[0.0, -1000.0]]]), torch.tensor([[[0.0, -INF]]])
    assert kl.exact_kl(logits=logits, ref_logits=ref_logits).item() == 0


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32, torch.float64])
def test_the_dtype_is_kept(dtype):
    one = torch.zeros(1, 2, dtype=dtype)
    assert all(
        getattr(kl, name)(logprobs=one, ref_logprobs=one).dtype == dtype for name in ESTIMATORS
    )
    assert kl.exact_kl(logits=one.unsqueeze(0), ref_logits=one.unsqueeze(0)).dtype == dtype


# refusals


@pytest.mark.parametrize("name", ESTIMATORS)
def test_refused_logprobs(name):
    function, one = getattr(kl, name), torch.zeros(2, 3)
    with pytest.raises(
        ValueError, match=r"ref_logprobs: got shape \[2, 1\], wanted .* as in logprobs"
    ):
        function(logprobs=one, ref_logprobs=one[:, :1])
    with pytest.raises(
        ValueError, match="ref_logprobs: got a tensor that requires grad, wanted data"
    ):
        function(logprobs=one, ref_logprobs=one.clone().requires_grad_())
    with pytest.raises(ValueError, match="logprobs: got dtype torch.int64, wanted float"):
        function(logprobs=one.long(), ref_logprobs=one)


@pytest.mark.parametrize("name", ["exact_kl", "k1_variance"])
def test_refused_logits(name):
    function = getattr(kl, name)
    logits = torch.zeros(2, 3, 4)
    with pytest.raises(
        ValueError,
        match=r"ref_logits: got shape \[2, 3, 1\], wanted \[B, T, V\] with .*V = 4 as in logits",
    ):
        function(logits=logits, ref_logits=logits[..., :1])
    with pytest.raises(
        ValueError, match="ref_logits: got a tensor that requires grad, wanted data"
    ):
        function(logits=logits, ref_logits=logits.clone().requires_grad_())
    with pytest.raises(ValueError, match=r"logits: got shape \[2, 3\], wanted \[B, T, V\]"):
        function(logits=logits[..., 0], ref_logits=logits)


# an independent transcription


@given(st.integers(0, 1000))
def test_against_numpy(seed):
    generator = torch.Generator().manual_seed(seed)
    logits, ref_logits = torch.randn(2, 2, 3, 4, generator=generator, dtype=torch.float64)
    exact, variance, k1, k2, k3 = (np.zeros((2, 3)) for _ in range(5))
    for b in range(2):
        for t in range(3):
            p, q = (
                np.exp(x[b, t].numpy()) / np.exp(x[b, t].numpy()).sum()
                for x in (logits, ref_logits)
            )
            exact[b, t] = sum(p[v] * np.log(p[v] / q[v]) for v in range(4))
            r = q[0] / p[0]  # token 0 was sampled everywhere
            k1[b, t], k2[b, t], k3[b, t] = -np.log(r), np.log(r) ** 2 / 2, (r - 1) - np.log(r)
            variance[b, t] = sum(p[v] * (np.log(p[v] / q[v]) - exact[b, t]) ** 2 for v in range(4))
    assert_close(kl.exact_kl(logits=logits, ref_logits=ref_logits), exact)
    assert_close(kl.k1_variance(logits=logits, ref_logits=ref_logits), variance)
    pair = {
        "logprobs": logits.log_softmax(-1)[..., 0],
        "ref_logprobs": ref_logits.log_softmax(-1)[..., 0],
    }
    assert_close(kl.kl_k1(**pair), k1)
    assert_close(kl.kl_k2(**pair), k2)
    assert_close(kl.kl_k3(**pair), k3)


@pytest.mark.parametrize("dtype, tolerance", [(torch.float32, 3e-7), (torch.float64, 3e-15)])
@pytest.mark.parametrize("d", [1e-7, 1e-6, -1e-6, 1e-3, 0.1, -0.3, 0.4999, 0.5, -0.5, 2.0, -5.0])
def test_k3_has_all_its_digits_at_every_size_of_d(d, dtype, tolerance):
    stored = Decimal(torch.tensor(d, dtype=dtype).item())  # what the dtype makes of it
    with localcontext(Context(prec=60)):
        wanted = float((-stored).exp() - 1 + stored)
        wanted_slope = float(1 - (-stored).exp())
    logprobs = torch.tensor([[d]], dtype=dtype, requires_grad=True)
    found = kl.kl_k3(logprobs=logprobs, ref_logprobs=torch.zeros(1, 1, dtype=dtype))
    found.sum().backward()
    assert found.item() == pytest.approx(wanted, rel=tolerance)
    assert logprobs.grad.item() == pytest.approx(wanted_slope, rel=tolerance)
