"""Losses on pairs by hand, against NumPy, in their limits, and at margins of a thousand."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from minippo.relatives import direct
from minippo.reward_head import bradley_terry_loss
from tests.helpers import assert_close, f64, value_and_gradients

NAMES = "chosen_logprobs rejected_logprobs ref_chosen_logprobs ref_rejected_logprobs".split()
POLICY, REFERENCE = NAMES[:2], NAMES[2:]


def smoothed(**batch):
    return direct.label_smoothed_dpo_loss(**batch, label_smoothing=0.1)


LOSSES = {"dpo": direct.dpo_loss, "smoothed": smoothed, "ipo": direct.ipo_loss}
EACH = pytest.mark.parametrize("loss", LOSSES.values(), ids=LOSSES)


def with_margins(margins):
    """Pairs with these h; the rest of the numbers do not matter."""
    rest = torch.arange(len(margins), dtype=torch.float64) - 5
    return dict(zip(NAMES, (f64(margins) + rest + 1, 2 * rest, rest, 2 * rest - 1), strict=True))


def wanted_of(name, h, beta):
    """(loss, its derivative to h), one pair."""
    with np.errstate(over="ignore"):
        right, left = 1 / (1 + np.exp(-beta * h)), 1 / (1 + np.exp(beta * h))
    return {
        "dpo": (np.logaddexp(0, -beta * h), -beta * left),
        "smoothed": (
            0.9 * np.logaddexp(0, -beta * h) + 0.1 * np.logaddexp(0, beta * h),
            -beta * 0.9 * left + beta * 0.1 * right,
        ),
        "ipo": ((h - 1 / (2 * beta)) ** 2, 2 * (h - 1 / (2 * beta))),
    }[name]


def test_by_hand():
    """h = 2 and beta 1/2: sigmoid(1) = 0.7310586, so -log is 0.3132617, and 1.3132617 for the wrong
    label; 1 / (2 beta) = 1, so IPO has (2 - 1)^2."""
    batch = dict(zip(NAMES, (f64([-1.0]), f64([-4.0]), f64([-2.0]), f64([-3.0])), strict=True))
    assert round(direct.dpo_loss(**batch, beta=0.5).item(), 7) == 0.3132617
    assert round(smoothed(**batch, beta=0.5).item(), 7) == 0.4132617  # .9 * .3132617 + .1 * 1.31..
    assert direct.ipo_loss(**batch, beta=0.5).item() == 1.0


@pytest.mark.parametrize("name", LOSSES)
@settings(max_examples=15)
@given(margins=st.lists(st.floats(-50, 50), min_size=1, max_size=4), beta=st.floats(0.05, 5))
def test_against_numpy(name, margins, beta):
    """Value and gradient: the mean over pairs, and the two responses with opposite signs."""
    batch = with_margins(margins)
    loss, gradients = value_and_gradients(
        lambda **pairs: LOSSES[name](**pairs, beta=beta), batch, POLICY
    )
    values, slopes = zip(*(wanted_of(name, h, beta) for h in margins), strict=True)
    assert (loss - np.mean(values)).abs() <= 1e-8 * (1 + abs(np.mean(values)))
    wanted = torch.tensor(np.array(slopes)) / len(margins)
    torch.testing.assert_close(gradients["chosen_logprobs"], wanted, rtol=1e-8, atol=1e-10)
    torch.testing.assert_close(gradients["rejected_logprobs"], -wanted, rtol=1e-8, atol=1e-10)


@pytest.mark.parametrize("beta", [0.1, 0.7])
def test_label_smoothing_0_is_dpo_and_dpo_is_bradley_terry_of_log_ratios(beta):
    batch = with_margins([-3.0, 0.5, 2.0])
    loss = direct.dpo_loss(**batch, beta=beta)
    assert_close(direct.label_smoothed_dpo_loss(**batch, beta=beta, label_smoothing=0.0), loss)
    scores = [beta * (batch[name] - batch[f"ref_{name}"]) for name in POLICY]
    assert_close(bradley_terry_loss(chosen_scores=scores[0], rejected_scores=scores[1]), loss)


@EACH
def test_the_policy_that_is_the_reference(loss):
    batch = dict.fromkeys(NAMES, f64([-2.0, -7.0]))
    wanted = 1 / (2 * 0.25) ** 2 if loss is direct.ipo_loss else math.log(2)
    assert_close(loss(**batch, beta=0.25), wanted)


def test_where_each_of_them_ends():
    """IPO at 1 / (2 beta) and smoothed DPO at log(9) / beta have no gradient; DPO always has."""
    for loss, margin, flat in [
        (direct.ipo_loss, 1 / 0.6, True),
        (smoothed, math.log(9) / 0.3, True),
        (direct.dpo_loss, 30.0, False),
    ]:
        _, gradients = value_and_gradients(
            lambda loss=loss, **pairs: loss(**pairs, beta=0.3), with_margins([margin]), POLICY
        )
        assert (gradients["chosen_logprobs"].abs().item() < 1e-12) == flat


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("margin, wanted", [(-1e3, 1e3), (1e3, 0.0)])
def test_margins_of_a_thousand(margin, wanted, dtype):
    batch = {name: x.to(dtype) for name, x in with_margins([margin]).items()}
    loss, gradients = value_and_gradients(
        lambda **pairs: direct.dpo_loss(**pairs, beta=1.0), batch, POLICY
    )
    assert loss == wanted and gradients["chosen_logprobs"] == (-1.0 if margin < 0 else 0.0)
    both, _ = value_and_gradients(lambda **pairs: smoothed(**pairs, beta=1.0), batch, POLICY)
    assert_close(both, 0.9 * wanted + 0.1 * (1e3 - wanted))
    assert_close(direct.ipo_loss(**batch, beta=0.5), (margin - 1) ** 2)


def test_a_rejected_response_that_has_become_impossible_is_no_nan():
    batch = with_margins([1.0]) | {"rejected_logprobs": f64([-torch.inf])}
    assert direct.dpo_loss(**batch, beta=1.0) == 0.0
    none = direct.label_smoothed_dpo_loss(**batch, beta=1.0, label_smoothing=0.0)
    assert none == 0.0 and smoothed(**batch, beta=1.0) == torch.inf


@EACH
def test_refusals(loss):
    good = with_margins([1.0, 2.0]) | {"beta": 0.1}
    loss(**good)
    for beta in (0.0, -1.0, float("nan"), float("inf")):
        with pytest.raises(ValueError, match=r"beta: got .*, wanted a number in \(0, inf\)"):
            loss(**good | {"beta": beta})
    for name in NAMES:
        for bad in (f64([1.0]), f64([[1.0, 2.0]])):
            with pytest.raises(ValueError, match=r"^\w+_logprobs: got shape .*, wanted \[N\]"):
                loss(**good | {name: bad})
        with pytest.raises(ValueError, match=f"^{name}: got dtype torch.int64, wanted float"):
            loss(**good | {name: torch.tensor([1, 2])})
    for name in REFERENCE:
        with pytest.raises(ValueError, match=f"{name}: got a tensor that requires grad"):
            loss(**good | {name: good[name].clone().requires_grad_()})
    with pytest.raises(ValueError, match="chosen_logprobs: .*at least one element"):
        loss(**dict.fromkeys(NAMES, f64([])), beta=0.1)


@pytest.mark.parametrize("label_smoothing", [0.5, -0.1, float("nan")])
def test_a_smoothing_of_a_half_is_refused(label_smoothing):
    with pytest.raises(ValueError, match=r"label_smoothing: got .*, wanted .* in \[0, 0.5\)"):
        direct.label_smoothed_dpo_loss(
            **with_margins([1.0]), beta=0.1, label_smoothing=label_smoothing
        )
