"""Held-out pairs: no prompt on both sides, and no answer that comes back as training text."""

import random

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from minippo.errors import InputError
from minippo.tasks.files.read import read_folder
from minippo.tasks.files.split import split_by_prompt, without_prompts
from tests.tasks.files.folders import PAIRS, assert_whole, json_lines, pairs_folder


def split(pairs, heldout_pairs, seed=0):
    return split_by_prompt(
        pairs, heldout_pairs=heldout_pairs, generator=torch.Generator().manual_seed(seed)
    )


@settings(max_examples=200, deadline=None)
@given(
    prompts=st.lists(
        st.sampled_from(["a", " a", "b", "c", "d\n", "d", "e"]), min_size=2, max_size=30
    ),
    heldout_pairs=st.integers(1, 20),
    seed=st.integers(0, 99),
)
def test_a_split_loses_nothing_and_shares_no_prompt(prompts, heldout_pairs, seed):
    pairs = [(prompt, f"chosen {i}", "rejected") for i, prompt in enumerate(prompts)]
    different = {prompt.strip() for prompt in prompts}
    if len(different) < 2:
        with pytest.raises(
            InputError, match="field prompt: at least 2 different prompts are needed.*found 1"
        ):
            split(pairs, heldout_pairs)
        return
    training, held_out = split(pairs, heldout_pairs, seed)
    assert not {p[0].strip() for p in training} & {p[0].strip() for p in held_out}
    assert sorted(training + held_out) == sorted(pairs)
    assert 1 <= len(held_out) <= len(pairs) // 2
    if len(different) == len(prompts):  # each prompt once: exactly what was asked for, up to half
        assert len(held_out) == min(heldout_pairs, len(pairs) // 2)


def test_a_split_is_random_and_the_seed_decides():
    pairs = [(f"prompt {i}", "a", "b") for i in range(100)]
    assert split(pairs, 20, seed=1) == split(pairs, 20, seed=1)
    assert split(pairs, 20, seed=1) != split(pairs, 20, seed=2)
    assert split(pairs, 20)[1] != pairs[:20]
    times = [0] * 100
    for seed in range(200):
        for prompt, _, _ in split(pairs, 20, seed)[1]:
            times[int(prompt.split()[1])] += 1
    assert min(times) >= 15 and max(times) <= 70  # 40 expected, a standard deviation of 5.7


def test_a_split_holds_out_what_was_asked_but_never_more_than_half():
    pairs = [(f"prompt {random.Random(i).randrange(40)}", f"a{i}", "b") for i in range(200)]
    _, held_out = split(pairs, 50)
    assert 50 <= len(held_out) < 70
    _, held_out = split(pairs, 1000)
    assert 80 <= len(held_out) <= 100
    _, held_out = split([("often", "a", str(i)) for i in range(9)] + [("once", "a", "b")], 5)
    assert held_out == [("once", "a", "b")]
    with pytest.raises(ValueError, match="heldout_pairs must be at least 1, got 0"):
        split(pairs, 0)


def test_held_out_answers_do_not_come_back_as_training_text(tmp_path):
    pairs = [(f"prompt {i}", f"chosen {i}", "rejected") for i in range(10)]
    data = read_folder(pairs_folder(tmp_path / "d", pairs))
    training, held_out = split(data.preferences, 3)
    kept = without_prompts(data, held_out)
    assert kept.preferences == training
    assert kept.demonstrations == [pair[:2] for pair in training]
    assert kept.corpus == ["\n".join(pair[:2]) for pair in training]
    assert kept.prompts == data.prompts
    assert_whole(kept)


def test_a_corpus_of_its_own_is_kept_and_demonstrations_must_remain(tmp_path):
    path = pairs_folder(
        tmp_path / "d",
        corpus_txt="text",
        demonstrations_jsonl=json_lines("demonstrations.jsonl", [(" " + PAIRS[0][0], "c")]),
    )
    data = read_folder(path)
    assert without_prompts(data, PAIRS[1:]).corpus == ["text"]
    with pytest.raises(
        InputError, match="demonstrations.jsonl: every prompt in it is one of the held-out"
    ):
        without_prompts(data, PAIRS[:1])


def test_prompts_in_another_unicode_form_are_on_one_side():
    pairs = [
        ("caf\u00e9", "a", "b"),
        ("cafe\u0301 ", "c", "d"),
        ("tea", "a", "b"),
        ("milk", "a", "b"),
    ]
    for seed in range(5):
        for side in split(pairs, 2, seed):
            assert (pairs[0] in side) == (pairs[1] in side)
    with pytest.raises(InputError, match="found 1"):
        split(pairs[:2], 1)
