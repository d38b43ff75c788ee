# %% [markdown]
# # 08 Shaped rewards and whitening
#
# **Goal:** make a reward for every token out of one score per response, and know what whitening
# does to rewards and to advantages. To whiten numbers is to subtract their mean and to divide by
# their standard deviation.
#
# Before you run anything, write down three predictions:
#
# 1. The rewards .04, .05, .06 and .05 are scaled to standard deviation 1 "with the mean kept".
#    How many of the four change their sign?
# 2. Every response gets one score, on its last token, and these rewards are whitened over all
#    tokens. Can a response with a higher score than another end up with a lower return?
# 3. A ticket pays 10 with probability 0.2, a sure thing pays 1. A policy that takes either half
#    of the time learns from batches of two responses with whitened weights. Which of the two does
#    its mean gradient raise?

# %%
import os

import torch
from plots import BLUE, DARK, ORANGE, PALE, name_line, panels, show

from minippo.exact.estimators import gradient_samples, mean_and_covariance
from minippo.exact.ladder import weighted, whole_returns
from minippo.exact.oracle import exact_gradient
from minippo.exact.world import TabularPolicy, World
from minippo.masked import masked_mean, masked_variance, scale_to_unit_std, whiten
from minippo.reward_to_go import rewards_to_go
from minippo.shaped_reward import shaped_rewards

FAST = bool(os.environ.get("MINIPPO_FAST"))

# %% [markdown]
# ## From one score to a reward per token
#
# The reward model gives one number for a response. The policy acts token by token, and it should
# not go far from the reference $\pi_{\text{ref}}$, the frozen model that it started as (notebook
# 00). So every token pays $\beta$ (`kl_coef`) times its log-ratio, its log-probability under the
# policy minus that under the reference, and the last real token is paid the score:
#
# $$
# r_t = -\beta \left( \log \pi_{\text{old}}(a_t \mid s_t) - \log \pi_{\text{ref}}(a_t \mid s_t)
# \right) + [\thinspace t \text{ is the last real token} \thinspace] \cdot \text{score} . \qquad
# (7.1)
# $$
#
# $\pi_{\text{old}}$ is the policy that sampled the response; a reward is data, and does not
# change while the policy is trained on it. Three responses of 6, 4 and 2 tokens; the
# log-probabilities are made up.

# %%
lengths, generator = torch.tensor([6, 4, 2]), torch.Generator().manual_seed(0)
mask = torch.arange(6) < lengths[:, None]  # [B,T]
old_logprobs = torch.where(mask, -torch.rand(3, 6, generator=generator), 0.0)
ref_logprobs = torch.where(mask, -1.5 * torch.rand(3, 6, generator=generator), 0.0)
scores = torch.tensor([1.0, 0.5, -0.3])
rewards = shaped_rewards(
    scores=scores,
    old_logprobs=old_logprobs,
    ref_logprobs=ref_logprobs,
    response_mask=mask,
    kl_coef=0.2,
)
print(rewards.numpy().round(2))
log_ratios = (old_logprobs - ref_logprobs).sum(dim=1)
print("sum over the response:         ", rewards.sum(dim=1).numpy().round(3))
print("score - kl_coef * log-ratio sum:", (scores - 0.2 * log_ratios).numpy().round(3))

# %% [markdown]
# The sum over a response is what RLHF maximises: the score minus $\beta$ times the log-ratio of
# the whole response, whose mean is the KL. Why not put that sum on the last token? The figure
# shows the rewards of the first response and its reward-to-go, what each token is judged by.

# %%
to_go = rewards_to_go(rewards=rewards, response_mask=mask, gamma=1.0)
lump = torch.tensor([[0.0] * 5 + [rewards[0].sum().item()]])
lumped = rewards_to_go(rewards=lump, response_mask=mask[:1], gamma=1.0)
print("reward-to-go              ", to_go[0].numpy().round(2))
print("all on the last token     ", lumped[0].numpy().round(2))

figure, axes = panels()
axes.bar(range(6), rewards[0], width=0.5, color=PALE, edgecolor=DARK)
axes.plot(to_go[0], "o-", color=DARK)
axes.plot(lumped[0], "^:", color=BLUE)
axes.axhline(0, color=DARK, linewidth=0.8)
name_line(axes, 3.0, to_go[0, 4], "reward-to-go")
name_line(axes, 2.1, lumped[0, 2] - 0.13, "reward-to-go, all on the last token", BLUE)
name_line(axes, 3.3, rewards[0, 3], "reward (bars)")
axes.set(xlabel="response token", ylabel="reward")
show(
    figure,
    "Pale bars, small ones above and below 0 for five tokens and a tall one at the last; a solid"
    " line, the reward-to-go, that changes from token to token and ends at the height of the tall"
    " bar; a dotted line, all on the last token, that is flat.",
)

