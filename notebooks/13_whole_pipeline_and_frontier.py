# %% [markdown]
# # 13 The whole pipeline and the score-KL frontier
#
# **Goal:** to put a run on the map of all that could be reached: score against KL, with the best
# policy for every price, and the gold score that nobody trains on.
#
# Before you run anything, write down three predictions:
#
# 1. The price $\beta$ (`kl_coef`) is halved, from 0.1 to 0.05. Does the best policy then use
#    twice as much KL?
# 2. Best-of-n needs no training at all: sample n answers of the reference, keep the one with the
#    highest score. Can it be above the curve of the best policies?
# 3. A reward model learned from few preferences agrees with the annotator on 77 % of held-out
#    pairs (92 % is the most that is possible). The policy is trained on its score, with less and
#    less price on KL. What happens to the share of right answers?

# %%
import copy
import os
import random
import tempfile
from dataclasses import replace
from functools import partial

import torch
from plots import BLUE, DARK, ORANGE, name_line, panels, show

from minippo.algorithms import REGISTRY
from minippo.algorithms.base import Algorithm
from minippo.algorithms.policy_gradient import gae_weights
from minippo.algorithms.ppo import FIELDS, PPOUpdate
from minippo.commands.config import resolve
from minippo.commands.feedback import collect_preferences, make_reward_model
from minippo.commands.pipeline import fine_tune, mean_gold, pretrain
from minippo.commands.prepare import prepare
from minippo.commands.run import Run

# %%
from minippo.critic_head import Critic
from minippo.masked import masked_mean
from minippo.ppo import unclipped_surrogate_loss
from minippo.rollout import Models, Responses, response_logits, response_logprobs
from minippo.runs.folder import RunFolder
from minippo.runs.screen import Screen
from minippo.stages.optimum import best_of_n, draw_from_both, estimate_optimum
from minippo.stages.policy import World, train_policy
from minippo.tokenizer import pad_right

FAST = bool(os.environ.get("MINIPPO_FAST"))

# %% [markdown]
# ## The pipeline, with two reward models
#
# The world is the one of notebook 00: twelve questions, and a fine-tuned model that answers right
# in a little less than half of the cases. The stages up to the reward model run twice, from one
# fine-tuned model: with preferences about 3000 prompts, and with preferences about 200 only. We
# call the two reward models good and weak. The printed skill is (accuracy - 1/2) / (ceiling -
# 1/2): 0 is guessing, 1 is the ceiling.


# %%
def smaller_run(preference_prompts):
    settings = {"pretrain_steps": 40, "sft_steps": 40, "preference_heldout": 50} if FAST else {}
    settings |= {"task": "capitals", "preference_prompts": preference_prompts}
    settings["reward_learning_rate"] = 2e-3  # less than usual: with 200 prompts there are few steps
    config, task, _ = prepare(resolve(settings))
    folder = RunFolder.create(tempfile.mkdtemp(), default_name="capitals")
    return Run(config, task, torch.device("cpu"), folder, Screen())


runs = {"good": smaller_run(300 if FAST else 3000), "weak": smaller_run(50 if FAST else 200)}
sft = fine_tune(runs["good"], pretrain(runs["good"])).requires_grad_(False)
reward_models = {
    name: make_reward_model(run, sft, [collect_preferences(run, sft)])[0]
    for name, run in runs.items()
}
config, task = runs["good"].config.ppo, runs["good"].task

# %% [markdown]
# ## A world that can be listed
#
# An answer here is nearly always one word and EOS. So all answers that matter can be listed: each
# of the words after each of the twelve questions. For every one of them we ask the reference for
# its log-probability, the reward models for a score, and the rule for gold, which is 1 for the
# capital and 0 for all others.

# %%
questions, words = task.evaluation_prompts(12, rng=None), task.tokenizer.words[3:]  # no specials
M, N = len(questions), len(words)
prompts = task.prompt_batch(questions)
answers = pad_right([task.response_ids(word) for word in words], task.tokenizer.pad_id)
listed = Responses(
    *(x.repeat_interleave(N, dim=0) for x in prompts), *(x.repeat(M, 1) for x in answers)
)  # M * N rows


