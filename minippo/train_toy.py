"""All of RLHF with one command: python -m minippo.train_toy

    pretrain      a fresh GPT on the task's text (with --start_from: a GPT-2 of yours, as it is)
    sft           the same GPT on demonstrations, which are imperfect
    preferences   its responses in pairs, and an annotator who chooses
    reward_model  a copy of the GPT with a scalar head learns what the annotator prefers
    policy        PPO, or another --algorithm: the GPT learns what the reward model prefers, without
                  going far
    evaluation    before and after on prompts of their own, and the best policy there could be

Every stage draws from random generators of its own, which follow from the seed and the stage's
name. So a run that was stopped can go on from the checkpoint of the last stage that was finished,
and within the policy's training from the last state that was saved, and ends with the same bits:
--resume --out DIR.
"""

import copy
import os
import platform
import random
import signal
import subprocess
import sys
import time
import zlib
from contextlib import contextmanager, suppress
from dataclasses import asdict, replace

import torch

from minippo.command_line import parse_arguments
from minippo.config import ModelConfig
from minippo.critic_head import Critic
from minippo.errors import InputError, TrainingError
from minippo.evaluate import answer, gold_report, mean, win_rate
from minippo.gpt import GPT, GPTConfig
from minippo.hugging_face import read_gpt2
from minippo.load import load_gpt, load_report, load_reward_model, load_tokenizer
from minippo.optimum import (
    best_of_n,
    draw_from_both,
    estimate_optimum,
    optimal_frontier,
    policy_and_reference,
)
from minippo.preferences import recorded_comparisons, simulated_comparisons
from minippo.reward_head import RewardModel
from minippo.rollout import Responses, make_rollout, response_logits, response_logprobs
from minippo.runs import figures
from minippo.runs.diagnostics import diagnose, never_asked
from minippo.runs.folder import RunFolder
from minippo.runs.screen import Screen, printable
from minippo.runs.stats import matmul_loop_seconds, peak_memory_mib
from minippo.runs.tensorboard import Events, summary_writer
from minippo.tasks import make_task
from minippo.tokenizer import pad_right
from minippo.train_policy import estimate_advantages, train_policy
from minippo.train_reward import all_scores, heldout_report, set_zero_and_unit, train_reward_model
from minippo.train_sft import train_next_token
from minippo.training_state import check_numbers

FORMAT = 2  # of the checkpoints; another number is refused by --resume
SAMPLES_SHOWN, SAMPLES_SAVED, CENTRING_DEMONSTRATIONS = 3, 100, 500
# of a standard deviation of the score: an optimum this near to the reference leaves nothing to
# reach for
NO_ROOM = 1e-3


