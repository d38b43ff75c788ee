"""A test is worth what it kills: each row is a slip that somebody could make, and the test that must then fail.

The source of a module is taken with one snippet replaced and executed as a copy; the functions of the copy stand in for
those of the module while the named test runs again. No file is changed.
"""

import inspect
import types

import pytest
import test_baseline
import test_gae
import test_kl
import test_logprobs
import test_masked
import test_policy_gradient
import test_ppo
import test_reward_to_go
import test_shaped_reward
import test_trpo
from helpers import f64

from minippo import baseline, gae, kl, logprobs, masked, policy_gradient, ppo, reward_to_go, shaped_reward, shapes, trpo


ROOMS = (baseline, gae, kl, logprobs, masked, policy_gradient, ppo, reward_to_go, shaped_reward, shapes, trpo)


def put_slip(monkeypatch, module, snippet, slip):
    """Replace the functions of a module by those of a copy with the slip in it."""
    source = inspect.getsource(module)
    assert source.count(snippet) == 1, f"{module.__name__}: {snippet!r} occurs {source.count(snippet)} times, wanted once"
    copy = types.ModuleType(module.__name__)
    exec(compile(source.replace(snippet, slip), f"<{module.__name__} with a slip>", "exec"), copy.__dict__)
    for name, function in vars(module).copy().items():
        if inspect.isfunction(function) and function.__module__ == module.__name__:
            for user in ROOMS:  # every room that has imported the function by its name
                if vars(user).get(name) is function:
                    monkeypatch.setattr(user, name, vars(copy)[name])


def fails(test, *arguments):
    try:
        test(*arguments)
    except (AssertionError, pytest.fail.Exception):
        return True
    return False


