"""The ladder's table against plain loops and against what the derivation promises; its figure; the
command that shows both."""

import functools
import itertools
import math
import os
import runpy
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from matplotlib.image import imread

from minippo.exact import ladder
from minippo.exact import tables as command
from minippo.exact.estimators import bias_and_variance
from minippo.exact.figure import BARS, ladder_figure
from minippo.exact.oracle import exact_gradient
from minippo.ppo import clipped_surrogate_loss
from minippo.trpo import surrogate_loss
from tests.exact.test_oracle import Sums
from tests.exact.test_world import rows_of
from tests.helpers import assert_close
from tests.runs.test_figures import png

ROOT = Path(__file__).parents[2]
KINDS = ["dense", "outcome-only", "cancelling"]
every_kind = pytest.mark.parametrize("kind", KINDS)
NAMES = [
    "policy gradient",
    "reward-to-go",
    "whole return - 10",
    "whole return - best constant",
    "whole return - mean of batch of 2",
    "whole return - other one of 2",
    "reward-to-go - exact V",
    "reward-to-go - wrong V",
    "GAE 0.95, exact V",
    "GAE 0.95, wrong V",
    "TD (lam 0), exact V",
    "TD (lam 0), wrong V",
    "TRPO's surrogate, GAE 0.95, exact V",
    "PPO clipped, GAE 0.95, exact V",
    "the same, mean over tokens, of 2",
]
WRONG_CRITIC = {"GAE 0.95, wrong V", "TD (lam 0), wrong V"}  # with lam < 1
COUPLED = {"whole return - mean of batch of 2", "the same, mean over tokens, of 2"}


@functools.cache
def gradients(seed):
    """Seed 0 as it is; the others in a world of three steps, which takes a quarter of the time."""
    with pytest.MonkeyPatch.context() as patch:
        if seed != 0:
            patch.setattr(ladder, "RESPONSE_LENGTH", 3)
        return ladder.gradient_table(seed)


@functools.cache
def advantages():
    return ladder.advantage_table(0)


def row(kind, name, seed=0):
    (found,) = [row for row in gradients(seed)[0][kind] if row["name"] == name]
    return found


# -- rewards and world


def sequences():
    """Every beginning of a response of the ladder's world."""
    return [
        tokens
        for n in range(1, 5)
        for tokens in itertools.product(range(3), repeat=n)
        if 0 not in tokens[:-1]
    ]


def test_the_three_kinds_of_reward():
    rewards = ladder.reward_functions(0)
    assert list(rewards) == KINDS
    for tokens in sequences():
        over = len(tokens) == 4 or tokens[-1] == 0
        dense, outcome, cancelling = (reward(0, tokens) for reward in rewards.values())
        assert outcome == (dense if over else 0.0)
        payment = rewards["cancelling"](0, tokens[:1])
        assert cancelling == {(True, False): payment, (False, True): -payment}.get(
            (len(tokens) == 1, over), 0.0
        )
        # of a response of one token: paid and paid back at once
        assert (payment == 0) == (tokens[0] == 0)
    assert len({rewards["dense"](0, tokens) for tokens in sequences()}) == len(sequences())
    assert rewards["cancelling"](0, (1,)) != rewards["cancelling"](0, (2,))
    assert rewards["dense"](1, (1,)) != rewards["dense"](0, (1,))  # of another prompt


def test_the_numbers_are_normal_with_mean_1_and_are_the_same_for_the_same_seed():
    numbers = [ladder.reward_functions(seed)["dense"](0, (1, 2)) for seed in range(2000)]
    assert numbers == [ladder.reward_functions(seed)["dense"](0, (1, 2)) for seed in range(2000)]
    assert (
        abs(np.mean(numbers) - 1) < 0.1
        and abs(np.std(numbers) - 1) < 0.1
        and len(set(numbers)) == 2000
    )


