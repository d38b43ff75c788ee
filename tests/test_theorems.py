"""The theorems of the derivation, by listing every response of a small world. The exact answers
come from the oracle, which goes backwards through the tree of states and does not use the
derivation."""

import copy
import math
import random
from itertools import pairwise
from types import SimpleNamespace

import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from minippo import baseline, gae, kl, ppo, trpo
from minippo.exact import ladder, oracle
from minippo.exact.estimators import bias_and_variance, gradient_samples, mean_and_covariance
from minippo.exact.ladder import (
    minus_constant,
    minus_values,
    ratio_loss,
    to_go,
    weighted,
    whole_returns,
)
from minippo.exact.world import GPTPolicy, TabularPolicy, World
from minippo.masked import whiten
from minippo.policy_gradient import policy_gradient_loss, trajectory_returns
from minippo.reward_to_go import rewards_to_go
from minippo.shaped_reward import shaped_rewards
from tests.helpers import (
    assert_close,
    check_layout_does_not_matter,
    check_padding_is_never_read,
    f64,
    mask_of_lengths,
    ragged_batches,
    value_and_gradients,
)

NO_BIAS = 1e-10
PROMPT_PROBS = {1: None, 2: f64([0.3, 0.7])}
seeds = st.integers(0, 1000)


# worlds


def specs(
    *,
    vocab_sizes=(2, 3),
    lengths=(1, 2, 3),
    prompts=(1, 2),
    has_eos=(True, False),
    policies=("table", "GPT"),
):
    """The plain numbers that make a world, its policy and a critic. With EOS and two steps or more,
    responses are ragged."""
    return st.fixed_dictionaries(
        {
            "vocab_size": st.sampled_from(vocab_sizes),
            "response_length": st.sampled_from(lengths),
            "prompts": st.sampled_from(prompts),
            "has_eos": st.sampled_from(has_eos),
            "policy": st.sampled_from(policies),
            "seed": seeds,
        }
    )


# at most 8 responses, so that all pairs and triples can be listed
few = {"vocab_sizes": (2,), "policies": ("table",)}


def case_of(
    *, vocab_size=3, response_length=3, prompts=1, has_eos=True, policy="table", seed=0, reward=None
):
    """A world with normal rewards, a random policy, the exact gradient and values, and a critic
    that is wrong everywhere."""
    generator = torch.Generator().manual_seed(seed)
    world = World(
        reward or (lambda prompt, tokens: random.Random(f"{seed} {prompt} {tokens}").gauss(0, 1)),
        vocab_size=vocab_size,
        response_length=response_length,
        prompts=prompts,
        prompt_probs=PROMPT_PROBS[prompts],
        has_eos=has_eos,
    )
    policy = (
        TabularPolicy(world, generator=generator)
        if policy == "table"
        else GPTPolicy(world, generator=generator, n_embd=4)
    )
    logits = policy().detach().clone()
    values, action_values = oracle.values_and_action_values(world, logits)
    return SimpleNamespace(
        world=world,
        policy=policy,
        parameters=list(policy.parameters()),
        logits=logits,
        gradient=oracle.exact_gradient(world, policy),
        values=values,
        action_values=action_values,
        probabilities=oracle.response_probabilities(world, logits),
        critic=values + 2 * torch.randn(values.shape, generator=generator, dtype=torch.float64),
        other_logits=torch.randn(logits.shape, generator=generator, dtype=torch.float64),
    )


def case_by_hand(probabilities, reward):
    """A world of two tokens and two steps without EOS: its states are the prompt, after 0, after
    1."""
    case = case_of(vocab_size=2, response_length=2, has_eos=False, reward=reward)
    with torch.no_grad():
        case.policy.table.copy_(f64(probabilities).log())
    case.gradient = oracle.exact_gradient(case.world, case.policy)
    return case


def bias(case, loss, *, values=None, size=1, exact=None):
    """Max abs difference of the estimator's exact mean from the exact gradient."""
    return bias_and_variance(
        case.world,
        case.policy,
        loss,
        case.gradient if exact is None else exact,
        values=values,
        size=size,
    )[0]


def variance(case, loss, **options):
    return bias_and_variance(case.world, case.policy, loss, case.gradient, **options)[1]


