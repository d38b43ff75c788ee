# %% [markdown]
# # 01 Tokens, logits, log-probs
#
# **Goal:** from a text to the number that every formula of this project is made of, the log-probability of a token.
#
# Before you run anything, write down three predictions:
#
# 1. The model below is untrained and knows 10 tokens. About what log-probability does it give to a token?
# 2. The logits at position 4 of a text: do they judge the token at position 4, or another one?
# 3. A text is filled up with 7 pads behind its end. What happens to the sum of the log-probabilities of its response, with a mask and without one?

# %%
import matplotlib.pyplot as plt
import torch

from minippo.gpt import GPT, GPTConfig
from minippo.logprobs import token_logprobs
from minippo.tokenizer import WordTokenizer, pad_right

# %% [markdown]
# ## A text is a row of numbers
#
# A tokenizer gives each word a number. Three numbers are not words: PAD fills rows up to one length, BOS begins a text, EOS ends it. They
# are three different ids. A prompt is BOS and its words, a response is its words and EOS.

# %%
tokenizer = WordTokenizer("the cat sat on a mat .".split())
prompt = [tokenizer.bos_id, *tokenizer.encode("the cat")]
responses = [[*tokenizer.encode(text), tokenizer.eos_id] for text in ("sat on a mat .", "sat .")]
print("prompt   ", prompt)
print("responses", responses)
print("vocabulary", tokenizer.vocab_size)

# %% [markdown]
# Two responses have two lengths, and a tensor is a rectangle: the shorter one gets pads on the right. The mask says which slots are real. Shapes are
# written with letters: B = 2 rows, P = 3 prompt positions, T = 6 response slots, S = P + T positions in all, and V = 10 tokens in the vocabulary.

# %%
response_tokens, response_mask = pad_right(responses, tokenizer.pad_id)  # [B,T], [B,T]
prompts = torch.tensor([prompt, prompt])  # [B,P]
tokens = torch.cat((prompts, response_tokens), dim=1)  # [B,S]
print(tokens)
print(response_mask.int())

# %% [markdown]
# ## Logits: a row of scores for what comes next
#
# The model reads the tokens up to position i and gives one score for each token of the vocabulary: its opinion on what stands at position **i + 1**. Softmax makes
# probabilities of them, log-softmax log-probabilities (equation 0.7 of docs/equations.md). Logarithms are natural ones; their unit is the nat.

# %%
model = GPT(
    GPTConfig(vocab_size=tokenizer.vocab_size, context_length=16, n_layer=2, n_head=2, n_embd=16),
    generator=torch.Generator().manual_seed(0),
).eval()
with torch.no_grad():
    logits = model(tokens)  # [B,S,V]
print("logits", list(logits.shape))
print(
    "sum of the probabilities at one position:", round(logits[0, 2].softmax(dim=-1).sum().item(), 6)
)

# %% [markdown]
# ## The shift
#
# Prediction 2: another one, the token at position 5. The first response token stands at position P = 3, so it was chosen by the logits at position P - 1 = 2. The response needs the logits at positions P-1 to S-2.

# %%
P = prompts.shape[1]
response_logits = logits[:, P - 1 : -1]  # [B,T,V]
logprobs = token_logprobs(logits=response_logits, tokens=response_tokens)  # [B,T]
logprobs = torch.where(response_mask, logprobs, 0.0)
print(logprobs.round(decimals=2))
print("uniform would be", round(-torch.tensor(float(tokenizer.vocab_size)).log().item(), 2))

# %% [markdown]
# Prediction 1: about -2.3, which is -log 10, a tenth of the probability for each token. Random weights scatter around it.
#
# The figure shows every log-probability at the first response's positions, and in a box the one that the text chose.

# %%
table = response_logits[0].log_softmax(dim=-1)  # [T,V]
fig, ax = plt.subplots(figsize=(7, 3.2), dpi=80)
image = ax.imshow(table.T, cmap="viridis", aspect="auto")
for t, token in enumerate(response_tokens[0].tolist()):
    ax.add_patch(
        plt.Rectangle((t - 0.5, token - 0.5), 1, 1, fill=False, edgecolor="white", linewidth=2)
    )
