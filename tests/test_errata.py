"""The errata of docs/errata.md that have no test elsewhere: each wrong formula beside the right
one, on numbers small enough to follow. A formula in quotes is somebody else's; it is written anew
here, in the names of minippo."""

import inspect
import math

import pytest
import torch

from minippo import gae, kl, ppo
from minippo.baseline import value_loss
from minippo.exact import ladder, oracle
from minippo.exact.estimators import gradient_samples, mean_and_covariance
from minippo.exact.surrogates import exact_surrogate
from minippo.exact.world import TabularPolicy, World
from minippo.exercises import token_logprobs as shift_exercise
from minippo.gpt import GPT, GPTConfig
from minippo.logprobs import token_entropy, token_logprobs
from minippo.masked import masked_mean, scale_to_unit_std, whiten
from minippo.policy_gradient import policy_gradient_loss, trajectory_returns
from minippo.ppo_statistics import ppo_diagnostics
from minippo.reward_to_go import rewards_to_go
from minippo.rollout import apply_eos_rule
from minippo.shaped_reward import shaped_rewards
from minippo.trpo import flat_gradient, surrogate_loss
from tests.helpers import assert_close, batch_of, f64, mask_of_lengths

# two next-token distributions over three tokens
POLICY, REFERENCE = f64([0.7, 0.2, 0.1]), f64([0.2, 0.3, 0.5])


def kl_of(p, q):
    return (p * (p / q).log()).sum()


# the long article on PPO: its pseudocode


def test_a_score_per_row_minus_a_kl_per_token():
    # rewards [B,1], kl [B,T]: in place the shapes do not fit; out of place every token is paid the
    # whole score
    scores, kl_per_token = f64([[2.0], [-1.0]]), torch.zeros(2, 3, dtype=torch.float64)
    with pytest.raises(RuntimeError, match="output with shape"):
        scores -= 0.1 * kl_per_token
    everywhere = scores - 0.1 * kl_per_token
    assert everywhere.tolist() == [[2, 2, 2], [-1, -1, -1]]
    zeros, mask = torch.zeros(2, 3, dtype=torch.float64), mask_of_lengths([3, 3])
    right = shaped_rewards(
        scores=scores[:, 0], old_logprobs=zeros, ref_logprobs=zeros, response_mask=mask, kl_coef=0.1
    )
    assert right.tolist() == [[0, 0, 2], [0, 0, -1]]
    # so the return of a response is T times its score
    first = [
        rewards_to_go(rewards=rewards, response_mask=mask, gamma=1.0)[:, 0].tolist()
        for rewards in (everywhere, right)
    ]
    assert first == [[6, -3], [2, -1]]


