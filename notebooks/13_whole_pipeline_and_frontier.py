# %% [markdown]
# # 13 The whole pipeline and the score-KL frontier
#
# **Goal:** to put a run on the map of all that could be reached: score against KL, with the best policy for every price, and the gold score that nobody
# trains on.
#
# Before you run anything, write down three predictions:
#
# 1. The price `kl_coef` is halved, from 0.1 to 0.05. Does the best policy then use twice as much KL?
# 2. Best-of-n needs no training at all: sample n answers of the reference, keep the one with the highest score. Can it lie above the curve of the best
#    policies?
# 3. A reward model learned from few preferences agrees with the annotator on 80 % of held-out pairs (92 % is the most that is possible). The policy is
#    trained on its score, with less and less price on KL. What happens to the share of right answers?

# %%
import copy
import os
import random
import tempfile
from dataclasses import replace

import matplotlib.pyplot as plt
import torch

from minippo.commands.config import resolve
from minippo.critic_head import Critic
from minippo.stages.optimum import best_of_n, draw_from_both, estimate_optimum
from minippo.rollout import Responses, response_logits, response_logprobs
from minippo.runs.folder import RunFolder
from minippo.runs.screen import Screen
from minippo.tokenizer import pad_right

# %%
from minippo.stages.policy import train_policy
from minippo.commands.train import Run, collect_preferences, fine_tune, make_reward_model
from minippo.commands.pipeline import mean_gold
from minippo.commands.train import prepare, pretrain

FAST = bool(os.environ.get("MINIPPO_FAST"))

# %% [markdown]
# ## The pipeline, with two reward models
#
# The world is the one of notebook 00: twelve questions, and a fine-tuned model that answers right in a little less than half of the cases. The stages up to
# the reward model run twice, from one fine-tuned model: with preferences about 3000 prompts, and with preferences about 200 only. We call the two reward
# models good and weak. The printed skill is (accuracy - 1/2) / (ceiling - 1/2): 0 is guessing, 1 is the ceiling.


# %%
def smaller_run(preference_prompts):
    settings = {"pretrain_steps": 40, "sft_steps": 40, "preference_heldout": 50} if FAST else {}
    settings |= {"task": "capitals", "preference_prompts": preference_prompts}
    config, task = prepare(resolve(settings))
    folder = RunFolder.create(tempfile.mkdtemp(), default_name="capitals")
    return Run(config, task, torch.device("cpu"), folder, Screen())


runs = {"good": smaller_run(300 if FAST else 3000), "weak": smaller_run(50 if FAST else 200)}
sft = fine_tune(runs["good"], pretrain(runs["good"])).requires_grad_(False)
reward_models = {
    name: make_reward_model(run, sft, *collect_preferences(run, sft))[0]
    for name, run in runs.items()
}
config, task = runs["good"].config.ppo, runs["good"].task

# %% [markdown]
# ## A world that can be listed
#
# An answer here is nearly always one word and EOS. So all answers that matter can be listed: each of the words after each of the twelve questions. For every
# one of them we ask the reference for its log-probability, the reward models for a score, and the rule for gold, which is 1 for the capital and 0 for all
# others.

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


ref = answer_logprobs(sft)
print(
    f"{M} questions, {N} answers to each;"
    f" their probability together is at least {ref.exp().sum(dim=1).min():.3f}"
)

# %% [markdown]
# What is missing from 1 are answers of no word or of several. They are left out from here on: all distributions are those of one-word answers.

# %%
ref = ref.log_softmax(dim=1)
gold = torch.tensor([[task.gold(question, word) for word in words] for question in questions])
gold = gold.double()  # [M,N]
with torch.no_grad():
    scores = {
        name: model(*listed.whole()).view(M, N).double() for name, model in reward_models.items()
    }


def point(log_pi, name):
    """Means over the questions: KL to the reference, score, gold."""
    pi = log_pi.exp()
    return [(pi * x).sum(dim=1).mean().item() for x in (log_pi - ref, scores[name], gold)]


print("the reference: KL {:.2f}, score {:.3f}, gold {:.3f}".format(*point(ref, "good")))

# %% [markdown]
# ## The best policy for every price
#
# The policy that maximises E[score] - kl_coef * KL(policy || reference) is known in closed form:
#
# pi*(y|x) = pi_ref(y|x) exp(score(x, y) / kl_coef) / Z(x),
#
# where x is the question, y an answer, and Z(x) the number that makes the probabilities of all answers to x add up to 1. Its objective is kl_coef log Z(x).
# With a list of answers it is one line, in logarithms. Prices from high to low give a curve, the **frontier**: no
# policy has a higher score at the same KL.

