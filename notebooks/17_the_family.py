# %% [markdown]
# # 17 The family
#
# **Goal:** see, with sums and not with samples, what PPO's relatives change and where each ends.
#
# RLOO, GRPO and Dr. GRPO do without a critic: they ask for several responses to a prompt, and
# compare them. DPO does without samples as well. All of it happens here in worlds whose responses
# can be listed, so nothing is noise.
#
# Before you run anything, write down three predictions:
#
# 1. Two responses to one prompt score 1.0 and 0.9. What are their advantages after GRPO's
#    standardisation?
# 2. A prompt is answered rightly once in a hundred. Does GRPO with 64 responses give it more
#    weight than plain policy gradient does, or less?
# 3. RLOO, GRPO, Dr. GRPO and DPO, each as published, with the same price of the KL: how many of
#    them end at the policy that is the best for that price?

# %%
import os

import torch
from plots import BLUE, DARK, LINES, ORANGE, name_line, panels, show

from minippo.exact.ends import end_of
from minippo.exact.first_step import difficulty
from minippo.exact.groups import all_groups, make_bandit
from minippo.exact.methods import METHODS, Estimator
from minippo.exact.oracle import response_probabilities, total_variation
from minippo.exact.pairs import minimum
from minippo.relatives.direct import dpo_loss, ipo_loss
from minippo.relatives.groups import (
    centred_advantages,
    leave_one_out_advantages,
    standardised_advantages,
)

FAST = bool(os.environ.get("MINIPPO_FAST"))
ADVANTAGES = {
    "leave one out": leave_one_out_advantages,
    "centred": centred_advantages,
    "standardised": standardised_advantages,
}

# %% [markdown]
# ## A group in the place of a critic
#
# The $G$ responses to a prompt have scores $s_1, \dots, s_G$. What is each worth against the
# others?
#
# $$
# \text{leave one out:} \enspace s_i - \frac{1}{G - 1} \sum_{j \neq i} s_j , \qquad
# \text{centred:} \enspace s_i - \bar s , \qquad
# \text{standardised:} \enspace \frac{s_i - \bar s}{\mathrm{std}(s)} .
# $$

# %%
for scores in ([1.0, 0.9], [1.0, 0.0], [1.0, 0.0, 0.0, 0.0], [3.0, 2.0, 2.0, 1.0]):
    print(f"scores {scores}")
    for name, function in ADVANTAGES.items():
        found = function(scores=torch.tensor(scores), group_size=len(scores))
        print(f"    {name:14}", "  ".join(f"{value:6.3f}" for value in found))

# %% [markdown]
# Prediction 1: 1 and -1, as for scores of 1 and 0. With two responses, standardising keeps who
# won and forgets by how much. Centred advantages are leave-one-out's times $(G - 1)/G$, which a
# learning rate can take back.
#
# ## Whom a group favours
#
# A verifier says right (1) or wrong (0), and a prompt is answered rightly with probability $p$.
# Plain policy gradient climbs $p$ itself. Below is the factor by which each advantage multiplies
# that gradient: with leave one out it is 1 for every $p$.

# %%
chances = [0.01, 0.02, 0.05, 0.1, 0.2, 0.3, 0.5]
print("p             " + "".join(f"{p:8.2f}" for p in chances))
for G in (2, 4, 16, 64):
    for name in ("leave one out", "standardised"):
        row = [difficulty(ADVANTAGES[name], G, p) for p in chances]
        print(f"{name[:9]:9} G={G:<3}" + "".join(f"{factor:8.2f}" for factor in row))

# %%
figure, axes = panels(1, height=3.2)
grid = torch.linspace(0.005, 0.995, 60 if FAST else 199).tolist()
for G, colour, style in zip((2, 4, 16, 64), (DARK, BLUE, ORANGE, DARK), LINES):
    factors = [difficulty(standardised_advantages, G, p) for p in grid]
    axes.plot(grid, factors, style, color=colour)
    name_line(axes, grid[-1], factors[-1], f"G = {G}", colour)
axes.set(xlabel="probability of being right", ylabel="factor of the gradient", xlim=(0, 1.12))
show(
    figure,
    "The factor of the gradient over the probability of being right, for standardised advantages:"
    " 1 everywhere for groups of 2; for larger groups it rises towards both ends, most for 64.",
)

# %% [markdown]
# Prediction 2: more. With many responses the factor is $1/\sqrt{p (1 - p)}$: what is climbed is
# $2 \arcsin \sqrt p$, in which the step from 0.01 to 0.02 counts as much as a large one in the
# middle. With two responses the factor is 1, and nobody is favoured.
#
# ## Where each ends
#
# One state with four actions, so that every response can be seen. The mean step of each method,
# over all groups of 4 with their probability, is followed until it is 0, or until one action has
# all the probability. The best policy for a price $\beta$ of the KL is
# $\pi^* \propto \pi_\text{ref} \exp(\text{score} / \beta)$.

# %%
bandit = make_bandit(scores=[1.0, 0.6, 0.0, -1.0], ref=[0.1, 0.3, 0.4, 0.2], kl_coef=0.5)
quartets = all_groups(bandit.world, 4)
by_name = {method.name: method for method in METHODS}


def chances_at(logits):
    return "  ".join(f"{p:.3f}" for p in response_probabilities(bandit.world, logits))


