"""Preferences in one file: both forms, what is left out, what is refused with its place."""

import json

import pytest
import torch

from minippo.errors import InputError
from minippo.tasks import Capitals, Files, Tldr
from minippo.tasks.files.preferences import Preferences, check_texts, read_preferences, take

LABEL = {"seed": 0, "pair": 1, "prompt": "one", "a": "yes", "b": "no", "label": "a"}
PAIR = {"prompt": "one", "chosen": "yes", "rejected": "no"}


@pytest.fixture
def file(tmp_path):
    return tmp_path / "anything.jsonl"


def write(file, *rows):
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return str(file)


def test_pairs_are_read_as_they_stand(file):
    second = PAIR | {"prompt": "two", "who": "me"}
    found = read_preferences(write(file, PAIR, second))
    assert found.pairs == [("one", "yes", "no"), ("two", "yes", "no")]
    assert [source.line for source in found.sources] == [1, 2]
    assert found.note == f"{file}: 2 pairs"


def test_labels_are_read_with_what_becomes_of_ties_and_skips(file):
    answers = "abttsua"
    rows = [LABEL | {"pair": i, "prompt": f"{i}", "label": x} for i, x in enumerate(answers)]
    rows[5]["pair"] = 0
    found = read_preferences(write(file, *rows))
    assert found.pairs == [("1", "no", "yes"), ("6", "yes", "no")]
    assert [source.line for source in found.sources] == [2, 7]
    assert found.note == (
        f"{file}: 2 pairs of 5 labels; 2 ties and 1 skipped are left out, as nothing is preferred "
        "there; 1 taken back"
    )


def test_half_a_line_of_label_is_left_out_and_told(file):
    """What a crash leaves, in the middle of a character too; the digest is that of the file when
    label has repaired it."""
    rows = LABEL, LABEL | {"pair": 2, "prompt": "two"}
    whole = read_preferences(write(file, *rows))
    for half in (b"{", b'{"seed": 0, "pair": 3, "prompt": "}', '{"seed": 0, "a": "é'.encode()[:-1]):
        write(file, *rows)
        with file.open("ab") as end:
            end.write(half)
        before = file.read_bytes()
        found = read_preferences(str(file))
        assert found.pairs == whole.pairs and found.digest == whole.digest
        left_out = "left out: line 3, which is half a line, cut by a crash"
        assert found.note == f"{whole.note}; {left_out}" and file.read_bytes() == before
    file.write_bytes(file.read_bytes().split(b"\n")[0][:-5])
    with pytest.raises(InputError, match="holds nothing but line 1, which is half a line"):
        read_preferences(str(file))


def test_half_a_line_of_pairs_is_refused_with_its_place(file):
    write(file, PAIR, PAIR | {"prompt": "two"})
    file.write_text(file.read_text() + '{"prompt": "th')
    with pytest.raises(InputError, match="line 3: column 12: broken JSON"):
        read_preferences(str(file))


def test_an_answer_of_a_model_may_be_empty(file):
    rows = [LABEL | {"b": ""}, LABEL | {"pair": 2, "prompt": "two"}]
    assert read_preferences(write(file, *rows)).pairs[0] == ("one", "yes", "")


def test_the_digest_is_that_of_the_text_wherever_it_lies(file, tmp_path):
    rows = PAIR, PAIR | {"prompt": "two"}
    one, two = (read_preferences(write(path, *rows)) for path in (file, tmp_path / "other"))
    other = read_preferences(write(file, *rows, PAIR | {"prompt": "three"}))
    assert one.digest == two.digest != other.digest and len(one.digest) == 64


