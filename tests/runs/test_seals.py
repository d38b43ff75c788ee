"""What a checkpoint was made from: another run's is told from one's own, and nothing is drawn by
chance."""

import json
import shutil

import pytest
import torch

from minippo.errors import InputError
from minippo.runs.checkpoints import SEAL
from minippo.runs.folder import RunFolder
from minippo.runs.seals import (
    ORIGIN,
    Origin,
    check_config,
    check_origin,
    digest_of,
    read_config,
    seal_of,
    sealed_config,
)
from tests.hostile import reseal

OWN = Origin("a digest", "the seal before")


def save(path, seconds=1.0, weight=0.5, origin=OWN):
    """A checkpoint of one number."""
    path.mkdir(exist_ok=True)
    model = torch.nn.Linear(1, 1, bias=False)
    with torch.no_grad():
        model.weight.fill_(weight)
    return RunFolder(path).save_checkpoint(
        "sft",
        model,
        model_config={"n_layer": 1},
        tokenizer={"kind": "bytes"},
        info={"seconds": {"sft": seconds}, "report": {"skill": 0.5}},
        origin=origin,
    )


def change(path, name, field, value):
    """What somebody does who changes a file and knows the seal of the files, but not the other."""
    content = json.loads((path / name).read_text())
    (path / name).write_text(json.dumps(content | {field: value}))
    reseal(path)


def test_a_checkpoint_of_ones_own_is_taken(tmp_path):
    path = save(tmp_path / "run")
    check_origin(path, OWN)
    check_origin(path, Origin(OWN.depends_on))  # nobody knows the stage before
    assert set(json.loads((path / ORIGIN).read_text())) == {"depends_on", "before", "result"}
    assert ORIGIN in json.loads((path / SEAL).read_text())


@pytest.mark.parametrize(
    "origin, words",
    [
        (Origin("another", OWN.before), "is of another run, with other settings, seed or texts"),
        (Origin(OWN.depends_on, "other"), "was not made from the stage before it as that is now"),
    ],
)
def test_a_checkpoint_of_another_run_is_named(tmp_path, origin, words):
    path = save(tmp_path / "run")
    with pytest.raises(InputError, match=f"checkpoints/sft: {words}"):
        check_origin(path, origin)


@pytest.mark.parametrize(
    "name, field", [("config.json", "n_layer"), ("tokenizer.json", "kind"), ("info.json", "report")]
)
def test_a_result_that_was_changed_and_sealed_again_is_named(tmp_path, name, field):
    path = save(tmp_path / "run")
    change(path, name, field, "other")
    with pytest.raises(InputError, match="checkpoints/sft: is not as this run wrote it"):
        check_origin(path, OWN)


def test_the_weights_of_a_twin_with_another_result_are_named(tmp_path):
    path, other = save(tmp_path / "run"), save(tmp_path / "other", weight=0.25)
    shutil.copy(other / "model.safetensors", path / "model.safetensors")
    reseal(path)
    with pytest.raises(InputError, match="is not as this run wrote it"):
        check_origin(path, OWN)


def test_a_checkpoint_without_origin_is_refused(tmp_path):
    with pytest.raises(InputError, match=f"{ORIGIN}: No such file"):
        check_origin(save(tmp_path / "run", origin=None), OWN)


def test_the_seal_depends_on_the_result_and_not_on_the_clock(tmp_path):
    one, two = save(tmp_path / "one", seconds=1.0), save(tmp_path / "two", seconds=2.0)
    assert (one / ORIGIN).read_bytes() == (two / ORIGIN).read_bytes()
    assert seal_of(one) == seal_of(two) != seal_of(save(tmp_path / "other", weight=0.25))


def test_a_digest_does_not_look_at_the_order_of_names():
    assert digest_of({"a": 1, "b": [0.5, None]}) == digest_of({"b": [0.5, None], "a": 1})
    assert len({digest_of(x) for x in ({"a": 1}, {"a": 1.5}, {"a": "1"}, {"b": 1}, {})}) == 5


# -- the metrics before a state


