# %% [markdown]
# # 02 Sampling is the policy
#
# **Goal:** to see that the policy is the distribution that the tokens are drawn from, and that
# every log-probability used later has to be one of that distribution.
#
# Before you run anything, write down three predictions:
#
# 1. A model writes responses at temperature 0.5, and the same model scores them at temperature 1.
#    Nothing is trained in between. The mean of (log-probability when sampled - log-probability
#    when scored) measures how far apart two distributions are, the KL divergence. Is it 0, above 0
#    or below 0 here?
# 2. A model has answered "sat .", then EOS, in a tensor with 5 slots. How many of the 5 slots are
#    True in the response mask?
# 3. The same prompt and response are scored twice, the second time with 5 pads in front. By how
#    much does the log-probability of the response change?

# %%
import torch
from plots import BLUE, DARK, ORANGE, PALE, name_line, panels, show

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
# Samples of an untrained model are noise. Forty steps of ordinary next-token training on a few
# sentences give one that writes short sentences of several lengths.

# %%
words = ["the", "a", "cat", "dog", "sat", "ran", "ate", "slept", "on", "mat", "."]
tokenizer = WordTokenizer(words)
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
    logprobs = token_logprobs(logits=model(texts)[:, :-1], tokens=texts[:, 1:])
    loss = -logprobs[text_mask[:, 1:]].mean()
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
model = model.eval()
print("loss per token after 40 steps:", round(loss.item(), 2), "nats")

# %% [markdown]
# ## Temperature makes another distribution
#
# The sampler divides the logits $z$ by the temperature before the softmax:
#
# $$
# \pi(v \mid s) = \text{softmax} \left( \frac{z}{\text{temperature}} \right)_v .
# $$
#
# A temperature below 1 favours what is likely already; above 1 it flattens. The cell draws the word
# after "the dog" 4000 times at temperature 0.5 and compares the frequencies with two candidates,
# softmax(logits) and softmax(logits / 0.5).

