"""Models in Hugging Face's files and back: the same numbers there, the same bits here, and one line
for what does not fit.

The tests that need transformers or tokenizers are skipped where they are not installed; the others
need neither.
"""

import json
import re
import shutil
import sys

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from minippo.commands.export import main
from minippo.commands.train import main as train
from minippo.errors import InputError
from minippo.interchange.foreign import read_gpt2
from minippo.interchange.hugging_face import byte_names, tokenizer_files
from minippo.interchange.load import load_critic, load_gpt, load_reward_model, load_tokenizer
from minippo.tasks import Capitals, Files, Tldr
from minippo.tokenizer import ByteTokenizer, HFTokenizer, pad_left, pad_right, tokenizer_from_dict
from tests.tiny_runs import FILES_RUN, LANGUAGE_MODELS, TOKENIZERS, WORDS, read_json


def ragged(tokenizer, side=pad_left):
    """Rows of several lengths, each ending in EOS: (tokens, mask, positions that count real
    tokens)."""
    rows = [[tokenizer.bos_id, *(3 + i % 4 for i in range(n)), tokenizer.eos_id] for n in (1, 7, 4)]
    tokens, mask = side(rows, tokenizer.pad_id)
    return tokens, mask, (mask.cumsum(dim=1) - 1).clamp(min=0)


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


def test_the_configuration_says_what_the_model_is(exported):
    kind, run, folders = exported
    tokenizer, config = TOKENIZERS[kind], read_json(folders["policy"] / "config.json")
    wanted = {
        "model_type": "gpt2",
        "architectures": ["GPT2LMHeadModel"],
        "vocab_size": tokenizer.vocab_size,
        "n_layer": 2,
        "n_positions": 96,
        "activation_function": "gelu_new",
        "layer_norm_epsilon": 1e-5,
        "resid_pdrop": 0.0,
        "tie_word_embeddings": True,
        "bos_token_id": tokenizer.bos_id,
        "eos_token_id": tokenizer.eos_id,
        "pad_token_id": tokenizer.pad_id,
    }
    assert config.items() >= wanted.items()
    generation = read_json(folders["policy"] / "generation_config.json")
    # their default of 50 would cut the distribution
    assert generation["do_sample"] and generation["top_k"] == 0
    assert (generation["temperature"], generation["max_new_tokens"]) == (
        (1.0, 240) if kind == "byte" else (0.7, 14)
    )


def test_the_score_is_the_head_without_bias_and_the_offset(exported):
    from safetensors.torch import load_file

    kind, run, folders = exported
    tokens, mask, _ = ragged(TOKENIZERS[kind])
    reward_model, config = (
        load_reward_model(run),
        read_json(folders["reward_model"] / "config.json"),
    )
    weight = load_file(folders["reward_model"] / "model.safetensors")["score.weight"]
    logits = reward_model.trunk.hidden(tokens, mask)[:, -1] @ weight.T
    scores = logits.squeeze(1) + config["minippo_score_offset"]
    torch.testing.assert_close(scores, reward_model(tokens, mask), atol=1e-5, rtol=0)


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


# -- what transformers makes of it


@pytest.mark.parametrize("side", [pad_left, pad_right])
def test_logits_are_the_same_in_transformers(exported, theirs, side):
    kind, run, folders = exported
    tokens, mask, positions = ragged(TOKENIZERS[kind], side)
    model = theirs.AutoModelForCausalLM.from_pretrained(folders["policy"])
    logits, ours = (
        model(tokens, attention_mask=mask.long(), position_ids=positions).logits,
        load_gpt(run),
    )
    torch.testing.assert_close(logits[mask], ours(tokens, mask)[mask], atol=1e-5, rtol=0)
    row = tokens[1:2]  # no padding: neither a mask nor positions are needed
    torch.testing.assert_close(model(row).logits, ours(row), atol=1e-5, rtol=0)


@pytest.mark.parametrize("side", [pad_left, pad_right])
def test_scores_are_the_same_in_transformers_after_the_offset(exported, theirs, side):
    kind, run, folders = exported
    tokens, mask, positions = ragged(TOKENIZERS[kind], side)
    model = theirs.AutoModelForSequenceClassification.from_pretrained(folders["reward_model"])
    positions = {} if side is pad_right else {"position_ids": positions}
    scores = (
        model(tokens, attention_mask=mask.long(), **positions).logits.squeeze(1)
        + model.config.minippo_score_offset
    )
    torch.testing.assert_close(scores, load_reward_model(run)(tokens, mask), atol=1e-5, rtol=0)


