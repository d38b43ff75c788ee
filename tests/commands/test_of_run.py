"""What a run that is over was made with; tests/commands/test_label.py tries a task of one's own,
tests/commands/test_speaker.py the settings."""

import pytest

from minippo.commands.of_run import check_digest, config_of, has_stage, named_again, task_of_run
from minippo.errors import InputError
from minippo.tasks import Tldr


def test_the_task_of_a_run_is_made_again(finished):
    config = config_of(str(finished))
    task = task_of_run(str(finished), config)
    assert isinstance(task, Tldr) and task.values_per_fact == config.task.tldr_values


def test_a_stage_is_there_or_not(finished):
    assert has_stage(str(finished), "sft") and not has_stage(str(finished), "nothing")


@pytest.mark.parametrize(
    "recorded, named, words",
    [
        ("/a/sums.py:Sums", None, "--task: the run was made with a file of your own, sums.py:Sums"),
        ("/a/sums.py:Sums", "sums", "--task sums: wanted FILE.py:NAME"),
        ("/a/sums.py:Sums", "b.py:Sums", "--task b.py:Sums: the run was made with --task sums.py"),
        ("tldr", "b.py:Sums", "--task b.py:Sums: the run was made with --task tldr; leave --task"),
    ],
)
def test_what_is_named_must_be_what_the_run_was_made_with(recorded, named, words):
    with pytest.raises(InputError, match=f"^{words}"):
        named_again(recorded, named, "task")


def test_another_digest_is_refused(finished):
    check_digest(str(finished), "data", None)
    with pytest.raises(InputError, match=r"^--data DIR: is not as it was when the run in "):
        check_digest(str(finished), "data", "0" * 64, "--data DIR")
