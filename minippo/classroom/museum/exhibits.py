"""The recorded trainings: a healthy one, and one of each bug, as dashboards without names."""

from __future__ import annotations

import json
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from random import Random
from string import ascii_uppercase
from typing import TYPE_CHECKING, Any

from minippo.classroom.museum.bugs import BUGS, Bug
from minippo.runs.diagnostics import Finding
from minippo.runs.figures.style import BLUE, DARK, DPI

if TYPE_CHECKING:
    from matplotlib.figure import Figure

DATA = Path(__file__).parent / "data"
HEALTHY = "healthy"
# how each of them was trained: a small world, a temperature that is not 1, 24 updates
FLAGS = shlex.split("""
    --preset quick --threads 1 --temperature 0.7 --num_updates 24 --batch_size 64
    --eval_prompts 60 --optimum_prompts 4 --optimum_draws 16
""")
PANELS = (  # metric, what it is called
    ("objective/scores", "score"),
    ("objective/gold", "gold"),
    ("objective/kl", "KL, nats per response"),
    ("policy/entropy_avg", "entropy, nats per token"),
    ("policy/clipfrac_avg", "share of tokens clipped"),
    ("val/ratio_max_deviation_first", "first ratios: max |ratio - 1|"),
    ("loss/value_avg", "value loss"),
    ("val/explained_variance_returns", "explained variance of returns"),
    ("val/eos_rate", "share of responses that end"),
)
KEPT = ("update", *(metric for metric, _ in PANELS))


@dataclass(frozen=True)
class Exhibit:
    """One recorded training."""

    metrics: Sequence[Mapping[str, Any]]  # a row per update, the KEPT columns
    findings: Sequence[Finding]  # what the diagnostics said
    accuracy: float  # of the reward model on held-out pairs


def record(run: str | Path, target: str | Path) -> None:
    """Keep of a finished run what an Exhibit holds."""
    run = Path(run)
    lines = (run / "metrics.jsonl").read_text(encoding="utf-8").splitlines()
    summary = json.loads((run / "summary.json").read_text(encoding="utf-8"))
    kept = {
        "metrics": [{name: rounded(json.loads(line).get(name)) for name in KEPT} for line in lines],
        "findings": summary["diagnostics"],
        "accuracy": rounded(summary["reward_model"]["heldout_accuracy"]),
    }
    Path(target).write_text(json.dumps(kept) + "\n", encoding="utf-8")


def rounded(value: Any) -> Any:
    """Five digits are enough to look at."""
    return float(f"{value:.5g}") if isinstance(value, float) else value


def file_of(name: str) -> Path:
    """Where the training of a bug, or the healthy one, is recorded. The names of the files tell
    nothing."""
    if name == HEALTHY:
        return DATA / "healthy.json"
    return DATA / f"{[bug.name for bug in BUGS].index(name) + 1:02}.json"


def exhibit(name: str) -> Exhibit:
    """The recorded training of the bug of that name, or the healthy one."""
    kept = json.loads(file_of(name).read_text(encoding="utf-8"))
    findings = [Finding(**finding) for finding in kept["findings"]]
    return Exhibit(kept["metrics"], findings, kept["accuracy"])


def letters(seed: int = 0) -> dict[str, Bug]:
    """{letter: bug}, in an order that follows from the seed: a class may have another each year."""
    order = list(BUGS)
    Random(seed).shuffle(order)
    return dict(zip(ascii_uppercase, order, strict=False))


def dashboard(letter: str, seed: int = 0) -> Figure:
    """The curves of one training (dark), with the healthy one (light, dashed) behind them."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    shown, healthy = exhibit(letters(seed)[letter].name), exhibit(HEALTHY)
    figure = Figure(figsize=(9, 6), dpi=DPI, layout="constrained")
    FigureCanvasAgg(figure)
    grid: Any = figure.subplots(3, 3, sharex=True)
    for axes, (metric, label) in zip(grid.flat, PANELS, strict=True):
        for one, colour, style in ((healthy, BLUE, "--"), (shown, DARK, "-")):
            values = [row[metric] for row in one.metrics]
            axes.plot([row["update"] for row in one.metrics], values, style, color=colour)
        axes.set_title(label, fontsize="medium", loc="left")
        axes.spines[["top", "right"]].set_visible(False)
    for axes in grid[-1]:
        axes.set_xlabel("update")
    accuracies = f"{shown.accuracy:.2f}, healthy {healthy.accuracy:.2f}"
    figure.suptitle(f"{letter} (dashed: a healthy run); reward model's accuracy {accuracies}")
    return figure


def said(letter: str, seed: int = 0) -> list[str]:
    """What the diagnostics said of a training, a line each."""
    findings = exhibit(letters(seed)[letter].name).findings
    return [str(finding) for finding in findings] or ["no diagnostic fired"]