def mean_gradient(case, loss, *, values=None, size=1):
    return mean_and_covariance(
        *gradient_samples(case.world, case.policy, loss, values=values, size=size)
    )[0]


def n_step(n):
    return lambda batch: gae.n_step_advantages(
        rewards=batch.rewards,
        values=batch.values,
        response_mask=batch.response_mask,
        gamma=1.0,
        n=n,
    )


# stages 1 to 4: what leaves the expected gradient alone


@settings(max_examples=25)
@given(specs())
def test_stages_1_to_4_are_unbiased_with_any_baseline_that_depends_on_the_state(spec):
    case = case_of(**spec)
    earlier = {
        "rewards": case.world.response_rewards,
        "response_mask": case.world.response_mask,
        "gamma": 1.0,
    }
    # settled before the batch is drawn
    average = baseline.next_moving_average(moving_average=3.0, decay=0.5, **earlier)
    for weights in (whole_returns, to_go, minus_constant(average)):
        assert bias(case, weighted(weights)) <= NO_BIAS
    for weights in (
        lambda batch: whole_returns(batch) - batch.values,
        minus_values,
        ladder.gae(1.0),
        n_step(3),
    ):
        assert bias(case, weighted(weights), values=case.critic) <= NO_BIAS


@settings(max_examples=20)
@given(specs(), st.floats(0, 1), st.integers(1, 3))
def test_with_the_exact_values_every_lam_and_every_n_is_unbiased(spec, lam, n):
    case = case_of(**spec)
    assert bias(case, weighted(ladder.gae(lam)), values=case.values) <= NO_BIAS
    assert bias(case, weighted(n_step(n)), values=case.values) <= NO_BIAS


def action_values(batch):
    """Q of each token, given the exact V: r + V(next), the residual and the value that it lacks."""
    return batch.values + gae.td_residuals(
        rewards=batch.rewards, values=batch.values, response_mask=batch.response_mask, gamma=1.0
    )


@pytest.mark.parametrize("policy", ["table", "GPT"])
def test_the_action_value_is_a_weight_without_bias_too(policy):
    case = case_of(policy=policy, prompts=2)
    assert bias(case, weighted(action_values), values=case.values) <= NO_BIAS
    world = case.world
    chosen = case.action_values[world.state_index, world.response_tokens]
    along = SimpleNamespace(
        rewards=world.response_rewards,
        values=world.along_responses(case.values),
        response_mask=world.response_mask,
    )
    mask = world.response_mask
    assert_close(action_values(along)[mask], chosen[mask])


def test_the_variance_of_every_weight_of_the_table_in_stage_4():
    world, policy, values, _ = ladder.make_world(ladder.reward_functions(0)["dense"], 0)
    weights = (whole_returns, to_go, minus_values, action_values, ladder.gae(0.0))
    found = [
        bias_and_variance(
            world, policy, weighted(x), oracle.exact_gradient(world, policy), values=values
        )
        for x in weights
    ]
    assert max(bias for bias, _ in found) <= NO_BIAS
    assert [round(variance, 2) for _, variance in found] == [32.90, 17.30, 2.69, 16.04, 1.42]


@settings(max_examples=15)
@given(specs(), st.floats(0, 1), st.floats(0, 1))
def test_with_a_discount_all_but_stage_1_need_the_factor_gamma_to_the_t(spec, gamma, lam):
    case = case_of(**spec)
    exact = oracle.exact_gradient(case.world, case.policy, gamma)
    values, _ = oracle.values_and_action_values(case.world, case.logits, gamma)

    def discounted(weights, **options):
        def weights_of(batch):
            found = weights(
                rewards=batch.rewards,
                response_mask=batch.response_mask,
                gamma=gamma,
                **({"values": batch.values, **options} if options else {}),
            )
            return gamma ** torch.arange(found.shape[1]).double() * found

        return weights_of

    def returns(batch):
        return trajectory_returns(
            rewards=batch.rewards, response_mask=batch.response_mask, gamma=gamma
        )

    assert bias(case, weighted(returns), exact=exact) <= NO_BIAS
    assert bias(case, weighted(discounted(rewards_to_go)), exact=exact) <= NO_BIAS
    assert (
        bias(case, weighted(discounted(gae.gae_advantages, lam=lam)), values=values, exact=exact)
        <= NO_BIAS
    )
    assert (
        bias(
            case, weighted(discounted(gae.gae_advantages, lam=1.0)), values=case.critic, exact=exact
        )
        <= NO_BIAS
    )
    assert (
        bias(case, weighted(discounted(gae.n_step_advantages, n=2)), values=values, exact=exact)
        <= NO_BIAS
    )


