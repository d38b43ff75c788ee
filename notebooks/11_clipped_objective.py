# %% [markdown]
# # 11 The clipped objective
#
# **Goal:** what PPO's clip does to the gradient of a token, and what it does not do to the ratio.
#
# Before you run anything, write down three predictions:
#
# 1. A batch is taken as one minibatch. At the first step on it every ratio is 1, and with
#    whitened advantages the loss is 0. What is the gradient?
# 2. The clip's range $\epsilon$ (`cliprange`) is 0.2. A token with advantage -1 has the ratio
#    1.5, far outside. Does it still have a gradient?
# 3. One batch is used for four passes with $\epsilon = 0.2$ and a large learning rate. What share
#    of its tokens has a ratio outside 0.8 to 1.2 afterwards?

# %%
import functools
import os

import torch
from plots import BLUE, DARK, ORANGE, PALE, name_line, panels, show

from minippo.exact.ladder import reward_functions
from minippo.exact.oracle import objective, values_and_action_values
from minippo.exact.surrogates import exact_advantages, sampled_batch
from minippo.exact.world import GPTPolicy, World
from minippo.masked import whiten
from minippo.policy_gradient import policy_gradient_loss
from minippo.ppo import clipped_surrogate_loss, unclipped_surrogate_loss
from minippo.ppo_statistics import ppo_diagnostics

FAST = bool(os.environ.get("MINIPPO_FAST"))
CLIPPED = functools.partial(clipped_surrogate_loss, cliprange=0.2)

# %% [markdown]
# ## One token
#
# PPO takes several gradient steps on one batch. The **ratio** of a token is its probability now
# over its probability when it was sampled,
#
# $$
# \rho_t = \frac{\pi_\theta(a_t \mid s_t)}{\pi_{\text{old}}(a_t \mid s_t)} = \exp \left( \log
# \pi_\theta(a_t \mid s_t) - \log \pi_{\text{old}}(a_t \mid s_t) \right) .
# $$
#
# It starts at 1. An advantage above 0 wants the ratio to rise, one below 0 wants it to fall. The
# clip takes away the reward for going far. The loss is the mean over the real tokens of a
# minibatch,
#
# $$
# L = -\text{mean}_t \enspace \min \left( \rho_t \hat A_t, \enspace \mathrm{clip}(\rho_t, 1 -
# \epsilon, 1 + \epsilon) \thinspace \hat A_t \right) . \qquad (6.2)
# $$
#
# Both signs of the advantage, over a range of ratios, from minippo's own loss of a single token.
# The gradient is taken with respect to the token's log-probability.


# %%
def one_token(ratio, advantage):
    """(-loss, -its gradient to logprobs): what is maximised, and where it pulls."""
    logprobs = torch.tensor([[ratio]], dtype=torch.float64).log().requires_grad_()
    loss = CLIPPED(
        logprobs=logprobs,
        old_logprobs=torch.zeros_like(logprobs),
        advantages=torch.full_like(logprobs, advantage),
        response_mask=torch.ones_like(logprobs).bool(),
    )
    return -loss.item(), -torch.autograd.grad(loss, logprobs)[0].item()


print("pull on the log-probability")
some = (0.5, 0.79, 0.81, 1.0, 1.19, 1.21, 1.5)
print("ratio   " + "".join(f"{ratio:7.2f}" for ratio in some))
for advantage in (1.0, -1.0):
    pulls = [one_token(ratio, advantage)[1] + 0.0 for ratio in some]
    print(f"A = {advantage:+.0f}  " + "".join(f"{pull:7.2f}" for pull in pulls))

# %% [markdown]
# The pull is the gradient with the sign turned, the direction in which a step moves the
# log-probability. The same for all ratios:

