"""An update at a given size: the same work each time, and every product of it is counted."""

import json
from dataclasses import replace

import pytest
import torch
from torch.nn import functional as F

from minippo.commands.profile_update import main
from minippo.commands.synthetic_update import Products, Size, operations_of, updates_of

SMALL = Size(
    layers=1,
    width=8,
    heads=2,
    vocab=7,
    prompt=3,
    response=4,
    batch=6,
    minibatches=2,
    epochs=1,
    updates=2,
    threads=1,
)
FLAGS = [f"--{name}={value}" for name, value in vars(SMALL).items()]


def counted(work):
    with Products() as products:
        work()
    return dict(products.seen)


def test_the_products_of_a_linear_layer_there_and_back():
    x, layer = torch.randn(5, 3, requires_grad=True), torch.nn.Linear(3, 4)
    assert counted(lambda: layer(x)) == {(1, 5, 4, 3): 1}
    # dx = dy W, dW = dy^T x
    assert counted(lambda: layer(x).sum().backward()) == {
        (1, 5, 4, 3): 1, (1, 5, 3, 4): 1, (1, 4, 3, 5): 1,
    }  # fmt: skip
    assert operations_of((1, 5, 4, 3)) == 120


def test_fused_attention_counts_as_what_it_does_inside():
    q, k, v = (torch.randn(2, 3, length, 4, requires_grad=True) for length in (5, 7, 7))
    forward = {(6, 5, 7, 4): 1, (6, 5, 4, 7): 1}
    attend = lambda: F.scaled_dot_product_attention(q, k, v)  # noqa: E731
    assert counted(attend) == forward
    both = counted(lambda: attend().sum().backward())
    # there two; back five: the scores again, and two gradients of each of the two
    assert sum(n * operations_of(product) for product, n in both.items()) == 7 * 2 * 6 * 5 * 7 * 4


def test_no_response_ends_early_and_each_update_is_the_same_work():
    update = updates_of(SMALL)
    steps = [update() for _ in range(2)]
    assert all(step.row["val/response_length"] == SMALL.response for step in steps)
    assert steps[0].row["val/score_std"] > 0
    update = updates_of(SMALL)
    assert counted(update) == counted(update)


def test_a_shared_critic_takes_fewer_products_than_one_with_a_trunk_of_its_own():
    own, shared = (
        sum(number * operations_of(product) for product, number in counted(update).items())
        for update in (updates_of(SMALL), updates_of(replace(SMALL, critic="shared")))
    )
    assert 0.5 * own < shared < 0.8 * own


def test_the_command_prints_one_line_of_json(capsys):
    assert main(["--synthetic", *FLAGS]) == 0
    printed = capsys.readouterr().out
    assert printed.count("\n") == 1
    line = json.loads(printed)
    assert line["updates"] == 2 and line["wall_seconds"] >= line["seconds_per_update"] > 0
    assert line["machine_gflops"] >= line["matmul_gflops"] > 0
    assert line["share"] == pytest.approx(line["matmul_gflops"] / line["machine_gflops"])


@pytest.mark.parametrize(
    "arguments, message",
    [
        (["--synthetic", "--width", "9", "--heads", "2"], "--width: wanted a multiple of heads 2"),
        (["--synthetic", "--layers", "0"], "--layers: wanted"),
        (["--synthetic", "--critic", "none"], "--critic: wanted one of own, shared"),
        (["--synthetic", "--minibatches", "9", "--batch", "8"], "--minibatches: wanted at most"),
        (["--synthetic", "--run", "x"], "--run: a synthetic update needs none"),
        (["--run", "x", "--layers", "2"], "--layers: is read with --synthetic only"),
        ([], "--run: wanted the folder"),
    ],
)
def test_what_makes_no_sense_is_one_line(arguments, message, capsys):
    assert main(arguments) == 2
    assert capsys.readouterr().err.startswith(f"error: {message}")
