# %% [markdown]
# # 04 Reward-to-go and baselines
#
# **Goal:** two changes of the weights in the policy gradient that leave its mean alone and change its variance, not always for the better.
#
# Before you run anything, write down three predictions:
#
# 1. Every response gets one reward, a score on its last token, as in RLHF without a KL penalty. By how much does reward-to-go (a token answers only for
#    rewards from its own on) lower the variance of the gradient: not at all, by a third, by half?
# 2. From every return 10 is subtracted, although returns are about 2. Does the mean of the estimated gradient change? Does its variance?
# 3. A policy chooses one token: a with probability 0.9, b and c with 0.05 each. The reward is 1 for a and 0 for b and c. A number that is subtracted from
#    the reward is called a baseline. Which one gives the lower variance: none, or the expected reward 0.9?

# %%
import matplotlib.pyplot as plt
import torch

from minippo.baseline import baseline_advantages
from minippo.exact.estimators import bias_and_variance, gradient_samples, mean_and_covariance
from minippo.exact.ladder import (
    best_constant,
    make_world,
    reward_functions,
    to_go,
    weighted,
    whole_returns,
)
from minippo.exact.ladder import minus_batch_mean, minus_constant, minus_leave_one_out, minus_values
from minippo.exact.oracle import exact_gradient, response_probabilities, values_and_action_values
from minippo.exact.qualifications import value_baseline_on_bandits
from minippo.exact.world import TabularPolicy, World

# %% [markdown]
# ## Three ways of paying
#
# The worlds have three tokens and at most four steps, 31 responses, and the same policy. They differ in when the rewards are paid: **dense**, on every token;
# **outcome-only**, a score on the last token; **cancelling**, where the first token is paid and the last one pays it back, so that every return is 0. The
# cell shows the rewards of one long response in each.

# %%
worlds = {
    kind: make_world(reward, 0)  # (world, policy, V, a wrong V)
    for kind, reward in reward_functions(0).items()
}
for kind, (world, policy, _, _) in worlds.items():
    row = world.response_mask.sum(dim=1).argmax()
    rewards = [round(x, 2) + 0.0 for x in world.response_rewards[row].tolist()]
    print(f"{kind:13} response {world.response_tokens[row].tolist()}  rewards {rewards}")
print("responses:", len(world.response_tokens))

# %% [markdown]
# ## Reward-to-go
#
# Notebook 03 weighs every token with the whole return. A token cannot change what was paid before it was chosen. So the weight may be the sum of the rewards
# from this token on, the reward-to-go of equation (2.1) in docs/equations.md:

# %%
world, policy, _, _ = worlds["dense"]
batch_rewards, batch_mask = (
    world.response_rewards[row : row + 1],
    world.response_mask[row : row + 1],
)
no_values = torch.zeros_like(batch_rewards)
print("rewards      ", [round(x, 2) for x in batch_rewards[0].tolist()])
weights = baseline_advantages(
    rewards=batch_rewards, values=no_values, response_mask=batch_mask, gamma=1.0
)
print("reward-to-go ", [round(x, 2) for x in weights[0].tolist()])

# %% [markdown]
# The part that is left out, past rewards times grad log p, has mean 0: when the token is drawn the past is a fixed number, and the mean of grad log p over
# the token is 0. So the mean of the estimate stays the exact gradient: it is **unbiased**.
# What happens to the variance is computed exactly, as in notebook 03, for all three worlds.


# %%
def past(batch):
    return whole_returns(batch) - to_go(batch)


table = {}
for kind, (world, policy, _, _) in worlds.items():
    exact = exact_gradient(world, policy)
    (whole_bias, whole), (ahead_bias, ahead), (_, before) = (
        bias_and_variance(world, policy, weighted(weights), exact)
        for weights in (whole_returns, to_go, past)
    )
    table[kind] = (whole, ahead)
    print(
        f"{kind:13} both unbiased: {max(whole_bias, ahead_bias) < 1e-12};  "
        f"variance with the whole return {whole:.3f} ="
    )
    print(
        f"{'':15}reward-to-go {ahead:.3f} + past {before:.3f} "
        f"+ twice their covariance {whole - ahead - before:.3f}"
    )

