# %% [markdown]
# # 03 The score-function gradient
#
# **Goal:** the gradient of the expected reward when the reward cannot be differentiated, checked
# against the sum over all responses.
#
# Before you run anything, write down three predictions:
#
# 1. Every response gets the same reward, 5. What is the gradient of the expected reward? And what
#    is the estimate from one sampled response?
# 2. In a world of 7 responses, about how many samples does a batch need until the typical error
#    of the estimated gradient is as small as the gradient itself: 1, 15 or 200?
# 3. A policy is trained with this gradient and gets better at every step. Does the loss fall?

# %%
import os

import torch
from plots import BLUE, DARK, ORANGE, name_line, panels, show

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
# There are three tokens, of which token 0 is EOS, and at most two steps: 7 responses. The prompt
# is always the same. A prompt with its response is a **trajectory** $\tau$. A table says what a
# response is worth; the reward is paid on the last token, and no formula connects it with the
# policy. The sum of a response's rewards is its **return** $R(\tau)$. The expected return $J$ is
# what training has to raise.
#
# The policy is a table of logits, one row of three for each of the three states (nothing written
# yet, 1 written, 2 written). So there are N = 7 responses and D = 9 parameters.

# %%
WORTH = {(0,): 1.0, (1, 0): 4.0, (1, 1): 0.0, (1, 2): 2.0, (2, 0): -1.0, (2, 1): 3.0, (2, 2): 0.0}
world = World(lambda prompt, response: WORTH.get(response, 0.0), vocab_size=3, response_length=2)
policy = TabularPolicy(world, generator=torch.Generator().manual_seed(1), scale=0.5)
with torch.no_grad():
    probabilities = response_probabilities(world, policy())  # [N]
returns = world.response_rewards.sum(dim=1)  # [N]
for i in range(len(returns)):
    tokens = world.response_tokens[i, world.response_mask[i]].tolist()
    print(f"response {str(tokens):7}  probability {probabilities[i]:.3f}  return {returns[i]:4.1f}")
print(f"expected return J = {probabilities @ returns:.4f}")

# %% [markdown]
# ## The exact gradient
#
# $J$ is a sum over all trajectories, with $p_\theta(\tau)$ the probability of one under the policy
# with parameters $\theta$:
#
# $$
# J(\theta) = \sum_\tau p_\theta(\tau) \thinspace R(\tau) .
# $$
#
# The returns are plain numbers and the probabilities depend on the parameters, so autograd can
# differentiate the sum. `exact_gradient` does that (it groups the sum by states, which changes
# nothing). With a language model there is no such sum: nobody can list its responses. Here it is
# the answer that every estimate is compared with.

# %%
exact = exact_gradient(world, policy)  # [D]
print("J     ", round(objective(world, policy()).item(), 4))
print("grad J", [round(x, 3) for x in exact.tolist()])

# %% [markdown]
# ## The trick
#
# How can the gradient be had from samples? In three steps. First, differentiate term by term; the
# return does not depend on $\theta$:
#
# $$
# \nabla J = \nabla \sum_\tau p_\theta(\tau) \thinspace R(\tau)
# = \sum_\tau \nabla p_\theta(\tau) \thinspace R(\tau) .
# $$
#
# This sum cannot be sampled: a sample supplies the factor $p_\theta(\tau)$, and that is gone.
# Second, bring it back. The derivative of a logarithm is
# $\nabla \log p_\theta(\tau) = \nabla p_\theta(\tau) / p_\theta(\tau)$, so
#
# $$
# \nabla p_\theta(\tau) = p_\theta(\tau) \thinspace \nabla \log p_\theta(\tau) .
# $$
#
# Third, put that into the sum. What is now in front of every term is its probability, so the sum
# is a mean over what the policy samples:
#
# $$
# \nabla J = \sum_\tau p_\theta(\tau) \thinspace R(\tau) \thinspace \nabla \log p_\theta(\tau)
# = E_{\tau \sim p_\theta} \big[ R(\tau) \thinspace \nabla \log p_\theta(\tau) \big] .
# $$
#
# $\nabla \log p_\theta(\tau)$ is called the score function; it has nothing to do with the score of
# a reward model. The next cell goes through the three lines in numbers, with autograd for the
# derivatives.

