"""The models of a run, asked one prompt at a time: what they answer, and what each token of it was
worth.

Nothing is imported for it but this package: a task or a rule that is in a file of the user's own is
asked only where the command line names it again.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NamedTuple

import torch

from minippo.algorithms import REGISTRY
from minippo.commands.config import Config
from minippo.commands.export import LANGUAGE_MODELS, check_run
from minippo.commands.of_run import check_digest, config_of, has_stage, named_again, task_of_run
from minippo.commands.own import own_rule
from minippo.critic_head import Critic
from minippo.errors import InputError, TrainingError
from minippo.gpt import GPT
from minippo.interchange.load import load_critic, load_gpt, load_reward_model, load_tokenizer
from minippo.reward_head import RewardModel
from minippo.rollout import Models, Rollout, make_rollout
from minippo.runs.read import first_words
from minippo.runs.text import counted
from minippo.settings import is_own
from minippo.stages.credit import estimate_advantages
from minippo.tasks import Files
from minippo.tasks.base import Task
from minippo.tasks.own_rule import OwnRule
from minippo.tokenizer import Tokenizer, WordTokenizer, pad_left

DEFAULT_STAGES = ("sft", "policy")
MOST_WORDS = 200  # of a tokenizer, in the line that says which it knows


class Token(NamedTuple):
    """One token of an answer."""

    text: str
    logprob: float
    value: float | None  # of the critic before it; None: there is no critic
    kl: float  # KL(model || fine-tuned model) of what it was drawn from, in nats
    advantage: float | None  # not whitened; None where there is no score or no critic to give it


class Answer(NamedTuple):
    """What one model says to a prompt."""

    text: str
    score: float | None  # of the reward model or the rule that is named; None: there is neither
    gold: float | None  # None: no rule, or it has nothing to say about this prompt
    tokens: list[Token]
    trouble: str = ""  # what a rule of the user's own did wrong


@dataclass(frozen=True)
class Speaker:
    """The models of a run, and how they are spoken to."""

    config: Config
    models: dict[str, GPT]  # by stage
    reference: GPT  # the fine-tuned model
    reward_model: RewardModel | None
    critic: Critic | None
    tokenizer: Tokenizer
    task: Task | None  # None: one without a rule, or one that is not named
    rule: OwnRule | None = None  # that scored the run, where it is named

    def prompt_ids(self, prompt: str) -> list[int]:
        """The tokens of a prompt. InputError says what is unknown, or how long it may be."""
        if unknown := self.unknown_words(prompt):
            raise InputError(f"not known: {', '.join(unknown)}; {self.what_is_known()}")
        try:
            ids = [self.tokenizer.bos_id, *self.tokenizer.encode(prompt)]
            ids += self.tokenizer.encode("\n") if self.reads_files() else []
        except ValueError as error:  # a text that no UTF-8 can hold
            raise InputError(f"not a text that can be read ({first_words(error)})") from error
        room = self.reference.config.context_length - self.config.ppo.response_length
        if len(ids) > room:
            raise InputError(
                f"too long: {counted(len(ids), 'token')}, and the model knows prompts of at most "
                f"{room} (its context, less --response_length {self.config.ppo.response_length})"
            )
        return ids

    def unknown_words(self, prompt: str) -> list[str]:
        """The words of a prompt that are not in the tokenizer's list, if it has one."""
        if not isinstance(self.tokenizer, WordTokenizer):
            return []
        words = dict.fromkeys(prompt.split())
        return [word[:40] for word in words if word not in self.tokenizer.ids][:10]

    def what_is_known(self) -> str:
        """The words of a tokenizer that knows words."""
        words = [*getattr(self.tokenizer, "ids", ())]
        more = f" and {len(words) - MOST_WORDS} more" * (len(words) > MOST_WORDS)
        return f"the {counted(len(words), 'word')} known: {' '.join(words[:MOST_WORDS])}{more}"

    def reads_files(self) -> bool:
        """Do prompts end with a line break?"""
        return self.config.run.task == Files.name

    def answer(self, stage: str, ids: Sequence[int], generator: torch.Generator) -> Answer:
        """One response of the model of a stage."""
        rollout = make_rollout(
            Models(self.models[stage], self.reference, self.critic),
            pad_left([ids], self.tokenizer.pad_id),
            score_function=self.reward_model or no_score,
            config=self.config.ppo,
            generator=generator,
            eos_id=self.tokenizer.eos_id,
            pad_id=self.tokenizer.pad_id,
        )
        text = self.tokenizer.decode(rollout.response_tokens[0].tolist())
        score = None if self.reward_model is None else rollout.scores.item()
        asked, gold, trouble = self.tokenizer.decode(ids), None, ""
        try:
            gold = self.gold(asked, text)
            score = score if self.rule is None else self.rule.score(asked, text)
        except TrainingError as error:  # of a rule of the user's own, which ends no conversation
            trouble = str(error)
        return Answer(text, score, gold, self.tokens_of(rollout), trouble)

    def gold(self, prompt: str, response: str) -> float | None:
        """The gold score, where the task has a rule and it can be applied."""
        try:
            return None if self.task is None else self.task.gold(prompt, response)
        except (ValueError, StopIteration):  # a prompt that the rule says nothing about
            return None

    def tokens_of(self, rollout: Rollout) -> list[Token]:
        """The response token by token."""
        length = int(rollout.response_mask.sum())
        values, advantages = rollout.old_values, [None] * length
        algorithm = REGISTRY[self.config.run.algorithm]
        alone = algorithm.samples_per_prompt == 1  # the advantage of a group's needs the others
        has_values = values is not None or not algorithm.has_critic
        if self.reward_model is not None and has_values and alone:
            raw = replace(self.config.ppo, whiten_advantages=False, whiten_rewards=False)
            advantages = estimate_advantages(rollout, raw, algorithm.name)[1][0].tolist()
        return [
            Token(
                self.tokenizer.token_text(int(rollout.response_tokens[0, t])),
                rollout.old_logprobs[0, t].item(),
                None if values is None else values[0, t].item(),
                rollout.exact_kl[0, t].item(),
                advantages[t],
            )
            for t in range(length)
        ]


