"""The policy's training on a language model: rollout, rewards, advantages, update; then again.

The policy starts as a copy of the fine-tuned model, which stays as it is and is called the
reference. One update, from prompt to gradient:

    make_rollout         sample responses, score them, and record what policy, reference and critic
                         say about each token
    estimate_advantages
      shaped_rewards       -kl_coef * (log pi - log pi_ref) on every token, the score on the last
      WEIGHTS[algorithm]   what each token was worth: stages 1 to 4 of the derivation
      value_targets        what the critic should have said; made before the advantages are whitened
      whiten               advantages with mean 0 and standard deviation 1
    UPDATES[algorithm]   (updates) one policy gradient step, one TRPO step, or several passes of PPO
                         minibatches
      take_step            (train_sft) backward, the gradient's norm held down, one step of the
                           optimiser

The algorithms differ in two functions, and in nothing else: with the same seed they see the same
first rollout.

The trainer knows nothing of tasks and texts: prompts come from a function, scores from another. The
probes of tests/test_train_policy.py are small worlds made of two such functions.
"""

from torch.nn.utils import parameters_to_vector

from minippo import updates
from minippo.baseline import baseline_advantages
from minippo.errors import TrainingError
from minippo.gae import gae_advantages, value_targets
from minippo.kl import kl_k1
from minippo.masked import masked_mean, masked_variance, scale_to_unit_std, whiten, zero_padding
from minippo.policy_gradient import trajectory_returns
from minippo.ppo import value_diagnostics
from minippo.reward_to_go import rewards_to_go
from minippo.rollout import make_rollout
from minippo.shaped_reward import shaped_rewards
from minippo.train_sft import check_finite, named_parameters, named_weights
from minippo.training_state import restore_training, training_tensors

# variance of advantages or rewards that are all equal: there is nothing to divide by
DEGENERATE = 1e-12

# algorithm -> its weights, a function of (rewards, old_values, response_mask, config); two of them
# ignore the values
WEIGHTS = {
    "pg": lambda rewards, values, mask, config: trajectory_returns(
        rewards=rewards, response_mask=mask, gamma=config.gamma
    ),
    "rtg": lambda rewards, values, mask, config: rewards_to_go(
        rewards=rewards, response_mask=mask, gamma=config.gamma
    ),
    "baseline": lambda rewards, values, mask, config: baseline_advantages(
        rewards=rewards, values=values, response_mask=mask, gamma=config.gamma
    ),
    "gae": lambda rewards, values, mask, config: gae_advantages(
        rewards=rewards, values=values, response_mask=mask, gamma=config.gamma, lam=config.lam
    ),
}
WITHOUT_CRITIC = ("pg", "rtg")
UPDATES = {  # algorithm -> its update; what stands here and not above has the weights of gae
    "pg": updates.PolicyGradientUpdate,
    "rtg": updates.PolicyGradientUpdate,
    "baseline": updates.PolicyGradientUpdate,
    "gae": updates.PolicyGradientUpdate,
    "trpo": updates.TRPOUpdate,
    "ppo": updates.PPOUpdate,
    "ppo_unclipped": updates.UnclippedPPOUpdate,
    "ppo_kl": updates.KLPenalisedPPOUpdate,
    "ppo_adaptive_kl": updates.AdaptiveKLPPOUpdate,
}


def train_policy(
    *,
    policy,
    reference,
    critic,
    score_function,
    draw_prompts,
    config,
    generator,
    eos_id,
    pad_id,
    algorithm="ppo",
    gold_function=None,
    on_update=None,
    progress=iter,
    start=None,
):
    """Train the policy and the critic in place; returns a row of metrics per update that was made.

    score_function(tokens [B,S], mask [B,S]) -> scores [B]; draw_prompts(n) -> (tokens [n,P], mask
    [n,P]); gold_function(rollout) -> mean gold score, for the metrics only. on_update(row, rollout,
    minibatch, state) after each update; state() -> (tensors, numbers) is all that the rest of the
    training depends on. start: such a pair, to go on from. TrainingError, with the tensor's name,
    when a score, a reward, a loss or a gradient is not finite.
    """
    # no dropout: the ratio of the first minibatch must be 1
    policy.eval(), reference.eval(), critic.eval()
    update_on_rollout = UPDATES[algorithm](policy, critic, config, generator)
    parts = dict(
        policy=policy, critic=critic, optimizers=update_on_rollout.optimizers(), generator=generator
    )
    rows, done_before = [], 0
    if start is not None:
        tensors, numbers = start
        restore_training(tensors, **parts)
        update_on_rollout.set_numbers(numbers)
        done_before = numbers["update"]
    for update in progress(range(done_before + 1, config.num_updates + 1)):
        done = (update - 1) / max(1, config.num_updates - 1)
        learning_rate = config.learning_rate * (1 - (1 - config.final_learning_rate) * done)
        where = f"policy, update {update}"
        rollout = finite_rollout(
            where,
            policy=policy,
            reference=reference,
            critic=critic,
            score_function=score_function,
            prompts=draw_prompts(config.batch_size),
            config=config,
            generator=generator,
            eos_id=eos_id,
            pad_id=pad_id,
        )
        rewards, advantages, targets = estimate_advantages(rollout, config, algorithm)
        check_finite(where, rewards=rewards, advantages=advantages)
        head_before = head_of(critic)
        updated, minibatch = update_on_rollout(
            rollout, advantages, targets, learning_rate=learning_rate, where=where
        )
        # what the last step made of them
        check_finite(where, **dict(named_weights(policy=policy, critic=critic)))
        row = {"update": update, "episode": update * config.batch_size, "lr": learning_rate}
        row |= rollout_metrics(rollout, rewards, targets, config) | updated
        row["val/critic_head_change"] = (
            None if targets is None else (head_of(critic) - head_before).norm().item()
        )
        row["policy/without_gradient"] = without_gradient(update_on_rollout.optimizers())
        row["policy/kl_old"] = updates.kl_from_old(policy, rollout, config)
        row["objective/gold"] = None if gold_function is None else gold_function(rollout)
        rows.append(row)
        if on_update is not None:
            on_update(
                row,
                rollout,
                minibatch,
                lambda update=update: (
                    training_tensors(**parts),
                    {"update": update, **update_on_rollout.numbers()},
                ),
            )
    return rows


