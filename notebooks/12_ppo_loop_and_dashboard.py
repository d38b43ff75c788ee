# %% [markdown]
# # 12 The PPO loop and its dashboard
#
# **Goal:** to write the whole loop of PPO, from prompts to new weights, and then to read every
# number that the package's loop writes about itself.
#
# Before you run anything, write down three predictions:
#
# 1. The score rises over a run. Does the policy loss, which is what the optimiser minimises, fall
#    over the same run?
# 2. An update takes 8 optimiser steps on one batch of responses. What share of the tokens is
#    clipped at the first of the eight, and what is the policy loss there?
# 3. A run reports two KLs: `objective/kl`, from the policy to the reference, and
#    `policy/kl_old_to_policy`, from before an update to after it. Which of them grows along a
#    healthy run?

# %%
import copy
import os
from dataclasses import replace

import torch
from plots import BLUE, DARK, ORANGE, name_line, panels, show

from minippo.algorithms import REGISTRY
from minippo.algorithms.base import Experience
from minippo.algorithms.config import PPOConfig
from minippo.algorithms.ppo import PPOUpdate
from minippo.critic_head import Critic
from minippo.gpt import GPT, GPTConfig
from minippo.rollout import Models, make_rollout
from minippo.runs.diagnostics import diagnose_all, ratio_first
from minippo.runs.stats import t_interval
from minippo.stages.credit import estimate_advantages
from minippo.stages.policy import World, train_policy
from minippo.tokenizer import WordTokenizer

FAST = bool(os.environ.get("MINIPPO_FAST"))

# %% [markdown]
# ## A small world
#
# A prompt names an animal. A response gets 1 point for naming the same animal, 1 point for the
# word "red", and loses 0.1 for every token, EOS included. So "red cat" is worth 1.7 after "cat".
# This rule takes the place of a reward model. A response that has not ended after 6 tokens scores
# -1, whatever it says (`no_eos_score`).

# %%
tokenizer = WordTokenizer(["cat", "dog", "bird", "red", "green", "blue", "."])
EOS, PAD = tokenizer.eos_id, tokenizer.pad_id
ANIMALS, RED = torch.tensor(tokenizer.encode("cat dog bird")), tokenizer.encode("red")[0]


def rule(tokens, mask):  # [B,2+T] -> [B]; the animal of the prompt is in column 1
    said, length = tokens[:, 2:], mask[:, 2:].sum(dim=1)
    same, red = (said == tokens[:, 1:2]).any(dim=1), (said == RED).any(dim=1)
    return same.float() + red.float() - 0.1 * length


def draw_prompts(n, generator):
    animals = ANIMALS[torch.randint(len(ANIMALS), (n,), generator=generator)]
    tokens = torch.stack((torch.full((n,), tokenizer.bos_id), animals), dim=1)  # [n,2]
    return tokens, torch.ones_like(tokens, dtype=torch.bool)


example = torch.tensor([[tokenizer.bos_id, *tokenizer.encode("cat red cat"), EOS]])
score = rule(example, torch.ones_like(example, dtype=torch.bool)).item()
print("cat -> red cat: score", round(score, 2))

# %% [markdown]
# The policy $\pi_\theta$ is a copy of the reference $\pi_{\text{ref}}$, and the reference here is
# an untrained GPT: in a real run it is the fine-tuned model. The critic, which says $V(s_t)$, is
# a copy of the same GPT with a head that starts at 0. Policy and critic learn together; `vf_coef`
# is the weight of the critic's loss in their common loss.

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


def fresh_models(dropout=0.0):
    size = GPTConfig(
        tokenizer.vocab_size, context_length=8, n_layer=1, n_head=2, n_embd=32, dropout=dropout
    )
    reference = GPT(size, generator=torch.Generator().manual_seed(0)).eval()
    return Models(copy.deepcopy(reference), reference, Critic(reference).eval())


for name in ("num_ppo_epochs", "num_mini_batches", "kl_coef", "lam", "cliprange"):
    print(name, getattr(config, name), end="   ")

# %% [markdown]
# ## The loop, written out
#
# Everything that notebooks 01 to 11 were about now comes together. First with nothing but tensors
# and the models, so that no step is hidden.
#
# **1. Sampling.** Token by token from the policy of now, which is $\pi_{\text{old}}$ for all that
# follows. A response ends with EOS; after it come pads, and the mask is False there.


