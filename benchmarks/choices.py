"""What the choices of RLHF cost on the quick preset: each against the default, on the same seeds.

    python benchmarks/choices.py [--seeds 0-4] [--root runs/choices] [NAME ...]

The stages before the policy's training are those of `train_toy --preset quick`, once per seed. From
the same fine-tuned model and the same reward model each choice then trains the policy. Printed is a
row per choice: its mean, and the paired difference to the default with its 95 % t interval over the
seeds, of the gold score of the answers to the evaluation prompts (as a share of the best possible),
of the KL in nats per response, and of the objective, score - 0.05 KL, the last two in the last four
rollouts. The objective has no meaning where a choice changes what is optimised (another EOS rule,
another price, no KL). NAME picks rows.
"""

import argparse
from pathlib import Path

import torch
from critic_and_clip import paired, stages_before, train

from minippo.commands.measure import seeds_of
from minippo.errors import TrainingError
from minippo.runs.stats import mean

KL_COEF, LAST = 0.05, 4
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


def outcome(name: str, seed: int, folder: Path) -> tuple[float, float, float] | None:
    """(gold share, KL, objective) of one training; None where it failed."""
    try:
        gold, rows = train(CHOICES[name], seed, folder)
    except TrainingError as error:
        print(f"{name}, seed {seed}: {error}", flush=True)
        return None
    score, kl = (mean(row[f"objective/{key}"] for row in rows[-LAST:]) for key in ("scores", "kl"))
    return gold, kl, score - KL_COEF * kl


def main() -> int:
    """The command; returns its exit status."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("names", nargs="*", help="rows; all without")
    parser.add_argument("--seeds", default="0-4")
    parser.add_argument("--root", type=Path, default=Path("runs/choices"))
    given = parser.parse_args()
    torch.set_num_threads(1)
    folders = {seed: stages_before(seed, given.root) for seed in seeds_of(given.seeds)}
    default = [outcome("default", *place) for place in folders.items()]
    print("| choice | gold share | - default | KL | - default | objective | - default |")
    print("|---|---:|---:|---:|---:|---:|---:|")
    for name in given.names or CHOICES:
        found = [outcome(name, *place) for place in folders.items()]
        done = [pair for pair in zip(found, default, strict=True) if None not in pair]
        failed = len(found) - len(done)
        lost = f" ({failed} of {len(found)} runs failed)" if failed else ""
        pairs = [([x[i] for x, _ in done], [y[i] for _, y in done]) for i in range(3)]
        columns = [f"{mean(own):.3f} | {paired(own, other)}" for own, other in pairs]
        print(f"| {name}{lost} | {' | '.join(columns)} |", flush=True)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
