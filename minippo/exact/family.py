"""What each of PPO's relatives does, exactly: python -m minippo.exact.family

One prompt, three tokens, at most three steps: 15 responses with random scores, and a policy that
is a table. Groups of 4 responses, all 3,060 of them. The columns are explained in docs/family.md.
"""

import io
import json
import sys
from collections.abc import Sequence
from typing import Any

import torch

from minippo.commands.wrapper import Parser, command
from minippo.errors import InputError
from minippo.exact.family_figure import family_figure
from minippo.exact.groups import make_problem
from minippo.exact.long_responses import (
    CRITIC_LAMS,
    LAM,
    LENGTH,
    critic_rows,
    without_a_critic_rows,
)
from minippo.exact.methods import METHODS
from minippo.exact.rare import HIGHS, TRAININGS, search_rows, token_rows
from minippo.exact.relatives import (
    SIZES,
    Ends,
    difficulty_rows,
    direct_rows,
    placement_rows,
    step_row,
)
from minippo.exact.samplers import WEIGHTS, best_of_n_frontier, sampler_rows
from minippo.exact.tables import place_for
from minippo.runs.figures.style import check_drawing
from minippo.runs.files import write_bytes_whole

SEED = 9  # there the best response has two tokens, and right and wrong ones have several lengths
KL_NAMES = {"reward": "k1, reward", "k3": "k3, loss", "none": "none"}


def family_table(seed: int) -> dict[str, Any]:
    """{"steps", "ends", "pairs and choice" and so on}, each a list of rows."""
    problem = make_problem(seed)
    ends = Ends(problem, seed)
    return {
        "seed": seed,
        "kl_coef": problem.kl_coef,
        "steps": [step_row(problem, method, seed) for method in METHODS],
        "ends": [
            {
                "name": method.name,
                "published": ends.of(method, method.kl),
                "k1": ends.of(method, "reward"),
            }
            for method in METHODS
        ],
        "pairs and choice": direct_rows(problem),
        "difficulty": difficulty_rows(),
        "place of the KL": placement_rows(),
        "samplers": sampler_rows(problem),
        "best of n": best_of_n_frontier(problem),
        "rare tokens": token_rows(),
        "rare responses": search_rows(),
        "long responses": without_a_critic_rows(),
        "critics": critic_rows(),
    }


def number(value: float | None, width: int = 9, rounding: float = 1e-6) -> str:
    """A number in a column: nothing that is 0 but for rounding, "-" where there is none."""
    if value is None:
        return f"{'-':>{width}}"
    if abs(value) < rounding:
        return f"{0:>{width}}"
    return f"{value:>{width}.2f}" if abs(value) >= 0.1 else f"{value:>{width}.1g}"


def print_steps(rows: list[dict[str, Any]]) -> None:
    print("The step. bias: what is not along the right gradient, over what is; variance of one")
    print("response; at KL 0.05: the bias when the policy has moved, without clip and with it.")
    print()
    print(f"{'':18}{'':12}{'as published':^27}{'k1 in the reward':^18}{'at KL 0.05':^18}")
    names = ("bias", "cosine", "variance", "bias", "variance", "no clip", "clip")
    print(f"{'method':18}{'KL':12}" + "".join(f"{name:>9}" for name in names))
    for row in rows:
        published, k1, stale = row["published"], row["k1"], row["stale"] or {}
        numbers = [published[name] for name in names[:3]]
        numbers += [k1["bias"], k1["variance"], stale.get("free"), stale.get("clipped")]
        print(f"{row['name']:18}{KL_NAMES[row['kl']]:12}" + "".join(map(number, numbers)))


def end_text(end: dict[str, Any]) -> str:
    """A kind of end, its distance to pi* and its share of the best objective."""
    kind = end["kind"]
    if end.get("response") is not None:
        kind = "the best one" if end["is the best"] else f"one: {end['response']}"
    return f"{kind:15}{number(end['total variation'])}{number(end['share'])}"


def print_ends(rows: list[dict[str, Any]]) -> None:
    print("Where it ends. TV: total variation to pi*; share: of what the objective can gain.")
    print("same: the same end from three other starts, in both cases.")
    print()
    print(f"{'':18}{'as published':<35}{'k1 in the reward':<33}")
    print(f"{'method':18}" + f"{'end':15}{'TV':>9}{'share':>9}  " * 2 + "same")
    for row in rows:
        same = all(row[column]["same from other starts"] for column in ("published", "k1"))
        texts = "".join(f"{end_text(row[column])}  " for column in ("published", "k1"))
        print(f"{row['name']:18}{texts}{'yes' if same else 'no'}")


def print_favours(rows: list[dict[str, Any]]) -> None:
    print("Whom it favours. weight of a token at length 2 and 3, over that at length 1; tokens by")
    print("which right and wrong responses grow, per unit of the probability of being right.")
    print()
    print(f"{'':18}{'weight':^18}{'growth':^18}")
    names = ("l = 2", "l = 3", "right", "wrong")
    print(f"{'method':18}" + "".join(f"{name:>9}" for name in names) + "   beside the policy")
    for row in rows:
        slopes = row["length slopes"]
        numbers = [*row["length weights"][1:], slopes["right"], slopes["wrong"]]
        beside = "critic" if row["critic"] else "nothing"
        print(f"{row['name']:18}" + "".join(map(number, numbers)) + f"   {beside}")


