"""What the choices of RLHF cost on the quick preset: each against the default, on the same seeds.

    python benchmarks/choices.py [--seeds 0-4] [--root runs/choices] [NAME ...]

The stages before the policy's training are done once per seed. Printed is a row per choice: the
mean of the default and of the choice, and the paired difference with its 95 % t interval over the
seeds, for the gold score as a share of the best possible, for the KL and for optimality. Optimality
has no meaning where the choice changes what is optimised (another EOS rule, another price, none).
The same command goes on where it was stopped; NAME picks rows.
"""

import argparse
from pathlib import Path
from typing import Any

from minippo.commands.flags import parse_arguments
from minippo.commands.measure import run_once, seeds_of, summary_of
from minippo.commands.sharing import share_stages
from minippo.runs.stats import mean, t_interval

BASE = ["--preset", "quick", "--threads", "1", "--optimum_prompts", "16", "--optimum_draws", "128"]
LOSS = ["--kl_reward", "none", "--no-whiten_advantages"]
CHOICES: dict[str, list[str]] = {
    "default": [],
    "response as action": ["--action", "response"],
    "score after EOS, value kept": ["--score_place", "after_eos", "--value_after_end", "kept"],
    "score in the last column": ["--score_place", "last_column"],
    "bootstrap": ["--value_after_end", "bootstrap"],
    "no whitening": ["--no-whiten_advantages"],
    "whitened per minibatch": ["--whiten_over", "minibatch"],
    "whitened with Bessel": ["--whiten_bessel"],
    "rewards scaled": ["--whiten_rewards"],
    "mean per response": ["--loss_reduction", "sequence_mean"],
    "sum per response": ["--loss_reduction", "sequence_sum"],
    "sum over a constant": ["--loss_reduction", "constant_mean"],
    "KL as a loss, k2 of the response": [*LOSS, "--kl_loss", "k2_response"],
    "KL as a loss, weighted k1 of the response": [*LOSS, "--kl_loss", "k1_response"],
    "KL as a loss, k3 per token": [*LOSS, "--kl_loss", "k3", "--allow_broken"],
    "KL as a loss, k1": [*LOSS, "--kl_loss", "k1", "--allow_broken"],
    "k3 in the reward": ["--kl_reward", "k3", "--allow_broken"],
    "no KL": ["--kl_reward", "none"],
    "proportional controller, target 2": [
        *("--kl_controller", "proportional"),
        *("--kl_target", "2", "--kl_horizon", "500"),
    ],
    "no EOS rule": ["--no_eos_score", "none"],
    "not ending is masked": ["--mask_unended"],
    "shared critic": ["--critic", "shared"],
    "critic from the fine-tuned model": ["--critic_start", "sft"],
    "fresh critic": ["--critic_start", "fresh"],
    "critic warmed up, 5 rollouts": ["--critic_warmup", "5"],
    "lam 1": ["--lam", "1"],
    "values not clipped": ["--cliprange_value", "none"],
    "1 epoch": ["--num_ppo_epochs", "1"],
    "dropout 0.1": ["--dropout", "0.1"],
    "old log-probabilities of sampling": ["--old_logprobs", "sampled"],
    "PPO-ptx 0.1": ["--ptx_coef", "0.1"],
    "entropy bonus 0.01": ["--ent_coef", "0.01"],
    "recipe openai-2019": ["--recipe", "openai-2019"],
    "recipe n-plus": ["--recipe", "n-plus"],
    "recipe trl": ["--recipe", "trl"],
    "recipe openrlhf": ["--recipe", "openrlhf"],
    "recipe verl": ["--recipe", "verl"],
    "recipe cleanrl": ["--recipe", "cleanrl"],
}


def summaries(name: str, seeds: list[int], root: Path) -> list[dict[str, Any] | None]:
    """The summaries of one choice, by seed; what is not there is run. None: the training failed."""
    found = []
    for seed in seeds:
        out = root / name.replace(" ", "-").replace(",", "") / f"seed-{seed}"
        arguments = [*BASE, "--seed", str(seed), *CHOICES[name]]
        if (summary := summary_of(out)) is None:
            share_stages(
                parse_arguments(arguments).config, out, [root / "default" / f"seed-{seed}"]
            )
            run_once(out, arguments, quiet=True)
            summary = summary_of(out)
        found.append(summary)
    return found


def difference(a: list[float], b: list[float]) -> str:
    """The mean of a, and of a - b with its interval over the seeds."""
    differences = [x - y for x, y in zip(a, b, strict=True)]
    low, high = t_interval(differences) or (float("nan"), float("nan"))
    return f"{mean(a):.3f} | {mean(differences):+.3f} ({low:+.3f} to {high:+.3f})"


def main() -> int:
    """The command; returns its exit status."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("names", nargs="*", help="rows; all without")
    parser.add_argument("--seeds", default="0-4")
    parser.add_argument("--root", type=Path, default=Path("runs/choices"))
    given = parser.parse_args()
    seeds = seeds_of(given.seeds)
    print("| choice | gold share | - default | KL | - default | optimality | - default |")
    print("|---|---:|---:|---:|---:|---:|---:|")
    default = summaries("default", seeds, given.root)
    for name in given.names or CHOICES:
        both = zip(summaries(name, seeds, given.root), default, strict=True)
        done = [(one, other) for one, other in both if one is not None and other is not None]
        columns = []
        for get in (
            lambda s: s["policy"]["gold"] / s["gold_max"],
            lambda s: s["policy"]["kl"],
            lambda s: s["optimality"],
        ):
            columns.append(difference(*([*map(get, side)] for side in zip(*done, strict=True))))
        lost = (
            f" ({len(seeds) - len(done)} of {len(seeds)} runs failed)"
            if len(done) < len(seeds)
            else ""
        )
        print(f"| {name}{lost} | {' | '.join(columns)} |", flush=True)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
