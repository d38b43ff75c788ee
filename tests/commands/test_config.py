"""minippo.config: every field refuses what does not fit it, and the three layers of settings lie in
their order."""

import ast
import itertools
import json
import math
from dataclasses import FrozenInstanceError, fields, replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

import minippo
from minippo.algorithms import REGISTRY
from minippo.commands.config import FIELDS, OWN_TASK, PRESETS, SECTIONS, Config, check_used, resolve
from minippo.settings import KINDS, check_value, kind_of, may_be_none

NAMES = sorted(FIELDS)
NUMBERS = [name for name in NAMES if kind_of(FIELDS[name][1]) in (int, float)]
TASKS, NAMED_PRESETS = (FIELDS[name][1].metadata["choices"] for name in ("task", "preset"))
WRONG_TYPES = {
    int: (1.0, "1", True, [1], math.nan),
    float: ("0.5", True, [0.5], 1j),
    bool: (0, 1, "true", 1.0),
    str: (0, True, b"cpu", ["cpu"]),
}


def value_of(config, name):
    return getattr(getattr(config, FIELDS[name][0]), name)


def limits_of(name):
    limits = FIELDS[name][1].metadata
    return limits["low"], limits["high"], limits["open_low"]


def check_refused(name, value):
    """Refused by name, whether the field is set alone or with all others."""
    section, item = FIELDS[name]
    for function in (
        lambda: resolve({name: value}),
        lambda: SECTIONS[section](**{name: value}),
        lambda: check_value(item, value),
    ):
        with pytest.raises(ValueError) as caught:
            function()
        assert str(caught.value).startswith(f"{name}: ")
        assert len(str(caught.value).splitlines()) == 1


# -- one field


@pytest.mark.parametrize("name", NAMES)
def test_a_value_of_the_wrong_type_is_refused(name):
    for value in WRONG_TYPES[kind_of(FIELDS[name][1])]:
        check_refused(name, value)


@pytest.mark.parametrize("name", NUMBERS)
def test_nan_and_infinity_are_refused(name):
    for value in (math.nan, math.inf, -math.inf):
        check_refused(name, value)


@pytest.mark.parametrize("name", NAMES)
def test_none_is_refused_where_the_annotation_does_not_allow_it(name):
    if may_be_none(FIELDS[name][1]):
        assert value_of(resolve({name: None}), name) is None
    else:
        check_refused(name, None)


def test_the_fields_that_may_be_none():
    assert {name for name in NAMES if may_be_none(FIELDS[name][1])} == {
        "data",
        "start_from",
        "preferences",
        "arithmetic_problems",
        "pairs",
        "samples_per_prompt",
        "no_eos_score",
        "target_kl",
        "cliprange_value",
        "overlong_buffer",
        "critic_lam",
        "dual_clip",
        "reward_layers",
    }


@pytest.mark.parametrize("name", [name for name in NUMBERS if limits_of(name)[0] is not None])
def test_the_lower_limit(name):
    low, _, is_open = limits_of(name)
    below = low - 1 if kind_of(FIELDS[name][1]) is int else math.nextafter(low, -math.inf)
    check_refused(name, below)
    check_refused(name, low - 1000)
    if is_open:
        check_refused(name, low)
        low = math.nextafter(low, math.inf)
    check_value(FIELDS[name][1], low)


@pytest.mark.parametrize("name", [name for name in NUMBERS if limits_of(name)[1] is not None])
def test_the_upper_limit(name):
    high = limits_of(name)[1]
    above = high + 1 if kind_of(FIELDS[name][1]) is int else math.nextafter(high, math.inf)
    check_refused(name, above)
    check_refused(name, high + 1000)
    check_value(FIELDS[name][1], high)


@given(st.sampled_from(NUMBERS), st.data())
def test_whatever_lies_in_the_range_is_accepted(name, data):
    low, high, is_open = limits_of(name)
    kind = kind_of(FIELDS[name][1])
    if kind is int:
        value = data.draw(st.integers(low, high))
    else:
        value = data.draw(
            st.floats(low, high, exclude_min=is_open, allow_nan=False, allow_infinity=False)
        )
    check_value(FIELDS[name][1], value)


