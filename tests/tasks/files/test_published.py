"""Formats in which people publish preferences and demonstrations, three made-up rows of each: read
rightly, or refused with a line that says what to do. None is read wrongly without a word."""

import csv
import json

import pytest

from minippo.errors import InputError
from minippo.tasks.files.find import is_of
from minippo.tasks.files.read import read_folder
from tests.tasks.files.folders import GOOD

PAIR, ONE = "preferences", "demonstrations"
ROWS = range(3)


def user(text):
    return {"role": "user", "content": text}


def assistant(text):
    return {"role": "assistant", "content": text}


def system(text):
    return {"role": "system", "content": text}


def human(text):
    return {"from": "human", "value": text}


def gpt(text):
    return {"from": "gpt", "value": text}


def talks(i, *before):
    """chosen and rejected as whole conversations."""
    asked = [*before, user(f"q{i}")]
    return {"chosen": [*asked, assistant("good")], "rejected": [*asked, assistant("bad")]}


AB = {"chosen": "good", "rejected": "bad"}
LONG = "User: q\n\nAssistant: o\n\nUser: {}\n\nAssistant:"

READ = {  # name: (file, row i, prompt of row 0, what the screen says)
    "UltraFeedback binarized": (
        PAIR,
        lambda i: (
            talks(i)
            | {"prompt": f"q{i}", "prompt_id": "1", "messages": [user(f"q{i}"), assistant("good")]}
            | {"score_chosen": 8.0, "score_rejected": 7.5}
        ),
        "q0",
        "score_chosen must be above score_rejected",
    ),
    "UltraFeedback, cleaned": (
        PAIR,
        lambda i: talks(i) | {"prompt": f"q{i}", "chosen-rating": 5.0, "rejected-rating": 3.0},
        "q0",
        "chosen-rating must be above rejected-rating",
    ),
    "Capybara DPO": (
        PAIR,
        lambda i: (
            talks(i, user("q"), assistant("o"))
            | {
                "prompt": f"q{i}",
                "conversation": [{"input": "q", "output": "o"}],
                "rating_chosen": 5,
            }
        ),
        LONG.format("q0"),
        "'conversation' (3)",
    ),
    "Python DPO": (PAIR, lambda i: {"id": f"{i}", "prompt": f"q{i}"} | AB, "q0", "'id' (3)"),
    "Truthy DPO": (
        PAIR,
        lambda i: {"system": "s", "prompt": f"q{i}"} | AB,
        "s\n\nq0",
        "system is put in front",
    ),
    "answers of a model, ranked by another": (
        PAIR,
        lambda i: talks(i) | {"prompt": f"q{i}", "all_rm_scores": [0.5, 0.25]},
        "q0",
        "'all_rm_scores' (3)",
    ),
    "Tulu 3 preferences": (
        PAIR,
        lambda i: talks(i, system("s")) | {"prompt": f"q{i}", "chosen_rating": None},
        "s\n\nq0",
        "the last of a list",
    ),
    "OpenHermes preferences": (
        PAIR,
        lambda i: (
            talks(i) | {"prompt": f"q{i}", "candidates_completions": ["a", "b"], "ranks": [1, 2]}
        ),
        "q0",
        "'ranks' (3)",
    ),
    "ORPO mix": (PAIR, lambda i: talks(i) | {"prompt": f"q{i}", "question": None}, "q0", "list"),
    "Skywork": (PAIR, lambda i: talks(i) | {"source": "m"}, "q0", "what comes before the answer"),
    "pairs with scores": (
        PAIR,
        lambda i: talks(i) | {"chosen_score": 3.0, "rejected_score": 1.0},
        "q0",
        "chosen_score must be above rejected_score",
    ),
    "a conversation, and two messages that end it": (
        PAIR,
        lambda i: {
            "conversations": [human(f"q{i}")],
            "chosen": gpt("good"),
            "rejected": gpt("bad"),
        },
        "q0",
        "the prompt is the field conversations",
    ),
    "the same with a system and turns before": (
        PAIR,
        lambda i: (
            {"conversations": [human("q"), gpt("o"), human(f"q{i}")], "system": "s"}
            | {"chosen": gpt("good"), "rejected": gpt("bad")}
        ),
        "s\n\n" + LONG.format("q0"),
        "the prompt is the field conversations",
    ),
    "messages, and two texts that end them": (
        PAIR,
        lambda i: {"messages": [user(f"q{i}")]} | AB,
        "q0",
        "the prompt is the field messages",
    ),
    "instruction, chosen, rejected": (
        PAIR,
        lambda i: {"instruction": f"q{i}", "input": ""} | AB,
        "q0",
        "the prompt is the field instruction",
    ),
    "single messages": (
        PAIR,
        lambda i: {
            "prompt": user(f"q{i}"),
            "chosen": assistant("good"),
            "rejected": assistant("bad"),
        },
        "q0",
        "list of messages",
    ),
    "a template written out": (
        PAIR,
        lambda i: {"prompt": f"<|im_start|>user\nq{i}<|im_end|>"} | AB,
        "<|im_start|>user\nq0<|im_end|>",
        "3 rows hold marks of a chat template such as '<|im_start|>'",
    ),
    "unpaired": (
        ONE,
        lambda i: {"prompt": [user(f"q{i}")], "completion": [assistant("good")], "label": i != 1},
        "q0",
        "1 row with label false not learned",
    ),
    "OpenAI's chat format": (
        ONE,
        lambda i: {"messages": [system("s"), user(f"q{i}"), assistant("good")]},
        "s\n\nq0",
        "list of messages",
    ),
    "UltraChat": (
        ONE,
        lambda i: {"prompt": f"q{i}", "messages": [user(f"q{i}"), assistant("good")]},
        "q0",
        "list of messages",
    ),
    "Wizard": (
        ONE,
        lambda i: {"idx": "1", "conversations": [human(f"q{i}"), gpt("good")]},
        "q0",
        "'idx' (3)",
    ),
}

