"""--tensorboard: off by default, refused with one line where the package is missing, and the same
numbers where it is not."""

import sys

import pytest

from minippo.commands.train import main
from tests.tiny_runs import TINY, read_rows


def test_nothing_is_written_unless_asked(tmp_path):
    assert main([*TINY, "--out", str(tmp_path / "run"), "--quiet"]) == 0
    assert not (tmp_path / "run/tensorboard").exists()


def test_without_the_package_it_is_refused_before_the_training(tmp_path, monkeypatch, capsys):
    for name in [
        name
        for name in sys.modules
        if name.split(".")[0] == "tensorboard" or name == "torch.utils.tensorboard"
    ]:
        monkeypatch.delitem(sys.modules, name)
    # what importing it raises where it is not installed
    monkeypatch.setitem(sys.modules, "tensorboard", None)
    assert main([*TINY, "--tensorboard", "--out", str(tmp_path / "run")]) == 2
    assert capsys.readouterr().err == (
        "error: --tensorboard: the package tensorboard is not installed; pip install tensorboard\n"
    )
    assert not (tmp_path / "run/checkpoints").exists()


@pytest.mark.filterwarnings("ignore")  # the package's own
def test_the_events_are_the_rows_of_metrics_after_a_stop_as_well(tmp_path, monkeypatch):
    reader = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    from minippo.runs.folder import RunFolder

    append = RunFolder.append_metrics

    def stops(self, row):
        append(self, row)
        if row["update"] == 4:
            raise KeyboardInterrupt

    out = tmp_path / "run"
    with monkeypatch.context() as patch:
        patch.setattr(RunFolder, "append_metrics", stops)
        assert (
            main(
                [
                    *TINY,
                    "--num_updates",
                    "5",
                    "--save_every",
                    "2",
                    "--tensorboard",
                    "--out",
                    str(out),
                    "--quiet",
                ]
            )
            == 130
        )
    assert main(["--resume", "--out", str(out), "--quiet"]) == 0
    events = reader.EventAccumulator(str(out / "tensorboard")).Reload()
    rows = read_rows(out / "metrics.jsonl")
    for name in ("objective/scores", "policy/entropy_avg", "val/num_eos_tokens"):
        assert (
            [event.step for event in events.Scalars(name)]
            == [row["update"] for row in rows]
            == [1, 2, 3, 4, 5]
        )
        assert [event.value for event in events.Scalars(name)] == pytest.approx(
            [row[name] for row in rows], rel=1e-5
        )
