"""A copy of the package with a bug, and the way back."""

import ast
import subprocess

import pytest

from minippo.classroom.museum.bugs import BUGS
from minippo.classroom.museum.planting import (
    PACKAGE,
    bug_called,
    files_of,
    fix,
    plant,
    wrong_source,
)
from minippo.errors import InputError

every_bug = pytest.mark.parametrize("bug", BUGS, ids=lambda bug: bug.name)


@every_bug
def test_the_fix_leads_back_to_the_package(bug, tmp_path):
    plant(bug, tmp_path)
    for file in files_of(bug):
        assert (tmp_path / "minippo" / file).read_text() != (PACKAGE / file).read_text()
        ast.parse((tmp_path / "minippo" / file).read_text())
    (tmp_path / "fix.diff").write_text(fix(bug))
    subprocess.run(["patch", "-p1", "-s", "-i", "fix.diff"], cwd=tmp_path, check=True)
    for file in files_of(bug):
        assert (tmp_path / "minippo" / file).read_text() == (PACKAGE / file).read_text()


def test_a_copy_holds_all_but_the_classroom(tmp_path):
    folder = plant(BUGS[0], tmp_path) / "minippo"
    assert (folder / "train_toy.py").exists() and not (folder / "classroom").exists()
    assert not [*folder.rglob("__pycache__")]


def test_the_package_itself_stays_as_it_is(tmp_path):
    before = (PACKAGE / files_of(BUGS[0])[0]).read_bytes()
    plant(BUGS[0], tmp_path)
    assert (PACKAGE / files_of(BUGS[0])[0]).read_bytes() == before


def test_what_is_there_is_not_overwritten_and_names_are_checked(tmp_path):
    plant(BUGS[0], tmp_path)
    with pytest.raises(InputError, match="is there already; name another folder"):
        plant(BUGS[1], tmp_path)
    with pytest.raises(InputError) as caught:
        bug_called(BUGS[0].name + "s" + 100 * "!")
    assert len(str(caught.value)) < 160 and "museum --names" in str(caught.value)
    with pytest.raises(InputError, match=f"did you mean '{BUGS[0].name}'"):
        bug_called(BUGS[0].name[:-1])


def test_a_bug_whose_lines_have_changed_is_told():
    edit = BUGS[0].edits[0]._replace(right="this line is not there")
    with pytest.raises(ValueError, match="does not hold the right lines exactly once"):
        wrong_source(BUGS[0]._replace(edits=(edit,)), edit.file)
