"""Exercise of notebook 14: the loss of a minibatch, put together from the exercises before."""

from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor

from minippo.baseline import value_loss
from minippo.exercises import clipped_loss, gae
from minippo.exercises.changes import MASKS, TURNED, goes_in, row_by_row
from minippo.exercises.draw import Draw, rows_in_words
from minippo.exercises.engine import Case, Change, Exercise, Mistake
from minippo.exercises.hints import HINTS
from minippo.exercises.recognise import Function
from minippo.gae import gae_advantages, value_targets
from minippo.masked import scale_to_unit_std, whiten
from minippo.ppo import clipped_surrogate_loss, unclipped_surrogate_loss
from minippo.reward_to_go import rewards_to_go
from minippo.shaped_reward import shaped_rewards

Slips = frozenset[str]  # names of steps that are wrong
LARGER_BRANCH = clipped_loss.made_of(torch.maximum)
PADDING_WHITENED = (
    "mean and deviation of the advantages are taken over all slots; the zeros after the end of a "
    "response are no advantages"
)
BY_ROWS = (
    "the {}'s part is a mean of the means of the rows: a token of a short response counts more; "
    "take one mean over all real tokens"
)


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


def rewards_of(given: Given, slips: Slips) -> Tensor:
    """(7.1)."""
    at_the_end = not slips & {"score in the last slot", "score first"}
    rewards = shaped_rewards(
        scores=given.scores if at_the_end else torch.zeros_like(given.scores),
        old_logprobs=given.old_logprobs,
        ref_logprobs=given.ref_logprobs,
        response_mask=given.response_mask,
        kl_coef=0.0 if "no kl" in slips else given.kl_coef,
    )
    if not at_the_end:
        rewards = rewards.clone()
        rewards[:, 0 if "score first" in slips else -1] += given.scores
    if "score everywhere" in slips:
        return torch.where(given.response_mask, rewards + given.scores.unsqueeze(1), 0.0)
    return rewards


def whitened(advantages: Tensor, mask: Tensor, slips: Slips) -> Tensor:
    """(0.5), over the real tokens and with the biased standard deviation."""
    white, real = whiten(values=advantages, mask=mask), advantages[mask]
    ways = {
        "mean kept": lambda: scale_to_unit_std(values=advantages, mask=mask),
        "not whitened": lambda: advantages,
        "mean left": lambda: advantages / real.std(correction=0),
        "centred": lambda: torch.where(mask, advantages - real.mean(), 0.0),
        "unbiased": lambda: white * (1 - 1 / len(real)) ** 0.5,
        "padding whitened": lambda: (advantages - advantages.mean()) / advantages.std(correction=0),
        "padding whitened, unbiased": lambda: (advantages - advantages.mean()) / advantages.std(),
    }
    return next((make() for slip, make in ways.items() if slip in slips), white)


def credit_of(given: Given, slips: Slips) -> tuple[Tensor, Tensor]:
    """(whitened advantages, targets of the critic)."""
    rewards, mask = rewards_of(given, slips), given.response_mask
    known = {"values": given.old_values, "response_mask": mask}
    estimate = gae_advantages
    for slip, other in (
        ("values after the end", gae.value_after_the_end),
        ("padding runs back", gae.padding_runs_back),
    ):
        estimate = other if slip in slips else estimate
    advantages = estimate(rewards=rewards, gamma=given.gamma, lam=given.lam, **known)
    white = whitened(advantages, mask, slips)
    to_go = {"rewards": rewards, "response_mask": mask}
    ways = {
        "targets whitened": lambda: value_targets(advantages=white, **known),
        "rewards as targets": lambda: rewards,
        "advantages as targets": lambda: advantages,
        "returns as targets": lambda: rewards_to_go(**to_go, gamma=given.gamma),
        "sums as targets": lambda: rewards_to_go(**to_go, gamma=1.0),
    }
    targets = next((make() for slip, make in ways.items() if slip in slips), None)
    return white, value_targets(advantages=advantages, **known) if targets is None else targets


