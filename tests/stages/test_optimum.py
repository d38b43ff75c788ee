"""The estimate of the best possible objective against a world small enough to enumerate."""

import itertools
import math
from types import SimpleNamespace

import pytest
import torch

from minippo.commands.config import PPOConfig
from minippo.rollout import (
    Models,
    Responses,
    apply_eos_rule,
    join,
    response_logits,
    response_logprobs,
)
from minippo.stages.optimum import (
    Draws,
    best_of_n,
    draw_from_both,
    estimate_optimum,
    log_weights,
    optimal_frontier,
    policy_and_reference,
)
from tests.helpers import assert_close, f64, small_gpt

PAD, EOS, KL_COEF = 0, 2, 0.5
CONFIG = PPOConfig(response_length=3, no_eos_score=-1.0)
TOKENIZER = SimpleNamespace(eos_id=EOS, pad_id=PAD)


def score(tokens, mask):
    """Any function of the whole text: here a linear one, different for each position."""
    weights = torch.tensor([0.3, -0.2, 0.5, -0.4, 0.35], dtype=torch.float64)
    return ((tokens * mask) * weights[: tokens.shape[1]]).sum(dim=1)


def every_response(vocab_size=5, length=3):
    """All responses up to the length: those that end with EOS, and those that are cut off."""
    words = [token for token in range(vocab_size) if token != EOS]
    rows = [(*head, EOS) for n in range(length) for head in itertools.product(words, repeat=n)]
    rows += list(itertools.product(words, repeat=length))
    tokens = torch.tensor([[*row, *[PAD] * (length - len(row))] for row in rows])
    return tokens, torch.arange(length) < torch.tensor([len(row) for row in rows]).unsqueeze(1)


def exact(policy, reference, prompt):
    """(scores, log pi, log pi_ref) of every response to one prompt."""
    tokens, mask = every_response()
    batch = Responses(*(x.expand(len(tokens), -1) for x in prompt), tokens, mask)
    scores = apply_eos_rule(
        score(*join(*vars(batch).values())),
        (tokens == EOS).any(dim=1),
        no_eos_score=-1.0,
        missing_eos_penalty=0.0,
    )
    return scores, *(
        response_logprobs(response_logits(m, batch, 1.0), batch).sum(dim=1).detach()
        for m in (policy, reference)
    )


PROMPTS = (torch.tensor([[1, 3], [1, 4]]), torch.ones(2, 2, dtype=torch.bool))


@pytest.fixture(scope="module")
def world():
    policy, reference = small_gpt(vocab_size=5, seed=1), small_gpt(vocab_size=5, seed=2)
    draws = draw_from_both(
        Models(policy, reference, None),
        score,
        PROMPTS,
        draws=20000,
        config=CONFIG,
        tokenizer=TOKENIZER,
        generator=torch.Generator().manual_seed(0),
    )
    enumerated = [exact(policy, reference, [x[i : i + 1] for x in PROMPTS]) for i in range(2)]
    return draws, enumerated


def test_the_enumeration_is_complete(world):
    for _, logprobs, ref_logprobs in world[1]:
        assert_close(logprobs.exp().sum(), 1.0)
        assert_close(ref_logprobs.exp().sum(), 1.0)


def test_the_estimate_agrees_with_the_exact_optimum_and_its_interval_covers_it(world):
    draws, enumerated = world
    truth = (
        sum(
            KL_COEF * torch.logsumexp(ref + scores / KL_COEF, 0).item()
            for scores, _, ref in enumerated
        )
        / 2
    )
    estimate = estimate_optimum(draws, KL_COEF)
    assert estimate["low"] - 0.002 < truth < estimate["high"] + 0.002
    assert estimate["high"] - estimate["low"] < 0.04 and estimate["prompts"] == 2
    assert estimate["draws_per_prompt"] == 40000


@pytest.mark.slow
def test_the_interval_covers_the_truth_about_as_often_as_it_says():
    policy, reference = small_gpt(vocab_size=5, seed=1), small_gpt(vocab_size=5, seed=2)
    enumerated = [exact(policy, reference, [x[i : i + 1] for x in PROMPTS]) for i in range(2)]
    truth = (
        sum(
            KL_COEF * torch.logsumexp(ref + scores / KL_COEF, 0).item()
            for scores, _, ref in enumerated
        )
        / 2
    )
    hits = 0
    for seed in range(100):
        draws = draw_from_both(
            Models(policy, reference, None),
            score,
            PROMPTS,
            draws=200,
            config=CONFIG,
            tokenizer=TOKENIZER,
            generator=torch.Generator().manual_seed(seed),
        )
        estimate = estimate_optimum(draws, KL_COEF)
        hits += estimate["low"] <= truth <= estimate["high"]
    assert hits >= 88


def test_the_policys_and_the_references_own_figures_agree_with_the_enumeration(world):
    draws, enumerated = world
    own, reference = policy_and_reference(draws, KL_COEF)
    kl = sum((p.exp() * (p - ref)).sum().item() for _, p, ref in enumerated) / 2
    assert own["kl"] == pytest.approx(kl, abs=0.02)
    assert own["score"] == pytest.approx(
        sum((p.exp() * s).sum().item() for s, p, _ in enumerated) / 2, abs=0.02
    )
    assert reference["score"] == pytest.approx(
        sum((r.exp() * s).sum().item() for s, _, r in enumerated) / 2, abs=0.02
    )
    assert own["objective"] == pytest.approx(own["score"] - KL_COEF * own["kl"])
    assert reference["kl"] == 0.0 and reference["objective"] == reference["score"]


