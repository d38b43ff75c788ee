"""The reward model's training: shared prompts give the same scores, and what is preferred comes to
score higher."""

import pytest
import torch

from minippo.commands.config import RewardConfig
from minippo.errors import TrainingError
from minippo.reward_head import RewardModel
from minippo.reward_loss import plackett_luce_loss
from minippo.runs.stats import wilson_interval
from minippo.stages import reward
from minippo.stages.preferences import Comparisons
from minippo.stages.reward import (
    all_scores,
    heldout_report,
    pair_margins,
    response_scores,
    reward_loss,
    set_zero_and_unit,
    train_reward_model,
)
from minippo.tasks.base import Example
from tests.helpers import assert_close, f64, small_gpt


def comparisons(n=6, k=3, seed=0, vocab_size=8):
    """Prompts and responses of different lengths; the response with more 7s is preferred, ties are
    not compared."""
    generator = torch.Generator().manual_seed(seed)
    prompt_mask = torch.arange(4) >= torch.arange(n).remainder(3).unsqueeze(1)
    response_mask = torch.arange(5) <= torch.randint(0, 5, (n, k, 1), generator=generator)
    prompts = torch.where(prompt_mask, torch.randint(3, vocab_size, (n, 4), generator=generator), 0)
    responses = torch.where(
        response_mask, torch.randint(3, vocab_size, (n, k, 5), generator=generator), 0
    )
    sevens = (responses == 7).sum(dim=2)
    first, second = torch.triu_indices(k, k, offset=1)
    labels = (sevens[:, first] - sevens[:, second]).sign()
    return Comparisons(
        prompts,
        prompt_mask,
        responses,
        response_mask,
        labels,
        torch.full(labels.shape, 0.9).double(),
    )


def model(seed=0, dtype=torch.float64):
    return RewardModel(
        small_gpt(seed=seed, dtype=dtype), generator=torch.Generator().manual_seed(seed)
    )


def test_scores_with_a_shared_prompt_equal_scores_of_the_whole_text_in_value_and_gradient():
    reward_model, record = model(), comparisons()
    whole = torch.cat(
        (record.prompt_tokens.repeat_interleave(3, 0), record.response_tokens.flatten(0, 1)), 1
    )
    mask = torch.cat(
        (record.prompt_mask.repeat_interleave(3, 0), record.response_mask.flatten(0, 1)), 1
    )
    weights = torch.arange(1.0, 19.0, dtype=torch.float64)
    results = []
    for scores in (response_scores(reward_model, record).flatten(), reward_model(whole, mask)):
        gradients = torch.autograd.grad((scores * weights).sum(), list(reward_model.parameters()))
        results.append((scores, gradients))
    assert_close(results[0][0], results[1][0])
    for shared, plain in zip(results[0][1], results[1][1], strict=True):
        assert_close(shared, plain)


def test_margins_are_preferred_minus_other_and_ties_are_left_out():
    scores = f64([[1.0, 2.0, 4.0]])  # pairs (0,1), (0,2), (1,2): first minus second is -1, -3, -2
    assert pair_margins(scores, torch.tensor([[1, -1, 0]])).tolist() == [-1.0, 3.0]


def test_training_makes_the_preferred_response_score_higher_also_on_new_pairs():
    reward_model = model(dtype=torch.float32)
    before = heldout_report(reward_model, comparisons(100, seed=1))["heldout_accuracy"]
    losses = train_reward_model(
        reward_model,
        comparisons(600, seed=2),
        generator=torch.Generator().manual_seed(0),
        config=RewardConfig(reward_epochs=5, reward_learning_rate=1e-2),
    )
    report = heldout_report(reward_model, comparisons(100, seed=1))
    assert before < 0.75 and report["heldout_accuracy"] > 0.93 and losses[-1] < 0.3