# %%
jacobian = torch.autograd.functional.jacobian
table = policy.table.detach()
p = response_probabilities(world, table)  # [N]
grad_p = jacobian(lambda x: response_probabilities(world, x), table).flatten(1)  # [N,D]
grad_log_p = jacobian(lambda x: response_probabilities(world, x).log(), table).flatten(1)
print("sum of grad p times R      ", [round(x, 3) for x in (returns @ grad_p).tolist()])
print("largest |grad p - p grad log p| below 1e-12:", end=" ")
print((grad_p - p.unsqueeze(1) * grad_log_p).abs().max().item() < 1e-12)
print("sum of p times R grad log p", [round(x, 3) for x in ((p * returns) @ grad_log_p).tolist()])

# %% [markdown]
# ## As a loss
#
# The probability of a response is the product of the probabilities of its tokens, each in its
# state $s_t$, so its logarithm is a sum:
# $\nabla \log p_\theta(\tau) = \sum_t \nabla \log \pi_\theta(a_t \mid s_t)$. Optimisers minimise,
# so the loss of a batch of B responses has a minus sign. With the weights $w_t = R(\tau)$ as plain
# numbers it is equation (1.2) of docs/equations.md,
#
# $$
# L = -\frac{1}{B} \sum_{b=1}^{B} \sum_t w_t \log \pi_\theta(a_t \mid s_t) . \qquad (1.2)
# $$
#
# `gradient_samples` takes each response as a batch of one. It returns minus the gradient of that
# loss, together with the response's probability.

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
# The mean of the estimates is the gradient. This is an identity and not an approximation, and
# nowhere was a reward differentiated. But no single estimate is like the mean. The figure shows
# each estimate as a row of circles, larger for a more probable response, and the exact gradient
# as dark bars.

# %%
figure, axes = panels(height=3.2)
for sample, weight in zip(samples, p):
    axes.scatter(range(9), sample, s=500 * weight, facecolors="none", edgecolors=BLUE)
axes.plot(range(9), exact, "_", color=DARK, markersize=20, markeredgewidth=3)
axes.set_xticks(range(9), [f"{state}{token}" for state in ("_ ", "1 ", "2 ") for token in range(3)])
axes.set(
    xlabel="parameter: tokens so far, and the token that the logit is for",
    ylabel="component of the gradient",
)
show(
    figure,
    "For each of nine parameters a short dark bar near 0 and circles spread around it, up to ten"
    " times as far out. Hardly any circle is near its bar, but for those at 0.",
)
print("exact: from", round(exact.min().item(), 2), "to", round(exact.max().item(), 2))
print("estimates: from", round(samples.min().item(), 2), "to", round(samples.max().item(), 2))

# %% [markdown]
# An underscore stands for the state in which nothing is written yet. The bars lie between -0.22
# and 0.26, the circles between -1.56 and 2.72. The circles at 0 belong to responses that have
# return 0 or never came through that state.
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
# Prediction 1: the gradient is 0, and no estimate is. Each sample makes itself more probable; only
# in the mean over all samples do the pushes cancel. Notebook 04 takes the constant part of the
# return away.
#
# ## How many samples?
#
# The total variance of an estimate is the sum of the variances of its components. A batch of $n$
# independent responses has $1/n$ of it, so the typical error (the root mean square of its length)
# is
#
# $$
# \sqrt{E \thinspace \vert \hat g - \nabla J \vert^2} = \sqrt{\text{total variance} / n} ,
# $$
#
# where $\hat g$ is the estimate from the batch. The cell draws batches of several sizes and
# measures the error.

# %%
_, variance = bias_and_variance(world, policy, estimator, exact)
generator, batches = torch.Generator().manual_seed(2), 100 if FAST else 500
sizes, measured = [1, 4, 16, 64, 256, 1024], []
for n in sizes:
    rows = torch.multinomial(p, batches * n, replacement=True, generator=generator).view(batches, n)
    estimates = samples[rows].mean(dim=1)  # [batches,D]
    measured.append((estimates - exact).square().sum(dim=1).mean().sqrt().item())
predicted = [(variance / n) ** 0.5 for n in sizes]
length = exact.norm().item()
print("total variance of one response", round(variance, 3))
print("error measured ", [round(x, 2) for x in measured])
print("error predicted", [round(x, 2) for x in predicted])
print("n at which the error is the length of the gradient:", round(variance / length**2, 1))

