"""Which mistake an answer has made: the one that does what the answer does, on every case.

An answer is compared with the mistakes that the exercise lists, with the right answer after one
change of what goes in or comes out (a mask that is True everywhere, gamma 1, a sign), then with
mistakes after a change and with two changes at once, and last with three at once. The student's
function is not called: changes are made to the right answer and to the mistakes.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import combinations
from typing import Any, NamedTuple

import torch
from torch import Tensor

from minippo.exercises.compare import TOLERANCE, Right, close, value_is_right, value_of
from minippo.exercises.observe import Case, Observation, observe_one, wide

ENOUGH = 3  # numbers that a change must change, for an agreement to say something
MOST_CHANGES = 20  # of an exercise, for three at once to be tried
NOTHING = 1e-9  # a gradient below this is none
PADDING = ("mask", "slots after the end of a response are not 0: nobody chose what is there")
Function = Callable[..., Tensor]


class Mistake(NamedTuple):
    """A wrong answer that people really give, what to tell them, and the function that makes it."""

    name: str
    message: str
    function: Function


class Change(NamedTuple):
    """What gives any function of the exercise's arguments one mistake more."""

    name: str
    message: str
    apply: Callable[[Function], Function]


class Found(NamedTuple):
    """The mistakes that were recognised, as (name, message)."""

    mistakes: tuple[tuple[str, str], ...]

    def name(self) -> str:
        return " and ".join(dict.fromkeys(name for name, _ in self.mistakes))

    def message(self) -> str:
        return "; and ".join(dict.fromkeys(message for _, message in self.mistakes))


class Candidate(NamedTuple):
    """A function, the mistakes in it, and its place among the candidates of the exercise."""

    mistakes: tuple[tuple[str, str], ...]
    function: Function
    place: tuple[int, ...]


class Known(NamedTuple):
    """What is known of the cases before any answer: in float64, what is right, and what candidates
    have given in the first case that they are compared on."""

    cases: Sequence[Case]
    wide: Sequence[dict[str, Any]]
    rights: Sequence[Right]
    first: dict[tuple[int, ...], Tensor | None]

    def usual(self) -> list[int]:
        """The cases that are not extreme, small ones first."""
        found = [k for k, case in enumerate(self.cases) if case.slip is None]
        return sorted(found, key=lambda k: sum(map(_size, self.cases[k].values())))


class Given(NamedTuple):
    """An answer's observations beside what is known of the cases."""

    seen: Sequence[Observation]
    known: Known
    gradient_of: tuple[str, ...]

    @property
    def cases(self) -> Sequence[Case]:
        return self.known.cases

    @property
    def rights(self) -> Sequence[Right]:
        return self.known.rights

    def usual(self) -> list[int]:
        return self.known.usual()


def _size(value: object) -> int:
    return value.numel() if isinstance(value, Tensor) else 0


def recognise(
    given: Given,
    reference: Function,
    mistakes: Sequence[Mistake],
    changes: Sequence[Change],
    most: int = 3,
) -> Found | None:
    """The mistakes, at most so many at once, that explain all that was observed; or None.

    Where nothing explains an answer, its padding is made 0 and looked at again: then a mask is what
    is missing beside it.
    """
    found = explained(given, reference, mistakes, changes, most)
    if found is not None or not has_padding(given):
        return found
    rest = explained(padding_cleared(given), reference, mistakes, changes, most=2)
    if rest is None and all(map(value_is_right, padding_cleared(given).seen, given.rights)):
        return Found((PADDING,))
    return None if rest is None else Found((*rest.mistakes, PADDING))


def explained(
    given: Given,
    reference: Function,
    mistakes: Sequence[Mistake],
    changes: Sequence[Change],
    most: int = 3,
) -> Found | None:
    """The mistakes, at most so many beside what gradients add, that do all that was observed."""
    right = Candidate((), reference, (0,))
    listed = [
        Candidate(((m.name, m.message),), m.function, (i,)) for i, m in enumerate(mistakes, start=1)
    ]
    changed = [with_change(right, change, j) for j, change in enumerate(changes)]
    found = [*matches(given, [right, *listed])]
    if not found or len(found[0].mistakes) > 1:
        found += matches(given, changed)
    if not found:
        two = [
            with_change(one, change, j)
            for one in (*listed, *changed)
            for j, change in enumerate(changes)
        ]
        found = [*matches(given, two)]
    if not found and most > 2 and len(changes) <= MOST_CHANGES and not is_yes_or_no(given):
        for one in (right, *listed):
            found += matches(given, with_more_changes(one, changes, most))
    if not found:
        return gradient_aside(given, listed)
    return choice(found, listed)


