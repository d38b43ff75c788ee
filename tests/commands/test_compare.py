"""The same run with several settings: how often each stage is done, what is written, what is
refused."""

import shlex
import shutil
from contextlib import contextmanager
from dataclasses import replace
from types import SimpleNamespace

import pytest

from minippo.commands import compare, measure, report, train
from minippo.commands.comparison import METRICS
from minippo.commands.plan import lay_side_by_side
from minippo.runs.folder import RunFolder
from minippo.runs.stats import mean, t_interval
from tests.tiny_runs import TINY, NotDrawn, read_json

STAGES = ("pretrain", "fine_tune", "make_reward_model", "optimise_policy")
VARY = ["--vary", "kl_coef", "0.01", "0.5", "--seeds", "0,2"]


class InProcess:
    """Stands for subprocess.Popen: the run is made here, and counted."""

    started: list[list[str]] = []
    ends: dict[int, int | BaseException] = {}  # number of the start -> how it ends instead

    def __init__(self, program, **_):
        self.arguments = program[3:]
        self.started.append(self.arguments)
        self.end = self.ends.get(len(self.started))

    def wait(self):
        if isinstance(self.end, BaseException):
            self.end, error = 130, self.end
            raise error
        if self.end is None:
            self.end = train.main(self.arguments)
        return self.end

    poll = wait

    @property
    def returncode(self):
        return self.end

    def send_signal(self, _):
        pass


@contextmanager
def inside(ends=None):
    """Runs are made in this process; yields (the command lines, how often each stage was done)."""
    stages = dict.fromkeys(STAGES, 0)

    def counting(name):
        real = getattr(train, name)

        def counted(*arguments):
            stages[name] += 1
            return real(*arguments)

        return counted

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(InProcess, "started", started := [])
        patch.setattr(InProcess, "ends", ends or {})
        patch.setattr(measure, "subprocess", SimpleNamespace(Popen=InProcess, DEVNULL=-3))
        patch.setattr(compare, "figures", SimpleNamespace(courses=NotDrawn))
        for name in STAGES:
            patch.setattr(train, name, counting(name))
        yield started, stages


def command(out, *vary, flags=TINY):
    return [*(vary or VARY), "--out", str(out), *flags]


@pytest.fixture(scope="module")
def compared(tmp_path_factory):
    """(its folder, how often each stage was done) of two settings on two seeds."""
    out = tmp_path_factory.mktemp("compared") / "out"
    with inside() as (started, stages):
        assert compare.main(command(out)) == 0
    assert len(started) == 4
    return out, stages


def timeless(results):
    """compare.json without what the clock and the folder make of it."""
    for row in results["settings"]:
        row.pop("seconds")
    results.pop("command")
    return results


# -- what comes of it


def test_stages_that_the_settings_do_not_touch_are_done_once_per_seed(compared):
    assert compared[1] == {
        "pretrain": 2,
        "fine_tune": 2,
        "make_reward_model": 2,
        "optimise_policy": 4,
    }


def test_a_setting_of_an_early_stage_is_done_again_from_there(tmp_path):
    vary = shlex.split(
        "--vary sft_learning_rate 0.01 0.02 --vary whiten_advantages true false --seeds 1"
    )
    with inside() as (started, stages):
        assert compare.main(command(tmp_path / "out", *vary)) == 0
    assert [*stages.values()] == [1, 2, 2, 4] and len(started) == 4
    found = read_json(tmp_path / "out/compare.json")
    assert found["vary"] == {"sft_learning_rate": [0.01, 0.02], "whiten_advantages": [True, False]}
    values = [row["values"] for row in found["settings"]]
    assert values[1] == {"sft_learning_rate": 0.01, "whiten_advantages": False} and len(values) == 4
    for row in found["settings"]:
        config = read_json(tmp_path / "out" / row["runs"][0] / "config.json")
        assert config["sft"]["sft_learning_rate"] == row["values"]["sft_learning_rate"]
        assert config["ppo"]["whiten_advantages"] == row["values"]["whiten_advantages"]
    scored = {(row["a"], row["b"]) for row in found["paired"] if row["metric"] == "score"}
    names = [row["name"] for row in found["settings"]]  # each reward model has its own unit
    assert scored == {(names[1], names[0]), (names[3], names[2])}
    assert {(row["low"], row["high"], row["n"]) for row in found["paired"]} == {(None, None, 1)}


