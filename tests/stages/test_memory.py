import pytest
import torch

from minippo.critic_head import Critic
from minippo.gpt import GPT, GPTConfig
from minippo.lora import with_adapters
from minippo.reward_head import RewardModel
from minippo.rollout import Models
from minippo.stages.memory import (
    SavedForBackward,
    bytes_of_models,
    memory_report,
    new_bytes,
    watch_first,
)
from tests.worlds import tiny, weights_of


def gpt():
    return GPT(GPTConfig(vocab_size=5, context_length=6, n_layer=1, n_head=1, n_embd=4))


# wte 5 x 4, wpe 6 x 4; LayerNorms 3 x 8; matrices 16 n (3 + 1 + 4 + 4), biases 4 (3 + 1 + 4 + 1)
GPT_BYTES = 4 * (20 + 24 + 24 + 16 * 12 + 36)
HEAD_BYTES = 4 * (4 + 1)


def test_the_bytes_of_the_four_models():
    reference = gpt()
    reward_model, critic = RewardModel(reference), Critic(reference)
    sizes = bytes_of_models({"a": reference, "b": reward_model, "c": critic, "d": None})
    # the reward model has two buffers of one number, center and scale
    assert sizes == {
        "a": GPT_BYTES,
        "b": GPT_BYTES + HEAD_BYTES + 8,
        "c": GPT_BYTES + HEAD_BYTES,
        "d": 0,
    }


def test_what_is_shared_counts_once():
    policy = gpt()
    sizes = bytes_of_models({"policy": policy, "critic": Critic.sharing(policy)})
    assert sizes == {"policy": GPT_BYTES, "critic": HEAD_BYTES}
    reference = gpt()
    sizes = bytes_of_models({"reference": reference, "policy": with_adapters(reference, 2)})
    # of each of the matrices, 2 (I + O) numbers: I + O is 16, 8, 20, 20
    assert sizes == {"reference": GPT_BYTES, "policy": 4 * 2 * (16 + 8 + 20 + 20)}


def test_views_of_one_tensor_count_as_the_whole_tensor_once():
    x, seen = torch.zeros(3, 4), set()
    assert new_bytes([x[0], x.T, x], seen) == 48
    assert new_bytes([x[1]], seen) == 0


def test_what_autograd_keeps_is_counted_until_it_is_read():
    weight = torch.nn.Linear(4, 2, bias=False)
    x = torch.ones(3, 4)
    saved = SavedForBackward(weight)
    with saved:
        y = weight(x).exp()  # keeps x, 48 bytes, and its own result [3,2], 24; not the weight
        assert saved.now == saved.most == 72
        z = weight(x).exp()  # the same x, and another result
        assert saved.now == 96
        y.sum().backward()
        assert saved.now == 72  # x is still wanted
        z.sum().backward()
        assert (saved.now, saved.most) == (0, 96)


def test_a_graph_that_is_dropped_is_no_longer_counted():
    saved = SavedForBackward()
    with saved:
        y = torch.ones(3, requires_grad=True).exp()
        assert saved.now == 12
        del y
    assert (saved.now, saved.most) == (0, 12)


def watched(algorithm="ppo", change=None, **settings):
    """(the probe after its training, what the first update held)."""
    probe, told = tiny(num_updates=2, **settings), []
    if change:
        change(probe)
    steps = watch_first(probe.updates(algorithm), probe.models(algorithm), told.append)
    assert [step.row["update"] for step in steps] == [1, 2]
    return probe, *told


def test_watching_changes_nothing():
    one, other = tiny(num_updates=2), watched()[0]
    one.train()
    assert torch.equal(weights_of(one.policy), weights_of(other.policy))
    assert torch.equal(weights_of(one.critic), weights_of(other.critic))


def bytes_trained(probe, algorithm="ppo"):
    both = (probe.policy, probe.critic) if algorithm == "ppo" else (probe.policy,)
    numbers = {id(p): p.numel() for m in both for p in m.parameters() if p.requires_grad}
    return 4 * sum(numbers.values()), len(numbers)


def share_trunk(probe):
    probe.critic = Critic.sharing(probe.policy)


def use_adapters(probe):
    probe.policy = with_adapters(probe.reference, 2)


@pytest.mark.parametrize(
    "algorithm, change",
    [
        ("ppo", None),
        ("ppo", share_trunk),
        ("ppo", use_adapters),
        ("pg", None),
        ("pg", use_adapters),
    ],
)
def test_gradients_and_averages_are_those_of_what_is_trained(algorithm, change):
    probe, found = watched(algorithm, change)
    trained, tensors = bytes_trained(probe, algorithm)
    assert found["gradients"] == trained
    assert found["optimiser"] == 2 * trained + 4 * tensors  # two averages, and a count of steps


def test_activations_grow_with_the_minibatch_and_not_with_the_passes():
    base = dict(batch_size=32, num_mini_batches=2, num_ppo_epochs=1, eos_id=999)
    usual = watched(**base)[1]["activations"]
    assert watched(**base | {"num_ppo_epochs": 3})[1]["activations"] == usual
    assert watched(**base | {"batch_size": 64})[1]["activations"] == pytest.approx(
        2 * usual, rel=0.02
    )
    assert watched(**base | {"num_mini_batches": 1})[1]["activations"] == pytest.approx(
        2 * usual, rel=0.02
    )


def test_without_critic_and_with_a_shared_one_less_is_kept():
    base = dict(num_mini_batches=1, eos_id=999)
    own, shared, none = (
        watched(algorithm, change, **base)[1]["activations"]
        for algorithm, change in (("ppo", None), ("ppo", share_trunk), ("pg", None))
    )
    assert none < shared < own


def test_the_report_adds_up():
    reference = gpt()
    models = Models(with_adapters(reference, 1), reference, None)
    found = memory_report(models, RewardModel(reference), {"gradients": 1, "activations": 2})
    models = {
        "reference": GPT_BYTES,
        "reward_model": GPT_BYTES + HEAD_BYTES + 8,
        "policy": 4 * (16 + 8 + 20 + 20),
        "critic": 0,
    }
    total = sum(models.values()) + 3
    assert found == {"models": models, "gradients": 1, "activations": 2, "total": total}