@torch.no_grad()
def answer_logprobs(model):  # [M,N]
    logits = response_logits(model, listed, temperature=1.0)
    return response_logprobs(logits, listed).sum(dim=1).view(M, N).double()


listed_ref = answer_logprobs(sft)
least = listed_ref.exp().sum(dim=1).min()
print(f"{M} questions, {N} answers to each; their probability together is at least {least:.3f}")

# %% [markdown]
# What is missing from 1 are answers of no word or of several. They are left out from here on: all
# distributions are those of one-word answers.

# %%
ref = listed_ref.log_softmax(dim=1)
gold = torch.tensor([[task.gold(question, word) for word in words] for question in questions])
gold = gold.double()  # [M,N]
with torch.no_grad():
    scores = {
        name: model(*listed.whole()).view(M, N).double() for name, model in reward_models.items()
    }


def point_of(log_pi, name):
    """Means over the questions: KL to the reference, score, gold."""
    pi = log_pi.exp()
    return [(pi * x).sum(dim=1).mean().item() for x in (log_pi - ref, scores[name], gold)]


print("the reference: KL {:.2f}, score {:.3f}, gold {:.3f}".format(*point_of(ref, "good")))

# %% [markdown]
# ## The best policy for every price
#
# RLHF maximises the score minus the price of the KL,
#
# $$
# E_{y \sim \pi} [\thinspace \text{score}(x, y) \thinspace] - \beta \thinspace \mathrm{KL}(\pi
# \Vert \pi_{\text{ref}}) ,
# $$
#
# with $x$ the question and $y$ an answer. The policy that does it best is known in closed form:
#
# $$
# \pi^*(y \mid x) = \frac{1}{Z(x)} \thinspace \pi_{\text{ref}}(y \mid x) \thinspace
# e^{\text{score}(x, y) / \beta}, \qquad Z(x) = \sum_y \pi_{\text{ref}}(y \mid x) \thinspace
# e^{\text{score}(x, y) / \beta} .
# $$
#
# Its objective is $\beta \log Z(x)$ (question 1 below says why). With a list of answers it is one
# line, in logarithms. Prices from high to low give a curve, the **frontier**: no policy has a
# higher score at the same KL.

# %%
PRICES = (5, 2, 1, 0.5, 0.3, 0.2, 0.1, 0.05, 0.02, 0.01, 0.005)


def best_policy(name, kl_coef):
    return (ref + scores[name] / kl_coef).log_softmax(dim=1)


frontier = {
    name: [point_of(best_policy(name, kl_coef), name) for kl_coef in PRICES] for name in scores
}
for kl_coef, (kl, score, right) in zip(PRICES, frontier["good"]):
    print(f"kl_coef {kl_coef:5.3f}   KL {kl:.3f}   score {score:.3f}   gold {right:.3f}")

# %% [markdown]
# Prediction 1: no. Halving the price from 0.1 to 0.05 moves the KL from 0.801 to 0.803. Where one
# answer has nearly all the probability there is little left to buy. This reward model gives its
# highest score to the right answer of every question, so a lower price changes nothing more.
#
# ## PPO on the map
#
# Three short runs of PPO, each with another price, and each from the fine-tuned model. Nothing of
# what we listed goes into them: they see scores of their own samples.


# %%
def learn(name, kl_coef, updates, algorithm="ppo", seed=0, **changes):
    """(models, rows of metrics) of a training on this reward model."""
    rng, reward_model = random.Random(seed), reward_models[name]
    critic = Critic.from_reward_model(reward_model)
    models = Models(copy.deepcopy(sft).requires_grad_(True), sft, critic)
    world = World(
        draw_prompts=lambda n: task.prompt_batch(task.training_prompts(n, rng=rng)),
        score_function=reward_model,
        eos_id=task.tokenizer.eos_id,
        pad_id=task.tokenizer.pad_id,
        gold_function=lambda rollout: mean_gold(task, rollout),
    )
    changes |= {"kl_coef": kl_coef, "num_updates": 2 if FAST else updates}
    rows = train_policy(
        models,
        world,
        config=replace(config, **({"learning_rate": 1e-3} | changes)),
        generator=torch.Generator().manual_seed(seed),
        algorithm=algorithm,
    )
    return models, rows