# %%
ratios = torch.linspace(0.4, 1.8, 141).tolist()
figure, axes = panels(2, height=3.3, sharex=True)
for panel, advantage in zip(axes, (1.0, -1.0)):
    rows = [one_token(ratio, advantage) for ratio in ratios]
    panel.plot(ratios, [advantage * ratio for ratio in ratios], ":", color=ORANGE)
    panel.plot(ratios, [row[0] for row in rows], "-", color=DARK, linewidth=2)
    panel.plot(ratios, [row[1] for row in rows], "--", color=BLUE)
    panel.plot([1.0], [advantage], "o", color=DARK)
    panel.set(xlabel="ratio", title=f"A = {advantage:+.0f}", xticks=(0.5, 0.8, 1.0, 1.2, 1.5))
    panel.grid(axis="x", color=PALE)
axes[0].set_ylabel("value; the dot is the start")
name_line(axes[0], 1.3, 1.75, "ρ A", ORANGE)
name_line(axes[0], 1.23, 1.08, "clipped objective")
name_line(axes[0], 1.2, 0.1, "its pull on log π", BLUE)
name_line(axes[1], 0.42, -0.28, "ρ A", ORANGE)
name_line(axes[1], 0.88, -0.72, "clipped objective")
name_line(axes[1], 0.82, -0.1, "its pull on log π", BLUE)
show(
    figure,
    "Left, A above 0: the objective rises with the ratio and is flat from 1.2 on, where its pull"
    " drops to 0. Right, A below 0: it is flat up to 0.8 and falls from there; the pull is 0 up to"
    " 0.8 and below 0 everywhere else, also beyond 1.2. Where it is not 0 the pull is on the line"
    " of the objective.",
)
print("flat parts: A = +1 above ratio 1.2, value", one_token(1.6, 1.0)[0])
print("            A = -1 below ratio 0.8, value", one_token(0.5, -1.0)[0])

# %% [markdown]
# Outside the range there are four cases, two with a gradient and two without:
#
# | | ratio below 0.8 | ratio above 1.2 |
# | --- | --- | --- |
# | A > 0 | went the wrong way: the ordinary gradient brings it back | far enough: no gradient |
# | A < 0 | far enough: no gradient | went the wrong way: the ordinary gradient brings it back |
#
# Prediction 2: yes, a pull of -1.50, more than at ratio 1. The clip is one-sided for each sign.
# That is what the minimum does: it takes the clipped value only where that is the worse one.
#
# ## A ratio of 1 is not "no gradient"
#
# Here is a batch: a one-layer GPT, a world of three tokens and at most four steps, 64 sampled
# responses, whitened advantages. Nothing has been trained yet.


# %%
def make_batch(seed, rows, noise=0.0):
    """(world, policy, index of the sampled responses, data of the loss); noise: of the scores."""
    generator = torch.Generator().manual_seed(seed)
    world = World(reward_functions(seed)["outcome-only"], response_length=4)
    policy = GPTPolicy(world, generator=generator)
    index = sampled_batch(world, policy, rows, generator)
    old_logits, mask = policy().detach(), world.response_mask[index]
    advantages = exact_advantages(world, old_logits)[index]
    if noise:  # sampled return - V, as a noisy score gives it
        values, _ = values_and_action_values(world, old_logits)
        noisy = world.response_rewards[index].sum(dim=1, keepdim=True)
        noisy = noisy + noise * torch.randn(rows, 1, generator=generator, dtype=torch.float64)
        advantages = noisy - world.along_responses(values)[index]
    data = {"response_mask": mask, "advantages": whiten(values=advantages, mask=mask)}
    return world, policy, index, data | {"old_logprobs": world.logprobs(old_logits)[index]}


# %% [markdown]
# Two losses of this batch, and their gradients to all parameters: PPO's, and that of the policy
# gradient with the same advantages as weights.

