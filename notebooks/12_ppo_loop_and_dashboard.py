# %% [markdown]
# # 12 The PPO loop and its dashboard
#
# **Goal:** to follow one update from prompts to new weights, and then to read every number that the loop writes about itself.
#
# Before you run anything, write down three predictions:
#
# 1. The score rises over a run. Does the policy loss, which is what the optimiser minimises, fall over the same run?
# 2. An update takes 8 optimiser steps on one batch of responses. What share of the tokens is clipped at the first of the eight, and what is the policy loss
#    there?
# 3. A run reports two KLs: `objective/kl`, from the policy to the reference, and `policy/kl_old_to_policy`, from before an update to after it. Which of them grows
#    along a healthy run?

# %%
import copy
import os
from dataclasses import replace

import matplotlib.pyplot as plt
import torch

from minippo.commands.config import PPOConfig
from minippo.critic_head import Critic
from minippo.gpt import GPT, GPTConfig
from minippo.rollout import make_rollout
from minippo.runs.diagnostics import diagnose_all, ratio_first
from minippo.tokenizer import WordTokenizer
from minippo.stages.policy import estimate_advantages, train_policy
from minippo.algorithms.ppo import PPOUpdate

FAST = bool(os.environ.get("MINIPPO_FAST"))

# %% [markdown]
# ## A small world
#
# A prompt names an animal. A response gets 1 point for naming the same animal, 1 point for the word "red", and loses 0.1 for every token, EOS included. So
# "red cat" is worth 1.7 after "cat". This rule stands in the place of a reward model. A response that has not ended after 6 tokens scores -1, whatever it
# says (`no_eos_score`).

# %%
tokenizer = WordTokenizer("cat dog bird red green blue .".split())
ANIMALS, RED = torch.tensor(tokenizer.encode("cat dog bird")), tokenizer.encode("red")[0]


def rule(tokens, mask):  # [B,2+T] -> [B]; the animal of the prompt stands in column 1
    said, length = tokens[:, 2:], mask[:, 2:].sum(dim=1)
    same, red = (said == tokens[:, 1:2]).any(dim=1), (said == RED).any(dim=1)
    return same.float() + red.float() - 0.1 * length


def draw_prompts(n, generator):
    animals = ANIMALS[torch.randint(len(ANIMALS), (n,), generator=generator)]
    tokens = torch.stack((torch.full((n,), tokenizer.bos_id), animals), dim=1)  # [n,2]
    return tokens, torch.ones_like(tokens, dtype=torch.bool)


example = torch.tensor([[tokenizer.bos_id, *tokenizer.encode("cat red cat"), tokenizer.eos_id]])
score = rule(example, torch.ones_like(example, dtype=torch.bool)).item()
print("cat -> red cat: score", round(score, 2))

# %% [markdown]
# The policy is a copy of the reference, and the reference here is an untrained GPT: the fine-tuned model of a real run stands in that place. The critic is a
# copy of the same GPT with a head that starts at 0. Policy and critic learn together; `vf_coef` is the weight of the critic's loss in their common loss.

# %%
config = PPOConfig(
    num_updates=20 if FAST else 40,
    batch_size=64,
    response_length=6,
    learning_rate=1e-3,
    kl_coef=0.1,
    vf_coef=0.5,
    no_eos_score=-1.0,
)
ids = {"eos_id": tokenizer.eos_id, "pad_id": tokenizer.pad_id}


def fresh_models(dropout=0.0):
    gpt_config = GPTConfig(
        tokenizer.vocab_size, context_length=8, n_layer=1, n_head=2, n_embd=32, dropout=dropout
    )
    reference = GPT(gpt_config, generator=torch.Generator().manual_seed(0)).eval()
    critic = Critic(reference).eval()
    return {"policy": copy.deepcopy(reference), "reference": reference, "critic": critic}


