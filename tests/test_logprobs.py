import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from minippo import logprobs
from tests.helpers import (
    assert_close,
    batch_of,
    check_common_refusals,
    check_layout_does_not_matter,
    check_padding_is_never_read,
    f64,
    mask_of_lengths,
    ragged_batches,
    value_and_gradients,
)

INF = float("inf")


def random_logits(seed, vocabulary=5):
    return torch.randn(
        2, 3, vocabulary, generator=torch.Generator().manual_seed(seed), dtype=torch.float64
    )


# hand-worked numbers


def test_the_ratios_of_the_documents():
    # exp(-.4 + .5) = exp(.1) = 1.10517, exp(-.8 + .7) = exp(-.1) = 0.90484, exp(-.5 + .6) = exp(.1)
    # = 1.10517
    ratios = logprobs.token_ratios(
        logprobs=f64([[-0.4, -0.8, -0.5]]),
        old_logprobs=f64([[-0.5, -0.7, -0.6]]),
        response_mask=mask_of_lengths([3]),
    )
    assert_close(ratios, [[math.exp(0.1), math.exp(-0.1), math.exp(0.1)]])
    assert ratios.numpy().round(5).tolist() == [[1.10517, 0.90484, 1.10517]]


def test_logprobs_and_entropy_by_hand():
    # logits log 1, log 2, log 1: probabilities 1/4, 1/2, 1/4; entropy 1/2 log 4 + 1/2 log 2 = 1.5
    # log 2
    logits = f64([[[0, math.log(2), 0]] * 3])
    assert_close(
        logprobs.token_logprobs(logits=logits, tokens=torch.tensor([[0, 1, 2]])),
        np.log([[0.25, 0.5, 0.25]]),
    )
    assert_close(logprobs.token_entropy(logits=logits), [[1.5 * math.log(2)] * 3])


def test_a_ratio_of_tiny_probabilities():
    # exp(-800) is 0 in float64, and 0 / 0 is NaN; the difference of the logs is .5
    ratios = logprobs.token_ratios(
        logprobs=f64([[-800.0]]), old_logprobs=f64([[-800.5]]), response_mask=mask_of_lengths([1])
    )
    assert_close(ratios, [[math.exp(0.5)]])


# the theorem: these are the probabilities of a distribution, by enumeration of the vocabulary


@given(st.integers(0, 1000))
def test_the_vocabulary_sums_to_one_and_the_score_to_zero(seed):
    logits = random_logits(seed).requires_grad_()
    all_log_pi = [
        logprobs.token_logprobs(logits=logits, tokens=torch.full((2, 3), v)) for v in range(5)
    ]
    pi = torch.stack([log_pi.exp() for log_pi in all_log_pi])
    assert_close(pi.sum(dim=0), torch.ones(2, 3))
    assert_close(
        logprobs.token_entropy(logits=logits), -sum(log_pi.exp() * log_pi for log_pi in all_log_pi)
    )
    # E[grad log pi] = 0
    expected_score = sum((pi[v].detach() * log_pi).sum() for v, log_pi in enumerate(all_log_pi))
    assert_close(torch.autograd.grad(expected_score, logits)[0], torch.zeros(2, 3, 5))


@given(st.integers(0, 1000))
def test_the_old_policy_expects_a_ratio_of_one(seed):
    logits, old_logits = random_logits(seed), random_logits(seed + 1)
    total = 0
    for v in range(5):
        tokens = torch.full((2, 3), v)
        old = logprobs.token_logprobs(logits=old_logits, tokens=tokens)
        new = logprobs.token_logprobs(logits=logits, tokens=tokens)
        total += old.exp() * logprobs.token_ratios(
            logprobs=new, old_logprobs=old, response_mask=mask_of_lengths([3, 3])
        )
    assert_close(total, torch.ones(2, 3))


# reductions


def test_entropy_at_its_ends():
    assert_close(
        logprobs.token_entropy(logits=torch.zeros(1, 1, 7, dtype=torch.float64)), [[math.log(7)]]
    )
    assert_close(logprobs.token_entropy(logits=f64([[[0, -INF, -INF]]])), [[0]])
    assert_close(logprobs.token_entropy(logits=f64([[[0, -INF, 0]]])), [[math.log(2)]])
    assert_close(logprobs.token_entropy(logits=f64([[[1e4, 0, 0]]])), [[0]])


@given(ragged_batches("logprobs"))
def test_ratio_one_at_the_old_policy(batch):
    ratios = logprobs.token_ratios(**batch, old_logprobs=batch["logprobs"])
    assert torch.equal(ratios, batch["response_mask"].double())


# gradient flow and padding


def test_gradient_of_the_logprob_is_one_hot_minus_pi():
    logits, tokens = random_logits(0), torch.tensor([[0, 1, 2], [3, 4, 0]])
    tracked = logits.clone().requires_grad_()
    gradient = torch.autograd.grad(
        logprobs.token_logprobs(logits=tracked, tokens=tokens).sum(), tracked
    )[0]
    assert_close(gradient, torch.nn.functional.one_hot(tokens, 5) - logits.softmax(-1))


