# %% [markdown]
# # 04 Reward-to-go and baselines
#
# **Goal:** two changes of the weights in the policy gradient that leave its mean alone and change
# its variance, not always for the better.
#
# Before you run anything, write down three predictions:
#
# 1. Every response gets one reward, a score on its last token, as in RLHF without a KL penalty. By
#    how much does reward-to-go (a token answers only for rewards from its own on) lower the
#    variance of the gradient: not at all, by a third, by half?
# 2. From every return 10 is subtracted, although returns are about 2. Does the mean of the
#    estimated gradient change? Does its variance?
# 3. A policy chooses one token: a with probability 0.9, b and c with 0.05 each. The reward is 1
#    for a and 0 for b and c. A number that is subtracted from the reward is called a baseline.
#    Which one gives the lower variance: none, or the expected reward 0.9?

# %%
import torch
from plots import BLUE, DARK, ORANGE, PALE, name_line, panels, show

from minippo.baseline import baseline_advantages
from minippo.exact import ladder
from minippo.exact.estimators import bias_and_variance, gradient_samples, mean_and_covariance
from minippo.exact.ladder import minus_constant, minus_values, to_go, weighted, whole_returns
from minippo.exact.oracle import exact_gradient, values_and_action_values
from minippo.exact.qualifications import value_baseline_on_bandits
from minippo.exact.world import TabularPolicy, World
from minippo.reward_to_go import rewards_to_go

# %% [markdown]
# ## Three ways of paying
#
# The worlds have three tokens and at most four steps, 31 responses, and the same policy. They
# differ in when the rewards are paid: **dense**, on every token; **outcome-only**, a score on the
# last token; **cancelling**, where the first token is paid and the last one pays it back, so that
# every return is 0. The cell shows the rewards of one long response in each.

# %%
worlds = {
    kind: ladder.make_world(reward, 0)  # (world, policy, V, a wrong V)
    for kind, reward in ladder.reward_functions(0).items()
}
for kind, (world, _, _, _) in worlds.items():
    row = world.response_mask.sum(dim=1).argmax()
    rewards = [round(x, 2) + 0.0 for x in world.response_rewards[row].tolist()]
    print(f"{kind:13} response {world.response_tokens[row].tolist()}  rewards {rewards}")
print("responses:", len(world.response_tokens))

# %% [markdown]
# ## Reward-to-go
#
# Notebook 03 weighs every token with the whole return. A token cannot change what was paid before
# it was chosen. So the weight may be the sum of the rewards from this token on, the reward-to-go
#
# $$
# G_t = r_t + \gamma r_{t+1} + \gamma^2 r_{t+2} + \dots \qquad (2.1)
# $$
#
# The discount $\gamma$ is 1 in this notebook, as usual for responses.

# %%
world = worlds["dense"][0]
one = {
    "rewards": world.response_rewards[row][None],
    "response_mask": world.response_mask[row][None],
}
print("rewards      ", [round(x, 2) for x in one["rewards"][0].tolist()])
print("reward-to-go ", [round(x, 2) for x in rewards_to_go(**one, gamma=1.0)[0].tolist()])

# %% [markdown]
# What is left out is the past rewards times $\nabla \log \pi_\theta(a_t \mid s_t)$. When $a_t$ is
# drawn, the past is a fixed number, so it stands in front of a mean over $a_t$, and that mean is 0:
#
# $$
# \sum_a \pi_\theta(a \mid s_t) \nabla \log \pi_\theta(a \mid s_t)
# = \sum_a \nabla \pi_\theta(a \mid s_t) = \nabla \sum_a \pi_\theta(a \mid s_t) = \nabla 1 = 0 .
# $$
#
# So the mean of the estimate is still the exact gradient: it is **unbiased**. What happens to the
# variance is computed exactly, as in notebook 03, for all three worlds.


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
    print(f"{kind:13} both unbiased: {max(whole_bias, ahead_bias) < 1e-12};", end="  ")
    print(f"variance with the whole return {whole:.3f} =")
    print(f"{'':15}reward-to-go {ahead:.3f} + past {before:.3f}", end=" ")
    print(f"+ twice their covariance {whole - ahead - before:.3f}")

