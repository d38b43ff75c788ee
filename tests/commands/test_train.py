"""The whole run, in a configuration so small that it learns nothing: every file, every key, and the
same bits twice."""

import math
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch

import minippo
from minippo.algorithms import DEFAULT, REGISTRY
from minippo.algorithms.base import ROLLOUTS
from minippo.commands import drawing, summary
from minippo.commands.config import resolve
from minippo.commands.run import Run
from minippo.commands.train import headline, main, own_commit
from minippo.runs import figures
from minippo.runs.folder import RunFolder
from minippo.runs.screen import Screen
from minippo.runs.stats import matmul_loop_seconds
from minippo.tasks import Capitals
from tests.helpers import load_checkpoint
from tests.tiny_runs import CAPITALS, STAGES, TIMES, TINY, TINY_FILES, read_json, read_rows, run

OF_A_CRITIC = {
    "loss/value_avg",
    "val/clipfrac_avg",
    "val/critic_head_change",
    "val/explained_variance",
    "val/explained_variance_returns",
}
FIGURES = (
    "reward_and_kl",
    "score_against_kl",
    "response_lengths",
    "clip_cases",
    "values_along_response",
)


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """The same run twice; the first does everything that a user's run does, its figures too."""
    root = tmp_path_factory.mktemp("runs")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(drawing, "figures", figures)
        patch.setattr(summary, "matmul_loop_seconds", matmul_loop_seconds)
        first = run(root / "one", "--seed", "5", "--quiet")
    return [first, run(root / "two", "--seed", "5", "--quiet")]


def test_the_same_seed_gives_the_same_run_bit_for_bit(folders):
    one, two = folders
    for stage in STAGES:
        assert (one / f"checkpoints/{stage}/model.safetensors").read_bytes() == (
            two / f"checkpoints/{stage}/model.safetensors"
        ).read_bytes(), stage
    assert (one / "samples.jsonl").read_bytes() == (two / "samples.jsonl").read_bytes()
    rows = [
        [
            {name: value for name, value in row.items() if name not in TIMES}
            for row in read_rows(f / "metrics.jsonl")
        ]
        for f in folders
    ]
    assert rows[0] == rows[1] and len(rows[0]) == 2
    volatile = (
        "seconds",
        "peak_memory_mib",
        "matmul_loop_seconds",
        "seconds_in_matmul_loops",
        "seconds_of_writing",
    )
    summaries = [
        {k: v for k, v in read_json(f / "summary.json").items() if k not in volatile}
        for f in folders
    ]
    assert summaries[0] == summaries[1]


@pytest.fixture(scope="module")
def in_groups(tmp_path_factory):
    """The same run with four responses to each prompt."""
    out = tmp_path_factory.mktemp("runs") / "groups"
    return run(out, "--seed", "5", "--quiet", "--samples_per_prompt", "4")


FAST = ("pg", "trpo", "rloo", "dapo", "dpo", "rft")  # the others are variants of these
ALL_BUT_THE_DEFAULT = [
    name if name in FAST else pytest.param(name, marks=pytest.mark.slow)
    for name in REGISTRY
    if name != DEFAULT
]


