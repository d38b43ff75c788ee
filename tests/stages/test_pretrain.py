"""Next-token training: the loss counts the targets and nothing else, and learns what is there."""

import math

import pytest
import torch

from minippo.errors import TrainingError
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


def two_word_world(step):
    """After word 3 comes 4 three times out of four, else 5; the words before it cannot be guessed,
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
        for a, b in zip(
            models[0].state_dict().values(), models[1].state_dict().values(), strict=True
        )
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