# %%
figure, axes = panels(3)
for panel, (kind, pair) in zip(axes, table.items()):
    bars = panel.bar(
        ("whole\nreturn", "reward-\nto-go"),
        pair,
        color=(PALE, BLUE),
        edgecolor=DARK,
        hatch=("", "//"),
    )
    panel.bar_label(bars, [f"{x:.3f}" for x in pair])
    panel.set_title(kind)
    panel.margins(y=0.15)
axes[0].set_ylabel("total variance of one response")
show(
    figure,
    "Three pairs of bars. Dense: reward-to-go has about half of the whole return's variance."
    " Outcome-only: two equal bars. Cancelling: no bar at all for the whole return and a small one"
    " for reward-to-go.",
)

# %% [markdown]
# Prediction 1: not at all. Before the last token nothing is paid, so the reward-to-go of every
# token is the whole return. (A KL penalty in the reward pays on every token, and then the two
# differ.) In the dense world reward-to-go cuts the variance from 32.903 to 17.302, almost by half.
# In the cancelling world it raises it from 0 to 0.072: the sum of the first and the last reward
# was constant, and reward-to-go tears it apart. Leaving out a term with mean 0 also leaves out its
# covariance with the rest, and that may have either sign.
#
# ## Baselines
#
# The same argument allows more. Any number $b(s_t)$ that is known before $a_t$ is drawn may be
# subtracted from the weight:
#
# $$
# w_t = G_t - b(s_t) . \qquad (3.1)
# $$
#
# Such a number is called a **baseline**. The simplest one is a constant $b$, subtracted from the
# return of the whole response. Which constant is best? Write $g = \nabla \log p_\theta(\tau)$ for
# the sum of the tokens' terms. The estimate from one response is then $(R - b) \thinspace g$. Its
# total variance is its mean squared length minus the squared length of its mean, $\nabla J$:
#
# $$
# \text{variance}(b) = E \big[ (R - b)^2 \thinspace \vert g \vert^2 \big] - \vert \nabla J \vert^2
# = E \big[ R^2 \vert g \vert^2 \big] - 2 b \thinspace E \big[ R \thinspace \vert g \vert^2 \big]
# + b^2 \thinspace E \big[ \vert g \vert^2 \big] - \vert \nabla J \vert^2 .
# $$
#
# The last term does not depend on $b$, because no constant changes the mean. The rest is a
# parabola in $b$ that opens upwards. It is lowest where its derivative is 0:
#
# $$
# -2 \thinspace E \big[ R \thinspace \vert g \vert^2 \big] + 2 b \thinspace
# E \big[ \vert g \vert^2 \big] = 0 , \qquad \text{so} \qquad
# b^* = \frac{E \big[ \vert g \vert^2 R \big]}{E \big[ \vert g \vert^2 \big]} . \qquad (3.6)
# $$
#
# This is a mean of the returns in which a response counts by the squared length of its gradient.
# It is the mean return only where $\vert g \vert^2$ and $R$ are uncorrelated, for instance where
# all gradients have the same length. The next cell computes it in the outcome-only world from the
# formula, and checks the parabola.

# %%
world, policy, values, _ = worlds["outcome-only"]
exact = exact_gradient(world, policy)
ones = weighted(lambda batch: torch.ones_like(batch.rewards))  # with these weights a sample is g
p, g = gradient_samples(world, policy, ones)  # [N], [N,D]
R, squared = world.response_rewards.sum(dim=1), g.square().sum(dim=1)  # [N]
mean_return, best = (p @ R).item(), ((p @ (squared * R)) / (p @ squared)).item()
print(f"mean return {mean_return:.3f}, best constant {best:.3f},", end=" ")
print(f"of the package {ladder.best_constant(world, policy).item():.3f}")
for b in (0.0, best):
    by_formula = (p @ ((R - b) ** 2 * squared) - exact @ exact).item()
    measured = bias_and_variance(world, policy, weighted(minus_constant(b)), exact)[1]
    print(f"b = {b:.3f}: variance by the formula {by_formula:.3f}, measured {measured:.3f}")