def test_swapped_labels_teach_the_opposite():
    record = comparisons(300, seed=2)
    swapped = Comparisons(**vars(record) | {"labels": -record.labels})
    reward_model = model(dtype=torch.float32)
    train_reward_model(
        reward_model,
        swapped,
        generator=torch.Generator().manual_seed(0),
        config=RewardConfig(reward_epochs=4, reward_learning_rate=1e-2),
    )
    assert heldout_report(reward_model, comparisons(100, seed=1))["heldout_accuracy"] < 0.2


def test_prompts_whose_responses_are_all_equal_are_passed_over():
    record = comparisons(4)
    record = Comparisons(**vars(record) | {"labels": torch.zeros_like(record.labels)})
    reward_model = model()
    before = [parameter.clone() for parameter in reward_model.parameters()]
    assert (
        train_reward_model(
            reward_model, record, generator=torch.Generator().manual_seed(0), config=RewardConfig()
        )
        == []
    )
    assert all(torch.equal(a, b) for a, b in zip(before, reward_model.parameters(), strict=True))


def test_the_report_by_hand():
    class FirstToken(torch.nn.Module):  # scores a response by the id of its last token
        def __init__(self):
            super().__init__()
            self.trunk = small_gpt()

        def forward(self, tokens, mask, cache):
            return (tokens * mask).amax(dim=1).double()

    responses = torch.tensor([[[5], [4]], [[3], [6]], [[4], [4]], [[5], [3]]])
    record = Comparisons(
        torch.tensor([[3], [4], [5], [6]]),
        torch.ones(4, 1, dtype=torch.bool),
        responses,
        torch.ones_like(responses, dtype=torch.bool),
        torch.tensor([[1], [1], [-1], [0]]),
        f64([[0.9], [0.6], [0.2], [0.5]]),
    )
    # pair 0 agrees, pair 1 does not, pair 2 has equal scores and counts half, pair 3 was not
    # compared: 1.5 / 3. The ceiling is the mean of 0.9, 0.6 and 0.8.
    report = heldout_report(FirstToken(), record)
    assert (
        report["heldout_accuracy"] == 0.5
        and report["heldout_pairs"] == 3
        and report["skill"] == 0.0
    )
    assert report["annotator_ceiling"] == pytest.approx(2.3 / 3)
    # three prompts with one pair each
    assert (report["heldout_low"], report["heldout_high"]) == wilson_interval(1.5, 3)


def report_of(monkeypatch, rights_of_prompts, **more):
    """heldout_report of recorded pairs, a row each, that the reward model judges like this."""
    rights = [right for rights in rights_of_prompts for right in rights]
    prompts = [i for i, rights in enumerate(rights_of_prompts) for _ in rights]
    scores = f64([[1.0, 0.0] if right else [0.0, 1.0] for right in rights])
    monkeypatch.setattr(reward, "all_scores", lambda *_, **__: scores)
    n = len(rights)
    record = {
        "prompt_tokens": torch.tensor([[0, 3 + i] for i in prompts]),
        "prompt_mask": torch.tensor([[False, True]] * n),
        "response_tokens": torch.full((n, 2, 1), 4),
        "response_mask": torch.ones(n, 2, 1, dtype=torch.bool),
        "labels": torch.ones(n, 1, dtype=torch.int64),
        "probabilities": torch.full((n, 1), float("nan")),
    }
    report = heldout_report(None, Comparisons(**record | more))
    return report["heldout_low"], report["heldout_high"]


def test_recorded_pairs_of_one_prompt_are_one_cluster(monkeypatch):
    independent = report_of(monkeypatch, [[1], [1], [0], [1], [1]])
    assert independent == pytest.approx((0.376, 0.964), abs=5e-4)
    assert report_of(monkeypatch, [[1, 1, 0, 1, 1]]) == pytest.approx((0.133, 0.990), abs=5e-4)
    by_prompt = report_of(monkeypatch, [[1] * 10] * 14 + [[0] * 10] * 6)
    assert by_prompt == pytest.approx((0.481, 0.855), abs=5e-4)