# %%
trained = {kl_coef: learn("good", kl_coef, updates=20)[0] for kl_coef in (1.0, 0.3, 0.05)}
reached = {
    kl_coef: point_of(answer_logprobs(models.policy).log_softmax(dim=1), "good")
    for kl_coef, models in trained.items()
}
for kl_coef, found in reached.items():
    for who, numbers in (("PPO ", found), ("best", point_of(best_policy("good", kl_coef), "good"))):
        kl, score, right = numbers
        print(f"kl_coef {kl_coef:4.2f}: {who}  KL {kl:.3f}   score {score:.3f}   gold {right:.3f}")

# %% [markdown]
# A larger world can't be listed. There the package draws samples, half from the reference and
# half from the policy, and weights them (`minippo/stages/optimum.py`). Here both ways can be
# compared. The same draws give best-of-n. Its KL is at most $\log n - (n - 1) / n$.

# %%
draws = draw_from_both(
    trained[0.05],
    reward_models["good"],
    prompts,
    config=config,
    draws=16 if FAST else 512,
    generator=torch.Generator().manual_seed(0),
    tokenizer=task.tokenizer,
)
estimate = estimate_optimum(draws, 0.05)
log_z = (ref + scores["good"] / 0.05).logsumexp(dim=1)
print(f"kl_coef log Z at 0.05: listed {(0.05 * log_z).mean().item():.3f},", end=" ")
print("from draws {objective:.3f} ({low:.3f} to {high:.3f})".format(**estimate))
chosen = best_of_n(draws)
for n, bound, score in chosen:
    print(f"best of {n:2d}: KL at most {bound:.3f}, score {score:.3f}")

# %%
figure, axes = panels(height=3.8)
kls, means, _ = zip(point_of(ref, "good"), *frontier["good"])
axes.plot(kls, means, "-", color=DARK)
axes.plot(*list(zip(*chosen))[1:], "s:", color=BLUE)
axes.plot(*list(zip(*reached.values()))[:2], "*", color=ORANGE, markersize=12)
axes.plot(kls[0], means[0], "D", color="white", markeredgecolor=DARK)
for kl_coef, (kl, score, _) in reached.items():
    shift = {1.0: (0.06, -0.03), 0.3: (0.06, -0.05), 0.05: (-0.28, 0.05)}[kl_coef]
    name_line(axes, kl + shift[0], score + shift[1], f"PPO, β = {kl_coef}", ORANGE)
name_line(axes, 2.0, means[-1] + 0.03, "best policy for each β")
name_line(axes, 1.7, chosen[-1][2] - 0.06, "best of n, at a bound of its KL", BLUE)
name_line(axes, kls[0] + 0.06, means[0] - 0.01, "reference")
axes.set(xlabel="KL(policy || reference), nats per answer", ylabel="score (good reward model)")
axes.set(xlim=(-0.2, 3.4), ylim=(None, means[-1] + 0.08))
show(
    figure,
    "The frontier rises steeply from the reference and bends to a nearly flat line; the three stars"
    " of PPO are on it or a little below; the squares of best-of-n are below it and come near to it"
    " on the flat part.",
)
line = "; ".join(f"PPO {score:.3f} at {kl:.2f} nats" for kl, score, _ in reached.values())
print(f"reference {means[0]:.3f}; {line}")

# %% [markdown]
# Prediction 2: no. For any KL the best policy on the curve has the highest score that any
# distribution of answers with that KL can have, and what best-of-n gives is such a distribution.
# (The squares are drawn at a bound, so best-of-n itself is a little to the left of them, and
# still not above the curve.) It is not far off; it costs n answers for every question that is
# asked.
#
# ## Score and gold
#
# The frontier of the weak reward model, with the gold score of the same policies: what the score
# buys, measured by the rule.

