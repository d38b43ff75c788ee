"""minippo.tasks.files.read: good folders are read, bad ones refused in one line, and reading
changes nothing."""

import gzip
import json
import os
import tempfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from minippo.errors import InputError
from minippo.tasks.files import container, find
from minippo.tasks.files.lengths import check_lengths
from minippo.tasks.files.read import read_folder
from minippo.tasks.files.rows import AS_IT_IS, Source
from tests.tasks.files.folders import GOOD, PAIRS, assert_whole, folder, json_lines, pairs_folder


def refusal(path, reading=AS_IT_IS):
    """The line with which a folder is refused, without the page that it ends with."""
    with pytest.raises(InputError) as caught:
        read_folder(path, reading)
    message = str(caught.value)
    assert len(message.splitlines()) == 1
    return message.removesuffix("; docs/your-data.md")


# -- good input


def test_a_full_folder_is_read_as_it_stands(tmp_path):
    path = pairs_folder(
        tmp_path / "d",
        corpus_txt="First line.\nSecond line.\n",
        demonstrations_jsonl=json_lines("demonstrations.jsonl", [("p", "c"), ("p2", " c2 ")]),
        prompts_jsonl=json_lines("prompts.jsonl", [("x",), ("y",)]),
    )
    data = read_folder(path)
    assert data.corpus == ["First line.\nSecond line.\n"]
    assert data.demonstrations == [("p", "c"), ("p2", " c2 ")]
    assert data.preferences == PAIRS
    assert data.prompts == ["x", "y"]
    assert data.sources["demonstrations"] == [
        Source("demonstrations.jsonl", 1),
        Source("demonstrations.jsonl", 2),
    ]
    assert data.notes == [
        "read corpus.txt (25 bytes), demonstrations.jsonl (2 demonstrations), "
        "preferences.jsonl (2 pairs), prompts.jsonl (2 prompts)"
    ]


def test_corpus_jsonl_is_a_list_of_documents(tmp_path):
    data = read_folder(
        pairs_folder(tmp_path / "d", corpus_jsonl='{"text": "one"}\n\n{"text": "two"}')
    )
    assert data.corpus == ["one", "two"]
    assert data.sources["corpus"] == [Source("corpus.jsonl", 1), Source("corpus.jsonl", 3)]


def test_bom_crlf_blank_lines_and_extra_fields_are_fine(tmp_path):
    extra = '{"prompt": "q2", "chosen": "a", "rejected": "b", "score": [1, {"x": null}], "who": 5}'
    lines = ["", GOOD, "   ", extra, ""]
    path = folder(
        tmp_path / "d",
        preferences_jsonl=b"\xef\xbb\xbf" + "\r\n".join(lines).encode(),
        corpus_txt=b"\xef\xbb\xbfone\r\ntwo\r\n",
    )
    data = read_folder(path)
    assert data.preferences == [("q", "a", "b"), ("q2", "a", "b")]
    assert data.sources["preferences"] == [
        Source("preferences.jsonl", 2),
        Source("preferences.jsonl", 4),
    ]
    assert data.corpus == ["one\ntwo\n"]


def test_any_language_and_odd_line_separators_inside_a_string(tmp_path):
    pairs = [
        ("Şehrin ışığı?", "Güneş doğdu, çok güzel.", "ıssız"),
        ("😀", "👍🏽", "👎"),
        ("你好吗？", "我很好，谢谢。", "不\u2028好\u0085"),
    ]
    path = pairs_folder(tmp_path / "d", pairs)
    assert read_folder(path).preferences == pairs
    escaped = "\n".join(
        json.dumps(dict(zip(("prompt", "chosen", "rejected"), pair, strict=True))) for pair in pairs
    )
    assert read_folder(folder(path, preferences_jsonl=escaped)).preferences == pairs


def test_duplicate_keys_long_lines_and_long_numbers_are_fine(tmp_path):
    long = "word " * 400_000
    lines = [
        '{"prompt": 1, "prompt": "q", "chosen": "a", "rejected": "b", "n": ' + "9" * 5000 + "}",
        json.dumps({"prompt": "q", "chosen": long, "rejected": "b"}),
    ]
    data = read_folder(folder(tmp_path / "d", preferences_jsonl="\n".join(lines)))
    assert data.preferences == [("q", "a", "b"), ("q", long, "b")]


