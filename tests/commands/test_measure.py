"""The table over seeds."""

import io
import json
import shutil
import signal

import pytest

from minippo.commands.config import resolve
from minippo.commands.export import main as export
from minippo.commands.flags import parse_arguments
from minippo.commands.measure import has_settings, main, resuming, seeds_of, table
from minippo.commands.prepare import prepare
from minippo.runs.folder import RunFolder
from minippo.runs.seals import sealed_config
from tests.commands.test_compare import InProcess
from tests.tasks.files.test_task import write_folder
from tests.tiny_runs import make_run


def summary(seed, seconds=100.0, gold=2.7, answers=None):
    return {
        "seed": seed,
        "seconds": {"total": seconds},
        "seconds_in_matmul_loops": 400.0,
        "peak_memory_mib": 500.0,
        "reward_model": {"heldout_accuracy": 0.8, "annotator_ceiling": None, "skill": None},
        "gold_max": 3.0,
        "sft": {"gold": 0.9},
        "policy": {"gold": gold, "eos_rate": 1.0, "kl": 2.0},
        "win_rate": {"value": 0.9},
        "optimality": 0.97,
        "optimum": {"effective_sample_size": 300.0, "effective_sample_size_min": 3.0},
        "answers": answers,
    }


def cells(line):
    return [cell.strip() for cell in line.strip("|").split("|")]


def test_a_row_per_seed_and_the_worst_of_each_column():
    header, _, one, two, worst = map(
        cells, table([summary(0, seconds=90.0, gold=2.4), summary(1, seconds=120.0)])
    )
    at = header.index
    assert (one[0], two[0], worst[0]) == ("0", "1", "worst")
    assert (
        one[at("gold share after")],
        two[at("gold share after")],
        worst[at("gold share after")],
    ) == ("0.800", "0.900", "0.800")
    assert worst[at("seconds")] == "120"  # the longest time is the worst, the lowest gold is


def test_columns_without_a_number_are_left_out():
    header = cells(table([summary(0)])[0])
    assert "skill" not in header and "P(right) after" not in header
    answers = [{"right_before": 0.4, "right_after": 0.9}, {"right_before": 0.2, "right_after": 1.0}]
    header, _, row, _ = map(cells, table([summary(0, answers=answers)]))
    assert (
        row[header.index("P(right) before")] == "0.300"
        and row[header.index("P(right) after")] == "0.950"
    )


def test_seeds_that_are_done_are_not_run_again(tmp_path, capsys, monkeypatch):
    for seed in (3, 4):
        (tmp_path / f"seed-{seed}").mkdir()
        (tmp_path / f"seed-{seed}/summary.json").write_text(json.dumps(summary(seed)))
        (tmp_path / f"seed-{seed}/config.json").write_text(
            json.dumps(resolve({"seed": seed}).to_dict() | {"versions": {}})
        )
    monkeypatch.setattr("subprocess.Popen", None)  # a call would fail
    assert main(["--seeds", "3-4", "--root", str(tmp_path)]) == 0
    assert capsys.readouterr().out == (tmp_path / "table.md").read_text()
    # the same folders are no answer to another question
    assert main(["--seeds", "3-4", "--root", str(tmp_path), "--task", "capitals"]) == 2
    assert "seed-3 holds a run with other settings" in capsys.readouterr().err


def test_a_seed_that_was_interrupted_is_resumed(tmp_path, monkeypatch):
    (tmp_path / "seed-5").mkdir()
    (tmp_path / "seed-5/config.json").write_text(
        json.dumps(resolve({"seed": 5}).to_dict() | {"versions": {}})
    )
    programs = []

    class Finished:
        """A train_toy that has ended well."""

        def __init__(self, program):
            programs.append(program)
            (tmp_path / "seed-5/summary.json").write_text(json.dumps(summary(5)))

        def wait(self):
            return 0

    monkeypatch.setattr("subprocess.Popen", Finished)
    assert main(["--seeds", "5", "--root", str(tmp_path)]) == 0
    assert programs[0][2:] == [
        "minippo.train_toy",
        "--resume",
        "--out",
        str(tmp_path / "seed-5"),
        "--quiet",
    ]


def test_settings_of_a_run_that_starts_from_a_model_do_not_count_its_size(tmp_path, monkeypatch):
    arguments = ["--task", "files", "--data", "texts", "--start_from", "gpt2"]
    config = parse_arguments(arguments).config.to_dict()
    config["model"]["n_layer"] = 12
    (tmp_path / "config.json").write_text(json.dumps(config | {"versions": {}}))
    assert has_settings(tmp_path, arguments)
    assert not has_settings(tmp_path, [*arguments, "--seed", "1"])


def test_a_run_that_fails_ends_the_measurement_with_its_status(tmp_path, monkeypatch):
    monkeypatch.setattr(InProcess, "started", [])
    monkeypatch.setattr("minippo.commands.measure.subprocess.Popen", InProcess)
    assert main(["--seeds", "0", "--root", str(tmp_path), "--task", "nonsense"]) == 2


def test_seeds_are_a_range_or_a_list():
    assert seeds_of("0-3") == [0, 1, 2, 3] and seeds_of("7") == [7]
    assert seeds_of("0,3,7") == [0, 3, 7] and seeds_of("5,1-2") == [5, 1, 2]


