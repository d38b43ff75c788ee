"""PPO on a language model: rollout, rewards, advantages, update; then again.

The policy starts as a copy of the fine-tuned model, which stays as it is and is called the reference. One update, from
prompt to gradient:

    make_rollout         sample responses, score them, and record what policy, reference and critic say about each token
    estimate_advantages
      shaped_rewards       -kl_coef * (log pi - log pi_ref) on every token, the score on the last
      gae_advantages       what each token was worth, beyond what the critic expected
      value_targets        what the critic should have said; made before the advantages are whitened
      whiten               advantages with mean 0 and standard deviation 1
    update_on_rollout    several passes of minibatches over the clipped losses
      take_step            (train_sft) backward, the gradient's norm held down, one step of the optimiser

The trainer knows nothing of tasks and texts: prompts come from a function, scores from another. The probes of
tests/test_train_policy.py are small worlds made of two such functions.
"""

import torch

from minippo.errors import TrainingError
from minippo.gae import gae_advantages, value_targets
from minippo.kl import kl_k1
from minippo.logprobs import token_entropy, token_ratios
from minippo.masked import masked_mean, masked_sum, masked_variance, scale_to_unit_std, whiten
from minippo.ppo import clipped_surrogate_loss, clipped_value_loss, ppo_diagnostics, value_diagnostics
from minippo.rollout import make_rollout, response_logits, response_logprobs, response_values
from minippo.shaped_reward import shaped_rewards
from minippo.train_sft import take_step

DEGENERATE = 1e-12  # variance of advantages or rewards that are all equal: there is nothing to divide by


def train_policy(*, policy, reference, critic, score_function, draw_prompts, config, generator, eos_id, pad_id,
                 gold_function=None, on_update=None, progress=iter):
    """Train the policy and the critic in place; returns a row of metrics per update.

    score_function(tokens [B,S], mask [B,S]) -> scores [B]; draw_prompts(n) -> (tokens [n,P], mask [n,P]);
    gold_function(rollout) -> mean gold score, for the metrics only; on_update(row, rollout, minibatch) after each.
    TrainingError when a score, a loss or a gradient is not finite.
    """
    policy.eval(), reference.eval(), critic.eval()  # no dropout: the ratio of the first minibatch must be 1
    # eps as in the PPO implementations of OpenAI: it keeps the steps small where the gradients are tiny
    optimizer = torch.optim.Adam([*policy.parameters(), *critic.parameters()], lr=config.learning_rate, eps=1e-5)
    rows = []
    for update in progress(range(1, config.num_updates + 1)):
        done = (update - 1) / max(1, config.num_updates - 1)
        learning_rate = config.learning_rate * (1 - (1 - config.final_learning_rate) * done)
        rollout = make_rollout(policy=policy, reference=reference, critic=critic, score_function=score_function,
                               prompts=draw_prompts(config.batch_size), config=config, generator=generator,
                               eos_id=eos_id, pad_id=pad_id)
        if not bool(rollout.scores.isfinite().all()):
            raise TrainingError(f"policy, update {update}: a score is not finite; look at the reward model")
        rewards, advantages, targets = estimate_advantages(rollout, config)
        updated, minibatch = update_on_rollout(
            policy, critic, optimizer, rollout, advantages, targets, config=config, learning_rate=learning_rate,
            generator=generator, where=f"policy, update {update}")
        row = {"update": update, "episode": update * config.batch_size, "lr": learning_rate}
        row |= rollout_metrics(rollout, rewards, targets, config) | updated
        row["objective/gold"] = None if gold_function is None else gold_function(rollout)
        rows.append(row)
        if on_update is not None:
            on_update(row, rollout, minibatch)
    return rows


def estimate_advantages(rollout, config):
    """(rewards, advantages, value_targets) of a rollout, [B,T] each."""
    mask = rollout.response_mask
    rewards = shaped_rewards(scores=rollout.scores, logprobs=rollout.old_logprobs, ref_logprobs=rollout.ref_logprobs,
                             response_mask=mask, kl_coef=config.kl_coef)
    if config.whiten_rewards and masked_variance(values=rewards, mask=mask) > DEGENERATE:
        rewards = scale_to_unit_std(values=rewards, mask=mask)
    advantages = gae_advantages(rewards=rewards, values=rollout.old_values, response_mask=mask, gamma=config.gamma,
                                lam=config.lam)
    targets = value_targets(advantages=advantages, values=rollout.old_values, response_mask=mask)
    if config.whiten_advantages and masked_variance(values=advantages, mask=mask) > DEGENERATE:
        advantages = whiten(values=advantages, mask=mask)
    return rewards, advantages, targets