SLIPS = [
    # sign
    ("the policy gradient is descended", policy_gradient, "return -(weights * logprobs)", "return (weights * logprobs)",
     test_policy_gradient.test_a_rewarded_token_becomes_more_likely),
    ("the baseline is added", baseline, "values=returns_to_go - values", "values=returns_to_go + values",
     test_baseline.test_advantages_by_hand),
    ("the baseline minus the return", baseline, "values=returns_to_go - values", "values=values - returns_to_go",
     test_baseline.test_with_a_discount_it_does_not_change_that_of_the_previous_stage, 1.0),
    ("the surrogate is maximised", trpo, "return -masked_mean(values=ratios * advantages,",
     "return masked_mean(values=ratios * advantages,", test_ppo.test_the_example_of_the_documents),
    ("the clipped surrogate is maximised", ppo, "return -masked_mean(values=objective,",
     "return masked_mean(values=objective,", test_ppo.test_the_cases_of_the_clip, 1.1, 2.0, 2.2, 2.2),
    ("the KL penalty is a reward", trpo, "values=old_logprobs - logprobs", "values=logprobs - old_logprobs",
     test_ppo.test_the_penalty_is_kl_from_old_to_new),
    ("the KL in the reward is added", shaped_reward, "values=-kl_coef * (logprobs", "values=kl_coef * (logprobs",
     test_shaped_reward.test_by_hand),
    ("the entropy is negative", logprobs, "return -(pi * finite_log_pi)", "return (pi * finite_log_pi)",
     test_logprobs.test_logprobs_and_entropy_by_hand),
    ("the value is added in the residual", gae, "gamma * _next(values) - values,", "gamma * _next(values) + values,",
     test_gae.test_td_residuals_by_hand),
    ("the advantage is subtracted in the target", gae, "values=advantages + values", "values=values - advantages",
     test_gae.test_value_targets_by_hand),
    # min for max
    ("max in the clip", ppo, "torch.minimum(", "torch.maximum(", test_ppo.test_the_cases_of_the_clip, 1.5, 2.0, 2.4, 0.0),
    ("no min at all", ppo, "torch.minimum(ratios * advantages, clipped_ratios * advantages)", "clipped_ratios * advantages",
     test_ppo.test_the_cases_of_the_clip, 0.5, 2.0, 1.0, 1.0),
    ("min in the value loss", ppo, "torch.maximum(", "torch.minimum(",
     test_ppo.test_clipped_value_loss_by_hand, 2.0, 3.0, 1.62, 0.0),
    ("clip fraction of the wrong side", ppo, "* advantages < ratios * advantages", "* advantages > ratios * advantages",
     test_ppo.test_policy_diagnostics_by_hand),
    ("clip fraction of both sides", ppo, "* advantages < ratios * advantages", "* advantages != ratios * advantages",
     test_ppo.test_policy_diagnostics_by_hand),
    # bounds of the clip
    ("the lower bound is 0", ppo, "clipped_ratios = torch.clamp(ratios, 1 - cliprange,", "clipped_ratios = torch.clamp(ratios, 0,",
     test_ppo.test_the_cases_of_the_clip, 0.5, -2.0, -1.6, 0.0),
    ("the lower bound is 1 / (1 + cliprange)", ppo, "clipped_ratios = torch.clamp(ratios, 1 - cliprange,",
     "clipped_ratios = torch.clamp(ratios, 1 / (1 + cliprange),", test_ppo.test_the_cases_of_the_clip, 0.5, -2.0, -1.6, 0.0),
    ("the upper bound is 1", ppo, "clipped_ratios = torch.clamp(ratios, 1 - cliprange, 1 + cliprange)",
     "clipped_ratios = torch.clamp(ratios, 1 - cliprange, 1)", test_ppo.test_the_cases_of_the_clip, 1.5, 2.0, 2.4, 0.0),
    ("the value is clipped around 0", ppo, "torch.clamp(values, old_values - cliprange_value, old_values + cliprange_value)",
     "torch.clamp(values, -cliprange_value, cliprange_value)", test_ppo.test_clipped_value_loss_by_hand, 2.0, 3.0, 1.62, 0.0),
    ("the log-ratio is clipped", ppo, "clipped_ratios = torch.clamp(ratios, 1 - cliprange, 1 + cliprange)",
     "clipped_ratios = torch.clamp(ratios.log(), -cliprange, cliprange).exp()",
     test_ppo.test_the_cases_of_the_clip, 1.5, 2.0, 2.4, 0.0),
    # old for new
    ("the ratio is old over new", logprobs, "values=logprobs - old_logprobs", "values=old_logprobs - logprobs",
     test_logprobs.test_the_ratios_of_the_documents),
    ("the ratio is a ratio of logs", logprobs, "values=logprobs - old_logprobs", "values=logprobs / old_logprobs",
     test_logprobs.test_the_ratios_of_the_documents),
    ("the old value has the error", ppo, "return values - targets,", "return old_values - targets,",
     test_ppo.test_clipped_value_loss_by_hand, 1.1, 3.0, 1.805, -1.9),
    ("the adaptive rule is turned round", ppo, "if kl > 1.5 * target:\n        return kl_coef * 2",
     "if kl > 1.5 * target:\n        return kl_coef / 2", test_ppo.test_adapted_coefficient_by_hand, 0.31, 0.4),
    ("the adaptive band has one border", ppo, "if kl < target / 1.5:", "if kl < target:",
     test_ppo.test_adapted_coefficient_by_hand, 0.14, 0.2),
    # mask dropped
    ("the mask is multiplied", masked, "torch.where(mask, values, torch.zeros_like(values))", "values * mask",
     test_masked.test_sum_mean_and_variance_by_hand),
    ("the mask is dropped", masked, "torch.where(mask, values, torch.zeros_like(values))", "values",
     test_masked.test_padding_and_layout, "masked_sum"),
    ("the mean counts the padding", masked, "masked_sum(values=values, mask=mask) / mask.sum()",
     "masked_sum(values=values, mask=mask) / mask.numel()", test_masked.test_sum_mean_and_variance_by_hand),
    ("scaling leaves the mean in the padding", masked, "return zero_padding(values=shifted, mask=mask)", "return shifted",
     test_masked.test_padding_and_layout, "scale_to_unit_std"),
    ("the critic's error is selected too late", baseline, "zero_padding(values=values - value_targets, mask=response_mask)",
     "values - value_targets", test_baseline.test_padding_and_layout),
    ("the log-ratio is selected too late", logprobs, "zero_padding(values=logprobs - old_logprobs, mask=response_mask)",
     "logprobs - old_logprobs", test_logprobs.test_padding_and_layout),
    ("approximate KL over the padding", ppo, "log_ratios = zero_padding(values=logprobs - old_logprobs, mask=response_mask)",
     "log_ratios = logprobs - old_logprobs; response_mask = response_mask | True",
     test_ppo.test_padding_and_layout_of_the_diagnostics, "policy"),
    ("the ratio is 1 in the padding", logprobs, "return zero_padding(values=log_ratios.exp(), mask=response_mask)",
     "return log_ratios.exp()", test_logprobs.test_padding_and_layout),
    ("rewards of the padding", gae, "rewards = zero_padding(values=rewards, mask=response_mask)\n    values = zero_padding("
     "values=values, mask=response_mask)", "values = values", test_gae.test_padding_and_layout, "gae_advantages"),
    ("log-probs of the padding", policy_gradient, "    logprobs = zero_padding(values=logprobs, mask=response_mask)  # both",
     "    # both", test_policy_gradient.test_padding_and_layout),
    ("weights of the padding", policy_gradient, "    weights = zero_padding(values=weights, mask=response_mask)\n", "",
     test_policy_gradient.test_padding_and_layout),
    ("the return of the padding", policy_gradient, "    rewards = zero_padding(values=rewards, mask=response_mask)\n", "",
     test_policy_gradient.test_trajectory_returns_by_hand),
    ("the return stands in the padding", policy_gradient,
     "return zero_padding(values=returns.expand_as(rewards), mask=response_mask)", "return returns.expand_as(rewards)",
     test_policy_gradient.test_padding_and_layout_of_the_returns),
    ("rewards of the padding still to go", reward_to_go, "    rewards = zero_padding(values=rewards, mask=response_mask)\n", "",
     test_reward_to_go.test_padding_and_layout),
    ("the baseline is subtracted in the padding", baseline, "zero_padding(values=returns_to_go - values, mask=response_mask)",
     "returns_to_go - values", test_baseline.test_padding_and_layout_of_the_baselines, "baseline_advantages"),
    ("the advantage times the mask", baseline, "zero_padding(values=returns_to_go - values, mask=response_mask)",
     "(returns_to_go - values) * response_mask", test_baseline.test_padding_and_layout_of_the_baselines, "baseline_advantages"),
    ("the batch mean stands in the padding", baseline,
     "zero_padding(values=returns[:, 0].mean().expand_as(returns), mask=response_mask)",
     "returns[:, 0].mean().expand_as(returns)",
     test_baseline.test_padding_and_layout_of_the_baselines, "batch_mean_baseline"),
    ("the other rows stand in the padding", baseline, "zero_padding(values=others.expand_as(returns), mask=response_mask)",
     "others.expand_as(returns)", test_baseline.test_padding_and_layout_of_the_baselines, "leave_one_out_baseline"),
    ("holes in the mask are let through", shapes, "    check_mask(response_mask=response_mask)\n", "",
     test_ppo.test_refusals, "clipped_value"),
    # sum for mean, and the one half
    ("the sum over the rows", policy_gradient, "(weights * logprobs).sum(dim=1).mean()", "(weights * logprobs).sum()",
     test_policy_gradient.test_the_gradient_of_a_batch_has_the_same_mean),
    ("the mean over the tokens", policy_gradient, "-(weights * logprobs).sum(dim=1).mean()",
     "-(weights * logprobs).sum() / response_mask.sum()",
     test_policy_gradient.test_a_batch_is_the_mean_of_its_parts_by_their_rows),
    ("the mean over the slots", policy_gradient, "(weights * logprobs).sum(dim=1).mean()", "(weights * logprobs).mean()",
     test_policy_gradient.test_loss_by_hand),
    ("the mean over the tokens of each row", policy_gradient, "-(weights * logprobs).sum(dim=1).mean()",
     "-((weights * logprobs).sum(dim=1) / response_mask.sum(dim=1)).mean()",
     test_policy_gradient.test_the_expected_gradient_is_that_of_the_discounted_return_in_one_world, 1.0),
    ("the mean reward for the return", policy_gradient, "(discounts * rewards).sum(dim=1, keepdim=True)",
     "(discounts * rewards).mean(dim=1, keepdim=True)",
     test_policy_gradient.test_the_expected_gradient_is_that_of_the_discounted_return_in_one_world, 1.0),
    ("the batch mean counts the padding", baseline, "returns[:, 0].mean().expand_as",
     "returns.mean(dim=0, keepdim=True).expand_as", test_baseline.test_batch_mean_by_hand),
    ("the batch mean counts tokens", baseline, "returns[:, 0].mean().expand_as",
     "returns[response_mask].mean().expand_as", test_baseline.test_with_the_batch_mean_the_gradient_is_too_short, 2, (3, 2)),
    ("the moving average counts tokens", baseline, "returns[:, 0].mean().item()", "returns[response_mask].mean().item()",
     test_baseline.test_moving_average_by_hand),
    ("the moving average of the sum", baseline, "returns[:, 0].mean().item()", "returns[:, 0].sum().item()",
     test_baseline.test_moving_average_by_hand),
    ("the norms are not divided out", baseline, "(squared_norms * returns).sum() / squared_norms.sum()",
     "(squared_norms * returns).mean()", test_baseline.test_optimal_constant_by_hand),
    ("the sum for the mean", masked, "masked_sum(values=values, mask=mask) / mask.sum()", "masked_sum(values=values, mask=mask)",
     test_masked.test_sum_mean_and_variance_by_hand),
    ("the critic's mean has no half", baseline, "return 0.5 * masked_mean", "return masked_mean",
     test_baseline.test_value_loss_by_hand),
    ("the clipped value loss has no half", ppo, "return 0.5 * masked_mean(values=torch.maximum", "return masked_mean(values=torch.maximum",
     test_ppo.test_clipped_value_loss_by_hand, 2.0, 0.0, 2.0, 2.0),
    ("the approximate KL has no half", ppo, "0.5 * masked_mean(values=log_ratios**2,", "masked_mean(values=log_ratios**2,",
     test_ppo.test_policy_diagnostics_by_hand),
    ("k2 has no half", kl, "** 2 / 2", "** 2", test_kl.test_estimators_by_hand),
    # discounts and directions in time
    ("gamma^t is off by one", policy_gradient, "gamma**t for t", "gamma ** (t + 1) for t",
     test_policy_gradient.test_the_expected_gradient_is_that_of_the_discounted_return_in_one_world, 0.7),
    ("gamma is dropped in the return", policy_gradient, "(discounts * rewards)", "rewards",
     test_policy_gradient.test_trajectory_returns_by_hand),
    ("the last reward counts in full", policy_gradient, "(discounts * rewards)", "(discounts.flip(0) * rewards)",
     test_policy_gradient.test_trajectory_returns_by_hand),
    ("gamma is dropped in what is to go", reward_to_go, "rewards[:, t] + gamma * running", "rewards[:, t] + running",
     test_reward_to_go.test_rewards_to_go_by_hand),
    ("gamma on the own reward", reward_to_go, "rewards[:, t] + gamma * running", "gamma * (rewards[:, t] + running)",
     test_reward_to_go.test_rewards_to_go_by_hand),
    ("the factor gamma^t is kept", reward_to_go, "returns_to_go[:, t] = running", "returns_to_go[:, t] = gamma**t * running",
     test_reward_to_go.test_with_a_discount_the_gradient_is_another_one),
    ("what is to go starts at t+1", reward_to_go, "returns_to_go[:, t] = running",
     "returns_to_go[:, t] = running - rewards[:, t]",
     test_reward_to_go.test_the_expected_gradient_is_that_of_the_return_in_one_world),
    ("the sum runs forwards", reward_to_go, "reversed(range(rewards.shape[1]))", "range(rewards.shape[1])",
     test_reward_to_go.test_a_token_answers_for_its_own_reward_and_for_none_before_it),
    ("the first token is left out", reward_to_go, "reversed(range(rewards.shape[1]))", "reversed(range(1, rewards.shape[1]))",
     test_reward_to_go.test_rewards_to_go_by_hand),
    ("the whole return under a baseline", baseline, "returns_to_go = rewards_to_go(", "returns_to_go = trajectory_returns(",
     test_baseline.test_with_a_discount_it_does_not_change_that_of_the_previous_stage, 0.7),
    ("gamma is dropped under a baseline", baseline, "rewards_to_go(rewards=rewards, response_mask=response_mask, gamma=gamma)",
     "rewards_to_go(rewards=rewards, response_mask=response_mask, gamma=1)", test_baseline.test_advantages_by_hand),
    # what is subtracted
    ("no baseline at all", baseline, "values=returns_to_go - values", "values=returns_to_go",
     test_baseline.test_a_baseline_of_the_action_changes_it),
    ("the own return for the batch mean", baseline, "returns[:, 0].mean().expand_as",
     "returns[:, :1].expand_as", test_baseline.test_with_the_batch_mean_the_gradient_is_too_short, 2, (3, 2)),
    ("the own row is among the others", baseline, " - returns[:, :1]) / (len(returns) - 1)", ") / (len(returns) - 1)",
     test_baseline.test_without_the_own_row_the_gradient_is_right, 2, (3, 2)),
    ("the batch mean for the other rows", baseline,
     "(returns[:, 0].sum() - returns[:, :1]) / (len(returns) - 1)",
     "(returns[:, 0].sum() - 0 * returns[:, :1]) / len(returns)",
     test_baseline.test_without_the_own_row_the_gradient_is_right, 3, (2, 3)),
    ("the other rows are divided by B", baseline, "/ (len(returns) - 1)", "/ len(returns)",
     test_baseline.test_leave_one_out_by_hand),
    ("decay and 1 - decay are swapped", baseline, "decay * moving_average + (1 - decay) *",
     "(1 - decay) * moving_average + decay *", test_baseline.test_moving_average_by_hand),
    ("the new batch has the weight 1", baseline, "moving_average + (1 - decay) * returns", "moving_average + returns",
     test_baseline.test_the_moving_average_is_the_baseline_of_the_next_batch),
    ("the returns are not weighted by norms", baseline, "(squared_norms * returns).sum() / squared_norms.sum()", "returns.mean()",
     test_baseline.test_the_mean_return_can_be_worse_than_no_baseline),
    ("the norms are not squared", baseline, "return (squared_norms * returns)",
     "squared_norms = squared_norms.sqrt()\n    return (squared_norms * returns)",
     test_baseline.test_the_mean_return_can_be_worse_than_no_baseline),
    # missing refusals: numbers and rows
    ("any gamma in the return", policy_gradient, '    check_range("[0, 1]", gamma=gamma)\n', "",
     test_policy_gradient.test_refused_numbers, 1.1),
    ("any gamma in what is to go", reward_to_go, '    check_range("[0, 1]", gamma=gamma)\n', "",
     test_reward_to_go.test_refused_numbers, 1.1),
    ("any decay", baseline, '    check_range("[0, 1]", decay=decay)\n', "", test_baseline.test_refused_numbers, 1.1),
    ("any moving average", baseline, '    check_range("(-inf, inf)", moving_average=moving_average)\n', "",
     test_baseline.test_refused_moving_average, float("nan")),
    ("no other rows", baseline, "if len(returns) < 2:", "if len(returns) < 1:", test_baseline.test_refused_single_row),
    ("negative squared norms", baseline, "not (squared_norms >= 0).all() or ", "",
     test_baseline.test_refusals_of_the_optimal_constant, "squared_norms", f64([3.0, -1.0]), "squared_norms: got numbers below 0"),
    ("squared norms of 0 only", baseline, "not 0 < squared_norms.sum()", "not 0 <= squared_norms.sum()",
     test_baseline.test_refusals_of_the_optimal_constant, "squared_norms", f64([0.0, 0.0]), "squared_norms: got numbers below 0"),
    ("infinite squared norms", baseline, "not 0 < squared_norms.sum() < torch.inf", "not 0 < squared_norms.sum()",
     test_baseline.test_refusals_of_the_optimal_constant, "squared_norms", f64([3.0, float("inf")]),
     "squared_norms: got numbers below 0"),
    # gamma for lam
    ("gamma for lam", gae, "gamma * lam * running", "gamma * gamma * running", test_gae.test_gae_by_hand),
    ("lam alone", gae, "gamma * lam * running", "lam * running", test_gae.test_gae_by_hand),
    ("lam in the residual", gae, "deltas[:, t] + gamma * lam * running", "(1 - lam) * deltas[:, t] + gamma * lam * running",
     test_gae.test_gae_by_hand),
    ("one step too many", gae, "min(n, deltas.shape[1]) - 1", "min(n, deltas.shape[1])", test_gae.test_n_step_advantages_by_hand),
    # the end of the response
    ("the value after the end is not 0", gae, "values = zero_padding(values=values, mask=response_mask)  #", "values = values  #",
     test_gae.test_td_residuals_by_hand),
    ("the value after the last column is the last value", gae, "torch.zeros_like(x[:, :1])", "x[:, -1:]",
     test_gae.test_with_wrong_values_only_lam_1_is_right_on_average),
    ("the value of this state, not of the next", gae, "[x[:, 1:], torch.zeros_like(x[:, :1])]", "[x]",
     test_gae.test_td_residuals_by_hand),
    ("the score lands on the last column", shaped_reward, "response_mask.sum(dim=1) - 1", "response_mask.sum(dim=1) * 0 - 1 + "
     "response_mask.shape[1]", test_shaped_reward.test_by_hand),
    ("the score lands one slot early", shaped_reward, "response_mask.sum(dim=1) - 1", "(response_mask.sum(dim=1) - 2).clamp(min=0)",
     test_shaped_reward.test_by_hand),
    ("the score lands on every token", shaped_reward, "rewards.scatter_add(1, last_slot.unsqueeze(1), "
     "scores.to(rewards.dtype).unsqueeze(1))", "zero_padding(values=rewards + scores.unsqueeze(1), mask=response_mask)",
     test_shaped_reward.test_by_hand),
    # missing refusals: gradients through data
    ("weights carry gradient", policy_gradient, 'data={"weights": weights}, logprobs=logprobs',
     'data={}, logprobs=logprobs, weights=weights', test_policy_gradient.test_refusals),
    ("rewards of the return carry gradient", policy_gradient, 'data={"rewards": rewards}', "data={}, rewards=rewards",
     test_policy_gradient.test_refusals_of_the_returns),
    ("rewards to go carry gradient", reward_to_go, 'data={"rewards": rewards}', "data={}, rewards=rewards",
     test_reward_to_go.test_refusals),
    ("the baseline carries gradient", baseline, 'data={"rewards": rewards, "values": values}',
     'data={"rewards": rewards}, values=values', test_baseline.test_refusals_of_the_baselines, "baseline_advantages"),
    ("returns carry gradient", baseline, "check_data(returns=returns, squared_norms=squared_norms)",
     "check_data(squared_norms=squared_norms)", test_baseline.test_refusals_of_the_optimal_constant, "returns",
     f64([1.0, 2.0]).requires_grad_(), "returns: got a tensor that requires"),
    ("squared norms carry gradient", baseline, "check_data(returns=returns, squared_norms=squared_norms)",
     "check_data(returns=returns)", test_baseline.test_refusals_of_the_optimal_constant, "squared_norms",
     f64([1.0, 2.0]).requires_grad_(), "squared_norms: got a tensor"),
    ("rewards carry gradient", gae, 'data={"rewards": rewards, "values": values}', 'data={"values": values}, rewards=rewards', test_gae.test_refusals, "gae_advantages"),
    ("advantages carry gradient", ppo, 'data={"advantages": advantages}, logprobs=logprobs', 'data={}, logprobs=logprobs, advantages=advantages', test_ppo.test_refusals, "clipped"),
    ("old log-probs carry gradient", logprobs, 'data={"old_logprobs": old_logprobs}', 'data={}, old_logprobs=old_logprobs', test_logprobs.test_refused_ratios),
    ("old values carry gradient", ppo, 'data={"old_values": old_values, "value_targets": value_targets}', 'data={"value_targets": value_targets}, old_values=old_values', test_ppo.test_refusals, "clipped_value"),
    ("value targets carry gradient", baseline, 'data={"value_targets": value_targets}', 'data={}, value_targets=value_targets', test_baseline.test_refusals),
    ("shaped rewards carry gradient", shaped_reward, 'data={"logprobs": logprobs, "ref_logprobs": ref_logprobs}',
     'data={"logprobs": logprobs}, ref_logprobs=ref_logprobs', test_shaped_reward.test_refusals),
    ("the reference carries gradient", kl, "    check_data(ref_logits=ref_logits)\n", "", test_kl.test_refused_logits),
    # KL direction
    ("k1 of the other direction", kl, "return logprobs - ref_logprobs", "return ref_logprobs - logprobs", test_kl.test_estimators_by_hand),
    ("k3 of the other direction", kl, "torch.expm1(-d) + d", "torch.expm1(d) - d",
     test_kl.test_k1_and_k3_are_unbiased_and_k2_is_not),
    ("exact KL weighted by the reference", kl, "pi = log_pi.exp()", "pi = log_ref.exp()",
     test_kl.test_exact_kl_by_hand_and_its_direction),
    ("exact KL the other way round", kl, "log_pi - log_ref,", "log_ref - log_pi,", test_kl.test_exact_kl_by_hand_and_its_direction),
    # biased or not, and what whitening keeps
    ("unbiased standard deviation", masked, "(_centred(values, mask) ** 2).sum() / mask.sum()",
     "(_centred(values, mask) ** 2).sum() / (mask.sum() - 1)", test_masked.test_whitening_keeps_neither_sign_nor_size),
    ("variance for standard deviation", masked, "masked_variance(values=values, mask=mask).sqrt()",
     "masked_variance(values=values, mask=mask)", test_masked.test_whitening_keeps_neither_sign_nor_size),
    ("whitening adds the mean back", masked, "return _centred(values, mask) / std", "return _centred(values, mask) / std + values.mean()",
     test_masked.test_whitening_keeps_neither_sign_nor_size),
    ("scaling forgets the mean", masked, "whiten(values=values, mask=mask) + masked_mean(values=values, mask=mask)",
     "whiten(values=values, mask=mask)", test_masked.test_whitening_keeps_neither_sign_nor_size),
    # not a probability
    ("logits for log-probs", logprobs, "log_pi.gather", "logits.gather", test_logprobs.test_logprobs_and_entropy_by_hand),
    ("0 log 0 is NaN", logprobs, "torch.where(pi > 0, log_pi, torch.zeros_like(log_pi))", "log_pi",
     test_logprobs.test_entropy_at_its_ends),
    ("0 log 0 is NaN in the KL", kl, "torch.where(pi > 0, log_pi - log_ref, torch.zeros_like(pi))", "log_pi - log_ref",
     test_kl.test_a_token_forbidden_to_the_policy, 0.3),
    # TRPO: surrogate and KL
    ("the surrogate is a sum", trpo, "return -masked_mean(values=ratios * advantages, mask=response_mask)",
     "return -(ratios * advantages)[response_mask].sum()", test_trpo.test_surrogate_by_hand),
    ("the mean KL is that of new to old", trpo, "(old * differences)", "(log_pi.exp() * -differences)",
     test_trpo.test_mean_kl_by_hand_and_its_direction),
    ("the mean KL is weighted by the new policy", trpo, "(old * differences)", "(log_pi.exp() * differences)",
     test_trpo.test_mean_kl_by_hand_and_its_direction),
    ("the mask is dropped in the mean KL", trpo, "zero_padding(values=logits, mask=real)", "logits",
     test_trpo.test_padding_and_layout, "mean_kl"),
    ("the mean KL counts the padding", trpo, "return masked_mean(values=kl, mask=response_mask)", "return kl.mean()",
     test_trpo.test_mean_kl_by_hand_and_its_direction),
    ("the mean KL is a sum", trpo, "return masked_mean(values=kl, mask=response_mask)", "return kl[response_mask].sum()",
     test_trpo.test_mean_kl_by_hand_and_its_direction),
    ("0 log 0 is NaN in the mean KL", trpo, "torch.where(old > 0, log_old - log_pi, 0.0)", "log_old - log_pi",
     test_trpo.test_a_token_forbidden_to_the_old_policy, 0.3),
    ("a KL below 0 by rounding is cut off, and its curvature with it", trpo, "return masked_mean(values=kl, mask",
     "return masked_mean(values=kl.clamp(min=0), mask", test_trpo.test_fisher_products_against_the_matrix_of_a_softmax_table),
    ("the sampled KL is that of new to old", trpo, "values=old_logprobs - logprobs", "values=logprobs - old_logprobs",
     test_trpo.test_the_sampled_kl_is_the_exact_one_on_average),
    # TRPO: the linear algebra
    ("the damping is dropped", trpo, " + damping * vector", "", test_trpo.test_fisher_vector_product_by_hand),
    ("the gradients stand in another order", trpo, "for gradient in gradients])", "for gradient in gradients[::-1]])",
     test_trpo.test_flat_gradient_by_hand),
    ("alpha is turned round", trpo, "alpha = squared / curvature", "alpha = curvature / squared",
     test_trpo.test_conjugate_gradient_by_hand),
    ("beta is turned round", trpo, "squared / before * direction", "before / squared * direction",
     test_trpo.test_conjugate_gradient_by_hand),
    ("steepest descent for conjugate gradients", trpo, "direction = residual + squared / before * direction",
     "direction = residual", test_trpo.test_conjugate_gradient_by_hand),
    ("the residual grows", trpo, "residual - alpha * product", "residual + alpha * product",
     test_trpo.test_conjugate_gradient_by_hand),
    ("the tolerance is ignored", trpo, "if squared < tolerance or squared <= rounding:", "if squared <= rounding:",
     test_trpo.test_conjugate_gradient_by_hand),
    # TRPO: the step
    ("the natural step goes uphill", trpo, "return -torch.sqrt(", "return torch.sqrt(",
     test_trpo.test_natural_gradient_step_by_hand),
    ("delta for 2 delta", trpo, "torch.sqrt(2 * delta / curvature)", "torch.sqrt(delta / curvature)",
     test_trpo.test_natural_gradient_step_by_hand),
    ("no square root", trpo, "torch.sqrt(2 * delta / curvature)", "(2 * delta / curvature)",
     test_trpo.test_natural_gradient_step_by_hand),
    ("the length without the Fisher matrix", trpo, "curvature = x @ matvec(x)", "curvature = x @ x",
     test_trpo.test_natural_gradient_step_by_hand),
    ("the gradient for x", trpo, "/ curvature) * x", "/ curvature) * gradient", test_trpo.test_natural_gradient_step_by_hand),
    ("the damping does not reach the step", trpo, "vector=vector, damping=damping)", "vector=vector, damping=0.0)",
     test_trpo.test_trpo_step_by_hand, 0.5, 0.04),
    # TRPO: the line search
    ("accepted without improvement", trpo, "-torch.inf < loss() < loss_before and -torch.inf < kl() <= delta", "-torch.inf < kl() <= delta",
     test_trpo.test_line_search_halves_twice_because_of_the_loss),
    ("as high as before is accepted", trpo, "loss() < loss_before", "loss() <= loss_before",
     test_trpo.test_line_search_halves_twice_because_of_the_loss),
    ("accepted at any KL", trpo, "loss() < loss_before and -torch.inf < kl() <= delta", "loss() < loss_before",
     test_trpo.test_line_search_halves_twice_because_of_the_kl),
    ("a loss of NaN is accepted", trpo, "-torch.inf < loss() < loss_before", "not loss() >= loss_before",
     test_trpo.test_a_step_of_nan_is_not_taken),
    ("the old parameters are not put back", trpo, "                parameter.copy_(old)\n    return taken", "                pass\n    return taken",
     test_trpo.test_line_search_halves_twice_because_of_the_kl),
    ("each try starts where the last one ended", trpo, "parameter.copy_(old + shrink**k * piece)",
     "parameter.add_(shrink**k * piece)", test_trpo.test_line_search_halves_twice_because_of_the_kl),
    ("the search allows twice the KL", trpo, "step=step, delta=delta, backtracks", "step=step, delta=2 * delta, backtracks",
     test_trpo.test_a_step_helps_within_the_kl_or_changes_nothing),
]


@pytest.mark.parametrize("module, snippet, slip, test, arguments", [pytest.param(*row[1:5], row[5:], id=row[0]) for row in SLIPS])
def test_a_slip_is_noticed(monkeypatch, module, snippet, slip, test, arguments):
    assert not fails(test, *arguments), "this test must pass before the slip is made"
    put_slip(monkeypatch, module, snippet, slip)
    assert fails(test, *arguments), f"{test.__module__}.{test.__name__} does not notice: {snippet!r} -> {slip!r}"
