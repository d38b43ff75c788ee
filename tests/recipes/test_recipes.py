"""The product under the settings of each recipe computes what that code base computes.

The same batch goes two ways: through library_conventions, which knows nothing of minippo, and
through rollout, credit and the PPO update, with a policy and a critic that say what they are told.
Compared are rewards, advantages, value targets, both losses and the gradients of the whole loss.
"""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from minippo.algorithms import base, ppo
from minippo.algorithms.base import Experience
from minippo.algorithms.config import PPOConfig
from minippo.algorithms.recipes import RECIPES, text_of
from minippo.rollout import Models, Responses, Rollout, apply_eos_rule, values_of
from minippo.stages.credit import estimate_advantages, next_kl_coef
from tests.helpers import assert_close, f64
from tests.recipes.library_conventions import (
    CODE_BASES,
    Batch,
    Learned,
    proportional,
    ragged_batch,
    with_numbers,
)

PAGE = Path(__file__).parents[2] / "docs" / "recipes.md"
EVERY_RECIPE = pytest.mark.parametrize("recipe", RECIPES)
# what a code base does that the settings do not say: left out of it for the comparison
WITHOUT = {
    "openai-2019": {"epsilon": 0.0},
    "n-plus": {"epsilon": 0.0},
    "trl": {"epsilon": 0.0},
    "openrlhf": {"epsilon": 0.0},
    "verl": {"epsilon": 0.0},
    "cleanrl": {"epsilon": 0.0},
}


SHARED = (  # numbers that both have under one name
    "no_eos_score",
    "missing_eos_penalty",
    "gamma",
    "lam",
    "cliprange",
    "cliprange_value",
    "vf_coef",
    "whiten_rewards",
)


# -- the two ways


class Says(nn.Module):
    """A model whose output stands in a table [B,positions]; the prompt is one token, the row."""

    trunk = None  # a critic's own

    def __init__(self, table: Tensor, temperature: float = 1.0):
        super().__init__()
        self.table, self.temperature = nn.Parameter(table), temperature

    def forward(self, tokens: Tensor, mask: Tensor, read: tuple) -> Tensor:
        return self.table[tokens[:, 0]][:, : tokens.shape[1]][read]

    hidden = forward

    def logits(self, logprobs: Tensor) -> Tensor:
        """Of a vocabulary of two, the token that was drawn and the other one, which have these
        log-probabilities at the temperature."""
        return torch.stack((logprobs, torch.log1p(-logprobs.exp())), dim=-1) * self.temperature


def saying(each_slot: np.ndarray, last: np.ndarray | float = 0.0, temperature: float = 1.0) -> Says:
    """A model that says these numbers at the positions of the slots, and `last` behind them."""
    behind = np.broadcast_to(last, each_slot.shape[:1])[:, None]
    return Says(f64(np.concatenate((each_slot, behind), axis=1).tolist()), temperature)


def settings(recipe: str, **changed) -> PPOConfig:
    """Those of a recipe, in one minibatch; what a loss has beside policy, critic and KL is left
    out."""
    fields = {**RECIPES[recipe], "num_ppo_epochs": 1, "num_mini_batches": 1, "ent_coef": 0.0}
    return PPOConfig(**fields | changed)


def rollout_of(batch: Batch, config: PPOConfig) -> Rollout:
    """What the product would have recorded of the batch."""
    mask = torch.from_numpy(batch.response_mask)
    rows, T = mask.shape
    responses = Responses(
        prompt_tokens=torch.arange(rows).unsqueeze(1),
        prompt_mask=torch.ones(rows, 1, dtype=torch.bool),
        response_tokens=torch.zeros(rows, T, dtype=torch.int64),
        response_mask=mask,
    )
    ended, scores = torch.from_numpy(batch.ended), f64(batch.scores.tolist())
    old_logprobs, ref_logprobs = (
        f64(x.tolist()).masked_fill(~mask, 0.0) for x in (batch.old_logprobs, batch.ref_logprobs)
    )
    with torch.no_grad():
        values = values_of(saying(batch.old_values, batch.final_values), responses, config)
    return Rollout(
        **vars(responses),
        **values,
        ended=ended,
        sample_logprobs=old_logprobs,
        old_logprobs=old_logprobs,
        ref_logprobs=ref_logprobs,
        scores=apply_eos_rule(
            scores,
            ended,
            no_eos_score=config.no_eos_score,
            missing_eos_penalty=config.missing_eos_penalty,
        ),
        old_logits=saying(batch.old_logprobs).logits(old_logprobs),
        exact_kl=torch.zeros_like(old_logprobs),
        k1_variance=torch.zeros_like(old_logprobs),
    )


