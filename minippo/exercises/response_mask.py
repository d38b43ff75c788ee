"""Exercise of notebook 02: which of the tokens that were drawn belong to the response."""

from collections.abc import Callable

import torch
from torch import Tensor

from minippo.exercises.changes import Arguments, comes_out, goes_in, number
from minippo.exercises.draw import Draw
from minippo.exercises.engine import Case, Change, Exercise, Mistake
from minippo.exercises.hints import HINTS


def reference(tokens: Tensor, eos_id: int) -> Tensor:
    """Raw draws tokens [B,T] -> response_mask [B,T] bool: as in minippo.rollout, a row is alive
    until it has drawn EOS."""
    mask = torch.zeros_like(tokens, dtype=torch.bool)
    alive = torch.ones(len(tokens), dtype=torch.bool)  # [B]
    for t in range(tokens.shape[1]):
        mask[:, t] = alive
        alive = alive & (tokens[:, t] != eos_id)
    return mask


def cases(seed: bytes | None = None) -> list[Case]:
    """EOS in the first slot, in the middle, in the last, twice, twice in a row and not at all; 0,
    often PAD, is a word. In one batch no row is True throughout."""
    draw = Draw("response_mask", seed)
    for T, rows in (
        (4, ((1,), (), (0, 2))),
        (6, ((2,), (0,), (5,), (), (1, 3), (2, 3))),
        (5, ((1,), (2, 4), (0, 1), (2,))),
    ):
        spare = draw.longest(T) - T
        eos_id = int(draw.whole(1, 6))
        tokens = draw.whole(0, 5, len(rows), T + spare)
        tokens = tokens + (tokens >= eos_id)  # any of 0 to 6 but EOS
        tokens[0, 0], tokens[-1, -1] = 0, 0
        for row, places in enumerate(rows):
            tokens[row, [place + spare * (place == T - 1) for place in places]] = eos_id
        order = draw.order(len(rows))
        draw.add(
            f"{len(rows)} rows of {T + spare} draws, EOS is {eos_id}",
            tokens=tokens[order],
            eos_id=eos_id,
        )
    return draw.cases()


def without_the_eos(tokens: Tensor, eos_id: int) -> Tensor:
    return reference(tokens, eos_id) & (tokens != eos_id)


def all_but_eos(tokens: Tensor, eos_id: int) -> Tensor:
    return tokens != eos_id


def up_to_the_last_eos(tokens: Tensor, eos_id: int) -> Tensor:
    is_eos = tokens == eos_id
    ahead = is_eos.flip(1).cumsum(dim=1).flip(1) > 0  # an EOS here or later
    return ahead | ~is_eos.any(dim=1, keepdim=True)


def up_to_before_the_second_eos(tokens: Tensor, eos_id: int) -> Tensor:
    return (tokens == eos_id).cumsum(dim=1) <= 1


def one_slot_too_many(tokens: Tensor, eos_id: int) -> Tensor:
    mask = reference(tokens, eos_id)
    return torch.cat((mask[:, :1], mask[:, :-1]), dim=1)


def nothing_without_eos(tokens: Tensor, eos_id: int) -> Tensor:
    return reference(tokens, eos_id) & (tokens == eos_id).any(dim=1, keepdim=True)


def one_slot_without_eos(tokens: Tensor, eos_id: int) -> Tensor:
    first = (tokens == eos_id).int().argmax(dim=1, keepdim=True)  # 0 in a row that has none
    return torch.arange(tokens.shape[1]) <= first


def turned_round(tokens: Tensor, eos_id: int) -> Tensor:
    return ~reference(tokens, eos_id)


def only_pads_hidden(tokens: Tensor, eos_id: int) -> Tensor:
    return tokens != 0


def all_rows_alike(tokens: Tensor, eos_id: int) -> Tensor:
    return reference(tokens, eos_id).any(dim=0).expand_as(tokens)


def eos_ends_all_rows(tokens: Tensor, eos_id: int) -> Tensor:
    return reference(tokens, eos_id).all(dim=0).expand_as(tokens)


def only_the_eos(tokens: Tensor, eos_id: int) -> Tensor:
    return reference(tokens, eos_id) & (tokens == eos_id)


def lengths(tokens: Tensor, eos_id: int) -> Tensor:
    return reference(tokens, eos_id).sum(dim=1)


