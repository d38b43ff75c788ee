"""Which updates are points of the path, and what a point is."""

from types import SimpleNamespace

import pytest
import torch

from minippo.commands.path import POINTS, enough, is_on_path, point_of_path
from minippo.rollout import Models


@pytest.mark.parametrize(
    "updates, wanted", [(1, []), (3, [1, 2]), (10, list(range(1, 10))), (40, list(range(4, 40, 4)))]
)
def test_about_ten_updates_are_on_the_path_and_the_last_is_not(updates, wanted):
    found = [update for update in range(1, updates + 1) if is_on_path(update, updates)]
    assert found == wanted and len(found) <= 2 * POINTS


def test_few_prompts_are_asked_again_and_again():
    assert enough(["a", "b"], 5) == ["a", "b", "a", "b", "a"]
    assert enough(["a", "b", "c"], 2) == ["a", "b"]


def test_a_point_is_the_kl_per_response_and_the_mean_score(monkeypatch):
    asked = {}

    def make_rollout(models, prompts, **settings):
        asked.update(models=models, prompts=prompts, generator=settings["generator"])
        return SimpleBatch(exact_kl=torch.tensor([[1.0, 2.0], [3.0, 0.0]]), scores=ONE_AND_TWO)

    monkeypatch.setattr("minippo.commands.path.make_rollout", make_rollout)
    found = point_of_path(RUN, Models("policy", "reference", "critic"), "reward model", 7)
    assert found == (7, 3.0, 1.5)  # (1 + 2 + 3) / 2 responses; (1 + 2) / 2
    assert asked == {
        "models": Models("policy", "reference", None),
        "prompts": ["a", "a"],  # of the two evaluation prompts, the one that the optimum has
        "generator": "path 7",
    }


ONE_AND_TWO = torch.tensor([1.0, 2.0])


class SimpleBatch(SimpleNamespace):
    def __len__(self):
        return 2


RUN = SimpleNamespace(
    config=SimpleNamespace(
        eval=SimpleNamespace(eval_prompts=2, optimum_prompts=1), ppo=SimpleNamespace(batch_size=2)
    ),
    task=SimpleNamespace(
        tokenizer=SimpleNamespace(eos_id=1, pad_id=0), evaluation_prompts=lambda n, rng: ["a", "b"]
    ),
    rng=lambda name: name,
    generator=lambda name, device: name,
    prompt_tensors=lambda prompts: prompts,
    device="cpu",
)
