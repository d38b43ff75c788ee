"""Pairs: which is chosen, which step is taken, and what is logged."""

import math

import pytest
import torch

from minippo.algorithms import REGISTRY, direct
from minippo.algorithms.base import PairBatch
from minippo.algorithms.config import PPOConfig
from minippo.relatives.direct import dpo_loss, ipo_loss
from minippo.rollout import Models, response_logits, response_logprobs
from minippo.stages.pairs import Deal
from tests.helpers import assert_close, f64
from tests.worlds import BOS, Probe, good_token, ragged

# two prompts with three responses; pairs (0,1), (0,2), (1,2)
LABELS = torch.tensor([[1, -1, 0], [0, 0, -1]])
LOGPROBS = f64([[-1, -2, -3], [-4, -5, -6]])
REF = f64([[-10, -20, -30], [-40, -50, -60]])


def test_the_pairs_that_were_compared_by_hand():
    found = direct.compared(LOGPROBS, PairBatch(None, LABELS, REF, 1.0))
    wanted = {
        "chosen_logprobs": [-1, -3, -6],  # 0 before 1, 2 before 0, and 2 before 1
        "rejected_logprobs": [-2, -1, -5],
        "ref_chosen_logprobs": [-10, -30, -60],
        "ref_rejected_logprobs": [-20, -10, -50],
    }
    assert {name: x.tolist() for name, x in found.items()} == wanted


def test_the_loss_is_that_of_its_formula():
    # margins 1 - 10 = -9 (chosen -1 + 10 = 9, rejected -2 + 20 = 18), 27 - 9 = 18, 54 - 45 = 9
    pairs = direct.compared(LOGPROBS, PairBatch(None, LABELS, REF, 1.0))
    config = PPOConfig()
    margins = (-9, 18, 9)
    wanted = sum(math.log(1 + math.exp(-0.1 * h)) for h in margins) / 3
    assert_close(direct.logistic(pairs, 0.1, config), f64(wanted))
    wanted = sum((h - 5) ** 2 for h in margins) / 3  # 1 / (2 * 0.1)
    assert_close(direct.squared(pairs, 0.1, config), f64(wanted))


@pytest.mark.parametrize("algorithm, loss", [("dpo", dpo_loss), ("ipo", ipo_loss)])
def test_the_step_is_along_the_gradient_of_the_loss_on_pairs(algorithm, loss, monkeypatch):
    world, seen = ragged(num_updates=2), []
    for parameter in world.policy.parameters():
        torch.nn.init.normal_(parameter, std=0.3, generator=torch.Generator().manual_seed(1))

    def watch(optimizers, value, *_, **__):
        parameters = optimizers[0].param_groups[0]["params"]
        seen.append(torch.autograd.grad(value, parameters, materialize_grads=True))
        return 0.0

    monkeypatch.setattr(direct, "take_step", watch)
    models, pairs = world.models(algorithm), world.pairs()
    batches = Deal(pairs, models, world.config).of_update(1)
    update = REGISTRY[algorithm].update(models, world.config, world.generator)
    metrics = update(batches, learning_rate=0.1, where="here").metrics
    assert len(seen) == len(batches)
    first = batches[0]
    sums = response_logprobs(response_logits(world.policy, first.responses, 1.0), first.responses)
    sums = sums.sum(dim=1).view_as(first.ref_logprobs)
    chosen, rejected = [], []
    for row, labels in enumerate(first.labels.tolist()):
        for label, (i, j) in zip(
            labels, [(0, 1), (0, 2), (0, 3), (1, 2), (1, 3), (2, 3)], strict=True
        ):
            if label:
                chosen.append((row, i if label > 0 else j))
                rejected.append((row, j if label > 0 else i))
    four = {
        f"{prefix}{name}_logprobs": torch.stack([x[place] for place in places])
        for prefix, x in (("", sums), ("ref_", first.ref_logprobs))
        for name, places in (("chosen", chosen), ("rejected", rejected))
    }
    wanted = torch.autograd.grad(
        loss(**four, beta=0.1), list(world.policy.parameters()), materialize_grads=True
    )
    for found, gradient in zip(seen[0], wanted, strict=True):
        torch.testing.assert_close(found, gradient, rtol=1e-4, atol=1e-6)
    assert max(x.abs().max() for x in wanted) > 1e-5
    assert set(metrics) >= {"val/pair_margin", "val/pair_accuracy", *direct.OF_RATIOS}


def test_what_is_logged_of_the_pairs_by_hand(monkeypatch):
    world = ragged(num_updates=1)
    update = REGISTRY["dpo"].update(world.models("dpo"), world.config, world.generator)
    (batch, *_) = Deal(world.pairs(), world.models("dpo"), world.config).of_update(1)
    # margins -9, 18, 9 at a price of 0.1
    monkeypatch.setattr(direct, "compared", lambda sums, _: direct_margins())
    _, statistics = update.loss_of(batch)
    assert statistics["val/pair_margin"].item() == pytest.approx(0.1 * 6)
    assert statistics["val/pair_accuracy"].item() == pytest.approx(2 / 3)


def direct_margins():
    zero = torch.zeros(3)
    return {
        "chosen_logprobs": torch.tensor([-9.0, 18.0, 9.0]),
        "rejected_logprobs": zero,
        "ref_chosen_logprobs": zero,
        "ref_rejected_logprobs": zero,
    }


@pytest.mark.parametrize("algorithm", ["dpo", "ipo"])
def test_the_chosen_becomes_likelier_and_the_reference_stays(algorithm):
    world = Probe(good_token, num_updates=5)
    before = world.probabilities([BOS])[1]
    world.train(algorithm)
    policy, reference = world.probabilities([BOS])
    assert torch.equal(reference, before)
    assert policy[4] > reference[4] and policy[3] < reference[3]


def test_no_model_but_policy_and_reference_is_needed():
    world = ragged(num_updates=1)
    models = world.models("dpo")
    assert models == Models(world.policy, world.reference, None)
    assert not REGISTRY["dpo"].needs_scores and not REGISTRY["dpo"].has_critic
