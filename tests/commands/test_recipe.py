"""What each stage depends on: the settings that it reads, and no others."""

import json

import pytest
import torch

from minippo import annotators
from minippo.algorithms import DEFAULT
from minippo.commands.config import FIELDS, TASKS_THAT_READ, readers_of, resolve
from minippo.commands.prepare import make_task
from minippo.commands.recipe import recipes, stage_before
from minippo.settings import kind_of
from minippo.tasks import Capitals
from tests.tiny_runs import STAGES, TINY, nothing_drawn, run

FIRST_STAGE = {  # that reads the settings of a section
    "model": "pretrain",
    "pretrain": "pretrain",
    "sft": "sft",
    "preference": "reward_model",
    "annotator": "reward_model",
    "reward": "reward_model",
    "ppo": "policy",
} | {  # or a setting, where the section does not say
    "task": "pretrain",
    "seed": "pretrain",
    "tldr_values": "pretrain",
    "arithmetic_problems": None,  # of arithmetic
    "reward": "reward_model",  # there is none with a rule
    "prompt_length": None,  # of files
    "completion_length": None,
    "pairs": None,
    "data_limit": None,
    "response_length": "reward_model",  # of the responses that are compared
    "temperature": "reward_model",
    "algorithm": "policy",
}
OTHER = {
    "task": "capitals",
    "algorithm": "ppo_kl",
    "preset": "quick",
    "device": "cpu",
    "data": "DIR",
    "start_from": "DIR",
    "preferences": "FILE",
    "no_eos_score": -4.0,
    "target_kl": 0.25,
    "critic_lam": 0.5,
    "dual_clip": 3.0,
    "n_head": 8,
    "reward": "rule",
    "samples_per_prompt": 2,
    "arithmetic_problems": 20,
    "pairs": 20,
    "n_embd": 32,
    "tldr_values": 4,
    "annotator": "length",
    "annotator_panel": 5,
    "annotator_rules": "is_short",
    "preference_labels": "ranking",
    "preferences_from": "pretrain",
    "reward_layers": 1,
    "overlong_buffer": 1,
    "reward_zero": "none",
    "reward_unit": "none",
}


def other_value(name):
    """A value that the setting has not by default."""
    item = FIELDS[name][1]
    if name in OTHER:
        return OTHER[name]
    if kind_of(item) is bool:
        return not item.default
    if item.metadata["choices"]:
        return next(value for value in item.metadata["choices"] if value != item.default)
    return item.default + 1 if kind_of(item) is int else item.default / 4 + 0.1


def used_by_default():
    """The settings that the default algorithm and the default annotator read."""
    chosen = {DEFAULT, annotators.DEFAULT}
    return {name for name in FIELDS if not readers_of(name) or chosen & {*readers_of(name)}}


def recipes_of(**settings):
    """The recipes of a task that needs no files."""
    config = resolve(settings)
    of_the_world = ("task", "tldr_values", "arithmetic_problems")
    world = resolve({name: settings[name] for name in of_the_world if name in settings})
    return recipes(config, make_task(world, generator=torch.Generator().manual_seed(0)))


def stages_that_differ(one, other):
    return tuple(stage for stage in STAGES if one.get(stage) != other.get(stage))


def stages_that_read(name):
    """The stages that read a setting of the default algorithm, or come after one that does."""
    first = FIRST_STAGE.get(name, FIRST_STAGE.get(FIELDS[name][0]))
    readers = readers_of(name)
    if first is None or (readers and not {DEFAULT, annotators.DEFAULT} & {*readers}):
        return ()
    return STAGES[STAGES.index(first) :]


@pytest.mark.parametrize("name", [name for name in FIELDS if name not in ("preset", "recipe")])
def test_a_setting_belongs_to_the_first_stage_that_reads_it_and_to_those_after(name):
    strict = {} if name == "allow_broken" else {"allow_broken": True}
    other = recipes_of(**strict, **{name: other_value(name)})
    found = stages_that_differ(recipes_of(**strict), other)
    assert found == stages_that_read(name)


def test_how_many_sums_there_are_counts_from_the_beginning():
    own = recipes_of(task="arithmetic")
    other = recipes_of(task="arithmetic", arithmetic_problems=20)
    assert set(own) == {*STAGES} - {"reward_model"}
    assert stages_that_differ(own, other) == tuple(own)


def test_with_a_rule_the_policy_comes_after_the_fine_tuned_model():
    own, other = recipes_of(reward="rule"), recipes_of(reward="rule", sft_steps=3)
    assert "reward_model" not in own
    assert stages_that_differ(own, other) == ("sft", "policy", "critic")
    settled = recipes_of(reward="rule", reward_epochs=9, preference_prompts=9)
    assert settled == own
    config = resolve({"reward": "rule"})
    assert [stage_before(config, stage) for stage in ("pretrain", "sft", "policy", "critic")] == [
        None,
        "pretrain",
        "sft",
        "sft",
    ]


def test_a_setting_of_another_algorithm_belongs_to_that():
    own = {"algorithm": "trpo"}
    assert stages_that_differ(recipes_of(**own), recipes_of(**own, max_kl=0.5)) == (
        "policy",
        "critic",
    )