def with_more_changes(one: Candidate, changes: Sequence[Change], most: int) -> Iterator[Candidate]:
    """A candidate after changes of different names, so many that there are `most` mistakes."""
    for some in combinations(enumerate(changes), most - len(one.mistakes)):
        names = {*(name for name, _ in one.mistakes), *(change.name for _, change in some)}
        if len(names) == most:
            candidate = one
            for j, change in some:
                candidate = with_change(candidate, change, j)
            yield candidate


def choice(found: Sequence[Found], listed: Sequence[Candidate]) -> Found | None:
    """The match with the fewest mistakes; None where changes compete that have no name in common.
    What the exercise lists goes before."""
    fewest = min(len(match.mistakes) for match in found)
    best = [match for match in found if len(match.mistakes) == fewest]
    by_list = best[0].mistakes[0] in [one.mistakes[0] for one in listed]
    names = [{name for name, _ in match.mistakes} for match in best]
    return best[0] if by_list or all(names[0] & other for other in names[1:]) else None


def has_padding(given: Given) -> bool:
    """The result has a slot for each of the mask's, and something in those that are to be 0."""
    for seen, case in zip(given.seen, given.cases, strict=True):
        mask = case.get("response_mask")
        if mask is None or seen.value is None or seen.value.shape[-2:] != mask.shape:
            return False
    return not all(close(a.value, b.value) for a, b in zip(padding_cleared(given).seen, given.seen))


def padding_cleared(given: Given) -> Given:
    """The same with 0 in the slots that the mask leaves out; what gradients came from there is not
    known, so none are compared."""
    seen = [
        one._replace(value=torch.where(case["response_mask"], one.value, 0.0))
        for one, case in zip(given.seen, given.cases, strict=True)
        if one.value is not None
    ]
    return given._replace(seen=seen, gradient_of=())


def with_change(one: Candidate, change: Change, j: int) -> Candidate:
    mistakes = (*one.mistakes, (change.name, change.message))
    return Candidate(mistakes, change.apply(one.function), (*one.place, j))


def matches(given: Given, candidates: Iterable[Candidate]) -> Iterator[Found]:
    """The candidates that do what the answer does, with what has to be added to each."""
    constant = is_constant(given)
    for candidate in candidates:
        made = values_of(candidate, given)
        if made is None or (constant and len(candidate.mistakes) != 1):
            continue
        if candidate.mistakes and not says_something(made, given, len(candidate.mistakes) == 1):
            continue
        added = of_gradients(candidate, given)
        if added is not None:
            found = (*candidate.mistakes, *added, *of_extremes(candidate, given))
            if found:
                yield Found(found)


def values_of(candidate: Candidate, given: Given) -> dict[int, Tensor] | None:
    """{usual case: the candidate's value}, where all of them are the answer's; else None."""
    made, first = {}, given.known.first
    for k in given.usual():
        if made or candidate.place not in first:
            value = value_of(candidate.function, given.known.wide[k])
            first.setdefault(candidate.place, value)
        else:
            value = first[candidate.place]
        if value is None or not _is_finite(value) or not close(given.seen[k].value, value):
            return None
        made[k] = value
    return made


def is_constant(given: Given) -> bool:
    """The answer gives one number again and again, so that agreement says little."""
    numbers = [x for k in given.usual() for x in _numbers(given.seen[k].value)]
    return len(numbers) < ENOUGH or len({*numbers}) == 1


def is_yes_or_no(given: Given) -> bool:
    """The answer is made of 0 and 1: then so many combinations of three agree that none says
    anything."""
    return {x for k in given.usual() for x in _numbers(given.seen[k].value)} <= {0.0, 1.0}


