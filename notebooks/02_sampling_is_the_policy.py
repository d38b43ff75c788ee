# %% [markdown]
# # 02 Sampling is the policy
#
# **Goal:** the policy is the distribution that the tokens are drawn from, and every log-probability that is used later has to be one of that distribution.
#
# Before you run anything, write down three predictions:
#
# 1. A model writes responses at temperature 0.5, and the same model scores them at temperature 1. Nothing is trained in between. The mean of
#    (log-probability when sampled - log-probability when scored) measures how far apart two distributions are, the KL divergence. Is it 0, above 0 or below 0 here?
# 2. A model has answered "sat .", then EOS, in a tensor with 5 slots. How many of the 5 slots are True in the response mask?
# 3. The same prompt and response are scored twice, the second time with 5 pads in front. By how much does the log-probability of the response change?

# %%
import matplotlib.pyplot as plt
import torch

from minippo.exact.world import TabularPolicy, World
from minippo.gpt import GPT, GPTConfig
from minippo.logprobs import token_logprobs
from minippo.rollout import (
    Responses,
    before_actions,
    response_logits,
    response_logprobs,
    sample_responses,
)
from minippo.tokenizer import WordTokenizer, pad_left, pad_right

# %% [markdown]
# ## A model that has something to say
#
# Samples of an untrained model are noise. Forty steps of ordinary next-token training on a few sentences give one that writes short sentences of several
# lengths.

# %%
tokenizer = WordTokenizer("the a cat dog sat ran ate slept on mat .".split())
sentences = [
    "the dog ran .",
    "the dog ran on the mat .",
    "the dog sat .",
    "the dog ate .",
    "the dog ran .",
    "a cat ran .",
    "the cat sat on a mat .",
    "the cat slept .",
    "a dog sat on the mat .",
    "the dog slept on the mat .",
]
rows = [[tokenizer.bos_id, *tokenizer.encode(sentence), tokenizer.eos_id] for sentence in sentences]
texts, text_mask = pad_right(rows, tokenizer.pad_id)

# %%
model = GPT(
    GPTConfig(vocab_size=tokenizer.vocab_size, context_length=32, n_layer=2, n_head=2, n_embd=16),
    generator=torch.Generator().manual_seed(0),
)
optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
for _ in range(40):
    loss = -token_logprobs(logits=model(texts)[:, :-1], tokens=texts[:, 1:])[
        text_mask[:, 1:]
    ].mean()
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
model = model.eval()
print("loss per token after 40 steps:", round(loss.item(), 2), "nats")

# %% [markdown]
# ## Temperature makes another distribution
#
# The sampler divides the logits by the temperature before the softmax. A temperature below 1 favours what is likely already; above 1 it flattens. The cell
# draws the word after "the dog" 4000 times at temperature 0.5 and sets the frequencies beside two candidates: softmax(logits) and softmax(logits / 0.5).

# %%
TEMPERATURE = 0.5
prompt_tokens = torch.tensor([[tokenizer.bos_id, *tokenizer.encode("the dog")]])  # [1,P]
prompt_mask = torch.ones_like(prompt_tokens, dtype=torch.bool)
ids = {"eos_id": tokenizer.eos_id, "pad_id": tokenizer.pad_id}
drawn, _, _ = sample_responses(
    model,
    prompt_tokens,
    prompt_mask,
    response_length=1,
    temperature=TEMPERATURE,
    samples_per_prompt=4000,
    generator=torch.Generator().manual_seed(1),
    **ids,
)
frequencies = drawn[:, 0].bincount(minlength=tokenizer.vocab_size) / len(drawn)  # [V]
with torch.no_grad():
    next_logits = model(prompt_tokens)[0, -1]  # [V]
plain, sharp = next_logits.softmax(dim=0), (next_logits / TEMPERATURE).softmax(dim=0)
for name, candidate in (("softmax(logits)", plain), ("softmax(logits / 0.5)", sharp)):
    distance = (frequencies - candidate).abs().max().item()
    print(f"{name:22} largest distance to the frequencies: {distance:.3f}")

# %%
top = plain.argsort(descending=True)[:6]
fig, ax = plt.subplots(figsize=(7, 3), dpi=80)
ax.bar(
    range(6), frequencies[top], color="lightgrey", edgecolor="black", label="drawn, share of 4000"
)
ax.plot(range(6), sharp[top], "kx", markersize=10, label="softmax(logits / 0.5)")
ax.plot(range(6), plain[top], "bo", markerfacecolor="none", markersize=10, label="softmax(logits)")
ax.set_xticks(range(6), [tokenizer.token_text(i) for i in top.tolist()])
ax.set_ylabel("probability")
ax.set_xlabel("word after 'the dog'")
ax.legend(frameon=False)
plt.show()
for name, row in (
    ("drawn", frequencies),
    ("softmax(logits / 0.5)", sharp),
    ("softmax(logits)", plain),
):
    print(f"{name:22}", [round(x, 3) for x in row[top].tolist()])

