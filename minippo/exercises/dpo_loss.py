"""Exercise of notebook 17: the loss of direct preference optimisation."""

import torch
import torch.nn.functional as F
from torch import Tensor

from minippo.exercises.changes import ANY, goes_in, swapped, times
from minippo.exercises.draw import Draw
from minippo.exercises.engine import Case, Exercise, Mistake
from minippo.exercises.hints import HINTS
from minippo.relatives import direct

NAMES = ("chosen_logprobs", "rejected_logprobs", "ref_chosen_logprobs", "ref_rejected_logprobs")
FAR_APART = (
    "log",
    "right until the margin is large: sigmoid is then exactly 0 and its logarithm -inf, or an "
    "exponential is infinite; logsigmoid and softplus stay finite",
)


def reference(
    chosen_logprobs: Tensor,
    rejected_logprobs: Tensor,
    ref_chosen_logprobs: Tensor,
    ref_rejected_logprobs: Tensor,
    beta: float,
) -> Tensor:
    """Sums over the responses of N pairs, [N] each -> a scalar to be minimised."""
    return direct.dpo_loss(
        chosen_logprobs=chosen_logprobs,
        rejected_logprobs=rejected_logprobs,
        ref_chosen_logprobs=ref_chosen_logprobs,
        ref_rejected_logprobs=ref_rejected_logprobs,
        beta=beta,
    )


def cases(seed: bytes | None = None) -> list[Case]:
    """Pairs of responses of many lengths; the last with margins of a thousand nats."""
    draw = Draw("dpo_loss", seed)
    for number, beta in ((1, 0.5), (3, draw.one(0.1, 0.3)), (6, draw.one(0.6, 1.5)), (4, 2.0)):
        number += 0 if draw.fixed or number == 1 else int(draw.whole(0, 2))
        lengths = draw.uniform(2.0, 12.0, 2, number)
        refs = -lengths * draw.uniform(0.5, 1.5, 2, number)
        policy = refs + draw.normal(2, number)
        draw.add(
            f"{number} pair{'s' * (number > 1)}, beta {beta:g}",
            **dict(zip(NAMES, (*policy, *refs), strict=True)),
            beta=beta,
        )
    far = torch.tensor([900.0, -1100.0, 3.0]) * draw.one(0.9, 1.1)
    refs = -draw.uniform(5.0, 20.0, 2, 3)
    draw.add(
        "3 pairs, two of them with margins of about a thousand nats",
        FAR_APART,
        **dict(zip(NAMES, (refs[0] + far, refs[1].clone(), *refs), strict=True)),
        beta=1.0,
    )
    return draw.cases()


def margin(
    chosen_logprobs: Tensor,
    rejected_logprobs: Tensor,
    ref_chosen_logprobs: Tensor,
    ref_rejected_logprobs: Tensor,
    **rest: float,
) -> Tensor:
    """h: how much more the policy prefers the chosen one than the reference does, [N]."""
    return (chosen_logprobs - ref_chosen_logprobs) - (rejected_logprobs - ref_rejected_logprobs)


def policy_margin(chosen_logprobs: Tensor, rejected_logprobs: Tensor, **rest: object) -> Tensor:
    """The same without the reference."""
    return chosen_logprobs - rejected_logprobs


MISTAKES = (
    Mistake(
        "baseline",
        "the reference is missing: what counts is how much more the policy prefers the chosen one "
        "than the reference does",
        lambda beta, **given: -F.logsigmoid(beta * policy_margin(**given)).mean(),
    ),
    Mistake(
        "sign",
        "the margin is turned round: this makes the rejected responses likelier",
        lambda beta, **given: -F.logsigmoid(-beta * margin(**given)).mean(),
    ),
    Mistake(
        "sign",
        "the reference's preference is added; it is taken off",
        lambda beta, **given: (
            -F.logsigmoid(beta * (2 * policy_margin(**given) - margin(**given))).mean()
        ),
    ),
    Mistake(
        "scale",
        "beta is missing: it says how dear it is to leave the reference",
        lambda beta, **given: -F.logsigmoid(margin(**given)).mean(),
    ),
    Mistake(
        "scale",
        "beta stands in front of the loss; it belongs inside, with the margin",
        lambda beta, **given: -(beta * F.logsigmoid(margin(**given))).mean(),
    ),
    Mistake(
        "scale",
        "the margin is divided by beta; a high beta is a high price, and makes the loss steeper",
        lambda beta, **given: -F.logsigmoid(margin(**given) / beta).mean(),
    ),
    Mistake(
        "log",
        "the logarithm is missing: this is minus the probability of the choice",
        lambda beta, **given: -torch.sigmoid(beta * margin(**given)).mean(),
    ),
    Mistake(
        "sum for mean",
        "this is the sum over the pairs; wanted is their mean",
        lambda beta, **given: -F.logsigmoid(beta * margin(**given)).sum(),
    ),
    Mistake(
        "batch",
        "one loss per pair; wanted is their mean",
        lambda beta, **given: -F.logsigmoid(beta * margin(**given)),
    ),
    Mistake(
        "batch",
        "the margins are averaged before the loss: the loss of the mean is not the mean of losses",
        lambda beta, **given: -F.logsigmoid(beta * margin(**given).mean()),
    ),
    Mistake(
        "formula",
        "this is IPO's loss, the squared distance of the margin from 1/(2 beta)",
        lambda beta, **given: (margin(**given) - 1 / (2 * beta)).square().mean(),
    ),
    Mistake(
        "formula",
        "this is a hinge; wanted is the logarithm of the sigmoid, which never stops pulling",
        lambda beta, **given: torch.relu(1 - beta * margin(**given)).mean(),
    ),
    Mistake(
        "formula",
        "each of the two has a sigmoid of its own; there is one, around their difference",
        lambda beta, **given: (
            F.logsigmoid(beta * (given[NAMES[1]] - given[NAMES[3]]))
            - F.logsigmoid(beta * (given[NAMES[0]] - given[NAMES[2]]))
        ).mean(),
    ),
    Mistake(
        "detach",
        "the values are right, but no gradient reaches the policy's log-probabilities",
        lambda beta, **given: -F.logsigmoid(beta * margin(**given).detach()).mean(),
    ),
    Mistake(
        "formula",
        "the margin itself is maximised; it has no logarithm of a sigmoid around it",
        lambda beta, **given: -(beta * margin(**given)).mean(),
    ),
    Mistake(
        "sign",
        "this is the log-likelihood, which is to be maximised; a loss is its negative",
        lambda beta, **given: F.logsigmoid(beta * margin(**given)).mean(),
    ),
)

CHANGES = (
    *ANY,
    swapped("direction", "chosen and rejected have changed places", NAMES[0], NAMES[1]),
    swapped(
        "direction", "the reference's chosen and rejected have changed places", NAMES[2], NAMES[3]
    ),
    times(
        "sum for mean",
        "this is the sum over the pairs; wanted is their mean",
        lambda case: len(case["chosen_logprobs"]),
    ),
    goes_in(
        "baseline",
        "the reference is missing",
        ref_chosen_logprobs=lambda case: torch.zeros_like(case["ref_chosen_logprobs"]),
        ref_rejected_logprobs=lambda case: torch.zeros_like(case["ref_rejected_logprobs"]),
    ),
    goes_in("scale", "beta is missing", beta=lambda case: 1.0),
)

exercise = Exercise(
    "dpo_loss",
    reference,
    cases,
    MISTAKES,
    gradient_of=("chosen_logprobs", "rejected_logprobs"),
    changes=CHANGES,
    hints=HINTS["dpo_loss"],
)
