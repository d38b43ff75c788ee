import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from minippo import baseline, kl, ppo
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

INF, NAN = float("inf"), float("nan")
POLICY, CRITIC = "logprobs old_logprobs advantages", "values old_values value_targets"
# every loss of this stage, as a function of tensors only: its tensors, and which of them are data
LOSSES = {
    "unclipped": (
        lambda **batch: ppo.unclipped_surrogate_loss(**batch),
        POLICY,
        ["old_logprobs", "advantages"],
    ),
    "clipped": (
        lambda **batch: ppo.clipped_surrogate_loss(**batch, cliprange=0.2),
        POLICY,
        ["old_logprobs", "advantages"],
    ),
    "kl_penalised": (
        lambda **batch: ppo.kl_penalised_surrogate_loss(**batch, kl_old_coef=0.3),
        POLICY,
        ["old_logprobs", "advantages"],
    ),
    "clipped_value": (
        lambda **batch: ppo.clipped_value_loss(**batch, cliprange_value=0.2),
        CRITIC,
        ["old_values", "value_targets"],
    ),
}


def one_token(ratio, advantage):
    return {
        "logprobs": f64([[math.log(ratio)]]),
        "old_logprobs": f64([[0.0]]),
        "advantages": f64([[advantage]]),
        "response_mask": mask_of_lengths([1]),
    }


# hand-worked numbers


def test_the_example_of_the_documents():
    # ratios 1.10517, 0.90484, 1.10517 are inside [.8, 1.2], so nothing is clipped:
    # (1.10517 * 1.5 - 0.90484 * .2 + 1.10517 * .8) / 3 = (1.657756 - .180967 + .884137) / 3 =
    # .7869752
    batch = {
        "logprobs": f64([[-0.4, -0.8, -0.5]]),
        "old_logprobs": f64([[-0.5, -0.7, -0.6]]),
        "advantages": f64([[1.5, -0.2, 0.8]]),
        "response_mask": mask_of_lengths([3]),
    }
    assert round(-ppo.clipped_surrogate_loss(**batch, cliprange=0.2).item(), 6) == 0.786975
    assert_close(
        -ppo.clipped_surrogate_loss(**batch, cliprange=0.2),
        (2.3 * math.exp(0.1) - 0.2 * math.exp(-0.1)) / 3,
    )
    assert_close(
        -ppo.unclipped_surrogate_loss(**batch), (2.3 * math.exp(0.1) - 0.2 * math.exp(-0.1)) / 3
    )
    # cliprange .1 holds the two ratios of 1.10517 at 1.1; .90484 stays: (1.1 * 2.3 - .90484 * .2) /
    # 3
    assert_close(
        -ppo.clipped_surrogate_loss(**batch, cliprange=0.1), (1.1 * 2.3 - 0.2 * math.exp(-0.1)) / 3
    )
    # cliprange .05: A = -.2 with the ratio .90484 pays .95, the worse of the two: (1.05 * 2.3 - .95
    # * .2) / 3
    assert_close(
        -ppo.clipped_surrogate_loss(**batch, cliprange=0.05), (1.05 * 2.3 - 0.95 * 0.2) / 3
    )


@pytest.mark.parametrize(
    "ratio, advantage, objective, gradient",
    [
        (1.5, 2.0, 2.4, 0.0),  # A > 0 and too far already: min(3, 1.2 * 2), flat
        (0.5, 2.0, 1.0, 1.0),  # A > 0 but the wrong way: min(1, .8 * 2), pulled back with ratio * A
        (1.5, -2.0, -3.0, -3.0),  # A < 0 but the wrong way: min(-3, 1.2 * -2), pulled back
        (0.5, -2.0, -1.6, 0.0),  # A < 0 and too far already: min(-1, .8 * -2), flat
        (1.1, 2.0, 2.2, 2.2),  # inside the range
        (1.1, -2.0, -2.2, -2.2),
    ],
)
def test_the_cases_of_the_clip(ratio, advantage, objective, gradient):
    loss, gradients = value_and_gradients(
        LOSSES["clipped"][0], one_token(ratio, advantage), ["logprobs"]
    )
    assert_close(-loss, objective)
    assert_close(-gradients["logprobs"], [[gradient]])  # d ratio / d log pi = ratio


