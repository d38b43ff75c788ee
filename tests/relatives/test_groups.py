"""Advantages within groups by hand, against NumPy, as limits of each other, and what is refused."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from minippo.baseline import leave_one_out_baseline
from minippo.relatives import groups
from tests.helpers import BAD_MASKS, assert_close, f64, mask_of_lengths

ADVANTAGES = {
    "leave_one_out": groups.leave_one_out_advantages,
    "centred": groups.centred_advantages,
    "standardised": groups.standardised_advantages,
}
NO_DIVISOR = "group_size: got {}, wanted at least 2 and a divisor of the number of scores, 4$"
NOT_FINITE = "scores: wanted finite numbers, got NaN or infinity among them$"
EACH = pytest.mark.parametrize("function", ADVANTAGES.values(), ids=ADVANTAGES)


@st.composite
def grouped_scores(draw):
    size = draw(st.integers(2, 5))
    number = size * draw(st.integers(1, 3))
    values = st.floats(-1e3, 1e3, allow_subnormal=False)
    return f64(draw(st.lists(values, min_size=number, max_size=number))), size


def test_by_hand():
    """Groups 1, 3, 8 with mean 4 and 2, 2, 2: the others of 1 have the mean 11/2, those of 3 have
    9/2, those of 8 have 2; the variance is (9 + 1 + 16) / 3, with Bessel 26 / 2."""
    batch = {"scores": f64([1, 3, 8, 2, 2, 2]), "group_size": 3}
    assert_close(groups.leave_one_out_advantages(**batch), [-4.5, -1.5, 6, 0, 0, 0])
    assert_close(groups.centred_advantages(**batch), [-3, -1, 4, 0, 0, 0])
    wanted = f64([-3, -1, 4, 0, 0, 0])
    assert_close(groups.standardised_advantages(**batch), wanted / (26 / 3) ** 0.5)
    assert_close(groups.standardised_advantages(**batch, correction=1), wanted / 13**0.5)


@settings(max_examples=15)
@given(grouped_scores())
def test_against_numpy(drawn):
    scores, size = drawn
    table = scores.numpy().reshape(-1, size)
    others = (table.sum(1, keepdims=True) - table) / (size - 1)
    wanted = torch.tensor(table - others).flatten()
    result = groups.leave_one_out_advantages(scores=scores, group_size=size)
    torch.testing.assert_close(result, wanted, rtol=1e-9, atol=1e-9)
    wanted = torch.tensor(table - table.mean(1, keepdims=True)).flatten()
    result = groups.centred_advantages(scores=scores, group_size=size)
    torch.testing.assert_close(result, wanted, rtol=1e-9, atol=1e-9)
    for correction in (0, 1):
        stds = table.std(1, ddof=correction, keepdims=True)
        differ = np.ptp(table, axis=1, keepdims=True) > 1e-3
        safe = np.where(differ, stds, 1.0)
        wanted = np.where(differ, (table - table.mean(1, keepdims=True)) / safe, 0.0)
        result = groups.standardised_advantages(
            scores=scores, group_size=size, correction=correction
        ).reshape(-1, size)
        chosen = torch.tensor(differ).expand_as(result)
        torch.testing.assert_close(
            result[chosen], torch.tensor(wanted)[chosen], rtol=1e-6, atol=1e-9
        )


@settings(max_examples=15)
@given(grouped_scores())
def test_centred_are_the_shorter_leave_one_out_and_all_sum_to_0(drawn):
    scores, size = drawn
    one_out, centred, _ = (f(scores=scores, group_size=size) for f in ADVANTAGES.values())
    torch.testing.assert_close(centred, (size - 1) / size * one_out, rtol=1e-9, atol=1e-9)
    for function in ADVANTAGES.values():
        sums = function(scores=scores, group_size=size).view(-1, size).sum(dim=1)
        torch.testing.assert_close(sums, torch.zeros_like(sums), rtol=0, atol=1e-9)


def test_leave_one_out_is_that_of_the_ladder():
    scores = f64([[2], [5], [-1], [0]])
    baseline = leave_one_out_baseline(
        rewards=scores, response_mask=torch.ones(4, 1, dtype=torch.bool), gamma=1.0
    )
    result = groups.leave_one_out_advantages(scores=scores.flatten(), group_size=4)
    assert_close(result, (scores - baseline).flatten())


@settings(max_examples=15)
@given(st.floats(-100, 100), st.floats(0.01, 100))
def test_standardised_does_not_know_zero_and_unit(zero, unit):
    scores = f64([1, 3, 8, 0, 4, 5])
    plain = groups.standardised_advantages(scores=scores, group_size=3)
    other = groups.standardised_advantages(scores=unit * scores + zero, group_size=3)
    torch.testing.assert_close(other, plain, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("pair", [(2.0, 5.0), (0.0, 1e-30), (1e-45, 3e38), (-1e38, -2e38)])
def test_two_scores_standardised_are_signs_however_near_or_far(pair):
    scores = torch.tensor(pair)
    result = groups.standardised_advantages(scores=scores, group_size=2)
    assert_close(result, (scores - scores.flip(0)).sign())
    bessel = groups.standardised_advantages(scores=scores, group_size=2, correction=1)
    assert_close(bessel, result / 2**0.5)


@pytest.mark.parametrize("unit", [1e-200, 1e200])
def test_squares_that_fit_no_float_are_not_needed(unit):
    plain = groups.standardised_advantages(scores=f64([1, 3, 8]), group_size=3)
    found = groups.standardised_advantages(scores=unit * f64([1, 3, 8]), group_size=3)
    assert_close(found, plain)
    both = torch.cat((f64([1, 3, 8]) / unit, unit * f64([1, 3, 8])))
    found = groups.standardised_advantages(scores=both, group_size=3)
    assert_close(found, torch.cat((plain, plain)))  # each group has a unit of its own


@EACH
def test_equal_scores_are_worth_exactly_nothing(function):
    scores = torch.tensor([0.1] * 7 + [0.3] * 7)
    assert function(scores=scores, group_size=7).abs().max() == 0.0
    assert function(scores=scores.half(), group_size=7).dtype == torch.float16


def test_a_large_score_does_not_cost_the_others_their_digits():
    scores = torch.tensor([1e20, 1.0, 3.0])
    result = groups.leave_one_out_advantages(scores=torch.cat((scores, scores)), group_size=3)
    assert_close(result[3:], scores - torch.tensor([2.0, 5e19, 5e19]))


@EACH
def test_refusals(function):
    good = {"scores": f64([1, 2, 3, 4]), "group_size": 2}
    function(**good)
    for bad, message in [
        ({"group_size": 3}, NO_DIVISOR.format(3)),
        ({"group_size": 1}, NO_DIVISOR.format(1)),
        ({"group_size": 2.0}, "group_size: got 2.0, wanted a whole number"),
        ({"scores": f64([[1, 2]])}, r"scores: got shape \[1, 2\], wanted \[B\]"),
        ({"scores": f64([])}, "scores: .*at least one element"),
        ({"scores": torch.tensor([1, 2])}, "scores: got dtype torch.int64, wanted float"),
        ({"scores": f64([1, float("nan")])}, NOT_FINITE),
        ({"scores": f64([1, float("inf")])}, NOT_FINITE),
        ({"scores": f64([1, 2]).requires_grad_()}, "scores: got a tensor that requires grad"),
    ]:
        with pytest.raises(ValueError, match=f"^{message}"):
            function(**good | bad)


@pytest.mark.parametrize("correction", [2, -1, True, 0.5])
def test_another_correction_is_refused(correction):
    with pytest.raises(ValueError, match="^correction: got .*, wanted 0 or 1$"):
        groups.standardised_advantages(scores=f64([1, 2]), group_size=2, correction=correction)


def test_the_penalty_of_long_responses_by_hand():
    """At most 10, buffer 4: nothing up to 6, then a quarter a token."""
    mask = mask_of_lengths([1, 6, 7, 8, 10, 11, 20])
    result = groups.overlong_penalty(response_mask=mask, max_length=10, buffer=4)
    assert_close(result, [0, 0, -0.25, -0.5, -1, -1, -1])
    step = groups.overlong_penalty(response_mask=mask, max_length=7, buffer=1)
    assert_close(step, [0, 0, -1, -1, -1, -1, -1])
    assert groups.overlong_penalty(response_mask=mask, max_length=20, buffer=20)[0] == -1 / 20


@pytest.mark.parametrize(
    "bad, message",
    [
        ({"max_length": 0}, "max_length: got 0"),
        ({"buffer": 0}, "buffer: got 0"),
        ({"buffer": 5}, "buffer: got 5, wanted at most max_length, 4$"),
        ({"response_mask": torch.zeros(1, 2, dtype=torch.bool)}, "response_mask: row 0"),
    ],
)
def test_penalties_that_are_refused(bad, message):
    good = {"response_mask": mask_of_lengths([2]), "max_length": 4, "buffer": 4}
    groups.overlong_penalty(**good)
    with pytest.raises(ValueError, match=f"^{message}"):
        groups.overlong_penalty(**good | bad)


def test_one_number_on_each_token():
    result = groups.token_weights(
        advantages=f64([2, -3]), response_mask=mask_of_lengths([1, 2], width=3)
    )
    assert_close(result, [[2, 0, 0], [-3, -3, 0]])
    infinite = groups.token_weights(
        advantages=torch.tensor([torch.inf]), response_mask=mask_of_lengths([1], width=2)
    )
    assert infinite.tolist() == [[torch.inf, 0.0]] and infinite.dtype == torch.float32


@pytest.mark.parametrize("bad_mask, message", BAD_MASKS[:5])
def test_weights_that_are_refused(bad_mask, message):
    with pytest.raises(ValueError, match=message):
        groups.token_weights(advantages=f64([1, 2]), response_mask=bad_mask)
    mask = mask_of_lengths([2, 1])
    for bad, message in [
        (f64([1, 2, 3]), r"advantages: got shape \[3\], wanted \[B\] with B = 2"),
        (f64([[1], [2]]), "advantages: got shape"),
        (f64([1, 2]).requires_grad_(), "advantages: got a tensor that requires grad"),
    ]:
        with pytest.raises(ValueError, match=message):
            groups.token_weights(advantages=bad, response_mask=mask)
