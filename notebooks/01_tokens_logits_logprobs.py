# %% [markdown]
# # 01 Tokens, logits, log-probs
#
# **Goal:** from a text to the number that every formula of this project is made of, the
# log-probability of a token.
#
# Before you run anything, write down three predictions:
#
# 1. The model below is untrained and knows 10 tokens. About what log-probability does it give to a
#    token?
# 2. The logits at position 4 of a text: do they judge the token at position 4, or another one?
# 3. Seven pads are added at the end of a text. What happens to the sum of the log-probabilities of
#    its response, with a mask and without one?

# %%
import math

import torch
from plots import DARK, panels, show

from minippo.gpt import GPT, GPTConfig
from minippo.logprobs import token_logprobs
from minippo.tokenizer import WordTokenizer, pad_right

# %% [markdown]
# ## A text is a row of numbers
#
# A tokenizer gives each word a number, its id. Three ids are not words: PAD fills rows up to one
# length, BOS begins a text, and EOS ends it. A prompt is BOS and its words, a response is its words
# and EOS.

# %%
tokenizer = WordTokenizer(["the", "cat", "sat", "on", "a", "mat", "."])
prompt = [tokenizer.bos_id, *tokenizer.encode("the cat")]
responses = [[*tokenizer.encode(text), tokenizer.eos_id] for text in ("sat on a mat .", "sat .")]
print("prompt   ", prompt)
print("responses", responses)
print("vocabulary", tokenizer.vocab_size)

# %% [markdown]
# The two responses differ in length, and a tensor is a rectangle: the shorter one gets pads on the
# right. The mask says which slots are real. Shapes are written with letters: $B = 2$ rows,
# $P = 3$ prompt positions, $T = 6$ response slots, $S = P + T$ positions in all, and $V = 10$
# tokens in the vocabulary.

# %%
response_tokens, response_mask = pad_right(responses, tokenizer.pad_id)  # [B,T], [B,T]
prompts = torch.tensor([prompt, prompt])  # [B,P]
tokens = torch.cat((prompts, response_tokens), dim=1)  # [B,S]
print(tokens)
print(response_mask.int())

# %% [markdown]
# ## Logits: a row of numbers for what comes next
#
# The model reads the tokens up to position $i$ and gives one number for each token $v$ of the
# vocabulary, its logit $z_v$: how well that token would fit at position $i + 1$. Softmax turns the
# logits into probabilities, log-softmax into log-probabilities:
#
# $$
# p_v = \frac{e^{z_v}}{\sum_u e^{z_u}} , \qquad
# \log p_v = z_v - \log \sum_u e^{z_u} . \qquad (0.7)
# $$
#
# Logarithms are natural ones; their unit is the nat.

# %%
model = GPT(
    GPTConfig(vocab_size=tokenizer.vocab_size, context_length=16, n_layer=2, n_head=2, n_embd=16),
    generator=torch.Generator().manual_seed(0),
).eval()
with torch.no_grad():
    logits = model(tokens)  # [B,S,V]
total = logits[0, 2].softmax(dim=-1).sum().item()
print("logits", list(logits.shape))
print("sum of the probabilities at one position:", round(total, 6))

# %% [markdown]
# ## The shift
#
# Prediction 2: another one, the token at position 5. The first response token is at position
# $P = 3$, so it was chosen by the logits at position $P - 1 = 2$. The response needs the logits at
# positions $P - 1$ to $S - 2$:
#
# ```
# position       0    1    2    3    4    5    6    7    8
# token         BOS  the  cat  sat  on   a    mat  .    EOS
# asked about    -    -   sat  on   a    mat  .    EOS   -
#                         '---- positions P-1 to S-2 --'
# ```

# %%
P = prompts.shape[1]
response_logits = logits[:, P - 1 : -1]  # [B,T,V]
logprobs = token_logprobs(logits=response_logits, tokens=response_tokens)  # [B,T]
logprobs = torch.where(response_mask, logprobs, 0.0)
print(logprobs.round(decimals=2))
print("uniform would be", round(-math.log(tokenizer.vocab_size), 2))

# %% [markdown]
# Prediction 1: about -2.3, which is $-\log 10$: a tenth of the probability for each token. Random
# weights scatter around it.
#
# The figure shows every log-probability at the positions of the first response. The token that the
# text has there is in a box.

# %%
table = response_logits[0].log_softmax(dim=-1)  # [T,V]
figure, axes = panels(height=3.4)
image = axes.imshow(table.T, cmap="Greys", aspect="auto", vmin=-3.5, vmax=-1)
slots, chosen = range(len(table)), response_tokens[0].tolist()
axes.plot(slots, chosen, "s", markersize=24, fillstyle="none", color=DARK, markeredgewidth=2)
for t, column in enumerate(table.tolist()):
    for v, logprob in enumerate(column):
        colour = "white" if logprob > -1.9 else DARK
        axes.text(t, v, f"{logprob:.1f}", ha="center", va="center", color=colour, fontsize=7)
