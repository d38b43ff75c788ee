"""The command: dashboards, guesses, a planted copy, a fix, a training."""

import pytest

from minippo.classroom.museum.bugs import BUGS
from minippo.classroom.museum.exhibits import letters
from minippo.classroom.museum.tour import main, train_one
from minippo.errors import TrainingError
from tests.tiny_runs import TINY


@pytest.mark.slow
def test_the_dashboards_and_a_page_that_names_none(tmp_path, capsys):
    assert main(["--out", str(tmp_path / "museum")]) == 0
    found = sorted(path.name for path in (tmp_path / "museum").iterdir())
    assert found == [*(f"{letter}.png" for letter in letters()), "museum.md"]
    page = (tmp_path / "museum" / "museum.md").read_text()
    assert all(f"- {bug.name}\n" in page for bug in BUGS)
    assert not any(bug.what in page or bug.curves in page for bug in BUGS)
    assert "P001" in page and "12 trainings" in capsys.readouterr().out


def test_a_guess_a_copy_and_a_fix(tmp_path, capsys):
    bug = letters(3)["C"]
    assert main(["--seed", "3", "--guess", "C", bug.name]) == 0
    assert capsys.readouterr().out.startswith("right. ")
    assert main(["--plant", bug.name, str(tmp_path)]) == 0
    assert (tmp_path / "minippo" / "gpt.py").exists()
    capsys.readouterr()
    assert main(["--fix", bug.name]) == 0
    assert capsys.readouterr().out.startswith("--- a/minippo/")
    assert main(["--names"]) == 0
    assert capsys.readouterr().out.splitlines() == sorted(one.name for one in BUGS)


@pytest.mark.parametrize(
    "arguments, words",
    [
        ([], "--out: name the folder for the dashboards"),
        (["--guess", "Z", BUGS[0].name], "'Z': wanted one of A"),
        (["--fix", "moth"], "no bug is called 'moth'"),
    ],
)
def test_what_is_wrong_is_one_line(arguments, words, capsys):
    assert main(arguments) == 2
    error = capsys.readouterr().err
    assert error.startswith(f"error: {words}") and error.count("\n") == 1


@pytest.mark.slow
def test_one_is_trained_and_a_training_that_fails_is_told(tmp_path):
    run = train_one("critic", BUGS[4], tmp_path, TINY)
    assert (run / "summary.json").exists()
    with pytest.raises(TrainingError, match="ended with 2: error: --no_such"):
        train_one("broken", None, tmp_path, ["--no_such_flag"])
