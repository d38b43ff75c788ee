# %% [markdown]
# # 14 Your own
#
# **Goal:** to put a PPO of your own together from the functions that you have written in the
# exercises, to pay it by a rule, and to see what a rule can and cannot teach.
#
# Before you run anything, write down three predictions:
#
# 1. A small GPT is paid for right sums of two digits. 70 of the 100 sums are asked in training.
#    Of the other 30, will it answer more of them rightly than before?
# 2. A rule pays for every word of an answer that is a number. What will the longest answers look
#    like after training?
# 3. How many lines does PPO for a language model need, if five functions of the exercises are
#    there?

# %%
import copy
import os
import random

import torch

from minippo.critic_head import Critic
from minippo.exercises import clipped_loss, gae, shaped_rewards, token_logprobs, value_loss
from minippo.gpt import GPT, GPTConfig
from minippo.masked import whiten
from minippo.sampling import sample_responses
from minippo.tokenizer import WordTokenizer, pad_right

FAST = bool(os.environ.get("MINIPPO_FAST"))

# %% [markdown]
# ## Your functions
#
# Write your own answers here in the place of the references: `FUNCTIONS["gae"] = my_gae`. All of
# them have been checked, so they may be mixed with the others as you like.

# %%
FUNCTIONS = {
    module.exercise.name: module.exercise.reference
    for module in (token_logprobs, shaped_rewards, gae, clipped_loss, value_loss)
}
print(", ".join(FUNCTIONS))

# %% [markdown]
# ## A task
#
# A prompt is "3 + 8 =", a number is one token, and the answer is a number and EOS. The
# demonstrations are right or one off, so there is something to learn.

# %%
tokenizer = WordTokenizer([*map(str, range(20)), "+", "="])
SUMS = [(a, b) for a in range(10) for b in range(10)]
random.Random(0).shuffle(SUMS)
TRAINING, HELD_OUT = SUMS[:70], SUMS[70:]
P, T = 5, 4  # tokens of a prompt, BOS included; slots of an answer


def asked(a, b):
    return [tokenizer.bos_id, *tokenizer.encode(f"{a} + {b} =")]


def demonstration(rng):
    """(tokens of prompt and answer): the right number, or one beside it."""
    a, b = rng.choice(TRAINING)
    number = max(0, a + b + rng.choice((-1, 0, 0, 1)))
    return asked(a, b) + tokenizer.encode(str(number)) + [tokenizer.eos_id]


print(tokenizer.decode(demonstration(random.Random(1))))

# %% [markdown]
# The fine-tuned model: a GPT of two layers that has learned to say what the demonstrations say.


# %%
def fine_tuned(steps=300):
    size = GPTConfig(tokenizer.vocab_size, context_length=P + T, n_layer=2, n_head=2, n_embd=32)
    model, rng = GPT(size, generator=torch.Generator().manual_seed(0)), random.Random(0)
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)
    for _ in range(steps):
        tokens, _ = pad_right([demonstration(rng) for _ in range(64)], tokenizer.pad_id)
        log_pi = model(tokens[:, :-1]).log_softmax(dim=-1)[:, P - 1 :]  # of number and EOS
        loss = -log_pi.gather(2, tokens[:, P:, None]).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return model.eval()


reference = fine_tuned(60 if FAST else 300)

# %% [markdown]
# What a model answers is sampled, one answer to each sum:


# %%
@torch.no_grad()
def texts_of(model, sums, seed=0):
    """The texts that a model answers, one to each sum."""
    prompts = torch.tensor([asked(a, b) for a, b in sums])
    tokens, _, _ = sampled(model, prompts, torch.Generator().manual_seed(seed))
    return [tokenizer.decode(row) for row in tokens.tolist()]