def test_with_several_rounds_the_reward_model_depends_on_the_policies():
    one, two = recipes_of(rounds=2), recipes_of(rounds=2, learning_rate=1e-3)
    assert stages_that_differ(one, two) == ("reward_model", "policy", "critic")


def test_responses_that_need_a_larger_context_count_from_the_beginning():
    assert stages_that_differ(recipes_of(), recipes_of(response_length=400)) == STAGES


def test_nothing_is_drawn_by_chance():
    assert recipes_of() == recipes_of()


# -- preferences of people


def recipes_with(digest, **settings):
    """Of a run whose preferences come from a file with this digest."""
    config, task = resolve(settings), Capitals()
    task.recorded, task.preferences_digest = ([], []), digest
    return recipes(config, task)


def test_preferences_of_people_count_by_their_digest_from_the_reward_model_on():
    own = recipes_with("1", task="capitals", preferences="FILE")
    assert recipes_with("1", task="capitals", preferences="elsewhere/FILE") == own
    after = ("reward_model", "policy", "critic")
    for other in (
        recipes_with("2", task="capitals", preferences="FILE"),
        recipes_with("1", task="capitals", preferences="FILE", preference_heldout=9),
        recipes_of(task="capitals"),
    ):
        assert stages_that_differ(own, other) == after
    settled = recipes_with("1", task="capitals", preferences="FILE", annotator="length")
    assert settled == own


# -- texts of one's own


def recipes_of_texts(folder, text="the sea is wide", model=None, **settings):
    folder.mkdir(exist_ok=True)
    (folder / "corpus.txt").write_text(text * 40)
    pairs = [{"prompt": f"say {i}", "chosen": f"here are {i}", "rejected": "no"} for i in range(12)]
    (folder / "preferences.jsonl").write_text("".join(json.dumps(pair) + "\n" for pair in pairs))
    settings = {"task": "files", "data": str(folder), "preference_heldout": 4} | settings
    config = resolve(settings)
    task = make_task(config, generator=torch.Generator().manual_seed(0))
    return recipes(config, task, model)


def test_the_texts_count_and_the_folder_does_not(tmp_path):
    own = recipes_of_texts(tmp_path / "one")
    assert recipes_of_texts(tmp_path / "two") == own
    assert stages_that_differ(own, recipes_of_texts(tmp_path / "one", "the sea is low")) == STAGES


@pytest.mark.parametrize("name, value", [("preference_heldout", 5), ("prompt_length", 100)])
def test_how_texts_are_split_and_cut_counts_from_the_beginning(name, value, tmp_path):
    own, other = recipes_of_texts(tmp_path), recipes_of_texts(tmp_path, **{name: value})
    assert stages_that_differ(own, other) == STAGES


def test_recorded_pairs_need_no_annotator(tmp_path):
    own, other = recipes_of_texts(tmp_path), recipes_of_texts(tmp_path, annotator_temperature=0.75)
    assert stages_that_differ(own, other) == ()


def test_a_model_to_start_from_takes_the_place_of_the_pretraining(tmp_path):
    own = recipes_of_texts(tmp_path, model="a digest")
    assert stages_that_differ(own, recipes_of_texts(tmp_path, model="another")) == STAGES
    assert stages_that_differ(own, recipes_of_texts(tmp_path, model="a digest", n_layer=5)) == ()


# -- against runs


@pytest.mark.by_hand  # a tiny run for each setting: longer than CI has time for
def test_stages_with_equal_recipes_have_equal_weights(tmp_path):
    """Each setting is changed in a tiny run: no stage changes whose recipe does not know it."""

    def weights(folder):
        return {
            stage: (folder / f"checkpoints/{stage}/model.safetensors").read_bytes()
            for stage in STAGES
            if (folder / f"checkpoints/{stage}").exists()
        }

    # other threads may change the last bits, and are not seals' business
    not_here = (
        "task",
        "preset",
        "reward",
        "recipe",
        "device",
        "threads",
        "data",
        "start_from",
        "preferences",
        "tensorboard",
        "truncate",
        # not read, or refused, without another setting
        "kl_reward",
        "kl_loss",
        "kl_target",
        "kl_horizon",
        "whiten_over",
        "whiten_bessel",
        "allow_broken",
    )
    valued = [word for word in TINY if not word.startswith("--no-")]  # without the switches
    small = dict(zip(valued[::2], valued[1::2], strict=True))
    with nothing_drawn():
        own = weights(run(tmp_path / "own", "--quiet"))
        for name in FIELDS:
            of_others = name not in used_by_default() or name == "rating_noise"
            if name in not_here or of_others or "tldr" not in TASKS_THAT_READ.get(name, ["tldr"]):
                continue
            value = other_value(name)
            flag = [f"--{name}", str(value)]
            if isinstance(value, bool):
                flag = [f"--{'' if value else 'no-'}{name}"]
            elif f"--{name}" in small:
                flag[1] = str(int(small[f"--{name}"]) * 2)
            other = weights(run(tmp_path / name, "--quiet", *flag))
            changed = {stage for stage in own.keys() & other.keys() if own[stage] != other[stage]}
            assert changed <= set(stages_that_read(name)), name
