"""Next-token training: the loss counts the targets and nothing else, and the schedule is what it
says."""

import pytest
import torch

from minippo.errors import TrainingError
from minippo.reward_head import RewardModel
from minippo.stages.optimise import (
    check_finite,
    muon_and_adamw,
    named_weights,
    numbers_of,
    take_step,
    warmup_then_cosine,
)
from tests.helpers import small_gpt


def test_the_schedule_warms_up_and_falls_to_a_tenth():
    shares = [warmup_then_cosine(step, 1000) for step in range(1000)]
    assert shares[0] == pytest.approx(1 / 50, rel=1e-4)
    assert max(shares) == pytest.approx(1.0, abs=0.01) and shares.index(max(shares)) == 49
    assert shares[500] == pytest.approx(0.1 + 0.9 * 0.5) and shares[-1] == pytest.approx(
        0.1, abs=1e-4
    )
    assert warmup_then_cosine(0, 1) == 1.0


def test_a_gradient_that_is_not_finite_stops_too_and_the_weights_stay_as_they_were():
    weight = torch.nn.Parameter(torch.zeros(1))
    optimizer = torch.optim.SGD([("weight", weight)], lr=1.0)
    with pytest.raises(
        TrainingError, match="^here: P010 grad-none: the gradient of weight is inf; try"
    ):
        # the slope of sqrt at 0 is infinite
        take_step([optimizer], weight.sqrt().sum(), 1.0, where="here")
    assert weight.item() == 0.0


def test_a_norm_that_overflows_is_noticed_where_no_gradient_is_infinite():
    weight = torch.nn.Parameter(torch.ones(2))
    optimizer = torch.optim.SGD([("weight", weight)], lr=1.0)
    with pytest.raises(TrainingError, match="^here: the gradient's norm is inf; try"):
        take_step([optimizer], (1e30 * weight).sum(), 1.0, where="here")
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
    norm = take_step([optimizer], 0.5 * (weight**2).sum(), 1.0, where="here", max_grad_norm=1.0)
    assert norm == pytest.approx(5.0)  # the gradient is [3, 4]; scaled to norm 1 it is [0.6, 0.8]
    assert weight.tolist() == pytest.approx([2.4, 3.2], abs=1e-5)


def test_scalars_are_read_in_their_order():
    assert numbers_of([torch.tensor(1.5), torch.tensor(-2.0)]) == [1.5, -2.0]
    assert numbers_of([]) == []


def test_muon_has_the_matrices_of_the_blocks_and_adamw_the_rest():
    model = RewardModel(small_gpt())
    muon, adamw = muon_and_adamw(model, learning_rate=1e-3, weight_decay=0.1)
    names = [group["param_names"] for group in (muon.param_groups[0], adamw.param_groups[0])]
    matrices = ("c_attn.weight", "c_proj.weight", "c_fc.weight")
    assert all(name.startswith("trunk.h.") and name.endswith(matrices) for name in names[0])
    assert len(names[0]) == 4 * model.trunk.config.n_layer
    assert sorted(names[0] + names[1]) == sorted(name for name, _ in model.named_parameters())
    assert muon.defaults["weight_decay"] == adamw.defaults["weight_decay"] == 0.1


def test_the_two_take_steps_of_one_size_and_muon_turns_all_directions_alike():
    torch.manual_seed(0)
    model = RewardModel(small_gpt())
    optimisers = muon_and_adamw(model, learning_rate=1.0, weight_decay=0.0)
    weight = model.trunk.h[0].mlp.c_fc.weight  # [4 D, D]
    before = weight.detach().clone()
    left, right = torch.randn(len(weight), 2), torch.randn(2, weight.shape[1])
    slope = left @ torch.diag(torch.tensor([1.0, 0.1])) @ right  # a loud and a quiet direction
    take_step(optimisers, (weight * slope).sum(), 0.01, where="here")
    step = weight.detach() - before
    sizes = torch.linalg.svdvals(step)[:2]
    assert sizes[1] / sizes[0] > 0.5  # of the slope it is about 0.1
    assert torch.linalg.svdvals(slope)[1] / torch.linalg.svdvals(slope)[0] < 0.2
    assert ((step * slope).sum() < 0).item()


def test_the_norm_that_is_held_down_is_that_of_both_optimisers_gradients():
    weights = [torch.nn.Parameter(torch.tensor([x])) for x in (3.0, 4.0)]
    optimisers = [torch.optim.SGD([(f"w{i}", w)], lr=9.0) for i, w in enumerate(weights)]
    loss = 0.5 * sum((w**2).sum() for w in weights)
    assert take_step(optimisers, loss, 1.0, where="here", max_grad_norm=1.0) == pytest.approx(5.0)
    assert [w.item() for w in weights] == pytest.approx([2.4, 3.2], abs=1e-5)
