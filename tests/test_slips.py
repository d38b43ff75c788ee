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
import test_ppo
import test_shaped_reward

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
    ("holes in the mask are let through", shapes, "    check_mask(response_mask=response_mask)\n", "",
     test_ppo.test_refusals, "clipped_value"),
    # sum for mean, and the one half
    ("the sum for the mean", masked, "masked_sum(values=values, mask=mask) / mask.sum()", "masked_sum(values=values, mask=mask)",
     test_masked.test_sum_mean_and_variance_by_hand),
    ("the critic's mean has no half", baseline, "return 0.5 * masked_mean", "return masked_mean",
     test_baseline.test_value_loss_by_hand),
    ("the clipped value loss has no half", ppo, "return 0.5 * masked_mean(values=torch.maximum", "return masked_mean(values=torch.maximum",
     test_ppo.test_clipped_value_loss_by_hand, 2.0, 0.0, 2.0, 2.0),
    ("the approximate KL has no half", ppo, "0.5 * masked_mean(values=log_ratios**2,", "masked_mean(values=log_ratios**2,",
     test_ppo.test_policy_diagnostics_by_hand),
    ("k2 has no half", kl, "** 2 / 2", "** 2", test_kl.test_estimators_by_hand),
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
]


@pytest.mark.parametrize("module, snippet, slip, test, arguments", [pytest.param(*row[1:5], row[5:], id=row[0]) for row in SLIPS])
def test_a_slip_is_noticed(monkeypatch, module, snippet, slip, test, arguments):
    assert not fails(test, *arguments), "this test must pass before the slip is made"
    put_slip(monkeypatch, module, snippet, slip)
    assert fails(test, *arguments), f"{test.__module__}.{test.__name__} does not notice: {snippet!r} -> {slip!r}"
