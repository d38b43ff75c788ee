"""The measured sentences: each verdict at a small setting, and where there is a second way to the
number, by that too."""

import math
import statistics

import pytest
import torch

from minippo import ppo, trpo
from minippo.exact import ladder, oracle, qualifications
from minippo.exact.conditions import CONDITIONS
from minippo.exact.estimators import bias_and_variance
from minippo.exact.qualifications import as_text
from minippo.exact.world import TabularPolicy, World
from minippo.kl import exact_kl
from tests.exact.test_surrogates import gpt_in_the_world_of
from tests.helpers import assert_close

NOTHING = 1e-10


# reward-to-go


def test_reward_to_go_changes_nothing_on_outcomes():
    assert qualifications.reward_to_go_on_outcomes(range(2)) == {"largest relative difference": 0}
    # the rewards are of that kind, and not all zero
    world, *_ = ladder.make_world(ladder.reward_functions(0)["outcome-only"], 0)
    before_the_last = world.response_mask[:, 1:]
    assert (
        world.response_rewards[:, :-1][before_the_last] == 0
    ).all() and world.response_rewards.sum(dim=1).abs().min() > 0


def test_the_difference_is_seen_where_there_is_one(monkeypatch):
    policy_gradient, reward_to_go = qualifications.variances(
        "dense", (ladder.weighted(ladder.whole_returns), ladder.weighted(ladder.to_go)), 0
    )
    assert reward_to_go < 0.9 * policy_gradient
    monkeypatch.setattr(
        qualifications,
        "variances",
        lambda kind, losses, seed: [(4.0, 4.0), (4.0, 3.0), (2.0, 3.0)][seed],
    )
    assert qualifications.reward_to_go_on_outcomes(range(3)) == {"largest relative difference": 0.5}
    assert qualifications.reward_to_go_on_outcomes([1]) == {"largest relative difference": 0.25}


def test_reward_to_go_raises_the_variance_of_cancelling_rewards():
    found = qualifications.reward_to_go_on_cancelling_rewards(range(2))
    assert found["policy gradient, largest"] <= NOTHING
    assert 0.05 < found["reward-to-go, least"] <= found["reward-to-go, largest"] < 1
    # every return is 0, so stage 1 has nothing to vary; a first token that is paid r is paid back
    # at the end
    world, *_ = ladder.make_world(ladder.reward_functions(0)["cancelling"], 0)
    assert (
        world.response_rewards.sum(dim=1).abs().max() <= NOTHING
        and world.response_rewards.abs().max() > 0.1
    )


@pytest.mark.parametrize("seeds", [range(1), range(1, 2)])
def test_the_variances_are_those_of_the_seeds_that_were_asked_for(seeds):
    found = qualifications.reward_to_go_on_cancelling_rewards(seeds)
    world, policy, *_ = ladder.make_world(ladder.reward_functions(seeds[0])["cancelling"], seeds[0])
    # grad J is 0, so the total variance is E[|sum_t G_t score_t|^2]
    scores = oracle.score_vectors(policy)[world.state_index, world.response_tokens]
    to_go = world.response_rewards.flip(1).cumsum(dim=1).flip(1)
    squares = (torch.einsum("nt,ntd->nd", to_go, scores) ** 2).sum(dim=1)
    wanted = oracle.response_probabilities(world, policy().detach()) @ squares
    assert_close(
        [found["reward-to-go, least"], found["reward-to-go, largest"]], [wanted.item()] * 2
    )


# baselines


def test_v_is_not_the_best_baseline_of_a_bandit():
    found = qualifications.value_baseline_on_bandits()
    assert found["bandits"] == 1000
    assert 100 < found["V worse than no baseline"] < 500
    assert found["V no worse than the best constant"] == 0
    assert 1.01 < found["median of variance with V / with the best"] < 2


def test_the_formula_for_bandits_against_worlds_of_one_step():
    bandits, arms = 25, 4
    found = qualifications.value_baseline_on_bandits(bandits, arms, seed=3)
    generator = torch.Generator().manual_seed(3)
    logits, rewards = (
        torch.randn(bandits, arms, generator=generator, dtype=torch.float64) for _ in range(2)
    )
    worse, ratios = 0, []
    for z, r in zip(logits, rewards, strict=True):
        world = World(lambda prompt, tokens: r[tokens[0]], vocab_size=arms, response_length=1)
        policy = TabularPolicy(world, generator=generator)
        with torch.no_grad():
            policy.table.copy_(z.unsqueeze(0))
        values, _ = oracle.values_and_action_values(world, policy().detach())
        exact, best = oracle.exact_gradient(world, policy), ladder.best_constant(world, policy)
        none, with_value, with_best = (
            bias_and_variance(world, policy, ladder.weighted(ladder.minus_constant(b)), exact)[1]
            for b in (0.0, values, best)
        )
        worse += with_value > none
        ratios.append(with_value / with_best)
    assert 0 < found["V worse than no baseline"] == worse
    assert found["V no worse than the best constant"] == sum(ratio <= 1 for ratio in ratios) == 0
    assert (
        abs(found["median of variance with V / with the best"] - statistics.median(ratios)) < 1e-9
    )