print(
    config.num_ppo_epochs,
    "passes of",
    config.num_mini_batches,
    "minibatches; kl_coef",
    config.kl_coef,
    "lam",
    config.lam,
    "cliprange",
    config.cliprange,
)

# %% [markdown]
# ## One update, step by step
#
# **1. Rollout.** The policy answers 64 prompts, and every model says what it has to say about each token. All of this is data from here on.

# %%
generator, models = torch.Generator().manual_seed(0), fresh_models()
rollout = make_rollout(
    **models,
    score_function=rule,
    prompts=draw_prompts(64, generator),
    config=config,
    generator=generator,
    **ids,
)
for b in range(4):
    prompt = tokenizer.decode(rollout.prompt_tokens[b].tolist())
    said = tokenizer.decode(rollout.response_tokens[b].tolist())
    print(f"{prompt:<5} -> {said:<36} score {rollout.scores[b]:5.2f}   ended {rollout.ended[b]}")
for name in ("response_mask", "old_logprobs", "old_values", "scores"):
    print(name, list(getattr(rollout, name).shape), end="  ")
print("\nshare of responses that end:", round(rollout.ended.float().mean().item(), 3))

# %% [markdown]
# **2. Rewards and advantages.** `shaped_rewards` puts the score on the last token and the KL penalty on every token; GAE makes advantages of them; the value
# targets are made; and last the advantages are whitened. The policy still is the reference and the critic says 0, so at this first update the rewards are
# the scores and nothing else. The lines are about the third response above.

# %%
rewards, advantages, targets = estimate_advantages(rollout, config)  # [B,T] each
b = 2
shown = {
    "mask": rollout.response_mask.int(),
    "rewards": rewards,
    "value_targets": targets,
    "advantages": advantages,
}
for name, x in shown.items():
    print(f"{name:<14}", [round(value, 2) + 0 for value in x[b].tolist()])
real = advantages[rollout.response_mask]
print(
    f"over all real tokens: mean {abs(real.mean()):.3f},"
    f" standard deviation {real.std(correction=0):.3f}"
)

# %% [markdown]
# **3. Optimiser steps on the same batch.** `PPOUpdate` makes all passes and returns averages. To see the steps one by one, we give it one pass of one
# minibatch and call it eight times with the same rollout. Each line is what was seen before its step; approxkl is half the mean squared log-ratio, the k2 of
# notebook 09 between the policy that sampled and the present one.

# %%
one_step = replace(config, num_ppo_epochs=1, num_mini_batches=1)
single = PPOUpdate(models["policy"], models["critic"], one_step, generator)
steps = []
for step in range(8):
    metrics, _ = single(
        rollout, advantages, targets, learning_rate=config.learning_rate, where=f"step {step + 1}"
    )
    steps.append(metrics)
    print(
        f"step {step + 1}: policy loss {round(metrics['loss/policy_avg'], 3) + 0.0:6.3f}"
        f"   gradient norm {metrics['policy/grad_norm']:.3f}"
        f"   largest |ratio - 1| {metrics['val/ratio_max_deviation_first']:.2f}"
        f"   clipped {metrics['policy/clipfrac_avg']:.3f}"
        f"   approxkl {metrics['policy/approxkl_avg']:.4f}"
    )

# %%
fig, axes = plt.subplots(1, 3, figsize=(7, 2.4), dpi=80, layout="constrained")
titles = {
    "loss/policy_avg": "policy loss",
    "val/ratio_max_deviation_first": "largest |ratio - 1|",
    "policy/clipfrac_avg": "share of tokens clipped",
}
for ax, (name, title) in zip(axes, titles.items()):
    ax.plot(range(1, 9), [metrics[name] for metrics in steps], color="black", marker="o")
    ax.set_title(title, fontsize="medium")
    ax.set_xlabel("optimiser step of this batch")
plt.show()
print("policy loss, step 1 and 8:", *(round(steps[i]["loss/policy_avg"], 3) + 0.0 for i in (0, 7)))

