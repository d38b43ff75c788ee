"""Flags to settings: a flag for every field of commands/config.py, and one clear line for whatever
is wrong."""

import argparse
import difflib
import os
import sys
from collections.abc import Mapping, Sequence
from dataclasses import Field
from pathlib import Path
from typing import Any, NamedTuple

from minippo.commands.config import (
    FIELDS,
    SECTIONS,
    SIMULATED,
    TASKS_THAT_READ,
    Config,
    check_used,
    readers_of,
    resolve,
)
from minippo.commands.of_run import settings_of
from minippo.commands.own import defaults_of, load_named
from minippo.commands.recipe import has_reward_model
from minippo.commands.wrapper import Parser
from minippo.errors import InputError
from minippo.runs.read import read_json
from minippo.settings import is_own, kind_of, may_be_none
from minippo.tasks.own_file import label_of

# when a run is taken up again
MAY_CHANGE = ("threads", "save_every", "report", "data", "start_from", "preferences")
OTHER_NAMES = {  # flag -> what others call it
    "learning_rate": "lr actor_lr policy_lr step_size alpha",
    "kl_coef": "kl beta kl_beta kl_coeff kl_penalty kl_weight init_kl_coef",
    "kl_old_coef": "adaptive_kl_coef",
    "kl_old_target": "target_kl_old",
    "max_kl": "delta trust_region",
    "cliprange": "clip clip_range clip_eps clip_epsilon clip_ratio clip_param eps epsilon",
    "cliprange_value": "clip_range_vf vf_clip value_clip clip_value",
    "lam": "lambda gae gae_lambda",
    "gamma": "discount discount_factor",
    "vf_coef": "value_coef value_loss_coef critic_coef vf_coeff",
    "ent_coef": "entropy entropy_coef entropy_coeff entropy_bonus",
    "max_grad_norm": "grad_clip clip_grad clip_grad_norm gradient_clip grad_norm",
    "num_ppo_epochs": "ppo_epochs epochs n_epochs num_epochs num_train_epochs",
    "value_epochs": "vf_epochs critic_epochs",
    "num_mini_batches": "minibatches num_minibatches n_minibatches minibatch_size mini_batch_size",
    "num_updates": "updates steps n_steps iterations num_steps max_steps total_timesteps",
    "batch_size": "batch bs rollout_batch_size per_device_train_batch_size",
    "response_length": "max_new_tokens max_length max_tokens generation_length",
    "temperature": "temp sampling_temperature",
    "annotator": "annotators labeler labeller judge rater",
    "annotator_noise": "label_noise noise flip_rate",
    "annotator_length_bias": "length_bias",
    "annotator_claim_bias": "confidence_bias claim_bias",
    "annotator_adversaries": "adversarial_share poisoned poison_rate",
    "annotator_panel": "num_annotators annotators_per_pair panel",
    "annotator_rules": "constitution principles rules",
    "preference_labels": "labels preference_format",
    "rating_noise": "score_noise",
    "rounds": "num_rounds feedback_rounds collection_rounds",
    "reward_layers": "rm_layers reward_n_layer rm_size reward_size",
    "reward_zero": "reward_center reward_mean center_rewards",
    "reward_unit": "reward_scale reward_std normalize_reward",
    "n_embd": "d_model hidden_size embed_dim width dim",
    "n_layer": "layers num_layers n_layers num_hidden_layers depth",
    "n_head": "heads num_heads n_heads num_attention_heads",
    "start_from": "model model_name model_name_or_path pretrained init_from base_model",
    "data": "dataset data_dir data_path dataset_name train_file corpus",
    "preferences": "preference_file preferences_file preference_data labels_file comparisons",
    "pairs": "max_pairs num_pairs max_train_samples max_samples",
    "skip_bad_rows": "skip_errors ignore_errors drop_bad_rows skip_invalid",
    "data_limit": "max_file_size size_limit",
    "device": "gpu cuda cpu",
    "threads": "num_threads n_threads workers num_workers cpus",
    "seed": "random_seed random_state rng",
    "save_every": "save_steps save_freq checkpoint_every checkpoint_interval",
    "eval_prompts": "eval_size num_eval_prompts",
    "whiten_advantages": "normalize_advantage normalize_advantages norm_adv whiten",
    "whiten_rewards": "normalize_rewards norm_reward",
    "missing_eos_penalty": "eos_penalty",
    "algorithm": "algo method",
    "kl_controller": "adaptive_kl kl_ctl kl_ctrl",
    "kl_loss": "use_kl_loss kl_loss_type",
    "kl_reward": "kl_estimator use_kl_in_reward",
    "kl_horizon": "horizon",
    "loss_reduction": "loss_agg_mode reduction aggregation",
    "mask_unended": "mask_truncated mask_truncated_completions overlong_filtering",
    "critic_warmup": "critic_warmup_steps value_warmup value_pretrain",
    "critic_lam": "lam_critic value_lam",
    "critic": "shared_trunk share_trunk value_model",
    "lora_rank": "lora lora_r use_lora peft use_peft",
    "ptx_coef": "ptx ptx_weight pretraining_coef",
    "dropout": "dropout_rate resid_pdrop",
    "cliprange_low": "clip_ratio_low epsilon_low clip_low",
    "cliprange_high": "clip_ratio_high epsilon_high clip_high clip_higher",
    "ratio_max": "epsilon_max cispo_max importance_sampling_max",
    "label_smoothing": "dpo_label_smoothing smoothing",
    "overlong_buffer": "overlong_buffer_len overlong_cache soft_punish_cache",
    "max_draws": "max_num_gen_batches max_resample",
    "pair_passes": "dpo_epochs pair_epochs",
    "kl_in": "kl_place use_kl",
    "task": "env environment env_id",
    "reward": "reward_fn reward_function reward_funcs reward_func verifier",
    "samples_per_prompt": "group_size num_generations n_samples_per_prompt rollout_n num_samples",
    "tensorboard": "logger report_to",
    "report": "html html_report dashboard write_report",
    "out": "output output_dir out_dir logdir log_dir run run_dir save_dir folder",
    "resume": "continue resume_from resume_from_checkpoint restart",
    "quiet": "silent verbose q",
}
OWN_FLAGS = {
    "out": "folder of the run; without it runs/<task>-<algorithm>-<preset>-<seed>",
    "resume": "go on with the run in --out, from its last checkpoint",
    "quiet": "print the result only",
}


