"""Makes the figures of the docs that stages.py does not: python docs/figures/make.py RUN

RUN is the folder of a finished run (runs/tldr-ppo-default-0), four of whose figures are copied. The
figures of the ladder and of the family come from the enumerable world, and the map of the pipeline
is drawn here.
"""

import shutil
import sys
from pathlib import Path

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt

FOLDER = Path(__file__).resolve().parent
sys.path.insert(0, str(FOLDER.parent.parent))  # from a checkout without an installation

from minippo.exact.family import main as draw_family  # noqa: E402
from minippo.exact.tables import main as draw_ladder  # noqa: E402
from minippo.runs.figures.style import DPI  # noqa: E402

FROM_A_RUN = ("clip_cases", "values_along_response", "score_against_kl", "reward_and_kl")
STAGES = (  # name, what goes in, the module
    ("pretrain", "the task's text", "pretrain"),
    ("fine-tune", "demonstrations", "sft"),
    ("preferences", "two answers, one choice", "preferences"),
    ("reward model", "pairs", "reward"),
    ("PPO", "prompts", "policy"),
)


def pipeline():
    """The map: five stages in a row, and below the last one the loop of an update with the four
    models in it."""
    fig, ax = plt.subplots(figsize=(9, 4.6), dpi=DPI)
    ax.set_xlim(0, 100)
    ax.set_ylim(-4, 52)
    ax.axis("off")
    for i, (name, takes, module) in enumerate(STAGES):
        x = 1 + 20 * i
        box(ax, x, 38, 16, 10, name, f"{module}.py", heavy=i == 4)
        ax.text(x + 8, 50, takes, ha="center", fontsize=8, style="italic")
        if i:
            arrow(ax, (x - 4, 43), (x, 43))
    loop = (
        ("sample", "the policy answers", "rollout"),
        ("score", "reward model, frozen;\nKL to the reference, frozen", "shaped_reward"),
        ("advantages", "the critic's values", "gae"),
        ("update", "clipped, several passes", "ppo"),
    )
    for i, (name, about, module) in enumerate(loop):
        x = 5 + 24 * i
        box(ax, x, 10, 18, 10, name, f"{module}.py")
        ax.text(x + 9, 7.5, about, ha="center", va="top", fontsize=8, style="italic")
        if i:
            arrow(ax, (x - 6, 15), (x, 15))
    arrow(ax, (89, 37.6), (20, 20.5), bend=-0.06)
    ax.text(1, 35.5, "in minippo/stages/", fontsize=8, va="top", family="monospace")
    ax.text(5, 22.5, "in minippo/", fontsize=8, va="bottom", family="monospace")
    ax.text(68, 26, "each update", fontsize=8, ha="center")
    ax.plot([95, 97.5, 97.5, 2, 2, 5], [15, 15, 1, 1, 15, 15], color="black", linewidth=1.2)
    arrow(ax, (3.5, 15), (5, 15))
    ax.text(
        50,
        -0.5,
        "the policy and the critic that the update leaves make the next rollout",
        fontsize=8,
        ha="center",
        va="top",
    )
    return fig


def box(ax, x, y, width, height, name, module, heavy=False):
    ax.add_patch(
        plt.Rectangle(
            (x, y),
            width,
            height,
            facecolor="0.85" if heavy else "white",
            edgecolor="black",
            linewidth=1.5,
        )
    )
    ax.text(x + width / 2, y + 0.62 * height, name, ha="center", va="center", fontsize=11)
    ax.text(
        x + width / 2,
        y + 0.25 * height,
        module,
        ha="center",
        va="center",
        fontsize=8,
        family="monospace",
    )


def arrow(ax, start, end, bend=0.0):
    ax.annotate(
        "",
        end,
        start,
        arrowprops={"arrowstyle": "->", "linewidth": 1.2, "connectionstyle": f"arc3,rad={bend}"},
    )


def main(run):
    pipeline().savefig(FOLDER / "pipeline.png", bbox_inches="tight")
    for name in FROM_A_RUN:
        shutil.copyfile(Path(run) / "figures" / f"{name}.png", FOLDER / f"{name}.png")
    draw_ladder(["--out", str(FOLDER / "ladder.png")])
    draw_family(["--out", str(FOLDER / "family.png")])


if __name__ == "__main__":
    main(sys.argv[1])
