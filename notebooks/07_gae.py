# %% [markdown]
# # 07 GAE
#
# **Goal:** GAE, generalized advantage estimation: choose how far to look ahead before trusting the critic, and see in exact numbers what each choice costs.
#
# The **advantage** of a token in a state is the return to be expected after it was chosen minus V(s), the one expected before: how much better it is than
# what the policy does on average. It has to be estimated from rewards and critic. A number **lam** says how far the rewards are followed: with 0 the critic
# takes over after one token, with 1 never.
#
# Before you run anything, write down three predictions:
#
# 1. The critic is wrong. Which lam gives an unbiased policy gradient: 0, 1, or none?
# 2. The critic is wrong, and lam goes from 0 to 1. Does the error of the advantage estimates themselves, given state and token, fall all the way?
# 3. The critic is wrong by the same number, 1, at every prefix. Does that bias the gradient?

# %%
import os

import matplotlib.pyplot as plt
import torch

from minippo.exact import ladder
from minippo.exact.estimators import gradient_samples, mean_and_covariance
from minippo.exact.oracle import exact_gradient, values_and_action_values
from minippo.exact.world import TabularPolicy, World
from minippo.gae import gae_advantages, td_residuals

FAST = bool(os.environ.get("MINIPPO_FAST"))

# %% [markdown]
# ## Surprises, and how they add up
#
# The TD residual (temporal difference) is a surprise of one step, equation (4.1): what came, plus what is expected now, minus what was expected,
#
# `delta_t = r_t + gamma V(s_{t+1}) - V(s_t)`,
#
# where gamma discounts what comes later. The estimate of an advantage is the sum of the surprises from here on, each multiplied by gamma lam once for every
# step that it lies ahead. Written backwards that is equation (4.3), `A_t = delta_t + gamma lam A_{t+1}`. Two responses, the second shorter; the score is paid
# on the last real token.

# %%
mask = torch.tensor([[True] * 4, [True, True, False, False]])
rewards = torch.tensor([[0.0, 0.0, 0.0, 1.0], [0.0, 1.0, 0.0, 0.0]])
values = torch.tensor([[0.5, 0.4, 0.7, 0.9], [0.5, 0.6, 0.0, 0.0]])
deltas = td_residuals(rewards=rewards, values=values, response_mask=mask, gamma=1.0)
print("residuals\n", deltas.numpy().round(2))
for lam in (0.0, 0.95, 1.0):
    advantages = gae_advantages(
        rewards=rewards, values=values, response_mask=mask, gamma=1.0, lam=lam
    )
    print(f"advantages, lam {lam}\n", advantages.numpy().round(2))

# %% [markdown]
# With lam 0 an advantage is the residual itself. With lam 1 the values in between cancel, and what is left is the return minus V(s_t): 0.5 at the first token
# of both. After the last real token there is nothing: V counts as 0 there. Advantage plus V(s_t) is what the critic is trained towards in a run, its
# target; with lam 1 that is the return, as in notebook 06.
#
# lam sets how far an advantage looks: residual number l counts lam to the power of l (gamma is 1 from here on).

# %%
fig, ax = plt.subplots(figsize=(7, 2.8), dpi=80)
for lam, look in ((0.5, ":"), (0.9, "--"), (0.95, "-")):
    weights = [lam**n for n in range(40)]
    ax.plot(weights, look, color="black")
    ax.annotate(f"lam {lam}", (15, lam**15), (2, 3), textcoords="offset points")
    print(
        f"lam {lam}: all weights sum to {1 / (1 - lam):.0f};",
        f"after 20 tokens {lam**20:.2g} is left of one",
    )
ax.set_xlabel("tokens ahead")
ax.set_ylabel("weight of the residual")
plt.show()

# %% [markdown]
# *The picture in words: three curves that fall from 1; lam 0.5 is near 0 after five tokens, lam 0.9 after thirty, lam 0.95 still has a tenth of its weight at
# forty.*
#
# ## What lam costs, exactly
#
# Notebook 03 listed all responses of a small world and had the exact gradient of J. Here the world pays every token (31 responses of up to four tokens), and
# there are two critics: the exact V, and V plus random noise of standard deviation 1 at each prefix. For each lam, `gradient_samples` gives the gradient that
# every response would produce, with its probability: mean and variance of the estimate are sums. The variance is that of all components of the gradient
# together.

# %%
world, policy, exact_v, wrong_v = ladder.make_world(
    ladder.reward_functions(seed=0)["dense"], seed=0
)
gradient = exact_gradient(world, policy)
lams = [i / 10 for i in range(11)] if FAST else [i / 20 for i in range(21)]