@given(
    st.sampled_from(NAMES),
    st.one_of(st.text(), st.integers(), st.booleans(), st.none(), st.lists(st.integers())),
)
def test_any_value_is_kept_or_refused_by_a_valueerror_that_names_the_field(name, value):
    try:
        check_value(FIELDS[name][1], value)
    except ValueError as error:
        assert str(error).startswith(f"{name}: ")
    else:
        kind = kind_of(FIELDS[name][1])
        assert type(value) is kind or value is None or (kind is float and type(value) is int)


@pytest.mark.parametrize("name", [name for name in NAMES if FIELDS[name][1].metadata["choices"]])
def test_a_choice_that_there_is_not_is_refused_and_the_others_are_named(name):
    item = FIELDS[name][1]
    for value in ("", item.default.upper(), item.default + " "):
        check_refused(name, value)
    with pytest.raises(ValueError) as caught:
        check_value(item, "nonsense")
    assert all(choice in str(caught.value) for choice in item.metadata["choices"])


@pytest.mark.parametrize(
    "name, refused, accepted",
    [
        ("seed", (-1, 2**31), (0, 2**31 - 1)),
        ("threads", (0, 257), (1, 256)),
        ("tldr_values", (2, 7), (3, 6)),
        ("learning_rate", (0.0, -1e-3), (1e-9, 1)),
        ("temperature", (0, -1.0), (0.1, 2.0)),
        ("gamma", (-0.1, 1.01), (0, 1.0)),
        ("lam", (-0.1, 1.01), (0.0, 1)),
        ("kl_coef", (0.0, -0.1), (1e-6, 10.0)),
        ("cliprange", (0.0,), (0.2,)),
        ("ent_coef", (-1e-9,), (0.0,)),
        ("response_length", (0, -4), (1, 14)),
        ("target_kl", (0.0, -0.1), (0.01, None)),
        ("no_eos_score", (), (-5.0, 0.0, 5.0, None)),
        ("missing_eos_penalty", (-0.1,), (0.0, 1.0)),
        ("final_learning_rate", (-0.1, 1.1), (0.0, 1.0)),
        ("preference_samples", (1,), (2,)),
        ("optimum_draws", (1,), (2,)),
        ("annotator_temperature", (0.0,), (0.01,)),
        ("reward_weight_decay", (-0.01,), (0.0,)),
        ("prompt_length", (3,), (4,)),
    ],
)
def test_ranges_by_hand(name, refused, accepted):
    for value in refused:
        check_refused(name, value)
    for value in accepted:
        assert value_of(resolve({name: value}), name) == value


def test_heads_must_divide_the_width():
    with pytest.raises(ValueError, match="^n_head: wanted a divisor of n_embd 64, got 5"):
        resolve({"n_head": 5, "n_embd": 64})
    with pytest.raises(ValueError, match="^n_head: wanted a divisor of n_embd 66, got 4"):
        resolve({"n_head": 4, "n_embd": 66})
    assert resolve({"n_head": 5, "n_embd": 65}).model.n_head == 5


def test_there_are_no_more_minibatches_than_responses():
    with pytest.raises(ValueError, match="^num_mini_batches: wanted at most batch_size 4, got 5"):
        resolve({"num_mini_batches": 5, "batch_size": 4})
    assert resolve({"num_mini_batches": 4, "batch_size": 4}).ppo.num_mini_batches == 4


def test_the_responses_to_a_prompt_divide_the_batch():
    with pytest.raises(ValueError, match="^batch_size: wanted a multiple of the 5 samples per pro"):
        resolve({"samples_per_prompt": 5})
    assert resolve({"samples_per_prompt": 8}).ppo.samples_per_prompt == 8
    assert resolve({}).ppo.samples_per_prompt is None  # the algorithm's own