# %% [markdown]
# *The picture in words: grey bars, the shares of the drawn words, end at the crosses of softmax(logits / 0.5). The circles of softmax(logits) are far below
# the first bar (0.434 against 0.632) and above the third and the fourth.*
#
# So "the policy" is not the network alone. It is the network together with everything between the logits and the draw: the temperature, and a filter
# that drops unlikely tokens (top-k, top-p) where there is one (this sampler has none).
#
# ## The log-probabilities that come with a sample
#
# `sample_responses` returns three tensors: the tokens, the response mask, and the log-probability of each token under the distribution that it was drawn
# from. The cell draws 1000 responses and shows three.

# %%
tokens, mask, sample_logprobs = sample_responses(
    model,
    prompt_tokens,
    prompt_mask,
    response_length=5,
    temperature=TEMPERATURE,
    samples_per_prompt=1000,
    generator=torch.Generator().manual_seed(36),
    **ids,
)
for row in range(3):
    print([tokenizer.token_text(i) for i in tokens[row].tolist()])
    numbers = [round(x, 2) for x in sample_logprobs[row].tolist()]
    print("   mask", mask[row].int().tolist(), " logprobs", numbers)

# %% [markdown]
# Training reads the whole text again in one pass and compares with what was recorded: the ratio of a token is exp(logprobs now - logprobs then), equation
# (0.9) of docs/equations.md. Before the first training step it has to be 1. Here the same weights score the samples twice, once at the sampler's
# temperature and once at 1. `Responses` holds prompts and responses with their masks; `response_logits` runs the model over both, divides by the
# temperature and keeps the logits that choose the response's tokens, the shift of notebook 01; `response_logprobs` looks the tokens up.

# %%
batch = Responses(
    prompt_tokens.expand(len(tokens), -1), prompt_mask.expand(len(tokens), -1), tokens, mask
)
ratios = {}
with torch.no_grad():
    for temperature in (TEMPERATURE, 1.0):
        logprobs = response_logprobs(response_logits(model, batch, temperature), batch)  # [B,T]
        difference = (sample_logprobs - logprobs).sum(dim=1)  # [B]
        ratios[temperature] = (logprobs - sample_logprobs).exp()[mask]
        low, high = ratios[temperature].aminmax()
        print(
            f"scored at {temperature}: ratios {low:.3f} to {high:.3f}, "
            f"'KL' of the model from itself {round(difference.mean().item(), 3) + 0.0} nats per response"
        )

# %% [markdown]
# Prediction 1: above 0. With the sampler's temperature the ratios are 1 and the estimate is 0. With the other one it says that the model is 0.228 nats away
# from itself, because it measures the KL of two distributions, the one that drew and the one that scored; and some ratios are near 14, although nothing has
# been learned.
#
# ## EOS is a choice, what comes after it is not
#
# A response ends when the model chooses EOS. That choice has a probability like every other token and is part of the response; it is how a policy learns when
# to stop. The slots after it hold pads that nobody chose. A response that never chooses EOS is cut off by the end of the tensor, and then all its slots are
# real.

# %%
ended = (tokens == tokenizer.eos_id).any(dim=1)
at_eos = (tokens == tokenizer.eos_id) & mask
for length, count in enumerate(mask.sum(dim=1).bincount().tolist()):
    if count:
        print(f"responses with {length} True slots: {count}")
print(
    "responses with an EOS:", ended.sum().item(), "  EOS slots that are True:", at_eos.sum().item()
)

# %% [markdown]
# That EOS counts can be checked by a sum. The probabilities of all responses that a policy can give add up to 1. `World` lists them all for 3 tokens and at
# most 3 steps (token 0 is EOS; notebook 03 works in such a world), and `TabularPolicy` is a table of
# random logits. N counts the responses; what they are worth, the first argument, does not matter here.

# %%
world = World(lambda prompt, response: 0.0, vocab_size=3, response_length=3)
table = TabularPolicy(world, generator=torch.Generator().manual_seed(3))
chosen = world.logprobs(table().detach())  # [N,T]
without_eos = torch.where(world.response_tokens == 0, 0.0, chosen)
for name, logprobs in (("with EOS", chosen), ("without EOS", without_eos)):
    total = logprobs.sum(dim=1).exp().sum().item()
    print(f"{name:12} the {len(logprobs)} probabilities add up to {total:.3f}")