# %% [markdown]
# With a penalty on every token, a token answers for its own distance and for what follows: the
# last one by 0.86, since it can do nothing about the distance of the five before it. With the sum
# on the last token all are judged by 0.49, late tokens for early ones too. The mean gradient is
# the same (notebook 04); the noise is not.
#
# ## Whitening
#
# One learning rate should suit all scales of reward, so people divide by the standard deviation.
# With mean and standard deviation taken over all real tokens of a batch, `whiten` and
# `scale_to_unit_std` are
#
# $$
# \frac{x_t - \text{mean}(x)}{\text{std}(x)} \quad (0.5) \qquad \text{and} \qquad \frac{x_t -
# \text{mean}(x)}{\text{std}(x)} + \text{mean}(x) . \quad (0.6)
# $$
#
# The second is used for rewards, because it is said to keep their size and sign.

# %%
four, all_four = torch.tensor([0.04, 0.05, 0.06, 0.05]), torch.ones(4).bool()
print("rewards           ", [round(x, 2) for x in four.tolist()])
for function in (whiten, scale_to_unit_std):
    found = function(values=four, mask=all_four).tolist()
    print(f"{function.__name__:<18}", [round(x, 2) for x in found])

# %% [markdown]
# Prediction 1: one of four. The mean, 0.05, is kept. Sizes are not, 0.06 becomes 1.46, and signs
# are not, 0.04 becomes -1.36. Numbers that were nearly alike are now far apart.
#
# ## Outcome rewards, whitened
#
# With an outcome reward and $\beta = 0$, all tokens but the last have reward 0. After whitening
# they have not: each 0 becomes $-\text{mean} / \text{std}$. A response of $n$ tokens then has the
# return $(\text{score} - n \cdot \text{mean}) / \text{std}$, so its length counts. Here are 200
# responses of 2 to 20 tokens, their scores drawn around 1.

# %%
generator = torch.Generator().manual_seed(1)
lengths = torch.randint(2, 21, (200,), generator=generator)
mask = torch.arange(20) < lengths[:, None]
scores = 1 + 0.5 * torch.randn(200, generator=generator).double()
zeros = torch.zeros(200, 20).double()
rewards = shaped_rewards(
    scores=scores, old_logprobs=zeros, ref_logprobs=zeros, response_mask=mask, kl_coef=0.0
)
returns = {
    "rewards as they are": scores,
    "whiten": whiten(values=rewards, mask=mask).sum(dim=1),
    "scale_to_unit_std": scale_to_unit_std(values=rewards, mask=mask).sum(dim=1),
}
for name, x in returns.items():
    with_score, with_length = (
        torch.corrcoef(torch.stack((x, y.double())))[0, 1].item() for y in (scores, lengths)
    )
    swapped = ((x[:, None] < x) & (scores[:, None] > scores)).double().sum() / (200 * 199 / 2)
    print(f"{name:<20} correlation with score {with_score:5.2f},", end=" ")
    print(f"with length {with_length:5.2f}; pairs in the wrong order {swapped:.2f}")

# %% [markdown]
# Each response as a point, its score and what is left of it as a return.

# %%
figure, axes = panels(2, height=3.3, sharey=True)
short = lengths <= 10
for panel, name in zip(axes, ("whiten", "scale_to_unit_std")):
    y = returns[name]
    panel.plot(scores[short], y[short], "^", color=DARK, markersize=4)
    panel.plot(scores[~short], y[~short], "o", color=ORANGE, markersize=4, fillstyle="none")
    panel.set(title=name, xlabel="score")
axes[0].set_ylabel("return after whitening the rewards")
name_line(axes[0], scores.min(), 5.5, "triangles: up to 10 tokens")
name_line(axes[0], scores.min(), 4.6, "circles: more than 10", ORANGE)
show(
    figure,
    "Two clouds of points that rise with the score. In both the triangles, short responses, are"
    " above the circles, long ones; the distance is larger for whiten than for scale_to_unit_std.",
)
mean = masked_mean(values=rewards, mask=mask).item()
std = masked_variance(values=rewards, mask=mask).sqrt().item()
print(f"mean {mean:.3f}, std {std:.3f}: each further token counts", end=" ")
print(f"{-mean / std:.2f} with whiten, {mean - mean / std:.2f} with scale_to_unit_std")

