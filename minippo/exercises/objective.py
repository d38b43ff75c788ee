"""Exercise of notebook 00: what RLHF maximises, E[score] - kl_coef * KL, from one batch."""

import torch

from minippo.exercises.engine import Exercise, Mistake, mask_of_lengths
from minippo.kl import kl_k1
from minippo.masked import zero_padding
from minippo.rollout import apply_eos_rule


def reference(scores, ended, logprobs, ref_logprobs, response_mask, kl_coef, no_eos_score):
    """scores [B], ended [B]; logprobs, ref_logprobs, response_mask [B,T] -> scalar."""
    ruled = apply_eos_rule(scores, ended, no_eos_score=no_eos_score, missing_eos_penalty=0.0)
    k1 = zero_padding(
        values=kl_k1(logprobs=logprobs, ref_logprobs=ref_logprobs), mask=response_mask
    )
    return (ruled - kl_coef * k1.sum(dim=1)).mean()


def cases():
    """Ragged batches, each with responses that did not end; the padding holds numbers."""
    generator = torch.Generator().manual_seed(2)
    made = []
    for lengths, unended, kl_coef, no_eos_score in (
        ((5, 2, 4), (0,), 0.3, -2.0),
        ((1, 6, 3, 2), (1, 2), 0.05, -5.0),
        ((2, 3), (), 1.5, -1.0),
    ):
        B, T = len(lengths), max(lengths) + 1
        new, old = (
            -torch.rand(B, T, generator=generator, dtype=torch.float64) * 3 for _ in range(2)
        )
        ended = torch.ones(B, dtype=torch.bool)
        ended[list(unended)] = False
        made.append(
            {
                "scores": torch.randn(B, generator=generator, dtype=torch.float64) + 0.5,
                "ended": ended,
                "logprobs": new,
                "ref_logprobs": old,
                "kl_coef": kl_coef,
                "no_eos_score": no_eos_score,
                "response_mask": mask_of_lengths(lengths, T),
            }
        )
    return made


def pieces(scores, ended, logprobs, ref_logprobs, response_mask, no_eos_score):
    """(scores after the EOS rule, log pi - log pi_ref with 0 in the padding)."""
    return torch.where(ended, scores, no_eos_score), torch.where(
        response_mask, logprobs - ref_logprobs, 0.0
    )


def priced(scores, ended, logprobs, ref_logprobs, response_mask, kl_coef, no_eos_score):
    """The objective at any price, also one below 0."""
    ruled, k1 = pieces(scores, ended, logprobs, ref_logprobs, response_mask, no_eos_score)
    return (ruled - kl_coef * k1.sum(dim=1)).mean()


def kl_added(scores, ended, logprobs, ref_logprobs, response_mask, kl_coef, no_eos_score):
    return priced(scores, ended, logprobs, ref_logprobs, response_mask, -kl_coef, no_eos_score)


def without_price(scores, ended, logprobs, ref_logprobs, response_mask, kl_coef, no_eos_score):
    return priced(scores, ended, logprobs, ref_logprobs, response_mask, 0.0, no_eos_score)


def at_full_price(scores, ended, logprobs, ref_logprobs, response_mask, kl_coef, no_eos_score):
    return priced(scores, ended, logprobs, ref_logprobs, response_mask, 1.0, no_eos_score)


def without_mask(scores, ended, logprobs, ref_logprobs, response_mask, kl_coef, no_eos_score):
    return priced(
        scores, ended, logprobs, ref_logprobs, torch.ones_like(response_mask), kl_coef, no_eos_score
    )


def mean_over_tokens(scores, ended, logprobs, ref_logprobs, response_mask, kl_coef, no_eos_score):
    ruled, k1 = pieces(scores, ended, logprobs, ref_logprobs, response_mask, no_eos_score)
    return ruled.mean() - kl_coef * k1.sum() / response_mask.sum()


def mean_within_rows(scores, ended, logprobs, ref_logprobs, response_mask, kl_coef, no_eos_score):
    ruled, k1 = pieces(scores, ended, logprobs, ref_logprobs, response_mask, no_eos_score)
    return (ruled - kl_coef * k1.sum(dim=1) / response_mask.sum(dim=1)).mean()


def mean_over_slots(scores, ended, logprobs, ref_logprobs, response_mask, kl_coef, no_eos_score):
    ruled, k1 = pieces(scores, ended, logprobs, ref_logprobs, response_mask, no_eos_score)
    return ruled.mean() - kl_coef * k1.mean()


def kl_of_the_batch(scores, ended, logprobs, ref_logprobs, response_mask, kl_coef, no_eos_score):
    ruled, k1 = pieces(scores, ended, logprobs, ref_logprobs, response_mask, no_eos_score)
    return ruled.mean() - kl_coef * k1.sum()


def total(scores, ended, logprobs, ref_logprobs, response_mask, kl_coef, no_eos_score):
    return len(scores) * priced(
        scores, ended, logprobs, ref_logprobs, response_mask, kl_coef, no_eos_score
    )


def without_eos_rule(scores, ended, logprobs, ref_logprobs, response_mask, kl_coef, no_eos_score):
    return priced(
        scores, torch.ones_like(ended), logprobs, ref_logprobs, response_mask, kl_coef, no_eos_score
    )


def eos_rule_turned(scores, ended, logprobs, ref_logprobs, response_mask, kl_coef, no_eos_score):
    return priced(scores, ~ended, logprobs, ref_logprobs, response_mask, kl_coef, no_eos_score)


