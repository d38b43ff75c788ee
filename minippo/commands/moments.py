"""The same few prompts, answered at some moments of the policy's training: there one can watch a
policy get better, or a hack begin.

The generators are their own: the training draws what it would draw without.
"""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from torch import Tensor

from minippo.commands.run import Run
from minippo.rollout import Models, Rollout, ScoreFunction, make_rollout
from minippo.runs.moments import TOKEN, is_moment, without_tokens
from minippo.stages.credit import estimate_advantages, rewards_of

PROMPTS, WITH_TOKENS = 20, 5  # that are watched; of these, with every token's numbers
DIGITS = 6  # of a number that is kept


class Moments:
    """The rows of samples_over_time.jsonl, which grow with the training."""

    def __init__(
        self, run: Run, models: Models, score_function: ScoreFunction, rows: Sequence[Any] = ()
    ):
        """`rows`: those of the training that this one goes on from."""
        self.run, self.models, self.score_function = run, models, score_function
        self.rows: list[dict[str, Any]] = list(rows)
        if self.rows:
            run.folder.save_moments(self.rows)

    def look(self, update: int, kl_coef: float) -> None:
        """Ask the policy, if this is a moment; kl_coef: the price of the KL in this update."""
        run = self.run
        if not is_moment(update, run.config.ppo.num_updates):
            return
        different = run.task.evaluation_prompts(
            run.config.eval.eval_prompts, rng=run.rng("evaluation prompts")
        )
        prompts = different[:PROMPTS]
        rollout = make_rollout(
            self.models,
            run.prompt_tensors(prompts),
            score_function=self.score_function,
            config=run.config.ppo,
            generator=run.generator(f"samples over time {update}", run.device),
            eos_id=run.task.tokenizer.eos_id,
            pad_id=run.task.tokenizer.pad_id,
        )
        rows = rows_of(run, update, prompts, rollout)
        for row, tokens in zip(rows, tokens_of(run, rollout, kl_coef)):
            row["tokens"] = tokens
        self.rows = [*without_tokens(self.rows), *rows]
        with run.writing():
            run.folder.save_moments(self.rows)


def moments_of(
    run: Run, models: Models, score_function: ScoreFunction, rows: Sequence[Any]
) -> Moments | None:
    """The Moments of a run that will have a report; None without one, and in a round before the
    last, which is in none."""
    is_last = run.folder.path == run.home
    return Moments(run, models, score_function, rows) if run.config.run.report and is_last else None


def rows_of(
    run: Run, update: int, prompts: Sequence[str], rollout: Rollout
) -> list[dict[str, Any]]:
    """A row for each prompt."""
    scores, kl = rollout.scores.tolist(), rollout.exact_kl.sum(dim=1).tolist()
    rows = []
    for i, prompt in enumerate(prompts):
        response = run.task.tokenizer.decode(rollout.response_tokens[i].tolist())
        gold = run.task.gold(prompt, response)
        numbers = {"score": scores[i], "gold": gold, "kl": kl[i]}
        row = {"update": update, "prompt": prompt, "response": response}
        rows.append(row | {name: rounded(value) for name, value in numbers.items()})
    return rows


def tokens_of(run: Run, rollout: Rollout, kl_coef: float) -> list[list[dict[str, Any]]]:
    """What every model says of each token of the first responses; rewards and advantages as the
    algorithm makes them, before they are whitened."""
    raw = replace(run.config.ppo, whiten_advantages=False, whiten_rewards=False, kl_coef=kl_coef)
    rewards, advantages = rewards_of(rollout, raw), None
    if run.algorithm.samples_per_prompt == 1:  # others are compared with responses not asked for
        advantages = estimate_advantages(rollout, raw, run.config.run.algorithm)[1]
    columns = (
        rollout.ref_logprobs,
        rollout.old_logprobs,
        rollout.old_values,
        rewards,
        advantages,
        rollout.exact_kl,
    )
    found = []
    for i in range(min(WITH_TOKENS, len(rollout))):
        length = int(rollout.response_mask[i].sum())
        ids = rollout.response_tokens[i, :length].tolist()
        texts = [run.task.tokenizer.token_text(token) for token in ids]
        table = [texts, *(numbers(column, i, length) for column in columns)]
        found.append([dict(zip(TOKEN, token, strict=True)) for token in zip(*table, strict=True)])
    return found


def numbers(column: Tensor | None, row: int, length: int) -> list[float | None]:
    """The first `length` numbers of a row, or as many times None."""
    if column is None:
        return [None] * length
    return [rounded(value) for value in column[row, :length].tolist()]


def rounded(value: float | None) -> float | None:
    """With a few digits, as a person reads it."""
    return None if value is None else float(f"{value:.{DIGITS}g}")