words = [tokenizer.token_text(i) for i in range(tokenizer.vocab_size)]
axes.set_yticks(range(tokenizer.vocab_size), words)
axes.set_xticks(slots, [f"slot {t}" for t in slots])
figure.colorbar(image, label="log-probability, nats")
show(
    figure,
    "Six columns, one per response slot, and ten rows, one per token. In each column a box marks"
    " the token that the response has there. The boxes are no darker than the rest; most of the"
    " dark fields belong to the token before, the one that the model has just read.",
)
just_read = table.gather(1, tokens[0, P - 1 : -1, None])[:, 0]
for name, row in (("chosen:    ", logprobs[0]), ("just read: ", just_read)):
    print(name, [round(x, 2) for x in row.tolist()])

# %% [markdown]
# The boxes are no darker than the rest, for the model has learned nothing yet. It has one
# inclination all the same: to repeat the token that it has just read. The weights are random, but
# the output layer compares with the same vectors that the input was looked up in (they are tied),
# and a vector is most like itself.
#
# ## A sequence's log-probability is a sum
#
# By the chain rule, the probability of a response $a_0 \dots a_{T-1}$ to the prompt $x$ is the
# product of the probabilities of its tokens, each given all that comes before it. Its logarithm is
# a sum over the real slots:
#
# $$
# \log \pi(a_0 \dots a_{T-1} \mid x) = \sum_{t} \log \pi(a_t \mid s_t) , \qquad
# s_t = (x, a_0, \dots, a_{t-1}) .
# $$
#
# Pads are not part of the response; with the mask they add exactly 0, however many there are.

# %%
print("log-probability of each response:", [round(x, 3) for x in logprobs.sum(dim=1).tolist()])
wider = torch.nn.functional.pad(tokens, (0, 7), value=tokenizer.pad_id)
with torch.no_grad():
    again = token_logprobs(logits=model(wider)[:, P - 1 : -1], tokens=wider[:, P:])
mask = torch.nn.functional.pad(response_mask, (0, 7))
for name, kept in (("mask:", mask), ("no mask:", torch.ones_like(mask))):
    sums = torch.where(kept, again, 0.0).sum(dim=1)
    print(f"with 7 more pads, {name:<14}", [round(x, 3) for x in sums.tolist()])

# %% [markdown]
# Prediction 3: nothing, with the mask. Without it every pad counts as a token, and the second
# response, which has more pads than words, falls from -9.394 to -29.197.
#
# ## What would break this
#
# - **Reading the logits at the token's own position.** The model has already seen the token there.
#   The numbers look harmless, and everything that is learned from them is wrong.
# - **Forgetting the mask.** For `gather` a pad is a token like any other, with a log-probability of
#   about -2. A long tail of pads then outweighs the text.
# - **`softmax(...).log()` instead of `log_softmax`.** In float32 a probability below 1e-45 becomes
#   0, and its logarithm minus infinity.

# %%
extreme = torch.tensor([[0.0, 200.0]])
print("log of softmax:", extreme.softmax(dim=-1).log()[0, 0].item())
print("log_softmax:   ", extreme.log_softmax(dim=-1)[0, 0].item())

# %% [markdown]
# ## Questions
#
# <details><summary>1. Why are there T columns of logits for T response tokens, although the model
# was given S = P + T positions?</summary>
#
# The positions of the prompt, all but the last, predict prompt tokens, which nobody chose; the last
# position of all predicts what would come after the text. That leaves $P - 1$ to $S - 2$: $T$ of
# them.
# </details>
#
# <details><summary>2. Can a log-probability be positive? Can a logit?</summary>
#
# A logit can have any value. A log-probability is the logarithm of a number in $(0, 1]$, so it is
# at most 0.
# </details>
#
# <details><summary>3. The first response has 6 tokens, the second 3. Which has the higher
# log-probability, and does that mean that it is the better text?</summary>
#
# The shorter one: it has fewer factors below 1. For texts of different lengths the log-probability
# is not a measure of quality.
# </details>
#
# ## Exercise
#
# Write the function that the cells above walked through. `logits` [B,S,V] and `tokens` [B,S] belong
# to prompt and response together, `response_mask` is [B,T]. Return the log-probabilities of the
# response's tokens, [B,T], exactly 0 where the mask is False, with the gradient to the logits
# intact. `torch` alone is enough.


# %%
def my_token_logprobs(logits, tokens, prompt_length, response_mask):
    raise NotImplementedError  # your code here


# %%
from minippo.exercises.token_logprobs import exercise

exercise.check(my_token_logprobs)

# %% [markdown]
# ## References
#
# - `minippo/logprobs.py`, `minippo/gpt.py`, and the picture of the alignment in docs/notation.md.
# - Radford et al. 2019, *Language Models are Unsupervised Multitask Learners*: the architecture of
#   the model.
#
# Next: [02 Sampling is the policy](02_sampling_is_the_policy.ipynb).
