"""A model of a run to Hugging Face's files, for those who outgrow this package; and such files to a
run folder.

    python -m minippo.export --run DIR --stage policy --to hf DIR2
    python -m minippo.export --from hf DIR2 --run DIR3

The first writes what transformers loads with from_pretrained, tokenizer included. The second writes
the checkpoint DIR3/checkpoints/policy, which minippo.interchange.load reads; to train from such
files there is train_toy --start_from.

minippo.interchange.hugging_face says what is in the files.
"""

import contextlib
import os
import shutil
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from minippo.commands.config import FIELDS
from minippo.commands.wrapper import Parser, command
from minippo.errors import InputError, TrainingError
from minippo.interchange.foreign import read_gpt2
from minippo.interchange.hugging_face import (
    generation_config,
    score_offset,
    to_files,
    tokenizer_files,
)
from minippo.interchange.load import load_critic, load_gpt, load_reward_model, load_tokenizer
from minippo.reward_head import RewardModel
from minippo.runs.checkpoints import check_seal
from minippo.runs.files import temporary_beside, write_bytes_whole, write_json
from minippo.runs.folder import RunFolder
from minippo.runs.read import reason
from minippo.runs.seals import read_config
from minippo.runs.text import counted, printable
from minippo.tasks import Files
from minippo.tokenizer import Tokenizer

LANGUAGE_MODELS = ("pretrain", "sft", "policy")
STAGES = (*LANGUAGE_MODELS, "reward_model", "critic")
CLASSES = {
    "reward_model": "AutoModelForSequenceClassification",
    "critic": "AutoModelForTokenClassification",
}


def export(run: str, stage: str, target: str) -> list[str]:
    """Write a stage of the run to the folder `target`; returns the lines for the screen."""
    check_stage(stage, STAGES)
    check_free(target, "--to hf")
    check_run(Path(run), stage)
    load = {"reward_model": load_reward_model, "critic": load_critic}.get(
        stage, lambda run: load_gpt(run, stage)
    )
    model, tokenizer = load(run), load_tokenizer(run, stage)
    tensors, config = to_files(model, tokenizer)
    files = {"config.json": config} | tokenizer_files(
        tokenizer,
        context_length=config["n_positions"],
        padding_side="left" if stage in LANGUAGE_MODELS else "right",
    )
    if stage in LANGUAGE_MODELS:
        files["generation_config.json"] = generation_config(tokenizer, **sampling_of(run))
    write_folder(Path(target), tensors, files)
    return report(model, tokenizer, run, stage, target)


def check_stage(stage: str, stages: Sequence[str]) -> None:
    if stage not in stages:
        raise InputError(f"--stage {stage}: wanted one of {', '.join(stages)}")


def check_free(folder: str, flag: str) -> None:
    """Refuse a place that holds something: nothing is written over."""
    try:
        if os.path.lexists(folder) and os.listdir(folder):
            raise InputError(
                f"{flag} {folder}: is not empty; name another folder, nothing was written over"
            )
    except OSError as error:
        raise InputError(f"{flag} {folder}: cannot be used: {reason(error)}") from error


def check_run(run: Path, stage: str) -> None:
    """Refuse a run that has not come as far as the stage, and a checkpoint that is damaged."""
    checkpoints = run / "checkpoints"
    if not checkpoints.is_dir():
        raise InputError(f"{run}: holds no run")
    there = [name for name in STAGES if (checkpoints / name).is_dir()]
    if stage == "reward_model" and stage not in there and "policy" in there:
        raise InputError(f"{run}: a rule scored this run, so there is no reward model in it")
    if stage not in there:
        raise InputError(
            f"{run}: has no stage {stage} yet (there: {', '.join(there) or 'none'}); "
            f"python -m minippo.train_toy --resume --out {run} goes on with it"
        )
    check_seal(checkpoints / stage)


def sampling_of(run: str) -> dict[str, Any]:
    """Temperature and length of the run's responses, where it has a configuration."""
    return {
        "temperature": run_setting(run, "temperature", 1.0),
        "max_new_tokens": run_setting(run, "response_length"),
    }