# %%
kls, means, rights = zip(*([point_of(ref, "weak")] + frontier["weak"]))
for kl_coef, kl, score, right in zip(("-", *PRICES), kls, means, rights):
    print(f"kl_coef {kl_coef:>5}   KL {kl:.3f}   score {score:6.3f}   gold {right:.3f}")
models, rows = learn("weak", 0.05, updates=40)
own = [rows[-1][f"objective/{name}"] for name in ("kl", "scores", "gold")]
print("PPO with kl_coef 0.05: KL {:.1f}, score {:.1f}, gold {:.2f}".format(*own))
length = rows[-1]["val/response_length"]
print(f"tokens of its answers at the end, EOS included: {length:.1f}")

# %%
figure, (left, right) = panels(2, height=3.4)
left.plot(kls, means, "-", color=DARK)
left.plot(kls, rights, "--", color=ORANGE)
name_line(left, 2.0, means[-1] - 0.05, "score")
name_line(left, 1.8, 0.56, "gold", ORANGE)
left.set(xlabel="KL to the reference, nats per answer", title="best policies")
for name, label, colour, style in (
    ("objective/scores", "score", DARK, "-"),
    ("objective/gold", "gold", ORANGE, "--"),
):
    numbers = [row[name] for row in rows]
    right.plot(range(1, len(rows) + 1), numbers, style, color=colour)
    name_line(right, len(rows) * 0.6, max(numbers[-20:]) + 0.08, label, colour)
right.margins(y=0.12)
right.set(xlabel="update", title="the PPO run")
show(
    figure,
    "Left: the score of the best policies (solid) rises all the way with KL, while their gold"
    " (dashed) rises at first, reaches its maximum below one nat and then falls below where it"
    " began. Right, over the updates of the PPO run: the score rises and levels off; gold rises"
    " for a few updates, then falls.",
)
print(
    f"largest gold of a best policy {max(rights):.3f}, of the reference {rights[0]:.3f};", end=" "
)
print(f"PPO's gold {rows[0]['objective/gold']:.3f} -> {rows[-1]['objective/gold']:.3f}")

# %% [markdown]
# Prediction 3: it rises first and falls later, from 0.450 over 0.766 to 0.333, below where it
# began. The weak reward model gives high scores to words that the reference hardly ever says. They
# were hardly ever sampled, so hardly ever compared, and an optimiser looks for the highest score.
# Our list holds answers of one word; PPO looks at all there are, and on the machine that made this
# page it found the empty answer, one token long, whose score is far above all that the curve shows.
# (Rounding differs between machines, and with it when such an answer is found, if at all.) This is
# reward hacking, or overoptimisation; the price on KL is what holds it off, and the score never
# shows it. The good reward model has no such words among those that we listed.

# %%
for name in scores:
    top = scores[name].argmax(dim=1)
    rare = ref.gather(1, top[:, None]).exp().median().item()
    right = int(gold.gather(1, top[:, None]).sum())
    print(f"{name} reward model: highest-scored word right for {right} of {M} questions;", end=" ")
    print(f"its probability in the reference {rare:.4f} (median)")
top = scores["weak"][0].argmax().item()
paris = scores["weak"][0, words.index("paris")].item()
print(f"for example: {questions[0]} {words[top]}", end=" ")
print(f"(score {scores['weak'][0, top].item():.2f}; paris {paris:.2f})")

# %% [markdown]
# ## What would break this
#
# - **Comparing scores at different KL.** Of two runs the one with the higher score may have paid
#   more for it than it is worth. Compare objectives at one price, or points with the frontier.
# - **Choosing `kl_coef` by the score.** The lowest price always has the highest score. Choose it
#   by something that was not trained on: gold, or people.
# - **Estimating the optimum from draws of the reference alone.** It hardly ever draws the answers
#   that the best policy prefers, and the estimate is too low, which flatters the run.
# - **exp instead of logarithms.** At a low price the exponent is too large for float32.

