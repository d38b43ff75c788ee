# %% [markdown]
# # 07 GAE
#
# **Goal:** GAE, generalised advantage estimation: choose how far to look ahead before trusting
# the critic, and see in exact numbers what each choice costs.
#
# The **advantage** $A(s_t, a_t) = Q(s_t, a_t) - V(s_t)$ of a token in a state is the return to be
# expected after it was chosen minus the one expected before: how much better it is than what the
# policy does on average. It has to be estimated from rewards and from a critic; an estimate has a
# hat, $\hat A_t$. A number $\lambda$ (`lam` in the code) says how far the rewards are followed:
# with 0 the critic takes over after one token, with 1 never.
#
# Before you run anything, write down three predictions:
#
# 1. The critic is wrong. Which $\lambda$ gives an unbiased policy gradient: 0, 1, or none?
# 2. The critic is wrong, and $\lambda$ goes from 0 to 1. Does the error of the advantage
#    estimates themselves, given state and token, fall all the way?
# 3. The critic is wrong by the same number, 1, at every prefix. Does that bias the gradient?

# %%
import os

import torch
from plots import BLUE, DARK, LINES, ORANGE, name_line, panels, show

from minippo.exact import ladder
from minippo.exact.estimators import gradient_samples, mean_and_covariance
from minippo.exact.oracle import exact_gradient, values_and_action_values
from minippo.exact.world import TabularPolicy, World
from minippo.gae import gae_advantages, n_step_advantages, td_residuals

FAST = bool(os.environ.get("MINIPPO_FAST"))

# %% [markdown]
# ## One step ahead
#
# The TD residual (temporal difference) is a surprise of one step: what came, plus what is
# expected now, minus what was expected,
#
# $$
# \delta_t = r_t + \gamma V(s_{t+1}) - V(s_t), \qquad V(s_{\text{end}}) = 0, \qquad (4.1)
# $$
#
# where $\gamma$ discounts what comes later. Its weakness is $V(s_{t+1})$: where the critic is
# wrong about the next state, the token that led there gets the blame or the praise. Here are two
# responses, the second one shorter. The score is paid on the last real token.

# %%
mask = torch.tensor([[True] * 4, [True, True, False, False]])
rewards = torch.tensor([[0.0, 0.0, 0.0, 1.0], [0.0, 1.0, 0.0, 0.0]])
values = torch.tensor([[0.5, 0.4, 0.7, 0.9], [0.5, 0.6, 0.0, 0.0]])
data = {"rewards": rewards, "values": values, "response_mask": mask}
deltas = td_residuals(**data, gamma=1.0)
print("residuals\n", deltas.numpy().round(2))

# %% [markdown]
# After the last real token there is nothing: $V$ counts as 0 there, and so does the residual.
#
# ## Several steps ahead
#
# Let the rewards speak for $n$ steps, and the critic only after that. For two steps,
#
# $$
# \hat A_t^{(2)} = r_t + \gamma r_{t+1} + \gamma^2 V(s_{t+2}) - V(s_t) .
# $$
#
# Now add two residuals, the second one discounted:
#
# $$
# \delta_t + \gamma \delta_{t+1} = \big( r_t + \gamma V(s_{t+1}) - V(s_t) \big) + \gamma \big(
# r_{t+1} + \gamma V(s_{t+2}) - V(s_{t+1}) \big) .
# $$
#
# The value in between, $\gamma V(s_{t+1})$, comes once with a plus and once with a minus. It
# cancels, and what is left is $\hat A_t^{(2)}$. The same happens for any $n$:
#
# $$
# \hat A_t^{(n)} = r_t + \dots + \gamma^{n-1} r_{t+n-1} + \gamma^n V(s_{t+n}) - V(s_t)
# = \sum_{l=0}^{n-1} \gamma^l \delta_{t+l} . \qquad (4.2)
# $$
#
# The next cell takes the middle part of the formula literally and compares it with the sum of
# residuals.

# %%
gamma = 0.9


