"""Hypothesis draws the same examples in every run, so that a red test is red again the next
time."""

from hypothesis import settings

settings.register_profile(
    "minippo", derandomize=True, deadline=None, max_examples=50, database=None
)
settings.load_profile("minippo")