class Run:
    """What every stage needs at hand: the configuration, the task, the device, the folder, the
    screen and the clock."""

    def __init__(self, config, task, device, folder, screen, resume=False):
        self.config, self.task, self.device, self.folder, self.screen = (
            config,
            task,
            device,
            folder,
            screen,
        )
        self.resume, self.seconds, self.findings = resume, {}, []
        self.seconds_of_writing = 0.0  # checkpoints, states and metrics

    @contextmanager
    def stage(self, name, seconds_before=0.0):
        """Times a stage; what is appended to the list that it yields is the figure on the stage's
        line."""
        begin, text = time.perf_counter() - seconds_before, []
        yield text
        self.seconds[name] = time.perf_counter() - begin
        self.screen.stage(name, ", ".join(text), self.seconds[name])

    @contextmanager
    def writing(self):
        """Times what is written so that the run can be taken up again."""
        begin = time.perf_counter()
        yield
        self.seconds_of_writing += time.perf_counter() - begin

    def generator(self, name, device="cpu"):
        return torch.Generator(device=device).manual_seed(stage_seed(self.config.run.seed, name))

    def rng(self, name):
        return random.Random(stage_seed(self.config.run.seed, name))

    def bar(self, name):
        """A progress bar for the loops of a stage."""
        return lambda items: self.screen.progress(items, name)

    def prompt_tensors(self, prompts):
        return [x.to(self.device) for x in self.task.prompt_batch(prompts)]

    def save(self, stage, model, **info):
        trunk = getattr(model, "trunk", model)
        with self.writing():
            self.folder.save_checkpoint(
                stage,
                model,
                model_config=asdict(trunk.config),
                tokenizer=self.task.tokenizer.to_dict(),
                info={"seconds": self.seconds, **info},
            )

    def saved(self, stage, load):
        """The model of a stage that a resumed run had finished; None when it had not, or when its
        files are damaged."""
        if not self.resume:
            return None
        try:
            path, info = self.folder.whole_checkpoint(stage)
            if path is None:
                return None
            model = load(self.folder.path).to(self.device)
            size = getattr(model, "trunk", model).config
            if (
                size.vocab_size != self.task.tokenizer.vocab_size
                or size.context_length < context_needed(self.config, self.task)
            ):
                raise InputError(f"{path / 'config.json'}: not the size of this run's models")
        except InputError as error:
            self.screen.note(f"{error}; the stage {stage} is done again")
            return None
        self.seconds |= info["seconds"]
        self.screen.note(f"{stage}: as it was saved")
        return model

    def look_at(self, rows, loud=True):
        """Ask the diagnostics about the last row of the policy's metrics; each of them speaks once
        in a run."""
        ppo = self.config.ppo
        silent = never_asked(
            algorithm=self.config.run.algorithm,
            num_ppo_epochs=ppo.num_ppo_epochs,
            num_mini_batches=ppo.num_mini_batches,
        )
        found = diagnose(rows, silent={*silent, *(finding.code for finding in self.findings)})
        self.findings += found
        for finding in found if loud else ():
            self.screen.note(str(finding))

    def look_back(self, rows):
        """The same about the updates that were made before; what has been said is not said
        again."""
        try:
            for end in range(1, len(rows) + 1):
                self.look_at(rows[:end], loud=False)
        except (KeyError, TypeError, ValueError) as error:
            raise InputError(
                f"{self.folder.path}/metrics.jsonl: not the metrics of this run ({error})"
            ) from error

    def circumstances(self):
        """What helps to understand a fault: the diagnostics that fired before it, and the last good
        checkpoint."""
        fired = ", ".join(f"{finding.code} {finding.name}" for finding in self.findings) or "none"
        last = max(
            (self.folder.path / "checkpoints").glob("[!.]*"),
            key=lambda path: path.stat().st_mtime_ns,
            default="none",
        )
        return f"; diagnostics that fired: {fired}; last good checkpoint: {last}"

    def saved_state(self):
        """((tensors, numbers) or None) of the policy's training: the newest state that is whole."""
        for update, read in self.folder.states() if self.resume else ():
            try:
                state = read()
                check_numbers(
                    state[1],
                    update,
                    also=("kl_old_coef",) if "_kl" in self.config.run.algorithm else (),
                )
            except InputError as error:
                self.screen.note(
                    f"{error}; going back to the state before it, or to the stage's beginning"
                )
                continue
            self.screen.note(f"policy: from update {update}")
            return state
        return None


def stage_seed(seed, name):
    """A number for each (seed, stage): no stage's randomness depends on how much of it another one
    used."""
    return zlib.crc32(f"{seed} {name}".encode())


# -- the stages


def pretrain(run):
    """A GPT that has read the task's text; with --start_from one that has read others."""
    config, task = run.config.pretrain, run.task
    if run.config.run.start_from is not None:
        return take_over(run)
    with run.stage("pretrain") as text:
        model = GPT(
            GPTConfig(
                vocab_size=task.tokenizer.vocab_size,
                context_length=context_needed(run.config, task),
                **asdict(run.config.model),
            ),
            generator=run.generator("weights"),
        ).to(run.device)
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
        text.append(f"loss {losses[0]:.3f} -> {mean(losses[-20:]):.3f}")
    run.save("pretrain", model)
    return model


def take_over(run):
    """The model that --start_from names. The stages that follow find it in the checkpoint of the
    pretraining."""
    with run.stage("pretrain") as text:
        model = read_gpt2(run.config.run.start_from)[0].to(run.device)
        text.append(
            f"none: {sum(p.numel() for p in model.parameters())} parameters from "
            f"{run.config.run.start_from}"
        )
    run.save("pretrain", model)
    return model