def test_a_large_constant_is_no_bias_and_much_variance():
    found = qualifications.large_constant_baseline()
    (_, zero), (_, one), (_, ten), (_, hundred) = found.values()
    assert list(found) == ["constant 0", "constant 1", "constant 10", "constant 100"]
    assert all(bias <= NOTHING for bias, _ in found.values())
    # the variance is a parabola in the constant: three points give the fourth
    square = ((ten - zero) / 10 - (one - zero)) / 9
    linear = one - zero - square
    assert_close(hundred, zero + 100 * linear + 100**2 * square)
    assert one < zero and hundred > 1000 * zero  # the returns have mean 1


def test_the_mean_of_the_batch_scales_the_gradient():
    found = qualifications.in_sample_mean()
    assert list(found) == ["n = 2", "n = 3"]
    assert_close([found[name]["factor"] for name in found], [1 / 2, 2 / 3])
    assert all(row["residual"] <= NOTHING for row in found.values())


# the discount


def test_without_gamma_to_the_t_the_discounted_gradient_is_biased():
    gammas = (1.0, 0.99, 0.5)
    found = qualifications.discounted_gradient(gammas=gammas)
    assert list(found) == ["gamma 1", "gamma 0.99", "gamma 0.5"]
    assert all(row["with gamma^t"] <= NOTHING for row in found.values())
    without = [row["without gamma^t"] for row in found.values()]
    assert without[0] <= NOTHING and 1e-3 < without[1] < without[2]
    # a table has the gradient sum_t G_t grad log pi_t -> d(s) pi(a|s) (Q(s,a) - V(s)), and
    # gamma^depth(s) of it for J
    world, policy, *_ = ladder.make_world(ladder.reward_functions(0)["dense"], 0)
    logits = policy().detach()
    for gamma, measured in zip(gammas, without, strict=True):
        values, action_values = oracle.values_and_action_values(world, logits, gamma)
        usual = (
            oracle.reach_probabilities(world, logits).unsqueeze(1)
            * logits.softmax(dim=-1)
            * (action_values - values.unsqueeze(1))
        )
        exact = gamma ** world.depth.double().unsqueeze(1) * usual
        assert abs(measured - ((usual - exact).abs().max() / exact.abs().max()).item()) < NOTHING


# the clip


def test_the_clip_is_no_wall():
    found = qualifications.ratios_after_clipping(seeds=range(2), steps=20)
    assert list(found) == ["clipped, 20 steps", "unclipped, 20 steps"]
    clipped, unclipped = found.values()
    share = "share of tokens outside, mean over seeds"
    assert 0.1 < clipped["least share"] <= clipped[share] <= unclipped[share] <= 1
    assert clipped["ratios from"] < 0.8 and clipped["to"] > 1.2
    # but it holds back
    assert unclipped["ratios from"] < clipped["ratios from"] and unclipped["to"] > clipped["to"]


@pytest.mark.parametrize("seeds", [(4, 5), (5, 4)])
def test_the_shares_are_those_of_the_ratios(seeds):
    found = qualifications.ratios_after_clipping(
        seeds=seeds, steps=3, cliprange=0.1, learning_rate=0.02
    )["clipped, 3 steps"]
    ratios = [
        qualifications.ratios_after(
            lambda **batch: ppo.clipped_surrogate_loss(**batch, cliprange=0.1), seed, 3, 0.02
        )
        for seed in seeds
    ]
    shares = [((x < 0.9) | (x > 1.1)).double().mean().item() for x in ratios]
    assert min(shares) > 0 and shares[0] != shares[1]
    assert_close(found["share of tokens outside, mean over seeds"], sum(shares) / 2)
    assert_close(found["least share"], min(shares))
    assert_close(
        [found["ratios from"], found["to"]],
        [torch.cat(ratios).min().item(), torch.cat(ratios).max().item()],
    )


def test_before_the_first_step_every_ratio_is_1_and_the_first_step_is_not_clipped():
    losses = [
        trpo.surrogate_loss,
        lambda **batch: ppo.clipped_surrogate_loss(**batch, cliprange=0.2),
    ]
    (at_start,) = {
        len(x)
        for x in [qualifications.ratios_after(loss, 0, 0, 1e-2) for loss in losses]
        if (x == 1).all()
    }
    assert at_start >= 64  # tokens of 64 responses
    first, second = (qualifications.ratios_after(loss, 0, 1, 1e-2) for loss in losses)
    assert torch.equal(first, second) and not (first == 1).all()


# TRPO


def test_trpo_with_exact_quantities_keeps_the_kl_and_can_lower_the_objective_by_large_steps_only():
    found = qualifications.trpo_can_lower_the_objective(deltas=(1e-3, 1.0), seeds=(0, 10, 12))
    assert list(found) == ["delta 0.001", "delta 1"]
    small, large = found.values()
    assert small["exact"] == 0 and large["exact"] == 2
    assert small["of"] == large["of"] == 3 and large["sampled"] <= 3
    assert 0.1 < small["largest KL / delta"] <= 1 and 0.1 < large["largest KL / delta"] <= 1