# %%
@torch.no_grad()
def sample(policy, prompts, generator):
    """(tokens [B,2+T] of prompt and response, mask [B,T] of the response)"""
    B, T = len(prompts), config.response_length
    tokens = torch.cat((prompts, torch.full((B, T), PAD)), dim=1)
    mask = torch.zeros(B, T, dtype=torch.bool)
    rows = torch.arange(B)  # of the responses that have not ended
    for t in range(T):
        logits = policy(tokens[rows, : 2 + t])[:, -1]  # [.,V], what the next token is drawn from
        drawn = torch.multinomial(logits.softmax(dim=-1), 1, generator=generator)[:, 0]
        tokens[rows, 2 + t], mask[rows, t] = drawn, True
        rows = rows[drawn != EOS]
        if len(rows) == 0:
            break
    return tokens, mask


# %% [markdown]
# **2. Reading.** What a model says at a position is about the next token. A prompt has two tokens
# here, so the first response token is judged by the output at position 1 (notebook 02).
# $\log \pi(a_t \mid s_t)$ and $V(s_t)$ for every token of the responses:


# %%
def logprobs_of(model, tokens, mask):  # [B,T]
    log_pi = model(tokens)[:, 1:-1].log_softmax(dim=-1)  # [B,T,V]
    chosen = log_pi.gather(2, tokens[:, 2:, None]).squeeze(2)
    return torch.where(mask, chosen, 0.0)


def values_along(critic, tokens, mask):  # [B,T]
    return torch.where(mask, critic(tokens)[:, 1:-1], 0.0)


# %% [markdown]
# **3. Rewards, advantages, targets.** Every token pays for its distance from the reference, and
# the last one is paid the score (7.1); GAE makes advantages of the rewards (4.3); advantage plus
# value is the critic's target (4.4); and last the advantages are whitened:
#
# $$
# r_t = -\beta \left( \log \pi_{\text{old}}(a_t \mid s_t) - \log \pi_{\text{ref}}(a_t \mid s_t)
# \right) + [\thinspace t \text{ is the last token} \thinspace] \cdot \text{score}
# $$
#
# $$
# \delta_t = r_t + \gamma V(s_{t+1}) - V(s_t), \qquad \hat A_t = \delta_t + \gamma\lambda \hat
# A_{t+1}, \qquad y_t = \hat A_t + V(s_t)
# $$
#
# All of it is data: no gradient passes.


# %%
def advantages_of(rewards, values):  # [B,T] each; 0 after the end of a response
    advantages = torch.zeros_like(rewards)
    running = following = torch.zeros(len(rewards))  # A and V of the token after
    for t in reversed(range(rewards.shape[1])):
        delta = rewards[:, t] + config.gamma * following - values[:, t]
        running = delta + config.gamma * config.lam * running
        advantages[:, t], following = running, values[:, t]
    return advantages


@torch.no_grad()
def assess(models, tokens, mask):
    """All that the optimiser steps need to know about the responses."""
    old, ref = (logprobs_of(model, tokens, mask) for model in (models.policy, models.reference))
    values = values_along(models.critic, tokens, mask)
    ended = (tokens[:, 2:] == EOS).any(dim=1)
    whole = torch.cat((torch.ones_like(mask[:, :2]), mask), dim=1)
    scores = torch.where(ended, rule(tokens, whole), config.no_eos_score)
    rewards = -config.kl_coef * (old - ref)
    rewards[torch.arange(len(tokens)), mask.sum(dim=1) - 1] += scores
    advantages = advantages_of(rewards, values)
    real = advantages[mask]
    batch = {"tokens": tokens, "mask": mask, "scores": scores}
    batch |= {"old_logprobs": old, "old_values": values, "targets": advantages + values}
    return batch | {"advantages": (advantages - real.mean()) / real.std(correction=0)}


# %% [markdown]
# **4. The loss of a minibatch.** The clipped surrogate (6.2) for the policy, and half a squared
# error for the critic, clipped in a similar way (6.5): a value that has moved by more than
# $\epsilon_V$ (`cliprange_value`) from $V_{\text{old}}$ gets no gradient to go further towards
# its target.
#
# $$
# L = -\text{mean}_t \min \left( \rho_t \hat A_t, \thinspace \mathrm{clip}(\rho_t, 1 - \epsilon,
# 1 + \epsilon) \hat A_t \right) + \text{vf\_coef} \cdot \tfrac{1}{2} \text{mean}_t \max \left(
# (V - y)^2, (V_{\text{clip}} - y)^2 \right)
# $$


