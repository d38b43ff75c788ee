# %% [markdown]
# # 03 The score-function gradient
#
# **Goal:** a reward that cannot be differentiated still gives the gradient of the expected reward; checked here against the sum over all responses.
#
# Before you run anything, write down three predictions:
#
# 1. Every response gets the same reward, 5. What is the gradient of the expected reward? And what is the estimate from one sampled response?
# 2. In a world of 7 responses, about how many samples does a batch need until the typical error of the estimated gradient is as small as the gradient itself:
#    1, 15 or 200?
# 3. A policy is trained with this gradient and gets better in every step. Does the loss fall?

# %%
import os

import matplotlib.pyplot as plt
import torch

from minippo.exact.estimators import bias_and_variance, gradient_samples, mean_and_covariance
from minippo.exact.ladder import weighted, whole_returns
from minippo.exact.oracle import exact_gradient, objective, response_probabilities
from minippo.exact.training import expected_gradient_loss
from minippo.exact.world import GPTPolicy, TabularPolicy, World
from minippo.policy_gradient import policy_gradient_loss, trajectory_returns

FAST = bool(os.environ.get("MINIPPO_FAST"))

# %% [markdown]
# ## A world that can be listed
#
# Three tokens, of which token 0 is EOS, and at most two steps: 7 responses. The prompt is always the same. A table says what a response is worth; it is paid
# on the last token and no formula connects it with the policy. The sum of a response's rewards is its **return** R, and the expected return J is what training
# has to raise. The policy is a table of logits, one row of three for each of the three states (nothing
# written yet, 1 written, 2 written). So there are N = 7 responses and D = 9 parameters.

# %%
WORTH = {(0,): 1.0, (1, 0): 4.0, (1, 1): 0.0, (1, 2): 2.0, (2, 0): -1.0, (2, 1): 3.0, (2, 2): 0.0}
world = World(lambda prompt, response: WORTH.get(response, 0.0), vocab_size=3, response_length=2)
policy = TabularPolicy(world, generator=torch.Generator().manual_seed(1), scale=0.5)
with torch.no_grad():
    probabilities = response_probabilities(world, policy())  # [N]
returns = world.response_rewards.sum(dim=1)  # [N]
for tokens, mask, p, R in zip(world.response_tokens, world.response_mask, probabilities, returns):
    print(f"response {str(tokens[mask].tolist()):7}  probability {p:.3f}  return {R:4.1f}")
print(f"expected return J = {probabilities @ returns:.4f}")

# %% [markdown]
# ## The exact gradient
#
# J is the sum of probability times return. The returns are plain numbers, and the probabilities depend on the parameters, so autograd can differentiate the
# sum. `exact_gradient` does that (it groups the sum by states, which changes
# nothing). With a language model there is no such sum: nobody can list its responses. Here it is the
# answer that every estimate is held against.

# %%
exact = exact_gradient(world, policy)  # [D]
print("J     ", round(objective(world, policy()).item(), 4))
print("grad J", [round(x, 3) for x in exact.tolist()])

# %% [markdown]
# ## The trick
#
# The derivative of a logarithm gives grad p = p grad log p. So the sum can be written as a mean over what the policy samples:
#
# grad J = sum over responses of p R grad log p = mean of R grad log p.
#
# Here grad log p is called the score function; it has nothing to do with the score of a reward model. The log-probability of a response is the sum over its
# tokens. As a loss, with the weights w = R as plain numbers, that is equation (1.2) of docs/equations.md:
#
# L = - mean over responses of the sum over their tokens of w log p(token).
#
# `gradient_samples` takes each response as a batch of one and returns minus the gradient of that loss, together with the response's
# probability.

# %%
estimator = weighted(whole_returns)  # policy_gradient_loss with trajectory_returns as weights
p, samples = gradient_samples(world, policy, estimator)  # [N], [N,D]
mean, covariance = mean_and_covariance(p, samples)
print("exact gradient   ", [round(x, 3) for x in exact.tolist()])
print("mean of estimates", [round(x, 3) for x in mean.tolist()])
print("equal up to rounding:", (mean - exact).abs().max().item() < 1e-12)
print("length of the gradient", round(exact.norm().item(), 2))
print("length of each estimate", [round(x, 2) for x in samples.norm(dim=1).tolist()])

