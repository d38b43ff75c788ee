"""A run that is stopped at any moment and taken up again ends with the bits of one that was not."""

import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

import minippo
from minippo.commands.train import main
from minippo.gpt import GPT, GPTConfig
from minippo.runs import files
from minippo.runs.files import tensors_to_bytes
from minippo.runs.folder import RunFolder, load_tensors
from minippo.runs.seals import Origin
from tests.hostile import reseal
from tests.tiny_runs import STAGES, TIMES, TINY, read_json, read_rows

SMALL = [*TINY, "--num_updates", "6", "--save_every", "2", "--pretrain_steps", "20", "--report"]


def run(out, *arguments):
    assert main([*SMALL, "--out", str(out), "--quiet", *arguments]) == 0
    return out


def resume(out):
    return main(["--resume", "--out", str(out), "--quiet"])


def content(folder):
    """Everything of a run that does not tell the time."""
    rows = [
        {name: value for name, value in row.items() if name not in TIMES}
        for row in read_rows(folder / "metrics.jsonl")
    ]
    volatile = (
        "seconds",
        "peak_memory_mib",
        "matmul_loop_seconds",
        "seconds_in_matmul_loops",
        "seconds_of_writing",
    )
    summary = {
        name: value
        for name, value in read_json(folder / "summary.json").items()
        if name not in volatile
    }
    paths = {stage: folder / f"checkpoints/{stage}/model.safetensors" for stage in STAGES}
    models = {stage: path.read_bytes() for stage, path in paths.items() if path.exists()}
    names = sorted(str(path.relative_to(folder)) for path in folder.rglob("*"))
    pictures = [
        (folder / f"figures/{name}.png").read_bytes() for name in ("clip_cases", "reward_and_kl")
    ]
    samples = [(folder / f"{name}.jsonl").read_bytes() for name in ("samples", "samples_over_time")]
    page = without_seconds((folder / "report.html").read_text())
    return rows, summary, models, [*samples, *pictures, page], names


def without_seconds(page):
    """A report without the part that tells the time, and without the settings, some of which may
    change when a run is taken up again."""
    for name in ("configuration", "seconds"):
        before, _, after = page.partition(f'<section id="{name}">')
        page = before + after.partition("</section>")[2]
    return page


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    return run(tmp_path_factory.mktemp("whole") / "run")


class Stopped(BaseException):
    """Not an Exception: nothing in the program may catch it."""


def stop_at_write(monkeypatch, number, before_rename=True):
    """The given write of a file, counted over the whole run, stops the program, before or after its
    rename."""
    count, replace = [0], os.replace

    def counted(source, target):
        count[0] += 1
        if count[0] == number and before_rename:
            raise Stopped
        replace(source, target)
        if count[0] == number:
            raise Stopped

    monkeypatch.setattr(files.os, "replace", counted)
    return count


def number_of_writes(monkeypatch, tmp_path):
    with monkeypatch.context() as patch:
        count = stop_at_write(patch, -1)
        run(tmp_path / "counted")
    return count[0]


@pytest.mark.slow
def test_stopped_at_any_write_the_run_ends_with_the_same_bits(undisturbed, tmp_path, monkeypatch):
    writes = number_of_writes(monkeypatch, tmp_path)
    assert writes > 40
    for number in range(2, writes, 23):  # before the first one there is nothing to take up
        out = tmp_path / f"stopped-{number}"
        with monkeypatch.context() as patch, pytest.raises(Stopped):
            stop_at_write(patch, number, before_rename=number % 2 == 0)
            run(out)
        assert resume(out) == 0
        assert content(out) == content(undisturbed), number


def test_stopped_again_and_again(undisturbed, tmp_path, monkeypatch):
    out, times = tmp_path / "run", 0
    with monkeypatch.context() as patch, pytest.raises(Stopped):
        stop_at_write(patch, 3)
        run(out)
    while True:
        times += 1
        with monkeypatch.context() as patch:
            stop_at_write(patch, 36)
            try:
                assert resume(out) == 0
                break
            except Stopped:
                assert times < 30
    assert times > 1 and content(out) == content(undisturbed)


