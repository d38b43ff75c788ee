# %% [markdown]
# # 16 Over-optimisation
#
# **Goal:** watch a policy find what a reward model likes and nobody wants, and see what holds it
# back.
#
# A reward model is right about responses like those it has learned from. A policy that is paid by
# it moves away from them. In a toy world the truth is known, the *gold* score, so one can see
# where the two part.
#
# Before you run anything, write down three predictions:
#
# 1. A reward model has learned from 60 comparisons of a world with 81 responses. The policy may go
#    wherever it wants, at no price. Will the gold score at the end be above that of the policy
#    that it began with?
# 2. The same with a price on the KL. Will gold end higher than without it, and the reward model's
#    score?
# 3. Instead of training, take the best of $n$ samples by the reward model. Does gold rise with
#    every larger $n$?

# %%
import math
import os

import torch
from plots import BLUE, DARK, LINES, ORANGE, name_line, panels, show

from minippo.relatives.selection import best_of_n_probabilities
from minippo.stages.overoptimisation import Point, fit_best_of_n, gold_drop

FAST = bool(os.environ.get("MINIPPO_FAST"))
RESPONSES, FEATURES = 81, 12

# %% [markdown]
# ## A world with a truth, and a judge who has seen little of it
#
# 81 responses, each with 12 features. What a response is worth is a sum over its features and
# something of its own that no feature shows. A reward model sees the features only, and learns
# from comparisons of responses that the fine-tuned policy gives: 30 of the 81 nearly always, the
# others hardly ever.


# %%
def learned_weights(features, labels):
    """Logistic regression: what a reward model makes of comparisons of features."""
    weights = torch.zeros(FEATURES, dtype=torch.float64, requires_grad=True)
    optimiser = torch.optim.LBFGS([weights], max_iter=100)
    loss = torch.nn.functional.binary_cross_entropy_with_logits

    def closure():
        optimiser.zero_grad()
        losses = loss(features @ weights, labels)
        (losses + 1e-3 * weights.square().sum()).backward()
        return losses

    optimiser.step(closure)
    return weights.detach()


# %%
def make_judge(seed, comparisons):
    """(probabilities of the fine-tuned policy, gold scores, the reward model's scores)."""
    generator = torch.Generator().manual_seed(seed)
    features = torch.randn(RESPONSES, FEATURES, generator=generator, dtype=torch.float64)
    truth = torch.randn(FEATURES, generator=generator, dtype=torch.float64) / math.sqrt(FEATURES)
    own = torch.randn(RESPONSES, generator=generator, dtype=torch.float64)
    gold = features @ truth + 0.5 * own
    ref = torch.where(torch.arange(RESPONSES) < 30, 0.0, -4.0).double().softmax(0)
    pairs = torch.multinomial(ref, 2 * comparisons, True, generator=generator).view(-1, 2)
    first, second = pairs[pairs[:, 0] != pairs[:, 1]].T
    labels = torch.bernoulli(torch.sigmoid(gold[first] - gold[second]), generator=generator)
    scores = features @ learned_weights(features[first] - features[second], labels)
    return ref, gold, scores / (ref * (scores - ref @ scores).square()).sum().sqrt()


# %%
ref, gold, scores = make_judge(seed=11, comparisons=60)
print("correlation of score and gold where the policy is:", end=" ")
print(f"{torch.corrcoef(torch.stack([scores, gold])[:, :30])[0, 1]:.2f},", end=" ")
print(f"elsewhere: {torch.corrcoef(torch.stack([scores, gold])[:, 30:])[0, 1]:.2f}")

# %% [markdown]
# ## A policy that is paid by it
#
# With so few responses the policy is a list of 81 probabilities, and the policy gradient is a sum:
# no samples, no noise. At a price $\beta$ of the KL every step climbs
#
# $$
# E_\pi[\text{score}] - \beta \thinspace \mathrm{KL}(\pi \Vert \pi_\text{ref}) .
# $$


# %%
def paid(ref, gold, scores, price, steps=400, size=0.1):
    """The course of the policy: a Point each step."""
    logits, course = ref.log(), []
    for _ in range(steps):
        pi = logits.softmax(0)
        ratios = pi.log() - ref.log()
        course.append(Point((pi * ratios).sum().item(), (pi @ scores).item(), (pi @ gold).item()))
        worth = scores - price * ratios
        logits = logits + size * (worth - pi @ worth)  # the natural gradient of a table
    return course


courses = {price: paid(ref, gold, scores, price) for price in (0.0, 0.3, 1.0)}
print("price    KL at the end   score           best gold   gold at the end")
for price, course in courses.items():
    first, last = course[0], course[-1]
    best = max(point.gold for point in course)
    print(
        f"{price:<8} {last.kl:10.2f}    {first.score:6.2f} -> {last.score:5.2f} "
        f"{best:10.2f} {first.gold:9.2f} -> {last.gold:5.2f}"
    )

# %%
figure, axes = panels(2, height=3.2)
for (price, course), colour, style in zip(courses.items(), (ORANGE, BLUE, DARK), LINES):
    distance = [math.sqrt(max(0.0, point.kl)) for point in course]
    for panel, values in zip(axes, ([p.score for p in course], [p.gold for p in course])):
        panel.plot(distance, values, style, color=colour)
        name_line(panel, distance[-1], values[-1], f"{price}", colour)