# %% [markdown]
# *The picture in words: over the eight steps the policy loss falls from 0, the largest distance of a ratio from 1 rises from 0, and the share of clipped
# tokens is 0 at first and then grows.*
#
# At the first step every ratio is 1. The loss is then minus the mean of whitened advantages, which is 0, and nothing is clipped: prediction 2. Its gradient
# is not 0, it is the policy gradient of notebook 03. (The norm printed is that of policy and critic together: they share an optimiser.)
#
# ## Forty updates
#
# `train_policy` repeats this: rollout, advantages, update, and a row of metrics. It is what every run of this package calls; what differs is where the
# prompts and the scores come from. The learning rate falls linearly to a tenth.


# %%
def learn(score_function=rule, **changes):
    generator = torch.Generator().manual_seed(0)
    return train_policy(
        **fresh_models(),
        score_function=score_function,
        draw_prompts=lambda n: draw_prompts(n, generator),
        config=replace(config, **changes),
        generator=generator,
        **ids,
    )


rows = learn()
for row in (rows[0], rows[1], rows[4], rows[9], rows[-1]):
    print(
        f"update {row['update']:2d}   score {row['objective/scores']:6.3f}   "
        f"objective/kl {row['objective/kl']:.3f}   policy/kl_old_to_policy {row['policy/kl_old_to_policy']:.3f}   "
        f"policy loss {row['loss/policy_avg']:.3f}"
    )

# %% [markdown]
# The dashboard: six of the numbers over the updates. The entropy of a distribution is the mean of -log pi over its own draws: near 0 where one token is nearly
# certain, log V where all V tokens are equally likely.

# %%
panels = {
    "score and score - KL price": ("objective/scores", "objective/rlhf_reward"),
    "KL to the reference, nats": ("objective/kl",),
    "entropy, nats per token": ("policy/entropy_avg",),
    "share of tokens clipped": ("policy/clipfrac_avg",),
    "explained variance": ("val/explained_variance",),
    "policy loss": ("loss/policy_avg",),
}

# %%
fig, axes = plt.subplots(2, 3, figsize=(7, 3.5), dpi=80, layout="constrained", sharex=True)
for ax, (title, names) in zip(axes.flat, panels.items()):
    for name, style in zip(names, ("-", "--")):
        ax.plot(range(1, len(rows) + 1), [row[name] for row in rows], "k" + style)
    ax.set_title(title, fontsize="small")
    ax.tick_params(labelsize="small")
axes[0, 0].text(
    len(rows),
    rows[-1]["objective/rlhf_reward"] - 0.5,
    "after the price",
    ha="right",
    fontsize="small",
)
for ax in axes[1]:
    ax.set_xlabel("update", fontsize="small")
plt.show()
for title, names in panels.items():
    print(
        f"{title:<28}",
        *(f"{name.split('/')[1]} {rows[0][name]:.3f} -> {rows[-1][name]:.3f}  " for name in names),
    )

# %% [markdown]
# *The picture in words: the score rises steeply and levels off, and the score minus the price of KL (dashed) stays below it; the KL to the reference rises
# and levels off; the entropy falls; the share of clipped tokens falls; the explained variance stays near 0 for ten updates and then rises, with noise; the
# policy loss is negative and moves towards 0.*
#
# Prediction 1: no, the policy loss rises, from below towards 0. It is measured on a new batch every time, with advantages that are whitened anew, so it
# starts at 0 in every update; how far below 0 its average lies says how large the steps are, not how good the policy is. As the learning rate falls it comes
# nearer to 0. Watch the score.
#
# Prediction 3: `objective/kl` grows: it is the distance from the reference, and the score is bought with it. It is 0 in the first row, because a row
# describes the policy that sampled. `policy/kl_old_to_policy` does not grow: every update starts again from its own old policy.
#
# ## Every metric
#
# These stand in every row, and in `metrics.jsonl` of a run (which adds `seconds` and `eps`, episodes per second). First and last row, least and largest of
# the run:

