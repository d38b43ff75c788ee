"""Other ways to hold a ratio: by hand, against NumPy, as limits of PPO's clip, at log-ratios of a
thousand, and in the padding."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from minippo.policy_gradient import policy_gradient_loss
from minippo.ppo import clipped_surrogate_loss, unclipped_surrogate_loss
from minippo.relatives import ratios
from minippo.relatives.groups import token_weights
from minippo.relatives.ratios import dual_clipped_surrogate_loss
from minippo.relatives.reductions import sequence_mean, token_mean
from tests.helpers import (
    BAD_MASKS,
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

NAMES = "logprobs old_logprobs advantages"
DATA = ["old_logprobs", "advantages"]
INF = float("inf")


def dual(**batch):
    return dual_clipped_surrogate_loss(**batch, cliprange=0.2, dual_clip=3.0)


def sequence(**batch):
    return ratios.sequence_surrogate_loss(**batch, cliprange=0.2)


def gspo(**batch):
    return ratios.gspo_surrogate_loss(**batch, cliprange_low=0.1, cliprange_high=0.3)


def higher(**batch):
    return ratios.asymmetric_clipped_surrogate_loss(**batch, cliprange_low=0.2, cliprange_high=0.28)


def cispo(**batch):
    return ratios.cispo_loss(**batch, ratio_max=2.0)


PER_TOKEN = {"dual": dual, "higher": higher, "cispo": cispo}
PER_ROW = {"sequence": sequence, "gspo": gspo}


def per_row(batch):
    """The same batch with the advantage of each row's first token for the row."""
    return batch | {"advantages": batch["advantages"][:, 0]}


def one_token(ratio, advantage):
    return {
        "logprobs": f64([[math.log(ratio) - 1]]),
        "old_logprobs": f64([[-1.0]]),
        "advantages": f64([[advantage]]),
        "response_mask": mask_of_lengths([1]),
    }


# the dual clip


def test_by_hand():
    """Ratios 5, 2, 5, 0.5 and 1.1 with advantages -1, -1, 1/2, -1 and 1: max(-5, -3), -2,
    min(5, 1.2) / 2, min(-0.5, -0.8) and 1.1."""
    batch = {
        "logprobs": f64([[5, 2, 5, 0.5, 1.1]]).log(),
        "old_logprobs": f64([[0, 0, 0, 0, 0]]),
        "advantages": f64([[-1, -1, 0.5, -1, 1]]),
        "response_mask": mask_of_lengths([5]),
    }
    loss, gradients = value_and_gradients(dual, batch, ["logprobs"])
    assert_close(loss, -(-3 - 2 + 0.6 - 0.8 + 1.1) / 5)
    assert_close(gradients["logprobs"], [[0, 2 / 5, 0, 0, -1.1 / 5]])  # the others are flat


def test_at_the_bound_itself_there_is_a_gradient():
    batch = one_token(4.0, -1.0)
    bound = (batch["logprobs"] - batch["old_logprobs"]).exp().item()
    loss, gradients = value_and_gradients(
        lambda **x: dual_clipped_surrogate_loss(**x, cliprange=0.2, dual_clip=bound),
        batch,
        ["logprobs"],
    )
    assert loss == bound and gradients["logprobs"].item() == bound


@settings(max_examples=15)
@given(batch=ragged_batches(NAMES))
def test_limits_padding_and_layout(batch):
    endless, found = value_and_gradients(
        lambda **x: dual_clipped_surrogate_loss(**x, cliprange=0.2, dual_clip=INF),
        batch,
        ["logprobs"],
    )
    loss, wanted = value_and_gradients(
        lambda **x: clipped_surrogate_loss(**x, cliprange=0.2), batch, ["logprobs"]
    )
    assert_close(endless, loss)
    assert_close(found["logprobs"], wanted["logprobs"])
    assert dual(**batch) <= endless + 1e-12
    check_padding_is_never_read(dual, batch, ["logprobs"])
    check_layout_does_not_matter(dual, batch, ["logprobs"])


