# %% [markdown]
# # 09 KL three ways
#
# **Goal:** three estimates of one distance, $k_1$, $k_2$ and $k_3$, and what each of them does
# when it is a number, a loss, or a part of the reward.
#
# The distance is $\mathrm{KL}(\pi_\theta \Vert \pi_{\text{ref}})$, from the policy to the
# reference. With $d = \log \pi_\theta(a \mid s) - \log \pi_{\text{ref}}(a \mid s)$ for the
# log-ratio of one sampled token, $k_1 = d$, $k_2 = d^2 / 2$ and $k_3 = e^{-d} - 1 + d$.
#
# Before you run anything, write down three predictions:
#
# 1. The KL divergence is never negative. Is $k_1$, its plain estimate from one token, ever
#    negative?
# 2. The mean of $k_1$ over samples of the policy is added to a loss. What is the expected
#    gradient of that term?
# 3. $k_1$ and $k_3$ have the same mean. Two policies are trained, one with $k_1$ as the penalty
#    in the reward, one with $k_3$. Do they end at the same policy?

# %%
import os

import torch
from plots import BLUE, DARK, ORANGE, PALE, name_line, panels, show

from minippo.exact.ladder import reward_functions
from minippo.exact.oracle import optimal_policy, response_probabilities, sequence_kl
from minippo.exact.training import train_with_kl_in_reward
from minippo.exact.world import TabularPolicy, World
from minippo.kl import exact_kl, kl_k1, kl_k2, kl_k3

FAST = bool(os.environ.get("MINIPPO_FAST"))
ESTIMATORS = {"k1": kl_k1, "k2": kl_k2, "k3": kl_k3}
LOOKS = {"k1": (DARK, "-"), "k2": (BLUE, "--"), "k3": (ORANGE, "-.")}

# %% [markdown]
# ## What is estimated
#
# RLHF starts from a fine-tuned model and keeps a frozen copy of it, the **reference**
# $\pi_{\text{ref}}$. The policy may move away from it, and pays for the distance. The distance is
# the Kullback-Leibler divergence, the mean of $d$ over tokens that the policy samples:
#
# $$
# \mathrm{KL}(\pi_\theta \Vert \pi_{\text{ref}}) = \sum_v \pi_\theta(v \mid s) \left( \log
# \pi_\theta(v \mid s) - \log \pi_{\text{ref}}(v \mid s) \right) . \qquad (0.13)
# $$
#
# It needs the probabilities of all tokens. The three estimates need the two log-probabilities of
# the one token that was sampled:
#
# $$
# k_1 = d \quad (0.10) \qquad\qquad k_2 = \tfrac{1}{2} d^2 \quad (0.11) \qquad\qquad k_3
# = e^{-d} - 1 + d \quad (0.12)
# $$
#
# Here is one state with five tokens, so that every mean below is a sum over five numbers and no
# estimate.

# %%
logits = torch.tensor([2.0, 1.0, 0.0, -1.0, -2.5], dtype=torch.float64)
ref_logits = torch.tensor([-0.5, 1.0, 0.5, 0.0, -0.5], dtype=torch.float64)
logprobs, ref_logprobs = logits.log_softmax(dim=-1), ref_logits.log_softmax(dim=-1)  # [V]
pi, ref = logprobs.exp(), ref_logprobs.exp()
k = {
    name: estimator(logprobs=logprobs, ref_logprobs=ref_logprobs)
    for name, estimator in ESTIMATORS.items()
}
print("token     pi    ref      d" + "".join(f"     {name}" for name in k))
for v in range(5):
    row = (logprobs[v] - ref_logprobs[v], *(x[v] for x in k.values()))
    print(f"{v}      {pi[v]:.3f}  {ref[v]:.3f}" + "".join(f" {x:6.2f}" for x in row))

# %% [markdown]
# ## As numbers
#
# Which of them has the KL as its mean, and how far is one sample from its mean?


# %%
def one_kl(a, b):
    return exact_kl(logits=a.view(1, 1, -1), ref_logits=b.view(1, 1, -1)).item()


print(f"KL(policy || reference) {one_kl(logits, ref_logits):.4f}")
print(f"KL(reference || policy) {one_kl(ref_logits, logits):.4f}")
for name, x in k.items():
    mean = (pi * x).sum()
    std = (pi * (x - mean) ** 2).sum().sqrt()
    print(f"{name}   mean {mean:.4f}   standard deviation of one sample {std:.2f}", end="   ")
    print(f"probability of a negative value {pi[x < 0].sum():.2f}")

