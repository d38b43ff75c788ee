"""Where the seconds go: a share for each part, and what was timed is put back."""

import json

import pytest

from minippo.algorithms import REGISTRY
from minippo.commands.profile_update import kind_of_operation, lines_of, main, timed_parts
from minippo.stages import policy as trainer
from tests.worlds import ragged


@pytest.mark.parametrize("algorithm", REGISTRY)
def test_every_part_of_every_algorithm_is_timed_and_then_as_it_was(algorithm):
    before = trainer.make_rollout, trainer.estimate_advantages
    with timed_parts(algorithm) as seconds:
        world = ragged(num_updates=1)
        settings = {"config": world.config, "generator": world.generator, "algorithm": algorithm}
        pairs = world.pairs()
        texts = trainer.World(
            world.draw_prompts, world.score_function, world.eos_id, 0, pairs=pairs
        )
        trainer.train_policy(world.models(algorithm), texts, **settings)
    assert len(seconds) == 3 and all(value > 0 for value in seconds.values())
    assert (trainer.make_rollout, trainer.estimate_advantages) == before


@pytest.mark.parametrize(
    "name, kind",
    [
        ("aten::mm", "matrix products and attention"),
        ("aten::gelu", "GELU and LayerNorm"),
        ("aten::multinomial", "softmax, gather, sampling"),
        ("Optimizer.step#Adam.step", "optimiser and gradient norm"),
        ("aten::copy_", "copies and joins"),
        ("aten::arange", "everything else"),
    ],
)
def test_the_kind_of_an_operation(name, kind):
    assert kind_of_operation(name) == kind


def test_a_table_of_shares_by_hand():
    assert lines_of("part", {"a": 1.0, "b": 3.0}, 4.0) == [
        "| part | share |",
        "| --- | ---: |",
        "| b | 75 % |",
        "| a | 25 % |",
    ]


@pytest.mark.slow
def test_the_command_prints_both_tables(finished, capsys):
    assert main(["--run", str(finished), "--updates", "1"]) == 0
    out = capsys.readouterr().out
    assert "s per update, mean of 1" in out and "| part of an update | share |" in out
    for part in ("rollout: sampling and rescoring", "update: forward, backward, step"):
        assert f"| {part} |" in out
    assert "| matrix products and attention |" in out
    for table in out.split("kind of operation"):
        shares = [int(line.split("|")[2].split()[0]) for line in table.splitlines() if "%" in line]
        assert 95 <= sum(shares) <= 105


def test_a_configuration_that_was_edited_is_refused(finished, tmp_path, capsys):
    config = json.loads((finished / "config.json").read_text())
    config["ppo"]["gamma"] = 0.5
    (tmp_path / "config.json").write_text(json.dumps(config))
    assert main(["--run", str(tmp_path)]) == 2
    assert "config.json: is not as the run wrote it" in capsys.readouterr().err


def test_what_it_refuses(finished, tmp_path, capsys):
    assert main(["--run", str(finished), "--updates", "0"]) == 2
    assert capsys.readouterr().err == "error: --updates: wanted at least 1, got 0\n"
    assert main(["--run", str(tmp_path / "none")]) == 2
    missing = f"{tmp_path / 'none'}/config.json: No such file or directory"
    assert capsys.readouterr().err.startswith(f"error: {missing}")


def test_a_run_that_a_rule_scored_is_refused(finished, tmp_path, capsys):
    config = json.loads((finished / "config.json").read_text())
    del config["sha256"]
    config["run"]["reward"] = "rule"
    (tmp_path / "config.json").write_text(json.dumps(config))
    assert main(["--run", str(tmp_path)]) == 2
    assert capsys.readouterr().err.startswith(f"error: {tmp_path}: a rule scored this run; what is")
