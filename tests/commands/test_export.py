"""Models in Hugging Face's files and back: the same numbers there, the same bits here, and one line
for what does not fit.

The tests that need transformers or tokenizers are skipped where they are not installed; the others
need neither.
"""

import shutil

import torch

from minippo.commands.export import main
from minippo.commands.train import main as train
from minippo.interchange.foreign import read_gpt2
from minippo.interchange.load import load_gpt
from tests.tiny_runs import FILES_RUN, LANGUAGE_MODELS, read_json


def refused(capsys, *arguments, by=main):
    """The one line with which a command refuses."""
    assert by([str(argument) for argument in arguments]) == 2
    out, err = capsys.readouterr()
    assert out == "" and len(err.splitlines()) == 1 and err.startswith("error: ")
    return err


# -- what is written


def test_the_files_their_names_and_their_layout(exported):
    from safetensors import safe_open

    kind, run, folders = exported
    common = {
        "config.json",
        "model.safetensors",
        "tokenizer.json",
        "tokenizer_config.json",
        "special_tokens_map.json",
    }
    for stage, folder in folders.items():
        wanted = common | ({"generation_config.json"} if stage in LANGUAGE_MODELS else set())
        assert {path.name for path in folder.iterdir()} == wanted
    with safe_open(folders["policy"] / "model.safetensors", framework="pt") as file:
        assert file.metadata() == {"format": "pt"}
        shapes = {name: list(file.get_tensor(name).shape) for name in file.keys()}  # noqa: SIM118  (no dict)
    assert shapes["transformer.h.1.attn.c_attn.weight"] == [8, 24] and shapes[
        "transformer.h.1.mlp.c_proj.weight"
    ] == [32, 8]
    assert len(shapes) == 2 + 2 * 12 + 2 and "lm_head.weight" not in shapes


def test_the_screen_says_what_was_written_how_a_prompt_looks_and_the_offset(
    exported, tmp_path, capsys
):
    kind, run, _ = exported
    assert (
        main(
            [
                "--run",
                str(run),
                "--stage",
                "reward_model",
                "--to",
                "hf",
                str(tmp_path / "new" / "folder"),
            ]
        )
        == 0
    )
    out = capsys.readouterr().out
    assert (
        len(out.splitlines()) == 3
        and "AutoModelForSequenceClassification" in out
        and "score = logit + 5 (" in out
    )
    assert ("a prompt begins with <bos>" in out) and ("line break" in out) == (kind == "byte")


def test_a_write_that_fails_leaves_nothing_behind(exported, tmp_path, capsys, monkeypatch):
    def full(*arguments):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("minippo.commands.export.write_json", full)
    assert main(["--run", str(exported[1]), "--to", "hf", str(tmp_path / "x")]) == 1
    assert (
        capsys.readouterr().err
        == f"error: cannot write {tmp_path / 'x'}: No space left on device\n"
    )
    assert not list(tmp_path.iterdir())


# -- the command


def test_the_command_refuses_in_one_line(exported, tmp_path, capsys):
    _, run, folders = exported
    (
        (tmp_path / "full").mkdir(),
        (tmp_path / "full/x").write_text("mine"),
        (tmp_path / "file").write_text("mine"),
    )
    (tmp_path / "young/checkpoints/pretrain").mkdir(parents=True)
    for arguments, message in (
        (
            ["--run", run, "--to", "hf", tmp_path / "full"],
            "full: is not empty; name another folder",
        ),
        (["--run", run, "--to", "hf", tmp_path / "file"], "file: cannot be used: Not a directory"),
        (["--run", run, "--to", "onnx", tmp_path / "x"], "--to onnx: wanted the format hf"),
        (
            ["--run", run, "--stage", "evaluation", "--to", "hf", tmp_path / "x"],
            "--stage evaluation: wanted one of",
        ),
        (["--run", tmp_path / "nowhere", "--to", "hf", tmp_path / "x"], "nowhere: holds no run"),
        (
            ["--run", tmp_path / "young", "--to", "hf", tmp_path / "x"],
            "has no stage policy yet (there: pretrain)",
        ),
        (["--run", run], "one of the arguments --to --from is required"),
        (
            ["--run", tmp_path / "full", "--from", "hf", folders["sft"]],
            "full: is not empty; name another folder",
        ),
        (
            ["--run", tmp_path / "x", "--stage", "critic", "--from", "hf", folders["sft"]],
            "--stage critic: wanted one",
        ),
        (
            ["--run", tmp_path / "x", "--from", "hf", folders["critic"]],
            "wanted GPT2LMHeadModel, got GPT2ForTokenClass",
        ),
    ):
        assert message in refused(capsys, *arguments), arguments
    assert (tmp_path / "full/x").read_text() == "mine" and not (tmp_path / "x").exists()


