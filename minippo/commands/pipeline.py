"""The stages of one run, in their order, each with its report and its checkpoint.

    pretrain             a fresh GPT on the task's text; with --start_from one that has read others
    fine_tune            the same GPT on demonstrations, which are imperfect
    collect_preferences  its responses in pairs, and an annotator who chooses
    make_reward_model    a copy of the GPT with a scalar head learns what the annotator prefers
                         (commands/judge.py: neither of the two with --reward rule)
    optimise_policy      PPO, or another algorithm: the GPT learns what is scored high

What a stage does is in minippo.stages; here it is given its data, its generator and its place on
the screen.
"""

import copy
import random
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, replace
from typing import Any, NamedTuple

from torch import Tensor, tensor

from minippo.commands.critic import first_critic
from minippo.commands.path import Point, enough, is_on_path, point_of_path
from minippo.commands.prepare import read_start
from minippo.commands.recipe import context_needed
from minippo.commands.run import Run
from minippo.commands.stopping import Asked, asked_to_stop
from minippo.errors import Interrupted, TrainingError
from minippo.gpt import GPT, GPTConfig
from minippo.reward_head import RewardModel
from minippo.rollout import Models, Rollout, ScoreFunction
from minippo.runs.stats import mean
from minippo.runs.tensorboard import Events
from minippo.runs.text import counted
from minippo.stages.evaluate import answer
from minippo.stages.policy import Row, Step, World, policy_updates
from minippo.stages.preferences import Comparisons, recorded_comparisons, simulated_comparisons
from minippo.stages.pretrain import train_next_token
from minippo.stages.reward import all_scores, heldout_report, set_zero_and_unit, train_reward_model
from minippo.stages.sft import train_on_demonstrations
from minippo.tasks.base import Example, Task

CENTRING_DEMONSTRATIONS, UNIT_PROMPTS = 500, 128


class Trained(NamedTuple):
    """What the policy's training leaves behind."""

    models: Models
    rows: list[Row]  # of metrics
    tokens: dict[str, list[float]]  # ratios and advantages of an early minibatch
    path: list[Point]  # of the policy through the plane of KL and score, on evaluation prompts


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


def collect_preferences(run: Run, sft: GPT) -> tuple[Comparisons, Comparisons]:
    """(training, held-out) Comparisons: a folder's own, or sampled from the fine-tuned model and
    annotated."""
    with run.stage("preferences") as report:
        recorded = run.task.recorded_preferences()
        if recorded is not None:
            training, heldout = (recorded_comparisons(run.task, pairs) for pairs in recorded)
        else:
            training, heldout = simulate_annotator(run, sft)
        sizes = training.number_of_pairs(), heldout.number_of_pairs()
        amount = f"{counted(sizes[0], 'pair')}, {sizes[1]} held out"
        report.say(amount)
        if 0 in sizes:
            raise TrainingError(
                f"preferences: {amount}; the fine-tuned model's responses to a prompt are all of "
                "one worth; try more --preference_prompts, --preference_heldout or "
                "--preference_samples"
            )
    return training, heldout


