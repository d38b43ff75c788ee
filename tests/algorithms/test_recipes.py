"""Recipes as data: each can be chosen, what it sets is said, and a flag given besides wins."""

import pytest

from minippo.algorithms.config import PPOConfig
from minippo.algorithms.recipes import RECIPES, recipe_notes
from minippo.commands.config import resolve
from minippo.commands.flags import parse_arguments
from minippo.errors import InputError


def test_the_seven():
    assert list(RECIPES) == [
        "minippo",
        "openai-2019",
        "n-plus",
        "trl",
        "openrlhf",
        "verl",
        "cleanrl",
    ]
    assert resolve({"recipe": "minippo"}).ppo == resolve({}).ppo


@pytest.mark.parametrize("recipe", RECIPES)
def test_a_recipe_sets_its_column_and_nothing_else(recipe):
    found, plain = (vars(resolve(x).ppo) for x in ({"recipe": recipe}, {}))
    changed = {name: value for name, value in found.items() if value != plain[name]}
    wanted = {n: value for n, value in RECIPES[recipe].items() if value != plain[n]}
    assert changed == wanted
    assert len(changed) >= (0 if recipe == "minippo" else 5)


def test_a_flag_given_besides_wins_and_is_said():
    config = parse_arguments(["--recipe", "trl", "--score_place", "last_token"]).config
    assert config.ppo.score_place == "last_token" and config.ppo.whiten_bessel
    first, second = recipe_notes("trl", config.ppo)
    assert first.startswith("recipe trl: value_after_end kept, ") and "score_place" not in first
    assert second == "--score_place last_token was given besides and wins (trl: after_eos)"
    assert "no_eos_score none" in first and "whiten_bessel true" in first


def test_what_is_broken_is_said():
    notes = recipe_notes("verl", resolve({"recipe": "verl"}).ppo)
    assert "k3 as a loss is what verl does, and is broken" in notes[-1]
    assert recipe_notes("minippo", PPOConfig()) == []


@pytest.mark.parametrize("algorithm", ["pg", "trpo"])
def test_a_recipe_is_for_ppo(algorithm):
    with pytest.raises(InputError, match="^--recipe: trl is a set of choices of PPO; .* ppo"):
        parse_arguments(["--recipe", "trl", "--algorithm", algorithm])
