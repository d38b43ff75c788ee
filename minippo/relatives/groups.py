"""What a response is worth beside others to the same prompt: the relatives without a critic.

Where we are. PPO takes its baseline from a critic, a second network of the size of the policy.

The problem. The critic costs memory and time, has to be learned while the policy changes, and of a
score that comes at the end it says little about the first tokens.

The idea. Sample G responses to each prompt and let them be each other's baseline. All tokens of a
response get its one number.

    leave one out    the score minus the mean of the others (RLOO): independent of the response
                     itself, so the gradient has no bias
    centred          minus the mean of all G (Dr. GRPO): (G-1)/G of leave one out
    standardised     that over the group's standard deviation (GRPO, DAPO, GSPO, CISPO): every group
                     that differs at all counts about the same

What is still wrong. A group that is all right or all wrong teaches nothing. Standardised scores no
longer say how much better: it is not the expected score that they ascend. And one number for all
tokens doesn't say which of them it was.
"""

import torch
from torch import Tensor

from minippo.masked import zero_padding
from minippo.shapes import check_count, check_data, check_mask, check_shapes


def leave_one_out_advantages(*, scores: Tensor, group_size: int) -> Tensor:
    """The score minus the mean score of the other responses to the prompt.

    Equation (9.1)  A_i = s_i - 1/(G-1) sum_{j != i} s_j,  j in the group of i
    Source   Kool et al. 2019, Buy 4 REINFORCE samples, get a baseline for free; Ahmadian et al.
             2024, arXiv:2402.14740 (RLOO).
    Shapes   scores [B] float, the G = group_size responses of a prompt in neighbouring rows -> [B].
    Gradient none: scores are data.
    Limits   equal scores: exactly 0. G = 2: the difference, with both signs. The sum over a group
             is 0.
    Raises   ValueError: scores not [B] or not finite or require grad, group_size < 2 or no divisor
             of B.
    """
    differences = _differences(scores, group_size)
    return (differences.sum(dim=2) / (group_size - 1)).flatten().to(scores.dtype)


def centred_advantages(*, scores: Tensor, group_size: int) -> Tensor:
    """The score minus the mean score of the prompt's group, its own included.

    Equation (9.2)  A_i = s_i - 1/G sum_j s_j
    Source   Liu et al. 2025, arXiv:2503.20783 (Dr. GRPO).
    Shapes   as (9.1).
    Gradient none: scores are data.
    Limits   (G-1)/G of (9.1). Equal scores: exactly 0.
    Raises   ValueError: as (9.1).
    """
    return _differences(scores, group_size).mean(dim=2).flatten().to(scores.dtype)


def standardised_advantages(*, scores: Tensor, group_size: int, correction: int = 0) -> Tensor:
    """The centred score in units of the group's standard deviation.

    Equation (9.3)  A_i = (s_i - mean) / std,  std^2 = sum_j (s_j - mean)^2 / (G - correction)
    Source   Shao et al. 2024, arXiv:2402.03300 (GRPO). Libraries often take correction=1 and add a
             small number to the std.
    Shapes   as (9.1).
    Gradient none: scores are data.
    Limits   exactly 0 where all scores of a group are the same number, however small a difference
             counts otherwise. Unchanged by s -> a s + b for a > 0. Two different scores: 1 and -1.
    Raises   ValueError: as (9.1), and correction not 0 or 1.
    """
    if isinstance(correction, bool) or correction not in (0, 1):
        raise ValueError(f"correction: got {correction!r}, wanted 0 or 1")
    differences = _differences(scores, group_size)  # [B/G,G,G]
    differ = (differences != 0).any(dim=(1, 2)).unsqueeze(1)
    centred = differences.mean(dim=2)
    unit = centred / torch.where(differ, centred.abs().amax(dim=1, keepdim=True), 1.0)
    variance = (unit**2).sum(dim=1, keepdim=True) / (group_size - correction)
    standardised = torch.where(differ, unit / variance.sqrt(), 0.0)
    return standardised.flatten().to(scores.dtype)


def overlong_penalty(*, response_mask: Tensor, max_length: int, buffer: int) -> Tensor:
    """What is added to the score of a response that is nearly too long, or is.

    Equation (9.4)  0 for l <= L - b;  (L - b - l) / b up to l = L;  -1 beyond, with l the True
                    tokens, L = max_length, b = buffer
    Source   Yu et al. 2025, arXiv:2503.14476 (DAPO, soft overlong punishment).
    Shapes   response_mask [B,T] bool -> [B] float32.
    Gradient none: it is data.
    Limits   buffer = 1: a step from 0 to -1 at max_length.
    Raises   ValueError: a bad mask, max_length or buffer < 1, buffer > max_length.
    """
    check_mask(response_mask=response_mask)
    check_count(max_length=max_length, buffer=buffer)
    if buffer > max_length:
        raise ValueError(f"buffer: got {buffer}, wanted at most max_length, {max_length}")
    lengths = response_mask.sum(dim=1).float()
    return torch.clamp((max_length - buffer - lengths) / buffer, -1.0, 0.0)


def token_weights(*, advantages: Tensor, response_mask: Tensor) -> Tensor:
    """The one number of a response on each of its tokens.

    Equation (9.5)  A_it = A_i where m_it, 0 elsewhere
    Source   all methods without a critic.
    Shapes   advantages [B] float; response_mask [B,T] bool -> [B,T] of the advantages' dtype.
    Gradient none: advantages are data.
    Limits   rows of one token: the advantages.
    Raises   ValueError: shapes differ, advantages require grad, a bad mask.
    """
    check_shapes(response_mask=(response_mask, "bool B T"), advantages=(advantages, "B"))
    check_mask(response_mask=response_mask)
    check_data(advantages=advantages)
    spread = advantages.unsqueeze(1).expand(response_mask.shape)
    return zero_padding(values=spread, mask=response_mask)


def _differences(scores: Tensor, group_size: int) -> Tensor:
    """s_i - s_j within the groups, [B/G,G,G] float64: equal scores differ by exactly 0, and a large
    one does not cost the others their digits."""
    check_shapes(scores=(scores, "B"))
    check_data(scores=scores)
    check_count(group_size=group_size)
    if group_size < 2 or len(scores) % group_size:
        raise ValueError(
            f"group_size: got {group_size}, wanted at least 2 and a divisor of the number of "
            f"scores, {len(scores)}"
        )
    if not bool(scores.isfinite().all()):
        raise ValueError("scores: wanted finite numbers, got NaN or infinity among them")
    groups = scores.double().view(-1, group_size)
    return groups.unsqueeze(2) - groups.unsqueeze(1)