def sampled(model, prompts, generator):
    """(tokens [B,T], mask [B,T], log-probabilities [B,T]) of sampled answers."""
    how = {"response_length": T, "temperature": 1.0, "generator": generator}
    how |= {"eos_id": tokenizer.eos_id, "pad_id": tokenizer.pad_id}
    return sample_responses(model, prompts, torch.ones_like(prompts).bool(), **how)


print(list(zip(SUMS[:5], texts_of(reference, SUMS[:5]))))

# %% [markdown]
# ## PPO, from your functions
#
# The first cell looks at a batch of answers; the second is the loop.


# %%
@torch.no_grad()
def look(policy, critic, prompts, rule, kl_coef, generator):
    """All that the optimiser steps need to know about a batch of sampled answers."""
    answer_tokens, mask, _ = sampled(policy, prompts, generator)
    tokens = torch.cat((prompts, answer_tokens), dim=1)
    old, ref = (
        FUNCTIONS["token_logprobs"](model(tokens), tokens, P, mask) for model in (policy, reference)
    )
    texts = [[tokenizer.decode(part) for part in (row[:P], row[P:])] for row in tokens.tolist()]
    scores = torch.tensor([float(rule(*pair)) for pair in texts])
    values = torch.where(mask, critic(tokens)[:, P - 1 : -1], 0.0)
    rewards = FUNCTIONS["shaped_rewards"](scores, old, ref, mask, kl_coef)
    advantages = FUNCTIONS["gae"](rewards, values, mask, 1.0, 0.95)
    batch = {"tokens": tokens, "mask": mask, "old": old, "targets": advantages + values}
    return batch | {"advantages": whiten(values=advantages, mask=mask)}, scores.mean().item()


