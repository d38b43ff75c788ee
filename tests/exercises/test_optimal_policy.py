"""Exercise 13: right answers of several kinds pass, each wrong one is told what it is, and the
oracle agrees."""

import math

import torch

from minippo.exact.oracle import optimal_policy
from minippo.exact.world import TabularPolicy, World
from minippo.exercises.optimal_policy import exercise, reference
from tests.exercises.exercise_checks import check_exercise
from tests.helpers import assert_close


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


def test_the_exercise():
    check_exercise(
        exercise,
        correct=[one_prompt_at_a_time, with_logsumexp, with_another_zero],
        wrong={
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
        },
    )


def test_it_is_the_best_policy_of_the_enumerable_world():
    world = World(
        lambda prompt, tokens: float(sum(tokens)) - len(tokens), vocab_size=3, response_length=3
    )
    ref_logits = TabularPolicy(world, generator=torch.Generator().manual_seed(0))().detach()
    best_logits, _ = optimal_policy(world, ref_logits, 0.7)
    log_ref, scores = world.logprobs(ref_logits), world.response_rewards.sum(dim=1)
    got = reference(log_ref[None], world.response_mask[None], scores[None], 0.7)
    assert_close(got[0], world.logprobs(best_logits).sum(dim=1))
