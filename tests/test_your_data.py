"""docs/your-data.md: each recipe makes pairs of its schema, and they are read."""

import json
import random
import re
from pathlib import Path

import pytest

from minippo.errors import InputError
from minippo.tasks.files.known import SCHEMAS
from minippo.tasks.files.read import read_folder
from minippo.tasks.own_file import load
from minippo.tasks.rule import OwnTask

PAGE = (Path(__file__).parent.parent / "docs/your-data.md").read_text(encoding="utf-8")
FRAME, *RECIPES = re.split(r"^### ", PAGE.partition("## Recipes")[2], flags=re.MULTILINE)
PLACE = "# here: pairs of (prompt, chosen, rejected)\n"


def code(text):
    """The Python of a part of the page."""
    (found,) = re.findall(r"```python\n(.*?)```", text, re.DOTALL)
    return found


def user(text):
    return {"role": "user", "content": text}


def assistant(text):
    return {"role": "assistant", "content": text}


def arena(winner, *answers):
    names = ("conversation_a", "conversation_b")
    return {name: [user("q"), assistant(x)] for name, x in zip(names, answers)} | {"winner": winner}


def arena_responses(a, b):
    texts = {"prompt": '["q"]', "response_a": f'["{a}"]', "response_b": f'["{b}"]'}
    return texts | {"winner_model_a": a == "good", "winner_model_b": b == "good", "winner_tie": 0}


def tree(number, text, parent=None, rank=None):
    return {"message_id": number, "parent_id": parent, "text": text, "rank": rank, "role": "x"}


SAMPLES = {  # rows, of which each makes the pair q, good, bad or none
    "Stanford Human Preferences": [
        {"history": "q", "human_ref_A": "good", "human_ref_B": "bad", "labels": 1},
        {"history": "q", "human_ref_A": "bad", "human_ref_B": "good", "labels": 0},
    ],
    "Summaries with a choice": [
        {"info": {"post": "q"}, "summaries": [{"text": "good"}, {"text": "bad"}], "choice": 0},
        {"info": {"article": "q"}, "summaries": [{"text": "bad"}, {"text": "good"}], "choice": 1},
    ],
    "WebGPT comparisons": [
        {"question": {"full_text": "q"}, "answer_0": a, "score_0": s, "answer_1": b, "score_1": t}
        for a, s, b, t in (("good", 0.5, "bad", -0.5), ("bad", -1, "good", 1), ("x", 0, "y", 0))
    ],
    "PKU-SafeRLHF": [
        {"prompt": "q", "response_0": "bad", "response_1": "good", "better_response_id": 1},
        {"prompt": "q", "response_0": "good", "response_1": "bad", "better_response_id": 0},
    ],
    "Arena conversations": [
        arena("model_a", "good", "bad"),
        arena("model_b", "bad", "good"),
        arena("tie", "x", "y"),
    ],
    "Arena responses": [arena_responses("good", "bad"), arena_responses("bad", "good")],
    "AlpacaFarm": [
        {"instruction": "q", "input": "", "output_1": "good", "output_2": "bad", "preference": 1},
        {"instruction": "q", "input": "", "output_1": "bad", "output_2": "good", "preference": 2},
    ],
    "HelpSteer2 preferences": [
        {"prompt": "q", "response_1": "good", "response_2": "bad", "preference_strength": -2},
        {"prompt": "q", "response_1": "bad", "response_2": "good", "preference_strength": 1},
        {"prompt": "q", "response_1": "x", "response_2": "y", "preference_strength": 0},
    ],
    "HelpSteer3": [
        {"context": [user("q")], "response1": a, "response2": b, "overall_preference": s}
        for a, b, s in (("good", "bad", -1), ("bad", "good", 3))
    ],
    "Marks for single answers": [
        {"prompt": "q", "response": "bad", "helpfulness": 1},
        {"prompt": "q", "response": "good", "helpfulness": 4},
        {"prompt": "r", "response": "x", "helpfulness": 4},
    ],
    "UltraFeedback": [
        {
            "instruction": "q",
            "completions": [
                {"response": "bad", "overall_score": 2.0},
                {"response": "good", "overall_score": 7.0},
            ],
        },
        {"instruction": "q", "completions": []},
    ],
    "Nectar": [
        {"prompt": "q", "answers": [{"answer": a, "rank": r} for a, r in (("bad", 7), ("good", 1))]}
    ],
    "Stack Exchange": [
        {"question": "q", "answers": [{"text": a, "pm_score": s}, {"text": b, "pm_score": t}]}
        for a, s, b, t in (("good", 3, "bad", 1), ("bad", 0, "good", 2), ("x", 1, "y", 1))
    ],
    "OpenAI's format for fine-tuning": [
        {
            "input": {"messages": [user("q")], "tools": []},
            "preferred_output": [assistant("good")],
            "non_preferred_output": [assistant("bad")],
        }
    ],
    "OpenAssistant, a message a row": [
        tree("1", "q"),
        tree("2", "bad", "1", 1.0),
        tree("3", "good", "1", 0.0),
        tree("4", "and?", "3"),
        tree("5", "x", "4", 0.0),
    ],
    "OpenAssistant, a tree a row": [
        {
            "message_tree_id": "1",
            "prompt": {"text": "q", "replies": [tree("2", "bad", 1, 1.0), tree("3", "good", 1, 0)]},
        }
    ],
}


def test_every_recipe_has_a_sample_and_at_most_four_lines():
    assert [text.partition("\n")[0] for text in RECIPES] == [*SAMPLES]
    assert all(len(code(text).splitlines()) <= 4 for text in RECIPES)
    assert PLACE in code(FRAME)


@pytest.mark.parametrize("text", RECIPES, ids=list(SAMPLES))
def test_a_recipe_makes_pairs_of_its_schema(text, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    rows = "".join(json.dumps(row) + "\n" for row in SAMPLES[text.partition("\n")[0]])
    Path("data.jsonl").write_text(rows, encoding="utf-8")
    with pytest.raises(InputError, match="there is a recipe .*docs/your-data.md$"):
        read_folder("data.jsonl")
    frame = code(FRAME).replace('open("data.jsonl", encoding="utf-8")', repr(rows.splitlines()))
    exec(frame.replace(PLACE, code(text)), {})
    assert {*read_folder("preferences.jsonl").preferences} == {("q", "good", "bad")}


def test_demonstrations_alone_make_a_task_with_a_rule(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    rows = [{"instruction": f"Say {i}", "input": "", "output": f"It is {i}"} for i in range(20)]
    Path("alpaca.json").write_text(json.dumps(rows))
    part = PAGE.partition("### Demonstrations alone")[2].partition("\n## ")[0]
    Path("mine.py").write_text(code(part))
    task = OwnTask(load("mine.py:Mine", "task"))
    asked = {prompt for prompt, _ in task.fixed_demonstrations()}
    assert len(asked) == 18 and {*task.evaluation_prompts(2, rng=random.Random(0))}.isdisjoint(
        asked
    )
    assert task.gold("Say 1", "x" * 40) == 0.0


def test_every_schema_that_is_named_is_among_the_samples():
    there = [{*row} for rows in SAMPLES.values() for row in rows]
    assert [what for fields, what in SCHEMAS if not any(fields <= row for row in there)] == []
