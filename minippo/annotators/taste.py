"""Annotators with a taste: one opinion of what a response is worth, right or biased.

gold       the task's rule, and nothing else
length     the rule, and something for every token: longer looks better
confident  claims, right or wrong: who says more seems to know more
"""

from random import Random

from torch import Tensor

from minippo.annotators.base import Annotator, AnnotatorConfig, Shown
from minippo.tasks.base import Task


def gold_worth(shown: Shown, config: AnnotatorConfig) -> Tensor:
    """The gold score, [1,N,K]."""
    return shown.gold.unsqueeze(0)


def length_worth(shown: Shown, config: AnnotatorConfig) -> Tensor:
    """The gold score plus annotator_length_bias for each token, EOS included, [1,N,K]."""
    return (shown.gold + config.annotator_length_bias * shown.lengths).unsqueeze(0)


def confident_worth(shown: Shown, config: AnnotatorConfig) -> Tensor:
    """(1 - b) gold + b times the number of claims, b = annotator_claim_bias, [1,N,K]. With b = 1
    what is true does not matter at all."""
    claims = shown.table(lambda prompt, response: len(shown.task.claims(prompt, response) or ()))
    bias = config.annotator_claim_bias
    return ((1 - bias) * shown.gold + bias * claims).unsqueeze(0)


def knows_no_claims(task: Task, config: AnnotatorConfig) -> str | None:
    """Why the confident annotator cannot work for this task."""
    (prompt,) = task.training_prompts(1, rng=Random(0))
    if task.claims(prompt, "") is None:
        return f"the task {task.name} does not say what a claim is"
    return None


GOLD = Annotator("gold", "the task's own rule, with some doubt", gold_worth)
LENGTH = Annotator(
    "length", "the rule, and longer looks better", length_worth, fields=("annotator_length_bias",)
)
CONFIDENT = Annotator(
    "confident",
    "who claims more seems to know more, right or wrong",
    confident_worth,
    fields=("annotator_claim_bias",),
    refuses=knows_no_claims,
)
