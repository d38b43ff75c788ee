"""What scores a response in the place of a reward model: a rule that can check it."""

from minippo.commands.own import own_score
from minippo.commands.run import Run
from minippo.settings import is_own
from minippo.stages.rule import RuleScore


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