# %%
def loss_of(models, batch):
    tokens, mask, advantages = batch["tokens"], batch["mask"], batch["advantages"]
    ratios = (logprobs_of(models.policy, tokens, mask) - batch["old_logprobs"]).exp()
    clipped = ratios.clamp(1 - config.cliprange, 1 + config.cliprange)
    gain = torch.minimum(ratios * advantages, clipped * advantages)
    values = values_along(models.critic, tokens, mask)
    old, targets = batch["old_values"], batch["targets"]
    near = torch.clamp(values, old - config.cliprange_value, old + config.cliprange_value)
    error = torch.maximum((values - targets) ** 2, (near - targets) ** 2)
    return -gain[mask].mean() + config.vf_coef * 0.5 * error[mask].mean()


# %% [markdown]
# **5. The loop.** Sample, judge, and take several passes of minibatches over the batch; then
# throw it away and begin again. The gradient's length is held down to 1, and the learning rate
# falls linearly to a tenth.

# %%
generator, models = torch.Generator().manual_seed(0), fresh_models()
parameters = [*models.policy.parameters(), *models.critic.parameters()]
optimizer = torch.optim.Adam(parameters, eps=1e-5)
by_hand = []  # mean score of each batch
for update in range(config.num_updates):
    prompts, _ = draw_prompts(config.batch_size, generator)
    batch = assess(models, *sample(models.policy, prompts, generator))
    by_hand.append(batch["scores"].mean().item())
    for group in optimizer.param_groups:
        group["lr"] = config.learning_rate * (1 - 0.9 * update / (config.num_updates - 1))
    for _ in range(config.num_ppo_epochs):
        order = torch.randperm(config.batch_size, generator=generator)
        for rows in order.tensor_split(config.num_mini_batches):
            optimizer.zero_grad()
            loss_of(models, {name: x[rows] for name, x in batch.items()}).backward()
            torch.nn.utils.clip_grad_norm_(parameters, max_norm=1.0)
            optimizer.step()
for update in (1, 2, 5, 10, len(by_hand)):
    print(f"update {update:2d}   score {by_hand[update - 1]:6.3f}")
prompts, _ = draw_prompts(4, generator)
for row in sample(models.policy, prompts, generator)[0].tolist():
    print(f"{tokenizer.decode(row[:2]):<5} -> {tokenizer.decode(row[2:])}")

# %% [markdown]
# That is PPO for a language model. `train_policy` of the package does the same, and in addition
# refuses what is not finite and writes a row of metrics per update. It is what every run of this
# package calls; what differs is where the prompts and the scores come from. With the same
# generator it should see the same batches.


# %%
def learn(score_function=rule, **changes):
    generator = torch.Generator().manual_seed(0)
    world = World(
        draw_prompts=lambda n: draw_prompts(n, generator),
        score_function=score_function,
        eos_id=EOS,
        pad_id=PAD,
    )
    return train_policy(
        fresh_models(), world, config=replace(config, **changes), generator=generator
    )


rows = learn()
apart = [abs(row["objective/scores"] - score) for row, score in zip(rows, by_hand)]
for n in (1, 5, 10, len(rows)):
    print(f"largest difference of the two scores in {n:2d} updates: {max(apart[:n]):.0e}")

# %% [markdown]
# The same batches, up to rounding, for the whole run. (On another machine rounding may let one
# draw fall out differently, and from there the two runs would go their own ways.)
#
# ## Inside one update
#
# The package's parts, one after the other. A **rollout** is what was sampled, and what every
# model said about it:

# %%
generator = torch.Generator().manual_seed(0)
rollout = make_rollout(
    fresh_models(),
    draw_prompts(64, generator),
    score_function=rule,
    config=config,
    generator=generator,
    eos_id=EOS,
    pad_id=PAD,
)
for b in range(4):
    prompt = tokenizer.decode(rollout.prompt_tokens[b].tolist())
    said = tokenizer.decode(rollout.response_tokens[b].tolist())
    print(f"{prompt:<5} -> {said:<36} score {rollout.scores[b]:5.2f}   ended {rollout.ended[b]}")
