"""Fine-tuning: demonstrations of the task, as many as asked, and only their completions."""

import random

import pytest
import torch

from minippo.stages import sft
from minippo.stages.sft import SFTConfig, train_on_demonstrations
from minippo.tasks.capitals import Capitals
from tests.helpers import small_gpt

TASK = Capitals()
CONFIG = SFTConfig(sft_steps=3, sft_batch_size=5, sft_learning_rate=1e-2)


def model():
    return small_gpt(TASK.tokenizer.vocab_size, 32, dtype=torch.float32)


def test_each_step_learns_the_completions_of_as_many_new_demonstrations(monkeypatch):
    seen = []
    train = sft.train_next_token

    def watched(model, draw_examples, **settings):
        def draw(step):
            seen.append(draw_examples(step))
            return seen[-1]

        return train(model, draw, **settings)

    monkeypatch.setattr(sft, "train_next_token", watched)
    losses = train_on_demonstrations(model(), TASK, config=CONFIG, rng=random.Random(7))
    rng = random.Random(7)
    pairs = [TASK.demonstrations(5, rng=rng) for _ in range(3)]
    assert seen == [[TASK.demonstration_example(*pair) for pair in step] for step in pairs]
    assert len(losses) == 3
    for (prompt, completion), example in zip(pairs[0], seen[0], strict=True):
        learned = [t for t, flag in zip(example.tokens, example.is_target, strict=True) if flag]
        assert learned == TASK.response_ids(completion)
        assert len(example.tokens) == len(TASK.prompt_ids(prompt)) + len(learned)


def test_the_first_loss_is_that_of_the_model_as_it_came():
    # one demonstration per step, worked out by hand: the mean of -log pi over the completion
    start, config = model(), SFTConfig(sft_steps=1, sft_batch_size=1)
    prompt, completion = TASK.demonstrations(1, rng=random.Random(3))[0]
    read, learned = TASK.prompt_ids(prompt), TASK.response_ids(completion)
    with torch.no_grad():
        log_pi = torch.log_softmax(start(torch.tensor([read + learned]))[0], dim=-1)
    wanted = -sum(log_pi[len(read) - 1 + i, token] for i, token in enumerate(learned))
    (loss,) = train_on_demonstrations(start, TASK, config=config, rng=random.Random(3))
    assert loss == pytest.approx(wanted.item() / len(learned), rel=1e-5)


def test_the_loss_falls_and_the_same_seed_gives_the_same_weights():
    config = SFTConfig(sft_steps=30, sft_batch_size=16, sft_learning_rate=1e-2)
    models = [model(), model()]
    losses = [
        train_on_demonstrations(one, TASK, config=config, rng=random.Random(0)) for one in models
    ]
    assert losses[0] == losses[1] and losses[0][-1] < 0.7 * losses[0][0]
    weights = [torch.cat([p.flatten() for p in one.parameters()]) for one in models]
    assert torch.equal(*weights)
