# %% [markdown]
# # 09 KL three ways
#
# **Goal:** three estimates of one distance, k1, k2 and k3, and what each of them does when it is a number, a loss, or a part of the reward.
#
# The distance is KL(policy || reference). With d for the log-ratio log pi - log pi_ref of one sampled token, k1 = d, k2 = d^2 / 2 and k3 = exp(-d) - 1 + d.
#
# Before you run anything, write down three predictions:
#
# 1. The KL divergence is never negative. Is k1, its plain estimate from one token, ever negative?
# 2. The mean of k1 over samples of the policy is added to a loss. What is the expected gradient of that term?
# 3. k1 and k3 have the same mean. Two policies are trained, one with k1 as the penalty in the reward, one with k3. Do they end at the same policy?

# %%
import os

import matplotlib.pyplot as plt
import torch

from minippo.exact.ladder import reward_functions
from minippo.exact.oracle import optimal_policy, response_probabilities, sequence_kl
from minippo.exact.training import train_with_kl_in_reward
from minippo.exact.world import TabularPolicy, World
from minippo.kl import exact_kl, kl_k1, kl_k2, kl_k3

FAST = bool(os.environ.get("MINIPPO_FAST"))
ESTIMATORS = {"k1": kl_k1, "k2": kl_k2, "k3": kl_k3}

# %% [markdown]
# ## What is estimated
#
# RLHF starts from a fine-tuned model and keeps a frozen copy of it, the **reference**. The policy may move away from it, and pays for the distance. The
# distance is the Kullback-Leibler divergence KL(policy || reference), the mean of d = log pi - log pi_ref over tokens that the policy samples (equation
# 0.13). Here is one state with five tokens, so that every mean below is a sum over five numbers and no estimate.

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
# The exact KL needs the probabilities of all tokens. The three estimates need the two log-probabilities of the one token that was sampled:
#
# - k1 = d (equation 0.10)
# - k2 = d^2 / 2 (equation 0.11)
# - k3 = exp(-d) - 1 + d (equation 0.12)
#
# ## As numbers
#
# Which of them has the KL as its mean, and how far does one sample lie from its mean?


# %%
def one_kl(a, b):
    return exact_kl(logits=a.view(1, 1, -1), ref_logits=b.view(1, 1, -1)).item()


print(f"KL(policy || reference) {one_kl(logits, ref_logits):.4f}")
print(f"KL(reference || policy) {one_kl(ref_logits, logits):.4f}")
for name, x in k.items():
    mean = (pi * x).sum()
    std = (pi * (x - mean) ** 2).sum().sqrt()
    print(
        f"{name}   mean {mean:.4f}   standard deviation of one sample {std:.2f}"
        f"   probability of a negative value {pi[x < 0].sum():.2f}"
    )

# %% [markdown]
# k1 and k3 have the right mean, k2 has not. The two KLs differ: the direction is part of the question, and all three estimates are about the first one.
#
# The next cell asks the same for policies at several distances: 0 is the reference, 1 the policy above, and 1.6 lies further out in the same direction.

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

# %% [markdown]
# The picture has the three as functions of d on the left, and the results of the cell above beside it.

# %%
fig, axes = plt.subplots(1, 3, figsize=(7.4, 2.9), dpi=80, layout="constrained")
d = torch.linspace(-2.5, 2.5, 101, dtype=torch.float64)
for (name, estimator), style in zip(ESTIMATORS.items(), ("-", "--", ":")):
    axes[0].plot(
        d, estimator(logprobs=d, ref_logprobs=torch.zeros_like(d)), "k" + style, label=name
    )
    axes[1].plot(scales, [row[0] for row in curves[name]], "k" + style, label=name)
    axes[2].plot(scales, [row[1] for row in curves[name]], "k" + style, label=name)
    print(
        name,
        " mean / KL at 0.1, 1, 1.6:",
        *(f"{curves[name][i][0]:6.2f}" for i in (0, 9, 15)),
        "  std / KL:",
        *(f"{curves[name][i][1]:6.2f}" for i in (0, 9, 15)),
    )
