# %% [markdown]
# # 00 RLHF in one minute
#
# **Goal:** to see all of RLHF happen once, from a fresh model to a policy that answers what people prefer, before any part of it is explained.
#
# RLHF is reinforcement learning from human feedback. A language model writes answers, people say which of two they like better, a second model learns to
# predict what they like, and the first model is trained to please the second. A model that writes and is trained in this way is called a **policy**; the
# question it is given is its prompt, the answer its response. The other notebooks take this apart; here it runs as a whole, on a world of twelve questions.
#
# Before you run anything, write down three predictions:
#
# 1. The demonstrations name the right capital and one well-known wrong city equally often. How often does the model that is fine-tuned on them answer right?
# 2. In the last stage the model is never shown an answer. It sees only scores of answers that it gave itself. How often does it answer right in the end?
# 3. Its distance from the fine-tuned model has a price. It is measured as the KL divergence: the mean of log p(answer) under the policy minus log p(answer)
#    under the fine-tuned model, over the policy's answers, in nats (natural logarithms). About how many nats does it end at: 0.01, 1 or 100?

# %%
import os
import tempfile

import matplotlib.pyplot as plt
import torch

from minippo.commands.config import resolve
from minippo.runs.folder import RunFolder
from minippo.runs.screen import Screen
from minippo.tasks.capitals import CAPITALS, QUESTION
from minippo.commands.train import Run, collect_preferences, evaluate, fine_tune, make_reward_model
from minippo.commands.train import optimise_policy, prepare, pretrain
from minippo.commands.summary import response_probability

FAST = bool(os.environ.get("MINIPPO_FAST"))

# %% [markdown]
# ## The run
#
# `python -m minippo.train_toy --task capitals` does all of this with one command. Here we call its stages one by one, with fewer preferences and fewer
# updates. What a run writes goes to a temporary folder.

# %%
smaller = {"preference_prompts": 3000, "num_updates": 30, "eval_prompts": 240, "optimum_draws": 256}
if FAST:
    smaller |= {
        "pretrain_steps": 40,
        "sft_steps": 40,
        "preference_prompts": 300,
        "num_updates": 3,
        "optimum_draws": 16,
        "preference_heldout": 50,
        "eval_prompts": 24,
    }
config, task = prepare(resolve({"task": "capitals", **smaller}))
folder = RunFolder.create(tempfile.mkdtemp(), default_name="capitals")
run = Run(config, task, torch.device("cpu"), folder, Screen())
print("words:", task.tokenizer.vocab_size, "  questions:", len(CAPITALS))
right, rival = CAPITALS["france"]
print(QUESTION.format("france"), "  right:", right, "  well-known wrong city:", rival)

# %% [markdown]
# ## 1. Pretraining
#
# A GPT with random weights reads text in which cities and countries stand together, and learns to foretell the next word. It learns which words go together,
# not which answer is right. The line shows the loss (minus log-probability per word) at the first step and at the end.

# %%
pretrained = pretrain(run)

# %% [markdown]
# ## 2. Fine-tuning on demonstrations
#
# Now it sees questions with answers, and only the answer counts in the loss. The demonstrations are as imperfect as people: 44 % right, 44 % the well-known
# wrong city, the rest any city. The fine-tuned model (SFT, supervised fine-tuning) becomes two things: the start of the policy, and a frozen copy, the
# **reference**.

# %%
sft = fine_tune(run, pretrained)
for answer in CAPITALS["france"]:
    probability = response_probability(run, sft, QUESTION.format("france"), answer)
    print(f"probability of {answer:<7} {probability:.2f}")

# %% [markdown]
# ## 3. Preferences
#
# The fine-tuned model answers each prompt four times. An annotator compares the answers in pairs and says which one is better. Ours is simulated: it knows
# the capitals, and it is wrong now and then. Some pairs are held out, to test with.

# %%
training, heldout = collect_preferences(run, sft)
for n in range(2):
    prompt, answers = (
        task.tokenizer.decode(training.prompt_tokens[n].tolist()),
        training.response_tokens[n],
    )
    first, second = (task.tokenizer.decode(answers[k].tolist()) for k in (0, 1))
    said = {1: "the first", -1: "the second", 0: "not compared: as good as each other"}
    print(f"{prompt}   {first} / {second}   preferred: {said[int(training.labels[n, 0])]}")

# %% [markdown]
# ## 4. The reward model
#
# A copy of the fine-tuned model gets one output number, the **score**, and learns to give the preferred answer the higher one. Its accuracy is the share of
# held-out pairs on which it agrees with the annotator; the ceiling is what somebody who knows the annotator's rule would get, since the annotator errs. Skill is (accuracy - 0.5) /
# (ceiling - 0.5), so 1 at the ceiling and 0 for a coin.
# Pairs are always two answers to one question, so only differences between answers to the same question mean something.

