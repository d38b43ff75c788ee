"""Exercise of notebook 04: reward-to-go minus a baseline."""

import torch
from torch import Tensor

from minippo.baseline import baseline_advantages
from minippo.exercises.changes import ANY, INVERTED, MASKED_TOO_LATE, MASKS, goes_in, number
from minippo.exercises.draw import Draw, rows_in_words
from minippo.exercises.engine import Case, Exercise, Mistake
from minippo.exercises.hints import HINTS
from minippo.masked import whiten
from minippo.policy_gradient import trajectory_returns
from minippo.reward_to_go import rewards_to_go


def reference(rewards: Tensor, values: Tensor, response_mask: Tensor, gamma: float) -> Tensor:
    """rewards, values, response_mask [B,T] -> [B,T], equation (3.1); 0 where masked, and no
    gradient to the values."""
    return baseline_advantages(
        rewards=rewards, values=values.detach(), response_mask=response_mask, gamma=gamma
    )


def cases(seed: bytes | None = None) -> list[Case]:
    """Ragged batches, full and with spare slots, with gamma below 1 and 1; there are numbers in the
    padding of rewards and of values."""
    draw = Draw("advantages", seed)
    for rows, longest, spare, gamma in (
        (2, 3, 0, draw.one(0.4, 0.7)),
        (3, 4, 2, 1.0),
        (5, 6, 1, draw.one(0.8, 0.95)),
    ):
        T = draw.longest(longest)
        mask = draw.mask(rows, T, T + spare)
        draw.add(
            f"{rows_in_words(mask)}, gamma {gamma}, numbers in the padding",
            rewards=draw.normal(*mask.shape) + 0.5,
            values=draw.normal(*mask.shape),
            response_mask=mask,
            gamma=gamma,
        )
    return draw.cases()


def masked(x: Tensor, response_mask: Tensor) -> Tensor:
    return torch.where(response_mask, x, 0.0)


def to_go(rewards: Tensor, response_mask: Tensor, gamma: float) -> Tensor:
    return rewards_to_go(rewards=rewards, response_mask=response_mask, gamma=gamma)


def without_mask(rewards: Tensor, values: Tensor, response_mask: Tensor, gamma: float) -> Tensor:
    return reference(rewards, values, torch.ones_like(response_mask), gamma)


def padding_is_paid(rewards: Tensor, values: Tensor, response_mask: Tensor, gamma: float) -> Tensor:
    return masked(without_mask(rewards, values, response_mask, gamma), response_mask)


def values_after_the_end(
    rewards: Tensor, values: Tensor, response_mask: Tensor, gamma: float
) -> Tensor:
    return to_go(rewards, response_mask, gamma) - values.detach()


def values_not_detached(
    rewards: Tensor, values: Tensor, response_mask: Tensor, gamma: float
) -> Tensor:
    return masked(to_go(rewards, response_mask, gamma) - values, response_mask)


def wrong_sign(rewards: Tensor, values: Tensor, response_mask: Tensor, gamma: float) -> Tensor:
    return -reference(rewards, values, response_mask, gamma)


def values_added(rewards: Tensor, values: Tensor, response_mask: Tensor, gamma: float) -> Tensor:
    return reference(rewards, -values, response_mask, gamma)


def without_values(rewards: Tensor, values: Tensor, response_mask: Tensor, gamma: float) -> Tensor:
    return to_go(rewards, response_mask, gamma)


def whole_returns(rewards: Tensor, values: Tensor, response_mask: Tensor, gamma: float) -> Tensor:
    returns = trajectory_returns(rewards=rewards, response_mask=response_mask, gamma=gamma)
    return masked(returns - values.detach(), response_mask)


def rewards_so_far(rewards: Tensor, values: Tensor, response_mask: Tensor, gamma: float) -> Tensor:
    sums = []
    for reward in masked(rewards, response_mask).unbind(dim=1):
        sums.append(reward + gamma * sums[-1] if sums else reward)
    return masked(torch.stack(sums, dim=1) - values.detach(), response_mask)


