"""How an answer to an exercise is checked: by its values and its gradients, on inputs that tell the
mistakes apart.

Running and judging are apart. `observe.observe` runs a function and needs nothing of the exercise
but its cases; `Exercise.judge` compares what was observed with the right answer and with the
mistakes, and never calls the student's function.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from torch import Tensor

from minippo.exercises.compare import close, is_right, right_of, wide
from minippo.exercises.observe import Answer, Case, Observation, observe, observe_one
from minippo.exercises.recognise import Mistake

__all__ = ["Case", "Exercise", "Mistake", "Verdict"]


class Verdict(NamedTuple):
    """passed, which mistake it is (None when it is not one that we know; two names are joined by
    " and "), and the message that was printed."""

    passed: bool
    mistake: str | None
    message: str


@dataclass(frozen=True)
class Exercise:
    """A function to write.

    cases(seed=None) -> the fixed cases, or hidden ones drawn from a seed of any bytes. The tensors
    named in `gradient_of` require grad, and the gradients of the answer are compared as well.
    """

    name: str
    reference: Callable[..., Tensor]
    cases: Callable[..., list[Case]]
    mistakes: tuple[Mistake, ...]
    gradient_of: tuple[str, ...] = ()

    def check(self, answer: Answer) -> Verdict:
        """Print what is wrong with an answer, or that nothing is; returns the Verdict."""
        verdict = self.verdict(answer)
        print(f"{'passed' if verdict.passed else 'not yet'}: {verdict.message}")
        return verdict

    def verdict(self, answer: Answer) -> Verdict:
        """Run an answer on the fixed cases and judge what it does."""
        cases = self.cases()
        return self.judge(observe(answer, cases, self.gradient_of), cases)

    def judge(self, observations: Sequence[Observation], cases: Sequence[Case]) -> Verdict:
        """The Verdict on what was observed of an answer on these cases, which `cases` made. Nothing
        of the student's is called."""
        if len(observations) != len(cases):
            return Verdict(
                False, None, f"{len(observations)} results came back, wanted {len(cases)}"
            )
        for k, (seen, case) in enumerate(zip(observations, cases, strict=True)):
            if seen.fault:
                return self._fault(k, seen, case)
        rights = [right_of(self.reference, case, self.gradient_of) for case in cases]
        wrong = [
            k
            for k, (seen, right) in enumerate(zip(observations, rights, strict=True))
            if not is_right(seen, right)
        ]
        if not [k for k in wrong if not cases[k].slip or cases[k].slip[0]]:
            return Verdict(
                True,
                None,
                f"values{' and gradients' if self.gradient_of else ''} agree on {len(cases)} cases",
            )
        if all(cases[k].slip for k in wrong):
            name, message = next(cases[k].slip for k in wrong if cases[k].slip[0])
            return Verdict(False, name, message)
        return self._wrong(observations, cases, rights)

    def _fault(self, k, seen, case):
        fault = seen.fault
        if fault.kind == "NotImplementedError":
            return Verdict(False, None, "the function is not written yet")
        if fault.kind == "NoTensor":
            return Verdict(False, None, f"case {k}: {fault.message}")
        if fault.unknown:
            return Verdict(
                False, None, f"the arguments must keep the names of the stub: {', '.join(case)}"
            )
        return Verdict(
            False,
            None,
            f"case {k} raised {fault.kind}: {fault.message} (in {fault.function}: {fault.line})",
        )

    def _wrong(self, observations, cases, rights):
        ordinary = [k for k in range(len(cases)) if not cases[k].slip]
        for mistake in self.mistakes:
            made = [
                observe_one(mistake.function, wide(cases[k]), self.gradient_of) for k in ordinary
            ]
            if all(
                close(observations[k].value, m.value)
                and all(
                    close(observations[k].gradients.get(g), m.gradients[g])
                    for g in self.gradient_of
                )
                for k, m in zip(ordinary, made)
            ):
                return Verdict(False, mistake.name, mistake.message)
        return Verdict(False, None, "another result")
