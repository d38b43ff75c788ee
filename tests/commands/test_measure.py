"""The table over seeds."""

import json

import pytest

from minippo.commands.config import resolve
from minippo.commands.flags import parse_arguments
from minippo.commands.measure import has_settings, main, table


def summary(seed, seconds=100.0, gold=2.7, answers=None):
    return {
        "seed": seed,
        "seconds": {"total": seconds},
        "seconds_in_matmul_loops": 400.0,
        "peak_memory_mib": 500.0,
        "reward_model": {"heldout_accuracy": 0.8, "annotator_ceiling": None, "skill": None},
        "gold_max": 3.0,
        "sft": {"gold": 0.9},
        "policy": {"gold": gold, "eos_rate": 1.0, "kl": 2.0},
        "win_rate": {"value": 0.9},
        "optimality": 0.97,
        "optimum": {"effective_sample_size": 300.0, "effective_sample_size_min": 3.0},
        "answers": answers,
    }


def cells(line):
    return [cell.strip() for cell in line.strip("|").split("|")]


def test_a_row_per_seed_and_the_worst_of_each_column():
    header, _, one, two, worst = map(
        cells, table([summary(0, seconds=90.0, gold=2.4), summary(1, seconds=120.0)])
    )
    at = header.index
    assert (one[0], two[0], worst[0]) == ("0", "1", "worst")
    assert (
        one[at("gold share after")],
        two[at("gold share after")],
        worst[at("gold share after")],
    ) == ("0.800", "0.900", "0.800")
    assert worst[at("seconds")] == "120"  # the longest time is the worst, the lowest gold is


def test_columns_without_a_number_are_left_out():
    header = cells(table([summary(0)])[0])
    assert "skill" not in header and "P(right) after" not in header
    answers = [{"right_before": 0.4, "right_after": 0.9}, {"right_before": 0.2, "right_after": 1.0}]
    header, _, row, _ = map(cells, table([summary(0, answers=answers)]))
    assert (
        row[header.index("P(right) before")] == "0.300"
        and row[header.index("P(right) after")] == "0.950"
    )


def test_seeds_that_are_done_are_not_run_again(tmp_path, capsys, monkeypatch):
    for seed in (3, 4):
        (tmp_path / f"seed-{seed}").mkdir()
        (tmp_path / f"seed-{seed}/summary.json").write_text(json.dumps(summary(seed)))
        (tmp_path / f"seed-{seed}/config.json").write_text(
            json.dumps(resolve({"seed": seed}).to_dict() | {"versions": {}})
        )
    monkeypatch.setattr("subprocess.Popen", None)  # a call would fail
    assert main(["--seeds", "3-4", "--root", str(tmp_path)]) == 0
    assert capsys.readouterr().out == (tmp_path / "table.md").read_text()
    # the same folders are no answer to another question
    assert main(["--seeds", "3-4", "--root", str(tmp_path), "--task", "capitals"]) == 2
    assert "seed-3 holds a run with other settings" in capsys.readouterr().err


def test_a_seed_that_was_interrupted_is_resumed(tmp_path, monkeypatch):
    (tmp_path / "seed-5").mkdir()
    (tmp_path / "seed-5/config.json").write_text(
        json.dumps(resolve({"seed": 5}).to_dict() | {"versions": {}})
    )
    programs = []

    class Finished:
        """A train_toy that has ended well."""

        def __init__(self, program):
            programs.append(program)
            (tmp_path / "seed-5/summary.json").write_text(json.dumps(summary(5)))

        def wait(self):
            return 0

    monkeypatch.setattr("subprocess.Popen", Finished)
    assert main(["--seeds", "5", "--root", str(tmp_path)]) == 0
    assert programs[0][2:] == [
        "minippo.train_toy",
        "--resume",
        "--out",
        str(tmp_path / "seed-5"),
        "--quiet",
    ]


def test_settings_of_a_run_that_starts_from_a_model_do_not_count_its_size(tmp_path, monkeypatch):
    arguments = ["--task", "files", "--data", "texts", "--start_from", "gpt2"]
    config = parse_arguments(arguments).config.to_dict()
    config["model"]["n_layer"] = 12
    (tmp_path / "config.json").write_text(json.dumps(config | {"versions": {}}))
    assert has_settings(tmp_path, arguments)
    assert not has_settings(tmp_path, [*arguments, "--seed", "1"])


def test_a_run_that_fails_ends_the_measurement_with_its_status(tmp_path):
    assert main(["--seeds", "0", "--root", str(tmp_path), "--task", "nonsense"]) == 2


@pytest.mark.parametrize("seeds", ["a-b", "9-0", "0-3-9", ""])
def test_seeds_that_are_no_range_are_refused(seeds, tmp_path):
    assert main(["--seeds", seeds, "--root", str(tmp_path)]) == 2
