"""python -m minippo.exact.family: what is printed and written, and what is refused."""

import json
import os
import runpy
import sys

import pytest
from matplotlib.image import imread

from minippo.exact import family

END = {
    "kind": "interior",
    "steps": 30,
    "response": None,
    "is the best": False,
    "total variation": 1e-9,
    "share": 1.0,
    "same from other starts": True,
}
BEST = END | {"kind": "one response", "response": [1, 0], "is the best": True, "share": 0.41}
STEP = {"bias": 0.25, "cosine": 0.97, "variance": 1.5, "factor": 0.1}
TABLE = {
    "seed": 3,
    "kl_coef": 0.5,
    "steps": [
        {
            "name": "first",
            "kl": "k3",
            "published": STEP,
            "k1": STEP | {"bias": 0.0},
            "stale": {"free": 0.125, "clipped": 0.5},
            "length weights": [1.0, 0.5, 0.33],
            "length slopes": {"right": -0.05, "wrong": 0.7},
            "critic": True,
        }
    ],
    "ends": [
        {"name": "first", "published": BEST, "k1": END | {"same from other starts": False}},
        {"name": "second", "published": END | {"kind": "none", "total variation": None}, "k1": END},
    ],
    "pairs and choice": [{"name": "third", **END}],
    "difficulty": [{"name": "fourth"} | {str(size): 1.0 for size in family.SIZES}],
    "place of the KL": [{"name": "fifth", "shares": [1.0, None, 0.3]}],
    "samplers": [{"name": "sixth", "kl": 0.02} | dict.fromkeys(family.WEIGHTS, 0.5)],
    "best of n": [{"n": 4, "kl": 0.6, "bound": 0.64, "score": 1.2, "frontier": 1.3}],
    "rare tokens": [{"probability": 0.3, "0.2": 0.36, "0.28": None}],
    "rare responses": [
        {"cliprange_high": "none", "found": 0.75, "kept": 0.5, "standard error": 0.07}
    ],
    "long responses": [{"length": 5, "share": 0.25}, {"length": 6, "share": 0.15}],
    "critics": [
        {"fits": 3}
        | {
            lam: {"share": 0.3, "targets": 0.8, "returns": shown}
            for lam, shown in (("0.95", 0.5), ("1", 0.9))
        }
    ],
}


@pytest.fixture
def run(monkeypatch, capsys, tmp_path):
    """The command in an empty folder, with a small table in place of the right one."""
    asked = []
    monkeypatch.setattr(family, "family_table", lambda seed: (asked.append(seed), TABLE)[1])
    monkeypatch.setattr("torch.set_num_threads", lambda number: None)
    monkeypatch.chdir(tmp_path)

    def call(*arguments):
        asked.clear()
        status = family.main(list(arguments))
        return status, *capsys.readouterr()

    call.asked = asked
    return call


def test_every_number_stands_in_its_column(run, tmp_path):
    status, out, err = run("--seed", "3")
    assert (status, err, run.asked) == (0, "", [3]) and os.listdir(tmp_path) == []
    lines = {line.split()[0]: line.split() for line in reversed(out.splitlines()) if line}
    steps = next(line for line in out.splitlines() if "k3, loss" in line)
    assert steps.split()[3:] == ["0.25", "0.97", "1.50", "0", "1.50", "0.12", "0.50"]
    (ends,) = [line for line in out.splitlines() if "the best one" in line]
    assert ends.split() == [
        "first",
        "the",
        "best",
        "one",
        "0",
        "0.41",
        "interior",
        "0",
        "1.00",
        "no",
    ]
    assert lines["second"][1:4] == ["none", "-", "1.00"] and lines["second"][-1] == "yes"
    favours = next(line for line in out.splitlines() if line.endswith("critic"))
    assert favours.split() == ["first", "0.50", "0.33", "-0.05", "0.70", "critic"]
    assert lines["third"] == ["third", "interior", "0", "1.00"]
    assert lines["fourth"][1:] == ["1.00"] * 6 and lines["fifth"][1:] == ["1.00", "-", "0.30"]
    assert lines["sixth"][1:] == ["0.02"] + 4 * ["0.50"]
    assert lines["4"] == ["4", "0.60", "0.64", "1.20", "1.30"]
    assert lines["0.3"][1:] == ["0.3600", "-"] and lines["none"][1:] == ["0.75", "0.50", "0.07"]
    assert lines["tokens"] == ["tokens", "5", "6"] and lines["share"] == ["share", "0.25", "0.15"]
    assert lines["3"] == ["3", "0.30", "0.80", "0.50", "0.30", "0.80", "0.90"]
    assert max(map(len, out.splitlines())) <= 120


def test_the_figure_and_the_numbers_are_written(run, tmp_path):
    status, out, _ = run("--out", "new/family.png")
    assert status == 0 and run.asked == [family.SEED]
    assert out.endswith("figure: new/family.png, numbers: new/family.json\n")
    assert imread(tmp_path / "new/family.png").shape[:2] == (662, 1440)
    assert json.loads((tmp_path / "new/family.json").read_text()) == TABLE


@pytest.mark.parametrize(
    "arguments, reason",
    [
        (("--seed", "-1"), "--seed: wanted a whole number from 0"),
        (("--out", "."), "--out .: wanted the name of a file"),
        (("--seed", "one"), "invalid int value"),
    ],
)
def test_what_is_refused_in_one_line(run, arguments, reason):
    status, out, err = run(*arguments)
    assert (status, out, run.asked) == (2, "", []) and reason in err
    assert err.startswith("error: ") and err.count("\n") == 1


def test_a_disk_that_is_full(run, tmp_path, monkeypatch):
    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    status, _, err = run("--out", "a.png")
    assert status == 2 and err == "error: --out a.png: No space left on device\n"


def test_numbers_in_columns():
    assert family.number(None) == "        -" and family.number(3e-8) == "        0"
    assert family.number(0.00123).strip() == "0.001" and family.number(-0.0987).strip() == "-0.1"
    assert family.number(12.345).strip() == "12.35"
    assert family.number(3e-8, rounding=1e-12).strip() == "3e-08"


def test_the_status_is_that_of_the_process(monkeypatch):
    monkeypatch.setattr(sys, "argv", ["python -m minippo.exact.family", "--seed", "-2"])
    monkeypatch.delitem(sys.modules, "minippo.exact.family")
    with pytest.raises(SystemExit) as end:
        runpy.run_module("minippo.exact.family", run_name="__main__")
    assert end.value.code == 2


@pytest.mark.slow
def test_the_whole_table():
    table = family.family_table(family.SEED)
    assert [row["name"] for row in table["ends"]] == [row["name"] for row in table["steps"]]
    unbiased = {row["name"] for row in table["steps"] if row["k1"]["bias"] < 1e-6}
    assert unbiased == {"pg", "rtg", "baseline", "gae", "rloo", "dr_grpo"}
    jumps = ("ppo", "grpo", "dapo", "gspo", "cispo")
    for row in table["ends"]:
        end = row["k1"]
        assert end["kind"] == ("jump" if row["name"] in jumps else "interior")
        assert end["total variation"] < (0.01 if end["kind"] == "jump" else 1e-6)
        assert end["share"] > 0.99 and end["same from other starts"], row["name"]
    by_name = {row["name"]: row["published"] for row in table["ends"]}
    assert by_name["grpo"]["kind"] == "interior" and by_name["grpo"]["total variation"] > 0.1
    for name in ("dr_grpo", "dapo", "gspo", "cispo"):
        assert by_name[name]["is the best"], name