# %% [markdown]
# The mean of the estimates is the gradient. This is an identity, no approximation, and nowhere was a reward differentiated. But no single estimate is like
# the mean. The figure shows every estimate as circles, the larger the more probable, and the exact gradient as black bars.

# %%
fig, ax = plt.subplots(figsize=(7, 3.2), dpi=80)
for sample, weight in zip(samples, p):
    ax.scatter(range(9), sample, s=500 * weight, facecolors="none", edgecolors="grey")
ax.plot(range(9), exact, "k_", markersize=20, markeredgewidth=3)
ax.set_xticks(range(9), [f"{state}{token}" for state in ("_ ", "1 ", "2 ") for token in range(3)])
ax.set_ylabel("component of the gradient")
ax.set_xlabel("parameter: tokens so far, and the token that the logit is for")
plt.show()
print("exact            ", [round(x, 2) for x in exact.tolist()])
print("response [1, 0]  ", [round(x, 2) + 0.0 for x in samples[1].tolist()])

# %% [markdown]
# *The picture in words: for each of the nine parameters a short black bar close to 0, between -0.22 and 0.26, and circles spread around it from -1.56 to
# 2.72. The circles at 0 are responses that have return 0 or never came through that state. Hardly any other circle is near its bar. An underscore stands for the
# state in which nothing is written yet.*
#
# ## Every sample pushes, also where there is nothing to learn
#
# Now every response is worth 5. No policy is better than another.

# %%
flat = World(
    lambda prompt, response: 5.0 if response in WORTH else 0.0, vocab_size=3, response_length=2
)
_, pushes = gradient_samples(flat, policy, estimator)
print("exact gradient 0:", exact_gradient(flat, policy).abs().max().item() < 1e-12)
print("mean of estimates 0:", (p @ pushes).abs().max().item() < 1e-12)
print("length of each estimate", [round(x, 2) for x in pushes.norm(dim=1).tolist()])

# %% [markdown]
# Prediction 1: the gradient is 0, and no estimate is. Each sample makes itself more probable; only the mean over what is sampled cancels. Notebook 04 takes
# the constant part of the return away.
#
# ## How many samples?
#
# The total variance is the sum of the variances of all components. A batch of n independent responses has 1/n of it, so the typical error (root mean square
# of its length) is sqrt(total variance / n). The cell draws batches of several sizes and measures the error.

# %%
bias, variance = bias_and_variance(world, policy, estimator, exact)
generator, batches, sizes = (
    torch.Generator().manual_seed(2),
    100 if FAST else 500,
    [1, 4, 16, 64, 256, 1024],
)
measured = []
for n in sizes:
    rows = torch.multinomial(p, batches * n, replacement=True, generator=generator).view(batches, n)
    estimates = samples[rows].mean(dim=1)  # [batches,D]
    measured.append((estimates - exact).square().sum(dim=1).mean().sqrt().item())
print("total variance of one response", round(variance, 3))
print("error measured ", [round(x, 2) for x in measured])
print("error predicted", [round((variance / n) ** 0.5, 2) for n in sizes])
print(
    "n at which the error is the length of the gradient:",
    round(variance / exact.norm().item() ** 2, 1),
)

# %%
fig, ax = plt.subplots(figsize=(7, 3.2), dpi=80)
ax.loglog(sizes, measured, "ko", label="measured")
ax.loglog(
    sizes,
    [(variance / n) ** 0.5 for n in sizes],
    "k-",
    linewidth=1,
    label="sqrt(total variance / n)",
)
ax.axhline(exact.norm().item(), color="black", linestyle="--", linewidth=1)
ax.text(1, exact.norm().item() * 0.72, "length of the exact gradient")
ax.set_xlabel("responses in the batch")
ax.set_ylabel("error of the estimate")
ax.legend(frameon=False)
plt.show()
print(f"at 1024 responses: {measured[-1]:.3f} measured, {(variance / 1024) ** 0.5:.3f} predicted")

