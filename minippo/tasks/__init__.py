"""The worlds that a run can happen in. `make_task` finds one by name."""

from minippo.errors import InputError
from minippo.tasks.base import Task
from minippo.tasks.capitals import Capitals
from minippo.tasks.files import Files
from minippo.tasks.tldr import Tldr

TASKS = {"tldr": Tldr, "capitals": Capitals, "files": Files}


def make_task(config, *, generator, tokenizer=None):
    """The task that the configuration names. InputError: --data is missing, or given to a task that
    has no files.

    `tokenizer` is that of the model to start from, for the task files; without one it reads bytes.
    """
    name, folder = config.run.task, config.run.data
    if name == "files":
        if folder is None:
            raise InputError("--data: the task files needs a folder, --data DIR")
        return Files(
            folder,
            prompt_length=config.task.prompt_length,
            completion_length=config.task.completion_length,
            heldout_pairs=config.preference.preference_heldout,
            truncate=config.run.truncate,
            generator=generator,
            tokenizer=tokenizer,
        )
    if config.run.truncate:
        raise InputError(
            f"--truncate: only the task files has texts to cut, the task {name} makes its own"
        )
    if folder is not None:
        raise InputError(
            f"--data: only the task files reads a folder, the task {name} makes its own text"
        )
    if config.run.start_from is not None:
        raise InputError(
            "--start_from: only the task files can go on with a model, "
            f"the task {name} has words of its own"
        )
    return Tldr(values_per_fact=config.task.tldr_values) if name == "tldr" else Capitals()