def n_steps(row, t, n):
    """The middle part of (4.2), for one token."""
    length = int(mask[row].sum())
    steps = range(t, min(t + n, length))
    following = values[row, t + n].item() if t + n < length else 0.0
    rewarded = sum(gamma ** (u - t) * rewards[row, u].item() for u in steps)
    return rewarded + gamma**n * following - values[row, t].item()


for n in (1, 2, 3, 4):
    by_hand = [n_steps(0, t, n) for t in range(4)]
    summed = n_step_advantages(**data, gamma=gamma, n=n)[0]
    print(f"n = {n}", [round(x, 3) for x in by_hand], "  residuals:", summed.numpy().round(3))

# %% [markdown]
# ## All of them at once
#
# A small $n$ leans on the critic, a large one on the luck of the sampled tokens. Rather than
# choose one, take a mean of all of them that gives each $n$ the weight
# $(1-\lambda)\lambda^{n-1}$. For $\lambda$ below 1 these weights add up to 1, and a larger
# $\lambda$ moves weight to larger $n$:
#
# $$
# \hat A_t = (1-\lambda) \sum_{n=1}^{\infty} \lambda^{n-1} \hat A_t^{(n)} = (1-\lambda)
# \sum_{n=1}^{\infty} \lambda^{n-1} \sum_{l=0}^{n-1} \gamma^l \delta_{t+l} .
# $$
#
# Count how often one residual occurs. $\delta_{t+l}$ is in every estimate with $n > l$, each time
# with the factor $\gamma^l$. The weights of those estimates are a geometric series:
#
# $$
# (1-\lambda) \sum_{n=l+1}^{\infty} \lambda^{n-1}
# = (1-\lambda) \lambda^l (1 + \lambda + \lambda^2 + \dots)
# = (1-\lambda) \lambda^l \frac{1}{1-\lambda} = \lambda^l .
# $$
#
# So the two sums become one, and taking its first term out leaves $\gamma\lambda$ times the same
# sum one token later:
#
# $$
# \hat A_t = \sum_{l=0}^{\infty} (\gamma\lambda)^l \delta_{t+l}
# = \delta_t + \gamma\lambda \hat A_{t+1}, \qquad \hat A_{\text{end}} = 0 . \qquad (4.3)
# $$
#
# That recursion is GAE: one pass from the last token to the first. For $\lambda = 1$ the formula
# with $1-\lambda$ says nothing, but the sum of residuals does: it is (4.2) up to the end of the
# response, the return minus $V(s_t)$. All three forms in numbers, the mixture up to $n = 200$:

# %%
lam = 0.8
mixture = sum(
    (1 - lam) * lam ** (n - 1) * n_step_advantages(**data, gamma=gamma, n=n) for n in range(1, 201)
)
running, recursion = torch.zeros(2), torch.zeros(2, 4)
for t in reversed(range(4)):
    running = td_residuals(**data, gamma=gamma)[:, t] + gamma * lam * running
    recursion[:, t] = running
print("mixture of n steps", mixture[0].numpy().round(4))
print("recursion         ", recursion[0].numpy().round(4))
print("gae_advantages    ", gae_advantages(**data, gamma=gamma, lam=lam)[0].numpy().round(4))

# %% [markdown]
# From here on $\gamma$ is 1, as usual for responses. The two ends and the usual value of
# $\lambda$:

# %%
for lam in (0.0, 0.95, 1.0):
    print(f"advantages, lam {lam}\n", gae_advantages(**data, gamma=1.0, lam=lam).numpy().round(2))

# %% [markdown]
# With $\lambda = 0$ an advantage is the residual itself. With $\lambda = 1$ the values in between
# cancel, and what is left is the return minus $V(s_t)$: 0.5 at the first token of both. Advantage
# plus $V(s_t)$ is what the critic is trained towards in a run, its target
# $y_t = \hat A_t + V(s_t)$ (equation 4.4); with $\lambda = 1$ that is the return, as in notebook
# 06.
#
# $\lambda$ sets how far an advantage looks: residual number $l$ counts $\lambda^l$.