def print_rest(table: dict[str, Any]) -> None:
    print("Pairs and choice, from the reference's responses, as many as there can be.")
    print()
    print(f"{'method':30}{'end':15}{'TV':>9}{'share':>9}")
    for row in table["pairs and choice"]:
        print(f"{row['name']:30}{end_text(row)}")
    print()
    print("Difficulty. How much of the gradient is kept at a probability of being right of 0.01,")
    print("over that at 0.5, in groups of")
    print()
    print(f"{'advantage':30}" + "".join(f"{size:>9}" for size in SIZES))
    for row in table["difficulty"]:
        print(f"{row['name']:30}" + "".join(number(row[str(size)]) for size in SIZES))
    print()
    print("The place of the KL. The share of what the objective can gain, in five worlds.")
    print()
    for row in table["place of the KL"]:
        print(f"{row['name']:30}" + "".join(map(number, row["shares"])))


def print_samplers(rows: list[dict[str, Any]]) -> None:
    print("Samples of another policy. The bias of a step on them, by the weights that they get;")
    print("KL: sampler to learner, in nats per response.")
    print()
    print(f"{'sampler':20}{'KL':>9}" + "".join(f"{name:>21}" for name in WEIGHTS))
    for row in rows:
        biases = "".join(number(row[name], 21) for name in WEIGHTS)
        print(f"{row['name']:20}{number(row['kl'], rounding=1e-12)}{biases}")


def print_best_of_n(rows: list[dict[str, float]]) -> None:
    print("The best of n of the reference, beside the most that a policy of the same KL can score.")
    print()
    print(f"{'n':20}{'KL':>9}{'bound':>9}{'score':>9}{'most':>9}")
    for row in rows:
        numbers = (row[name] for name in ("kl", "bound", "score", "frontier"))
        print(f"{row['n']:<20}" + "".join(map(number, numbers)))


def print_rare(tokens: list[dict[str, Any]], responses: list[dict[str, Any]]) -> None:
    print("A rare token that is good. The probability at which its gradient ends in one update, by")
    print("its probability before and the upper range of the clip; -: nowhere.")
    print()
    print(f"{'probability':20}" + "".join(f"{high:>9g}" for high in HIGHS))
    for row in tokens:
        ends = (row[f"{high:g}"] for high in HIGHS)
        cells = "".join(f"{end:>9.4f}" if end else number(end) for end in ends)
        print(f"{row['probability']:<20g}{cells}")
    print()
    print(f"A rare response that is the best. The share of {TRAININGS.seeds} trainings where it is")
    print("drawn at all, and where it ends above 1/2; se: the standard error of that share.")
    print()
    print(f"{'upper range':20}{'drawn':>9}{'kept':>9}{'se':>9}")
    for row in responses:
        numbers = (row[name] for name in ("found", "kept", "standard error"))
        print(f"{row['cliprange_high']:20}" + "".join(map(number, numbers)))


def print_long(lengths: list[dict[str, float]], critics: list[dict[str, Any]]) -> None:
    print(f"Long responses. lam {LAM:g} for the policy; the share of a score that arrives at the")
    print("first token, which decides it, where the critic says 0 everywhere.")
    print()
    print(f"{'tokens':20}" + "".join(f"{row['length']:>9}" for row in lengths))
    print(f"{'share':20}" + "".join(number(row["share"]) for row in lengths))
    print()
    print(f"The same for {LENGTH} tokens and a critic that was fitted to its targets, exactly, so")
    print("many times; and how much of the variance of targets and of returns it explains.")
    print()
    print(f"{'lam of the targets':20}" + "".join(f"{lam:^27g}" for lam in CRITIC_LAMS).rstrip())
    names = ("share", "targets", "returns")
    print(f"{'fits':20}" + "".join(f"{name:>9}" for name in names) * len(CRITIC_LAMS))
    for row in critics:
        numbers = (row[f"{lam:g}"][name] for lam in CRITIC_LAMS for name in names)
        print(f"{row['fits']:<20}" + "".join(map(number, numbers)))


@command
def main(arguments: Sequence[str] | None = None) -> int:
    """The command; returns its exit status."""
    parser = Parser(prog="python -m minippo.exact.family", description=__doc__)
    parser.add_argument(
        "--seed", type=int, default=SEED, help="of scores, reference and policy (%(default)s)"
    )
    parser.add_argument(
        "--out",
        metavar="FILE.png",
        help="the figure; the numbers go beside it, to FILE.json (default: no file)",
    )
    options = parser.parse_args(arguments)
    if not 0 <= options.seed < 2**31:
        raise InputError(f"--seed: wanted a whole number from 0 to {2**31 - 1}, got {options.seed}")
    path = None if options.out is None else place_for(options.out)
    torch.set_num_threads(1)  # tensors of a few numbers: more threads only wait for each other
    if path is not None:
        check_drawing()
    table = family_table(options.seed)
    for part, show in (("steps", print_steps), ("ends", print_ends), ("steps", print_favours)):
        show(table[part])
        print()
    print_rest(table)
    print()
    print_samplers(table["samplers"])
    print()
    print_best_of_n(table["best of n"])
    print()
    print_rare(table["rare tokens"], table["rare responses"])
    print()
    print_long(table["long responses"], table["critics"])
    if path is not None:
        picture = io.BytesIO()
        family_figure(table).savefig(picture, format="png")
        numbers = json.dumps(table, indent=1).encode()
        try:
            write_bytes_whole(path, picture.getvalue())
            write_bytes_whole(path.with_suffix(".json"), numbers)
        except OSError as error:
            raise InputError(f"--out {options.out}: {error.strerror or error}") from error
        print(f"\nfigure: {path}, numbers: {path.with_suffix('.json')}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
