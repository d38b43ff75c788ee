"""python -m minippo.classroom: the list of its commands."""

import importlib

import pytest

from minippo.classroom.table import COMMANDS, main


def test_without_arguments_it_lists_the_commands(capsys):
    for arguments in ([], ["--help"], ["-h"]):
        assert main(arguments) == 0
        out = capsys.readouterr().out
        assert all(name in out and what in out for name, (_, what) in COMMANDS.items())


def test_a_command_that_there_is_not_is_named(capsys):
    assert main(["grad"]) == 2
    assert capsys.readouterr().err.startswith("error: grad: there is no such command; wanted one")


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_has_its_help(name, capsys):
    assert main([name, "--help"]) == 0
    assert capsys.readouterr().out.startswith("usage: python -m minippo.classroom " + name)
    assert hasattr(importlib.import_module(COMMANDS[name][0]), "main")