def test_the_world_has_31_responses_and_the_wrong_critic_is_wrong_by_1():
    errors = []
    for seed in range(20):
        world, policy, values, wrong_values = ladder.make_world(
            ladder.reward_functions(seed)["dense"], seed
        )
        assert (
            world.response_tokens.shape == (31, 4)
            and world.prompts == 1
            and policy().shape == (15, 3)
        )
        errors += (wrong_values - values).tolist()
    assert len(set(errors)) == 300 and abs(np.mean(errors)) < 0.2 and abs(np.std(errors) - 1) < 0.15
    returns = dict(zip(rows_of(world), world.response_rewards.tolist()))
    sums = Sums(world, policy().detach())
    assert_close(
        values,
        [
            sums.mean_after(
                *state, lambda prompt, tokens: sum(returns[prompt, tokens][len(state[1]) :])
            )
            for state in world.states
        ],
    )


def test_the_same_seed_gives_the_same_table_and_another_seed_another(monkeypatch):
    monkeypatch.setattr(ladder, "RESPONSE_LENGTH", 1)
    assert ladder.gradient_table(3) == ladder.gradient_table(3) != ladder.gradient_table(4)
    assert ladder.advantage_table(3) == ladder.advantage_table(3) != ladder.advantage_table(4)


# -- the table of gradients, from loops over 31 responses and 961 pairs


class Plain:
    """The estimates in NumPy: for each response its probability, rewards, values, and the score of
    each token."""

    def __init__(self, kind):
        reward = ladder.reward_functions(0)[kind]
        self.world, self.policy, *critics = ladder.make_world(reward, 0)
        number = {state: k for k, state in enumerate(self.world.states)}
        sums = Sums(self.world, self.policy().detach())
        self.probabilities, self.rewards, self.values, self.scores = (
            [],
            [],
            {"exact": [], "wrong": []},
            [],
        )
        for prompt, tokens in rows_of(self.world):
            path = [(prompt, tokens[:t]) for t in range(len(tokens))]
            scores = np.zeros((len(tokens), len(number), 3))
            for t, (state, token) in enumerate(zip(path, tokens)):
                scores[t, number[state]] = np.eye(3)[token] - sums.pi[state]
            self.probabilities.append(sums.probabilities[prompt, tokens])
            self.rewards.append(
                np.array([reward(prompt, tokens[: t + 1]) for t in range(len(tokens))])
            )
            self.scores.append(scores.reshape(len(tokens), -1))
            for values, critic in zip(self.values.values(), critics):
                values.append(np.array([critic[number[state]].item() for state in path]))
        self.returns = np.array([rewards.sum() for rewards in self.rewards])
        self.summed_scores = np.array([scores.sum(axis=0) for scores in self.scores])
        self.gradient = self.probabilities @ (self.returns[:, None] * self.summed_scores)

    def gae(self, critic, lam):
        """The double sum of (4.3); with lam = 1 it is the reward-to-go minus V."""
        for rewards, values in zip(self.rewards, self.values[critic]):
            deltas = rewards + np.append(values[1:], 0.0) - values
            yield np.array(
                [
                    sum(lam ** (k - t) * deltas[k] for k in range(t, len(deltas)))
                    for t in range(len(deltas))
                ]
            )

    def best_constant(self):
        weights = self.probabilities * (self.summed_scores**2).sum(axis=1)
        return (weights @ self.returns) / weights.sum()

    def of_one(self, weights):
        """(bias, variance) from a weight for each token of each response."""
        return self.judge(
            self.probabilities, [w @ scores for w, scores in zip(weights, self.scores)], 1
        )

    def of_two(self, estimate):
        """(bias, variance) of estimate(i, j), over all pairs of responses."""
        pairs = list(itertools.product(range(31), repeat=2))
        probabilities = [self.probabilities[i] * self.probabilities[j] for i, j in pairs]
        return self.judge(probabilities, [estimate(i, j) for i, j in pairs], 2)

    def judge(self, probabilities, samples, size):
        probabilities, samples = np.array(probabilities), np.array(samples)
        mean = probabilities @ samples
        return np.abs(mean - self.gradient).max(), size * (
            probabilities @ (samples - mean) ** 2
        ).sum()

    def table(self):
        returns, scores, lengths = (
            self.returns,
            self.summed_scores,
            [len(rewards) for rewards in self.rewards],
        )
        whole = [np.full(n, total) for n, total in zip(lengths, returns)]
        advantages = list(self.gae("exact", 0.95))
        gae = self.of_one(advantages)
        pushes = [a @ s for a, s in zip(advantages, self.scores)]
        expected_length = self.probabilities @ np.array(lengths)
        return [
            self.of_one(whole),
            self.of_one(
                [[rewards[t:].sum() for t in range(len(rewards))] for rewards in self.rewards]
            ),
            self.of_one([w - 10 for w in whole]),
            self.of_one([w - self.best_constant() for w in whole]),
            self.of_two(lambda i, j: (returns[i] - returns[j]) / 2 * (scores[i] - scores[j]) / 2),
            self.of_two(lambda i, j: (returns[i] - returns[j]) * (scores[i] - scores[j]) / 2),
            self.of_one(self.gae("exact", 1)),
            self.of_one(self.gae("wrong", 1)),
            gae,
            self.of_one(self.gae("wrong", 0.95)),
            self.of_one(self.gae("exact", 0)),
            self.of_one(self.gae("wrong", 0)),
            gae,
            gae,
            self.of_two(
                lambda i, j: expected_length * (pushes[i] + pushes[j]) / (lengths[i] + lengths[j])
            ),
        ]