@settings(max_examples=15)
@given(specs(has_eos=(False,)), st.floats(0, 1), st.tuples(*[st.floats(-5, 5)] * 3))
def test_where_all_responses_are_equally_long_values_off_by_a_number_for_each_step_do_no_harm(
    spec, lam, wrong_by
):
    # the error of A_t is then a number for each step too
    case = case_of(**spec)
    assert (
        bias(case, weighted(ladder.gae(lam)), values=case.values + f64(wrong_by)[case.world.depth])
        <= NO_BIAS
    )


@pytest.mark.parametrize("policy", ["table", "GPT"])
def test_with_ragged_ends_lam_below_1_and_wrong_values_are_a_bias(policy):
    case = case_of(policy=policy)
    for wrong in (case.values + 2, case.critic):
        biases = [bias(case, weighted(ladder.gae(lam)), values=wrong) for lam in (0.0, 0.5, 1.0)]
        assert biases[0] > 0.1 and biases[1] > 0.1 and biases[2] <= NO_BIAS
        assert bias(case, weighted(n_step(1)), values=wrong) > 0.1


@pytest.mark.parametrize(
    "name, number",
    [*[("lam", lam) for lam in (0.0, 0.5, 0.95, 1.0)], *[("n", n) for n in (1, 2, 3)]],
)
def test_that_bias_by_another_way(name, number):
    # values that are 2 too high make delta wrong by -2 on the last token alone, after which the
    # value is 0; so ending looks bad. The estimate at t is wrong by -2 times the share that the
    # last delta has in it, `left` tokens further on
    case = case_of()
    weights = ladder.gae(number) if name == "lam" else n_step(number)
    left = case.world.response_mask.flip(1).cumsum(dim=1).flip(1) - 1
    share = number ** left.double() if name == "lam" else (left < number).double()
    errors = torch.where(case.world.response_mask, -2 * share, 0.0)
    scores = oracle.score_vectors(case.policy)[case.world.state_index, case.world.response_tokens]
    wanted = torch.einsum("n,nt,ntd->d", case.probabilities, errors, scores)
    assert_close(
        mean_gradient(case, weighted(weights), values=case.values + 2) - case.gradient, wanted
    )


def test_a_baseline_that_depends_on_the_action_is_a_bias():
    case = case_of()

    def minus_value_after_the_token(batch):  # the critic read one slot late
        late = torch.cat([batch.values[:, 1:], torch.zeros_like(batch.values[:, :1])], dim=1)
        return to_go(batch) - late

    def minus_half_of_the_return(batch):
        return to_go(batch) / 2

    assert bias(case, weighted(minus_value_after_the_token), values=case.values) > 0.1
    assert_close(mean_gradient(case, weighted(minus_half_of_the_return)), case.gradient / 2)
    assert case.gradient.abs().max() > 0.1


@settings(max_examples=12)
@given(specs(), st.floats(0.01, 5))
def test_no_constant_has_less_variance_than_the_best_one(spec, apart):
    case = case_of(**spec)
    best = ladder.best_constant(case.world, case.policy)
    assert bias(case, weighted(minus_constant(best))) <= NO_BIAS
    least = variance(case, weighted(minus_constant(best)))
    above, below = (
        variance(case, weighted(minus_constant(best + step))) for step in (apart, -apart)
    )
    assert least < above and least < below
    assert abs(above - below) <= 1e-9 * above  # a parabola around the best


# stage 3: baselines that couple the rows of a batch


@settings(max_examples=12)
@given(specs(**few), st.sampled_from([2, 3]))
def test_leave_one_out_is_unbiased(spec, size):
    case = case_of(**spec)
    assume(len(case.probabilities) ** size <= 600)
    probabilities, samples = gradient_samples(
        case.world, case.policy, weighted(ladder.minus_leave_one_out), size=size
    )
    assert_close(mean_and_covariance(probabilities, samples)[0], case.gradient)
    # batch by batch it is n / (n - 1) times what the mean of the batch gives
    _, others = gradient_samples(
        case.world, case.policy, weighted(ladder.minus_batch_mean), size=size
    )
    assert_close(samples, size / (size - 1) * others)