ax.set_yticks(
    range(tokenizer.vocab_size), [tokenizer.token_text(i) for i in range(tokenizer.vocab_size)]
)
ax.set_xticks(range(table.shape[0]), [f"slot {t}" for t in range(table.shape[0])])
fig.colorbar(image, label="log-probability, nats")
plt.show()
print("chosen:", [round(x, 2) for x in logprobs[0].tolist()])

# %% [markdown]
# *The picture in words: six columns, one per response slot, and ten rows, one per token; a white box in each column marks the token that the response has there. The
# colours have no pattern: the model is untrained, and the boxes are no brighter than the rest.*
#
# ## A sequence's log-probability is a sum
#
# The chain rule: the probability of a response is the product of the probabilities of its tokens, each given all before it. Its logarithm is a sum over the real slots. Pads
# are not part of the response; with the mask they add exactly 0, however many there are.

# %%
print("log-probability of each response:", [round(x, 3) for x in logprobs.sum(dim=1).tolist()])
wider = torch.nn.functional.pad(tokens, (0, 7), value=tokenizer.pad_id)
with torch.no_grad():
    again = token_logprobs(logits=model(wider)[:, P - 1 : -1], tokens=wider[:, P:])
mask = torch.nn.functional.pad(response_mask, (0, 7))
for name, kept in (
    ("with 7 more pads, mask:   ", mask),
    ("with 7 more pads, no mask:", mask | True),
):
    sums = torch.where(kept, again, 0.0).sum(dim=1)
    print(f"{name:32}", [round(x, 3) for x in sums.tolist()])

# %% [markdown]
# Prediction 3: with the mask nothing. Without it every pad counts as a token, and the second response, which has more pads than words, falls from
# -9.394 to -29.197.
#
# ## What would break this
#
# - Reading the logits at the token's own position: the model has already seen the token there. The numbers look harmless, and everything that is learned from them is wrong.
# - Forgetting the mask: pads are tokens for `gather`, and their log-probabilities are around -2 each. A long pad tail then outweighs the text.
# - `softmax(...).log()` instead of `log_softmax`: in float32 a probability below 1e-45 becomes 0, and its logarithm minus infinity.

# %%
extreme = torch.tensor([[0.0, 200.0]])
print("log of softmax:", extreme.softmax(dim=-1).log()[0, 0].item())
print("log_softmax:   ", extreme.log_softmax(dim=-1)[0, 0].item())

# %% [markdown]
# ## Questions
#
# <details><summary>1. Why are there T columns of logits for T response tokens, although the model was given S = P + T positions?</summary>
#
# The prompt's positions before the last predict prompt tokens, which nobody chose; the last position predicts what would come after the text. Left are P-1 to S-2: T of them.
# </details>
#
# <details><summary>2. Can a log-probability be positive? Can a logit?</summary>
#
# A logit can have any value. A log-probability is the logarithm of a number in (0, 1], at most 0.
# </details>
#
# <details><summary>3. The first response has 6 tokens, the second 3. Which has the higher log-probability, and does that mean that it is the better text?</summary>
#
# The shorter: fewer factors below 1. Log-probabilities of texts of different lengths are not a measure of quality.
# </details>
#
# ## Exercise
#
# Write the function that the cells above walked through. `logits` [B,S,V] and `tokens` [B,S] belong to prompt and response together, `response_mask` is [B,T]. Return the
# log-probabilities of the response's tokens, [B,T], exactly 0 where the mask is False, with the gradient to the logits intact. `torch` alone is enough.


# %%
def my_token_logprobs(logits, tokens, prompt_length, response_mask):
    raise NotImplementedError  # your code here


# %%
from minippo.exercises.token_logprobs import exercise

exercise.check(my_token_logprobs)

# %% [markdown]
# ## References
#
# - `minippo/logprobs.py`, and the picture of the alignment in docs/notation.md.
# - Radford et al. 2019, *Language Models are Unsupervised Multitask Learners*: the model's architecture.
#
# Next: [02 Sampling is the policy](02_sampling_is_the_policy.ipynb).
