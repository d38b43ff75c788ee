"""Exercise of notebook 06: the critic's loss, from what its head says at every position of prompt
and response."""

from collections.abc import Callable

import torch
from torch import Tensor

from minippo.baseline import value_loss
from minippo.exercises.changes import (
    HALVED,
    MASKS,
    ROW_MEANS,
    TURNED,
    goes_in,
    responses,
    slots,
    times,
    tokens,
)
from minippo.exercises.draw import Draw, rows_in_words
from minippo.exercises.engine import Case, Exercise, Mistake
from minippo.exercises.hints import HINTS
from minippo.masked import masked_mean


def reference(
    head_outputs: Tensor, value_targets: Tensor, response_mask: Tensor, prompt_length: int
) -> Tensor:
    """head_outputs [B,P+T], value_targets [B,T], response_mask [B,T] bool -> scalar; no gradient to
    the targets."""
    return value_loss(
        values=before_each_action(head_outputs, response_mask, prompt_length),
        value_targets=value_targets.detach(),
        response_mask=response_mask,
    )


def before_each_action(head_outputs: Tensor, response_mask: Tensor, prompt_length: int) -> Tensor:
    """The outputs at the positions before the response tokens, [B,T]."""
    return head_outputs[:, prompt_length - 1 : prompt_length - 1 + response_mask.shape[1]]


def cases(seed: bytes | None = None) -> list[Case]:
    """Ragged batches, one with a prompt of a single token; what is in the padding is not 0."""
    draw = Draw("value_loss", seed)
    for rows, P, longest, spare in ((2, 3, 3, 0), (3, 1, 4, 1), (5, 2, 4, 2), (4, 4, 6, 1)):
        T = draw.longest(longest)
        mask = draw.mask(rows, T, T + spare)
        draw.add(
            f"{rows_in_words(mask)} after a prompt of {P}, numbers in the padding",
            head_outputs=draw.normal(rows, P + T + spare),
            value_targets=1 + draw.normal(*mask.shape),
            response_mask=mask,
            prompt_length=P,
        )
    return draw.cases()


def answer(
    read: Callable[[Tensor, Tensor, int], Tensor],
    loss: Callable[[Tensor, Tensor, Tensor], Tensor],
    attached: bool = False,
) -> Callable[..., Tensor]:
    """A function that reads its values and makes its loss in these ways; the targets are detached,
    or not."""

    def function(
        head_outputs: Tensor, value_targets: Tensor, response_mask: Tensor, prompt_length: int
    ) -> Tensor:
        targets = value_targets if attached else value_targets.detach()
        return loss(read(head_outputs, response_mask, prompt_length), targets, response_mask)

    return function


def squared(values: Tensor, targets: Tensor, mask: Tensor) -> Tensor:
    """value_loss without its refusal of targets that require grad."""
    return 0.5 * masked_mean(values=(values - targets) ** 2, mask=mask)


def mean_of_rows(values: Tensor, targets: Tensor, mask: Tensor) -> Tensor:
    squares = torch.where(mask, (values - targets) ** 2, 0.0)
    return 0.5 * (squares.sum(dim=1) / mask.sum(dim=1)).mean()


def centred(values: Tensor, targets: Tensor, mask: Tensor) -> Tensor:
    errors = values - targets
    return 0.5 * masked_mean(
        values=(errors - masked_mean(values=errors, mask=mask)) ** 2, mask=mask
    )