def fine_tune(run, model):
    """The same GPT, trained further on demonstrations: the policy that PPO starts from and is held
    near to."""
    config, task = run.config.sft, run.task
    with run.stage("sft") as text:
        rng = run.rng("sft")
        losses = train_next_token(
            model,
            lambda step: [
                task.demonstration_example(*pair)
                for pair in task.demonstrations(config.sft_batch_size, rng=rng)
            ],
            steps=config.sft_steps,
            learning_rate=config.sft_learning_rate,
            pad_id=task.tokenizer.pad_id,
            stage="sft",
            progress=run.bar("sft"),
        )
        text.append(f"loss {losses[0]:.3f} -> {mean(losses[-20:]):.3f}")
    run.save("sft", model)
    return model


def collect_preferences(run, sft):
    """(training, held-out) Comparisons: a folder's own, or sampled from the fine-tuned model and
    annotated."""
    config, task = run.config, run.task
    with run.stage("preferences") as text:
        recorded = task.recorded_preferences()
        if recorded is not None:
            training, heldout = (recorded_comparisons(task, pairs) for pairs in recorded)
        else:
            rng = run.rng("preference prompts")
            prompts = (
                task.training_prompts(config.preference.preference_prompts, rng=rng),
                enough(
                    task.evaluation_prompts(config.preference.preference_heldout, rng=rng),
                    config.preference.preference_heldout,
                ),
            )
            training, heldout = (
                simulated_comparisons(
                    sft,
                    task,
                    texts,
                    config=config.preference,
                    response_length=config.ppo.response_length,
                    sampling_temperature=config.ppo.temperature,
                    generator=run.generator(f"{kind} samples", run.device),
                    annotator_generator=run.generator(f"{kind} annotator"),
                    progress=run.bar("preferences"),
                )
                for kind, texts in zip(("training", "held-out"), prompts)
            )
        text.append(f"{training.number_of_pairs()} pairs, {heldout.number_of_pairs()} held out")
        if 0 in (training.number_of_pairs(), heldout.number_of_pairs()):
            raise TrainingError(
                f"preferences: {', '.join(text)}; the fine-tuned model's "
                "responses to a prompt are all of "
                "one worth; try more --preference_prompts, --preference_heldout or "
                "--preference_samples"
            )
    return training, heldout


def make_reward_model(run, sft, training, heldout):
    """(RewardModel, its held-out report): trained, then given its zero and its unit."""
    config, task = run.config, run.task
    with run.stage("reward_model") as text:
        reward_model = RewardModel(sft, generator=run.generator("reward head", run.device))
        train_reward_model(
            reward_model,
            training,
            config=config.reward,
            generator=run.generator("reward batches"),
            progress=run.bar("reward_model"),
        )
        report = heldout_report(reward_model, heldout)
        demonstrations = [
            task.demonstration_example(*pair)
            for pair in task.demonstrations(CENTRING_DEMONSTRATIONS, rng=run.rng("centring"))
        ]
        set_zero_and_unit(
            reward_model,
            demonstrations,
            own_scores(run, sft, reward_model, heldout),
            pad_id=task.tokenizer.pad_id,
        )
        reward_model.eval().requires_grad_(False)
        text.append(
            f"held-out accuracy {report['heldout_accuracy']:.3f} ({report['heldout_low']:.3f} to "
            f"{report['heldout_high']:.3f})"
        )
        if report["skill"] is not None:
            text.append(f"ceiling {report['annotator_ceiling']:.3f}, skill {report['skill']:.3f}")
    run.save("reward_model", reward_model, report=report)
    return reward_model, report


def own_scores(run, sft, reward_model, heldout):
    """Raw scores of responses that the fine-tuned model samples: the held-out ones where it made
    them itself."""
    if run.task.recorded_preferences() is None:
        return all_scores(reward_model, heldout)
    prompts = run.task.training_prompts(128, rng=run.rng("unit prompts"))
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
    return torch.tensor(answers.scores)


@contextmanager
def asked_to_stop(screen):
    """Yields a list that is no longer empty after a first Ctrl-C; a second one interrupts at
    once."""
    asked = []

    def handler(*_):
        if asked:
            raise KeyboardInterrupt
        asked.append(True)
        screen.note("stopping after this update; once more to stop at once")

    try:
        before = signal.signal(signal.SIGINT, handler)
    except ValueError:  # only the main thread may say what a signal does
        yield asked
        return
    try:
        yield asked
    finally:
        signal.signal(signal.SIGINT, before)


