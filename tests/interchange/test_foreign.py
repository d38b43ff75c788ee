"""A GPT-2 from elsewhere: the bits that were written, other names for the same, weights that are no
numbers, several files, and one line for what does not fit."""

import json
import re
import shutil
import sys

import pytest
import torch
from safetensors.torch import load_file, save_file

from minippo.commands.export import main
from minippo.commands.train import main as train
from minippo.errors import InputError
from minippo.interchange.foreign import SAME_ACTIVATION, read_gpt2
from minippo.interchange.load import load_gpt, load_tokenizer
from minippo.tokenizer import HFTokenizer, pad_left, tokenizer_from_dict
from tests.commands.test_export import refused
from tests.tiny_runs import FILES_RUN, LANGUAGE_MODELS, TOKENIZERS, read_json


@pytest.fixture
def folder(bytes_folder, tmp_path):
    """A copy of an exported policy, to be changed."""
    return shutil.copytree(bytes_folder, tmp_path / "DIR2")


def change_json(path, **changes):
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def change_tensors(folder, change):
    """Write change(name, tensor) in the place of each tensor."""
    path = folder / "model.safetensors"
    save_file(dict(change(*item) for item in load_file(path).items()), path)


def check_same(folder, bytes_folder):
    found, wanted = (read_gpt2(path)[0].state_dict() for path in (folder, bytes_folder))
    assert found.keys() == wanted.keys()
    assert all(torch.equal(found[name], wanted[name]) for name in wanted)


def test_the_settings_that_transformers_writes_by_itself_do_no_harm(folder, bytes_folder):
    change_json(folder / "tokenizer_config.json", model_max_length=1000000000000000019884624838656)
    change_json(folder / "config.json", attn_pdrop=float("nan"), max_length=10**40, x=-float("inf"))
    check_same(folder, bytes_folder)


@pytest.mark.parametrize(
    "changes, message",
    [
        (dict(layer_norm_epsilon=float("nan")), "layer_norm_epsilon: .* has 1e-05, got nan"),
        (dict(n_inner=10**30), "n_inner: .* got 1000000000000000000000000000000"),
        (dict(n_layer=float("inf")), "n_layer: wanted a whole number of at least 1, got inf"),
        (dict(n_head=10**30), "n_embd must be a multiple of n_head"),
        (dict(n_embd=8.0), "n_embd: wanted a whole number of at least 1, got 8.0"),
        (dict(n_positions=True), "context_length: wanted a whole number of at least 1, got True"),
        (dict(architectures="GPT2ForQuestionAnswering"), "got GPT2ForQuestionAnswering"),
        (dict(architectures=[7]), "architectures: wanted GPT2LMHeadModel, got 7"),
        (dict(activation_function=["gelu_new"]), r"activation_function: .* got \['gelu_new'\]"),
        (dict(model_type={"a": 1}), "model_type: wanted 'gpt2', got {'a': 1}"),
    ],
)
def test_a_number_is_refused_where_it_is_used(folder, changes, message):
    change_json(folder / "config.json", **changes)
    with pytest.raises(InputError, match=message):
        read_gpt2(folder)


# the activation


@pytest.mark.parametrize("name", SAME_ACTIVATION)
def test_another_name_of_the_same_activation_is_read(folder, bytes_folder, name):
    change_json(folder / "config.json", activation_function=name)
    check_same(folder, bytes_folder)


@pytest.mark.parametrize("name", SAME_ACTIVATION)
def test_it_is_the_same_function_in_transformers(theirs, name):
    x = torch.linspace(-12, 12, 10001)
    wanted = torch.nn.functional.gelu(x, approximate="tanh")
    activation = theirs.activations.ACT2FN[name]
    torch.testing.assert_close(activation(x), wanted, atol=1e-6, rtol=0)


# weights


@pytest.mark.parametrize(
    "prefix", ["_orig_mod.", "module.", "module._orig_mod.", "_fsdp_wrapped_module."]
)
def test_the_names_of_a_wrapped_model_are_read(folder, bytes_folder, prefix):
    change_tensors(folder, lambda name, tensor: (prefix + name, tensor))
    check_same(folder, bytes_folder)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
