"""The terms of PPO's loss beside surrogate and value loss, and what changes how they are weighed.

reduced       the advantages, so that the surrogate's token mean becomes the reduction asked for
kl_term       the KL to the reference as a loss
ptx_term      the pretraining's loss, of PPO-ptx
with_dropout  the passes of a rollout with dropout, for whoever wants to see what it breaks
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from minippo.algorithms.base import Actions, Experience
from minippo.algorithms.config import PPOConfig
from minippo.gpt import GPT, Attention
from minippo.kl import kl_k1, kl_k2, kl_k3
from minippo.logprobs import token_ratios
from minippo.masked import masked_mean, zero_padding
from minippo.relatives.kl_losses import KL_LOSSES
from minippo.relatives.reductions import sequence_mean, token_factors
from minippo.rollout import Rollout
from minippo.stages.pretrain import next_token_loss


def factors_of(actions: Actions, config: PPOConfig) -> Tensor:
    """What each action's share of a token mean is multiplied by, [B,T]; 1 by default."""
    return token_factors(
        response_mask=actions["response_mask"],
        reduction=config.loss_reduction,
        length=config.response_length,
    )


def reduced(actions: Actions, config: PPOConfig) -> Actions:
    """The same actions with the advantages in the weights of the reduction.

    A surrogate's term is proportional to its advantage, so a weight may stand on either.
    """
    if config.loss_reduction == "token_mean" or config.action == "response":
        return actions
    factors = factors_of(actions, config).to(actions["advantages"].dtype)
    return actions | {"advantages": actions["advantages"] * factors}


def kl_term(logprobs: Tensor, batch: Experience, actions: Actions, config: PPOConfig) -> Tensor:
    """kl_coef times the KL to the reference, in the unit of the policy's loss.

    A token mean divides by all tokens N, a KL per response by the responses B: with B / N the two
    are weighed as in E[score] - kl_coef KL. The form is KL_LOSSES[config.kl_loss]. With a mean per
    response, a form per token is reduced in the same way.
    """
    form, rollout = KL_LOSSES[config.kl_loss], batch.rollout
    if not form.per_response and config.loss_reduction == "sequence_mean":
        return batch.kl_coef * mean_per_response(logprobs, rollout, config.kl_loss)
    loss = form.loss(
        logprobs=logprobs,
        old_logprobs=rollout.old_logprobs,
        ref_logprobs=rollout.ref_logprobs,
        response_mask=rollout.response_mask,
    )
    mask = actions["response_mask"]
    if form.per_response:
        loss = loss * len(mask) / mask.sum()
    if config.action == "token":
        loss = loss * masked_mean(values=factors_of(actions, config), mask=mask)
    return batch.kl_coef * loss


def mean_per_response(logprobs: Tensor, rollout: Rollout, form: str) -> Tensor:
    """A KL per token: the mean over rows of each row's mean."""
    mask = rollout.response_mask
    values = KL_PER_TOKEN[form](logprobs, rollout)
    return sequence_mean(values=zero_padding(values=values, mask=mask), response_mask=mask)


def weighted_k1(logprobs: Tensor, rollout: Rollout) -> Tensor:
    """k1 with the ratio of the token as its weight."""
    ratios = token_ratios(
        logprobs=logprobs, old_logprobs=rollout.old_logprobs, response_mask=rollout.response_mask
    )
    return ratios * kl_k1(logprobs=logprobs, ref_logprobs=rollout.ref_logprobs)


# form -> (logprobs, rollout) -> what the form is the mean of, [B,T]
KL_PER_TOKEN: dict[str, Callable[[Tensor, Rollout], Tensor]] = {
    "k1": lambda x, rollout: kl_k1(logprobs=x, ref_logprobs=rollout.ref_logprobs),
    "k2": lambda x, rollout: kl_k2(logprobs=x, ref_logprobs=rollout.ref_logprobs),
    "k3": lambda x, rollout: kl_k3(logprobs=x, ref_logprobs=rollout.ref_logprobs),
    "weighted_k1": weighted_k1,
}


def ptx_term(policy: GPT, batch: Experience, config: PPOConfig) -> Tensor:
    """ptx_coef times the next-token loss on some of the pretraining's texts.

    Source   Ouyang et al. 2022, arXiv:2203.02155, equation 2.
    """
    if batch.texts is None:
        raise ValueError("ptx_coef: needs the pretraining's texts, and there are none")
    # pads stand on the right, where no token reads them: any id will do
    return config.ptx_coef * next_token_loss(policy, batch.texts, pad_id=0)


@contextmanager
def with_dropout(models: list[nn.Module], p: float, generator: torch.Generator) -> Iterator[None]:
    """Inside, the models drop activations with probability p; with p = 0 nothing happens.

    Dropout draws from torch's own generator, which is seeded from `generator` and put back.
    """
    if p == 0:
        yield
        return
    parts = [
        m for model in models for m in model.modules() if isinstance(m, nn.Dropout | Attention)
    ]
    before = [part.p if isinstance(part, nn.Dropout) else part.dropout for part in parts]
    seed = int(torch.randint(2**62, (), generator=generator, device=generator.device))
    with torch.random.fork_rng(
        devices=[generator.device] if generator.device.type == "cuda" else []
    ):
        torch.manual_seed(seed)
        try:
            _set_dropout(models, parts, [p] * len(parts), training=True)
            yield
        finally:
            _set_dropout(models, parts, before, training=False)


def _set_dropout(models, parts, probabilities, training):
    for part, p in zip(parts, probabilities, strict=True):
        if isinstance(part, nn.Dropout):
            part.p = p
        else:
            part.dropout = p
    for model in models:
        model.train(training)
