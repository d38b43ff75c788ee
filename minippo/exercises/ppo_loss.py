"""Exercise of notebook 14: the loss of a minibatch, put together from the exercises before."""

from typing import Any, NamedTuple

import torch
from torch import Tensor

from minippo.baseline import value_loss
from minippo.exercises.changes import MASKS, TURNED, goes_in
from minippo.exercises.draw import Draw, rows_in_words
from minippo.exercises.engine import Case, Exercise, Mistake
from minippo.exercises.hints import HINTS
from minippo.gae import gae_advantages, value_targets
from minippo.masked import scale_to_unit_std, whiten
from minippo.ppo import clipped_surrogate_loss, unclipped_surrogate_loss
from minippo.shaped_reward import shaped_rewards


class Given(NamedTuple):
    """The arguments of one call: [B,T] float, scores [B], response_mask [B,T] bool, numbers."""

    logprobs: Tensor
    values: Tensor
    old_logprobs: Tensor
    ref_logprobs: Tensor
    old_values: Tensor
    scores: Tensor
    response_mask: Tensor
    kl_coef: float
    gamma: float
    lam: float
    cliprange: float
    vf_coef: float


def rewards_of(given: Given, slip: str) -> Tensor:
    """(7.1)."""
    rewards = shaped_rewards(
        scores=given.scores,
        old_logprobs=given.old_logprobs,
        ref_logprobs=given.ref_logprobs,
        response_mask=given.response_mask,
        kl_coef=0.0 if slip == "no kl" else given.kl_coef,
    )
    if slip == "score everywhere":
        return torch.where(given.response_mask, rewards + given.scores.unsqueeze(1), 0.0)
    return rewards


def credit_of(given: Given, slip: str) -> tuple[Tensor, Tensor]:
    """(whitened advantages, targets of the critic)."""
    rewards, mask = rewards_of(given, slip), given.response_mask
    known = {"values": given.old_values, "response_mask": mask}
    advantages = gae_advantages(rewards=rewards, gamma=given.gamma, lam=given.lam, **known)
    targets = value_targets(advantages=advantages, **known)
    white = whiten(values=advantages, mask=mask)
    if slip == "mean kept":
        return scale_to_unit_std(values=advantages, mask=mask), targets
    if slip == "not whitened":
        return advantages, targets
    if slip == "targets whitened":
        return white, value_targets(advantages=white, **known)
    return white, {"rewards as targets": rewards, "advantages as targets": advantages}.get(
        slip, targets
    )


def loss_of(given: Given, slip: str = "") -> Tensor:
    """The loss, with one step of the way to it wrong if `slip` names one."""
    advantages, targets = credit_of(given, slip)
    ratio = {
        "logprobs": given.logprobs,
        "old_logprobs": given.old_logprobs,
        "advantages": advantages,
        "response_mask": given.response_mask,
    }
    if slip == "not clipped":
        policy = unclipped_surrogate_loss(**ratio)
    else:
        policy = clipped_surrogate_loss(**ratio, cliprange=given.cliprange)
    critic = value_loss(
        values=given.values, value_targets=targets, response_mask=given.response_mask
    )
    critic = {"doubled": 2 * critic, "no critic": 0 * critic}.get(slip, critic)
    weight = {"no vf_coef": 1.0, "critic subtracted": -given.vf_coef}.get(slip, given.vf_coef)
    return (-policy if slip == "objective" else policy) + weight * critic


def reference(**given: Any) -> Tensor:
    """(7.1), (4.3), (4.4), (0.5), (6.2), (3.2), from the arguments of Given: a scalar to be
    minimised."""
    return loss_of(Given(**given))