def test_kl_penalty_by_hand():
    # ratio 2, A = 3: surrogate -6; penalty .5 * (0 - log 2); gradient -(6 + .5)
    batch = one_token(2.0, 3.0)
    loss, gradients = value_and_gradients(
        lambda **batch: ppo.kl_penalised_surrogate_loss(**batch, kl_old_coef=0.5),
        batch,
        ["logprobs"],
    )
    assert_close(loss, -6 - 0.5 * math.log(2))
    assert_close(gradients["logprobs"], [[-6.5]])


@pytest.mark.parametrize(
    "kl_value, wanted",
    [(0.31, 0.4), (0.3, 0.2), (0.2, 0.2), (0.14, 0.2), (0.13, 0.1), (-1.0, 0.1), (INF, 0.4)],
)
def test_adapted_coefficient_by_hand(kl_value, wanted):
    # target .2: doubled above 1.5 * .2 = .3, halved below .2 / 1.5 = .1333
    assert ppo.adapt_kl_coef(kl_coef=0.2, kl=kl_value, target=0.2) == wanted


def test_the_borders_of_the_band_belong_to_it():
    # without rounding: 1.5 * 2 = 3 and 3 / 1.5 = 2
    assert ppo.adapt_kl_coef(kl_coef=0.2, kl=3.0, target=2.0) == 0.2
    assert ppo.adapt_kl_coef(kl_coef=0.2, kl=2.0, target=3.0) == 0.2


@pytest.mark.parametrize(
    "value, target, loss, gradient",
    [
        (
            2.0,
            0.0,
            2.0,
            2.0,
        ),  # old 1, clipped 1.2: max(4, 1.44) / 2, moving away: free to come back
        (
            2.0,
            3.0,
            1.62,
            0.0,
        ),  # max(1, (1.2 - 3)^2 = 3.24) / 2, moving nearer: flat beyond the range
        (1.1, 3.0, 1.805, -1.9),  # inside the range: 1.9^2 / 2
        (0.0, -1.0, 1.62, 0.0),  # clipped .8: max(1, 1.8^2) / 2
    ],
)
def test_clipped_value_loss_by_hand(value, target, loss, gradient):
    batch = {
        "values": f64([[value]]),
        "old_values": f64([[1.0]]),
        "value_targets": f64([[target]]),
        "response_mask": mask_of_lengths([1]),
    }
    result, gradients = value_and_gradients(LOSSES["clipped_value"][0], batch, ["values"])
    assert_close(result, loss)
    assert_close(gradients["values"], [[gradient]])


def test_value_errors_by_hand():
    # targets 0, 2, 4; old values -1, 1, 3, so a clip of .2 holds the values at -.8, 1.2, 3
    batch = {
        "values": f64([[1.0, 2.0, 3.0]]),
        "old_values": f64([[-1.0, 1.0, 3.0]]),
        "value_targets": f64([[0.0, 2.0, 4.0]]),
        "response_mask": mask_of_lengths([3]),
    }
    errors, clipped_errors = ppo.value_errors(**batch, cliprange_value=0.2)
    assert_close(errors, [[1.0, 0.0, -1.0]])
    assert_close(clipped_errors, [[-0.8, -0.8, -1.0]])


# the theorems, by enumeration of the vocabulary


def every_token(seed, vocabulary=5):
    """One state, each token sampled once: tracked logits, log-probs of shape [1,V] now and then,
    and advantages."""
    generator = torch.Generator().manual_seed(seed)
    logits, old_logits, advantages = torch.randn(
        3, 1, vocabulary, generator=generator, dtype=torch.float64
    )
    return logits.requires_grad_(), old_logits.log_softmax(-1), advantages


@given(st.integers(0, 1000))
def test_the_surrogate_is_the_objective_of_the_new_policy(seed):
    logits, old_logprobs, advantages = every_token(seed)
    log_pi = logits.log_softmax(-1)
    # the mean over 5 tokens becomes the expectation under the old policy
    weighted = 5 * old_logprobs.exp() * advantages
    loss = ppo.unclipped_surrogate_loss(
        logprobs=log_pi,
        old_logprobs=old_logprobs,
        advantages=weighted,
        response_mask=mask_of_lengths([5]),
    )
    objective = (log_pi.exp() * advantages).sum()  # E_pi[A]
    assert_close(-loss, objective)
    assert_close(
        -torch.autograd.grad(loss, logits, retain_graph=True)[0],
        torch.autograd.grad(objective, logits)[0],
    )