@settings(max_examples=12)
@given(specs(**few), st.sampled_from([2, 3]))
def test_the_mean_of_the_batch_leaves_n_minus_1_nths_of_the_gradient(spec, size):
    # a row's own return is 1/n of its baseline; so it is for several prompts, each row's drawn by
    # itself
    case = case_of(**spec)
    assume(len(case.probabilities) ** size <= 600)

    def to_go_minus_batch_mean(batch):
        mean = baseline.batch_mean_baseline(
            rewards=batch.rewards, response_mask=batch.response_mask, gamma=1.0
        )
        return to_go(batch) - mean

    for weights in (ladder.minus_batch_mean, to_go_minus_batch_mean):
        assert_close(
            mean_gradient(case, weighted(weights), size=size), (size - 1) / size * case.gradient
        )


def test_of_three_tokens_the_pairs_and_triples_too():
    case = case_of(response_length=2)
    for size in (2, 3):
        assert bias(case, weighted(ladder.minus_leave_one_out), size=size) <= NO_BIAS
        assert_close(
            mean_gradient(case, weighted(ladder.minus_batch_mean), size=size),
            (size - 1) / size * case.gradient,
        )


# whitening


def whitened(batch):
    """Whole returns, whitened over the tokens of a pair; where both returns are the same, no
    weight."""
    returns = whole_returns(batch)
    if torch.equal(batch.rewards[0], batch.rewards[1]):  # the same response twice
        with pytest.raises(ValueError, match="got a standard deviation of 0"):
            whiten(values=returns, mask=batch.response_mask)
        return torch.zeros_like(returns)
    return whiten(values=returns, mask=batch.response_mask)


@settings(max_examples=12)
@given(specs(has_eos=(False,), prompts=(1,), **few))
def test_whitened_pairs_climb_the_probability_of_winning(spec):
    # of two returns one becomes 1 and the other -1, by whatever they differ: the mean is the
    # gradient of P(win) - P(lose) against the policy as it is, and says nothing of the size of the
    # returns
    case = case_of(**spec)
    returns = case.world.response_rewards.sum(dim=1)
    wins = torch.sign(returns.unsqueeze(1) - returns) @ case.probabilities
    winning = (oracle.response_probabilities(case.world, case.policy()) * wins).sum()
    found = mean_gradient(case, weighted(whitened), size=2)
    assert_close(found, trpo.flat_gradient(winning, case.parameters))
    case.world.response_rewards = 100 * case.world.response_rewards
    assert_close(mean_gradient(case, weighted(whitened), size=2), found)


def test_whitened_pairs_can_point_the_wrong_way():
    # token 0 buys a ticket that pays 10 with probability .2, token 1 pays 1 for sure; both with
    # probability .5
    case = case_by_hand(
        [[0.5, 0.5], [0.2, 0.8], [0.5, 0.5]],
        lambda prompt, tokens: {(0, 0): 10.0, (1,): 1.0}.get(tokens, 0.0),
    )
    # p (1 - p) (mean after 0 - mean after 1) = .25 (2 - 1): the ticket is worth it
    assert_close(case.gradient[:2], [0.25, -0.25])
    # wins minus losses: ticket with prize .5 + .4 = .9, without -(.5 + .1) = -.6, on average -.3;
    # sure thing .4 - .1 = .3 .25 (-.3 - .3) = -.15: more often than not the sure thing wins
    assert_close(mean_gradient(case, weighted(whitened), size=2)[:2], [-0.15, 0.15])


def test_whitened_pairs_of_ragged_responses_are_biased_too():
    # here the longer response counts more in mean and standard deviation, so the weights are not 1
    # and -1
    case = case_of(vocab_size=2, response_length=2)
    found = mean_gradient(case, weighted(whitened), size=2)
    parallel = (found @ case.gradient) / (case.gradient @ case.gradient) * case.gradient
    assert (found - parallel).abs().max() > 0.005


# stages 5 and 6 at theta_old