def bias_and_spread(values, lam, world=world, policy=policy, gradient=gradient):
    """(length of mean - exact gradient, total variance of one response's gradient)"""
    samples = gradient_samples(world, policy, ladder.weighted(ladder.gae(lam)), values=values)
    mean, covariance = mean_and_covariance(*samples)
    return (mean - gradient).norm().item(), covariance.trace().item()


found = {
    name: [bias_and_spread(v, lam) for lam in lams]
    for name, v in (("exact V", exact_v), ("wrong V", wrong_v))
}
print("length of the exact gradient:", round(gradient.norm().item(), 3))
for name, pairs in found.items():
    for lam in (0.0, 0.5, 1.0):
        bias, variance = pairs[lams.index(lam)]
        print(f"{name}  lam {lam}: bias {bias:.3f}  variance {variance:.2f}")

# %% [markdown]
# The figure has bias and variance over lam, for both critics.

# %%
fig, (left, right) = plt.subplots(1, 2, figsize=(7, 3.2), dpi=80, layout="constrained")
for name, look in (("exact V", "o:"), ("wrong V", "s-")):
    bias, variance = zip(*found[name])
    left.plot(lams, bias, look, color="black", markersize=4)
    right.plot(lams, variance, look, color="black", markersize=4)
    left.annotate(name, (0.3, bias[len(lams) * 3 // 10]), (4, 6), textcoords="offset points")
    right.annotate(
        name,
        (0.6, variance[len(lams) * 6 // 10]),
        (-12, 10),
        textcoords="offset points",
        ha="right",
    )
left.set_ylabel("length of the gradient's bias")
right.set_ylabel("total variance, one response")
right.set_ylim(bottom=0)
for ax in (left, right):
    ax.set_xlabel("lam")
plt.show()
print("largest bias with the exact V:", f"{max(bias for bias, _ in found['exact V']):.0e}")

# %% [markdown]
# *The picture in words: two panels over lam. Left, the bias: flat at 0 for the exact V, and for the wrong V a line that falls to 0 at lam 1. Right, the
# variance: for the exact V it rises all the way; for the wrong V it lies higher, dips a little and then rises.*
#
# Prediction 1: lam 1. There the values cancel but for -V(s_t), and a number that depends on the state alone is a baseline, right or wrong. At lam 0 the bias
# is 0.342, and the gradient itself has length 0.443. With the exact V there is no bias at any lam, and lam 0 has the least variance. The wrong critic also
# costs variance: at lam 0 it has 2.43 where the exact one has 1.42.
#
# ## The best lam depends on the batch
#
# More responses shrink the variance and leave the bias. The expected squared error of a gradient from n responses is bias^2 + variance / n. So the lam with
# the least error is not a property of the method.

# %%
fig, ax = plt.subplots(figsize=(7, 3.3), dpi=80)
for n, look in ((1, ":"), (8, "-."), (32, "--"), (128, "-"), (1024, "-")):
    errors = [(bias**2 + variance / n) ** 0.5 for bias, variance in found["wrong V"]]
    best = min(range(len(lams)), key=errors.__getitem__)
    ax.plot(lams, errors, look, color="black", linewidth=1)
    ax.plot([lams[best]], [errors[best]], "ko")
    ax.annotate(f"n = {n}", (1, errors[-1]), (4, -3), textcoords="offset points")
    print(
        f"n = {n:<5} best lam {lams[best]:.2f}  error {errors[best]:.3f}",
        f"(lam 0: {errors[0]:.3f}, lam 1: {errors[-1]:.3f})",
    )
ax.set_yscale("log")
ax.set_xlim(-0.02, 1.18)
ax.set_xlabel("lam (wrong V)")
ax.set_ylabel("error of the gradient")
plt.show()

# %% [markdown]
# *The picture in words: five curves on a logarithmic scale, one below the other, for batches of 1 to 1024. Each has a dot at its lowest point; the dots move
# from lam 0.3 at the top to lam 1 at the bottom.*
#
# For a single response the best lam is 0.30, for 1024 it is 1.00. A large batch has averaged the noise away, and what remains is bias. With the exact V,
# which has no bias and least variance at lam 0, all dots would stand at 0.
#
# ## The error of an advantage is not the bias of a gradient
#
# `advantage_table` looks at the estimates themselves: given a state and a token, how far is their mean from the true advantage? What all tokens of a state
# share can't bias the gradient, it is a baseline. `tilt` is what remains without it.

# %%
table = ladder.advantage_table(seed=0)["dense"]
print("lam    exact V: bias  variance    wrong V: bias   tilt   variance")
for one, other in zip(table["exact V"], table["wrong V"]):
    print(
        f"{one['lam']:<14} {one['bias']:.3f}  {one['variance']:.3f}",
        f"{other['bias']:>17.3f}  {other['tilt']:.3f}  {other['variance']:.3f}",
    )

# %% [markdown]
# Prediction 2: no. With the wrong V it falls from 0.640 to 0.597 and rises again, to 0.667 at lam 1, where it is largest. There the estimate is off by the
# error of V(s_t), the same for all tokens of the state, and the gradient doesn't care. The tilt falls all the way to 0. So "lam trades bias for variance" is
# true of the gradient here, and not of the advantage.
#
# ## Ragged ends
#
# Now the critic is wrong by exactly 1 at every prefix. Where all responses have the same length, every residual but the last one is untouched, and the last
# is off by -1 whatever was chosen: nothing that could prefer a token. Where EOS ends responses at different places, the end is a choice. Choosing EOS leads
# to a value of 0, which is right; going on leads to a value that is 1 too high.

# %%
for has_eos in (False, True):
    other = World(ladder.reward_functions(seed=0)["dense"], response_length=4, has_eos=has_eos)
    table_policy = TabularPolicy(other, generator=torch.Generator().manual_seed(0))
    right_v, _ = values_and_action_values(other, table_policy().detach())
    target = exact_gradient(other, table_policy)
    biases = [
        bias_and_spread(right_v + 1, lam, other, table_policy, target)[0]
        for lam in (0.0, 0.5, 0.95, 1.0)
    ]
    print(
        "ragged ends " if has_eos else "equal length",
        "bias at lam 0, 0.5, 0.95, 1:",
        [round(bias, 4) for bias in biases],
        " gradient",
        round(target.norm().item(), 2),
    )

# %% [markdown]
# Prediction 3: it depends on the ends. With equal lengths there is no bias at any lam. With ragged ends it is 0.1871 at lam 0: a critic that is too high
# everywhere makes the policy go on rather than stop. At lam 0.95 it is 0.0157, at 1 nothing.
#
# ## What would break this
#
# - A value after the end that is not 0. Critics say something about pads, too. With the mask ignored it enters the last residual and runs back through the
#   response.
# - The mask forgotten in the recursion: the residuals of the pads run back as well.
# - The sum taken forwards: a token is then credited with the surprises before it, which it did not cause.

# %%
spoiled = torch.where(mask, values, 0.8)  # what a critic may say of pads
full = torch.ones_like(mask)
for name, v, m in (("as it should be", spoiled, mask), ("mask forgotten", spoiled, full)):
    advantages = gae_advantages(rewards=rewards, values=v, response_mask=m, gamma=1.0, lam=0.95)
    print(name, advantages[1].numpy().round(2))

# %% [markdown]
# ## Questions
#
# <details><summary>1. Why do people take lam 0.95 and not 1, if 1 has no bias?</summary>
#
# With a critic that is not too wrong a lower lam has less variance, and near 1 the bias is small already. Whether the last step is worth it depends on the
# critic and on the batch: above, with the wrong V, the best is 0.90 for 128 responses and 1.00 for 1024. 0.95 is a habit to start from, not a result.
# </details>
#
# <details><summary>2. The critic is worthless and says 0 everywhere. What is GAE with lam 0.95 then, for a score on the last token?</summary>
#
# All residuals are 0 but the last one, which is the score. Token t gets 0.95 to the power of the number of tokens after it, times the score: the reward-to-go
# with a discount that nobody asked for, so early tokens of long responses learn less.
# </details>
#
# <details><summary>3. The values are exact and lam is 1. Why is the advantage of a sampled token not exactly its true advantage?</summary>
#
# The mean is right, the single estimate holds the luck of all later tokens. With the exact V and lam 0 it has no luck but the token's own: the variance given
# state and token in the table is 0.
# </details>
#
# ## Exercise
#
# Write the recursion of equation (4.3). `rewards`, `values` and `response_mask` are [B,T], `gamma` and `lam` numbers; the result is [B,T]. The value after
# the last real token of each row is 0, and so is the result where the mask is False. What stands in the padding of the inputs is not 0 here. All inputs are
# data. `torch` alone is enough.


# %%
def my_gae(rewards, values, response_mask, gamma, lam):
    raise NotImplementedError  # your code here


# %%
from minippo.exercises.gae import exercise

exercise.check(my_gae)

# %% [markdown]
# ## References
#
# - `minippo/gae.py`: the residual, n steps, GAE, the critic's targets; docs/stage-4-gae.md. `minippo/exact/ladder.py` prints these tables for three kinds of
#   reward.
# - Schulman et al. 2016, *High-dimensional continuous control using generalized advantage estimation*, arXiv:1506.02438: the estimator and its two
#   parameters.
# - Sutton 1988, *Learning to predict by the methods of temporal differences*: where lam comes from.
#
# Next: [08 Shaped rewards and whitening](08_shaped_rewards_and_whitening.ipynb).