def test_the_penalty_is_kl_from_old_to_new():
    # the old policy is (1/4, 1/4, 1/2), so the four samples 0, 1, 2, 2 are its exact expectation
    samples, old_log_pi = [0, 1, 2, 2], f64([[0.25, 0.25, 0.5]]).log()
    logits = f64([[0.3, -0.2, 0.9]]).requires_grad_()
    loss = ppo.kl_penalised_surrogate_loss(
        logprobs=logits.log_softmax(-1)[:, samples],
        old_logprobs=old_log_pi[:, samples],
        advantages=torch.zeros(1, 4, dtype=torch.float64),
        response_mask=mask_of_lengths([4]),
        kl_old_coef=0.7,
    )
    exact = kl.exact_kl(
        logits=old_log_pi.unsqueeze(0), ref_logits=logits.detach().log_softmax(-1).unsqueeze(0)
    )
    assert_close(loss, 0.7 * exact.sum())
    new = logits.detach().softmax(-1)
    # the gradient of KL(old || new)
    assert_close(torch.autograd.grad(loss, logits)[0], 0.7 * (new - old_log_pi.exp()))


@given(ragged_batches(POLICY), st.floats(0.01, 2))
def test_clipping_never_promises_more(batch, cliprange):
    def per_token(function, **scalars):
        return torch.stack(
            [
                function(**{name: x[b : b + 1, t : t + 1] for name, x in batch.items()}, **scalars)
                for b, t in batch["response_mask"].nonzero().tolist()
            ]
        )

    clipped = per_token(ppo.clipped_surrogate_loss, cliprange=cliprange)
    unclipped = per_token(ppo.unclipped_surrogate_loss)
    assert (clipped >= unclipped).all()
    assert_close(clipped.mean(), ppo.clipped_surrogate_loss(**batch, cliprange=cliprange))


@given(ragged_batches(CRITIC), st.floats(0.01, 2))
def test_the_clipped_value_loss_is_never_smaller(batch, cliprange_value):
    plain = baseline.value_loss(
        **{name: batch[name] for name in ("values", "value_targets", "response_mask")}
    )
    assert ppo.clipped_value_loss(**batch, cliprange_value=cliprange_value) >= plain


@given(ragged_batches(POLICY), st.floats(0.01, 2) | st.just(INF))
def test_the_loss_by_hand_is_the_loss(batch, cliprange):
    by_hand, product = (
        value_and_gradients(
            lambda **batch: function(**batch, cliprange=cliprange), batch, ["logprobs"]
        )
        for function in (ppo.clipped_surrogate_by_hand, ppo.clipped_surrogate_loss)
    )
    assert_close(by_hand[0], product[0])
    assert_close(by_hand[1]["logprobs"], product[1]["logprobs"])


def test_the_loss_by_hand_is_not_right_where_a_ratio_overflows():
    batch = one_token(1.0, 0.0) | {"logprobs": f64([[800.0]])}
    assert ppo.clipped_surrogate_by_hand(**batch, cliprange=0.2).isnan()
    assert ppo.clipped_surrogate_loss(**batch, cliprange=0.2) == 0


# reductions


@given(ragged_batches(POLICY), st.sampled_from(["clipped", "kl_penalised"]))
def test_without_clip_or_penalty_it_is_the_surrogate(batch, name):
    free = {
        "clipped": lambda **batch: ppo.clipped_surrogate_loss(**batch, cliprange=INF),
        "kl_penalised": lambda **batch: ppo.kl_penalised_surrogate_loss(**batch, kl_old_coef=0.0),
    }[name]
    loss, gradients = value_and_gradients(free, batch, ["logprobs"])
    wanted, wanted_gradients = value_and_gradients(
        ppo.unclipped_surrogate_loss, batch, ["logprobs"]
    )
    assert_close(loss, wanted)
    assert_close(gradients["logprobs"], wanted_gradients["logprobs"])


@given(ragged_batches("old_logprobs advantages"))
def test_at_the_old_policy_the_gradient_is_the_policy_gradient(batch):
    mask, advantages = batch["response_mask"], batch["advantages"]
    batch = batch | {"logprobs": batch["old_logprobs"]}
    # of -mean A log pi: one mean over the True tokens
    wanted = torch.where(mask, -advantages / mask.sum(), 0.0)
    for name in ("unclipped", "clipped"):
        loss, gradients = value_and_gradients(LOSSES[name][0], batch, ["logprobs"])
        assert_close(gradients["logprobs"], wanted)
        assert_close(loss, -advantages[mask].mean())


