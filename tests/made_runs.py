"""Runs that nobody has made, for the tests of the report: their files as plain values, with any
text in all the places where a run has texts."""

import json

from minippo.commands.config import resolve
from minippo.runs.files import write_json, write_jsonl
from minippo.runs.read import read_json
from minippo.runs.report.read import read_files

HOSTILE = "</script><img src=x onerror=\"document.title='taken'\">&amp;'`<!--\x00\u202e\ud800"
METRICS = ("objective/scores", "objective/gold", "objective/kl", "policy/entropy_avg")
HACKED = {"code": "P011", "name": "gold-falls", "update": 6, "seen": "hacked: gold fell"}


def row(update):
    """A row of metrics whose numbers are all different."""
    return {"update": update} | {name: update + i / 8 for i, name in enumerate(METRICS)}


def token(text):
    numbers = ("before", "after", "value", "reward", "advantage", "kl")
    return {"text": text} | {name: (-1) ** i * (i + 1) / 4 for i, name in enumerate(numbers)}


def moment(update, text, tokens=()):
    found = {"update": update, "prompt": f"ask {text}", "response": f"say {text} {update}"}
    found |= {"score": update / 4, "gold": 1.0, "kl": update / 8}
    return found | ({"tokens": list(tokens)} if tokens else {})


def sample(text, number=0):
    found = {"prompt": f"ask {text} {number}", "before": f"was {text}", "after": f"is {text}"}
    marks = {"score_before": 0.5, "score_after": 1.5, "gold_before": 1.0, "gold_after": 2.0}
    return found | marks


def summary(text="a"):
    return {
        "task": text,
        "sft": {"gold": 1.0, "score": 0.5, "eos_rate": 1.0, "length": 4.0, "objective": 0.5},
        "policy": {"gold": 2.0, "score": 1.5, "kl": 1.25, "objective": 1.4375}
        | {"eos_rate": 1.0, "length": 5.0},
        "gold_max": 3.0,
        "parameters": 1000,
        "peak_memory_mib": 500.0,
        "seconds": {"pretrain": 3.0, text: 1.0, "total": 4.0},
        "reward_model": {"heldout_accuracy": 0.75},
        "optimum": {"objective": 1.5, "low": 1.4, "high": 1.6, "effective_sample_size": 90.0},
        "optimality": 0.9375,
        "win_rate": {"value": 0.75, "low": 0.5, "high": 0.875, "n": 8, "judge": "gold"},
        "diagnostics": [HACKED | {"seen": text}],
        "frontier": [[0.5, 1.0], [1.25, 1.6], [2.0, 1.7]],
        "best_of_n": [[1, 0.0, 0.5], [2, 0.2, 0.9]],
        "path": [[0, 0.0, 0.5], [3, 0.75, 1.0], [6, 1.25, 1.5]],
    }


def write_run(path, text="a", updates=6, finished=True, **settings):
    """The files of a run folder, as far as a report reads them."""
    path.mkdir(parents=True)
    config = resolve({"num_updates": 6, **settings}).to_dict()
    config["run"]["task"] = text.replace("/", "")
    config["versions"] = {"data": text}
    write_json(path / "config.json", config)
    write_jsonl(path / "metrics.jsonl", [row(update) for update in range(1, updates + 1)])
    moments = [moment(update, text) for update in range(0, updates, 2)]
    moments.append(moment(updates, text, [token(text), token("two")]))
    write_jsonl(path / "samples_over_time.jsonl", moments)
    if finished:
        write_jsonl(path / "samples.jsonl", [sample(text, i) for i in range(5)])
        write_json(path / "summary.json", summary(text))
    return path


def made_files(path, text="a", **more):
    """The Files of such a run."""
    return read_files(write_run(path, text, **more))


def change(path, name, /, **fields):
    """Change fields of a JSON file of a run."""
    write_json(path / name, read_json(path / name) | fields)


def data_in(page):
    """What the page's own script reads."""
    start = page.index('id="data">') + len('id="data">')
    return json.loads(page[start : page.index("</script>", start)])