def _numbers(value: Tensor | None) -> list[float]:
    return [] if value is None else value.flatten().tolist()


def says_something(made: dict[int, Tensor], given: Given, listed: bool) -> bool:
    """The candidate differs from the right answer in enough numbers, or in the shape; a mistake in
    the gradients alone is judged by these."""
    differs = 0
    for k, value in made.items():
        wanted = given.rights[k].seen.value
        if wanted is None or value.shape != wanted.shape:
            return True
        differs += int((~_agree(value, wanted)).sum())
    enough = ENOUGH - 1 if listed else ENOUGH
    return differs >= enough or (differs == 0 and bool(given.gradient_of))


def _agree(a: Tensor, b: Tensor) -> Tensor:
    return (a - b).abs() <= TOLERANCE * (1 + b.abs())


# -- what has to be added to a candidate


def of_gradients(candidate: Candidate, given: Given) -> list[tuple[str, str]] | None:
    """What there is to say of gradients beside the candidate's own; None: they are others."""
    if not given.gradient_of:
        return []
    pairs = [
        (given.seen[k], observe_one(candidate.function, given.known.wide[k], given.gradient_of), k)
        for k in given.usual()
    ]
    missing, leaking = [], []
    for name in given.gradient_of:
        theirs = [seen.gradients.get(name) for seen, _, _ in pairs]
        made = [one.gradients.get(name) for _, one, _ in pairs]
        if all(map(close, theirs, made)):
            continue
        if not any(map(_is_there, theirs)):
            missing.append(name)
        elif _is_data(name, given) and not any(map(_is_there, made)):
            leaking.append(name)
        else:
            return _wrong_gradient(candidate, name)
    return [
        *[("detach", _missing(name)) for name in missing if not _is_data(name, given)],
        *[("detach", _leaking(name)) for name in leaking],
    ]


def _wrong_gradient(candidate: Candidate, name: str) -> list[tuple[str, str]] | None:
    if candidate.mistakes:
        return None
    message = (
        f"the values are right, but the gradient to {name} is not: some part of the expression is "
        "detached (detach, no_grad, .data, .item()) or passes a gradient that it should not"
    )
    return [("detach", message)]


def _missing(name: str) -> str:
    return f"no gradient reaches {name}: a detach, no_grad, .data or .item() is in the way"


def _leaking(name: str) -> str:
    return f"a gradient reaches {name}, which is data here: detach it"


def _is_there(gradient: Tensor | None) -> bool:
    return gradient is not None and bool((gradient.abs() > NOTHING).any())


def _is_data(name: str, given: Given) -> bool:
    """No gradient is to reach this input."""
    return not any(_is_there(right.seen.gradients[name]) for right in given.rights)


def of_extremes(candidate: Candidate, given: Given) -> list[tuple[str, str]]:
    """What fails in an extreme case and not in the candidate."""
    added = []
    for seen, case, right in zip(given.seen, given.cases, given.rights, strict=True):
        if case.slip is None or case.slip[0] is None:
            continue
        if not candidate.mistakes and value_is_right(seen, right):
            continue
        made = [value_of(candidate.function, one) for one in (wide(case), case)]
        if all(map(_is_finite, made)) and not any(_near(seen.value, one) for one in made):
            added.append((case.slip[0], case.slip[1]))
    return added


def _is_finite(value: Tensor | None) -> bool:
    return value is not None and bool(value.isfinite().all())


def _near(a: Tensor | None, b: Tensor | None) -> bool:
    """Close, with room for what float32 rounds in an extreme case."""
    return b is not None and close(a, b, 10 * TOLERANCE * b.abs().max().item())


def gradient_aside(given: Given, listed: Sequence[Candidate]) -> Found | None:
    """The listed mistake that has the answer's values, though other gradients."""
    if not given.gradient_of or is_constant(given):
        return None
    for candidate in listed:
        made = values_of(candidate, given)
        if made is not None and says_something(made, given, True):
            name, message = candidate.mistakes[0]
            return Found(((name, f"{message}; beside that the gradient is not right"),))
    return None
