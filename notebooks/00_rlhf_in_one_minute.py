# %% [markdown]
# # 00 RLHF in one minute
#
# **Goal:** to see all of RLHF happen once, from a fresh model to a policy that gives the answers
# people prefer, before any part of it is explained.
#
# RLHF is reinforcement learning from human feedback. A language model writes answers, people say
# which of two they like better, a second model learns to predict what they like, and the first
# model is trained to please the second. A model that writes and is trained in this way is called
# a **policy**; the question it is given is its prompt, and the answer its response. The other
# notebooks take this apart; here it runs as a whole, in a world of twelve questions.
#
# If you would rather begin with code, the file to read first is `minippo/one_page.py`: PPO for a
# language model on one page, which needs nothing but torch. `python -m minippo.one_page` runs it in
# half a minute.
#
# Before you run anything, write down three predictions:
#
# 1. The demonstrations name the right capital and one well-known wrong city equally often. How
#    often does the model that is fine-tuned on them give the right answer?
# 2. In the last stage the model is never shown an answer. It sees only scores of answers that it
#    gave itself. How often is it right in the end?
# 3. Moving away from the fine-tuned model has a price. The distance is the KL divergence from the
#    fine-tuned model, in nats (the unit of natural logarithms). About how many nats does it come
#    to: a hundredth of one, 1 or 100?

# %%
import copy
import os
import tempfile

import torch
from plots import DARK, ORANGE, panels, show

from minippo.commands.config import resolve
from minippo.commands.feedback import collect_preferences, make_reward_model
from minippo.commands.pipeline import fine_tune, optimise_policy, pretrain
from minippo.commands.prepare import prepare
from minippo.commands.run import Run
from minippo.commands.summary import evaluate, response_probability
from minippo.runs.folder import RunFolder
from minippo.runs.screen import Screen
from minippo.tasks.capitals import CAPITALS, QUESTION

FAST = bool(os.environ.get("MINIPPO_FAST"))

# %% [markdown]
# ## The run
#
# `python -m minippo.train_toy --task capitals` does all of this with one command. Here we call its
# stages one by one, with fewer preferences and fewer updates. Whatever the run writes goes into a
# temporary folder. Each cell makes new models and leaves the earlier ones as they are, so you can
# run any cell again.

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
config, task, _ = prepare(resolve({"task": "capitals", **smaller}))
folder = RunFolder.create(tempfile.mkdtemp(), default_name="capitals")
run, quiet_run = (
    Run(config, task, torch.device("cpu"), folder, Screen(quiet=quiet)) for quiet in (False, True)
)
print("words:", task.tokenizer.vocab_size, "  questions:", len(CAPITALS))
right, rival = CAPITALS["france"]
print(QUESTION.format("france"), "  right:", right, "  well-known wrong city:", rival)

# %% [markdown]
# ## 1. Pretraining
#
# A GPT with random weights reads text in which cities and countries occur together, and learns to
# predict the next word. It learns which words go together, not which answer is right. The line
# shows the loss (minus log-probability per word) at the first step and at the end.

# %%
pretrained = pretrain(run)

# %% [markdown]
# ## 2. Fine-tuning on demonstrations
#
# Now it sees questions with answers, and only the answer counts in the loss. The demonstrations
# are as imperfect as people: 44 % name the right city, 44 % the well-known wrong one, and the rest
# any city. The fine-tuned model (SFT, supervised fine-tuning) has two uses: the policy starts from
# it, and a frozen copy of it is the **reference**.

# %%
sft = fine_tune(run, copy.deepcopy(pretrained))
for answer in CAPITALS["france"]:
    probability = response_probability(run, sft, QUESTION.format("france"), answer)
    print(f"probability of {answer:<7} {probability:.2f}")

# %% [markdown]
# ## 3. Preferences
#
# The fine-tuned model answers each prompt four times. An annotator compares the answers in pairs
# and says which one is better. Ours is simulated: it knows the capitals, and it is wrong now and
# then. Some pairs are held out for testing.

# %%
training, heldout = collect_preferences(run, sft)
said = {1: "the first", -1: "the second", 0: "neither, they are equally good"}
for n in range(2):
    prompt = task.tokenizer.decode(training.prompt_tokens[n].tolist())
    first, second = (task.tokenizer.decode(training.response_tokens[n, k].tolist()) for k in (0, 1))
    print(f"{prompt}   {first} / {second}   preferred: {said[int(training.labels[n, 0])]}")

# %% [markdown]
# ## 4. The reward model
#
# A copy of the fine-tuned model is given one output number, the **score**, and learns to give the
# preferred answer the higher one. Its accuracy is the share of held-out pairs on which it agrees
# with the annotator. Since the annotator makes mistakes, even somebody who knew its rule would not
# always agree with it; what they would reach is the ceiling. The skill puts the accuracy between
# the two,
#
# $$
# \text{skill} = \frac{\text{accuracy} - 1/2}{\text{ceiling} - 1/2} ,
# $$
#
# so it is 0 for tossing a coin and 1 at the ceiling. A pair is always two answers to one question,
# so only differences between answers to the same question mean something.

