"""The changes that turn a right answer, or a mistake, into one with a mistake more: of what goes in
and of what comes out."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from minippo.exercises.recognise import Change, Function

Arguments = dict[str, Any]


def goes_in(name: str, message: str, **makers: Callable[[Arguments], Any]) -> Change:
    """A change of arguments: each maker gets them all and returns the new one."""

    def apply(function: Function) -> Function:
        return lambda **case: function(
            **{**case, **{key: make(case) for key, make in makers.items()}}
        )

    return Change(name, message, apply)


def comes_out(name: str, message: str, make: Callable[[Tensor, Arguments], Tensor]) -> Change:
    """A change of the result: make(result, arguments)."""

    def apply(function: Function) -> Function:
        return lambda **case: make(function(**case), case)

    return Change(name, message, apply)


def times(name: str, message: str, factor: Callable[[Arguments], Any]) -> Change:
    """The result is multiplied by what factor(arguments) says."""
    return comes_out(name, message, lambda value, case: value * factor(case))


def swapped(name: str, message: str, one: str, other: str) -> Change:
    """Two arguments have changed places."""
    return goes_in(name, message, **{one: lambda case: case[other], other: lambda case: case[one]})


def number(name: str, message: str, **values: float) -> Change:
    """Arguments that are plain numbers have these values."""
    return goes_in(
        name, message, **{key: (lambda case, value=value: value) for key, value in values.items()}
    )


def all_true(case: Arguments) -> Tensor:
    return torch.ones_like(case["response_mask"])


def first_row(case: Arguments) -> Tensor:
    return case["response_mask"][:1].expand_as(case["response_mask"]).clone()


def one_slot_more(case: Arguments) -> Tensor:
    mask = case["response_mask"]
    return torch.cat((mask[:, :1], mask[:, :-1]), dim=1)


def responses(case: Arguments) -> int:
    return len(case["response_mask"])


def tokens(case: Arguments) -> Tensor:
    return case["response_mask"].sum()


def slots(case: Arguments) -> int:
    return case["response_mask"].numel()


NO_MASK = goes_in(
    "mask",
    "slots after the end of a response take part: nobody chose what is there, use the mask",
    response_mask=all_true,
)
MASKED_TOO_LATE = Change(
    "mask",
    "the result is masked, but numbers of the padding have reached real tokens before",
    lambda function: (
        lambda **case: torch.where(
            case["response_mask"], function(**{**case, "response_mask": all_true(case)}), 0.0
        )
    ),
)
INVERTED = Change(
    "mask",
    "the mask is the wrong way round: what is after the end is kept, and the tokens are left out",
    lambda function: (
        lambda **case: torch.where(
            case["response_mask"], 0.0, function(**{**case, "response_mask": all_true(case)})
        )
    ),
)
FIRST_ROW = goes_in(
    "batch",
    "the mask of the first response is used for all; each row has a length of its own",
    response_mask=first_row,
)
ONE_SLOT_MORE = goes_in(
    "off by one",
    "one slot too many: the first one after the end of a response is taken for a token",
    response_mask=one_slot_more,
)


def row_by_row(function: Function) -> Function:
    """The mean of what a function gives for each row alone."""

    def mean_of_rows(**case: Any) -> Tensor:
        rows = range(responses(case))
        alone = [
            {
                key: x[b : b + 1] if isinstance(x, Tensor) and len(x) == len(rows) else x
                for key, x in case.items()
            }
            for b in rows
        ]
        return torch.stack([function(**one) for one in alone]).mean()

    return mean_of_rows


ROW_MEANS = Change(
    "normalisation",
    "this is a mean of the means of the rows: a token of a short response counts more than one of "
    "a long one; take one mean over all real tokens",
    row_by_row,
)
TURNED = times("sign", "the sign is turned", lambda case: -1.0)
DOUBLED = times("scale", "this is twice what it should be", lambda case: 2.0)
HALVED = times("scale", "this is half of what it should be", lambda case: 0.5)
ANY = (TURNED, DOUBLED, HALVED)  # for any exercise whose result is numbers
MASKS = (NO_MASK, FIRST_ROW, ONE_SLOT_MORE)  # for any that has a response_mask
