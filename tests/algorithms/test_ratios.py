"""Whose ratio it is, and where it is held."""

import dataclasses
import math

import pytest
import torch

from minippo.algorithms.config import PPOConfig
from minippo.algorithms.ratios import (
    GEOMETRIC_MEAN,
    PER_RESPONSE,
    PER_TOKEN,
    TWO_RANGES,
    WEIGHT,
    share_held,
)
from tests.helpers import assert_close, f64, mask_of_lengths

MASK = mask_of_lengths([2, 1])
# ratios 2 and 2, then 1.25
ACTIONS = {
    "logprobs": f64([[math.log(2), math.log(2), 7], [math.log(1.25), 7, 7]]),
    "old_logprobs": f64([[0, 0, 3], [0, 3, 3]]),
    "advantages": f64([[1, 1, 0], [-1, 0, 0]]),
    "response_mask": torch.cat((MASK, torch.zeros(2, 1, dtype=torch.bool)), dim=1),
}
CONFIG = PPOConfig(cliprange=0.2, cliprange_low=0.1, cliprange_high=1.5, ratio_max=1.1)


def ratios(found):
    return torch.exp(found["logprobs"] - found["old_logprobs"])


def test_a_response_has_the_product_or_its_geometric_mean():
    product, mean = (kind.of(ACTIONS) for kind in (PER_RESPONSE, GEOMETRIC_MEAN))
    assert_close(ratios(product), f64([[4.0], [1.25]]))
    assert_close(ratios(mean), f64([[2.0], [1.25]]))
    for found in (product, mean):
        assert found["advantages"].tolist() == [[1.0], [-1.0]] and found["response_mask"].all()
    assert PER_TOKEN.of(ACTIONS) is ACTIONS


@pytest.mark.parametrize(
    "kind, share",
    [
        (PER_TOKEN, 2 / 3),  # both 2s are above 1.2 with A > 0; 1.25 with A < 0 is pulled back
        (TWO_RANGES, 0),  # below 2.5
        (PER_RESPONSE, 1 / 2),
        (GEOMETRIC_MEAN, 0),
        (WEIGHT, 1),  # the sign does not matter: all are above 1.1
    ],
)
def test_what_is_held(kind, share):
    assert_close(share_held(kind.of(ACTIONS), kind, CONFIG), f64(share))


def test_what_is_held_of_a_response_has_the_ranges_of_each_side():
    config = dataclasses.replace(CONFIG, cliprange_high=0.5)
    assert_close(share_held(GEOMETRIC_MEAN.of(ACTIONS), GEOMETRIC_MEAN, config), f64(1 / 2))
    down = ACTIONS | {"advantages": -ACTIONS["advantages"]}
    assert_close(share_held(TWO_RANGES.of(down), TWO_RANGES, config), f64(0))


@pytest.mark.parametrize("kind", [PER_TOKEN, TWO_RANGES, PER_RESPONSE, GEOMETRIC_MEAN, WEIGHT])
def test_a_held_ratio_has_no_gradient_but_where_it_is_a_weight(kind):
    tight = dataclasses.replace(CONFIG, cliprange_high=0.1, cliprange_low=0.1)
    logprobs = ACTIONS["logprobs"].clone().requires_grad_()
    good = ACTIONS | {"logprobs": logprobs, "advantages": ACTIONS["advantages"].abs()}
    kind.loss(good, tight).backward()
    moved = logprobs.grad[good["response_mask"]] != 0
    assert moved.all() if kind is WEIGHT else not moved.any()
    assert not logprobs.grad[~good["response_mask"]].any()
