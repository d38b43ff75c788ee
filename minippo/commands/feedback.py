"""From responses to a reward model: preferences, and what is learned from them.

collect_preferences  a model's responses, and an annotator who says which is better
make_reward_model    a copy of the GPT with a scalar head learns what the annotator prefers
"""

import random
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
    SFT,
    Comparisons,
    recorded_comparisons,
    simulated_comparisons,
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


def collect_preferences(run: Run, model: GPT) -> tuple[Comparisons, Comparisons]:
    """(training, held-out) Comparisons: a folder's own, or sampled from the model and annotated."""
    with run.stage("preferences") as report:
        recorded = run.task.recorded_preferences()
        if recorded is not None:
            training, heldout = (recorded_comparisons(run.task, pairs) for pairs in recorded)
        else:
            training, heldout = simulate_annotator(run, model)
        sizes = training.number_of_pairs(), heldout.number_of_pairs()
        amount = f"{counted(sizes[0], 'pair')}, {sizes[1]} held out"
        report.say(amount)
        if 0 in sizes:
            raise TrainingError(
                f"preferences: {amount}; the model's responses to a prompt are all of "
                "one worth; try more --preference_prompts, --preference_heldout or "
                "--preference_samples"
            )
    return training, heldout


def simulate_annotator(run: Run, model: GPT) -> tuple[Comparisons, Comparisons]:
    """(training, held-out) Comparisons of responses that the model samples."""
    config, rng = run.config.preference, run.rng("preference prompts")
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
                run.generator(f"{kind} samples", run.device),
                run.generator(f"{kind} annotator"),
            ),
            progress=run.bar("preferences"),
        )
        for kind, texts in prompts.items()
    )
    return training, heldout


def make_reward_model(
    run: Run, sft: GPT, training: Comparisons, heldout: Comparisons
) -> tuple[RewardModel, dict[str, Any]]:
    """(RewardModel, its held-out report): trained, then given its zero and its unit."""
    with run.stage("reward_model") as report:
        config = run.config.reward
        reward_model = RewardModel(
            sft, layers=config.reward_layers, generator=run.generator("reward head", run.device)
        )
        train_reward_model(
            reward_model,
            training,
            config=config,
            generator=run.generator("reward batches"),
            progress=run.bar("reward_model"),
        )
        found = heldout_report(reward_model, heldout)
        calibration = calibration_table(
            all_scores(reward_model, heldout),
            heldout,
            unit=1.0 if training.ratings is None else run.config.annotator.annotator_temperature,
        )
        demonstrations = centring_demonstrations(run.task, run.rng("centring"))
        set_zero_and_unit(
            reward_model,
            [run.task.demonstration_example(*pair) for pair in demonstrations],
            own_scores(run, sft, reward_model, heldout),
            pad_id=run.task.tokenizer.pad_id,
            zero=config.reward_zero,
            unit=config.reward_unit,
        )
        reward_model.eval().requires_grad_(False)
        report.say(
            f"held-out accuracy {found['heldout_accuracy']:.3f} ({found['heldout_low']:.3f} to "
            f"{found['heldout_high']:.3f})"
        )
        if found["skill"] is not None:
            report.say(f"ceiling {found['annotator_ceiling']:.3f}, skill {found['skill']:.3f}")
        if "disagreement" in found:
            report.say(f"outvoted {found['disagreement']:.3f}")
        report.keep("reward_model", reward_model, report=found, calibration=calibration)
    return reward_model, found | {"calibration": calibration}


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