# %%
fig, axes = plt.subplots(1, 3, figsize=(7, 3), dpi=80, constrained_layout=True)
for ax, (kind, pair) in zip(axes, table.items()):
    bars = ax.bar(
        ("whole\nreturn", "reward-\nto-go"),
        pair,
        color="lightgrey",
        edgecolor="black",
        hatch=("", "//"),
    )
    ax.bar_label(bars, [f"{x:.3f}" for x in pair])
    ax.set_title(kind)
    ax.margins(y=0.15)
axes[0].set_ylabel("total variance of one response")
plt.show()
print({kind: [round(x, 3) for x in pair] for kind, pair in table.items()})

# %% [markdown]
# *The picture in words: three pairs of bars. Dense: 32.903 for the whole return and 17.302 for reward-to-go. Outcome-only: two equal bars of 3.842.
# Cancelling: no bar at all for the whole return, 0.072 for reward-to-go.*
#
# Prediction 1: not at all. Before the last token nothing is paid, so the reward-to-go of every token is the whole return. (A KL penalty in the reward pays on
# every token, and then the two differ.) In the dense world reward-to-go cuts the variance by almost half. In the cancelling world it raises it from 0: the
# sum of the first and the last reward was constant, and reward-to-go tears it apart. Leaving out a term with mean 0 also leaves out its covariance with the
# rest, and that may have either sign.
#
# ## Baselines
#
# The same argument allows more: any number that is known before the token is drawn may be subtracted from its weight, equation (3.1). Such a number is called
# a baseline. The cell subtracts constants from the returns of the outcome-only world: four round ones, the mean return, and the best one, equation (3.6). Its
# last line subtracts V(s), which is explained below.

# %%
world, policy, values, _ = worlds["outcome-only"]
exact = exact_gradient(world, policy)
mean_return = (
    response_probabilities(world, policy().detach()) @ world.response_rewards.sum(dim=1)
).item()
best = best_constant(world, policy).item()
constants = {"0": 0.0, "1": 1.0, "10": 10.0, "100": 100.0, "mean": mean_return, "best": best}
for name, constant in constants.items():
    bias, variance = bias_and_variance(world, policy, weighted(minus_constant(constant)), exact)
    print(
        f"whole return - {name:4} ({constant:7.3f}): unbiased: {bias < 1e-12}, variance {variance:9.3f}"
    )
bias, by_values = bias_and_variance(world, policy, weighted(minus_values), exact, values=values)
print(f"reward-to-go - V(s):            unbiased: {bias < 1e-12}, variance {by_values:9.3f}")

# %% [markdown]
# Prediction 2: the mean stays, up to rounding, and the variance rises from 3.842 to 89.536. With 100 it is 11578.026: a batch would
# have to be 3000 times larger for the same error. The variance is a parabola in the constant, and no constant is wrong in the mean.
#
# ## V is not the best baseline
#
# V(s), the return to be expected from a state s (here the tokens so far), is the usual baseline: the only one in this list that knows the state.
# Reward-to-go minus V(s) is called the **advantage**: how much better it went than expected. A network that learns to predict V is a **critic** (notebook
# 06); the worlds here are small enough for the exact V. That it has the least variance is often
# said, and it is not so. The last two lines above are one example: the best constant has less. Prediction 3 is a smaller one.

# %%
bandit = World(lambda prompt, response: float(response == (0,)), vocab_size=3, response_length=1)
chooser = TabularPolicy(bandit, generator=torch.Generator().manual_seed(0))
chooser.table.data = torch.tensor([[0.9, 0.05, 0.05]], dtype=torch.float64).log()  # a, b, c
V = values_and_action_values(bandit, chooser().detach())[0].item()
bandit_exact, bandit_best = exact_gradient(bandit, chooser), best_constant(bandit, chooser).item()
_, scores = gradient_samples(
    bandit, chooser, weighted(lambda batch: torch.ones_like(batch.rewards))
)
print(
    "squared length of grad log p of a, b, c:",
    [round(x, 3) for x in scores.square().sum(dim=1).tolist()],
)
for name, b in (("none", 0.0), ("V", V), ("best", bandit_best)):
    variance = bias_and_variance(bandit, chooser, weighted(minus_constant(b)), bandit_exact)[1]
    print(f"baseline {name:4} = {b:.3f}: variance {variance:.4f}")