def test_the_means_and_the_paired_differences_are_those_of_the_runs(compared, capsys):
    out, found = compared[0], read_json(compared[0] / "compare.json")
    assert found["vary"] == {"kl_coef": [0.01, 0.5]} and found["seeds"] == [0, 2]
    summaries = []
    for row, kl_coef in zip(found["settings"], (0.01, 0.5), strict=True):
        assert row["values"] == {"kl_coef": kl_coef} and (row["samples"], row["models"]) == (16, 4)
        of_it = [read_json(out / run / "summary.json") for run in row["runs"]]
        assert [summary["seed"] for summary in of_it] == [0, 2]
        assert row["seconds"] == mean(summary["seconds"]["total"] for summary in of_it)
        assert row["mean"]["gold"] == mean(summary["policy"]["gold"] for summary in of_it)
        summaries.append(of_it)
    by_metric = {row["metric"]: row for row in found["paired"]}
    # the reward model is one and the same, the objectives have two prices of KL
    assert {*by_metric} == {*METRICS} - {"skill", "objective"}
    first, second = ([summary["policy"]["kl"] for summary in of_it] for of_it in summaries)
    differences = [y - x for x, y in zip(first, second, strict=True)]
    row = by_metric["kl"]
    assert (row["a"], row["b"], row["n"]) == ("kl_coef 0.5", "kl_coef 0.01", 2)
    assert row["difference"] == mean(differences) and (row["low"], row["high"]) == t_interval(
        differences
    )


def test_the_same_command_again_finds_all_of_it(compared, capsys, monkeypatch):
    before = (compared[0] / "compare.json").read_bytes()
    with inside() as (started, _):
        assert compare.main(command(compared[0])) == 0
    assert started == [] and (compared[0] / "compare.json").read_bytes() == before
    out = capsys.readouterr().out
    assert out == (compared[0] / "table.md").read_text() and "2 seeds can't tell these apart" in out


def test_the_settings_lie_side_by_side_on_one_page(compared, tmp_path, capsys, monkeypatch):
    plan = compare.make_plan(command(compared[0], flags=[*TINY, "--report"]))
    folder = RunFolder(tmp_path)
    lay_side_by_side(plan, folder)
    page = (tmp_path / "report.html").read_text()
    assert "2 runs side by side" in page and "seed 0" in page and "seed 2" not in page
    assert "<span>kl_coef 0.01</span>" in page and "<span>kl_coef 0.5</span>" in page
    assert capsys.readouterr().out == f"{tmp_path / 'report.html'}: 2 runs side by side\n"
    (tmp_path / "report.html").unlink()
    monkeypatch.setattr(report, "MOST_RUNS", 1)
    lay_side_by_side(plan, folder)
    assert "no report: it lays at most 1 run " in capsys.readouterr().out
    monkeypatch.undo()
    for other in (compare.make_plan(command(compared[0])), replace(plan, seeds=[7])):
        lay_side_by_side(other, folder)
    assert not (tmp_path / "report.html").exists() and capsys.readouterr().out == ""


# -- going on


def test_an_interrupted_comparison_goes_on_and_ends_with_the_same(compared, tmp_path, capsys):
    out = tmp_path / "out"
    with inside({3: KeyboardInterrupt()}) as (started, _):
        assert compare.main(command(out)) == 130
    line = shlex.join(["python", "-m", "minippo.compare", *command(out)])
    assert capsys.readouterr().err == f"interrupted; to go on: {line}\n" and len(started) == 3
    assert len(read_json(out / "compare.json")["settings"][0]["runs"]) == 1
    with inside() as (started, stages):
        assert compare.main(command(out)) == 0
    assert len(started) == 2 and stages["pretrain"] == 1
    found, wanted = (timeless(read_json(path / "compare.json")) for path in (out, compared[0]))
    assert found == wanted


