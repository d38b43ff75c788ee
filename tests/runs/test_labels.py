"""labels.jsonl: whole lines, whatever happens; what holds of what was said."""

import errno
import json
import os

import pytest

from minippo.errors import InputError, TrainingError
from minippo.runs.labels import Label, LabelFile, in_force, read_label

FIRST = Label(0, 1, "the prompt", "yes", "no", "a")
SECOND = Label(0, 2, "another", "é", "", "b")
LINE = json.dumps(FIRST._asdict()).encode()


def opened(folder, said=None):
    return LabelFile(folder, (said if said is not None else []).append)


def test_what_was_added_is_there_again(tmp_path):
    with opened(tmp_path) as file:
        file.add(FIRST)
        file.add(SECOND)
        assert file.labels == [FIRST, SECOND]
    with opened(tmp_path) as again:
        assert again.labels == [FIRST, SECOND]
        again.add(FIRST._replace(label="u"))
    lines = (tmp_path / "labels.jsonl").read_text().splitlines()
    assert [json.loads(line)["label"] for line in lines] == ["a", "b", "u"]


def test_every_line_is_on_the_disk_when_it_was_added(tmp_path, monkeypatch):
    synced = []
    monkeypatch.setattr(os, "fsync", lambda descriptor: synced.append(os.fstat(descriptor).st_size))
    with opened(tmp_path) as file:
        file.add(FIRST)
        file.add(SECOND)
    sizes = [len(line) for line in (tmp_path / "labels.jsonl").read_bytes().splitlines(True)]
    assert synced == [sizes[0], sum(sizes)]


def test_the_last_word_about_a_pair_holds():
    other = FIRST._replace(seed=1)
    undone, again = FIRST._replace(label="u"), FIRST._replace(label="t")
    assert in_force([FIRST, SECOND, other]) == [FIRST, SECOND, other]
    assert in_force([FIRST, SECOND, undone]) == [SECOND]
    assert in_force([FIRST, SECOND, undone, again]) == [SECOND, again]
    assert in_force([FIRST, SECOND, again]) == [SECOND, again]


@pytest.mark.parametrize("label, pair", [("a", ("yes", "no")), ("b", ("no", "yes"))])
def test_a_preference_is_the_chosen_and_the_rejected(label, pair):
    assert FIRST._replace(label=label).preference() == ("the prompt", *pair)


@pytest.mark.parametrize("label", ["t", "s", "u"])
def test_nothing_is_preferred_otherwise(label):
    assert FIRST._replace(label=label).preference() is None


@pytest.mark.parametrize("end", range(1, len(LINE)))
def test_half_a_line_at_the_end_is_left_out_and_told(end, tmp_path):
    path, said = tmp_path / "labels.jsonl", []
    path.write_bytes(LINE + b"\n" + LINE[:end])
    with opened(tmp_path, said) as file:
        assert file.labels == [FIRST]
        file.add(SECOND)
    assert said == [f"{path}, line 2: was half a line, and is left out; its pair is asked again"]
    with opened(tmp_path) as again:
        assert again.labels == [FIRST, SECOND]


def test_a_whole_line_without_its_end_is_kept(tmp_path):
    (tmp_path / "labels.jsonl").write_bytes(LINE)
    said = []
    with opened(tmp_path, said) as file:
        file.add(SECOND)
    assert len(said) == 1 and "had no end of line" in said[0]
    with opened(tmp_path) as again:
        assert again.labels == [FIRST, SECOND]


@pytest.mark.parametrize(
    "line, words",
    [
        (b"{", "line 1: not JSON"),
        (b"[]", "line 1: not JSON that can be read"),
        (LINE.replace(b'"a": "yes"', b'"a": 3'), "line 1, field a: wanted a text"),
        (LINE.replace(b'"pair": 1', b'"pair": true'), "line 1, field pair: wanted a whole number"),
        (LINE.replace(b'"label": "a"', b'"label": "c"'), "line 1, field label: wanted one of a, b"),
        (LINE.replace(b'"seed"', b'"sead"'), "line 1, field seed: is missing"),
    ],
)
def test_a_broken_line_in_the_middle_is_refused_with_its_place(line, words, tmp_path):
    (tmp_path / "labels.jsonl").write_bytes(line + b"\n" + LINE + b"\n")
    with pytest.raises(InputError, match=words):
        opened(tmp_path)


def test_a_link_is_not_followed(tmp_path):
    (tmp_path / "elsewhere").write_bytes(b"")
    (tmp_path / "labels.jsonl").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(InputError, match="is a link"):
        opened(tmp_path)


def test_a_disk_that_fills_leaves_no_half_line(tmp_path, monkeypatch):
    with opened(tmp_path) as file:
        file.add(FIRST)
        write, calls = os.write, []

        def full(descriptor, data):
            calls.append(data)
            if len(calls) > 1:
                raise OSError(errno.ENOSPC, "No space left on device")
            return write(descriptor, data[:10])

        monkeypatch.setattr(os, "write", full)
        with pytest.raises(TrainingError, match="cannot write .*labels.jsonl: No space left"):
            file.add(SECOND)
    assert (tmp_path / "labels.jsonl").read_bytes() == LINE + b"\n"


def test_fields_that_are_not_known_do_no_harm():
    line = json.dumps(FIRST._asdict() | {"who": "me"}).encode()
    assert read_label(line, "here") == FIRST
