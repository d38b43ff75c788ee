"""Exercise of notebook 00: what RLHF maximises, E[score] - kl_coef * KL, from one batch."""

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

from minippo.exercises.changes import ANY, MASKS, goes_in, number, responses, times
from minippo.exercises.draw import Draw, rows_in_words
from minippo.exercises.engine import Case, Exercise, Mistake
from minippo.exercises.hints import HINTS
from minippo.kl import kl_k1
from minippo.masked import zero_padding
from minippo.rollout import apply_eos_rule


def reference(
    scores: Tensor,
    ended: Tensor,
    logprobs: Tensor,
    ref_logprobs: Tensor,
    response_mask: Tensor,
    kl_coef: float,
    no_eos_score: float,
) -> Tensor:
    """scores [B], ended [B]; logprobs, ref_logprobs, response_mask [B,T] -> scalar."""
    ruled = apply_eos_rule(scores, ended, no_eos_score=no_eos_score, missing_eos_penalty=0.0)
    k1 = zero_padding(
        values=kl_k1(logprobs=logprobs, ref_logprobs=ref_logprobs), mask=response_mask
    )
    return (ruled - kl_coef * k1.sum(dim=1)).mean()


LOW_SCORES = (
    "EOS",
    "right until the score of a response that did not end is below no_eos_score: the rule replaces "
    "the score, whichever of the two is lower",
)
NAN = (
    None,
    "where the padding holds NaN it comes through: a product with 0 is NaN still, torch.where and "
    "masked_fill are not",
)


def cases(seed: bytes | None = None) -> list[Case]:
    """Ragged batches, some with responses that did not end; then one in which these have the lowest
    scores, and one with NaN in the padding."""
    draw = Draw("objective", seed)
    for rows, longest, unended, low, slip in (
        (2, 3, 1, False, None),
        (4, 5, 2, False, None),
        (3, 4, 0, False, None),
        (5, 6, 1, False, None),
        (3, 4, 1, True, LOW_SCORES),
        (3, 3, 1, False, NAN),
    ):
        T, no_eos_score = draw.longest(longest), -draw.one(2, 5)
        mask, kl_coef = draw.mask(rows, T, T + 1), draw.one(0.1, 0.6)
        ended = torch.tensor([n >= unended for n in draw.order(rows)])
        scores = draw.normal(rows).clamp(-1.8, 1.8) + 0.5
        padding = torch.where(mask, 0.0, torch.nan) if slip is NAN else torch.zeros(mask.shape)
        draw.add(
            f"{rows_in_words(mask)}, {unended} of {rows} did not end, kl_coef {kl_coef}, "
            f"no_eos_score {no_eos_score}{', NaN in the padding' if slip is NAN else ''}",
            slip,
            scores=torch.where(ended, scores, scores - 9) if low else scores,
            ended=ended,
            logprobs=draw.uniform(-3, 0, *mask.shape) + padding,
            ref_logprobs=draw.uniform(-3, 0, *mask.shape) + padding,
            response_mask=mask,
            kl_coef=kl_coef,
            no_eos_score=no_eos_score,
        )
    return draw.cases()


class Given(NamedTuple):
    """The arguments of one call, for the mistakes."""

    scores: Tensor
    ended: Tensor
    logprobs: Tensor
    ref_logprobs: Tensor
    response_mask: Tensor
    kl_coef: float
    no_eos_score: float

    def ruled(self) -> Tensor:
        """The scores after the EOS rule."""
        return torch.where(self.ended, self.scores, self.no_eos_score)

    def k1(self) -> Tensor:
        """log pi - log pi_ref, 0 in the padding."""
        return torch.where(self.response_mask, self.logprobs - self.ref_logprobs, 0.0)


def mistaken(formula: Callable[[Given], Tensor]) -> Callable[..., Tensor]:
    """The function with the exercise's arguments that computes this formula."""
    return lambda **arguments: formula(Given(**arguments))


def priced(given: Given) -> Tensor:
    """The objective at any price, also one below 0."""
    return (given.ruled() - given.kl_coef * given.k1().sum(dim=1)).mean()


def mean_within_rows(given: Given) -> Tensor:
    means = given.k1().sum(dim=1) / given.response_mask.sum(dim=1)
    return (given.ruled() - given.kl_coef * means).mean()


def without_eos_rule(given: Given) -> Tensor:
    return priced(given._replace(ended=torch.ones_like(given.ended)))


def eos_rule_as_penalty(given: Given) -> Tensor:
    lowered = torch.where(given.ended, given.scores, given.scores + given.no_eos_score)
    return without_eos_rule(given._replace(scores=lowered))