# %% [markdown]
# Now the same for more constants: four round ones, the mean return, and the best one. The last
# line subtracts $V(s)$, which is explained below.

# %%
constants = {"0": 0.0, "1": 1.0, "10": 10.0, "100": 100.0, "mean": mean_return, "best": best}
for name, b in constants.items():
    bias, variance = bias_and_variance(world, policy, weighted(minus_constant(b)), exact)
    print(f"whole return - {name:4} ({b:7.3f}):", end=" ")
    print(f"unbiased: {bias < 1e-12}, variance {variance:9.3f}")
bias, by_values = bias_and_variance(world, policy, weighted(minus_values), exact, values=values)
print(f"reward-to-go - V(s):            unbiased: {bias < 1e-12}, variance {by_values:9.3f}")

# %% [markdown]
# Prediction 2: the mean stays, up to rounding, and the variance rises from 3.842 to 89.536. With
# 100 it is 11578.026: a batch would have to be 3000 times larger for the same error. Far from
# $b^*$ the variance grows with the square of the distance. No constant is wrong in the mean.
#
# ## V is not the best baseline
#
# $V(s)$, the return to be expected from a state $s$ (here the tokens so far), is the usual
# baseline: the only one in this list that knows the state. Reward-to-go minus $V(s)$ is called the
# **advantage**: how much better it went than expected. A network that learns to predict $V$ is a
# **critic** (notebook 06); the worlds here are small enough for the exact $V$. It is often said
# that $V$ has the least variance, and that is not so. The last two lines above are one example:
# the best constant has less. Prediction 3 is a smaller one.

# %%
bandit = World(lambda prompt, response: float(response == (0,)), vocab_size=3, response_length=1)
chooser = TabularPolicy(bandit, generator=torch.Generator().manual_seed(0))
chooser.table.data = torch.tensor([[0.9, 0.05, 0.05]], dtype=torch.float64).log()  # a, b, c
V = values_and_action_values(bandit, chooser().detach())[0].item()
bandit_exact = exact_gradient(bandit, chooser)
bandit_best = ladder.best_constant(bandit, chooser).item()
_, scores = gradient_samples(bandit, chooser, ones)
lengths = scores.square().sum(dim=1).tolist()
print("squared length of grad log p of a, b, c:", [round(x, 3) for x in lengths])
for name, b in (("none", 0.0), ("V", V), ("best", bandit_best)):
    variance = bias_and_variance(bandit, chooser, weighted(minus_constant(b)), bandit_exact)[1]
    print(f"baseline {name:4} = {b:.3f}: variance {variance:.4f}")

# %% [markdown]
# The figure has the parabola of each of the two worlds.


# %%
def variance_with(setting, b):
    world, policy, gradient = setting
    return bias_and_variance(world, policy, weighted(minus_constant(b)), gradient)[1]


# name: (b, place of the name in points from the mark)
several = {"none": (0, (8, 2)), "best": (best, (6, -16)), "mean return": (mean_return, (8, 2))}
one_token = {"none": (0, (-6, 13)), "best": (bandit_best, (2, 13)), "V": (V, (-8, 2))}
settings = (
    ("outcome-only world", (world, policy, exact), (-1.0, 4.0), several),
    ("one token", (bandit, chooser, bandit_exact), (-0.2, 1.1), one_token),
)

