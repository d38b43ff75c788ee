"""The registry: who is in it, who reads which setting, and that everybody learns."""

import dataclasses

import pytest

from minippo.algorithms import DEFAULT, REGISTRY, readers_of
from minippo.algorithms.base import PPOConfig
from tests.worlds import BOS, Probe, good_token, ragged


def test_each_record_stands_under_its_name_and_the_default_is_one_of_them():
    assert all(record.name == name for name, record in REGISTRY.items())
    assert DEFAULT in REGISTRY
    assert len({record.summary for record in REGISTRY.values()}) == len(REGISTRY)


def test_what_a_record_names_are_settings_of_the_training():
    known = {item.name for item in dataclasses.fields(PPOConfig)}
    for record in REGISTRY.values():
        assert {*record.settings, *record.fields, *record.numbers, *record.ignores} <= known
        PPOConfig(**record.settings)  # in their ranges


def test_readers_of_a_setting_are_those_whose_record_names_it():
    assert set(readers_of("max_kl")) == {"trpo"}
    assert set(readers_of("kl_old_target")) == {"ppo_adaptive_kl"}
    assert "pg" not in readers_of("lam") and {"gae", "ppo", "trpo"} <= set(readers_of("lam"))
    assert readers_of("temperature") == ()  # all of them do
    # what most of them read, and some say that they ignore
    assert {"pg", "ppo"} <= set(readers_of("gamma")) and "rloo" not in readers_of("gamma")
    for name, record in REGISTRY.items():
        for setting, reason in record.ignores.items():
            assert name not in readers_of(setting) != () and reason
            assert setting not in record.fields


@pytest.mark.parametrize("algorithm", REGISTRY)
def test_what_is_made_for_a_record_is_what_it_says(algorithm):
    """A checkpoint keeps the numbers that the record names, and no others."""
    record, world = REGISTRY[algorithm], ragged()
    update = record.update(world.models(algorithm), world.config, world.generator)
    assert set(update.numbers) == set(record.numbers)
    assert update.optimizers and callable(update.look_back)


# Stages 1 to 4 take one step where PPO takes eight: more rollouts, and larger steps.
OWN_SETTINGS = dict.fromkeys(
    ("pg", "rtg", "baseline", "gae"), {"num_updates": 40, "learning_rate": 3e-2}
)
OWN_SETTINGS["trpo"] = {"num_updates": 30, "max_kl": 0.1, "damping": 1e-3}
# What the reference hardly ever says is in few pairs: several passes over them.
OWN_SETTINGS |= dict.fromkeys(("dpo", "ipo"), {"pair_passes": 8.0})


@pytest.mark.parametrize("algorithm", REGISTRY)
def test_one_token_is_good_and_every_algorithm_learns_it(algorithm):
    settings = {"num_updates": 20, "value_epochs": 1} | OWN_SETTINGS.get(algorithm, {})
    world = Probe(good_token, **settings)
    world.train(algorithm)
    policy, reference = world.probabilities([BOS])
    # a margin that is enough for ipo at this price: 1 / (2 * 0.1) nats
    assert reference[4] < 0.5 and policy[4] > (0.8 if algorithm == "ipo" else 0.95)