def optimise_policy(run, sft, reward_model):
    """(policy, critic, rows of metrics, a minibatch's ratios and advantages): the algorithm, from
    the fine-tuned model."""
    config, task = run.config, run.task
    start = run.saved_state()
    numbers = {"update": 0, "stage_seconds": 0.0} if start is None else start[1]
    rows = run.folder.metrics_until(numbers["update"])
    with run.stage("policy", numbers["stage_seconds"]) as text, asked_to_stop(run.screen) as asked:
        policy, critic = copy.deepcopy(sft), Critic.from_reward_model(reward_model)
        sft.requires_grad_(False)
        rng, kept, begin = run.rng("policy prompts"), {}, time.perf_counter()
        clock, events = (
            [begin],
            Events(run.folder.path, numbers["update"]) if config.run.tensorboard else None,
        )
        if start is not None:
            run.look_back(rows)
            rng.setstate(as_tuples(numbers["rng"]))
            kept["minibatch"] = numbers["minibatch"]

        def save_state(state):
            with run.writing():
                tensors, changing = state()
                seconds = numbers["stage_seconds"] + time.perf_counter() - begin
                run.folder.save_state(
                    changing["update"],
                    tensors,
                    changing
                    | {
                        "rng": rng.getstate(),
                        "minibatch": kept["minibatch"],
                        "stage_seconds": seconds,
                    },
                )

        def on_update(row, rollout, minibatch, state):
            clock.append(time.perf_counter())
            row["seconds"] = clock[-1] - clock[-2]
            row["eps"] = config.ppo.batch_size / row["seconds"]  # episodes per second
            if row["update"] <= max(1, config.ppo.num_updates // 10):
                # for the figure of the clip: later ratios hardly leave the range
                kept["minibatch"] = minibatch
            with run.writing():
                run.folder.append_metrics(row)
            run.screen.update_line(row)
            rows.append(row)
            run.look_at(rows)
            if events is not None:
                events.add(row)
            if (
                asked
                or row["update"] % config.run.save_every == 0
                or row["update"] == config.ppo.num_updates
            ):
                save_state(state)
            if asked:
                raise KeyboardInterrupt

        train_policy(
            policy=policy,
            reference=sft,
            critic=critic,
            score_function=reward_model,
            draw_prompts=lambda n: run.prompt_tensors(task.training_prompts(n, rng=rng)),
            config=config.ppo,
            algorithm=config.run.algorithm,
            generator=run.generator("policy", run.device),
            eos_id=task.tokenizer.eos_id,
            pad_id=task.tokenizer.pad_id,
            gold_function=None
            if task.gold_max is None
            else lambda rollout: mean_gold(task, rollout),
            on_update=on_update,
            start=start,
        )
        text.append(
            f"score {rows[0]['objective/scores']:.3f} -> {rows[-1]['objective/scores']:.3f}, "
            f"KL {rows[-1]['objective/kl']:.2f} nats"
        )
    run.save("policy", policy)
    run.save("critic", critic)
    return policy, critic, rows, kept["minibatch"]


def evaluate(run, sft, policy, critic, reward_model, report, rows, minibatch):
    """The summary, the samples and the figures."""
    config, task = run.config, run.task
    with run.stage("evaluation") as text:
        different = task.evaluation_prompts(
            config.eval.eval_prompts, rng=run.rng("evaluation prompts")
        )
        prompts = enough(different, config.eval.eval_prompts)
        tensors = run.prompt_tensors(prompts)
        before, after = (
            answer(
                model,
                task,
                prompts,
                tensors,
                score_function=reward_model,
                config=config.ppo,
                generator=run.generator(name, run.device),
            )
            for name, model in (("before", sft), ("after", policy))
        )
        n = min(config.eval.optimum_prompts, len(different))
        draws = draw_from_both(
            policy,
            sft,
            reward_model,
            [x[:n] for x in tensors],
            draws=config.eval.optimum_draws,
            config=config.ppo,
            generator=run.generator("optimum", run.device),
            eos_id=task.tokenizer.eos_id,
            pad_id=task.tokenizer.pad_id,
            progress=run.bar("optimum"),
        )
        summary = make_summary(
            run, sft, policy, before=before, after=after, draws=draws, report=report
        )
        summary["win_rate"]["different_prompts"] = len(different)
        run.folder.save_samples(sample_rows(prompts[:SAMPLES_SAVED], before, after))
        draw_figures(
            run,
            policy,
            sft,
            critic,
            reward_model,
            tensors,
            rows=rows,
            minibatch=minibatch,
            before=before,
            after=after,
            draws=draws,
            summary=summary,
        )
        optimality = summary["optimality"]
        text.append(
            f"win rate {summary['win_rate']['value']:.3f}, "
            f"optimality {'-' if optimality is None else f'{optimality:.3f}'}"
        )
    summary["seconds"] = {**run.seconds, "total": sum(run.seconds.values())}
    summary["seconds_in_matmul_loops"] = (
        summary["seconds"]["total"] / summary["matmul_loop_seconds"]
    )
    summary["peak_memory_mib"] = peak_memory_mib()
    return summary, sample_rows(prompts[:SAMPLES_SHOWN], before, after)


# -- what the stages are made of


def as_tuples(state):
    """The state of a random.Random, whose tuples JSON has made lists of."""
    version, internal, gauss_next = state
    return version, tuple(internal), gauss_next


def enough(prompts, n):
    """The prompts, over and over until there are n: a task with few prompts is asked each of them
    more than once."""
    return [prompts[i % len(prompts)] for i in range(n)]


def mean_gold(task, rollout):
    decode = task.tokenizer.decode
    return mean(
        task.gold(decode(prompt), decode(response))
        for prompt, response in zip(
            rollout.prompt_tokens.tolist(), rollout.response_tokens.tolist()
        )
    )


def make_summary(run, sft, policy, *, before, after, draws, report):
    """summary.json, but for the seconds and the memory, which are known last."""
    config, task, kl_coef = run.config, run.task, run.config.ppo.kl_coef
    own, reference = policy_and_reference(draws, kl_coef)
    optimum = estimate_optimum(draws, kl_coef)
    (gold_before, axes_before), (gold_after, axes_after) = gold_report(before), gold_report(after)
    room = optimum["objective"] - reference["objective"]
    # else it cannot be told from sampling error
    has_room = room > max(NO_ROOM, optimum["high"] - optimum["objective"])
    about = {
        name: {"eos_rate": mean(answers.ended), "length": mean(answers.lengths)}
        for name, answers in (("sft", before), ("policy", after))
    }
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
        "matmul_loop_seconds": matmul_loop_seconds(),
        "seconds_in_matmul_loops": None,
        "seconds_of_writing": run.seconds_of_writing,
        "reward_model": report,
        "sft": {
            "gold": gold_before,
            "score": reference["score"],
            "objective": reference["objective"],
            **about["sft"],
        },
        "policy": {"gold": gold_after, **own, **about["policy"]},
        "gold_max": task.gold_max,
        "gold_axes": None if axes_before is None else {"sft": axes_before, "policy": axes_after},
        "optimum": optimum,
        "optimality": (own["objective"] - reference["objective"]) / room if has_room else None,
        "win_rate": win_rate(before, after, has_gold=task.gold_max is not None),
        "answers": watched_answers(run, sft, policy),
        "diagnostics": [finding._asdict() for finding in run.findings],
    }


