"""Exercises written down as numbers."""

import json
import re

import torch

from minippo.classroom.recording import (
    JUDGE,
    Tensors,
    checks_files,
    checks_json,
    rounded,
    written_down,
)
from minippo.exercises.dpo_loss import exercise


def test_a_tensor_is_kept_once_and_a_mistakes_numbers_are_rounded():
    tensors = Tensors()
    third = torch.tensor([1.0, float("nan")], dtype=torch.float64) / 3
    assert [tensors.place(third, digits) for digits in (9, 9, None)] == [0, 0, 1]
    short, whole = [plain["numbers"] for plain in tensors.plain()]
    assert short == [0.333333333, {"number": "nan"}] and whole[0] == 1 / 3
    assert rounded(True, 9) is True and rounded(2, 9) == 2


def test_every_mistake_and_every_change_travels_with_its_words():
    plain = written_down(exercise)
    names = [(name, message) for name, message, _ in plain["mistakes"]]
    assert names == [(m.name, m.message) for m in exercise.mistakes]
    assert len(plain["changes"]) == len(exercise.changes) and plain["hints"] == [*exercise.hints]
    extreme = [case["slip"] is not None for case in plain["cases"]]
    for _, _, rows in (*plain["mistakes"], ("", "", plain["right"])):
        assert ["own" in row for row in rows] == extreme
    assert any(extreme)


def test_the_same_exercises_give_the_same_text_and_it_is_strict_json():
    text = checks_json(["gae"])
    assert text == checks_json(["gae"])
    assert not re.search(r"\b(NaN|Infinity)\b", re.sub(r'"[^"]*"', "", text))
    assert [*json.loads(text)["exercises"]] == ["gae"]


def test_the_package_imports_nothing_of_minippo_and_holds_no_answer():
    files = checks_files(["gae"])
    sources = [content.decode() for name, content in files.items() if name.endswith(".py")]
    assert len(sources) == len(JUDGE) + 3
    assert not any(re.search(r"^\s*(from|import) minippo", text, re.M) for text in sources)
    assert not any("gae_advantages" in content.decode() for content in files.values())
