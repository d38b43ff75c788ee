"""The derivation in numbers: python -m minippo.exact [--seed N] [--out FILE.png]"""

import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from minippo.commands.wrapper import Parser, command
from minippo.errors import InputError
from minippo.exact.figure import ladder_figure
from minippo.exact.ladder import advantage_table, gradient_table
from minippo.runs.figures.style import check_drawing
from minippo.runs.files import write_bytes_whole


def print_gradients(table: Mapping[str, list[dict[str, Any]]], sizes: Mapping[str, float]) -> None:
    kinds = list(table)
    print(
        "Estimates of grad J. bias: max abs difference of the exact mean from the exact gradient. "
        "variance: total"
    )
    print(
        "variance of one trajectory; of a batch of n it is 1/n of that. V: the value function; "
        "wrong V: noise of"
    )
    print(
        "standard deviation 1 added. Rows 'of 2' are batches of two, their variance is doubled "
        "for comparison; where the"
    )
    print(
        "mean is half the gradient, as with the mean of a batch of 2, so is every sample, and a "
        "quarter is left of it."
    )
    print()
    print(f"{'':8}{'':38}" + "".join(f"{kind:>21}" for kind in kinds))
    print(f"{'stage':8}{'estimate':38}" + f"{'bias':>11}{'variance':>10}" * len(kinds))
    for rows in zip(*table.values(), strict=True):
        print(
            f"{rows[0]['stage']:<8}{rows[0]['name']:38}"
            + "".join(f"{row['bias']:>11.1e}{row['variance']:>10.3f}" for row in rows)
        )
    print(
        f"{'':8}{'largest entry of the exact gradient':38}"
        + "".join(f"{size:>11.1e}{'':10}" for size in sizes.values()).rstrip()
    )


def print_advantages(table: Mapping[str, Mapping[str, list[dict[str, Any]]]]) -> None:
    print(
        "Estimates of the advantage over lam. bias: root mean square, given state and token; "
        "tilt: the same without what"
    )
    print(
        "all tokens of a state share, which cannot bias a gradient; "
        "grad bias and grad var as above."
    )
    for kind, by_critic in table.items():
        print()
        print(f"{kind + ' reward':22}{'exact V':^30}{'wrong V':^48}")
        print(
            f"{'lam':22}"
            + f"{'bias':>10}{'variance':>10}{'grad var':>10}"
            + f"{'bias':>10}{'tilt':>10}{'variance':>10}{'grad bias':>11}{'grad var':>10}"
        )
        for exact, wrong in zip(*by_critic.values(), strict=True):
            print(
                f"{exact['lam']:<22g}{exact['bias']:>10.1e}{exact['variance']:>10.3f}"
                f"{exact['gradient variance']:>10.3f}"
                f"{wrong['bias']:>10.3f}{wrong['tilt']:>10.3f}{wrong['variance']:>10.3f}"
                f"{wrong['gradient bias']:>11.1e}{wrong['gradient variance']:>10.3f}"
            )


def place_for(out: str) -> Path:
    """The path of the figure, its folder made: before the work, not after it."""
    path = Path(out)
    try:
        if not path.name or path.is_dir():
            raise InputError(f"--out {out}: wanted the name of a file")
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(
            f"--out {out}: no folder can be made there ({error.strerror or error})"
        ) from error
    return path


@command
def main(arguments: Sequence[str] | None = None) -> int:
    """The command; returns its exit status."""
    parser = Parser(
        prog="python -m minippo.exact",
        description="Exact bias and variance of every stage of the derivation, in a world where "
        "all responses can be listed.",
    )
    parser.add_argument(
        "--seed",
        type=int,
        default=0,
        help="of rewards, policy and wrong critic (default: %(default)s)",
    )
    parser.add_argument(
        "--out",
        default="runs/exact/ladder.png",
        metavar="FILE.png",
        help="the figure (default: %(default)s)",
    )
    options = parser.parse_args(arguments)
    if not 0 <= options.seed < 2**31:
        raise InputError(f"--seed: wanted a whole number from 0 to {2**31 - 1}, got {options.seed}")
    path = place_for(options.out)
    torch.set_num_threads(1)  # tensors of a few numbers: more threads only wait for each other
    check_drawing()
    gradients, sizes = gradient_table(options.seed)
    print_gradients(gradients, sizes)
    print()
    advantages = advantage_table(options.seed)
    print_advantages(advantages)
    picture = io.BytesIO()
    ladder_figure(gradients, advantages).savefig(picture, format="png")
    try:
        write_bytes_whole(path, picture.getvalue())
    except OSError as error:
        raise InputError(f"--out {options.out}: {error.strerror or error}") from error
    print(f"\nfigure: {path}")
    return 0