def watched_answers(run, sft, policy):
    """The probability of the right answer and of its rival before and after, per prompt; None where
    none is watched."""
    rows = []
    for prompt, right, rival in run.task.answers_to_watch():
        row = {"prompt": prompt, "right": right, "rival": rival}
        for when, model in (("before", sft), ("after", policy)):
            for kind, text in (("right", right), ("rival", rival)):
                row[f"{kind}_{when}"] = response_probability(run, model, prompt, text)
        rows.append(row)
    return rows or None


@torch.no_grad()
def response_probability(run, model, prompt, text):
    """The probability that the model gives exactly this response, EOS included."""
    tokens, mask = (
        x.to(run.device)
        for x in pad_right([run.task.response_ids(text)], run.task.tokenizer.pad_id)
    )
    batch = Responses(*run.prompt_tensors([prompt]), tokens, mask)
    return (
        response_logprobs(response_logits(model, batch, run.config.ppo.temperature), batch)
        .sum()
        .exp()
        .item()
    )


def sample_rows(prompts, before, after):
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


def draw_figures(
    run,
    policy,
    sft,
    critic,
    reward_model,
    tensors,
    *,
    rows,
    minibatch,
    before,
    after,
    draws,
    summary,
):
    """The five figures; the numbers behind the frontier go into the summary as well."""
    config, save = run.config.ppo, run.folder.save_figure
    points = [(row["update"], row["objective/kl"], row["objective/scores"]) for row in rows]
    summary["frontier"], summary["best_of_n"] = (
        optimal_frontier(draws, config.kl_coef),
        best_of_n(draws),
    )
    save("reward_and_kl", figures.reward_and_kl(rows))
    save(
        "score_against_kl",
        figures.score_against_kl(
            points,
            summary["frontier"],
            summary["best_of_n"],
            (0.0, summary["sft"]["score"]),
            (summary["policy"]["kl"], summary["policy"]["score"]),
        ),
    )
    save(
        "response_lengths",
        figures.response_lengths(before.lengths, after.lengths, config.response_length),
    )
    save(
        "clip_cases",
        figures.clip_cases(minibatch["ratios"], minibatch["advantages"], config.cliprange),
    )
    rollout = make_rollout(
        policy=policy,
        reference=sft,
        critic=critic,
        score_function=reward_model,
        prompts=[x[:1] for x in tensors],
        config=config,
        eos_id=run.task.tokenizer.eos_id,
        generator=run.generator("values figure", run.device),
        pad_id=run.task.tokenizer.pad_id,
    )
    rewards, advantages, _ = estimate_advantages(
        rollout,
        replace(config, whiten_advantages=False, whiten_rewards=False),
        run.config.run.algorithm,
    )
    length = int(rollout.response_mask.sum())
    shown = [
        x[0, :length].tolist()
        for x in (rollout.response_tokens, rollout.old_values, rewards, advantages)
    ]
    shown[0] = [run.task.tokenizer.token_text(token) for token in shown[0]]
    save("values_along_response", figures.values_along_response(*shown, rollout.scores.item()))