REFUSED = {  # name: (file, row i, what the line says)
    "UltraFeedback binarized, a tie": (
        PAIR,
        lambda i: talks(i) | {"score_chosen": 8.0, "score_rejected": 6.0 + i},
        "line 3, field score_chosen: and 'score_rejected' are both 8: a tie",
    ),
    "a margin below 0": (
        PAIR,
        lambda i: {"prompt": "q", "margin": i - 1.0} | AB,
        "line 1, field margin: is -1, below 0",
    ),
    "two equal ratings": (
        PAIR,
        lambda i: {"prompt": "q", "rating": [5, 5 + i]} | AB,
        "line 1, field rating: is 5 for both answers",
    ),
    "steps of a proof": (
        PAIR,
        lambda i: {"prompt": f"q{i}", "initial_reason_steps": "Step 1:", "answer": "9"} | AB,
        "field initial_reason_steps: belongs to the prompt and is not read; put it into the prompt",
    ),
    "UltraFeedback with other names": (
        PAIR,
        lambda i: (
            {"instruction": "q", "chosen_response": "good", "rejected_response": "bad"}
            | {"chosen_avg_rating": 5.0, "chosen_model": "m", "rejected_model": "n"}
        ),
        "call 'chosen_response' chosen and 'rejected_response' rejected",
    ),
    "texts of a template": (
        PAIR,
        lambda i: {"text_prompt": "q", "text_chosen": "good", "text_rejected": "bad"},
        "call 'text_chosen' chosen and 'text_rejected' rejected",
    ),
    "Stack Exchange, paired": (
        PAIR,
        lambda i: {"qid": i, "question": "q", "response_j": "good", "response_k": "bad"},
        "call 'response_j' chosen and 'response_k' rejected",
    ),
    "a winner and a loser": (
        PAIR,
        lambda i: {"prompt": "q", "winner": "good", "loser": "bad"},
        "call 'winner' chosen and 'loser' rejected",
    ),
    "pairs of Orca, rated": (
        PAIR,
        lambda i: {"system": "s", "input": f"q{i}", "rating": [9.0, 7.0], "status": "ok"} | AB,
        "field input: is there without a prompt; call it prompt",
    ),
    "generations with ratings": (
        PAIR,
        lambda i: {"instruction": "q", "generations": ["good", "bad"], "ratings": [5, 2]},
        "of those in 'generations' write a better one as chosen",
    ),
    "an output of two": (
        PAIR,
        lambda i: {"instruction": "q", "input": "", "output": ["good", "bad"]},
        "of those in 'output' write a better one as chosen",
    ),
    "SHP-2": (
        PAIR,
        lambda i: {"history": "q", "human_ref_A": "a", "human_ref_B": "b", "labels": 1},
        "(SHP); there is a recipe that makes pairs of it",
    ),
    "judgments of MT-bench": (
        PAIR,
        lambda i: {"winner": "model_a", "conversation_a": [user("q")], "conversation_b": []},
        "(an arena); there is a recipe",
    ),
    "red teaming": (
        PAIR,
        lambda i: {"transcript": "\n\nHuman: q", "rating": 4.0, "num_params": "52B"},
        "choose a better and a worse answer to each prompt",
    ),
    "JudgeBench": (
        PAIR,
        lambda i: {"question": "q", "response_A": "a", "response_B": "b", "label": "A>B"},
        "of 'response_A', 'response_B' write the better one as chosen",
    ),
    "LLMBar": (
        PAIR,
        lambda i: {"input": "q", "output_1": "a", "output_2": "b", "label": 1},
        "of 'output_1', 'output_2' write the better one as chosen",
    ),
    "PandaLM": (
        PAIR,
        lambda i: {"instruction": "q", "input": "", "response1": "a", "response2": "b"},
        "of 'response1', 'response2' write the better one as chosen",
    ),
    "Preference Collection": (
        PAIR,
        lambda i: (
            {"orig_response_A": "a", "orig_response_B": "b", "orig_preference": "A"}
            | {"instruction": "q", "output": "f [RESULT] A"}
        ),
        "of 'orig_response_A', 'orig_response_B' write the better one as chosen",
    ),
    "a ranking of two": (
        PAIR,
        lambda i: {"prompt": "q", "response-1": "a", "response-2": "b", "preference": "response-1"},
        "of 'response-1', 'response-2' write the better one as chosen",
    ),
    "Feedback Collection": (
        PAIR,
        lambda i: {"orig_response": "r", "orig_score": "3", "instruction": "q", "output": "f"},
        "there is one answer, which 'orig_score' rates; choose a better and a worse",
    ),
    "Feedback Collection, as demonstrations": (
        ONE,
        lambda i: {"orig_response": "r", "orig_score": "3", "instruction": "q", "output": "f"},
        "field orig_score: rates the answers",
    ),
    "BeaverTails": (
        PAIR,
        lambda i: {"prompt": "q", "response": "r", "is_safe": True},
        "there is one answer, which 'is_safe' rates; choose a better and a worse",
    ),
    "a trajectory": (
        PAIR,
        lambda i: {"trajectory": [{"from": "user", "value": "q"}], "parent_id": "0"} | AB,
        "call 'trajectory' prompt",
    ),
    "steps with labels": (
        PAIR,
        lambda i: {"prompt": "q", "completions": ["s1", "s2"], "labels": [True, False]},
        "the steps of one answer, rated (stepwise supervision)",
    ),
    "RM-Bench": (
        PAIR,
        lambda i: {"prompt": "q", "chosen": ["g1", "g2"], "rejected": ["b1", "b2"]},
        "got a string in a list; of several texts make one row for each",
    ),
    "columns": (
        PAIR,
        lambda i: {"prompt": ["q", "r"], "chosen": ["a", "b"], "rejected": ["c", "d"]},
        "got a string in a list; of several texts make one row for each",
    ),
    "answers with a score inside": (
        PAIR,
        lambda i: {"prompt": "q", "chosen": {"text": "a", "score": 1}, "rejected": {"text": "b"}},
        "holds an object without a role (found 'text', 'score'); write its text",
    ),
    "tokens": (
        PAIR,
        lambda i: {"input_ids_chosen": [1, 2], "input_ids_rejected": [1, 3]},
        "there are tokens and no texts; write the texts",
    ),
    "an object in quotes": (
        PAIR,
        lambda i: {"image": "x", "text": json.dumps({"question": "q"} | AB)},
        "'text' is an object in quotes; write the object itself",
    ),
    "rows in a field": (
        PAIR,
        lambda i: {"rows": [{"row_idx": 0, "row": {"prompt": "q"} | AB}]},
        "'rows' holds objects; if they are the rows, write these",
    ),
    "'### Human' in texts": (
        PAIR,
        lambda i: {
            "chosen": "### Human: q### Assistant: a",
            "rejected": "### Human: q### Assistant: b",
        },
        "write what both answers are answers to into a field prompt",
    ),
    "Alpaca": (
        PAIR,
        lambda i: {"instruction": "q", "input": "", "output": "good"},
        "a demonstration, with its answer in 'output', and preferences are missing",
    ),
    "Dolly": (
        PAIR,
        lambda i: {"instruction": "q", "context": "c", "response": "good", "category": "x"},
        "a demonstration, with its answer in 'response', and preferences are missing",
    ),
    "ShareGPT": (
        PAIR,
        lambda i: {"id": "1", "conversations": [human("q"), gpt("good")]},
        "a demonstration, with its answer in 'conversations', and preferences are missing",
    ),
    "GSM8K": (
        PAIR,
        lambda i: {"question": "q", "answer": "good"},
        "a demonstration, with its answer in 'answer', and preferences are missing",
    ),
    "LMSYS chats": (
        ONE,
        lambda i: {"conversation": [user("q"), assistant("good")], "turn": 1},
        "call 'conversation' messages",
    ),
    "Firefly": (
        ONE,
        lambda i: {"kind": "k", "input": "q", "target": "good"},
        "call 'target' completion",
    ),
    "Flan": (ONE, lambda i: {"inputs": "q", "targets": "good"}, "call 'targets' completion"),
    "generations of a model": (
        ONE,
        lambda i: {"instruction": "q", "generation": "good"},
        "call 'generation' completion",
    ),
    "MetaMath": (ONE, lambda i: {"query": "q", "response": "good"}, "call 'query' prompt"),
    "Self-Instruct": (
        ONE,
        lambda i: {"instruction": "q", "instances": [{"input": "", "output": "good"}]},
        "write what 'instances' holds as prompt and completion",
    ),
    "LIMA": (ONE, lambda i: {"conversations": ["q", "good"]}, "got a string in a list"),
    "Guanaco": (
        ONE,
        lambda i: {"text": "### Human: q### Assistant: good"},
        "where the answer begins in 'text' would be a guess",
    ),
    "rated demonstrations": (
        ONE,
        lambda i: {"prompt": "q", "completion": "good", "score": 0.5},
        "field score: rates the answers",
    ),
}


