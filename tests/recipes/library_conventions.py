"""What PPO code bases compute from one batch, written down again from reading them.

Each function is one code base: rewards, advantages and value targets in NumPy, the losses in torch
float64, so that autograd gives the gradients. Nothing here is imported from minippo, and nothing is
copied: the recursion of the advantages, for one, is written as the sum that it stands for. File
and line say where each convention was read; docs/recipes.md lists the versions.

    read at      openai/lm-human-preferences cbfd210, vwxyzjn/summarize_from_feedback_details
                 ee77a9a (n-plus), trl 1.12.0, openrlhf 0.11.2, verl 0.9.1, vwxyzjn/cleanrl fe8d8a0
    B, T         responses, slots; slots count from 0
    [B,T] input  what a code base that reads everything would find there, also behind the end: the
                 tokens that openai-2019 goes on sampling, and V(s_L) in the slot L behind EOS
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np
import torch

Array = np.ndarray


@dataclass(frozen=True)
class Batch:
    """Some responses and what the models say about them."""

    scores: Array  # [B] of the reward model, before any rule about EOS
    ended: Array  # [B] bool, the response holds EOS
    response_mask: Array  # [B,T] bool, EOS included
    old_logprobs: Array  # [B,T] of the policy that sampled
    ref_logprobs: Array  # [B,T]
    logprobs: Array  # [B,T] of the policy as it is now
    old_values: Array  # [B,T] of the critic when the batch was sampled
    values: Array  # [B,T] of the critic as it is now
    final_values: Array  # [B] V(s_T): the state behind slot T-1


@dataclass(frozen=True)
class Numbers:
    """The numbers of a code base; its conventions are in its function."""

    kl_coef: float = 0.0
    kl_in_reward: str = "none"  # k1, k2, k3, abs
    kl_in_loss: str = "none"
    kl_limit: float = np.inf  # each estimate is held within
    no_eos_score: float | None = None  # in the place of the score
    missing_eos_penalty: float = 0.0  # off the score
    score_limit: float = np.inf  # scores are held within
    whiten_rewards: bool = False
    epsilon: float = 1e-8  # beside a variance or a deviation
    gamma: float = 1.0
    lam: float = 0.95
    cliprange: float = 0.2
    log_ratio_limit: float = np.inf  # log(pi / pi_old) is held within
    dual_clip: float = np.inf
    cliprange_value: float = 0.2
    vf_coef: float = 1.0
    micro_batch: int | None = None  # responses; None: all of the minibatch


class Learned(NamedTuple):
    """What a code base makes of a batch, in one minibatch."""

    rewards: Array  # [B,T] that the advantages are made of: after their whitening
    advantages: Array  # [B,T] as the policy's loss reads them
    returns: Array  # [B,T] the value targets
    policy_loss: float
    kl_loss: float  # without its coefficient
    value_loss: float  # with its 1/2, without its coefficient
    loss: float  # policy_loss + kl_coef * kl_loss + vf_coef * value_loss
    logprob_gradient: Array  # [B,T] of the loss
    value_gradient: Array  # [B,T] of the loss


# -- pieces that several share


def estimated_kl(logprobs, ref_logprobs, name: str, limit: float, xp=np):
    """One estimate of KL(policy || reference) per token; xp is numpy or torch."""
    d = logprobs - ref_logprobs
    forms = {
        "none": lambda: 0 * d,
        "k1": lambda: d,
        "abs": lambda: abs(d),
        "k2": lambda: d**2 / 2,
        "k3": lambda: xp.exp(-d) - 1 + d,
    }
    return xp.clip(forms[name](), -limit, limit)


def sums_of(deltas: Array, factor: float) -> Array:
    """sum over k >= t of factor^(k-t) deltas_k, for every t of each row."""
    T = deltas.shape[1]
    steps = np.arange(T)[None, :] - np.arange(T)[:, None]  # [t,k] = k - t
    weights = np.where(steps >= 0, float(factor) ** np.maximum(steps, 0), 0.0)
    return deltas @ weights.T


def shifted(values: Array, last: Array | float = 0.0) -> Array:
    """The entry of slot t+1 in slot t, and `last` in slot T-1."""
    behind = np.empty_like(values)
    behind[:, :-1] = values[:, 1:]
    behind[:, -1] = last
    return behind


def whitened(
    x: Array, counted: Array, epsilon: float, *, bessel: bool = False, keep_mean: bool = False
) -> Array:
    """x with the mean and variance of the counted slots taken out; `epsilon` joins the variance."""
    mean = x[counted].mean()
    variance = x[counted].var(ddof=int(bessel))
    return (x - mean) / np.sqrt(variance + epsilon) + (mean if keep_mean else 0.0)


def last_slots(response_mask: Array) -> Array:
    """The slot of each response's last token, [B]."""
    return response_mask.sum(axis=1) - 1