def product(batch: Batch, config: PPOConfig, monkeypatch: pytest.MonkeyPatch) -> Learned:
    """What minippo makes of a batch: the loss is caught where the step would be taken."""
    rollout = rollout_of(batch, config)
    rewards, advantages, targets = estimate_advantages(rollout, config)
    policy, critic = saying(batch.logprobs, -1.0, config.temperature), saying(batch.values)
    update = ppo.PPOUpdate(Models(policy, policy, critic), config, torch.Generator())  # pyright: ignore
    caught = {}

    def step(optimizers, loss, learning_rate, *, parts, **_):
        loss.backward()
        caught.update(parts, loss=loss)
        return 0.0

    monkeypatch.setattr(base, "take_step", step)
    experience = Experience(rollout, advantages, targets, config.kl_coef)
    read = update.parts_of_the_loss(experience)[1]["advantages"]
    update(experience, learning_rate=0.0, where="")
    loss, policy_loss, value_loss = (
        caught[name].item() for name in ("loss", "policy_loss", "value_loss")
    )
    kl_loss = caught["kl_loss"].item() / config.kl_coef if "kl_loss" in caught else 0.0
    gradients = (model.table.grad[:, :-1].numpy() for model in (policy, critic))
    arrays = (x.numpy() for x in (rewards, read, targets))
    return Learned(*arrays, policy_loss, kl_loss, value_loss, loss, *gradients)


def library(recipe: str, batch: Batch, config: PPOConfig, **numbers) -> Learned:
    """What the code base makes of it, with the numbers of the configuration."""
    shared = {name: getattr(config, name) for name in SHARED}
    if (config.kl_reward, config.kl_loss) != ("none", "none"):
        shared["kl_coef"] = config.kl_coef
    return with_numbers(recipe, batch, **shared | WITHOUT.get(recipe, {}) | numbers)


def compare(found: Learned, wanted: Learned) -> None:
    for name, x in found._asdict().items():
        try:
            assert_close(np.asarray(x).tolist(), np.asarray(getattr(wanted, name)).tolist())
        except AssertionError as error:
            raise AssertionError(f"{name}: {error}") from error


# -- batches


def of_full_length(batch: Batch) -> Batch:
    """The same with every slot an action: what openai-2019 always has, EOS or not."""
    return replace(batch, response_mask=np.ones_like(batch.response_mask))


def random_batch(seed: int) -> Batch:
    """Six responses of one to five tokens in five slots; some that fill the slots have EOS."""
    rng = np.random.default_rng(seed)
    B, T = 6, 5
    lengths = np.array([T, T, *rng.integers(1, T + 1, B - 2)])
    old_logprobs = -0.8 - np.abs(rng.normal(size=(B, T)))
    return Batch(
        scores=3 * rng.normal(size=B),
        ended=(lengths < T) | (np.arange(B) == 0),
        response_mask=np.arange(T) < lengths[:, None],
        old_logprobs=old_logprobs,
        ref_logprobs=old_logprobs + 0.5 * rng.normal(size=(B, T)),
        logprobs=old_logprobs + 0.7 * np.tanh(rng.normal(size=(B, T))),
        old_values=rng.normal(size=(B, T)),
        values=rng.normal(size=(B, T)),
        final_values=rng.normal(size=B),
    )


def batch_for(recipe: str, batch: Batch) -> Batch:
    return of_full_length(batch) if recipe == "openai-2019" else batch


BATCHES = {"by_hand": ragged_batch()} | {f"random_{seed}": random_batch(seed) for seed in range(4)}


# -- the tests


@EVERY_RECIPE
@pytest.mark.parametrize("batch", BATCHES)
def test_a_recipe_computes_what_its_code_base_computes(recipe, batch, monkeypatch):
    config, given = settings(recipe), batch_for(recipe, BATCHES[batch])
    compare(product(given, config, monkeypatch), library(recipe, given, config))


def test_the_page_has_the_fields_of_every_recipe():
    part = PAGE.read_text(encoding="utf-8").partition("## Fields of each recipe")[2]
    lines = part.strip().splitlines()
    lines = lines[next(i for i, line in enumerate(lines) if line.startswith("|")) :]
    table = lines[: lines.index("")]
    head, _, *rows = ([cell.strip() for cell in line.strip("|").split("|")] for line in table)
    assert head == ["field", *RECIPES]
    for field, *cells in rows:
        name = field.strip("`")
        assert cells == [text_of(getattr(PPOConfig(**x), name)) for x in RECIPES.values()], name
    named = {field.strip("`") for field, *_ in rows}
    assert {name for fields in RECIPES.values() for name in fields} <= named


# what a code base does when it is asked to: recipe, the product's settings, the code base's numbers
ASKED_FOR = [
    ("openai-2019", {"whiten_rewards": False}, {}),
    ("n-plus", {"whiten_rewards": True}, {}),
    ("trl", {"kl_reward": "k3", "allow_broken": True}, {"kl_in_reward": "k3"}),
    ("trl", {"missing_eos_penalty": 0.0}, {}),
    ("openrlhf", {"kl_reward": "k2", "allow_broken": True}, {"kl_in_reward": "k2"}),
    ("verl", {"kl_reward": "k1", "kl_loss": "none"}, {"kl_in_reward": "k1", "kl_in_loss": "none"}),
    ("verl", {"kl_loss": "none"}, {"kl_in_loss": "none"}),
    ("verl", {"kl_loss": "k2"}, {"kl_in_loss": "k2"}),
    ("verl", {"kl_loss": "k1"}, {"kl_in_loss": "k1"}),
]


