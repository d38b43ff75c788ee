"""What the critic of a run starts from."""

from types import SimpleNamespace

import pytest
import torch

from minippo.algorithms import REGISTRY
from minippo.algorithms.config import PPOConfig
from minippo.commands.critic import first_critic
from minippo.gpt import GPT, GPTConfig
from minippo.reward_head import RewardModel

SIZE = GPTConfig(7, 6, 2, 2, 8)


def models():
    """(policy, fine-tuned model, reward model): three different ones."""
    policy, sft, trunk = (
        GPT(SIZE, generator=torch.Generator().manual_seed(seed)) for seed in range(3)
    )
    reward_model = RewardModel(trunk, generator=torch.Generator().manual_seed(3))
    reward_model.center.fill_(0.5), reward_model.scale.fill_(2.0)
    return policy, sft, reward_model


said: list[str] = []


def critic(algorithm="ppo", given=None, **settings):
    """(the critic, the models); what is told of it is in `said`."""
    said.clear()
    run = SimpleNamespace(
        algorithm=REGISTRY[algorithm],
        config=SimpleNamespace(ppo=PPOConfig(**settings)),
        generator=lambda name: torch.Generator().manual_seed(9),
        device=torch.device("cpu"),
        screen=SimpleNamespace(note=said.append),
    )
    given = given or models()
    return first_critic(run, *given), given


def same(one, other):
    return torch.equal(one.wte.weight, other.wte.weight)


def test_an_algorithm_without_a_critic_has_none():
    assert critic("pg")[0] is None


def test_by_default_it_says_what_the_reward_model_says_of_a_prefix():
    found, (_, _, reward_model) = critic()
    tokens = torch.tensor([[1, 2, 3]])
    torch.testing.assert_close(found(tokens), reward_model.per_token(tokens))
    assert found.trunk is not reward_model.trunk and not said


def test_a_smaller_reward_model_gives_no_start_and_that_is_said():
    policy, sft, whole = models()
    smaller = RewardModel(whole.trunk, layers=1, generator=torch.Generator().manual_seed(3))
    found, _ = critic(given=(policy, sft, smaller))
    assert same(found.trunk, sft) and (found(torch.tensor([[1, 2, 3]])) == 0).all()
    assert len(said) == 1 and "of 1 block gives no start to one of 2" in said[0]


@pytest.mark.parametrize("start", ["sft", "fresh"])
def test_from_another_model_its_first_values_are_zero(start):
    found, (policy, sft, reward_model) = critic(critic_start=start)
    assert (found(torch.tensor([[1, 2, 3]])) == 0).all()
    assert same(found.trunk, sft) == (start == "sft") and found.trunk is not sft
    assert not same(found.trunk, policy) and not same(found.trunk, reward_model.trunk)


def test_where_a_rule_scores_it_starts_from_the_fine_tuned_model():
    found, (_, sft, _) = critic(given=(*models()[:2], None))
    assert (found(torch.tensor([[1, 2, 3]])) == 0).all() and found.head.weight.requires_grad
    assert same(found.trunk, sft) and found.trunk is not sft


def test_a_shared_critic_has_the_policys_own_trunk():
    found, (policy, _, _) = critic(critic="shared")
    assert found.trunk is policy and (found(torch.tensor([[1, 2]])) == 0).all()