# %%
world, policy, index, data = make_batch(seed=1, rows=64)
mask, parameters = data["response_mask"], list(policy.parameters())
losses = {
    "clipped": CLIPPED(logprobs=world.logprobs(policy())[index], **data),
    "policy gradient": mask.shape[0]
    / mask.sum()
    * policy_gradient_loss(
        logprobs=world.logprobs(policy())[index], weights=data["advantages"], response_mask=mask
    ),
}
for name, loss in losses.items():
    gradient = torch.autograd.grad(loss, parameters, materialize_grads=True)
    gradient = torch.cat([g.flatten() for g in gradient])
    print(f"{name:<16} value {loss.item() + 0.0:8.4f}   gradient norm {gradient.norm():.6f}")

# %% [markdown]
# Prediction 1: it is the policy gradient. The value is $-\text{mean}_t \hat A_t$, 0 after
# whitening, and says nothing. But $\nabla \rho_t = \rho_t \nabla \log \pi_\theta(a_t \mid s_t)$,
# and $\rho_t = 1$, so the gradient of $-\rho_t \hat A_t$ is
# $-\hat A_t \nabla \log \pi_\theta(a_t \mid s_t)$, the same as that of
# $-\hat A_t \log \pi_\theta(a_t \mid s_t)$. The policy gradient's loss is divided by rows and
# PPO's by tokens; with that factor put in by hand, above, the two have one gradient and different
# values.
#
# ## Ratios after each epoch
#
# Now the loop: four epochs (passes over the batch) of four minibatches, Adam, with the clip and
# without. `clipfrac` is the share of tokens in the two fields "far enough" of the table above:
# with the clip they have no gradient.


# %%
def train(batch, loss, learning_rate, epochs=4, parts=4):
    """After each epoch: the ratios of the real tokens, and the numbers of ppo_diagnostics."""
    world, policy, index, data = batch
    optimizer, records = torch.optim.Adam(policy.parameters(), lr=learning_rate), []
    shuffle = torch.Generator().manual_seed(0)
    for _ in range(epochs):
        for part in torch.randperm(len(index), generator=shuffle).tensor_split(parts):
            rows = {name: x[part] for name, x in data.items()}
            optimizer.zero_grad()
            loss(logprobs=world.logprobs(policy())[index[part]], **rows).backward()
            optimizer.step()
        now = world.logprobs(policy()).detach()[index]
        ratios = (now - data["old_logprobs"])[data["response_mask"]].exp()
        records.append({"ratios": ratios} | ppo_diagnostics(logprobs=now, cliprange=0.2, **data))
    return records


def share_outside(ratios):
    return ((ratios - 1).abs() > 0.2).double().mean().item()


# %% [markdown]
# The learning rate is large for this GPT, so that the ratios have somewhere to go.

# %%
LOSSES = {"clipped": CLIPPED, "unclipped": unclipped_surrogate_loss}
runs = {}
for name, loss in LOSSES.items():
    runs[name] = train(make_batch(seed=1, rows=64), loss, learning_rate=0.003)
    for epoch, row in enumerate(runs[name], start=1):
        print(f"{name:<10} epoch {epoch}: outside {share_outside(row['ratios']):.2f}", end="   ")
        print(f"clipfrac {row['policy/clipfrac_avg']:.2f}", end="   ")
        print(f"ratios {row['ratios'].min():.2f} to {row['ratios'].max():.2f}")

# %% [markdown]
# The same as a figure: after each epoch, all ratios of the batch, sorted.

# %%
figure, axes = panels(2, height=3.8, sharey=True)
nudges = (0.94, 0.99, 1.02, 1.07)  # so that names do not overlap
for panel, (name, rows) in zip(axes, runs.items()):
    panel.axhspan(0.8, 1.2, color=PALE, alpha=0.6)
    for epoch, colour, line in zip(range(4), (ORANGE, BLUE, BLUE, DARK), (":", "-.", "--", "-")):
        ratios = rows[epoch]["ratios"].sort().values
        panel.plot(torch.linspace(0, 1, len(ratios)), ratios, line, color=colour)
        name_line(panel, 1, ratios[-1] * nudges[epoch], str(epoch + 1), colour)
    panel.set(xlabel="share of tokens with a lower ratio", title=name, yscale="log")
    panel.set_yticks((0.4, 0.8, 1.2, 2.0), ("0.4", "0.8", "1.2", "2.0"))
    panel.set_yticks([], minor=True)
