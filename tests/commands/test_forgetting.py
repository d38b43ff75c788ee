"""What the policy has forgotten of its pretraining."""

from random import Random
from types import SimpleNamespace

import pytest
import torch

from minippo.commands.config import resolve
from minippo.commands.forgetting import TEXTS, pretraining_losses
from minippo.rollout import Models
from minippo.stages.pretrain import next_token_loss
from minippo.tasks import Tldr
from tests.tiny_runs import random_gpt


class Told(Tldr):
    """Notes what it is asked for."""

    def pretraining_examples(self, n, *, step, rng):
        self.asked = n, step
        return super().pretraining_examples(n, step=step, rng=rng)


def test_it_is_the_loss_on_fresh_texts_of_the_last_step_whatever_the_batches():
    task, rngs = Told(), []

    def rng(name):
        rngs.append(name)
        return Random(3)

    run = SimpleNamespace(task=task, config=resolve({"pretrain_steps": 200}), rng=rng)
    sft, policy = (random_gpt(task.tokenizer.vocab_size, seed) for seed in (0, 1))
    found = pretraining_losses(run, Models(policy, sft, None))
    assert task.asked == (TEXTS, 200) and len(rngs) == 1
    texts = Tldr().pretraining_examples(TEXTS, step=200, rng=Random(3))
    with torch.no_grad():
        for name, model in (("sft", sft), ("policy", policy)):
            wanted = next_token_loss(model, texts, task.tokenizer.pad_id).item()
            assert found[name] == pytest.approx(wanted, rel=1e-5)
    assert found["sft"] != found["policy"]
