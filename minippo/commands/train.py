"""All of RLHF with one command: python -m minippo.train_toy

    pretrain      a fresh GPT on the task's text (with --start_from: a GPT-2 of yours, as it is)
    sft           the same GPT on demonstrations, which are imperfect
    preferences   its responses in pairs, and an annotator who chooses
    reward_model  a copy of the GPT with a scalar head learns what the annotator prefers
                  (neither of these two with --reward rule, which is arithmetic's way)
    policy        PPO, or another --algorithm: the GPT learns what the reward model prefers, without
                  going far
    evaluation    before and after on prompts of their own, and the best policy there could be

Every stage draws from random generators of its own, which follow from the seed and the stage's
name. So a run that was stopped can go on from the checkpoint of the last stage that was finished,
and within the policy's training from the last state that was saved, and ends with the same bits:
--resume --out DIR.
"""

import os
import platform
import subprocess
from collections.abc import Mapping, Sequence
from typing import Any

import torch

from minippo.algorithms.fitting import own_kl_note
from minippo.algorithms.recipes import recipe_notes
from minippo.commands.config import FIELDS, Config
from minippo.commands.feedback import Collected, make_reward_model, sampled_model
from minippo.commands.flags import parse_arguments
from minippo.commands.judge import rule_of
from minippo.commands.lengths import lengths
from minippo.commands.own import digest_of_reward
from minippo.commands.passes import passes
from minippo.commands.pipeline import Trained, fine_tune, optimise_policy, pretrain
from minippo.commands.preferred import judged_pairs, preferred_pairs
from minippo.commands.prepare import Start, prepare
from minippo.commands.recipe import has_reward_model
from minippo.commands.report import write_report
from minippo.commands.run import Run
from minippo.commands.summary import evaluate, more_lines
from minippo.commands.wrapper import command
from minippo.errors import InputError, Interrupted, TrainingError
from minippo.gpt import GPT
from minippo.interchange.load import load_gpt, load_report, load_reward_model
from minippo.reward_head import RewardModel
from minippo.runs.figures.style import check_drawing
from minippo.runs.folder import RunFolder
from minippo.runs.screen import Screen
from minippo.runs.seals import OWN_DIGEST, check_config, sealed_config
from minippo.runs.stats import busy
from minippo.runs.tensorboard import summary_writer
from minippo.runs.text import counted
from minippo.tasks.base import Task
from minippo.tasks.own_file import label_of
from minippo.tasks.rule import OwnTask

FORMAT = 8  # of the checkpoints and metrics; another number is refused by --resume


@command
def main(arguments: Sequence[str] | None = None) -> int:
    """The command; returns its exit status."""
    request = parse_arguments(arguments)
    device = find_device(request.config.run.device)
    check_drawing()  # what would fail after the last stage is told before the first
    config, task, start = prepare(request.config, request.out if request.resume else None)
    run, screen = config.run, Screen(quiet=request.quiet)
    folder = RunFolder.create(
        request.out,
        default_name=f"{folder_name(run.task)}-{run.algorithm}-{run.preset}-{run.seed}",
        resume=request.resume,
        note=screen.note if request.resume else None,
    )
    with folder.lock() as is_locked:
        if not is_locked:
            screen.note(f"{folder.path}: no locks here, so nothing keeps a second process away")
        if request.resume:
            folder.remove_leftovers()
            check_versions(folder, versions(device, task, run.reward))
            if folder.is_finished():
                check_finished(folder)
                screen.note(f"{folder.path}: this run is finished; there is nothing to go on with")
                return 0
        try:
            run_all(
                config, task=task, folder=folder, screen=screen, resume=request.resume, start=start
            )
        except KeyboardInterrupt:
            raise Interrupted(
                f"interrupted; to go on: python -m minippo.train_toy --resume --out {folder.path}"
            ) from None
    return 0


