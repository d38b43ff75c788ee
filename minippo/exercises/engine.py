"""How an answer to an exercise is checked: by its values and its gradients, on inputs that tell the
mistakes apart.

Running and judging are apart. `observe.observe` runs a function and needs nothing of the exercise
but its cases; `Exercise.judge` compares what was observed with the right answer and with the
mistakes, and never calls the student's function.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from minippo.exercises.compare import close, is_right, right_of
from minippo.exercises.messages import difference, of_fault, smallest
from minippo.exercises.observe import Answer, Case, Observation, observe, observe_one, wide
from minippo.exercises.recognise import Change, Found, Given, Known, Mistake, recognise

__all__ = ["Case", "Change", "Exercise", "Mistake", "Verdict", "MISTAKE_NAMES"]

MISTAKE_NAMES = (
    "shift",
    "mask",
    "softmax",
    "log",
    "detach",
    "sign",
    "min for max",
    "mean for sum",
    "sum for mean",
    "clip",
    "direction",
    "value after the end",
    "wrong token",
    "discount",
    "off by one",
    "baseline",
    "centring",
    "variance",
    "old for new",
    "ratio",
    "batch",
    "temperature",
    "damping",
    "scale",
    "normalisation",
    "EOS",
    "formula",
    "precision",
)
HALVES = (torch.float16, torch.bfloat16)
PRECISION = (
    "precision",
    "the numbers have the few digits of a 16-bit type: compute in float32, as the inputs come",
)
MOST_REMEMBERED = 50  # lists of cases
_fixed: dict["Exercise", list[Case]] = {}  # the fixed cases of the exercises that were checked
_known: dict[int, Known] = {}
_hints_given: dict[str, int] = {}  # how many hints of an exercise have been printed


class Verdict(NamedTuple):
    """passed, which mistake it is (None when it is not one that we know; two names are joined by
    " and "), and the message that is printed."""

    passed: bool
    mistake: str | None
    message: str


@dataclass(frozen=True)
class Exercise:
    """A function to write.

    cases(seed=None) -> the fixed cases, or hidden ones drawn from a seed of any bytes. The tensors
    named in `gradient_of` require grad, and the gradients of the answer are compared as well.
    changes: what the right answer and the mistakes are compared after as well. hints: three, the
    last one short of the answer. causes: (part of an exception's message, where it comes from).
    most: how many mistakes at once are looked for; 2 where running the right answer takes long.
    """

    name: str
    reference: Callable[..., Tensor]
    cases: Callable[..., list[Case]]
    mistakes: tuple[Mistake, ...]
    gradient_of: tuple[str, ...] = ()
    changes: tuple[Change, ...] = ()
    hints: tuple[str, ...] = ()
    causes: tuple[tuple[str, str], ...] = ()
    most: int = 3

    def check(self, answer: Answer) -> Verdict:
        """Print what is wrong with an answer, or that nothing is; returns the Verdict."""
        verdict = self.verdict(answer)
        print(f"{'passed' if verdict.passed else 'not yet'}: {verdict.message}")
        return verdict

    def hint(self) -> None:
        """Print the next hint; after the last one, the last one again."""
        number = min(_hints_given.get(self.name, 0) + 1, len(self.hints))
        _hints_given[self.name] = number
        if number:
            print(f"hint {number} of {len(self.hints)}: {self.hints[number - 1]}")

    def verdict(self, answer: Answer) -> Verdict:
        """Run an answer on the fixed cases and judge what it does."""
        if self not in _fixed:
            _fixed[self] = self.cases()
        cases = _fixed[self]
        return self.judge(observe(answer, cases, self.gradient_of), cases)

    def judge(self, observations: Sequence[Observation], cases: Sequence[Case]) -> Verdict:
        """The Verdict on what was observed of an answer on these cases, which `cases` made. Nothing
        of the student's is called."""
        if len(observations) != len(cases):
            text = f"{len(observations)} results came back, wanted {len(cases)}"
            return Verdict(False, None, text)
        for k, (seen, case) in enumerate(zip(observations, cases, strict=True)):
            if seen.fault:
                return Verdict(False, None, of_fault(k, seen.fault, case, self.causes))
        given = Given(observations, self._known(cases), self.gradient_of)
        wrong = [k for k in range(len(cases)) if not is_right(observations[k], given.rights[k])]
        counted = [k for k in wrong if not _is_a_remark(cases[k])]
        if counted or any(getattr(torch, seen.dtype, None) in HALVES for seen in observations):
            return self._refused(given, counted)
        return self._passed(given, wrong)

    def _known(self, cases: Sequence[Case]) -> Known:
        """What is known of these cases, which is remembered: many answers meet the same ones."""
        if id(cases) not in _known or _known[id(cases)].cases is not cases:
            if len(_known) >= MOST_REMEMBERED:
                _known.clear()
            rights = [right_of(self.reference, case, self.gradient_of) for case in cases]
            _known[id(cases)] = Known(cases, [wide(case) for case in cases], rights, {})
        return _known[id(cases)]

    def _passed(self, given: Given, wrong: Sequence[int]) -> Verdict:
        what = "values and gradients" if self.gradient_of else "values"
        remarks = [remark for seen in given.seen for remark in seen.remarks]
        remarks += [slip[1] for k in wrong if (slip := given.cases[k].slip)]
        text = f"{what} agree on {len(given.cases)} cases"
        return Verdict(True, None, "; but it ".join([text, *dict.fromkeys(remarks)]))

    def _refused(self, given: Given, wrong: Sequence[int]) -> Verdict:
        found = self._recognised(given, wrong)
        if not wrong:
            return Verdict(False, PRECISION[0], PRECISION[1])
        usual = [k for k in wrong if given.cases[k].slip is None] or wrong
        k = smallest(usual, given.rights, given.seen)
        where = difference(k, given.cases[k], given.seen[k], given.rights[k])
        if found is None:
            return Verdict(False, None, where)
        return Verdict(False, found.name(), f"{found.message()}\n{where}")

    def _recognised(self, given: Given, wrong: Sequence[int]) -> Found | None:
        slips = [given.cases[k].slip for k in wrong]
        if all(slips):
            return Found(tuple(dict.fromkeys((slip[0] or "", slip[1]) for slip in slips if slip)))
        found = recognise(given, self.reference, self.mistakes, self.changes, self.most)
        if found is None and self._is_of_16_bits(given):
            return Found((PRECISION,))
        return found

    def _is_of_16_bits(self, given: Given) -> bool:
        """The answer came in 16 bits, or has their digits, or is the right one on such inputs."""
        if all(getattr(torch, seen.dtype, None) in HALVES for seen in given.seen):
            return _nearly_right(given)
        return _nearly_right(given) and any(
            _all_of_type(given, dtype) or self._right_on_rounded(given, dtype) for dtype in HALVES
        )

    def _right_on_rounded(self, given: Given, dtype: torch.dtype) -> bool:
        for k in given.usual():
            rounded = {
                name: x.to(dtype).double() if isinstance(x, Tensor) and x.is_floating_point() else x
                for name, x in given.cases[k].items()
            }
            if not close(given.seen[k].value, observe_one(self.reference, rounded).value):
                return False
        return True


def _is_a_remark(case: Case) -> bool:
    """A case in which an answer may fail: it is told, and passes."""
    return case.slip is not None and case.slip[0] is None


def _nearly_right(given: Given) -> bool:
    """Every usual value is right within what 16 bits can do."""
    for k in given.usual():
        value, wanted = given.seen[k].value, given.rights[k].seen.value
        if value is None or wanted is None or value.shape != wanted.shape:
            return False
        if not torch.allclose(value, wanted, rtol=0.05, atol=0.05):
            return False
    return True


def _all_of_type(given: Given, dtype: torch.dtype) -> bool:
    values = [given.seen[k].value for k in given.usual()]
    return all(value is not None and bool((value.to(dtype) == value).all()) for value in values)
