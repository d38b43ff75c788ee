"""The end of a run: before and after on prompts of their own, summary, samples and figures."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from minippo.algorithms.base import PAIRS
from minippo.annotators import REGISTRY as ANNOTATORS
from minippo.commands.drawing import draw_figures, draw_one_response
from minippo.commands.forgetting import pretraining_losses
from minippo.commands.path import enough
from minippo.commands.pipeline import Trained
from minippo.commands.run import Run
from minippo.gpt import GPT
from minippo.rollout import Models, Responses, ScoreFunction, response_logits, response_logprobs
from minippo.runs.screen import optimality_text
from minippo.runs.stats import matmul_loop_seconds, mean, peak_memory_of
from minippo.runs.text import counted
from minippo.stages.course import course_of
from minippo.stages.evaluate import (
    Answers,
    acceptability,
    answer,
    claims_report,
    gold_report,
    win_rate,
)
from minippo.stages.optimum import (
    Draws,
    best_of_n,
    draw_from_both,
    estimate_optimum,
    optimal_frontier,
    policy_and_reference,
)
from minippo.tokenizer import pad_right

SAMPLES_SHOWN, SAMPLES_SAVED = 3, 100
NO_ROOM = 1e-3  # of a score's standard deviation: so near to the reference nothing is left to reach
Summary = dict[str, Any]
Prompts = tuple[Tensor, Tensor]


def evaluate(
    run: Run, trained: Trained, score_function: ScoreFunction, report: dict[str, Any] | None
) -> tuple[Summary, list[dict[str, Any]]]:
    """(summary, samples for the screen); figures and samples.jsonl are written."""
    config, models = run.config, trained.models
    with run.stage("evaluation") as stage:
        different = run.task.evaluation_prompts(
            config.eval.eval_prompts, rng=run.rng("evaluation prompts")
        )
        prompts = enough(different, config.eval.eval_prompts)
        tensors = run.prompt_tensors(prompts)
        before, after = before_and_after(run, models, score_function, prompts)
        draws = draw_from_both(
            models,
            score_function,
            first_rows(tensors, min(config.eval.optimum_prompts, len(different))),
            draws=config.eval.optimum_draws,
            config=config.ppo,
            generator=run.generator("optimum", run.device),
            tokenizer=run.task.tokenizer,
            progress=run.bar("optimum"),
        )
        summary = make_summary(run, trained, prompts, before=before, after=after, draws=draws)
        summary["reward_model"], summary["rounds"] = report, run.rounds
        summary["memory"], summary["course"] = trained.memory, course_of(trained.rows)
        summary["samples"], summary["kl_in"] = trained.samples, kl_in(run)
        summary["pretraining_loss"] = pretraining_losses(run, models)
        summary["gold_training"] = gold_on_training_prompts(run, models, score_function)
        summary["win_rate"]["different_prompts"] = len(different)
        run.folder.save_samples(sample_rows(prompts[:SAMPLES_SAVED], before, after))
        add_claims(run, summary, prompts, before=before, after=after)
        draw_figures(run, trained, summary, before=before, after=after)
        draw_one_response(run, trained, score_function, first_rows(tensors, 1))
        if run.task.has_gold:
            stage.say(f"gold {summary['sft']['gold']:.3f} -> {summary['policy']['gold']:.3f}")
        stage.say(f"win rate {summary['win_rate']['value']:.3f}")
        stage.say(optimality_text(summary))
    add_costs(run, summary)
    return summary, sample_rows(prompts[:SAMPLES_SHOWN], before, after)


def before_and_after(
    run: Run, models: Models, score_function: ScoreFunction, prompts: Sequence[str], of: str = ""
) -> tuple[Answers, Answers]:
    """The Answers of the fine-tuned model and of the policy; `of` names the generators."""
    before, after = (
        answer(
            model,
            run.task,
            prompts,
            run.prompt_tensors(prompts),
            score_function=score_function,
            config=run.config.ppo,
            generator=run.generator(f"{of}{when}", run.device),
        )
        for when, model in (("before", models.reference), ("after", models.policy))
    )
    return before, after


def gold_on_training_prompts(
    run: Run, models: Models, score_function: ScoreFunction
) -> dict[str, Any] | None:
    """Mean gold of answers to prompts that were trained on, where these are a fixed set; as many
    answers as to evaluation prompts."""
    prompts = list(run.task.fixed_prompts())
    if not prompts or not run.task.has_gold:
        return None
    run.rng("training prompts").shuffle(prompts)
    asked = enough(prompts, run.config.eval.eval_prompts)
    answers = before_and_after(run, models, score_function, asked, of="training ")
    sft, policy = (gold_report(part)[0] for part in answers)
    return {"sft": sft, "policy": policy, "different_prompts": len(set(asked))}


def kl_in(run: Run) -> str:
    """Where the training pays for the KL: reward, loss or none."""
    from_pairs = run.algorithm.learns_from == PAIRS  # whose loss has it
    return "loss" if from_pairs else run.config.ppo.where_the_kl_is()


def first_rows(tensors: Prompts, n: int) -> Prompts:
    """The first n prompts."""
    tokens, mask = tensors
    return tokens[:n], mask[:n]


def add_costs(run: Run, summary: Summary) -> None:
    """Seconds and memory, which are known last."""
    seconds = {**run.seconds, "total": sum(run.seconds.values())}
    summary["seconds"] = seconds
    summary["seconds_of_writing"] = run.seconds_of_writing
    summary["seconds_in_matmul_loops"] = seconds["total"] / summary["matmul_loop_seconds"]
    summary["peak_memory_mib"] = peak_memory_of(run.device)


def add_claims(
    run: Run, summary: Summary, prompts: Sequence[str], *, before: Answers, after: Answers
) -> None:
    """What is claimed, and what the annotator makes of the policy's responses: how acceptable they
    are, and how accurate, are two things."""
    for name, answers in (("sft", before), ("policy", after)):
        summary[name]["claims"] = claims_report(run.task, prompts, answers)
    if run.task.recorded_preferences() is not None:  # of people, who are not here
        summary["acceptability"] = None
        return
    summary["acceptability"] = acceptability(
        ANNOTATORS[run.config.preference.annotator],
        run.task,
        prompts,
        before=before,
        after=after,
        config=run.config.annotator,
        generator=run.generator("acceptability"),
    )


def make_summary(
    run: Run,
    trained: Trained,
    prompts: Sequence[str],
    *,
    before: Answers,
    after: Answers,
    draws: Draws,
) -> Summary:
    """summary.json, but for the seconds, the memory and the reward model."""
    config, task = run.config, run.task
    kl_coef = trained.rows[-1]["objective/kl_coef"]  # the last one, where a controller moves it
    policy, sft = trained.models.policy, trained.models.reference
    own, reference = policy_and_reference(draws, kl_coef)
    optimum = estimate_optimum(draws, kl_coef)
    (gold_before, axes_before), (gold_after, axes_after) = gold_report(before), gold_report(after)
    about = {
        name: {"eos_rate": mean(answers.ended), "length": mean(answers.lengths)}
        for name, answers in (("sft", before), ("policy", after))
    }
    score = {"score": reference["score"], "objective": reference["objective"]}
    return {
        "task": task.name,
        "preset": config.run.preset,
        "seed": config.run.seed,
        "algorithm": config.run.algorithm,
        "threads": torch.get_num_threads(),
        "device": str(run.device),
        "parameters": sum(parameter.numel() for parameter in policy.parameters()),
        "peak_memory_mib": None,
        "seconds": None,
        "matmul_loop_seconds": matmul_loop_seconds(run.device),
        "seconds_in_matmul_loops": None,
        "seconds_of_writing": None,
        "reward_model": None,
        "sft": {"gold": gold_before, **score, **about["sft"]},
        "policy": {"gold": gold_after, **own, **about["policy"]},
        "gold_max": task.gold_max,
        "gold_axes": None if axes_before is None else {"sft": axes_before, "policy": axes_after},
        "optimum": optimum,
        "optimality": optimality_of(own, reference, optimum),
        "win_rate": win_rate(before, after, has_gold=task.has_gold, prompts=prompts),
        "answers": watched_answers(run, sft, policy),
        "diagnostics": [finding._asdict() for finding in run.findings],
        **plane_of(trained, draws, kl_coef),
    }


def plane_of(trained: Trained, draws: Draws, kl_coef: float) -> dict[str, Any]:
    """What score_against_kl draws. The path leads from the reference to where the policy ended."""
    own, reference = policy_and_reference(draws, kl_coef)
    first = (0, 0.0, reference["score"])
    last = (trained.rows[-1]["update"], own["kl"], own["score"])
    return {
        "frontier": optimal_frontier(draws, kl_coef),
        "best_of_n": best_of_n(draws),
        "path": [first, *trained.path, last],
    }


def optimality_of(
    own: dict[str, float], reference: dict[str, float], optimum: dict[str, Any]
) -> float | None:
    """How much of the way from the reference's objective to the best one the policy has gone; None
    where the best cannot be told from the reference's."""
    room = optimum["objective"] - reference["objective"]
    if room <= max(NO_ROOM, optimum["high"] - optimum["objective"]):
        return None
    return (own["objective"] - reference["objective"]) / room


