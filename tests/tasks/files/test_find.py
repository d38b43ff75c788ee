"""Which files are read: by their names, one for each thing, or the one that is named."""

import pytest

from minippo.errors import InputError
from minippo.tasks.files.find import ENDINGS, find_files, is_of, is_one_text
from tests.tasks.files.folders import folder


@pytest.mark.parametrize("ending", [*ENDINGS, *(ending + ".gz" for ending in ENDINGS)])
def test_each_ending_is_found_packed_or_not(ending, tmp_path):
    path = folder(tmp_path / "d", **{f"preferences{ending}".replace(".", "_"): "x", "a_md": "x"})
    found = find_files(path)
    assert found.files == {"preferences": f"preferences{ending}"} and found.others == ["a.md"]


def test_a_file_is_that_of_the_preferences(tmp_path):
    path = folder(tmp_path / "d", pairs_csv="x", corpus_txt="x")
    found = find_files(path / "pairs.csv")
    assert found.folder == str(path) and found.files == {"preferences": "pairs.csv"}
    assert found.others == []


@pytest.mark.parametrize(
    "one, other",
    [
        ("preferences.csv", "preferences.jsonl"),
        ("preferences.jsonl", "preferences.jsonl.gz"),
        ("corpus.jsonl", "corpus.txt"),
        ("demonstrations.json", "demonstrations.tsv"),
    ],
)
def test_two_files_for_one_thing_are_refused(one, other, tmp_path):
    names = {name.replace(".", "_"): "x" for name in (one, other)}
    path = folder(tmp_path / "d", **({"preferences_jsonl": "x"} | names))
    with pytest.raises(InputError, match=f"holds both {one} and {other}; keep one of them"):
        find_files(path)


def test_other_names_are_no_files_of_ours():
    for name in ("Preferences.jsonl", "preferences", "preferences.jsonl.bak", "preferences.txt"):
        assert not is_of(name, "preferences")
    assert is_of("corpus.txt.gz", "corpus") and not is_of("demonstrations.txt", "demonstrations")
    assert is_one_text("corpus.txt") and is_one_text("corpus.txt.gz")
    assert not is_one_text("corpus.jsonl")


def test_a_folder_without_preferences_says_how_to_name_the_file(tmp_path):
    path = folder(tmp_path / "d", train_jsonl="x", notes_txt="x")
    for file in (f"'{path}/train.jsonl'", "FILE"):
        with pytest.raises(InputError, match=f"the file itself, --data {file}; docs/your-data.md$"):
            find_files(path)
        folder(path, test_csv="x")  # now there are two


def test_a_folder_of_demonstrations_says_what_is_missing(tmp_path):
    path = folder(tmp_path / "d", demonstrations_json="x")
    with pytest.raises(InputError, match="preferences are missing; .* --reward rule"):
        find_files(path)