@settings(max_examples=20)
@given(
    specs(),
    st.lists(st.integers(0, 10**6), min_size=1, max_size=4),
    st.floats(0, 2),
    st.floats(0.05, 0.9),
)
def test_at_the_old_policy_the_surrogates_have_the_policy_gradient(
    spec, numbers, kl_old_coef, cliprange
):
    # those losses are means over the True tokens and policy_gradient_loss is a mean over rows: the
    # factor is B / (True tokens)
    case = case_of(**spec)
    rows = [number % len(case.probabilities) for number in numbers]
    mask = case.world.response_mask[rows]
    advantages = gae.gae_advantages(
        rewards=case.world.response_rewards[rows],
        response_mask=mask,
        gamma=1.0,
        lam=0.7,
        values=case.world.along_responses(case.critic)[rows],
    )
    old_logprobs = case.world.logprobs(case.logits)[rows]

    def gradient(loss, **data):
        logprobs = case.world.logprobs(case.policy())[rows]
        return trpo.flat_gradient(
            loss(logprobs=logprobs, response_mask=mask, **data), case.parameters
        )

    factor = len(rows) / mask.sum().item()
    wanted = factor * gradient(policy_gradient_loss, weights=advantages)
    data = {"old_logprobs": old_logprobs, "advantages": advantages}
    assert_close(gradient(trpo.surrogate_loss, **data), wanted)
    assert_close(gradient(ppo.unclipped_surrogate_loss, **data), wanted)
    assert_close(gradient(ppo.clipped_surrogate_loss, **data, cliprange=cliprange), wanted)
    # the penalty's own gradient is -kl_old_coef times the mean score of the tokens
    scores = oracle.score_vectors(case.policy)[
        case.world.state_index[rows], case.world.response_tokens[rows]
    ][mask]
    assert_close(
        gradient(ppo.kl_penalised_surrogate_loss, **data, kl_old_coef=kl_old_coef),
        wanted - kl_old_coef * scores.mean(dim=0),
    )


def no_advantage(batch):
    return torch.zeros_like(batch.rewards)


@settings(max_examples=12)
@given(specs())
def test_at_the_old_policy_the_sampled_kl_penalty_pulls_nowhere_on_average(spec):
    case = case_of(**spec)
    # summed over the tokens of a row
    penalty = ratio_loss(ppo.kl_penalised_surrogate_loss, no_advantage, kl_old_coef=0.7)
    assert bias(case, penalty, exact=torch.zeros_like(case.gradient)) <= NO_BIAS
    for loss, options in (
        (trpo.surrogate_loss, {}),
        (ppo.clipped_surrogate_loss, {"cliprange": 0.2}),
        (ppo.kl_penalised_surrogate_loss, {"kl_old_coef": 0.7}),
    ):
        assert bias(case, ratio_loss(loss, minus_values, **options), values=case.critic) <= NO_BIAS


@settings(max_examples=10)
@given(specs(has_eos=(False,)))
def test_the_mean_over_tokens_of_the_penalty_too_where_responses_are_equally_long(spec):
    case = case_of(**spec)
    penalty = ladder.mean_over_tokens(
        ppo.kl_penalised_surrogate_loss, no_advantage, kl_old_coef=0.7
    )
    assert bias(case, penalty, exact=torch.zeros_like(case.gradient)) <= NO_BIAS


def test_the_mean_over_tokens_of_ragged_responses_weighs_short_ones_more():
    # a row alone is divided by its own length, and the length depends on the tokens: E[score /
    # length] = grad E[1 / length]
    case = case_of()
    penalty = ladder.mean_over_tokens(
        ppo.kl_penalised_surrogate_loss, no_advantage, kl_old_coef=1.0
    )
    inverse_lengths = 1 / case.world.response_mask.sum(dim=1).double()
    expected = (oracle.response_probabilities(case.world, case.policy()) * inverse_lengths).sum()
    # minus the gradient of the penalty, which is minus the score
    found = mean_gradient(case, penalty)
    assert_close(found, trpo.flat_gradient(expected, case.parameters))
    assert found.abs().max() > 0.03


# stage 6: the clip