# %%
PRICES = (5, 2, 1, 0.5, 0.3, 0.2, 0.1, 0.05, 0.02, 0.01, 0.005)


def best_policy(name, kl_coef):
    return (ref + scores[name] / kl_coef).log_softmax(dim=1)


frontier = {
    name: [point(best_policy(name, kl_coef), name) for kl_coef in PRICES] for name in scores
}
for kl_coef, (kl, score, right) in zip(PRICES, frontier["good"]):
    print(f"kl_coef {kl_coef:5.3f}   KL {kl:.3f}   score {score:.3f}   gold {right:.3f}")

# %% [markdown]
# Prediction 1: no. Halving the price from 0.1 to 0.05 moves the KL from 0.770 to 0.786. Where one answer has nearly all the probability there is little left
# to buy. The KL jumps only when the price is so low that answers which the reference hardly ever gives begin to pay; look at the gold score in the last
# lines.
#
# ## PPO on the map
#
# Three short runs of PPO, each with another price, and each from the fine-tuned model. Nothing of what we listed goes into them: they see scores of their
# own samples.


# %%
def learn(name, kl_coef, updates):
    policy, rng = copy.deepcopy(sft).requires_grad_(True), random.Random(0)
    ids = {"eos_id": task.tokenizer.eos_id, "pad_id": task.tokenizer.pad_id}
    changes = {"kl_coef": kl_coef, "num_updates": 2 if FAST else updates, "learning_rate": 1e-3}
    rows = train_policy(
        policy=policy,
        reference=sft,
        critic=Critic.from_reward_model(reward_models[name]),
        score_function=reward_models[name],
        gold_function=lambda rollout: mean_gold(task, rollout),
        draw_prompts=lambda n: task.prompt_batch(task.training_prompts(n, rng=rng)),
        config=replace(config, **changes),
        generator=torch.Generator().manual_seed(0),
        **ids,
    )
    return policy, rows


# %%
trained = {kl_coef: learn("good", kl_coef, updates=20)[0] for kl_coef in (1.0, 0.3, 0.05)}
reached = {
    kl_coef: point(answer_logprobs(policy).log_softmax(dim=1), "good")
    for kl_coef, policy in trained.items()
}
for kl_coef, found in reached.items():
    for who, numbers in (("PPO ", found), ("best", point(best_policy("good", kl_coef), "good"))):
        print(
            f"kl_coef {kl_coef:4.2f}: {who}",
            "  KL {:.3f}   score {:.3f}   gold {:.3f}".format(*numbers),
        )

# %% [markdown]
# A larger world can't be listed. There the package draws samples, half from the reference and half from the policy, and weights them (`minippo/stages/optimum.py`).
# Here both ways can be compared. The same draws give best-of-n. Its KL is at most log n - (n - 1) / n.

# %%
draws = draw_from_both(
    trained[0.05],
    sft,
    reward_models["good"],
    prompts,
    config=config,
    draws=16 if FAST else 512,
    generator=torch.Generator().manual_seed(0),
    eos_id=task.tokenizer.eos_id,
    pad_id=task.tokenizer.pad_id,
)
estimate = estimate_optimum(draws, 0.05)
log_z = (ref + scores["good"] / 0.05).logsumexp(dim=1)
print(
    f"kl_coef log Z at 0.05: listed {(0.05 * log_z).mean().item():.3f}, "
    f"from draws {estimate['objective']:.3f} ({estimate['low']:.3f} to {estimate['high']:.3f})"
)
chosen = best_of_n(draws)
for n, bound, score in chosen:
    print(f"best of {n:2d}: KL at most {bound:.3f}, score {score:.3f}")

# %%
fig, ax = plt.subplots(figsize=(7, 3.5), dpi=80, layout="constrained")
kls, means, _ = zip(point(ref, "good"), *frontier["good"])
ax.plot(kls, means, "k-", label="best policy for each kl_coef")
ax.plot(*list(zip(*chosen))[1:], "s:", color="0.4", label="best of n (bound on its KL)")
ax.plot(*list(zip(*reached.values()))[:2], "k*", markersize=12, label="PPO")
ax.plot(kls[0], means[0], "D", color="white", markeredgecolor="black", label="reference")
for kl_coef, (kl, score, _) in reached.items():
    place, side = ((-6, 15), "left") if kl_coef == 0.05 else ((-8, 4), "right")
    ax.annotate(f"kl_coef {kl_coef}", (kl, score), place, ha=side, textcoords="offset points")