def test_what_is_missing_is_derived_and_said(tmp_path):
    pairs = [("q", "a", "b"), ("q ", "c", "b"), ("r", "a", "b"), ("r", "a", "d")]
    data = read_folder(pairs_folder(tmp_path / "d", pairs))
    assert data.demonstrations == [("q", "a"), ("q ", "c"), ("r", "a")]  # the last pair repeats one
    assert data.prompts == ["q", "r"]
    assert data.corpus == ["q\na", "q \nc", "r\na"]
    assert data.sources["prompts"] == [
        Source("preferences.jsonl", 1),
        Source("preferences.jsonl", 3),
    ]
    assert data.notes[1:] == [
        "no demonstrations.jsonl: fine-tuning uses the 3 chosen answers",
        "no prompts.jsonl: the prompts are the 2 different ones of the preferences",
        "no corpus.txt or corpus.jsonl: pretraining reads the 3 chosen answers with their prompts",
    ]


def test_a_missing_corpus_comes_from_the_demonstrations_there_are(tmp_path):
    demonstrations = json_lines("demonstrations.jsonl", [("p", "c")])
    data = read_folder(pairs_folder(tmp_path / "d", demonstrations_jsonl=demonstrations))
    assert data.corpus == ["p\nc"]
    assert (
        data.notes[-1] == "no corpus.txt or corpus.jsonl: pretraining reads the "
        "1 demonstration with its prompt"
    )


def test_other_files_are_not_read_and_that_is_said(tmp_path):
    path = pairs_folder(tmp_path / "d", notes_md=b"\xff", **{f"z{i}_csv": "" for i in range(6)})
    assert (
        read_folder(path).notes[-1]
        == "not read: 'notes.md', 'z0.csv', 'z1.csv', 'z2.csv', 'z3.csv' and 2 more"
    )


def test_a_path_may_be_a_string_or_a_link(tmp_path):
    path = pairs_folder(tmp_path / "d")
    (tmp_path / "link").symlink_to(path)
    assert read_folder(str(path)) == read_folder(tmp_path / "link")


def test_reading_changes_nothing_on_disk(tmp_path):
    path = pairs_folder(tmp_path / "d", corpus_txt="text", other_md="x")
    path.chmod(0o555)

    def state():
        return {
            p.name: (p.read_bytes(), p.stat().st_mtime_ns, p.stat().st_mode) for p in path.iterdir()
        }

    before = state(), path.stat().st_mtime_ns
    check_lengths(read_folder(path), prompt_length=5, completion_length=6, truncate=True)
    assert (state(), path.stat().st_mtime_ns) == before
    path.chmod(0o755)


# -- folders that are refused


def test_folder_refusals(tmp_path):
    missing = tmp_path / "nowhere"
    wanted = f"--data '{missing}': there is no such folder, and nothing is downloaded"
    assert refusal(missing) == wanted
    empty = folder(tmp_path / "empty")
    assert (
        refusal(empty)
        == f"--data '{empty}': the folder is empty; it needs at least preferences.jsonl"
    )
    for name, file in (("corpus.txt", "FILE"), ("a.csv", f"'{tmp_path}/a.csv/a.csv'")):
        path = folder(tmp_path / name, **{name.replace(".", "_"): "x"})
        assert refusal(path) == (
            f"--data '{path}': there is no preferences.jsonl in it, nor .json, .csv, .tsv or "
            f".parquet (found '{name}'); name the file itself, --data {file}"
        )
    both = pairs_folder(tmp_path / "both", corpus_txt="x", corpus_jsonl='{"text": "x"}')
    assert refusal(both).endswith("holds both corpus.jsonl and corpus.txt; keep one of them")


def test_odd_folder_names_keep_the_message_on_one_line(tmp_path):
    assert "'a\\nb\\x1b[0m\\u2028'" in refusal("a\nb\x1b[0m\u2028")
    assert "can't be read" in refusal("a\0b")
    path = folder(tmp_path / "line\nbreak")
    assert "line\\nbreak" in refusal(path)
    (path / "x\ny").write_text("")
    assert "found 'x\\ny'" in refusal(path)
    (path / "x\ny.csv").write_text("")
    assert refusal(path).count("\n") == 0 and "--data" in refusal(path)


def test_links_in_a_circle_and_to_nowhere(tmp_path):
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    assert "can't be read (Too many levels of symbolic links)" in refusal(tmp_path / "loop")
    path = folder(tmp_path / "d")
    (path / "preferences.jsonl").symlink_to(path / "preferences.jsonl")
    assert refusal(path) == "preferences.jsonl: can't be read (Too many levels of symbolic links)"
    (path / "preferences.jsonl").unlink()
    (path / "preferences.jsonl").symlink_to(tmp_path / "nowhere")
    assert refusal(path) == "preferences.jsonl: can't be read (No such file or directory)"


def test_a_folder_or_a_pipe_in_place_of_a_file(tmp_path):
    path = pairs_folder(tmp_path / "d")
    (path / "corpus.txt").mkdir()
    assert refusal(path) == "corpus.txt: is a folder, a file is expected"
    (path / "corpus.txt").rmdir()
    os.mkfifo(path / "corpus.txt")
    assert refusal(path) == "corpus.txt: is not a regular file"


