"""A GPT-2 from elsewhere: other names for the same, weights that are no numbers, several files."""

import json
import shutil

import pytest
import torch
from safetensors.torch import load_file, save_file

from minippo.errors import InputError
from minippo.interchange.foreign import SAME_ACTIVATION, read_gpt2


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
