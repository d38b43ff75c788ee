"""Comparisons: which pairs there are, what the annotator says, and how texts become tensors."""

import pytest
import torch

from minippo.algorithms.base import PPOConfig
from minippo.annotators.base import AnnotatorConfig, preference_probabilities
from minippo.commands.config import PreferenceConfig
from minippo.reward_loss import check_ranks
from minippo.stages.preferences import (
    Comparisons,
    annotate,
    pair_indices,
    recorded_comparisons,
    sample_candidates,
    simulated_comparisons,
    together,
)
from minippo.tasks.capitals import Capitals
from tests.helpers import assert_close, f64, small_gpt


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def test_every_pair_stands_once():
    first, second = pair_indices(4)
    assert list(zip(first.tolist(), second.tolist(), strict=True)) == [
        (0, 1),
        (0, 2),
        (0, 3),
        (1, 2),
        (1, 3),
        (2, 3),
    ]


def test_the_annotators_probability_by_hand():
    _, probabilities = annotate(f64([[3.0, 2.0]]), temperature=0.5, generator=seeded())
    # sigmoid((3 - 2) / 0.5) = 1 / (1 + exp(-2))
    assert_close(probabilities, f64([[0.8807970779778823]]))


def test_labels_are_drawn_with_the_annotators_probability():
    gold = f64([[1.0, 0.0]]).expand(20000, 2)
    labels, probabilities = annotate(gold, temperature=1.0, generator=seeded())
    assert (labels == 1).double().mean().item() == pytest.approx(
        probabilities[0, 0].item(), abs=0.01
    )
    assert set(labels.flatten().tolist()) == {1, -1}


def test_equal_gold_is_not_compared():
    labels, _ = annotate(f64([[1.0, 1.0, 0.0]]), temperature=0.01, generator=seeded())
    assert labels.tolist() == [[0, 1, 1]]


def test_recorded_pairs_put_the_chosen_answer_first():
    task = Capitals()
    pairs = [
        ("what is the capital of france ?", "paris", "london"),
        ("what is the capital of italy ?", "rome of italy", "milan"),
    ]
    record = recorded_comparisons(task, pairs)
    for i, (prompt, chosen, rejected) in enumerate(pairs):
        assert task.tokenizer.decode(record.prompt_tokens[i].tolist()) == prompt
        assert [task.tokenizer.decode(row) for row in record.response_tokens[i].tolist()] == [
            chosen,
            rejected,
        ]
    assert record.labels.tolist() == [[1], [1]] and record.probabilities.isnan().all()
    ends = record.response_tokens[record.response_mask.roll(-1, 2) != record.response_mask]
    assert task.tokenizer.eos_id in ends  # EOS belongs to a response
    assert record.response_mask.sum(dim=2).tolist() == [[2, 2], [4, 2]]


def test_gold_belongs_to_the_response_it_stands_beside():
    task = Capitals()
    prompts = task.evaluation_prompts(5, rng=None)
    model = small_gpt(vocab_size=task.tokenizer.vocab_size, context_length=32, dtype=torch.float32)
    torch.nn.init.zeros_(model.wte.weight)  # every word equally likely
    _, _, tokens, mask, gold = sample_candidates(
        model,
        task,
        prompts,
        samples=400,
        sampling=PPOConfig(response_length=2),
        generator=seeded(),
        chunk=2,
    )
    assert tokens.shape == mask.shape == (5, 400, 2) and gold.shape == (5, 400)
    right = torch.tensor(
        [
            [task.gold(prompt, task.tokenizer.decode(row)) for row in rows]
            for prompt, rows in zip(prompts, tokens.tolist(), strict=True)
        ]
    )
    assert torch.equal(gold, right.double()) and 0 < gold.sum() < gold.numel()


def test_simulated_comparisons_are_the_same_for_the_same_generators():
    task = Capitals()
    model = small_gpt(vocab_size=task.tokenizer.vocab_size, context_length=32, dtype=torch.float32)
    one, two = (
        simulated_comparisons(
            model,
            task,
            task.evaluation_prompts(12, rng=None),
            config=PreferenceConfig(preference_samples=3),
            sampling=PPOConfig(response_length=3),
            annotator=AnnotatorConfig(),
            generators=(seeded(1), seeded(2)),
        )
        for _ in range(2)
    )
    tensors = {name: value for name, value in vars(two).items() if value is not None}
    assert all(torch.equal(getattr(one, name), value) for name, value in tensors.items())
    assert one.labels.shape == (12, 3)