# -- the whole


def prepare(config, resumed=None):
    """(config, task); the size and the tokenizer of a model to start from are its own, and a
    resumed run has kept them."""
    model, tokenizer = starting_point(config, resumed)
    if model is not None:
        try:
            sizes = ModelConfig(
                **{name: getattr(model.config, name) for name in ("n_layer", "n_head", "n_embd")}
            )
        except ValueError as error:
            raise InputError(f"--start_from {config.run.start_from}: {error}") from error
        config = replace(config, model=sizes)
    generator = torch.Generator().manual_seed(stage_seed(config.run.seed, "split"))
    task = make_task(config, generator=generator, tokenizer=tokenizer)
    needed = context_needed(config, task)
    if model is not None and model.config.context_length < needed:
        raise InputError(
            f"--start_from {config.run.start_from}: its context has "
            f"{model.config.context_length} tokens, "
            f"this run needs {needed}; lower --prompt_length, --completion_length or "
            "--response_length"
        )
    return config, task


def starting_point(config, resumed):
    """(model, tokenizer) of --start_from; (None, tokenizer) for a run that has taken over the model
    already."""
    if config.run.start_from is None or config.run.task != "files":
        return None, None
    if resumed is not None:
        # no checkpoint yet, or a damaged one: the model is taken over again
        with suppress(InputError):
            return None, load_tokenizer(resumed, "pretrain")
    return read_gpt2(config.run.start_from)


def context_needed(config, task):
    """Tokens of the longest sequence that any stage will read."""
    return max(task.document_length, task.prompt_length + config.ppo.response_length)


def run_all(config, *, task, folder, screen, resume=False):
    """The whole run, from config.json to summary.json; returns the summary. TrainingError says what
    had been reached."""
    torch.set_num_threads(config.run.threads)
    device = find_device(config.run.device)
    if config.run.tensorboard:
        summary_writer()  # a missing package is told now, not after the other stages
    run = Run(config, task, device, folder, screen, resume)
    if not resume:
        folder.save_config(config.to_dict() | {"versions": versions(device, task)})
    for note in task.notes:
        screen.note(note)
    try:
        summary, shown = train_and_evaluate(run)
        folder.save_summary(summary)
    except TrainingError as error:
        raise TrainingError(f"{error}{run.circumstances()}") from error
    screen.samples(shown)
    screen.table(summary, extras=more_lines(summary), folder=folder.path)
    return summary