# %%
figure, axes = panels(height=3.2)
axes.loglog(sizes, predicted, "-", color=DARK, linewidth=1)
axes.loglog(sizes, measured, "o", color=BLUE)
axes.axhline(length, color=ORANGE, linestyle="--")
name_line(axes, 5.5, predicted[1], "predicted: square root of total variance / n")
name_line(axes, 75, measured[3], "measured", BLUE)
name_line(axes, 110, length * 1.15, "length of the exact gradient", ORANGE)
axes.set(xlabel="n, responses in the batch", ylabel="error of the estimate")
show(
    figure,
    "On logarithmic axes the measured errors lie on a straight falling line, the prediction. It"
    " crosses a dashed horizontal line, the length of the exact gradient, near 16 responses.",
)
print(f"at 1024 responses: {measured[-1]:.3f} measured, {predicted[-1]:.3f} predicted")

# %% [markdown]
# Prediction 2: about 15. With one sample the error is four times as long as the gradient. A
# hundred times as many samples make the error ten times smaller, which is expensive; the next
# notebooks make the variance smaller instead.
#
# ## The loss is no measure of progress
#
# Now the policy is trained with the exact mean of the estimate, so there is no noise. It is
# trained twice from the same start: with the table of worths, and with the same table lowered by
# 4, which makes all returns 0 or less. Better responses are still better by as much.


# %%
def lowered_world(by):
    return World(
        lambda prompt, response: WORTH.get(response, by) - by, vocab_size=3, response_length=2
    )


curves = {}
for by in (0, 4):
    lowered, rows = lowered_world(by), []
    student = TabularPolicy(lowered, generator=torch.Generator().manual_seed(1), scale=0.5)
    optimizer = torch.optim.SGD(student.parameters(), lr=0.3)
    for _ in range(60):
        loss = expected_gradient_loss(lowered, student, lowered.response_rewards)
        rows.append((objective(lowered, student()).item() + by, loss.item()))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    curves[by] = tuple(zip(*rows))  # expected worth, loss
for by, (worth, losses) in curves.items():
    print(f"lowered by {by}: expected worth {worth[0]:.3f} -> {worth[-1]:.3f},", end=" ")
    print(f"loss {losses[0]:.3f} -> {losses[-1]:.3f}, highest {max(losses):.3f}")

# %%
figure, (left, right) = panels(2)
for (by, (worth, losses)), colour, look, width in zip(
    curves.items(), (ORANGE, DARK), ("-", "--"), (4, 1.2)
):
    left.plot(worth, look, color=colour, linewidth=width)
    right.plot(losses, look, color=colour)
    name_line(right, 22, losses[22] + 0.5 - 0.3 * by, f"worths lowered by {by}", colour)
name_line(left, 25, worth[25] - 0.3, "both trainings")
left.set(xlabel="step", ylabel="expected worth of a response")
right.set(xlabel="step", ylabel="loss")
show(
    figure,
    "Left, two curves on top of each other, the expected worth in both trainings, rising from 1.6"
    " to 3.9. Right, their losses: one rises to 3.1 and then falls to 0.5, the other rises all the"
    " way from -4.3 to -0.5.",
)

# %% [markdown]
# Prediction 3: it may fall, rise, or do both. The two trainings take the same steps, and at the
# end one loss is lower than at the start and the other higher. What counts is the gradient of the
# loss, and it is the right one only at the policy that made the samples: after each step new
# samples are due. Whether a policy gets better is seen in the returns.
#
# ## Shared parameters
#
# In the table every state has its own logits. In a network states share parameters. The identity
# does not care: here is the same check with a GPT of one layer.

# %%
gpt = GPTPolicy(world, generator=torch.Generator().manual_seed(3))
gpt_exact = exact_gradient(world, gpt)
gpt_bias, gpt_variance = bias_and_variance(world, gpt, estimator, gpt_exact)
largest = round(gpt_exact.abs().max().item(), 3)
print("parameters", len(gpt_exact), "  largest entry of the gradient", largest)
print("bias below 1e-12:", gpt_bias < 1e-12, "  total variance", round(gpt_variance, 1))

# %% [markdown]
# ## What would break this
#
# Six losses that look alike; the first two are right. Each is a function of a batch. The mean of
# its gradient over all responses is exact, so noise is no excuse. `old_logprobs` are the same
# numbers as `logprobs`, without gradient.


