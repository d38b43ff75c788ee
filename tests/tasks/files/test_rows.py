"""All rows of a file: what can't be used is told in one pass, what is not read is named."""

import json

import pytest

from minippo.errors import InputError
from minippo.tasks.files import rows
from minippo.tasks.files.read import read_folder
from minippo.tasks.files.rows import (
    AS_IT_IS,
    Reading,
    prompt_key,
    read_rows,
    without_repeated_prompts,
)
from tests.tasks.files.folders import folder

SKIPPING = Reading(skip_bad_rows=True)


def pair(i, **fields):
    return {"prompt": f"q{i}", "chosen": f"a{i}", "rejected": f"b{i}"} | fields


def read(path, records, kind="preferences", reading=AS_IT_IS, name=None):
    name = name or f"{kind}.jsonl"
    (path / name).write_text("\n".join(map(json.dumps, records)))
    return read_rows(str(path / name), name, kind, reading, 1)


def refusal(*arguments, **options):
    with pytest.raises(InputError) as caught:
        read(*arguments, **options)
    return str(caught.value)


BAD = [pair(0), pair(1, chosen=None), pair(2), pair(3, prompt=""), {"x": 1}, pair(5, rejected="a5")]


def test_every_row_that_cannot_be_used_is_told_in_one_pass(tmp_path):
    assert refusal(tmp_path, BAD) == (
        "preferences.jsonl: 4 of 6 rows can't be used: line 2, field chosen: must be a string, got "
        "null; line 4, field prompt: is empty; line 5, field chosen: is missing (found 'x'); and 1 "
        "more; --skip_bad_rows leaves them out"
    )
    assert refusal(tmp_path, BAD[:2]).endswith("got null; --skip_bad_rows leaves it out")


def test_a_reason_is_told_once_with_its_rows(tmp_path):
    labelled = {"prompt": "q", "completion": "a", "label": True}
    line = refusal(tmp_path, [labelled] * 5)
    assert line.startswith(
        "preferences.jsonl: none of its 5 rows can be used: lines 1, 2, 3 and 2 more, field label: "
    )
    assert line.count("are no pair") == 1
    rows = [pair(0), {"x": 1}, pair(2, chosen=" "), {"x": 1}, pair(4, chosen=" "), {"y": 1}, 7, 7]
    line = refusal(tmp_path, rows)
    assert line == (
        "preferences.jsonl: 7 of 8 rows can't be used: lines 2, 4, field chosen: is missing (found "
        "'x'); lines 3, 5, field chosen: is blank; line 6, field chosen: is missing (found 'y'); "
        "and 2 more; --skip_bad_rows leaves them out"
    )


def test_a_reason_that_is_alone_is_told_whole_and_shares_the_room_with_others(tmp_path):
    demonstration = {"prompt": "q", "completion": "a"}
    assert refusal(tmp_path, [demonstration] * 2).endswith(
        '--reward rule (docs/your-own-task.md); wanted {"prompt": "...", "chosen": "...", '
        '"rejected": "..."}'
    )
    line = refusal(tmp_path, [demonstration, {"x": 1}])
    first = line.partition(": line 1, field chosen: ")[2].partition("; line 2")[0]
    assert first.endswith("...") and len(first) == 480 // 2 + 3


def test_the_marks_of_a_template_are_told(tmp_path):
    rows = [pair(0), pair(1, rejected="no</s>[INST]"), pair(2, prompt="### Human: q")]
    (note,) = read(tmp_path, rows).notes
    told = "2 rows hold marks of a chat template such as '[INST]'; they are read as texts"
    assert note == f"preferences.jsonl: {told}"
    assert read(tmp_path, [{"text": "[INST]"}], "corpus").notes == []


def test_rows_are_left_out_when_asked_and_that_is_said(tmp_path):
    found = read(tmp_path, BAD, reading=SKIPPING)
    assert found.items == [("q0", "a0", "b0"), ("q2", "a2", "b2")]
    assert [source.line for source in found.sources] == [1, 3]
    assert found.notes[0].startswith(
        "preferences.jsonl: 4 of 6 rows left out: line 2, field chosen"
    )


def test_where_no_row_is_left_the_whole_form_is_wrong(tmp_path):
    wanted = 'wanted {"prompt": "...", "chosen": "...", "rejected": "..."}'
    for reading in (AS_IT_IS, SKIPPING):
        line = refusal(tmp_path, [{"x": 1}, {"y": 1}], reading=reading)
        assert "none of its 2 rows can be used: line 1" in line and line.endswith(wanted)
        assert refusal(tmp_path, [{"x": 1}], reading=reading).endswith(wanted)