# %% [markdown]
# Prediction 2: "sat .", EOS has 3 True slots, with EOS among them, and the two pads behind it are False. Without the log-probability of EOS the sum is 2.723,
# and the numbers are no probabilities. The responses with 5 True slots are those that had no room for their EOS.
#
# ## Left padding
#
# Prompts have different lengths, and the sampler wants all of them to end at the last column, so that the next token of every row is chosen at the same
# place. Prompts are therefore padded on the left, responses on the right. A pad must not be read and must not count as a position: `GPT` does both when it is
# given the mask. The cell pads one text with 0 to 8 pads and scores it with and without the mask (`before_actions` is the shift of
# notebook 01: it keeps the logits that choose the response's tokens).

# %%
one = Responses(*(x[:1] for x in (prompt_tokens, prompt_mask, tokens, mask)))
totals = {"with the mask": [], "without the mask": []}
with torch.no_grad():
    for pads in range(9):
        padded = torch.nn.functional.pad(
            one.prompt_tokens, (pads, 0), value=tokenizer.pad_id
        )  # [1,pads+P]
        moved = Responses(
            padded, padded != tokenizer.pad_id, one.response_tokens, one.response_mask
        )
        seen = moved.whole()
        for name, logits in (("with the mask", model(*seen)), ("without the mask", model(seen[0]))):
            logits = before_actions(logits, padded.shape[1]) / TEMPERATURE
            totals[name].append(response_logprobs(logits, moved).sum().item())
for name, row in totals.items():
    print(f"{name:17}", [round(x, 3) for x in row])

# %%
fig, ax = plt.subplots(figsize=(7, 3), dpi=80)
for (name, row), style in zip(totals.items(), ("ko-", "s--")):
    ax.plot(range(9), row, style)
    ax.annotate(name, (1, row[1]), xytext=(0, -18), textcoords="offset points")
ax.set_ylim(-25, 3)
ax.set_xlabel("pads in front of the prompt")
ax.set_ylabel("log-probability\nof the response, nats")
plt.show()
for name, row in totals.items():
    print(f"change with 5 pads, {name:17} {round(row[5] - row[0], 3) + 0.0} nats")

# %% [markdown]
# *The picture in words: with the mask a flat line at -0.529 nats for 0 to 8 pads; without it a dashed line that begins there and then jumps about, down to
# about -21 nats, and once by accident close to the right value.*
#
# Prediction 3: by nothing, if the model is given the mask. Without it the pads are read like words, and all positions are shifted: the same response has
# 10.691 nats less with 5 pads.
#
# ## Dropout
#
# Dropout sets random entries of the hidden states to 0 while a model is in training mode. Each pass is then another model: what is sampled is not what is
# scored. The cell gives the same weights a dropout of 0.1, scores the samples in training mode, and asks the sampler to sample.

# %%
dropping = GPT(
    GPTConfig(
        vocab_size=tokenizer.vocab_size,
        context_length=32,
        n_layer=2,
        n_head=2,
        n_embd=16,
        dropout=0.1,
    )
)
dropping.load_state_dict(model.state_dict())
torch.manual_seed(4)  # dropout draws from torch's global generator
with torch.no_grad():
    logprobs = response_logprobs(response_logits(dropping.train(), batch, TEMPERATURE), batch)
ratios["dropout"] = (logprobs - sample_logprobs).exp()[mask]
try:
    sample_responses(
        dropping,
        prompt_tokens,
        prompt_mask,
        response_length=5,
        temperature=TEMPERATURE,
        generator=None,
        **ids,
    )
except ValueError as error:
    print("ValueError:", error)

# %% [markdown]
# All three cases in one figure: the ratios of the same tokens under the same weights, before any training.

# %%
fig, ax = plt.subplots(figsize=(7, 3), dpi=80)
names = {TEMPERATURE: "as sampled", 1.0: "temperature 1\ninstead of 0.5", "dropout": "dropout 0.1"}
for place, (key, name) in enumerate(names.items()):
    spread = ratios[key].quantile(torch.linspace(0, 1, 301))
    ax.plot(spread, torch.linspace(-0.2, 0.2, len(spread)) - place, "k.", markersize=3)
ax.set_yticks([0, -1, -2], names.values())
ax.set_xscale("log")
ax.set_xlabel("ratio exp(logprobs scored - logprobs sampled), should be 1; logarithmic scale")
plt.tight_layout()
plt.show()
for key, name in names.items():
    far = ((ratios[key] - 1).abs() > 0.2).float().mean().item()
    print(
        f"{name.replace(chr(10), ' '):28} ratios {ratios[key].min():.3f} to {ratios[key].max():.3f}, "
        f"further than 0.2 from 1: {100 * far:.1f} %"
    )

