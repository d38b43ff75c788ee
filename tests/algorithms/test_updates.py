"""Every algorithm of the ladder in the trainer: the same first rollout, the same metrics, and what
is particular to each."""

import copy
import itertools
import math

import pytest
import torch

from minippo import updates
from minippo.algorithms import REGISTRY as ALGORITHMS
from minippo.commands.config import PPOConfig
from minippo.errors import InputError, TrainingError
from minippo.policy_gradient import policy_gradient_loss
from minippo.ppo import adapt_kl_coef
from minippo.rollout import response_logits, response_logprobs
from minippo.stages.policy import UPDATES, WEIGHTS, WITHOUT_CRITIC, estimate_advantages
from tests.helpers import assert_close
from tests.stages.test_policy import BOS, EOS, NAMES, World

STAGES_1_TO_4 = ("pg", "rtg", "baseline", "gae")
OWN = {
    "trpo": {"policy/step_share"},
    "ppo_kl": {"objective/kl_old_coef"},
    "ppo_adaptive_kl": {"objective/kl_old_coef"},
}


def ragged(**settings):
    """A world in which length and content both pay, with EOS, whose critic says something other
    than 0."""
    defaults = dict(
        response_length=4,
        eos_id=EOS,
        prompts=((BOS, 3), (BOS, 5)),
        num_updates=3,
        batch_size=32,
        whiten_advantages=False,
    )
    world = World(lambda tokens, mask: tokens[:, -1].float(), **defaults | settings)
    torch.nn.init.normal_(world.critic.head.weight, generator=torch.Generator().manual_seed(3))
    return world


def records_of(world, **more):
    """[(row, rollout, ratios and advantages)] of a training."""
    records = []
    world.train(on_update=lambda *record: records.append(record[:3]), **more)
    return records


def weights_of(model):
    return torch.cat([parameter.detach().flatten() for parameter in model.parameters()])


# -- what all have in common


def test_every_algorithm_has_an_update_and_its_weights():
    assert (
        tuple(UPDATES) == ALGORITHMS
        and set(WEIGHTS) == set(STAGES_1_TO_4)
        and set(WITHOUT_CRITIC) < set(ALGORITHMS)
    )


def test_all_see_the_same_first_rollout_and_then_go_their_own_ways():
    firsts, policies = {}, {}
    for algorithm in ALGORITHMS:
        world = ragged(num_updates=1)
        ((_, rollout, _),) = records_of(world, algorithm=algorithm)
        firsts[algorithm] = vars(rollout)
        policies[algorithm] = weights_of(world.policy)
    for algorithm in ALGORITHMS:
        assert all(torch.equal(x, firsts["ppo"][name]) for name, x in firsts[algorithm].items())
    same = {
        ("pg", "rtg"),  # the policy still is the reference: no KL, the only reward is the last
        ("ppo_kl", "ppo_adaptive_kl"),
    }  # the price has not been adapted yet
    for one, other in itertools.combinations(ALGORITHMS, 2):
        assert torch.equal(policies[one], policies[other]) == ((one, other) in same), (one, other)


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_the_metrics_are_the_same_for_all(algorithm):
    wanted = {
        *NAMES,
        "policy/kl_old_to_policy",
        "val/reward_avg",
        "policy/without_gradient",
    } | OWN.get(algorithm, set())
    none = (
        {"objective/gold", "policy/without_gradient"}
        | {
            name
            for name in (
                "loss/value_avg",
                "val/clipfrac_avg",
                "val/explained_variance",
                "val/critic_head_change",
            )
            if algorithm in WITHOUT_CRITIC
        }
        | ({"policy/grad_norm"} if algorithm == "trpo" else set())
    )
    for row, _, tokens in records_of(ragged(), algorithm=algorithm):
        assert set(row) == wanted
        assert {name for name, value in row.items() if value is None} == none
        assert all(math.isfinite(value) for value in row.values() if value is not None)
        assert row["val/ratio_max_deviation_first"] < 1e-5 and row["policy/kl_old_to_policy"] > 0
        assert len(tokens["ratios"]) == len(tokens["advantages"]) > 0


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_one_token_is_good_and_every_algorithm_learns_it(algorithm):
    settings = dict(num_updates=150) if algorithm in STAGES_1_TO_4 else {}
    if algorithm == "trpo":
        settings = dict(num_updates=60, max_kl=0.1, damping=1e-3)
    world = World(
        lambda tokens, mask: (tokens[:, -1] == 4).float() - (tokens[:, -1] == 3).float(), **settings
    )
    world.train(algorithm=algorithm)
    policy, reference = world.probabilities([BOS])
    assert reference[4] < 0.5 and policy[4] > 0.95


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_the_same_seed_gives_the_same_bits(algorithm):
    worlds = [ragged(), ragged()]
    rows = [world.train(algorithm=algorithm) for world in worlds]
    assert rows[0] == rows[1] and torch.equal(*(weights_of(world.policy) for world in worlds))


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_a_score_that_breaks_stops_the_run_and_names_the_update(algorithm):
    world, scores = ragged(), iter((1.0, math.nan))
    world.score_function = lambda tokens, mask: tokens[:, -1] * next(scores)
    with pytest.raises(
        TrainingError,
        match="^policy, update 2: scores is nan in 32 of 32 places; look at the reward model$",
    ):
        world.train(algorithm=algorithm)


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_a_loss_that_breaks_stops_the_run_and_names_the_update(algorithm):
    world = ragged(gamma=1.0)
    # its square and its sums overflow
    world.score_function = lambda tokens, mask: torch.full((len(tokens),), 3e38)
    with pytest.raises(TrainingError, match="^policy, update 1: "):
        world.train(algorithm=algorithm)