def run_all(
    config: Config,
    *,
    task: Task,
    folder: RunFolder,
    screen: Screen,
    resume: bool = False,
    start: Start | None = None,
) -> dict[str, Any]:
    """The whole run, from config.json to summary.json; returns the summary. TrainingError says what
    had been reached."""
    torch.set_num_threads(config.run.threads)
    device = find_device(config.run.device)
    if config.run.tensorboard:
        summary_writer()  # a missing package is told now, not after the other stages
    run = Run(config, task, device, folder, screen, resume, start and start.model)
    screen.note(headline(run))
    if resume:
        change_config(config, folder, screen)
    else:
        folder.save_config(first_config(config, device=device, task=task, start=start))
    if isinstance(task, OwnTask):
        task.rule.patience.tell = screen.note
    chosen = recipe_notes(config.run.recipe, config.ppo)
    chosen += own_kl_note(config.ppo, run.algorithm)
    for note in (*task.notes, *chosen, *passes(config, task), *lengths(task)):
        screen.note(note)
    if device.type == "cpu" and (note := busy(config.run.threads)):
        screen.note(note)
    try:
        summary, shown = train_and_evaluate(run)
        if config.run.report:
            report(run, summary)
        folder.save_summary(summary)
    except TrainingError as error:
        raise TrainingError(f"{error}{run.circumstances()}") from error
    screen.samples(shown)
    more = {"report": str(folder.path / "report.html")} if config.run.report else {}
    screen.table(summary, extras=more_lines(summary) | more, folder=folder.path)
    return summary


def headline(run: Run) -> str:
    """What is run, and where."""
    config, model = run.config.run, run.config.model
    return (
        f"{label_of(config.task)}, {config.algorithm}, {config.preset}: "
        f"{counted(model.n_layer, 'block')} of width {model.n_embd}, seed {config.seed}, "
        f"{counted(config.threads, 'thread')}, {run.device}; {run.folder.path}"
    )


def report(run: Run, summary: Mapping[str, Any]) -> None:
    """report.html; a run that cannot have one is told so, and is a run all the same."""
    try:
        write_report(run.folder, summary)
    except InputError as error:
        run.screen.note(f"no report: {error}")


def train_and_evaluate(run: Run) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """(summary, samples for the screen) of every stage in its order; a resumed run takes from disk
    what is there."""
    sft = run.saved("sft", lambda path: load_gpt(path, "sft"))
    if sft is None:
        pretrained = run.saved("pretrain", lambda path: load_gpt(path, "pretrain"))
        sft = fine_tune(run, pretrain(run) if pretrained is None else pretrained)
    if not has_reward_model(run.config):
        run.look_before(None)
        rule = rule_of(run)
        pairs = judged_pairs(run, sft, rule)
        return evaluate(run, optimise_policy(run, sft, rule, None, pairs), rule, None)
    reward_model, report, trained = reward_and_policy(run, sft)
    return evaluate(run, trained, reward_model, report)


def reward_and_policy(run: Run, sft: GPT) -> tuple[RewardModel, dict[str, Any], Trained]:
    """(reward model, its held-out report, what the policy's training leaves behind), from the
    fine-tuned model on; with --rounds those of the last round.

    Every round's policy starts as the fine-tuned model, which stays the reference: what an earlier
    reward model was wrong about is not carried on, and the KL has one meaning.
    """
    collected, earlier = Collected(sampled_model(run, sft)), None
    rounds, config = run.config.preference.rounds, run.config.ppo
    for number in range(1, rounds):
        run.screen.note(f"round {number} of {rounds}")
        part = run.in_round(number)
        earlier, report, made = reward_model_of(part, sft, collected, earlier)
        policy = None if made else part.saved("policy", lambda path: load_gpt(path, "policy"))
        if policy is not None:
            part.look_at_earlier(part.folder.metrics_until(config.num_updates))
        else:
            pairs = preferred_pairs(part, lambda: collected.parts(part), earlier)
            policy = optimise_policy(part, sft, earlier, earlier, pairs).models.policy
        run.take_over(part, report)
        collected.models.append(policy.requires_grad_(False))
    if rounds > 1:
        run.screen.note(f"round {rounds} of {rounds}")
    reward_model, report, _ = reward_model_of(run, sft, collected, earlier)
    pairs = preferred_pairs(run, lambda: collected.parts(run), reward_model)
    return reward_model, report, optimise_policy(run, sft, reward_model, reward_model, pairs)


