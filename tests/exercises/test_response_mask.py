"""Exercise 02: right answers of several kinds pass, and each wrong one is told what it is."""

import torch

from minippo.exercises.response_mask import exercise, reference
from minippo.gpt import GPT, GPTConfig
from minippo.rollout import sample_responses
from tests.exercises.bank import response_mask as bank
from tests.exercises.exercise_checks import check_exercise


def test_the_exercise():
    check_exercise(exercise, bank)


def test_a_wrong_answer_of_no_known_kind_is_told_where_it_differs():
    verdict = exercise.verdict(bank.rolled)
    assert verdict.mistake is None and "wanted 1" in verdict.message


def test_the_reference_is_the_samplers_own_rule():
    config = GPTConfig(vocab_size=5, context_length=8, n_layer=1, n_head=1, n_embd=4)
    model = GPT(config, generator=torch.Generator().manual_seed(0)).eval()
    prompts = torch.ones(64, 2, dtype=torch.int64), torch.ones(64, 2, dtype=torch.bool)
    tokens, mask, _ = sample_responses(
        model,
        *prompts,
        response_length=5,
        temperature=1.0,
        eos_id=2,
        pad_id=0,
        generator=torch.Generator().manual_seed(1),
    )
    assert mask.sum(dim=1).unique().tolist() == [1, 2, 3, 4, 5]
    assert torch.equal(reference(tokens, 2), mask)
