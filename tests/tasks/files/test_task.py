"""The task files: windows of the corpus, recorded preferences, and a split nobody crosses."""

import json
import random
from collections import Counter

import pytest
import torch

from minippo.errors import InputError
from minippo.tasks.files import Files
from minippo.tasks.files.task import windows_of

PROMPTS = [f"prompt {i}?" for i in range(12)]
PAIRS = [
    (prompt, f"yes, {i} {j}", f"no, {i} {j}")
    for i, prompt in enumerate(PROMPTS)
    for j in range(1 + i % 2)
]
CORPUS = " ".join(f"word{i} é" for i in range(300))


def write_folder(path, pairs=PAIRS, **files):
    """A folder with preferences, and what else is named: corpus_txt for corpus.txt, a list for JSON
    lines."""
    path.mkdir()
    files["preferences_jsonl"] = [
        dict(zip(("prompt", "chosen", "rejected"), pair, strict=True)) for pair in pairs
    ]
    for name, content in files.items():
        text = (
            content
            if isinstance(content, str)
            else "".join(json.dumps(row) + "\n" for row in content)
        )
        (path / name.replace("_", ".")).write_text(text, encoding="utf-8")
    return path


def files_task(path, seed=0, **options):
    options = {
        "prompt_length": 20,
        "completion_length": 30,
        "heldout_pairs": 5,
        "truncate": False,
    } | options
    return Files(path, **options, generator=torch.Generator().manual_seed(seed))


@pytest.fixture
def task(tmp_path):
    return files_task(write_folder(tmp_path / "d", corpus_txt=CORPUS))


def windows(task, n=1000):
    return task.pretraining_examples(n, step=0, rng=random.Random(0))


def text_of(window):
    return bytes(token for token in window.tokens if token < 256)


def test_windows_are_pieces_of_the_corpus_that_fill_the_context(task):
    for window in windows(task):
        assert window.tokens[0] == task.tokenizer.bos_id
        assert window.is_target == [False] + [True] * (len(window.tokens) - 1)
        assert len(window.tokens) == task.document_length == 20 + 2 + 30
        assert (
            text_of(window) in CORPUS.encode() and len(text_of(window)) == task.document_length - 1
        )


def test_windows_reach_both_ends_of_a_long_document(tmp_path):
    text = "".join(map(chr, range(33, 127)))
    task = files_task(write_folder(tmp_path / "d", corpus_txt=text))
    assert {text_of(window) for window in windows(task)} == {
        text.encode()[i : i + 51] for i in range(94 - 51 + 1)
    }


def test_short_documents_are_whole_and_end_with_eos(tmp_path):
    # 51 bytes of text fill the context
    documents = ["short", "b" * 49, "c" * 50, "d" * 51, "e" * 52, "f" * 200]
    task = files_task(
        write_folder(tmp_path / "d", corpus_jsonl=[{"text": text} for text in documents])
    )
    met = Counter()
    for window in windows(task):
        text, ends = text_of(window).decode(), window.tokens[-1] == task.tokenizer.eos_id
        assert len(window.tokens) <= task.document_length
        assert window.tokens == [257, *text.encode()] + [258] * ends
        assert window.is_target == [False] + [True] * (len(window.tokens) - 1)
        assert (text in documents) if ends or len(text) < 51 else len(text) == 51
        assert not ends or len(text) < 51
        met[text[0], ends] += 1
    assert set(met) == {
        ("s", True),
        ("b", True),
        ("c", True),
        ("d", False),
        ("e", False),
        ("f", False),
    }


def test_a_document_is_met_in_proportion_to_its_length(tmp_path):
    path = write_folder(tmp_path / "d", corpus_jsonl=[{"text": "a" * 10}, {"text": "b" * 30}])
    met = Counter(text_of(window)[:1] for window in windows(files_task(path), n=4000))
    assert 0.72 < met[b"b"] / 4000 < 0.78


def test_it_says_how_much_there_is_to_train_on(task, tmp_path):
    training, heldout = task.recorded_preferences()
    assert task.amounts == {
        "demonstration": len({pair[:2] for pair in training}),
        "pair": len(training),
        "prompt": len(PROMPTS) - len({pair[0] for pair in heldout}),
        "window": round(len(CORPUS.encode()) / 51),
    }
    two = files_task(write_folder(tmp_path / "two", [("p", "a", "b"), ("q", "a", "b")]))
    assert two.notes[-1] == (
        "1 pair is held out; without their prompts 1 pair and 1 demonstration remain"
    )


def test_windows_of_one_pass_by_hand():
    assert windows_of([1000], 50) == 20
    assert windows_of([10, 10, 10], 50) == 3  # whole documents
    # 30 of 40 bytes are in the longer: its window of 20 is met three times in four, 10 once; 17.5
    assert windows_of([10, 30], 20) == round(40 / 17.5) == 2
    assert windows_of([3], 50) == 1


