"""Stages that two runs have in common are done once: a run begins with the checkpoints of others.

What a stage depends on is in its seal (commands/recipe.py). Where a checkpoint of another run has
the seal that this run would give it, and was made by the same versions with as many threads, its
files are taken over, and the run goes on from there as one that was stopped would. It ends with the
bits that it would have had alone.

The policy's training is never shared: what it notes on its way, for the figure of its path, depends
on the settings of the evaluation.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from minippo.commands.config import Config
from minippo.commands.prepare import prepare
from minippo.commands.recipe import recipes, stage_before
from minippo.commands.train import find_device, first_config
from minippo.errors import InputError
from minippo.runs.checkpoints import check_seal
from minippo.runs.folder import OF_A_CHECKPOINT, RunFolder
from minippo.runs.seals import OWN_DIGEST, Origin, check_origin, read_config, seal_of


def stages_to_share(config: Config) -> list[str]:
    """Those before the policy's training, in their order."""
    chain = ["policy"]
    while (before := stage_before(config, chain[0])) is not None:
        chain.insert(0, before)
    return chain[:-1]


def share_stages(config: Config, out: Path, others: Sequence[Path]) -> list[str]:
    """Give the run of `config` in the folder `out`, which is new or was stopped, what the runs in
    the folders `others` have done of it; returns the names of those stages."""
    config, task, start = prepare(config)
    wanted = recipes(config, task, start and start.model)
    own = first_config(config, device=find_device(config.run.device), task=task, start=start)
    alike = [other for other in others if made_alike(other, own)]
    before, shared = None, []
    for stage in stages_to_share(config):
        path, origin = out / "checkpoints" / stage, Origin(wanted[stage], before)
        if not path.exists():
            source = next((run for run in alike if has_stage(run, stage, origin)), None)
            if source is None:
                break
            begun(out, own).take_checkpoint(stage, source / "checkpoints" / stage)
            shared.append(stage)
        try:
            before = seal_of(path)
        except InputError:  # damaged: the run will say so, and make it again
            break
    return shared


def begun(out: Path, config: dict[str, Any]) -> RunFolder:
    """The folder of a run that has its configuration, if nothing else."""
    if (out / "config.json").exists():
        return RunFolder(out, note=lambda text: None)  # what is broken the run tells itself
    folder = RunFolder.create(out, default_name=out.name)
    folder.save_config(config)
    return folder


def made_alike(other: Path, own: dict[str, Any]) -> bool:
    """Is the other run one of the same versions, device, texts and number of threads?"""
    try:
        found = read_config(other / "config.json")
    except InputError:
        return False
    threads = [config.get("run", {}).get("threads") for config in (found, own)]
    same = all(found.get(name) == own[name] for name in ("versions", "start"))
    return same and OWN_DIGEST in found and threads[0] == threads[1]


def has_stage(run: Path, stage: str, origin: Origin) -> bool:
    """Does this run hold a whole checkpoint of the stage, made from just this?"""
    path = run / "checkpoints" / stage
    try:
        check_seal(path, *OF_A_CHECKPOINT)
        check_origin(path, origin)
    except InputError:
        return False
    return True