def unended_left_out(given: Given) -> Tensor:
    rows = {name: x[given.ended] for name, x in given._asdict().items() if isinstance(x, Tensor)}
    return priced(given._replace(**rows))


def weighted_by_probability(given: Given) -> Tensor:
    weighted = torch.where(given.response_mask, given.logprobs.exp() * given.k1(), 0.0)
    return (given.ruled() - given.kl_coef * weighted.sum(dim=1)).mean()


def ratio_of_probabilities(given: Given) -> Tensor:
    ratios = torch.where(given.response_mask, given.k1().exp(), 0.0)
    return (given.ruled() - given.kl_coef * ratios.sum(dim=1)).mean()


MISTAKES = (
    Mistake(
        "sign",
        "the KL is paid to the policy: either it is added, or the difference of log-probabilities "
        "is the wrong way round (policy minus reference, and that is subtracted)",
        mistaken(lambda g: priced(g._replace(kl_coef=-g.kl_coef))),
    ),
    Mistake(
        "scale",
        "the KL has no part in it: distance from the reference has a price",
        mistaken(lambda g: priced(g._replace(kl_coef=0.0))),
    ),
    Mistake(
        "scale",
        "the KL is subtracted as it is; a nat costs kl_coef",
        mistaken(lambda g: priced(g._replace(kl_coef=1.0))),
    ),
    Mistake(
        "mask",
        "slots after the end of a response are in the KL: what is there belongs to nobody, use the "
        "mask",
        mistaken(lambda g: priced(g._replace(response_mask=torch.ones_like(g.response_mask)))),
    ),
    Mistake(
        "mean for sum",
        "this is the KL per token; the price is for the whole response, so the tokens of a "
        "response are summed, and then comes the mean over responses",
        mistaken(lambda g: g.ruled().mean() - g.kl_coef * g.k1().sum() / g.response_mask.sum()),
    ),
    Mistake(
        "mean for sum",
        "the KL is averaged within each response, so that a long response pays no more than a "
        "short one; sum over its tokens",
        mistaken(mean_within_rows),
    ),
    Mistake(
        "mean for sum",
        "the KL is averaged over all slots, pads included; sum over the tokens of a response, then "
        "take the mean over responses",
        mistaken(lambda g: g.ruled().mean() - g.kl_coef * g.k1().mean()),
    ),
    Mistake(
        "sum for mean",
        "the KL is summed over the whole batch, so it grows with the number of responses; it needs "
        "a mean over responses as the score does",
        mistaken(lambda g: g.ruled().mean() - g.kl_coef * g.k1().sum()),
    ),
    Mistake(
        "sum for mean",
        "this is the sum over the responses; an expectation is estimated by the mean",
        mistaken(lambda g: len(g.scores) * priced(g)),
    ),
    Mistake(
        "EOS",
        "a response that did not end keeps its score: the EOS rule gives it no_eos_score instead",
        mistaken(without_eos_rule),
    ),
    Mistake(
        "EOS",
        "the EOS rule is the wrong way round: the responses that ended keep their scores",
        mistaken(lambda g: priced(g._replace(ended=~g.ended))),
    ),
    Mistake(
        "EOS",
        "no_eos_score is added to the score of a response that did not end; the rule replaces that "
        "score",
        mistaken(eos_rule_as_penalty),
    ),
    Mistake(
        "EOS",
        "responses that did not end are left out of the mean: not ending would then cost nothing",
        mistaken(unended_left_out),
    ),
    Mistake(
        "EOS",
        "the scores of responses that did not end are left out of the mean; they count as "
        "no_eos_score",
        mistaken(lambda g: g.scores[g.ended].mean() - g.kl_coef * g.k1().sum(dim=1).mean()),
    ),
    Mistake(
        "batch",
        "one number per response; the objective is the mean over the batch",
        mistaken(lambda g: g.ruled() - g.kl_coef * g.k1().sum(dim=1)),
    ),
    Mistake(
        "formula",
        "the differences are multiplied with the probabilities; the tokens were drawn with these "
        "probabilities, so a mean over the samples has them in it already",
        mistaken(weighted_by_probability),
    ),
    Mistake(
        "formula",
        "the absolute values of the differences are summed; single differences may be negative, "
        "and only with their signs does the sum estimate the KL",
        mistaken(lambda g: (g.ruled() - g.kl_coef * g.k1().abs().sum(dim=1)).mean()),
    ),
    Mistake(
        "log",
        "these are ratios of probabilities; the KL is made of their logarithms, the differences of "
        "log-probabilities",
        mistaken(ratio_of_probabilities),
    ),
    Mistake(
        "scale",
        "kl_coef has multiplied the score as well; it is the price of the KL alone",
        mistaken(lambda g: g.kl_coef * (g.ruled() - g.k1().sum(dim=1)).mean()),
    ),
    Mistake(
        "scale",
        "kl_coef has multiplied the score in place of the KL",
        mistaken(lambda g: (g.kl_coef * g.ruled() - g.k1().sum(dim=1)).mean()),
    ),
    Mistake(
        "scale",
        "the KL is divided by kl_coef; a nat costs kl_coef",
        mistaken(lambda g: (g.ruled() - g.k1().sum(dim=1) / g.kl_coef).mean()),
    ),
    Mistake(
        "formula",
        "the score has no part in it: the objective is the mean score minus what the KL costs",
        mistaken(lambda g: -g.kl_coef * g.k1().sum(dim=1).mean()),
    ),
    Mistake(
        "formula",
        "this penalty is k3; the plain log-ratio is asked for",
        mistaken(lambda g: (g.ruled() - g.kl_coef * (g.k1().neg().expm1() + g.k1()).sum(1)).mean()),
    ),
    Mistake(
        "formula",
        "the differences are squared; the plain log-ratio is asked for",
        mistaken(lambda g: (g.ruled() - g.kl_coef * (g.k1() ** 2).sum(1)).mean()),
    ),
    Mistake(
        "formula",
        "this penalty is k2; the plain log-ratio is asked for",
        mistaken(lambda g: (g.ruled() - g.kl_coef * (g.k1() ** 2).sum(1) / 2).mean()),
    ),
    Mistake(
        "EOS",
        "no_eos_score is added to every score; it replaces those of the responses without EOS",
        mistaken(
            lambda g: priced(
                g._replace(scores=g.scores + g.no_eos_score, ended=torch.ones_like(g.ended))
            )
        ),
    ),
    Mistake(
        "EOS",
        "a response that did not end gets 0; the rule gives it no_eos_score",
        mistaken(lambda g: priced(g._replace(no_eos_score=0.0))),
    ),
    Mistake(
        "EOS",
        "no_eos_score is subtracted from the score of a response that did not end; the rule "
        "replaces that score",
        mistaken(
            lambda g: without_eos_rule(
                g._replace(scores=torch.where(g.ended, g.scores, g.scores - g.no_eos_score))
            )
        ),
    ),
    Mistake(
        "EOS",
        "the KL of responses that did not end is left out; only their score is replaced",
        mistaken(lambda g: (g.ruled() - g.kl_coef * g.k1().sum(dim=1) * g.ended).mean()),
    ),
    Mistake(
        "EOS",
        "a response that did not end gets no_eos_score in place of score and KL",
        mistaken(
            lambda g: torch.where(
                g.ended, g.scores - g.kl_coef * g.k1().sum(dim=1), g.no_eos_score
            ).mean()
        ),
    ),
)