def test_values_are_the_same_in_transformers(exported, theirs):
    kind, run, folders = exported
    tokens, mask, positions = ragged(TOKENIZERS[kind])
    model = theirs.AutoModelForTokenClassification.from_pretrained(folders["critic"])
    values = model(tokens, attention_mask=mask.long(), position_ids=positions).logits.squeeze(2)
    torch.testing.assert_close(
        values[mask], load_critic(run)(tokens, mask)[mask], atol=1e-5, rtol=0
    )


def test_the_tokenizer_gives_the_prompts_of_the_task_files(bytes_folder, theirs, data):
    task = Files(
        data,
        prompt_length=20,
        completion_length=30,
        heldout_pairs=4,
        truncate=False,
        generator=torch.Generator().manual_seed(0),
    )
    tokenizer = theirs.AutoTokenizer.from_pretrained(bytes_folder)
    assert tokenizer("say 3 things\n")["input_ids"] == task.prompt_ids("say 3 things")
    batch = tokenizer(["say 3 things\n", "two\n"], padding=True, return_tensors="pt")
    tokens, mask = task.prompt_batch(["say 3 things", "two"])
    assert torch.equal(batch["input_ids"], tokens) and torch.equal(
        batch["attention_mask"].bool(), mask
    )


@pytest.mark.parametrize(
    "task, prompt",
    [
        (Capitals(), "what is the capital of france ?"),
        (Tldr(), "i am a baker . i love chess . i live in rome . tl;dr :"),
    ],
)
def test_the_tokenizer_gives_the_prompts_of_the_toy_worlds(theirs, tmp_path, task, prompt):
    for name, content in tokenizer_files(
        task.tokenizer, context_length=64, padding_side="left"
    ).items():
        (tmp_path / name).write_text(json.dumps(content))
    (tmp_path / "config.json").write_text('{"model_type": "gpt2"}')
    assert theirs.AutoTokenizer.from_pretrained(tmp_path)(prompt)["input_ids"] == task.prompt_ids(
        prompt
    )


@pytest.fixture(scope="module")
def library(exported):
    """(our tokenizer, theirs) of the exported policy, as the package tokenizers reads it."""
    from_file = pytest.importorskip("tokenizers").Tokenizer.from_file
    tokenizer = from_file(str(exported[2]["policy"] / "tokenizer.json"))
    # what split_special_tokens in tokenizer_config.json stands for
    tokenizer.encode_special_tokens = True
    return TOKENIZERS[exported[0]], tokenizer


@settings(max_examples=60, deadline=None)
@given(
    text=st.text(),
    words=st.lists(st.sampled_from(WORDS.words[3:])),
    space=st.sampled_from((" ", "\n", " \t  ", "\u2003")),
    ids=st.lists(st.integers(0, 258)),
)
def test_tokenizers_agree_on_any_text_and_on_any_ids(library, text, words, space, ids):
    ours, other = library
    if ours is WORDS:
        text, ids = space.join(words), [i % ours.vocab_size for i in ids]
    assert other.encode(text).ids == [ours.bos_id, *ours.encode(text)]
    assert other.decode(ids) == ours.decode(ids)


@pytest.mark.parametrize(
    "text", ["a 😀\r\n\tb", "<eos>", "<bos> <pad>", "e\u0301 \u00e9", "\x00\x7f\u0080", " a  b "]
)
def test_bytes_are_bytes_in_transformers_too(bytes_folder, theirs, text):
    tokenizer, ours = theirs.AutoTokenizer.from_pretrained(bytes_folder), ByteTokenizer()
    assert tokenizer(text)["input_ids"] == [ours.bos_id, *ours.encode(text)]
    assert tokenizer.decode([*ours.encode(text), ours.eos_id], skip_special_tokens=True) == text


def test_the_visible_characters_of_the_bytes_are_those_of_gpt2():
    names = byte_names()
    assert (
        len(set(names)) == 256
        and names[ord("a")] == "a"
        and names[ord(" ")] == "Ġ"
        and names[ord("\n")] == "Ċ"
    )
    assert names[0] == "Ā" and names[0xAD] == chr(0x143) and names[0xFF] == "ÿ"