@given(st.floats(-3, 3), st.floats(-5, 5), st.floats(0.01, 2))
def test_the_clipped_objective_never_promises_more(log_ratio, advantage, cliprange):
    token = {
        "logprobs": f64([[log_ratio]]),
        "old_logprobs": f64([[0.0]]),
        "advantages": f64([[advantage]]),
        "response_mask": mask_of_lengths([1]),
    }
    clipped, unclipped = (
        ppo.clipped_surrogate_loss(**token, cliprange=cliprange),
        ppo.unclipped_surrogate_loss(**token),
    )
    assert clipped >= unclipped  # losses are minus the objectives
    assert_close(unclipped, -math.exp(log_ratio) * advantage)


@given(
    st.floats(0.01, 0.95),
    st.floats(0.001, 3),
    st.floats(0.01, 0.99),
    st.floats(-0.99, 0.99),
    st.floats(0.01, 5),
    st.floats(-5, 5),
)
def test_the_clip_cuts_the_gradient_in_two_of_the_four_cases(
    cliprange, beyond, share, inside, advantage, any_advantage
):
    far_up, far_down = 1 + cliprange + beyond, (1 - cliprange) * share
    ratios = [far_up, far_down, far_up, far_down, 1 + cliprange * inside]
    advantages = [advantage, -advantage, -advantage, advantage, any_advantage]
    batch = {
        "logprobs": f64([ratios]).log() - 1,
        "old_logprobs": torch.full((1, 5), -1.0).double(),
        "advantages": f64([advantages]),
        "response_mask": mask_of_lengths([5]),
    }
    _, clipped = value_and_gradients(
        lambda **batch: ppo.clipped_surrogate_loss(**batch, cliprange=cliprange),
        batch,
        ["logprobs"],
    )
    _, unclipped = value_and_gradients(ppo.unclipped_surrogate_loss, batch, ["logprobs"])
    clipped, unclipped = clipped["logprobs"][0], unclipped["logprobs"][0]
    assert (clipped[:2] == 0).all()  # up and wanted up, down and wanted down: far enough
    # the other two come back by the ordinary gradient; inside nothing changes
    assert_close(clipped[2:], unclipped[2:])
    assert (unclipped[:4] != 0).all()


# the estimators of the KL


def estimates_of(case, estimator):
    """One of minippo.kl along every response, [N,T], with the graph to the parameters."""
    return estimator(
        logprobs=case.world.logprobs(case.policy()),
        ref_logprobs=case.world.logprobs(case.other_logits),
    )


@settings(max_examples=20)
@given(specs())
def test_k1_and_k3_are_on_average_the_kl_of_whole_responses_and_k2_is_not(spec):
    case = case_of(**spec)
    exact = oracle.sequence_kl(case.world, case.logits, case.other_logits)
    k1, k2, k3 = (
        case.probabilities @ estimates_of(case, estimator).detach().sum(dim=1)
        for estimator in (kl.kl_k1, kl.kl_k2, kl.kl_k3)
    )
    assert_close(k1, exact)
    assert_close(k3, exact)
    assert (k2 - exact).abs() > 1e-6


def test_the_bias_of_k2_is_of_third_order():
    ref_logits, direction = f64([0.3, -1.0, 0.8]), f64([1.0, 0.2, -0.6])
    ref = ref_logits.softmax(dim=-1)

    def k2_bias(distance):
        """sum_v pi_v d_v^2 / 2 - KL(pi || ref) for a policy at this distance from its reference."""
        logits = ref_logits + distance * direction
        log_pi = logits.log_softmax(dim=-1)
        k2 = (log_pi.exp() * kl.kl_k2(logprobs=log_pi, ref_logprobs=ref.log())).sum()
        return (
            k2 - kl.exact_kl(logits=logits.view(1, 1, 3), ref_logits=ref_logits.view(1, 1, 3))
        ).item()

    biases = [k2_bias(0.1 / 2**halvings) for halvings in range(6)]
    ratios = [before / after for before, after in pairwise(biases)]
    assert all(abs(ratio - 8) < 0.5 for ratio in ratios) and abs(ratios[-1] - 8) < 0.05
    # 0 = E[exp(-d)] - 1 = -E[d] + E[d^2] / 2 - E[d^3] / 6 + ..., so the bias begins with E[d^3] / 6
    third_moment = (ref * (direction - ref @ direction) ** 3).sum().item()
    assert abs(biases[-1] / (0.1 / 2**5) ** 3 / (third_moment / 6) - 1) < 0.02
    assert biases[0] > 1e-5