for ax, title in zip(axes, ("value, nats", "mean / KL", "standard deviation / KL")):
    ax.set(title=title, xlabel="distance from the reference")
    ax.legend(fontsize=8)
axes[0].set(xlabel="d, nats", ylim=(-2.5, 6))
axes[2].set(yscale="log")
plt.show()

# %% [markdown]
# *The picture in words: on the left k1 is a straight line through 0, k2 a parabola, k3 a curve that is never negative and rises fast where d is negative. In
# the middle k1 and k3 lie on one line at 1, and k2 rises above it. On the right the standard deviation of k1 is far above the others near the reference and
# falls below that of k3 at the far end.*
#
# Prediction 1: a sample of k1 is negative whenever the token is less likely than under the reference, here with probability 0.36. Only its mean is never
# negative. Near the reference k3 is much the quieter one (at 0.1 it has 1.82 against 18.64). Far from it that turns around (at 1.6 it has 2.10 against 0.70):
# a rare token that the reference likes makes exp(-d) large.
#
# ## As a loss, and in the reward
#
# For training, the gradient counts. The mean of an estimate over samples is sum_v pi_v k_v, and the policy stands in it twice: in the probability pi_v of
# drawing the token, and inside k_v. By the product rule the gradient has two parts:
#
# - **loss part**, sum_v pi_v grad k_v: the tokens are given, autograd goes through k. A term `kl_coef * k.mean()` in the loss gives this part and no more.
# - **reward part**, sum_v pi_v k_v grad log pi_v: k is a number, the policy gradient does the rest. A penalty `-kl_coef * k` in the reward gives this part
#   and no more.
#
# The next cell has a function for the two parts, and the gradients of both KLs to compare with.


# %%
def two_parts(estimator):
    theta = logits.clone().requires_grad_()
    log_pi = theta.log_softmax(dim=-1)
    x = estimator(logprobs=log_pi, ref_logprobs=ref_logprobs)
    (as_loss,) = torch.autograd.grad(
        (pi * x).sum(), theta, retain_graph=True
    )  # pi is data: samples
    (as_reward,) = torch.autograd.grad((pi * x.detach() * log_pi).sum(), theta)
    return as_reward, as_loss


theta = logits.clone().requires_grad_()
kl = exact_kl(logits=theta.view(1, 1, 5), ref_logits=ref_logits.view(1, 1, 5)).sum()
(kl,) = torch.autograd.grad(kl, theta)
reverse = pi - ref  # the gradient of KL(reference || policy) to the logits
for name, row in (("grad KL(policy || reference)", kl), ("grad KL(reference || policy)", reverse)):
    print(f"{name:<30}", *(f"{x + 0:7.3f}" for x in row.tolist()))

# %% [markdown]
# Five numbers, one for each logit. Now the two parts of each estimate. Which of the six is the gradient of the KL?

# %%
targets = {"KL(policy || reference)": kl, "KL(reference || policy)": reverse}
for name, estimator in ESTIMATORS.items():
    for place, row in zip(("in the reward", "in the loss"), two_parts(estimator)):
        same = [
            label for label, target in targets.items() if torch.allclose(row, target, atol=1e-12)
        ]
        row = torch.where(row.abs() < 1e-12, 0.0, row)
        print(
            f"{name} {place:<14}",
            *(f"{x:7.3f}" for x in row.tolist()),
            "  = grad",
            *(same or ["of neither"]),
        )

