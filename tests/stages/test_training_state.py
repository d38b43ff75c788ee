"""What a training needs to go on: taken, put back, and refused when it is not that."""

import pytest
import torch

from minippo.errors import InputError
from minippo.gpt import GPT
from minippo.reward_head import RewardModel
from minippo.stages.optimise import named_weights
from minippo.stages.training_state import check_numbers, restore_training, training_tensors
from tests.hostile import SIZE, numbers_of_a_state, refusal
from tests.made_runs import moment, token


def test_the_numbers_of_a_state_are_those_that_it_needs():
    good = numbers_of_a_state(3)
    check_numbers(good, 3, also=("kl_old_coef",))
    words = good["rng"][1]
    bad = {
        "update": (None, 2, 3.0, True),
        "stage_seconds": (None, "1", -1),
        "kl_old_coef": (None, 0, -1, "1", True),
        "rng": (
            None,
            [],
            [3],
            [2, words, None],
            [3, words[:-1], None],
            [3, [*words[:-1], 625], None],
            [3, [], None],
            [3, [-1, *words[1:]], None],
            [3, [2**32, *words[1:]], None],
            [3, [True, *words[1:]], None],
            [3, [0.5, *words[1:]], None],
            [3, words, "x"],
            [3, [0] * 625, None],
            "rng",
            {"3": 1},
        ),
        "memory": (
            None,
            [1, 2, 3],
            {"gradients": 1, "optimiser": 2},
            {"gradients": 1, "optimiser": 2, "activations": 3, "more": 4},
            {"gradients": -1, "optimiser": 2, "activations": 3},
            {"gradients": 1, "optimiser": 2.0, "activations": 3},
            {"gradients": 1, "optimiser": 2, "activations": True},
        ),
        "kl_coef": (0.0, -1.0, None, True, "0.05", float("nan")),
        "minibatch": (
            None,
            [],
            {},
            {"ratios": [1.0]},
            {"ratios": [], "advantages": [1]},
            {"ratios": [1], "advantages": [1, 2]},
            {"ratios": [None], "advantages": [1]},
            {"ratios": "1", "advantages": "1"},
        ),
    }
    for name, values in bad.items():
        refusal(
            check_numbers,
            {key: value for key, value in good.items() if key != name},
            3,
            ("kl_old_coef",),
        )
        for value in values:
            assert refusal(
                check_numbers, good | {name: value}, 3, ("kl_old_coef",), names=f"field {name}:"
            )


def training():
    """Two small models, and the optimiser after one step."""
    policy, critic = GPT(SIZE), RewardModel(GPT(SIZE))
    named = named_weights(policy=policy, critic=critic)
    optimizer = torch.optim.Adam(named, lr=1e-3)
    (policy(torch.tensor([[1, 2]])).sum() + critic(torch.tensor([[1, 2]])).sum()).backward()
    optimizer.step()
    return {
        "models": {"policy": policy, "critic": critic},
        "optimizers": [optimizer],
        "generator": torch.Generator(),
    }


@pytest.mark.parametrize(
    "name, value",
    [
        ("policy.wte.weight", torch.zeros(5, 3)),
        ("policy.wte.weight", torch.full((5, 2), torch.nan)),
        ("policy.wte.weight", None),
        ("critic.extra", torch.zeros(1)),
        ("optimizer 0.0.exp_avg", None),
        ("optimizer 0.0.exp_avg", torch.zeros(2, 5)),
        ("optimizer 0.0.exp_avg", torch.zeros(5, 2, dtype=torch.uint8)),
        ("optimizer 0.0.exp_avg_sq", torch.full((5, 2), -1.0)),
        ("optimizer 0.0.exp_avg_sq", torch.full((5, 2), torch.inf)),
        ("optimizer 0.0.step", torch.zeros(3)),
        ("optimizer 0.0.step", torch.tensor(-1.0)),
        ("optimizer 0.0.step", torch.tensor(0.0)),
        ("optimizer 0.0.more", torch.zeros(5, 2)),
        ("generator", None),
        ("generator", torch.zeros(3)),
        ("generator", torch.zeros(5056, dtype=torch.uint8)),
        ("generator", torch.zeros(3, dtype=torch.uint8)),
    ],
)
def test_tensors_that_are_not_a_state_are_refused(name, value):
    tensors = training_tensors(**training())
    restore_training(tensors, **training())
    tensors = {key: tensor for key, tensor in tensors.items() if key != name} | (
        {} if value is None else {name: value}
    )
    with pytest.raises(InputError, match="^tensors.safetensors: not the state of this training"):
        restore_training(tensors, **training())


def test_the_path_is_a_list_of_places_where_there_is_one():
    good = numbers_of_a_state(3)
    for path in ([], [[1, 0.5, 2.0], [2, 1, 2]]):
        check_numbers(good | {"path": path}, 3)
    for path in (None, "path", {}, [1], [[1, 2]], [[1, 0.5, None]], [[1, 0.5, "2"]]):
        refusal(check_numbers, good | {"path": path}, 3, names="field path:")


def test_the_moments_are_rows_as_a_run_writes_them_where_there_are_any():
    good = numbers_of_a_state(3)
    for moments in ([], [moment(0, "a"), moment(2, "b", [token("c")])]):
        check_numbers(good | {"moments": moments}, 3)
    for moments in (None, {}, [1], [moment(0, "a") | {"kl": None}]):
        refusal(check_numbers, good | {"moments": moments}, 3, names="field moments:")
