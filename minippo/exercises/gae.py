"""Exercise of notebook 07: generalised advantage estimates of ragged responses."""

from collections.abc import Callable

import torch
from torch import Tensor

from minippo.exercises.changes import (
    ANY,
    INVERTED,
    MASKED_TOO_LATE,
    MASKS,
    comes_out,
    goes_in,
    number,
    swapped,
)
from minippo.exercises.draw import Draw, rows_in_words
from minippo.exercises.engine import Case, Exercise, Mistake
from minippo.exercises.hints import HINTS
from minippo.gae import gae_advantages, td_residuals
from minippo.masked import whiten


def reference(
    rewards: Tensor, values: Tensor, response_mask: Tensor, gamma: float, lam: float
) -> Tensor:
    """rewards, values [B,T] float, response_mask [B,T] bool, two numbers -> advantages [B,T], 0
    where the mask is False."""
    return gae_advantages(
        rewards=rewards, values=values, response_mask=response_mask, gamma=gamma, lam=lam
    )


def cases(seed: bytes | None = None) -> list[Case]:
    """Ragged batches, full and with spare slots, gamma and lam below 1 or gamma 1; what is in the
    padding is not 0."""
    draw = Draw("gae", seed)
    for rows, longest, spare, gamma in (
        (2, 3, 0, draw.one(0.85, 0.95)),
        (3, 4, 2, draw.one(0.7, 0.8)),
        (4, 6, 1, 1.0),
    ):
        T = draw.longest(longest)
        mask, lam = draw.mask(rows, T, T + spare), draw.one(0.5, 0.8)
        draw.add(
            f"{rows_in_words(mask)}, gamma {gamma}, lam {lam}, numbers in the padding",
            rewards=draw.normal(*mask.shape),
            values=1 + draw.normal(*mask.shape),
            response_mask=mask,
            gamma=gamma,
            lam=lam,
        )
    return draw.cases()


def following(x: Tensor) -> Tensor:
    """What is in the next slot, and 0 in the last."""
    return torch.nn.functional.pad(x[:, 1:], (0, 1))


def discounted(deltas: Tensor, factor: float) -> Tensor:
    """sum_l factor^l delta_{t+l}."""
    sums = deltas
    for _ in range(deltas.shape[1] - 1):
        sums = deltas + factor * following(sums)
    return sums


def masked(x: Tensor, mask: Tensor) -> Tensor:
    return torch.where(mask, x, 0.0)


def of_masked(make: Callable[..., Tensor]) -> Callable[..., Tensor]:
    """An answer make(rewards, values, mask, gamma, lam) on inputs that are 0 in the padding, with a
    masked result."""
    return lambda rewards, values, response_mask, gamma, lam: masked(
        make(
            masked(rewards, response_mask), masked(values, response_mask), response_mask, gamma, lam
        ),
        response_mask,
    )


def deltas_of(rewards: Tensor, values: Tensor, mask: Tensor, gamma: float) -> Tensor:
    return td_residuals(rewards=rewards, values=values, response_mask=mask, gamma=gamma)


def value_after_the_end(
    rewards: Tensor, values: Tensor, response_mask: Tensor, gamma: float, lam: float
) -> Tensor:
    deltas = masked(rewards + gamma * following(values) - values, response_mask)
    return discounted(deltas, gamma * lam)


def padding_everywhere(
    rewards: Tensor, values: Tensor, response_mask: Tensor, gamma: float, lam: float
) -> Tensor:
    return discounted(rewards + gamma * following(values) - values, gamma * lam)


def padding_runs_back(
    rewards: Tensor, values: Tensor, response_mask: Tensor, gamma: float, lam: float
) -> Tensor:
    return masked(padding_everywhere(rewards, values, response_mask, gamma, lam), response_mask)


def one_slot_late(
    rewards: Tensor, values: Tensor, response_mask: Tensor, gamma: float, lam: float
) -> Tensor:
    """The mask of slot t where that of slot t + 1 is meant: whether there is a next token."""
    running, columns = torch.zeros(len(rewards), dtype=rewards.dtype), []
    next_values = following(values)
    for t in reversed(range(rewards.shape[1])):
        goes_on = response_mask[:, t]
        running = (
            rewards[:, t] - values[:, t] + goes_on * gamma * (next_values[:, t] + lam * running)
        )
        columns.insert(0, running)
    return masked(torch.stack(columns, dim=1), response_mask)