def policy_of(given: Given, advantages: Tensor, slips: Slips) -> Tensor:
    """(6.2)."""
    ratio = {
        "logprobs": given.logprobs,
        "old_logprobs": given.old_logprobs,
        "advantages": advantages,
        "response_mask": given.response_mask,
    }
    if "not clipped" in slips:
        return unclipped_surrogate_loss(**ratio)
    loss = LARGER_BRANCH if "larger branch" in slips else clipped_surrogate_loss
    loss = row_by_row(loss) if "policy by rows" in slips else loss
    return loss(**ratio, cliprange=given.cliprange)


def critic_of(given: Given, targets: Tensor, slips: Slips) -> Tensor:
    """(3.2)."""
    loss = row_by_row(value_loss) if "critic by rows" in slips else value_loss
    critic = loss(
        values=given.old_values if "old critic" in slips else given.values,
        value_targets=targets,
        response_mask=given.response_mask,
    )
    critic = 0 * critic if "no critic" in slips else critic
    return 2 * critic if "doubled" in slips else critic


def loss_of(given: Given, slips: Slips = frozenset()) -> Tensor:
    """The loss, with the steps of the way to it wrong that `slips` names."""
    advantages, targets = credit_of(given, slips)
    policy = policy_of(given, advantages, slips)
    weight = 1.0 if "no vf_coef" in slips else given.vf_coef
    weight = -weight if "critic subtracted" in slips else weight
    return (-policy if "objective" in slips else policy) + weight * critic_of(given, targets, slips)


def reference(slips: Slips = frozenset(), **given: Any) -> Tensor:
    """(7.1), (4.3), (4.4), (0.5), (6.2), (3.2), from the arguments of Given: a scalar to be
    minimised. No slips: the right answer."""
    return loss_of(Given(**given), slips)


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
    return Mistake(name, message, also(slip)(reference))


def also(slip: str) -> Callable[[Function], Function]:
    """One wrong step more."""
    return lambda function: (
        lambda slips=frozenset(), **given: function(slips=slips | {slip}, **given)
    )


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
    slipped(
        "wrong token",
        "the score is paid in the last slot; a shorter response has ended before",
        "score in the last slot",
    ),
    slipped(
        "wrong token",
        "the score is paid on the first token; it is known when the last one is there",
        "score first",
    ),
    slipped(
        "value after the end",
        "after its last token a response is worth 0; yours takes what the critic says of a pad",
        "values after the end",
    ),
    slipped(
        "mask",
        "the values of the padding run back into the advantages of real tokens",
        "padding runs back",
    ),
    slipped(
        "variance",
        "the advantages are whitened with the unbiased standard deviation, which divides by n - 1",
        "unbiased",
    ),
    slipped(
        "centring",
        "the advantages are divided by their standard deviation, and their mean is left in them",
        "mean left",
    ),
    slipped(
        "variance",
        "the mean is taken out of the advantages, and they are not divided by their deviation",
        "centred",
    ),
    slipped("mask", PADDING_WHITENED, "padding whitened"),
    slipped("mask", PADDING_WHITENED, "padding whitened, unbiased"),
    slipped(
        "baseline",
        "the critic learns the rewards-to-go; its targets are advantages + old_values",
        "returns as targets",
    ),
    slipped(
        "baseline",
        "the critic learns the rewards-to-go, without gamma; its targets are advantages + "
        "old_values",
        "sums as targets",
    ),
    slipped("min for max", "the larger of the two products is taken", "larger branch"),
    slipped("normalisation", BY_ROWS.format("policy"), "policy by rows"),
    slipped("normalisation", BY_ROWS.format("critic"), "critic by rows"),
    slipped(
        "old for new",
        "the critic's loss is that of old_values, which are data; it is values that learn",
        "old critic",
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
    Change("scale", "the critic's loss lacks its half", also("doubled")),
    Change("scale", "vf_coef is missing", also("no vf_coef")),
    Change("normalisation", "the advantages are not whitened", also("not whitened")),
)

exercise = Exercise(
    "ppo_loss",
    reference,
    cases,
    MISTAKES,
    gradient_of=("logprobs", "values"),
    changes=CHANGES,
    hints=HINTS["ppo_loss"],
    most=2,
)