MISTAKES = (
    Mistake(
        "EOS",
        "the EOS itself is hidden: the model chose it, and without a gradient there it does not "
        "learn to stop",
        without_the_eos,
    ),
    Mistake(
        "EOS",
        "every EOS is hidden and all the rest is kept: what follows the first EOS is not of the "
        "response",
        all_but_eos,
    ),
    Mistake(
        "EOS",
        "the response ends with its FIRST EOS; yours goes on to the last one",
        up_to_the_last_eos,
    ),
    Mistake(
        "EOS",
        "the response ends with its FIRST EOS; yours goes on until the second one",
        up_to_before_the_second_eos,
    ),
    Mistake(
        "off by one",
        "one slot too many: the one after the first EOS is True, and it is not of the response",
        one_slot_too_many,
    ),
    Mistake(
        "EOS",
        "a row without EOS is hidden as a whole; it was cut off, and every token in it was chosen "
        "by the model",
        nothing_without_eos,
    ),
    Mistake(
        "EOS",
        "a row without EOS keeps a single slot: an argmax over nothing is 0; such a row is True "
        "throughout",
        one_slot_without_eos,
    ),
    Mistake(
        "sign",
        "the mask is turned round: True means that the token belongs to the response",
        turned_round,
    ),
    Mistake(
        "mask",
        "this looks for id 0 as if it were PAD: there are no pads in these raw draws, and 0 may be "
        "a word",
        only_pads_hidden,
    ),
    Mistake(
        "batch",
        "all rows have the length of the longest; each row ends at its own EOS",
        all_rows_alike,
    ),
    Mistake(
        "batch",
        "the first EOS of any row ends all rows; each row ends at its own EOS",
        eos_ends_all_rows,
    ),
    Mistake(
        "mask",
        "only the EOS is True: the mask marks all tokens of the response, not where it ends",
        only_the_eos,
    ),
    Mistake(
        "formula",
        "these are the lengths, one number per row; the mask has one entry per slot",
        lengths,
    ),
    Mistake(
        "mask",
        "this is True everywhere; what the model drew after its first EOS is not of the response",
        lambda tokens, eos_id: torch.ones_like(tokens, dtype=torch.bool),
    ),
    Mistake(
        "mask",
        "this is False everywhere",
        lambda tokens, eos_id: torch.zeros_like(tokens, dtype=torch.bool),
    ),
    Mistake(
        "sign",
        "this marks where EOS is; the mask marks all tokens of the response",
        lambda tokens, eos_id: tokens == eos_id,
    ),
    Mistake(
        "batch",
        "the sum runs over the rows; it has to run along each row",
        lambda tokens, eos_id: ((tokens == eos_id).cumsum(0) - (tokens == eos_id).int()) == 0,
    ),
    Mistake(
        "batch",
        "the sum runs over the rows; it has to run along each row",
        lambda tokens, eos_id: (tokens == eos_id).cumsum(0) == 0,
    ),
    Mistake(
        "direction",
        "this looks from the end: the slots from which an EOS is still ahead",
        lambda tokens, eos_id: (tokens == eos_id).flip(1).cumsum(1).flip(1) > 0,
    ),
    Mistake(
        "direction",
        "this looks from the end: the slots after the last EOS",
        lambda tokens, eos_id: (tokens == eos_id).flip(1).cumsum(1).flip(1) == 0,
    ),
    Mistake(
        "off by one",
        "one slot too few: the token before the first EOS is hidden as well",
        lambda tokens, eos_id: torch.cat(
            (without_the_eos(tokens, eos_id)[:, 1:], torch.zeros_like(tokens[:, :1]).bool()), dim=1
        ),
    ),
    Mistake(
        "off by one",
        "the first slot is left out",
        lambda tokens, eos_id: torch.cat(
            (torch.zeros_like(tokens[:, :1]).bool(), reference(tokens, eos_id)[:, 1:]), dim=1
        ),
    ),
    Mistake(
        "off by one",
        "the last slot of a row without EOS is hidden; such a row is True throughout",
        lambda tokens, eos_id: (
            reference(tokens, eos_id)
            & (
                (tokens == eos_id).any(dim=1, keepdim=True)
                | (torch.arange(tokens.shape[1]) < tokens.shape[1] - 1)
            )
        ),
    ),
    Mistake(
        "EOS",
        "every EOS is True, those after the first one too; what follows the first EOS is not of "
        "the response",
        lambda tokens, eos_id: reference(tokens, eos_id) | (tokens == eos_id),
    ),
    Mistake(
        "EOS",
        "a row that has an EOS anywhere is hidden as a whole; its tokens up to the EOS were chosen "
        "by the model",
        lambda tokens, eos_id: (tokens != eos_id).all(dim=1, keepdim=True).expand_as(tokens),
    ),
    Mistake(
        "mask",
        "the tokens themselves came back where the mask is True; wanted is True or 1",
        lambda tokens, eos_id: tokens * reference(tokens, eos_id),
    ),
)


def kept(name: str, message: str, which: Callable[[Arguments], Tensor]) -> Change:
    """The mask is True only where this is as well."""
    return comes_out(name, message, lambda value, case: value.double() * which(case))


CHANGES = (
    kept(
        "EOS",
        "the EOS itself is hidden: the model chose it, and learns to stop by it",
        lambda case: case["tokens"] != case["eos_id"],
    ),
    kept(
        "mask",
        "tokens with id 0 are hidden as if they were PAD; here 0 may be a word",
        lambda case: case["tokens"] != 0,
    ),
    kept(
        "EOS",
        "a row without EOS is hidden; it was cut off, and every token in it was chosen",
        lambda case: (case["tokens"] == case["eos_id"]).any(dim=1, keepdim=True),
    ),
    comes_out(
        "sign",
        "the mask is turned round: True means that the token belongs to the response",
        lambda value, case: 1 - value.double(),
    ),
    goes_in(
        "batch",
        "the first row decides for all; each row ends at its own EOS",
        tokens=lambda case: case["tokens"][:1].expand_as(case["tokens"]).clone(),
    ),
    comes_out(
        "off by one",
        "the mask is moved one slot to the right",
        lambda value, case: torch.cat((value[:, :1], value[:, :-1]), dim=1),
    ),
    comes_out(
        "off by one",
        "the mask is moved one slot to the right",
        lambda value, case: torch.cat((torch.zeros_like(value[:, :1]), value[:, :-1]), dim=1),
    ),
    comes_out(
        "off by one",
        "the mask is moved one slot to the left",
        lambda value, case: torch.cat((value[:, 1:], torch.zeros_like(value[:, :1])), dim=1),
    ),
    *(
        number("EOS", f"EOS is taken to be token {id}, whatever eos_id says", eos_id=id)
        for id in range(7)
    ),
)

exercise = Exercise(
    "response_mask", reference, cases, MISTAKES, changes=CHANGES, hints=HINTS["response_mask"]
)