def cases(seed: bytes | None = None) -> list[Case]:
    """Ragged batches whose ratios leave the range on both sides; numbers in the padding."""
    draw = Draw("ppo_loss", seed)
    for rows, longest, spare in ((2, 4, 0), (3, 5, 1), (4, 6, 2), (6, 4, 1)):
        T = draw.longest(longest)
        mask = draw.mask(rows, T, T + spare)
        old = draw.uniform(-2.5, -0.5, *mask.shape)
        draw.add(
            f"{rows_in_words(mask)}, numbers in the padding",
            logprobs=old + draw.uniform(-0.6, 0.6, *mask.shape),
            values=draw.normal(*mask.shape),
            old_logprobs=old,
            ref_logprobs=old + draw.uniform(-0.5, 0.5, *mask.shape),
            old_values=draw.normal(*mask.shape),
            scores=2 * draw.normal(rows),
            response_mask=mask,
            kl_coef=draw.one(0.2, 0.6),
            gamma=draw.one(0.85, 0.97),
            lam=draw.one(0.7, 0.9),
            cliprange=draw.one(0.15, 0.3),
            vf_coef=draw.one(0.2, 0.7),
        )
    return draw.cases()


def slipped(name: str, message: str, slip: str) -> Mistake:
    """The mistake of one step that is wrong."""
    return Mistake(name, message, lambda **given: loss_of(Given(**given), slip))


MISTAKES = (
    slipped("formula", "the KL is missing in the rewards: every token pays for it", "no kl"),
    slipped(
        "formula",
        "the score is paid on every token; it belongs on the last one alone",
        "score everywhere",
    ),
    slipped(
        "normalisation", "the advantages are not whitened before the loss sees them", "not whitened"
    ),
    slipped(
        "centring", "the mean was added back: whitened advantages have the mean 0", "mean kept"
    ),
    slipped(
        "normalisation",
        "the targets of the critic are made of whitened advantages; make them before",
        "targets whitened",
    ),
    slipped(
        "baseline",
        "the critic learns the rewards of single tokens; its targets are advantages + old_values",
        "rewards as targets",
    ),
    slipped(
        "baseline",
        "the critic learns the advantages; its targets are advantages + old_values",
        "advantages as targets",
    ),
    slipped("clip", "nothing is clipped", "not clipped"),
    slipped("scale", "vf_coef is missing: the critic's loss counts in full", "no vf_coef"),
    slipped("scale", "the critic's loss lacks its half", "doubled"),
    slipped("formula", "the critic's loss is missing", "no critic"),
    slipped("sign", "the critic's loss is subtracted: its error would grow", "critic subtracted"),
    slipped(
        "sign",
        "the policy's part is the objective, which is to be maximised; a loss is its negative",
        "objective",
    ),
    Mistake(
        "detach",
        "the values are right, but no gradient reaches logprobs",
        lambda **given: reference(**given | {"logprobs": given["logprobs"].detach()}),
    ),
    Mistake(
        "detach",
        "the values are right, but no gradient reaches values",
        lambda **given: reference(**given | {"values": given["values"].detach()}),
    ),
    Mistake(
        "old for new",
        "the advantages are made with the values of now; they belong to the rollout: old_values",
        lambda **given: reference(**given | {"old_values": given["values"].detach()}),
    ),
    Mistake(
        "old for new",
        "the KL is that of the policy of now; the rewards belong to the rollout: old_logprobs",
        lambda **given: reference(
            **given
            | {
                "ref_logprobs": given["ref_logprobs"]
                + given["old_logprobs"]
                - given["logprobs"].detach()
            }
        ),
    ),
)

CHANGES = (
    *MASKS,
    TURNED,
    goes_in(
        "direction",
        "the KL is added to the reward; it is taken off",
        ref_logprobs=lambda case: 2 * case["old_logprobs"] - case["ref_logprobs"],
    ),
    goes_in("discount", "gamma is left out", gamma=lambda case: 1.0),
    goes_in("discount", "lam is left out: this is Monte Carlo", lam=lambda case: 1.0),
    goes_in("discount", "lam is taken for 0: this is the TD residual", lam=lambda case: 0.0),
)

exercise = Exercise(
    "ppo_loss",
    reference,
    cases,
    MISTAKES,
    gradient_of=("logprobs", "values"),
    changes=CHANGES,
    hints=HINTS["ppo_loss"],
)