# %% [markdown]
# $k_1$ and $k_3$ have the right mean, $k_2$ has not. For $k_3$ the reason is one line: the mean
# of $e^{-d}$ is $\sum_v \pi_v \cdot \pi_{\text{ref},v} / \pi_v = 1$, so $e^{-d} - 1$ adds nothing
# to the mean of $d$. The two KLs differ: the direction is part of the question, and all three
# estimates are about the first one.
#
# The next cell asks the same for policies at several distances: 0 is the reference, 1 the policy
# above, and 1.6 is further out in the same direction.

# %%
scales = torch.linspace(0.1, 1.6, 16, dtype=torch.float64)
curves = {name: [] for name in ESTIMATORS}
for scale in scales:
    here = (ref_logits + scale * (logits - ref_logits)).log_softmax(dim=-1)
    kl = one_kl(here, ref_logits)
    for name, estimator in ESTIMATORS.items():
        x = estimator(logprobs=here, ref_logprobs=ref_logprobs)
        mean = (here.exp() * x).sum()
        std = (here.exp() * (x - mean) ** 2).sum().sqrt()
        curves[name].append(((mean / kl).item(), (std / kl).item()))
for name, rows in curves.items():
    print(f"{name}  at 0.1, 1, 1.6:  mean / KL", end=" ")
    print(*(f"{rows[i][0]:6.2f}" for i in (0, 9, 15)), "  std / KL", end=" ")
    print(*(f"{rows[i][1]:6.2f}" for i in (0, 9, 15)))

# %% [markdown]
# The figure has the three as functions of $d$ on the left, and the results of the cell above
# beside it.

# %%
figure, axes = panels(3, height=2.9)
d = torch.linspace(-2.5, 2.5, 101, dtype=torch.float64)
places = {  # of the names, in each panel
    "k1": ((-1.3, -2.0), (1.0, 0.97), (0.2, 12)),
    "k2": ((-2.7, 1.5), (1.0, 1.38), (1.0, 0.4)),
    "k3": ((-2.0, 5.0), (1.0, 1.03), (1.2, 2.2)),
}
for name, (colour, line) in LOOKS.items():
    y = ESTIMATORS[name](logprobs=d, ref_logprobs=torch.zeros_like(d))
    means, stds = zip(*curves[name])
    axes[0].plot(d, y, line, color=colour)
    axes[1].plot(scales, means, line, color=colour)
    axes[2].plot(scales, stds, line, color=colour)
    for panel, place in zip(axes, places[name]):
        name_line(panel, *place, name, colour)
axes[0].set(title="value", xlabel="d, nats", ylim=(-2.5, 6))
axes[1].set(title="mean / KL", xlabel="distance", ylim=(0.9, None))
axes[2].set(title="std / KL", xlabel="distance", yscale="log")
show(
    figure,
    "Left: k1 is a straight line through 0, k2 a parabola, k3 a curve that is never negative and"
    " rises fast where d is negative. Middle: k1 and k3 are one line at 1, and k2 rises above it."
    " Right: the standard deviation of k1 is far above the others near the reference and falls"
    " below that of k3 at the far end.",
)

# %% [markdown]
# Prediction 1: a sample of $k_1$ is negative whenever the token is less likely than under the
# reference, here with probability 0.36. Only its mean is never negative. Near the reference $k_3$
# is much the quieter one (at 0.1 it has 1.82 against 18.64). Far from it that turns around (at
# 1.6 it has 2.10 against 0.70): a rare token that the reference likes makes $e^{-d}$ large.
#
# ## As a loss, and in the reward
#
# For training, the gradient counts. The mean of an estimate over samples is $\sum_v \pi_v k_v$,
# and the policy is in it twice: in the probability $\pi_v$ of drawing the token, and inside
# $k_v$. By the product rule, and with $\nabla \pi_v = \pi_v \nabla \log \pi_v$, the gradient has
# two parts:
#
# $$
# \nabla \sum_v \pi_v k_v = \underbrace{\sum_v \pi_v k_v \nabla \log \pi_v}_{\text{reward part}} +
# \underbrace{\sum_v \pi_v \nabla k_v}_{\text{loss part}}
# $$
#
# - **Loss part**: the tokens are given, autograd goes through $k$. A term `kl_coef * k.mean()` in
#   the loss gives this part and no more.
# - **Reward part**: $k$ is a number, the policy gradient does the rest. A penalty `-kl_coef * k`
#   in the reward gives this part and no more.
#
# All of this is about the policy that the tokens were sampled from. The next cell has a function
# for the two parts, and the gradients of both KLs to compare with.