# -- and back


@pytest.mark.parametrize("stage", LANGUAGE_MODELS)
def test_there_and_back_again_gives_the_same_bits(exported, stage, tmp_path, capsys):
    kind, run, folders = exported
    assert (
        main(
            ["--from", "hf", str(folders[stage]), "--run", str(tmp_path / "back"), "--stage", stage]
        )
        == 0
    )
    assert "load_gpt" in capsys.readouterr().out
    before, after = (load_gpt(folder, stage) for folder in (run, tmp_path / "back"))
    assert before.config == after.config
    for name, tensor in before.state_dict().items():
        assert torch.equal(tensor, after.state_dict()[name]), name
    assert load_tokenizer(tmp_path / "back", stage).to_dict() == TOKENIZERS[kind].to_dict()


@pytest.fixture
def folder(bytes_folder, tmp_path):
    """A copy of an exported policy, to be spoilt."""
    return shutil.copytree(bytes_folder, tmp_path / "DIR2")


def change_tensors(folder, change):
    from safetensors.torch import load_file, save_file

    tensors = load_file(folder / "model.safetensors")
    save_file(change(tensors), folder / "model.safetensors")
    return tensors


def change_config(folder, **changes):
    path = folder / "config.json"
    path.write_text(
        json.dumps(
            {name: value for name, value in (read_json(path) | changes).items() if value != "out"}
        )
    )


def test_what_other_programs_write_beside_the_weights_does_no_harm(folder):
    def change(tensors):
        tensors = {name.removeprefix("transformer."): tensor for name, tensor in tensors.items()}
        return tensors | {
            "lm_head.weight": tensors["wte.weight"].clone(),
            "h.0.attn.bias": torch.ones(1, 1, 4, 4).bool(),
            "h.1.attn.masked_bias": torch.tensor(-1e4),
        }

    before = read_gpt2(folder)[0].state_dict()
    change_tensors(folder, change)
    change_config(folder, activation_function="out", n_inner=32, architectures=None)
    after = read_gpt2(folder)[0].state_dict()
    assert all(torch.equal(before[name], after[name]) for name in before)


def test_other_types_of_numbers_are_read_as_float32(folder):
    change_tensors(
        folder, lambda tensors: {name: tensor.bfloat16() for name, tensor in tensors.items()}
    )
    assert {tensor.dtype for tensor in read_gpt2(folder)[0].state_dict().values()} == {
        torch.float32
    }


@pytest.mark.parametrize(
    "changes, message",
    [
        (dict(model_type="llama"), "model_type: wanted 'gpt2', got 'llama'"),
        (
            dict(architectures=["GPT2ForSequenceClassification"]),
            "architectures: wanted GPT2LMHeadModel, got GPT2ForSeq",
        ),
        (
            dict(activation_function="relu"),
            "activation_function: a GPT of minippo has 'gelu_new', got 'relu'",
        ),
        (
            dict(layer_norm_epsilon=1e-6),
            "layer_norm_epsilon: a GPT of minippo has 1e-05, got 1e-06",
        ),
        (
            dict(scale_attn_by_inverse_layer_idx=True),
            "scale_attn_by_inverse_layer_idx: a GPT of minippo has False",
        ),
        (dict(scale_attn_weights=False), "scale_attn_weights: a GPT of minippo has True"),
        (
            dict(tie_word_embeddings=False),
            "tie_word_embeddings: a GPT of minippo has True, got False",
        ),
        (dict(n_inner=16), "n_inner: a GPT of minippo has 4 * n_embd, 32, got 16"),
        (dict(n_embd=None), "n_embd: wanted a whole number of at least 1, got None"),
        (dict(n_positions=12), "wpe.weight: wanted [12, 8], got [96, 8]"),
        (dict(n_layer=3), "wanted the 3 layers of config.json, got 2"),
        (dict(n_layer=10**12), "wanted the 1000000000000 layers of config.json, got 2"),
        (dict(n_head=3), "n_embd must be a multiple of n_head"),
    ],
)
def test_a_configuration_that_a_gpt_cannot_be_is_refused(folder, changes, message):
    change_config(folder, **changes)
    with pytest.raises(InputError, match=re.escape(message)):
        read_gpt2(folder)