def bootstrap_from_itself(
    rewards: Tensor, values: Tensor, mask: Tensor, gamma: float, lam: float
) -> Tensor:
    """V(s_T) for the value after the end of the last slot, as if the response had been cut off."""
    last = torch.cat((values[:, 1:], values[:, -1:]), dim=1)
    return discounted(masked(rewards + gamma * last - values, mask), gamma * lam)


def rolled(of_pads: bool) -> Callable[..., Tensor]:
    """torch.roll for the next value; with of_pads the slots after the end have residuals as
    well."""

    def answer(rewards: Tensor, values: Tensor, mask: Tensor, gamma: float, lam: float) -> Tensor:
        deltas = rewards + gamma * torch.roll(values, -1, dims=1) - values
        return discounted(deltas if of_pads else masked(deltas, mask), gamma * lam)

    return of_masked(answer)


def back_by_one(rewards: Tensor, values: Tensor, mask: Tensor, gamma: float, lam: float) -> Tensor:
    deltas = deltas_of(rewards, values, mask, gamma)
    return deltas + gamma * lam * following(deltas)


def forwards(rewards: Tensor, values: Tensor, mask: Tensor, gamma: float, lam: float) -> Tensor:
    deltas = deltas_of(rewards, values, mask, gamma)
    return discounted(deltas.flip(1), gamma * lam).flip(1)


def values_changed_places(
    rewards: Tensor, values: Tensor, mask: Tensor, gamma: float, lam: float
) -> Tensor:
    return discounted(masked(rewards + gamma * values - following(values), mask), gamma * lam)


def without_own_value(
    rewards: Tensor, values: Tensor, mask: Tensor, gamma: float, lam: float
) -> Tensor:
    return discounted(masked(rewards + gamma * following(values), mask), gamma * lam)


def whitened(rewards: Tensor, values: Tensor, mask: Tensor, gamma: float, lam: float) -> Tensor:
    return whiten(values=reference(rewards, values, mask, gamma, lam), mask=mask)