def test_a_ratio_that_overflows_is_held():
    mask = mask_of_lengths([1])
    batch = {"logprobs": torch.tensor([[200.0]]), "old_logprobs": torch.tensor([[0.0]])}
    batch |= {"advantages": torch.tensor([[-2.0]]), "response_mask": mask}
    loss, gradients = value_and_gradients(dual, batch, ["logprobs"])
    assert loss == 6.0 and gradients["logprobs"] == 0.0


@pytest.mark.parametrize("bound", [1.2, 1.0, float("nan")])
def test_a_bound_within_the_clip_is_refused(bound):
    batch = {name: torch.zeros(1, 1) for name in NAMES.split()}
    about = {"response_mask": mask_of_lengths([1]), "cliprange": 0.2}
    with pytest.raises(ValueError, match=r"^dual_clip: got .*, wanted .* in \(1.2, inf\]$"):
        dual_clipped_surrogate_loss(**batch, **about, dual_clip=bound)
    dual_clipped_surrogate_loss(**batch, **about, dual_clip=1.3)


# a ratio per response


def test_a_ratio_per_response_by_hand():
    """Log-ratios log 2, log 2 and, of one token, log(1/2): products 4 and 1/2, geometric means 2
    and 1/2. With A = 1 and -1: min(4, 1.2) and min(-1/2, -0.8); min(2, 1.3) and min(-1/2, -0.9)."""
    batch = {
        "logprobs": f64([[2, 2], [0.5, 9]]).log(),
        "old_logprobs": f64([[0, 0], [0, 0]]),
        "advantages": f64([1, -1]),
        "response_mask": mask_of_lengths([2, 1]),
    }
    assert_close(sequence(**batch), -(1.2 - 0.8) / 2)
    assert_close(gspo(**batch), -(1.3 - 0.9) / 2)
    turned = batch | {"advantages": f64([-1, 1])}  # nothing is flat: -4 and 1/2; -2 and 1/2
    loss, gradients = value_and_gradients(sequence, turned, ["logprobs"])
    assert_close(loss, (4 - 0.5) / 2)
    assert_close(gradients["logprobs"], [[2, 2], [-0.25, 0]])
    loss, gradients = value_and_gradients(gspo, turned, ["logprobs"])
    assert_close(loss, (2 - 0.5) / 2)
    assert_close(gradients["logprobs"], [[0.5, 0.5], [-0.25, 0]])  # 2 / 2 tokens / 2 rows


def numpy_clip(ratio, advantage, low, high):
    return np.minimum(ratio * advantage, np.clip(ratio, 1 - low, 1 + high) * advantage)


@settings(max_examples=15)
@given(batch=ragged_batches(NAMES))
def test_against_numpy(batch):
    mask = batch["response_mask"].numpy()
    logprobs, old, advantages = (batch[name].numpy() for name in NAMES.split())
    sums = ((logprobs - old) * mask).sum(1)
    rows = advantages[:, 0]
    wanted = -numpy_clip(np.exp(sums), rows, 0.2, 0.2).mean()
    assert_close(sequence(**per_row(batch)), wanted)
    wanted = -numpy_clip(np.exp(sums / mask.sum(1)), rows, 0.1, 0.3).mean()
    assert_close(gspo(**per_row(batch)), wanted)
    token_ratios = np.exp(logprobs - old)
    assert_close(higher(**batch), -numpy_clip(token_ratios, advantages, 0.2, 0.28)[mask].mean())
    weighted = np.minimum(token_ratios, 2.0) * advantages * logprobs
    assert_close(cispo(**batch), -weighted[mask].mean())


