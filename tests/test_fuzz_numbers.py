"""A small part of the fuzzing of the derivation, and what the whole of it has found."""

import inspect
import math
import random

import pytest
import torch

from minippo.baseline import leave_one_out_baseline
from minippo.kl import k1_variance
from minippo.ppo import kl_penalised_surrogate_loss
from minippo.relatives import direct, groups, kl_losses, ratios, reductions, selection
from minippo.relatives.ratios import cispo_loss
from tests.fuzz_numbers import FUNCTIONS, arguments_for, fuzz, judge


def test_every_function_is_right_or_refuses_or_says_infinity():
    ended = fuzz(60 * len(FUNCTIONS), seed=1)
    assert ended["right"] > 40 * len(FUNCTIONS) and ended["refused"] > 0 < ended["infinite"]


@pytest.mark.parametrize(
    "in_single, message", [(torch.nan, "a NaN"), (2.0, "got"), (torch.inf, "infinite")]
)
def test_a_wrong_number_would_be_seen(in_single, message):
    def wrong(*, values, mask):
        return values.new_tensor(in_single if values.dtype == torch.float32 else 1.0)

    values = torch.tensor([[1.0, 2.0]])
    with pytest.raises(AssertionError, match=message):
        judge(wrong, {"values": values, "mask": torch.ones(1, 2, dtype=torch.bool)})


def test_arguments_fit_every_function():
    for function in FUNCTIONS:
        assert arguments_for(function, random.Random(0)).keys()


def test_no_function_of_the_relatives_is_left_out():
    """A public function of float tensors; those of a mask alone have no large numbers."""
    for module in (direct, groups, kl_losses, ratios, reductions, selection):
        for name, function in vars(module).items():
            own = getattr(function, "__module__", None) == module.__name__
            if own and inspect.isfunction(function) and not name.startswith("_"):
                floats = {*inspect.signature(function).parameters} - {"response_mask"}
                only_lengths = floats <= {"max_length", "buffer", "reduction", "length"}
                assert (function in FUNCTIONS) != only_lengths, name


def test_a_large_return_leaves_the_digits_of_the_others_baseline():
    rewards = torch.tensor([[0.25], [-2.7e13], [0.5]])
    got = leave_one_out_baseline(rewards=rewards, response_mask=rewards != 0, gamma=1.0)
    # the others of the second row are 0.25 and 0.5
    assert got[1].item() == 0.375


def test_a_distant_reference_leaves_the_digits_of_the_variance():
    # p = (1/2, 1/2, 0), d = (0, -0.5): variance 0.0625; log pi_ref of both is about -1e5
    logits = torch.tensor([[[0.0, 0.0, -torch.inf]]])
    ref_logits = torch.tensor([[[0.0, 0.5, 1e5]]])
    assert k1_variance(logits=logits, ref_logits=ref_logits).item() == pytest.approx(0.0625)


def test_a_token_that_cannot_be_chosen_makes_no_nan_of_the_variance():
    logits = torch.tensor([[[3e19, 0.0]]])
    assert k1_variance(logits=logits, ref_logits=torch.tensor([[[-6e21, 0.0]]])).item() == 0.0


def test_where_surrogate_and_penalty_overflow_the_exponential_decides():
    loss = kl_penalised_surrogate_loss(
        logprobs=torch.tensor([[5e11], [-4e36]]),
        old_logprobs=torch.zeros(2, 1),
        advantages=torch.tensor([[8e20], [0.0]]),
        response_mask=torch.ones(2, 1, dtype=torch.bool),
        kl_old_coef=3e5,
    )
    assert loss.item() == -torch.inf


def test_where_weight_times_logprob_does_not_fit_cispo_s_loss_may():
    # a ratio of e^46 brings back what is too small: -(e^46 * 1e-30) * 1e-26
    small = cispo_loss(
        logprobs=torch.tensor([[-1e-30]]),
        old_logprobs=torch.tensor([[-46.0]]),
        advantages=torch.tensor([[1e-26]]),
        response_mask=torch.ones(1, 1, dtype=torch.bool),
        ratio_max=torch.inf,
    )
    assert small.item() == pytest.approx(math.exp(46.0) * 1e-56, rel=1e-4)
    # both ratios are cut at 1e34, so that the two terms are -2e43 and 1e43, with mean -5e42
    loss = cispo_loss(
        logprobs=torch.tensor([[-1e9], [-1e9]]),
        old_logprobs=torch.tensor([[-2e9], [-2e9]]),
        advantages=torch.tensor([[2.0], [-1.0]]),
        response_mask=torch.ones(2, 1, dtype=torch.bool),
        ratio_max=1e34,
    )
    assert loss.item() == torch.inf