for panel, label in zip(axes, ("reward model's score", "gold score")):
    panel.set(xlabel="square root of the KL, nats", title=label)
show(
    figure,
    "Left: the reward model's score rises with the distance from the reference, furthest at price"
    " 0. Right: the gold score rises at first; at price 0 it turns and falls, at the higher prices"
    " the policy stops before that.",
)

# %% [markdown]
# Predictions 1 and 2: the table. At no price the score keeps rising; gold rises with it at first,
# as long as the policy chooses among responses that the reward model knows, and falls from where
# it finds those that are only liked. With a price it stops on its way, with a lower score. How
# much of gold is lost, as a share of what could be had:

# %%
for price, course in courses.items():
    print(f"price {price}: drop {gold_drop(course, gold.max().item()):.3f}")

# %% [markdown]
# One world is one world. Over many, with reward models that have learned from few comparisons and
# from many:

# %%
worlds = range(4 if FAST else 40)
print("comparisons    price 0    price 0.3   price 1.0     (mean drop)")
for comparisons in (30, 60, 300, 3000):
    cells = []
    for price in (0.0, 0.3, 1.0):
        drops = []
        for seed in worlds:
            world = make_judge(seed, comparisons)
            drops.append(gold_drop(paid(*world, price), world[1].max().item()))
        cells.append(f"{sum(drops) / len(drops):11.3f}")
    print(f"{comparisons:<10}", " ".join(cells))

# %% [markdown]
# Both help, and they help against different things. More comparisons make the reward model right
# about what it sees. But what no feature shows it can't learn, however many there are, and a
# policy without a price finds that too.
#
# ## The best of n
#
# Draw $n$ responses from the reference and keep the one that the reward model likes best. The KL
# of that is at most $\log n - (n - 1)/n$. On a list of 81 its probabilities can be written down:
# `minippo.relatives.selection` does.

# %%
choices = []
for n in (1, 2, 4, 8, 16, 64, 256, 1024):
    pi = best_of_n_probabilities(probabilities=ref, scores=scores, n=n)
    seen = pi > 0
    kl = max(0.0, (pi[seen] * (pi[seen] / ref[seen]).log()).sum().item())
    choices.append(Point(kl, (pi @ scores).item(), (pi @ gold).item()))
    bound = math.log(n) - (n - 1) / n
    print(f"n {n:5}   KL {kl:.3f} of at most {bound:.3f}   ", end="")
    print(f"score {choices[-1].score:.2f}   gold {choices[-1].gold:.2f}")

# %% [markdown]
# Prediction 3: look where gold turns. The best of $n$ over-optimises as a training does; only it
# takes a great many samples to go as far.
#
# Gao and others fitted laws to such courses: with $d = \sqrt{\mathrm{KL}}$ the gold score less
# that of the reference is about $d (\alpha - \beta d)$ for the best of $n$.

# %%
fit = fit_best_of_n(choices, choices[0].gold)
print(
    f"d ({fit.a:.2f} - {fit.b:.2f} d), residual {fit.residual:.3f} of a spread of {fit.spread:.3f}"
)

# %% [markdown]
# ## On a language model
#
# `python -m minippo.overoptimise --preset quick --out runs/over` does the same to the toy GPT:
# reward models of several sizes and one of a biased annotator, several prices, with the best of
# $n$ and the best policies there can be on the same axes. docs/over-optimisation.md has what came
# of it.
#
# ## What would break this
#
# - Stopping by the score: it never turns. What turns is gold, which nobody has outside a toy.
#   People look at samples, at lengths, at a second reward model, or at the KL.
# - A price that is high enough for everything: at a price without end the policy stays where it
#   was, and nothing is gained either.
#
# ## Questions
#
# <details><summary>1. Could a reward model that has learned from infinitely many comparisons be
# over-optimised?</summary>
#
# If it can't represent the truth, yes: see the last row of the table. If it can, and the
# comparisons cover all responses, no.
# </details>
#
# <details><summary>2. Why is the distance measured as the square root of the KL?</summary>
#
# Near the reference the KL is a square: half the squared length of the step, in the metric of the
# policy. Its root is a length, and what is gained is at first proportional to it.
# </details>
#
# <details><summary>3. A run of your own has no gold score. Which numbers of its dashboard would
# make you suspicious?</summary>
#
# A score far beyond what any held-out response got, a KL that goes on rising, lengths that all
# move one way, samples that look alike. docs/diagnostics.md has P008 and P011.
# </details>
#
# ## Exercise
#
# RLOO is paid by the same reward model and needs no critic. Write its advantages: for each
# response its score less the mean score of the *other* responses to the same prompt. `scores` is
# [B]; the `group_size` responses to a prompt are neighbouring rows. Return [B].


# %%
def my_leave_one_out(scores, group_size):
    raise NotImplementedError  # your code here


# %%
from minippo.exercises.leave_one_out import exercise

exercise.check(my_leave_one_out)

# %% [markdown]
# ## References
#
# - Gao, Schulman and Hilton 2022, *Scaling Laws for Reward Model Overoptimization*,
#   arXiv:2210.10760.
# - Beirami et al. 2024, *Theoretical guarantees on the best-of-n alignment policy*,
#   arXiv:2401.01879: why $\log n - (n-1)/n$ is a bound.
# - `minippo/stages/overoptimisation.py`, docs/over-optimisation.md.
#
# Next: [17 The family](17_the_family.ipynb).
