"""From responses to a reward model: preferences, and what is learned from them.

    collect_preferences  a model's responses, and an annotator who says which is better
    make_reward_model    a copy of the GPT with a scalar head learns what the annotator prefers

With --rounds both come again: the responses are those of the policy so far, and the reward model
learns from all preferences so far, beginning once more with the fine-tuned model. A run that is
taken up again collects once more what it needs: that follows from the seed and from the policies,
which are kept.
"""

import random
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from torch import Tensor, tensor

from minippo.commands.path import enough
from minippo.commands.run import Run
from minippo.errors import TrainingError
from minippo.gpt import GPT
from minippo.interchange.load import load_gpt
from minippo.reward_head import RewardModel
from minippo.runs.text import counted
from minippo.stages.calibration import calibration_table
from minippo.stages.evaluate import answer
from minippo.stages.preferences import (
    PAIRS,
    PRETRAIN,
    RATINGS,
    SFT,
    Comparisons,
    recorded_comparisons,
    simulated_comparisons,
    together,
)
from minippo.stages.reward import all_scores, heldout_report, set_zero_and_unit, train_reward_model
from minippo.tasks.base import Task

CENTRING_DEMONSTRATIONS, UNIT_PROMPTS = 500, 128


def sampled_model(run: Run, sft: GPT) -> GPT:
    """The model whose responses are compared."""
    if run.config.preference.preferences_from == SFT:
        return sft
    run.folder.whole_checkpoint(PRETRAIN)  # refuses one that is damaged
    return load_gpt(run.folder.path, PRETRAIN).to(run.device)


class Collected:
    """The preferences of all rounds so far, each of them collected when it is first asked for."""

    def __init__(self, model: GPT) -> None:
        self.models = [model]  # whose responses the rounds compare
        self._parts: list[tuple[Comparisons, Comparisons]] = []

    def parts(self, run: Run) -> list[tuple[Comparisons, Comparisons]]:
        """(training, held-out) Comparisons of each round."""
        for number in range(len(self._parts) + 1, len(self.models) + 1):
            self._parts.append(collect_preferences(run, self.models[number - 1], number))
        return self._parts


def collect_preferences(run: Run, model: GPT, number: int = 1) -> tuple[Comparisons, Comparisons]:
    """(training, held-out) Comparisons: a folder's own, or sampled from the model and annotated;
    `number` is that of the round."""
    with run.stage("preferences") as report:
        recorded = run.task.recorded_preferences()
        if recorded is not None:
            training, heldout = (recorded_comparisons(run.task, pairs) for pairs in recorded)
        else:
            training, heldout = simulate_annotator(run, model, number)
        sizes = training.number_of_pairs(), heldout.number_of_pairs()
        amount = f"{counted(sizes[0], 'pair')}, {sizes[1]} held out"
        report.say(amount)
        if 0 in sizes and number == 1:  # a later policy may be of one mind
            raise TrainingError(
                f"preferences: {amount}; the model's responses to a prompt are all of "
                "one worth; try more --preference_prompts, --preference_heldout or "
                "--preference_samples"
            )
    return training, heldout


def simulate_annotator(run: Run, model: GPT, number: int = 1) -> tuple[Comparisons, Comparisons]:
    """(training, held-out) Comparisons of responses that the model samples. Each round draws its
    own prompts, responses and labels."""
    suffix = "" if number == 1 else f" round {number}"
    config, rng = run.config.preference, run.rng(f"preference prompts{suffix}")
    heldout = config.preference_heldout
    prompts = {
        "training": run.task.training_prompts(config.preference_prompts, rng=rng),
        "held-out": enough(run.task.evaluation_prompts(heldout, rng=rng), heldout),
    }
    training, heldout = (
        simulated_comparisons(
            model,
            run.task,
            texts,
            config=config if kind == "training" else replace(config, preference_labels=PAIRS),
            annotator=run.config.annotator,
            sampling=run.config.ppo,
            generators=(
                run.generator(f"{kind} samples{suffix}", run.device),
                run.generator(f"{kind} annotator{suffix}"),
            ),
            progress=run.bar("preferences"),
        )
        for kind, texts in prompts.items()
    )
    return training, heldout


