"""Next-token training: the loss counts the targets and nothing else, and the schedule is what it
says."""

import math

import pytest
import torch

from minippo.errors import TrainingError
from minippo.stages.optimise import (
    check_finite,
    named_weights,
    numbers_of,
    take_step,
    warmup_then_cosine,
)
from minippo.stages.pretrain import next_token_loss, train_next_token
from minippo.tasks.base import Example
from tests.helpers import assert_close, small_gpt

PAD = 0


def test_the_loss_is_the_mean_of_minus_log_pi_over_the_targets():
    model = small_gpt()
    examples = [
        Example([1, 3, 4, 2], [False, False, True, True]),
        Example([1, 5, 2], [False, True, True]),
    ]
    log_pi = [torch.log_softmax(model(torch.tensor([tokens]))[0], dim=-1) for tokens, _ in examples]
    # targets: 4 after [1, 3], 2 after [1, 3, 4]; 5 after [1], 2 after [1, 5]
    wanted = -(log_pi[0][1, 4] + log_pi[0][2, 2] + log_pi[1][0, 5] + log_pi[1][1, 2]) / 4
    assert_close(next_token_loss(model, examples, PAD), wanted)


def test_padding_and_the_order_of_examples_change_nothing():
    model = small_gpt()
    short, long = (
        Example([1, 5, 2], [False, True, True]),
        Example([1, 3, 4, 6, 7, 2], [False, False, True, True, True, True]),
    )
    loss = next_token_loss(model, [short, long], PAD)
    assert_close(next_token_loss(model, [long, short], PAD), loss)
    alone = [next_token_loss(model, [example], PAD) * n for example, n in ((short, 2), (long, 4))]
    assert_close(sum(alone) / 6, loss)


def test_what_is_only_read_gets_no_loss_but_is_read():
    model = small_gpt()
    one, other = (
        next_token_loss(model, [Example([1, word, 4], [False, False, True])], PAD)
        for word in (3, 5)
    )
    assert abs(one - other) > 1e-6  # the context matters
    log_pi = torch.log_softmax(model(torch.tensor([[1, 3]]))[0, -1], dim=-1)
    assert_close(one, -log_pi[4])


def test_the_schedule_warms_up_and_falls_to_a_tenth():
    shares = [warmup_then_cosine(step, 1000) for step in range(1000)]
    assert shares[0] == pytest.approx(1 / 50, rel=1e-4)
    assert max(shares) == pytest.approx(1.0, abs=0.01) and shares.index(max(shares)) == 49
    assert shares[500] == pytest.approx(0.1 + 0.9 * 0.5) and shares[-1] == pytest.approx(
        0.1, abs=1e-4
    )
    assert warmup_then_cosine(0, 1) == 1.0


def two_word_world(step):
    """After word 3 comes 4 three times out of four, else 5; the words before it cannot be foretold,
    and are not targets."""
    words = [4, 4, 4, 5]
    return [Example([1, 3, words[i % 4]], [False, False, True]) for i in range(16)]


def test_training_reaches_the_entropy_of_the_text_and_not_less():
    model = small_gpt(dtype=torch.float32)
    losses = train_next_token(
        model, two_word_world, steps=150, learning_rate=1e-2, pad_id=PAD, stage="test"
    )
    entropy = -(0.75 * math.log(0.75) + 0.25 * math.log(0.25))
    assert losses[0] > 1.0
    assert losses[-1] == pytest.approx(entropy, abs=0.01)


def test_the_same_seed_gives_the_same_weights_bit_for_bit():
    models = [small_gpt(dtype=torch.float32) for _ in range(2)]
    for model in models:
        train_next_token(
            model, two_word_world, steps=5, learning_rate=1e-2, pad_id=PAD, stage="test"
        )
    assert all(
        torch.equal(a, b)
        for a, b in zip(models[0].state_dict().values(), models[1].state_dict().values())
    )


def test_a_loss_that_is_not_finite_stops_the_training_and_names_the_step():
    model = small_gpt(dtype=torch.float32)
    with torch.no_grad():
        model.ln_f.weight[0] = float("nan")
    with pytest.raises(
        TrainingError, match="pretrain, step 1: loss is nan; try a smaller learning rate"
    ):
        train_next_token(
            model, two_word_world, steps=3, learning_rate=1e-2, pad_id=PAD, stage="pretrain"
        )


def test_a_gradient_that_is_not_finite_stops_too_and_the_weights_stay_as_they_were():
    weight = torch.nn.Parameter(torch.zeros(1))
    optimizer = torch.optim.SGD([("weight", weight)], lr=1.0)
    with pytest.raises(
        TrainingError, match="^here: P010 grad-none: the gradient of weight is inf; try"
    ):
        # the slope of sqrt at 0 is infinite
        take_step(optimizer, weight.sqrt().sum(), 1.0, where="here")
    assert weight.item() == 0.0


def test_a_norm_that_overflows_is_noticed_where_no_gradient_is_infinite():
    weight = torch.nn.Parameter(torch.ones(2))
    optimizer = torch.optim.SGD([("weight", weight)], lr=1.0)
    with pytest.raises(TrainingError, match="^here: the gradient's norm is inf; try"):
        take_step(optimizer, (1e30 * weight).sum(), 1.0, where="here")
    assert weight.tolist() == [1.0, 1.0]


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), -float("inf")])
def test_what_is_not_finite_is_named_and_counted(bad):
    check_finite("here", fine=torch.ones(2), also=torch.zeros(()))
    with pytest.raises(
        TrainingError, match=f"^here: scores is {bad} in 1 of 3 places; look there$"
    ):
        check_finite("here", "look there", fine=torch.ones(2), scores=torch.tensor([1.0, bad, 2.0]))
    with pytest.raises(TrainingError, match=f"^here: loss is {bad}; try a smaller learning rate$"):
        check_finite("here", loss=torch.tensor(bad))


def test_weights_stand_under_the_name_of_their_model():
    models = {"policy": torch.nn.Linear(2, 1), "critic": torch.nn.Linear(2, 1, bias=False)}
    named = named_weights(**models)
    assert [name for name, _ in named] == ["policy.weight", "policy.bias", "critic.weight"]
    assert named[1][1] is models["policy"].bias and named[2][1] is models["critic"].weight


def test_the_gradient_is_scaled_down_to_the_norm_and_its_own_norm_is_returned():
    weight = torch.nn.Parameter(torch.tensor([3.0, 4.0]))
    optimizer = torch.optim.SGD([("weight", weight)], lr=123.0)
    norm = take_step(optimizer, 0.5 * (weight**2).sum(), 1.0, where="here", max_grad_norm=1.0)
    assert norm == pytest.approx(5.0)  # the gradient is [3, 4]; scaled to norm 1 it is [0.6, 0.8]
    assert weight.tolist() == pytest.approx([2.4, 3.2], abs=1e-5)


def test_scalars_are_read_in_their_order():
    assert numbers_of([torch.tensor(1.5), torch.tensor(-2.0)]) == [1.5, -2.0]
    assert numbers_of([]) == []