def reward_model_of(
    run: Run, sft: GPT, collected: Collected, earlier: RewardModel | None
) -> tuple[RewardModel, dict[str, Any], bool]:
    """(the reward model of a round, its held-out report, whether it was made just now)."""
    reward_model = run.saved("reward_model", load_reward_model)
    made = reward_model is None
    if reward_model is None:
        reward_model, report = make_reward_model(run, sft, collected.parts(run), earlier)
    else:
        reward_model.requires_grad_(False)
        report = load_report(run.folder.path)
    run.look_before(report, loud=made)
    return reward_model, report, made


def folder_name(task: str) -> str:
    """What the folder of a run of this task begins with: the class of a task of the user's own."""
    return label_of(task).rpartition(":")[2]


def find_device(name: str) -> torch.device:
    """The device of that name; auto takes CUDA when there is one."""
    if name == "cuda" and not torch.cuda.is_available():
        raise InputError("--device cuda: this machine has no CUDA device; use --device cpu")
    return torch.device("cuda" if name != "cpu" and torch.cuda.is_available() else "cpu")


def own_commit(file: str) -> str | None:
    """The commit that this file of the package belongs to; None where it is in no repository of its
    own, as in site-packages, whatever repository is around that."""
    folder, name = os.path.split(os.path.abspath(file))
    environment = {key: text for key, text in os.environ.items() if not key.startswith("GIT_")}

    def git(*words: str) -> list[str]:
        program, options = ["git", "-C", folder, *words], {"text": True, "timeout": 5}
        done = subprocess.run(program, env=environment, capture_output=True, check=True, **options)
        return done.stdout.split()

    try:
        git("ls-files", "--error-unmatch", name)
        prefix, commit = git("rev-parse", "--show-prefix", "HEAD")
    except (OSError, subprocess.SubprocessError, ValueError):
        return None
    return commit if prefix == "minippo/commands/" else None


def versions(device: torch.device, task: Task, reward: str) -> dict[str, Any]:
    """What the numbers may depend on besides the seed."""
    return {
        "format": FORMAT,
        "python": platform.python_version(),
        "torch": torch.__version__,
        "device": device.type,
        "commit": own_commit(__file__),
        "data": task.fingerprint,
        "reward": digest_of_reward(reward),
        "preferences": task.preferences_digest,
    }


def first_config(
    config: Config, *, device: torch.device, task: Task, start: Start | None
) -> dict[str, Any]:
    """The config.json that a run begins with: its settings, and what else its numbers may depend
    on."""
    about: dict[str, Any] = {"versions": versions(device, task, config.run.reward)}
    about |= {"start": start and start._asdict()}
    return sealed_config(config.to_dict() | about)


def change_config(config: Config, folder: RunFolder, screen: Screen) -> None:
    """Keep, and tell, what a run that is taken up again has been given anew."""
    stored = folder.read_config()
    changed = stored | config.to_dict()
    for name, (section, _) in FIELDS.items():
        was, now = stored[section][name], changed[section][name]
        if was != now:
            doubt = "; the last bits of what is still to come may differ" * (name == "threads")
            screen.note(f"--{name}: {now} from here on, before {was}{doubt}")
    if changed != stored:
        folder.save_config(sealed_config({k: v for k, v in changed.items() if k != OWN_DIGEST}))


def check_finished(folder: RunFolder) -> None:
    """InputError when something of a finished run is not as it was written."""
    try:
        folder.check_whole()
    except InputError as error:
        raise InputError(
            f"{error}; the run is finished; remove its summary.json, and --resume makes again what "
            "is not whole"
        ) from error


def check_versions(folder: RunFolder, now: Mapping[str, Any]) -> None:
    """Refuse to go on where the same bits cannot be had: another format of checkpoints, torch,
    device, other texts, or a configuration that somebody has changed."""
    config = folder.stored_config()
    was = config.get("versions", {})
    if any(was.get(name) != now[name] for name in ("data", "reward", "preferences")):
        raise InputError(
            f"--resume: the files of the run in {folder.path} have changed since it began; put "
            "them back, or start a new run"
        )
    for name in ("format", "torch", "device"):
        if was.get(name) != now[name]:
            raise InputError(
                f"--resume: the run in {folder.path} was made with {name} {was.get(name)}, this is "
                f"{now[name]}; start a new run, or go on with the version that made it"
            )
    check_config(config, folder.path / "config.json")
