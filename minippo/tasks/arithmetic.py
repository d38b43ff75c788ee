"""Sums with one right answer, and a rule that knows it: "3 7 + 4 5 =", answered with "8 2".

Two numbers of two digits, digit by digit. The rule reads the sum and the answer, gives 1 for the
right one and 0 for everything else, and says nothing about how near an answer is. So this is the
task for --reward rule: what can be checked needs no model of what people prefer.

The problems are split once and for all, whatever the seed: held-out problems are in no text of any
stage, and a + b is on the side of b + a. The pretraining text adds rightly. The demonstrations are
by somebody in a hurry, who gets the carry wrong, slips by one or stops early more often than not,
and so does the fine-tuned model.
"""

from random import Random

from minippo.tasks.base import Example, Segment, Task
from minippo.tokenizer import WordTokenizer

SMALLEST, LARGEST = 10, 99
HELDOUT_SHARE = 0.2
RIGHT, CARRY, SLIP = 0.2, 0.38, 0.28  # of the demonstrations; the rest stop early
SPLIT = 20260  # the seed of the split, the same in every run


class Arithmetic(Task):
    """Sums of two numbers from 10 to 99. Gold: 1 for exactly the right digits, 0 for all else.

    `problems`: how many there are to train on, in every stage; None: all that are not held out.
    """

    name = "arithmetic"
    document_length = 11
    prompt_length = 7
    gold_max = 1.0

    def __init__(self, problems: int | None = None) -> None:
        training, self.heldout = split_problems()
        self.problems = training[:problems]
        self.amounts = {"prompt": len(self.problems)}
        self.tokenizer = WordTokenizer([*"0123456789+="])

    def pretraining_examples(self, n: int, *, step: int, rng: Random) -> list[Example]:
        """Right sums of training problems."""
        return [
            self.document([Segment(question(*pair), False), Segment(spelled(sum(pair)), True)])
            for pair in rng.choices(self.problems, k=n)
        ]

    def demonstrations(self, n: int, *, rng: Random) -> list[tuple[str, str]]:
        return [(question(*pair), careless(*pair, rng)) for pair in rng.choices(self.problems, k=n)]

    def training_prompts(self, n: int, *, rng: Random) -> list[str]:
        return [question(*pair) for pair in rng.choices(self.problems, k=n)]

    def evaluation_prompts(self, n: int, *, rng: Random) -> list[str]:
        return [question(*pair) for pair in rng.sample(self.heldout, min(n, len(self.heldout)))]

    def fixed_prompts(self) -> list[str]:
        return [question(*pair) for pair in self.problems]

    def gold_axes(self, prompt: str, response: str) -> dict[str, float]:
        return {"correctness": 1.0 if response == spelled(sum(numbers_in(prompt))) else 0.0}


def split_problems() -> tuple[list[tuple[int, int]], list[tuple[int, int]]]:
    """(training, held-out) problems, in an order that is the same in every run."""
    numbers = range(SMALLEST, LARGEST + 1)
    unordered = [(a, b) for a in numbers for b in numbers if a <= b]
    Random(SPLIT).shuffle(unordered)
    border = round(HELDOUT_SHARE * len(unordered))
    heldout, training = (
        [pair for a, b in part for pair in dict.fromkeys(((a, b), (b, a)))]
        for part in (unordered[:border], unordered[border:])
    )
    return training, heldout


def spelled(number: int) -> str:
    """82 -> "8 2"."""
    return " ".join(str(number))


def question(a: int, b: int) -> str:
    return f"{spelled(a)} + {spelled(b)} ="


def numbers_in(prompt: str) -> tuple[int, int]:
    """The two numbers of a question."""
    a, b = prompt.replace(" ", "").rstrip("=").split("+")
    return int(a), int(b)


def careless(a: int, b: int, rng: Random) -> str:
    """An answer by somebody in a hurry: right, or without the carry (or with one too many), or
    wrong by one, or without its last digit."""
    kind = rng.random()
    if kind < RIGHT:
        return spelled(a + b)
    if kind < RIGHT + CARRY:
        has_carry = a % 10 + b % 10 > 9
        return spelled(a + b - 10 if has_carry else a + b + 10)
    if kind < RIGHT + CARRY + SLIP:
        return spelled(a + b + rng.choice((-1, 1)))
    return spelled((a + b) // 10)
