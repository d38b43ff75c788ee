"""Groups whose scores are equal make room for others."""

import dataclasses
from types import SimpleNamespace

import pytest
import torch

from minippo.algorithms import REGISTRY
from minippo.stages.groups import draw, joined, rows_that_differ
from tests.worlds import ragged

DAPO = dataclasses.replace(REGISTRY["dapo"], samples_per_prompt=2)


@pytest.fixture(scope="module")
def rollout():
    (step,) = ragged(num_updates=1, batch_size=8).updates("pg")
    return step.rollout


def with_scores(rollout, *scores):
    return dataclasses.replace(rollout, scores=torch.tensor(scores))


def drawn(parts, **settings):
    """(what is drawn from rollouts that come one after the other, how many were asked for)"""
    left = iter(parts)
    config = SimpleNamespace(samples_per_prompt=None, batch_size=8, max_draws=3, **settings)
    return draw(lambda: next(left), DAPO, config), 0 if next(left, None) else len(parts)


def test_the_rows_of_groups_that_differ():
    scores = torch.tensor([1.0, 1.0, 2.0, 3.0, 0.0, 0.0, 5.0, 4.0])
    assert rows_that_differ(scores, 2).tolist() == [2, 3, 6, 7]
    assert rows_that_differ(scores, 4).tolist() == list(range(8))


def test_others_take_the_place_of_groups_that_are_equal(rollout):
    one = with_scores(rollout, 1.0, 1, 2, 3, 4, 5, 6, 6)  # two of four groups differ
    two = with_scores(rollout, 7.0, 8, 9, 10, 11, 12, 13, 14)
    (first, learned, metrics), asked = drawn([one, two])
    assert first is one and asked == 2
    # four rows of the first, and as many of the second as there is room for
    assert learned.scores.tolist() == [2, 3, 4, 5, 7, 8, 9, 10]
    places = [2, 3, 4, 5, 0, 1, 2, 3]
    for item in dataclasses.fields(learned):
        column = getattr(rollout, item.name)
        if column is not None and item.name != "scores":
            assert torch.equal(getattr(learned, item.name), column[places]), item.name
    # 4 + 8 of 16 sampled rows are of groups that differ
    assert metrics == {"val/draws": 2, "val/groups_that_differ": 12 / 16, "val/batch_rows": 8}


def test_after_max_draws_the_batch_stays_smaller(rollout):
    part = with_scores(rollout, 1.0, 1, 2, 2, 4, 5, 6, 6)
    (_, learned, metrics), asked = drawn([part] * 3)
    assert len(learned) == 6 and asked == 3
    assert metrics == {"val/draws": 3, "val/groups_that_differ": 1 / 4, "val/batch_rows": 6}


def test_where_no_group_differs_the_first_rollout_is_seen(rollout):
    part = with_scores(rollout, *[1.0] * 8)
    (first, learned, metrics), _ = drawn([part] * 3)
    assert learned is first is part and metrics["val/batch_rows"] == 0


def test_the_others_take_what_comes(rollout):
    part = with_scores(rollout, *[1.0] * 8)
    for algorithm in ("ppo", "grpo", "rft"):
        config = SimpleNamespace(samples_per_prompt=2, batch_size=8, max_draws=3)
        assert draw(lambda: part, REGISTRY[algorithm], config) == (part, part, {})


def test_shorter_prompts_are_padded_on_the_left(rollout):
    longer = dataclasses.replace(
        rollout,
        prompt_tokens=torch.cat((torch.full((8, 1), 3), rollout.prompt_tokens), dim=1),
        prompt_mask=torch.cat((torch.ones(8, 1, dtype=torch.bool), rollout.prompt_mask), dim=1),
    )
    both = joined([rollout, longer], 16)
    assert both.prompt_tokens[:8, 0].tolist() == [0] * 8 and not both.prompt_mask[:8, 0].any()
    assert torch.equal(both.prompt_tokens[:8, 1:], rollout.prompt_tokens)
    assert torch.equal(both.prompt_tokens[8:], longer.prompt_tokens) and both.prompt_mask[8:].all()
    assert joined([], 16) is None


def test_a_training_learns_from_the_filled_batch_and_reports_the_first_rollout():
    """The mean score is that of all that the policy said, not of the groups that were kept."""
    grouped, plain = (ragged(num_updates=1, samples_per_prompt=4) for _ in range(2))
    for world in (grouped, plain):
        world.score_function = lambda tokens, mask: (tokens[:, -1] == 4).float()
    (a,), (b,) = grouped.train("dapo"), plain.train("grpo")
    assert a["val/groups_that_differ"] < 1
    for name in ("objective/scores", "objective/entropy", "val/score_std", "val/response_length"):
        assert a[name] == b[name], name
