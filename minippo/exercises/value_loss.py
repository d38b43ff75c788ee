"""Exercise of notebook 06: the critic's loss, from what its head says at every position of prompt
and response."""

from collections.abc import Callable

import torch
from torch import Tensor

from minippo.baseline import value_loss
from minippo.exercises.draw import Draw, rows_in_words
from minippo.exercises.engine import Case, Exercise, Mistake
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
    for rows, P, longest, spare in ((2, 3, 3, 0), (3, 1, 4, 1), (5, 2, 4, 2)):
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
        "action, and V(s_t) is what is "
        "expected BEFORE it",
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
        "the errors are masked, but they are divided by the number "
        "of all slots instead of the real ones",
        before_each_action,
        lambda values, targets, mask: 0.5 * torch.where(mask, (values - targets) ** 2, 0.0).mean(),
    ),
    (
        "normalisation",
        "the mean is taken per response and then over responses, so a token of a short response "
        "counts more; here every "
        "real token counts the same",
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
    (
        "formula",
        "these are absolute errors; their best constant is the median "
        "of the targets, and a value is a mean",
        before_each_action,
        lambda values, targets, mask: masked_mean(values=(values - targets).abs(), mask=mask),
    ),
    (
        "centring",
        "the mean error is taken out before the square: a critic that is wrong by a constant "
        "would have loss 0",
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
        "the targets are data: with a gradient into them the loss also falls by moving the "
        "targets to the critic",
        answer(before_each_action, squared, attached=True),
    ),
    Mistake(
        "detach",
        "the values are right, but no gradient reaches the head: a "
        "detach, no_grad or .data is in the way",
        answer(
            before_each_action,
            lambda values, targets, mask: squared(values.detach(), targets, mask),
        ),
    ),
    Mistake(
        "detach",
        "the gradient flows into the targets and not into the values: "
        "the wrong one of the two is detached",
        answer(
            before_each_action,
            lambda values, targets, mask: squared(values.detach(), targets, mask),
            attached=True,
        ),
    ),
    *(Mistake(name, message, answer(read, loss)) for name, message, read, loss in SLIPS),
    *(
        Mistake(
            name,
            f"{message}; and the targets are data, no gradient may reach them",
            answer(read, loss, attached=True),
        )
        for name, message, read, loss in SLIPS
    ),
)

exercise = Exercise(
    "value_loss", reference, cases, MISTAKES, gradient_of=("head_outputs", "value_targets")
)