def test_a_run_that_ends_as_interrupted_ends_the_comparison(tmp_path):
    with inside({1: 130}) as (started, _):
        assert compare.main(command(tmp_path / "out")) == 130
    assert len(started) == 1


def test_a_run_that_fails_is_named_and_the_others_go_on(tmp_path, capsys):
    out = tmp_path / "out"
    with inside({2: 1, 3: -9}) as (started, stages):
        assert compare.main(command(out)) == 1
    shown = capsys.readouterr()
    assert len(started) == 4 and stages["optimise_policy"] == 2
    assert "kl_coef 0.5, seed 0: failed, with exit status 1\n" in shown.err
    assert shown.err.splitlines()[-1] == (
        "error: 2 of 4 runs failed: kl_coef 0.5, seed 0; kl_coef 0.01, seed 2; the same command "
        "tries them again"
    )
    assert "| kl_coef 0.01 | 1 of 2 |" in shown.out
    found = read_json(out / "compare.json")
    assert found["paired"] == [] and [len(row["runs"]) for row in found["settings"]] == [1, 1]


def test_another_command_in_the_same_folder_is_refused_with_both(compared, capsys):
    out = compared[0]
    for other in (
        command(out, "--vary", "kl_coef", "0.01", "0.5", "--seeds", "0-2"),
        command(out, "--vary", "kl_coef", "0.01", "0.6", "--seeds", "0,2"),
        command(out, flags=[*TINY, "--lam", "0.9"]),
    ):
        assert compare.main(other) == 2
        error = capsys.readouterr().err
        for typed in (command(out), other):
            assert shlex.join(["python", "-m", "minippo.compare", *typed]) in error
        assert error.count("\n") == 1
    # what is the same thing in other words is no other command
    with inside() as (started, _):
        assert compare.main(command(out, "--vary", "kl-coef", "1e-2", ".5", "--seeds=0,2")) == 0
    assert started == []


@pytest.mark.parametrize(
    "spoil, words",
    [
        (lambda out: (out / "compare.json").write_text("{"), "compare.json: not JSON"),
        (lambda out: (out / "compare.json").unlink(), "is not empty; name another folder"),
        (
            lambda out: next(out.glob("runs/1*/*/summary.json")).write_text('{"seconds": 3}'),
            "summary.json: not the summary of a run; remove it, and the same command makes",
        ),
    ],
)
def test_a_folder_that_was_changed_is_refused(compared, tmp_path, capsys, spoil, words):
    out = shutil.copytree(compared[0], tmp_path / "out")
    spoil(out)
    assert compare.main(command(out)) == 2
    assert words in capsys.readouterr().err


# -- refusals