def scores_with_rule(batch: Batch, numbers: Numbers) -> Array:
    """Scores after what is done to responses without EOS, and to large ones."""
    unended = batch.scores - numbers.missing_eos_penalty
    if numbers.no_eos_score is not None:
        unended = np.full_like(batch.scores, numbers.no_eos_score)
    scores = np.where(batch.ended, batch.scores, unended)
    return np.clip(scores, -numbers.score_limit, numbers.score_limit)


def surrogate_terms(logprobs, old_logprobs, advantages, numbers: Numbers):
    """The policy's loss token by token, [B,T]: the worse of plain and clipped, and where A < 0 no
    more than dual_clip times -A."""
    limit = numbers.log_ratio_limit
    ratio = torch.exp(torch.clamp(logprobs - old_logprobs, -limit, limit))
    held = torch.clamp(ratio, 1 - numbers.cliprange, 1 + numbers.cliprange)
    terms = torch.maximum(-advantages * ratio, -advantages * held)
    most = torch.where(advantages < 0, -advantages * numbers.dual_clip, torch.inf)
    return torch.minimum(terms, most)


def value_terms(values, old_values, returns, numbers: Numbers):
    """Twice the critic's loss token by token, [B,T]: the worse of plain and clipped."""
    held = torch.clamp(
        values, old_values - numbers.cliprange_value, old_values + numbers.cliprange_value
    )
    return torch.maximum((values - returns) ** 2, (held - returns) ** 2)


def mean_over(terms, counted: Array, micro_batch: int | None = None):
    """The mean over the counted slots of each micro-batch, then the mean over micro-batches."""
    chosen = torch.from_numpy(counted)
    rows = len(counted) if micro_batch is None else micro_batch
    parts = [(terms[i : i + rows], chosen[i : i + rows]) for i in range(0, len(terms), rows)]
    return torch.stack([x[m].mean() for x, m in parts]).mean()


def learned(
    batch: Batch,
    numbers: Numbers,
    estimates: tuple[Array, Array, Array],
    *,
    acting: Array,
    valued: Array,
) -> Learned:
    """Losses and gradients from (rewards, advantages, returns). acting, valued [B,T] bool: the
    slots that the losses of policy and critic are means over."""
    rewards, advantages, returns = estimates
    logprobs, values = (
        torch.tensor(x, dtype=torch.float64, requires_grad=True)
        for x in (batch.logprobs, batch.values)
    )
    old_logprobs, ref_logprobs, old_values = (
        torch.tensor(x, dtype=torch.float64)
        for x in (batch.old_logprobs, batch.ref_logprobs, batch.old_values)
    )
    surrogate = surrogate_terms(logprobs, old_logprobs, torch.from_numpy(advantages), numbers)
    errors = value_terms(values, old_values, torch.from_numpy(returns), numbers)
    kl = estimated_kl(logprobs, ref_logprobs, numbers.kl_in_loss, numbers.kl_limit, xp=torch)
    policy_loss = mean_over(surrogate, acting, numbers.micro_batch)
    kl_loss = mean_over(kl, acting, numbers.micro_batch)
    value_loss = 0.5 * mean_over(errors, valued, numbers.micro_batch)
    loss = policy_loss + numbers.kl_coef * kl_loss + numbers.vf_coef * value_loss
    gradients = torch.autograd.grad(loss, (logprobs, values))
    return Learned(
        rewards,
        advantages,
        returns,
        *(x.item() for x in (policy_loss, kl_loss, value_loss, loss)),
        *(x.numpy() for x in gradients),
    )


# -- the code bases

MINIPPO = Numbers(kl_coef=0.05, kl_in_reward="k1", no_eos_score=-5.0, vf_coef=0.1, epsilon=0.0)