@settings(max_examples=15)
@given(batch=ragged_batches(NAMES))
def test_on_policy_the_gradients_are_those_of_the_sum_and_of_the_mean_per_response(batch):
    on_policy = per_row(batch | {"old_logprobs": batch["logprobs"]})
    weights = token_weights(
        advantages=on_policy["advantages"], response_mask=on_policy["response_mask"]
    )
    plain = {"logprobs": batch["logprobs"], "response_mask": batch["response_mask"]}

    def mean_per_response(logprobs, response_mask):
        return -sequence_mean(values=weights * logprobs, response_mask=response_mask)

    def whole(logprobs, response_mask):
        return policy_gradient_loss(logprobs=logprobs, weights=weights, response_mask=response_mask)

    for surrogate, reference in ((sequence, whole), (gspo, mean_per_response)):
        _, found = value_and_gradients(surrogate, on_policy, ["logprobs"])
        _, wanted = value_and_gradients(reference, plain, ["logprobs"])
        assert_close(found["logprobs"], wanted["logprobs"])


@settings(max_examples=15)
@given(st.integers(1, 4), st.integers(0, 100))
def test_rows_of_one_token_are_ppos_clip(rows, seed):
    batch = batch_of(NAMES, mask_of_lengths([1] * rows), seed)
    wanted = value_and_gradients(
        lambda **x: clipped_surrogate_loss(**x, cliprange=0.2), batch, ["logprobs"]
    )

    def equal(**x):
        return ratios.gspo_surrogate_loss(**x, cliprange_low=0.2, cliprange_high=0.2)

    for surrogate in (sequence, equal):
        loss, gradients = value_and_gradients(surrogate, per_row(batch), ["logprobs"])
        assert_close(loss, wanted[0])
        assert_close(gradients["logprobs"], wanted[1]["logprobs"])


@pytest.mark.parametrize("surrogate", PER_ROW.values(), ids=PER_ROW)
@settings(max_examples=15)
@given(batch=ragged_batches(NAMES))
def test_padding_and_layout_of_a_ratio_per_response(surrogate, batch):
    check_padding_is_never_read(surrogate, per_row(batch), ["logprobs"])
    check_layout_does_not_matter(surrogate, per_row(batch), ["logprobs"])


@pytest.mark.parametrize("surrogate", PER_ROW.values(), ids=PER_ROW)
def test_refusals_of_a_ratio_per_response(surrogate):
    good = per_row(batch_of(NAMES, torch.ones(2, 3, dtype=torch.bool), 0))
    for bad_mask, message in BAD_MASKS:
        with pytest.raises(ValueError, match=message):
            surrogate(**good | {"response_mask": bad_mask})
    for bad in (f64([1]), f64([[1, 2]]), f64(1)):
        with pytest.raises(ValueError, match=r"^advantages: got shape .*, wanted \[B\]"):
            surrogate(**good | {"advantages": bad})
    with pytest.raises(ValueError, match="^advantages: got dtype torch.int64, wanted float"):
        surrogate(**good | {"advantages": torch.tensor([1, 2])})
    with pytest.raises(ValueError, match="old_logprobs: got shape"):
        surrogate(**good | {"old_logprobs": f64([[1, 2, 3]])})
    for name in DATA:
        with pytest.raises(ValueError, match=f"{name}: got a tensor that requires grad"):
            surrogate(**good | {name: good[name].clone().requires_grad_()})


# two ranges


@pytest.mark.parametrize(
    "ratio, advantage, objective, gradient",
    [
        (1.25, 2.0, 2.5, 2.5),  # above 1.2 and not yet clipped
        (1.5, 2.0, 2.56, 0.0),  # held at 1.28
        (0.79, -2.0, -1.6, 0.0),  # held at 0.8
        (0.75, 2.0, 1.5, 1.5),  # the wrong way: pulled back
        (1.5, -2.0, -3.0, -3.0),
    ],
)
def test_two_ranges_by_hand(ratio, advantage, objective, gradient):
    loss, gradients = value_and_gradients(higher, one_token(ratio, advantage), ["logprobs"])
    assert_close(-loss, objective)
    assert_close(-gradients["logprobs"], [[gradient]])