# %%
for kl_coef in (0.5, 0.01):
    kl, score, _ = point_of(best_policy("good", kl_coef), "good")
    print(f"the best policy for kl_coef {kl_coef}: score {score:.3f},", end=" ")
    print(f"objective at price 0.5: {score - 0.5 * kl:.3f}")
cheap = max(range(len(PRICES)), key=lambda i: frontier["weak"][i][1])
right_choice = max(range(len(PRICES)), key=lambda i: frontier["weak"][i][2])
print("weak reward model: highest score at kl_coef", PRICES[cheap], end="  ")
print("highest gold at kl_coef", PRICES[right_choice])
print("exp(1 / 0.01) in float32:", torch.tensor(1 / 0.01).exp().item())

# %%
exact = 0.05 * (ref + scores["weak"] / 0.05).logsumexp(dim=1)
seed = torch.Generator().manual_seed(0)
drawn = torch.multinomial(ref.exp(), 64, replacement=True, generator=seed)
drawn = scores["weak"].gather(1, drawn)  # [M,64]
only_ref = 0.05 * ((drawn / 0.05).logsumexp(dim=1) - torch.tensor(64.0).log())
print(f"best objective, weak model, kl_coef 0.05: {exact.mean():.3f};", end=" ")
print(f"from 64 draws of the reference: {only_ref.mean():.3f}")

# %% [markdown]
# ## Questions
#
# <details><summary>1. Why is the objective of the best policy kl_coef log Z?</summary>
#
# Put $\pi^*$ into the objective:
# $\log \pi^* - \log \pi_{\text{ref}} = \text{score} / \beta - \log Z$. So $\beta$ times the KL is
# $E[\text{score}] - \beta \log Z$, and $E[\text{score}]$ minus that is $\beta \log Z$, whatever
# the score is.
# </details>
#
# <details><summary>2. The reference gives an answer with probability 0. Can the best policy give
# it?</summary>
#
# No: $\pi^*$ is $\pi_{\text{ref}}$ times something finite. The KL of any policy that gives it is
# infinite. RLHF with this penalty reweights what the reference can do; it does not add to it.
# </details>
#
# <details><summary>3. A run has gone 97 % of the way to the best objective. Is its gold score near
# its best, too?</summary>
#
# That does not follow. Optimality says how well PPO has done what the reward model asks. The weak
# reward model above is a counterexample: PPO came near to its optimum, and gold fell below that
# of the reference.
# </details>
#
# ## Exercise
#
# Write the best policy over a list, $\log \pi^*(y \mid x)$ with
# $\pi^*(y \mid x) = \pi_{\text{ref}}(y \mid x) \thinspace e^{\text{score}(x, y) / \beta} / Z(x)$.
# M prompts have N answers each, of up to T tokens: `ref_logprobs` [M,N,T] are the
# log-probabilities that the reference gives to their tokens, `response_mask` [M,N,T] bool says
# which slots are real (the others hold anything), `scores` is [M,N], `kl_coef` is $\beta$. Return
# $\log \pi^*$ of every answer, [M,N]; for each prompt the probabilities add up to 1 over its N
# answers. One of the cases has scores / kl_coef of about 1000. No gradient is needed.


# %%
def my_optimal_policy(ref_logprobs, response_mask, scores, kl_coef):
    raise NotImplementedError  # your code here


# %%
from minippo.exercises.optimal_policy import exercise

exercise.check(my_optimal_policy)

# %% [markdown]
# ## An idea of your own
#
# This is where you take over. You have a pipeline that takes seconds, a map on which every policy
# is a point, and an optimum to measure against.
#
# **One field.** Every setting of the training is a field of `PPOConfig`
# (`minippo/algorithms/config.py` has them all, a line each), and `learn` takes any of them. Guess
# first, then run. The number that counts is the objective at the price, as a share of the way from
# the reference to the best.