def run_setting(run: str, name: str, otherwise: Any = None) -> Any:
    """One setting of the run, or `otherwise` where its configuration does not say."""
    path = Path(run) / "config.json"
    section = read_config(path).get(FIELDS[name][0]) if path.exists() else None
    return section.get(name, otherwise) if isinstance(section, dict) else otherwise


def write_folder(
    path: Path, tensors: dict[str, Tensor], files: Mapping[str, Mapping[str, Any]]
) -> None:
    """model.safetensors and the JSON files, all of them or none."""
    from safetensors.torch import save

    with new_folder(path) as folder:
        write_bytes_whole(folder / "model.safetensors", save(tensors, metadata={"format": "pt"}))
        for name, content in files.items():
            write_json(folder / name, content)


@contextlib.contextmanager
def new_folder(path: Path) -> Iterator[Path]:
    """Fill a temporary folder that takes the name `path` when all went well, and is removed when
    not."""
    temporary = temporary_beside(path)
    try:
        temporary.mkdir(parents=True)
        yield temporary
        if path.is_dir():
            path.rmdir()  # it is empty; not every system renames onto a folder
        os.replace(temporary, path)
    except OSError as error:
        raise TrainingError(f"cannot write {path}: {reason(error)}") from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def report(model: nn.Module, tokenizer: Tokenizer, run: str, stage: str, target: str) -> list[str]:
    """What was written, and what its user has to know."""
    lines = [
        f"{target}: {stage} of {run}, {size_of(model)}; in "
        "transformers: "
        f"{CLASSES.get(stage, 'AutoModelForCausalLM')}.from_pretrained, "
        "AutoTokenizer.from_pretrained"
    ]
    end = " and ends with a line break, which you add" if _reads_files(run) else ""
    lines.append(
        f"a prompt begins with {tokenizer.token_text(tokenizer.bos_id)}, "
        f"which the tokenizer adds{end}"
    )
    if isinstance(model, RewardModel):
        lines.append(
            f"score = logit + {score_offset(model):.6g} (minippo_score_offset in config.json)"
        )
    return lines


def size_of(model: nn.Module) -> str:
    """'150000 parameters'."""
    return counted(sum(p.numel() for p in model.parameters()), "parameter")


def _reads_files(run: str) -> bool:
    return run_setting(run, "task") == Files.name


def take_in(source: str, run: str, stage: str) -> list[str]:
    """Write the GPT-2 in the folder `source` as a stage of a new run folder; returns the lines for
    the screen."""
    check_stage(stage, LANGUAGE_MODELS)
    check_free(run, "--run")
    model, tokenizer = read_gpt2(source)
    try:
        Path(run).mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"--run {run}: cannot be made: {reason(error)}") from error
    path = RunFolder(run).save_checkpoint(
        stage, model, model_config=asdict(model.config), tokenizer=tokenizer.to_dict()
    )
    return [
        f"{path}: {source}, {size_of(model)}; "
        f"minippo.interchange.load.load_gpt({str(run)!r}, {stage!r}) reads it",
        *getattr(tokenizer, "notes", ()),
    ]


@command
def main(arguments: Sequence[str] | None = None) -> int:
    """The command; returns its exit status."""
    parser = Parser(
        prog="python -m minippo.export",
        description="A model of a run to the files of Hugging Face, or such files to a run folder.",
    )
    parser.add_argument(
        "--run", required=True, metavar="DIR", help="folder of the run; with --from a new one"
    )
    parser.add_argument("--stage", default="policy", help=f"{', '.join(STAGES)} (default: policy)")
    way = parser.add_mutually_exclusive_group(required=True)
    way.add_argument(
        "--to",
        nargs=2,
        metavar=("hf", "DIR2"),
        help="format and folder to write, a new or empty one",
    )
    way.add_argument(
        "--from", nargs=2, metavar=("hf", "DIR2"), dest="source", help="format and folder to read"
    )
    own = parser.parse_args(arguments)
    flag, (form, folder) = ("--to", own.to) if own.to else ("--from", own.source)
    if form != "hf":
        raise InputError(f"{flag} {form}: wanted the format hf")
    lines = export(own.run, own.stage, folder) if own.to else take_in(folder, own.run, own.stage)
    print("\n".join(printable(line) for line in lines))
    return 0
