"""How often a run sees data of which there is only so much: a small model learns by heart what it
sees hundreds of times."""

from minippo.algorithms import REGISTRY
from minippo.commands.config import Config
from minippo.runs.diagnostics import MOST_VIEWS
from minippo.runs.text import counted
from minippo.tasks.base import Task


def passes(config: Config, task: Task) -> tuple[str, ...]:
    """A line for the screen, or none where the task makes as much data as it is asked for."""
    if not task.amounts:
        return ()
    pretrain, sft, ppo = config.pretrain, config.sft, config.ppo
    samples = REGISTRY[config.run.algorithm].samples(ppo)
    read = pretrain.pretrain_steps * pretrain.pretrain_batch_size
    seen = {  # what of, how many of them in the whole run, the flag that decides
        "window": (read, "pretrain_steps"),  # of a folder's corpus
        "text": (read, "pretrain_steps"),
        "demonstration": (sft.sft_steps * sft.sft_batch_size, "sft_steps"),
        "pair": (config.reward.reward_epochs * task.amounts.get("pair", 0), "reward_epochs"),
        "prompt": (ppo.num_updates * ppo.batch_size // samples, "num_updates"),
    }
    if config.run.start_from is not None:
        del seen["window"]  # nothing is pretrained
    parts = (
        f"{_short(number / task.amounts[name])} over {counted(task.amounts[name], name)} (--{flag})"
        for name, (number, flag) in seen.items()
        if name in task.amounts
    )
    line = f"passes over the data: {', '.join(parts)}"
    demonstrations = task.amounts.get("demonstration", 0)
    views = seen["demonstration"][0] / demonstrations if demonstrations else 0
    if views <= MOST_VIEWS:
        return (line,)
    often = (
        f"{counted(demonstrations, 'demonstration is', 'demonstrations are')} seen {views:.0f} "
        "times, and a small model learns by heart what it sees so often (P013): fewer --sft_steps, "
        "or more demonstrations"
    )
    return line, often


def _short(number):
    """373, 13, 2.5, 0.4."""
    if number >= 10:
        return f"{number:.0f}"
    return f"{number:.1f}".removesuffix(".0") if number >= 0.05 else f"{number:.1g}"
