"""Exercise 00, `objective`: answers as people write them, with the names of the mistakes."""

import torch


def response_by_response(
    scores, ended, logprobs, ref_logprobs, response_mask, kl_coef, no_eos_score
):
    total = 0.0
    for b in range(len(scores)):
        slots = [t for t in range(response_mask.shape[1]) if response_mask[b, t]]
        kl = sum(logprobs[b, t].item() - ref_logprobs[b, t].item() for t in slots)
        total += (scores[b].item() if ended[b] else no_eos_score) - kl_coef * kl
    return total / len(scores)


def two_means(scores, ended, logprobs, ref_logprobs, response_mask, kl_coef, no_eos_score):
    scores = scores.float().masked_fill(~ended, no_eos_score)
    kl = (logprobs - ref_logprobs).float()[response_mask].sum() / response_mask.shape[0]
    return scores.mean() - kl_coef * kl


def of_whole_responses(scores, ended, logprobs, ref_logprobs, response_mask, kl_coef, no_eos_score):
    log_pi, log_ref = ((x * response_mask).sum(-1) for x in (logprobs, ref_logprobs))
    reward = torch.where(ended, scores, torch.full_like(scores, no_eos_score)) + kl_coef * (
        log_ref - log_pi
    )
    return torch.mean(reward)


def plus(scores, ended, logprobs, ref_logprobs, response_mask, kl_coef, no_eos_score):
    scores = torch.where(ended, scores, no_eos_score)
    return scores.mean() + kl_coef * ((logprobs - ref_logprobs) * response_mask).sum(1).mean()


def reference_minus_policy(
    scores, ended, logprobs, ref_logprobs, response_mask, kl_coef, no_eos_score
):
    return two_means(scores, ended, ref_logprobs, logprobs, response_mask, kl_coef, no_eos_score)


def padding_too(scores, ended, logprobs, ref_logprobs, response_mask, kl_coef, no_eos_score):
    scores = torch.where(ended, scores, no_eos_score)
    return (scores - kl_coef * (logprobs - ref_logprobs).sum(1)).mean()


def per_token(scores, ended, logprobs, ref_logprobs, response_mask, kl_coef, no_eos_score):
    scores = torch.where(ended, scores, no_eos_score)
    return scores.mean() - kl_coef * (logprobs - ref_logprobs)[response_mask].mean()


def per_token_of_each(scores, ended, logprobs, ref_logprobs, response_mask, kl_coef, no_eos_score):
    scores = torch.where(ended, scores, no_eos_score)
    kls = torch.stack(
        [
            (new - old)[real].mean()
            for new, old, real in zip(logprobs, ref_logprobs, response_mask, strict=True)
        ]
    )
    return (scores - kl_coef * kls).mean()


def masked_mean_of_everything(
    scores, ended, logprobs, ref_logprobs, response_mask, kl_coef, no_eos_score
):
    scores = torch.where(ended, scores, no_eos_score)
    return scores.mean() - kl_coef * ((logprobs - ref_logprobs) * response_mask).mean()


def summed_kl(scores, ended, logprobs, ref_logprobs, response_mask, kl_coef, no_eos_score):
    scores = torch.where(ended, scores, no_eos_score)
    return scores.mean() - kl_coef * ((logprobs - ref_logprobs) * response_mask).sum()


def summed(scores, ended, logprobs, ref_logprobs, response_mask, kl_coef, no_eos_score):
    scores = torch.where(ended, scores, no_eos_score)
    return (scores - kl_coef * ((logprobs - ref_logprobs) * response_mask).sum(1)).sum()


def ended_ignored(scores, ended, logprobs, ref_logprobs, response_mask, kl_coef, no_eos_score):
    return (scores - kl_coef * ((logprobs - ref_logprobs) * response_mask).sum(1)).mean()


def where_the_wrong_way(
    scores, ended, logprobs, ref_logprobs, response_mask, kl_coef, no_eos_score
):
    return ended_ignored(
        scores.masked_fill(ended, no_eos_score),
        ended,
        logprobs,
        ref_logprobs,
        response_mask,
        kl_coef,
        0,
    )


def penalty(scores, ended, logprobs, ref_logprobs, response_mask, kl_coef, no_eos_score):
    return ended_ignored(
        scores + no_eos_score * (~ended), ended, logprobs, ref_logprobs, response_mask, kl_coef, 0
    )


def mean_of_the_ended(scores, ended, logprobs, ref_logprobs, response_mask, kl_coef, no_eos_score):
    kl = ((logprobs - ref_logprobs) * response_mask).sum(1).mean()
    return (scores * ended).sum() / ended.sum() - kl_coef * kl


def not_averaged(scores, ended, logprobs, ref_logprobs, response_mask, kl_coef, no_eos_score):
    return torch.where(ended, scores, no_eos_score) - kl_coef * (
        (logprobs - ref_logprobs) * response_mask
    ).sum(1)


def p_log_p_over_q(scores, ended, logprobs, ref_logprobs, response_mask, kl_coef, no_eos_score):
    kl = (logprobs.exp() * (logprobs - ref_logprobs) * response_mask).sum(1).mean()
    return torch.where(ended, scores, no_eos_score).mean() - kl_coef * kl