# %%
def variance_with(setting, b):
    return bias_and_variance(*setting[:2], weighted(minus_constant(b)), setting[2])[1]


shown = {
    "outcome-only world": (
        (world, policy, exact),
        torch.linspace(-1, 4, 26),
        {"none": 0.0, "best": best, "mean return": mean_return},
    ),
    "one token": (
        (bandit, chooser, bandit_exact),
        torch.linspace(-0.2, 1.1, 27),
        {"none": 0.0, "best": bandit_best, "V": V},
    ),
}

# %%
fig, axes = plt.subplots(1, 2, figsize=(7, 3.2), dpi=80, constrained_layout=True)
for ax, (title, (setting, grid, marks)) in zip(axes, shown.items()):
    ax.plot(grid, [variance_with(setting, b) for b in grid.tolist()], "k-")
    for (name, b), marker in zip(marks.items(), "osD"):
        ax.plot(
            b,
            variance_with(setting, b),
            "k" + marker,
            markersize=7,
            markerfacecolor="none",
            label=name,
        )
    ax.set(xlabel="constant baseline", ylabel="total variance", title=title)
    ax.legend(frameon=False)
axes[0].axhline(by_values, color="black", linestyle="--", linewidth=1)
axes[0].text(-0.9, by_values + 0.2, "V(s)")
plt.show()
print(
    f"squares, the best constants: {best:.3f} and {bandit_best:.3f};  dashed line: {by_values:.3f}"
)

# %% [markdown]
# *The picture in words: two parabolas of the variance over the constant. In the outcome-only world the lowest point, 1.502, is at 1.402, well left of the
# mean return 2.244; a dashed line for V(s) at 1.772 passes above it. For the one token the lowest point is at 0.073 and V, at 0.900, is far up on the right.*
#
# Prediction 3: none. With V the variance is 0.1269, without a baseline 0.0014. The gradient of a token that is almost always chosen is short (0.015 when
# squared, against 1.715): it can hardly become more likely. V is a mean in which this token has most of the say. It makes the weight of a small, where that
# matters little, and gives b and c, whose gradients are long, the weight -0.9 in place of 0. The best constant, equation (3.6), is a mean of the returns in
# which the squared length of the gradient counts too.
#
# One made-up case might be bad luck. The next cell takes 1000 random problems of one token (such problems are called bandits) with five possible tokens, logits and
# rewards drawn from a normal distribution. Then it compares the best constant with V(s) in the three worlds; the wrong V(s) has noise with standard deviation 1 added.

# %%
for name, number in value_baseline_on_bandits().items():
    print(f"{name:45} {number:.4g}")
for kind, (place, actor, V_s, wrong_V) in worlds.items():
    gradient = exact_gradient(place, actor)
    constant, right, wrong = (
        bias_and_variance(place, actor, weighted(weights), gradient, values=critic)[1]
        for weights, critic in (
            (minus_constant(best_constant(place, actor)), None),
            (minus_values, V_s),
            (minus_values, wrong_V),
        )
    )
    print(
        f"{kind:13} best constant {constant:.3f}, reward-to-go - V(s) {right:.3f}, "
        f"the same with a wrong V(s) {wrong:.3f}"
    )

# %% [markdown]
# So V is worse than no baseline in 289 of 1000 problems, and in none as good as the best constant; but the median of the ratio of those two variances is
# 1.036: V is rarely the best and usually near it. Where rewards come on many tokens, reward-to-go minus V(s) has less variance than the whole return minus
# the best constant (2.688 against 3.334): one constant cannot fit the first token and the last. That is why the next notebooks use a critic.
#
# ## What would break this
#
# - A baseline that knows the token. V read one slot too late is the value after the token was chosen: it takes away the good that the token has done.
# - The rewards up to the token in place of those from it: `cumsum` in the wrong direction.
# - The mean of the batch as a baseline: a row's own return is in it, equation (3.3). The mean of the other rows is free of that, equation (3.4).
# - A critic's gradient in the weights: the policy's loss would train the critic. minippo refuses it.