# %%
reward_model, report = make_reward_model(run, sft, training, heldout)


def score(question, answer):
    ids = [*task.prompt_ids(question), *task.response_ids(answer)]
    return reward_model(torch.tensor([ids])).item()


for answer in ("paris", "london", "casablanca"):
    print(f"score of {answer:<10} {score(QUESTION.format('france'), answer):6.2f}")

# %% [markdown]
# ## 5. PPO
#
# The policy starts as the fine-tuned model. PPO is short for proximal policy optimisation. In each update it answers 128 prompts, the reward model scores the answers, and PPO changes the policy so that
# answers with a high score become likelier. Every step away from the reference is paid for. What is maximised is the **objective**,
#
# E[score] - `kl_coef` * KL(policy || reference), with `kl_coef` 0.05. E is the mean over prompts and the policy's answers to them.
#
# Nobody tells the policy which answer is right; "gold" below is the share of right answers, which only we see.

# %%
run.screen = Screen(quiet=True)
policy, critic, rows, minibatch = optimise_policy(run, sft, reward_model)
print("objective: E[score] -", config.ppo.kl_coef, "* KL(policy || reference)")
for row in (*rows[:3], *rows[5::8]):
    print(
        f"update {row['update']:2d}   score {row['objective/scores']:6.3f}   "
        f"KL {row['objective/kl']:.3f}   gold {row['objective/gold']:.3f}"
    )

# %%
fig, axes = plt.subplots(1, 3, figsize=(7, 2.4), dpi=80, layout="constrained", sharex=True)
names = {
    "objective/scores": "score",
    "objective/kl": "KL to the reference, nats",
    "objective/gold": "gold: share of right answers",
}
for ax, (name, title) in zip(axes, names.items()):
    ax.plot([row["update"] for row in rows], [row[name] for row in rows], color="black")
    ax.set_title(title, fontsize="medium")
    ax.set_xlabel("update")
plt.show()
for name, title in names.items():
    print(f"{title:<30} {rows[0][name]:.3f} -> {rows[-1][name]:.3f}")

# %% [markdown]
# *The picture in words: score, KL and gold all rise steeply in the first ten updates and then level off; the score is noisy, since each update asks other
# questions.*
#
# ## 6. Before and after
#
# The same questions to the fine-tuned model and to the policy, in probabilities of the right answer and of its well-known rival.

# %%
summary, samples = evaluate(run, sft, policy, critic, reward_model, report, rows, minibatch)
watched = summary["answers"]
fig, ax = plt.subplots(figsize=(7, 3), dpi=80, layout="constrained")
for kind, marker in (("right", "o"), ("rival", "x")):
    for when, fill in (("before", "0.6"), ("after", "black")):
        ax.plot(
            [row[f"{kind}_{when}"] for row in watched],
            linestyle="none",
            marker=marker,
            color=fill,
            label=f"{kind} answer, {when} PPO",
        )
ax.set_xticks(
    range(len(watched)), [row["prompt"].split()[-2] for row in watched], rotation=40, ha="right"
)
ax.set_ylabel("probability")
ax.legend(frameon=False, fontsize="small", loc="center left", bbox_to_anchor=(1, 0.5))
plt.show()
for kind in ("right", "rival"):
    before, after = (
        sum(row[f"{kind}_{when}"] for row in watched) / len(watched) for when in ("before", "after")
    )
    print(f"{kind} answer, mean probability {before:.2f} -> {after:.2f}")

# %% [markdown]
# *The picture in words: before PPO (grey) the right answer and its rival both lie between 0.3 and 0.6 for all twelve countries; after PPO (black) the right
# answers lie near 1 and the rivals near 0.*
#
# Predictions 1 and 2: the fine-tuned model answers right as often as its demonstrations, and the policy nearly always. The last stage told it no fact: it
# moved probability between answers that it already gave.

# %%
print("prompt                               before -> after")
for row in samples:
    print(
        f"{row['prompt']:<36} {row['before']} [score {row['score_before']:.2f}] -> "
        f"{row['after']} [score {row['score_after']:.2f}]"
    )