@given(ragged_batches(CRITIC))
def test_without_clip_it_is_the_plain_value_loss(batch):
    free = lambda **batch: ppo.clipped_value_loss(**batch, cliprange_value=INF)  # noqa: E731
    loss, gradients = value_and_gradients(free, batch, ["values"])
    plain = {name: batch[name] for name in ("values", "value_targets", "response_mask")}
    wanted, wanted_gradients = value_and_gradients(baseline.value_loss, plain, ["values"])
    assert_close(loss, wanted)
    assert_close(gradients["values"], wanted_gradients["values"])


# gradient flow and padding


@pytest.mark.parametrize("name", LOSSES)
def test_padding_and_layout(name):
    function, names, _ = LOSSES[name]
    batch = batch_of(names, mask_of_lengths([3, 1, 4], 5), 0)
    check_padding_is_never_read(function, batch, [names.split()[0]])
    check_layout_does_not_matter(function, batch, [names.split()[0]])


@pytest.mark.parametrize("name", LOSSES)
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32, torch.float64])
def test_the_dtype_is_kept(name, dtype):
    function, names, _ = LOSSES[name]
    one = torch.ones(1, 2, dtype=dtype)
    assert function(**dict.fromkeys(names.split(), one), response_mask=one.bool()).dtype == dtype


# refusals


@pytest.mark.parametrize("name", LOSSES)
def test_refusals(name):
    function, names, data = LOSSES[name]
    check_common_refusals(function, batch_of(names, mask_of_lengths([1]), 0), data=data)


@pytest.mark.parametrize("bad", [0, -0.2, NAN])
def test_refused_cliprange(bad):
    policy, critic = (batch_of(names, mask_of_lengths([2]), 0) for names in (POLICY, CRITIC))
    with pytest.raises(ValueError, match=r"cliprange: got .*, wanted a number in \(0, inf\]"):
        ppo.clipped_surrogate_loss(**policy, cliprange=bad)
    with pytest.raises(ValueError, match=r"cliprange_value: got .*, wanted a number in \(0, inf\]"):
        ppo.clipped_value_loss(**critic, cliprange_value=bad)


@pytest.mark.parametrize("bad", [-0.1, INF, NAN])
def test_refused_kl_old_coef(bad):
    with pytest.raises(ValueError, match=r"kl_old_coef: got .*, wanted a number in \[0, inf\)"):
        ppo.kl_penalised_surrogate_loss(
            **batch_of(POLICY, mask_of_lengths([2]), 0), kl_old_coef=bad
        )


@pytest.mark.parametrize(
    "name, bad",
    [
        ("kl_coef", 0.0),
        ("kl_coef", -1.0),
        ("kl_coef", INF),
        ("kl_coef", NAN),
        ("target", 0.0),
        ("target", NAN),
        ("kl", NAN),
    ],
)
def test_refused_numbers_of_the_adaptive_rule(name, bad):
    interval = r"\[-inf, inf\]" if name == "kl" else r"\(0, inf\)"
    with pytest.raises(ValueError, match=f"^{name}: got {bad}, wanted a number in {interval}$"):
        ppo.adapt_kl_coef(**{"kl_coef": 0.2, "kl": 0.1, "target": 0.1} | {name: bad})


# an independent transcription


@given(ragged_batches(POLICY), st.floats(0.01, 1.5), st.floats(0, 2))
def test_policy_losses_against_numpy(batch, cliprange, kl_old_coef):
    new, old, advantages, mask = (
        batch[name].numpy() for name in (*POLICY.split(), "response_mask")
    )
    unclipped, clipped, penalty = [], [], []
    gradient = np.zeros(mask.shape)
    for b, t in zip(*np.nonzero(mask), strict=True):
        ratio, a = np.exp(new[b, t]) / np.exp(old[b, t]), advantages[b, t]
        bounded = min(max(ratio, 1 - cliprange), 1 + cliprange)
        unclipped.append(-ratio * a)
        clipped.append(-min(ratio * a, bounded * a))
        penalty.append(kl_old_coef * (old[b, t] - new[b, t]))
        held = (a > 0 and ratio > 1 + cliprange) or (a < 0 and ratio < 1 - cliprange)
        gradient[b, t] = 0 if held else -ratio * a / mask.sum()
    assert_close(ppo.unclipped_surrogate_loss(**batch), np.mean(unclipped))
    assert_close(
        ppo.kl_penalised_surrogate_loss(**batch, kl_old_coef=kl_old_coef),
        np.mean(unclipped) + np.mean(penalty),
    )
    loss, gradients = value_and_gradients(
        lambda **batch: ppo.clipped_surrogate_loss(**batch, cliprange=cliprange),
        batch,
        ["logprobs"],
    )
    assert_close(loss, np.mean(clipped))
    assert_close(gradients["logprobs"], gradient)