def test_a_log_softmax_is_not_yet_the_log_probability_of_a_token():
    # [B,S,V]
    logits = torch.randn(2, 4, 5, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    tokens = torch.tensor([[0, 1, 2, 3], [4, 3, 2, 1]])
    # a number for each token of the vocabulary
    assert torch.log_softmax(logits, dim=-1).shape == (2, 4, 5)
    # position i says what comes at i + 1
    right = token_logprobs(logits=logits[:, :-1], tokens=tokens[:, 1:])
    gathered_only = token_logprobs(logits=logits, tokens=tokens)[:, 1:]
    assert right.shape == (2, 3) and (right - gathered_only).abs().min() > 0.01


def test_a_state_that_holds_the_action_is_one_position_late():
    # s_t = {x, a_1 ... a_t} with pi(a_t|s_t): the model has read the token whose probability it is
    # asked for
    verdict = shift_exercise.exercise.verdict(shift_exercise.without_shift)
    assert not verdict.passed and verdict.mistake == "shift"


def test_a_kl_that_is_not_detached_trains_the_policy_through_the_critics_loss():
    batch = batch_of("ref_logprobs values", mask_of_lengths([3]), 0)
    logprobs = torch.full((1, 3), -1.0, dtype=torch.float64, requires_grad=True)
    rewards = -0.1 * (logprobs - batch["ref_logprobs"])
    (to_policy,) = torch.autograd.grad(((rewards - batch["values"]) ** 2).mean(), logprobs)
    assert rewards.requires_grad and to_policy.abs().min() > 1e-4
    with pytest.raises(
        ValueError, match="old_logprobs: got a tensor that requires grad, wanted data"
    ):
        shaped_rewards(
            scores=f64([1.0]),
            old_logprobs=logprobs,
            ref_logprobs=batch["ref_logprobs"],
            response_mask=batch["response_mask"],
            kl_coef=0.1,
        )
    with pytest.raises(
        ValueError, match="value_targets: got a tensor that requires grad, wanted data"
    ):
        value_loss(
            values=batch["values"], value_targets=rewards, response_mask=batch["response_mask"]
        )


def test_the_reward_of_one_token_minus_the_value_is_no_advantage():
    # score 1 at the end of four tokens, V = 0: rewards - V teaches the last token alone
    rewards, values, mask = (
        f64([[0, 0, 0, 1]]),
        torch.zeros(1, 4, dtype=torch.float64),
        mask_of_lengths([4]),
    )
    assert (rewards - values).tolist() == [[0, 0, 0, 1]]
    right = gae.gae_advantages(
        rewards=rewards, values=values, response_mask=mask, gamma=1.0, lam=1.0
    )
    assert right.tolist() == [[1, 1, 1, 1]]
    # and a critic whose targets are these rewards learns 0 before the end, where the return to be
    # expected is 1
    targets = gae.value_targets(advantages=right, values=values, response_mask=mask)
    assert targets.tolist() == [[1, 1, 1, 1]]


def loop_without_a_mask(rewards, values, gamma, lam):
    running, reversed_ = 0.0, []
    for t in reversed(range(rewards.shape[1])):
        after = values[:, t + 1] if t + 1 < rewards.shape[1] else 0.0
        running = rewards[:, t] + gamma * after - values[:, t] + gamma * lam * running
        reversed_.append(running)
    return torch.stack(reversed_[::-1], dim=1)


def test_a_gae_loop_without_a_mask_needs_zeros_after_the_end():
    batch = batch_of("rewards values", mask_of_lengths([2, 4]), 0)
    mask, numbers = batch["response_mask"], {"gamma": 1.0, "lam": 0.95}
    right = gae.gae_advantages(**batch, **numbers)
    zeroed = {name: batch[name] * mask for name in ("rewards", "values")}
    assert_close(loop_without_a_mask(**zeroed, **numbers) * mask, right)
    left = loop_without_a_mask(batch["rewards"], batch["values"], **numbers)
    assert (left - right)[0, :2].abs().min() > 0.1  # the short row
    assert_close(left[1], right[1])  # the full one


def test_the_mean_of_each_response_is_another_objective():
    # the answer () is worth .6, an answer of two or three tokens 1; from the fair policy, the
    # gradient to the logit of going on
    world = World(
        lambda prompt, tokens: (
            0.6 if tokens == (0,) else float(tokens in {(1, 0), (1, 1, 0), (1, 1, 1)})
        ),
        vocab_size=2,
        response_length=3,
    )
    policy = TabularPolicy(world, generator=torch.Generator().manual_seed(0), scale=0.0)

    def terms(batch):
        weights = trajectory_returns(
            rewards=batch.rewards, response_mask=batch.response_mask, gamma=1.0
        )
        return {
            "logprobs": batch.logprobs,
            "weights": weights,
            "response_mask": batch.response_mask,
        }

    def sum_of_tokens(batch):
        return policy_gradient_loss(**terms(batch))

    # every response counts alike, so a token of a long one counts less
    def mean_of_each_response(batch):
        lengths = batch.response_mask.sum(dim=1, keepdim=True)
        return policy_gradient_loss(**terms(batch) | {"weights": terms(batch)["weights"] / lengths})

    to_go_on = [
        mean_and_covariance(*gradient_samples(world, policy, loss))[0][1].item()
        for loss in (sum_of_tokens, mean_of_each_response)
    ]
    assert_close(to_go_on[0], oracle.exact_gradient(world, policy)[1])
    # .1 and -.0458: the wrong sign
    assert to_go_on == pytest.approx([(1 - 0.6) / 4, ((1 / 2 + 1 / 3) / 2 - 0.6) / 4])


def test_subtracting_a_mean_bounds_nothing():
    scores = f64([-3.0, 0.5, 9.0])
    centred = scores - scores.mean()
    assert_close(centred.mean(), 0.0)
    assert centred.min() < 0 and centred.max() > 1  # the range is as wide as before
    assert_close(centred.max() - centred.min(), scores.max() - scores.min())


def test_a_fixed_score_for_what_does_not_end_can_be_a_gift():
    # a reward model in units of its spread gives some finished answers less than -1
    scores, ended = f64([-2.0, -2.0, 0.5]), torch.tensor([True, False, False])
    replaced = apply_eos_rule(scores, ended, no_eos_score=-1.0, missing_eos_penalty=0.0)
    lowered = apply_eos_rule(scores, ended, no_eos_score=None, missing_eos_penalty=1.0)
    assert replaced.tolist() == [-2, -1, -1] and lowered.tolist() == [-2, -3, -0.5]
    assert replaced[1] > scores[1]  # not to end pays


def test_a_ratio_to_the_policy_before_the_training_clips_what_each_update_would_allow():
    # three updates, each of which makes a good token 1.15 times as likely: inside the range of 0.2
    advantage, mask = f64([[1.0]]), mask_of_lengths([1])
    steps = [f64([[k * math.log(1.15)]]) for k in range(4)]
    for old, gradients in ((2, [-1.15]), (0, [0.0])):  # the policy of the batch; of the beginning
        logprobs = steps[3].clone().requires_grad_()
        loss = ppo.clipped_surrogate_loss(
            logprobs=logprobs,
            old_logprobs=steps[old],
            advantages=advantage,
            response_mask=mask,
            cliprange=0.2,
        )
        assert_close(torch.autograd.grad(loss, logprobs)[0][0], gradients)


def test_the_surrogate_of_trpo_has_the_variance_of_the_policy_gradient():
    # summed over tokens like it, at the old policy: the same samples, so the same variance
    world, policy, values, _ = ladder.make_world(ladder.reward_functions(0)["dense"], 0)
    weights = ladder.gae(0.95)
    losses = (ladder.weighted(weights), ladder.ratio_loss(surrogate_loss, weights))
    (p, plain), (q, of_trpo) = (
        gradient_samples(world, policy, loss, values=values) for loss in losses
    )
    assert_close(p, q)
    assert_close(plain, of_trpo)


# the question-and-answer notes


def test_the_quotient_of_logs_is_not_the_log_of_the_quotient():
    new, old = math.log(0.5), math.log(0.25)
    assert math.exp(new - old) == pytest.approx(2)
    assert math.exp(new / old) == pytest.approx(math.exp(0.5))  # 1.6487
    # two equal policies: 2.718 and not 1
    assert math.exp(new / new) == pytest.approx(math.e)


def test_the_mean_of_the_minimum_is_an_objective_and_no_loss():
    logprobs = torch.zeros(1, 1, dtype=torch.float64, requires_grad=True)
    zeros, one, mask = torch.zeros(1, 1, dtype=torch.float64), f64([[1.0]]), mask_of_lengths([1])
    called_a_loss = torch.minimum(logprobs.exp() * one, logprobs.exp().clamp(0.8, 1.2) * one).mean()
    right = ppo.clipped_surrogate_loss(
        logprobs=logprobs, old_logprobs=zeros, advantages=one, response_mask=mask, cliprange=0.2
    )
    downhill = [-torch.autograd.grad(loss, logprobs)[0].item() for loss in (called_a_loss, right)]
    assert downhill == [-1, 1]  # the advantage is +1: the token must become more likely
    of_losses = torch.maximum(-logprobs.exp() * one, -logprobs.exp().clamp(0.8, 1.2) * one).mean()
    assert_close(of_losses, right.item())


def test_samples_of_the_reference_measure_minus_the_other_kl():
    # k1 over samples of the policy is KL(policy || reference); over samples of the reference it is
    # below 0
    k1 = kl.kl_k1(logprobs=POLICY.log(), ref_logprobs=REFERENCE.log())
    assert_close((POLICY * k1).sum(), kl_of(POLICY, REFERENCE))
    assert_close((REFERENCE * k1).sum(), -kl_of(REFERENCE, POLICY))
    assert (REFERENCE * k1).sum() < -0.4


def test_train_mode_is_about_dropout_and_not_about_gradients():
    model = GPT(
        GPTConfig(8, 8, 1, 2, 8, dropout=0.2), generator=torch.Generator().manual_seed(0)
    ).eval()
    tokens = torch.tensor([[1, 2, 3, 4]])
    once, again = model(tokens), model(tokens)
    # gradients pass in eval mode, and every ratio is 1
    assert torch.equal(once, again) and once.requires_grad
    torch.manual_seed(0)
    model.train()
    assert not torch.allclose(model(tokens), model(tokens))  # the same weights, other ratios


def test_a_mean_over_all_slots_depends_on_how_long_the_longest_response_is():
    # log 8 at every real token
    entropy = token_entropy(logits=torch.zeros(2, 4, 8, dtype=torch.float64))
    mask = mask_of_lengths([1, 2], 4)
    padded = torch.where(mask, entropy, 0.0)
    assert_close(masked_mean(values=entropy, mask=mask), math.log(8))
    assert_close(padded[:, :2].mean(), 3 / 4 * math.log(8))
    assert_close(padded.mean(), 3 / 8 * math.log(8))  # two more columns of padding


# the bilingual overview, the note with the capital of France, the short notes


def test_the_surrogate_has_the_gradient_of_the_objective_at_the_old_policy_only():
    world = World(ladder.reward_functions(0)["dense"], response_length=2)
    policy = TabularPolicy(world, generator=torch.Generator().manual_seed(0))
    old_logits = policy().detach().clone()
    length = oracle.reach_probabilities(world, old_logits).sum()
    surrogate = exact_surrogate(world, policy, old_logits)

    def difference():
        gradient = -length * flat_gradient(surrogate(), list(policy.parameters()))
        return (gradient - oracle.exact_gradient(world, policy)).abs().max().item()

    assert difference() < 1e-12
    with torch.no_grad():
        policy.table[0, 1] += 1.0
    assert difference() > 0.01


def test_a_kl_that_is_added_to_the_reward_pays_for_distance():
    scores, mask = f64([0.0]), mask_of_lengths([1])
    for token in range(3):
        pair = {
            "old_logprobs": POLICY.log()[token].view(1, 1),
            "ref_logprobs": REFERENCE.log()[token].view(1, 1),
        }
        right = shaped_rewards(scores=scores, response_mask=mask, kl_coef=0.5, **pair)
        assert_close(right, -0.5 * (pair["old_logprobs"] - pair["ref_logprobs"]))
    added = (POLICY * 0.5 * (POLICY / REFERENCE).log()).sum()
    # the policy that has left is paid, the other not
    assert added > 0 and REFERENCE @ torch.zeros(3, dtype=torch.float64) == 0


def test_the_ratio_of_a_response_is_the_product_of_its_tokens_ratios_and_leaves_the_range_first():
    token_ratios = f64([1.15, 1.15])
    # 1.3225: clipped as one action, not as two
    assert (token_ratios < 1.2).all() and token_ratios.prod() > 1.2
    assert_close(token_ratios.prod(), 1.3225)


def test_the_clipped_loss_does_not_know_the_reference():
    # three quantities: the clip and TRPO's KL are about the policy that sampled, the KL in the
    # reward about the reference
    assert set(inspect.signature(ppo.clipped_surrogate_loss).parameters) == {
        "logprobs",
        "old_logprobs",
        "advantages",
        "response_mask",
        "cliprange",
    }
    assert "ref_logprobs" in inspect.signature(shaped_rewards).parameters


def test_the_kl_counts_what_the_wrong_code_costs():
    # samples of the new policy, written with the code of the original one: cross-entropy minus
    # entropy, an expense
    cross_entropy, entropy = -(POLICY * REFERENCE.log()).sum(), -(POLICY * POLICY.log()).sum()
    assert_close(cross_entropy - entropy, kl_of(POLICY, REFERENCE))


# the PPO paper


def test_the_last_exponent_of_the_gae_sum():
    # printed: A_t = delta_t + (gamma lam) delta_{t+1} + ... + (gamma lam)^(T-t+1) delta_{T-1};
    # right: (gamma lam)^(T-1-t)
    batch = batch_of("rewards values", mask_of_lengths([4]), 0)
    deltas, decay, T = gae.td_residuals(**batch, gamma=0.9)[0], 0.9 * 0.8, 4
    before_last = [sum(decay ** (k - t) * deltas[k] for k in range(t, T - 1)) for t in range(T)]
    right, printed = (
        [before_last[t] + decay ** exponent(t) * deltas[T - 1] for t in range(T)]
        for exponent in (lambda t: T - 1 - t, lambda t: T - t + 1)
    )
    advantages = gae.gae_advantages(**batch, gamma=0.9, lam=0.8)[0]
    assert_close(advantages, torch.stack(right))
    assert ((advantages - torch.stack(printed)).abs() > 0.01).all()


# public code


def test_whitening_that_adds_the_mean_back():
    # torchtune: (x - mean) * rsqrt(var + 1e-8), and the mean is added when shift_mean is True, its
    # default
    advantages, mask = f64([[4.0, 5.0, 6.0, 5.0]]), mask_of_lengths([4])
    theirs = (advantages - advantages.mean()) * torch.rsqrt(
        advantages.var(correction=1) + 1e-8
    ) + advantages.mean()
    assert theirs.min() > 3.7 and theirs.mean() == 5  # every token is still pushed up
    assert_close(whiten(values=advantages, mask=mask).mean(), 0.0)
    # it is the other of the two operations, up to n - 1 for n
    other = scale_to_unit_std(values=advantages, mask=mask)
    assert_close((theirs - 5) * (4 / 3) ** 0.5 * (1 + 1e-8 / (2 / 3)) ** 0.5, other - 5)


def test_a_tolerance_of_a_million_lets_a_wrong_sign_pass():
    # torchtune's test of its PPO loss
    torch.testing.assert_close(torch.tensor(-1.0), torch.tensor(1.0), atol=1e-4, rtol=1e6)
    with pytest.raises(AssertionError):
        assert_close(-1.0, 1.0)


def test_k1_with_the_sign_turned_and_k3_that_estimates_neither_kl():
    # rlhf-book: -(log pi - log pi_ref) and expm1(d) - d with d = log pi - log pi_ref, over samples
    # of the policy
    d = POLICY.log() - REFERENCE.log()
    chi_squared = (POLICY**2 / REFERENCE).sum() - 1
    assert_close((POLICY * -d).sum(), -kl_of(POLICY, REFERENCE))
    theirs = (POLICY * (torch.expm1(d) - d)).sum()
    assert_close(theirs, chi_squared - kl_of(POLICY, REFERENCE))
    for right in (kl_of(POLICY, REFERENCE), kl_of(REFERENCE, POLICY)):
        assert abs(theirs - right) > 0.1
    k1, k3 = (f(logprobs=POLICY.log(), ref_logprobs=REFERENCE.log()) for f in (kl.kl_k1, kl.kl_k3))
    assert_close((POLICY * k1).sum(), kl_of(POLICY, REFERENCE))
    assert_close((POLICY * k3).sum(), kl_of(POLICY, REFERENCE))
    # with the samples and the formula turned together it would be right: expm1(d) - d over samples
    # of the reference
    assert_close((REFERENCE * (torch.expm1(d) - d)).sum(), kl_of(REFERENCE, POLICY))


def test_log_probabilities_at_another_temperature_than_the_samples_are_a_bias():
    # rlhf-book: samples at temperature 0.6, log-probs at 1. Then a constant weight, which should
    # teach nothing, teaches
    logits = f64([1.0, 0.0, -1.0])
    sampled, scored = torch.softmax(logits / 0.6, dim=0), torch.softmax(logits, dim=0)
    scores = torch.eye(3, dtype=torch.float64) - scored  # grad log pi of each token, to the logits
    assert_close(scored @ scores, [0.0, 0.0, 0.0])
    assert_close(sampled @ scores, sampled - scored)
    assert (sampled - scored)[0] > 0.13  # what is likely becomes more likely, whatever the reward


def test_an_early_stop_that_waits_for_a_number_that_falls():
    # minRLHF: stop when mean(log pi - log pi_old) > 1.5 target, over samples of the old policy:
    # minus KL(old || new)
    old, statistic, kls = f64([0.5, 0.5]), [], []
    for p in (0.5, 0.6, 0.8, 0.99):
        new = f64([p, 1 - p])
        statistic.append((old * (new / old).log()).sum().item())
        kls.append(kl_of(old, new).item())
    assert kls == sorted(kls) and statistic == sorted(statistic, reverse=True)
    assert max(statistic) == 0 < min(kls[1:])  # it never stops


def test_a_value_after_the_last_token_is_counted_as_a_reward():
    # minRLHF: delta_t = r_t + gamma v_t - v_{t-1}, v_{-1} = 0, up to the last token: with lam = 1
    # they add up to G + v_last
    # v_t: what the critic says after token t
    rewards, values = f64([0.0, 0.0, 1.0]), f64([0.3, 0.4, 0.7])
    before = torch.cat([torch.zeros(1, dtype=torch.float64), values[:-1]])
    assert_close((rewards + values - before).sum(), rewards.sum() + values[-1])
    mask = mask_of_lengths([3])
    right = gae.gae_advantages(
        rewards=rewards[None], values=before[None], response_mask=mask, gamma=1.0, lam=1.0
    )
    assert_close(right[0, 0], rewards.sum() - before[0])


def test_a_mean_over_the_padding_is_diluted():
    # TRL 1.12: approxkl, entropy and ratio are plain means over [B,T]; with equal fillers in the
    # padding each log-ratio there is 0
    batch = batch_of("logprobs old_logprobs advantages", mask_of_lengths([1, 3], 4), 0)
    mask = batch["response_mask"]
    filled = {name: batch[name].masked_fill(~mask, 1.0) for name in ("logprobs", "old_logprobs")}
    log_ratios = filled["logprobs"] - filled["old_logprobs"]
    right = ppo_diagnostics(**batch, cliprange=0.2)
    # half of it here
    assert_close(
        (0.5 * log_ratios**2).mean(),
        right["policy/approxkl_avg"] * mask.sum().item() / mask.numel(),
    )
    assert_close(
        log_ratios.exp().mean() - 1, (right["val/ratio"] - 1) * mask.sum().item() / mask.numel()
    )


def test_a_score_one_slot_after_eos_depends_on_the_other_rows():
    # TRL, summarize_from_feedback_details: the score goes to slot L where the tensor has one, else
    # to slot L - 1; the value at L is kept. The same response of two tokens, in a batch whose
    # longest has two or three:
    gamma, lam, score, critic = 1.0, 0.95, 1.0, [0.2, 0.5, 0.8]

    def last_token_advantage(width):
        rewards, values = torch.zeros(1, width, dtype=torch.float64), f64([critic[:width]])
        rewards[0, min(2, width - 1)] = score
        return loop_without_a_mask(rewards, values, gamma, lam)[0, 1].item()

    assert last_token_advantage(2) == pytest.approx(score - 0.5)
    assert last_token_advantage(3) == pytest.approx(0.8 - 0.5 + lam * (score - 0.8))
    for width in (2, 3):
        mask = mask_of_lengths([2], width)
        zeros = torch.zeros(1, width, dtype=torch.float64)
        rewards = shaped_rewards(
            scores=f64([score]),
            old_logprobs=zeros,
            ref_logprobs=zeros,
            response_mask=mask,
            kl_coef=0.1,
        )
        ours = gae.gae_advantages(
            rewards=rewards, values=f64([critic[:width]]), response_mask=mask, gamma=gamma, lam=lam
        )
        assert ours[0, 1].item() == pytest.approx(score - 0.5)


def test_an_old_policy_that_is_the_policy_of_now_clips_nothing():
    # open-instruct's former ppo2: in the first pass old_logprobs = logprobs.detach(), minibatch
    # after minibatch
    batch = batch_of("logprobs advantages", mask_of_lengths([2, 3]), 0)
    for moved in (0.0, 1.0):  # however far the policy has come since the samples
        logprobs = (batch["logprobs"] + moved).requires_grad_()
        terms = {
            "logprobs": logprobs,
            "old_logprobs": logprobs.detach(),
            "advantages": batch["advantages"],
            "response_mask": batch["response_mask"],
        }
        assert ppo_diagnostics(**terms, cliprange=0.2)["policy/clipfrac_avg"] == 0
        (gradient,) = torch.autograd.grad(
            ppo.clipped_surrogate_loss(**terms, cliprange=0.2), logprobs
        )
        (plain,) = torch.autograd.grad(ppo.unclipped_surrogate_loss(**terms), logprobs)
        assert_close(gradient, plain)


def test_a_share_of_ratios_outside_is_not_the_share_that_is_clipped():
    # CleanRL: mean(|ratio - 1| > cliprange). Of the four cases outside the range the gradient is
    # cut in two
    ratios, advantages, mask = (
        f64([[1.5, 0.5, 0.5, 1.5]]),
        f64([[1.0, -1.0, 1.0, -1.0]]),
        mask_of_lengths([4]),
    )
    zeros = torch.zeros(1, 4, dtype=torch.float64)
    ours = ppo_diagnostics(
        logprobs=ratios.log(),
        old_logprobs=zeros,
        advantages=advantages,
        response_mask=mask,
        cliprange=0.2,
    )
    assert ((ratios - 1).abs() > 0.2).double().mean() == 1
    assert ours["policy/clipfrac_avg"] == 0.5