ax.set(
    xlabel="KL(policy || reference), nats per answer",
    ylabel="score of the good reward model",
    xlim=(-0.4, 3.4),
    ylim=(-0.03, 0.64),
)
ax.legend(frameon=False, loc="lower right", fontsize="small")
plt.show()
print(
    f"reference {means[0]:.3f};",
    "; ".join(f"PPO {score:.3f} at {kl:.2f} nats" for kl, score, _ in reached.values()),
)

# %% [markdown]
# *The picture in words: the frontier rises steeply from the reference and bends to a nearly flat line; the three stars of PPO lie on it or a little below;
# the squares of best-of-n lie below it and come near to it on the flat part.*
#
# Prediction 2: no. For any KL the best policy on the curve has the highest score that any distribution of answers with that KL can have, and what best-of-n
# gives is such a distribution. (The squares stand at a bound, so best-of-n itself lies a little to the left of them, and still not above the curve.) It is
# not far off; it costs n answers for every question that is asked.
#
# ## Score and gold
#
# The frontier of the weak reward model, with the gold score of the same policies: what the score buys, measured by the rule.

# %%
kls, means, rights = zip(*([point(ref, "weak")] + frontier["weak"]))
for kl_coef, kl, score, right in zip(("-", *PRICES), kls, means, rights):
    print(f"kl_coef {kl_coef:>5}   KL {kl:.3f}   score {score:6.3f}   gold {right:.3f}")
policy, rows = learn("weak", 0.05, updates=40)
own = point(answer_logprobs(policy).log_softmax(dim=1), "weak")
print("PPO with kl_coef 0.05: KL {:.3f}, score {:.3f}, gold {:.3f}".format(*own))
best = point(best_policy("weak", 0.05), "weak")
print(
    f"objective at that price: PPO {own[1] - 0.05 * own[0]:.3f},"
    f" the best policy {best[1] - 0.05 * best[0]:.3f}"
)

# %%
fig, (left, right) = plt.subplots(1, 2, figsize=(7, 3.2), dpi=80, layout="constrained")
left.plot(kls, means, color="black", label="score, best policies")
left.plot(kls, rights, color="black", linestyle="--", label="gold, best policies")
left.plot(own[0], own[1], "k*", markersize=11, label="PPO, kl_coef 0.05")
left.plot(own[0], own[2], "k*", markersize=11, fillstyle="none")
left.set_xlabel("KL to the reference, nats per answer")
left.legend(frameon=False, fontsize="small", loc="upper left")
left.set_ylim(top=1.7)
for name, style in (("objective/scores", "-"), ("objective/gold", "--")):
    right.plot(range(1, len(rows) + 1), [row[name] for row in rows], "k" + style, label=name)
right.set_xlabel("update of the PPO run")
right.legend(frameon=False, fontsize="small", loc="center right")
plt.show()
print(
    f"largest gold of a best policy {max(rights):.3f}, of the reference {rights[0]:.3f};"
    f" PPO's gold {rows[0]['objective/gold']:.3f} -> {rows[-1]['objective/gold']:.3f}"
)

# %% [markdown]
# *The picture in words: on the left the score of the best policies (solid) rises all the way with KL, while their gold (dashed) rises at first, reaches its
# maximum below one nat and then falls far below where it began; the filled star of PPO lies near the solid curve, the open one near the dashed curve. On the
# right, over the updates, the score rises and levels off; gold rises for three updates, then falls and stays low.*
#
# Prediction 3: it rises first and falls later, from 0.450 over 0.720 to 0.083, far below where it began. Nothing went wrong in the training: PPO came near
# to the policy that it was asked for. The weak reward model gives high scores to words that the reference hardly ever says. They were hardly ever sampled,
# so hardly ever compared, and an optimiser looks for the highest score. This is reward hacking, or overoptimisation; the price on KL is what holds it off,
# and the score never shows it. The good reward model has such words as well. They pay only at lower prices: its gold is highest at 0.1 and hardly lower
# at 0.05, and falls from there.

# %%
for name in scores:
    top = scores[name].argmax(dim=1)
    rare = ref.gather(1, top[:, None]).exp().median().item()
    right = int(gold.gather(1, top[:, None]).sum())
    print(
        f"{name} reward model: highest-scored word right for {right} of {M} questions; "
        f"its probability in the reference {rare:.4f} (median)"
    )