# %%
def ppo(rule, *, kl_coef=0.05, updates=60, batch_size=64, seed=0):
    """(policy, mean score of every batch)."""
    policy, critic = copy.deepcopy(reference), Critic(reference)
    parameters = [*policy.parameters(), *critic.parameters()]
    optimizer = torch.optim.Adam(parameters, lr=1e-3, eps=1e-5)
    generator, rng, course = torch.Generator().manual_seed(seed), random.Random(seed), []
    for _ in range(updates):
        prompts = torch.tensor([asked(*rng.choice(TRAINING)) for _ in range(batch_size)])
        batch, score = look(policy, critic, prompts, rule, kl_coef, generator)
        course.append(score)
        for _ in range(4):
            for rows in torch.randperm(batch_size, generator=generator).split(batch_size // 2):
                tokens, mask, old, targets, A = (x[rows] for x in batch.values())
                logprobs = FUNCTIONS["token_logprobs"](policy(tokens), tokens, P, mask)
                loss = FUNCTIONS["clipped_loss"](logprobs, old, A, mask, 0.2)
                loss = loss + 0.5 * FUNCTIONS["value_loss"](critic(tokens), targets, mask, P)
                optimizer.zero_grad()
                loss.backward()
                torch.nn.utils.clip_grad_norm_(parameters, 1.0)
                optimizer.step()
    return policy, course


# %% [markdown]
# Prediction 3: these two cells have 34 lines, without blank ones and docstrings. Nothing else is
# needed but a model that can be sampled from.
#
# ## A rule in the place of a reward model


# %%
def right(prompt, answer):
    a, _, b, _ = prompt.split()
    return answer == str(int(a) + int(b))


def share_right(model, sums):
    """Of 20 answers to each sum."""
    found = [
        right(f"{a} + {b} =", text)
        for seed in range(20)
        for (a, b), text in zip(sums, texts_of(model, sums, seed))
    ]
    return sum(found) / len(found)


policy, course = ppo(right, updates=10 if FAST else 60)
for update in (1, 2, 5, 10, len(course)):
    print(f"update {update:2}   right {course[update - 1]:.2f}")

# %%
for name, sums in (("asked in training", TRAINING), ("held out", HELD_OUT)):
    before, after = share_right(reference, sums), share_right(policy, sums)
    print(f"{name:18} right before {before:.2f}, after {after:.2f}")

# %% [markdown]
# Prediction 1: see the last line. The policy was paid for sums that it was asked, and it has
# learned *these sums*, most of them by heart. What the rule cannot see, whether the model adds or
# remembers, the training cannot teach. More different prompts can: docs/rule-as-reward.md has the
# numbers for 50 to 6479 sums.
#
# ## A rule that gets hacked
#
# Somebody wants answers with numbers in them, and pays a point for each.


# %%
def counts_numbers(prompt, answer):
    return sum(word.isdigit() for word in answer.split())


hacked, course = ppo(counts_numbers, kl_coef=0.01, updates=10 if FAST else 60)
print(f"score {course[0]:.2f} -> {course[-1]:.2f}, right {share_right(hacked, TRAINING):.2f}")
for (a, b), text in zip(SUMS[:5], texts_of(hacked, SUMS[:5])):
    print(f"{a} + {b} = {text}")

# %% [markdown]
# Prediction 2: as many numbers as there is room for, and no end. The rule was kept to the letter.
# A price on the KL makes it dearer to find such answers; a rule that says what is wanted makes it
# pointless.
#
# ## The same as a command
#
# A class with three methods in a file, and one command, give all of the pipeline, with resuming,
# figures, held-out prompts and a report: `python -m minippo.train_toy --task sums.py:Sums --reward
# rule`. docs/your-own-task.md begins with an empty file.
#
# ## What would break this
#
# - Reading `critic(tokens)` at the position of the token itself: the critic then knows the action.
# - A rule that returns NaN, or a text: `float(rule(...))` passes NaN on, and every weight is NaN
#   one step later. The package refuses it, with the file and the line of your rule.
# - Held-out prompts in the demonstrations: nothing would then be held out.
#
# ## Questions
#
# <details><summary>1. Where in the loop is the policy that sampled, and where the reference?
# </summary>
#
# The policy that sampled is in `old`, kept as data for the ratios; it is new with every batch. The
# reference is a model that never changes; it is in the rewards.
# </details>
#
# <details><summary>2. The rule gives 0 or 1. Why does the critic still help?</summary>
#
# It learns which sums are hard. A right answer to a hard one is then worth more than one to an
# easy sum that is always right.
# </details>
#
# <details><summary>3. You have no rule, but people who compare. What changes in the loop?
# </summary>
#
# One line: `scores` come from a reward model that has learned from the comparisons. The loop does
# not know the difference.
# </details>
#
# ## Exercise
#
# The assembled loss: from what a rollout holds to the scalar that one optimiser step minimises,
#
# $$
# L = L_\text{clip}(\text{whitened } \hat A) + \text{vf\_coef} \cdot \tfrac12 \thinspace
# \text{mean}_t \thinspace (V(s_t) - y_t)^2 , \qquad y_t = \hat A_t + V_\text{old}(s_t) ,
# $$
#
# with rewards (7.1), GAE (4.3), whitening (0.5) with the biased standard deviation, and the
# clipped loss (6.2). All but `logprobs` and `values` is data. Tensors are [B,T], `scores` is [B];
# the padding holds any numbers.


# %%
def my_ppo_loss(
    logprobs,
    values,
    old_logprobs,
    ref_logprobs,
    old_values,
    scores,
    response_mask,
    kl_coef,
    gamma,
    lam,
    cliprange,
    vf_coef,
):
    raise NotImplementedError  # your code here


# %%
from minippo.exercises.ppo_loss import exercise

exercise.check(my_ppo_loss)

# %% [markdown]
# ## References
#
# - Lambert et al. 2024, *Tulu 3*, arXiv:2411.15124: rewards that can be verified.
# - `minippo/one_page.py` is PPO on one page, with nothing imported but torch;
#   docs/your-own-task.md; docs/rule-as-reward.md.
#
# Next: [15 Bug hunt](15_bug_hunt.ipynb).