def update_on_rollout(policy, critic, optimizer, rollout, advantages, targets, *, config, learning_rate, generator,
                      where):
    """num_ppo_epochs passes of minibatches; returns (metrics averaged over all steps, the last minibatch's ratios).

    Each step minimises   clipped surrogate + vf_coef * clipped value loss - ent_coef * entropy.
    """
    steps = []
    for _ in range(config.num_ppo_epochs):
        order = torch.randperm(len(rollout), generator=generator, device=rollout.response_mask.device)
        for index in order.tensor_split(config.num_mini_batches):
            batch = rollout.rows(index)
            mask, old_logprobs = batch.response_mask, batch.old_logprobs
            logits = response_logits(policy, batch, config.temperature)
            logprobs, values = response_logprobs(logits, batch), response_values(critic, batch)
            ratio_terms = dict(logprobs=logprobs, old_logprobs=old_logprobs, advantages=advantages[index],
                               response_mask=mask, cliprange=config.cliprange)
            value_terms = dict(values=values, old_values=batch.old_values, value_targets=targets[index],
                               response_mask=mask, cliprange_value=config.cliprange_value)
            policy_loss, value_loss = clipped_surrogate_loss(**ratio_terms), clipped_value_loss(**value_terms)
            entropy = masked_mean(values=token_entropy(logits=logits), mask=mask)
            loss = policy_loss + config.vf_coef * value_loss - config.ent_coef * entropy
            norm = take_step(optimizer, loss, learning_rate, where=where, max_grad_norm=config.max_grad_norm)
            steps.append(ppo_diagnostics(**ratio_terms) | value_diagnostics(**value_terms)
                         | {"loss/policy_avg": policy_loss.item(), "loss/value_avg": value_loss.item(),
                            "policy/entropy_avg": entropy.item(), "policy/grad_norm": norm})
        if config.target_kl is not None and steps[-1]["policy/approxkl_avg"] > config.target_kl:
            break
    metrics = {name: sum(step[name] for step in steps) / len(steps) for name in steps[0]}
    metrics["val/ratio_first"] = steps[0]["ratio_max_deviation"]  # max |ratio - 1| of the first minibatch: 0 when sound
    del metrics["ratio_max_deviation"], metrics["val/explained_variance"]  # rollout_metrics has that of the whole rollout
    ratios = token_ratios(logprobs=logprobs.detach(), old_logprobs=old_logprobs, response_mask=mask)
    return metrics, {"ratios": ratios[mask].tolist(), "advantages": advantages[index][mask].tolist()}


def rollout_metrics(rollout, rewards, targets, config):
    """What a rollout says about the policy that made it, and about the critic before it has seen these targets."""
    mask, n = rollout.response_mask, len(rollout)
    kl = masked_sum(values=kl_k1(logprobs=rollout.old_logprobs, ref_logprobs=rollout.ref_logprobs), mask=mask) / n
    score, gap = rollout.scores.mean().item(), (rollout.sample_logprobs - rollout.old_logprobs).abs()
    critic = value_diagnostics(values=rollout.old_values, old_values=rollout.old_values, value_targets=targets,
                               response_mask=mask, cliprange_value=config.cliprange_value)
    return {
        "objective/scores": score,
        "objective/kl": kl.item(),
        "objective/kl_exact": (rollout.exact_kl.sum() / n).item(),
        "objective/entropy": (-rollout.old_logprobs.sum() / n).item(),
        "objective/non_score_reward": -config.kl_coef * kl.item(),
        "objective/rlhf_reward": score - config.kl_coef * kl.item(),
        "objective/kl_coef": config.kl_coef,
        "val/num_eos_tokens": int(rollout.ended.sum()),
        "val/eos_rate": rollout.ended.float().mean().item(),
        "val/response_length": mask.sum(dim=1).float().mean().item(),
        "val/explained_variance": critic["val/explained_variance"],
        "val/reward_avg": masked_mean(values=rewards, mask=mask).item(),
        "sample/logp_gap": masked_mean(values=gap, mask=mask).item(),
    }
