"""The command line: what is understood, and what is refused in one line with exit status 2. Nothing
is trained here."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

import minippo
from minippo.algorithms import DEFAULT
from minippo.algorithms import REGISTRY as ALGORITHMS
from minippo.commands import train
from minippo.commands.config import FIELDS, PRESETS, TASKS_THAT_READ, readers_of, resolve
from minippo.commands.flags import OTHER_NAMES, OWN_FLAGS, parse_arguments
from minippo.commands.train import main
from minippo.errors import InputError, TrainingError
from minippo.settings import KINDS, kind_of, may_be_none
from minippo.tasks import TASKS

NAMES = sorted(FIELDS)
NUMBERS = [name for name in NAMES if kind_of(FIELDS[name][1]) in (int, float)]
FLAGS = [name for name in NAMES if kind_of(FIELDS[name][1]) is bool]
FOLDER = "a folder with text"


@pytest.fixture(autouse=True)
def place(tmp_path, monkeypatch):
    """An empty working directory, and no training: the runs that would start are listed instead."""
    started = []
    monkeypatch.setattr(train, "run_all", lambda config, **rest: started.append((config, rest)))
    monkeypatch.chdir(tmp_path)
    return started


def tree(path):
    """{relative path: content, None for a folder}."""
    return {
        str(p.relative_to(path)): p.read_bytes() if p.is_file() else None for p in path.rglob("*")
    }


@pytest.fixture
def refusal(tmp_path, capsys, place):
    """A function of arguments that are refused: checks all that holds for every refusal, returns
    the line."""

    def check(*arguments):
        before = tree(tmp_path)
        status, (out, err) = main(list(arguments)), capsys.readouterr()
        assert status == 2 and out == "" and place == []
        assert err.splitlines()[-1].startswith("error: ") and "Traceback" not in err
        assert tree(tmp_path) == before
        return err.splitlines()[-1]

    return check


def spellings(name):
    return {f"--{name}", f"--{name.replace('_', '-')}"}


def value_of(config, name):
    return getattr(getattr(config, FIELDS[name][0]), name)


def reader_for(name):
    """["--algorithm", one that reads the field], or ["--annotator", one], or nothing where the
    default ones do."""
    readers = readers_of(name)
    if not readers or DEFAULT in readers:
        return []
    return ["--algorithm" if readers[0] in ALGORITHMS else "--annotator", readers[0]]


def task_for(name):
    """["--task", one that reads the field], or nothing where the default one does."""
    tasks = TASKS_THAT_READ.get(name, ("tldr",))
    return [] if "tldr" in tasks else ["--task", tasks[0]]


def another_value(name):
    """A value that the field may have, and not by default."""
    item = FIELDS[name][1]
    if kind_of(item) is str:
        return item.metadata["choices"][-1] if item.metadata["choices"] else FOLDER
    value = item.default if item.default is not None else 0.25 if kind_of(item) is float else 1
    candidates = (2 * value, value / 2, value + 1, value + 2, value + 0.25)
    for candidate in (not value,) if kind_of(item) is bool else candidates:
        try:
            resolve({name: candidate})
        except ValueError:
            continue
        if candidate != item.default:
            return candidate


# what a setting is not read without
WITH = {
    "kl_target": {"kl_controller": "double_halve"},
    "kl_horizon": {"kl_controller": "proportional"},
    "kl_loss": {"allow_broken": True},
    "rating_noise": {"preference_labels": "ratings"},
}


def flags_of(settings):
    """["--field", "value", ...]; the switches are on."""
    return [
        part
        for name, value in settings.items()
        for part in ([f"--{name}"] if value is True else [f"--{name}", str(value)])
    ]


# -- what is understood


def test_no_arguments_are_the_defaults():
    assert parse_arguments([]) == (resolve({}), None, False, False)


@pytest.mark.parametrize("name", [name for name in NAMES if name not in FLAGS])
def test_a_value_is_read_in_every_spelling(name):
    value, first = another_value(name), [*reader_for(name), *task_for(name)]
    others = {flag.removeprefix("--"): other for flag, other in zip(first[::2], first[1::2])}
    others |= WITH.get(name, {})
    first += flags_of(WITH.get(name, {}))
    expected = resolve({name: value} | others)
    for flag in spellings(name):
        assert (
            parse_arguments([*first, flag, str(value)])[0]
            == parse_arguments([*first, f"{flag}={value}"])[0]
            == expected
        )


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_a_flag_that_the_algorithm_does_not_read_is_refused(algorithm):
    for name, (_, item) in FIELDS.items():
        readers = readers_of(name)
        if ALGORITHMS.keys() & {*readers} and algorithm not in readers:
            with pytest.raises(
                InputError, match=f"^--{name}: --algorithm {algorithm} does not use it; it is for "
            ):
                value = [] if kind_of(item) is bool else [str(item.default)]
                parse_arguments(["--algorithm", algorithm, f"--{name}", *value])


@pytest.mark.parametrize(
    "flags, name",
    [
        (["--reward", "rule"], "preferences"),
        (["--task", "arithmetic"], "preferences"),
        (["--annotator", "length"], "annotator"),
        (["--annotator_temperature", "0.5"], "annotator_temperature"),
        (["--rounds", "2"], "rounds"),
        (["--preference_prompts", "20"], "preference_prompts"),
        (["--preference_labels", "ranking"], "preference_labels"),
        (["--preferences_from", "pretrain"], "preferences_from"),
    ],
)
def test_people_and_a_simulated_annotator_are_not_asked_together(flags, name):
    with pytest.raises(InputError, match=f"^--{name}: .*leave one of the two out"):
        parse_arguments(["--preferences", "FILE", *flags])
    parse_arguments(["--preferences", "FILE", "--preference_heldout", "20", "--reward_epochs", "9"])


@pytest.mark.parametrize("task", TASKS)
def test_a_flag_that_the_task_does_not_read_is_refused(task):
    for name, tasks in TASKS_THAT_READ.items():
        own = [*reader_for(name), *flags_of(WITH.get(name, {}))] if task in tasks else []
        arguments = [
            "--task",
            task,
            "--reward",
            "model",
            *own,
            *flags_of({name: another_value(name)}),
        ]
        if task in tasks:
            parse_arguments(arguments)
            continue
        with pytest.raises(InputError, match=f"^--{name}: --task {task} does not use it; it is"):
            parse_arguments(arguments)


def test_a_flag_that_the_resumed_run_reads_is_no_harm(tmp_path):
    config = resolve({"algorithm": "ppo_kl", "task": "capitals"})
    (tmp_path / "config.json").write_text(json.dumps(config.to_dict()))
    resume = ["--resume", "--out", str(tmp_path)]
    assert parse_arguments([*resume, "--kl_old_coef", "1.0"]).config == config
    with pytest.raises(InputError, match="^--tldr_values: "):
        parse_arguments([*resume, "--tldr_values", "5"])


@pytest.mark.parametrize("name", FLAGS)
def test_true_and_false_are_told_by_the_flag_alone(name):
    for flag in spellings(name):
        assert value_of(parse_arguments([flag])[0], name) is True
        assert value_of(parse_arguments([flag.replace("--", "--no-", 1)])[0], name) is False


@pytest.mark.parametrize("name", [name for name in NAMES if may_be_none(FIELDS[name][1])])
def test_none_is_a_value_where_the_field_may_have_none(name):
    for text in ("none", "None"):
        config = parse_arguments([*reader_for(name), *task_for(name), f"--{name}", text])[0]
        assert value_of(config, name) is None


def test_numbers_may_be_written_in_other_ways():
    config = parse_arguments(["--learning_rate", "3e-4", "--gamma", "1", "--no_eos_score", "-2.5"])[
        0
    ]
    assert (config.ppo.learning_rate, config.ppo.gamma, config.ppo.no_eos_score) == (
        3e-4,
        1.0,
        -2.5,
    )


@pytest.mark.parametrize("task, preset", [key for key in PRESETS if key[0] in TASKS])
def test_a_flag_stands_over_the_preset_wherever_it_stands(task, preset):
    arguments = ["--num-updates", "7", "--task", task, "--preset", preset]
    assert parse_arguments(arguments)[0] == resolve(
        {"task": task, "preset": preset, "num_updates": 7}
    )


def test_the_flags_that_are_no_settings():
    assert parse_arguments(["--out", "x", "--quiet"])[1:] == ("x", False, True)


def test_help_exits_with_0_and_lists_every_flag(capsys):
    assert main(["--help"]) == 0
    words = capsys.readouterr().out.replace(",", " ").split()
    assert set().union(*(spellings(name) for name in [*FIELDS, *OWN_FLAGS])) <= set(words)


# -- what main does with it


def test_a_good_command_starts_one_run_in_a_folder_of_its_own(tmp_path, place):
    assert main(["--task", "capitals", "--seed", "3", "--quiet"]) == 0
    [(config, rest)] = place
    assert config == resolve({"task": "capitals", "seed": 3}) and rest["task"].name == "capitals"
    assert rest["folder"].path.resolve() == tmp_path / "runs" / "capitals-ppo-default-3"
    assert rest["folder"].path.is_dir()


def test_out_names_the_folder(tmp_path, place):
    assert main(["--out", "a/b"]) == 0
    assert place[0][1]["folder"].path.resolve() == tmp_path / "a" / "b"
    assert tree(tmp_path) == {"a": None, "a/b": None}


@pytest.mark.parametrize(
    "error, status, line",
    [
        (TrainingError("the loss is nan"), 1, "error: the loss is nan"),
        (InputError("--x: wrong"), 2, "error: --x: wrong"),
        (
            KeyboardInterrupt(),
            130,
            "interrupted; to go on: python -m minippo.train_toy --resume --out out",
        ),
    ],
)
def test_how_a_run_ends_early(error, status, line, monkeypatch, capsys):
    def fail(*_, **__):
        raise error

    monkeypatch.setattr(train, "run_all", fail)
    assert main(["--out", "out"]) == status
    assert capsys.readouterr() == ("", line + "\n")


@pytest.mark.slow
def test_the_command_leaves_with_the_status_of_main(tmp_path):
    environment = os.environ | {"PYTHONPATH": str(Path(minippo.__file__).parent.parent)}
    done = subprocess.run(
        [sys.executable, "-m", "minippo.train_toy", "--task", "nonsense"],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        timeout=60,
    )
    line = "error: --task: wanted one of tldr, capitals, arithmetic, files or FILE.py:Class, "
    line += "got 'nonsense'\n"
    assert (done.returncode, done.stdout, done.stderr) == (2, "", line) and tree(tmp_path) == {}


# -- flags that there are not


@pytest.mark.parametrize("name", [*NAMES, *OWN_FLAGS])
def test_an_unknown_flag_is_named_with_the_nearest_known_one(name, refusal):
    for flag in spellings(name + name[-1]):
        for arguments in ([flag, "1"], [f"{flag}=1"]):
            assert refusal(*arguments) == f"error: {flag}: unknown flag; did you mean --{name}?"


def test_an_unknown_flag_that_is_like_no_other(refusal):
    assert refusal("--xyzzyq", "1") == "error: --xyzzyq: unknown flag; --help lists them all"


@pytest.mark.parametrize("name", [*NAMES, *OWN_FLAGS])
def test_a_flag_cannot_be_abbreviated(name, refusal):
    for flag in spellings(name[:-1]):
        assert refusal(flag, "1").startswith(f"error: {flag}: unknown flag")


@pytest.mark.parametrize("argument", ["learning_rate", "-l", "-learning_rate"])
def test_what_does_not_begin_with_two_dashes_is_no_flag(argument, refusal):
    assert refusal(argument) == f"error: {argument}: not a flag; flags begin with --"


@pytest.mark.parametrize("name", FLAGS)
def test_a_flag_without_a_value_takes_none(name, refusal):
    for text in ("false", "true", "0"):
        line = f"takes no value, got {text!r}; alone it means yes, --no-{name} turns it off"
        for flag in spellings(name) | {f"--no-{name}"}:
            assert refusal(f"{flag}={text}") == f"error: {flag}: {line}"
            assert refusal(flag, text) == f"error: {flag}: {line}"


def test_flags_that_are_no_settings_take_no_value(refusal):
    line = refusal("--resume", "runs/one")
    assert line == (
        "error: --resume: takes no value, got 'runs/one'; alone it means yes, name the folder with "
        "--out"
    )
    assert refusal("--quiet=1").startswith("error: --quiet: takes no value, got '1'")


# -- flags by other names


def test_other_names_are_no_flags_and_mean_one_thing():
    names = [name for others in OTHER_NAMES.values() for name in others.split()]
    assert len(set(names)) == len(names) and not {*names} & {*FIELDS, *OWN_FLAGS}
    assert OTHER_NAMES.keys() <= {*FIELDS, *OWN_FLAGS}


@pytest.mark.parametrize(
    "flag, meant",
    [
        ("--lr", "learning_rate"),
        ("--kl", "kl_coef"),
        ("--beta", "kl_coef"),
        ("--lambda", "lam"),
        ("--clip-range", "cliprange"),
        ("--epochs", "num_ppo_epochs"),
        ("--max_new_tokens", "response_length"),
        ("--output_dir", "out"),
        ("--model", "start_from"),
        ("--gpu", "device"),
    ],
)
def test_a_flag_by_the_name_that_others_give_it(flag, meant, refusal):
    assert refusal(flag, "1") == f"error: {flag}: unknown flag; did you mean --{meant}?"
    assert refusal(f"{flag}=1") == f"error: {flag}: unknown flag; did you mean --{meant}?"


def test_several_seeds_are_for_measure(refusal):
    assert refusal("--seeds", "0-9") == (
        "error: --seeds: one run takes --seed; python -m minippo.measure takes --seeds first-last"
    )


@pytest.mark.parametrize(
    "word, meant",
    [("seed=3", "--seed 3"), ("quick", "--preset quick"), ("capitals", "--task capitals")],
)
def test_a_word_without_dashes_that_means_something(word, meant, refusal):
    assert refusal(word) == f"error: {word}: not a flag; did you mean {meant}?"


# -- values that do not fit


@pytest.mark.parametrize("name", [name for name in NAMES if name not in FLAGS])
def test_a_flag_needs_its_value(name, refusal):
    assert f"--{name}" in refusal(f"--{name}") and f"--{name}" in refusal(f"--{name}", "--quiet")


@pytest.mark.parametrize("name", NUMBERS)
def test_a_value_that_is_not_a_number_is_refused(name, refusal):
    kind = kind_of(FIELDS[name][1])
    for text in ("many", "", "1,5", "0x10", "true") + (
        ("1.5", "1e3") + ("none",) * (not may_be_none(FIELDS[name][1])) if kind is int else ()
    ):
        assert refusal(f"--{name}", text) == f"error: --{name}: wanted {KINDS[kind]}, got {text!r}"


@pytest.mark.parametrize("name", NUMBERS)
def test_nan_and_infinity_are_refused(name, refusal):
    for text in ("nan", "NaN", "inf", "-inf", "Infinity", "1e999"):
        assert refusal(f"--{name}={text}").startswith(f"error: --{name}: wanted ")


@pytest.mark.parametrize(
    "name", [name for name in NUMBERS if FIELDS[name][1].metadata["low"] is not None]
)
def test_a_value_below_the_range_is_refused(name, refusal):
    low = FIELDS[name][1].metadata["low"]
    for flag in spellings(name):
        assert refusal(flag, str(low - 1)).startswith(f"error: --{name}: wanted ")


@pytest.mark.parametrize(
    "name", [name for name in NUMBERS if FIELDS[name][1].metadata["high"] is not None]
)
def test_a_value_above_the_range_is_refused(name, refusal):
    high = FIELDS[name][1].metadata["high"]
    assert refusal(f"--{name}", str(high + 1)).startswith(f"error: --{name}: wanted ")


@pytest.mark.parametrize("name", [name for name in NAMES if FIELDS[name][1].metadata["choices"]])
def test_a_choice_that_there_is_not_is_refused(name, refusal):
    for text in ("nonsense", "", FIELDS[name][1].default.upper()):
        line = refusal(f"--{name}", text)
        assert line.startswith(f"error: --{name}: wanted one of ") and line.endswith(
            f", got {text!r}"
        )


def test_numbers_that_do_not_fit_each_other_are_refused(refusal):
    assert (
        refusal("--n-head", "5", "--n-embd", "64")
        == "error: --n_head: wanted a divisor of n_embd 64, got 5"
    )
    line = refusal("--batch-size", "1", "--num-mini-batches", "2")
    assert line == "error: --num_mini_batches: wanted at most batch_size 1, got 2"


# -- what the machine and the disk do not have


@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has a CUDA device")
def test_cuda_is_refused_where_there_is_none(refusal):
    assert refusal("--device", "cuda").startswith("error: --device cuda: ")


def test_resume_is_refused_where_there_is_no_run(refusal, tmp_path):
    (tmp_path / "run").mkdir()
    for words in (("--resume",), ("--resume", "--out", "run"), ("--resume", "--out", "nowhere")):
        assert refusal(*words).startswith("error: --resume: ")


def test_the_folder_of_texts(refusal, tmp_path):
    assert refusal("--task", "files").startswith("error: --data: ")
    for missing in ("nowhere", ""):
        line = refusal("--task", "files", "--data", missing)
        assert (
            line == f"error: --data {missing!r}: there is no such folder, and nothing is downloaded"
        )
    (tmp_path / "empty").mkdir()
    assert refusal("--task", "files", "--data", "empty").startswith(
        "error: --data 'empty': the folder is empty"
    )
    (tmp_path / "file").write_text("x")
    assert refusal("--task", "files", "--data", "file").startswith(
        "error: file, line 1: column 1: broken JSON"
    )


@pytest.mark.parametrize("task", ["tldr", "capitals"])
def test_a_folder_of_texts_is_refused_by_a_task_that_reads_none(task, refusal, tmp_path):
    (tmp_path / "texts").mkdir()
    (tmp_path / "texts" / "preferences.jsonl").write_text(
        '{"prompt": "q", "chosen": "a", "rejected": "b"}'
    )
    assert refusal("--task", task, "--data", "texts").startswith("error: --data: ")


@pytest.mark.parametrize("mark", ["config.json", "metrics.jsonl", "summary.json"])
def test_a_folder_that_holds_a_run_is_refused_and_nothing_in_it_changes(mark, refusal, tmp_path):
    (tmp_path / "run" / "checkpoints" / "sft").mkdir(parents=True)
    (tmp_path / "run" / mark).write_text("{}\n")
    stamp = (tmp_path / "run" / mark).stat().st_mtime_ns, (tmp_path / "run").stat().st_mtime_ns
    assert refusal("--out", "run").startswith("error: --out run: holds a run already")
    assert (
        (tmp_path / "run" / mark).stat().st_mtime_ns,
        (tmp_path / "run").stat().st_mtime_ns,
    ) == stamp


def test_a_folder_of_other_things_is_refused(refusal, tmp_path):
    (tmp_path / "thesis").mkdir()
    (tmp_path / "thesis" / "thesis.txt").write_text("all of it")
    assert refusal("--out", "thesis").startswith("error: --out thesis: is not empty")


def test_an_out_that_cannot_be_a_folder_is_refused(refusal, tmp_path):
    (tmp_path / "file").write_text("x")
    assert refusal("--out", "file").startswith("error: --out file: exists and is not a folder")
    assert refusal("--out", "file/below").startswith("error: --out file/below: cannot be used")
    assert refusal("--out", "") == "error: --out: the name of the folder is empty"


def test_a_working_directory_without_room_for_runs_is_refused_with_the_flag_that_helps(
    refusal, tmp_path
):
    (tmp_path / "runs").write_text("a file, where the folder of all runs would be")
    assert "--out" in refusal()


def test_a_bad_flag_is_told_before_a_folder_is_made(refusal):
    refusal("--out", "new", "--seed", "x")
    refusal("--out", "new", "--task", "files")