# %%
def two_parts(estimator):
    theta = logits.clone().requires_grad_()
    log_pi = theta.log_softmax(dim=-1)
    x = estimator(logprobs=log_pi, ref_logprobs=ref_logprobs)
    mean = (pi * x).sum()  # pi is data: the tokens were sampled
    (as_loss,) = torch.autograd.grad(mean, theta, retain_graph=True)
    (as_reward,) = torch.autograd.grad((pi * x.detach() * log_pi).sum(), theta)
    return as_reward, as_loss


theta = logits.clone().requires_grad_()
kl = exact_kl(logits=theta.view(1, 1, 5), ref_logits=ref_logits.view(1, 1, 5)).sum()
(kl,) = torch.autograd.grad(kl, theta)
reverse = pi - ref  # the gradient of KL(reference || policy) to the logits
for name, row in (("grad KL(policy || reference)", kl), ("grad KL(reference || policy)", reverse)):
    print(f"{name:<30}", *(f"{x + 0:7.3f}" for x in row.tolist()))

# %% [markdown]
# Five numbers, one for each logit. Now the two parts of each estimate. Which of the six is the
# gradient of the KL?

# %%
targets = {"KL(policy || reference)": kl, "KL(reference || policy)": reverse}
for name, estimator in ESTIMATORS.items():
    for place, row in zip(("in the reward", "in the loss"), two_parts(estimator)):
        same = [
            label for label, target in targets.items() if torch.allclose(row, target, atol=1e-12)
        ]
        row = torch.where(row.abs() < 1e-12, 0.0, row)
        print(f"{name} {place:<14}", *(f"{x:7.3f}" for x in row.tolist()), end=" ")
        print("  = grad", *(same or ["of neither"]))

# %% [markdown]
# Prediction 2: at the policy that sampled, the expected gradient of $k_1$ in the loss is 0. The
# derivative of $k_1$ by $\log \pi_v$ is 1 for every token, and the mean of $\nabla \log \pi$ over
# samples of the policy is 0. The term adds noise and does not hold the policy. (After some steps
# on the same samples the mean is taken over $\pi_{\text{old}}$ and the gradient at another
# $\pi_\theta$. Then it is not 0; it pulls away from $\pi_{\text{old}}$, and the reference is
# still not in it: $\log \pi_{\text{ref}}$ is a constant of the term.)
#
# The rest follows from the product rule, for one token:
#
# - $k_1$ has the KL as its mean and no loss part, so its reward part is the whole gradient.
# - $k_3$ has the KL as its mean as well, but its loss part is
#   $\nabla \mathrm{KL}(\pi_{\text{ref}} \Vert \pi_\theta)$, the other direction. What is left for
#   the reward is $\nabla \mathrm{KL}(\pi_\theta \Vert \pi_{\text{ref}})$ minus that. With several
#   tokens this does not hold: an early token also decides which states the later ones are in.
# - The derivative of $k_2$ by $\log \pi_v$ is $d_v$, so its loss part is
#   $\sum_v \pi_v d_v \nabla \log \pi_v$, which is the reward part of $k_1$.
#
# minippo takes $k_1$ in the reward, on every token,
#
# $$
# r_t = -\beta \left( \log \pi_{\text{old}}(a_t \mid s_t)
# - \log \pi_{\text{ref}}(a_t \mid s_t) \right) ,
# $$
#
# and the score on top of the last one (equation 7.1).
#
# ## To the end of a training
#
# A wrong gradient need not matter if the training ends at the same place. So: a world of three
# tokens and at most three steps, where all responses are listed and the best policy is known,
# with $R(x, y)$ the return of response $y$ to prompt $x$ and $Z(x)$ the number that makes the sum
# 1:
#
# $$
# \pi^*(y \mid x) = \pi_{\text{ref}}(y \mid x) \thinspace e^{R(x, y) / \beta} / Z(x) .
# $$
#
# Gradient ascent with exact expectations, no sampling noise, from the same start; the only
# difference is the estimate in the reward. The total variation is half the sum over responses of
# the differences of their probabilities: 0 is the same policy.

