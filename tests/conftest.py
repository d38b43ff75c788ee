"""Hypothesis draws the same examples in every run, so that a red test is red again the next
time."""

from hypothesis import settings

settings.register_profile(
    "minippo", derandomize=True, deadline=None, max_examples=50, database=None
)
settings.load_profile("minippo")

# Not yet brought to the layout of 0.2.0; each comes back with the part that it is about.
collect_ignore = [
    "test_notebooks.py",  # notebooks 00 to 06 and 11 to 13 call the old modules
]
