"""Lengths of demonstrations and of the answers that people compared."""

from minippo.commands.lengths import lengths
from minippo.tasks.base import Task
from minippo.tokenizer import ByteTokenizer


class Recorded(Task):
    """Answers of these lengths in bytes."""

    tokenizer = ByteTokenizer()

    def __init__(self, demonstrations, chosen, rejected):
        self.lengths = demonstrations, chosen, rejected

    def fixed_demonstrations(self):
        return [("p", "x" * n) for n in self.lengths[0]]

    def recorded_preferences(self):
        _, chosen, rejected = self.lengths
        return [("p", "x" * a, "y" * b) for a, b in zip(chosen, rejected, strict=True)], []


def test_lengths_that_do_not_fit_are_told_with_their_medians():
    (line,) = lengths(Recorded([1, 9, 500], [19, 19], [9, 29]))  # EOS is one more
    assert "(median tokens: demonstrations 10, chosen answers 20, rejected answers 20)" in line


def test_lengths_that_fit_are_not():
    assert lengths(Recorded([9], [14], [14])) == ()  # 15 is not more than 1.5 times 10
    assert lengths(Recorded([9], [15], [14])) != ()
    assert lengths(Recorded([9], [9], [4])) != ()


def test_nothing_is_said_where_nobody_has_compared():
    assert lengths(Recorded([], [9], [90])) == () and lengths(Recorded([9], [], [])) == ()
    task = Recorded([9], [9], [90])
    task.recorded_preferences = lambda: None
    assert lengths(task) == ()