# %% [markdown]
# Prediction 2: yes, 0.27 of all pairs change their order with `whiten` and 0.21 with
# `scale_to_unit_std`. The mean reward per token is above 0 here, so each token costs something
# that nobody decided on: the policy is taught to be short. With a mean below 0 `whiten` teaches
# it to be long.
#
# ## Whitened advantages
#
# Advantages are whitened too, over the batch, and that is less harmful: no sum over tokens
# follows. In a large batch it is a baseline (the mean) and a scale. In a small one mean and
# standard deviation depend on the very responses that they judge. The extreme is a batch of two
# of one length: the better one gets +1 and the other -1, by whatever they differ. Here is the
# lottery of prediction 3 as an exact world: the first token chooses ticket or sure thing, each
# with probability 0.5, the second is luck.

# %%
pays = {(0, 0): 10.0, (1,): 1.0}  # ticket and luck; the sure thing
lottery = World(
    lambda prompt, tokens: pays.get(tokens, 0.0), vocab_size=2, response_length=2, has_eos=False
)
policy = TabularPolicy(lottery, generator=torch.Generator().manual_seed(0))
with torch.no_grad():
    policy.table.copy_(torch.tensor([[0.5, 0.5], [0.2, 0.8], [0.5, 0.5]]).log())


def whitened_returns(batch):
    """Whole returns, whitened; no weight where all are equal."""
    returns, mask = whole_returns(batch), batch.response_mask
    equal = masked_variance(values=returns, mask=mask) < 1e-12
    return torch.zeros_like(returns) if equal else whiten(values=returns, mask=mask)


exact = exact_gradient(lottery, policy)[0].item()
print(f"exact gradient to the ticket's logit: {exact:+.2f}")
listed = {}
for n in (2, 3) if FAST else (2, 3, 4):
    samples = gradient_samples(lottery, policy, weighted(whitened_returns), size=n)
    listed[n] = mean_and_covariance(*samples)[0][0].item()
print("whitened, batch of n:", {n: f"{x:+.3f}" for n, x in listed.items()})

# %% [markdown]
# Prediction 3: the sure thing. The ticket is worth 2 and the exact gradient raises it; with
# whitened pairs the mean gradient, a sum over all pairs, lowers it. The ticket loses most
# comparisons, and how much it wins by is gone.
#
# Larger batches take too long to list, but they can be drawn: the mean over many batches, with
# its standard error. The gradient of the log-probability to the ticket's logit is 1 minus the
# ticket's probability when the ticket was taken, and minus that probability otherwise.

