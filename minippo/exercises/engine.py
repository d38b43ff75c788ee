"""How an answer to an exercise is checked: by its values and its gradients, on inputs that tell the
mistakes apart."""

import traceback
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor

TOLERANCE = 1e-4  # of answers in float32; the cases are made in float64
Case = dict[str, Any]  # the arguments of one call
Answer = Callable[..., Any]  # what a student has written returns anything
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
)


class Mistake(NamedTuple):
    """A wrong answer that people really give, what to tell them, and the function that makes it."""

    name: str
    message: str
    function: Callable[..., Tensor]


class Verdict(NamedTuple):
    """passed, which mistake it is (None when it is not one that we know), and the message that was
    printed."""

    passed: bool
    mistake: str | None
    message: str


class Outcome(NamedTuple):
    """What a function returned on one case, and the gradient of its weighted total to each input
    that has one."""

    value: torch.Tensor
    gradients: dict[str, Tensor]


@dataclass(frozen=True)
class Exercise:
    """A function to write.

    cases() -> a list of dicts of keyword arguments. The tensors named in `gradient_of` require
    grad, and the gradients of the answer are compared as well. Where an answer is right in all
    values but not in its gradients it is told so.
    """

    name: str
    reference: Callable[..., Tensor]
    cases: Callable[[], list[Case]]
    mistakes: tuple[Mistake, ...]
    gradient_of: tuple[str, ...] = ()

    def check(self, answer: Answer) -> Verdict:
        """Print what is wrong with an answer, or that nothing is; returns the Verdict."""
        verdict = self.verdict(answer)
        print(f"{'passed' if verdict.passed else 'not yet'}: {verdict.message}")
        return verdict

    def verdict(self, answer: Answer) -> Verdict:
        cases = self.cases()
        wanted = [run(self.reference, case, self.gradient_of) for case in cases]
        got: list[Outcome] = []
        for number, (case, right) in enumerate(zip(cases, wanted, strict=True), start=1):
            try:
                outcome = run(answer, case, self.gradient_of)
            except NotImplementedError:
                return Verdict(False, None, "the function is not written yet")
            except NoTensor as error:
                return Verdict(False, None, f"case {number}: {error}")
            except Exception as error:  # whatever a student's code raises is for the student to see
                if "unexpected keyword argument" in str(error):
                    return Verdict(
                        False,
                        None,
                        f"the arguments must keep the names of the stub: {', '.join(case)}",
                    )
                line = traceback.extract_tb(error.__traceback__)[-1]
                return Verdict(
                    False,
                    None,
                    f"case {number} raised {type(error).__name__}: {error} (in {line.name}: "
                    f"{line.line})",
                )
            if outcome.value.shape != right.value.shape:
                return self._wrong(
                    cases,
                    [*got, outcome],
                    wanted,
                    f"case {number}: the result has shape {list(outcome.value.shape)}, wanted "
                    f"{list(right.value.shape)}",
                )
            got.append(outcome)
        if all(map(same_values, got, wanted)) and all(map(same_gradients, got, wanted)):
            return Verdict(
                True,
                None,
                f"values{' and gradients' if self.gradient_of else ''} agree on {len(cases)} cases",
            )
        return self._wrong(cases, got, wanted, first_difference(got, wanted))

    def _wrong(
        self, cases: list[Case], got: list[Outcome], wanted: list[Outcome], otherwise: str
    ) -> Verdict:
        """The Verdict on outcomes that are not right: the mistake that gives the very same, or its
        values, or what differs."""
        known = []
        for mistake in self.mistakes:
            made = [run(mistake.function, case, self.gradient_of) for case in cases[: len(got)]]
            if all(map(same_values, got, made)):
                if all(map(same_gradients, got, made)):
                    return Verdict(False, mistake.name, mistake.message)
                known.append(mistake)
        if known and not all(map(same_values, got, wanted)):
            return Verdict(
                False, known[0].name, f"{known[0].message}; beside that the gradient is not right"
            )
        return Verdict(False, None, otherwise)


class NoTensor(Exception):
    """What a function returned, where that is no tensor."""


def run(function: Answer, case: Case, gradient_of: Sequence[str]) -> Outcome:
    """The Outcome of a function on a case; NoTensor where what it returned is none."""
    arguments = {
        name: value.clone().requires_grad_(name in gradient_of)
        if isinstance(value, torch.Tensor)
        else value
        for name, value in case.items()
    }
    value = function(**arguments)
    if value is None:
        raise NoTensor("the function returned None; is there a return?")
    if isinstance(value, (int, float)):
        value = torch.tensor(float(value), dtype=torch.float64)
    if not isinstance(value, torch.Tensor):
        raise NoTensor(f"the result is a {type(value).__name__}, wanted a tensor")
    value = value if value.is_floating_point() else value.double()
    if value.requires_grad and gradient_of:
        inputs = [arguments[name] for name in gradient_of]
        # each slot counts differently
        weights = 1 + torch.arange(value.numel(), dtype=value.dtype).reshape(value.shape)
        found = torch.autograd.grad(
            (torch.where(value.isfinite(), value, 0.0) * weights).sum(), inputs, allow_unused=True
        )
        gradients = {
            name: torch.zeros_like(x) if grad is None else grad
            for name, x, grad in zip(gradient_of, inputs, found, strict=True)
        }
    else:
        gradients = {name: torch.zeros_like(arguments[name]) for name in gradient_of}
    return Outcome(value.detach(), gradients)


def mask_of_lengths(lengths: Sequence[int], width: int) -> Tensor:
    """[B] lengths -> [B,width] bool, row b True in its first lengths[b] slots: what the cases call
    response_mask."""
    return torch.arange(width) < torch.tensor(lengths)[:, None]


def close(a: Tensor, b: Tensor) -> bool:
    return a.shape == b.shape and torch.allclose(
        a.double(), b.double(), rtol=TOLERANCE, atol=TOLERANCE, equal_nan=True
    )


def same_values(one: Outcome, other: Outcome) -> bool:
    return close(one.value, other.value)


def same_gradients(one: Outcome, other: Outcome) -> bool:
    return all(close(one.gradients[name], other.gradients[name]) for name in one.gradients)


def first_difference(got: Sequence[Outcome], wanted: Sequence[Outcome]) -> str:
    """Where an answer first differs, with both numbers."""
    for number, (one, right) in enumerate(zip(got, wanted, strict=True), start=1):
        pairs = [("the result", one.value, right.value)]
        pairs += [
            (
                f"the values are right, but the gradient to {name}",
                one.gradients[name],
                right.gradients[name],
            )
            for name in one.gradients
        ]
        for what, a, b in pairs:
            if not close(a, b):
                return f"case {number}: {what} is {_both_numbers(a, b)}"
    raise AssertionError("nothing differs")


def _both_numbers(a: Tensor, b: Tensor) -> str:
    """The first number in which two tensors of one shape differ, in both of them."""
    if a.dim() == 0:
        return f"{a.item():.4g}, wanted {b.item():.4g}"
    differs = ~torch.isclose(a.double(), b.double(), rtol=TOLERANCE, atol=TOLERANCE, equal_nan=True)
    place = tuple(differs.nonzero()[0].tolist())
    return (
        f"{a[place].item():.4g} at {list(place)}, wanted {b[place].item():.4g}; "
        f"{int(differs.sum())} of {differs.numel()} places differ"
    )
