"""The models of a finished run, for sampling, for an exercise, for a look inside.

    import torch
    from minippo.interchange.load import load_gpt
    from minippo.rollout import sample_responses
    from minippo.tasks import Capitals

    task, policy = Capitals(), load_gpt("runs/capitals-ppo-default-0", "policy")
    tokens, mask = task.prompt_batch(["what is the capital of france ?"])
    responses, _, _ = sample_responses(
        policy,
        tokens,  # BOS, the words; pads on the left
        mask,
        response_length=4,
        temperature=1.0,
        generator=torch.Generator().manual_seed(0),
        eos_id=task.tokenizer.eos_id,
        pad_id=task.tokenizer.pad_id,
    )
    print([task.tokenizer.decode(row) for row in responses.tolist()])

A prompt begins with BOS (in the task files it also ends with a line break): a model asked without
it answers another question. response_length and temperature of a run are in its config.json,
under "ppo".
"""

from pathlib import Path
from typing import Any

import torch

from minippo.critic_head import Critic
from minippo.errors import InputError
from minippo.gpt import GPT, GPTConfig
from minippo.reward_head import RewardModel
from minippo.runs.read import (
    LARGEST_TOKENIZER,
    declared_tensors,
    first_words,
    is_count,
    is_number,
    load_tensors,
    read_json,
    refuse_links,
)
from minippo.tokenizer import Tokenizer, tokenizer_from_dict

COUNTS = ("vocab_size", "context_length", "n_layer", "n_head", "n_embd")
REPORT = (
    "heldout_accuracy",
    "heldout_low",
    "heldout_high",
    "heldout_pairs",
    "annotator_ceiling",
    "skill",
)
CALIBRATION = ("predicted", "chosen", "low", "high", "pairs", "prompts")  # of a row


def load_gpt(run: str | Path, stage: str = "policy") -> GPT:
    """The GPT of a stage: pretrain, sft or policy. InputError, with the file, when it cannot be
    read."""
    return _load(run, stage, lambda gpt: gpt)


def load_reward_model(run: str | Path) -> RewardModel:
    """The reward model, with its zero and its unit."""
    return _load(run, "reward_model", RewardModel)


def load_critic(run: str | Path) -> Critic:
    """The critic as it stood after the last update."""
    return _load(run, "critic", Critic)


def load_tokenizer(run: str | Path, stage: str = "policy") -> Tokenizer:
    """The tokenizer that the run's models were trained with."""
    path = _folder(run, stage) / "tokenizer.json"
    try:
        return tokenizer_from_dict(read_json(path, LARGEST_TOKENIZER))
    except (KeyError, TypeError, ValueError) as error:
        raise InputError(f"{path}: not a tokenizer ({first_words(error)})") from error


def load_report(run: str | Path) -> dict[str, Any]:
    """What the reward model's held-out test gave: numbers, None for what the task does not know,
    and the rows of its calibration."""
    path = _folder(run, "reward_model") / "info.json"
    info = read_json(path)
    report, calibration = info.get("report"), info.get("calibration", [])
    if not isinstance(report, dict) or not all(name in report for name in REPORT):
        raise InputError(f"{path}, field report: wanted an object with {', '.join(REPORT)}")
    for name, value in report.items():
        if not (value is None and name in ("annotator_ceiling", "skill") or is_number(value)):
            raise InputError(f"{path}, field report: wanted a number for each name in it")
    if not isinstance(calibration, list) or not all(map(_is_calibration, calibration)):
        wanted = ", ".join(CALIBRATION)
        raise InputError(f"{path}, field calibration: wanted rows with numbers for {wanted}")
    return report | {"calibration": calibration}


def _is_calibration(row):
    return isinstance(row, dict) and all(is_number(row.get(name)) for name in CALIBRATION)


def _folder(run, stage):
    path = Path(run) / "checkpoints" / stage
    refuse_links(path.parent, path)
    return path


def _load(run, stage, wrap):
    """The model of a stage. It is built without memory first: the file must hold just its tensors
    before any is made."""
    path = _folder(run, stage)
    config, declared = read_json(path / "config.json"), declared_tensors(path / "model.safetensors")
    try:
        model = _without_memory(config, wrap, most_layers=len(declared))
        _check_declared(
            declared, {name: (tuple(x.shape), "F32") for name, x in model.state_dict().items()}
        )
        model.to_empty(device="cpu").load_state_dict(load_tensors(path / "model.safetensors"))
        for name, tensor in model.state_dict().items():
            if not bool(tensor.isfinite().all()) or name == "scale" and not bool(tensor > 0):
                raise ValueError(f"{name}: not the numbers of a model")
    except (TypeError, ValueError, RuntimeError, OverflowError) as error:
        raise InputError(
            f"{path}: not a checkpoint of this stage ({first_words(error)})"
        ) from error
    return model.eval()


def _without_memory(config, wrap, most_layers):
    """The model of a config, on torch's device "meta": shapes, but no numbers."""
    if not all(is_count(config.get(name)) for name in COUNTS) or config["n_layer"] > most_layers:
        raise ValueError("config.json: wanted the size of the model in this folder")
    with torch.device("meta"):
        return wrap(GPT(GPTConfig(**config)))


def _check_declared(declared, wanted):
    """ValueError unless the file declares the tensors that the model has."""
    for name in sorted(declared.keys() | wanted.keys()):
        if declared.get(name) != wanted.get(name):
            shown = [
                None if item is None else list(item[0])
                for item in (wanted.get(name), declared.get(name))
            ]
            raise ValueError(
                f"{name[:100]}: config.json wants the shape {shown[0]}, the file has {shown[1]}"
            )
