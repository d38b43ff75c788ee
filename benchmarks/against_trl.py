"""A PPO update of minippo against one of TRL 1.12, in turns on the same machine.

    python -m venv ELSEWHERE && ELSEWHERE/bin/pip install trl==1.12.0 torch==2.13.0
    python benchmarks/against_trl.py ELSEWHERE/bin/python [--rounds 3] [--updates 12]
        [--threads 2] [--critic own|shared]

Both make the same update: prompts of one length, responses that do not end early, policy and critic
with trunks of their own, a reference and a reward model of the same size, the same passes and
minibatches, float32, no dropout. Two shapes: that of the quick preset's world, and a wider one.
With --critic shared, minippo's critic is a head on the policy's trunk; TRL's stays as it is, since
its trainer has no other: then a part of the ratio is a model less.
Prints a Markdown table: the median of the rounds' seconds of each, and the ratio's median, least
and most over the rounds, each from two neighbouring measurements.
"""

import argparse
import json
import statistics
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
SHAPES = {
    "2 x 64": dict(layers=2, width=64, heads=4, vocab=57, prompt=23, response=12, batch=128),
    "3 x 96": dict(layers=3, width=96, heads=4, vocab=259, prompt=26, response=10, batch=64),
}
PASSES = dict(minibatches=2, epochs=4)


def ours(size: dict[str, int | str]) -> dict[str, float]:
    flags = [f"--{name}={value}" for name, value in size.items()]
    return printed([sys.executable, "-m", "minippo.profile_update", "--synthetic", *flags])


def theirs(python: str, size: dict[str, int]) -> dict[str, float]:
    return printed([python, str(HERE / "trl_update.py"), json.dumps(size)])


def printed(command: list[str]) -> dict[str, float]:
    """The JSON of the last line that a command prints."""
    done = subprocess.run(command, cwd=HERE.parent, capture_output=True, text=True)
    if done.returncode != 0:
        raise SystemExit(f"{command[0]}: {done.stderr[-2000:]}")
    return json.loads(done.stdout.splitlines()[-1])


def main() -> int:
    """The command; returns its exit status."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("python", help="the interpreter of an environment that has TRL 1.12")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--updates", type=int, default=12)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--critic", choices=("own", "shared"), default="own")
    own = parser.parse_args()
    print(
        "| shape | TRL, s | minippo, s | ratio | least | most | TRL, MiB | minippo, MiB | share |"
    )
    print("| --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: |")
    for name, shape in SHAPES.items():
        size = shape | PASSES | {"updates": own.updates, "threads": own.threads}
        pairs = [
            (theirs(own.python, size), ours(size | {"critic": own.critic}))
            for _ in range(own.rounds)
        ]
        ratios = [trl["seconds_per_update"] / our["seconds_per_update"] for trl, our in pairs]
        seconds, memory = (
            [statistics.median(side[key] for side in sides) for sides in zip(*pairs, strict=True)]
            for key in ("seconds_per_update", "peak_memory_mib")
        )
        share = statistics.median(our["share"] for _, our in pairs)
        print(
            f"| {name} | {seconds[0]:.3f} | {seconds[1]:.3f} | {statistics.median(ratios):.2f} | "
            f"{min(ratios):.2f} | {max(ratios):.2f} | {memory[0]:.0f} | {memory[1]:.0f} | "
            f"{share:.2f} |",
            flush=True,
        )
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