# %%
figure, axes = panels(height=2.8)
for lam, colour, line in zip((0.95, 0.9, 0.5), (DARK, BLUE, ORANGE), LINES):
    weights = [lam**n for n in range(41)]
    axes.plot(weights, line, color=colour)
    name_line(axes, 12, lam**12 + 0.04, f"λ = {lam}", colour)
    print(f"lam {lam}: all weights sum to {1 / (1 - lam):.0f};", end=" ")
    print(f"after 20 tokens {lam**20:.2g} is left of one")
axes.set(xlabel="tokens ahead", ylabel="weight of the residual")
show(
    figure,
    "Three curves that fall from 1 as the residual lies further ahead. Lambda 0.5 is near 0 after"
    " five tokens, lambda 0.9 after thirty, lambda 0.95 still has a tenth of its weight at forty.",
)

# %% [markdown]
# ## What lambda costs, exactly
#
# Notebook 03 listed all responses of a small world and had the exact gradient of $J$. Here the
# world pays every token (31 responses of up to four tokens), and there are two critics: the exact
# $V$, and $V$ plus random noise of standard deviation 1 at each prefix. For each $\lambda$,
# `gradient_samples` gives the gradient that every response would produce, with its probability,
# so mean and variance of the estimate are sums. The variance is that of all components of the
# gradient together.

# %%
dense = ladder.reward_functions(seed=0)["dense"]
world, policy, exact_v, wrong_v = ladder.make_world(dense, seed=0)
gradient = exact_gradient(world, policy)
lams = [i / 10 for i in range(11)] if FAST else [i / 20 for i in range(21)]


def bias_and_spread(values, lam, world=world, policy=policy, gradient=gradient):
    """(length of mean - exact gradient, total variance of one response's gradient)"""
    samples = gradient_samples(world, policy, ladder.weighted(ladder.gae(lam)), values=values)
    mean, covariance = mean_and_covariance(*samples)
    return (mean - gradient).norm().item(), covariance.trace().item()


critics = {"exact V": exact_v, "wrong V": wrong_v}
found = {name: [bias_and_spread(v, lam) for lam in lams] for name, v in critics.items()}
print("length of the exact gradient:", round(gradient.norm().item(), 3))
for name, pairs in found.items():
    for lam in (0.0, 0.5, 1.0):
        bias, variance = pairs[lams.index(lam)]
        print(f"{name}  lam {lam}: bias {bias:.3f}  variance {variance:.2f}")

# %% [markdown]
# The figure has bias and variance over $\lambda$, for both critics.

# %%
figure, (left, right) = panels(2)
middle = len(lams) // 2
for (name, pairs), colour, look in zip(found.items(), (BLUE, DARK), ("o--", "s-")):
    bias, variance = zip(*pairs)
    left.plot(lams, bias, look, color=colour, markersize=3.5)
    right.plot(lams, variance, look, color=colour, markersize=3.5)
    name_line(left, lams[middle], bias[middle] + 0.02, name, colour)
    name_line(right, 0.1, variance[0] + 0.2, name, colour)
left.set(xlabel="λ", ylabel="length of the gradient's bias")
right.set(xlabel="λ", ylabel="total variance, one response", ylim=(0, None))
show(
    figure,
    "Two panels over lambda. Left, the bias: flat at 0 for the exact V, and for the wrong V a line"
    " that falls to 0 at lambda 1. Right, the variance: for the exact V it rises all the way; for"
    " the wrong V it is higher, dips a little and then rises.",
)
print("largest bias with the exact V:", f"{max(bias for bias, _ in found['exact V']):.0e}")