# %%
runs, ends = {}, {}
for name, estimator in ESTIMATORS.items():
    world = World(reward_functions(0)["dense"], response_length=3)
    policy = TabularPolicy(world, generator=torch.Generator().manual_seed(0))
    start = policy().detach().clone()
    runs[name] = train_with_kl_in_reward(
        world,
        policy,
        kl_estimator=estimator,
        kl_coef=0.5,
        steps=100 if FAST else 400,
        learning_rate=2.0,
        record_every=5,
    )
    ends[name] = response_probabilities(world, policy().detach())
best_logits, best = optimal_policy(world, start, 0.5)
for name, rows in runs.items():
    first, last = rows[0], rows[-1]
    print(name, end="")
    for what in ("total variation", "objective"):
        print(f"   {what} {first[what]:.3f} -> {last[what]:.3f}", end="")
    print(f"   KL {last['kl']:.2f}")
print(f"objective of the best policy {best:.3f}")

# %% [markdown]
# Where they have ended: the probabilities of the four responses that are likeliest under the
# optimal policy.

# %%
columns = {"optimal": response_probabilities(world, best_logits), **ends}
top = columns["optimal"].argsort(descending=True)[:4]
labels = [
    "".join("EAB"[t] for t, m in zip(world.response_tokens[i], world.response_mask[i]) if m)
    for i in top.tolist()
]
print("responses ", *(f"{label:>7}" for label in labels))
for name, p in columns.items():
    print(f"{name:<10}", *(f"{x:7.3f}" for x in p[top].tolist()))

# %% [markdown]
# On the left of the figure the way there, on the right the same probabilities.

