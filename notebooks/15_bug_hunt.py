# %% [markdown]
# # 15 Bug hunt
#
# **Goal:** tell from curves and diagnostics which bug a training has, and find its line.
#
# Twelve trainings, A to L, each of this package with one planted bug. Most of the bugs were
# published by somebody: in tutorials, in libraries, in code of papers. The trainings were made
# with one command and are recorded in the package, so nothing is trained here.
#
# Before you run anything, write down three predictions:
#
# 1. In how many of the twelve will the score fall from its first update to its last?
# 2. Of the twelve, how many will be noticed by a diagnostic?
# 3. The critic was never given to the optimiser. In which curve do you expect to see that first?

# %%
import os

from plots import show

from minippo.classroom.museum import hunt
from minippo.classroom.museum.exhibits import HEALTHY, dashboard, exhibit, letters, said

FAST = bool(os.environ.get("MINIPPO_FAST"))
SEED = 0  # of the order of the letters; a class may take another

# %% [markdown]
# ## What healthy looks like
#
# The healthy run is behind every dashboard, dashed. Its first and last update:

# %%
first, *_, last = exhibit(HEALTHY).metrics
for name, value in first.items():
    print(f"{name:34}{value:9.4g} -> {last[name]:9.4g}")

# %% [markdown]
# Here is what can be guessed:

# %%
print("\n".join(hunt.names()))

# %% [markdown]
# ## A training with a bug
#
# Look at the diagnostics first, in the order of their codes: where one of the first fires, the
# later ones mean little (docs/diagnostics.md says what each watches, and where to look). Then
# look at what differs from the dashed line *at the first update*: a bug is there from the
# beginning, and only its consequences come later.


# %%
def see(letter):
    """The dashboard of a training, and what the diagnostics said."""
    show(dashboard(letter, SEED), f"Nine curves of training {letter}, over those of a healthy one.")
    print("\n".join(said(letter, SEED)))


see("A")

# %%
see("B")

# %%
see("C")

# %%
see("D")

# %% [markdown]
# The others are behind the same function, E to L: `see("E")`. The command
# `python -m minippo.classroom museum --out DIR` makes pictures of all of them.
#
# Write your guesses down, and have them checked. A wrong guess is answered with what that bug
# would have looked like, so the next one can be better.

# %%
guesses = {  # letter: name; for example "A": "value after the end"
}
hunt.check(guesses, SEED)

# %% [markdown]
# ## The predictions
#
# The scores of all twelve, and which diagnostics spoke, without the names:

# %%
falls, seen = 0, 0
for letter in letters(SEED):
    rows = exhibit(letters(SEED)[letter].name).metrics
    start, end = rows[0]["objective/scores"], rows[-1]["objective/scores"]
    codes = [finding.code for finding in exhibit(letters(SEED)[letter].name).findings]
    falls, seen = falls + (end < start), seen + bool(codes)
    print(f"{letter}  score {start:6.2f} -> {end:6.2f}   {' '.join(codes) or '-'}")
print(f"the score falls in {falls}, a diagnostic speaks in {seen} of {len(letters(SEED))}")

# %% [markdown]
# Predictions 1 and 2: the last line. Half of the trainings look like successes if one looks at
# the score alone. All twelve made some diagnostic speak, but in four of them it speaks of a
# consequence, or of something else: what points at the cause there is a test that knows the right
# number. That is why every formula of this package has a test with numbers worked out by hand.
#
# Prediction 3: the explained variance of the returns, and the value loss beside it. The score
# rises all the same, since the baseline is no part of what is maximised: a critic that learns
# nothing costs variance, and at the start it was copied from the reward model, so it is not even
# wrong.
#
# ## Find the line
#
# A bug is one line, sometimes two. This is the function that the bug of A is in, as it was run:

# %%
print(hunt.faulty_function("A", SEED))

# %% [markdown]
# Paste the wrong line. The answer says whether it is, and then shows the fix as a diff.

# %%
line = ""  # your line
print(hunt.check_line("A", line, SEED).message)

# %% [markdown]
# To run a bug yourself: `python -m minippo.classroom museum --plant NAME DIR` makes a copy of the
# package with it, and `PYTHONPATH=DIR python -m minippo.train_toy --preset quick` runs it from
# any other folder.
#
# ## What would break this
#
# - Looking at the score only: see above.
# - Trusting a diagnostic as a verdict. It says where a number is unusual. The same code is fired
#   by several bugs, and a real run may have two of them.
# - One seed. The recorded trainings have one; what is small against the noise of a seed cannot be
#   told from it by eye. Two runs with the same seed can be compared bit for bit, and that is how
#   the tests of the museum know that each bug changes the numbers.
#
# ## Questions
#
# <details><summary>1. With which of these bugs is the KL that the run reports not the KL of the
# policy that it trains?</summary>
#
# With "reference off by one" and "another temperature": the log-probabilities themselves are not
# those that the tokens were drawn with. With the sign turned the KL is reported rightly, and paid
# for.
# </details>
#
# <details><summary>2. "Old policy is the present one" makes every ratio 1. What has become of
# PPO?</summary>
#
# The policy gradient, several times on one batch, with nothing that says how far the policy has
# gone from the one that sampled. The clip can't act.
# </details>
#
# <details><summary>3. Why does a reward model that is read at the first token still have an
# accuracy of one half, and not of zero?</summary>
#
# Both responses stand behind the same beginning, so both get one score; equal scores count half.
# </details>
#
# ## Exercise
#
# Write the diagnostic that sees the ratio to the wrong policy: of a minibatch to which nothing
# has been done yet, the largest distance of a ratio from 1,
#
# $$
# \max_t \left| \frac{\pi_\theta(a_t \mid s_t)}{\pi_{\text{old}}(a_t \mid s_t)} - 1 \right| .
# $$
#
# `logprobs` and `old_logprobs` are [B,T], `response_mask` is [B,T] bool; the padding holds any
# numbers. Return a scalar, the maximum over the True tokens.


# %%
def my_first_ratio(logprobs, old_logprobs, response_mask):
    raise NotImplementedError  # your code here


# %%
from minippo.exercises.first_ratio import exercise

exercise.check(my_first_ratio)

# %% [markdown]
# ## References
#
# - Engstrom et al. 2020, *Implementation Matters in Deep Policy Gradients*, arXiv:2005.12729.
# - Huang et al. 2024, *The N+ Implementation Details of RLHF with PPO*, arXiv:2403.17031.
# - docs/errata.md has whose the bugs were, with the test that shows each; docs/diagnostics.md.
#
# Next: [16 Over-optimisation](16_over_optimisation.ipynb).