def no_score(tokens: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    """Stands for a reward model; nobody reads what it says."""
    return torch.zeros(len(tokens))


def open_speaker(
    run: str,
    stages: Sequence[str] | None,
    temperature: float | None,
    *,
    task: str | None = None,
    reward: str | None = None,
) -> Speaker:
    """The Speaker of a run, for these stages, by default those of DEFAULT_STAGES that are there;
    `task` and `reward` are FILE.py:NAME, named by this call's command line. InputError: it has
    none, or a file of it cannot be read."""
    config = config_of(run, temperature)
    there = [name for name in LANGUAGE_MODELS if has_stage(run, name)]
    wanted = stages or [stage for stage in DEFAULT_STAGES if stage in there] or DEFAULT_STAGES
    for stage in wanted:
        check_run(Path(run), stage)
    models = {stage: load_gpt(run, stage) for stage in wanted}
    tokenizer = load_tokenizer(run, wanted[0])
    reference = models.get("sft") or (load_gpt(run, "sft") if "sft" in there else models[wanted[0]])
    reward_model = load_reward_model(run) if has_stage(run, "reward_model") else None
    critic = load_critic(run) if has_stage(run, "critic") else None
    trunks = [judge.trunk for judge in (reward_model, critic) if judge is not None]
    for model in (*models.values(), reference, *trunks):
        if model.config != reference.config or model.config.vocab_size != tokenizer.vocab_size:
            raise InputError(f"{run}: its models and its tokenizer do not belong together")
    judges = gold_of(run, config, task), rule_named(run, config, reward)
    return Speaker(config, models, reference, reward_model, critic, tokenizer, *judges)


def gold_of(run: str, config: Config, named: str | None) -> Task | None:
    """The task whose rule gives gold scores: the run's own, unless it has none, or is in a file
    that nobody has named."""
    if named is None and (config.run.task == Files.name or is_own(config.run.task)):
        return None
    return task_of_run(run, config, named=named)


def rule_named(run: str, config: Config, named: str | None) -> OwnRule | None:
    """The rule that scored a run, where it is in a file and is named."""
    if named is None:
        return None
    own = named_again(config.run.reward, named, "reward")
    check_digest(run, "reward", own.digest)
    return own_rule(f"{own.path}:{own.name}")