# %% [markdown]
# Prediction 1: $\lambda = 1$. There the values cancel but for $-V(s_t)$, and a number that
# depends on the state alone is a baseline, right or wrong. At $\lambda = 0$ the bias is 0.342,
# and the gradient itself has length 0.443. The wrong critic also costs variance: at $\lambda = 0$
# it has 2.43 where the exact one has 1.42.
#
# With the exact $V$ there is no bias at any $\lambda$, and here $\lambda = 0$ has the least
# variance. For a policy that is a table, with logits of its own for every state, that is a
# theorem: $\delta_t$ is then the advantage itself, and what a larger $\lambda$ adds is noise with
# mean 0 in the same block of the gradient. In a network the states share parameters, the
# gradients of different tokens overlap, and their covariance may have either sign. There it is a
# rule of thumb.
#
# ## The best lambda depends on the batch
#
# More responses shrink the variance and leave the bias. The expected squared error of a gradient
# from $n$ responses is $\text{bias}^2 + \text{variance} / n$. So the $\lambda$ with the least
# error is not a property of the method.

# %%
figure, axes = panels(height=3.3)
looks = zip((1, 8, 32, 128, 1024), (DARK, BLUE, ORANGE, DARK, BLUE), (*LINES, "-"))
for n, colour, line in looks:
    errors = [(bias**2 + variance / n) ** 0.5 for bias, variance in found["wrong V"]]
    best = min(range(len(lams)), key=errors.__getitem__)
    axes.plot(lams, errors, line, color=colour, linewidth=1.2)
    axes.plot([lams[best]], [errors[best]], "o", color=colour)
    name_line(axes, 1, errors[-1], f"n = {n}", colour)
    print(f"n = {n:<5} best lam {lams[best]:.2f}  error {errors[best]:.3f}", end=" ")
    print(f"(lam 0: {errors[0]:.3f}, lam 1: {errors[-1]:.3f})")
axes.set(yscale="log", xlabel="λ (wrong V)", ylabel="error of the gradient")
show(
    figure,
    "Five curves over lambda on a logarithmic scale, one below the other, for batches of 1 to 1024."
    " Each has a dot at its lowest point; the dots move from lambda 0.3 at the top to lambda 1 at"
    " the bottom.",
)

# %% [markdown]
# For a single response the best $\lambda$ is 0.30, for 1024 it is 1.00. A large batch has
# averaged the noise away, and what remains is bias. With the exact $V$, which has no bias and
# least variance at $\lambda = 0$ here, all dots would be at 0.
#
# ## The error of an advantage is not the bias of a gradient
#
# `advantage_table` looks at the estimates themselves: given a state and a token, how far is the
# mean of $\hat A_t$ from $A(s_t, a_t)$? What all tokens of a state share can't bias the gradient,
# it is a baseline. The column `tilt` is what remains without it.

# %%
table = ladder.advantage_table(seed=0)["dense"]
print("lam    exact V: bias  variance    wrong V: bias   tilt   variance")
for one, other in zip(table["exact V"], table["wrong V"]):
    print(
        f"{one['lam']:<14} {one['bias']:.3f}  {one['variance']:.3f}",
        f"{other['bias']:>17.3f}  {other['tilt']:.3f}  {other['variance']:.3f}",
    )

# %% [markdown]
# Prediction 2: no. With the wrong $V$ it falls from 0.640 to 0.597 and rises again, to 0.667 at
# $\lambda = 1$, where it is largest. There the estimate is off by the error of $V(s_t)$, the same
# for all tokens of the state, and the gradient doesn't care. The tilt falls all the way to 0. So
# "$\lambda$ trades bias for variance" is true of the gradient here, and not of the advantage.
#
# ## Ragged ends
#
# Now the critic is wrong by exactly 1 at every prefix. Where all responses have the same length,
# every residual but the last one is untouched, and the last is off by -1 whatever was chosen:
# nothing that could prefer a token. Where EOS ends responses at different places, the end is a
# choice. Choosing EOS leads to a value of 0, which is right; going on leads to a value that is 1
# too high.