# %% [markdown]
# *The picture in words: on logarithmic axes the measured errors lie on a falling straight line, from 2.19 for one response to 0.07 for 1024. It crosses the
# dashed line, the length of the gradient 0.55, near 16 responses.*
#
# Prediction 2: about 15. With one sample the error is four times as long as the gradient. A hundred times more samples make the error ten times smaller,
# which is expensive; the notebooks to come make the variance smaller instead.
#
# ## The loss is no measure
#
# The policy is trained with the exact mean of the estimate, so there is no noise. It is trained twice from the same start: with the table of worths, and with
# the same table lowered by 4, which makes all returns 0 or less. Better responses are still better by as much.

# %%
curves = {}
for lowered_by in (0.0, 4.0):
    lowered = World(
        lambda prompt, response: WORTH.get(response, lowered_by) - lowered_by,
        vocab_size=3,
        response_length=2,
    )
    student = TabularPolicy(lowered, generator=torch.Generator().manual_seed(1), scale=0.5)
    optimizer = torch.optim.SGD(student.parameters(), lr=0.3)
    curves[lowered_by] = []
    for step in range(60):
        loss = expected_gradient_loss(lowered, student, lowered.response_rewards)
        curves[lowered_by].append((objective(lowered, student()).item() + lowered_by, loss.item()))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()

# %%
fig, axes = plt.subplots(1, 2, figsize=(7, 3), dpi=80, constrained_layout=True)
for (lowered_by, curve), style in zip(curves.items(), ("k-", "k--")):
    thick = {"linewidth": 4, "alpha": 0.3} if lowered_by == 0 else {"linewidth": 1.5}
    axes[0].plot([worth for worth, _ in curve], style, **thick)
    axes[1].plot([loss for _, loss in curve], style)
    axes[1].text(
        20, curve[20][1] - 0.9 + 1.2 * (lowered_by == 0), f"worths lowered by {lowered_by:g}"
    )
for ax in axes:
    ax.set_xlabel("step")
axes[0].set_ylabel("expected worth of a response")
axes[1].set_ylabel("loss")
plt.show()
for lowered_by, curve in curves.items():
    print(
        f"lowered by {lowered_by:g}: expected worth {curve[0][0]:.3f} -> {curve[-1][0]:.3f}, "
        f"loss {curve[0][1]:.3f} -> {curve[-1][1]:.3f}, "
        f"highest {max(loss for _, loss in curve):.3f}"
    )

# %% [markdown]
# *The picture in words: left, two curves on top of each other, the expected worth in both trainings, rising from 1.551 to 3.901. Right, their losses: the
# solid one rises to 3.085 and then falls to 0.474, the dashed one rises all the way from -4.286 to -0.487.*
#
# Prediction 3: it may fall, rise, or do both. The two trainings take the same steps, and at the end one loss is lower than at the start and the other
# higher. The gradient of the loss is what counts, and it is the right one only at the policy that made the samples: after each step new samples are due.
# Whether a policy gets better is seen in the returns.
#
# ## Shared parameters
#
# In the table every state has its own logits. In a network states share parameters. The identity does not care: the same check with a GPT of one layer.

# %%
gpt = GPTPolicy(world, generator=torch.Generator().manual_seed(3))
gpt_exact = exact_gradient(world, gpt)
gpt_bias, gpt_variance = bias_and_variance(world, gpt, estimator, gpt_exact)
print(
    "parameters",
    len(gpt_exact),
    "  largest entry of the gradient",
    round(gpt_exact.abs().max().item(), 3),
)
print("bias below 1e-12:", gpt_bias < 1e-12, "  total variance", round(gpt_variance, 1))

# %% [markdown]
# ## What would break this
#
# Six losses that look alike; the first two are right. Each is a function of a batch; the mean of its gradient over all responses is exact, so there is no
# excuse in noise. `old_logprobs` are the same numbers as `logprobs`, without gradient.


# %%
def loss_of(something):
    """Minus the mean over the rows of a sum over the tokens of returns times something."""

    def loss(batch):
        return (
            -(whole_returns(batch) * something(batch.logprobs, batch.old_logprobs))
            .sum(dim=1)
            .mean()
        )

    return loss


def penalty(batch):
    """A penalty on the distance from the old policy, with the gradient left in it; its value here is 0."""
    return 0.5 * (batch.logprobs - batch.old_logprobs).sum(dim=1, keepdim=True)