top = scores["weak"][0].argmax().item()
print(
    f"for example: {questions[0]} {words[top]} (score {scores['weak'][0, top].item():.2f}; "
    f"paris {scores['weak'][0, words.index('paris')].item():.2f})"
)

# %% [markdown]
# ## What would break this
#
# - **Comparing scores at different KL.** Of two runs the one with the higher score may have paid more for it than it is worth. Compare objectives at one
#   price, or points with the frontier.
# - **Choosing `kl_coef` by the score.** The lowest price always has the highest score. Choose it by something that was not trained on: gold, or people.
# - **Estimating the optimum from draws of the reference alone.** It hardly ever draws the answers that the best policy prefers, and the estimate is too low,
#   which flatters the run.
# - **exp instead of logarithms.** At a low price the exponent is too large for float32.

# %%
for kl_coef in (0.5, 0.01):
    kl, score, _ = point(best_policy("good", kl_coef), "good")
    print(
        f"the best policy for kl_coef {kl_coef}: score {score:.3f},"
        f" objective at price 0.5: {score - 0.5 * kl:.3f}"
    )
cheap = max(range(len(PRICES)), key=lambda i: frontier["weak"][i][1])
right_choice = max(range(len(PRICES)), key=lambda i: frontier["weak"][i][2])
print(
    "weak reward model: highest score at kl_coef",
    PRICES[cheap],
    "  highest gold at kl_coef",
    PRICES[right_choice],
)
print("exp(1 / 0.01) in float32:", torch.tensor(1 / 0.01).exp().item())

# %%
exact = 0.05 * (ref + scores["weak"] / 0.05).logsumexp(dim=1)
seed = torch.Generator().manual_seed(0)
drawn = torch.multinomial(ref.exp(), 64, replacement=True, generator=seed)
drawn = scores["weak"].gather(1, drawn)  # [M,64]
only_ref = 0.05 * ((drawn / 0.05).logsumexp(dim=1) - torch.tensor(64.0).log())
print(
    f"best objective, weak model, kl_coef 0.05: {exact.mean():.3f};"
    f" from 64 draws of the reference: {only_ref.mean():.3f}"
)

# %% [markdown]
# ## Questions
#
# <details><summary>1. Why is the objective of the best policy kl_coef log Z?</summary>
#
# Put pi* into the objective: log pi* - log pi_ref = score / kl_coef - log Z. So kl_coef times the KL is E[score] - kl_coef log Z, and E[score] minus that is
# kl_coef log Z, whatever the score is.
# </details>
#
# <details><summary>2. The reference gives an answer with probability 0. Can the best policy give it?</summary>
#
# No: pi* is pi_ref times something finite. The KL of any policy that gives it is infinite. RLHF with this penalty reweights what the reference can do; it
# does not add to it.
# </details>
#
# <details><summary>3. A run has reached 97 % of the way to the best objective. Is its gold score near its best, too?</summary>
#
# That does not follow. Optimality says how well PPO has done what the reward model asks. The weak reward model above is a counterexample: PPO came near to
# its optimum, and gold fell below that of the reference.
# </details>
#
# ## Exercise
#
# Write the best policy over a list. M prompts have N answers each, of up to T tokens: `ref_logprobs` [M,N,T] are the log-probabilities that the reference
# gives to their tokens, `response_mask` [M,N,T] bool says which slots are real (the others hold anything), `scores` is [M,N], `kl_coef` a number. Return log
# pi* of every answer, [M,N]; for each prompt the probabilities add up to 1 over its N answers. One of the cases has scores / kl_coef of about 1000. No
# gradient is needed.


# %%
def my_optimal_policy(ref_logprobs, response_mask, scores, kl_coef):
    raise NotImplementedError  # your code here


# %%
from minippo.exercises.optimal_policy import exercise

exercise.check(my_optimal_policy)

# %% [markdown]
# ## References
#
# - Gao, Schulman and Hilton 2023, *Scaling Laws for Reward Model Overoptimization*, arXiv:2210.10760: score and gold against KL, for best-of-n and for RL.
# - Stiennon et al. 2020, *Learning to summarize from human feedback*, arXiv:2009.01325: the same effect with people as the gold standard.
# - Rafailov et al. 2023, *Direct Preference Optimization*, arXiv:2305.18290: the closed form of the best policy, and what else can be made of it.
# - `minippo/stages/optimum.py`, `minippo/exact/oracle.py`, `minippo/commands/train.py`; docs/rlhf.md, docs/results.md.
#
# This is the last notebook. Next: [00 RLHF in one minute](00_rlhf_in_one_minute.ipynb), once more.