# %%
figure, (left, right) = panels(2, height=3.2)
for name, rows in runs.items():
    colour, line = LOOKS[name]
    apart = [row["total variation"] for row in rows]
    left.plot([row["step"] for row in rows], apart, line, color=colour)
    rise = {"k1": 0.05, "k2": -0.05, "k3": 0.05}[name]
    name_line(left, rows[len(rows) // 2]["step"], apart[-1] + rise, name, colour)
bars = (("optimal", PALE, ""), ("k1", DARK, ""), ("k2", BLUE, "//"), ("k3", ORANGE, "xx"))
for i, (name, colour, hatch) in enumerate(bars):
    place, height = torch.arange(4) + 0.2 * i - 0.3, columns[name][top]
    right.bar(place, height, 0.2, color=colour, edgecolor="white" if hatch else DARK, hatch=hatch)
    most = int(height.argmax())
    right.annotate(name, (place[most], height[most] + 0.02), rotation=90, ha="center")
left.set(xlabel="step", ylabel="total variation to the optimum", ylim=(0, 0.8))
right.set(ylabel="probability", ylim=(0, 1.2), xlabel="response (E ends it)")
right.set_xticks(range(4), labels)
show(
    figure,
    "Left, over the steps: the line of k1 falls to 0, those of k2 and k3 are on each other and end"
    " above where they started. Right, for the four likeliest responses of the optimal policy: the"
    " bars of k1 are as high as the optimal ones; those of k2 and k3 are 0 but for one response,"
    " which has all the probability.",
)

# %% [markdown]
# Prediction 3: no. $k_1$ reaches the optimum, with 0.002 left. $k_2$ and $k_3$ end at a single
# response, 0.692 away, with an objective of 4.840 where the best policy has 5.428. $k_2$ and
# $k_3$ charge a token that has become rare as much as, or more than, one that has become
# frequent, so what becomes rare is pushed further down. With $k_3$ the logits then run away
# (docs/qualifications.md has the longer run, which ends in NaN). How far from the optimum they
# end depends on the world: there are some in which it is little.
#
# ## What would break this
#
# - Turning the difference around, $\log \pi_{\text{ref}} - \log \pi_\theta$, in $k_1$: the
#   penalty becomes a prize for leaving the reference. In $k_3$ it is harder to see, since all
#   values stay at or above 0.

# %%
for name, x in (("k1", -k["k1"]), ("k3", torch.expm1(k["k1"]) - k["k1"])):
    print(f"{name} with d turned around: mean {(pi * x).sum():.4f},", end=" ")
    print(f"wanted {one_kl(logits, ref_logits):.4f}")

# %% [markdown]
# - $k_1$ in the loss to hold the policy: the mean of its gradient at the sampling policy is 0,
#   and each sample is not. It is noise, whatever the distance from the reference.

# %%
scores = torch.eye(5, dtype=torch.float64) - pi  # row v: grad log pi_v = one-hot(v) - pi
print("mean:", round((pi @ scores).abs().max().item(), 6))
spread = [round(x, 2) for x in (pi @ scores**2).sqrt().tolist()]
print("standard deviation of one sample, per logit:", spread)

# %% [markdown]
# - Taking the per-token $k_2$ or $k_3$ as a loss for longer responses. For one token $k_2$ in the
#   loss is right. A response has several, and an early token decides in which states the later
#   ones are; a loss per token leaves that out. The square of the whole response's log-ratio does
#   not. The cell takes two random policies in the world from above.

# %%
policy = TabularPolicy(world, generator=torch.Generator().manual_seed(1))
other = TabularPolicy(world, generator=torch.Generator().manual_seed(11))().detach()
(wanted,) = torch.autograd.grad(sequence_kl(world, policy(), other), policy.table)
p = response_probabilities(world, policy()).detach()  # [N]
for name in ("k2", "k3"):
    a, b = world.logprobs(policy()), world.logprobs(other)  # [N,T], 0 after the end
    losses = {
        "sum of the tokens'": ESTIMATORS[name](logprobs=a, ref_logprobs=b).sum(dim=1),
        "of the whole response": ESTIMATORS[name](logprobs=a.sum(dim=1), ref_logprobs=b.sum(dim=1)),
    }
    for what, x in losses.items():
        (found,) = torch.autograd.grad(p @ x, policy.table, retain_graph=True)
        error = (found - wanted).norm() / wanted.norm()
        print(f"{name} in the loss, {what:<22} error of the gradient / the gradient {error:.2f}")

# %% [markdown]
# ## Questions
#
# <details><summary>1. k3 is never negative and near the reference has less variance than k1. Why
# is it still not what goes into the reward?</summary>
#
# Those are properties of its value. In the reward it is data, and its value is multiplied by
# $\nabla \log \pi$; the mean of that product is the gradient of the KL only for $k_1$. The other
# part of the gradient of $k_3$'s mean would have to come through $k_3$ itself, and data has no
# gradient.
# </details>
#
# <details><summary>2. The mean of k1 over a batch is slightly below 0. Is something
# wrong?</summary>
#
# Not by that alone. The true KL may be near 0, and then the standard deviation of $k_1$ is many
# times its mean; a batch mean below 0 is chance. If it stays below 0 over many batches, the
# samples do not come from the policy whose log-probabilities are used (another temperature,
# dropout), or the difference is turned around.
# </details>
#
# <details><summary>3. Where the penalty is in the reward, the log-probability is data. Then how
# does the penalty act on the policy at all?</summary>
#
# As any reward does: a token with $d > 0$ is fined, and the policy gradient makes it less likely;
# a token with $d < 0$ is paid. Each token's penalty also counts for the tokens before it, since
# they led there. That is what the per-token loss leaves out.
# </details>
#
# ## Exercise
#
# Write the three estimates $k_1 = d$, $k_2 = d^2/2$ and $k_3 = e^{-d} - 1 + d$. `logprobs` and
# `ref_logprobs` [B,T] are the log-probabilities of the sampled tokens under the policy and under
# the reference, `response_mask` is [B,T]. Return one tensor [3,B,T] with $k_1, k_2, k_3$ in this
# order (`torch.stack` makes it), exactly 0 where the mask is False, with the gradient to
# `logprobs` intact. They estimate $\mathrm{KL}(\pi_\theta \Vert \pi_{\text{ref}})$ from samples
# of the policy.


# %%
def my_kl_estimators(logprobs, ref_logprobs, response_mask):
    raise NotImplementedError  # your code here


# %%
from minippo.exercises.kl_estimators import exercise

exercise.check(my_kl_estimators)

# %% [markdown]
# ## References
#
# - Schulman 2020, *Approximating KL Divergence*, joschu.net/blog/kl-approx.html: $k_1$, $k_2$ and
#   $k_3$ as estimates of a value. The gradients are not its subject.
# - Ziegler et al. 2019, *Fine-Tuning Language Models from Human Preferences*, arXiv:1909.08593:
#   the penalty in the reward.
# - `minippo/kl.py` with a Gradient line for each, `minippo/exact/training.py`, and
#   docs/qualifications.md, "k1, k2 and k3 all estimate the KL".
#
# Next: [10 TRPO](10_trpo.ipynb).
