"""Which task a configuration makes, with which sizes, and what is refused; and from where a run is
taken up again."""

import json
import random
import shutil

import pytest
import torch

from minippo.commands.config import FIELDS, PRESETS, resolve
from minippo.commands.prepare import make_task, prepare, reading_of
from minippo.commands.train import main as train
from minippo.errors import InputError
from minippo.tasks import TASKS
from minippo.tasks.capitals import Capitals
from minippo.tasks.constraints import Constraints
from minippo.tasks.files import Reading
from minippo.tasks.files.read import read_folder
from minippo.tasks.tldr import Tldr
from tests.tasks.files.test_task import write_folder
from tests.tiny_runs import FILES_RUN, TINY_FILES, read_json


def made(**settings):
    return make_task(resolve(settings), generator=torch.Generator().manual_seed(0))


def test_every_task_of_the_configuration_is_there_under_its_name():
    assert tuple(TASKS) == FIELDS["task"][1].metadata["choices"]
    assert all(kind.name == name for name, kind in TASKS.items())


def test_make_task_passes_the_sizes_on():
    assert type(made(task="capitals")) is Capitals
    assert [made(tldr_values=n).values_per_fact for n in (3, 6)] == [3, 6]
    asked = made(tldr_values=4, tldr_constraints=True)
    assert type(asked) is Constraints and asked.values_per_fact == 4 and type(made()) is Tldr


def test_make_task_refuses_a_folder_too_many_or_too_few(tmp_path):
    with pytest.raises(InputError, match="^--data: the task files needs a folder"):
        made(task="files")
    for task in ("tldr", "capitals"):
        with pytest.raises(InputError, match=f"^--data: .* the task {task} makes its own text"):
            made(task=task, data=str(tmp_path))
        with pytest.raises(InputError, match="^--truncate: only the task files has texts to cut"):
            made(task=task, truncate=True)
        with pytest.raises(InputError, match="^--skip_bad_rows: only the task files reads rows"):
            made(task=task, skip_bad_rows=True)


@pytest.mark.parametrize(
    "task, preset", [key for key in PRESETS if key[0] in TASKS and key[0] != "files"]
)
def test_no_prompt_is_longer_than_the_task_says(task, preset):
    world, rng = (
        make_task(resolve({"task": task, "preset": preset}), generator=None),
        random.Random(0),
    )
    prompts = world.training_prompts(2000, rng=rng) + world.evaluation_prompts(500, rng=rng)
    assert max(len(world.prompt_ids(prompt)) for prompt in prompts) == world.prompt_length


def test_make_task_passes_the_lengths_and_the_notes_on(tmp_path):
    task = made(
        task="files", data=str(write_folder(tmp_path / "d")), prompt_length=30, completion_length=40
    )
    assert task.document_length == 30 + 2 + 40
    assert any("preferences.jsonl" in note for note in task.notes)


def test_make_task_passes_on_how_the_files_are_read(tmp_path):
    rows = ["prompt,chosen,rejected", *(f"q{i},a{i},b{i}" for i in range(9)), "q,a,a"]
    (tmp_path / "pairs.csv").write_text("\n".join(rows))
    settings = {"task": "files", "data": str(tmp_path / "pairs.csv"), "pairs": 6}
    with pytest.raises(InputError, match="line 11, .*--skip_bad_rows leaves it out; docs"):
        made(**settings)
    task = made(**settings, skip_bad_rows=True)
    assert sum(map(len, task.recorded_preferences())) == 6
    assert any("pretraining reads the" in note for note in task.notes)
    config = resolve(settings | {"start_from": "DIR", "data_limit": 3})
    assert reading_of(config) == Reading(limit=3, pairs=6, pretrains=False)


def test_what_is_not_pretrained_reads_no_corpus(tmp_path):
    folder, options = write_folder(tmp_path / "d"), Reading(pretrains=False)
    assert not any("pretraining" in note for note in read_folder(folder, options).notes)


# -- a run goes on from moved texts and a moved model


@pytest.fixture(scope="module")
def stopped_start(bytes_folder, tmp_path_factory):
    """A run on texts and from a model, both named from the folder where it began, as if stopped
    after the first stage; and the weights that it would end with."""
    place = tmp_path_factory.mktemp("place")
    shutil.copytree(bytes_folder, place / "model")
    write_folder(place / "texts")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(place)
        assert train([*FILES_RUN, "--data", "texts", "--start_from", "model", "--out", "run"]) == 0
    policy = (place / "run/checkpoints/policy/model.safetensors").read_bytes()
    for name in ("sft", "reward_model", "policy", "critic", "update-0000002"):
        shutil.rmtree(place / "run/checkpoints" / name)
    (place / "run/summary.json").unlink()
    return place, policy


@pytest.fixture
def place(stopped_start, tmp_path):
    """A copy of it, elsewhere: nothing is where it was when the run began."""
    for name in ("run", "model", "texts"):
        shutil.copytree(stopped_start[0] / name, tmp_path / name)
    return tmp_path


def goes_on(place, *flags):
    return train(["--resume", "--quiet", "--out", str(place / "run"), *flags])