# gradients of KL terms. In a sampled loss the tokens are given: the gradient goes through the term
# at these tokens, and does not see that theta also decides how often they are drawn. Its mean is
# therefore not the gradient of the term's mean.


def mean_gradient_of_terms(case, per_response):
    """sum_tau p(tau) grad term(tau), with p taken as numbers; per_response [N]."""
    return trpo.flat_gradient((case.probabilities * per_response).sum(), case.parameters)


def gradient_of_kl(case, reverse=False):
    """grad KL(pi || other) of whole responses, or of KL(other || pi)."""
    pair = (case.policy(), case.other_logits)
    return trpo.flat_gradient(
        oracle.sequence_kl(case.world, *reversed(pair) if reverse else pair), case.parameters
    )


def exact_kl_along(case):
    """The exact KL at the states of every response, [N,T]."""
    per_state = kl.exact_kl(
        logits=case.policy().unsqueeze(0), ref_logits=case.other_logits.unsqueeze(0)
    ).squeeze(0)
    return case.world.along_responses(per_state)


@settings(max_examples=15)
@given(specs(lengths=(1,)))
def test_kl_terms_in_the_loss_of_one_token(spec):
    case = case_of(**spec)
    for estimator, wanted in (
        (kl.kl_k1, torch.zeros_like(case.gradient)),
        (kl.kl_k2, gradient_of_kl(case)),
        (kl.kl_k3, gradient_of_kl(case, reverse=True)),
    ):
        assert_close(mean_gradient_of_terms(case, estimates_of(case, estimator).sum(dim=1)), wanted)
    assert_close(
        mean_gradient_of_terms(case, exact_kl_along(case).sum(dim=1)), gradient_of_kl(case)
    )


@settings(max_examples=15)
@given(specs())
def test_kl_terms_in_the_loss_of_many_tokens(spec):
    case = case_of(**spec)
    # k1 is no penalty at any length, k2 per token is the exact KL at the visited states
    assert_close(
        mean_gradient_of_terms(case, estimates_of(case, kl.kl_k1).sum(dim=1)),
        torch.zeros_like(case.gradient),
    )
    assert_close(
        mean_gradient_of_terms(case, estimates_of(case, kl.kl_k2).sum(dim=1)),
        mean_gradient_of_terms(case, exact_kl_along(case).sum(dim=1)),
    )
    # k2 of the log-ratio of the whole response
    logprobs, ref_logprobs = (
        case.world.logprobs(x).sum(dim=1) for x in (case.policy(), case.other_logits)
    )
    of_the_sum = kl.kl_k2(logprobs=logprobs, ref_logprobs=ref_logprobs)
    assert_close(mean_gradient_of_terms(case, of_the_sum), gradient_of_kl(case))


@pytest.mark.parametrize("has_eos", [True, False])
def test_per_token_terms_leave_out_that_a_token_leads_to_other_states(has_eos):
    case = case_of(has_eos=has_eos)
    wanted = gradient_of_kl(case)
    for per_token in (estimates_of(case, kl.kl_k2), exact_kl_along(case)):
        assert (mean_gradient_of_terms(case, per_token.sum(dim=1)) - wanted).abs().max() > 0.01


def with_rewards(case, estimator):
    """The world of a case, paid with one of minippo.kl as data."""
    world = copy.copy(case.world)
    world.response_rewards = estimates_of(case, estimator).detach()
    return SimpleNamespace(world=world, policy=case.policy)


@settings(max_examples=15)
@given(specs())
def test_k1_as_a_reward_has_the_gradient_of_the_kl(spec):
    case = case_of(**spec)
    for weights in (whole_returns, to_go):
        assert (
            bias(with_rewards(case, kl.kl_k1), weighted(weights), exact=gradient_of_kl(case))
            <= NO_BIAS
        )


def test_k2_and_k3_as_rewards_have_not():
    case = case_of()
    for estimator in (kl.kl_k2, kl.kl_k3):
        assert (
            bias(with_rewards(case, estimator), weighted(to_go), exact=gradient_of_kl(case)) > 0.01
        )


@settings(max_examples=12)
@given(specs(lengths=(1,)))
def test_k3_as_a_reward_of_one_token_misses_the_kl_the_other_way_round(spec):
    # grad E[k3] = E[k3 score] + E[grad k3]: as a penalty it pays for KL(ref || pi), which has no
    # upper bound
    case = case_of(**spec)
    exact = gradient_of_kl(case) - gradient_of_kl(case, reverse=True)
    assert bias(with_rewards(case, kl.kl_k3), weighted(to_go), exact=exact) <= NO_BIAS


