"""TRPO in the trainer: it stays in its region, and uses it."""

import pytest
import torch

from tests.worlds import ragged, weights_of

STAGES_1_TO_4 = ("pg", "rtg", "baseline", "gae")
WITHOUT_CRITIC = ("pg", "rtg")


# -- TRPO


@pytest.mark.parametrize("max_kl", [1e-4, 1e-2])
def test_trpo_stays_in_its_region_and_uses_it(max_kl):
    for row in ragged(max_kl=max_kl, damping=1e-4).train("trpo"):
        assert (
            0.1 * max_kl < row["policy/kl_old_to_policy"] <= max_kl * (1 + 1e-3)
            and 0 < row["policy/step_share"] <= 1
        )


def test_trpo_stays_where_it_is_when_all_advantages_are_0():
    world = ragged(num_updates=1, kl_coef=1e-30)
    torch.nn.init.zeros_(world.critic.head.weight)
    world.score_function = lambda tokens, mask: torch.zeros(len(tokens))
    before = weights_of(world.policy)
    (row,) = world.train("trpo")
    assert torch.equal(before, weights_of(world.policy)) and row["policy/step_share"] == 0
