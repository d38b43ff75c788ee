"""The pairs that a run learns from where its algorithm needs no reward model, and at which price.

With a reward model in the run, which such an algorithm needs for the evaluation only, the pairs are
the run's preferences. The best policy of E[score] - kl_coef KL is then the same as PPO's at the
price kl_coef times the reward model's unit, since the annotator's labels are in scores that have
not been divided by that. With a rule the pairs are responses of the reference, and there is no
unit.
"""

from collections.abc import Callable, Sequence

from minippo.algorithms.base import PAIRS
from minippo.commands.recipe import stage_seed
from minippo.commands.run import Run
from minippo.errors import TrainingError
from minippo.gpt import GPT
from minippo.reward_head import RewardModel
from minippo.rollout import ScoreFunction
from minippo.runs.text import counted
from minippo.stages.pairs import PRICE_WITHOUT_A_UNIT, Pairs, judged_comparisons
from minippo.stages.preferences import Comparisons, together

Parts = Sequence[tuple[Comparisons, Comparisons]]  # (training, held-out) of each round


def preferred_pairs(
    run: Run, parts: Callable[[], Parts], reward_model: RewardModel
) -> Pairs | None:
    """The preferences of all rounds, at the price that has PPO's optimum; None for an algorithm
    that learns from rollouts."""
    if run.algorithm.learns_from != PAIRS:
        return None
    kl_coef, unit = run.config.ppo.kl_coef, reward_model.scale.item()
    why = f"kl_coef {kl_coef:g} times the reward model's unit, {unit:.4g}"
    return told(run, together([training for training, _ in parts()]), kl_coef * unit, why)


def judged_pairs(run: Run, sft: GPT, score_function: ScoreFunction) -> Pairs | None:
    """Responses of the fine-tuned model of which a rule says which is better."""
    if run.algorithm.learns_from != PAIRS:
        return None
    rng = run.rng("pairs")
    comparisons = judged_comparisons(
        sft,
        lambda n: run.prompt_tensors(run.task.training_prompts(n, rng=rng)),
        score_function,
        config=run.config.ppo,
        samples=run.algorithm.samples(run.config.ppo),
        eos_id=run.task.tokenizer.eos_id,
        pad_id=run.task.tokenizer.pad_id,
        generator=run.generator("pairs", run.device),
    )
    pairs = told(run, comparisons, PRICE_WITHOUT_A_UNIT, "a rule has no unit")
    return pairs._replace(sampled=comparisons.response_mask[:, :, 0].numel())


def told(run: Run, comparisons: Comparisons, price: float, why: str) -> Pairs:
    """The pairs, when the screen has said how many there are and what a nat costs."""
    left_out = int((comparisons.labels == 0).all(dim=1).sum())
    if left_out == len(comparisons):
        raise TrainingError(
            "pairs: the responses to a prompt are all of one worth; try more --num_updates, "
            "--batch_size or --samples_per_prompt"
        )
    pairs = counted(comparisons.number_of_pairs(), "pair")
    run.screen.note(
        f"{run.algorithm.name}: {pairs} of {counted(len(comparisons) - left_out, 'prompt')}; "
        f"{counted(left_out, 'prompt')} without two of different worth left out; price of a nat "
        f"{price:.4g} ({why})"
    )
    return Pairs(comparisons, price, stage_seed(run.config.run.seed, "order of pairs"))