@pytest.mark.parametrize("algorithm", ALL_BUT_THE_DEFAULT)
def test_the_folder_and_the_first_rollout_are_the_same_for_every_algorithm(
    algorithm, folders, in_groups, tmp_path
):
    other = run(tmp_path / "other", "--seed", "5", "--quiet", "--algorithm", algorithm)
    record = REGISTRY[algorithm]
    # who compares responses to a prompt has more of them
    samples = record.samples_per_prompt if record.learns_from == ROLLOUTS else 1
    same = folders[0] if samples == 1 else in_groups
    files = [
        sorted(str(path.relative_to(folder)) for path in folder.rglob("*"))
        for folder in (folders[0], other)
    ]
    of_a_critic = [] if record.has_critic else ["checkpoints/critic"]
    missing = of_a_critic + ([] if record.ranges else ["figures/clip_cases"])
    without = [name for name in files[0] if not name.startswith(tuple(missing))]
    assert files[1] == (without if missing else files[0])
    first, first_of_other = (read_rows(folder / "metrics.jsonl")[0] for folder in (same, other))
    assert set(first) - set(first_of_other) == (OF_A_CRITIC if of_a_critic else set())
    for name in (
        "objective/scores",
        "objective/kl",
        "objective/entropy",
        "objective/gold",
        "val/response_length",
    ):
        assert first[name] == first_of_other[name], name
    summary = read_json(other / "summary.json")
    assert summary["algorithm"] == algorithm and set(summary) == set(
        read_json(folders[0] / "summary.json")
    )


def test_the_path_of_the_figure_leads_from_the_reference_to_the_final_policy(folders):
    summary = read_json(folders[0] / "summary.json")
    first, *way, last = summary["path"]
    assert first == [0, 0.0, summary["sft"]["score"]]
    assert last == [2, summary["policy"]["kl"], summary["policy"]["score"]]
    ((update, kl, score),) = way  # of two updates, after the first
    assert update == 1 and kl > 0 and math.isfinite(score)


def test_another_seed_gives_another_run(folders, tmp_path):
    other = run(tmp_path / "other", "--seed", "6", "--quiet")
    name = "checkpoints/policy/model.safetensors"
    assert (other / name).read_bytes() != (folders[0] / name).read_bytes()


def test_the_folder_holds_every_file(folders):
    folder = folders[0]
    for name in (
        "config.json",
        "metrics.jsonl",
        "samples.jsonl",
        "summary.json",
        *(f"figures/{name}.png" for name in FIGURES),
        *(
            f"checkpoints/{stage}/{file}"
            for stage in STAGES
            for file in ("model.safetensors", "config.json", "tokenizer.json")
        ),
    ):
        assert (folder / name).stat().st_size > 0, name
    assert not [path for path in folder.rglob("*") if "tmp" in path.name]


def test_the_summary_has_every_key(folders):
    summary = read_json(folders[0] / "summary.json")
    top = [
        "task",
        "preset",
        "seed",
        "algorithm",
        "threads",
        "parameters",
        "peak_memory_mib",
        "seconds",
        "reward_model",
        "sft",
        "policy",
        "gold_max",
        "gold_axes",
        "optimum",
        "optimality",
        "win_rate",
    ]
    assert set(top) <= set(summary)
    wanted = {
        "reward_model": "heldout_accuracy heldout_pairs annotator_ceiling skill",
        "sft": "gold score eos_rate length",
        "policy": "gold score kl objective eos_rate length",
        "optimum": "objective low high draws_per_prompt prompts effective_sample_size",
        "win_rate": "value low high n judge",
        "gold_axes": "sft policy",
        "seconds": "pretrain sft preferences reward_model policy evaluation total",
    }
    for name, keys in wanted.items():
        assert set(keys.split()) <= set(summary[name]), name
    assert summary["seconds"]["total"] == pytest.approx(
        sum(v for k, v in summary["seconds"].items() if k != "total")
    )
    assert summary["policy"]["objective"] == pytest.approx(
        summary["policy"]["score"] - 0.05 * summary["policy"]["kl"]
    )
    assert sum(summary["gold_axes"]["policy"].values()) == pytest.approx(summary["policy"]["gold"])
    room = summary["optimum"]["objective"] - summary["sft"]["score"]
    assert summary["optimality"] == pytest.approx(
        (summary["policy"]["objective"] - summary["sft"]["score"]) / room
    )


def test_samples_and_metrics_have_their_keys(folders):
    rows = read_rows(folders[0] / "samples.jsonl")
    keys = {"prompt", "before", "after", "score_before", "score_after", "gold_before", "gold_after"}
    assert len(rows) == 6 and all(set(row) == keys for row in rows)
    assert [row["update"] for row in read_rows(folders[0] / "metrics.jsonl")] == [1, 2]