def watched_answers(run: Run, sft: GPT, policy: GPT) -> list[dict[str, Any]] | None:
    """The probability of the right answer and of its rival before and after, per prompt; None where
    none is watched."""
    rows = []
    for prompt, right, rival in run.task.answers_to_watch():
        row: dict[str, Any] = {"prompt": prompt, "right": right, "rival": rival}
        for when, model in (("before", sft), ("after", policy)):
            for kind, text in (("right", right), ("rival", rival)):
                row[f"{kind}_{when}"] = response_probability(run, model, prompt, text)
        rows.append(row)
    return rows or None


@torch.no_grad()
def response_probability(run: Run, model: GPT, prompt: str, text: str) -> float:
    """The probability that the model gives exactly this response, EOS included."""
    tokens, mask = pad_right([run.task.response_ids(text)], run.task.tokenizer.pad_id)
    batch = Responses(*run.prompt_tensors([prompt]), tokens.to(run.device), mask.to(run.device))
    logits = response_logits(model, batch, run.config.ppo.temperature)
    return response_logprobs(logits, batch).sum().exp().item()


def sample_rows(prompts: Sequence[str], before: Answers, after: Answers) -> list[dict[str, Any]]:
    """Rows of samples.jsonl."""
    gold_before, gold_after = before.gold(), after.gold()
    return [
        {
            "prompt": prompt,
            "before": before.texts[i],
            "after": after.texts[i],
            "score_before": before.scores[i],
            "score_after": after.scores[i],
            "gold_before": gold_before[i],
            "gold_after": gold_after[i],
        }
        for i, prompt in enumerate(prompts)
    ]


def more_lines(summary: Summary) -> dict[str, str]:
    """Lines of the table that are this program's own: the watched answers, and the machine's
    speed."""
    rows = summary["answers"] or []
    lines = {
        row["prompt"]: f"{row['right']} {row['right_before']:.3f} -> {row['right_after']:.3f}, "
        f"{row['rival']} {row['rival_before']:.3f} -> {row['rival_after']:.3f}"
        for row in rows
    }
    if rows:
        lines["right answer, mean"] = (
            f"{mean(row['right_before'] for row in rows):.3f} -> "
            f"{mean(row['right_after'] for row in rows):.3f}"
        )
    lines["machine"] = (
        f"{summary['device']}, {counted(summary['threads'], 'thread')}; the run took "
        f"{summary['seconds_in_matmul_loops']:.0f} times the loop of matrix products"
    )
    return lines