@pytest.mark.parametrize(
    "change, message",
    [
        (
            lambda tensors: {k: v for k, v in tensors.items() if "ln_f.bias" not in k},
            "Missing.*ln_f.bias",
        ),
        (lambda tensors: tensors | {"v_head.weight": torch.ones(2)}, "Unexpected.*v_head.weight"),
        (
            lambda tensors: tensors | {"transformer.ln_f.bias": torch.ones(3)},
            "size mismatch for ln_f.bias",
        ),
        (
            lambda tensors: tensors | {"lm_head.weight": torch.ones(2)},
            "lm_head.weight: differs from wte.weight",
        ),
        (
            lambda tensors: {k: v.to(torch.int8) for k, v in tensors.items()},
            "holds whole numbers where weights should be",
        ),
        (
            lambda tensors: {k: v for k, v in tensors.items() if "wte" not in k},
            "wte.weight: wanted .* got None",
        ),
    ],
)
def test_weights_that_are_not_those_of_the_configuration_are_refused(folder, change, message):
    change_tensors(folder, change)
    with pytest.raises(InputError, match=message) as caught:
        read_gpt2(folder)
    assert len(str(caught.value).splitlines()) == 1


def test_files_that_are_missing_broken_or_pickled_are_refused(folder, tmp_path, capsys):
    def line():
        return refused(capsys, "--from", "hf", folder, "--run", tmp_path / "new")

    weights = folder / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-4])
    assert "model.safetensors: not a file of tensors that can be read" in line()
    weights.unlink()
    assert "there is no model.safetensors" in line()
    (folder / "pytorch_model.bin").write_bytes(b"")
    assert "pytorch_model.bin is a pickle, and nothing is unpickled here" in line()
    (folder / "model.safetensors.index.json").write_text("{}")
    assert "model.safetensors.index.json: weight_map: wanted an object" in line()
    (folder / "config.json").write_text("[")
    assert "config.json: not JSON that can be read" in line()
    (folder / "config.json").unlink()
    assert "config.json: there is no such file" in line()
    assert not (tmp_path / "new").exists()


def test_a_tokenizer_that_does_not_fit_the_model_is_refused(folder):
    path = folder / "tokenizer_config.json"
    path.write_text(json.dumps({"minippo_tokenizer": {"kind": "word", "words": ["a"]}}))
    with pytest.raises(InputError, match="has 4 ids, the model"):
        read_gpt2(folder)
    path.write_text(json.dumps({"minippo_tokenizer": {"kind": "else"}}))
    with pytest.raises(InputError, match="tokenizer_config.json: kind: a tokenizer is"):
        read_gpt2(folder)


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


# -- a GPT-2 that transformers has written