@every_kind
def test_every_row_against_plain_loops(kind):
    table, sizes = gradients(0)
    plain = Plain(kind)
    assert_close(sizes[kind], np.abs(plain.gradient).max())
    assert [row["name"] for row in table[kind]] == NAMES and list(table) == list(sizes) == KINDS
    assert [row["stage"] for row in table[kind]] == [1, 2] + [3] * 6 + [4] * 4 + [5, 6, 6]
    for row, (bias, variance) in zip(table[kind], plain.table(), strict=True):
        assert_close([row["bias"], row["variance"]], [bias, variance])


# -- what the derivation promises


@every_kind
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_which_rows_are_biased(kind, seed):
    table, sizes = gradients(seed)
    assert (sizes[kind] < 1e-10) == (kind == "cancelling")
    for row in table[kind]:
        if row["name"] in WRONG_CRITIC or row["name"] in COUPLED and kind != "cancelling":
            assert row["bias"] > 1e-3
        else:
            assert row["bias"] <= 1e-10


@every_kind
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_relations_between_the_rows(kind, seed):
    def variance(name):
        return row(kind, name, seed)["variance"]

    sizes = gradients(seed)[1]
    mean, other = "whole return - mean of batch of 2", "whole return - other one of 2"
    assert_close(row(kind, mean, seed)["bias"], sizes[kind] / 2)
    assert_close(variance(other), 4 * variance(mean))  # twice as large
    for name in ("TRPO's surrogate, GAE 0.95, exact V", "PPO clipped, GAE 0.95, exact V"):
        assert_close(
            [row(kind, name, seed)[x] for x in ("bias", "variance")],
            [row(kind, "GAE 0.95, exact V", seed)[x] for x in ("bias", "variance")],
        )
    assert (
        variance("whole return - best constant")
        <= min(variance("policy gradient"), variance("whole return - 10")) + 1e-10
    )
    if kind == "outcome-only":
        assert_close(variance("reward-to-go"), variance("policy gradient"))
    if kind == "cancelling":
        assert_close(variance("policy gradient"), 0.0)
        assert variance("reward-to-go") > 1e-3


@every_kind
def test_the_best_constant_is_the_best(kind):
    world, policy, *_ = ladder.make_world(ladder.reward_functions(0)[kind], 0)
    best, exact = ladder.best_constant(world, policy).item(), exact_gradient(world, policy)

    def variance(constant):
        return bias_and_variance(
            world, policy, ladder.weighted(ladder.minus_constant(constant)), exact
        )[1]

    assert_close(best, Plain(kind).best_constant())
    assert_close(variance(best), row(kind, "whole return - best constant")["variance"])
    distances = [1e-3, 0.1, 1.0, 3.0]
    above, below = (
        [variance(best + sign * distance) for distance in distances] for sign in (1, -1)
    )
    assert_close(above, below)  # a parabola
    assert [variance(best)] + above == sorted([variance(best)] + above) and above[0] > variance(
        best
    )


