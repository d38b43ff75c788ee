"""python -m minippo.diagnostics: the metrics of a finished run, asked again."""

import itertools

from minippo.commands.diagnostics import main as diagnose_runs
from tests.tiny_runs import TINY


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