def simulate_annotator(run: Run, sft: GPT) -> tuple[Comparisons, Comparisons]:
    """(training, held-out) Comparisons of responses that the fine-tuned model samples."""
    config, rng = run.config.preference, run.rng("preference prompts")
    heldout = config.preference_heldout
    prompts = {
        "training": run.task.training_prompts(config.preference_prompts, rng=rng),
        "held-out": enough(run.task.evaluation_prompts(heldout, rng=rng), heldout),
    }
    training, heldout = (
        simulated_comparisons(
            sft,
            run.task,
            texts,
            config=config,
            sampling=run.config.ppo,
            generator=run.generator(f"{kind} samples", run.device),
            annotator_generator=run.generator(f"{kind} annotator"),
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
        reward_model = RewardModel(sft, generator=run.generator("reward head", run.device))
        train_reward_model(
            reward_model,
            training,
            config=run.config.reward,
            generator=run.generator("reward batches"),
            progress=run.bar("reward_model"),
        )
        found = heldout_report(reward_model, heldout)
        demonstrations = centring_demonstrations(run.task, run.rng("centring"))
        set_zero_and_unit(
            reward_model,
            [run.task.demonstration_example(*pair) for pair in demonstrations],
            own_scores(run, sft, reward_model, heldout),
            pad_id=run.task.tokenizer.pad_id,
        )
        reward_model.eval().requires_grad_(False)
        report.say(
            f"held-out accuracy {found['heldout_accuracy']:.3f} ({found['heldout_low']:.3f} to "
            f"{found['heldout_high']:.3f})"
        )
        if found["skill"] is not None:
            report.say(f"ceiling {found['annotator_ceiling']:.3f}, skill {found['skill']:.3f}")
        report.keep("reward_model", reward_model, report=found)
    return reward_model, found


def centring_demonstrations(task: Task, rng: random.Random) -> list[tuple[str, str]]:
    """The demonstrations whose mean score is the zero; each of them once where there are few."""
    number = task.amounts.get("demonstration", CENTRING_DEMONSTRATIONS)
    return task.demonstrations(min(number, CENTRING_DEMONSTRATIONS), rng=rng)


def own_scores(run: Run, sft: GPT, reward_model: RewardModel, heldout: Comparisons) -> Tensor:
    """Raw scores of responses that the fine-tuned model samples: the held-out ones where it made
    them itself."""
    if run.task.recorded_preferences() is None:
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


def optimise_policy(
    run: Run, sft: GPT, score_function: ScoreFunction, reward_model: RewardModel | None
) -> Trained:
    """The algorithm, from the fine-tuned model on; reward_model: for the critic to start from."""
    start = run.saved_state()
    changing = {} if start is None else start[1]
    policy = copy.deepcopy(sft)
    critic = first_critic(run, policy, sft, reward_model)
    models = Models(policy, sft.requires_grad_(False), critic)
    progress = PolicyProgress(
        run, changing, lambda update: point_of_path(run, models, score_function, update)
    )
    with run.stage("policy", progress.seconds_before) as report, asked_to_stop(run.screen) as asked:
        updates = policy_updates(
            models,
            replace(
                world_of(run, score_function, progress.draw_prompts), draw_texts=progress.draw_texts
            ),
            config=run.config.ppo,
            algorithm=run.config.run.algorithm,
            generator=run.generator("policy", run.device),
            start=start,
        )
        for step in updates:
            progress.record(step, asked)
            if asked:
                raise Interrupted(
                    "interrupted; to go on: python -m minippo.train_toy --resume --out "
                    f"{run.folder.path}"
                )
        rows = progress.rows
        report.say(
            f"score {rows[0]['objective/scores']:.3f} -> {rows[-1]['objective/scores']:.3f}, "
            f"KL {rows[-1]['objective/kl']:.2f} nats"
        )
        report.keep("policy", models.policy)
        if critic is not None:
            report.keep("critic", critic)
    return Trained(models, rows, progress.tokens, progress.path)


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
        self, run: Run, changing: dict[str, Any], point: Callable[[int], Point] | None = None
    ):
        """`changing`: the numbers of the state that the training goes on from, or nothing; `point`:
        where the policy is after an update, for the figure of its path."""
        update = changing.get("update", 0)
        self.point = point
        self.path: list[Point] = [tuple(place) for place in changing.get("path", ())]
        self.run, self.rng = run, run.rng("policy prompts")
        self.rows: list[Row] = run.folder.metrics_until(update)
        self.tokens: dict[str, list[float]] = changing.get("minibatch", {})
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

    def record(self, step: Step, asked: Asked) -> None:
        """Metrics, screen, diagnostics; and a state when one is due, or when the user wants to
        stop."""
        run, config, row = self.run, self.run.config, step.row
        before, self.last = self.last, time.perf_counter()
        row["seconds"] = self.last - before
        row["eps"] = config.ppo.batch_size / row["seconds"]  # episodes per second
        if row["update"] <= max(1, config.ppo.num_updates // 10):
            self.tokens = step.tokens  # for the figure of the clip: later ratios hardly leave 1
        if self.point is not None and is_on_path(row["update"], config.ppo.num_updates):
            self.path.append(self.point(row["update"]))
        with run.writing():
            run.folder.append_metrics(row)
        self.rows.append(row)
        run.screen.update_line(row)
        run.look_at(self.rows)
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