def write(path, kind, rows):
    """A folder with these rows, in JSON lines."""
    text = "".join(json.dumps(row) + "\n" for row in rows)
    (path / f"{kind}.jsonl").write_text(text, encoding="utf-8")
    if kind != PAIR:
        (path / "preferences.jsonl").write_text(GOOD + "\n", encoding="utf-8")
    return path


@pytest.mark.parametrize("name", READ)
def test_it_is_read_rightly_and_said(name, tmp_path):
    kind, row, prompt, said = READ[name]
    found = read_folder(write(tmp_path, kind, map(row, ROWS)))
    prompts = [prompt.replace("q0", f"q{i}") for i in ROWS]
    if kind == PAIR:
        assert found.preferences == [(text, "good", "bad") for text in prompts]
    else:
        assert set(found.demonstrations) <= {(text, "good") for text in prompts}
        assert len(found.demonstrations) == (2 if name == "unpaired" else 3)
    assert any(said in note for note in found.notes)


@pytest.mark.parametrize("name", REFUSED)
def test_it_is_refused_with_a_line_that_says_what_to_do(name, tmp_path):
    kind, row, said = REFUSED[name]
    with pytest.raises(InputError) as caught:
        read_folder(write(tmp_path, kind, map(row, ROWS)))
    line = str(caught.value)
    assert said in line and line.count(said) == 1 and line.endswith("; docs/your-data.md")
    assert "\n" not in line and len(line) < 800