def test_pairs_that_stand_there_twice_tell_nothing_new(monkeypatch):
    once = report_of(monkeypatch, [[1], [1], [0], [1], [1]])
    assert report_of(monkeypatch, [[1, 1], [1, 1], [0, 0], [1, 1], [1, 1]]) == pytest.approx(once)


def test_what_stands_in_the_padding_of_a_prompt_makes_no_other_prompt_of_it(monkeypatch):
    tokens = torch.tensor([[7, 3], [8, 3], [9, 3], [7, 3], [8, 3]])
    found = report_of(monkeypatch, [[1], [1], [0], [1], [1]], prompt_tokens=tokens)
    assert found == pytest.approx((0.133, 0.990), abs=5e-4)


@pytest.mark.parametrize("right", [0, 1])
def test_equal_shares_in_float32_do_not_make_a_point_of_the_interval(right, monkeypatch):
    low, high = report_of(monkeypatch, [[right] * 5 + [1, 0, 0, 1, 1]] * 7)
    assert high - low > 0.2


def test_the_interval_counts_prompts_and_not_pairs():
    record = comparisons(40, seed=3)
    doubled = Comparisons(
        **vars(record)
        | {
            "response_tokens": record.response_tokens.repeat(1, 2, 1),
            "response_mask": record.response_mask.repeat(1, 2, 1),
        }
    )
    first, second = torch.triu_indices(6, 6, offset=1)
    sevens = (doubled.response_tokens == 7).sum(dim=2)
    doubled = Comparisons(
        **vars(doubled)
        | {
            "labels": (sevens[:, first] - sevens[:, second]).sign(),
            "probabilities": torch.full((40, 15), 0.9),
        }
    )
    # Every response stands twice: four times the pairs (and equal ones, which are not compared)
    # tell nothing new.
    one, four = (heldout_report(model(), x) for x in (record, doubled))
    assert four["heldout_pairs"] == 4 * one["heldout_pairs"]
    assert four["heldout_high"] - four["heldout_low"] == pytest.approx(
        one["heldout_high"] - one["heldout_low"], rel=1e-6
    )


def test_where_the_annotators_own_probability_is_unknown_there_is_no_ceiling():
    record = comparisons()
    record = Comparisons(
        **vars(record) | {"probabilities": torch.full_like(record.probabilities, float("nan"))}
    )
    report = heldout_report(model(), record)
    assert (
        report["annotator_ceiling"] is None
        and report["skill"] is None
        and 0 <= report["heldout_accuracy"] <= 1
    )


def test_zero_is_the_mean_over_the_demonstrations_and_one_the_spread_of_the_own_responses():
    reward_model, record = model(), comparisons()
    demonstrations = [
        Example([1, 3, 4, 2], [False] * 2 + [True] * 2),
        Example([1, 5, 2], [False] * 2 + [True]),
    ]
    raw = all_scores(reward_model, record)
    set_zero_and_unit(reward_model, demonstrations, raw, pad_id=0)
    scores = torch.stack(
        [reward_model(torch.tensor([example.tokens]))[0] for example in demonstrations]
    )
    assert_close(scores.mean(), 0.0)
    assert_close(all_scores(reward_model, record).std(correction=0), 1.0)


def test_scores_that_do_not_differ_are_left_as_they_are():
    reward_model = model()
    set_zero_and_unit(
        reward_model, [Example([1, 2], [False, True])], torch.full((5,), 0.3), pad_id=0
    )
    assert reward_model.scale == 1.0


def test_a_reward_model_that_is_not_finite_stops_the_training():
    reward_model = model()
    with torch.no_grad():
        reward_model.head.weight[0, 0] = float("nan")
    with pytest.raises(TrainingError, match="reward model, step 1: loss is nan"):
        train_reward_model(
            reward_model, comparisons(), config=RewardConfig(), generator=torch.Generator()
        )