def test_a_batch_of_few_rows_lowers_the_objective_where_many_rows_and_exact_quantities_do_not():
    few, many = (
        qualifications.trpo_can_lower_the_objective(deltas=(1e-2,), seeds=range(3), rows=rows)[
            "delta 0.01"
        ]
        for rows in (2, 400)
    )
    assert few["exact"] == many["exact"] == many["sampled"] == 0 and few["sampled"] > 0


@pytest.mark.parametrize("share, lower", [(0.0, 0), (0.01, 0), (-0.01, 3)])
def test_what_is_counted_and_against_which_kl(monkeypatch, share, lower):
    kls, moved = [], []

    def step(*, loss, kl, parameters, delta, **_):
        parameters = list(parameters)
        for parameter, gradient in zip(
            parameters, torch.autograd.grad(loss(), parameters, materialize_grads=True), strict=True
        ):
            parameter.data -= share * gradient  # down the loss, nowhere, or up
        kls.append(kl().item() / delta)
        moved.append([parameter.detach().clone() for parameter in parameters])

    monkeypatch.setattr(qualifications, "trpo_step", step)
    found = qualifications.trpo_can_lower_the_objective(deltas=(0.5,), seeds=range(3))["delta 0.5"]
    assert found["exact"] == lower and found["of"] == 3
    assert found["largest KL / delta"] == max(0.0, *kls)
    assert (max(kls) > 1e-6) == (share != 0)
    # the first KL again: of the states, as often as the old policy is there
    world, policy, _ = gpt_in_the_world_of(0)
    old_logits = policy().detach()
    for parameter, new in zip(policy.parameters(), moved[0], strict=True):
        parameter.data.copy_(new)
    visits = oracle.reach_probabilities(world, old_logits)
    per_state = exact_kl(
        logits=old_logits.unsqueeze(0), ref_logits=policy().detach().unsqueeze(0)
    ).squeeze(0)
    assert_close(0.5 * kls[0], (visits @ per_state / visits.sum()).item())


# the KL in the reward


def test_only_k1_in_the_reward_leads_to_the_best_policy():
    found = qualifications.kl_estimators_in_the_reward(steps=300)
    assert list(found) == ["k1", "k2", "k3"]
    for name, row in found.items():
        assert list(row) == [f"step {step}" for step in range(0, 301, 50)] + [
            "largest logit at the end"
        ]
        assert_close(row["step 0"], found["k1"]["step 0"])
        assert row["step 300"] < 0.02 if name == "k1" else row["step 300"] > 0.05
    assert found["k1"]["step 300"] < found["k1"]["step 50"] < found["k1"]["step 0"]
    assert (
        found["k3"]["largest logit at the end"] > 50 > 10 > found["k2"]["largest logit at the end"]
    )


# the command


def test_the_command_prints_every_sentence_with_its_numbers(monkeypatch, capsys):
    entries = (
        ("One is said: it is so", lambda: {"n": 3, "share": 0.123456}),
        (
            "Another is said: it is not",
            lambda: {"k1": {"step 0": 0.5, "end": math.nan}, "pair": (1e-17, 2)},
        ),
    )
    monkeypatch.setattr(qualifications, "QUALIFICATIONS", entries)
    assert qualifications.main([]) == 0
    assert capsys.readouterr().out.splitlines() == [
        "One is said: it is so",
        "    n: 3",
        "    share: 0.123",
        "Another is said: it is not",
        "    k1: step 0 0.5, end nan",
        "    pair: (1e-17, 2)",
    ]


def test_every_measure_has_its_sentence():
    sentences, measures = zip(*qualifications.QUALIFICATIONS, strict=True)
    assert [measure.__name__ for measure in measures] == [
        "reward_to_go_on_outcomes",
        "reward_to_go_on_cancelling_rewards",
        "value_baseline_on_bandits",
        "large_constant_baseline",
        "in_sample_mean",
        "discounted_gradient",
        "ratios_after_clipping",
        "trpo_can_lower_the_objective",
        "kl_estimators_in_the_reward",
        *(measure.__name__ for _, measure in CONDITIONS),
    ]
    assert len(set(sentences)) == len(sentences) and all(
        sentence and "\n" not in sentence for sentence in sentences
    )


@pytest.mark.parametrize(
    "value, text",
    [
        (0.123456, "0.123"),
        (3, "3"),
        (1000, "1000"),
        (0.0, "0"),
        (1e-17, "1e-17"),
        (12345.6, "1.23e+04"),
        ((1.0, 2), "(1, 2)"),
        ({"a": 1.5, "b": {"c": 2}}, "a 1.5, b c 2"),
        (math.inf, "inf"),
    ],
)
def test_numbers_as_text(value, text):
    assert as_text(value) == text