def test_the_configuration_is_written_as_it_was_resolved(folders):
    config = read_json(folders[0] / "config.json")
    assert (
        config["run"]["seed"] == 5
        and config["ppo"]["num_updates"] == 2
        and config["ppo"]["lam"] == 0.95
    )
    names = {"format", "python", "torch", "device", "commit", "data", "reward", "preferences"}
    assert set(config["versions"]) == names


def test_a_checkpoint_can_be_loaded_into_its_model(folders):
    from minippo.gpt import GPT, GPTConfig

    tensors, config, tokenizer = load_checkpoint(folders[0] / "checkpoints/policy")
    model = GPT(GPTConfig(**config))
    model.load_state_dict(tensors)
    assert tokenizer["kind"] == "word" and model(torch.tensor([[1, 3]])).isfinite().all()


def test_the_screen_shows_a_line_per_stage_and_update_samples_and_the_table(tmp_path, capsys):
    run(tmp_path / "run", "--seed", "5")
    out = capsys.readouterr().out
    lines = out.splitlines()
    for stage in ("pretrain", "sft", "preferences", "reward_model", "policy", "evaluation"):
        assert sum(line.startswith(f"{stage} ") and line.endswith(" s") for line in lines) == 1, (
            stage
        )
    assert sum(line.split()[:1] in (["1"], ["2"]) for line in lines) == 2 and "prompt: " in out
    for word in (
        "before",
        "after",
        "gold (of 3.00)",
        "KL, nats",
        "win rate",
        "EOS rate",
        "objective",
        "seconds",
    ):
        assert word in out, word
    assert max(map(len, lines)) <= 160


def test_quiet_prints_two_lines(tmp_path, capsys):
    run(tmp_path / "run", "--quiet")
    assert len(capsys.readouterr().out.splitlines()) == 2


def test_capitals_shows_the_probability_of_both_answers_before_and_after(tmp_path, capsys):
    folder = run(tmp_path / "run", "--task", "capitals", *CAPITALS)
    out = capsys.readouterr().out
    assert "what is the capital of france ? paris 0." in out and "right answer, mean" in out
    answers = read_json(folder / "summary.json")["answers"]
    assert len(answers) == 12 and all(
        0 <= row[key] <= 1
        for row in answers
        for key in ("right_before", "rival_before", "right_after", "rival_after")
    )


def test_files_runs_on_a_users_own_folder_and_has_null_where_there_is_no_gold(
    data, tmp_path, capsys
):
    folder = run(
        tmp_path / "run",
        "--task",
        "files",
        "--data",
        str(data),
        "--completion_length",
        "40",
        "--response_length",
        "20",
        "--preference_heldout",
        "4",
    )
    summary = read_json(folder / "summary.json")
    assert (
        summary["gold_max"]
        is summary["gold_axes"]
        is summary["sft"]["gold"]
        is summary["policy"]["gold"]
        is None
    )
    assert summary["reward_model"]["annotator_ceiling"] is summary["reward_model"]["skill"] is None
    assert (
        summary["reward_model"]["heldout_pairs"] == 4
        and summary["win_rate"]["judge"] == "reward model"
    )
    assert "demonstrations" in capsys.readouterr().out  # what was derived is said


@pytest.mark.slow
def test_texts_longer_than_the_context_are_counted_and_refused_or_cut(data, tmp_path, capsys):
    arguments = [
        *TINY_FILES,
        "--task",
        "files",
        "--data",
        str(data),
        "--completion_length",
        "12",
        "--preference_heldout",
        "4",
    ]
    assert main([*arguments, "--out", str(tmp_path / "run")]) == 2
    assert "--truncate" in capsys.readouterr().err and not (tmp_path / "run").exists()
    assert main([*arguments, "--truncate", "--out", str(tmp_path / "run")]) == 0


