"""The stages of one run, in their order, each with its report and its checkpoint.

    pretrain         a fresh GPT on the task's text; with --start_from one that has read others
    fine_tune        the same GPT on demonstrations, which are imperfect
    (feedback.py)    preferences, and the reward model that learns them; none with --reward rule
    optimise_policy  PPO, or another algorithm: the GPT learns what is scored high

What a stage does is in minippo.stages; here it is given its data, its generator and its place on
the screen.
"""

import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, replace
from typing import Any, NamedTuple

from torch import Tensor

from minippo.commands.critic import first_critic, first_policy
from minippo.commands.moments import Moments, moments_of
from minippo.commands.path import Point, is_on_path, point_of_path
from minippo.commands.prepare import read_start
from minippo.commands.recipe import context_needed
from minippo.commands.run import Run
from minippo.commands.stopping import Asked, asked_to_stop
from minippo.errors import Interrupted
from minippo.gpt import GPT, GPTConfig
from minippo.lora import merged
from minippo.reward_head import RewardModel
from minippo.rollout import Models, Rollout, ScoreFunction
from minippo.runs.stats import mean
from minippo.runs.tensorboard import Events
from minippo.runs.text import counted
from minippo.stages.memory import Bytes, memory_report, watch_first
from minippo.stages.pairs import Pairs
from minippo.stages.policy import Row, Step, World, policy_updates
from minippo.stages.pretrain import train_next_token
from minippo.stages.sft import train_on_demonstrations
from minippo.tasks.base import Example, Task


class Trained(NamedTuple):
    """What the policy's training leaves behind."""

    models: Models
    rows: list[Row]  # of metrics
    tokens: dict[str, list[float]]  # ratios and advantages of an early minibatch
    path: list[Point]  # of the policy through the plane of KL and score, on evaluation prompts
    memory: dict[str, Any]  # bytes: see stages.memory
    samples: int  # responses that were sampled for it


def pretrain(run: Run) -> GPT:
    """A GPT that has read the task's text; with --start_from one that has read others."""
    config, task = run.config.pretrain, run.task
    if run.config.run.start_from is not None:
        return take_over(run, run.config.run.start_from)
    with run.stage("pretrain") as report:
        size = GPTConfig(
            vocab_size=task.tokenizer.vocab_size,
            context_length=context_needed(run.config, task),
            **asdict(run.config.model),
        )
        model = GPT(size, generator=run.generator("weights")).to(run.device)
        rng = run.rng("pretrain")
        losses = train_next_token(
            model,
            lambda step: task.pretraining_examples(config.pretrain_batch_size, step=step, rng=rng),
            steps=config.pretrain_steps,
            learning_rate=config.pretrain_learning_rate,
            pad_id=task.tokenizer.pad_id,
            stage="pretrain",
            progress=run.bar("pretrain"),
        )
        report.say(f"loss {losses[0]:.3f} -> {mean(losses[-20:]):.3f}")
        report.keep("pretrain", model)
    return model


def take_over(run: Run, folder: str) -> GPT:
    """The model that --start_from names. The stages that follow find it in the checkpoint of the
    pretraining."""
    with run.stage("pretrain") as report:
        model = read_start(folder, wanted=run.model)[0].to(run.device)
        size = counted(sum(p.numel() for p in model.parameters()), "parameter")
        report.say(f"none: {size} from {folder}")
        report.keep("pretrain", model)
    return model


def fine_tune(run: Run, model: GPT) -> GPT:
    """The same GPT, trained further on demonstrations: the policy that PPO starts from and is held
    near to."""
    with run.stage("sft") as report:
        losses = train_on_demonstrations(
            model, run.task, config=run.config.sft, rng=run.rng("sft"), progress=run.bar("sft")
        )
        report.say(f"loss {losses[0]:.3f} -> {mean(losses[-20:]):.3f}")
        report.keep("sft", model)
    return model