class Request(NamedTuple):
    """What the user asks for."""

    config: Config
    out: str | None
    resume: bool
    quiet: bool


def parse_arguments(arguments: Sequence[str] | None = None) -> Request:
    """The Request of the arguments, by default those of the process. InputError
    names the flag.

    With --resume the configuration is that of the run in --out, and a flag that says otherwise is
    refused, but for those that MAY_CHANGE.
    """
    arguments = sys.argv[1:] if arguments is None else arguments
    check_no_values(arguments)
    values, unknown = _make_parser().parse_known_args(_join_negative_numbers(arguments))
    if unknown:
        raise InputError(about_unknown(unknown[0]))
    settings = {
        name: read_value(name, text) for name, text in vars(values).items() if name in FIELDS
    }
    settings = load_named(settings)
    try:
        if values.resume:
            config = config_of_run(values.out, settings)
        else:
            config = resolve(settings, defaults_of(settings.get("task")))
        check_used(settings, config)
        check_people(settings, config)
    except ValueError as error:
        raise InputError(f"--{error}") from error
    return Request(config, values.out, values.resume, values.quiet)


def check_people(settings: Mapping[str, Any], config: Config) -> None:
    """ValueError where preferences of people are named, and an annotator or a rule as well."""
    if config.run.preferences is None:
        return
    if not has_reward_model(config):
        raise ValueError(
            f"preferences: --reward {config.run.reward} learns from no preferences; leave one of "
            "the two out, or take --reward model"
        )
    for name in settings:
        if TASKS_THAT_READ.get(name) == SIMULATED:
            raise ValueError(
                f"{name}: with --preferences nobody is simulated, and nothing is sampled to be "
                "compared; leave one of the two out"
            )


def config_of_run(out: str | None, settings: Mapping[str, Any]) -> Config:
    """The Config of the run in the folder `out`, with what MAY_CHANGE as it is set now. InputError
    when there is none, or when another setting differs from it."""
    if out is None:
        raise InputError("--resume: name the folder of the run with --out")
    path = Path(out) / "config.json"
    if not os.path.lexists(path):
        raise InputError(f"--resume: {out} holds no run; leave --resume out to start one there")
    stored = read_json(path)
    was = settings_of(path, stored)
    for name, value in settings.items():
        if is_own(str(value)) and label_of(value) == label_of(str(was[name])):
            continue  # the same file elsewhere; whether it is the same is seen later
        if value != was[name] and (name not in MAY_CHANGE or None in (value, was[name])):
            raise InputError(
                f"--{name}: the run in {out} was made with {was[name]}, got "
                f"{value}; --resume changes nothing"
            )
    return resolve({**was, **settings})


