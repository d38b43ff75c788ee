"""docs/metrics.md names every number that a run writes."""

import json
import re
from pathlib import Path

import minippo
from minippo.algorithms import REGISTRY
from tests.tiny_runs import run

PAGE = (Path(minippo.__file__).parent.parent / "docs" / "metrics.md").read_text(encoding="utf-8")
NAMED = set(re.findall(r"`([^`\s]+)`", PAGE))
BY_NAME = ("seconds", "gold_axes")  # of stages, and of a task's axes


def test_every_key_of_a_run_is_on_the_page(tmp_path):
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


NAME = r"(?:objective|policy|loss|val|sample)/\w+"


def names_in_the_code():
    """Of all algorithms, also of those that the run above is not of."""
    package = Path(minippo.__file__).parent
    files = [package / "stages" / f"{name}.py" for name in ("policy", "groups")]
    files.append(package / "ppo_statistics.py")
    source = "".join(p.read_text() for p in (*files, *(package / "algorithms").glob("*.py")))
    numbers = {name for algorithm in REGISTRY.values() for name in algorithm.numbers}
    return set(re.findall(f'"({NAME})"', source)) | {f"objective/{name}" for name in numbers}


def test_the_names_in_the_code_are_those_on_the_page():
    rows = PAGE.split("## Other")[0]
    assert names_in_the_code() == set(re.findall(rf"^\| `({NAME})` \|", rows, re.MULTILINE))


def test_the_renamed_metrics_have_their_new_names_in_the_code():
    renamed = re.findall(rf"^\| `({NAME})` \| `({NAME})` \|$", PAGE, re.MULTILINE)
    assert len(renamed) == 3
    for old, new in renamed:
        assert old not in names_in_the_code() and new in names_in_the_code()
