"""Exercise of notebook 09: three estimates of KL(policy || reference) from the log-probabilities of
sampled tokens."""

from collections.abc import Callable

import torch
from torch import Tensor

from minippo.exercises.changes import ANY, INVERTED, MASKS, Arguments, comes_out, goes_in, swapped
from minippo.exercises.draw import Draw, rows_in_words
from minippo.exercises.engine import Case, Change, Exercise, Mistake
from minippo.exercises.hints import HINTS
from minippo.kl import kl_k1, kl_k2, kl_k3


def reference(logprobs: Tensor, ref_logprobs: Tensor, response_mask: Tensor) -> Tensor:
    """logprobs, ref_logprobs [B,T], response_mask [B,T] -> k1, k2, k3 as [3,B,T], 0 where the mask
    is False."""
    estimates = [k(logprobs=logprobs, ref_logprobs=ref_logprobs) for k in (kl_k1, kl_k2, kl_k3)]
    return torch.where(response_mask, torch.stack(estimates), 0.0)


def cases(seed: bytes | None = None) -> list[Case]:
    """Ragged batches, the two policies far enough apart that no two formulas agree."""
    draw = Draw("kl_estimators", seed)
    for rows, longest, spare in ((2, 3, 0), (3, 4, 1), (4, 5, 2)):
        T = draw.longest(longest)
        mask = draw.mask(rows, T, T + spare)
        draw.add(
            f"{rows_in_words(mask)}, numbers in the padding",
            logprobs=draw.uniform(-3.1, -0.1, *mask.shape),
            ref_logprobs=draw.uniform(-3.1, -0.1, *mask.shape),
            response_mask=mask,
        )
    return draw.cases()


def made_of(
    k1: Callable[[Tensor], Tensor] = lambda d: d,
    k2: Callable[[Tensor], Tensor] = lambda d: d**2 / 2,
    k3: Callable[[Tensor], Tensor] = lambda d: torch.expm1(-d) + d,
    mask: bool = True,
) -> Callable[..., Tensor]:
    """An answer in which some of the three formulas, or the mask, are replaced."""

    def answer(logprobs: Tensor, ref_logprobs: Tensor, response_mask: Tensor) -> Tensor:
        d = logprobs - ref_logprobs
        stacked = torch.stack([k1(d), k2(d), k3(d)])
        return torch.where(response_mask, stacked, 0.0) if mask else stacked

    return answer


def turned_around(logprobs: Tensor, ref_logprobs: Tensor, response_mask: Tensor) -> Tensor:
    return made_of()(ref_logprobs, logprobs, response_mask)


def detached(logprobs: Tensor, ref_logprobs: Tensor, response_mask: Tensor) -> Tensor:
    return reference(logprobs.detach(), ref_logprobs, response_mask)


def of_probabilities(logprobs: Tensor, ref_logprobs: Tensor, response_mask: Tensor) -> Tensor:
    return made_of()(logprobs.exp(), ref_logprobs.exp(), response_mask)


def weighed(logprobs: Tensor, ref_logprobs: Tensor, response_mask: Tensor) -> Tensor:
    return made_of(k1=lambda d: logprobs.exp() * d)(logprobs, ref_logprobs, response_mask)


def mean_over_tokens(logprobs: Tensor, ref_logprobs: Tensor, response_mask: Tensor) -> Tensor:
    return reference(logprobs, ref_logprobs, response_mask).sum(dim=(1, 2)) / response_mask.sum()


MISTAKES = (
    Mistake(
        "direction",
        "d is turned around: for KL(policy || reference) the policy's log-probability comes first, "
        "so that a token that became more likely has d > 0",
        turned_around,
    ),
    Mistake(
        "direction",
        "k1 and k2 are right; in k3 the exponential has the wrong sign: samples of the policy need "
        "the ratio reference / policy, whose mean is 1",
        made_of(k3=lambda d: torch.expm1(d) - d),
    ),
    Mistake(
        "sign",
        "k1 and k2 are right; in k3 the ratio is right and the sign of d is not, so k3 can be "
        "negative",
        made_of(k3=lambda d: torch.expm1(-d) - d),
    ),
    Mistake(
        "formula",
        "k3 is 1 where the two policies agree; every one of the three is 0 there",
        made_of(k3=lambda d: torch.exp(-d) + d),
    ),
    Mistake(
        "formula",
        "the last one is exp(-d) - 1 alone: the log-ratio is missing in k3, whose mean is 0 "
        "without it",
        made_of(k3=lambda d: torch.expm1(-d)),
    ),
    Mistake(
        "scale",
        "k2 is twice what it should be: near d = 0 it is to agree with k3, which starts with d^2 / "
        "2",
        made_of(k2=lambda d: d**2),
    ),
    Mistake(
        "sign",
        "k1 has lost its sign: a single value may be negative, and without those values the mean "
        "is too large",
        made_of(k1=lambda d: d.abs()),
    ),
    Mistake(
        "mask",
        "slots after the end of a response are not 0: nobody chose those tokens, use the mask",
        made_of(mask=False),
    ),
    Mistake(
        "log",
        "d is a difference of probabilities here; it is a difference of log-probabilities, which "
        "are what you were given",
        of_probabilities,
    ),
    Mistake(
        "formula",
        "k1 is multiplied by the token's probability, as in the sum over all tokens; a sample "
        "comes up that often by itself",
        weighed,
    ),
    Mistake(
        "detach",
        "the values are right, but no gradient reaches logprobs: a detach, no_grad or .data is in "
        "the way",
        detached,
    ),
    Mistake(
        "mean for sum",
        "these are three means over all tokens; wanted is one value per token, [3,B,T]",
        mean_over_tokens,
    ),
    *(
        Mistake(
            "formula",
            "the three are there in another order; wanted is k1, k2, k3",
            lambda order=order, **case: reference(**case)[order],
        )
        for order in ([2, 1, 0], [0, 2, 1], [1, 0, 2], [1, 2, 0], [2, 0, 1])
    ),
    Mistake(
        "batch",
        "the three are stacked along another dimension: wanted is [3,B,T], k1 first",
        lambda **case: reference(**case).movedim(0, -1),
    ),
    Mistake(
        "batch",
        "the three are stacked along another dimension: wanted is [3,B,T], k1 first",
        lambda **case: reference(**case).movedim(0, 1),
    ),
)