@pytest.mark.parametrize(("recipe", "changed", "numbers"), ASKED_FOR)
def test_what_a_code_base_does_when_asked_is_a_setting_too(recipe, changed, numbers, monkeypatch):
    config, batch = settings(recipe, **changed), batch_for(recipe, BATCHES["random_0"])
    compare(product(batch, config, monkeypatch), library(recipe, batch, config, **numbers))


@pytest.mark.parametrize("recipe", ["trl", "openrlhf"])
def test_one_response_in_each_micro_batch_is_the_mean_of_each_response(recipe, monkeypatch):
    config, batch = settings(recipe, loss_reduction="sequence_mean"), BATCHES["random_0"]
    found = product(batch, config, monkeypatch)
    wanted = library(recipe, batch, config, micro_batch=1)
    for name in ("policy_loss", "logprob_gradient"):
        numbers = torch.tensor(getattr(found, name), dtype=torch.float32)  # as the factors are
        assert_close(numbers, torch.tensor(getattr(wanted, name)))


def test_openais_last_column_with_nobody_behind_eos(monkeypatch):
    # tokens behind EOS are not sampled here: they cost no KL, and their states are worth 0
    config, batch = settings("openai-2019"), BATCHES["by_hand"]
    mask = batch.response_mask
    nobody = replace(
        batch,
        ref_logprobs=np.where(mask, batch.ref_logprobs, batch.old_logprobs),
        old_values=np.where(mask, batch.old_values, 0.0),
    )
    found, wanted = product(batch, config, monkeypatch), library("openai-2019", nobody, config)
    assert_close(found.rewards.tolist(), wanted.rewards.tolist())
    assert_close(found.returns[mask].tolist(), wanted.returns[mask].tolist())


@EVERY_RECIPE
def test_the_numbers_of_a_recipe_are_those_of_its_code_base(recipe):
    config, (_, numbers) = PPOConfig(**RECIPES[recipe]), CODE_BASES[recipe]
    for name in SHARED:
        assert getattr(config, name) == getattr(numbers, name), name
    if config.is_priced():
        assert config.kl_coef == numbers.kl_coef
    assert (config.kl_reward, config.kl_loss) == (numbers.kl_in_reward, numbers.kl_in_loss)


@pytest.mark.parametrize("kl", [1.0, 5.4, 6.0, 9.0])
def test_the_controller_of_openai_is_that_of_its_code_base(kl):
    config = PPOConfig(**RECIPES["openai-2019"])
    wanted = proportional(0.15, kl, target=6.0, responses=config.batch_size, horizon=10000)
    assert next_kl_coef(0.15, kl, config) == pytest.approx(wanted, rel=1e-12)
    for recipe in set(RECIPES) - {"openai-2019"}:
        assert next_kl_coef(0.15, kl, PPOConfig(**RECIPES[recipe])) == 0.15


# recipe -> settings one of which is wrong, and the first of the results that must tell
MISTAKES = [
    ("minippo", {"score_place": "after_eos"}, "rewards"),
    ("openai-2019", {"whiten_rewards": False}, "rewards"),
    ("n-plus", {"score_place": "last_token"}, "rewards"),
    ("n-plus", {"value_after_end": "zero"}, "advantages"),
    ("n-plus", {"whiten_bessel": True}, "advantages"),
    ("trl", {"whiten_bessel": False}, "advantages"),
    ("trl", {"missing_eos_penalty": 0.0}, "rewards"),
    ("trl", {"kl_reward": "k3", "allow_broken": True}, "rewards"),
    ("openrlhf", {"score_place": "last_column"}, "rewards"),
    ("openrlhf", {"loss_reduction": "sequence_mean"}, "policy_loss"),
    ("openrlhf", {"cliprange_value": None}, "value_loss"),
    ("verl", {"kl_loss": "none"}, "kl_loss"),
    ("verl", {"kl_loss": "k2"}, "kl_loss"),
    ("verl", {"vf_coef": 0.5}, "loss"),
    ("cleanrl", {"value_after_end": "zero"}, "advantages"),
    ("cleanrl", {"whiten_advantages": False, "whiten_bessel": False}, "advantages"),
    ("cleanrl", {"kl_reward": "k1"}, "rewards"),
    ("cleanrl", {"cliprange": 0.1}, "policy_loss"),
]


@pytest.mark.parametrize(("recipe", "mistake", "seen_in"), MISTAKES)
def test_a_setting_that_is_not_the_recipes_is_seen(recipe, mistake, seen_in, monkeypatch):
    right, wrong = settings(recipe), settings(recipe, **mistake)
    batch = batch_for(recipe, BATCHES["random_0"])
    with pytest.raises(AssertionError, match=f"^{seen_in}:"):
        compare(product(batch, wrong, monkeypatch), library(recipe, batch, right))