# %%
reward_model, report = make_reward_model(run, sft, [(training, heldout)])


def score_of(question, answer):
    ids = [*task.prompt_ids(question), *task.response_ids(answer)]
    return reward_model(torch.tensor([ids])).item()


for answer in ("paris", "london", "casablanca"):
    print(f"score of {answer:<10} {score_of(QUESTION.format('france'), answer):6.2f}")

# %% [markdown]
# ## 5. PPO
#
# PPO is short for proximal policy optimisation. The policy starts as the fine-tuned model. In each
# update it answers 128 prompts, the reward model scores the answers, and PPO changes the policy so
# that answers with a high score become likelier. Distance from the reference has a price,
# $\beta$ (`kl_coef`) for each nat. What is maximised is the **objective**,
#
# $$
# J(\pi) = E_{x, \enspace y \sim \pi(\cdot \mid x)} [\thinspace \text{score}(x, y) \thinspace]
# - \beta \thinspace \mathrm{KL}(\pi \Vert \pi_{\text{ref}}) , \qquad
# \mathrm{KL}(\pi \Vert \pi_{\text{ref}}) = E_{x, \enspace y \sim \pi(\cdot \mid x)} [\thinspace
# \log \pi(y \mid x) - \log \pi_{\text{ref}}(y \mid x) \thinspace] ,
# $$
#
# with $x$ a prompt, $y$ the policy's answer to it, and $\beta = 0.05$ here.
#
# Nobody tells the policy which answer is right; "gold" below is the share of right answers, which
# only we see.

# %%
trained = optimise_policy(quiet_run, copy.deepcopy(sft), reward_model, reward_model)
rows = trained.rows
print("kl_coef:", config.ppo.kl_coef)
for row in (*rows[:3], *rows[5::8]):
    print(
        f"update {row['update']:2d}   score {row['objective/scores']:6.3f}   "
        f"KL {row['objective/kl']:.3f}   gold {row['objective/gold']:.3f}"
    )

# %%
names = {
    "objective/scores": "score",
    "objective/kl": "KL to the reference, nats",
    "objective/gold": "gold: share of right answers",
}
figure, axes = panels(3, height=2.4, sharex=True)
for panel, (name, title) in zip(axes, names.items()):
    panel.plot([row["update"] for row in rows], [row[name] for row in rows], color=DARK)
    panel.set_title(title, fontsize="medium")
    panel.set_xlabel("update")
show(
    figure,
    "Three panels over the updates: score, KL and gold rise steeply in the first ten updates and"
    " then level off. The score is noisy, since each update asks other questions.",
)
for name, title in names.items():
    print(f"{title:<30} {rows[0][name]:.3f} -> {rows[-1][name]:.3f}")

# %% [markdown]
# ## 6. Before and after
#
# The same questions put to the fine-tuned model and to the policy. The figure shows what each of
# them gives to the right answer and to its well-known rival.

# %%
summary, samples = evaluate(quiet_run, trained, reward_model, report)
watched = summary["answers"]
figure, axes = panels(height=3.2)
for kind, colour, shift in (("right", DARK, -0.12), ("rival", ORANGE, 0.12)):
    before, after = ([row[f"{kind}_{when}"] for row in watched] for when in ("before", "after"))
    for place, pair in enumerate(zip(before, after)):
        arrow = {"arrowstyle": "->", "color": colour, "shrinkA": 0, "shrinkB": 0}
        ends = [(place + shift, height) for height in pair]
        axes.annotate("", xytext=ends[0], xy=ends[1], arrowprops=arrow)
    means = [sum(numbers) / len(numbers) for numbers in (before, after)]
    axes.text(11.5, means[1], f"{kind} answer", color=colour, va="center")
    print(f"{kind} answer, mean probability {means[0]:.2f} -> {means[1]:.2f}")
countries = [row["prompt"].split()[-2] for row in watched]
axes.set_xticks(range(len(watched)), countries, rotation=40, ha="right")
axes.set(ylabel="probability, before → after PPO", xlim=(-0.5, 13.5), ylim=(-0.03, 1.03))
show(
    figure,
    "Two arrows for each of the twelve countries. Both begin between 0.3 and 0.6; the arrow of the"
    " right answer goes up to nearly 1, that of its rival down to nearly 0.",
)

# %% [markdown]
# Predictions 1 and 2: the fine-tuned model is right as often as its demonstrations, and the policy
# nearly always. The last stage told it no fact: it moved probability between answers that the
# model already gave.