def score_only(scores, ended, logprobs, ref_logprobs, response_mask, kl_coef, no_eos_score):
    return torch.where(ended, scores, no_eos_score).mean()


def no_coefficient(scores, ended, logprobs, ref_logprobs, response_mask, kl_coef, no_eos_score):
    return two_means(scores, ended, logprobs, ref_logprobs, response_mask, 1, no_eos_score)


ARGUMENTS = "scores ended logprobs ref_logprobs response_mask kl_coef no_eos_score".split()


def with_masked_fill(scores, ended, logprobs, ref_logprobs, response_mask, kl_coef, no_eos_score):
    kl = (logprobs - ref_logprobs).masked_fill(~response_mask, 0.0).sum(-1)
    return (scores.masked_fill(~ended, no_eos_score) - kl_coef * kl).mean()


def in_float64(scores, ended, logprobs, ref_logprobs, response_mask, kl_coef, no_eos_score):
    scores = torch.where(ended, scores.double(), no_eos_score)
    kl = torch.where(response_mask, logprobs.double() - ref_logprobs.double(), 0.0).sum(1)
    return torch.mean(scores - kl_coef * kl)


def writes_into_scores(scores, ended, logprobs, ref_logprobs, response_mask, kl_coef, no_eos_score):
    scores[~ended] = no_eos_score
    kl = ((logprobs - ref_logprobs) * response_mask).sum(1)
    return (scores - kl_coef * kl).mean()


def lower_of_the_two(scores, ended, logprobs, ref_logprobs, response_mask, kl_coef, no_eos_score):
    scores = torch.where(ended, scores, scores.clamp(max=no_eos_score))
    return (scores - kl_coef * ((logprobs - ref_logprobs) * response_mask).sum(1)).mean()


def no_rule_no_mask(scores, ended, logprobs, ref_logprobs, response_mask, kl_coef, no_eos_score):
    return (scores - kl_coef * (logprobs - ref_logprobs).sum(1)).mean()


def no_rule_per_token(scores, ended, logprobs, ref_logprobs, response_mask, kl_coef, no_eos_score):
    return scores.mean() - kl_coef * (logprobs - ref_logprobs)[response_mask].mean()


def plain_means(scores, ended, logprobs, ref_logprobs, response_mask, kl_coef, no_eos_score):
    scores = torch.where(ended, scores, no_eos_score)
    return scores.mean() - kl_coef * (logprobs - ref_logprobs).mean()


def plus_and_summed(scores, ended, logprobs, ref_logprobs, response_mask, kl_coef, no_eos_score):
    scores = torch.where(ended, scores, no_eos_score)
    return (scores + kl_coef * ((logprobs - ref_logprobs) * response_mask).sum(1)).sum()


def minus_all(scores, ended, logprobs, ref_logprobs, response_mask, kl_coef, no_eos_score):
    scores = torch.where(ended, scores, no_eos_score)
    return -(scores - kl_coef * ((logprobs - ref_logprobs) * response_mask).sum(1)).mean()


def coefficient_on_both(
    scores, ended, logprobs, ref_logprobs, response_mask, kl_coef, no_eos_score
):
    scores = torch.where(ended, scores, no_eos_score)
    return kl_coef * (scores - ((logprobs - ref_logprobs) * response_mask).sum(1)).mean()


def k3_penalty(scores, ended, logprobs, ref_logprobs, response_mask, kl_coef, no_eos_score):
    d = (logprobs - ref_logprobs) * response_mask
    scores = torch.where(ended, scores, no_eos_score)
    return (scores - kl_coef * (torch.exp(-d) - 1 + d).sum(1)).mean()


def zero_for_the_unended(
    scores, ended, logprobs, ref_logprobs, response_mask, kl_coef, no_eos_score
):
    kl = ((logprobs - ref_logprobs) * response_mask).sum(1)
    return (scores * ended - kl_coef * kl).mean()


def kl_alone(scores, ended, logprobs, ref_logprobs, response_mask, kl_coef, no_eos_score):
    return -kl_coef * ((logprobs - ref_logprobs) * response_mask).sum(1).mean()


RIGHT = [
    response_by_response,
    two_means,
    of_whole_responses,
    with_masked_fill,
    in_float64,
    writes_into_scores,
]
WRONG = {
    plus: "sign",
    reference_minus_policy: "sign",
    padding_too: "mask",
    per_token: "mean for sum",
    per_token_of_each: "mean for sum",
    masked_mean_of_everything: "mean for sum",
    summed_kl: "sum for mean",
    summed: "sum for mean",
    ended_ignored: "EOS",
    where_the_wrong_way: "EOS",
    penalty: "EOS",
    mean_of_the_ended: "EOS",
    not_averaged: "batch",
    p_log_p_over_q: "formula",
    score_only: "scale",
    no_coefficient: "scale",
    lower_of_the_two: "EOS",
    no_rule_no_mask: "EOS and mask",
    no_rule_per_token: "mean for sum and EOS",
    plain_means: "mean for sum and mask",
    plus_and_summed: "sign and sum for mean",
    minus_all: "sign",
    coefficient_on_both: "scale",
    k3_penalty: "formula",
    zero_for_the_unended: "EOS",
    kl_alone: "formula",
}