# %% [markdown]
# Prediction 2: the expected gradient of k1 in the loss is 0. Its gradient to log pi is 1 for every token, and the mean of grad log pi over samples of the
# policy is 0. The term adds noise and does not hold the policy.
#
# The rest follows from the product rule. k1 has the KL as its mean and no loss part, so its reward part is the whole gradient. k3 has the KL as its mean as
# well, but its loss part is the gradient of the other direction, so what is left for the reward is grad KL(policy || reference) - grad KL(reference ||
# policy). The gradient of k2 to log pi is d, so its loss part is sum_v pi_v d_v grad log pi_v, which is the reward part of k1.
#
# minippo takes k1 in the reward, on every token (equation 7.1).
#
# ## To the end of a training
#
# A wrong gradient need not matter if the training ends at the same place. So: a world of three tokens and at most three steps, where all responses are
# listed and the best policy is known, pi_ref exp(return / kl_coef) / Z, where Z makes the sum 1. Gradient ascent with exact expectations, no sampling
# noise, from the same start; the only difference is the estimate in the reward. The total variation is half the sum over responses of the differences of
# their probabilities: 0 is the same policy.

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
    print(
        f"{name}  total variation {first['total variation']:.3f} -> {last['total variation']:.3f}"
        f"   objective {first['objective']:.2f} -> {last['objective']:.2f} of {best:.2f}"
        f"   KL {last['kl']:.2f}"
    )

# %% [markdown]
# The right half of the picture shows where they have ended: the probabilities of the four responses that are likeliest under the optimal policy.

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

# %%
fig, axes = plt.subplots(1, 2, figsize=(7.4, 3.0), dpi=80, layout="constrained")
for (name, rows), style in zip(runs.items(), ("-", "--", ":")):
    steps, apart = [row["step"] for row in rows], [row["total variation"] for row in rows]
    axes[0].plot(steps, apart, "k" + style, label=name)
for i, ((name, p), hatch) in enumerate(zip(columns.items(), ("", "..", "//", "xx"))):
    axes[1].bar(
        torch.arange(4) + 0.2 * i - 0.3,
        p[top],
        0.2,
        color="white",
        edgecolor="black",
        hatch=hatch,
        label=name,
    )
axes[0].set(xlabel="step", ylabel="total variation to the optimum", ylim=(0, 0.8))
axes[1].set(
    ylabel="probability", xticks=range(4), xticklabels=labels, xlabel="response (E ends it)"
)
axes[0].legend()
axes[1].legend(fontsize=8)
plt.show()

# %% [markdown]
# *The picture in words: on the left the line of k1 falls to 0, those of k2 and k3 lie on each other and end above where they started. On the right, for the
# four likeliest responses of the optimal policy, the bars of k1 are as high as the optimal ones; those of k2 and k3 are 0 but for one response, which has all
# the probability.*
#
# Prediction 3: k1 reaches the optimum, with 0.002 left. k2 and k3 end at a single response, 0.692 away, with an objective of 4.84 instead of 5.43. k2 and k3
# charge a token that has become rare as much as, or more than, one that has become frequent, so what becomes rare is pushed further down. With k3 the logits
# then run away (docs/qualifications.md has the longer run, which ends in NaN). How far from the optimum they end depends on the world: there are some in
# which it is little.
#
# ## What would break this
#
# - Turning the difference around, log pi_ref - log pi, in k1: the penalty becomes a prize for leaving the reference. In k3 it is harder to see, since all
#   values stay at or above 0.

# %%
for name, x in (("k1", -k["k1"]), ("k3", torch.expm1(k["k1"]) - k["k1"])):
    print(
        f"{name} with d turned around: mean {(pi * x).sum():.4f},",
        f"wanted {one_kl(logits, ref_logits):.4f}",
    )

# %% [markdown]
# - k1 in the loss to hold the policy: the mean of its gradient is 0, and each sample is not. It is noise, whatever the distance from the reference.

# %%
scores = torch.eye(5, dtype=torch.float64) - pi  # row v: grad log pi_v = one-hot(v) - pi
print(
    "mean:",
    round((pi @ scores).abs().max().item(), 6),
    "  standard deviation of one sample, per logit:",
    [round(x, 2) for x in (pi @ scores**2).sqrt().tolist()],
)

