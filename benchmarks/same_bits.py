"""Do two commits compute the same bits?

    python benchmarks/same_bits.py OLD_COMMIT [NEW_COMMIT] [--algorithms ppo pg ...] [--threads N]
        [--work DIR]

Runs `train_toy --preset quick --seed 0` of each commit for each algorithm, in checkouts of their
own, and one run of ppo that is stopped by Ctrl-C in the middle of the policy's training and
resumed. Then it compares every model.safetensors (parameter by parameter, byte for byte),
samples.jsonl (byte for byte) and the values of metrics.jsonl under their present names. Left out
are the seconds, and for algorithms without a critic the critic's columns and checkpoint, which are
no longer written.

Exit status 0 when all is equal. NEW_COMMIT is HEAD when it is not given.
"""

import argparse
import json
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

RENAMED = {
    "val/ratio_first": "val/ratio_max_deviation_first",
    "objective/kl_exact": "objective/kl_policy_to_ref_exact",
    "policy/kl_old": "policy/kl_old_to_policy",
}
TIMES = {"seconds", "eps"}
OF_A_CRITIC = {
    "val/explained_variance",
    "val/critic_head_change",
    "val/clipfrac_avg",
    "loss/value_avg",
}
ALGORITHMS = ("ppo", "trpo", "gae", "pg", "ppo_adaptive_kl")
STAGES = ("pretrain", "sft", "reward_model", "policy", "critic")
WITHOUT_CRITIC = ("pg", "rtg")
QUICK = ("--preset", "quick", "--seed", "0")
STOP_AFTER = 7  # updates of the run that is resumed


def checkout(commit: str, folder: Path) -> Path:
    """The files of a commit, in a new folder."""
    folder.mkdir(parents=True)
    archive = subprocess.run(["git", "archive", commit], check=True, capture_output=True).stdout
    subprocess.run(["tar", "-x", "-C", folder], input=archive, check=True)
    return folder


def start(tree: Path, out: Path, *arguments: str) -> subprocess.Popen:
    """train_toy of a checkout, as a process."""
    program = [sys.executable, "-m", "minippo.train_toy", *arguments, "--out", str(out), "--quiet"]
    return subprocess.Popen(program, cwd=tree, stdout=subprocess.DEVNULL)


def run(tree: Path, out: Path, *arguments: str) -> None:
    """The same, to its end."""
    status = start(tree, out, *arguments).wait()
    if status != 0:
        raise SystemExit(f"{out}: train_toy ended with {status}")


def run_and_resume(tree: Path, out: Path, *arguments: str) -> None:
    """A run that is stopped after some updates and taken up again."""
    process = start(tree, out, *arguments)
    metrics = out / "metrics.jsonl"
    while process.poll() is None and not (
        metrics.exists() and metrics.read_text().count("\n") >= STOP_AFTER
    ):
        time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    if process.wait() != 130:
        raise SystemExit(f"{out}: was not stopped, but ended with {process.returncode}")
    run(tree, out, "--resume")


def tensors(path: Path) -> dict[str, bytes]:
    """{name: bytes} of a file of tensors."""
    from safetensors import safe_open

    with safe_open(path, framework="pt") as file:
        return {name: file.get_tensor(name).numpy().tobytes() for name in file.keys()}  # noqa: SIM118


def metrics_of(out: Path, without_critic: bool) -> list[dict]:
    """The rows of a run under their present names, without what is not compared."""
    rows = [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]
    left_out = TIMES | (OF_A_CRITIC if without_critic else set())
    return [
        {RENAMED.get(name, name): value for name, value in row.items() if name not in left_out}
        for row in rows
    ]


def differences(old: Path, new: Path, algorithm: str) -> list[str]:
    """What is not equal between two run folders."""
    without_critic, found = algorithm in WITHOUT_CRITIC, []
    for stage in STAGES[:-1] if without_critic else STAGES:
        paths = [run / "checkpoints" / stage / "model.safetensors" for run in (old, new)]
        if tensors(paths[0]) != tensors(paths[1]):
            found.append(f"{stage}/model.safetensors")
    if (old / "samples.jsonl").read_bytes() != (new / "samples.jsonl").read_bytes():
        found.append("samples.jsonl")
    for row, other in zip(*(metrics_of(run, without_critic) for run in (old, new)), strict=True):
        found += [
            f"metrics.jsonl, update {row['update']}, {name}: {row.get(name)} | {other.get(name)}"
            for name in sorted(row.keys() | other.keys())
            if row.get(name, "missing") != other.get(name, "missing")
        ]
    return found


def main() -> int:
    """The command; returns its exit status."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("old")
    parser.add_argument("new", nargs="?", default="HEAD")
    parser.add_argument("--algorithms", nargs="+", default=ALGORITHMS)
    parser.add_argument("--threads", default="2", help="of every run")
    parser.add_argument("--work", type=Path, help="where checkouts and runs go; kept afterwards")
    own = parser.parse_args()
    work = (own.work or Path(tempfile.mkdtemp())).resolve()
    trees = {}
    for side, commit in (("old", own.old), ("new", own.new)):
        name = subprocess.run(
            ["git", "rev-parse", commit], check=True, capture_output=True, text=True
        ).stdout.strip()
        tree = work / name
        trees[side] = tree if tree.exists() else checkout(name, tree)
        print(f"{side}: {name}")
    equal = True
    for algorithm in (*own.algorithms, "resumed ppo"):
        name = algorithm.split()[-1]
        runs = []
        for tree in trees.values():
            out = tree.with_name(f"{tree.name[:8]}-{algorithm.replace(' ', '-')}")
            if not (out / "summary.json").exists():
                act = run if name == algorithm else run_and_resume
                act(tree, out, "--algorithm", name, "--threads", own.threads, *QUICK)
            runs.append(out)
        found = differences(*runs, name)
        equal = equal and not found
        print(f"{algorithm}: {'; '.join(found) or 'equal'}", flush=True)
    return 0 if equal else 1


if __name__ == "__main__":
    raise SystemExit(main())