# %%
def loss_of(something):
    """Minus the mean over the rows of the sum over the tokens of return times something."""

    def loss(batch):
        terms = whole_returns(batch) * something(batch.logprobs, batch.old_logprobs)
        return -terms.sum(dim=1).mean()

    return loss


def minus_penalty(batch):
    """The return less a penalty on the distance from the old policy. Its value is 0 here, and its
    gradient is left in."""
    penalty = 0.5 * (batch.logprobs - batch.old_logprobs).sum(dim=1, keepdim=True)
    return estimator(batch) + (penalty * batch.logprobs).sum(dim=1).mean()


# %%
losses = {
    "return * log p": loss_of(lambda new, old: new),
    "return * ratio": loss_of(lambda new, old: (new - old).exp()),
    "return * ratio, nothing detached": loss_of(lambda new, old: (new - new).exp()),
    "return * p": loss_of(lambda new, old: new.exp()),
    "(return - penalty) * log p": minus_penalty,
    "return * log p, mean over tokens": lambda batch: estimator(batch) / batch.response_mask.sum(),
}
print(f"largest entry of the exact gradient {exact.abs().max().item():.3f}")
for name, loss in losses.items():
    error, _ = bias_and_variance(world, policy, loss, exact)
    print(f"{name:40} largest error of the mean {error:.3f}")

# %% [markdown]
# - The ratio $\rho = \pi_\theta / \pi_{\text{old}}$ (notebook 11) gives the same gradient as
#   $\log \pi_\theta$, because $\pi_{\text{old}}$ is a number. With the gradient on both sides of
#   the fraction it is the constant 1: nothing is left of the gradient.
# - The probability in place of its logarithm counts likely tokens twice: the samples hold them
#   more often already.
# - A penalty that is part of the return has to be a number, too. In value it is 0 here. With its
#   gradient left in, the product rule adds a term that has no place in the gradient.
# - A mean over the tokens divides a response by its length. Length depends on what was chosen, so
#   this is another objective.
#
# Two slips are caught before they do harm: detached log-probabilities leave nothing to
# differentiate (`backward` raises an error), and minippo refuses weights that carry a gradient.

# %%
logprobs, mask = world.logprobs(policy()), world.response_mask  # [N,T]
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
# <details><summary>1. Why does the gradient not go through the sampled tokens, as it goes through
# hidden states?</summary>
#
# A token is a whole number. A small change of the parameters does not move it; it changes only
# how probable the token is. $J$ depends on the parameters through the probabilities alone, and
# that is where $\nabla \log p_\theta$ is.
# </details>
#
# <details><summary>2. The probability of a trajectory contains that of its prompt. Why is there no
# term for the prompt in the loss?</summary>
#
# The logarithm turns the product into a sum, and the prompt's term does not depend on the
# parameters: its gradient is 0. The reward of a response does not depend on them either, so
# nothing has to be known about how it comes about.
# </details>
#
# <details><summary>3. After a step, may the same responses be used for a second step of this
# loss?</summary>
#
# Not with the promise of this notebook. They were drawn from the policy before the step, and the
# mean over them is no longer the gradient of the new policy. Ratios correct for that (notebook
# 11), up to a point.
# </details>
#
# ## Exercise
#
# Write the loss of equation (1.2). `logprobs`, `weights` and `response_mask` are [B,T]. The loss
# is a scalar: minus the sum over the real tokens of a response of weight times log-probability,
# and the mean of that over the B responses. The padding may hold any numbers. The weights are
# numbers: if they arrive with a gradient, none may pass through them. `torch` alone is enough.


# %%
def my_policy_gradient_loss(logprobs, weights, response_mask):
    raise NotImplementedError  # your code here


# %%
from minippo.exercises.policy_gradient_loss import exercise

exercise.check(my_policy_gradient_loss)

# %% [markdown]
# ## References
#
# - `minippo/policy_gradient.py` and docs/stage-1-policy-gradient.md: the derivation, step by step.
#   `minippo/exact/` has the world and the sums.
# - Williams 1992, *Simple statistical gradient-following algorithms for connectionist
#   reinforcement learning*: the estimator, under the name REINFORCE.
# - Sutton et al. 2000, *Policy gradient methods for reinforcement learning with function
#   approximation*: the same for states that are visited one after another.
#
# Next: [04 Reward-to-go and baselines](04_reward_to_go_and_baselines.ipynb).
