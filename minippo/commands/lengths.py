"""How long demonstrations are, and how long the answers that people compared.

The fine-tuned model answers as long as its demonstrations are. Where the answers of the preferences
are much longer or shorter, the reward model has learned from lengths that the policy does not begin
with, and length is an easy thing to tell two answers apart by.
"""

from collections.abc import Sequence
from statistics import median

from minippo.tasks.base import Task

APART = 1.5  # a median so many times another is told


def lengths(task: Task) -> tuple[str, ...]:
    """A line for the screen where the lengths of demonstrations and of compared answers do not fit
    each other, and none where they do, or where no people have compared."""
    recorded, demonstrations = task.recorded_preferences(), task.fixed_demonstrations()
    if recorded is None or not recorded[0] or not demonstrations:
        return ()
    found = {
        "demonstrations": tokens_of(task, [answer for _, answer in demonstrations]),
        "chosen answers": tokens_of(task, [chosen for _, chosen, _ in recorded[0]]),
        "rejected answers": tokens_of(task, [rejected for _, _, rejected in recorded[0]]),
    }
    smallest, largest = min(found.values()), max(found.values())
    if largest <= APART * smallest:
        return ()
    shown = ", ".join(f"{name} {number:g}" for name, number in found.items())
    return (
        f"lengths do not fit each other (median tokens: {shown}): fine-tuning teaches one length, "
        "and the reward model judges by answers of another",
    )


def tokens_of(task: Task, answers: Sequence[str]) -> float:
    """The median number of tokens, EOS included."""
    return median(len(task.response_ids(answer)) for answer in answers)