def state_with_metrics(tmp_path):
    tmp_path.mkdir(exist_ok=True)
    run = RunFolder(tmp_path)
    for update in (1, 2, 3):
        row = {"update": update, "objective/scores": 0.25, "objective/kl": 0.5, "seconds": 1.25}
        run.append_metrics(row)
        if update == 2:
            run.save_state(2, {"x": torch.zeros(1)}, {"update": 2}, OWN)
    return RunFolder(tmp_path)


def test_a_state_knows_the_metrics_before_it(tmp_path):
    [(update, read)] = state_with_metrics(tmp_path).states()
    assert update == 2 and read()[1] == {"update": 2}


@pytest.mark.parametrize("was, becomes", [("0.25", "0.24"), ("0.5", "0.5001"), ("1.25", "1.0")])
def test_one_changed_digit_is_named(tmp_path, was, becomes):
    state_with_metrics(tmp_path)
    path = tmp_path / "metrics.jsonl"
    path.write_text(path.read_text().replace(was, becomes, 1))
    [(_, read)] = RunFolder(tmp_path).states()
    with pytest.raises(InputError, match="the rows up to update 2 are not as they were written"):
        read()


def test_rows_after_the_state_do_not_count(tmp_path):
    state_with_metrics(tmp_path)
    path = tmp_path / "metrics.jsonl"
    lines = path.read_text().splitlines()
    path.write_text("\n".join([*lines[:2], lines[2].replace("0.25", "0.24")]))
    [(_, read)] = RunFolder(tmp_path).states()
    assert read()[1] == {"update": 2}


def test_a_state_of_another_run_is_named_as_that(tmp_path):
    def refuse(path):
        raise InputError(f"{path.name}: is of another run")

    [(_, read)] = state_with_metrics(tmp_path).states(refuse)
    with pytest.raises(InputError, match="update-0000002: is of another run"):
        read()


# -- the configuration


def test_a_configuration_as_it_was_written_is_taken():
    config = sealed_config({"run": {"seed": 0}, "ppo": {"gamma": 1.0}})
    check_config(json.loads(json.dumps(config, indent=4)), "config.json")


@pytest.mark.parametrize(
    "section", [{"seed": 7}, {"seed": 0, "more": 1}, {}, {"seed": 0.0}, {"seed": None}]
)
def test_a_configuration_that_was_changed_is_refused(section):
    config = sealed_config({"run": {"seed": 0}}) | {"run": section}
    with pytest.raises(InputError, match=r"config\.json: is not as the run wrote it"):
        check_config(config, "config.json")


def test_a_configuration_is_checked_when_it_is_read_and_has_a_digest(tmp_path):
    path, whole = tmp_path / "config.json", sealed_config({"run": {"seed": 0}})
    for config in (whole, {"run": {"seed": 7}}):  # the second was never sealed
        path.write_text(json.dumps(config))
        assert read_config(path) == config
    path.write_text(json.dumps(whole | {"run": {"seed": 7}}))
    with pytest.raises(InputError, match="is not as the run wrote it"):
        read_config(path)


def test_a_configuration_without_its_digest_is_refused():
    with pytest.raises(InputError, match="is not as the run wrote it"):
        check_config({"run": {"seed": 0}}, "config.json")


# -- hostile files


@pytest.mark.parametrize(
    "content", ["", "[]", "{}", '{"depends_on": [], "before": {}}', "[" * 100_000, '"\\ud800"']
)
def test_a_hostile_seal_is_refused_in_one_line(content, tmp_path):
    path = save(tmp_path / "run")
    (path / ORIGIN).write_text(content)
    reseal(path)
    with pytest.raises(InputError) as caught:
        check_origin(path, OWN)
    assert "\n" not in str(caught.value) and len(str(caught.value)) < 500


def test_a_seal_that_is_a_link_is_not_followed(tmp_path):
    path = save(tmp_path / "run")
    (path / ORIGIN).rename(tmp_path / "elsewhere")
    (path / ORIGIN).symlink_to(tmp_path / "elsewhere")
    with pytest.raises(InputError, match="is a link"):
        check_origin(path, OWN)
