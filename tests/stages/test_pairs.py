"""Pairs that a rule has judged, and how they are dealt."""

import dataclasses

import pytest
import torch

from minippo.annotators.base import pair_indices
from minippo.rollout import response_logits, response_logprobs
from minippo.stages.pairs import Deal, Pairs, kept_prompts
from tests.worlds import ragged


def comparisons(**settings):
    world = ragged(num_updates=2, batch_size=16, **settings)
    return world, world.pairs().comparisons


def test_the_better_of_two_responses_has_the_higher_score():
    world, found = comparisons()
    N, K, T = found.response_tokens.shape
    assert (N, K) == (8, 4)  # as many responses as two rollouts of 16
    tokens = torch.cat(
        (found.prompt_tokens.repeat_interleave(K, 0), found.response_tokens.view(-1, T)), 1
    )
    scores = world.score_function(tokens, None).view(N, K)
    first, second = pair_indices(K)
    assert torch.equal(found.labels, (scores[:, first] - scores[:, second]).sign().long())
    assert 0 < found.number_of_pairs() < N * 6  # some are equal


def test_prompts_without_two_of_different_worth_are_dropped():
    _, found = comparisons()
    labels = found.labels.clone()
    labels[::2] = 0
    some = kept_prompts(dataclasses.replace(found, labels=labels))
    keep = labels.any(dim=1)
    assert torch.equal(some.labels, labels[keep]) and not keep[0]
    with pytest.raises(ValueError, match="no two responses"):
        kept_prompts(dataclasses.replace(found, labels=torch.zeros_like(labels)))


def prompts_of(deal, update):
    """The prompts' places of an update, by what they hold."""
    return [batch.responses.response_tokens.tolist() for batch in deal.of_update(update)]


def test_every_prompt_is_seen_once_before_one_is_seen_again():
    world, found = comparisons(pair_passes=1.0)
    deal = Deal(Pairs(found, 0.5), world.models("dpo"), world.config)
    # 16 / 2 responses are two prompts' to a batch; eight prompts are four batches, two an update
    kept = kept_prompts(found)
    assert deal.prompts == 2 and deal.steps == round(len(kept) / 2 / 2)
    order = deal.order[: len(kept)]
    assert sorted(order.tolist()) == list(range(len(kept)))
    assert [len(deal.of_update(update)) for update in (1, 2)] == [deal.steps] * 2
    twice = Deal(
        Pairs(found, 0.5), world.models("dpo"), dataclasses.replace(world.config, pair_passes=2.0)
    )
    assert twice.steps == round(len(kept) / 2)


def test_an_update_gets_the_same_pairs_however_often_it_is_asked_and_another_seed_others():
    world, found = comparisons()
    deals = [Deal(Pairs(found, 0.5, seed), world.models("dpo"), world.config) for seed in (1, 1, 2)]
    first, again, other = (prompts_of(deal, 2) for deal in deals)
    assert first == again == prompts_of(deals[0], 2) and first != other


def test_a_batch_holds_what_the_reference_says_of_whole_responses():
    world, found = comparisons()
    (batch, *_) = Deal(Pairs(found, 0.5), world.models("dpo"), world.config).of_update(1)
    logits = response_logits(world.reference, batch.responses, 1.0)
    sums = response_logprobs(logits, batch.responses).sum(dim=1).view(2, 4)
    assert torch.equal(batch.ref_logprobs, sums) and not batch.ref_logprobs.requires_grad
    assert batch.price == 0.5 and batch.labels.shape == (2, 6)


def test_a_training_without_pairs_says_so():
    world = ragged(num_updates=1)
    world.pairs = lambda: None
    with pytest.raises(ValueError, match="^pairs: this world has none"):
        world.train("dpo")