@pytest.mark.parametrize("terminal", [True, False])
def test_a_run_hears_of_ctrl_c_where_no_terminal_tells_it(tmp_path, monkeypatch, capsys, terminal):
    heard = []

    class Long:
        """A train_toy that is at work when Ctrl-C comes."""

        def __init__(self, program):
            self.waits = iter([KeyboardInterrupt, None])

        def wait(self):
            if (error := next(self.waits)) is not None:
                raise error

        send_signal = heard.append

    monkeypatch.setattr("minippo.commands.measure.subprocess.Popen", Long)
    monkeypatch.setattr("sys.stdin", io.StringIO())
    monkeypatch.setattr("sys.stdin.isatty", lambda: terminal)
    assert main(["--seeds", "0", "--root", str(tmp_path)]) == 130
    assert heard == ([] if terminal else [signal.SIGINT])


@pytest.mark.parametrize(
    "seeds", ["a-b", "9-0", "0-3-9", "", "1,", "1,,2", "2,0-3", "0-99999999999"]
)
def test_seeds_that_are_no_range_are_refused(seeds, tmp_path):
    assert main(["--seeds", seeds, "--root", str(tmp_path)]) == 2


@pytest.mark.parametrize(
    "flags, words",
    [
        (["--seed", "5"], "--seed: measure says that to each run itself; name the seeds with --s"),
        (["--out", "x"], "--out: measure says that to each run itself; name the folder for all "),
        (["--resume"], "--resume: measure says that to each run itself; the same command once "),
    ],
)
def test_what_measure_says_itself_is_refused(flags, words, tmp_path, capsys):
    assert main(["--seeds", "0", "--root", str(tmp_path), *flags]) == 2
    assert words in capsys.readouterr().err


def test_an_unknown_flag_is_refused_as_that_and_not_as_another_setting(tmp_path, capsys):
    folder = RunFolder.create(tmp_path / "seed-0", default_name="x")
    folder.save_config(sealed_config(resolve({}).to_dict()))
    assert main(["--seeds", "0", "--root", str(tmp_path), "--sed", "5"]) == 2
    assert capsys.readouterr().err == "error: --sed: unknown flag; did you mean --seed?\n"


def test_a_configuration_that_was_edited_is_another_one(tmp_path):
    config = sealed_config(resolve({"seed": 3}).to_dict())
    config["run"]["seed"] = 4
    (tmp_path / "config.json").write_text(json.dumps(config))
    assert not has_settings(tmp_path, ["--seed", "3"])
    assert not has_settings(tmp_path, ["--seed", "4"])


# -- texts, and a model to start from


def begun(out, *arguments):
    """The configuration of a run that has begun with these arguments."""
    config, task, start = prepare(parse_arguments(arguments).config)
    about = {"versions": {"data": task.fingerprint}, "start": start and start._asdict()}
    out.mkdir(parents=True, exist_ok=True)
    (out / "config.json").write_text(json.dumps(sealed_config(config.to_dict() | about)))


@pytest.fixture
def texts(tmp_path):
    """The flags of a run on texts of one's own."""
    return ["--task", "files", "--data", str(write_folder(tmp_path / "texts"))]


def test_a_run_knows_its_texts_wherever_they_are(texts, tmp_path, monkeypatch):
    begun(tmp_path / "run", *texts)
    assert has_settings(tmp_path / "run", texts)
    monkeypatch.chdir(tmp_path)
    relative = [*texts[:-1], "texts"]
    assert has_settings(tmp_path / "run", relative)
    assert resuming(tmp_path / "run", relative) == ["--resume"]
    moved = [*texts[:-1], str(shutil.move(tmp_path / "texts", tmp_path / "moved"))]
    assert has_settings(tmp_path / "run", moved)
    assert resuming(tmp_path / "run", moved) == ["--resume", *moved[-2:]]
    assert has_settings(tmp_path / "run", texts)  # gone: the place has to do


def test_a_run_on_texts_that_have_changed_is_another_one(texts, tmp_path):
    begun(tmp_path / "run", *texts)
    path = tmp_path / "texts/preferences.jsonl"
    path.write_text(path.read_text().replace("yes", "yea"))
    assert not has_settings(tmp_path / "run", texts)


def test_a_run_knows_the_model_that_it_started_from(texts, tmp_path):
    models = [make_run(tmp_path / f"model-{n}", "byte") for n in (1, 2)]
    for n, run in enumerate(models):
        stage = ("sft", "policy")[n]
        assert export(["--run", str(run), "--stage", stage, "--to", "hf", str(run / "hf")]) == 0
    lengths = ["--prompt_length", "30", "--completion_length", "40", "--response_length", "20"]
    one, other = ([*texts, *lengths, "--start_from", str(run / "hf")] for run in models)
    begun(tmp_path / "run", *one)
    assert has_settings(tmp_path / "run", one) and not has_settings(tmp_path / "run", other)
    copy = [*one[:-1], str(shutil.copytree(one[-1], tmp_path / "copy"))]
    assert has_settings(tmp_path / "run", copy)


def test_a_summary_that_is_not_whole_is_no_summary(tmp_path, monkeypatch):
    begun(tmp_path / "seed-0")
    (tmp_path / "seed-0/summary.json").write_text('{"task"')
    monkeypatch.setattr("minippo.commands.measure.subprocess.Popen", RuntimeError)
    with pytest.raises(AttributeError, match="RuntimeError"):  # a process is started
        main(["--seeds", "0", "--root", str(tmp_path)])


def test_a_run_that_only_could_not_print_is_done(tmp_path, monkeypatch):
    class Unheard:
        """A train_toy that has done its work and has found no room to say so."""

        def __init__(self, program):
            begun(tmp_path / "seed-6", "--seed", "6")
            (tmp_path / "seed-6/summary.json").write_text(json.dumps(summary(6)))

        def wait(self):
            return 1

    monkeypatch.setattr("minippo.commands.measure.subprocess.Popen", Unheard)
    assert main(["--seeds", "6", "--root", str(tmp_path)]) == 0
    assert (tmp_path / "table.md").exists()