def minippo(batch: Batch, numbers: Numbers = MINIPPO) -> Learned:
    """The default of this project: the score on the last token, 0 behind it."""
    mask = batch.response_mask
    kl = estimated_kl(
        batch.old_logprobs, batch.ref_logprobs, numbers.kl_in_reward, numbers.kl_limit
    )
    rewards = np.where(mask, -numbers.kl_coef * kl, 0.0)
    rewards[np.arange(len(mask)), last_slots(mask)] += scores_with_rule(batch, numbers)
    values = np.where(mask, batch.old_values, 0.0)
    deltas = rewards + numbers.gamma * shifted(values) - values
    advantages = sums_of(deltas, numbers.gamma * numbers.lam)
    returns = advantages + values
    advantages = np.where(mask, whitened(advantages, mask, numbers.epsilon), 0.0)
    return learned(batch, numbers, (rewards, advantages, returns), acting=mask, valued=mask)


# train_policy.py: kl_coef and target of the sentiment runs, launch.py 127-137, epoch and clip
# ranges 47-58; lm_tasks.py 32: penalty_reward_value
OPENAI_2019 = Numbers(
    kl_coef=0.15, kl_in_reward="k1", no_eos_score=-1.0, whiten_rewards=True, vf_coef=0.1
)


def openai_2019(batch: Batch, numbers: Numbers = OPENAI_2019) -> Learned:
    """lm-human-preferences. It has no mask: all T slots hold tokens, those behind the end too.

    action           each token                                        train_policy.py 149-154
    score            in slot T-1                                       153
    end              0 behind slot T-1; V counts in every slot         331
    KL               k1 in the reward, fixed or proportional           107-124, 150-151
    EOS              score replaced when truncate_token is missing     388-402, lm_tasks.py 58-65
    whitening        per minibatch and process, n, 1e-8 to variance; rewards keep their mean and
                     are whitened first                                324-325, 338, core.py 336-341
    policy loss      mean over the minibatch                           354
    value loss       1/2 mean of the worse one, times vf_coef          344-347, 357
    optimiser        Adam, eps 1e-5, rate falls to 0, norm not cut     172-177, core.py 621-629
    critic           a head of zeros on the policy's trunk             policy.py 28, model.py 368
    old log-probs    those of sampling, at its temperature             policy.py 97-125, sample 31
    dropout          off everywhere                                    policy.py 48
    """
    everywhere = np.ones_like(batch.response_mask)
    kl = estimated_kl(
        batch.old_logprobs, batch.ref_logprobs, numbers.kl_in_reward, numbers.kl_limit
    )
    rewards = -numbers.kl_coef * kl
    rewards[:, -1] += scores_with_rule(batch, numbers)
    if numbers.whiten_rewards:
        rewards = whitened(rewards, everywhere, numbers.epsilon, keep_mean=True)
    deltas = rewards + numbers.gamma * shifted(batch.old_values) - batch.old_values
    advantages = sums_of(deltas, numbers.gamma * numbers.lam)
    returns = advantages + batch.old_values
    advantages = whitened(advantages, everywhere, numbers.epsilon)
    return learned(
        batch, numbers, (rewards, advantages, returns), acting=everywhere, valued=everywhere
    )


def paid_behind_the_end(batch: Batch, numbers: Numbers, *, bessel: bool) -> Learned:
    """What n-plus and trl share: the slot behind EOS, where there is one, holds no action but a
    state whose value is learned, and the score is paid there."""
    mask, rows = batch.response_mask, np.arange(len(batch.scores))
    T = mask.shape[1]
    last = last_slots(mask)
    alive = np.arange(T) <= np.minimum(last + 1, T - 1)[:, None]  # [B,T] tokens, and slot L
    kl = estimated_kl(
        batch.old_logprobs, batch.ref_logprobs, numbers.kl_in_reward, numbers.kl_limit
    )
    rewards = np.where(mask, -numbers.kl_coef * kl, 0.0)
    rewards[rows, np.minimum(last + 1, T - 1)] += scores_with_rule(batch, numbers)
    if numbers.whiten_rewards:
        rewards = whitened(rewards, alive, numbers.epsilon, bessel=bessel, keep_mean=True)
        rewards = np.where(alive, rewards, 0.0)
    values = np.where(alive, batch.old_values, 0.0)
    deltas = rewards + numbers.gamma * shifted(values) - values
    advantages = sums_of(deltas, numbers.gamma * numbers.lam)
    returns = advantages + values
    advantages = np.where(mask, whitened(advantages, mask, numbers.epsilon, bessel=bessel), 0.0)
    return learned(batch, numbers, (rewards, advantages, returns), acting=mask, valued=alive)


