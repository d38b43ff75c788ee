"""Runs that are over in a second, and run folders made without one: what the tests of commands,
runs and interchange share."""

import json
import shlex
from collections.abc import Iterator
from contextlib import contextmanager
from types import SimpleNamespace

import pytest
import torch

from minippo.commands import drawing, summary
from minippo.commands.config import resolve
from minippo.commands.train import main
from minippo.critic_head import Critic
from minippo.gpt import GPT, GPTConfig
from minippo.reward_head import RewardModel
from minippo.runs import figures
from minippo.runs.folder import RunFolder
from minippo.tokenizer import ByteTokenizer, WordTokenizer

TINY = shlex.split("""
    --threads 1 --device cpu --n_layer 1 --n_head 2 --n_embd 8
    --pretrain_steps 3 --pretrain_batch_size 4 --sft_steps 2 --sft_batch_size 4
    --preference_prompts 8 --preference_heldout 6 --reward_epochs 1 --reward_batch_size 4
    --num_updates 2 --batch_size 8 --eval_prompts 6 --optimum_prompts 2 --optimum_draws 8
    --no-report
""")
# The steps are enough to learn something: a model that knows nothing never gives a right answer,
# and then there is nothing to compare.
CAPITALS = shlex.split("""
    --pretrain_steps 60 --sft_steps 30 --pretrain_batch_size 32 --sft_batch_size 32 --n_embd 16
    --preference_prompts 60 --preference_heldout 60 --pretrain_learning_rate 1e-2
""")
STAGES = ("pretrain", "sft", "reward_model", "policy", "critic")
TIMES = ("seconds", "eps")

WORDS = WordTokenizer(["a", "baker", "in", "rome"])
TOKENIZERS = {"word": WORDS, "byte": ByteTokenizer()}
LANGUAGE_MODELS = ("pretrain", "sft", "policy")
OF_AN_ANNOTATOR = ("--preference_prompts",)
TINY_FILES = [word for i, word in enumerate(TINY) if TINY[i - i % 2] not in OF_AN_ANNOTATOR]
OWN_SIZE = ("--n_layer", "--n_head", "--n_embd", "--pretrain_steps", "--pretrain_batch_size")
FILES_RUN = [w for i, w in enumerate(TINY_FILES) if TINY_FILES[i - i % 2] not in OWN_SIZE]
FILES_RUN += shlex.split("""
    --task files --quiet --prompt_length 20 --completion_length 30 --response_length 20
    --preference_heldout 4
""")


def timeless(numbers):
    """Numbers to be drawn, without those that tell the time."""
    if isinstance(numbers, dict):
        return {name: value for name, value in numbers.items() if name not in TIMES}
    return [timeless(item) for item in numbers] if isinstance(numbers, list | tuple) else numbers


class NotDrawn:
    """Stands for a figure; its picture is the numbers that would be drawn."""

    def __init__(self, *arguments, **more):
        self.arguments = (*arguments, *more.values())

    def savefig(self, file, format):
        file.write(repr(timeless(self.arguments)).encode())


@contextmanager
def nothing_drawn() -> Iterator[None]:
    """Runs that end in here draw nothing and do not measure the machine, which is most of the time
    of a tiny run."""
    with pytest.MonkeyPatch.context() as patch:
        names = dict.fromkeys(figures.__all__, NotDrawn)
        patch.setattr(drawing, "figures", SimpleNamespace(**names))
        patch.setattr(summary, "matmul_loop_seconds", lambda device: 1.0)
        yield


def run(out, *arguments):
    """One tiny run; returns its folder."""
    tiny = TINY_FILES if "files" in arguments else TINY
    assert main([*tiny, "--out", str(out), *arguments]) == 0
    return out


def read_json(path):
    return json.loads(path.read_text())


def read_rows(path):
    return [json.loads(line) for line in path.read_text().splitlines()]


def random_gpt(vocab_size, seed):
    """A GPT whose every parameter is random, biases and LayerNorms included."""
    model, generator = GPT(GPTConfig(vocab_size, 96, 2, 2, 8)), torch.Generator().manual_seed(seed)
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.5, generator=generator)
    return model.eval()


def make_run(path, kind):
    """A run folder with every stage, untrained."""
    tokenizer, folder = TOKENIZERS[kind], RunFolder(path)
    path.mkdir()
    folder.save_config(
        resolve(
            {"task": "files", "data": "DIR"} if kind == "byte" else {"temperature": 0.7}
        ).to_dict()
    )
    gpts = {
        stage: random_gpt(tokenizer.vocab_size, seed) for seed, stage in enumerate(LANGUAGE_MODELS)
    }
    reward_model = RewardModel(
        gpts["sft"], generator=torch.Generator().manual_seed(9)
    ).requires_grad_(False)
    (
        reward_model.head.bias.fill_(0.3),
        reward_model.center.fill_(-1.7),
        reward_model.scale.fill_(0.4),
    )
    models = gpts | {"reward_model": reward_model, "critic": Critic.from_reward_model(reward_model)}
    for stage, model in models.items():
        folder.save_checkpoint(
            stage,
            model,
            model_config=vars(gpts["sft"].config),
            tokenizer=tokenizer.to_dict(),
            info={},
        )
    return path