# %%
TEMPERATURE = 0.5
prompt_tokens = torch.tensor([[tokenizer.bos_id, *tokenizer.encode("the dog")]])  # [1,P]
prompt_mask = torch.ones_like(prompt_tokens, dtype=torch.bool)
ids = {"eos_id": tokenizer.eos_id, "pad_id": tokenizer.pad_id}
drawn, _, _ = sample_responses(
    model,
    prompt_tokens.expand(4000, -1),
    prompt_mask.expand(4000, -1),
    response_length=1,
    temperature=TEMPERATURE,
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
figure, axes = panels()
axes.bar(range(6), frequencies[top], color=PALE, edgecolor=DARK)
axes.plot(range(6), sharp[top], "x", color=DARK, markersize=10)
axes.plot(range(6), plain[top], "o", color=BLUE, markersize=10, fillstyle="none")
axes.text(0.5, sharp[top[0]], "× softmax(logits / 0.5); bars: share of 4000 draws", va="center")
axes.text(0.5, plain[top[0]], "○ softmax(logits)", color=BLUE, va="center")
axes.set_xticks(range(6), [tokenizer.token_text(i) for i in top.tolist()])
axes.set(xlabel="word after 'the dog'", ylabel="probability")
show(
    figure,
    "Bars for six words, the shares of the drawn words. They end at the crosses of softmax(logits /"
    " 0.5). The circles of softmax(logits) are far below the first bar, 0.434 against 0.632, and"
    " above the third and the fourth.",
)
for name, row in (("drawn", frequencies), ("logits / 0.5", sharp), ("logits", plain)):
    print(f"{name:13}", [round(x, 3) for x in row[top].tolist()])

# %% [markdown]
# So "the policy" is not the network alone. It is the network together with everything between the
# logits and the draw: the temperature, and, where there is one, a filter that drops unlikely tokens
# (top-k, top-p; this sampler has none).
#
# ## The log-probabilities that come with a sample
#
# `sample_responses` returns three tensors: the tokens, the response mask, and the log-probability
# of each token under the distribution that it was drawn from. The cell draws 1000 responses and
# shows three.

# %%
tokens, mask, sample_logprobs = sample_responses(
    model,
    prompt_tokens.expand(1000, -1),
    prompt_mask.expand(1000, -1),
    response_length=5,
    temperature=TEMPERATURE,
    generator=torch.Generator().manual_seed(36),
    **ids,
)
for row in range(3):
    print([tokenizer.token_text(i) for i in tokens[row].tolist()])
    numbers = [round(x, 2) for x in sample_logprobs[row].tolist()]
    print("   mask", mask[row].int().tolist(), " logprobs", numbers)

# %% [markdown]
# Training reads the whole text again in one pass and compares with what was recorded. What it needs
# is the ratio of a token,
#
# $$
# \rho_t = \frac{\pi_\theta(a_t \mid s_t)}{\pi_{\text{old}}(a_t \mid s_t)}
# = e^{\log \pi_\theta(a_t \mid s_t) - \log \pi_{\text{old}}(a_t \mid s_t)} , \qquad (0.9)
# $$
#
# and before the first training step it has to be 1. Here the same weights score the samples twice,
# once at the sampler's temperature and once at 1. `Responses` holds prompts and responses with
# their masks. `response_logits` runs the model over both, divides by the temperature and keeps the
# logits that choose the tokens of the response (the shift of notebook 01); `response_logprobs`
# looks the tokens up.

# %%
batch = Responses(
    prompt_tokens.expand(len(tokens), -1), prompt_mask.expand(len(tokens), -1), tokens, mask
)


@torch.no_grad()
def rescored(model, temperature):  # [B,T]
    return response_logprobs(response_logits(model, batch, temperature), batch)


ratios = {}
for temperature in (TEMPERATURE, 1.0):
    logprobs = rescored(model, temperature)
    difference = (sample_logprobs - logprobs).sum(dim=1).mean().item()
    ratios[temperature] = (logprobs - sample_logprobs).exp()[mask]
    low, high = ratios[temperature].aminmax()
    print(f"scored at {temperature}: ratios {low:.3f} to {high:.3f},", end=" ")
    print(f"'KL' of the model from itself {round(difference, 3) + 0.0} nats per response")

# %% [markdown]
# Prediction 1: above 0. At the sampler's temperature the ratios are 1 and the estimate is 0. At the
# other one it says that the model is 0.228 nats away from itself, because it measures the KL
# between two distributions, the one that drew and the one that scored; and some ratios are near 14,
# although nothing has been learned.
#
# ## EOS is a choice, what comes after it is not
#
# A response ends when the model chooses EOS. That choice has a probability like that of every other
# token and is part of the response; it is how a policy learns when to stop. The slots after it hold
# pads that nobody chose. A response that never chooses EOS is cut off by the end of the tensor, and
# then all its slots are real.

# %%
at_eos = tokens == tokenizer.eos_id
for length, count in enumerate(mask.sum(dim=1).bincount().tolist()):
    if count:
        print(f"responses with {length} True slots: {count}")
print("responses with an EOS:", at_eos.any(dim=1).sum().item(), end="   ")
print("EOS slots that are True:", (at_eos & mask).sum().item())

# %% [markdown]
# That EOS counts can be checked by a sum: the probabilities of all responses that a policy can give
# add up to 1. `World` lists them all for 3 tokens and at most 3 steps (token 0 is EOS; notebook 03
# works in such a world), and `TabularPolicy` is a table of random logits. N is the number of
# responses. The first argument says what a response is worth, which does not matter here.

# %%
world = World(lambda prompt, response: 0.0, vocab_size=3, response_length=3)
table = TabularPolicy(world, generator=torch.Generator().manual_seed(3))
chosen = world.logprobs(table().detach())  # [N,T]
without_eos = torch.where(world.response_tokens == 0, 0.0, chosen)
for name, logprobs in (("with EOS", chosen), ("without EOS", without_eos)):
    total = logprobs.sum(dim=1).exp().sum().item()
    print(f"{name:12} the {len(logprobs)} probabilities add up to {total:.3f}")

# %% [markdown]
# Prediction 2: three. "sat .", EOS has 3 True slots, EOS among them, and the two pads behind it are
# False. Without the log-probability of EOS the sum is 2.723, and the numbers are not probabilities.
# The responses with 5 True slots are those that had no room for their EOS.
#
# ## Left padding
#
# Prompts have different lengths, and the sampler wants all of them to end at the last column, so
# that the next token of every row is chosen at the same place. So prompts are padded on the left,
# and responses on the right. A pad must not be read and must not count as a position: given the
# mask, `GPT` sees to both. The cell puts 0 to 8 pads in front of one text and scores it with and
# without the mask (`before_actions` is the shift of notebook 01: it keeps the logits that choose
# the tokens of the response).

# %%
one = Responses(*(x[:1] for x in (prompt_tokens, prompt_mask, tokens, mask)))
totals = {"with the mask": [], "without the mask": []}
for pads in range(9):
    padded = torch.nn.functional.pad(one.prompt_tokens, (pads, 0), value=tokenizer.pad_id)
    moved = Responses(padded, padded != tokenizer.pad_id, one.response_tokens, one.response_mask)
    seen = moved.whole()  # tokens, mask
    for name, given in (("with the mask", seen), ("without the mask", seen[:1])):
        with torch.no_grad():
            logits = before_actions(model(*given), padded.shape[1]) / TEMPERATURE
            totals[name].append(response_logprobs(logits, moved).sum().item())
for name, row in totals.items():
    print(f"{name:17}", [round(x, 3) for x in row])

# %%
figure, axes = panels(height=2.8)
for (name, row), colour, look in zip(totals.items(), (DARK, ORANGE), ("o-", "s--")):
    axes.plot(range(9), row, look, color=colour)
    name_line(axes, 8.1, row[8], name, colour)
axes.set(xlabel="pads in front of the prompt", xlim=(-0.3, 10.3), ylim=(-25, 3))
axes.set_ylabel("log-probability\nof the response, nats")
show(
    figure,
    "With the mask a flat line at -0.529 nats for 0 to 8 pads. Without it a dashed line that begins"
    " at the same point and then jumps about, down to about -21 nats, and once by accident close to"
    " the right value.",
)
for name, row in totals.items():
    print(f"change with 5 pads, {name:17} {round(row[5] - row[0], 3) + 0.0} nats")

# %% [markdown]
# Prediction 3: not at all, if the model is given the mask. Without it the pads are read like words,
# and all positions are shifted: with 5 pads the same response has 10.691 nats less.
#
# ## Dropout
#
# While a model is in training mode, dropout sets random entries of the hidden states to 0. Each
# pass is then another model: what is sampled is not what is scored. The cell gives the same weights
# a dropout of 0.1, scores the samples in training mode, and asks the sampler to sample.

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
logprobs = rescored(dropping.train(), TEMPERATURE)
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
# All three cases in one figure: the ratios of the same tokens under the same weights, before any
# training.

# %%
figure, axes = panels(height=2.6)
names = {TEMPERATURE: "as sampled", 1.0: "temperature 1\ninstead of 0.5", "dropout": "dropout 0.1"}
for place, key in enumerate(names):
    spread = ratios[key].quantile(torch.linspace(0, 1, 301))
    heights = torch.linspace(-0.2, 0.2, len(spread)) - place
    axes.plot(spread, heights, ".", color=DARK, markersize=3)
axes.axvline(1, color=PALE, zorder=0)
axes.set_yticks([0, -1, -2], names.values())
axes.set(xscale="log", xlabel="ratio, on a logarithmic scale; it should be 1")
show(
    figure,
    "Three rows of dots, each in rising order of the ratio. As sampled, all are at 1. At"
    " temperature 1 most are a little below 1 and some at 2 to 14. With dropout they reach from far"
    " below a thousandth to above 30.",
)
for key, name in names.items():
    one_line, found = name.replace("\n", " "), ratios[key]
    far = ((found - 1).abs() > 0.2).float().mean().item()
    print(f"{one_line:28} ratios {found.min():.3f} to {found.max():.3f},", end=" ")
    print(f"further than 0.2 from 1: {100 * far:.1f} %")

# %% [markdown]
# In the two lower rows a quarter of the ratios is further than 0.2 from 1, and 0.2 is the usual
# clip range of PPO (notebook 11). A training that starts like this clips and corrects what nobody
# has changed. That is why minippo looks at the ratios of the first minibatch
# (`val/ratio_max_deviation_first`, P001 in docs/diagnostics.md).
#
# ## What would break this
#
# - **Two temperatures.** This is not noise that averages out. Training pushes up the
#   log-probability of each sample in proportion to its reward (notebook 03). Give every response
#   the same reward, 1, so that there is nothing to learn: the mean push on a logit at one position
#   should be 0. The gradient of a log-probability with respect to the logits is one-hot minus
#   softmax. So if words are drawn with softmax(logits / 0.5) and scored with softmax(logits), the
#   mean push is the difference of the two distributions. The cell prints it for the six words of
#   the first figure: "ran" would be pushed up for no reason.
# - **PAD equal to EOS.** A mask that is made by looking for pads then hides EOS, too. The sampler
#   refuses it.
# - **Prompts padded on the right.** The logits at the last column would continue a pad. The sampler
#   refuses that as well.

# %%
print("mean push under a constant reward:", [round(x, 3) for x in (sharp - plain)[top].tolist()])
prompts = [prompt_tokens[0].tolist(), prompt_tokens[0, :2].tolist()]
both_the_same = {"eos_id": tokenizer.eos_id, "pad_id": tokenizer.eos_id}
wrong = (((prompt_tokens, prompt_mask), both_the_same), (pad_right(prompts, tokenizer.pad_id), ids))
for padded_prompts, special in wrong:
    try:
        sample_responses(
            model,
            *padded_prompts,
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
left_padded = pad_left(prompts, tokenizer.pad_id)
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
# <details><summary>1. Why are responses sampled in training, and not decoded greedily (always the
# most likely token)?</summary>
#
# Greedy decoding is a policy, too: one that gives a single response probability 1. Training would
# then never see what any other response scores, and the log-probabilities of the softmax would not
# be those of the distribution in use. Training (notebook 03) learns from differences between the
# rewards of what was drawn.
# </details>
#
# <details><summary>2. The sampler records log-probabilities, and the same model computes them again
# in one pass over the whole text. Why keep both?</summary>
#
# They are computed in two ways (token by token with a cache, and all at once), and they have to
# agree up to rounding. A gap says that what is sampled is not what is scored, whatever the cause.
# minippo reports it as `sample/logp_gap` (P002 in docs/diagnostics.md). The ratios divide by the
# second, so that the rounding does not enter them.
# </details>
#
# <details><summary>3. The masks of two responses are True in every slot. Are the two of the same
# kind?</summary>
#
# Not necessarily: one may end with EOS in the last slot, the other may have been cut off in the
# middle of a sentence. The mask does not tell them apart; whether there is an EOS among the tokens
# does (`ended` in minippo). How to score a text that was cut off is a separate decision:
# `no_eos_score`.
# </details>
#
# ## Exercise
#
# Write the function that makes the mask. `tokens` [B,T] are raw draws: in every row the model went
# on up to slot T, also after its EOS, so anything may be there, another EOS included. Return the
# response mask [B,T]: True for every token of the response, its first EOS included, and False after
# it; a row without EOS is True throughout. A mask of bools or of 0 and 1 will do.


# %%
def my_response_mask(tokens, eos_id):
    raise NotImplementedError  # your code here


# %%
from minippo.exercises.response_mask import exercise

exercise.check(my_response_mask)

# %% [markdown]
# ## References
#
# - `minippo/rollout.py` (`sample_responses`, `before_actions`, the record of a rollout) and
#   `minippo/gpt.py` (mask, positions, cache). docs/stage-0-setting.md has the setting,
#   docs/diagnostics.md the diagnostics P001, P002, P004 and P005.
# - Holtzman et al. 2020, *The Curious Case of Neural Text Degeneration*, arXiv:1904.09751:
#   temperature, top-k and top-p, and what they do to a distribution.
# - Huang et al. 2024, *The N+ Implementation Details of RLHF with PPO: A Case Study on TL;DR
#   Summarization*, arXiv:2403.17031: why EOS is not PAD and dropout is off.
#
# Next: [03 The score-function gradient](03_score_function_gradient.ipynb).