@pytest.mark.parametrize(
    "loss, options", [(surrogate_loss, {}), (clipped_surrogate_loss, {"cliprange": 0.2})]
)
def test_a_ratio_loss_summed_over_tokens_does_not_couple_the_rows_and_the_mean_over_tokens_does(
    monkeypatch, loss, options
):
    monkeypatch.setattr(ladder, "RESPONSE_LENGTH", 2)
    world, policy, values, _ = ladder.make_world(ladder.reward_functions(0)["dense"], 0)
    exact = exact_gradient(world, policy)
    one, two = (
        [
            bias_and_variance(
                world,
                policy,
                wrap(loss, ladder.gae(0.95), **options),
                exact,
                values=values,
                size=size,
            )
            for wrap in (ladder.ratio_loss, ladder.mean_over_tokens)
        ]
        for size in (1, 2)
    )
    assert_close(one[0], two[0])
    assert abs(one[1][1] - two[1][1]) > 1e-3


# -- the table of advantages


@every_kind
def test_the_advantages_of_the_exact_critic(kind):
    rows = advantages()[kind]["exact V"]
    assert (
        [row["lam"] for row in rows]
        == list(ladder.LAMBDAS)
        == [0.0, 0.25, 0.5, 0.75, 0.9, 0.95, 1.0]
    )
    assert_close(
        [[row["bias"], row["tilt"], row["gradient bias"]] for row in rows], [[0.0] * 3] * len(rows)
    )
    variances = [row["variance"] for row in rows]
    if kind == "cancelling":  # what comes is known as soon as the first token is
        assert_close(variances, [0.0] * len(rows))
    else:
        assert_close(variances[0], 0.0)
        assert all(less < more for less, more in zip(variances, variances[1:]))


@every_kind
def test_the_advantages_of_the_wrong_critic(kind):
    rows = advantages()[kind]["wrong V"]
    assert [row["lam"] for row in rows] == list(ladder.LAMBDAS)
    for name in ("tilt", "gradient bias"):
        values = [row[name] for row in rows]
        assert values == sorted(values, reverse=True) and values[-2] > 1e-3
        assert_close(values[-1], 0.0)
    plain = Plain(kind)  # at lam = 1 the error is that of V itself, wherever a token is
    lengths = [len(values) for values in plain.values["exact"]]
    squares = [
        ((exact - wrong) ** 2).sum()
        for exact, wrong in zip(plain.values["exact"], plain.values["wrong"])
    ]
    mean_square = (plain.probabilities @ np.array(squares)) / (
        plain.probabilities @ np.array(lengths)
    )
    assert_close(rows[-1]["bias"], math.sqrt(mean_square))
    assert_close(
        [rows[0]["variance"], rows[-1]["variance"]],
        [0.0, advantages()[kind]["exact V"][-1]["variance"]],
    )


@every_kind
@pytest.mark.parametrize("critic", ["exact", "wrong"])
def test_the_gradients_of_the_advantages(kind, critic):
    plain, rows = Plain(kind), advantages()[kind][f"{critic} V"]
    for row in rows:
        assert_close(
            [row["gradient bias"], row["gradient variance"]],
            plain.of_one(plain.gae(critic, row["lam"])),
        )


# -- the figure


def test_the_bars_are_as_high_as_the_table_says():
    axes, _ = ladder_figure(gradients(0)[0], advantages()).axes
    assert [bars.get_label() for bars in axes.containers] == [f"{kind} reward" for kind in KINDS]
    for kind, bars in zip(KINDS, axes.containers):
        assert [bar.get_height() for bar in bars] == [row(kind, name)["variance"] for name in BARS]
        assert [round(bar.get_x() + bar.get_width() / 2) for bar in bars] == list(range(len(BARS)))
    assert [label.get_text() for label in axes.get_xticklabels()] == list(BARS.values())
    heights = [bar.get_height() for bars in axes.containers for bar in bars]
    for text, height in zip(axes.texts, heights, strict=True):
        assert abs(float(text.get_text()) - height) <= (0.0051 if height < 1 else 0.051)
    starts = [bars[0].get_x() for bars in axes.containers]
    assert starts == sorted(starts)  # in the order of the legend
    edges = sorted(
        (bar.get_x(), bar.get_x() + bar.get_width()) for bars in axes.containers for bar in bars
    )
    # no bar hides another
    assert all(right <= left + 1e-9 for (_, right), (left, _) in zip(edges, edges[1:]))
    # the title says so
    assert all(row(kind, name)["bias"] < 1e-10 for kind in KINDS for name in BARS)
    assert "variance" in axes.get_ylabel() and "unbiased" in axes.get_title() and len(BARS) == 6