@pytest.mark.parametrize(
    "rows, words",
    [
        ([{"prompt": "one"}], "anything.jsonl, line 1, field chosen: is missing"),
        ([PAIR, PAIR | {"rejected": "yes"}], "line 2, field rejected: is equal to chosen"),
        ([PAIR | {"chosen": " "}], "line 1, field chosen: is blank"),
        ([PAIR | {"chosen": ["yes"]}], "line 1, field chosen: must be a string, got a list"),
        ([PAIR, LABEL], "line 2, field chosen: is missing"),
        ([LABEL, PAIR], "line 2, field seed: is missing"),
        ([LABEL | {"label": "c"}], "line 1, field label: wanted one of a, b, t, s, u"),
        ([[1]], "line 1: wanted .*, got a list"),
        ([], "anything.jsonl: is empty"),
        ([PAIR, PAIR], "2 pairs; pairs of at least 2 different prompts are needed"),
        ([LABEL | {"label": "t"}], "0 pairs of 1 label; 1 tie and 0 skipped are left out"),
    ],
)
def test_what_is_wrong_is_one_line_with_its_place(rows, words, file):
    with pytest.raises(InputError, match=words) as refused:
        read_preferences(write(file, *rows))
    assert "\n" not in str(refused.value)


def test_a_file_that_is_not_there_is_named(tmp_path):
    with pytest.raises(InputError, match="nowhere.jsonl: can't be read"):
        read_preferences(str(tmp_path / "nowhere.jsonl"))


def of(*pairs, file="f"):
    from minippo.tasks.files.read import Source

    return Preferences([*pairs], [Source(file, i + 1) for i in range(len(pairs))], "0", "a note")


def test_a_word_that_the_tokenizer_does_not_know_is_named_with_its_line():
    pairs = ("what is the capital of france ?", "paris", "rome"), ("france", "paris", "paree")
    with pytest.raises(InputError, match="^f, line 2, field rejected: the word 'paree' is not kn"):
        check_texts(Capitals(), of(*pairs), context=100)
    check_texts(Capitals(), of(pairs[0]), context=100)


def test_texts_that_are_too_long_are_refused_with_both_numbers():
    """BOS, two words; a word and EOS."""
    pair = of(("i am", "a", "a a"))
    check_texts(Tldr(), pair, context=6, prompts=3)
    with pytest.raises(InputError, match="^f, line 1: prompt and answer have 6 tokens; .* for 5"):
        check_texts(Tldr(), pair, context=5)
    with pytest.raises(InputError, match="^f, line 1: the prompt has 3 tokens; .* room for 2"):
        check_texts(Tldr(), pair, context=6, prompts=2)


def test_a_task_takes_them_split_by_prompt():
    task, pairs = Capitals(), [(f"p{i // 2}", "yes", "no") for i in range(20)]
    take(task, of(*pairs), 4, torch.Generator().manual_seed(0))
    training, heldout = task.recorded_preferences()
    assert len(heldout) == 4 and sorted(training + heldout) == sorted(pairs)
    assert not {prompt for prompt, _, _ in training} & {prompt for prompt, _, _ in heldout}
    assert task.amounts == {"pair": 16} and task.preferences_digest == "0"
    assert task.notes[-1].startswith("a note; 4 pairs are held out (--preference_heldout 4, at")
    assert Capitals().recorded_preferences() is None


def test_a_folder_gives_its_place_and_keeps_its_texts(data, file):
    def made(preferences=None):
        return Files(
            data,
            prompt_length=30,
            completion_length=40,
            heldout_pairs=2,
            truncate=False,
            generator=torch.Generator().manual_seed(0),
            preferences=preferences,
        )

    prompts = [f"say {i} things" for i in range(6)]
    found = read_preferences(write(file, *(PAIR | {"prompt": prompt} for prompt in prompts)))
    task, own = made(found), made()
    training, heldout = task.recorded_preferences()
    assert sorted(training + heldout) == sorted(found.pairs) and len(heldout) == 2
    assert task.fingerprint == own.fingerprint and task.preferences_digest == found.digest
    demonstrated = {prompt for prompt, _ in task.fixed_demonstrations()}
    assert not demonstrated & {prompt for prompt, _, _ in heldout}
    assert any("in the place of the folder's pairs" in note for note in task.notes)