def codes_of(folder):
    return [found["code"] for found in read_json(folder / "summary.json")["diagnostics"]]


def test_a_few_demonstrations_that_are_read_often_are_p013(data, tmp_path, capsys):
    long = ["--sft_steps", "60", "--sft_batch_size", "30"]
    arguments = ["--task", "files", "--data", str(data), "--completion_length", "40", *long]
    more = ["--response_length", "20", "--preference_heldout", "4"]
    folder = run(tmp_path / "run", *arguments, *more)
    assert "P013" in codes_of(folder)
    assert sum(line.startswith("P013 ") for line in capsys.readouterr().out.splitlines()) == 1
    assert "P013" not in codes_of(run(tmp_path / "tldr", *long))  # a rule makes new ones


def test_a_learning_rate_that_falls_to_0_trains_the_critic_to_the_end(tmp_path):
    folder = run(tmp_path / "run", "--final_learning_rate", "0", "--quiet")
    assert "P006" not in codes_of(folder)
    assert all(row["val/critic_head_change"] > 0 for row in read_rows(folder / "metrics.jsonl"))


def test_a_price_of_kl_next_to_nothing_has_a_best_objective_and_no_infinity(tmp_path):
    folder = run(tmp_path / "run", "--kl_coef", "1e-320", "--quiet")
    summary = read_json(folder / "summary.json")
    assert all(math.isfinite(summary["optimum"][end]) for end in ("objective", "low", "high"))
    assert summary["optimum"]["objective"] >= summary["policy"]["objective"]
    assert all(math.isfinite(x) for point in summary["frontier"] for x in point)


def test_training_that_breaks_ends_with_status_1_and_one_line(tmp_path, capsys):
    arguments = [
        *TINY,
        "--pretrain_learning_rate",
        "1e30",
        "--pretrain_steps",
        "40",
        "--quiet",
        "--out",
        str(tmp_path / "run"),
    ]
    assert main(arguments) == 1
    error = capsys.readouterr().err.splitlines()
    assert len(error) == 1 and error[0].startswith("error: pretrain, step ")


def test_a_run_without_room_for_improvement_has_no_optimality_and_ends_well(data, tmp_path):
    folder = run(
        tmp_path / "run",
        "--task",
        "files",
        "--data",
        str(data),
        "--response_length",
        "1",
        # no response of one byte ends: all score the same
        "--completion_length",
        "40",
        "--preference_heldout",
        "4",
    )
    assert read_json(folder / "summary.json")["optimality"] is None


def test_an_interrupt_ends_with_status_130_and_says_where_the_run_is(tmp_path, capsys, monkeypatch):
    def interrupt(*arguments, **settings):
        raise KeyboardInterrupt

    monkeypatch.setattr("minippo.commands.train.fine_tune", interrupt)
    assert main([*TINY, "--quiet", "--out", str(tmp_path / "run")]) == 130
    assert str(tmp_path / "run") in capsys.readouterr().err


def test_a_resumed_run_must_find_the_texts_that_it_began_with(data, tmp_path, monkeypatch, capsys):
    out, append = tmp_path / "run", RunFolder.append_metrics

    def stops(self, row):
        append(self, row)
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(RunFolder, "append_metrics", stops)
        assert (
            main(
                [
                    *TINY_FILES,
                    "--task",
                    "files",
                    "--data",
                    str(data),
                    "--completion_length",
                    "40",
                    "--response_length",
                    "20",
                    "--preference_heldout",
                    "4",
                    "--out",
                    str(out),
                    "--quiet",
                ]
            )
            == 130
        )
    pairs = (data / "preferences.jsonl").read_text()
    (data / "preferences.jsonl").write_text(pairs.replace("a", "e"))
    capsys.readouterr()
    assert main(["--resume", "--out", str(out), "--quiet"]) == 2
    assert capsys.readouterr().err == (
        f"error: --resume: the files of the run in {out} have changed since it began; put "
        "them back, or start a new run\n"
    )
    (data / "preferences.jsonl").write_text(pairs)
    assert main(["--resume", "--out", str(out), "--quiet"]) == 0


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("algorithm", REGISTRY)
def test_a_run_on_cuda_makes_the_same_files(algorithm, tmp_path):
    folder = run(tmp_path / "run", "--device", "cuda", "--algorithm", algorithm)
    assert read_json(folder / "summary.json")["device"].startswith("cuda")