# -- stages 1 to 4


@pytest.mark.parametrize("algorithm", STAGES_1_TO_4)
def test_the_step_is_along_the_policy_gradient_with_these_weights(algorithm, monkeypatch):
    seen = []
    monkeypatch.setattr(
        updates,
        "take_step",
        lambda optimizer, loss, *_, **__: (
            seen.append(
                torch.autograd.grad(
                    loss, optimizer.param_groups[0]["params"], materialize_grads=True
                )
            )
            or 0.0
        ),
    )
    world = ragged(num_updates=1)
    ((_, rollout, _),) = records_of(world, algorithm=algorithm)
    _, weights, _ = estimate_advantages(rollout, world.config, algorithm)
    logprobs = response_logprobs(response_logits(world.policy, rollout, 1.0), rollout)
    loss = policy_gradient_loss(
        logprobs=logprobs, weights=weights, response_mask=rollout.response_mask
    )
    wanted = torch.autograd.grad(loss, list(world.policy.parameters()), materialize_grads=True)
    assert all(torch.equal(a, b) for a, b in zip(seen[0], wanted))
    assert len(seen) == (
        1
        if algorithm in WITHOUT_CRITIC
        else 1 + world.config.value_epochs * world.config.num_mini_batches
    )


def test_the_weights_of_each_stage_reduce_to_those_of_the_one_before():
    ((_, rollout, _),) = records_of(ragged(num_updates=1, kl_coef=0.3, lam=1.0))
    config = PPOConfig(whiten_advantages=False, kl_coef=0.3, lam=1.0)
    rewards, whole, targets = estimate_advantages(rollout, config, "pg")
    _, to_go, _ = estimate_advantages(rollout, config, "rtg")
    _, with_baseline, monte_carlo_targets = estimate_advantages(rollout, config, "baseline")
    _, gae, gae_targets = estimate_advantages(rollout, config, "gae")
    mask = rollout.response_mask
    assert targets is None and rollout.old_values[mask].abs().min() > 0
    assert_close(whole[:, 0], rewards.sum(dim=1))
    assert_close(to_go[:, 0], whole[:, 0])
    assert_close(with_baseline, torch.where(mask, to_go - rollout.old_values, 0.0))
    assert_close(gae, with_baseline)
    assert_close(monte_carlo_targets, to_go)
    assert_close(gae_targets, to_go)
    assert_close(estimate_advantages(rollout, config, "trpo")[1], gae)


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_the_critic_is_trained_where_there_is_one(algorithm):
    world = ragged()
    before = weights_of(world.critic)
    world.train(algorithm=algorithm)
    assert torch.equal(before, weights_of(world.critic)) == (algorithm in WITHOUT_CRITIC)


def test_more_passes_of_the_critic_leave_the_policys_first_step_as_it_was():
    worlds = [ragged(num_updates=1, value_epochs=epochs) for epochs in (1, 6)]
    for world in worlds:
        world.train(algorithm="gae")
    assert torch.equal(*(weights_of(world.policy) for world in worlds))
    assert not torch.equal(*(weights_of(world.critic) for world in worlds))


# -- TRPO


@pytest.mark.parametrize("max_kl", [1e-4, 1e-2])
def test_trpo_stays_in_its_region_and_uses_it(max_kl):
    for row, *_ in records_of(ragged(max_kl=max_kl, damping=1e-4), algorithm="trpo"):
        assert (
            0.1 * max_kl < row["policy/kl_old_to_policy"] <= max_kl * (1 + 1e-3)
            and 0 < row["policy/step_share"] <= 1
        )