def test_the_dial_shows_the_rows_of_the_dense_reward():
    figure = ladder_figure(gradients(0)[0], advantages())
    _, axes = figure.axes
    dense = advantages()["dense"]
    wanted = {
        "bias of the gradient (max abs), wrong V": ("wrong V", "gradient bias"),
        "variance of the advantage, wrong V": ("wrong V", "variance"),
        "the same, exact V": ("exact V", "variance"),
    }
    assert [line.get_label() for line in axes.lines] == list(wanted)
    for line, (critic, quantity) in zip(axes.lines, wanted.values()):
        assert list(line.get_xdata()) == list(ladder.LAMBDAS)
        assert list(line.get_ydata()) == [row[quantity] for row in dense[critic]]
    assert axes.get_xlabel() == "lam" and axes.get_ylim()[0] == 0
    png(figure)


def test_the_figure_can_be_read_without_colour():
    left, right = ladder_figure(gradients(0)[0], advantages()).axes
    greys = {
        (round(sum(bars[0].get_facecolor()[:3]), 1), bars[0].get_hatch())
        for bars in left.containers
    }
    assert len(greys) == 3
    assert (
        len({line.get_linestyle() for line in right.lines})
        == len({line.get_marker() for line in right.lines})
        == 3
    )
    assert [len(axes.get_legend().get_texts()) for axes in (left, right)] == [3, 3]


# -- the command


@pytest.fixture
def run(monkeypatch, capsys, tmp_path):
    """The command in an empty folder, with the tables of above in place of computing them again;
    (status, out, err)."""
    asked = []

    def table_of(tables):
        return lambda seed: (asked.append(seed), tables())[1]

    monkeypatch.setattr(command, "gradient_table", table_of(lambda: gradients(0)))
    monkeypatch.setattr(command, "advantage_table", table_of(advantages))
    # it would last for all tests to come
    monkeypatch.setattr("torch.set_num_threads", lambda number: None)
    monkeypatch.chdir(tmp_path)

    def call(*arguments):
        asked.clear()
        status = command.main(list(arguments))
        return status, *capsys.readouterr()

    call.asked = asked
    return call


def numbers(line):
    return [float(word) for word in line.split()]


def check_tables(out):
    """Every number of both tables stands in the output, where it belongs."""
    lines = out.splitlines()
    for name, *rows in zip(NAMES, *(gradients(0)[0][kind] for kind in KINDS)):
        (line,) = [line for line in lines if line[8:46].strip() == name]
        assert int(line[:8]) == rows[0]["stage"]
        shown = numbers(line[46:])
        assert shown[1::2] == [round(row["variance"], 3) for row in rows]
        for bias, row in zip(shown[::2], rows):
            assert bias < 1e-10 if row["bias"] < 1e-10 else bias == float(f"{row['bias']:.1e}")
    heading = next(line for line in lines if "bias" in line and line.startswith("stage"))
    assert heading.split() == ["stage", "estimate"] + ["bias", "variance"] * 3
    assert lines[lines.index(heading) - 1].split() == KINDS
    largest = numbers(next(line for line in lines if "largest entry" in line)[46:])
    assert (
        largest[:2] == [float(f"{gradients(0)[1][kind]:.1e}") for kind in KINDS[:2]]
        and largest[2] < 1e-10
    )
    for kind in KINDS:
        start = next(i for i, line in enumerate(lines) if line.startswith(f"{kind} reward"))
        assert lines[start + 1].split() == [
            "lam",
            "bias",
            "variance",
            "grad",
            "var",
            "bias",
            "tilt",
            "variance",
            "grad",
            "bias",
            "grad",
            "var",
        ]
        for line, exact, wrong in zip(lines[start + 2 :], *advantages()[kind].values()):
            lam, bias, *rest = numbers(line)
            assert lam == exact["lam"] and bias < 1e-10
            grad_bias = rest.pop(5)
            assert rest == [
                round(exact["variance"], 3),
                round(exact["gradient variance"], 3),
                round(wrong["bias"], 3),
                round(wrong["tilt"], 3),
                round(wrong["variance"], 3),
                round(wrong["gradient variance"], 3),
            ]
            assert (
                grad_bias < 1e-10
                if lam == 1
                else grad_bias == float(f"{wrong['gradient bias']:.1e}")
            )