@pytest.mark.parametrize(
    "settings", ["pg", "trpo", "ppo_adaptive_kl", "ppo --lora_rank 2 --learning_rate 1e-2"]
)
@pytest.mark.slow
def test_other_algorithms_go_on_too(settings, tmp_path, monkeypatch):
    arguments = ["--algorithm", *settings.split()]
    whole = run(tmp_path / "whole", *arguments)
    out = tmp_path / "stopped"
    with monkeypatch.context() as patch, pytest.raises(Stopped):
        patch.setattr(RunFolder, "append_metrics", stop_after(RunFolder.append_metrics, 5))
        run(out, *arguments)
    assert len(read_rows(out / "metrics.jsonl")) == 5
    assert resume(out) == 0 and content(out) == content(whole)


def stop_after(function, times):
    calls = []

    def stopping(*arguments):
        function(*arguments)
        calls.append(1)
        if len(calls) == times:
            raise Stopped

    return stopping


def start(*arguments):
    environment = os.environ | {"PYTHONPATH": str(Path(minippo.__file__).parent.parent)}
    return subprocess.Popen(
        [sys.executable, "-m", "minippo.train_toy", *arguments, "--quiet"],
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def finish(*arguments):
    """Run the command to its end in a new process; returns its seconds."""
    begin, process = time.perf_counter(), start(*arguments)
    _, errors = process.communicate()
    assert process.returncode == 0, errors
    return time.perf_counter() - begin


def kill_and_resume(out, seconds, arguments, whole):
    """SIGKILL after so many seconds, then --resume in a new process."""
    process = start(*arguments, "--out", str(out))
    time.sleep(seconds)
    process.kill()
    process.communicate()
    if (out / "config.json").exists():
        finish("--resume", "--out", str(out))
    else:  # killed before anything was saved: the folder can be used as if it were new
        finish(*arguments, "--out", str(out))
    assert content(out) == content(whole), seconds


@pytest.fixture(scope="module")
def timed(tmp_path_factory):
    """(a run in a process of its own, its seconds)"""
    out = tmp_path_factory.mktemp("timed") / "run"
    return out, finish(*SMALL, "--out", str(out))


@pytest.mark.slow
@pytest.mark.parametrize("share", [0.3, 0.5, 0.6, 0.75, 0.9])
def test_killed_and_taken_up_again(share, timed, tmp_path):
    whole, seconds = timed
    kill_and_resume(tmp_path / "killed", share * seconds, SMALL, whole)


KILLS_ITSELF = """
import os, signal, sys
from minippo.commands.train import main

number, replace = int(sys.argv[1]), os.replace

def counted(source, target):
    global number
    number -= 1
    if number == 0:
        os.kill(os.getpid(), signal.SIGKILL)
    replace(source, target)

os.replace = counted
main(sys.argv[2:])
"""


def killed_inside_a_write(number, undisturbed, out):
    """SIGKILL when a file is written and has not its name yet: in the middle of a checkpoint, if it
    is one of its files."""
    environment = os.environ | {"PYTHONPATH": str(Path(minippo.__file__).parent.parent)}
    process = subprocess.run(
        [sys.executable, "-c", KILLS_ITSELF, str(number), *SMALL, "--out", str(out), "--quiet"],
        env=environment,
    )
    assert process.returncode == -signal.SIGKILL
    assert any(path.name.endswith(".tmp") for path in out.rglob(".*"))
    assert resume(out) == 0
    assert content(out) == content(undisturbed), number


@pytest.mark.parametrize("number", [22, 4, 37])
@pytest.mark.slow
def test_killed_inside_the_writing_of_a_checkpoint(number, undisturbed, tmp_path):
    killed_inside_a_write(number, undisturbed, tmp_path / "run")


@pytest.mark.by_hand
def test_killed_inside_every_write(undisturbed, tmp_path, monkeypatch):
    writes = number_of_writes(monkeypatch, tmp_path)
    for number in range(2, writes + 1):
        killed_inside_a_write(number, undisturbed, tmp_path / f"{number}")
    print(f"{writes - 1} of {writes - 1} equal", flush=True)


@pytest.mark.by_hand
@pytest.mark.parametrize(
    "arguments", [SMALL, ["--preset", "quick", "--threads", "1"]], ids=["tiny", "quick"]
)
def test_killed_at_20_random_moments(arguments, tmp_path):
    """python -m pytest -m by_hand tests/commands/test_resume.py -n0 -s; see docs/reliability.md."""
    rng, whole = random.Random(0), tmp_path / "whole"
    seconds = finish(*arguments, "--out", str(whole))
    for number in range(20):
        out = tmp_path / f"{number}"
        kill_and_resume(out, rng.uniform(1, seconds), arguments, whole)
        shutil.rmtree(out)
        print(f"{number + 1} of 20 equal", flush=True)


# -- Ctrl-C


def test_ctrl_c_finishes_the_update_saves_it_and_says_how_to_go_on(
    undisturbed, tmp_path, monkeypatch, capsys
):
    out, append = tmp_path / "run", RunFolder.append_metrics

    def interrupt(self, row):
        append(self, row)
        if row["update"] == 3:
            signal.raise_signal(signal.SIGINT)

    with monkeypatch.context() as patch:
        patch.setattr(RunFolder, "append_metrics", interrupt)
        assert main([*SMALL, "--out", str(out), "--quiet"]) == 130
    assert capsys.readouterr().err.splitlines()[-1] == (
        f"interrupted; to go on: python -m minippo.train_toy --resume --out {out}"
    )
    assert (out / "checkpoints/update-0000003").exists()
    assert resume(out) == 0
    rows, summary, models, samples, _ = content(undisturbed)
    assert content(out)[:4] == (rows, summary, models, samples)


# -- damage, and what is refused


@pytest.fixture(scope="module")
def stopped_once(tmp_path_factory):
    """A run that was stopped after its fifth update: states 2 and 4 are there."""
    out = tmp_path_factory.mktemp("once") / "stopped"
    with pytest.MonkeyPatch.context() as patch, pytest.raises(Stopped):
        patch.setattr(RunFolder, "append_metrics", stop_after(RunFolder.append_metrics, 5))
        run(out)
    names = sorted(path.name for path in (out / "checkpoints").glob("update-*"))
    assert names == ["update-0000002", "update-0000004"]
    return out


@pytest.fixture
def stopped(stopped_once, tmp_path):
    """A copy of it for one test."""
    return Path(shutil.copytree(stopped_once, tmp_path / "stopped"))


def flip_a_bit(path):
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


def cut_off(path):
    path.write_bytes(path.read_bytes()[:-5])


DAMAGES = (flip_a_bit, cut_off, Path.unlink)
SEALED = (
    "update-0000004/tensors.safetensors",
    "update-0000004/numbers.json",
    "update-0000004/sha256.json",
    "sft/model.safetensors",
    "reward_model/info.json",
    "pretrain/config.json",
)


@pytest.mark.parametrize(
    "name, damage",
    [  # each file once, each damage twice; all pairs in the slow part
        pytest.param(name, damage, marks=() if (i - j) % 3 == 0 else pytest.mark.slow)
        for i, name in enumerate(SEALED)
        for j, damage in enumerate(DAMAGES)
    ],
)
def test_what_is_damaged_is_noticed_and_what_came_before_is_used(
    name, damage, stopped, undisturbed, capsys
):
    damage(stopped / "checkpoints" / name)
    assert main(["--resume", "--out", str(stopped)]) == 0
    screen = capsys.readouterr().out
    if not name.startswith("pretrain"):  # nobody asks for it once the next stage is whole
        assert name.split("/")[0] in screen and (
            "going back" in screen or "is done again" in screen
        )
    assert content(stopped)[:4] == content(undisturbed)[:4]


@pytest.mark.slow
def test_both_states_damaged_the_stage_begins_again(stopped, undisturbed):
    for update in (2, 4):
        flip_a_bit(stopped / f"checkpoints/update-000000{update}/tensors.safetensors")
    assert resume(stopped) == 0 and content(stopped)[:4] == content(undisturbed)[:4]


STATE = "checkpoints/update-0000004/numbers.json"


def without(name):
    return lambda content: {key: value for key, value in content.items() if key != name}


@pytest.mark.parametrize(
    "name, change",
    [
        *((STATE, without(field)) for field in ("update", "rng", "minibatch", "stage_seconds")),
        (STATE, lambda content: content | {"update": 2}),
        (STATE, lambda content: content | {"rng": [3, [0] * 625, None]}),
        (STATE, lambda content: content | {"minibatch": {"ratios": [None], "advantages": [0.5]}}),
        ("checkpoints/sft/info.json", without("seconds")),
        ("checkpoints/reward_model/info.json", lambda content: {"seconds": {"sft": "1"}}),
        ("checkpoints/sft/config.json", lambda content: content | {"n_layer": 10**6}),
    ],
)
@pytest.mark.slow
def test_what_is_changed_and_sealed_again_is_done_again(name, change, stopped, undisturbed, capsys):
    (stopped / name).write_text(json.dumps(change(read_json(stopped / name))))
    reseal((stopped / name).parent)
    assert main(["--resume", "--out", str(stopped)]) == 0
    screen = capsys.readouterr().out
    assert "going back" in screen or "is done again" in screen
    assert content(stopped)[:4] == content(undisturbed)[:4]


def shrink_the_vocabulary(out):
    """A model that is whole and sealed, and too small for the texts of the run."""
    path, size = (
        out / "checkpoints/sft",
        GPTConfig(vocab_size=5, context_length=64, n_layer=1, n_head=2, n_embd=8),
    )
    (path / "config.json").write_text(json.dumps(vars(size)))
    (path / "model.safetensors").write_bytes(tensors_to_bytes(GPT(size).state_dict()))
    reseal(path)


def change_state(**tensors):
    def change(out):
        path = out / "checkpoints/update-0000004"
        whole = load_tensors(path / "tensors.safetensors")
        (path / "tensors.safetensors").write_bytes(tensors_to_bytes(whole | tensors))
        reseal(path)

    return change


def change_report(out):
    path = out / "checkpoints/reward_model"
    (path / "info.json").write_text(
        json.dumps(read_json(path / "info.json") | {"report": {"skill": "high"}})
    )
    reseal(path)


def forget_a_metric(out):
    rows = [without("val/score_std")(row) for row in read_rows(out / "metrics.jsonl")]
    files.write_jsonl(out / "metrics.jsonl", rows)


def replace_by_a_pipe(out):
    (out / "config.json").unlink()
    os.mkfifo(out / "config.json")


@pytest.mark.parametrize(
    "damage, status",
    [
        (shrink_the_vocabulary, 0),
        (change_report, 0),
        (forget_a_metric, 0),
        (replace_by_a_pipe, 2),
        (lambda out: (out / "metrics.jsonl").unlink(), 0),
        (lambda out: (out / "metrics.jsonl").write_text('{"update": 4}\n'), 0),
        (lambda out: (out / "metrics.jsonl").write_text('{"update": "4"}\n'), 0),
        (lambda out: (out / "samples.jsonl").mkdir(), 1),
        (lambda out: (out / "figures").symlink_to(out), 2),
        (lambda out: (out / "figures").write_text("no folder"), 1),
        (change_state(generator=torch.zeros(7, dtype=torch.uint8)), 0),
        (change_state(**{"policy.ln_f.weight": torch.full((8,), torch.nan)}), 0),
    ],
)
@pytest.mark.slow
def test_whatever_was_changed_it_goes_on_or_ends_in_one_line(
    damage, status, stopped, undisturbed, capsys
):
    damage(stopped)
    assert main(["--resume", "--out", str(stopped), "--quiet"]) == status
    error = capsys.readouterr().err
    if status:
        assert error.startswith("error: ") and len(error.splitlines()) == 1
    else:
        assert content(stopped)[:4] == content(undisturbed)[:4]


@pytest.mark.parametrize(
    "flags, message",
    [
        (
            ["--seed", "7"],
            "error: --seed: the run in {out} was made with 0, got 7; --resume changes nothing",
        ),
        (
            ["--data", "DIR"],
            "error: --data: the run in {out} was made with None, got DIR; --resume changes nothing",
        ),
        (
            ["--kl_coef", "0.1"],
            "error: --kl_coef: the run in {out} was made with 0.05, "
            "got 0.1; --resume changes nothing",
        ),
    ],
)
def test_a_flag_that_differs_from_the_run_is_refused(flags, message, stopped, capsys):
    before = sorted(stopped.rglob("*"))
    assert main(["--resume", "--out", str(stopped), *flags]) == 2
    assert capsys.readouterr().err.splitlines() == [message.format(out=stopped)]
    assert sorted(stopped.rglob("*")) == before


def test_a_flag_that_does_not_differ_is_no_harm(stopped):
    assert (
        main(["--resume", "--out", str(stopped), "--quiet", "--seed", "0", "--threads", "1"]) == 0
    )


@pytest.mark.parametrize("name, value", [("format", 0), ("torch", "1.0"), ("device", "cuda")])
def test_a_run_of_another_version_is_refused(name, value, stopped, capsys):
    config = read_json(stopped / "config.json")
    config["versions"][name] = value
    (stopped / "config.json").write_text(json.dumps(config))
    assert main(["--resume", "--out", str(stopped)]) == 2
    assert f"was made with {name} {value}, this is " in capsys.readouterr().err


@pytest.mark.parametrize("text", ["", "{", "[]", "{}", '{"run": 3}', "[" * 100_000, '"\\ud800"'])
def test_a_configuration_that_cannot_be_read_is_refused(text, stopped, capsys):
    (stopped / "config.json").write_text(text)
    assert main(["--resume", "--out", str(stopped)]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(
        (
            f"error: {stopped}/config.json: not JSON that can be read (",
            f"error: {stopped}/config.json: not the configuration of a run",
        )
    )


def test_resume_needs_a_run(tmp_path, capsys):
    for arguments, message in (
        (["--resume"], "--resume: name the folder of the run with --out"),
        (["--resume", "--out", str(tmp_path)], f"--resume: {tmp_path} holds no run"),
        (["--resume", "--out", str(tmp_path / "no")], f"--resume: {tmp_path / 'no'} holds no run"),
    ):
        assert main(arguments) == 2
        assert capsys.readouterr().err.startswith(f"error: {message}")
    assert os.listdir(tmp_path) == []


def test_a_finished_run_is_left_alone(undisturbed, tmp_path, capsys):
    out = Path(shutil.copytree(undisturbed, tmp_path / "run"))
    (out / "checkpoints/.DS_Store").write_text("a file manager's")
    (out / "checkpoints/notes.txt").write_text("mine")
    before = {path: path.stat().st_mtime_ns for path in out.rglob("*")}
    assert main(["--resume", "--out", str(out)]) == 0
    assert "this run is finished" in capsys.readouterr().out
    assert {path: path.stat().st_mtime_ns for path in out.rglob("*")} == before


def test_a_second_process_is_refused(stopped, capsys):
    with RunFolder(stopped).lock():
        assert main(["--resume", "--out", str(stopped)]) == 2
    assert (
        capsys.readouterr().err
        == f"error: --out {stopped}: another process is at work in this folder\n"
    )
    assert resume(stopped) == 0  # the lock goes with whoever held it


def test_what_a_kill_left_behind_is_cleared_away(stopped):
    (stopped / ".config.json.0123.tmp").write_text("half")
    (stopped / "checkpoints" / ".sft.0123.tmp").mkdir()
    (stopped / "checkpoints" / ".sft.0123.tmp" / "model.safetensors").write_text("half")
    assert resume(stopped) == 0
    assert not [path for path in stopped.rglob("*") if path.name.startswith(".")]


def test_a_disk_that_fills_leaves_the_last_state_whole(stopped, undisturbed, monkeypatch, capsys):
    def full(*_):
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(files.os, "fsync", full)
        assert main(["--resume", "--out", str(stopped), "--quiet"]) == 1
    assert "No space left on device" in capsys.readouterr().err.splitlines()[-1]
    assert resume(stopped) == 0 and content(stopped)[:4] == content(undisturbed)[:4]


# -- what belongs to another run


def put_in(out, foreign, *names):
    """Files and folders of another run in the place of one's own."""
    for name in names:
        if (foreign / name).is_dir():
            shutil.rmtree(out / name, ignore_errors=True)
            shutil.copytree(foreign / name, out / name)
        else:
            shutil.copy(foreign / name, out / name)


@pytest.fixture(scope="module")
def foreign(tmp_path_factory):
    """A run of another seed."""
    return run(tmp_path_factory.mktemp("foreign") / "run", "--seed", "7")


@pytest.mark.parametrize(
    "names, made_again",
    [
        (["checkpoints"], ["pretrain", "sft", "reward_model"]),
        (["checkpoints", "metrics.jsonl"], ["pretrain", "sft", "reward_model"]),
        (["checkpoints/sft"], ["sft"]),
        (["checkpoints/reward_model"], ["reward_model"]),
        (["checkpoints/update-0000004", "checkpoints/update-0000006", "metrics.jsonl"], []),
    ],
)
def test_what_another_run_made_is_named_and_made_again(
    names, made_again, stopped, foreign, undisturbed, capsys
):
    put_in(stopped, foreign, *names)
    assert main(["--resume", "--out", str(stopped)]) == 0
    screen = capsys.readouterr().out
    for stage in made_again:
        assert f"checkpoints/{stage}: is of another run, with other settings, seed or " in screen
    assert ("update-0000004: is of another run" in screen) == (
        len(names) != 1 or names[0][-1] == "s"
    )
    assert content(stopped) == content(undisturbed)


@pytest.mark.slow
def test_a_twin_is_no_other_run(undisturbed, tmp_path, capsys):
    """Two runs of one seed have the same seals and the same configuration, byte for byte."""
    twin = run(tmp_path / "twin")
    for path in undisturbed.rglob("seal.json"):
        assert path.read_bytes() == (twin / path.relative_to(undisturbed)).read_bytes()
    assert (undisturbed / "config.json").read_bytes() == (twin / "config.json").read_bytes()
    put_in(twin, undisturbed, "checkpoints/sft", "checkpoints/reward_model")
    (twin / "summary.json").unlink()
    assert main(["--resume", "--out", str(twin)]) == 0
    assert "again" not in capsys.readouterr().out


def test_a_stage_that_was_made_from_another_one_is_made_again(stopped, undisturbed, capsys):
    """As when a damaged stage was made again on another machine, with other last bits."""
    path = stopped / "checkpoints/sft"
    weights = load_tensors(path / "model.safetensors")
    shutil.rmtree(path)
    other = GPT(GPTConfig(**read_json(stopped / "checkpoints/pretrain/config.json")))
    other.load_state_dict({name: tensor + 2**-20 for name, tensor in weights.items()})
    origin = Origin(
        **{
            name: read_json(undisturbed / "checkpoints/sft/seal.json")[name]
            for name in ("depends_on", "before")
        }
    )
    RunFolder(stopped).save_checkpoint(
        "sft",
        other,
        model_config=read_json(undisturbed / "checkpoints/sft/config.json"),
        tokenizer=read_json(undisturbed / "checkpoints/sft/tokenizer.json"),
        info={"seconds": {}},
        origin=origin,
    )
    assert main(["--resume", "--out", str(stopped)]) == 0
    screen = capsys.readouterr().out
    assert "sft: as it was saved" in screen
    assert "reward_model: was not made from the stage before it as that is now" in screen


@pytest.mark.parametrize(
    "section, name, value",
    [
        ("run", "seed", 7),
        ("run", "algorithm", "pg"),
        ("run", "threads", 2),
        ("run", "save_every", 3),
        ("ppo", "kl_coef", 0.5),
        ("eval", "eval_prompts", 7),
        ("versions", "python", "2.7"),
    ],
)
def test_a_configuration_that_was_edited_is_refused(section, name, value, stopped, capsys):
    config = read_json(stopped / "config.json")
    config[section][name] = value
    (stopped / "config.json").write_text(json.dumps(config))
    assert main(["--resume", "--out", str(stopped)]) == 2
    assert capsys.readouterr().err == (
        f"error: {stopped}/config.json: is not as the run wrote it; undo the change, or start a "
        "new run with the settings that you want\n"
    )


def test_a_configuration_that_was_only_laid_out_anew_is_no_harm(stopped):
    config = read_json(stopped / "config.json")
    (stopped / "config.json").write_text(json.dumps(dict(reversed(config.items()))))
    assert resume(stopped) == 0


def change_a_digit(path, number):
    """Another digit in the row with this number."""
    lines = path.read_text().splitlines(keepends=True)
    place = lines[number - 1].index('"objective/entropy": ') + 25
    digit = "6" if lines[number - 1][place] == "5" else "5"
    lines[number - 1] = lines[number - 1][:place] + digit + lines[number - 1][place + 1 :]
    path.write_text("".join(lines))


@pytest.mark.parametrize(
    "number, goes_on_from",
    [(1, None), (2, None), (3, "update 2"), (4, "update 2"), (5, "update 4")],
)
def test_a_digit_of_the_metrics_that_was_changed_is_noticed(
    number, goes_on_from, stopped, undisturbed, capsys
):
    change_a_digit(stopped / "metrics.jsonl", number)
    assert main(["--resume", "--out", str(stopped)]) == 0
    screen = capsys.readouterr().out
    assert ("rows up to update 4 are not as they were written" in screen) == (number < 5)
    assert ("policy: from " in screen) == (goes_on_from is not None)
    assert goes_on_from is None or f"policy: from {goes_on_from}" in screen
    assert content(stopped) == content(undisturbed)


@pytest.mark.parametrize(
    "left, goes_on_from", [(5.0, "update 4"), (4.5, "update 4"), (3.2, "update 2")]
)
def test_metrics_that_were_cut_off_are_made_again(left, goes_on_from, stopped, undisturbed, capsys):
    path = stopped / "metrics.jsonl"
    lines = path.read_text().splitlines(keepends=True)
    whole = int(left)
    part = lines[whole][: int((left - whole) * len(lines[whole]))] if left > whole else ""
    path.write_text("".join(lines[:whole]) + part)
    assert main(["--resume", "--out", str(stopped)]) == 0
    screen = capsys.readouterr().out
    assert (f"metrics.jsonl, line {whole + 1}: not JSON" in screen) == bool(part)
    assert f"policy: from {goes_on_from}" in screen
    assert content(stopped) == content(undisturbed)


@pytest.mark.parametrize("damage", [Path.unlink, cut_off, lambda path: path.write_text("{}")])
def test_a_summary_that_is_not_whole_is_made_again(damage, undisturbed, tmp_path):
    out = Path(shutil.copytree(undisturbed, tmp_path / "run"))
    damage(out / "summary.json")
    assert resume(out) == 0 and content(out)[:4] == content(undisturbed)[:4]


@pytest.mark.parametrize(
    "damage, name",
    [
        (lambda out: change_a_digit(out / "metrics.jsonl", 6), "metrics.jsonl"),
        (lambda out: flip_a_bit(out / "checkpoints/sft/model.safetensors"), "model.safetensors"),
    ],
)
def test_a_finished_run_that_was_changed_is_named_and_can_be_mended(
    damage, name, undisturbed, tmp_path, capsys
):
    out = Path(shutil.copytree(undisturbed, tmp_path / "run"))
    damage(out)
    assert resume(out) == 2
    error = capsys.readouterr().err
    assert name in error and "remove its summary.json, and --resume makes again" in error
    (out / "summary.json").unlink()
    assert resume(out) == 0 and content(out)[:4] == content(undisturbed)[:4]


# -- what may change


@pytest.mark.slow
def test_threads_may_change_and_that_is_said(stopped, undisturbed, capsys):
    try:
        assert main(["--resume", "--out", str(stopped), "--threads", "2"]) == 0
    finally:
        torch.set_num_threads(1)
    line = "--threads: 2 from here on, before 1; the last bits of what is still to come may differ"
    assert line in capsys.readouterr().out.splitlines()
    assert read_json(stopped / "config.json")["run"]["threads"] == 2
    assert read_json(stopped / "summary.json")["threads"] == 2
    assert len(read_rows(stopped / "metrics.jsonl")) == 6


def test_how_often_a_state_is_kept_may_change(stopped, undisturbed):
    assert main(["--resume", "--out", str(stopped), "--quiet", "--save_every", "1"]) == 0
    assert (stopped / "checkpoints/update-0000005").is_dir()
    assert content(stopped)[:4] == content(undisturbed)[:4]
    assert resume(stopped) == 0  # its configuration is whole


def test_a_folder_that_has_been_changed_once_can_be_taken_up_once_more(stopped, capsys):
    for status, flags in ((0, ["--save_every", "3"]), (2, ["--save_every", "3", "--seed", "1"])):
        assert main(["--resume", "--out", str(stopped), "--quiet", *flags]) == status
