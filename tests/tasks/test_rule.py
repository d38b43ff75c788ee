"""A task of the user's own: what a run gets of it, and what is refused before anything is
trained."""

import random
import sys

import pytest

from minippo.errors import InputError, TrainingError
from minippo.tasks import own_file
from minippo.tasks.own_file import load
from minippo.tasks.rule import OwnTask
from minippo.tokenizer import ByteTokenizer, WordTokenizer
from tests.own_tasks import SUMS, changed

PROMPTS = 'return [f"{a}+1=" for a in (range(5) if split == "train" else range(5, 9))]'
DEMONSTRATIONS = '[(prompt, "3") for prompt in self.prompts("train")]'
GIVEN = '1.0 if response == "3" else 0.0'
BEFORE = "    def pretraining_texts(self):\n        return {}\n    def rule"
ONLY = "from minippo.tasks import RuleTask\nclass Sums(RuleTask):\n"


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])
    monkeypatch.setattr(own_file, "MODULES", {})
    monkeypatch.setattr(own_file, "LOADED", {})
    return tmp_path


def task_of(text=SUMS):
    with open("sums.py", "w") as file:
        file.write(text)
    return OwnTask(load("sums.py:Sums", "task"))


def test_a_run_gets_its_texts():
    task, rng = task_of(), random.Random(0)
    assert task.name == "sums.py:Sums" and task.gold_max == 1.0 and task.has_gold
    assert set(task.training_prompts(99, rng=rng)) == {f"{a}+1=" for a in range(5)}
    assert set(task.evaluation_prompts(99, rng=rng)) == {f"{a}+1=" for a in range(5, 9)}
    assert len(task.evaluation_prompts(2, rng=rng)) == 2
    assert task.fixed_prompts() == [f"{a}+1=" for a in range(5)]
    assert sorted(task.demonstrations(10, rng=rng)) == sorted(task.fixed_demonstrations() * 2)
    assert task.gold("2+1=", "3") == 1 and task.gold_axes("2+1=", "4") == {"rule": 0.0}
    assert task.amounts == {"demonstration": 5, "prompt": 5, "text": 5}


def test_lengths_are_those_of_the_texts():
    task = task_of()
    assert (task.prompt_length, task.document_length) == (5, 7)  # BOS 2+1= and 3 EOS
    assert task.longest_completion == 2
    (example,) = task.pretraining_examples(1, step=0, rng=random.Random(0))
    assert len(example.tokens) == 7 and sum(example.is_target) == 6


def test_texts_to_read_before_take_the_place_of_the_demonstrations():
    task = task_of(
        changed(
            "    def rule", '    def pretraining_texts(self):\n        return ["ab"]\n    def rule'
        )
    )
    (example,) = task.pretraining_examples(1, step=0, rng=random.Random(0))
    assert task.tokenizer.decode(example.tokens) == "ab"


def test_bytes_read_everything_and_words_are_those_of_the_texts():
    assert isinstance(task_of().tokenizer, ByteTokenizer)
    assert task_of().notes == ("Sums: a token is a byte, so that every text can be read",)
    text = changed("words = False", "words = True").replace('f"{a}+1="', 'f" {a}  + 1 ="')
    task = task_of(text)
    assert isinstance(task.tokenizer, WordTokenizer)
    assert set(task.tokenizer.words[3:]) == set("012345678+=")
    assert task.fixed_prompts()[2] == "2 + 1 ="  # one space between words, as the rule is told
    assert task.notes == (
        "Sums: a token is one of 11 words, those of its texts; others are refused",
    )


def test_without_a_best_score_there_is_gold_all_the_same():
    task = task_of(changed("    best = 1.0\n"))
    task = task_of(SUMS.replace("    best = 1.0\n", ""))
    assert task.gold_max is None and task.has_gold and task.gold("2+1=", "3") == 1


def test_the_fingerprint_is_of_file_and_texts_and_not_of_the_folder(folder):
    one = task_of().fingerprint
    (folder / "other").mkdir()
    (folder / "other/sums.py").write_text(SUMS)
    assert OwnTask(load("other/sums.py:Sums", "task")).fingerprint == one
    assert task_of(SUMS + "# a remark\n").fingerprint != one


def test_texts_of_another_file_are_part_of_it(folder):
    (folder / "texts.txt").write_text("6")
    text = SUMS.replace('"3") for', '__import__("pathlib").Path("texts.txt").read_text()) for')
    one = task_of(text).fingerprint
    (folder / "texts.txt").write_text("7")
    assert task_of(text).fingerprint != one