# -- rankings and ratings, zero and unit


def with_opinions(record, **opinions):
    return Comparisons(**vars(record) | opinions)


def sevens(record):
    """How many 7s each response of `comparisons` has, [N,K]: what is preferred there."""
    return (record.response_tokens == 7).sum(dim=2)


def test_the_loss_is_that_of_what_was_given():
    record, scores = comparisons(), torch.randn(6, 3, generator=torch.Generator().manual_seed(1))
    scores = scores.double()
    ranks = torch.tensor([[2, 1, 3]] * 6)
    ratings = torch.full((6, 3), 0.5).double()
    margins = pair_margins(scores, record.labels)
    pairs = -torch.nn.functional.logsigmoid(margins).mean()
    assert_close(reward_loss(scores, record), pairs)
    ranked = reward_loss(scores, with_opinions(record, ranks=ranks))
    assert_close(ranked, plackett_luce_loss(scores=scores, ranks=ranks))
    rated = reward_loss(scores, with_opinions(record, ratings=ratings))
    assert_close(rated, ((scores - 0.5) ** 2).mean())


@pytest.mark.parametrize("kind", ["ranks", "ratings"])
def test_rankings_and_ratings_teach_the_order_as_well(kind):
    record = comparisons(600, seed=2)
    draw = torch.Generator().manual_seed(3)  # ties are broken at random
    order = sevens(record).double() + 1e-3 * torch.rand(600, 3, dtype=torch.float64, generator=draw)
    ranks = (-order).argsort(dim=1).argsort(dim=1) + 1
    given = {"ranks": ranks} if kind == "ranks" else {"ratings": sevens(record).double()}
    reward_model = model(dtype=torch.float32)
    train_reward_model(
        reward_model,
        with_opinions(record, **given),
        generator=torch.Generator().manual_seed(0),
        config=RewardConfig(reward_epochs=5, reward_learning_rate=1e-2),
    )
    assert heldout_report(reward_model, comparisons(100, seed=1))["heldout_accuracy"] > 0.85


def test_the_rows_of_a_batch_take_their_opinions_along():
    record = comparisons()
    record = with_opinions(
        record, ranks=torch.arange(18).view(6, 3), disagreement=torch.arange(18.0).view(6, 3)
    )
    part = record.rows(torch.tensor([4, 1]))
    assert part.ranks.tolist() == [[12, 13, 14], [3, 4, 5]] and part.ratings is None
    assert part.disagreement.tolist() == [[12, 13, 14], [3, 4, 5]]


def test_the_disagreement_is_the_mean_over_the_pairs_that_were_compared():
    record = comparisons(2)
    record = with_opinions(
        record,
        labels=torch.tensor([[1, -1, 0], [1, 0, 0]]),
        disagreement=f64([[0.0, 0.2, 0.9], [0.4, 0.9, 0.9]]),
    )
    assert heldout_report(model(), record)["disagreement"] == pytest.approx(0.2)
    assert "disagreement" not in heldout_report(model(), comparisons(2))


@pytest.mark.parametrize("zero, mean", [("samples", 0.0), ("none", None)])
def test_other_zeros(zero, mean):
    reward_model, record = model(), comparisons()
    raw = all_scores(reward_model, record)
    set_zero_and_unit(reward_model, [Example([1, 2], [False, True])], raw, pad_id=0, zero=zero)
    if mean is None:
        assert reward_model.center == 0.0
    else:
        assert_close(all_scores(reward_model, record).mean(), mean)
    assert_close(reward_model.scale, raw.std(correction=0))


def test_no_unit_and_no_zero_leave_the_raw_scores():
    reward_model, record = model(), comparisons()
    raw = all_scores(reward_model, record)
    examples = [Example([1, 2], [False, True])]
    set_zero_and_unit(reward_model, examples, raw, pad_id=0, zero="none", unit="none")
    assert torch.equal(all_scores(reward_model, record), raw)
