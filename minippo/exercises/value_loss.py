"""Exercise of notebook 06: the critic's loss, from what its head says at every position of prompt and response."""

import torch

from minippo.baseline import value_loss
from minippo.exercises.engine import Exercise, Mistake
from minippo.masked import masked_mean


def reference(head_outputs, value_targets, response_mask, prompt_length):
    """head_outputs [B,P+T], value_targets [B,T], response_mask [B,T] bool -> scalar; no gradient to the targets."""
    return value_loss(values=before_each_action(head_outputs, response_mask, prompt_length),
                      value_targets=value_targets.detach(), response_mask=response_mask)


def before_each_action(head_outputs, response_mask, prompt_length):
    """The outputs at the positions before the response tokens, [B,T]."""
    return head_outputs[:, prompt_length - 1:prompt_length - 1 + response_mask.shape[1]]


def cases():
    """Two ragged batches, one with a prompt of a single token; what stands in the padding is not 0."""
    generator = torch.Generator().manual_seed(6)
    made = []
    for P, lengths in ((3, (4, 2)), (1, (1, 3, 2))):
        B, T = len(lengths), max(lengths)
        made.append({"head_outputs": torch.randn(B, P + T, generator=generator, dtype=torch.float64),
                     "value_targets": 1 + torch.randn(B, T, generator=generator, dtype=torch.float64),
                     "response_mask": torch.arange(T) < torch.tensor(lengths)[:, None], "prompt_length": P})
    return made


def with_values(values):
    """An answer that has all else right."""
    def answer(head_outputs, value_targets, response_mask, prompt_length):
        return value_loss(values=values(head_outputs, response_mask, prompt_length), value_targets=value_targets.detach(),
                          response_mask=response_mask)
    return answer


def with_loss(loss):
    """An answer that reads the values at the right place: loss(values, targets, mask)."""
    def answer(head_outputs, value_targets, response_mask, prompt_length):
        return loss(before_each_action(head_outputs, response_mask, prompt_length), value_targets, response_mask)
    return answer


def half_mean(squares, mask):
    return 0.5 * masked_mean(values=squares, mask=mask)


def mean_of_rows(values, targets, mask):
    squares = torch.where(mask, (values - targets.detach()) ** 2, 0.0)
    return 0.5 * (squares.sum(dim=1) / mask.sum(dim=1)).mean()


def centred(values, targets, mask):
    errors = values - targets.detach()
    return half_mean((errors - masked_mean(values=errors, mask=mask)) ** 2, mask)


MISTAKES = (
    Mistake("shift", "your values are read at the position of the token itself; there the critic has seen the action, and V(s_t) "
                     "is what is expected BEFORE it",
            with_values(lambda outputs, mask, P: outputs[:, P:P + mask.shape[1]])),
    Mistake("shift", "your values are read from column 0 on: those positions belong to the prompt",
            with_values(lambda outputs, mask, P: outputs[:, :mask.shape[1]])),
    Mistake("mask", "the mean goes over all slots, and slots after the end of a response belong to nobody",
            with_loss(lambda values, targets, mask: 0.5 * ((values - targets.detach()) ** 2).mean())),
    Mistake("mask", "the errors are masked, but they are divided by the number of all slots instead of the real ones",
            with_loss(lambda values, targets, mask: 0.5 * torch.where(mask, (values - targets.detach()) ** 2, 0.0).mean())),
    Mistake("normalisation", "the mean is taken per response and then over responses, so a token of a short response counts more; "
                             "here every real token counts the same", with_loss(mean_of_rows)),
    Mistake("scale", "the factor 1/2 is missing", with_loss(lambda values, targets, mask: masked_mean(
        values=(values - targets.detach()) ** 2, mask=mask))),
    Mistake("sum for mean", "the errors are summed: the loss would grow with the number of tokens", with_loss(
        lambda values, targets, mask: 0.5 * torch.where(mask, (values - targets.detach()) ** 2, 0.0).sum())),
    Mistake("detach", "the targets are data: with a gradient into them the loss also falls by moving the targets to the critic",
            with_loss(lambda values, targets, mask: half_mean((values - targets) ** 2, mask))),
    Mistake("detach", "the values are right, but no gradient reaches the head: a detach, no_grad or .data is in the way",
            with_loss(lambda values, targets, mask: half_mean((values.detach() - targets.detach()) ** 2, mask))),
    Mistake("detach", "the gradient flows into the targets and not into the values: the wrong one of the two is detached",
            with_loss(lambda values, targets, mask: half_mean((values.detach() - targets) ** 2, mask))),
    Mistake("formula", "these are absolute errors; their best constant is the median of the targets, and a value is a mean",
            with_loss(lambda values, targets, mask: masked_mean(values=(values - targets.detach()).abs(), mask=mask))),
    Mistake("formula", "these are absolute errors; their best constant is the median of the targets, and a value is a mean",
            with_loss(lambda values, targets, mask: half_mean((values - targets.detach()).abs(), mask))),
    Mistake("centring", "the mean error is taken out before the square: a critic that is wrong by a constant would have loss 0",
            with_loss(centred)),
    Mistake("sign", "the sign is turned: a loss that is minimised must grow with the error",
            with_loss(lambda values, targets, mask: -half_mean((values - targets.detach()) ** 2, mask))),
)

exercise = Exercise("value_loss", reference, cases, MISTAKES, gradient_of=("head_outputs", "value_targets"))
