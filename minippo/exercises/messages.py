"""What is said of an answer that is not right: where it differs, what the case holds, what an
exception means."""

from collections.abc import Sequence

from torch import Tensor

from minippo.exercises.compare import Right, close, places_that_agree
from minippo.exercises.observe import Case, Fault, Observation

MOST_ROWS, MOST_COLUMNS, MOST_DIGITS = 3, 8, 9
CAUSES = (  # what stands in the message of an exception, and what it comes from
    (
        "leaf Variable that requires grad",
        "the function writes into an argument that carries a gradient; make a new tensor "
        "(torch.where, masked_fill) or work on a clone",
    ),
    (
        "modified by an inplace operation",
        "a number that the gradient needs has been overwritten; make a new tensor in place of "
        "writing into one",
    ),
    (
        "same dtype",
        "the inputs are float32: a tensor made in float64 does not go with them (.to(x.dtype))",
    ),
    (
        "expected scalar type",
        "the inputs are float32: a tensor made in another dtype does not go with them "
        "(.to(x.dtype))",
    ),
    ("dtypes do not match", "make new tensors in the dtype of the input (.to(x.dtype))"),
    (
        "call numpy() on Tensor that requires grad",
        "NumPy knows no gradients; the same operation of torch keeps them",
    ),
    (
        "does not require grad",
        "no gradient has come this far: a detach, no_grad, .data or .item() is in the way",
    ),
    (
        "Boolean value of Tensor with more than one value",
        "an if needs one bool; torch.where chooses number by number",
    ),
    ("must match the size of tensor", "two shapes do not go together; print them"),
    ("is not defined", "the name has to be defined or imported in the same file"),
)


def of_fault(k: int, fault: Fault, case: Case, causes: Sequence[tuple[str, str]] = ()) -> str:
    """What was raised, where in the student's own code, and what it usually comes from."""
    if fault.kind == "NotImplementedError":
        return "the function is not written yet"
    if fault.unknown:
        return (
            f"the arguments must keep the names of the stub: {', '.join(case)}; yours lacks "
            f"{', '.join(fault.unknown)}"
        )
    if fault.kind == "NoTensor":
        return f"case {k} ({case.where}): {fault.message}"
    place = f" (in {fault.function}: {fault.line})" if fault.line else ""
    text = f"case {k} ({case.where}) raised {fault.kind}: {fault.message}{place}"
    for part, cause in (*causes, *CAUSES):
        if part in fault.message:
            return f"{text}\n  likely: {cause}"
    return text


def smallest(wrong: Sequence[int], rights: Sequence[Right], seen: Sequence[Observation]) -> int:
    """The failing case with the fewest numbers, one with wrong values before one with wrong
    gradients alone."""

    def size(k: int) -> tuple[bool, int]:
        wanted = rights[k].seen.value
        same = close(seen[k].value, wanted, rights[k].value_slack)
        return same, 0 if wanted is None else wanted.numel()

    return min(wrong, key=size)


def difference(k: int, case: Case, seen: Observation, right: Right) -> str:
    """Where an answer differs in one case, with a table of the rows that do. Of a hidden case the
    place alone is told."""
    what, a, b, slack = first_pair(seen, right)
    head = f"case {k} ({case.where}): {case.holds}\n  " if case.holds else f"case {k}: "
    if a is None or a.shape != b.shape:
        shape = "none" if a is None else str([*a.shape])
        return f"{head}{what} has shape {shape}, wanted {[*b.shape]}"
    differs = ~places_that_agree(a, b, slack)
    place = tuple(differs.nonzero()[0].tolist())
    at = f" at {list(place)}" if place else ""
    count = f"; {int(differs.sum())} of {differs.numel()} places differ" if place else ""
    if not case.where.startswith("exercise."):
        return f"{head}{what} is not right{at}{count}"
    digits = enough_digits(a[place].item(), b[place].item())
    line = f"{what} is {a[place].item():.{digits}g}{at}, wanted {b[place].item():.{digits}g}{count}"
    return "\n".join([head + line, *table(a, b, differs, digits)])


def first_pair(seen: Observation, right: Right) -> tuple[str, Tensor | None, Tensor, float]:
    """What differs first: (its name, the answer's, the right one, how much more it may be off)."""
    wanted = right.seen.value
    if wanted is not None and not close(seen.value, wanted, right.value_slack):
        return "the result", seen.value, wanted, right.value_slack
    for name, gradient in right.seen.gradients.items():
        slack = right.gradient_slack[name]
        if not close(seen.gradients.get(name), gradient, slack):
            what = f"the values are right, but the gradient to {name}"
            return what, seen.gradients.get(name), gradient, slack
    raise AssertionError("nothing differs")


def enough_digits(a: float, b: float) -> int:
    """As many as tell two numbers apart."""
    for digits in range(4, MOST_DIGITS):
        if f"{a:.{digits}g}" != f"{b:.{digits}g}":
            return digits
    return MOST_DIGITS


def table(a: Tensor, b: Tensor, differs: Tensor, digits: int) -> list[str]:
    """The first rows that differ, yours above the right ones, a star where they do."""
    if a.dim() == 0:
        return []
    if a.shape[-1] > MOST_COLUMNS:
        return []
    flat = [x.reshape(-1, a.shape[-1]) for x in (a, b, differs)]
    lines = []
    for row in flat[2].any(dim=1).nonzero().flatten().tolist()[:MOST_ROWS]:
        yours, wanted = (_cells(x[row], flat[2][row], digits) for x in flat[:2])
        width = max(map(len, (*yours, *wanted)))
        for label, cells in ((f"row {row}  yours", yours), ("right", wanted)):
            lines.append(f"  {label:>14}  " + " ".join(f"{cell:>{width}}" for cell in cells))
    return lines


def _cells(numbers: Tensor, differs: Tensor, digits: int) -> list[str]:
    pairs = zip(numbers.tolist(), differs.tolist(), strict=True)
    return [f"{x + 0.0:.{digits}g}{'*' if d else ' '}" for x, d in pairs]
