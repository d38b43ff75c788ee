"""Files of a user's own, for the tests of what reads them."""

import shlex

from tests.tiny_runs import TINY

SUMS = """
from minippo.tasks import RuleTask

class Sums(RuleTask):
    best = 1.0
    words = False
    settings = {"response_length": 4}
    def prompts(self, split):
        return [f"{a}+1=" for a in (range(5) if split == "train" else range(5, 9))]
    def demonstrations(self):
        return [(prompt, "3") for prompt in self.prompts("train")]
    def rule(self, prompt, response):
        return 1.0 if response == "3" else 0.0

def length(prompt, response):
    return len(response)
"""
OF_A_MODEL = ("--preference_prompts", "--preference_heldout", "--reward_epochs")
OF_A_MODEL += ("--reward_batch_size",)
RULE = [word for i, word in enumerate(TINY) if TINY[i - i % 2] not in OF_A_MODEL]
OWN = [*RULE, *shlex.split("--task sums.py:Sums --reward rule --quiet")]


def changed(old="", new=""):
    """The file with one piece of it replaced."""
    assert SUMS.count(old) == 1 or not old
    return SUMS.replace(old, new) if old else SUMS + new