axes[0].set_ylabel("ratio after epoch 1, 2, 3, 4")
show(
    figure,
    "Two panels, clipped and unclipped, with the sorted ratios after each of four epochs and a grey"
    " band from 0.8 to 1.2. In both the curves get steeper from epoch to epoch and leave the band"
    " at both ends. Without the clip they spread further.",
)

# %% [markdown]
# Prediction 3: 0.79 of them, and without the clip 0.78. What the clip changes is how far they go:
# up to 1.65 instead of 2.33.
#
# Why do they go on, when beyond the border a token has no gradient? Take the trained policy, and
# one step of plain gradient descent on the clipped loss, without any momentum.

# %%
world, policy, index, data = batch = make_batch(seed=1, rows=64)
train(batch, CLIPPED, learning_rate=0.003)
optimizer, mask = torch.optim.SGD(policy.parameters(), lr=0.1), data["response_mask"]
logprobs = world.logprobs(policy())[index]
loss = CLIPPED(logprobs=logprobs, **data)
(to_logprobs,) = torch.autograd.grad(loss, logprobs, retain_graph=True)
optimizer.zero_grad()
loss.backward()
optimizer.step()
before = logprobs.detach() - data["old_logprobs"]
after = world.logprobs(policy()).detach()[index] - data["old_logprobs"]
clipped = mask & (to_logprobs == 0)
further = clipped & ((after - before) * before > 0)  # away from a log-ratio of 0
print(f"real tokens {mask.sum()}   without gradient {clipped.sum()}", end="   ")
print(f"of these moved further out {further.sum()}")

# %% [markdown]
# 117 of 148 tokens had no gradient, and 87 of these moved further out: the others moved the
# parameters that all share. Adam's momentum comes on top, and so does the length of one step,
# which nothing limits. The clip takes away a token's own wish to go further. It is not a wall.
# What keeps ratios near 1 is small steps and few of them:

# %%
for learning_rate in (0.0003, 0.001, 0.003, 0.01):
    line = f"learning rate {learning_rate:<7}"
    for name, loss in LOSSES.items():
        ratios = train(make_batch(seed=1, rows=64), loss, learning_rate)[-1]["ratios"]
        line += f"   {name}: outside {share_outside(ratios):.2f}, largest {ratios.max():.2f}"
    print(line)

# %% [markdown]
# Why hold the ratios at all? The advantages above are exact. Those of a real batch are noisy, and
# going far means following the noise as well. Twenty problems, batches of 16 with noise on the
# scores, ten epochs; the change of $J$, the true objective:

# %%
for name, loss in LOSSES.items():
    changes = []
    for seed in range(4 if FAST else 20):
        batch = make_batch(seed, rows=16, noise=3.0)
        start = objective(batch[0], batch[1]()).item()
        train(batch, loss, learning_rate=0.01, epochs=10, parts=2)
        changes.append(objective(batch[0], batch[1]()).item() - start)
    print(f"{name:<10} mean {sum(changes) / len(changes):5.2f}", end="   ")
    print(f"worst {min(changes):5.2f}   best {max(changes):5.2f}", end="   ")
    print(f"J falls in {sum(x < 0 for x in changes)} of {len(changes)}")

# %% [markdown]
# Here the clip takes away a part of both ends: the best change is 0.39 instead of 1.33, the worst
# -0.10 instead of -1.64, and $J$ falls in 4 problems instead of 8. The mean is higher without it.
# This is one batch; in a training the next one is sampled from the policy that is left.
#
# ## What would break this
#
# - The clip without the minimum: a token that went the wrong way is left there. With the maximum
#   in place of the minimum it is left there too, and one that is far enough is pulled further
#   out.