# %%
for name in rows[0]:
    values = [row[name] for row in rows]
    if None in values:
        print(f"{name:<28} none")
    else:
        chosen = values[0], values[-1], min(values), max(values)
        first, last, least, most = (f"{value + 0.0:10.4g}" for value in chosen)
        print(f"{name:<28} {first} -> {last}   from {least} to {most}")

# %% [markdown]
# Means over responses are per sequence, means over tokens are over real tokens only. "Healthy" is what this run shows or what a diagnostic (below)
# tolerates.
#
# | metric | in words | healthy |
# |---|---|---|
# | `update`, `episode`, `lr` | number of the update; responses sampled so far; learning rate of this update | falls linearly to a tenth |
# | `objective/scores` | mean over responses of the score, after the EOS rule | rises, then levels off |
# | `objective/kl` | mean over responses of the sum over tokens of log pi - log pi_ref (k1) | 0 at first; rises, and levels off with the score |
# | `objective/kl_policy_to_ref_exact` | the same with the KL at each visited state, summed over the vocabulary | near `objective/kl`: the difference is noise |
# | `objective/kl_se` | standard error of the difference of the two | small beside the KL; the two may differ by more than three of it once, not twice in a row on one side |
# | `objective/entropy` | mean over responses of the sum of -log pi of the sampled tokens, nats per sequence | falls while the policy decides |
# | `objective/non_score_reward` | -kl_coef times `objective/kl` | at most about 0 |
# | `objective/rlhf_reward` | score minus kl_coef times KL: what is maximised | rises; falls while the score rises: the KL costs more than it gains |
# | `objective/kl_coef` | the price of a nat | constant |
# | `objective/gold` | the task's rule, where a reward model gives the score; never trained on | rises with the score (here there is none) |
# | `val/num_eos_tokens`, `val/eos_rate` | responses that end by EOS; their share | goes to 1 |
# | `val/response_length` | mean number of tokens, EOS included | no jump to 1 or to `response_length` |
# | `val/score_std` | standard deviation of the scores of the rollout | above 0: otherwise nothing is preferred |
# | `val/reward_avg` | mean over tokens of the shaped reward | rises |
# | `sample/logp_gap` | mean over tokens of the distance between log pi when sampled and when rescored | rounding, below 1e-4 |
# | `val/ratio_max_deviation_first` | largest distance of a ratio from 1 at the first minibatch | rounding, below 1e-4 |
# | `val/ratio`, `val/ratio_var` | mean and variance of the ratios, average over the steps | near 1; small |
# | `policy/approxkl_avg` | half the mean squared log-ratio, average over the steps | the size of `policy/kl_old_to_policy`, or smaller |
# | `policy/clipfrac_avg` | share of tokens whose clipped branch is the smaller one, average over the steps | below 0.5; 0 at times, as here in the end, but not in 20 updates in a row |
# | `policy/kl_old_to_policy` | exact KL(old policy, new policy) per token after the update, at the states of the rollout | small, and does not grow |
# | `policy/entropy_avg` | entropy of the next-token distribution, mean over tokens | falls; near 0 is fine only where the score has risen |
# | `policy/grad_norm` | norm of the gradient before it is shortened to at most `max_grad_norm` | finite, of one order of magnitude |
# | `loss/policy_avg` | the clipped loss, average over the steps | a little below 0; no measure of progress |
# | `loss/value_avg` | half the squared error of the critic, clipped (see below), average over the steps | falls in the long run |
# | `val/clipfrac_avg` | share of tokens whose value has left `cliprange_value` so that its gradient is 0 | small, after the first updates |
# | `val/explained_variance` | 1 - Var(target - value) / Var(target), before the update | above 0 after a while; 1: perfect, below 0: worse than a constant |
# | `val/critic_head_change` | how far the weights of the critic's last layer moved | above 0 |
# | `policy/without_gradient` | names of parameters that no gradient has reached | none |
#
# The critic's loss is clipped like the policy's: a value that has moved by more than `cliprange_value` from what it was at the rollout gets no gradient to go
# further towards its target. Some algorithms add one more metric: `objective/kl_old_coef` (the price of KL to the old policy, in the two variants of PPO that have such a price
# in place of the clip) and `policy/step_share` (how much of the full step TRPO's line search took).
#
# ## Ten diagnostics
#
# Nobody reads thirty numbers per update. `minippo.runs.diagnostics` reads them and says nothing while all is well. A finding is a reason to look, not a
# verdict; docs/diagnostics.md says where to look.
#
# | code | speaks when | look first at |
# |---|---|---|
# | P001 ratio-first | a ratio differs from 1 at the first minibatch | dropout, temperature, positions, masks |
# | P002 logp-gap | the sampler's log-probabilities are not those of one pass over the text | the sampler's cache of earlier positions, temperature, left padding |
# | P003 kl-biased | k1 and the exact KL differ by more than noise | which model is the reference, the direction |
# | P004 pad-eos | PAD and EOS are one id; refused before the start | the tokenizer |
# | P005 no-eos | no response ended in 5 updates | demonstrations without EOS, `no_eos_score` |
# | P006 dead-critic | the critic's head does not move, or it explains nothing after 20 updates | `vf_coef`, the optimiser's parameters |
# | P007 clip | more than half of the tokens are clipped, or none in 20 updates | learning rate, number of passes |
# | P008 kl-runaway | the KL is above 10 nats and rising, or the entropy is below a tenth of its start, and the score gains nothing | `kl_coef`, learning rate, the reward model |
# | P009 adv-degenerate | all scores of a rollout are equal | the reward model, the EOS rule |
# | P010 grad-none | a parameter has no gradient, or one that is not a number | a detach too many |
#
# On the run above they are silent. Now one fault: `vf_coef` is 0, so nothing teaches the critic.

