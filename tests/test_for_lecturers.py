"""The script of docs/for-lecturers.md does what the page says."""

import csv
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

import minippo

ROOT = Path(minippo.__file__).parent.parent
PAGE = (ROOT / "docs" / "for-lecturers.md").read_text(encoding="utf-8")
ANSWER = """def token_logprobs(logits, tokens, prompt_length, response_mask):
    print("hello")
    log_pi = logits.log_softmax(-1)[:, prompt_length - 1 : -1]
    found = log_pi.gather(2, tokens[:, prompt_length:, None])[..., 0]
    return found * response_mask
"""
SUBMISSIONS = {
    "right.py": ANSWER,
    "mask.py": ANSWER.replace(" * response_mask", ""),
    "left.py": "import sys\nsys.exit()\n",
}


@pytest.mark.slow
def test_a_folder_of_answers_is_checked(tmp_path):
    (script,) = (
        block
        for block in re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)
        if "verdicts.csv" in block
    )
    (tmp_path / "check.py").write_text(script, encoding="utf-8")
    (tmp_path / "submissions").mkdir()
    for name, text in SUBMISSIONS.items():
        (tmp_path / "submissions" / name).write_text(text, encoding="utf-8")
    done = subprocess.run(
        [sys.executable, "check.py", "token_logprobs", "submissions"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=200,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
    )
    assert done.returncode == 0, done.stderr
    with open(tmp_path / "verdicts.csv", encoding="utf-8") as file:
        verdicts = {row["file"]: (row["passed"], row["mistake"]) for row in csv.DictReader(file)}
    assert verdicts == {
        "right.py": ("True", ""),
        "mask.py": ("False", "mask"),
        "left.py": ("False", "no verdict"),
    }
    assert done.stdout.count("passed") == 1
