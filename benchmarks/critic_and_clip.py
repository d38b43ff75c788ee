"""Where the critic and the clip pay: few responses, many steps on each of them, and scores whose
zero is anywhere.

    python benchmarks/critic_and_clip.py [--seeds 0-9] [--root DIR] [settings, as for train_toy]

The stages before the policy's training are those of `train_toy --preset quick`, once per seed. From
the same fine-tuned model and the same reward model, each algorithm then gets the same number of
responses. A reward model knows its scores up to a constant only; here OFFSET is added to them,
which a critic learns and a policy gradient without a baseline pays for. Each algorithm has the
learning rate, and PPO the number of passes, that did best on seeds 100 to 105 (of 5e-4, 1e-3 and
2e-3 for pg and gae; of 4e-4, 6e-4, 1e-3 and 2e-3 with 4 to 16 passes for PPO).

What is compared is the gold score of the answers to the evaluation prompts, as a share of the best
possible. Printed are the shares of every seed, the paired differences with their 95 % t interval
over the seeds, and how many runs are lost, which end below where they began.
"""

import argparse
import copy
import random
from pathlib import Path

import torch

from minippo.algorithms import REGISTRY
from minippo.commands.config import Config
from minippo.commands.critic import first_critic
from minippo.commands.flags import parse_arguments
from minippo.commands.measure import seeds_of
from minippo.commands.path import enough
from minippo.commands.prepare import prepare
from minippo.commands.train import main as train_toy
from minippo.gpt import GPT
from minippo.interchange.load import load_gpt, load_reward_model
from minippo.rollout import Models
from minippo.runs.stats import mean, t_interval
from minippo.stages.evaluate import answer, gold_report
from minippo.stages.policy import Row, World, train_policy
from minippo.tasks.base import Task

ALGORITHMS = ("pg", "gae", "ppo", "ppo_unclipped")
PAIRS = (("gae", "pg"), ("ppo", "gae"), ("ppo", "ppo_unclipped"))
SETTINGS = ["--batch_size", "32", "--num_updates", "10"]
OWN = {  # beside the same number of responses
    "pg": ["--learning_rate", "5e-4"],
    "gae": ["--learning_rate", "1e-3"],
    "ppo": ["--learning_rate", "4e-4", "--num_ppo_epochs", "6"],
    "ppo_unclipped": ["--learning_rate", "4e-4", "--num_ppo_epochs", "6"],
}
OFFSET = 4.0  # in standard deviations of the fine-tuned model's scores


def stages_before(seed: int, root: Path) -> Path:
    """The folder of a quick run with this seed; one update is the fewest that a run makes."""
    out = root / f"seed-{seed}"
    settings = ["--preset", "quick", "--seed", str(seed), "--num_updates", "1", "--threads", "1"]
    if not (out / "summary.json").exists() and train_toy([*settings, "--out", str(out), "--quiet"]):
        raise SystemExit(f"{out}: the run did not end well; remove it and try again")
    return out


class OfARun:
    """What first_critic asks of a run."""

    def __init__(self, config: Config, seed: int):
        self.config, self.seed, self.device = config, seed, torch.device("cpu")
        self.algorithm = REGISTRY[config.run.algorithm]

    def generator(self, name: str) -> torch.Generator:
        return torch.Generator().manual_seed(self.seed)


def train(
    settings: list[str], seed: int, folder: Path, offset: float = 0.0
) -> tuple[float, list[Row]]:
    """Train the policy with these settings from the stages in the folder, on scores with `offset`
    added; (gold of its answers over the best possible, its rows of metrics)."""
    own = ["--preset", "quick", "--seed", str(seed), *settings]
    config, task = prepare(parse_arguments(own).config)[:2]
    reference, reward_model = load_gpt(folder, "sft"), load_reward_model(folder)
    policy, rng = copy.deepcopy(reference), random.Random(seed)
    critic = first_critic(OfARun(config, seed), policy, reference, reward_model)
    steps, texts = config.pretrain.pretrain_steps, random.Random(seed + 1)
    world = World(
        draw_prompts=lambda n: task.prompt_batch(task.training_prompts(n, rng=rng)),
        draw_texts=lambda n: task.pretraining_examples(n, step=steps, rng=texts),
        score_function=lambda tokens, mask: reward_model(tokens, mask) + offset,
        eos_id=task.tokenizer.eos_id,
        pad_id=task.tokenizer.pad_id,
    )
    rows = train_policy(
        Models(policy, reference.requires_grad_(False), critic),
        world,
        config=config.ppo,
        algorithm=config.run.algorithm,
        generator=torch.Generator().manual_seed(seed),
    )
    return share_of(policy, task, reward_model, config, seed), rows


def gold_share(algorithm: str, seed: int, folder: Path, settings: list[str]) -> float:
    """The gold of the answers of a policy that this algorithm has trained."""
    own = ["--algorithm", algorithm, *SETTINGS, *OWN[algorithm], *settings]  # the last one counts
    return train(own, seed, folder, OFFSET)[0]


def share_of(policy: GPT, task: Task, reward_model, config, seed: int) -> float:
    """The gold of a policy's answers to the evaluation prompts, over the best possible."""
    n, rng = config.eval.eval_prompts, random.Random(-seed - 1)
    prompts = enough(task.evaluation_prompts(n, rng=rng), n)
    answers = answer(
        policy,
        task,
        prompts,
        task.prompt_batch(prompts),
        score_function=reward_model,
        config=config.ppo,
        generator=torch.Generator().manual_seed(seed),
    )
    return gold_report(answers)[0] / task.gold_max


def before(seed: int, folder: Path) -> float:
    """The share where all of them begin."""
    config, task = prepare(parse_arguments(["--preset", "quick", "--seed", str(seed)]).config)[:2]
    return share_of(load_gpt(folder, "sft"), task, load_reward_model(folder), config, seed)


def paired(a: list[float], b: list[float]) -> str:
    """The mean of a - b over the seeds, and its 95 % t interval."""
    differences = [x - y for x, y in zip(a, b, strict=True)]
    interval = t_interval(differences)
    text = f"{mean(differences):+.3f}"
    return text if interval is None else f"{text} ({interval[0]:+.3f} to {interval[1]:+.3f})"


def main() -> int:
    """The command; returns its exit status."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--seeds", default="0-9", help="first-last, or some with commas between them"
    )
    parser.add_argument("--root", type=Path, default=Path("runs/critic_and_clip"))
    own, rest = parser.parse_known_args()
    torch.set_num_threads(1)
    shares: dict[str, list[float]] = {name: [] for name in ("before", *ALGORITHMS)}
    print("| seed | before | " + " | ".join(ALGORITHMS) + " |\n|---:" + "|---:" * 5 + "|")
    for seed in seeds_of(own.seeds):
        folder = stages_before(seed, own.root)
        shares["before"].append(before(seed, folder))
        for algorithm in ALGORITHMS:
            shares[algorithm].append(gold_share(algorithm, seed, folder, rest))
        row = [f"{column[-1]:.3f}" for column in shares.values()]
        print(f"| {seed} | " + " | ".join(row) + " |", flush=True)
    print("| mean | " + " | ".join(f"{mean(column):.3f}" for column in shares.values()) + " |\n")
    for a, b in PAIRS:
        print(f"{a} - {b}: {paired(shares[a], shares[b])}")
    for name in ALGORITHMS:
        lost = sum(x < y for x, y in zip(shares[name], shares["before"], strict=True))
        print(f"{name}: {lost} of {len(shares[name])} runs lost")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