def test_rows_keep_what_belongs_together_and_cut_columns_of_padding():
    prompt_mask = torch.tensor([[False, True, True], [True, True, True], [False, False, True]])
    response_mask = torch.tensor(
        [[[1, 0, 0], [1, 1, 0]], [[1, 1, 1], [1, 0, 0]], [[1, 1, 0], [1, 0, 0]]]
    ).bool()
    record = Comparisons(
        torch.arange(9).view(3, 3),
        prompt_mask,
        torch.arange(18).view(3, 2, 3),
        response_mask,
        torch.tensor([[1], [-1], [0]]),
        f64([[0.9], [0.2], [0.5]]),
    )
    part = record.rows(torch.tensor([2, 0]))
    assert part.prompt_tokens.tolist() == [[7, 8], [1, 2]] and part.prompt_mask.tolist() == [
        [False, True],
        [True, True],
    ]
    assert part.response_tokens.tolist() == [[[12, 13], [15, 16]], [[0, 1], [3, 4]]]
    assert part.labels.tolist() == [[0], [1]] and part.number_of_pairs() == 1


@pytest.mark.parametrize("kind", ["ranking", "ratings"])
def test_rankings_and_ratings_belong_to_the_responses(kind):
    task = Capitals()
    model = small_gpt(vocab_size=task.tokenizer.vocab_size, context_length=32, dtype=torch.float32)
    torch.nn.init.zeros_(model.wte.weight)  # every word equally likely
    record = simulated_comparisons(
        model,
        task,
        prompts := task.evaluation_prompts(12, rng=None),
        config=PreferenceConfig(preference_samples=30, preference_labels=kind),
        annotator=AnnotatorConfig(annotator_temperature=0.01, rating_noise=0.1),
        sampling=PPOConfig(response_length=1),
        generators=(seeded(1), seeded(2)),
    )
    decode = task.tokenizer.decode
    gold = torch.tensor(
        [
            [task.gold(prompt, decode(row)) for row in rows]
            for prompt, rows in zip(prompts, record.response_tokens.tolist(), strict=True)
        ]
    )
    assert gold.sum() > 5
    if kind == "ranking":
        check_ranks(record.ranks, gold.shape)
        # who is right stands before who is not
        best = torch.where(gold == 1, record.ranks, 0).amax(dim=1)
        assert record.ratings is None and torch.equal(best, gold.sum(dim=1).long())
        given = -record.ranks
    else:
        assert record.ranks is None and ((record.ratings - gold).abs() < 0.6).all()
        given = record.ratings
    first, second = pair_indices(30)
    assert torch.equal(record.labels, (given[:, first] - given[:, second]).sign().long())


def test_equation_16_has_one_place():
    gold = f64([[3.0, 1.0, 2.5]])
    _, probabilities = annotate(gold, temperature=0.5, generator=seeded())
    assert torch.equal(probabilities, preference_probabilities(gold, 0.5))


def test_rounds_are_put_together_with_the_pads_where_they_belong():
    short, long = (
        Comparisons(
            torch.full((n, P), n),
            torch.ones(n, P, dtype=torch.bool),
            torch.full((n, 2, T), n),
            torch.ones(n, 2, T, dtype=torch.bool),
            torch.full((n, 1), n),
            torch.full((n, 1), 0.1 * n),
            ratings=torch.full((n, 2), float(n)),
        )
        for n, P, T in ((1, 2, 1), (2, 3, 2))
    )
    both = together([short, long])
    assert both.prompt_tokens.tolist() == [[0, 1, 1], [2, 2, 2], [2, 2, 2]]
    assert both.prompt_mask.tolist() == [[False, True, True], [True] * 3, [True] * 3]
    assert both.response_tokens[:, 0].tolist() == [[1, 0], [2, 2], [2, 2]]
    assert both.response_mask[0].tolist() == [[True, False]] * 2
    assert both.labels.tolist() == [[1], [2], [2]] and both.ratings.shape == (3, 2)
    assert both.ranks is None and len(both) == 3
    assert together([short]) is short