def test_the_responses_to_a_prompt_that_an_algorithm_has_divide_the_batch_too(monkeypatch):
    record = replace(REGISTRY["rtg"], samples_per_prompt=4)
    monkeypatch.setitem(REGISTRY, "rtg", record)
    with pytest.raises(
        ValueError, match="^batch_size: wanted a multiple of the 4 samples .* got 6"
    ):
        resolve({"algorithm": "rtg", "batch_size": 6})
    assert resolve({"algorithm": "rtg", "batch_size": 8}).ppo.batch_size == 8
    assert resolve({"algorithm": "rtg", "batch_size": 6, "samples_per_prompt": 3})


# -- what scores a response


@pytest.mark.parametrize("text", ["sums.py:Sums", "/a/b c/sums.py:Sums", "a:b.py:Sums"])
def test_a_task_may_be_a_class_in_a_file(text):
    config = resolve({"task": text})
    assert config.run.task == text and config.ppo == resolve({"task": OWN_TASK}).ppo
    for other in (text[:-1] + "-", text.replace(".py", ".txt"), text.rpartition(":")[0]):
        check_refused("task", other)


def test_settings_of_the_task_stand_over_the_algorithms_and_under_the_users():
    of_the_task = {"response_length": 6, "whiten_advantages": True}
    settings = {"task": OWN_TASK, "algorithm": "pg"}
    config = resolve(settings, of_the_task)
    assert config.ppo.response_length == 6 and config.ppo.whiten_advantages
    assert resolve(settings | {"response_length": 9}, of_the_task).ppo.response_length == 9


def test_a_rule_scores_where_the_task_is_made_for_it():
    rewards = {task: resolve({"task": task}).run.reward for task in TASKS}
    assert rewards.pop("arithmetic") == "rule" and set(rewards.values()) == {"model"}
    assert resolve({"task": "arithmetic", "reward": "model"}).run.reward == "model"
    assert resolve({"reward": "rule"}).run.reward == "rule"


def test_where_a_rule_scores_the_critic_starts_from_the_fine_tuned_model():
    assert resolve({"reward": "rule"}).ppo.critic_start == "sft"
    assert resolve({"reward": "rule", "recipe": "cleanrl"}).ppo.critic_start == "fresh"
    assert resolve({"reward": "rule", "critic_start": "fresh"}).ppo.critic_start == "fresh"
    assert resolve({"task": "arithmetic", "reward": "model"}).ppo.critic_start == "reward_model"
    own = {"reward": "rule", "critic_start": "reward_model"}
    with pytest.raises(ValueError, match="^critic_start: --reward rule trains no reward model; ta"):
        check_used(own, resolve(own))


@pytest.mark.parametrize("name", ["preference_prompts", "preference_heldout", "reward_epochs"])
def test_a_rule_needs_no_preferences_and_no_reward_model(name):
    own = {"reward": "rule", name: 7}
    with pytest.raises(ValueError, match=f"^{name}: --reward rule trains no reward model; leave "):
        check_used(own, resolve(own))
    check_used({name: 7}, resolve({name: 7}))


def test_a_folder_has_no_rule():
    own = {"task": "files", "data": "DIR", "reward": "rule"}
    with pytest.raises(ValueError, match="^reward: --task files has no rule that scores a respons"):
        check_used(own, resolve(own))


# -- the whole


def test_a_name_stands_in_one_section_only():
    names = [item.name for kind in SECTIONS.values() for item in fields(kind)]
    assert len(set(names)) == len(names) == len(FIELDS)


@pytest.mark.parametrize("name", NAMES)
def test_every_field_has_a_type_a_help_and_a_default_that_fits_it(name):
    item = FIELDS[name][1]
    assert kind_of(item) in KINDS and item.metadata["help"].strip()
    check_value(item, item.default)


def test_every_preset_is_of_a_task_that_there_is():
    assert set(PRESETS) <= set(itertools.product([*TASKS, OWN_TASK], NAMED_PRESETS))