# %%
print("prompt                               before -> after")
for row in samples:
    print(
        f"{row['prompt']:<36} {row['before']} [score {row['score_before']:.2f}] -> "
        f"{row['after']} [score {row['score_after']:.2f}]"
    )
before, own, best = (summary[name] for name in ("sft", "policy", "optimum"))
print(f"\nscore     {before['score']:.3f} -> {own['score']:.3f}    KL 0 -> {own['kl']:.3f} nats")
print(f"objective {before['objective']:.3f} -> {own['objective']:.3f}", end="    ")
print(f"best possible: {best['objective']:.3f}")
print(f"optimality, the share of the way to the best possible: {summary['optimality']:.3f}")
win = summary["win_rate"]
print(f"win rate {win['value']:.3f} (95 % interval {win['low']:.3f} to {win['high']:.3f})")
certain = sum(-torch.tensor(row["right_before"]).log().item() for row in watched) / len(watched)
print(f"KL of a policy that always gives the right answer: {certain:.2f} nats")

# %% [markdown]
# Prediction 3: a little less than 1 nat. Going from probability $p$ to certainty costs $-\log p$
# nats, and the right answers started a little below one half.
#
# The best objective is known, because the best policy is known (notebook 13). So a run can be
# judged by how near it came, and not only by how far its score rose. The win rate counts a tie as
# half: where both answers are right, nobody wins.
#
# ## What would break this
#
# - **Leaving out the end of the answer.** The reward model reads its score at the last token, and
#   it has learned to do so at EOS (end of sequence, the token that ends an answer). Without EOS it
#   gives a number as well, and that number means nothing.
# - **KL per token instead of per response.** The price is for the whole response. A mean over
#   tokens makes long responses cheap.
# - **Taking the score for the goal.** The reward model has only seen answers of the fine-tuned
#   model. These hardly ever say a word twice, so it scores "paris paris" nearly as high as
#   "paris", and the rule says 0. A policy that is trained on the score can find such gaps.
#   Notebook 13 shows a run that does.

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
    found = reward_model(torch.tensor([question + ids])).item()
    print(f"{name:<18} score {found:6.2f}   gold {gold}")
print(f"KL per response {own['kl']:.3f}, per token {own['kl'] / own['length']:.3f}")

# %% [markdown]
# ## Questions
#
# <details><summary>1. Why is there a reward model at all? The annotator could score the policy's
# answers.</summary>
#
# PPO needs a score for every answer of every update, here thousands. People can't give that many,
# and it is often easier to say which of two answers is better than to give one a number. So the
# reward model is asked instead. It is cheap to ask, and only as good as its pairs.
# </details>
#
# <details><summary>2. The reward model disagrees with the annotator on about one pair in ten. Is it
# bad?</summary>
#
# Compare with the ceiling, which is printed beside it. The annotator makes mistakes, so nobody
# agrees with all of its labels. What the model lacks is the distance to the ceiling.
# </details>
#
# <details><summary>3. What would the policy do if KL cost nothing?</summary>
#
# It would put all its probability on the answer with the highest score, whatever that answer is,
# and however seldom the reference gives it. Where the reward model is wrong about answers that it
# has hardly ever seen, that answer is wrong.
# </details>
#
# ## Exercise
#
# Write the objective as a number that is estimated from one batch of answers: the mean score minus
# `kl_coef` times the mean KL per response. `scores` [B] come from the reward model. `ended` [B]
# bool says which responses have an EOS; those that have none get `no_eos_score` in place of their
# score (the EOS rule). `logprobs` and `ref_logprobs` [B,T] are the log-probabilities that policy
# and reference give to the sampled tokens, and `response_mask` [B,T] bool says which slots are
# real; the others may hold anything. For responses sampled from the policy, the sum over the
# tokens of `logprobs` - `ref_logprobs` is an estimate of the KL. Return a scalar tensor; no
# gradient is needed.


# %%
def my_objective(scores, ended, logprobs, ref_logprobs, response_mask, kl_coef, no_eos_score):
    raise NotImplementedError  # your code here


# %%
from minippo.exercises.objective import exercise

exercise.check(my_objective)

# %% [markdown]
# ## References
#
# - Christiano et al. 2017, *Deep Reinforcement Learning from Human Preferences*, arXiv:1706.03741:
#   a reward model from comparisons, and a policy trained on it.
# - Ziegler et al. 2019, *Fine-Tuning Language Models from Human Preferences*, arXiv:1909.08593:
#   the same for language models, with the KL to the reference in the reward.
# - Ouyang et al. 2022, *Training language models to follow instructions with human feedback*,
#   arXiv:2203.02155: the stages as they are run here.
# - `minippo/commands/pipeline.py`, `minippo/commands/feedback.py`, `minippo/tasks/capitals.py`;
#   docs/rlhf.md, docs/results.md.
#
# Next: [01 Tokens, logits, log-probs](01_tokens_logits_logprobs.ipynb).
