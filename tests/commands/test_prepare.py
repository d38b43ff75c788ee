"""Which task a configuration makes, with which sizes, and what is refused."""

import random

import pytest
import torch

from minippo.commands.config import FIELDS, PRESETS, resolve
from minippo.commands.prepare import make_task
from minippo.errors import InputError
from minippo.tasks import TASKS
from minippo.tasks.capitals import Capitals
from tests.tasks.files.test_task import write_folder


def made(**settings):
    return make_task(resolve(settings), generator=torch.Generator().manual_seed(0))


def test_every_task_of_the_configuration_is_there_under_its_name():
    assert tuple(TASKS) == FIELDS["task"][1].metadata["choices"]
    assert all(kind.name == name for name, kind in TASKS.items())


def test_make_task_passes_the_sizes_on():
    assert type(made(task="capitals")) is Capitals
    assert [made(tldr_values=n).values_per_fact for n in (3, 6)] == [3, 6]


def test_make_task_refuses_a_folder_too_many_or_too_few(tmp_path):
    with pytest.raises(InputError, match="^--data: the task files needs a folder"):
        made(task="files")
    for task in ("tldr", "capitals"):
        with pytest.raises(InputError, match=f"^--data: .* the task {task} makes its own text"):
            made(task=task, data=str(tmp_path))
        with pytest.raises(InputError, match="^--truncate: only the task files has texts to cut"):
            made(task=task, truncate=True)


@pytest.mark.parametrize("task, preset", [key for key in PRESETS if key[0] != "files"])
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