def test_the_frontier_agrees_with_the_enumeration_and_rises(world):
    draws, enumerated = world
    points = optimal_frontier(draws, KL_COEF)
    for factor, (kl, reward) in zip(
        sorted((1.3**k for k in range(18)), reverse=True), points, strict=True
    ):
        wanted_kl = wanted_reward = 0.0
        for scores, _, ref in enumerated:
            optimal = torch.softmax(ref + scores / (factor * KL_COEF), 0)
            wanted_kl += (optimal * (optimal.log() - ref)).sum().item() / 2
            wanted_reward += (optimal * scores).sum().item() / 2
        assert kl == pytest.approx(wanted_kl, abs=0.02) and reward == pytest.approx(
            wanted_reward, abs=0.02
        )
    assert points == sorted(points) and [reward for _, reward in points] == sorted(
        reward for _, reward in points
    )


def test_weights_by_hand():
    # One draw each: under the policy 0.5 and 0.2, under the reference 0.1 and 0.4, scores 1 and 0,
    # c = 0.5.
    draws = Draws(f64([[1.0, 0.0]]), f64([[0.5, 0.2]]).log(), f64([[0.1, 0.4]]).log())
    # 0.1 / 0.3 * e^2 and 0.4 / 0.3 * 1
    assert_close(log_weights(draws, 0.5).exp(), f64([[math.exp(2) / 3, 4 / 3]]))
    assert estimate_optimum(draws, 0.5)["objective"] == pytest.approx(
        0.5 * math.log((math.exp(2) / 3 + 4 / 3) / 2)
    )


@pytest.mark.parametrize("kl_coef", [5e-324, 1e-320, 1e-300, 1e-12])
def test_a_price_that_is_next_to_nothing_leaves_the_best_score(kl_coef):
    # Two draws of three are as good as the best one, which the reference makes as often as the
    # policy: Z = 2/3 exp(3 / c).
    scores, zeros = f64([[3.0, 1.0, 3.0], [-2.0, -2.0, -7.0]]), torch.zeros(2, 3).double()
    draws = Draws(scores, zeros, zeros)
    estimate = estimate_optimum(draws, kl_coef)
    assert estimate["objective"] == pytest.approx((3 - 2) / 2) and estimate["low"] <= 0.5
    assert estimate["effective_sample_size"] == pytest.approx(2)
    kl, score = optimal_frontier(draws, kl_coef)[-1]
    assert (kl, score) == pytest.approx((math.log(1.5), 0.5))


@pytest.mark.parametrize("kl_coef", [0.4, 0.6, 1.0])
def test_few_effective_draws_make_the_optimum_too_low(kl_coef):
    """Normal scores of a reference: c log Z = 1 / 2c. What is estimated lies below on average, and
    the further below the fewer draws count."""
    generator = torch.Generator().manual_seed(0)
    scores = torch.randn(2000, 8, dtype=torch.float64, generator=generator)
    zeros = torch.zeros_like(scores)
    estimate = estimate_optimum(Draws(scores, zeros, zeros), kl_coef)
    assert estimate["effective_sample_size"] < 6 and estimate["high"] < 1 / (2 * kl_coef)


def test_equal_weights_have_the_effective_size_of_all_draws():
    draws = Draws(*(torch.zeros(3, 8, dtype=torch.float64) for _ in range(3)))
    estimate = estimate_optimum(draws, 1.0)
    assert (
        estimate["effective_sample_size"] == pytest.approx(8)
        and estimate["low"] == estimate["high"] == 0.0
    )


def test_one_weight_above_all_others_has_the_effective_size_1():
    scores = torch.zeros(1, 8, dtype=torch.float64)
    scores[0, 3] = 100.0
    zeros = torch.zeros_like(scores)
    assert estimate_optimum(Draws(scores, zeros, zeros), 1.0)[
        "effective_sample_size"
    ] == pytest.approx(1)


def test_best_of_n_takes_the_references_draws_only():
    scores = torch.cat((torch.arange(8.0).view(1, 8), torch.full((1, 8), 99.0)), dim=1).double()
    draws = Draws(scores, torch.zeros_like(scores), torch.zeros_like(scores))
    # Pairs (0,1) (2,3) (4,5) (6,7): their best are 1, 3, 5, 7, mean 4. The KL bound of n = 2 is log
    # 2 - 1/2.
    assert best_of_n(draws) == [(2, pytest.approx(math.log(2) - 0.5), 4.0)]


def test_scoring_each_different_response_once_gives_what_scoring_all_gives():
    policy, reference = small_gpt(vocab_size=5, seed=1), small_gpt(vocab_size=5, seed=2)
    calls = []

    def counting(tokens, mask):
        calls.append(len(tokens))
        return score(tokens, mask)

    draws = draw_from_both(
        Models(policy, reference, None),
        counting,
        PROMPTS,
        draws=500,
        config=CONFIG,
        tokenizer=TOKENIZER,
        generator=torch.Generator().manual_seed(0),
    )
    assert draws.scores.shape == (2, 1000) and max(calls) <= len(every_response()[0])