@pytest.mark.parametrize("spoilt", ["wte.weight", "h.1.mlp.c_fc.bias", "h.0.attn.c_attn.weight"])
def test_weights_that_are_no_numbers_are_refused_by_name(folder, spoilt, value):
    def change(name, tensor):
        if name.endswith(spoilt):
            tensor.view(-1)[3] = value
        return name, tensor

    change_tensors(folder, change)
    with pytest.raises(InputError, match=f"{spoilt}: holds NaN or infinite weights"):
        read_gpt2(folder)
    change_tensors(folder, lambda name, tensor: (name, tensor.bfloat16()))
    with pytest.raises(InputError, match=f"{spoilt}: holds NaN or infinite weights"):
        read_gpt2(folder)


def test_a_weight_too_large_for_float32_is_refused(folder):
    change_tensors(folder, lambda name, tensor: (name, tensor.double()))
    change_tensors(folder, lambda name, tensor: (name, tensor + 1e300 * name.endswith("ln_f.bias")))
    with pytest.raises(InputError, match="ln_f.bias: holds NaN or infinite weights"):
        read_gpt2(folder)


def test_an_output_layer_that_is_nan_like_the_embedding_is_called_nan(folder):
    tensors = load_file(folder / "model.safetensors")
    tensors["transformer.wte.weight"][0, 0] = float("nan")
    output = {"lm_head.weight": tensors["transformer.wte.weight"].clone()}
    save_file(tensors | output, folder / "model.safetensors")
    with pytest.raises(InputError, match="wte.weight: holds NaN"):
        read_gpt2(folder)


def split(folder):
    """Write the weights as two files and an index."""
    tensors = load_file(folder / "model.safetensors")
    (folder / "model.safetensors").unlink()
    names = sorted(tensors)
    halves = {"a.safetensors": names[::2], "b.safetensors": names[1::2]}
    for file, held in halves.items():
        save_file({name: tensors[name] for name in held}, folder / file)
    places = {name: file for file, held in halves.items() for name in held}
    index = {"metadata": {}, "weight_map": places}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    return places


def test_weights_in_two_files_are_read_and_checked_like_those_in_one(folder, bytes_folder):
    split(folder)
    check_same(folder, bytes_folder)
    change_json(folder / "config.json", n_layer=3)
    with pytest.raises(InputError, match="index.json: wanted the 3 layers of config.json, got 2"):
        read_gpt2(folder)
    change_json(folder / "config.json", n_layer=2)
    tensors = load_file(folder / "b.safetensors")
    spoilt = next(iter(tensors))
    tensors[spoilt].view(-1)[0] = float("inf")
    save_file(tensors, folder / "b.safetensors")
    with pytest.raises(InputError, match="index.json: .* holds NaN or infinite weights"):
        read_gpt2(folder)


def test_the_files_that_transformers_splits_are_read(theirs, bytes_folder, tmp_path):
    model = theirs.AutoModelForCausalLM.from_pretrained(bytes_folder)
    model.save_pretrained(tmp_path, max_shard_size="4KB")
    for name in ("tokenizer.json", "tokenizer_config.json"):
        shutil.copy(bytes_folder / name, tmp_path / name)
    assert len(list(tmp_path.glob("*.safetensors"))) > 1
    check_same(tmp_path, bytes_folder)


def test_the_tokenizer_that_transformers_saves_is_read(theirs, bytes_folder, tmp_path):
    """Its model_max_length is 1000000000000000019884624838656 when nobody has set one."""
    theirs.AutoModelForCausalLM.from_pretrained(bytes_folder).save_pretrained(tmp_path)
    tokenizer = theirs.PreTrainedTokenizerFast(
        tokenizer_file=str(bytes_folder / "tokenizer.json"), bos_token="<bos>", eos_token="<eos>"
    )
    tokenizer.save_pretrained(tmp_path)
    written = json.loads((tmp_path / "tokenizer_config.json").read_text())
    assert written["model_max_length"] > 10**29 and "minippo_tokenizer" not in written
    model, read = read_gpt2(tmp_path)
    assert model.config.vocab_size == read.vocab_size == 259
    assert read.encode("say é <eos>\n") == list("say é <eos>\n".encode())


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


def rewrite_tensors(folder, change):
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
    rewrite_tensors(folder, change)
    change_config(folder, activation_function="out", n_inner=32, architectures=None)
    after = read_gpt2(folder)[0].state_dict()
    assert all(torch.equal(before[name], after[name]) for name in before)


def test_other_types_of_numbers_are_read_as_float32(folder):
    rewrite_tensors(
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
    rewrite_tensors(folder, change)
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
    assert tokenizer.notes == ("PAD is '<pad>', a token of its own: config.json names none",)
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