# %%
generator, drawn = torch.Generator().manual_seed(2), {}
for n in (2, 4, 16, 64, 256):
    batches = max(100, (20_000 if FAST else 200_000) // n)
    ticket = torch.rand(batches, n, generator=generator) < 0.5
    lucky = torch.rand(batches, n, generator=generator) < 0.2
    gain = torch.where(ticket, 10.0 * lucky, 1.0)
    std = gain.std(dim=1, keepdim=True, correction=0).clamp(min=1e-6)
    weights = (gain - gain.mean(dim=1, keepdim=True)) / std
    estimate = (weights * (ticket.float() - 0.5)).mean(dim=1)
    drawn[n] = estimate.mean().item()
    error = (estimate.std() / batches**0.5).item()
    print(f"batch of {n:<4} {drawn[n]:+.3f}, standard error {error:.3f}")
scale = (0.5 * 0.2 * 10**2 + 0.5 * 1**2 - 1.5**2) ** 0.5  # of the gain: mean 0.5 * 2 + 0.5 * 1
print(f"exact gradient / standard deviation of the gain: {exact / scale:+.3f}")

# %% [markdown]
# The same over the size of the batch, the listed sizes included.

# %%
figure, axes = panels()
axes.plot(list(drawn), list(drawn.values()), "o-", color=DARK)
axes.plot(list(listed), list(listed.values()), "s", color=BLUE, fillstyle="none", markersize=9)
axes.axhline(exact / scale, color=ORANGE, linestyle="--")
axes.axhline(0, color=DARK, linewidth=0.8)
name_line(axes, 2, exact / scale - 0.02, "exact gradient / standard deviation", ORANGE)
name_line(axes, 16.5, drawn[16] - 0.02, "drawn")
name_line(axes, 2.2, listed[2] + 0.03, "listed (squares)", BLUE)
axes.set_xscale("log", base=2)
axes.set(xlabel="responses in a batch", ylabel="mean gradient to the ticket")
show(
    figure,
    "A line over the size of the batch that starts at -0.15, falls a little, crosses 0 near 16 and"
    " reaches a dashed line, the scaled exact gradient, at 256. Squares, the listed batches of 2 to"
    " 4, are on it or near it.",
)
print("first drawn size with the right sign:", min(n for n, x in drawn.items() if x > 0))

# %% [markdown]
# From batches of 64 on the sign is right, and at 256 the mean is +0.085 where the exact gradient
# divided by the standard deviation is +0.087. minippo whitens over all responses of an update
# (the rollout, 128 by default), not over the small parts that its steps are made on (the
# minibatches).
#
# ## What would break this
#
# - The score in the last column of a padded batch. Shorter responses are paid on a pad; with the
#   mask applied afterwards they are not paid at all.
# - The log-probabilities not detached. A reward is data; with a gradient it would become a
#   second, wrong loss. `shaped_rewards` refuses it.
# - Whitening all the same: advantages with no spread have no standard deviation. `whiten` refuses
#   that, too, rather than blow up rounding errors.
# - The critic's targets, advantage plus value, made from whitened advantages: they are no returns
#   any more. minippo makes the targets first.

# %%
three = torch.tensor([6, 4, 2])
last_column = torch.zeros(3, 6)
last_column[:, -1] = 1.0
paid = (last_column * (torch.arange(6) < three[:, None])).sum(dim=1)
print("score 1 in the last column, after the mask:", paid.tolist())
ones, one_slot = torch.ones(2, 3), torch.ones(2, 3).bool()
for call in (
    lambda: whiten(values=ones, mask=one_slot),
    lambda: shaped_rewards(
        scores=ones[:, 0],
        old_logprobs=ones.clone().requires_grad_(),
        ref_logprobs=ones,
        response_mask=one_slot,
        kl_coef=0.1,
    ),
):
    try:
        call()
    except ValueError as error:
        print(error)

# %% [markdown]
# ## Questions
#
# <details><summary>1. A token is less likely under the policy than under the reference. What does
# it pay?</summary>
#
# Less than nothing: its log-ratio is negative, so it is paid. Only the mean of the log-ratio over
# samples of the policy is a KL and never negative; single terms have both signs.
# </details>
#
# <details><summary>2. Why are rewards not whitened in minippo's default, and advantages
# are?</summary>
#
# Whitened rewards are summed afterwards, so a shift per token becomes a price or a premium per
# token, and the KL penalty changes its price as well. Advantages are weights: a shift acts as a
# baseline, a scale as a learning rate, as long as the batch is large.
# </details>
#
# <details><summary>3. kl_coef is 0. Is there any difference between reward-to-go and the whole
# return?</summary>
#
# None, without a discount: nothing is paid before the last token, so every token's reward-to-go
# is the score. With $\beta > 0$ and a policy that has moved they differ, since a token does not
# answer for the distance of the tokens before it.
# </details>
#
# ## Exercise
#
# Write (7.1),
#
# $$
# r_t = -\beta \left( \log \pi_{\text{old}}(a_t \mid s_t)
# - \log \pi_{\text{ref}}(a_t \mid s_t) \right) ,
# $$
#
# and the score on top of it at the last real token. `scores` is [B]; `logprobs` (of the policy
# that sampled), `ref_logprobs` and `response_mask` are [B,T], `kl_coef` is the number $\beta$.
# Return the rewards [B,T], 0 where the mask is False (the log-probabilities are not 0 there). The
# rewards are data: no gradient goes back to `logprobs`, although they come with one. `torch`
# alone is enough.


# %%
def my_shaped_rewards(scores, logprobs, ref_logprobs, response_mask, kl_coef):
    raise NotImplementedError  # your code here


# %%
from minippo.exercises.shaped_rewards import exercise

exercise.check(my_shaped_rewards)

# %% [markdown]
# ## References
#
# - `minippo/shaped_reward.py`, `minippo/masked.py` (both whitenings), `estimate_advantages` in
#   `minippo/stages/credit.py` (the order of things); docs/qualifications.md, "Whitening only
#   rescales".
# - Ziegler et al. 2019, *Fine-tuning language models from human preferences*, arXiv:1909.08593:
#   the KL penalty in the reward.
# - Huang et al. 2024, *The N+ implementation details of RLHF with PPO*, arXiv:2403.17031:
#   whitening with and without the mean.
#
# Next: [09 KL three ways](09_kl_three_ways.ipynb).