# %% [markdown]
# *The picture in words: three rows of dots, each in rising order of the ratio. As sampled, all stand at 1. At temperature 1 most stand a little below 1 and
# some at 2 to 14. With dropout they reach from far below a thousandth to above 30.*
#
# A quarter of the ratios is further than 0.2 from 1 in the two lower rows, and 0.2 is the usual clip range of PPO (notebook 11). A training that starts like
# this clips and corrects what nobody has changed. That is why minippo looks at the ratios of the first minibatch (`val/ratio_max_deviation_first`, P001 in
# docs/diagnostics.md).
#
# ## What would break this
#
# - **Two temperatures.** It is not noise that averages out. Training pushes up the log-probability of each sample in proportion to its reward (notebook
#   03). Give every response the same reward, 1, so that there is nothing to learn: the mean push on a logit at one position should be 0. The gradient of a
#   log-probability to the logits is one-hot minus softmax. So if words are drawn with softmax(logits / 0.5)
#   and scored with softmax(logits), the mean push is the difference of the two distributions. The cell prints it for the six words of the first figure: "ran"
#   would be pushed up for no reason.
# - **PAD equal to EOS.** A mask that is made by looking for pads then hides EOS, too. The sampler refuses it.
# - **Prompts padded on the right.** The logits at the last column would continue a pad. The sampler refuses that as well.

# %%
print("mean push under a constant reward:", [round(x, 3) for x in (sharp - plain)[top].tolist()])
right_padded = pad_right(
    [prompt_tokens[0].tolist(), prompt_tokens[0, :2].tolist()], tokenizer.pad_id
)
both_the_same = {"eos_id": tokenizer.eos_id, "pad_id": tokenizer.eos_id}
for prompts, special in (((prompt_tokens, prompt_mask), both_the_same), (right_padded, ids)):
    try:
        sample_responses(
            model,
            *prompts,
            response_length=5,
            temperature=1.0,
            generator=torch.Generator(),
            **special,
        )
    except ValueError as error:
        print("ValueError:", error)

# %% [markdown]
# The two prompts of the last example, padded on the left, are sampled together without trouble:

# %%
left_padded = pad_left([prompt_tokens[0].tolist(), prompt_tokens[0, :2].tolist()], tokenizer.pad_id)
answers, _, _ = sample_responses(
    model,
    *left_padded,
    response_length=6,
    temperature=TEMPERATURE,
    generator=torch.Generator().manual_seed(5),
    **ids,
)
for prompt, answer in zip(left_padded[0].tolist(), answers.tolist()):
    print([tokenizer.token_text(i) for i in prompt], "->", tokenizer.decode(answer))

# %% [markdown]
# ## Questions
#
# <details><summary>1. Why are responses sampled in training, and not decoded greedily (always the most likely token)?</summary>
#
# Greedy decoding is a policy, too: one that gives a single response probability 1. The project would then never see what any other response scores, and the
# log-probabilities of the softmax would not be those of the distribution in use. Training (notebook 03) learns from differences between the rewards of what
# was drawn.
# </details>
#
# <details><summary>2. The sampler records log-probabilities, and the same model computes them again in one pass over the whole text. Why keep both?</summary>
#
# They are computed in two ways (token by token with a cache, and all at once), and they have to agree up to rounding. A gap says that what is sampled is not
# what is scored, whatever the cause. minippo reports it as `sample/logp_gap` (P002 in docs/diagnostics.md). The ratios divide by the second, so that the
# rounding does not enter them.
# </details>
#
# <details><summary>3. Two responses have a mask of all True. Are they of the same kind?</summary>
#
# Not necessarily: one may end with EOS in the last slot, the other may have been cut off in the middle of a sentence. The mask does not tell them apart;
# whether there is an EOS among the tokens does (`ended` in minippo). The score of a text that was cut off is a separate decision: `no_eos_score`.
# </details>
#
# ## Exercise
#
# Write the function that makes the mask. `tokens` [B,T] are raw draws: the model went on in every row up to slot T, also after its EOS, so anything may stand
# there, another EOS included. Return the response mask [B,T]: True for every token of the response with its first EOS, False after it; a row without EOS is
# True throughout. A mask of bools or of 0 and 1 will do.


# %%
def my_response_mask(tokens, eos_id):
    raise NotImplementedError  # your code here


# %%
from minippo.exercises.response_mask import exercise

exercise.check(my_response_mask)

# %% [markdown]
# ## References
#
# - `minippo/rollout.py` (`sample_responses`, `before_actions`, the record of a rollout) and `minippo/gpt.py` (mask, positions, cache).
#   docs/stage-0-setting.md has the setting, docs/diagnostics.md the diagnostics P001, P002, P004 and P005.
# - Holtzman et al. 2020, *The Curious Case of Neural Text Degeneration*, arXiv:1904.09751: temperature, top-k and top-p, and what they do to a distribution.
# - Huang et al. 2024, *The N+ Implementation Details of RLHF with PPO: A Case Study on TL;DR Summarization*, arXiv:2403.17031: why EOS is not PAD and dropout
#   is off.
#
# Next: [03 The score-function gradient](03_score_function_gradient.ipynb).