@settings(max_examples=15)
@given(batch=ragged_batches(NAMES), cliprange=st.floats(0.01, 3))
def test_equal_ranges_are_ppo_and_endless_ones_nothing(batch, cliprange):
    def equal(**x):
        return ratios.asymmetric_clipped_surrogate_loss(
            **x, cliprange_low=cliprange, cliprange_high=cliprange
        )

    loss, gradients = value_and_gradients(equal, batch, ["logprobs"])
    wanted, wanted_gradients = value_and_gradients(
        lambda **x: clipped_surrogate_loss(**x, cliprange=cliprange), batch, ["logprobs"]
    )
    assert_close(loss, wanted)
    assert_close(gradients["logprobs"], wanted_gradients["logprobs"])
    endless = ratios.asymmetric_clipped_surrogate_loss(
        **batch, cliprange_low=INF, cliprange_high=INF
    )
    assert_close(endless, unclipped_surrogate_loss(**batch))


# the ratio as a weight


@pytest.mark.parametrize(
    "ratio, advantage, weight", [(1.5, 2.0, 1.5), (5.0, 2.0, 2.0), (5.0, -1.0, 2.0), (0.1, 1, 0.1)]
)
def test_a_weight_without_gradient_by_hand(ratio, advantage, weight):
    """log pi = log ratio - 1; the gradient is weight times advantage, cut or not."""
    loss, gradients = value_and_gradients(cispo, one_token(ratio, advantage), ["logprobs"])
    assert_close(-loss, weight * advantage * (math.log(ratio) - 1))
    assert_close(-gradients["logprobs"], [[weight * advantage]])


@settings(max_examples=15)
@given(batch=ragged_batches(NAMES))
def test_a_high_cut_leaves_the_gradient_of_the_plain_surrogate(batch):
    _, wanted = value_and_gradients(unclipped_surrogate_loss, batch, ["logprobs"])
    for ratio_max in (1e6, INF):
        _, found = value_and_gradients(
            lambda ratio_max=ratio_max, **x: ratios.cispo_loss(**x, ratio_max=ratio_max),
            batch,
            ["logprobs"],
        )
        assert_close(found["logprobs"], wanted["logprobs"])


@pytest.mark.parametrize("surrogate", [higher, cispo], ids=["higher", "cispo"])
@settings(max_examples=15)
@given(batch=ragged_batches(NAMES))
def test_padding_and_layout_of_a_ratio_per_token(surrogate, batch):
    check_padding_is_never_read(surrogate, batch, ["logprobs"])
    check_layout_does_not_matter(surrogate, batch, ["logprobs"])


@pytest.mark.parametrize("surrogate", PER_TOKEN.values(), ids=PER_TOKEN)
def test_refusals_of_a_ratio_per_token(surrogate):
    check_common_refusals(surrogate, batch_of(NAMES, mask_of_lengths([3, 2]), 0), DATA)


def test_ranges_that_are_refused():
    batch = batch_of(NAMES, mask_of_lengths([2, 1]), 0)
    for name in ("cliprange_low", "cliprange_high"):
        for bad in (0.0, -0.2, float("nan")):
            ranges = {"cliprange_low": 0.2, "cliprange_high": 0.2} | {name: bad}
            with pytest.raises(ValueError, match=rf"^{name}: got .* in \(0, inf\]$"):
                ratios.asymmetric_clipped_surrogate_loss(**batch, **ranges)
            with pytest.raises(ValueError, match=rf"^{name}: got .* in \(0, inf\]$"):
                ratios.gspo_surrogate_loss(**per_row(batch), **ranges)
    for bad in (0.0, float("nan")):
        with pytest.raises(ValueError, match=r"cliprange: got .* in \(0, inf\]$"):
            ratios.sequence_surrogate_loss(**per_row(batch), cliprange=bad)
        with pytest.raises(ValueError, match=r"ratio_max: got .* in \(0, inf\]$"):
            ratios.cispo_loss(**batch, ratio_max=bad)


# numbers of any size