def plane(name: str, message: str, k: int, formula: Callable[[Tensor], Tensor]) -> Change:
    """One of the three is made by another formula of d."""

    def make(value: Tensor, case: Arguments) -> Tensor:
        d = case["logprobs"] - case["ref_logprobs"]
        wrong = torch.where(case["response_mask"], formula(d), 0.0)
        return torch.cat((value[:k], wrong[None], value[k + 1 :]))

    return comes_out(name, message, make)


def masked_plane(name: str, message: str, k: int, formula: Callable[[Tensor], Tensor]) -> Change:
    """The same, where d was made 0 in the padding before, and not the result."""

    def make(value: Tensor, case: Arguments) -> Tensor:
        d = torch.where(case["response_mask"], case["logprobs"] - case["ref_logprobs"], 0.0)
        return torch.cat((value[:k], formula(d)[None], value[k + 1 :]))

    return comes_out(name, message, make)


CHANGES = (
    masked_plane(
        "formula", "k3 is not 0 where d is: the 1 is missing", 2, lambda d: (-d).exp() + d
    ),
    masked_plane("formula", "k3 is the ratio alone", 2, lambda d: torch.exp(-d)),
    masked_plane("sign", "in k3 the 1 is added; it is subtracted", 2, lambda d: (-d).exp() + 1 + d),
    INVERTED,
    *MASKS,
    swapped(
        "direction",
        "d is turned around: the policy's log-probability comes first",
        "logprobs",
        "ref_logprobs",
    ),
    *ANY,
    goes_in(
        "log",
        "probabilities are used; d is a difference of log-probabilities, which are what you have",
        logprobs=lambda case: case["logprobs"].exp(),
        ref_logprobs=lambda case: case["ref_logprobs"].exp(),
    ),
    plane("sign", "k1 has the wrong sign: it is d itself", 0, lambda d: -d),
    plane("sign", "k1 has lost its sign", 0, lambda d: d.abs()),
    plane("formula", "k1 is a ratio here; it is d itself", 0, lambda d: d.exp()),
    plane("scale", "k2 is twice what it should be", 1, lambda d: d**2),
    plane("sign", "k2 has the wrong sign: a square is not negative", 1, lambda d: -(d**2) / 2),
    plane("formula", "k2 is half of d; it is half of its square", 1, lambda d: d / 2),
    plane("formula", "k2 is half of |d|; it is half of the square", 1, lambda d: d.abs() / 2),
    plane("scale", "in k2 the half is squared too: it is d^2 / 2", 1, lambda d: (d / 2) ** 2),
    plane("direction", "in k3 the ratio is upside down", 2, lambda d: torch.expm1(d) - d),
    plane("direction", "in k3 the ratio is upside down", 2, lambda d: torch.expm1(d) + d),
    plane("sign", "in k3 the sign of d is wrong", 2, lambda d: torch.expm1(-d) - d),
    plane("formula", "k3 is not 0 where d is: the 1 is missing", 2, lambda d: torch.exp(-d) + d),
    plane("sign", "in k3 the 1 is added; it is subtracted", 2, lambda d: torch.exp(-d) + 1 + d),
    plane("formula", "in k3 the log-ratio is missing", 2, lambda d: torch.expm1(-d)),
    plane("formula", "k3 is the ratio alone", 2, lambda d: torch.exp(-d)),
    plane("sign", "k3 has the wrong sign", 2, lambda d: -torch.expm1(-d) - d),
    plane("scale", "k3 is half of what it should be", 2, lambda d: (torch.expm1(-d) + d) / 2),
)

exercise = Exercise(
    "kl_estimators",
    reference,
    cases,
    MISTAKES,
    gradient_of=("logprobs",),
    changes=CHANGES,
    hints=HINTS["kl_estimators"],
)