@pytest.mark.parametrize("column", ["", "Unnamed: 0"])
def test_the_column_of_an_index_is_not_read_and_named(column, tmp_path):
    with (tmp_path / "preferences.csv").open("w", newline="", encoding="utf-8") as file:
        table = csv.writer(file)
        table.writerow([column, "prompt", "chosen", "rejected"])
        table.writerows([i, f"q{i}", "good", "bad"] for i in ROWS)
    found = read_folder(tmp_path)
    assert found.preferences == [(f"q{i}", "good", "bad") for i in ROWS]
    assert f"fields not read, with their rows: {column!r} (3)" in found.notes[1]


def test_structures_of_a_table_are_read_as_objects(tmp_path):
    pyarrow = pytest.importorskip("pyarrow")
    import pyarrow.parquet

    good = [{"role": "assistant", "content": "good"}] * 2
    bad = [{"role": "assistant", "content": "bad"}] * 2
    table = pyarrow.table({"prompt": ["q0", "q1"], "chosen": good, "rejected": bad})
    pyarrow.parquet.write_table(table, tmp_path / "preferences.parquet")
    found = read_folder(tmp_path)
    assert found.preferences == [("q0", "good", "bad"), ("q1", "good", "bad")]
    rated = pyarrow.table({"prompt": ["q"], "chosen": [{"text": "a", "score": 1.0}]})
    rated = rated.append_column("rejected", rated["chosen"])
    pyarrow.parquet.write_table(rated, tmp_path / "preferences.parquet")
    with pytest.raises(InputError, match="holds an object without a role .*write its text"):
        read_folder(tmp_path)


def test_every_kind_has_its_name():
    assert all(is_of(f"{kind}.jsonl", kind) for kind, *_ in (*READ.values(), *REFUSED.values()))