def test_gradient_of_the_entropy():
    logits = random_logits(0)
    tracked = logits.clone().requires_grad_()
    entropy = logprobs.token_entropy(logits=tracked)
    log_pi = logits.log_softmax(-1)
    wanted = -log_pi.exp() * (log_pi + entropy.detach().unsqueeze(-1))
    assert_close(torch.autograd.grad(entropy.sum(), tracked)[0], wanted)


def test_a_forbidden_token_leaves_the_others_as_they_are():
    logits = random_logits(0)
    forbidden = torch.cat([logits, torch.full((2, 3, 1), -INF, dtype=torch.float64)], dim=-1)
    for function in (
        lambda logits: logprobs.token_entropy(logits=logits),
        lambda logits: logprobs.token_logprobs(logits=logits, tokens=torch.ones(2, 3).long()),
    ):
        values, gradients = zip(
            *[
                (
                    function(tracked).detach(),
                    torch.autograd.grad(function(tracked).sum(), tracked)[0],
                )
                for tracked in (logits.clone().requires_grad_(), forbidden.clone().requires_grad_())
            ],
            strict=True,
        )
        assert_close(values[1], values[0])
        assert_close(gradients[1][..., :5], gradients[0])
        assert (gradients[1][..., 5] == 0).all()


def test_gradient_of_the_ratio_is_the_ratio():
    batch = batch_of("logprobs old_logprobs", mask_of_lengths([2, 3]), 0)
    tracked = batch["logprobs"].clone().requires_grad_()
    ratios = logprobs.token_ratios(**batch | {"logprobs": tracked})
    assert_close(torch.autograd.grad(ratios.sum(), tracked)[0], ratios.detach())


def test_padding_and_layout():
    batch = batch_of("logprobs old_logprobs", mask_of_lengths([3, 1, 4], 5), 0)
    check_padding_is_never_read(logprobs.token_ratios, batch, ["logprobs"])
    check_layout_does_not_matter(logprobs.token_ratios, batch, ["logprobs"])


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32, torch.float64])
def test_the_dtype_is_kept(dtype):
    logits = random_logits(0).to(dtype)
    new = logprobs.token_logprobs(logits=logits, tokens=torch.zeros(2, 3).long())
    assert new.dtype == logprobs.token_entropy(logits=logits).dtype == dtype
    assert (
        logprobs.token_ratios(
            logprobs=new, old_logprobs=new, response_mask=mask_of_lengths([3, 3])
        ).dtype
        == dtype
    )


# refusals


@pytest.mark.parametrize(
    "tokens, message",
    [
        (torch.full((2, 3), 5), r"tokens: got ids from 5 to 5, wanted ids in \[0, 5\)"),
        (torch.full((2, 3), -1), r"tokens: got ids from -1 to -1, wanted ids in \[0, 5\)"),
        (torch.zeros(2, 3), "tokens: got dtype torch.float32, wanted int64"),
        (torch.zeros(2, 3, dtype=torch.int32), "tokens: got dtype torch.int32, wanted int64"),
        (
            torch.zeros(2, 1).long(),
            r"tokens: got shape \[2, 1\], wanted \[B, T\] with B = "
            r"2 as in logits, T = 3 as in logits",
        ),
        (torch.zeros(2, 3, 1).long(), r"tokens: got shape \[2, 3, 1\], wanted \[B, T\]"),
    ],
)
def test_refused_tokens(tokens, message):
    with pytest.raises(ValueError, match=message):
        logprobs.token_logprobs(logits=random_logits(0), tokens=tokens)


def test_refused_logits():
    with pytest.raises(ValueError, match=r"logits: got shape \[2, 3\], wanted \[B, T, V\]"):
        logprobs.token_entropy(logits=torch.zeros(2, 3))
    with pytest.raises(ValueError, match=r"logits: got shape \[2, 3\], wanted \[B, T, V\]"):
        logprobs.token_logprobs(logits=torch.zeros(2, 3), tokens=torch.zeros(2, 3).long())
    with pytest.raises(ValueError, match="logits: got dtype torch.int64, wanted float"):
        logprobs.token_entropy(logits=torch.zeros(2, 3, 4).long())


def test_refused_ratios():
    batch = batch_of("logprobs old_logprobs", mask_of_lengths([1]), 0)
    check_common_refusals(logprobs.token_ratios, batch, data=["old_logprobs"])


# an independent transcription


@given(st.integers(0, 1000))
def test_logprobs_and_entropy_against_numpy(seed):
    logits = random_logits(seed)
    tokens = torch.randint(0, 5, (2, 3), generator=torch.Generator().manual_seed(seed))
    z, log_pi, entropy = logits.numpy(), np.zeros((2, 3)), np.zeros((2, 3))
    for b in range(2):
        for t in range(3):
            p = [np.exp(z[b, t, v]) / sum(np.exp(z[b, t, w]) for w in range(5)) for v in range(5)]
            log_pi[b, t] = np.log(p[tokens[b, t]])
            entropy[b, t] = -sum(p_v * np.log(p_v) for p_v in p)
    assert_close(logprobs.token_logprobs(logits=logits, tokens=tokens), log_pi)
    assert_close(logprobs.token_entropy(logits=logits), entropy)