# %%
losses = {
    "return * log p": loss_of(lambda new, old: new),
    "return * ratio": loss_of(lambda new, old: (new - old).exp()),
    "return * ratio, nothing detached": loss_of(lambda new, old: (new - new).exp()),
    "return * p": loss_of(lambda new, old: new.exp()),
    "(return - penalty) * log p": lambda batch: (
        estimator(batch) + (penalty(batch) * batch.logprobs).sum(dim=1).mean()
    ),
    "return * log p, mean over tokens": lambda batch: estimator(batch) / batch.response_mask.sum(),
}

# %%
print(f"largest entry of the exact gradient {exact.abs().max().item():.3f}")
for name, loss in losses.items():
    print(
        f"{name:40} largest error of the mean {bias_and_variance(world, policy, loss, exact)[0]:.3f}"
    )

# %% [markdown]
# - The ratio new / old (notebook 11) gives the same gradient as log p, because `old` is a number. With the gradient on both sides it is the constant 1:
#   nothing is left of the gradient.
# - The probability p in place of its logarithm weighs likely tokens twice: the samples hold them more often already.
# - A penalty that is part of the return has to be a number, too. In value it is 0 here; with its gradient left in, the product rule adds a term that has no
#   place in the gradient.
# - A mean over the tokens divides long responses by their length. Length depends on what was chosen, so this is another objective.
#
# Two slips are caught before they do harm: a detached log-probability leaves nothing to differentiate (`backward` raises an error), and minippo refuses
# weights that carry a gradient.

# %%
logprobs = world.logprobs(policy())  # [N,T]
mask = world.response_mask
weights = trajectory_returns(rewards=world.response_rewards, response_mask=mask, gamma=1.0)  # [N,T]
for name, lp in (("as it should be", logprobs), ("log-probabilities detached", logprobs.detach())):
    loss = policy_gradient_loss(logprobs=lp, weights=weights, response_mask=mask)
    print(f"{name:27} has a gradient: {loss.requires_grad}")
try:
    policy_gradient_loss(logprobs=logprobs, weights=logprobs * 0.5, response_mask=mask)
except ValueError as error:
    print("ValueError:", error)

# %% [markdown]
# ## Questions
#
# <details><summary>1. Why does the gradient not go through the sampled tokens, as it goes through hidden states?</summary>
#
# A token is a whole number. A small change of the parameters does not move it; it changes only how probable it is. All of the dependence of J on the
# parameters is in the probabilities, and that is where grad log p is.
# </details>
#
# <details><summary>2. A response's probability contains that of its prompt. Why is there no term for the prompt in the loss?</summary>
#
# The logarithm turns the product into a sum, and the prompt's term does not depend on the parameters: its gradient is 0. The reward of a
# response does not depend on them either; so nothing has to be known about how it comes about.
# </details>
#
# <details><summary>3. After a step, may the same responses be used for a second step of this loss?</summary>
#
# Not with the promise of this notebook. Their shares are those of the policy before the step, and the mean over them is no longer the gradient of the new
# policy. Ratios correct for that (notebook 11), up to a point.
# </details>
#
# ## Exercise
#
# Write the loss of equation (1.2). `logprobs`, `weights` and `response_mask` are [B,T]; the loss is a scalar: minus the sum over the real tokens of a
# response of weight times log-probability, and the mean over the B responses. The padding may hold any numbers. The weights are numbers: if they arrive with a
# gradient, none may pass through them. `torch` alone is enough.


# %%
def my_policy_gradient_loss(logprobs, weights, response_mask):
    raise NotImplementedError  # your code here


# %%
from minippo.exercises.policy_gradient_loss import exercise

exercise.check(my_policy_gradient_loss)

# %% [markdown]
# ## References
#
# - `minippo/policy_gradient.py` and docs/stage-1-policy-gradient.md: the derivation, step by step. `minippo/exact/` has the world and the sums.
# - Williams 1992, *Simple statistical gradient-following algorithms for connectionist reinforcement learning*: the estimator, under the name REINFORCE.
# - Sutton et al. 2000, *Policy gradient methods for reinforcement learning with function approximation*: the same for states that are visited one after
#   another.
#
# Next: [04 Reward-to-go and baselines](04_reward_to_go_and_baselines.ipynb).