# %%
without_critic = learn(vf_coef=0.0)
for name, run in (("as it was", rows), ("vf_coef 0", without_critic)):
    last = run[-1]
    print(
        f"{name:<10} last score {last['objective/scores']:.3f}"
        f"   explained variance {last['val/explained_variance']:.3f}"
        f"   value loss {last['loss/value_avg']:.3f}"
        f"   head moved {run[0]['val/critic_head_change']:.4f}"
    )
    print("          ", *map(str, diagnose_all(run) or ["no diagnostic speaks"]))

# %%
fig, axes = plt.subplots(1, 2, figsize=(7, 2.6), dpi=80, layout="constrained")
titles = {"objective/scores": "score", "val/explained_variance": "explained variance"}
for ax, (name, title) in zip(axes, titles.items()):
    for run, style, label in ((rows, "-", "with the critic"), (without_critic, "--", "vf_coef 0")):
        ax.plot(range(1, len(run) + 1), [row[name] for row in run], "k" + style, label=label)
    ax.set_title(title, fontsize="medium")
    ax.set_xlabel("update")
axes[1].legend(frameon=False, fontsize="small")
plt.show()
for name, run in (("with the critic", rows), ("vf_coef 0", without_critic)):
    late = [row["objective/scores"] for row in run[len(run) // 2 :]]
    print(f"mean score of the second half, {name}: {sum(late) / len(late):.3f}")

# %% [markdown]
# *The picture in words: the two curves of the score lie close together; the explained variance rises with the critic, and is a flat line at 0 without it.*
#
# The score would not have told. In this small world whitening and the short responses do most of what the critic is for, and the run with the dead critic
# reaches much the same score. P006 speaks at the first update.
#
# ## What would break this
#
# - **Dropout left on in the update.** The rollout is sampled without dropout, the update runs with it: the ratios differ from 1 before anything is learned.
# - **Steps that are too long.** A learning rate ten times as high: most tokens are clipped in the first update.
# - **A reward model that says the same of everything.** All that is left to learn from is the KL penalty. Here all scores are 0, so the critic has nothing
#   to learn either, and P006 speaks as well.
# - **Averages over slots instead of real tokens.** Pads have ratio 1, so they water down every share, the more so the shorter the responses are.

# %%
shaky = fresh_models(dropout=0.1)
batch = make_rollout(
    **shaky,
    score_function=rule,
    prompts=draw_prompts(64, generator),
    config=config,
    generator=generator,
    **ids,
)
shaky["policy"].train()
torch.manual_seed(0)  # dropout draws from the global generator
_, batch_advantages, batch_targets = estimate_advantages(batch, config)
metrics, _ = PPOUpdate(shaky["policy"], shaky["critic"], config, generator)(
    batch, batch_advantages, batch_targets, learning_rate=config.learning_rate, where="dropout"
)
print("dropout:       P001,", ratio_first([metrics]))
print("learning rate:", *diagnose_all(learn(learning_rate=1e-2, num_updates=2)))
zeros = learn(lambda tokens, mask: torch.zeros(len(tokens)), num_updates=1, no_eos_score=None)
print("same scores:  ", *diagnose_all(zeros), sep="\n  ")
mask = rollout.response_mask
print(
    f"{int(mask.sum())} of {mask.numel()} slots are real:"
    f" a share over all is {mask.float().mean():.2f} of the true one"
)

# %% [markdown]
# ## Questions
#
# <details><summary>1. The policy loss is 0 at the first step of an update. Why does the policy move at all?</summary>
#
# A value of 0 is not a gradient of 0. With all ratios 1 the loss is minus the mean advantage, which whitening makes 0; its gradient to the log-probabilities
# is minus each token's own advantage over the number of tokens. Tokens with an advantage above 0 go up, the others down.
# </details>
#
# <details><summary>2. A run has the clip fraction 0 in every update. Is that a fault?</summary>
#
# With one optimiser step per rollout it has to be 0: the only step sees ratios of 1. With several steps it means that the ratios never leave the range, so
# that the clip does nothing and the steps could be longer; after 20 such updates P007 says so.
# </details>
#
# <details><summary>3. The explained variance of a new critic is -0.3 for some updates. Should you stop the run?</summary>
#
# Not yet. It says that the critic's values are worse than a constant. The targets move with the policy, and a critic needs some updates. If it is not above
# 0 by update 20, P006 speaks. Until then GAE with lam near 1 leans mostly on the rewards.
# </details>
#
# ## Exercise
#
# Write the clip fraction of a batch. `logprobs`, `old_logprobs` and `advantages` are [B,T] floats, `response_mask` is [B,T] bool with a different number of
# Trues in each row, `cliprange` is a number. Return a scalar tensor: of the real tokens, the share for which the clipped branch of the objective,
# clip(ratio) times A, is smaller than the unclipped one, ratio times A. What stands in the padding is anything. No gradient is needed.


# %%
def my_clip_fraction(logprobs, old_logprobs, advantages, response_mask, cliprange):
    raise NotImplementedError  # your code here


# %%
from minippo.exercises.clip_fraction import exercise

exercise.check(my_clip_fraction)

# %% [markdown]
# ## References
#
# - Schulman et al. 2017, *Proximal Policy Optimization Algorithms*, arXiv:1707.06347: the loop and the clipped objective.
# - Huang et al. 2024, *The N+ Implementation Details of RLHF with PPO*, arXiv:2403.17031: the details that the dashboard watches, and where they come from.
# - Engstrom et al. 2020, *Implementation Matters in Deep Policy Gradients*, arXiv:2005.12729: how much of a result is in such details.
# - `minippo/stages/policy.py` (the loop), `minippo/algorithms/updates.py` (the steps), `minippo/runs/diagnostics.py`; docs/metrics.md, docs/diagnostics.md,
#   docs/stage-6-ppo.md.
#
# Next: [13 The whole pipeline and the score-KL frontier](13_whole_pipeline_and_frontier.ipynb).