def where(name, kl):
    """The end of a method from the reference, with the KL where `kl` says."""
    estimator = Estimator(bandit, by_name[name], quartets, kl)
    size = 0.5 / (bandit.kl_coef * estimator.scale)
    return end_of(bandit.world, estimator.step, bandit.ref_logits, bandit.best(), size)


print(f"{'':34}{'the four actions':28} distance to the best")
print(f"{'reference':34}{chances_at(bandit.ref_logits)}")
print(f"{'the best policy':34}{chances_at(bandit.best())}")
for name in ("ppo", "rloo", "grpo", "dr_grpo"):
    for kl in dict.fromkeys((by_name[name].kl, "reward")):
        end = where(name, kl)
        apart = total_variation(bandit.world, end.logits, bandit.best()).item()
        label = f"{name}, KL: {kl}, {end.kind}"
        print(f"{label:34}{chances_at(end.logits)}   {apart:.3f}")

# %% [markdown]
# "KL: reward" is the score less $\beta$ times the log-ratio, before the group is compared; "k3"
# is GRPO's KL in the loss; "none" has no KL at all. With the KL in the reward all end at the best
# policy, or jump around it (their advantages are all 0 there, and signs everywhere else). GRPO as
# published ends somewhere else, for two reasons: k3 as a loss pulls along another KL, and
# standardised scores don't say how much better a response is. Dr. GRPO without a KL ends at the
# best action, as it should: that is its aim.
#
# ## Pairs
#
# DPO compares two responses and asks how much more the policy prefers the better one than the
# reference does:
#
# $$
# L = -\text{mean} \log \sigma \big( \beta h \big), \qquad
# h = \log \frac{\pi(y_w)}{\pi_\text{ref}(y_w)} - \log \frac{\pi(y_l)}{\pi_\text{ref}(y_l)} .
# $$
#
# With infinitely many pairs from the reference, labelled by Bradley and Terry with the score:

# %%
for name, loss, size in (("dpo", dpo_loss, 0.5), ("ipo", ipo_loss, 0.1)):
    logits, is_still = minimum(
        bandit, lambda loss=loss, **pairs: loss(**pairs, beta=bandit.kl_coef), size=size
    )
    apart = total_variation(bandit.world, logits, bandit.best()).item()
    print(f"{name:34}{chances_at(logits)}   {apart:.3f}", "" if is_still else "not still yet")

# %% [markdown]
# Prediction 3: two, RLOO and DPO. DPO's loss needs no reward model because the best policy has one
# in it: $\beta \log(\pi^* / \pi_\text{ref})$ is the score, up to a constant per prompt. IPO's
# square ends nearer to the reference where one response nearly always wins.
#
# ## What would break this
#
# - Finitely many pairs, or pairs that are not the reference's: then DPO ends elsewhere, and may
#   push both responses down, since only their difference is in the loss.
# - A large step. The ends above are those of small steps. On a real run the clip, the number of
#   passes and the noise of a few samples decide how far one gets.
# - Groups of equal scores. All advantages are 0, and the prompt teaches nothing; DAPO samples
#   other prompts in their place.
#
# ## Questions
#
# <details><summary>1. Why can't leave one out be used with one response per prompt?</summary>
#
# There are no others. With one response the baseline has to come from somewhere else: a critic,
# or the responses to other prompts, which say little about this one.
# </details>
#
# <details><summary>2. The scores of a prompt are all multiplied by 10. What happens to the step of
# RLOO, and to that of GRPO?</summary>
#
# RLOO's is 10 times as large, GRPO's is the same. That is why GRPO is insensitive to the unit of
# the reward model, and why it can't trade the score against a KL in the loss at a known price.
# </details>
#
# <details><summary>3. GRPO takes the mean of each response over its tokens. Which wrong responses
# does that spare?</summary>
#
# Long ones: each of their tokens has the weight of 1 over the length, so being wrong at length
# costs less per token. Right ones gain less at length, for the same reason. docs/family.md has the
# numbers.
# </details>
#
# ## Exercise
#
# Write DPO's loss. All four log-probabilities are sums over a response, [N], one per pair; those
# of the reference are data. Return a scalar, to be minimised, with the gradient to
# `chosen_logprobs` and `rejected_logprobs`. Margins may be large.


# %%
def my_dpo_loss(
    chosen_logprobs, rejected_logprobs, ref_chosen_logprobs, ref_rejected_logprobs, beta
):
    raise NotImplementedError  # your code here


# %%
from minippo.exercises.dpo_loss import exercise

exercise.check(my_dpo_loss)

# %% [markdown]
# ## References
#
# - Ahmadian et al. 2024, *Back to Basics*, arXiv:2402.14740: leave one out for language models.
# - Shao et al. 2024, *DeepSeekMath*, arXiv:2402.03300: GRPO. Liu et al. 2025, *Understanding
#   R1-Zero-Like Training*, arXiv:2503.20783: what its two divisions do.
# - Rafailov et al. 2023, *Direct Preference Optimization*, arXiv:2305.18290. Azar et al. 2023,
#   *A General Theoretical Paradigm to Understand Learning from Human Preferences*,
#   arXiv:2310.12036: IPO.
# - docs/family.md has every method with every column; `python -m minippo.exact.family` makes it.