@pytest.mark.parametrize("command", [["minippo.train_toy"], ["minippo.exact"]])
@pytest.mark.slow
def test_that_no_figure_can_be_drawn_is_told_before_the_work(command, tmp_path):
    environment = os.environ | {
        "MPLBACKEND": "nonsense",
        "PYTHONPATH": str(Path(minippo.__file__).parent.parent),
    }
    done = subprocess.run(
        [sys.executable, "-m", *command],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        timeout=100,
    )
    assert done.returncode == 2 and len(done.stderr.splitlines()) == 1
    assert done.stderr.startswith("error: MPLBACKEND=nonsense: matplotlib cannot be imported")
    assert not list(tmp_path.rglob("*.json*"))


# -- the commit


def git(folder, *words):
    name = ["-c", "user.name=x", "-c", "user.email=x@y"]
    subprocess.run(["git", "-C", str(folder), *name, *words], check=True, capture_output=True)


@pytest.fixture
def repository(tmp_path):
    """A repository with a package in it, and its commit."""
    if shutil.which("git") is None:
        pytest.skip("no git here")
    file = tmp_path / "minippo/commands/train.py"
    file.parent.mkdir(parents=True)
    file.write_text("")
    (tmp_path / ".gitignore").write_text("venv\n")
    git(tmp_path, "init")
    git(tmp_path, "add", ".")
    git(tmp_path, "commit", "-m", "all")
    done = subprocess.run(
        ["git", "-C", str(tmp_path), "rev-parse", "HEAD"], capture_output=True, text=True
    )
    return file, done.stdout.strip()


def test_the_commit_is_that_of_the_package(repository):
    file, commit = repository
    assert own_commit(str(file)) == commit and len(commit) == 40


@pytest.mark.parametrize("place", ["venv/site-packages", "site-packages"])
def test_the_repository_around_site_packages_is_not_meant(place, repository, tmp_path):
    installed = tmp_path / place / "minippo/commands/train.py"
    installed.parent.mkdir(parents=True)
    installed.write_text("")
    assert own_commit(str(installed)) is None
    if place == "site-packages":  # somebody keeps it in a repository of theirs
        git(tmp_path, "add", ".")
        git(tmp_path, "commit", "-m", "more")
        assert own_commit(str(installed)) is None


def test_git_is_not_told_of_another_repository_by_the_environment(
    repository, tmp_path, monkeypatch
):
    other = tmp_path / "other"
    other.mkdir()
    git(other, "init")
    git(other, "commit", "--allow-empty", "-m", "other")
    monkeypatch.setenv("GIT_DIR", str(other / ".git"))
    file, commit = repository
    assert own_commit(str(file)) == commit


def test_without_git_there_is_no_commit(repository, monkeypatch):
    monkeypatch.setenv("PATH", "")
    assert own_commit(str(repository[0])) is None


def test_the_first_line_says_what_is_run_and_where(tmp_path):
    config = resolve({"task": "capitals", "algorithm": "pg", "seed": 7, "threads": 1})
    run = Run(config, Capitals(), torch.device("cpu"), RunFolder(tmp_path), Screen())
    assert headline(run) == (
        f"capitals, pg, default: 2 blocks of width 64, seed 7, 1 thread, cpu; {tmp_path}"
    )