def test_what_the_system_refuses_is_one_line(tmp_path, monkeypatch):
    path = pairs_folder(tmp_path / "d")

    def denied(*args, **kwargs):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(container, "open", denied, raising=False)  # chmod would not stop root
    assert refusal(path) == "preferences.jsonl: can't be read (Permission denied)"
    monkeypatch.setattr(find.os, "listdir", denied)
    assert refusal(path) == f"--data '{path}': can't be read (Permission denied)"


def test_a_file_above_the_cap_is_refused_before_it_is_read(tmp_path):
    path = pairs_folder(tmp_path / "d")
    with open(path / "corpus.txt", "wb") as file:
        file.truncate(256 * 2**20 + 1)  # sparse: takes no space
    assert refusal(path) == "corpus.txt: has 268435457 bytes, more than the 268435456 that are read"


# -- files and lines that are refused


@pytest.mark.parametrize(
    "name, content, message",
    [
        ("corpus.txt", b"", "corpus.txt: is empty"),
        ("corpus.txt", b" \r\n\n", "corpus.txt: holds no text, only blank lines"),
        (
            "corpus.txt",
            b"ok\nbad \xff",
            "corpus.txt, line 2: byte 0xff at byte offset 7 is not UTF-8; save the file as UTF-8",
        ),
        (
            "corpus.txt",
            b"\xef\xbb\xbfa\nb\0c",
            "corpus.txt, line 2: byte 0x00 at byte offset 6 is NUL, which no text holds; save the "
            "file as UTF-8",
        ),
        ("prompts.jsonl", b"", "prompts.jsonl: is empty"),
        (
            "prompts.jsonl",
            b"\xef\xbb\xbf\r\n  \n",
            "prompts.jsonl: holds no item, only blank lines",
        ),
        (
            "prompts.jsonl",
            b'{"prompt": "x"}\n{"prompt": "\xc3"}',
            "prompts.jsonl, line 2: byte 0xc3 at byte offset 28 "
            "is not UTF-8; save the file as UTF-8",
        ),
        (
            "prompts.jsonl",
            '{"prompt": "x"}'.encode("utf-16"),
            "prompts.jsonl: is UTF-16 text; save the file as UTF-8",
        ),
        (
            "prompts.jsonl",
            gzip.compress(b'{"prompt": "x"}', mtime=0)[:-9],
            "prompts.jsonl: its gzip is damaged (Compressed file ended before the end-of-stream "
            "marker was reached)",
        ),
        (
            "corpus.txt",
            b"PAR1\x15\x04\x15\xff",
            "corpus.txt: is a Parquet file; write it as text first, one JSON object a line",
        ),
        (
            "corpus.txt",
            b"version https://git-lfs.github.com/spec/v1\noid sha256:12ab\nsize 5\n",
            "corpus.txt: is a git-lfs pointer and not the file itself; fetch it with: git lfs pull",
        ),
        (
            "prompts.jsonl",
            b"<!doctype html><p>Sign in",
            "prompts.jsonl: is a web page, so its download went wrong",
        ),
        (
            "prompts.jsonl",
            json.dumps({"prompt": "x"}, indent=1).encode() + b"\n{}",
            "prompts.jsonl: begins with a JSON object over several lines; write each object on a "
            "line of its own, or all of them as one array, [{...}, {...}]",
        ),
        (
            "prompts.jsonl",
            b'{"prompt": "x"},\n{"prompt": "y"}',
            "prompts.jsonl, line 1: column 16: broken JSON (Extra data) at ','; --skip_bad_rows "
            "leaves it out",
        ),
        (
            "demonstrations.jsonl",
            b'\n{"prompt": "x"}',
            "demonstrations.jsonl, line 2, field completion: is missing (found 'prompt'); wanted "
            '{"prompt": "...", "completion": "..."}',
        ),
    ],
)
def test_file_refusals(tmp_path, name, content, message):
    path = pairs_folder(tmp_path / "d")
    (path / name).write_bytes(content)
    assert refusal(path) == message


def pair_line(**fields):
    return json.dumps({"prompt": "q", "chosen": "a", "rejected": "b"} | fields)