@given(ragged_batches("logprobs old_logprobs"))
def test_ratios_against_numpy(batch):
    new, old, mask = (batch[name].numpy() for name in ("logprobs", "old_logprobs", "response_mask"))
    wanted = np.zeros(mask.shape)
    for b, t in zip(*np.nonzero(mask), strict=True):
        wanted[b, t] = np.exp(new[b, t]) / np.exp(old[b, t])
    assert_close(value_and_gradients(logprobs.token_ratios, batch)[0], wanted)


# -- ratios times weights


def mean_weighted_ratio(log_ratios, weights, dtype=torch.float32):
    """The value and the gradient, for one row without padding."""
    tracked = torch.tensor([log_ratios], dtype=dtype, requires_grad=True)
    value = logprobs.mean_weighted_ratio(
        logprobs=tracked,
        old_logprobs=torch.zeros_like(tracked),
        weights=torch.tensor([weights], dtype=dtype),
        response_mask=torch.ones_like(tracked, dtype=torch.bool),
    )
    value.backward()
    return value, tracked.grad[0]


def test_the_mean_weighted_ratio_by_hand():
    # (2 * 3 + 0.5 * -4) / 2 = 2; slopes 2 * 3 / 2 and 0.5 * -4 / 2
    value, slope = mean_weighted_ratio([math.log(2), math.log(0.5)], [3.0, -4.0])
    assert_close(value, torch.tensor(2.0))
    assert_close(slope, torch.tensor([3.0, -1.0]))


def test_a_product_that_fits_is_returned_though_its_ratio_does_not():
    # e^100 = 2.688e43 is no float32, e^100 * 1e-30 is; e^-100 * 1e30 = 3.720e-14
    value, slope = mean_weighted_ratio([100.0, -100.0], [1e-30, 1e30])
    wanted = torch.tensor([2.6881171418161356e13, 3.720075976020836e-14]) / 2
    torch.testing.assert_close(slope, wanted, rtol=2e-5, atol=0)
    torch.testing.assert_close(value, wanted.sum(), rtol=2e-5, atol=0)


def test_what_overflows_is_infinite_and_never_nan():
    value, slope = mean_weighted_ratio([100.0, 90.0], [1.0, -1.0])
    assert value == INF and slope.tolist() == [INF, -INF]
    value, slope = mean_weighted_ratio([100.0, 100.0, 0.0], [1.0, -1.0, 6.0])  # they cancel
    assert slope.tolist() == [INF, -INF, 2.0] and not value.isnan()
    value, _ = mean_weighted_ratio([1e38, -1e38], [-1e-38, 1e38])
    assert value == -INF


@pytest.mark.parametrize("log_ratio", [100.0, 1e38, INF])
def test_a_weight_of_zero_is_zero_whatever_the_ratio(log_ratio):
    value, slope = mean_weighted_ratio([log_ratio, 0.0], [0.0, 2.0])
    assert value == 1.0 and slope.tolist() == [0.0, 1.0]


@given(
    pairs=st.lists(
        st.tuples(st.floats(-250, 250, width=32), st.floats(-(2.0**100), 2.0**100, width=32)),
        min_size=1,
    )
)
def test_the_mean_is_right_or_infinite(pairs):
    """Against numbers wide enough for all of it: float64 ends at e^709."""
    log_ratios, weights = (list(column) for column in zip(*pairs, strict=True))
    value, slope = mean_weighted_ratio(log_ratios, weights)
    exact = f64(log_ratios).exp() * f64(weights) / len(pairs)  # the slopes; their sum is the value
    noise = 1e-4 * exact.abs().sum()  # of the logarithms of float32, where terms cancel
    largest = torch.finfo(torch.float32).max
    assert not value.isnan() and not slope.isnan().any()
    if exact.sum().abs() < largest - noise:
        assert abs(value.double() - exact.sum()) <= noise + 1e-44
    elif exact.sum().abs() > largest + noise:
        assert value.isinf() and value.sign() == exact.sum().sign()
    fits = exact.abs() < 0.999 * largest
    torch.testing.assert_close(slope.double()[fits], exact[fits], rtol=1e-4, atol=2e-45)
    assert slope[exact.abs() > 1.001 * largest].isinf().all()


def test_two_infinite_products_have_a_finite_difference():
    # e^89 = 4.4896e38 is no float32, e^88.5 = 2.7231e38 is
    value, _ = mean_weighted_ratio([89.0, 88.5], [1.0, -1.0])
    torch.testing.assert_close(value, torch.tensor(0.88328e38), rtol=1e-4, atol=0)


def test_a_value_from_elsewhere_and_the_gradient_of_its_own():
    """x^2 at 3 with the value 7: 7, and 6."""
    x = torch.tensor(3.0, dtype=torch.float64, requires_grad=True)
    result = logprobs.with_value(scalar=x**2, value=torch.tensor(7.0, dtype=torch.float64))
    result.backward()
    assert result.item() == 7.0 and x.grad == 6.0
    infinite = logprobs.with_value(scalar=x / 0, value=torch.tensor(-torch.inf))
    assert infinite == -torch.inf