@pytest.mark.parametrize(
    "logprob, log_ratio, advantage", [(-1e12, -100.0, 1e300), (-1e-150, 500.0, 1e-200)]
)
def test_a_product_that_no_float_holds_beside_a_ratio_that_makes_up_for_it(
    logprob, log_ratio, advantage
):
    """cispo's advantage times log pi is 1e312, or 1e-350; the ratio brings it back."""
    batch = {
        "logprobs": f64([[logprob]]),
        "old_logprobs": f64([[logprob - log_ratio]]),
        "advantages": f64([[advantage]]),
        "response_mask": mask_of_lengths([1]),
    }
    loss = ratios.cispo_loss(**batch, ratio_max=INF).item()
    assert loss == pytest.approx(-math.exp(log_ratio) * advantage * logprob, rel=1e-9, abs=0)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("surrogate", [*PER_TOKEN, *PER_ROW])
@pytest.mark.parametrize(
    "log_ratio, advantage, finite",
    [
        (1e3, 1.0, True),  # beyond the bound: flat
        (1e3, 0.0, True),
        (1e3, -1.0, False),  # exp(1000) is the exact value, and no float
        (-1e3, 1.0, True),
        (-1e3, 0.0, True),
        (-1e3, -1.0, True),
        (-INF, 1.0, True),
        (-INF, -1.0, True),
        (-INF, 0.0, True),
    ],
)
def test_log_ratios_of_a_thousand(surrogate, log_ratio, advantage, finite, dtype):
    batch = {
        "logprobs": torch.tensor([[log_ratio, -1.0]], dtype=dtype),
        "old_logprobs": torch.tensor([[0.0, -1.0]], dtype=dtype),
        "advantages": torch.tensor([[advantage, advantage]], dtype=dtype),
        "response_mask": mask_of_lengths([2]),
    }
    function = {**PER_TOKEN, **PER_ROW}[surrogate]
    batch = per_row(batch) if surrogate in PER_ROW else batch
    loss, gradients = value_and_gradients(function, batch, ["logprobs"])
    assert not loss.isnan() and not gradients["logprobs"].isnan().any()
    bounded = finite or surrogate in ("dual", "cispo")
    overflows = not bounded and not (surrogate == "gspo" and dtype == torch.float64)
    assert loss.isinf() == overflows
    if advantage == 0:
        assert loss == 0 and (gradients["logprobs"] == 0).all()


def test_rows_whose_tokens_overflow_and_together_do_not():
    batch = {
        "logprobs": torch.tensor([[200.0, -200.0]]),
        "old_logprobs": torch.tensor([[0.0, 0.0]]),
        "advantages": torch.tensor([3.0]),
        "response_mask": mask_of_lengths([2]),
    }
    for surrogate in PER_ROW.values():
        loss, gradients = value_and_gradients(surrogate, batch, ["logprobs"])
        assert loss == -3.0 and gradients["logprobs"][0, 0] == gradients["logprobs"][0, 1] < 0


def test_an_endless_weight_on_a_certain_token_is_no_nan():
    """log pi is 0, the weight e^1000: the value is 0, and only the gradient is no float."""
    batch = {
        "logprobs": torch.tensor([[0.0]]),
        "old_logprobs": torch.tensor([[-1e3]]),
        "advantages": torch.tensor([[2.0]]),
        "response_mask": mask_of_lengths([1]),
    }
    loss, gradients = value_and_gradients(
        lambda **x: ratios.cispo_loss(**x, ratio_max=INF), batch, ["logprobs"]
    )
    assert loss == 0.0 and gradients["logprobs"] == -INF


def test_bounds_that_the_dtype_cannot_hold_are_none():
    batch = {name: x.half() for name, x in one_token(4.0, 1.0).items() if name in NAMES}
    batch |= {"response_mask": mask_of_lengths([1])}
    wide = ratios.asymmetric_clipped_surrogate_loss(**batch, cliprange_low=1e6, cliprange_high=1e6)
    assert abs(wide.item() + 4) < 0.01