def optimise_policy(
    run: Run,
    sft: GPT,
    score_function: ScoreFunction,
    reward_model: RewardModel | None,
    pairs: Pairs | None = None,
) -> Trained:
    """The algorithm, from the fine-tuned model on; reward_model: for the critic to start from;
    pairs: for an algorithm that learns from them."""
    start = run.saved_state()
    changing = {} if start is None else start[1]
    policy = first_policy(run, sft)
    critic = first_critic(run, policy, sft, reward_model)
    models = Models(policy, sft.requires_grad_(False), critic)
    moments = moments_of(run, models, score_function, changing.get("moments", ()))
    progress = PolicyProgress(
        run, changing, lambda update: point_of_path(run, models, score_function, update), moments
    )
    with run.stage("policy", progress.seconds_before) as report, asked_to_stop(run.screen) as asked:
        if moments is not None and start is None:
            moments.look(0, run.config.ppo.kl_coef)
        updates = policy_updates(
            models,
            progress.world(score_function, pairs),
            config=run.config.ppo,
            algorithm=run.config.run.algorithm,
            generator=run.generator("policy", run.device),
            start=start,
        )
        watched = watch_first(updates, models, progress.keep_memory)
        for step in progress.told(watched):
            progress.record(step, asked)
            if asked:
                raise Interrupted(
                    f"interrupted; to go on: python -m minippo.train_toy --resume --out {run.home}"
                )
        report.say(progress.result())
        # what is evaluated is what is written, and what another round or a later run reads
        plain = merged(policy) if run.config.ppo.lora_rank else policy
        report.keep("policy", plain)
        if critic is not None:
            report.keep("critic", critic)
    judge = reward_model if run.algorithm.needs_scores else None
    memory = memory_report(models, judge, progress.memory)
    return progress.trained(models._replace(policy=plain), memory, pairs)


def world_of(run: Run, score_function: ScoreFunction, draw_prompts: Callable[[int], Any]) -> World:
    """What the policy's trainer is told of the task."""
    task = run.task
    return World(
        draw_prompts=draw_prompts,
        score_function=score_function,
        eos_id=task.tokenizer.eos_id,
        pad_id=task.tokenizer.pad_id,
        gold_function=(lambda rollout: mean_gold(task, rollout)) if task.has_gold else None,
    )