def make_reward_model(
    run: Run,
    sft: GPT,
    parts: Sequence[tuple[Comparisons, Comparisons]],
    earlier: RewardModel | None = None,
) -> tuple[RewardModel, dict[str, Any]]:
    """(RewardModel, its held-out report): trained on the preferences of every round, then given its
    zero and its unit. `earlier` is the reward model of the round before."""
    config = run.config.reward
    with run.stage("reward_model") as report:
        reward_model = RewardModel(
            sft, layers=config.reward_layers, generator=run.generator("reward head", run.device)
        )
        train_reward_model(
            reward_model,
            together([training for training, _ in parts]),
            config=config,
            generator=run.generator("reward batches"),
            progress=run.bar("reward_model"),
        )
        found = whole_report(run, reward_model, [heldout for _, heldout in parts], earlier)
        calibration = found.pop("calibration")
        demonstrations = centring_demonstrations(run.task, run.rng("centring"))
        set_zero_and_unit(
            reward_model,
            [run.task.demonstration_example(*pair) for pair in demonstrations],
            own_scores(run, sft, reward_model, parts[0][1]),
            pad_id=run.task.tokenizer.pad_id,
            zero=config.reward_zero,
            unit=config.reward_unit,
        )
        reward_model.eval().requires_grad_(False)
        for line in lines_of(found):
            report.say(line)
        report.keep("reward_model", reward_model, report=found, calibration=calibration)
    return reward_model, found | {"calibration": calibration}


def whole_report(
    run: Run, reward_model: RewardModel, parts: Sequence[Comparisons], earlier: RewardModel | None
) -> dict[str, Any]:
    """The report on the held-out pairs of every round, with the calibration; and of an earlier
    reward model how right it is about the newest ones, responses of the policy that it made."""
    config, heldout = run.config, together(parts)
    is_rated = config.preference.preference_labels == RATINGS
    found: dict[str, Any] = {**heldout_report(reward_model, heldout)}
    found["calibration"] = calibration_table(
        all_scores(reward_model, heldout),
        heldout,
        unit=config.annotator.annotator_temperature if is_rated else 1.0,
    )
    if earlier is not None and parts[-1].number_of_pairs():
        found["earlier_accuracy"] = heldout_report(earlier, parts[-1])["heldout_accuracy"]
    return found


def lines_of(found: dict[str, Any]) -> list[str]:
    """What the screen says of a report."""
    lines = [
        f"held-out accuracy {found['heldout_accuracy']:.3f} ({found['heldout_low']:.3f} to "
        f"{found['heldout_high']:.3f})"
    ]
    if found["skill"] is not None:
        lines.append(f"ceiling {found['annotator_ceiling']:.3f}, skill {found['skill']:.3f}")
    if "disagreement" in found:
        lines.append(f"outvoted {found['disagreement']:.3f}")
    if "earlier_accuracy" in found:
        lines.append(f"the earlier one on the newest {found['earlier_accuracy']:.3f}")
    return lines


def centring_demonstrations(task: Task, rng: random.Random) -> list[tuple[str, str]]:
    """The demonstrations whose mean score is the zero; each of them once where there are few."""
    number = task.amounts.get("demonstration", CENTRING_DEMONSTRATIONS)
    return task.demonstrations(min(number, CENTRING_DEMONSTRATIONS), rng=rng)


def own_scores(run: Run, sft: GPT, reward_model: RewardModel, heldout: Comparisons) -> Tensor:
    """Raw scores of responses that the fine-tuned model samples: the held-out ones where it made
    them itself."""
    is_own = run.config.preference.preferences_from == SFT
    if is_own and run.task.recorded_preferences() is None:
        return all_scores(reward_model, heldout)
    prompts = run.task.training_prompts(UNIT_PROMPTS, rng=run.rng("unit prompts"))
    without_rule = replace(run.config.ppo, no_eos_score=None, missing_eos_penalty=0.0)
    answers = answer(
        sft,
        run.task,
        prompts,
        run.prompt_tensors(prompts),
        score_function=reward_model,
        config=without_rule,
        generator=run.generator("unit", run.device),
    )
    return tensor(answers.scores)
