"""docs/metrics.md names every number that a run writes."""

import json
import re
from pathlib import Path

import minippo
from tests.commands.test_train import run

PAGE = (Path(minippo.__file__).parent.parent / "docs" / "metrics.md").read_text(encoding="utf-8")
NAMED = set(re.findall(r"`([^`\s]+)`", PAGE))
BY_NAME = ("seconds", "gold_axes")  # of stages, and of a task's axes


def test_every_key_of_a_run_stands_on_the_page(tmp_path):
    folder = run(tmp_path / "run", "--quiet")
    rows = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    assert {key for row in rows for key in row} - NAMED == set()
    summary = json.loads((folder / "summary.json").read_text())
    keys = {
        inner
        for key, value in summary.items()
        for inner in (value if isinstance(value, dict) and key not in BY_NAME else [key])
    }
    assert keys - {name.split(".")[-1] for name in NAMED} == set()


def test_the_names_in_the_code_are_those_on_the_page():
    """Of all algorithms, also of those that the run above is not of."""
    source = "".join(
        (Path(minippo.__file__).parent / name).read_text()
        for name in ("train_policy.py", "updates.py", "ppo.py", "train_toy.py")
    )
    name = r"(?:objective|policy|loss|val|sample)/\w+"
    assert set(re.findall(f'"({name})"', source)) == set(
        re.findall(rf"^\| `({name})` \|", PAGE.split("## Other")[0], re.MULTILINE)
    )