for name in ("response_mask", "old_logprobs", "old_values", "scores"):
    print(name, list(getattr(rollout, name).shape), end="  ")
print("\nshare of responses that end:", round(rollout.ended.float().mean().item(), 3))

# %% [markdown]
# **Rewards and advantages.** The policy still is the reference and the critic says 0, so at this
# first update the rewards are the scores and nothing else. The lines are about the third response
# above.

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
print(f"over all real tokens: mean {abs(real.mean()):.3f},", end=" ")
print(f"standard deviation {real.std(correction=0):.3f}")

# %% [markdown]
# **Optimiser steps on the same batch.** `PPOUpdate` makes all passes and returns averages. To see
# the steps one by one, we give it one pass of one minibatch and call it eight times with the same
# rollout. Each line is what was seen before its step; `approxkl` is half the mean squared
# log-ratio, the $k_2$ of notebook 09 between the policy that sampled and the present one.

# %%
one_step = replace(config, num_ppo_epochs=1, num_mini_batches=1)
single = PPOUpdate(fresh_models(), one_step, torch.Generator().manual_seed(0))
experience, steps = Experience(rollout, advantages, targets), []
for step in range(1, 9):
    updated = single(experience, learning_rate=config.learning_rate, where=f"step {step}")
    steps.append(updated.metrics)
names = {
    "loss/policy_avg": "policy loss",
    "policy/grad_norm": "gradient norm",
    "val/ratio_max_deviation_first": "largest |ratio - 1|",
    "policy/clipfrac_avg": "share clipped",
    "policy/approxkl_avg": "approxkl",
}
print("step  ", "   ".join(names.values()))
for number, metrics in enumerate(steps, start=1):
    line = "   ".join(f"{metrics[name]:{len(title)}.4f}" for name, title in names.items())
    print(f"{number:4d}  ", line.replace("-0.0000", " 0.0000"))

# %%
figure, axes = panels(3, height=2.5)
for panel, name in zip(axes, (*names,)[0:1] + (*names,)[2:4]):
    panel.plot(range(1, 9), [metrics[name] for metrics in steps], "o-", color=DARK)
    panel.set(title=names[name], xlabel="step", xticks=(1, 4, 8))
show(
    figure,
    "Three panels over the eight steps: the policy loss falls from 0, the largest distance of a"
    " ratio from 1 rises from 0, and the share of clipped tokens is 0 at first and then grows.",
)

# %% [markdown]
# At the first step every ratio is 1. The loss is then minus the mean of whitened advantages,
# which is 0, and nothing is clipped: prediction 2. Its gradient is not 0, it is the policy
# gradient of notebook 03. (The norm printed is that of policy and critic together: they share an
# optimiser.)
#
# ## The dashboard
#
# Now the forty updates of `train_policy`, by the numbers it writes.

# %%
for row in (rows[0], rows[1], rows[4], rows[9], rows[-1]):
    line = f"update {row['update']:2d}"
    for name in ("objective/scores", "objective/kl", "policy/kl_old_to_policy", "loss/policy_avg"):
        line += f"   {name} {row[name]:6.3f}"
    print(line)

# %% [markdown]
# Six of the numbers over the updates. The entropy of a distribution is the mean of $-\log \pi$
# over its own draws: near 0 where one token is nearly certain, $\log V$ where all $V$ tokens of
# the vocabulary are equally likely.

# %%
dashboard = {
    "score": ("objective/scores", "objective/rlhf_reward"),
    "KL to the reference, nats": ("objective/kl",),
    "entropy, nats per token": ("policy/entropy_avg",),
    "share of tokens clipped": ("policy/clipfrac_avg",),
    "explained variance": ("val/explained_variance",),
    "policy loss": ("loss/policy_avg",),
}


def draw_rows(titles, alt):
    figure, axes = panels(3, height=2.4)
    for panel, title in zip(axes, titles):
        for name, colour, line in zip(dashboard[title], (DARK, ORANGE), ("-", "--")):
            numbers = [row[name] for row in rows]
            panel.plot(range(1, len(rows) + 1), numbers, line, color=colour)
            ends = f"{numbers[0] + 0.0:.3f} -> {numbers[-1] + 0.0:.3f}"
            print(f"{title:<26} {name:<24} {ends}")
        panel.set_title(title, fontsize="medium")
        panel.set_xlabel("update")
    if "score" in titles:
        name_line(axes[0], 8, 0.1, "minus β KL", ORANGE)
    show(figure, alt)