@pytest.mark.parametrize(
    "line, message",
    [
        (
            '{"prompt": "q" "chosen"',
            ": column 16: broken JSON (Expecting ',' delimiter) at '\"chosen\"'",
        ),
        ('{"prompt": ', ": column 12: broken JSON (Expecting value) at the end of the line"),
        (GOOD + GOOD, f": column {len(GOOD) + 1}: broken JSON (Extra data) at '{GOOD[:40]}...'"),
        (
            '{"prompt": "a\tb"}',
            ": column 14: broken JSON (Invalid control character at) at '\\tb\"}'",
        ),
        ("[" * 100_000, ": the JSON is nested too deeply"),
        ('{"a":' * 100_000, ": the JSON is nested too deeply"),
        (
            "[1]",
            ': must be an object like {"prompt": "...", "chosen": '
            '"...", "rejected": "..."}, got a list',
        ),
        (
            "7",
            ': must be an object like {"prompt": "...", "chosen": '
            '"...", "rejected": "..."}, got a number',
        ),
        (
            '"x"',
            ': must be an object like {"prompt": "...", "chosen": '
            '"...", "rejected": "..."}, got a string',
        ),
        ("{}", ", field prompt: is missing (the object is empty)"),
        (
            '{"prompt": "q", "chosen": "a", "rejected\\n": "b"}',
            ", field rejected: is missing (found 'prompt', 'chosen', 'rejected\\n')",
        ),
        (pair_line(chosen=None), ", field chosen: must be a string, got null"),
        (pair_line(chosen=True), ", field chosen: must be a string, got true"),
        (pair_line(chosen=3), ", field chosen: must be a string, got a number"),
        (pair_line(chosen=2.5), ", field chosen: must be a string, got a number"),
        (pair_line(rejected=["b"]), ", field rejected: must be a string, got a list"),
        (pair_line(rejected={}), ", field rejected: must be a string, got an object"),
        (pair_line(prompt=""), ", field prompt: is empty"),
        (pair_line(prompt=" \n\t"), ", field prompt: is blank"),
        (pair_line(rejected="a"), ", field rejected: is equal to chosen, so nothing is preferred"),
        (
            pair_line(rejected=" a\n"),
            ", field rejected: is equal to chosen, so nothing is preferred",
        ),
        (pair_line(chosen="ab\0"), ", field chosen: holds NUL at character 2, which no text holds"),
        (
            pair_line(chosen="a\ud800"),
            ", field chosen: holds \\ud800, a lone surrogate, which is half a character",
        ),
    ],
)
def test_line_refusals(tmp_path, line, message):
    path = folder(tmp_path / "d", preferences_jsonl=f"{GOOD}\r\n\r\n{line}\n")
    advice = "; --skip_bad_rows leaves it out"
    assert refusal(path) == f"preferences.jsonl, line 3{message}{advice}"


def test_long_content_is_cut_in_a_message(tmp_path):
    line = json.dumps({"k" * 10_000: 1, **{f"{i}\n\x1b" * 100: 1 for i in range(50)}})
    message = refusal(folder(tmp_path / "d", preferences_jsonl=line))
    assert len(message) < 600 and "and 46 more)" in message


JSON_VALUES = st.recursive(
    st.none() | st.booleans() | st.floats() | st.integers() | st.text(max_size=6),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3)
    ),
    max_leaves=6,
)
FIELD_NAMES = st.sampled_from(["prompt", "chosen", "rejected", "completion", "text"])
JSON_LINES = st.one_of(
    st.just(GOOD),
    JSON_VALUES.map(json.dumps),
    st.text(st.characters(exclude_categories=["Cs"]), max_size=20),
    st.dictionaries(
        FIELD_NAMES, JSON_VALUES | st.text(st.characters(), max_size=4), max_size=5
    ).map(json.dumps),
    st.sampled_from([GOOD.replace("q", "\\ud800"), '{"prompt":', "\u2028", "\x85", "[" * 3000]),
)
NAMES = ["corpus.txt", "corpus.jsonl", "demonstrations.jsonl", "preferences.jsonl", "prompts.csv"]
CONTENTS = st.binary(max_size=60) | st.lists(JSON_LINES, max_size=5).map(
    lambda lines: "\n".join(lines).encode()
)


@settings(max_examples=300, deadline=None)
@given(
    files=st.dictionaries(st.sampled_from(NAMES), CONTENTS, min_size=1), valid_pairs=st.booleans()
)
def test_whatever_a_folder_holds_the_answer_is_data_or_one_line(files, valid_pairs):
    with tempfile.TemporaryDirectory() as name:
        for file, content in (
            files | ({"preferences.jsonl": GOOD.encode()} if valid_pairs else {})
        ).items():
            Path(name, file).write_bytes(content)
        try:
            data = check_lengths(
                read_folder(name), prompt_length=4, completion_length=5, truncate=True
            )
        except InputError as error:
            assert (
                len(str(error).splitlines()) == 1
                and str(error).isprintable()
                and len(str(error)) < 1000
            )
        else:
            assert_whole(data)