class PolicyProgress:
    """What is written, printed and watched while the policy is trained, update by update."""

    def __init__(
        self,
        run: Run,
        changing: dict[str, Any],
        point: Callable[[int], Point] | None = None,
        moments: Moments | None = None,
    ):
        """`changing`: the numbers of the state that the training goes on from, or nothing; `point`:
        where the policy is after an update, for the figure of its path; `moments`: what asks it on
        the way, for the report."""
        update = changing.get("update", 0)
        self.point, self.moments = point, moments
        self.path: list[Point] = [tuple(place) for place in changing.get("path", ())]
        self.run, self.rng = run, run.rng("policy prompts")
        self.rows: list[Row] = run.folder.metrics_until(update)
        self.tokens: dict[str, list[float]] = changing.get("minibatch", {})
        self.memory: Bytes = changing.get("memory", {})
        self.seconds_before: float = changing.get("stage_seconds", 0.0)
        self.begin = self.last = time.perf_counter()
        self.events = Events(run.folder.path, update) if run.config.run.tensorboard else None
        if changing:
            run.look_at_earlier(self.rows)
            self.rng.setstate(as_tuples(changing["rng"]))

    def draw_prompts(self, n: int) -> tuple[Tensor, Tensor]:
        """The prompts of the next rollout."""
        return self.run.prompt_tensors(self.run.task.training_prompts(n, rng=self.rng))

    def draw_texts(self, n: int) -> Sequence[Example]:
        """Texts of the pretraining, as its last step saw them, for PPO-ptx."""
        steps = self.run.config.pretrain.pretrain_steps
        return self.run.task.pretraining_examples(n, step=steps, rng=self.rng)

    def told(self, steps: Iterable[Step]) -> Iterable[Step]:
        """The steps, and how far they are on the screen."""
        total, done = self.run.config.ppo.num_updates, len(self.rows)
        return self.run.screen.progress(steps, "policy", unit="update", total=total, done=done)

    def trained(self, models: Models, memory: dict[str, Any], pairs: Pairs | None) -> Trained:
        """What is left behind."""
        # several rollouts for some batches; or those that pairs were made of
        rollouts = sum(row.get("val/draws", 1) for row in self.rows)
        samples = self.run.config.ppo.batch_size * rollouts if pairs is None else pairs.sampled
        return Trained(models, self.rows, self.tokens, self.path, memory, samples)

    def result(self) -> str:
        """The stage's figures."""
        first, last = self.rows[0], self.rows[-1]
        return (
            f"score {first['objective/scores']:.3f} -> {last['objective/scores']:.3f}, "
            f"KL {last['objective/kl']:.2f} nats"
        )

    def small_batches(self) -> int:
        """Batches that max_draws rollouts have not filled with groups that differ."""
        size = self.run.config.ppo.batch_size
        return sum(row.get("val/batch_rows", size) < size for row in self.rows)

    def world(self, score_function: ScoreFunction, pairs: Pairs | None) -> World:
        """What the policy's trainer is told of the task, and what it may draw."""
        world = world_of(self.run, score_function, self.draw_prompts)
        return replace(world, draw_texts=self.draw_texts, pairs=pairs)

    def keep_memory(self, found: Bytes) -> None:
        """What the first update held; a run that goes on keeps what it had found."""
        self.memory = self.memory or found

    def record(self, step: Step, asked: Asked) -> None:
        """Metrics, screen, diagnostics; and a state when one is due, or when the user wants to
        stop."""
        run, config, row, size = (
            self.run,
            self.run.config,
            step.row,
            self.run.config.ppo.batch_size,
        )
        before, self.last = self.last, time.perf_counter()
        row["seconds"] = self.last - before
        row["eps"] = size / row["seconds"]  # episodes per second
        if row["update"] <= max(1, config.ppo.num_updates // 10):
            self.tokens = step.tokens  # for the figure of the clip: later ratios hardly leave 1
        if self.point is not None and is_on_path(row["update"], config.ppo.num_updates):
            self.path.append(self.point(row["update"]))
        if self.moments is not None:
            self.moments.look(row["update"], row["objective/kl_coef"])
        with run.writing():
            run.folder.append_metrics(row)
        self.rows.append(row)
        run.screen.update_line(row)
        run.look_at(self.rows)
        if self.small_batches() == 1 and row.get("val/batch_rows", size) < size:
            run.screen.note(
                f"update {row['update']}: {row['val/batch_rows']} of {size} responses are of "
                f"groups that differ after {row['val/draws']} rollouts (--max_draws); the batch "
                "stays smaller, as later ones may, which are not told"
            )
        if self.events is not None:
            self.events.add(row)
        is_due = row["update"] % config.run.save_every == 0
        if asked or is_due or row["update"] == config.ppo.num_updates:
            self.save_state(step)

    def save_state(self, step: Step) -> None:
        """All that the rest of the training depends on."""
        with self.run.writing():
            tensors, changing = step.state()
            own = {
                "rng": self.rng.getstate(),
                "minibatch": self.tokens,
                "path": self.path,
                "moments": [] if self.moments is None else self.moments.rows,
                "memory": self.memory,
                "stage_seconds": self.seconds_before + time.perf_counter() - self.begin,
            }
            self.run.folder.save_state(
                changing["update"], tensors, changing | own, self.run.origin("policy")
            )


def as_tuples(state: Sequence[Any]) -> tuple[Any, ...]:
    """The state of a random.Random, whose tuples JSON has made lists of."""
    version, internal, gauss_next = state
    return version, tuple(internal), gauss_next


def mean_gold(task: Task, rollout: Rollout) -> float:
    """The mean gold score of a rollout's responses."""
    decode = task.tokenizer.decode
    found = [
        task.gold(decode(prompt), decode(response))
        for prompt, response in zip(
            rollout.prompt_tokens.tolist(), rollout.response_tokens.tolist(), strict=True
        )
    ]
    return mean(gold for gold in found if gold is not None)
