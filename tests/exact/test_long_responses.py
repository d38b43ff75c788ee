"""What lam leaves of a score on its way to the first token, in a chain."""

import math

import pytest
import torch

from minippo.exact import long_responses as long


def binomial(n: int, throws: int, heads: float) -> float:
    """The probability of at most n heads."""
    return sum(
        math.comb(throws, k) * heads**k * (1 - heads) ** (throws - k)
        for k in range(min(n, throws) + 1)
    )


@pytest.mark.parametrize("length", [1, 2, 48])
@pytest.mark.parametrize("lam", [0.0, 0.5, 0.95, 1.0])
def test_a_critic_that_knows_nothing_leaves_a_power_of_lam(length, lam):
    batch = long.chain(length)
    found = long.share_that_arrives(batch, torch.zeros_like(batch["rewards"]), lam)
    assert found == pytest.approx(lam ** (length - 1))


def test_a_critic_that_knows_all_leaves_everything():
    batch = long.chain(10)
    values = batch["rewards"].sum(dim=1, keepdim=True).expand(2, 10).clone()
    values[:, 0] = 0.5
    assert long.share_that_arrives(batch, values, 0.3) == pytest.approx(1.0)


def test_after_n_fits_the_share_is_that_of_at_most_n_heads():
    wanted = [binomial(n, long.LENGTH - 1, 1 - long.LAM) for n in long.FITS]
    rows = long.critic_rows()
    assert [row["fits"] for row in rows] == list(long.FITS)
    assert [row["0.95"]["share"] for row in rows] == pytest.approx(wanted)


def test_with_lam_1_one_fit_is_enough_and_the_returns_are_the_targets():
    rows = [row["1"] for row in long.critic_rows()]
    assert rows[0]["share"] < 0.1 and all(row["share"] == pytest.approx(1) for row in rows[1:])
    for row in rows:
        assert row["targets"] == pytest.approx(row["returns"])


def test_its_own_targets_flatter_a_critic_that_is_behind():
    for row in long.critic_rows()[1:4]:
        assert row["0.95"]["targets"] > row["0.95"]["returns"] + 0.005


def test_the_lengths():
    rows = long.without_a_critic_rows()
    assert [row["length"] for row in rows] == list(long.LENGTHS)
    assert rows[-1]["share"] == pytest.approx(0.95**47)


def test_a_fit_by_hand():
    """Two tokens, lam 1/2, V = 0: targets 1/2 and 1 in the good row, 0 in the other; the first
    state is one for both and gets 1/4."""
    batch = long.chain(2)
    values, targets = long.fitted(batch, torch.zeros(2, 2, dtype=torch.float64), 0.5)
    assert targets.tolist() == [[0.5, 1.0], [0.0, 0.0]]
    assert values.tolist() == [[0.25, 1.0], [0.25, 0.0]]