# %% [markdown]
# - Taking the per-token k2 or k3 as a loss for longer responses. For one token k2 in the loss is right. A response has several, and an early token decides in
#   which states the later ones are; a loss per token leaves that out. The square of the whole response's log-ratio does not. The cell takes two random
#   policies in the world from above.

# %%
policy = TabularPolicy(world, generator=torch.Generator().manual_seed(1))
other = TabularPolicy(world, generator=torch.Generator().manual_seed(11))().detach()
(wanted,) = torch.autograd.grad(sequence_kl(world, policy(), other), policy.table)
p = response_probabilities(world, policy()).detach()  # [N]
for name in ("k2", "k3"):
    a, b = world.logprobs(policy()), world.logprobs(other)  # [N,T], 0 after the end
    for what, x in (
        ("sum of the tokens'", ESTIMATORS[name](logprobs=a, ref_logprobs=b).sum(dim=1)),
        (
            "of the whole response",
            ESTIMATORS[name](logprobs=a.sum(dim=1), ref_logprobs=b.sum(dim=1)),
        ),
    ):
        (found,) = torch.autograd.grad(p @ x, policy.table, retain_graph=True)
        error = (found - wanted).norm() / wanted.norm()
        print(f"{name} in the loss, {what:<22} error of the gradient / the gradient {error:.2f}")

# %% [markdown]
# ## Questions
#
# <details><summary>1. k3 is never negative and near the reference has less variance than k1. Why is it still not what goes into the reward?</summary>
#
# Those are properties of its value. In the reward it is data, and its value is multiplied by grad log pi; the mean of that product is the gradient of the KL
# only for k1. The other part of the gradient of k3's mean would have to come through k3 itself, and data has no gradient.
# </details>
#
# <details><summary>2. The mean of k1 over a batch is slightly below 0. Is something wrong?</summary>
#
# Not by that alone. The true KL may be near 0, and then the standard deviation of k1 is many times its mean; a batch mean below 0 is chance. If it stays
# below 0 over many batches, the samples do not come from the policy whose log-probabilities are used (another temperature, dropout), or the difference is
# turned around.
# </details>
#
# <details><summary>3. Where the penalty is in the reward, log pi is data. Then how does the penalty act on the policy at all?</summary>
#
# As any reward does: a token with d > 0 is fined, and the policy gradient makes it less likely; a token with d < 0 is paid. Each token's penalty also counts
# for the tokens before it, since they led there. That is what the per-token loss leaves out.
# </details>
#
# ## Exercise
#
# Write the three estimates. `logprobs` and `ref_logprobs` [B,T] are the log-probabilities of the sampled tokens under the policy and under the reference,
# `response_mask` is [B,T]. Return one tensor [3,B,T] with k1, k2, k3 in this order (`torch.stack` makes it), exactly 0 where the mask is False, with the
# gradient to `logprobs` intact. They estimate KL(policy || reference) from samples of the policy.


# %%
def my_kl_estimators(logprobs, ref_logprobs, response_mask):
    raise NotImplementedError  # your code here


# %%
from minippo.exercises.kl_estimators import exercise

exercise.check(my_kl_estimators)

# %% [markdown]
# ## References
#
# - Schulman 2020, *Approximating KL Divergence*, joschu.net/blog/kl-approx.html: k1, k2 and k3 as estimates of a value. The gradients are not its subject.
# - Ziegler et al. 2019, *Fine-Tuning Language Models from Human Preferences*, arXiv:1909.08593: the penalty in the reward.
# - `minippo/kl.py` with a Gradient line for each, `minippo/exact/training.py`, and docs/qualifications.md, "k1, k2 and k3 all estimate the KL".
#
# Next: [10 TRPO](10_trpo.ipynb).