def plain_sums_so_far(
    rewards: Tensor, values: Tensor, response_mask: Tensor, gamma: float
) -> Tensor:
    return masked(masked(rewards, response_mask).cumsum(dim=1) - values.detach(), response_mask)


def without_gamma(rewards: Tensor, values: Tensor, response_mask: Tensor, gamma: float) -> Tensor:
    return reference(rewards, values, response_mask, 1.0)


def gamma_from_the_start(
    rewards: Tensor, values: Tensor, response_mask: Tensor, gamma: float
) -> Tensor:
    discounts = gamma ** torch.arange(rewards.shape[1], dtype=rewards.dtype)
    return masked(to_go(rewards * discounts, response_mask, 1.0) - values.detach(), response_mask)


def without_its_own_reward(
    rewards: Tensor, values: Tensor, response_mask: Tensor, gamma: float
) -> Tensor:
    ahead = to_go(rewards, response_mask, gamma)
    return masked(
        torch.nn.functional.pad(gamma * ahead[:, 1:], (0, 1)) - values.detach(), response_mask
    )


def next_value(rewards: Tensor, values: Tensor, response_mask: Tensor, gamma: float) -> Tensor:
    later = torch.nn.functional.pad(masked(values.detach(), response_mask)[:, 1:], (0, 1))
    return masked(to_go(rewards, response_mask, gamma) - later, response_mask)


def next_value_or_padding(
    rewards: Tensor, values: Tensor, response_mask: Tensor, gamma: float
) -> Tensor:
    later = torch.nn.functional.pad(values.detach()[:, 1:], (0, 1))
    return masked(to_go(rewards, response_mask, gamma) - later, response_mask)


def reward_of_the_token_alone(
    rewards: Tensor, values: Tensor, response_mask: Tensor, gamma: float
) -> Tensor:
    return masked(rewards - values.detach(), response_mask)


def baseline_in_the_sum(
    rewards: Tensor, values: Tensor, response_mask: Tensor, gamma: float
) -> Tensor:
    return to_go(rewards - values.detach(), response_mask, gamma)


def values_discounted(
    rewards: Tensor, values: Tensor, response_mask: Tensor, gamma: float
) -> Tensor:
    return reference(rewards, gamma * values, response_mask, gamma)


def residuals(rewards: Tensor, values: Tensor, response_mask: Tensor, gamma: float) -> Tensor:
    real = masked(values.detach(), response_mask)
    later = torch.nn.functional.pad(real[:, 1:], (0, 1))
    return masked(rewards + gamma * later - real, response_mask)


def mean_of_the_returns(
    rewards: Tensor, values: Tensor, response_mask: Tensor, gamma: float
) -> Tensor:
    returns = to_go(rewards, response_mask, gamma)
    return masked(returns - returns[response_mask].mean(), response_mask)


def mean_to_go(rewards: Tensor, values: Tensor, response_mask: Tensor, gamma: float) -> Tensor:
    left = response_mask.flip(1).cumsum(dim=1).flip(1).clamp(min=1)
    return masked(to_go(rewards, response_mask, gamma) / left - values.detach(), response_mask)