# %%
draw_rows(
    list(dashboard)[:3],
    "The score rises steeply and levels off, and the score minus the price of KL (dashed) stays"
    " below it; the KL to the reference rises and levels off; the entropy falls.",
)

# %%
draw_rows(
    list(dashboard)[3:],
    "The share of clipped tokens falls; the explained variance stays near 0 for ten updates and"
    " then rises, with noise; the policy loss is negative and moves towards 0.",
)

# %% [markdown]
# Prediction 1: no, the policy loss rises, from below towards 0. It is measured on a new batch
# every time, with advantages that are whitened anew, so it starts at 0 in every update; how far
# below 0 its average is says how large the steps are, not how good the policy is. As the learning
# rate falls it comes nearer to 0. Watch the score.
#
# Prediction 3: `objective/kl` grows: it is the distance from the reference, and the score is
# bought with it. It is 0 in the first row, because a row describes the policy that sampled.
# `policy/kl_old_to_policy` does not grow: every update starts again from its own old policy.
#
# ## Every metric
#
# These are in every row, and in `metrics.jsonl` of a run (which adds `seconds` and `eps`,
# episodes per second). First and last row, least and largest of the run:

# %%
for name in rows[0]:
    values = [row[name] for row in rows]
    if None in values:
        print(f"{name:<32} none")
    else:
        chosen = values[0], values[-1], min(values), max(values)
        first, last, least, most = (f"{value + 0.0:10.4g}" for value in chosen)
        print(f"{name:<32} {first} -> {last}   from {least} to {most}")

# %% [markdown]
# Means over responses are per sequence, means over tokens are over real tokens only. "Healthy" is
# what this run shows or what a diagnostic (below) tolerates.
#
# | metric | in words | healthy |
# |---|---|---|
# | `update`, `episode`, `lr` | number of the update; responses sampled so far; learning rate of this update | falls linearly to a tenth |
# | `objective/scores` | mean over responses of the score, after the EOS rule | rises, then levels off |
# | `objective/kl` | mean over responses of the sum over tokens of $\log \pi_\theta - \log \pi_{\text{ref}}$ ($k_1$) | 0 at first; rises, and levels off with the score |
# | `objective/kl_policy_to_ref_exact` | the same with the KL at each visited state, summed over the vocabulary | near `objective/kl`: the difference is noise |
# | `objective/kl_se` | standard error of the difference of the two | small beside the KL; the two may differ by more than three of it once, not twice in a row on one side |
# | `objective/entropy` | mean over responses of the sum of $-\log \pi_\theta$ of the sampled tokens, nats per sequence | falls while the policy decides |
# | `objective/non_score_reward` | $-\beta$ times `objective/kl` | at most about 0 |
# | `objective/rlhf_reward` | score minus $\beta$ times KL: what is maximised | rises; falls while the score rises: the KL costs more than it gains |
# | `objective/kl_coef` | $\beta$, the price of a nat | constant |
# | `objective/gold` | the task's rule, where a reward model gives the score; never trained on | rises with the score (here there is none) |
# | `val/num_eos_tokens`, `val/eos_rate` | responses that end by EOS; their share | goes to 1 |
# | `val/response_length` | mean number of tokens, EOS included | no jump to 1 or to `response_length` |
# | `val/score_std` | standard deviation of the scores of the rollout | above 0: otherwise nothing is preferred |
# | `val/reward_avg` | mean over tokens of the shaped reward | rises |
# | `sample/logp_gap` | mean over tokens of the distance between $\log \pi_{\text{old}}$ when sampled and when rescored | rounding, below 1e-4 |
# | `val/ratio_max_deviation_first` | largest distance of a ratio from 1 at the first minibatch | rounding, below 1e-4 |
# | `val/ratio`, `val/ratio_var` | mean and variance of the ratios, average over the steps | near 1; small |
# | `policy/approxkl_avg` | half the mean squared log-ratio, average over the steps | the size of `policy/kl_old_to_policy`, or smaller |
# | `policy/clipfrac_avg` | share of tokens whose clipped branch is the smaller one, average over the steps | below 0.5; 0 at times, as here in the end, but not in 20 updates in a row |
# | `policy/kl_old_to_policy` | exact $\mathrm{KL}(\pi_{\text{old}} \Vert \pi_\theta)$ per token after the update, at the states of the rollout | small, and does not grow |
# | `policy/entropy_avg` | entropy of the next-token distribution, mean over tokens | falls; near 0 is fine only where the score has risen |
# | `policy/grad_norm` | norm of the gradient before it is shortened to at most `max_grad_norm` | finite, of one order of magnitude |
# | `loss/policy_avg` | the clipped loss, average over the steps | a little below 0; no measure of progress |
# | `loss/value_avg` | half the squared error of the critic, clipped (see below), average over the steps | falls in the long run |
# | `val/clipfrac_avg` | share of tokens whose value has left `cliprange_value` so that its gradient is 0 | small, after the first updates |
# | `val/explained_variance` | $1 - \mathrm{Var}(y - V) / \mathrm{Var}(y)$, before the update | above 0 after a while; 1: perfect, below 0: worse than a constant |
# | `val/critic_head_change` | how far the weights of the critic's last layer moved | above 0 |
# | `policy/without_gradient` | names of parameters that no gradient has reached | none |
#
# The critic's loss is clipped like the policy's: a value that has moved by more than
# `cliprange_value` from what it was at the rollout gets no gradient to go further towards its
# target. Some algorithms add one more metric: `objective/kl_old_coef` (the price of KL to the old
# policy, in the two variants of PPO that have such a price in place of the clip) and
# `policy/step_share` (how much of the full step TRPO's line search took).
#
# ## Fourteen diagnostics
#
# Nobody reads thirty numbers per update. `minippo.runs.diagnostics` reads them and says nothing
# while all is well. A finding is a reason to look, not a verdict; docs/diagnostics.md says where
# to look.
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
# | P011 gold-falls | the score rose and gold fell: the run is hacked | the reward model's data, `kl_coef` |
# | P012 reward-coin | the reward model may be no better than a coin | more preferences, more passes |
# | P013 seen-often | a demonstration was seen more than 50 times | `sft_steps`, more demonstrations |
# | P014 rlhf-falls | score minus penalty ends below where it began | learning rate, `kl_coef` |
#
# On the run above they are silent. Now one fault: `vf_coef` is 0, so nothing teaches the critic.