def finite_rollout(where, **arguments):
    """make_rollout(**arguments), whose scores, log-probabilities and values are numbers;
    TrainingError when they are not."""
    try:
        rollout = make_rollout(**arguments)
    except TrainingError as error:  # the sampler does not know which update it works for
        raise TrainingError(f"{where}: {error}") from error
    check_finite(where, "look at the reward model", scores=rollout.scores)
    check_finite(
        where,
        old_logprobs=rollout.old_logprobs,
        ref_logprobs=rollout.ref_logprobs,
        old_values=rollout.old_values,
    )
    return rollout


def estimate_advantages(rollout, config, algorithm="ppo"):
    """(rewards, advantages, value_targets) of a rollout, [B,T] each; targets are None where there
    is no critic."""
    mask = rollout.response_mask
    rewards = shaped_rewards(
        scores=rollout.scores,
        logprobs=rollout.old_logprobs,
        ref_logprobs=rollout.ref_logprobs,
        response_mask=mask,
        kl_coef=config.kl_coef,
    )
    if config.whiten_rewards and masked_variance(values=rewards, mask=mask) > DEGENERATE:
        rewards = scale_to_unit_std(values=rewards, mask=mask)
    advantages = WEIGHTS.get(algorithm, WEIGHTS["gae"])(rewards, rollout.old_values, mask, config)
    targets = None
    if algorithm not in WITHOUT_CRITIC:
        targets = value_targets(
            advantages=advantages, values=rollout.old_values, response_mask=mask
        )
    if config.whiten_advantages and masked_variance(values=advantages, mask=mask) > DEGENERATE:
        advantages = whiten(values=advantages, mask=mask)
    return rewards, advantages, targets


def head_of(critic):
    """A copy of the weights of the critic's last layer, as one vector."""
    return parameters_to_vector(critic.head.parameters()).detach().clone()


def without_gradient(optimizers):
    """Names of the parameters that an optimiser was to change and that no gradient has reached;
    None when there is none."""
    names = [
        name
        for optimizer in optimizers
        if optimizer.state
        for name, parameter in named_parameters(optimizer)
        if parameter.grad is None
    ]
    return ", ".join(names) or None


def rollout_metrics(rollout, rewards, targets, config):
    """What a rollout says about the policy that made it, and about the critic before it has seen
    these targets."""
    mask, n = rollout.response_mask, len(rollout)
    k1 = zero_padding(
        values=kl_k1(logprobs=rollout.old_logprobs, ref_logprobs=rollout.ref_logprobs), mask=mask
    )
    kl = k1.sum() / n
    score, gap = (
        rollout.scores.mean().item(),
        (rollout.sample_logprobs - rollout.old_logprobs).abs(),
    )
    critic = (
        {"val/explained_variance": None}
        if targets is None
        else value_diagnostics(
            values=rollout.old_values,
            old_values=rollout.old_values,
            value_targets=targets,
            response_mask=mask,
            cliprange_value=config.cliprange_value,
        )
    )
    return {
        "objective/scores": score,
        "objective/kl": kl.item(),
        "objective/kl_exact": (rollout.exact_kl.sum() / n).item(),
        # the errors of two tokens are not correlated
        "objective/kl_se": rollout.k1_variance.sum().sqrt().item() / n,
        "objective/entropy": (-rollout.old_logprobs.sum() / n).item(),
        "objective/non_score_reward": -config.kl_coef * kl.item(),
        "objective/rlhf_reward": score - config.kl_coef * kl.item(),
        "objective/kl_coef": config.kl_coef,
        "val/num_eos_tokens": int(rollout.ended.sum()),
        "val/eos_rate": rollout.ended.float().mean().item(),
        "val/response_length": mask.sum(dim=1).float().mean().item(),
        "val/explained_variance": critic["val/explained_variance"],
        "val/score_std": rollout.scores.std(correction=0).item(),
        "val/reward_avg": masked_mean(values=rewards, mask=mask).item(),
        "sample/logp_gap": masked_mean(values=gap, mask=mask).item(),
    }