MISTAKES = (
    Mistake(
        "mask",
        "slots after the end of a response are used: neither rewards nor values of the padding "
        "count, and the result there is 0",
        without_mask,
    ),
    Mistake(
        "mask",
        "numbers from the padding of the rewards reach the real tokens: take them out before "
        "summing, not after",
        padding_is_paid,
    ),
    Mistake(
        "value after the end",
        "after the end the result is minus a value of the padding; it has to be 0",
        values_after_the_end,
    ),
    Mistake(
        "detach",
        "the numbers are right, but a gradient reaches the values: the policy's loss would train "
        "the critic",
        values_not_detached,
    ),
    Mistake("sign", "the sign is turned: better than expected has to be positive", wrong_sign),
    Mistake(
        "sign",
        "the values are added; they are what was expected, and the result is the surprise",
        values_added,
    ),
    Mistake(
        "baseline",
        "this is the reward-to-go; the baseline is still to be subtracted",
        without_values,
    ),
    Mistake(
        "formula",
        "this is the return of the whole response: a token does not answer for what was paid "
        "before it",
        whole_returns,
    ),
    Mistake(
        "formula",
        "this is the total of the whole response, without gamma: a token does not answer for what "
        "was paid before it",
        lambda gamma, **case: whole_returns(gamma=1.0, **case),
    ),
    Mistake(
        "direction",
        "this adds up the rewards so far; the sum runs from the token to the end",
        rewards_so_far,
    ),
    Mistake(
        "direction",
        "this adds up the rewards so far, without gamma; the sum runs from the token to the end",
        plain_sums_so_far,
    ),
    Mistake("discount", "gamma is not used: later rewards count less", without_gamma),
    Mistake(
        "discount",
        "the discount counts from the start of the response; here it counts from the token",
        gamma_from_the_start,
    ),
    Mistake(
        "off by one",
        "the token's own reward is missing: the sum begins with the reward that its choice brought",
        without_its_own_reward,
    ),
    Mistake(
        "off by one",
        "the token's own reward is missing, and those after it are discounted one step too few",
        lambda rewards, values, response_mask, gamma: masked(
            torch.nn.functional.pad(to_go(rewards, response_mask, gamma)[:, 1:], (0, 1))
            - values.detach(),
            response_mask,
        ),
    ),
    Mistake(
        "discount",
        "the token's own reward is discounted as well: gamma counts the steps after it",
        lambda rewards, values, response_mask, gamma: reference(
            gamma * rewards, values, response_mask, gamma
        ),
    ),
    Mistake(
        "shift",
        "the values are read one slot too late: they know the token already, and a baseline must "
        "not",
        next_value,
    ),
    Mistake(
        "shift",
        "the values are read one slot too late, at the end of a response even in the padding; a "
        "baseline must not know the token",
        next_value_or_padding,
    ),
    Mistake(
        "formula",
        "this is the reward of the token alone; all that comes after it belongs to its account as "
        "well",
        reward_of_the_token_alone,
    ),
    Mistake(
        "baseline",
        "the values are subtracted from the rewards before the sum, so the values of later tokens "
        "are in it too; subtract the token's own value from its reward-to-go",
        baseline_in_the_sum,
    ),
    Mistake(
        "discount",
        "gamma has multiplied the value of the token as well; it discounts later rewards only",
        values_discounted,
    ),
    Mistake(
        "formula",
        "these are one-step residuals with the next value in them; wanted is all that is paid from "
        "the token on, minus its value",
        residuals,
    ),
    Mistake(
        "baseline",
        "the mean of the batch is subtracted; the baseline of a token is its value",
        mean_of_the_returns,
    ),
    Mistake(
        "mean for sum", "the rewards ahead are averaged; the reward-to-go is their sum", mean_to_go
    ),
    *(
        Mistake(
            "scale",
            "the advantages are whitened; that is a step of its own, after the subtraction",
            lambda lost=lost, **case: (
                whiten(values=reference(**case), mask=case["response_mask"])
                * (1 - lost / case["response_mask"].sum()).sqrt()
            ),
        )
        for lost in (0, 1)
    ),
)

CHANGES = (
    INVERTED,
    *MASKS,
    MASKED_TOO_LATE,
    number("discount", "gamma is not used: later rewards count less", gamma=1.0),
    *ANY,
    goes_in(
        "sign",
        "the values are added; they are what was expected, and the result is the surprise",
        values=lambda case: -case["values"],
    ),
    goes_in(
        "baseline",
        "the baseline is still to be subtracted",
        values=lambda case: torch.zeros_like(case["values"]),
    ),
    goes_in(
        "shift",
        "the values are read one slot too late: they know the token already",
        values=lambda case: case["values"].roll(-1, dims=1),
    ),
    goes_in(
        "shift",
        "the values are read one slot too early",
        values=lambda case: case["values"].roll(1, dims=1),
    ),
)

exercise = Exercise(
    "advantages",
    reference,
    cases,
    MISTAKES,
    gradient_of=("values",),
    changes=CHANGES,
    hints=HINTS["advantages"],
)
