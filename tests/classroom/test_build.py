"""The command build: a folder that is written whole or not at all, and the same each time."""

import json
import zipfile

import pytest

from minippo.classroom import build
from minippo.classroom.build import LIST, main, write_whole
from minippo.errors import InputError

SOME = ["--exercises", "gae", "response_mask"]


def files_in(folder):
    found = [path for path in folder.rglob("*") if path.is_file()]
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in found}


def test_both_versions_and_the_same_bytes_again(tmp_path, capsys):
    for name in ("one", "other"):
        assert main(["--out", str(tmp_path / name), *SOME]) == 0
    assert "2 notebooks, format notebooks" in capsys.readouterr().out
    found = files_in(tmp_path / "one")
    assert found == files_in(tmp_path / "other")
    assert {"student/checks.json", "student/checks/judge/engine.py", LIST} <= {*found}
    for version in ("student", "lecturer"):
        names = [name for name in found if name.startswith(version) and name.endswith(".ipynb")]
        assert sorted(names) == [
            f"{version}/02_sampling_is_the_policy.ipynb",
            f"{version}/07_gae.ipynb",
        ]
        assert f"{version}/plots.py" in found
    assert b"gae_advantages(" in found["lecturer/07_gae.ipynb"]
    assert [*json.loads(found["student/checks.json"])["exercises"]] == ["response_mask", "gae"]


def test_a_folder_of_its_own_is_written_again_and_any_other_is_left_alone(tmp_path, capsys):
    out = tmp_path / "out"
    out.mkdir()  # an empty one will do
    write_whole(out, {"student/a.txt": b"1"})
    (out / "student" / "__pycache__").mkdir()
    (out / "student" / "__pycache__" / "a.pyc").touch()
    write_whole(out, {"student/b.txt": b"2"})
    assert {*files_in(out)} == {"student/b.txt", LIST}
    (out / "notes.txt").write_text("mine")
    with pytest.raises(InputError, match=r"holds notes.txt, which is not of this command"):
        write_whole(out, {"student/b.txt": b"3"})
    (out / "notes.txt").unlink()
    (out / "student" / "b.txt").write_text("mine")
    assert main(["--out", str(out)]) == 2
    assert "student/b.txt was changed since" in capsys.readouterr().err
    assert (out / "student" / "b.txt").read_text() == "mine"


@pytest.mark.parametrize("content", ["{", '{"made by": "me", "files": {"files.json": ""}}', "[]"])
def test_a_list_of_somebody_else_is_no_licence(content, tmp_path):
    (tmp_path / LIST).write_text(content)
    with pytest.raises(InputError, match=f"holds {LIST}"):
        write_whole(tmp_path, {})


def test_a_write_that_fails_leaves_all_as_it_was(tmp_path):
    out = tmp_path / "out"
    write_whole(out, {"a.txt": b"1"})
    before = files_in(tmp_path)
    with pytest.raises(InputError, match="cannot be written"):
        write_whole(out, {"a.txt": b"2", "a.txt/b": b"3"})
    assert files_in(tmp_path) == before and [*tmp_path.iterdir()] == [out]
    (tmp_path / "file").touch()
    with pytest.raises(InputError, match="is no folder"):
        write_whole(tmp_path / "file", {})


def test_where_the_notebooks_are_not_beside_the_package(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(build, "FOLDER", tmp_path / "notebooks")
    assert main(["--out", str(tmp_path / "out")]) == 2
    assert "build from a checkout" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    "flags, message",
    [
        (["--out", ""], "is empty"),
        (["--out", "x", "--exercises", "gea"], "there is no gea"),
        (["--out", "x", "--format", "moodle"], "--format"),
        (["--out", "x", "--points", "p"], "--points: is for --format gradescope or nbgrader"),
        (["--out", "x", "--format", "nbgrader", "--seed_file", "p"], "is for --format gradescope;"),
        (["--out", "x", "--format", "gradescope", "--seed_file", "none"], "none: No such file"),
        ([], "--out"),
    ],
)
def test_wrong_flags(flags, message, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert main(flags) == 2
    assert message in capsys.readouterr().err and not [*tmp_path.iterdir()]


def test_the_zip_holds_the_seed_and_the_points(tmp_path):
    seed, points = tmp_path / "seed", tmp_path / "points"
    seed.write_bytes(b"secret")
    points.write_text("gae 2\n")
    flags = ["--format", "gradescope", "--seed_file", str(seed), "--points", str(points)]
    assert main(["--out", str(tmp_path / "out"), *SOME, *flags]) == 0
    made = zipfile.ZipFile(tmp_path / "out" / "gradescope.zip")
    assert made.read("seed") == b"secret"
    assert json.loads(made.read("settings.json"))["points"] == {"response_mask": 1.0, "gae": 2.0}


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # of the tools that execute notebooks
def test_the_exercise_of_both_versions_runs(tmp_path, monkeypatch):
    nbformat = pytest.importorskip("nbformat")
    nbclient = pytest.importorskip("nbclient")
    monkeypatch.setenv("MINIPPO_FAST", "1")
    monkeypatch.setenv("PYTHONPATH", str(build.FOLDER.parent))
    assert main(["--out", str(tmp_path / "out"), *SOME]) == 0
    for version, said in (("student", "not yet: the function is not"), ("lecturer", "passed: ")):
        folder = tmp_path / "out" / version
        notebook = nbformat.read(folder / "02_sampling_is_the_policy.ipynb", as_version=4)
        (stub,) = [k for k, c in enumerate(notebook.cells) if c.source.startswith("def my_")]
        notebook.cells = notebook.cells[stub : stub + 2]  # the others are as in notebooks/
        resources = {"metadata": {"path": str(folder)}}
        nbclient.NotebookClient(notebook, timeout=120, resources=resources).execute()
        assert notebook.cells[-1].outputs[0].text.startswith(said)