@pytest.mark.parametrize("task, preset", PRESETS)
def test_a_preset_stands_over_the_defaults_and_names_only_what_there_is(task, preset):
    where_and_what = {item.name for item in fields(SECTIONS["run"])} - {"reward"}
    assert set(PRESETS[task, preset]) <= set(FIELDS) - where_and_what
    config = resolve({"task": task, "preset": preset})
    expected = {name: item.default for name, (_, item) in FIELDS.items()} | PRESETS[task, preset]
    expected |= {"task": task, "preset": preset}
    expected |= {"critic_start": "sft"} if expected["reward"] == "rule" else {}
    assert {name: value_of(config, name) for name in FIELDS} == expected


@pytest.mark.parametrize("task, preset", [key for key, values in PRESETS.items() if values])
def test_what_the_user_sets_stands_over_the_preset(task, preset):
    for name in PRESETS[task, preset]:
        default = FIELDS[name][1].default
        config = resolve({"task": task, "preset": preset, name: default})
        assert value_of(config, name) == default
        others = set(PRESETS[task, preset]) - {name}
        assert all(value_of(config, other) == PRESETS[task, preset][other] for other in others)


def test_the_preset_quick_of_tldr_is_smaller_in_all_that_it_changes():
    quick = PRESETS["tldr", "quick"]
    assert quick and all(value < value_of(resolve({}), name) for name, value in quick.items())


def test_a_setting_that_there_is_not_is_refused():
    with pytest.raises(ValueError, match="^learning_rte: there is no such setting"):
        resolve({"learning_rte": 1e-3})


def test_resolve_leaves_the_settings_and_the_presets_alone():
    settings, before = {"preset": "quick", "num_updates": 3}, json.dumps([*PRESETS.values()])
    resolve(settings)
    assert (
        settings == {"preset": "quick", "num_updates": 3}
        and json.dumps([*PRESETS.values()]) == before
    )


def test_a_config_is_frozen():
    config = resolve({})
    for section in SECTIONS:
        with pytest.raises(FrozenInstanceError):
            setattr(config, section, None)
        for item in fields(SECTIONS[section]):
            with pytest.raises(FrozenInstanceError):
                setattr(getattr(config, section), item.name, item.default)


@pytest.mark.parametrize("task, preset", PRESETS)
def test_to_dict_goes_through_json_and_back(task, preset):
    config = resolve({"task": task, "preset": preset, "seed": 3})
    read = json.loads(json.dumps(config.to_dict()))
    assert (
        Config(**{section: kind(**read[section]) for section, kind in SECTIONS.items()}) == config
    )


def reads_of(tree):
    """The names x in `config.x` and `config.<section>.x`, where config may itself stand behind a
    dot."""

    def ends_in_config(node):
        return getattr(node, "id", None) == "config" or getattr(node, "attr", None) == "config"

    def is_config(node):
        return (
            ends_in_config(node)
            or isinstance(node, ast.Attribute)
            and node.attr in SECTIONS
            and ends_in_config(node.value)
        )

    return {
        node.attr
        for node in ast.walk(tree)
        if isinstance(node, ast.Attribute)
        and isinstance(node.ctx, ast.Load)
        and is_config(node.value)
    }


def test_a_read_is_recognised():
    source = (
        "a = run.config.ppo.gamma + config.lam + config.run.seed\nx.device\nrun.threads\n"
        "config.task = 1"
    )
    assert reads_of(ast.parse(source)) == {"ppo", "gamma", "lam", "run", "seed"}


def test_every_field_is_read_by_the_program():
    root = Path(minippo.__file__).parent
    sources = [path for path in root.rglob("*.py") if path.name != "config.py"]
    read = set().union(*(reads_of(ast.parse(path.read_text(encoding="utf-8"))) for path in sources))
    assert set(FIELDS) - read == {"allow_broken"}  # algorithms/config.py alone reads it