@given(ragged_batches(CRITIC), st.floats(0.01, 1.5))
def test_value_loss_against_numpy(batch, cliprange_value):
    values, old_values, targets, mask = (
        batch[name].numpy() for name in (*CRITIC.split(), "response_mask")
    )
    losses, gradient = [], np.zeros(mask.shape)
    for b, t in zip(*np.nonzero(mask), strict=True):
        v, target = values[b, t], targets[b, t]
        bounded = old_values[b, t] + min(
            max(v - old_values[b, t], -cliprange_value), cliprange_value
        )
        losses.append(max((v - target) ** 2, (bounded - target) ** 2) / 2)
        outside = abs(v - old_values[b, t]) > cliprange_value
        held = outside and abs(bounded - target) > abs(v - target)
        gradient[b, t] = 0 if held else (v - target) / mask.sum()
    loss, gradients = value_and_gradients(
        lambda **batch: ppo.clipped_value_loss(**batch, cliprange_value=cliprange_value),
        batch,
        ["values"],
    )
    assert_close(loss, np.mean(losses))
    assert_close(gradients["values"], gradient)


# -- ratios that no float can hold


INFINITE = float("inf")


@pytest.mark.parametrize("dtype, far", [(torch.float32, 100.0), (torch.float64, 800.0)])
@pytest.mark.parametrize(
    "log_ratio, advantage, cliprange, value, slope",
    [  # one token of ratio e^far (or e^-far) and advantage A beside one of ratio 1, A = 2
        ("far", 0.0, 0.2, -1.0, 0.0),
        ("far", 0.0, INFINITE, -1.0, 0.0),
        ("far", 1.0, 0.2, -(1.2 + 2) / 2, 0.0),  # the bound, and flat
        ("far", -1.0, 0.2, INFINITE, INFINITE),  # the exact value fits no float
        ("far", 1.0, INFINITE, -INFINITE, -INFINITE),
        ("near none", -1.0, 0.2, -(-0.8 + 2) / 2, 0.0),
    ],
)
def test_a_ratio_that_overflows(dtype, far, log_ratio, advantage, cliprange, value, slope):
    size = far if log_ratio == "far" else -far
    logprobs = torch.tensor([[size, 0.0]], dtype=dtype, requires_grad=True)
    loss = ppo.clipped_surrogate_loss(
        logprobs=logprobs,
        old_logprobs=torch.zeros(1, 2, dtype=dtype),
        advantages=torch.tensor([[advantage, 2.0]], dtype=dtype),
        response_mask=torch.tensor([[True, True]]),
        cliprange=cliprange,
    )
    loss.backward()
    assert_close(loss, torch.tensor(value, dtype=dtype))
    assert_close(logprobs.grad, torch.tensor([[slope, -1.0]], dtype=dtype))


def test_a_cliprange_beyond_the_dtype_is_no_clip():
    batch = {
        "logprobs": torch.tensor([[3.0, -1.0]]),
        "old_logprobs": torch.zeros(1, 2),
        "advantages": torch.tensor([[1.0, -1.0]]),
        "response_mask": torch.tensor([[True, True]]),
    }
    wanted = ppo.unclipped_surrogate_loss(**batch)
    assert ppo.clipped_surrogate_loss(**batch, cliprange=1e300) == wanted


def test_the_coefficient_stays_a_number_whatever_the_kl_has_been():
    low = high = 1.0
    for _ in range(2000):
        low = ppo.adapt_kl_coef(kl_coef=low, kl=0.0, target=1.0)
        high = ppo.adapt_kl_coef(kl_coef=high, kl=9.0, target=1.0)
    assert (low, high) == (1e-10, 1e10)
    # from outside the bounds it never moves the wrong way
    assert ppo.adapt_kl_coef(kl_coef=5e-324, kl=0.0, target=1.0) == 5e-324
    assert ppo.adapt_kl_coef(kl_coef=1e300, kl=9.0, target=1.0) == 1e300
