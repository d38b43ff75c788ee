"""What scores a response while the policy is trained: a reward model that has learned what an
annotator prefers, or a rule that can check it."""

from typing import Any, NamedTuple

from minippo.commands.own import own_score
from minippo.commands.pipeline import collect_preferences, make_reward_model
from minippo.commands.recipe import has_reward_model
from minippo.commands.run import Run
from minippo.gpt import GPT
from minippo.interchange.load import load_report, load_reward_model
from minippo.reward_head import RewardModel
from minippo.rollout import ScoreFunction
from minippo.settings import is_own
from minippo.stages.rule import RuleScore


class Judge(NamedTuple):
    """Who scores, and what is known about them."""

    score_function: ScoreFunction
    reward_model: RewardModel | None  # None: a rule scores
    report: dict[str, Any] | None  # of the reward model's held-out pairs


def find_judge(run: Run, sft: GPT) -> Judge:
    """The Judge of a run; a resumed one takes its reward model from disk if it is there."""
    if not has_reward_model(run.config):
        run.look_before(None)
        return Judge(rule_of(run), None, None)
    reward_model = run.saved("reward_model", load_reward_model)
    made = reward_model is None
    if reward_model is None:
        reward_model, report = make_reward_model(run, sft, *collect_preferences(run, sft))
    else:
        reward_model.requires_grad_(False)
        report = load_report(run.folder.path)
    run.look_before(report, loud=made)
    return Judge(reward_model, reward_model, report)


def rule_of(run: Run) -> RuleScore:
    """The task's own rule as the score, or a function of the user's own."""
    if is_own(run.config.run.reward):
        own, score = own_score(run.config.run.reward, run.task)
        own.patience.tell = run.screen.note
        return score
    task = run.task

    def rule(prompt: str, response: str) -> float:
        gold = task.gold(prompt, response)
        if gold is None:
            raise ValueError(f"the task {task.name} has no rule")
        return gold

    return RuleScore(rule, task.tokenizer)