N_PLUS = Numbers(kl_coef=0.05, kl_in_reward="k1", no_eos_score=-1.0, vf_coef=0.1)  # 42-51, 129


def n_plus(batch: Batch, numbers: Numbers = N_PLUS) -> Learned:
    """summarize_from_feedback_details, ppo.py.

    action           each token; T are always sampled, those behind EOS masked     494-495, 542-549
    score            in slot L if L < T, otherwise in slot T-1                     684-685
    end              V(s_L) stays (padding_mask_p1), 0 behind slot L               674-677, 697
    KL               k1 in the reward; log-probs of masked slots are 1, so it is 0 675-681
    EOS              score replaced by -1                                          665-667
    scores           bias of the reward model taken off                            278
    whitening        rollout of one process, masked, n, 1e-8 to variance; rewards not, and when
                     they are over slot L too, with the mean kept                  235-241, 687-704
    policy loss      mean over tokens of a micro-batch, then over micro-batches    753-754, 720-723
    value loss       1/2 of the same mean, slot L included, times 0.1              744-756
    optimiser        AdamW, eps 1e-5, rate falls to 0, norm not cut                500, 575-577, 757
    critic           reward model with its head, own trunk, same optimiser         482-496
    old log-probs    of the logits that were sampled from, at their temperature    617-619, 733
    dropout          modules set to 0                                              195-199, 492-493
    """
    return paid_behind_the_end(batch, numbers, bessel=False)


# ppo_config.py 231-271; the penalty is that of examples/scripts/ppo/ppo_tldr.py, by default none
TRL = Numbers(kl_coef=0.05, kl_in_reward="k1", missing_eos_penalty=1.0, vf_coef=0.1)


def trl(batch: Batch, numbers: Numbers = TRL) -> Learned:
    """trl 1.12.0, trl/experimental/ppo/ppo_trainer.py: n-plus with these differences.

    slots            T is that of the longest response of the rollout              137
    KL               k1, when asked for k3                                         773-775
    EOS              a penalty is subtracted; default nothing                      758-759
    scores           as the reward model gives them
    whitening        n - 1 in the place of n                                       245-261, 797
    policy loss      mean over tokens of a micro-batch, then over micro-batches    846, 809-810
    value loss       as n-plus                                                     834-847
    optimiser        that of transformers' Trainer; the loop cuts no norm          494, 848-850
    critic           the value model that is handed in; its documented run hands in the reward
                     model                                                         449, 492
    """
    return paid_behind_the_end(batch, numbers, bessel=True)


# cli/train_ppo_ray.py 397-474
OPENRLHF = Numbers(
    kl_coef=0.01,
    kl_in_reward="k1",
    kl_limit=10.0,
    score_limit=10.0,
    lam=1.0,
    log_ratio_limit=20.0,
    cliprange_value=0.5,
)


