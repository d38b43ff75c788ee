"""Preferences without a reward model and without sampling: losses on pairs, DPO and its kin.

Where we are. RLHF trains a reward model on pairs, and then a policy against it with samples of its
own.

The problem. That is two trainings, four models in memory and a sampler in the loop.

The idea. The best policy at price beta is pi* = pi_ref exp(r / beta) / Z, so r = beta log(pi* /
pi_ref) + beta log Z. Put that into the Bradley-Terry loss of a pair: Z drops out, and what is left
is a loss on the policy itself. With h the margin of a pair,

    h = (log pi(chosen) - log pi_ref(chosen)) - (log pi(rejected) - log pi_ref(rejected))

    DPO                 -log sigmoid(beta h)
    label-smoothed DPO  the same, with a label that is wrong with probability label_smoothing
    IPO                 (h - 1 / (2 beta))^2: a margin that is enough, where DPO wants ever more

What is still wrong. The pairs are not the policy's own: what they don't show is not learned, and
nothing is found that was not in them. Where one response always wins, DPO's margin grows without
end, whatever beta is. beta is the price of the KL in units of a reward that is never made explicit.
"""

import torch
from torch import Tensor
from torch.nn import functional as F

from minippo.shapes import check_data, check_range, check_shapes


def dpo_loss(
    *,
    chosen_logprobs: Tensor,
    rejected_logprobs: Tensor,
    ref_chosen_logprobs: Tensor,
    ref_rejected_logprobs: Tensor,
    beta: float,
) -> Tensor:
    """How badly the policy's own log-ratios explain what was chosen.

    Equation (9.11) L = -mean_n log sigmoid(beta h_n),  h_n = (log pi - log pi_ref)(chosen_n)
                    - (log pi - log pi_ref)(rejected_n)
    Source   Rafailov et al. 2023, arXiv:2305.18290, equation 7.
    Shapes   four times [N] float, sums over the True tokens of a response -> scalar.
    Gradient to chosen_logprobs: -beta sigmoid(-beta h) / N, to rejected_logprobs the opposite. The
             reference is data.
    Limits   the policy is the reference: log 2. (0.14) with scores beta (log pi - log pi_ref). Far
             below: -beta h.
    Raises   ValueError: shapes differ, no pair, ref_* require grad, beta outside (0, inf).
    """
    h = _margins(chosen_logprobs, rejected_logprobs, ref_chosen_logprobs, ref_rejected_logprobs)
    check_range("(0, inf)", beta=beta)
    return -F.logsigmoid(beta * h).mean()


def label_smoothed_dpo_loss(
    *,
    chosen_logprobs: Tensor,
    rejected_logprobs: Tensor,
    ref_chosen_logprobs: Tensor,
    ref_rejected_logprobs: Tensor,
    beta: float,
    label_smoothing: float,
) -> Tensor:
    """DPO for an annotator who is thought to be wrong with probability label_smoothing.

    Equation (9.12) L = -mean_n [(1 - e) log sigmoid(beta h_n) + e log sigmoid(-beta h_n)],
                    e = label_smoothing, h as in (9.11)
    Source   Mitchell 2023, A note on DPO with noisy preferences and relationship to IPO (cDPO).
    Shapes   as (9.11).
    Gradient to chosen_logprobs: -beta (sigmoid(-beta h) - e) / N, to rejected_logprobs the
             opposite.
    Limits   e = 0: (9.11). The margin of a pair that is always won ends at log((1 - e) / e) / beta.
    Raises   ValueError: as (9.11), and label_smoothing outside [0, 0.5).
    """
    h = _margins(chosen_logprobs, rejected_logprobs, ref_chosen_logprobs, ref_rejected_logprobs)
    check_range("(0, inf)", beta=beta)
    check_range("[0, 0.5)", label_smoothing=label_smoothing)
    right, wrong = (F.logsigmoid(beta * x) for x in (h, -h))
    if label_smoothing == 0:
        wrong = torch.zeros_like(right)  # 0 * -inf is NaN
    return -((1 - label_smoothing) * right + label_smoothing * wrong).mean()


def ipo_loss(
    *,
    chosen_logprobs: Tensor,
    rejected_logprobs: Tensor,
    ref_chosen_logprobs: Tensor,
    ref_rejected_logprobs: Tensor,
    beta: float,
) -> Tensor:
    """The squared distance of the margin from 1 / (2 beta).

    Equation (9.13) L = mean_n (h_n - 1 / (2 beta))^2, h as in (9.11)
    Source   Azar et al. 2023, arXiv:2310.12036, equation 17 (beta is tau there).
    Shapes   as (9.11).
    Gradient to chosen_logprobs: 2 (h - 1 / (2 beta)) / N, to rejected_logprobs the opposite.
    Limits   h = 1 / (2 beta): 0, gradient 0. A margin beyond it is brought back.
    Raises   ValueError: as (9.11).
    """
    h = _margins(chosen_logprobs, rejected_logprobs, ref_chosen_logprobs, ref_rejected_logprobs)
    check_range("(0, inf)", beta=beta)
    return ((h - 1 / (2 * beta)) ** 2).mean()


def _margins(chosen: Tensor, rejected: Tensor, ref_chosen: Tensor, ref_rejected: Tensor) -> Tensor:
    """h of (9.11), [N]."""
    data = {"ref_chosen_logprobs": ref_chosen, "ref_rejected_logprobs": ref_rejected}
    tensors = {"chosen_logprobs": chosen, "rejected_logprobs": rejected, **data}
    check_shapes(**{name: (tensor, "N") for name, tensor in tensors.items()})
    check_data(**data)
    return (chosen - ref_chosen) - (rejected - ref_rejected)
