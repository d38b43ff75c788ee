"""Exercise 02: right answers of several kinds pass, and each wrong one is told what it is."""

import torch

from minippo.exercises.response_mask import exercise, reference
from minippo.gpt import GPT, GPTConfig
from minippo.rollout import sample_responses
from tests.exercises.exercise_checks import check_exercise


def with_cumsum(tokens, eos_id):
    is_eos = tokens == eos_id
    return is_eos.cumsum(dim=1) - is_eos.long() == 0


def with_argmax(tokens, eos_id):
    is_eos = (tokens == eos_id).int()
    first = torch.where(is_eos.any(dim=1), is_eos.argmax(dim=1), tokens.shape[1])
    return torch.arange(tokens.shape[1])[None] <= first[:, None]


def with_a_loop_of_floats(tokens, eos_id):
    mask = torch.zeros(tokens.shape)
    for b, row in enumerate(tokens.tolist()):
        length = row.index(eos_id) + 1 if eos_id in row else len(row)
        mask[b, :length] = 1.0
    return mask


def with_cumprod_as_ints(tokens, eos_id):
    going_on = (tokens != eos_id).long()
    return torch.cat((torch.ones_like(going_on[:, :1]), going_on[:, :-1].cumprod(dim=1)), dim=1)


def cumsum_without_taking_the_eos_off(tokens, eos_id):
    return (tokens == eos_id).cumsum(dim=1) == 0


def not_eos(tokens, eos_id):
    return (tokens != eos_id).float()


def cumsum_up_to_one(tokens, eos_id):
    return (tokens == eos_id).cumsum(dim=1).roll(1, dims=1).index_fill(1, torch.tensor([0]), 0) <= 1


def at_most_one_eos(tokens, eos_id):
    return torch.cumsum((tokens == eos_id).int(), 1) < 2


def up_to_index_of_eos_plus_two(tokens, eos_id):
    mask = torch.zeros(tokens.shape)
    for b, row in enumerate(tokens.tolist()):
        mask[b, : row.index(eos_id) + 2 if eos_id in row else len(row)] = 1.0
    return mask


def pad_based(tokens, eos_id):
    return tokens.ne(0)


def argmax_alone(tokens, eos_id):
    end = (tokens == eos_id).float().argmax(dim=1)
    return (torch.arange(tokens.shape[1])[None, :] <= end[:, None]).float()


def what_is_over(tokens, eos_id):
    before = torch.nn.functional.pad((tokens == eos_id).cumsum(dim=1), (1, 0))[:, :-1]
    return before > 0


def the_longest_length_for_all(tokens, eos_id):
    lengths = [row.index(eos_id) + 1 if eos_id in row else len(row) for row in tokens.tolist()]
    return torch.ones(tokens.shape) * (torch.arange(tokens.shape[1]) < max(lengths))


def last_eos(tokens, eos_id):
    mask = torch.zeros(tokens.shape, dtype=torch.bool)
    for b, row in enumerate(tokens.tolist()):
        places = [t for t, token in enumerate(row) if token == eos_id]
        mask[b, : (places[-1] + 1 if places else len(row))] = True
    return mask


def counts(tokens, eos_id):
    return with_cumsum(tokens, eos_id).sum(1)


def test_the_exercise():
    check_exercise(
        exercise,
        correct=[with_cumsum, with_argmax, with_a_loop_of_floats, with_cumprod_as_ints],
        wrong={
            cumsum_without_taking_the_eos_off: "EOS",
            not_eos: "EOS",
            last_eos: "EOS",
            at_most_one_eos: "EOS",
            argmax_alone: "EOS",
            up_to_index_of_eos_plus_two: "off by one",
            pad_based: "mask",
            what_is_over: "sign",
            the_longest_length_for_all: "batch",
            counts: "formula",
        },
    )


def test_a_wrong_answer_of_no_known_kind_is_told_where_it_differs():
    assert exercise.verdict(cumsum_up_to_one).mistake is None
    assert "wanted 0" in exercise.verdict(cumsum_up_to_one).message


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