def openrlhf(batch: Batch, numbers: Numbers = OPENRLHF) -> Learned:
    """openrlhf 0.11.2.

    action           each token                                       experience_maker.py 282-299
    score            on the last token, held within 10                models/utils.py 141-155
    end              values and rewards are 0 behind it               experience_maker.py 375-381
    KL               k1 in the reward, held within 10; or in the loss models/utils.py 93-113,
                                                                      ppo_actor.py 318-338
    controller       fixed, or proportional to nats per token         ppo_trainer.py 171-176, 253
    EOS              nothing; when asked for a factor or a fixed score length_penalty.py 61-106
    whitening        rollout, masked, n, variance at least 1e-8       experience_maker.py 325-338
    policy loss      mean over tokens of the optimiser step; log-ratio within 20; dual clip when
                     asked for                                        loss.py 29-39, 187-212
    value loss       1/2 mean of the worse one, own optimiser         loss.py 282-298
    optimiser        AdamW (0.9, 0.95), 1e-6 and 9e-6, norm 1         train_ppo_ray.py 503-511
    critic           reward model with its head, or a fresh head on the policy's start
                                                                      train_ppo_ray.py 646-650,
                                                                      ppo_critic.py 193-208
    old log-probs    of a pass in eval mode; the passes of training are in train mode
                                                                      ppo_actor.py 262, 634
    """
    mask = batch.response_mask
    kl = estimated_kl(
        batch.old_logprobs, batch.ref_logprobs, numbers.kl_in_reward, numbers.kl_limit
    )
    rewards = np.where(mask, -numbers.kl_coef * kl, 0.0)
    rewards[np.arange(len(mask)), last_slots(mask)] += scores_with_rule(batch, numbers)
    values = np.where(mask, batch.old_values, 0.0)
    deltas = rewards + numbers.gamma * shifted(values) - values
    advantages = sums_of(deltas, numbers.gamma * numbers.lam)
    returns = advantages + values
    variance = max(advantages[mask].var(), numbers.epsilon)
    advantages = np.where(mask, (advantages - advantages[mask].mean()) / np.sqrt(variance), 0.0)
    return learned(batch, numbers, (rewards, advantages, returns), acting=mask, valued=mask)


# actor.yaml, critic.yaml, ppo_trainer.yaml; use_kl_loss is switched on, the default is no KL at all
VERL = Numbers(
    kl_coef=0.001,
    kl_in_loss="k3",
    kl_limit=10.0,
    lam=1.0,
    log_ratio_limit=20.0,
    dual_clip=3.0,
    cliprange_value=0.5,
)


def verl(batch: Batch, numbers: Numbers = VERL) -> Learned:
    """verl 0.9.1, with use_kl_loss and low_var_kl.

    action           each token                                       core_algos.py 216-263
    score            on the last token              experimental/reward_loop/reward_manager/base.py
                                                                      76-81
    end              0; slots of tokens that are not the policy's are stepped over
                                                                      core_algos.py 245-256
    KL               none; in the reward k1, abs, k2 or k3, in the loss the same with k3 the
                     default                        ray_trainer.py 98-106, losses.py 131-141
    held             log-ratio within 20, k3 within 10                core_algos.py 1338, 2242-2245
    controller       fixed, or proportional to nats per token         ray_trainer.py 108-112
    EOS              nothing
    whitening        rollout, masked, n - 1, 1e-8 to variance         torch_functional.py 308-346
    policy loss      mean over tokens of the minibatch; where A < 0 at most 3 |A|
                                                                      core_algos.py 1342-1369
    value loss       1/2 mean of the worse one, own optimiser         core_algos.py 2171-2183
    optimiser        AdamW, 1e-6 and 1e-5, norm 1                     actor.yaml, critic.yaml
    critic           the model that is named, with a fresh head       utils/model.py 641-652
    old log-probs    of a pass of the policy                          trainer_base.py 1634-1668
    """
    mask = batch.response_mask
    kl = estimated_kl(
        batch.old_logprobs, batch.ref_logprobs, numbers.kl_in_reward, numbers.kl_limit
    )
    rewards = np.where(mask, -numbers.kl_coef * kl, 0.0)
    rewards[np.arange(len(mask)), last_slots(mask)] += scores_with_rule(batch, numbers)
    values = np.where(mask, batch.old_values, 0.0)
    deltas = rewards + numbers.gamma * shifted(values) - values
    advantages = sums_of(deltas, numbers.gamma * numbers.lam)
    returns = advantages + values
    advantages = np.where(mask, whitened(advantages, mask, numbers.epsilon, bessel=True), 0.0)
    return learned(batch, numbers, (rewards, advantages, returns), acting=mask, valued=mask)


CLEANRL = Numbers(gamma=0.99, lam=0.95, vf_coef=0.5)  # ppo.py 49-70