# %%
for has_eos in (False, True):
    other = World(dense, response_length=4, has_eos=has_eos)
    table_policy = TabularPolicy(other, generator=torch.Generator().manual_seed(0))
    right_v, _ = values_and_action_values(other, table_policy().detach())
    exact = exact_gradient(other, table_policy)
    biases = [
        bias_and_spread(right_v + 1, lam, other, table_policy, exact)[0]
        for lam in (0.0, 0.5, 0.95, 1.0)
    ]
    print("ragged ends " if has_eos else "equal length", end=" ")
    print("bias at lam 0, 0.5, 0.95, 1:", [round(bias, 4) for bias in biases], end="  ")
    print("length of the gradient", round(exact.norm().item(), 2))

# %% [markdown]
# Prediction 3: it depends on the ends. With equal lengths there is no bias at any $\lambda$. With
# ragged ends it is 0.1871 at $\lambda = 0$: a critic that is too high everywhere makes the policy
# go on rather than stop. At $\lambda = 0.95$ it is 0.0157, at 1 nothing.
#
# ## What would break this
#
# - A value after the end that is not 0. Critics say something about pads, too. With the mask
#   ignored it enters the last residual and runs back through the response.
# - The mask forgotten in the recursion: the residuals of the pads run back as well.
# - The sum taken forwards: a token is then credited with the surprises before it, which it did
#   not cause.

# %%
spoiled = torch.where(mask, values, 0.8)  # what a critic may say of pads
full = torch.ones_like(mask)
for name, v, m in (("as it should be", spoiled, mask), ("mask forgotten", spoiled, full)):
    advantages = gae_advantages(rewards=rewards, values=v, response_mask=m, gamma=1.0, lam=0.95)
    print(f"{name:<16}", advantages[1].numpy().round(2))

# %% [markdown]
# ## Questions
#
# <details><summary>1. Why do people take lambda 0.95 and not 1, if 1 has no bias?</summary>
#
# With a critic that is not too wrong a lower $\lambda$ has less variance, and near 1 the bias is
# small already. Whether the last step is worth it depends on the critic and on the batch: above,
# with the wrong $V$, the best is 0.90 for 128 responses and 1.00 for 1024. 0.95 is a habit to
# start from, not a result.
# </details>
#
# <details><summary>2. The critic is worthless and says 0 everywhere. What is GAE with lambda 0.95
# then, for a score on the last token?</summary>
#
# All residuals are 0 but the last one, which is the score. Token $t$ gets the score times
# $0.95^k$, with $k$ the number of tokens after it: the reward-to-go with a discount that nobody
# asked for, so early tokens of long responses learn less.
# </details>
#
# <details><summary>3. The values are exact and lambda is 1. Why is the advantage of a sampled
# token not exactly its true advantage?</summary>
#
# The mean is right; the single estimate holds the luck of all later tokens. With the exact $V$
# and $\lambda = 0$ it has no luck but the token's own: the variance given state and token in the
# table is 0.
# </details>
#
# ## Exercise
#
# Write the recursion (4.3), $\hat A_t = \delta_t + \gamma\lambda \hat A_{t+1}$ with
# $\delta_t = r_t + \gamma V(s_{t+1}) - V(s_t)$. `rewards`, `values` and `response_mask` are
# [B,T], `gamma` and `lam` numbers; the result is [B,T]. The value after the last real token of
# each row is 0, and so is the result where the mask is False. The padding of the inputs is not 0
# here. All inputs are data. `torch` alone is enough.


# %%
def my_gae(rewards, values, response_mask, gamma, lam):
    raise NotImplementedError  # your code here


# %%
from minippo.exercises.gae import exercise

exercise.check(my_gae)

# %% [markdown]
# ## References
#
# - `minippo/gae.py`: the residual, $n$ steps, GAE, the critic's targets; docs/stage-4-gae.md.
#   `minippo/exact/ladder.py` prints these tables for three kinds of reward.
# - Schulman et al. 2016, *High-dimensional continuous control using generalized advantage
#   estimation*, arXiv:1506.02438: the estimator and its two parameters.
# - Sutton 1988, *Learning to predict by the methods of temporal differences*: where $\lambda$
#   comes from.
#
# Next: [08 Shaped rewards and whitening](08_shaped_rewards_and_whitening.ipynb).