# %%
def how_far(models, kl_coef):
    """The share of the way from the reference's objective to the best one."""
    kl, score, _ = point_of(answer_logprobs(models.policy).log_softmax(dim=1), "good")
    best_kl, best_score, _ = point_of(best_policy("good", kl_coef), "good")
    start = point_of(ref, "good")[1]
    return (score - kl_coef * kl - start) / (best_score - kl_coef * best_kl - start)


print(f"{'as above':<22} {how_far(trained[0.3], 0.3):.3f}")
for changes in ({"lam": 0.0}, {"num_ppo_epochs": 1}):  # put yours here
    models, _ = learn("good", 0.3, updates=20, **changes)
    print(f"{changes!s:<22} {how_far(models, 0.3):.3f}")

# %% [markdown]
# **One algorithm.** To the package an algorithm is one record: what a token was worth (`weights`),
# and what is done with that (`update`). Here is one of a few lines. Instead of the clip it has a
# price $c$ on the squared log-ratio,
#
# $$
# L(\theta) = - \enspace \text{mean}_t [\thinspace \rho_t \hat A_t \thinspace]
# + c \enspace \text{mean}_t [\thinspace ( \log \pi_\theta(a_t \mid s_t)
# - \log \pi_{\text{old}}(a_t \mid s_t) )^2 \thinspace] ,
# $$
#
# and everything else it takes from PPO. The record goes into the registry, and from then on
# `algorithm="priced"` is an algorithm like the others.


# %%
def priced(terms, config, numbers):
    """The surrogate: what the policy minimises on a minibatch."""
    log_ratios = terms["logprobs"] - terms["old_logprobs"]
    price = masked_mean(values=log_ratios**2, mask=terms["response_mask"])
    return unclipped_surrogate_loss(**terms) + 0.5 * price


REGISTRY["priced"] = Algorithm(
    name="priced",
    summary="PPO with a price on the squared log-ratio instead of the clip",
    weights=gae_weights,
    update=partial(PPOUpdate, surrogate=priced),
    fields=FIELDS,  # the settings that it reads and not every algorithm does
    silent_diagnostics=("P007",),  # it has no clip to watch
)
for algorithm in ("ppo", "priced"):
    seeds = range(1 if FAST else 3)
    runs_of_it = [learn("good", 0.3, 20, algorithm, seed=seed)[0] for seed in seeds]
    print(f"{algorithm:<8}", [round(how_far(models, 0.3), 3) for models in runs_of_it])

# %% [markdown]
# Each number is one seed. Where the seeds of one algorithm differ by more than the two algorithms
# do, the runs do not say which is better.
#
# To keep an algorithm, give it a file: `priced.py` beside `minippo/algorithms/ppo.py`, with these
# lines, the imports they need, and the record under a name, `PRICED = Algorithm(...)`. Then import
# the file in `minippo/algorithms/__init__.py` and add `priced.PRICED` to the list there; no other
# file has to know. `python -m minippo.train_toy --algorithm priced` trains with it, writes the
# metrics of notebook 12, and draws the run on a map like the one above. CONTRIBUTING.md has the
# same for a task, an exercise and a claim.
#
# What would you try? A clip that closes during the run, a baseline without a critic, another
# distance to the reference: each is a few lines, and now you can tell whether it was worth them.

# %% [markdown]
# ## References
#
# - Gao, Schulman and Hilton 2023, *Scaling Laws for Reward Model Overoptimization*,
#   arXiv:2210.10760: score and gold against KL, for best-of-n and for RL.
# - Stiennon et al. 2020, *Learning to summarize from human feedback*, arXiv:2009.01325: the same
#   effect with people as the gold standard.
# - Rafailov et al. 2023, *Direct Preference Optimization*, arXiv:2305.18290: the closed form of
#   the best policy, and what else can be made of it.
# - `minippo/stages/optimum.py`, `minippo/exact/oracle.py`, `minippo/commands/pipeline.py`;
#   docs/rlhf.md, docs/results.md.
#
# Next: [14 Your own](14_your_own.ipynb).