MISTAKES = (
    Mistake(
        "value after the end",
        "after its last token a response is over and worth 0; yours takes what the critic says of "
        "a pad",
        value_after_the_end,
    ),
    Mistake(
        "value after the end",
        "after its last token a response is over and worth 0; yours goes on with the value of the "
        "last slot",
        of_masked(bootstrap_from_itself),
    ),
    *(
        Mistake(
            "value after the end",
            "after the last slot comes 0; yours goes on with V of the first slot, which torch.roll "
            "has brought round to the end",
            rolled(of_pads),
        )
        for of_pads in (True, False)
    ),
    Mistake(
        "mask",
        "the padding is treated as tokens: its residuals run back, and its slots are not 0",
        padding_everywhere,
    ),
    Mistake(
        "mask",
        "the result is masked, but the residuals of the padding have run back before that",
        padding_runs_back,
    ),
    Mistake(
        "off by one",
        "whether anything follows token t is said by slot t + 1; yours goes on into the first pad",
        one_slot_late,
    ),
    Mistake(
        "discount",
        "lam is missing in the recursion: this is Monte Carlo, the reward-to-go minus V",
        of_masked(lambda r, v, mask, gamma, lam: discounted(deltas_of(r, v, mask, gamma), gamma)),
    ),
    Mistake(
        "discount",
        "gamma is missing in the recursion: later residuals are discounted by gamma and by lam",
        of_masked(lambda r, v, mask, gamma, lam: discounted(deltas_of(r, v, mask, gamma), lam)),
    ),
    Mistake(
        "discount",
        "gamma is missing in the residual: the next value is worth gamma times as much now",
        of_masked(
            lambda r, v, mask, gamma, lam: discounted(deltas_of(r, v, mask, 1.0), gamma * lam)
        ),
    ),
    Mistake(
        "discount",
        "lam is in the residual as well, which makes this the reward-to-go with gamma lam minus V; "
        "there only gamma belongs to the next value",
        of_masked(
            lambda r, v, mask, gamma, lam: discounted(
                deltas_of(r, v, mask, gamma * lam), gamma * lam
            )
        ),
    ),
    Mistake(
        "formula",
        "this is one reward less the value: nothing that comes later is in it",
        of_masked(lambda r, v, mask, gamma, lam: r - v),
    ),
    Mistake(
        "formula",
        "these are the residuals alone, lam = 0: each must go back into the tokens before it",
        of_masked(lambda r, v, mask, gamma, lam: deltas_of(r, v, mask, gamma)),
    ),
    Mistake(
        "formula",
        "each residual goes back to one token only; the recursion hands on what it has gathered",
        of_masked(back_by_one),
    ),
    Mistake(
        "direction",
        "the recursion runs forwards: a token gets the residuals before it instead of those after "
        "it",
        of_masked(forwards),
    ),
    Mistake("baseline", "V(s_t) is not subtracted in the residual", of_masked(without_own_value)),
    Mistake(
        "sign",
        "V(s_t) is added in the residual; it is what was expected, and is subtracted",
        of_masked(
            lambda r, v, mask, gamma, lam: discounted(
                deltas_of(r, v, mask, gamma) + 2 * v, gamma * lam
            )
        ),
    ),
    Mistake(
        "sign",
        "the next value is subtracted in the residual; it is what is expected now, and is added",
        of_masked(
            lambda r, v, mask, gamma, lam: discounted(
                deltas_of(r, v, mask, gamma) - 2 * gamma * following(v), gamma * lam
            )
        ),
    ),
    Mistake(
        "baseline",
        "V(s_t) is added back: these are the critic's targets, not the advantages",
        of_masked(lambda r, v, mask, gamma, lam: reference(r, v, mask, gamma, lam) + v),
    ),
    Mistake(
        "shift",
        "V(s_t) and V(s_{t+1}) have changed places in the residual",
        of_masked(values_changed_places),
    ),
    Mistake(
        "sign",
        "the sign is turned: what came, plus what is expected now, minus what was expected",
        of_masked(lambda r, v, mask, gamma, lam: -reference(r, v, mask, gamma, lam)),
    ),
    Mistake(
        "off by one",
        "the sum begins with the residual of the next token; a token's own residual belongs to it",
        of_masked(lambda r, v, mask, gamma, lam: following(reference(r, v, mask, gamma, lam))),
    ),
    Mistake(
        "formula",
        "the next value is missing in the residual: it counts as much as the reward",
        of_masked(lambda r, v, mask, gamma, lam: discounted(masked(r - v, mask), gamma * lam)),
    ),
    *(
        Mistake(
            "scale",
            "the advantages are whitened; that is a step of its own, after the estimate",
            of_masked(
                lambda r, v, mask, gamma, lam, lost=lost: (
                    whitened(r, v, mask, gamma, lam) * (1 - lost / mask.sum()).sqrt()
                )
            ),
        )
        for lost in (0, 1)
    ),
    Mistake(
        "scale",
        "the mean has been taken out; the estimate itself has no such step",
        of_masked(
            lambda r, v, mask, gamma, lam: (a := reference(r, v, mask, gamma, lam)) - a[mask].mean()
        ),
    ),
    Mistake(
        "formula",
        "1 - lam stands in front of the sum; it belongs to the mixture of n-step estimates, whose "
        "sum is this without it",
        of_masked(lambda r, v, mask, gamma, lam: (1 - lam) * reference(r, v, mask, gamma, lam)),
    ),
)

CHANGES = (
    INVERTED,
    *MASKS,
    MASKED_TOO_LATE,
    number(
        "discount", "gamma is not used, neither in the residual nor in the recursion", gamma=1.0
    ),
    number("discount", "lam is not used: this is reward-to-go minus V", lam=1.0),
    number("formula", "lam is 0 here: these are the residuals alone", lam=0.0),
    swapped("discount", "gamma and lam have changed places", "gamma", "lam"),
    *ANY,
    goes_in(
        "baseline",
        "the values have no part in it",
        values=lambda case: torch.zeros_like(case["values"]),
    ),
    goes_in("sign", "the values have the wrong sign", values=lambda case: -case["values"]),
    comes_out(
        "baseline",
        "V(s_t) is added back: these are the critic's targets, not the advantages",
        lambda value, case: value + masked(case["values"], case["response_mask"]),
    ),
)

exercise = Exercise("gae", reference, cases, MISTAKES, changes=CHANGES, hints=HINTS["gae"])