def test_a_file_has_one_form(tmp_path):
    question = {"question": "q", "chosen": "a", "rejected": "b"}
    line = refusal(tmp_path, [pair(0), pair(1, system="s"), question])
    assert "line 3: is of another form than line 1" in line
    assert len(read(tmp_path, [pair(0), question], reading=SKIPPING).items) == 1


def test_a_file_of_nothing_but_bad_rows_is_given_up(tmp_path, monkeypatch):
    monkeypatch.setattr(rows, "MOST_BAD", 10)
    assert "more than 10 rows can't be used" in refusal(tmp_path, [pair(0), *[{"x": 1}] * 50])


def test_fields_that_are_not_read_are_named_with_their_rows(tmp_path):
    records = [pair(0, id=1, note=""), pair(1, id=2, **{f"f{i}": 1 for i in range(9)})]
    (note,) = read(tmp_path, records).notes
    assert note == (
        "preferences.jsonl: fields not read, with their rows: 'f0' (1), 'f1' (1), 'f2' (1), "
        "'f3' (1), 'f4' (1) and 5 more"
    )


def test_names_without_end_are_not_all_kept(tmp_path, monkeypatch):
    monkeypatch.setattr(rows, "MOST_NAMES", 3)
    records = [pair(i, **{f"f{i}": 1}) for i in range(9)]
    assert read(tmp_path, records).notes[0].endswith("'f0' (1), 'f1' (1), 'f2' (1)")


def test_the_rules_are_told_once(tmp_path):
    records = [{"question": "q", "system": "s", "chosen": "a", "rejected": "b"}] * 2
    rule = "the prompt is the field question; system is put in front of the prompt"
    assert read(tmp_path, records).notes == [f"preferences.jsonl: {rule}"]
    assert read(tmp_path, records, name="preferences.csv").notes == [
        f"preferences.csv: it is JSON lines; {rule}"
    ]


def test_what_has_the_label_false_is_counted_and_not_learned(tmp_path):
    records = [{"prompt": "q", "completion": f"a{i}", "label": i == 1} for i in range(3)]
    found = read(tmp_path, records, "demonstrations")
    assert found.items == [("q", "a1")]
    assert found.notes == ["demonstrations.jsonl: 2 rows with label false not learned"]
    line = refusal(tmp_path, records[:1], "demonstrations")
    assert line == "demonstrations.jsonl: every label in it is false"
    line = refusal(tmp_path, [*records, {"prompt": "q", "completion": "a"}], "demonstrations")
    assert "line 4: is of another form" in line


def test_a_prompt_that_all_answers_repeat_is_taken_off():
    texts = [
        ("who?", "who? me", "who? you"),
        ("Where is it?", " Where is it?\nhere", "Where is it? there"),
    ]
    cut, notes = without_repeated_prompts(texts, "a")
    assert cut == [("who?", "me", "you"), ("Where is it?", "here", "there")] and len(notes) == 1
    some = [*texts, ("how?", "so", "how? no")]
    left, notes = without_repeated_prompts(some, "a")
    assert left is some and notes == [
        "a: in 2 of 3 rows the answers begin with the prompt; they are read as they are"
    ]
    assert without_repeated_prompts([("who?",)], "a") == ([("who?",)], [])


def test_prompts_in_another_unicode_form_are_the_same():
    assert prompt_key(" e\u0301té ") == prompt_key("\u00e9te\u0301") != prompt_key("ete")


def test_a_place_is_a_row_where_there_are_no_lines(tmp_path):
    (tmp_path / "p.json").write_text(json.dumps([pair(0), pair(1, prompt="")]))
    with pytest.raises(InputError, match="^p.json, row 2, field prompt: is empty; --skip_bad_rows"):
        read_folder(tmp_path / "p.json")
    data = read_folder(tmp_path / "p.json", SKIPPING)
    assert data.sources["preferences"][0].place == "row 1"


def test_fewer_pairs(tmp_path):
    path = folder(
        tmp_path / "d", preferences_jsonl="\n".join(json.dumps(pair(i)) for i in range(5))
    )
    data = read_folder(path, Reading(pairs=2))
    assert data.preferences == [("q0", "a0", "b0"), ("q1", "a1", "b1")] and data.prompts == [
        "q0",
        "q1",
    ]
    assert "preferences.jsonl: the first 2 of 5 pairs are taken" in data.notes
    with pytest.raises(InputError, match="^--pairs 6: preferences.jsonl holds 5 pairs"):
        read_folder(path, Reading(pairs=6))