# %%
without_critic = learn(vf_coef=0.0)
for name, run in (("as it was", rows), ("vf_coef 0", without_critic)):
    last = run[-1]
    print(f"{name:<10} last score {last['objective/scores']:.3f}", end="   ")
    print(f"explained variance {last['val/explained_variance']:.3f}", end="   ")
    print(f"value loss {last['loss/value_avg']:.3f}", end="   ")
    print(f"head moved {run[0]['val/critic_head_change']:.4f}")
    print("          ", *map(str, diagnose_all(run) or ["no diagnostic speaks"]))

# %%
figure, axes = panels(2, height=2.8)
titles = {"objective/scores": "score", "val/explained_variance": "explained variance"}
both = (("with the critic", rows, DARK, "-"), ("vf_coef 0", without_critic, ORANGE, "--"))
for panel, (name, title) in zip(axes, titles.items()):
    for _, run, colour, line in both:
        panel.plot(range(1, len(run) + 1), [row[name] for row in run], line, color=colour)
    panel.set(title=title, xlabel="update")
name_line(axes[1], 2, 0.35, "with the critic")
name_line(axes[1], 22, -0.08, "vf_coef 0", ORANGE)
axes[1].set_ylim(-0.15, None)
show(
    figure,
    "The two curves of the score are close together; the explained variance rises with the critic,"
    " and is a flat line at 0 without it.",
)
for name, run, *_ in both:
    late = [row["objective/scores"] for row in run[len(run) // 2 :]]
    print(f"mean score of the second half, {name}: {sum(late) / len(late):.3f}")

# %% [markdown]
# The score would not have told. In this small world whitening and the short responses do most of
# what the critic is for, and the run with the dead critic reaches much the same score. P006
# speaks at the first update.
#
# ## What would break this
#
# - **Dropout left on in the update.** The rollout is sampled without dropout, the update runs
#   with it: the ratios differ from 1 before anything is learned.
# - **Steps that are too long.** A learning rate ten times as high: most tokens are clipped in the
#   first update.
# - **A reward model that says the same of everything.** All that is left to learn from is the KL
#   penalty. Here all scores are 0, so the critic has nothing to learn either, and P006 speaks as
#   well.
# - **Averages over slots instead of real tokens.** Pads have ratio 1, so they water down every
#   share, the more so the shorter the responses are.

# %%
generator, shaky = torch.Generator().manual_seed(0), fresh_models(dropout=0.1)
batch = make_rollout(
    shaky,
    draw_prompts(64, generator),
    score_function=rule,
    config=config,
    generator=generator,
    eos_id=EOS,
    pad_id=PAD,
)
_, batch_advantages, batch_targets = estimate_advantages(batch, config)
shaky.policy.train()
torch.manual_seed(0)  # dropout draws from the global generator, and takes no other
updated = PPOUpdate(shaky, config, generator)(
    Experience(batch, batch_advantages, batch_targets),
    learning_rate=config.learning_rate,
    where="dropout",
)
print("dropout:       P001,", ratio_first([updated.metrics]))

# %%
print("learning rate:", *diagnose_all(learn(learning_rate=1e-2, num_updates=2)))
zeros = learn(lambda tokens, mask: torch.zeros(len(tokens)), num_updates=1, no_eos_score=None)
print("same scores:  ", *diagnose_all(zeros), sep="\n  ")
mask = rollout.response_mask
print(f"{int(mask.sum())} of {mask.numel()} slots are real:", end=" ")
print(f"a share over all is {mask.float().mean():.2f} of the true one")

# %% [markdown]
# ## Where the critic and the clip pay
#
# So what are they for? Make it harder. Every score is shifted by a constant, 2 points, that of an
# unended response too; that changes nothing about which policy is best, and a reward model
# trained on comparisons is free to do it. A rollout has 32 responses, a run has 10 rollouts. `pg`
# weights a token with the whole return, shift and all; `gae` has a critic, which can learn the
# shift. Both take one step per rollout. PPO takes 6 passes, once with the clip and once without.
#
# The learning rate was chosen on seeds 100 to 103: for `pg` and `gae` among 0.003, 0.01 and 0.03,
# for PPO among 0.001, 0.003, 0.006 and 0.01; without the clip it stays that of PPO. Here are
# other seeds, and the score without the shift of 512 responses of the trained policy.

# %%
SHIFT, SEEDS = 2.0, range(2 if FAST else 6)
TRIED = {"pg, gae": (0.003, 0.01, 0.03), "ppo": (0.001, 0.003, 0.006, 0.01)}  # on seeds 100 to 103
OWN = {
    "pg": {"learning_rate": 0.01, "whiten_advantages": False},
    "gae": {"learning_rate": 0.01, "whiten_advantages": False},
    "ppo": {"learning_rate": 0.01, "num_ppo_epochs": 6},
    "ppo_unclipped": {"learning_rate": 0.01, "num_ppo_epochs": 6},
}
few = replace(config, num_updates=10, batch_size=32, no_eos_score=config.no_eos_score + SHIFT)


def score_of(models):
    """The mean score of 512 responses, without the shift."""
    dice = torch.Generator().manual_seed(1)
    prompts = draw_prompts(512, dice)[0]
    return assess(models, *sample(models.policy, prompts, dice))["scores"].mean().item()


def shifted_run(algorithm, seed):
    dice, models = torch.Generator().manual_seed(seed), fresh_models()
    trained = models if REGISTRY[algorithm].has_critic else models._replace(critic=None)
    world = World(
        lambda n: draw_prompts(n, dice), lambda tokens, mask: rule(tokens, mask) + SHIFT, EOS, PAD
    )
    changed = replace(few, **OWN[algorithm])
    train_policy(trained, world, config=changed, generator=dice, algorithm=algorithm)
    return score_of(models)


# %%
ends = {name: [shifted_run(name, seed) for seed in SEEDS] for name in OWN}
print(f"before training {score_of(fresh_models()):.2f}, an empty answer -0.1")
for name, scores in ends.items():
    mean = sum(scores) / len(scores)
    print(f"{name:<14}", *(f"{score:5.2f}" for score in scores), f"   mean {mean:5.2f}")
for better, worse in (("gae", "pg"), ("ppo", "gae"), ("ppo", "ppo_unclipped")):
    gains = [a - b for a, b in zip(ends[better], ends[worse])]
    low, high = t_interval(gains)
    gain = f"{sum(gains) / len(gains):.2f} ({low:.2f} to {high:.2f})"
    print(f"{better} - {worse}: {gain}, ahead on {sum(x > 0 for x in gains)} of {len(gains)} seeds")

# %%
figure, panel = panels(height=2.8)
for place, scores in enumerate(ends.values()):
    panel.plot([place] * len(scores), scores, "o", color=BLUE, alpha=0.6)
    panel.plot([place - 0.2, place + 0.2], [sum(scores) / len(scores)] * 2, color=DARK)
panel.axhline(-0.1, color=ORANGE, linestyle="--")
name_line(panel, 0.25, -0.19, "an empty answer", ORANGE)
panel.set(ylabel="score after training", xticks=range(len(ends)), xticklabels=list(ends))
show(
    figure,
    "One point for each seed, and a bar for the mean, for four algorithms: the scores rise from pg"
    " over gae to ppo, and without the clip they fall back and are far apart.",
)

# %% [markdown]
# The means are in the order pg, gae, ppo: the critic pays where the score has an unknown zero,
# and the passes pay where responses are few. Without the clip the same passes with the same steps
# lose most of what was gained. In brackets is the 95 % t interval of the paired difference. What
# this does not separate: PPO whitens its advantages as well, and takes more steps than `gae`.
#
# Seconds of a small world are not the last word. `python benchmarks/critic_and_clip.py` does the
# same with the quick preset's models and its reward model, on ten seeds; docs/results.md has the
# table, and says that with no shift `pg` nearly keeps up there.
#
# ## Questions
#
# <details><summary>1. The policy loss is 0 at the first step of an update. Why does the policy
# move at all?</summary>
#
# A value of 0 is not a gradient of 0. With all ratios 1 the loss is minus the mean advantage,
# which whitening makes 0; its gradient to $\log \pi_\theta(a_t \mid s_t)$ is $-\hat A_t / N$,
# with $N$ the number of real tokens. Tokens with an advantage above 0 go up, the others down.
# </details>
#
# <details><summary>2. A run has the clip fraction 0 in every update. Is that a fault?</summary>
#
# With one optimiser step per rollout it has to be 0: the only step sees ratios of 1. With several
# steps it means that the ratios never leave the range, so that the clip does nothing and the
# steps could be longer; after 20 such updates P007 says so.
# </details>
#
# <details><summary>3. The explained variance of a new critic is -0.3 for some updates. Should you
# stop the run?</summary>
#
# Not yet. It says that the critic's values are worse than a constant. The targets move with the
# policy, and a critic needs some updates. If it is not above 0 by update 20, P006 speaks. Until
# then GAE with $\lambda$ near 1 leans mostly on the rewards.
# </details>
#
# ## Exercise
#
# Write the clip fraction of a batch. `logprobs`, `old_logprobs` and `advantages` are [B,T]
# floats, `response_mask` is [B,T] bool with a different number of Trues in each row, `cliprange`
# is $\epsilon$. Return a scalar tensor: the share of the real tokens for which the clipped branch
# of the objective is the smaller one,
# $\mathrm{clip}(\rho_t, 1 - \epsilon, 1 + \epsilon) \hat A_t < \rho_t \hat A_t$. The padding
# holds any numbers. No gradient is needed.


# %%
def my_clip_fraction(logprobs, old_logprobs, advantages, response_mask, cliprange):
    raise NotImplementedError  # your code here


# %%
from minippo.exercises.clip_fraction import exercise

exercise.check(my_clip_fraction)

# %% [markdown]
# ## References
#
# - Schulman et al. 2017, *Proximal Policy Optimization Algorithms*, arXiv:1707.06347: the loop
#   and the clipped objective.
# - Huang et al. 2024, *The N+ Implementation Details of RLHF with PPO*, arXiv:2403.17031: the
#   details that the dashboard watches, and where they come from.
# - Engstrom et al. 2020, *Implementation Matters in Deep Policy Gradients*, arXiv:2005.12729: how
#   much of a result is in such details.
# - `minippo/stages/policy.py` (the loop), `minippo/stages/credit.py` (rewards, advantages,
#   targets), `minippo/algorithms/ppo.py` (the steps), `minippo/algorithms/config.py` (the
#   settings), `minippo/runs/diagnostics.py`; docs/metrics.md, docs/diagnostics.md,
#   docs/stage-6-ppo.md, docs/results.md.
#
# Next: [13 The whole pipeline and the score-KL frontier](13_whole_pipeline_and_frontier.ipynb).