# %%
figure, axes = panels(2, height=3.2)
for panel, (title, setting, ends, marks) in zip(axes, settings):
    grid = torch.linspace(*ends, 27).tolist()
    panel.plot(grid, [variance_with(setting, b) for b in grid], color=DARK)
    for (name, (b, place)), marker in zip(marks.items(), "osD"):
        height, side = variance_with(setting, b), "left" if place[0] > 0 else "right"
        panel.plot(b, height, marker, color=BLUE, markersize=7)
        panel.annotate(name, (b, height), place, textcoords="offset points", ha=side)
    panel.set(xlabel="constant baseline b", ylabel="total variance", title=title)
axes[0].set_ylim(0, None)
axes[0].axhline(by_values, color=ORANGE, linestyle="--", linewidth=1)
name_line(axes[0], -1.1, by_values + 0.4, "V(s)", ORANGE)
show(
    figure,
    "Two parabolas of the variance over the constant. In the outcome-only world the lowest point is"
    " well left of the mean return, and a dashed line for V(s) passes above it. For the one token"
    " the lowest point is close to no baseline, and V is far up on the right.",
)

# %% [markdown]
# In the outcome-only world the lowest point, 1.502, is at 1.402, while the mean return is 2.244 and
# $V(s)$ has 1.772. For the one token the lowest point is at 0.073.
#
# Prediction 3: none. With $V$ the variance is 0.1269, without a baseline 0.0014. The gradient of a
# token that is almost always chosen is short (0.015 when squared, against 1.715): it can hardly
# become more likely. $V$ is a mean in which this token has most of the say. It makes the weight of
# a small, where that matters little, and gives b and c, whose gradients are long, the weight -0.9
# in place of 0. In $b^*$ the squared length of the gradient counts too.
#
# One made-up case might be bad luck. The next cell takes 1000 random problems of one token (such
# problems are called bandits) with five possible tokens, logits and rewards drawn from a normal
# distribution. Then it compares the best constant with $V(s)$ in the three worlds; the wrong $V(s)$
# has noise with standard deviation 1 added.

# %%
for name, number in value_baseline_on_bandits().items():
    print(f"{name:45} {number:.4g}")
for kind, (place, actor, right_v, wrong_v) in worlds.items():
    gradient = exact_gradient(place, actor)
    best_weights = minus_constant(ladder.best_constant(place, actor))
    constant, right, wrong = (
        bias_and_variance(place, actor, weighted(weights), gradient, values=critic)[1]
        for weights, critic in (
            (best_weights, None),
            (minus_values, right_v),
            (minus_values, wrong_v),
        )
    )
    print(f"{kind:13} best constant {constant:.3f}, reward-to-go - V(s) {right:.3f},", end=" ")
    print(f"the same with a wrong V(s) {wrong:.3f}")

# %% [markdown]
# So $V$ is worse than no baseline in 289 of 1000 problems, and in none as good as the best
# constant. But the median of the ratio of those two variances is 1.036: $V$ is rarely the best and
# usually near it. Where rewards come on many tokens, reward-to-go minus $V(s)$ has less variance
# than the whole return minus the best constant (2.688 against 3.334): one constant cannot fit the
# first token and the last. That is why the next notebooks use a critic.
#
# ## What would break this
#
# - A baseline that knows the token. $V$ read one slot too late is the value after the token was
#   chosen: it takes away the good that the token has done.
# - The rewards up to the token in place of those from it: `cumsum` in the wrong direction.
# - The mean of the batch as a baseline, because a row's own return is in it. The mean of the other
#   rows is free of that:
#
# $$
# b = \frac{1}{B} \sum_{j} R(\tau_j) \quad (3.3), \qquad
# b_i = \frac{1}{B-1} \sum_{j \ne i} R(\tau_j) \quad (3.4) .
# $$
#
# - A critic's gradient in the weights: the policy's loss would train the critic. minippo refuses
#   it.


# %%
def value_after_the_token(batch):
    return to_go(batch) - torch.nn.functional.pad(batch.values[:, 1:], (0, 1))


