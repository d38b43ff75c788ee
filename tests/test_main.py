"""python -m minippo: the list of commands, and the way to each of them."""

import runpy
import sys
from pathlib import Path

import pytest

import minippo
from minippo.__main__ import COMMANDS, SHORT, main

ROOT = Path(minippo.__file__).parent


def test_without_arguments_it_lists_the_commands_a_line_each(capsys):
    for arguments in ([], ["--help"], ["-h"]):
        assert main(arguments) == 0
        out = capsys.readouterr().out
        for name, (_, what) in COMMANDS.items():
            assert len([line for line in out.splitlines() if line.split()[:1] == [name]]) == 1
            assert what in out


def test_version(capsys):
    assert main(["--version"]) == 0
    assert capsys.readouterr().out == f"minippo {minippo.__version__}\n"


def test_a_command_that_there_is_not_is_named(capsys):
    assert main(["trian"]) == 2
    assert capsys.readouterr().err.startswith("error: trian: there is no such command; wanted one")


@pytest.mark.parametrize("name", [*COMMANDS, *SHORT])
def test_every_command_has_a_help_of_its_own_and_leaves_at_once(name, capsys, monkeypatch):
    monkeypatch.setattr(sys, "argv", ["minippo"])
    assert main([name, "--help"]) == 0
    assert capsys.readouterr().out.lower().startswith("usage:")


@pytest.mark.parametrize("name", COMMANDS)
def test_every_name_is_also_a_module_that_python_can_run(name):
    path = ROOT.joinpath(*name.split("."))
    assert path.with_suffix(".py").exists() or (path / "__main__.py").exists()


def test_the_door_of_old_still_opens(capsys, monkeypatch):
    monkeypatch.setattr(sys, "argv", ["diagnostics", "nowhere"])
    with pytest.raises(SystemExit) as leaving:
        runpy.run_path(str(ROOT / "runs/diagnostics.py"), run_name="__main__")
    out, errors = capsys.readouterr()
    assert leaving.value.code == 2 and errors.startswith("error: ") and not out