def train_and_evaluate(run):
    """(summary, samples for the screen) of every stage in its order; a resumed run takes from disk
    what is there."""
    sft = run.saved("sft", lambda path: load_gpt(path, "sft"))
    if sft is None:
        pretrained = run.saved("pretrain", lambda path: load_gpt(path, "pretrain"))
        sft = fine_tune(run, pretrain(run) if pretrained is None else pretrained)
    reward_model = run.saved("reward_model", load_reward_model)
    if reward_model is None:
        training, heldout = collect_preferences(run, sft)
        reward_model, report = make_reward_model(run, sft, training, heldout)
    else:
        reward_model, report = reward_model.requires_grad_(False), load_report(run.folder.path)
    policy, critic, rows, minibatch = optimise_policy(run, sft, reward_model)
    return evaluate(run, sft, policy, critic, reward_model, report, rows, minibatch)


def more_lines(summary):
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
        f"{summary['device']}, {summary['threads']} threads; the run took "
        f"{summary['seconds_in_matmul_loops']:.0f} times the loop of matrix products"
    )
    return lines


def find_device(name):
    if name == "cuda" and not torch.cuda.is_available():
        raise InputError("--device cuda: this machine has no CUDA device; use --device cpu")
    return torch.device("cuda" if name != "cpu" and torch.cuda.is_available() else "cpu")


def versions(device, task):
    """What the numbers may depend on besides the seed."""
    where = os.path.dirname(os.path.abspath(__file__))
    try:
        commit = subprocess.run(
            ["git", "-C", where, "rev-parse", "HEAD"], capture_output=True, text=True, timeout=5
        )
        commit = commit.stdout.strip() or None
    except (OSError, subprocess.SubprocessError):
        commit = None
    return {
        "format": FORMAT,
        "python": platform.python_version(),
        "torch": torch.__version__,
        "device": device.type,
        "commit": commit,
        "data": task.fingerprint,
    }


def check_versions(folder, device, task):
    """Refuse to go on where the same bits cannot be had: another format of checkpoints, torch,
    device, or other texts."""
    was, now = folder.read_config().get("versions", {}), versions(device, task)
    if was.get("data") != now["data"]:
        raise InputError(
            f"--resume: the files of the run in {folder.path} have changed since it began; put "
            "them back, or "
            "start a new run"
        )
    for name in ("format", "torch", "device"):
        if was.get(name) != now[name]:
            raise InputError(
                f"--resume: the run in {folder.path} was made with {name} {was.get(name)}, this "
                f"is {now[name]}"
            )


def main(arguments=None):
    """The command; returns its exit status."""
    folder = None
    try:
        config, out, resume, quiet = parse_arguments(arguments)
        device = find_device(config.run.device)
        config, task = prepare(config, out if resume else None)
        name = f"{config.run.task}-{config.run.algorithm}-{config.run.preset}-{config.run.seed}"
        folder, screen = (
            RunFolder.create(out, default_name=name, resume=resume),
            Screen(quiet=quiet),
        )
        with folder.lock():
            if resume:
                folder.remove_leftovers()
                check_versions(folder, device, task)
                if folder.is_finished():
                    screen.note(
                        f"{folder.path}: this run is finished; there is nothing to go on with"
                    )
                    return 0
            run_all(config, task=task, folder=folder, screen=screen, resume=resume)
    except (InputError, TrainingError) as error:
        print(f"error: {printable(str(error))}", file=sys.stderr)
        return 2 if isinstance(error, InputError) else 1
    except (MemoryError, torch.OutOfMemoryError):
        print(
            "error: out of memory; try a smaller --batch_size, --preference_samples or --n_embd",
            file=sys.stderr,
        )
        return 1
    except KeyboardInterrupt:
        print(
            f"interrupted; to go on: python -m minippo.train_toy --resume --out {folder.path}"
            if folder
            else "interrupted",
            file=sys.stderr,
        )
        return 130
    except BrokenPipeError:  # whoever read our lines has left; there is nobody to tell
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
