"""The figures of a run, and of several. Each function takes plain numbers and returns a matplotlib
Figure; none keeps any state.

They are made to be read without colour: what differs in colour differs in line or marker too, and a
name is beside its line wherever there is room. A title says what the figure shows, with the
numbers in it.

training.py   reward_and_kl, score_against_kl
responses.py  response_lengths, values_along_response
clip.py       clip_cases
comparison.py courses, of several settings over several seeds
overoptimisation.py  what a reward model says, and what it is worth, over the KL
reward.py     reward_calibration, reward_along_response
style.py      the palette and what else they share
"""

from minippo.runs.figures.clip import clip_cases
from minippo.runs.figures.comparison import courses
from minippo.runs.figures.overoptimisation import overoptimisation
from minippo.runs.figures.responses import response_lengths, values_along_response
from minippo.runs.figures.reward import reward_along_response, reward_calibration
from minippo.runs.figures.training import reward_and_kl, score_against_kl

__all__ = [
    "clip_cases",
    "courses",
    "overoptimisation",
    "response_lengths",
    "reward_along_response",
    "reward_and_kl",
    "reward_calibration",
    "score_against_kl",
    "values_along_response",
]
