"""python -m minippo.diagnostics: the metrics of a finished run, asked again."""

import itertools

import pytest

from minippo.commands.diagnostics import main as diagnose_runs
from tests.tiny_runs import TINY, run


def test_a_run_that_is_over_can_be_asked_again(tmp_path, capsys):
    from minippo.commands.train import main

    out = str(tmp_path / "run")
    assert main([*TINY, "--out", out]) == 0
    capsys.readouterr()
    assert diagnose_runs([out]) == 0
    assert capsys.readouterr().out.startswith(f"{out}: ")
    assert diagnose_runs([str(tmp_path)]) == 2
    assert capsys.readouterr().err.startswith("error: ") and not list(
        itertools.islice(tmp_path.glob("*.tmp"), 1)
    )


@pytest.mark.parametrize("name, was", [("metrics.jsonl", '"val/'), ("config.json", '"seed": 0')])
def test_a_run_that_was_changed_is_not_asked(name, was, tmp_path, capsys):
    path = run(tmp_path / "run", "--quiet") / name
    digit = path.read_text().index(was) + len(was)
    digit += next(i for i, c in enumerate(path.read_text()[digit - 1 :]) if c.isdigit()) - 1
    text = path.read_text()
    path.write_text(text[:digit] + ("4" if text[digit] != "4" else "3") + text[digit + 1 :])
    assert diagnose_runs([str(tmp_path / "run")]) == 2
    assert f"{name}: " in capsys.readouterr().err