def eos_rule_as_penalty(
    scores, ended, logprobs, ref_logprobs, response_mask, kl_coef, no_eos_score
):
    lowered = torch.where(ended, scores, scores + no_eos_score)
    return priced(
        lowered,
        torch.ones_like(ended),
        logprobs,
        ref_logprobs,
        response_mask,
        kl_coef,
        no_eos_score,
    )


def unended_left_out(scores, ended, logprobs, ref_logprobs, response_mask, kl_coef, no_eos_score):
    rows = (x[ended] for x in (scores, ended, logprobs, ref_logprobs, response_mask))
    return priced(*rows, kl_coef, no_eos_score)


def unended_scores_left_out(
    scores, ended, logprobs, ref_logprobs, response_mask, kl_coef, no_eos_score
):
    _, k1 = pieces(scores, ended, logprobs, ref_logprobs, response_mask, no_eos_score)
    return scores[ended].mean() - kl_coef * k1.sum(dim=1).mean()


def one_per_response(scores, ended, logprobs, ref_logprobs, response_mask, kl_coef, no_eos_score):
    ruled, k1 = pieces(scores, ended, logprobs, ref_logprobs, response_mask, no_eos_score)
    return ruled - kl_coef * k1.sum(dim=1)


def weighted_by_probability(
    scores, ended, logprobs, ref_logprobs, response_mask, kl_coef, no_eos_score
):
    ruled, k1 = pieces(scores, ended, logprobs, ref_logprobs, response_mask, no_eos_score)
    return (
        ruled - kl_coef * torch.where(response_mask, logprobs.exp() * k1, 0.0).sum(dim=1)
    ).mean()


def absolute_kl(scores, ended, logprobs, ref_logprobs, response_mask, kl_coef, no_eos_score):
    ruled, k1 = pieces(scores, ended, logprobs, ref_logprobs, response_mask, no_eos_score)
    return (ruled - kl_coef * k1.abs().sum(dim=1)).mean()


def ratio_of_probabilities(
    scores, ended, logprobs, ref_logprobs, response_mask, kl_coef, no_eos_score
):
    ruled, k1 = pieces(scores, ended, logprobs, ref_logprobs, response_mask, no_eos_score)
    return (ruled - kl_coef * torch.where(response_mask, k1.exp(), 0.0).sum(dim=1)).mean()


MISTAKES = (
    Mistake(
        "sign",
        "the KL is paid to the policy: either it is added, or the "
        "difference of log-probabilities is the "
        "wrong way round (policy minus reference, and that is subtracted)",
        kl_added,
    ),
    Mistake(
        "scale", "the KL has no part in it: distance from the reference has a price", without_price
    ),
    Mistake("scale", "the KL is subtracted as it is; a nat costs kl_coef", at_full_price),
    Mistake(
        "mask",
        "slots after the end of a response are in the KL: what "
        "stands there belongs to nobody, use the "
        "mask",
        without_mask,
    ),
    Mistake(
        "mean for sum",
        "this is the KL per token; the price is for the whole response, so the tokens of a "
        "response are summed, and then comes the mean over responses",
        mean_over_tokens,
    ),
    Mistake(
        "mean for sum",
        "the KL is averaged within each response, so that a long response pays no more than a "
        "short one; sum over its tokens",
        mean_within_rows,
    ),
    Mistake(
        "mean for sum",
        "the KL is averaged over all slots, pads included; sum over the tokens of a response, then "
        "take the mean over responses",
        mean_over_slots,
    ),
    Mistake(
        "sum for mean",
        "the KL is summed over the whole batch, so it grows with the number of responses; it needs "
        "a mean over responses as the score does",
        kl_of_the_batch,
    ),
    Mistake(
        "sum for mean",
        "this is the sum over the responses; an expectation is estimated by the mean",
        total,
    ),
    Mistake(
        "EOS",
        "a response that did not end keeps its score: the EOS rule gives it no_eos_score instead",
        without_eos_rule,
    ),
    Mistake(
        "EOS",
        "the EOS rule is the wrong way round: the responses that ended keep their scores",
        eos_rule_turned,
    ),
    Mistake(
        "EOS",
        "no_eos_score is added to the score of a response that did "
        "not end; the rule replaces that score",
        eos_rule_as_penalty,
    ),
    Mistake(
        "EOS",
        "responses that did not end are left out of the mean: not ending would then cost nothing",
        unended_left_out,
    ),
    Mistake(
        "EOS",
        "the scores of responses that did not end are left out of the mean; they count as "
        "no_eos_score",
        unended_scores_left_out,
    ),
    Mistake(
        "batch",
        "one number per response; the objective is the mean over the batch",
        one_per_response,
    ),
    Mistake(
        "formula",
        "the differences are multiplied with the probabilities; the tokens were drawn with these "
        "probabilities, so a mean over the samples has them in it already",
        weighted_by_probability,
    ),
    Mistake(
        "formula",
        "the absolute values of the differences are summed; single "
        "differences may be negative, and "
        "only with their signs does the sum estimate the KL",
        absolute_kl,
    ),
    Mistake(
        "log",
        "these are ratios of probabilities; the KL is made of their logarithms, the differences of "
        "log-probabilities",
        ratio_of_probabilities,
    ),
)

exercise = Exercise("objective", reference, cases, MISTAKES)
