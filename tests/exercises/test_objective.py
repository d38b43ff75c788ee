"""Exercise 00: right answers of several kinds pass, and each wrong one is told what it is."""

import torch

from minippo.exercises.objective import exercise
from tests.exercises.exercise_checks import check_exercise


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


def test_the_exercise():
    check_exercise(
        exercise,
        correct=[response_by_response, two_means, of_whole_responses],
        wrong={
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
        },
    )
