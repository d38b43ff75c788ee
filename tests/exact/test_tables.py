"""python -m minippo.exact: the tables, the figure's file, and what is refused."""

import os
import runpy
import subprocess
import sys

import pytest
from matplotlib.image import imread

from minippo.exact import tables as command
from tests.exact.test_ladder import KINDS, NAMES, ROOT, advantages, gradients


@pytest.fixture
def run(monkeypatch, capsys, tmp_path):
    """The command in an empty folder, with the tables of above in place of computing them again;
    (status, out, err)."""
    asked = []

    def table_of(tables):
        return lambda seed: (asked.append(seed), tables())[1]

    monkeypatch.setattr(command, "gradient_table", table_of(lambda: gradients(1)))
    monkeypatch.setattr(command, "advantage_table", table_of(advantages))
    # it would last for all tests to come
    monkeypatch.setattr("torch.set_num_threads", lambda number: None)
    monkeypatch.chdir(tmp_path)

    def call(*arguments):
        asked.clear()
        status = command.main(list(arguments))
        return status, *capsys.readouterr()

    call.asked = asked
    return call


def numbers(line):
    return [float(word) for word in line.split()]


def check_tables(out, seed=1):
    """Every number of both tables stands in the output, where it belongs."""
    lines = out.splitlines()
    for name, *rows in zip(NAMES, *(gradients(seed)[0][kind] for kind in KINDS), strict=True):
        (line,) = [line for line in lines if line[8:46].strip() == name]
        assert int(line[:8]) == rows[0]["stage"]
        shown = numbers(line[46:])
        assert shown[1::2] == [round(row["variance"], 3) for row in rows]
        for bias, row in zip(shown[::2], rows, strict=True):
            assert bias < 1e-10 if row["bias"] < 1e-10 else bias == float(f"{row['bias']:.1e}")
    heading = next(line for line in lines if "bias" in line and line.startswith("stage"))
    assert heading.split() == ["stage", "estimate"] + ["bias", "variance"] * 3
    assert lines[lines.index(heading) - 1].split() == KINDS
    largest = numbers(next(line for line in lines if "largest entry" in line)[46:])
    assert (
        largest[:2] == [float(f"{gradients(seed)[1][kind]:.1e}") for kind in KINDS[:2]]
        and largest[2] < 1e-10
    )
    for kind in KINDS:
        start = next(i for i, line in enumerate(lines) if line.startswith(f"{kind} reward"))
        assert lines[start + 1].split() == [
            "lam",
            "bias",
            "variance",
            "grad",
            "var",
            "bias",
            "tilt",
            "variance",
            "grad",
            "bias",
            "grad",
            "var",
        ]
        for line, exact, wrong in zip(
            lines[start + 2 :], *advantages()[kind].values(), strict=False
        ):
            lam, bias, *rest = numbers(line)
            assert lam == exact["lam"] and bias < 1e-10
            grad_bias = rest.pop(5)
            assert rest == [
                round(exact["variance"], 3),
                round(exact["gradient variance"], 3),
                round(wrong["bias"], 3),
                round(wrong["tilt"], 3),
                round(wrong["variance"], 3),
                round(wrong["gradient variance"], 3),
            ]
            assert (
                grad_bias < 1e-10
                if lam == 1
                else grad_bias == float(f"{wrong['gradient bias']:.1e}")
            )


def check_png(path):
    data = path.read_bytes()
    assert data.startswith(b"\x89PNG\r\n\x1a\n") and data.endswith(b"IEND\xaeB`\x82")
    assert imread(path).shape[:2] == (662, 1440)


@pytest.mark.slow
def test_the_command_from_outside(tmp_path):
    path, before = tmp_path / "new folder/ladder.png", os.times()
    done = subprocess.run(
        [sys.executable, "-m", "minippo.exact", "--out", str(path)],
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    assert os.times().children_user - before.children_user < 30  # seconds of one core
    assert done.returncode == 0 and done.stderr == ""
    check_tables(done.stdout, seed=0)
    assert (
        done.stdout.endswith(f"\nfigure: {path}\n")
        and max(map(len, done.stdout.splitlines()[:-1])) <= 120
    )
    check_png(path)
    assert list(path.parent.iterdir()) == [path]


def test_the_defaults(run, tmp_path):
    status, out, err = run()
    assert (status, err, run.asked) == (0, "", [0, 0])
    check_tables(out)
    check_png(tmp_path / "runs/exact/ladder.png")
    assert out.endswith("figure: runs/exact/ladder.png\n")


def test_the_seed_goes_to_both_tables_and_an_old_figure_is_replaced(run, tmp_path):
    (tmp_path / "a.png").write_text("old")
    status, _, _ = run("--seed", "7", "--out", "a.png")
    assert status == 0 and run.asked == [7, 7]
    check_png(tmp_path / "a.png")
    assert os.listdir(tmp_path) == ["a.png"]


@pytest.mark.parametrize(
    "out, reason",
    [
        ("file/ladder.png", "no folder can be made there (File exists)"),
        ("folder", "wanted the name of a file"),
        ("file/below/ladder.png", "no folder can be made there (Not a directory)"),
        (".", "wanted the name of a file"),
        ("", "wanted the name of a file"),
    ],
)
def test_an_out_that_cannot_be_written_is_refused_in_one_line(run, tmp_path, out, reason):
    (tmp_path / "file").write_text("old")
    (tmp_path / "folder").mkdir()
    status, printed, err = run("--out", out)
    assert status == 2 and printed == ""  # before the work, not after it
    assert (
        err.startswith(f"error: --out {out}: {reason}")
        and err.count("\n") == 1
        and err.endswith("\n")
    )
    assert (
        sorted(os.listdir(tmp_path)) == ["file", "folder"] and os.listdir(tmp_path / "folder") == []
    )
    assert (tmp_path / "file").read_text() == "old"


@pytest.mark.parametrize("seed", ["-1", str(2**31)])
def test_a_seed_out_of_range_is_refused_in_one_line(run, tmp_path, seed):
    status, printed, err = run("--seed", seed, "--out", "a.png")
    assert (status, printed) == (
        2,
        "",
    ) and err == f"error: --seed: wanted a whole number from 0 to {2**31 - 1}, got {seed}\n"
    assert os.listdir(tmp_path) == []


def test_a_figure_that_cannot_be_finished_leaves_the_old_one(run, tmp_path, monkeypatch):
    (tmp_path / "a.png").write_text("old")

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    status, _, err = run("--out", "a.png")
    assert status == 2 and err == "error: --out a.png: No space left on device\n"
    assert os.listdir(tmp_path) == ["a.png"] and (tmp_path / "a.png").read_text() == "old"


def test_the_status_is_that_of_the_process(run, monkeypatch):
    for out, status in (("..", 2), ("a.png", 0)):
        monkeypatch.setattr(sys, "argv", ["python -m minippo.exact", "--out", out])
        with pytest.raises(SystemExit) as end:
            runpy.run_module("minippo.exact", run_name="__main__")
        assert end.value.code == status


@pytest.mark.parametrize("arguments", [["--seed", "one"], ["--see", "1"], ["--out"], ["more"]])
def test_arguments_that_are_not_understood(run, arguments):
    status, printed, err = run(*arguments)
    assert (status, printed, run.asked) == (2, "", [])
    assert err.startswith("error: ") and err.count("\n") == 1