# %%
combinations = {
    "min": torch.minimum,
    "clip alone": lambda plain, clipped: clipped,
    "max": torch.maximum,
}
for name, combine in combinations.items():
    line = f"{name:<10}"
    for advantage, ratio in ((1.0, 0.5), (1.0, 1.5), (-1.0, 0.5), (-1.0, 1.5)):
        logprob = torch.tensor(ratio).log().requires_grad_()
        r = logprob.exp()
        goal = combine(r * advantage, r.clamp(0.8, 1.2) * advantage)
        (pull,) = torch.autograd.grad(goal, logprob)
        line += f"   A {advantage:+.0f}, ratio {ratio}: {pull + 0.0:5.2f}"
    print(line)

# %% [markdown]
# - Recomputing `old_logprobs` for every minibatch: then every ratio is 1 at every step, the clip
#   never acts and `clipfrac` is 0, while the policy leaves the one that sampled.


# %%
def always_fresh(logprobs, old_logprobs, **rest):
    return CLIPPED(logprobs=logprobs, old_logprobs=logprobs.detach(), **rest)


ratios = train(make_batch(seed=1, rows=64), always_fresh, learning_rate=0.003)[-1]["ratios"]
print(f"ratios to the policy that sampled: {ratios.min():.2f} to {ratios.max():.2f},", end=" ")
print(f"outside {share_outside(ratios):.2f}")

# %% [markdown]
# - Ratios that are not 1 at the first minibatch: dropout in one of the two passes, another
#   temperature. Tokens are then clipped before anything is learned; docs/diagnostics.md calls it
#   P001.
#
# ## Questions
#
# <details><summary>1. The policy loss that a training prints stays around 0 for the whole run. Is
# the training stuck?</summary>
#
# No. At ratios of 1 the loss is $-\text{mean}_t \hat A_t$, which whitening makes 0, whatever the
# gradient. Look at the score, the KL and the ratios.
# </details>
#
# <details><summary>2. One epoch with a single minibatch per batch: what does the clip do?</summary>
#
# Nothing. The only step is taken at ratios of 1, `clipfrac` is 0, and clipped, unclipped and
# policy gradient are the same method.
# </details>
#
# <details><summary>3. A clipped token has no gradient. Could its gradient come back in the same
# batch?</summary>
#
# Yes. Other tokens move the shared parameters, and its ratio may come back inside the range, or
# it may be carried past the other border, where its own gradient pulls it back.
# </details>
#
# ## Exercise
#
# Write the loss of a batch, (6.2),
#
# $$
# L = -\text{mean}_t \min \big( \rho_t \hat A_t,
# \mathrm{clip}(\rho_t, 1 - \epsilon, 1 + \epsilon) \hat A_t \big) .
# $$
#
# `logprobs`, `old_logprobs` and `advantages` are [B,T], `response_mask` is [B,T] bool,
# `cliprange` is $\epsilon$. The padding holds any numbers. Return a scalar, the mean over the
# True tokens of the batch, to be minimised, with the gradient to `logprobs`.


# %%
def my_clipped_loss(logprobs, old_logprobs, advantages, response_mask, cliprange):
    raise NotImplementedError  # your code here


# %%
from minippo.exercises.clipped_loss import exercise

exercise.check(my_clipped_loss)

# %% [markdown]
# ## References
#
# - Schulman et al. 2017, *Proximal Policy Optimization Algorithms*, arXiv:1707.06347: section 3
#   has the clipped objective.
# - Engstrom et al. 2020, *Implementation Matters in Deep Policy Gradients*, arXiv:2005.12729:
#   ratios outside the range, and how much of PPO is not the clip.
# - `minippo/ppo.py`, docs/stage-6-ppo.md, and docs/qualifications.md, "Clipping keeps the ratio
#   within 1 +- 0.2".
#
# Next: [12 The PPO loop and its dashboard](12_ppo_loop_and_dashboard.ipynb).