def _make_parser() -> Parser:
    parser = Parser(
        prog="python -m minippo.train_toy",
        argument_default=argparse.SUPPRESS,
        description="A toy GPT goes through all of RLHF: pretraining, fine-tuning, preferences, "
        "reward model, PPO. Defaults are those of --task tldr.",
    )
    for section, dataclass in SECTIONS.items():
        group = parser.add_argument_group(section, dataclass.__doc__)
        for name, (owner, item) in FIELDS.items():
            if owner == section:
                _add_flag(group, name, item)
    parser.add_argument("--out", default=None, metavar="DIR", help=OWN_FLAGS["out"])
    for name in ("resume", "quiet"):
        parser.add_argument(f"--{name}", action="store_true", default=False, help=OWN_FLAGS[name])
    return parser


def _add_flag(group: Any, name: str, item: Field) -> None:
    spellings = dict.fromkeys((f"--{name}", f"--{name.replace('_', '-')}"))
    readers = readers_of(name) or TASKS_THAT_READ.get(name, ())
    only = f"; for {', '.join(readers)}" if readers else ""
    text = f"{item.metadata['help']} (default: {str(item.default).lower()}{only})"
    if kind_of(item) is bool:
        group.add_argument(*spellings, dest=name, action=argparse.BooleanOptionalAction, help=text)
    else:
        choices = item.metadata["choices"]
        metavar = "|".join(choices) if choices else kind_of(item).__name__.upper()
        metavar += f"|{item.metadata['own']}" if item.metadata["own"] else ""
        group.add_argument(*spellings, dest=name, metavar=metavar, help=text)


def _join_negative_numbers(arguments: Sequence[str]) -> list[str]:
    """["--a", "-5e0"] -> ["--a=-5e0"]: argparse takes a negative number with an exponent for a
    flag."""
    joined = []
    for argument in arguments:
        if (
            joined
            and joined[-1].startswith("--")
            and "=" not in joined[-1]
            and _is_negative_number(argument)
        ):
            joined[-1] += f"={argument}"
        else:
            joined.append(argument)
    return joined


def _is_negative_number(text):
    try:
        float(text)
    except ValueError:
        return False
    return text.startswith("-")


def read_value(name: str, text: Any) -> Any:
    """A flag's text as the type of its field. InputError when it is no number where one is
    wanted."""
    item = FIELDS[name][1]
    kind = kind_of(item)
    if isinstance(text, bool):
        return text
    if may_be_none(item) and text.lower() == "none":
        return None
    try:
        return kind(text)
    except ValueError:
        what = "a whole number" if kind is int else "a number"
        raise InputError(f"--{name}: wanted {what}, got {text!r}") from None


def check_no_values(arguments: Sequence[str]) -> None:
    """InputError where a flag that is on or off is given a value: `--whiten_advantages false`."""
    switches = {name for name, (_, item) in FIELDS.items() if kind_of(item) is bool}
    for argument, following in zip(arguments, [*arguments[1:], "--"], strict=False):
        flag, is_joined, value = argument.partition("=")
        name = flag.removeprefix("--").replace("-", "_")
        name = name.removeprefix("no_")
        if not flag.startswith("--") or name not in {*switches, "resume", "quiet"}:
            continue
        value = value if is_joined else following
        if is_joined or not value.startswith("-"):
            off = f"--no-{name} turns it off" if name in switches else "leave it out for no"
            off = "name the folder with --out" if name == "resume" else off
            raise InputError(f"{flag}: takes no value, got {value!r}; alone it means yes, {off}")


def about_unknown(argument: str) -> str:
    """Unknown flag, and the one that is meant: by its other names, or else by its spelling."""
    name, _, value = argument.partition("=")
    if not name.startswith("--"):
        return f"{argument}: not a flag; {_about_word(name, value)}"
    meant = name.removeprefix("--").lower().replace("-", "_")
    if meant in ("top_k", "top_p"):
        return (
            f"{name}: training samples from the whole distribution, which is also the one whose "
            "log-probabilities it uses; cutting it off would make every ratio wrong"
        )
    if meant == "seeds":
        return f"{name}: one run takes --seed; python -m minippo.measure takes --seeds first-last"
    for field, others in OTHER_NAMES.items():
        if meant in others.split():
            return f"{name}: unknown flag; did you mean --{field}?"
    known = [f"--{field}" for field in (*FIELDS, *OWN_FLAGS)]
    known += [f"--no-{field}" for field, (_, item) in FIELDS.items() if kind_of(item) is bool]
    near = difflib.get_close_matches(name, known, n=1)
    return f"{name}: unknown flag" + (
        f"; did you mean {near[0]}?" if near else "; --help lists them all"
    )


def _about_word(name, value):
    """What somebody means who writes seed=3, or quick."""
    if value and name in FIELDS:
        return f"did you mean --{name} {value}?"
    for field, (_, item) in FIELDS.items():
        if name in (item.metadata["choices"] or ()):
            return f"did you mean --{field} {name}?"
    return "flags begin with --"
