"""Whole runs on a device that is not there (pretended_device.py), where CUDA's rules hold.

They happen in processes of their own: a process that has such a device keeps it.
"""

import json
import os
import shlex
import shutil
import subprocess
import sys
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple

import pytest
import torch.utils.backend_registration

import minippo

pytestmark = pytest.mark.skipif(
    not hasattr(torch.utils.backend_registration, "_setup_privateuseone_for_python_backend"),
    reason="this torch cannot pretend a device",
)
TESTS, PACKAGE = Path(__file__).parent, Path(minippo.__file__).parent
TINY = shlex.split("""
    --threads 1 --preset quick --quiet --n_layer 1 --n_embd 16 --n_head 2 --pretrain_steps 2
    --sft_steps 2 --preference_prompts 8 --preference_heldout 4 --reward_epochs 1 --num_updates 3
    --num_mini_batches 2 --batch_size 8 --response_length 4 --eval_prompts 4 --optimum_prompts 1
    --optimum_draws 4 --save_every 1
""")

LOOKS_PER_MINIBATCH = 2  # how long the longest row is; the loss and the gradient's norm


def in_a_process(script: str, folder: Path, *arguments: str) -> dict:
    """What the script prints last, as JSON; it finds minippo in the folder."""
    environment = os.environ | {"PYTHONPATH": str(TESTS), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [sys.executable, "-B", "-c", script, *arguments],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


# -- runs of the package as it is

RUNS = """
import json, sys
from pretended_device import BROKEN, LOOKS, train
from torch.optim.optimizer import register_optimizer_step_post_hook
from minippo.runs.screen import Screen

out, *tiny = sys.argv[1:]
ppo = [*tiny, "--algorithm", "ppo", "--num_ppo_epochs", "2"]
looks = []  # taken until each optimiser step is done
hook = register_optimizer_step_post_hook(lambda *_: looks.append(LOOKS.total()))
statuses = {"ppo": train([*ppo, "--out", f"{out}/ppo"])}
hook.remove()

shown = Screen.update_line
def update_line(screen, row):
    if row["update"] == 3:
        raise KeyboardInterrupt
    shown(screen, row)
Screen.update_line = update_line
statuses["interrupted"] = train([*ppo, "--out", f"{out}/resumed"])
Screen.update_line = shown
statuses["resumed"] = train(["--quiet", "--resume", "--out", f"{out}/resumed"])
trpo = [*tiny, "--algorithm", "trpo", "--value_epochs", "1", "--cg_iterations", "2"]
statuses["trpo"] = train([*trpo, "--out", f"{out}/trpo"])
print(json.dumps({"statuses": statuses, "broken": BROKEN, "looks": looks}))
"""


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict]:
    """(the folder of the runs, what was noted about them)"""
    out = tmp_path_factory.mktemp("runs")
    return out, in_a_process(RUNS, PACKAGE.parent, str(out), *TINY)


@pytest.mark.slow
def test_whole_runs_break_no_rule(runs):
    found = runs[1]
    assert found["statuses"] == {"ppo": 0, "interrupted": 130, "resumed": 0, "trpo": 0}
    assert found["broken"] == []


@pytest.mark.slow
def test_a_resumed_run_ends_with_the_same_bits_on_a_device(runs):
    for model in ("policy", "critic"):
        whole, resumed = (
            (runs[0] / name / "checkpoints" / model / "model.safetensors").read_bytes()
            for name in ("ppo", "resumed")
        )
        assert whole == resumed


@pytest.mark.slow
def test_a_minibatch_of_ppo_takes_few_looks_at_the_device(runs):
    looks = runs[1]["looks"][-12:]  # the three updates come last, of four steps each
    updates = [looks[i : i + 4] for i in range(0, 12, 4)]
    between = [after - before for steps in updates for before, after in pairwise(steps)]
    assert between == [LOOKS_PER_MINIBATCH] * 9


# -- mistakes, put into a copy of the package


class Mistake(NamedTuple):
    """A text of a module and what is put in its place; which rule that breaks, and the line that
    breaks it: another text of that module or of another one."""

    module: str
    right: str
    wrong: str
    rule: str
    seen_in: str
    seen_at: str