def cleanrl(batch: Batch, numbers: Numbers = CLEANRL) -> Learned:
    """cleanrl, ppo.py: an environment whose steps are tokens and which is done at EOS.

    reward           that of the environment: the score with the last token        207
    end              0 after done; V(s_T) where the rollout is cut off             219-231
    KL               none, there is no reference
    EOS              no rule: a rollout that is cut off goes on
    whitening        minibatch, n - 1, 1e-8 to the deviation                       260-262
    policy loss      mean over the steps of a minibatch                            265-267
    value loss       1/2 mean of the worse one, clipped at cliprange, times 0.5    270-285
    entropy          0.01 (not part of what is returned here)                      63, 284-285
    optimiser        Adam, eps 1e-5, 2.5e-4, falls to 0 after the last, norm 0.5   168, 186-190, 289
    critic           a network of its own, orthogonal start                        103-109
    minibatches      of single steps, shuffled over the rollout                    242-248
    old log-probs    those of sampling                                             199-202
    """
    mask = batch.response_mask
    last, rows = last_slots(mask), np.arange(len(mask))
    rewards = np.zeros(mask.shape)
    rewards[rows, last] += scores_with_rule(batch, numbers)
    values = np.where(mask, batch.old_values, 0.0)
    following = shifted(values)
    following[rows, last] = np.where(batch.ended, 0.0, batch.final_values)
    deltas = np.where(mask, rewards + numbers.gamma * following - values, 0.0)
    advantages = sums_of(deltas, numbers.gamma * numbers.lam)
    returns = advantages + values
    deviation = advantages[mask].std(ddof=1) + numbers.epsilon
    advantages = np.where(mask, (advantages - advantages[mask].mean()) / deviation, 0.0)
    return learned(batch, numbers, (rewards, advantages, returns), acting=mask, valued=mask)


# -- the price of the KL from one batch to the next


def kl_of_responses(batch: Batch) -> float:
    """What openai-2019 holds its target against: nats per response, over every slot.
    train_policy.py 220-221, 305"""
    return (batch.old_logprobs - batch.ref_logprobs).sum(axis=1).mean()


def kl_of_tokens(batch: Batch) -> float:
    """What verl and openrlhf hold theirs against: nats per token of a response, then the mean over
    responses. ray_trainer.py 108-112; experience_maker.py 215, ppo_trainer.py 253"""
    k1 = np.where(batch.response_mask, batch.old_logprobs - batch.ref_logprobs, 0.0)
    return (k1.sum(axis=1) / batch.response_mask.sum(axis=1)).mean()


def proportional(kl_coef: float, kl: float, *, target: float, responses: int, horizon: int):
    """The next price of all three: at most a fifth of responses / horizon more, or less.
    train_policy.py 115-124, kl_controller.py 10-19, core_algos.py 153-174"""
    return kl_coef * (1 + np.clip(kl / target - 1, -0.2, 0.2) * responses / horizon)


CODE_BASES: dict[str, tuple[Callable[[Batch, Numbers], Learned], Numbers]] = {
    "minippo": (minippo, MINIPPO),
    "openai-2019": (openai_2019, OPENAI_2019),
    "n-plus": (n_plus, N_PLUS),
    "trl": (trl, TRL),
    "openrlhf": (openrlhf, OPENRLHF),
    "verl": (verl, VERL),
    "cleanrl": (cleanrl, CLEANRL),
}


def with_numbers(name: str, batch: Batch, **numbers: float | bool | str | None) -> Learned:
    """A code base on a batch, with some of its numbers changed."""
    function, own = CODE_BASES[name]
    return function(batch, replace(own, **numbers))  # pyright: ignore[reportArgumentType]


def ragged_batch() -> Batch:
    """Two responses in T = 4 slots: the first ends after two tokens, the second never does. Round
    numbers, so that everything can be worked out by hand."""
    old_logprobs = np.array([[-1.0, -2.0, -1.0, -1.0], [-1.0, -1.0, -2.0, -1.0]])
    ratios = np.array([[1.0, 2.0, 0.5, 2.0], [1.0, 0.5, 4.0, 1.0]])
    return Batch(
        scores=np.array([2.0, 1.0]),
        ended=np.array([True, False]),
        response_mask=np.array([[True, True, False, False], [True, True, True, True]]),
        old_logprobs=old_logprobs,
        ref_logprobs=np.array([[-1.5, -2.0, -2.0, -1.0], [-1.0, -2.0, -2.0, -1.5]]),
        logprobs=old_logprobs + np.log(ratios),
        old_values=np.array([[1.0, 0.5, 0.25, 2.0], [0.5, 0.5, 1.0, 1.0]]),
        values=np.array([[1.5, 0.5, 0.75, 2.5], [0.5, 1.0, 0.5, 1.0]]),
        final_values=np.array([0.0, 0.5]),
    )