def write_gpt2(theirs, path, vocab_size=None):
    """A small GPT-2 and the tokenizer that was trained for it: byte pairs, "<|endoftext|>" for BOS
    and EOS, no PAD."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer, tokenizer.decoder = (
        pre_tokenizers.ByteLevel(add_prefix_space=False),
        decoders.ByteLevel(),
    )
    tokenizer.train_from_iterator(
        ["here are three of them, say two things"] * 4,
        trainers.BpeTrainer(
            vocab_size=300,
            special_tokens=["<|endoftext|>"],
            initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
            show_progress=False,
        ),
    )
    rows = tokenizer.get_vocab_size() if vocab_size is None else vocab_size
    torch.manual_seed(0)
    model = theirs.GPT2LMHeadModel(
        theirs.GPT2Config(
            vocab_size=rows,
            n_positions=96,
            n_embd=8,
            n_layer=2,
            n_head=2,
            bos_token_id=0,
            eos_token_id=0,
        )
    )
    model.save_pretrained(path)
    tokenizer.save(str(path / "tokenizer.json"))
    return model.eval(), tokenizer


def test_a_gpt2_gets_a_pad_of_its_own_and_is_the_same_otherwise(theirs, tmp_path):
    model, library = write_gpt2(theirs, tmp_path)
    ours, tokenizer = read_gpt2(tmp_path)
    n = library.get_vocab_size()
    assert (tokenizer.bos_id, tokenizer.eos_id, tokenizer.pad_id, tokenizer.vocab_size) == (
        0,
        0,
        n,
        n + 1,
    )
    rows = [[0, *tokenizer.encode(text)] for text in ("say two", "here are three things")]
    tokens, mask = pad_left(rows, tokenizer.pad_id)
    logits = ours(tokens, mask)
    theirs_on_row_1 = model(tokens[1:]).logits
    torch.testing.assert_close(logits[1:, :, :n], theirs_on_row_1, atol=1e-5, rtol=0)
    torch.testing.assert_close(logits[..., n], logits[..., :n].mean(dim=-1), atol=1e-5, rtol=0)


def test_a_row_to_spare_becomes_pad_and_a_row_too_few_is_refused(theirs, tmp_path):
    _, library = write_gpt2(theirs, tmp_path, vocab_size=320)
    ours, tokenizer = read_gpt2(tmp_path)
    assert (
        tokenizer.pad_id == library.get_vocab_size()
        and ours.config.vocab_size == tokenizer.vocab_size == 320
    )
    write_gpt2(theirs, tmp_path, vocab_size=260)
    with pytest.raises(InputError, match="tokenizer.json: has .* ids, the model 260"):
        read_gpt2(tmp_path)


def test_the_tokenizer_survives_a_checkpoint_and_holds_no_special_token_in_a_text(theirs, tmp_path):
    _, library = write_gpt2(theirs, tmp_path)
    tokenizer = tokenizer_from_dict(json.loads(json.dumps(read_gpt2(tmp_path)[1].to_dict())))
    text = "say 😀 $x$ <|endoftext|>\n"
    ids = tokenizer.encode(text)
    assert (
        tokenizer.eos_id not in ids
        and tokenizer.decode([tokenizer.bos_id, *ids, tokenizer.pad_id]) == text
    )
    assert list(tokenizer.encode_long(text)) == ids
    assert [tokenizer.token_text(i) for i in (0, tokenizer.pad_id)] == ["<|endoftext|>", "<pad>"]
    assert [tokenizer.token_text(tokenizer.encode(text)[0]) for text in ("\n", "$")] == [
        r"\n",
        r"\$",
    ]


def test_a_tokenizer_that_cannot_be_used_is_refused(theirs, tmp_path, monkeypatch):
    write_gpt2(theirs, tmp_path)
    change_config(tmp_path, eos_token_id=[0, 5])
    with pytest.raises(
        InputError, match="config.json: eos_token_id: wanted one of the tokenizer's"
    ):
        read_gpt2(tmp_path)
    (tmp_path / "tokenizer.json").write_text("{}")
    with pytest.raises(InputError, match="tokenizer.json: not a tokenizer that can be read"):
        read_gpt2(tmp_path)


def test_without_the_package_tokenizers_one_line_says_so(folder, monkeypatch):
    (folder / "tokenizer_config.json").unlink()
    monkeypatch.setitem(sys.modules, "tokenizers", None)
    with pytest.raises(
        InputError, match="needs a package that is not here: pip install tokenizers"
    ):
        read_gpt2(folder)


def test_a_run_starts_from_a_gpt2_of_transformers_and_its_policy_goes_back_there(
    theirs, data, tmp_path
):
    write_gpt2(theirs, tmp_path / "DIR2")
    run = tmp_path / "run"
    assert (
        train(
            [
                *FILES_RUN,
                "--data",
                str(data),
                "--start_from",
                str(tmp_path / "DIR2"),
                "--out",
                str(run),
            ]
        )
        == 0
    )
    assert isinstance(load_tokenizer(run), HFTokenizer)
    assert main(["--run", str(run), "--to", "hf", str(tmp_path / "out")]) == 0
    model = theirs.AutoModelForCausalLM.from_pretrained(tmp_path / "out")
    tokenizer = theirs.AutoTokenizer.from_pretrained(tmp_path / "out")
    prompt = tokenizer("say two things\n", return_tensors="pt")
    assert prompt["input_ids"][0].tolist() == [0, *load_tokenizer(run).encode("say two things\n")]
    torch.testing.assert_close(
        model(**prompt).logits, load_gpt(run)(prompt["input_ids"]), atol=1e-5, rtol=0
    )
    assert tokenizer.pad_token_id == load_tokenizer(run).pad_id
    again, same = read_gpt2(tmp_path / "out")
    assert same.pad_id == tokenizer.pad_token_id and torch.equal(
        again.wte.weight, load_gpt(run).wte.weight
    )