MISTAKES = {
    "a generator of the CPU for a draw on the device": Mistake(
        "commands/pipeline.py",
        'generator=run.generator("policy", run.device)',
        'generator=run.generator("policy")',
        "aten.multinomial.default: generator and draw are on two devices",
        "sampling.py",
        "torch.multinomial(",
    ),
    "a mask that the sampler makes on the CPU": Mistake(
        "sampling.py",
        "mask = torch.zeros(shape, dtype=torch.bool, device=logits.device)",
        "mask = torch.zeros(shape, dtype=torch.bool)",
        "aten.index_put_.default: an index or values on the device, a tensor of the CPU",
        "sampling.py",
        "tokens[rows, t], mask[rows, t] = drawn, True",
    ),
    "numpy() of the metrics": Mistake(
        "stages/policy.py",
        "numbers = torch.stack([x.double() for x in scalars.values()]).tolist()",
        "numbers = torch.stack([x.double() for x in scalars.values()]).numpy().tolist()",
        "numpy() of a tensor on the device",
        "stages/policy.py",
        ".numpy().tolist()",
    ),
    "an index on the device into preferences on the CPU": Mistake(
        "stages/reward.py",
        "parts = torch.arange(len(comparisons)).split(chunk)",
        "parts = torch.arange(len(comparisons), device=device).split(chunk)",
        "aten.index.Tensor: an index or values on the device, a tensor of the CPU",
        "stages/preferences.py",
        "self.prompt_mask[index]",
    ),
    "a constant that gae makes on the CPU": Mistake(
        "gae.py",
        "running = torch.zeros_like(deltas[:, 0])",
        "running = torch.zeros(len(deltas))",
        "aten.add.Tensor: a tensor of the CPU, [8], beside one on the device",
        "gae.py",
        "running = deltas[:, t] + gamma * lam * running",
    ),
    "a constant that the reward model makes on the CPU": Mistake(
        "reward_head.py",
        "torch.arange(1, mask.shape[1] + 1, device=mask.device)",
        "torch.arange(1, mask.shape[1] + 1)",
        "aten.mul.Tensor: a tensor of the CPU",
        "reward_head.py",
        "(mask * torch.arange(",
    ),
}
WRONG_RUN = """
import json, sys
from pretended_device import BROKEN, train
from minippo.commands import train as command

def stop(*_):
    raise KeyboardInterrupt
command.evaluate = stop
out, *tiny = sys.argv[1:]
train([*tiny, "--algorithm", "ppo", "--out", f"{out}/run"])
print(json.dumps(sorted(set(BROKEN))))
"""


@pytest.fixture(scope="module")
def wrong_run(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list]:
    """(the folder of a package with all the mistakes, what a run of it has broken)"""
    folder = tmp_path_factory.mktemp("mistakes")
    shutil.copytree(PACKAGE, folder / "minippo", ignore=shutil.ignore_patterns("__pycache__"))
    for mistake in MISTAKES.values():
        path = folder / "minippo" / mistake.module
        source = path.read_text(encoding="utf-8")
        assert source.count(mistake.right) == 1
        path.write_text(source.replace(mistake.right, mistake.wrong), encoding="utf-8")
    return folder, in_a_process(WRONG_RUN, folder, str(folder), *TINY)


@pytest.mark.slow
@pytest.mark.parametrize("name", MISTAKES)
def test_a_mistake_is_seen_and_named(wrong_run, name):
    folder, broken = wrong_run
    mistake = MISTAKES[name]
    lines = (folder / "minippo" / mistake.seen_in).read_text(encoding="utf-8").splitlines()
    [number] = [i for i, line in enumerate(lines, 1) if mistake.seen_at in line]
    place = f"minippo/{mistake.seen_in}:{number}"
    assert [rule for rule, where in broken if where == place and rule.startswith(mistake.rule)]


# -- what is no mistake

TAKEN = """
import json, torch
from pretended_device import BROKEN, DEVICE, LOOKS, DeviceRules

with DeviceRules():
    x = torch.arange(6.0).to(DEVICE)
    one = torch.tensor(2.0)
    x = torch.where(x > one, x * one, one)
    x[torch.tensor([0, 1])] = one
    taken = x.tolist(), len(BROKEN), sorted(what for what, _ in LOOKS)
    torch.stack([x[0], one])
    x[:2] = torch.rand(2, generator=torch.Generator())
    torch.rand(2, generator=torch.Generator(device=DEVICE))
    x[torch.tensor([0, 1]).to(DEVICE)] = torch.ones(2)
print(json.dumps([taken, BROKEN]))
"""


@pytest.mark.slow
def test_cuda_takes_single_numbers_and_indices_of_the_cpu():
    taken, broken = in_a_process(TAKEN, PACKAGE.parent)
    copies = ["copy of an index", "copy to the CPU", "copy to the device"]
    assert taken == [[2.0, 2.0, 2.0, 6.0, 8.0, 10.0], 0, copies]
    assert [rule.partition(":")[0] for rule, _ in broken] == [
        "aten.stack.default",
        "aten.rand.generator",
        "aten.index_put_.default",
    ]
