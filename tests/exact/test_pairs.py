"""Losses on infinitely many pairs: DPO ends at the best policy, the others elsewhere."""

from functools import partial

import torch

from minippo.exact.pairs import mean_loss_gradient, minimum, pair_chances
from minippo.relatives import direct
from tests.exact.test_ends import BANDIT, PRICE, REF, SCORES, probabilities, tilted
from tests.exact.test_groups import PROBLEM
from tests.helpers import assert_close


def test_the_pairs_by_hand():
    chances = pair_chances(BANDIT)
    assert_close(chances.sum(), 1.0)
    wins = torch.sigmoid(SCORES[0] - SCORES[2])
    assert_close(chances[0, 2], 2 * 0.4 * 0.2 * wins)
    assert_close(chances[2, 0], 2 * 0.4 * 0.2 * (1 - wins))


def test_dpo_ends_at_the_best_policy_and_smoothed_labels_elsewhere():
    loss = partial(direct.dpo_loss, beta=PRICE)
    logits, found = minimum(BANDIT, loss, 1 / PRICE**2)
    assert found
    torch.testing.assert_close(probabilities(logits), tilted(PRICE), rtol=0, atol=1e-7)
    smoothed = partial(direct.label_smoothed_dpo_loss, beta=PRICE, label_smoothing=0.1)
    logits, found = minimum(BANDIT, smoothed, 1 / PRICE**2)
    assert found and (probabilities(logits) - tilted(PRICE)).abs().max() > 0.01


def test_ipo_ends_at_its_closed_form():
    """ref exp((the chance to beat a response of the reference - 1/2) / beta) / Z."""
    logits, found = minimum(BANDIT, partial(direct.ipo_loss, beta=PRICE), 0.25)
    wins = torch.sigmoid(SCORES.unsqueeze(1) - SCORES) @ REF
    wanted = REF * ((wins - 0.5) / PRICE).exp()
    assert found
    torch.testing.assert_close(probabilities(logits), wanted / wanted.sum(), rtol=0, atol=1e-7)


def test_the_gradient_is_0_at_the_best_policy_of_whole_responses_too():
    best = PROBLEM.best()
    loss = partial(direct.dpo_loss, beta=PROBLEM.kl_coef)
    assert mean_loss_gradient(PROBLEM, loss, best).abs().max() < 1e-10
    assert mean_loss_gradient(PROBLEM, loss, PROBLEM.ref_logits).abs().max() > 1e-3


def test_nothing_found_is_said(monkeypatch):
    monkeypatch.setattr("minippo.exact.pairs.MOST_STEPS", 3)
    _, found = minimum(BANDIT, partial(direct.dpo_loss, beta=PRICE), 0.1)
    assert not found