def test_the_largest_number_of_a_dtype_is_a_bound():
    largest = torch.finfo(torch.float32).max
    batch = {"old_logprobs": torch.tensor([[1e3]]), "sampler_logprobs": torch.tensor([[0.0]])}
    weights = ratios.truncated_importance_weights(
        **batch, response_mask=mask_of_lengths([1]), weight_max=largest
    )
    assert weights.item() == largest


# weights for samples of another policy


def test_truncated_weights_by_hand():
    """Ratios 3, 1/2 and, of one token, 4: cut at 2 they are 2, 1/2 and 2; the products are 3/2 and
    4, cut 3/2 and 2."""
    batch = {
        "old_logprobs": f64([[3, 0.5], [4, 9]]).log(),
        "sampler_logprobs": f64([[0, 0], [0, 0]]),
        "response_mask": mask_of_lengths([2, 1]),
    }
    weights = ratios.truncated_importance_weights(**batch, weight_max=2.0)
    assert_close(weights, [[2, 0.5], [2, 0]])
    weights = ratios.truncated_importance_weights(**batch, weight_max=2.0, level="response")
    assert_close(weights, [[1.5, 1.5], [2, 0]])
    assert weights[1, 0] == 2.0  # the bound itself


@settings(max_examples=15)
@given(batch=ragged_batches("old_logprobs sampler_logprobs"))
def test_a_high_cap_leaves_the_plain_weights(batch):
    mask = batch["response_mask"]
    log_ratio = (batch["old_logprobs"] - batch["sampler_logprobs"]) * mask
    for weight_max in (1e12, INF):
        plain = ratios.truncated_importance_weights(**batch, weight_max=weight_max)
        assert_close(plain, torch.where(mask, log_ratio.exp(), 0.0))
        whole = ratios.truncated_importance_weights(
            **batch, weight_max=weight_max, level="response"
        )
        products = log_ratio.sum(dim=1, keepdim=True).exp().expand_as(mask)
        assert_close(whole, torch.where(mask, products, 0.0))
    itself = batch | {"sampler_logprobs": batch["old_logprobs"]}
    for level in ("token", "response"):
        one = ratios.truncated_importance_weights(**itself, weight_max=2.0, level=level)
        assert_close(one, mask.double())
        check_padding_is_never_read(
            lambda level=level, **x: ratios.truncated_importance_weights(
                **x, weight_max=2.0, level=level
            ),
            batch,
        )


@settings(max_examples=15)
@given(batch=ragged_batches("old_logprobs sampler_logprobs"))
def test_the_mean_weight_of_all_tokens_is_one_at_most_the_cap(batch):
    weights = ratios.truncated_importance_weights(**batch, weight_max=1.5)
    assert token_mean(values=weights, response_mask=batch["response_mask"]) <= 1.5


def test_weights_that_overflow_are_cut_and_those_that_vanish_are_0():
    batch = {
        "old_logprobs": torch.tensor([[1e3, -1e3]]),
        "sampler_logprobs": torch.tensor([[0.0, 0.0]]),
        "response_mask": mask_of_lengths([2]),
    }
    weights = ratios.truncated_importance_weights(**batch, weight_max=2.0)
    assert weights.tolist() == [[2.0, 0.0]]
    whole = ratios.truncated_importance_weights(**batch, weight_max=2.0, level="response")
    assert whole.tolist() == [[1.0, 1.0]]


def test_weights_that_are_refused():
    batch = batch_of("old_logprobs sampler_logprobs", mask_of_lengths([2, 1]), 0)
    for bad in (0.0, -1.0, float("nan")):
        with pytest.raises(ValueError, match=r"weight_max: got .* in \(0, inf\]$"):
            ratios.truncated_importance_weights(**batch, weight_max=bad)
    with pytest.raises(ValueError, match="^level: got 'row', wanted token or response$"):
        ratios.truncated_importance_weights(**batch, weight_max=2.0, level="row")
    check_common_refusals(
        lambda **x: ratios.truncated_importance_weights(**x, weight_max=2.0),
        batch,
        ["old_logprobs", "sampler_logprobs"],
    )