def check_png(path):
    data = path.read_bytes()
    assert data.startswith(b"\x89PNG\r\n\x1a\n") and data.endswith(b"IEND\xaeB`\x82")
    assert imread(path).shape[:2] == (662, 1440)


def test_the_command_from_outside(tmp_path):
    path, start = tmp_path / "new folder/ladder.png", time.perf_counter()
    done = subprocess.run(
        [sys.executable, "-m", "minippo.exact", "--out", str(path)],
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    seconds = time.perf_counter() - start
    print(f"{seconds:.1f} s")
    assert seconds < 30
    assert done.returncode == 0 and done.stderr == ""
    check_tables(done.stdout)
    assert (
        done.stdout.endswith(f"\nfigure: {path}\n")
        and max(map(len, done.stdout.splitlines()[:-1])) <= 120
    )
    check_png(path)
    assert list(path.parent.iterdir()) == [path]


def test_the_defaults(run, tmp_path):
    status, out, err = run()
    assert (status, err, run.asked) == (0, "", [0, 0])
    check_tables(out)
    check_png(tmp_path / "runs/exact/ladder.png")
    assert out.endswith("figure: runs/exact/ladder.png\n")


def test_the_seed_goes_to_both_tables_and_an_old_figure_is_replaced(run, tmp_path):
    (tmp_path / "a.png").write_text("old")
    status, _, _ = run("--seed", "7", "--out", "a.png")
    assert status == 0 and run.asked == [7, 7]
    check_png(tmp_path / "a.png")
    assert os.listdir(tmp_path) == ["a.png"]


@pytest.mark.parametrize(
    "out, reason",
    [
        ("file/ladder.png", "no folder can be made there (File exists)"),
        ("folder", "wanted the name of a file"),
        ("file/below/ladder.png", "no folder can be made there (Not a directory)"),
        (".", "wanted the name of a file"),
        ("", "wanted the name of a file"),
    ],
)
def test_an_out_that_cannot_be_written_is_refused_in_one_line(run, tmp_path, out, reason):
    (tmp_path / "file").write_text("old")
    (tmp_path / "folder").mkdir()
    status, printed, err = run("--out", out)
    assert status == 2 and printed == ""  # before the work, not after it
    assert (
        err.startswith(f"error: --out {out}: {reason}")
        and err.count("\n") == 1
        and err.endswith("\n")
    )
    assert (
        sorted(os.listdir(tmp_path)) == ["file", "folder"] and os.listdir(tmp_path / "folder") == []
    )
    assert (tmp_path / "file").read_text() == "old"


@pytest.mark.parametrize("seed", ["-1", str(2**31)])
def test_a_seed_out_of_range_is_refused_in_one_line(run, tmp_path, seed):
    status, printed, err = run("--seed", seed, "--out", "a.png")
    assert (status, printed) == (
        2,
        "",
    ) and err == f"error: --seed: wanted a whole number from 0 to {2**31 - 1}, got {seed}\n"
    assert os.listdir(tmp_path) == []


def test_a_figure_that_cannot_be_finished_leaves_the_old_one(run, tmp_path, monkeypatch):
    (tmp_path / "a.png").write_text("old")

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    status, _, err = run("--out", "a.png")
    assert status == 2 and err == "error: --out a.png: No space left on device\n"
    assert os.listdir(tmp_path) == ["a.png"] and (tmp_path / "a.png").read_text() == "old"


def test_the_status_is_that_of_the_process(run, monkeypatch):
    for out, status in (("..", 2), ("a.png", 0)):
        monkeypatch.setattr(sys, "argv", ["python -m minippo.exact", "--out", out])
        with pytest.raises(SystemExit) as end:
            runpy.run_module("minippo.exact", run_name="__main__")
        assert end.value.code == status


@pytest.mark.parametrize("arguments", [["--seed", "one"], ["--see", "1"], ["--out"], ["more"]])
def test_arguments_that_are_not_understood(run, arguments):
    status, printed, err = run(*arguments)
    assert (status, printed, run.asked) == (2, "", [])
    assert err.startswith("error: ") and err.count("\n") == 1
