"""Every algorithm in the trainer: the same first rollout, the same metrics, the same ends."""

import copy
import itertools
import math

import pytest
import torch

from minippo.algorithms import REGISTRY
from minippo.algorithms.base import PAIRS
from minippo.algorithms.direct import OF_RATIOS
from minippo.errors import InputError, TrainingError
from tests.worlds import ragged, weights_of

NAMES = [
    "update",
    "episode",
    "lr",
    "objective/kl",
    "objective/kl_policy_to_ref_exact",
    "objective/entropy",
    "objective/non_score_reward",
    "objective/scores",
    "objective/rlhf_reward",
    "objective/gold",
    "objective/kl_coef",
    "objective/kl_se",
    "policy/approxkl_avg",
    "policy/clipfrac_avg",
    "policy/entropy_avg",
    "policy/grad_norm",
    "policy/kl_old_to_policy",
    "policy/without_gradient",
    "loss/policy_avg",
    "val/ratio",
    "val/ratio_var",
    "val/ratio_max_deviation_first",
    "val/num_eos_tokens",
    "val/eos_rate",
    "val/response_length",
    "val/score_std",
    "val/reward_avg",
    "sample/logp_gap",
]
OF_A_CRITIC = {
    "loss/value_avg",
    "val/clipfrac_avg",
    "val/explained_variance",
    "val/explained_variance_returns",
    "val/critic_head_change",
}
OWN = {
    "trpo": {"policy/step_share"},
    "ppo_kl": {"objective/kl_old_coef"},
    "ppo_adaptive_kl": {"objective/kl_old_coef"},
}
OF_THE_CRITIC = ("old_values", "end_values")
STAGES_1_TO_4 = ("pg", "rtg", "baseline", "gae")
FROM_PAIRS = tuple(name for name, record in REGISTRY.items() if record.learns_from == PAIRS)
OF_PAIRS = {"val/pair_margin", "val/pair_accuracy"}
OWN |= dict.fromkeys(FROM_PAIRS, OF_PAIRS)
OWN["dapo"] = {"val/draws", "val/groups_that_differ", "val/batch_rows"}
FROM_ROLLOUTS = tuple(name for name in REGISTRY if name not in FROM_PAIRS)


# -- what all have in common


@pytest.mark.slow
def test_all_see_the_same_first_rollout_and_then_go_their_own_ways():
    firsts, policies = {}, {}
    for algorithm in REGISTRY:
        world = ragged(num_updates=1, samples_per_prompt=4)
        (step,) = world.updates(algorithm)
        rollout = step.rollout
        sampled = {k: x for k, x in vars(rollout).items() if k not in OF_THE_CRITIC}
        firsts[algorithm] = sampled
        policies[algorithm] = weights_of(world.policy)
    for algorithm in FROM_ROLLOUTS:
        assert all(torch.equal(x, firsts["ppo"][name]) for name, x in firsts[algorithm].items())
    same = {
        ("pg", "rtg"),  # the policy still is the reference: no KL, the only reward is the last
        ("ppo_kl", "ppo_adaptive_kl"),
    }  # the price has not been adapted yet
    for one, other in itertools.combinations(REGISTRY, 2):
        assert torch.equal(policies[one], policies[other]) == ((one, other) in same), (one, other)


@pytest.mark.parametrize("algorithm", REGISTRY)
def test_the_metrics_are_the_same_for_all(algorithm):
    of_a_critic = OF_A_CRITIC if REGISTRY[algorithm].has_critic else set()
    wanted = {*NAMES} | of_a_critic | OWN.get(algorithm, set())
    none = {"objective/gold", "policy/without_gradient"}
    none |= {*OF_RATIOS} if algorithm in FROM_PAIRS else set()
    none |= {"policy/grad_norm"} if algorithm == "trpo" else set()
    none |= {"policy/clipfrac_avg"} if algorithm == "rft" else set()
    for row, _, tokens, _ in ragged().updates(algorithm):
        assert set(row) == wanted
        assert {name for name, value in row.items() if value is None} == none
        assert all(math.isfinite(value) for value in row.values() if value is not None)
        assert (row["val/ratio_max_deviation_first"] or 0) < 1e-5
        assert row["policy/kl_old_to_policy"] > 0
        assert len(tokens["ratios"]) == len(tokens["advantages"])
        assert (len(tokens["ratios"]) > 0) == (algorithm not in FROM_PAIRS)


@pytest.mark.parametrize("algorithm", REGISTRY)
def test_the_same_seed_gives_the_same_bits(algorithm):
    worlds = [ragged(), ragged()]
    rows = [world.train(algorithm) for world in worlds]
    assert rows[0] == rows[1] and torch.equal(*(weights_of(world.policy) for world in worlds))


@pytest.mark.parametrize("algorithm", FROM_ROLLOUTS)
def test_a_score_that_breaks_stops_the_run_and_names_the_update(algorithm):
    world, scores = ragged(), iter((1.0, math.nan))
    world.score_function = lambda tokens, mask: tokens[:, -1] * next(scores)
    with pytest.raises(
        TrainingError,
        match="^policy, update 2: scores is nan in 32 of 32 places; look at the reward model$",
    ):
        world.train(algorithm)


@pytest.mark.parametrize("algorithm", FROM_ROLLOUTS)
def test_a_loss_that_breaks_stops_the_run_and_names_the_update(algorithm):
    world = ragged(gamma=1.0)
    # its square and its sums overflow; where a group is the scale, the parameters do
    world.score_function = lambda tokens, mask: torch.full((len(tokens),), 3e38)
    if not REGISTRY[algorithm].has_critic and algorithm not in ("pg", "rtg"):
        world = ragged(learning_rate=1e38)
    with pytest.raises(TrainingError, match="^policy, update 1: "):
        world.train(algorithm)


# -- a training that is stopped and taken up again


@pytest.mark.parametrize("algorithm", REGISTRY)
def test_a_training_taken_up_again_goes_on_as_if_it_had_not_been_stopped(algorithm):
    whole, kept = ragged(num_updates=4), {}
    rows = []
    for step in whole.updates(algorithm):
        rows.append(step.row)
        kept[step.row["update"]] = copy.deepcopy(step.state())
    for update in (1, 3):
        # other weights, another generator: all must come from the state
        later = ragged(num_updates=4, seed=99)
        later.reference, later.config = whole.reference, whole.config
        found = later.train(algorithm, start=kept[update])
        assert found == rows[update:]
        for model, wanted in zip(later.models(algorithm), whole.models(algorithm), strict=True):
            assert model is None or torch.equal(weights_of(model), weights_of(wanted))


def test_a_state_of_another_training_is_refused():
    (step,) = ragged(num_updates=1).updates()
    tensors, numbers = step.state()
    for broken in (
        {name: x for name, x in tensors.items() if name != "generator"},
        {name: x for name, x in tensors.items() if name != "policy.wte.weight"},
        tensors | {"optimizer 0.0.exp_avg": torch.zeros(3)},
        tensors | {"critic.head.bias": torch.zeros(9)},
    ):
        with pytest.raises(InputError, match="not the state of this training"):
            ragged(num_updates=1).train(start=(broken, numbers))