def test_pretraining_texts_that_hold_the_questions_are_told():
    more = (
        '    def pretraining_texts(self):\n        return ["5+1=6", "1+1=2", "6+1=7"]\n    def rule'
    )
    task = task_of(changed("    def rule", more))
    assert "2 pretraining texts begin with a held-out prompt" in task.notes[1]


def refused(text):
    with pytest.raises(InputError) as caught:
        task_of(text)
    assert len(str(caught.value).splitlines()) == 1
    return str(caught.value)


@pytest.mark.parametrize(
    "text, line",
    [
        ("class Sums: pass", "sums.py: Sums is not a task; write class Sums(RuleTask), with"),
        ("Sums = 3", "sums.py: Sums is not a task; write class Sums(RuleTask), with"),
        (f"{ONLY}    pass", "sums.py: Sums needs prompts, lists of texts for the splits"),
        (
            f"{ONLY}    prompts = rule = lambda *a: 1",
            "sums.py: Sums needs demonstrations, imperfect examples to fine-tune on",
        ),
        (
            f"{ONLY}    prompts = demonstrations = 1\n    rule = 2",
            "sums.py: Sums.prompts is no method; wanted lists of texts",
        ),
        (
            f"{ONLY}    prompts = demonstrations = lambda *a: 1",
            "sums.py: Sums needs rule, a number for a prompt and a response",
        ),
        (SUMS.replace(PROMPTS, "return None"), "('train'): wanted a list with something in it, go"),
        (SUMS.replace(PROMPTS, "return []"), "('train'): wanted a list with something in it, got"),
        (
            SUMS.replace(PROMPTS, 'return "ab"'),
            "('train'): wanted a list with something in it, got a str",
        ),
        (SUMS.replace('f"{a}+1="', "a"), "('train'): item 1 is not a text: 0"),
        (SUMS.replace('f"{a}+1="', '" "'), "('train'): item 1 has an empty text where a prompt s"),
        (SUMS.replace("(5, 9)", "(4, 9)"), "prompts: '4+1=' is in train and in heldout"),
        (SUMS.replace('f"{a}+1="', "undefined"), "sums.py, line 9: NameError: name 'undefined' is"),
        (
            SUMS.replace('f"{a}+1="', "f\"{a}{__import__('random').random()}\""),
            "('train'): gives other texts when it is asked again; seed its randomness",
        ),
        (SUMS.replace('"3") for', '"3", 4) for'), "item 1 is not (prompt, completion): ('0+1=', '"),
        (SUMS.replace(DEMONSTRATIONS, '["ab"]'), "item 1 is not (prompt, completion): 'ab'"),
        (SUMS.replace(DEMONSTRATIONS, "None"), "demonstrations(): wanted a list"),
        (SUMS.replace('self.prompts("train")', 'self.prompts("heldout")'), "is a held-out prompt"),
        (SUMS.replace('"3") for', '"\\ud800") for'), "a text: no tokenizer can read it: '"),
        (SUMS.replace('f"{a}+1="', 'f"{a}+1=" * 2000'), "the longest has 8003 tokens; at most 409"),
        (
            SUMS.replace("= False", "= True").replace('"3") for', '"<eos>") for'),
            "words: '<eos>' is not one word, or the name of a special token",
        ),
        (SUMS.replace("= False", "= 1"), "sums.py: Sums.words: wanted True or False, got 1"),
        (SUMS.replace("best = 1.0", "best = -1"), "Sums.best: wanted a number above 0, or None, g"),
        (SUMS.replace('{"response_length": 4}', "[1]"), "Sums.settings: wanted a dict, got [1]"),
        (SUMS.replace(GIVEN, "None"), "sums.py, line 12: for the prompt '0+1=' and the response '"),
        (
            SUMS.replace("best = 1.0", "def __init__(self): raise OSError(2, 'gone')"),
            "sums.py, line 5: FileNotFoundError: [Errno 2] gone",
        ),
    ],
)
def test_what_is_wrong_with_it_is_told_before_anything_is_trained(text, line):
    assert line in refused(text)


def test_a_rule_that_breaks_later_breaks_the_training():
    task = task_of(SUMS.replace("else 0.0", "else None"))
    with pytest.raises(TrainingError, match="^sums.py, line 12: for the prompt '1' and the respon"):
        task.gold("1", "2")