own, best = summary["policy"], summary["optimum"]
print(
    f"\nE[score]  {summary['sft']['score']:.3f} -> {own['score']:.3f}     KL 0 -> {own['kl']:.3f} nats"
)
print(
    f"objective {summary['sft']['objective']:.3f} -> {own['objective']:.3f}     "
    f"best possible: {best['objective']:.3f}"
)
print(
    f"optimality, the share of the way from the reference to the best: {summary['optimality']:.3f}"
)
win = summary["win_rate"]
print(f"win rate {win['value']:.3f} (95 % interval {win['low']:.3f} to {win['high']:.3f})")
certain = sum(-torch.tensor(row["right_before"]).log().item() for row in watched) / len(watched)
print(f"KL of a policy that always gives the right answer: {certain:.2f} nats")

# %% [markdown]
# Prediction 3: a little less than 1 nat. To go from probability p to certainty costs -log p nats, and the right answers started at a probability a little
# below one half. The best objective is known, because the best policy is known (notebook 13); so a run can be measured by how near it came, and not only by
# how far its score rose. The win rate counts a tie as half: where both answer right, nobody wins.
#
# ## What would break this
#
# - **The end of the answer left out.** The reward model reads its score at the last token, and it has learned to do so at
#   EOS (end of sequence, the token that ends an answer). Without EOS it gives a number
#   as well, and that number means nothing.
# - **KL per token instead of per response.** The price is for the whole response. A mean over tokens makes long responses cheap.
# - **Taking the score for the goal.** The annotator has seen answers of the fine-tuned model only. Such answers hardly ever say a word twice, so the reward
#   model scores "paris paris" nearly as high as "paris", and the rule says 0. A policy that is trained on the score can find such gaps. Notebook 13 shows a
#   run that does.

# %%
question = task.prompt_ids(QUESTION.format("france"))
word, eos = task.tokenizer.encode("paris"), task.tokenizer.eos_id
answers = {
    "paris <eos>": [*word, eos],
    "paris (no EOS)": word,
    "paris paris <eos>": [*word, *word, eos],
}
for name, ids in answers.items():
    gold = task.gold(QUESTION.format("france"), task.tokenizer.decode(ids))
    print(
        f"{name:<18} score {reward_model(torch.tensor([question + ids])).item():6.2f}   gold {gold}"
    )
print(f"KL per response {own['kl']:.3f}, per token {own['kl'] / own['length']:.3f}")

# %% [markdown]
# ## Questions
#
# <details><summary>1. Why is there a reward model at all? The annotator could score the policy's answers.</summary>
#
# PPO needs a score for every answer of every update, here thousands. People can't give so many, and it is often easier to say which of two answers is better
# than to give one a number. The reward model is asked instead. It is cheap to ask, and only as good as its pairs.
# </details>
#
# <details><summary>2. The reward model disagrees with the annotator on about one pair in ten. Is it bad?</summary>
#
# Compare with the ceiling, which the line of the stage prints beside it. The annotator errs, so nobody agrees with all of its labels. The distance to the
# ceiling is what the model lacks.
# </details>
#
# <details><summary>3. What would the policy do if KL cost nothing?</summary>
#
# It would put all its probability on the answer with the highest score, whatever that answer is, and however seldom the reference gives it. Where the reward
# model errs on answers that it has hardly ever seen, that answer is wrong.
# </details>
#
# ## Exercise
#
# Write the objective, as a number estimated from one batch of answers: the mean score minus `kl_coef` times the mean KL per response. `scores` [B] come from
# the reward model. `ended` [B] bool says which responses have an EOS; those that have none get `no_eos_score` in the place of their score (the EOS rule).
# `logprobs` and `ref_logprobs` [B,T] are the log-probabilities that policy and reference give to the sampled tokens, and `response_mask` [B,T] bool says
# which slots are real; the others hold anything. For responses sampled from the policy the sum over the tokens of `logprobs` - `ref_logprobs` is an estimate
# of the KL. Return a scalar tensor; no gradient is needed.


# %%
def my_objective(scores, ended, logprobs, ref_logprobs, response_mask, kl_coef, no_eos_score):
    raise NotImplementedError  # your code here


# %%
from minippo.exercises.objective import exercise

exercise.check(my_objective)

# %% [markdown]
# ## References
#
# - Christiano et al. 2017, *Deep Reinforcement Learning from Human Preferences*, arXiv:1706.03741: a reward model from comparisons, and a policy trained on
#   it.
# - Ziegler et al. 2019, *Fine-Tuning Language Models from Human Preferences*, arXiv:1909.08593: the same for language models, with the KL to the reference
#   in the reward.
# - Ouyang et al. 2022, *Training language models to follow instructions with human feedback*, arXiv:2203.02155: the stages as they are run here.
# - `minippo/commands/train.py`, `minippo/tasks/capitals.py`; docs/rlhf.md, docs/results.md.
#
# Next: [01 Tokens, logits, log-probs](01_tokens_logits_logprobs.ipynb).