def test_a_damaged_checkpoint_is_not_exported(exported, tmp_path, capsys):
    run = shutil.copytree(exported[1], tmp_path / "run")
    with open(run / "checkpoints/policy/model.safetensors", "ab") as file:
        file.write(b"!")
    assert "is not as it was written" in refused(capsys, "--run", run, "--to", "hf", tmp_path / "x")


# -- a run that starts from such files


def test_a_run_starts_from_such_a_folder_and_goes_on_without_it(
    bytes_folder, data, tmp_path, capsys
):
    start = shutil.copytree(bytes_folder, tmp_path / "DIR2")
    arguments = [
        *FILES_RUN,
        "--data",
        str(data),
        "--start_from",
        str(start),
        "--out",
        str(tmp_path / "run"),
    ]
    assert train(arguments) == 0
    model = read_gpt2(start)[0]
    assert all(
        torch.equal(tensor, load_gpt(tmp_path / "run", "pretrain").state_dict()[name])
        for name, tensor in model.state_dict().items()
    )
    assert read_json(tmp_path / "run/config.json")["model"] == {
        "n_layer": 2,
        "n_head": 2,
        "n_embd": 8,
    }
    policy = (tmp_path / "run/checkpoints/policy/model.safetensors").read_bytes()
    # as if stopped after the first stage
    for name in ("sft", "reward_model", "policy", "critic", "update-0000002"):
        shutil.rmtree(tmp_path / "run/checkpoints" / name)
    (tmp_path / "run/summary.json").unlink(), shutil.rmtree(start), capsys.readouterr()
    assert train(["--resume", "--out", str(tmp_path / "run"), "--quiet"]) == 0
    assert (tmp_path / "run/checkpoints/policy/model.safetensors").read_bytes() == policy


def test_a_start_that_does_not_fit_the_run_is_refused(bytes_folder, data, tmp_path, capsys):
    for arguments, message in (
        (
            [*FILES_RUN, "--data", data, "--start_from", bytes_folder, "--completion_length", "90"],
            "its context has 96 tokens, this run needs 112; lower --prompt_length",
        ),
        (
            [*FILES_RUN, "--data", data, "--start_from", tmp_path / "none"],
            "none: there is no such folder, and nothing is downloaded",
        ),
        (
            [*FILES_RUN, "--data", data, "--start_from", bytes_folder, "--n_layer", "2"],
            "--n_layer: --start_from takes",
        ),
        (
            [*FILES_RUN, "--data", data, "--start_from", bytes_folder, "--pretrain_steps", "2"],
            "--pretrain_steps: --",
        ),
        (
            ["--task", "tldr", "--start_from", bytes_folder],
            "--start_from: only the task files can go on with a model",
        ),
    ):
        assert message in refused(capsys, *arguments, "--out", tmp_path / "run", by=train), (
            arguments
        )
        assert not (tmp_path / "run").exists()


def test_a_run_whose_metrics_were_cut_is_exported_all_the_same(exported, tmp_path):
    run = shutil.copytree(exported[1], tmp_path / "run")
    (run / "metrics.jsonl").write_text('{"update": 1, "objec')
    assert main(["--run", str(run), "--to", "hf", str(tmp_path / "out")]) == 0