# %%
def value_after_the_token(batch):
    return to_go(batch) - torch.nn.functional.pad(batch.values[:, 1:], (0, 1))


world, policy, values, _ = worlds["dense"]
exact = exact_gradient(world, policy)
print(f"largest entry of the exact gradient {exact.abs().max().item():.3f}")
for name, weights, size in (
    ("V(s), as it should be", minus_values, 1),
    ("V one slot too late", value_after_the_token, 1),
    ("rewards so far", lambda batch: batch.rewards.cumsum(dim=1), 1),
    ("minus the mean of a batch of 2", minus_batch_mean, 2),
    ("minus the other one of 2", minus_leave_one_out, 2),
):
    p, samples = gradient_samples(world, policy, weighted(weights), values=values, size=size)
    mean, _ = mean_and_covariance(p, samples)
    print(
        f"{name:32} largest error of the mean {(mean - exact).abs().max().item():.3f}, "
        f"part of the exact gradient in it {(mean @ exact / (exact @ exact)).item():.3f}"
    )

# %%
try:
    baseline_advantages(
        rewards=batch_rewards,
        values=no_values.requires_grad_(),
        response_mask=batch_mask,
        gamma=1.0,
    )
except ValueError as error:
    print("ValueError:", error)

# %% [markdown]
# The second column is the component of the mean along the exact gradient, as a multiple of it. "V one slot too late" and "rewards so far" have the same mean:
# what is left in both is the reward of the token alone, and all that comes after it is lost. The mean of a batch of two halves the gradient (the largest
# error, 0.113, is half of the largest entry); the other one of two does no harm to it.
#
# ## Questions
#
# <details><summary>1. A critic is trained badly and its values are far off. Is the policy gradient with reward-to-go minus these values wrong?</summary>
#
# Its mean is right whatever the values are, as long as they are known before the token is drawn. Its variance is larger: in the outcome-only world above a
# wrong V has 2.748 where the exact one has 1.772. (The next notebooks let the critic stand in for future rewards, too. There a wrong critic does bias the
# mean.)
# </details>
#
# <details><summary>2. The mean of the batch gives a biased gradient. In a batch of 128, should anybody care?</summary>
#
# For whole returns and independent rows the mean is (B-1)/B of the exact gradient: the direction is right and the length is that of a learning rate smaller
# by one part in 128. With B = 2 it is half. Leave-one-out costs nothing and has no such factor.
# </details>
#
# <details><summary>3. Why does every baseline for a token have to be known before the token is drawn?</summary>
#
# The proof takes the baseline out of the mean over the token: the mean of b grad log p is b times the mean of grad log p, which is b times 0. If b depends on
# the token it cannot be taken out.
# </details>
#
# ## Exercise
#
# Write the weights of equation (3.1). `rewards`, `values` and `response_mask` are [B,T], `gamma` is a number: return [B,T], the reward-to-go of each token
# (later rewards discounted by gamma per step, counted from the token) minus its value, and exactly 0 where the mask is False. `values` at slot t is V before
# token t is drawn. The padding may
# hold any numbers. The result is data: no gradient may reach the values.


# %%
def my_advantages(rewards, values, response_mask, gamma):
    raise NotImplementedError  # your code here


# %%
from minippo.exercises.advantages import exercise

exercise.check(my_advantages)

# %% [markdown]
# ## References
#
# - `minippo/reward_to_go.py` with docs/stage-2-reward-to-go.md, `minippo/baseline.py` with docs/stage-3-baseline.md, and docs/qualifications.md for what is
#   said of both and when it is true.
# - Greensmith, Bartlett and Baxter 2004, *Variance reduction techniques for gradient estimates in reinforcement learning*: the best constant.
# - Kool et al. 2019, *Buy 4 REINFORCE samples, get a baseline for free*, and Ahmadian et al. 2024, arXiv:2402.14740: leave-one-out, in general and in RLHF.
#
# Next: [05 The reward head](05_reward_head.ipynb).
