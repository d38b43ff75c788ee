"""The figures of a run, drawn from its numbers when it ends."""

from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from minippo.commands.pipeline import Trained
from minippo.commands.run import Run
from minippo.reward_head import RewardModel
from minippo.rollout import ScoreFunction, make_rollout
from minippo.runs import figures
from minippo.runs.diagnostics import is_hacked
from minippo.stages.credit import estimate_advantages
from minippo.stages.evaluate import Answers

Summary = dict[str, Any]
Prompts = tuple[Tensor, Tensor]


def draw_figures(
    run: Run, trained: Trained, summary: Summary, *, before: Answers, after: Answers
) -> None:
    """The figures that are drawn from the numbers of the run."""
    config, save, rows = run.config.ppo, run.folder.save_figure, trained.rows
    hacked = is_hacked(finding.code for finding in run.findings)
    save("reward_and_kl", figures.reward_and_kl(rows, hacked=hacked))
    save(
        "score_against_kl",
        figures.score_against_kl(
            summary["path"],
            summary["frontier"],
            summary["best_of_n"],
            (0.0, summary["sft"]["score"]),
            (summary["policy"]["kl"], summary["policy"]["score"]),
            hacked=hacked,
        ),
    )
    save(
        "response_lengths",
        figures.response_lengths(before.lengths, after.lengths, config.response_length),
    )
    if summary["reward_model"] is not None:
        calibration = summary["reward_model"]["calibration"]
        save("reward_calibration", figures.reward_calibration(calibration))
    if run.algorithm.ranges is not None:
        ranges = run.algorithm.ranges(config)
        tokens = trained.tokens["ratios"], trained.tokens["advantages"]
        save("clip_cases", figures.clip_cases(*tokens, *ranges))


def draw_one_response(
    run: Run, trained: Trained, score_function: ScoreFunction, prompt: Prompts
) -> None:
    """The rest: what critic and rewards, and what the reward model's head, say along one
    response."""
    config, tokenizer, record = run.config.ppo, run.task.tokenizer, run.algorithm
    rollout = make_rollout(
        trained.models,
        prompt,
        score_function=score_function,
        config=config,
        generator=run.generator("values figure", run.device),
        eos_id=tokenizer.eos_id,
        pad_id=tokenizer.pad_id,
        samples_per_prompt=record.samples(config) if record.samples_per_prompt > 1 else 1,
    )
    raw = replace(config, whiten_advantages=False, whiten_rewards=False)
    rewards, advantages, _ = estimate_advantages(rollout, raw, record.name)
    length = int(rollout.response_mask[0].sum())  # of the others only the advantage knows
    tokens = [tokenizer.token_text(token) for token in rollout.response_tokens[0, :length].tolist()]
    values = None if rollout.old_values is None else rollout.old_values[0, :length].tolist()
    run.folder.save_figure(
        "values_along_response",
        figures.values_along_response(
            tokens,
            values,
            rewards[0, :length].tolist(),
            advantages[0, :length].tolist(),
            rollout.scores[0].item(),
        ),
    )
    if not isinstance(score_function, RewardModel):
        return  # a rule says nothing along the way
    text = [
        torch.cat(pair, dim=1)
        for pair in (
            (rollout.prompt_tokens, rollout.response_tokens),
            (rollout.prompt_mask, rollout.response_mask),
        )
    ]
    heads = score_function.per_token(*text)[0, rollout.prompt_mask.shape[1] :][:length].tolist()
    run.folder.save_figure(
        "reward_along_response", figures.reward_along_response(tokens, heads, heads[-1])
    )