SLIPS = (  # name, message, how the values are read, the loss
    (
        "shift",
        "your values are read at the position of the token itself; there the critic has seen the "
        "action, and V(s_t) is what is expected BEFORE it",
        lambda outputs, mask, P: outputs[:, P : P + mask.shape[1]],
        squared,
    ),
    (
        "shift",
        "your values are read from column 0 on: those positions belong to the prompt",
        lambda outputs, mask, P: outputs[:, : mask.shape[1]],
        squared,
    ),
    (
        "mask",
        "the mean goes over all slots, and slots after the end of a response belong to nobody",
        before_each_action,
        lambda values, targets, mask: 0.5 * ((values - targets) ** 2).mean(),
    ),
    (
        "mask",
        "the errors are masked, but they are divided by the number of all slots instead of the "
        "real ones",
        before_each_action,
        lambda values, targets, mask: 0.5 * torch.where(mask, (values - targets) ** 2, 0.0).mean(),
    ),
    (
        "normalisation",
        "the mean is taken per response and then over responses, so a token of a short response "
        "counts more; here every real token counts the same",
        before_each_action,
        mean_of_rows,
    ),
    (
        "scale",
        "the factor 1/2 is missing",
        before_each_action,
        lambda values, targets, mask: 2 * squared(values, targets, mask),
    ),
    (
        "sum for mean",
        "the errors are summed: the loss would grow with the number of tokens",
        before_each_action,
        lambda values, targets, mask: squared(values, targets, mask) * mask.sum(),
    ),
    *(
        (
            "formula",
            "these are absolute errors; their best constant is the median of the targets, and a "
            "value is a mean",
            before_each_action,
            lambda values, targets, mask, factor=factor: (
                factor * masked_mean(values=(values - targets).abs(), mask=mask)
            ),
        )
        for factor in (1.0, 0.5)
    ),
    (
        "centring",
        "the mean error is taken out before the square: a critic that is wrong by a constant would "
        "have loss 0",
        before_each_action,
        centred,
    ),
    (
        "sign",
        "the sign is turned: a loss that is minimised must grow with the error",
        before_each_action,
        lambda values, targets, mask: -squared(values, targets, mask),
    ),
)
MISTAKES = (
    Mistake(
        "detach",
        "the targets are data: with a gradient into them the loss also falls by moving the targets "
        "to the critic",
        answer(before_each_action, squared, attached=True),
    ),
    Mistake(
        "detach",
        "the values are right, but no gradient reaches the head: a detach, no_grad or .data is in "
        "the way",
        answer(
            before_each_action,
            lambda values, targets, mask: squared(values.detach(), targets, mask),
        ),
    ),
    Mistake(
        "detach",
        "the gradient flows into the targets and not into the values: the wrong one of the two is "
        "detached",
        answer(
            before_each_action,
            lambda values, targets, mask: squared(values.detach(), targets, mask),
            attached=True,
        ),
    ),
    *(Mistake(name, message, answer(read, loss)) for name, message, read, loss in SLIPS),
    Mistake(
        "batch",
        "one number per response; an optimiser needs one number for the batch",
        answer(
            before_each_action,
            lambda values, targets, mask: (
                torch.where(mask, (values - targets) ** 2, 0.0).sum(1) / mask.sum(1) / 2
            ),
        ),
    ),
    Mistake(
        "batch",
        "one number per token; an optimiser needs one number for the batch",
        answer(
            before_each_action,
            lambda values, targets, mask: torch.where(mask, (values - targets) ** 2, 0.0) / 2,
        ),
    ),
    Mistake(
        "formula",
        "the errors are not squared: those of different signs cancel",
        answer(
            before_each_action,
            lambda values, targets, mask: masked_mean(values=values - targets, mask=mask),
        ),
    ),
    Mistake(
        "formula",
        "the mean error is squared; wanted is the mean of the squares",
        answer(
            before_each_action,
            lambda values, targets, mask: masked_mean(values=values - targets, mask=mask) ** 2 / 2,
        ),
    ),
    Mistake(
        "formula",
        "the root of the mean square is returned; the loss is half the mean square",
        answer(
            before_each_action, lambda values, targets, mask: squared(values, targets, mask).sqrt()
        ),
    ),
    Mistake(
        "formula",
        "the values are added to the targets; the error is their difference",
        answer(before_each_action, lambda values, targets, mask: squared(values, -targets, mask)),
    ),
    Mistake(
        "formula",
        "this is a Huber loss; half the squared error is asked for",
        answer(
            before_each_action,
            lambda values, targets, mask: masked_mean(
                values=torch.nn.functional.smooth_l1_loss(values, targets, reduction="none"),
                mask=mask,
            ),
        ),
    ),
    Mistake(
        "normalisation",
        "the tokens are summed and the rows averaged; here every real token counts the same",
        answer(
            before_each_action,
            lambda values, targets, mask: squared(values, targets, mask) * mask.sum() / len(mask),
        ),
    ),
    Mistake(
        "mask",
        "the mask is the wrong way round: the padding counts, and the real tokens do not",
        answer(before_each_action, lambda values, targets, mask: squared(values, targets, ~mask)),
    ),
    Mistake(
        "batch",
        "one number per token; an optimiser needs one number for the batch",
        answer(before_each_action, lambda values, targets, mask: (values - targets)[mask] ** 2 / 2),
    ),
)

CHANGES = (
    *MASKS,
    goes_in(
        "shift",
        "your values are read at the position of the token itself; there the critic has seen it",
        head_outputs=lambda case: case["head_outputs"].roll(-1, dims=1),
    ),
    goes_in(
        "shift",
        "your values are read from column 0 on: those positions belong to the prompt",
        head_outputs=lambda case: case["head_outputs"].roll(case["prompt_length"] - 1, dims=1),
    ),
    goes_in(
        "shift",
        "your values are read two positions before the token; it is one",
        head_outputs=lambda case: case["head_outputs"].roll(1, dims=1),
    ),
    times("scale", "the factor 1/2 is missing", lambda case: 2.0),
    times("sum for mean", "the errors are summed, not averaged", tokens),
    times(
        "mask",
        "the divisor is the number of all slots instead of the real ones",
        lambda case: tokens(case) / slots(case),
    ),
    times(
        "normalisation",
        "the tokens are summed and the rows averaged; here every real token counts the same",
        lambda case: tokens(case) / responses(case),
    ),
    ROW_MEANS,
    TURNED,
    HALVED,
)

exercise = Exercise(
    "value_loss",
    reference,
    cases,
    MISTAKES,
    gradient_of=("head_outputs", "value_targets"),
    changes=CHANGES,
    hints=HINTS["value_loss"],
)
