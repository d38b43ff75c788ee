"""From one score per response to one reward per token.

The reward model reads a finished response and gives one number. The policy acts token by token. The
score is paid on the last token, and every token pays for its distance from the reference, so that
the sum over the response is the quantity that is maximised: score - kl_coef * (log pi - log pi_ref)
of the whole response.
"""

from torch import Tensor

from minippo.masked import zero_padding
from minippo.ppo import KL_COEF_MAX, KL_COEF_MIN
from minippo.shapes import check_batch, check_data, check_range, check_shapes


def shaped_rewards(
    *,
    scores: Tensor,
    old_logprobs: Tensor,
    ref_logprobs: Tensor,
    response_mask: Tensor,
    kl_coef: float,
) -> Tensor:
    """Reward of every token: the KL penalty everywhere, the score on the last True slot.

    Equation (7.1)  r_t = -kl_coef (log pi(a_t|s_t) - log pi_ref(a_t|s_t)) + [t is the last True
                    slot] score
    Source   Ziegler et al. 2019, arXiv:1909.08593, section 2; Stiennon et al. 2020,
             arXiv:2009.01325, section 3.4.
    Shapes   scores [B] float; old_logprobs, ref_logprobs [B,T] float; response_mask [B,T] bool ->
             [B,T]; 0 where masked.
    Gradient none: all arguments are data; old_logprobs are those of the policy that sampled.
    Limits   kl_coef=0: the score alone. A policy equal to the reference: the score alone.
    Raises   ValueError: shapes differ, any tensor requires grad, a bad mask, kl_coef outside [0,
             inf).
    """
    check_batch(response_mask, data={"old_logprobs": old_logprobs, "ref_logprobs": ref_logprobs})
    check_shapes(scores=(scores, "B"), response_mask=(response_mask, "bool B T"))
    check_data(scores=scores)
    check_range("[0, inf)", kl_coef=kl_coef)
    rewards = zero_padding(values=-kl_coef * (old_logprobs - ref_logprobs), mask=response_mask)
    last_slot = response_mask.sum(dim=1) - 1  # [B,T] -> [B]
    return rewards.scatter_add(1, last_slot.unsqueeze(1), scores.to(rewards.dtype).unsqueeze(1))


def proportional_kl_coef(*, kl_coef: float, kl: float, target: float, share: float) -> float:
    """The next kl_coef, after a batch whose responses were `kl` nats from the reference.

    Equation (7.2)  kl_coef (1 + share e),  e = kl / target - 1 held within -0.2 and 0.2
    Source   Ziegler et al. 2019, arXiv:1909.08593, section 2.2; there share is the responses of the
             batch over 10,000 (its code's horizon).
    Shapes   four numbers -> one number.
    Gradient none: these are plain numbers.
    Limits   kl = target: unchanged. A batch changes it by at most 0.2 share.
    Raises   ValueError: kl_coef, target or share outside (0, inf), kl is NaN.
    """
    check_range("(0, inf)", kl_coef=kl_coef, target=target, share=share)
    check_range("[-inf, inf]", kl=kl)
    error = min(0.2, max(-0.2, kl / target - 1))
    return max(KL_COEF_MIN, min(kl_coef * (1 + share * error), KL_COEF_MAX))