def test_a_run_goes_on_from_another_folder_than_it_began_in(stopped_start, place, monkeypatch):
    monkeypatch.chdir("/")
    assert goes_on(place) == 0
    assert (place / "run/checkpoints/policy/model.safetensors").read_bytes() == stopped_start[1]


@pytest.mark.parametrize("pretrain_is_there", [True, False])
def test_moved_texts_and_a_moved_model_can_be_named(
    pretrain_is_there, stopped_start, place, monkeypatch
):
    if not pretrain_is_there:
        shutil.rmtree(place / "run/checkpoints/pretrain")
    monkeypatch.chdir(place)
    assert goes_on(place, "--data", "texts", "--start_from", "model") == 0
    assert (place / "run/checkpoints/policy/model.safetensors").read_bytes() == stopped_start[1]
    run = read_json(place / "run/config.json")["run"]
    assert (run["data"], run["start_from"]) == (str(place / "texts"), str(place / "model"))
    (place / "run/summary.json").unlink()
    assert goes_on(place) == 0


def test_other_texts_are_not_taken_for_moved_ones(place, capsys):
    pairs = place / "texts/preferences.jsonl"
    pairs.write_text(pairs.read_text().replace("yes", "yea"))
    assert goes_on(place, "--data", str(place / "texts")) == 2
    assert "the files of the run in" in capsys.readouterr().err


@pytest.mark.parametrize("pretrain_is_there", [True, False])
def test_another_model_is_not_taken_for_a_moved_one(pretrain_is_there, place, capsys):
    from safetensors.torch import load_file, save_file

    path = place / "model/model.safetensors"
    tensors = load_file(path)
    save_file({name: tensor + 1 for name, tensor in tensors.items()}, path, {"format": "pt"})
    if not pretrain_is_there:
        shutil.rmtree(place / "run/checkpoints/pretrain")
    assert goes_on(place, "--start_from", str(place / "model")) == 2
    assert "model: is not the model that the run began with" in capsys.readouterr().err


def test_a_damaged_model_is_taken_over_again_and_a_missing_one_is_named(place, capsys):
    (place / "run/checkpoints/pretrain/tokenizer.json").write_text("{}")
    assert goes_on(place, "--start_from", str(place / "none")) == 2
    assert str(place / "none") in capsys.readouterr().err
    assert goes_on(place, "--start_from", str(place / "model")) == 0


@pytest.mark.parametrize(
    "flags, message",
    [
        ("--reward_layers 3 --n_layer 2", "--reward_layers: the reward model keeps first blocks"),
        ("--annotator rules --annotator_rules kind", "--annotator rules: no rule is called 'kind'"),
        ("--annotator_panel 4 --annotator panel", "--annotator_panel: wanted an odd number, got 4"),
        ("--annotator_noise 0.1", "--annotator_noise: --annotator gold does not use it; it is for"),
        (
            "--annotator panel --preference_labels ranking",
            "--preference_labels: --annotator panel compares pairs and gives no ranking; use",
        ),
        (
            "--rating_noise 1 --preference_labels ranking",
            "--rating_noise: --preference_labels ranking does not use it; it is for ratings",
        ),
        (
            "--task files --data . --preference_labels ratings",
            "--preference_labels: --task files does not use it",
        ),
        ("--task files --data . --annotator noisy", "--annotator: --task files does not use it"),
    ],
)
def test_what_an_annotator_cannot_do_is_refused_in_a_line(flags, message, tmp_path, capsys):
    assert train([*flags.split(), "--out", str(tmp_path / "run")]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert message in line and not (tmp_path / "run").exists()


# -- preferences of people


@pytest.mark.slow
def test_a_run_goes_on_with_its_preferences_wherever_they_are(tmp_path, capsys):
    words = ["the news is on .", "it rains today .", "i love chess ."]
    rows = [{"prompt": word, "chosen": "chess", "rejected": "rain"} for word in words]
    (tmp_path / "file").write_text("".join(json.dumps(row) + "\n" for row in rows))
    out = str(tmp_path / "run")
    with pytest.raises(InputError, match="line 1, field rejected: the word 'rain' is not known"):
        prepare(resolve({"preferences": str(tmp_path / "file")}))
    text = (tmp_path / "file").read_text().replace('"rain"', '"a"')
    (tmp_path / "file").write_text(text)
    flags = [*TINY_FILES, "--quiet", "--out", out]
    assert train([*flags, "--preferences", str(tmp_path / "file")]) == 0
    policy = (tmp_path / "run/checkpoints/policy/model.safetensors").read_bytes()
    for name in ("reward_model", "policy", "critic", "update-0000002"):
        shutil.rmtree(tmp_path / "run/checkpoints" / name)
    (tmp_path / "run/summary.json").unlink()
    moved = shutil.move(tmp_path / "file", tmp_path / "moved")
    again = ["--resume", "--quiet", "--out", out]
    assert train(again) == 2 and "file: can't be read (No such file" in capsys.readouterr().err
    assert train([*again, "--preferences", str(moved)]) == 0
    assert (tmp_path / "run/checkpoints/policy/model.safetensors").read_bytes() == policy
    (tmp_path / "run/summary.json").unlink()
    moved.write_text(text + text.splitlines()[0].replace("chess", "the") + "\n")
    assert train(again) == 2
    assert "the files of the run in" in capsys.readouterr().err
