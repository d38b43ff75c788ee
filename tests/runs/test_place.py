"""Which folders are taken and which are refused."""

import os

import pytest

from minippo.errors import InputError
from minippo.runs import place
from minippo.runs.folder import RunFolder

NO_SPACE = OSError(28, "No space left on device")


def fail(*_, **__):
    raise NO_SPACE


def create(out=None, **options):
    return RunFolder.create(out, default_name="tldr-ppo-quick-0", **options)


def test_default_names_count_up(tmp_path):
    names = [create(root=tmp_path / "runs").path.name for _ in range(3)]
    assert names == ["tldr-ppo-quick-0", "tldr-ppo-quick-0-2", "tldr-ppo-quick-0-3"]


def test_a_name_taken_by_another_run_at_the_last_moment_is_stepped_over(tmp_path, monkeypatch):
    mkdir, stolen = place.Path.mkdir, []

    def steal_first(path, *args, **kwargs):
        if path.name.startswith("tldr") and not stolen:
            stolen.append(path)
            mkdir(path)
        mkdir(path, *args, **kwargs)

    monkeypatch.setattr(place.Path, "mkdir", steal_first)
    assert create(root=tmp_path).path.name == "tldr-ppo-quick-0-2"


def test_a_named_folder_is_made_with_its_parents(tmp_path):
    assert create(tmp_path / "a" / "b").path == tmp_path / "a" / "b"
    assert os.listdir(tmp_path / "a" / "b") == []  # the test for writing leaves nothing


def test_an_empty_folder_is_taken(tmp_path):
    assert create(str(tmp_path)).path == tmp_path


@pytest.mark.parametrize("mark", ["config.json", "summary.json", "metrics.jsonl", "checkpoints"])
def test_a_folder_that_holds_a_run_is_refused_unless_resumed(tmp_path, mark):
    (tmp_path / mark).mkdir() if mark == "checkpoints" else (tmp_path / mark).write_text("")
    with pytest.raises(InputError, match="--out .* holds a run already"):
        create(tmp_path)
    assert create(tmp_path, resume=True).path == tmp_path


def test_an_empty_folder_cannot_be_resumed_and_leftovers_of_a_kill_do_not_count(tmp_path):
    (tmp_path / ".config.json.0123.tmp").write_text("half")
    assert create(tmp_path).path == tmp_path
    with pytest.raises(InputError, match="--resume: .* holds no run"):
        create(tmp_path, resume=True)


@pytest.mark.parametrize("resume", [False, True])
def test_a_folder_of_other_things_is_refused_and_left_alone(tmp_path, resume):
    (tmp_path / "thesis.txt").write_text("all of it")
    with pytest.raises(InputError, match="--out .* is not empty"):
        create(tmp_path, resume=resume)
    assert (
        os.listdir(tmp_path) == ["thesis.txt"]
        and (tmp_path / "thesis.txt").read_text() == "all of it"
    )


def test_a_file_is_refused(tmp_path):
    (tmp_path / "file").write_text("x")
    with pytest.raises(InputError, match="--out .* is not a folder"):
        create(tmp_path / "file")
    with pytest.raises(InputError, match="--out .* cannot be used: Not a directory"):
        create(tmp_path / "file" / "below")
    with pytest.raises(InputError, match="no run folder can be made in .*--out"):
        create(root=tmp_path / "file")


def test_an_empty_name_is_refused():
    with pytest.raises(InputError, match="--out: the name of the folder is empty"):
        create("")


def test_a_folder_that_cannot_be_written_is_refused_before_anything_is_trained(
    tmp_path, monkeypatch
):
    monkeypatch.setattr(place.Path, "write_bytes", fail)
    with pytest.raises(InputError, match="--out .* cannot be written: No space left on device"):
        create(tmp_path)
    with pytest.raises(InputError, match="the run folder .* cannot be written"):
        create(root=tmp_path / "runs")


def test_every_refusal_is_one_line(tmp_path):
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(InputError) as caught:
        create(tmp_path)
    assert "\n" not in str(caught.value)