# batches in parts, and padding


def with_scalars(function, **scalars):
    return lambda **batch: function(**batch, **scalars)


RATIOS, CRITIC = "logprobs old_logprobs advantages", "values old_values value_targets"
MEANS_OVER_ROWS = {"policy_gradient_loss": (policy_gradient_loss, "logprobs weights")}
MEANS_OVER_TOKENS = {
    "surrogate_loss": (trpo.surrogate_loss, RATIOS),
    "unclipped": (ppo.unclipped_surrogate_loss, RATIOS),
    "clipped": (with_scalars(ppo.clipped_surrogate_loss, cliprange=0.2), RATIOS),
    "kl_penalised": (with_scalars(ppo.kl_penalised_surrogate_loss, kl_old_coef=0.3), RATIOS),
    "sampled_kl": (trpo.sampled_kl, "logprobs old_logprobs"),
    "value_loss": (baseline.value_loss, "values value_targets"),
    "clipped_value_loss": (with_scalars(ppo.clipped_value_loss, cliprange_value=0.2), CRITIC),
}


@pytest.mark.parametrize("name", MEANS_OVER_ROWS | MEANS_OVER_TOKENS)
@settings(max_examples=12)
@given(data=st.data())
def test_a_batch_is_the_weighted_mean_of_its_parts(name, data):
    # the weight of a part is its share of the rows, or of the True tokens: a plain mean over ragged
    # parts would be wrong
    function, names = (MEANS_OVER_ROWS | MEANS_OVER_TOKENS)[name]
    batch = data.draw(ragged_batches(names))
    mask, current = batch["response_mask"], names.split()[0]
    cuts = sorted(data.draw(st.sets(st.integers(0, len(mask)))) | {0, len(mask)})
    size = len if name in MEANS_OVER_ROWS else lambda mask: mask.sum().item()
    loss, gradients = value_and_gradients(function, batch, [current])
    total, pieces = 0.0, []
    for start, end in pairwise(cuts):
        part = {key: x[start:end] for key, x in batch.items()}
        share = size(part["response_mask"]) / size(mask)
        part_loss, part_gradients = value_and_gradients(function, part, [current])
        total = total + share * part_loss
        pieces.append(share * part_gradients[current])
    assert_close(total, loss)
    assert_close(torch.cat(pieces), gradients[current])


def from_scores_to_loss(
    *, scores, old_logprobs, ref_logprobs, old_values, logprobs, values, response_mask
):
    """All that PPO does with a batch: rewards, advantages, targets, whitening, and the two
    losses."""
    rewards = shaped_rewards(
        scores=scores,
        old_logprobs=old_logprobs,
        ref_logprobs=ref_logprobs,
        response_mask=response_mask,
        kl_coef=0.1,
    )
    advantages = gae.gae_advantages(
        rewards=rewards, values=old_values, response_mask=response_mask, gamma=0.99, lam=0.9
    )
    targets = gae.value_targets(
        advantages=advantages, values=old_values, response_mask=response_mask
    )
    policy_loss = ppo.clipped_surrogate_loss(
        logprobs=logprobs,
        old_logprobs=old_logprobs,
        advantages=whiten(values=advantages, mask=response_mask),
        response_mask=response_mask,
        cliprange=0.2,
    )
    return policy_loss + 0.1 * ppo.clipped_value_loss(
        values=values,
        old_values=old_values,
        value_targets=targets,
        response_mask=response_mask,
        cliprange_value=0.2,
    )


@settings(max_examples=15)
@given(ragged_batches("old_logprobs ref_logprobs old_values logprobs values"))
def test_padding_and_the_order_of_rows_change_nothing_from_scores_to_loss(batch):
    assume(batch["response_mask"].sum() > 1)  # a single token cannot be whitened
    batch["scores"] = batch["ref_logprobs"][:, 0] * 3
    check_padding_is_never_read(from_scores_to_loss, batch, ["logprobs", "values"])
    check_layout_does_not_matter(from_scores_to_loss, batch, ["logprobs", "values"])