def test_recorded_preferences_are_split_by_prompt_and_none_is_lost(task):
    training, heldout = task.recorded_preferences()
    assert sorted(training + heldout) == sorted(PAIRS) and len(heldout) >= 5
    assert {pair[0] for pair in training}.isdisjoint(pair[0] for pair in heldout)
    assert task.evaluation_prompts(1000, rng=random.Random(0)) != []
    assert set(task.evaluation_prompts(1000, rng=random.Random(0))) == {pair[0] for pair in heldout}


@pytest.mark.parametrize("with_prompts", [False, True])
@pytest.mark.parametrize("seed", range(5))
def test_no_stage_before_the_evaluation_meets_a_held_out_prompt(tmp_path, seed, with_prompts):
    more = (
        {"prompts_jsonl": [{"prompt": f" {prompt} "} for prompt in [*PROMPTS, "one more?"]]}
        if with_prompts
        else {}
    )
    task = files_task(write_folder(tmp_path / "d", **more), seed=seed)
    rng = random.Random(0)
    heldout = {prompt.strip() for prompt, _, _ in task.recorded_preferences()[1]}
    demonstrations, prompts = task.demonstrations(500, rng=rng), task.training_prompts(500, rng=rng)
    assert heldout.isdisjoint(prompt.strip() for prompt, _ in demonstrations)
    assert heldout.isdisjoint(prompt.strip() for prompt in prompts)
    assert not [
        prompt
        for prompt in heldout
        for window in windows(task, 200)
        if prompt.encode() in text_of(window)
    ]
    expected = {*PROMPTS} - heldout
    assert {prompt for prompt, _ in demonstrations} == expected
    assert {prompt.strip() for prompt in prompts} == expected | (
        {"one more?"} if with_prompts else set()
    )


def test_demonstrations_come_round_evenly_in_changing_order(task):
    n = len(task.recorded_preferences()[0])
    first, second = (
        task.demonstrations(n, rng=random.Random(0)),
        task.demonstrations(n, rng=random.Random(1)),
    )
    assert sorted(first) == sorted(second) and first != second
    counts = Counter(task.demonstrations(3 * n + 1, rng=random.Random(0)))
    assert sorted(counts.values()) == [3] * (n - 1) + [4]
    assert set(counts) == {pair[:2] for pair in task.recorded_preferences()[0]}


def test_a_prompt_ends_with_a_line_break_and_the_response_begins_after_it(task):
    assert task.prompt_ids("hi") == [257, *b"hi\n"]
    assert task.demonstration_example("hi", "yo") == (
        [257, *b"hi\nyo", 258],
        [False] * 4 + [True] * 3,
    )


def test_a_corpus_of_demonstrations_looks_like_the_demonstrations(tmp_path):
    task = files_task(write_folder(tmp_path / "d"))
    shown = {
        tuple(task.demonstration_example(*pair).tokens)
        for pair in task.demonstrations(100, rng=random.Random(0))
    }
    assert {tuple(window.tokens) for window in windows(task)} == shown


def test_the_longest_prompt_and_response_fill_the_context(tmp_path):
    long = [("p" * 20, "c" * 29, "r" * 29), ("é" * 10, "c", "d")]
    task = files_task(write_folder(tmp_path / "d", long), heldout_pairs=1)
    assert len(task.demonstration_example(*long[0][:2]).tokens) == task.document_length
    for pair in [("p" * 21, "c", "r"), ("p", "c" * 30, "r"), ("p", "c", "r" * 30)]:
        path = write_folder(tmp_path / f"{len(pair[0])} {len(pair[1])}", [*long, pair])
        with pytest.raises(InputError, match="preferences.jsonl"):
            files_task(path)
        assert any("cut" in note for note in files_task(path, truncate=True).notes)


def test_there_is_no_rule_for_what_is_good(task):
    assert (
        task.gold_max is None and task.gold_axes("a", "b") is None and task.gold("a", "b") is None
    )
    assert task.answers_to_watch() == []


def test_the_same_seed_makes_the_same_split(tmp_path):
    path = write_folder(tmp_path / "d")
    splits = [files_task(path, seed=seed).recorded_preferences() for seed in (0, 0, 1)]
    assert splits[0] == splits[1] != splits[2]


def test_prompts_that_are_all_held_out_are_refused(tmp_path):
    pairs, refused = PAIRS[:1] + PAIRS[1:2], []
    for prompt, _, _ in pairs:
        path = write_folder(tmp_path / prompt.strip("?"), pairs, prompts_jsonl=[{"prompt": prompt}])
        try:
            files_task(path, heldout_pairs=1)
        except InputError as error:
            refused.append(str(error))
    assert len(refused) == 1 and refused[0].startswith(
        "prompts.jsonl: every prompt in it is one of the held-out"
    )
