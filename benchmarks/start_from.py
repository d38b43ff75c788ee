"""A run from a GPT-2 of the published size: how long each stage takes, and in how much memory.

    python benchmarks/start_from.py [settings, as for train_toy]

Makes, in a temporary folder, a GPT-2 of 124 million parameters with random weights in the files of
transformers (nothing is downloaded) and twelve pairs of preferences, and runs train_toy on them in
a process of its own, with few steps and small batches; settings that are given win. Needs the
package tokenizers. Printed are the screen of the run, the seconds of each stage out of summary.json
and the most memory that the process has held, as the system counts it. docs/scaling.md has them.
"""

import itertools
import json
import resource
import subprocess
import sys
import tempfile
from pathlib import Path

import torch

from minippo.gpt import GPT, GPTConfig
from minippo.interchange.hugging_face import byte_names, turned
from minippo.runs.files import write_json, write_jsonl, write_tensors_whole

SIZE = GPTConfig(vocab_size=50257, context_length=1024, n_layer=12, n_head=12, n_embd=768)
END = SIZE.vocab_size - 1  # <|endoftext|>, BOS and EOS in one
FEW = (
    "--threads 2 --prompt_length 32 --completion_length 32 --response_length 16 "
    "--sft_steps 4 --sft_batch_size 4 --preference_heldout 4 --reward_epochs 1 "
    "--reward_batch_size 4 --num_updates 2 --batch_size 8 --num_mini_batches 2 --num_ppo_epochs 1 "
    "--eval_prompts 4 --optimum_draws 4 --save_every 1"
).split()


def write_gpt2(folder: Path) -> None:
    """config.json, model.safetensors and tokenizer.json of a GPT-2 that knows nothing."""
    folder.mkdir()
    model = GPT(SIZE, generator=torch.Generator().manual_seed(0))
    tensors = {
        f"transformer.{name}": turned(name, tensor).contiguous()
        for name, tensor in model.state_dict().items()
    }
    write_tensors_whole(folder / "model.safetensors", tensors)
    sizes = {"n_positions": SIZE.context_length, "vocab_size": SIZE.vocab_size}
    sizes |= {name: getattr(SIZE, name) for name in ("n_layer", "n_head", "n_embd")}
    ends = {"bos_token_id": END, "eos_token_id": END}
    about = {"model_type": "gpt2", "architectures": ["GPT2LMHeadModel"]}
    write_json(folder / "config.json", about | sizes | ends)
    write_json(folder / "tokenizer.json", tokenizer())


def tokenizer() -> dict[str, object]:
    """Byte-level BPE whose 50,000 merges are of two bytes each, and <|endoftext|>."""
    names = byte_names()
    pairs = list(itertools.islice(itertools.product(names, names), END - len(names)))
    pieces = [*names, *map("".join, pairs)]
    level = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True}
    special = {"id": END, "content": "<|endoftext|>", "special": True, "normalized": False}
    special |= dict.fromkeys(("single_word", "lstrip", "rstrip"), False)
    return {
        "version": "1.0",
        "added_tokens": [special],
        "normalizer": None,
        "pre_tokenizer": level | {"use_regex": True},
        "post_processor": None,
        "decoder": level,
        "model": {
            "type": "BPE",
            "vocab": {piece: i for i, piece in enumerate(pieces)},
            "merges": [" ".join(pair) for pair in pairs],
        },
    }


def write_preferences(folder: Path) -> None:
    """Twelve pairs of different prompts."""
    folder.mkdir()
    pairs = [
        {
            "prompt": f"Say the number {i} in words.",
            "chosen": f"The number is {i}, of course.",
            "rejected": f"No {i}.",
        }
        for i in range(12)
    ]
    write_jsonl(folder / "preferences.jsonl", pairs)


def main(settings: list[str]) -> int:
    """Make both, train, print."""
    with tempfile.TemporaryDirectory() as folder:
        model, data, out = (Path(folder, name) for name in ("gpt2", "data", "run"))
        write_gpt2(model)
        write_preferences(data)
        words = [sys.executable, "-m", "minippo.train_toy", "--task", "files", "--data", str(data)]
        words += ["--start_from", str(model), "--out", str(out), *FEW, *settings]
        print("python", *words[1:], flush=True)
        status = subprocess.run(words).returncode
        most = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss  # KiB; bytes on a Mac
        mib = most / 2 ** (20 if sys.platform == "darwin" else 10)
        if status == 0:
            seconds = json.loads((out / "summary.json").read_text())["seconds"]
            print(", ".join(f"{stage} {number:.0f} s" for stage, number in seconds.items()))
        print(f"most memory: {mib:.0f} MiB")
    return status


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