def test_trpo_stays_where_it_is_when_all_advantages_are_0():
    world = ragged(num_updates=1, kl_coef=1e-30)
    torch.nn.init.zeros_(world.critic.head.weight)
    world.score_function = lambda tokens, mask: torch.zeros(len(tokens))
    before = weights_of(world.policy)
    ((row, *_),) = records_of(world, algorithm="trpo")
    assert torch.equal(before, weights_of(world.policy)) and row["policy/step_share"] == 0


# -- PPO's variants


def test_unclipped_is_clipped_with_a_range_that_is_never_left():
    worlds = [ragged(), ragged(cliprange=1e6)]
    for world, algorithm in zip(worlds, ("ppo_unclipped", "ppo")):
        world.train(algorithm=algorithm)
    assert torch.equal(*(weights_of(world.policy) for world in worlds))


def test_a_price_near_0_on_the_kl_is_no_price():
    worlds = [ragged(), ragged(kl_old_coef=1e-30)]
    for world, algorithm in zip(worlds, ("ppo_unclipped", "ppo_kl")):
        world.train(algorithm=algorithm)
    assert_close(*(weights_of(world.policy) for world in worlds))


def test_with_one_step_per_rollout_clipped_and_unclipped_are_the_same():
    worlds = [ragged(num_ppo_epochs=1, num_mini_batches=1) for _ in range(2)]
    for world, algorithm in zip(worlds, ("ppo_unclipped", "ppo")):
        world.train(algorithm=algorithm)
    assert torch.equal(*(weights_of(world.policy) for world in worlds))


def test_a_high_price_on_the_kl_keeps_the_policy_nearer():
    far, near = (
        records_of(ragged(kl_old_coef=price, num_updates=1), algorithm="ppo_kl")[0][0][
            "policy/kl_old_to_policy"
        ]
        for price in (1e-6, 3.0)
    )
    assert near < 0.5 * far


def test_the_adaptive_price_follows_its_rule_and_the_fixed_one_stays():
    records = records_of(
        ragged(num_updates=8, kl_old_coef=0.5, kl_old_target=0.05), algorithm="ppo_adaptive_kl"
    )
    prices = [row["objective/kl_old_coef"] for row, *_ in records]
    assert prices[0] == 0.5 and len(set(prices)) > 1
    for (row, *_), price, following in zip(records, prices, prices[1:]):
        assert following == adapt_kl_coef(
            kl_coef=price, kl=row["policy/kl_old_to_policy"], target=0.05
        )
    fixed = records_of(ragged(kl_old_coef=0.5), algorithm="ppo_kl")
    assert {row["objective/kl_old_coef"] for row, *_ in fixed} == {0.5}


def test_the_kl_to_the_old_policy_is_that_of_the_update_just_made():
    world = ragged(num_updates=1)
    before = copy.deepcopy(world.policy)
    ((row, rollout, _),) = records_of(world)
    old, new = (
        response_logits(model, rollout, 1.0).detach().double().log_softmax(-1)
        for model in (before, world.policy)
    )
    wanted = (old.exp() * (old - new)).sum(-1)[rollout.response_mask].mean()
    assert row["policy/kl_old_to_policy"] == pytest.approx(wanted.item(), rel=1e-3)


# -- a training that is stopped and taken up again


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_a_training_taken_up_again_goes_on_as_if_it_had_not_been_stopped(algorithm):
    whole, kept = ragged(num_updates=4), {}
    rows = whole.train(
        algorithm=algorithm,
        on_update=lambda row, rollout, minibatch, state: kept.setdefault(
            row["update"], copy.deepcopy(state())
        ),
    )
    for update in (1, 3):
        # other weights, another generator: all must come from the state
        later = ragged(num_updates=4, seed=99)
        later.reference, later.config = whole.reference, whole.config
        found = later.train(algorithm=algorithm, start=kept[update])
        assert found == rows[update:]
        for model, wanted in ((later.policy, whole.policy), (later.critic, whole.critic)):
            assert torch.equal(weights_of(model), weights_of(wanted))


def test_a_state_of_another_training_is_refused():
    world, states = ragged(num_updates=1), []
    world.train(on_update=lambda row, rollout, minibatch, state: states.append(state()))
    tensors, numbers = states[0]
    for broken in (
        {name: x for name, x in tensors.items() if name != "generator"},
        {name: x for name, x in tensors.items() if name != "policy.wte.weight"},
        tensors | {"optimizer 0.0.exp_avg": torch.zeros(3)},
        tensors | {"critic.head.bias": torch.zeros(9)},
    ):
        with pytest.raises(InputError, match="not the state of this training"):
            ragged(num_updates=1).train(start=(broken, numbers))