CHANGES = (
    *MASKS,
    goes_in(
        "sign",
        "the KL is paid to the policy: it is added, or its difference is the wrong way round",
        kl_coef=lambda case: -case["kl_coef"],
    ),
    number("scale", "the KL has no part in it", kl_coef=0.0),
    number("scale", "kl_coef is missing: a nat costs kl_coef", kl_coef=1.0),
    goes_in(
        "EOS",
        "a response that did not end keeps its score; the EOS rule gives it no_eos_score",
        ended=lambda case: torch.ones_like(case["ended"]),
    ),
    goes_in("EOS", "the EOS rule is the wrong way round", ended=lambda case: ~case["ended"]),
    number("EOS", "a response that did not end gets 0, not no_eos_score", no_eos_score=0.0),
    goes_in(
        "EOS",
        "no_eos_score is added to the score of a response that did not end; it replaces it",
        scores=lambda c: torch.where(c["ended"], c["scores"], c["scores"] + c["no_eos_score"]),
        ended=lambda case: torch.ones_like(case["ended"]),
    ),
    goes_in(
        "log",
        "probabilities are used; the KL is made of log-probabilities",
        logprobs=lambda case: case["logprobs"].exp(),
        ref_logprobs=lambda case: case["ref_logprobs"].exp(),
    ),
    times("sum for mean", "this is the sum over the responses, not the mean", responses),
    *ANY,
)

exercise = Exercise(
    "objective", reference, cases, MISTAKES, changes=CHANGES, hints=HINTS["objective"]
)