@pytest.mark.parametrize(
    "arguments, words",
    [
        ("", "--vary: name a setting and its values, as in --vary kl_coef 0.01 0.05"),
        ("--vary", "--vary: name a setting and its values, as in --vary kl_coef 0.01 0.05"),
        ("--vary kl 0.1 0.2", "--vary kl: unknown flag; did you mean --kl_coef?"),
        ("--vary xyzzy 1 2", "--vary xyzzy: unknown flag; --help lists them all"),
        ("--vary kl_coef", "--vary kl_coef: wanted two values or more, got 0"),
        ("--vary kl_coef 0.1", "--vary kl_coef: wanted two values or more, got 1"),
        ("--vary kl_coef 0.1 1e-1", "--vary kl_coef: 1e-1 is there twice"),
        ("--vary lam 0 1 --vary lam 0 1", "--vary lam: is varied twice"),
        ("--vary lam 0.5 1.5", "--lam: wanted a number in [0.0, 1.0], got 1.5"),
        ("--vary lam 0.5 -5e-1", "--lam: wanted a number in [0.0, 1.0], got -0.5"),
        ("--vary lam 0.5 much", "--lam: wanted a number, got 'much'"),
        ("--vary n_layer 1 1.5", "--n_layer: wanted a whole number, got '1.5'"),
        ("--vary algorithm ppo pppo", "--algorithm: wanted one of pg, "),
        ("--vary whiten_rewards true yes", "--vary whiten_rewards: wanted true or false, got 'ye"),
        ("--vary kl_old_target 0.1 0.2", "--kl_old_target: --algorithm ppo does not use it; it "),
        ("--vary lam 0 1 --lam 0.5", "--lam: is varied; leave it out besides"),
        ("--vary whiten_rewards true false --no-whiten-rewards", "--whiten_rewards: is varied"),
        ("--vary seed 0 1", "--vary seed: name the seeds with --seeds, as in --seeds 0-4"),
        ("--vary out a b", "--vary out: is no setting of a run"),
        ("--vary lam 0 1 --seed 3", "--seed: compare says that to each run itself; name the seeds"),
        ("--vary lam 0 1 --resume", "--resume: compare says that to each run itself; the same c"),
        ("--vary lam 0 1 --seeds 3-1", "--seeds: wanted first-last, as in 0-9, got '3-1'"),
        ("--vary lam 0 1 --seeds 3,1-3", "--seeds: names a seed twice, got '3,1-3'"),
        ("--vary lam 0 1 --sed 3", "--sed: unknown flag; did you mean --seed?"),
        ("--vary lam 0 1 --task nonsense", "--task: wanted one of tldr"),
        ("--vary lam 0 1 --seeds 0-9999", "--vary: that is 20000 runs; wanted at most 10000"),
    ],
)
def test_what_cannot_be_compared_is_refused_with_one_line(arguments, words, tmp_path, capsys):
    out = tmp_path / "out"
    assert compare.main([*shlex.split(arguments), "--out", str(out)]) == 2
    error = capsys.readouterr().err
    assert error.startswith(f"error: {words}") and error.count("\n") == 1
    assert not out.exists()


def test_a_folder_is_needed_and_has_to_be_free(tmp_path, capsys):
    assert compare.main(VARY) == 2
    assert capsys.readouterr().err == (
        "error: --out: name the folder for the comparison, --out DIR\n"
    )
    (tmp_path / "thesis.txt").write_text("all of it")
    assert compare.main(command(tmp_path)) == 2
    assert "is not empty" in capsys.readouterr().err


def test_a_value_can_be_none_or_negative():
    plan = compare.make_plan(
        shlex.split("--vary no_eos_score none -5e0 --vary target_kl none 0.1 --out x --quiet")
    )
    assert plan.vary == {"no_eos_score": [None, -5.0], "target_kl": [None, 0.1]} and plan.quiet
    assert [setting.config.ppo.no_eos_score for setting in plan.settings] == [None, None, -5.0, -5]
    assert plan.settings[3].folder == "4-no_eos_score-5.0-target_kl-0.1"


def test_quiet_leaves_the_table_alone(tmp_path, capsys):
    with inside(dict.fromkeys(range(1, 5), 1)):
        assert compare.main([*command(tmp_path / "out"), "--quiet"]) == 1
    assert capsys.readouterr().out == (tmp_path / "out/table.md").read_text()


@pytest.mark.slow
def test_real_processes_do_the_same(compared, tmp_path, capfd):
    out = tmp_path / "out"
    vary = shlex.split("--vary kl_coef 0.01 0.5 --seeds 0")
    assert compare.main([*command(out, *vary), "--quiet"]) == 0
    assert capfd.readouterr().out == (out / "table.md").read_text()
    for run in ("1-kl_coef-0.01", "2-kl_coef-0.5"):
        found, wanted = (
            read_json(path / f"runs/{run}/seed-0/summary.json") for path in (out, compared[0])
        )
        assert all(found[name] == wanted[name] for name in ("sft", "policy", "optimality"))
    assert (out / "figures/courses.png").read_bytes().startswith(b"\x89PNG")
