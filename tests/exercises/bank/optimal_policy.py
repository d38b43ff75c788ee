"""Exercise 13, `optimal_policy`: answers as people write them, with the names of the mistakes."""

import math

import torch


def one_prompt_at_a_time(ref_logprobs, response_mask, scores, kl_coef):
    result = torch.zeros_like(scores)
    for m in range(scores.shape[0]):
        logs = [
            ref_logprobs[m, n][response_mask[m, n]].sum().item() + scores[m, n].item() / kl_coef
            for n in range(scores.shape[1])
        ]
        largest = max(logs)
        log_z = largest + math.log(sum(math.exp(x - largest) for x in logs))
        result[m] = torch.tensor([x - log_z for x in logs])
    return result


def with_logsumexp(ref_logprobs, response_mask, scores, kl_coef):
    logits = (ref_logprobs * response_mask).sum(2) + scores / kl_coef
    return logits - logits.logsumexp(1, keepdim=True)


def with_another_zero(ref_logprobs, response_mask, scores, kl_coef):
    advantage = (scores - scores.max(dim=1, keepdim=True).values) / kl_coef
    return (
        (ref_logprobs.masked_fill(~response_mask, 0).sum(2) + advantage).log_softmax(dim=1).clone()
    )


def pads_too(ref_logprobs, response_mask, scores, kl_coef):
    logits = ref_logprobs.sum(2) + scores / kl_coef
    return logits - logits.logsumexp(1, keepdim=True)


def length_normalised(ref_logprobs, response_mask, scores, kl_coef):
    log_ref = (ref_logprobs * response_mask).sum(2) / response_mask.sum(2)
    return (log_ref + scores / kl_coef).log_softmax(1)


def softmax_of_the_scores(ref_logprobs, response_mask, scores, kl_coef):
    return torch.log_softmax(scores / kl_coef, 1)


def no_z(ref_logprobs, response_mask, scores, kl_coef):
    return (ref_logprobs * response_mask).sum(2) + scores / kl_coef


def one_z(ref_logprobs, response_mask, scores, kl_coef):
    logits = (ref_logprobs * response_mask).sum(2) + scores / kl_coef
    return logits - torch.logsumexp(logits, dim=(0, 1))


def wrong_dimension(ref_logprobs, response_mask, scores, kl_coef):
    return ((ref_logprobs * response_mask).sum(2) + scores / kl_coef).log_softmax(0)


def multiplied(ref_logprobs, response_mask, scores, kl_coef):
    return with_logsumexp(ref_logprobs, response_mask, scores, 1 / kl_coef)


def minus(ref_logprobs, response_mask, scores, kl_coef):
    return ((ref_logprobs * response_mask).sum(2) - scores / kl_coef).log_softmax(1)


def softmax(ref_logprobs, response_mask, scores, kl_coef):
    return ((ref_logprobs * response_mask).sum(2) + scores / kl_coef).softmax(1)


def as_the_formula_stands(ref_logprobs, response_mask, scores, kl_coef):
    pi_ref = torch.exp((ref_logprobs * response_mask).sum(2))
    weights = pi_ref * torch.exp(scores / kl_coef)
    return torch.log(weights / weights.sum(1, keepdim=True))


def temperature(ref_logprobs, response_mask, scores, kl_coef):
    return (((ref_logprobs * response_mask).sum(2) + scores) / kl_coef).log_softmax(1)


def value_of_it(ref_logprobs, response_mask, scores, kl_coef):
    return kl_coef * ((ref_logprobs * response_mask).sum(2) + scores / kl_coef).logsumexp(1)


def two_softmaxes(ref_logprobs, response_mask, scores, kl_coef):
    return (ref_logprobs * response_mask).sum(2).log_softmax(1) + (scores / kl_coef).log_softmax(1)


def forgets_the_log(ref_logprobs, response_mask, scores, kl_coef):
    return ((ref_logprobs * response_mask).sum(2).exp() + scores / kl_coef).log_softmax(1)


def with_where(ref_logprobs, response_mask, scores, kl_coef):
    whole = torch.where(response_mask, ref_logprobs, 0.0).sum(-1)
    logits = whole + scores / kl_coef
    return logits - torch.logsumexp(logits, dim=-1, keepdim=True)


def in_float64(ref_logprobs, response_mask, scores, kl_coef):
    return with_where(ref_logprobs.double(), response_mask, scores.double(), kl_coef)


def maximum_taken_out(ref_logprobs, response_mask, scores, kl_coef):
    x = ref_logprobs.masked_fill(~response_mask, 0.0).sum(-1) + scores / kl_coef
    x = x - x.amax(dim=1, keepdim=True)
    return x - x.exp().sum(dim=1, keepdim=True).log()


def softmax_then_log(ref_logprobs, response_mask, scores, kl_coef):
    x = (ref_logprobs * response_mask).sum(2) + scores / kl_coef
    return torch.log(x.exp() / x.exp().sum(1, keepdim=True))


def pads_and_no_coefficient(ref_logprobs, response_mask, scores, kl_coef):
    return (ref_logprobs.sum(2) + scores).log_softmax(1)


def mean_and_probabilities(ref_logprobs, response_mask, scores, kl_coef):
    return (
        (ref_logprobs * response_mask).sum(2) / response_mask.sum(2) + scores / kl_coef
    ).softmax(1)


def no_z_no_mask(ref_logprobs, response_mask, scores, kl_coef):
    return ref_logprobs.sum(2) + scores / kl_coef


def plain_mean(ref_logprobs, response_mask, scores, kl_coef):
    return (ref_logprobs.mean(2) + scores / kl_coef).log_softmax(1)


def no_score(ref_logprobs, response_mask, scores, kl_coef):
    return (ref_logprobs * response_mask).sum(2).log_softmax(1)


def reference_subtracted(ref_logprobs, response_mask, scores, kl_coef):
    return (scores / kl_coef - (ref_logprobs * response_mask).sum(2)).log_softmax(1)


def log_z(ref_logprobs, response_mask, scores, kl_coef):
    return ((ref_logprobs * response_mask).sum(2) + scores / kl_coef).logsumexp(1)


def negative(ref_logprobs, response_mask, scores, kl_coef):
    return -((ref_logprobs * response_mask).sum(2) + scores / kl_coef).log_softmax(1)


def over_prompts_without_mask(ref_logprobs, response_mask, scores, kl_coef):
    return (ref_logprobs.sum(2) + scores / kl_coef).log_softmax(0)


def half_precision(ref_logprobs, response_mask, scores, kl_coef):
    return with_where(ref_logprobs.half(), response_mask, scores.half(), kl_coef)


RIGHT = [
    one_prompt_at_a_time,
    with_logsumexp,
    with_another_zero,
    with_where,
    in_float64,
    maximum_taken_out,
]
WRONG = {
    pads_too: "mask",
    length_normalised: "mean for sum",
    softmax_of_the_scores: "formula",
    no_z: "normalisation",
    one_z: "batch",
    wrong_dimension: "batch",
    multiplied: "scale",
    minus: "sign",
    softmax: "log",
    as_the_formula_stands: "log",
    temperature: "scale",
    value_of_it: "formula",
    two_softmaxes: "normalisation",
    forgets_the_log: "log",
    softmax_then_log: "log",
    pads_and_no_coefficient: "mask and scale",
    mean_and_probabilities: "mean for sum and log",
    no_z_no_mask: "normalisation and mask",
    plain_mean: "mean for sum and mask",
    no_score: "formula",
    reference_subtracted: "sign",
    log_z: "normalisation",
    negative: "sign",
    over_prompts_without_mask: "batch and mask",
    half_precision: "precision",
}