dense, actor, dense_v, _ = worlds["dense"]
gradient = exact_gradient(dense, actor)
print(f"largest entry of the exact gradient {gradient.abs().max().item():.3f}")
for name, weights, size in (
    ("V(s), as it should be", minus_values, 1),
    ("V one slot too late", value_after_the_token, 1),
    ("rewards so far", lambda batch: batch.rewards.cumsum(dim=1), 1),
    ("minus the mean of a batch of 2", ladder.minus_batch_mean, 2),
    ("minus the other one of 2", ladder.minus_leave_one_out, 2),
):
    drawn, samples = gradient_samples(dense, actor, weighted(weights), values=dense_v, size=size)
    mean, _ = mean_and_covariance(drawn, samples)
    print(
        f"{name:32} largest error of the mean {(mean - gradient).abs().max().item():.3f},", end=" "
    )
    share = (mean @ gradient / (gradient @ gradient)).item()
    print(f"part of the exact gradient in it {share:.3f}")

# %%
try:
    baseline_advantages(**one, values=torch.zeros(1, 4).requires_grad_(), gamma=1.0)
except ValueError as error:
    print("ValueError:", error)

# %% [markdown]
# The second column is the component of the mean along the exact gradient, as a multiple of it. "V
# one slot too late" and "rewards so far" have the same mean: what is left in both is the reward of
# the token alone, and all that comes after it is lost. The mean of a batch of two halves the
# gradient (the largest error, 0.113, is half of the largest entry); the other one of two does no
# harm to it.
#
# ## Questions
#
# <details><summary>1. A critic is trained badly and its values are far off. Is the policy gradient
# with reward-to-go minus these values wrong?</summary>
#
# Its mean is right whatever the values are, as long as they are known before the token is drawn.
# Its variance is larger: in the outcome-only world above a wrong $V$ has 2.748 where the exact one
# has 1.772. (The next notebooks let the critic stand in for future rewards, too. There a wrong
# critic does bias the mean.)
# </details>
#
# <details><summary>2. The mean of the batch gives a biased gradient. In a batch of 128, should
# anybody care?</summary>
#
# For whole returns and independent rows the mean of the estimate is $(B-1)/B$ of the exact
# gradient: the direction is right, and the length is that of a learning rate smaller by one part
# in 128. With $B = 2$ it is half. Leave-one-out costs nothing and has no such factor.
# </details>
#
# <details><summary>3. Why does every baseline for a token have to be known before the token is
# drawn?</summary>
#
# The proof takes the baseline out of the mean over the token: the mean of
# $b \thinspace \nabla \log \pi_\theta$ is $b$ times the mean of $\nabla \log \pi_\theta$, which is
# $b$ times 0. If $b$ depends on the token it cannot be taken out.
# </details>
#
# ## Exercise
#
# Write the weights of equation (3.1). `rewards`, `values` and `response_mask` are [B,T], `gamma` is
# a number. Return [B,T]: the reward-to-go of each token (later rewards discounted by gamma per
# step, counted from the token) minus its value, and exactly 0 where the mask is False. `values` at
# slot t is $V$ before token t is drawn. The padding may hold any numbers. The result is data: no
# gradient may reach the values.


# %%
def my_advantages(rewards, values, response_mask, gamma):
    raise NotImplementedError  # your code here


# %%
from minippo.exercises.advantages import exercise

exercise.check(my_advantages)

# %% [markdown]
# ## References
#
# - `minippo/reward_to_go.py` with docs/stage-2-reward-to-go.md, `minippo/baseline.py` with
#   docs/stage-3-baseline.md, and docs/qualifications.md for what is said of both and when it is
#   true.
# - Greensmith, Bartlett and Baxter 2004, *Variance reduction techniques for gradient estimates in
#   reinforcement learning*: the best constant.
# - Kool et al. 2019, *Buy 4 REINFORCE samples, get a baseline for free*, and Ahmadian et al. 2024,
#   arXiv:2402.14740: leave-one-out, in general and in RLHF.
#
# Next: [05 The reward head](05_reward_head.ipynb).
