"""The bias of each choice, exactly: which are right, and which are not, in one world."""

import pytest
import torch

from minippo.algorithms.config import PPOConfig
from minippo.exact.choices import (
    CHOICES,
    PLAIN,
    RESPONSES,
    bias_and_cosine,
    main,
    mean_gradient,
    objective,
    small_world,
    table,
    whole_batch,
)
from minippo.exact.oracle import response_probabilities
from tests.helpers import assert_close, f64

SMALL = small_world(3)
RIGHT = {  # with a right critic; the others are not
    "the default without whitening, lam 1",
    "the default without whitening, lam 0.95",
    "lam 0",
    "whitened over the rollout",
    "whitened, with Bessel",
    "the whole response as one action",
    "score behind EOS, its value kept",
    "bootstrap where the length cut off",
    "no EOS: score replaced by -1",
    "no EOS: 1 subtracted",
    "sum per response",
    "sum over a constant",
    "k2 of the response as a loss",
    "weighted k1 of the response as a loss",
}


def found_and_right(settings, critic=1.0):
    config = PPOConfig(**{**PLAIN, **settings})
    logits = SMALL.logits.clone().requires_grad_()
    (right,) = torch.autograd.grad(objective(SMALL, logits, config), logits)
    return mean_gradient(SMALL, config, critic), right


@pytest.mark.parametrize(("name", "settings"), CHOICES, ids=lambda x: x if type(x) is str else "")
def test_with_a_right_critic(name, settings):
    bias, cosine = bias_and_cosine(*found_and_right(settings))
    assert (bias < 1e-9) == (name in RIGHT) == (cosine > 1 - 1e-9), (bias, cosine)


def test_up_to_the_token_mean_it_is_the_gradient_itself():
    found, right = found_and_right({"lam": 1.0, "loss_reduction": "sequence_sum"})
    assert_close(found, right)


def test_k1_as_a_loss_does_what_no_kl_does():
    settings = dict(CHOICES)
    nothing, k1 = (found_and_right(settings[name])[0] for name in ("no KL", "k1 as a loss"))
    assert_close(k1, nothing)


def test_the_batch_is_the_distribution():
    rollout = whole_batch(SMALL, PPOConfig(**PLAIN), 1.0)
    p = response_probabilities(SMALL.world, SMALL.logits)
    assert len(rollout) == RESPONSES and SMALL.counts.min() >= 1
    assert_close(SMALL.counts / RESPONSES, p)


def test_the_two_numbers_by_hand():
    # 3 along (1, 0) and 4 across: |4| / |3|, and 3 / 5
    assert bias_and_cosine(f64([3, 4]), f64([2, 0])) == pytest.approx((4 / 3, 3 / 5))


def test_the_table_is_printed(capsys, monkeypatch):
    monkeypatch.setattr("minippo.exact.choices.CHOICES", CHOICES[:2])
    monkeypatch.setattr("minippo.exact.choices.table", lambda: table(worlds=1))
    assert main([]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 4 and lines[2].startswith(CHOICES[0][0]) and " 1.000 " in lines[2]
