"""The run folder: which folders are taken and refused, and what is in them when something fails."""

import errno
import json
import os
import sys

import pytest
import torch
from torch import nn

from minippo.errors import InputError, TrainingError
from minippo.gpt import GPT, GPTConfig
from minippo.runs import files
from minippo.runs.folder import RunFolder
from tests.helpers import load_checkpoint

NO_SPACE = OSError(28, "No space left on device")


def fail(*_, **__):
    raise NO_SPACE


def create(out=None, **options):
    return RunFolder.create(out, default_name="tldr-ppo-quick-0", **options)


class TestRecords:
    def test_everything_lands_where_it_is_looked_for(self, tmp_path):
        run = create(tmp_path)
        run.save_config({"seed": 0})
        run.append_metrics({"update": 1, "objective/kl": float("nan")})
        run.append_metrics({"update": 2, "objective/kl": 0.5})
        run.save_samples([{"prompt": "a"}, {"prompt": "b"}])
        run.save_summary({"task": "tldr"})
        assert sorted(os.listdir(tmp_path)) == [
            "config.json",
            "metrics.jsonl",
            "samples.jsonl",
            "summary.json",
        ]
        assert json.loads((tmp_path / "config.json").read_text()) == {"seed": 0}
        assert json.loads((tmp_path / "summary.json").read_text()) == {"task": "tldr"}
        rows = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
        assert rows == [{"update": 1, "objective/kl": None}, {"update": 2, "objective/kl": 0.5}]
        assert len((tmp_path / "samples.jsonl").read_text().splitlines()) == 2

    def test_a_run_taken_up_again_keeps_its_metrics(self, tmp_path):
        create(tmp_path).append_metrics({"update": 1})
        create(tmp_path, resume=True).append_metrics({"update": 2})
        assert (tmp_path / "metrics.jsonl").read_text() == '{"update": 1}\n{"update": 2}\n'

    def test_broken_metrics_are_named_by_file_and_line(self, tmp_path):
        (tmp_path / "metrics.jsonl").write_bytes(b'{"update": 1}\n{"upd\xff')
        with pytest.raises(InputError, match=r"metrics.jsonl, line 2: not JSON"):
            create(tmp_path, resume=True)

    def test_a_disk_that_fills_is_one_line_and_the_old_file_stays(self, tmp_path, monkeypatch):
        run = create(tmp_path)
        run.append_metrics({"update": 1})
        monkeypatch.setattr(files.os, "fsync", fail)
        with pytest.raises(
            TrainingError, match=r"^cannot write .*metrics.jsonl: No space left on device$"
        ):
            run.append_metrics({"update": 2})
        for save in (run.save_config, run.save_summary):
            with pytest.raises(TrainingError, match="No space left"):
                save({})
        assert os.listdir(tmp_path) == ["metrics.jsonl"]
        assert (tmp_path / "metrics.jsonl").read_text() == '{"update": 1}\n'

    def test_a_figure_is_a_png_or_nothing(self, tmp_path, monkeypatch):
        from minippo.runs.figures import response_lengths

        run, figure = create(tmp_path), response_lengths([1, 2], [2, 2], 2)
        path = run.save_figure("lengths", figure)
        assert path == tmp_path / "figures" / "lengths.png" and path.read_bytes().startswith(
            b"\x89PNG"
        )
        monkeypatch.setattr(files.os, "replace", fail)
        with pytest.raises(TrainingError, match="cannot write .*other.png"):
            run.save_figure("other", figure)
        assert os.listdir(tmp_path / "figures") == ["lengths.png"]


class TiedModel(nn.Module):
    def __init__(self):
        super().__init__()
        self.wte = nn.Embedding(5, 3)
        self.head = nn.Linear(3, 5, bias=False)
        self.head.weight = self.wte.weight
        self.register_buffer("turned", torch.arange(6.0).view(2, 3).T)  # not contiguous
        # a view of another tensor's memory
        self.register_buffer("part", self.turned[:, :1])
        # no dimension, as the reward model has
        self.register_buffer("center", torch.tensor(0.5))


def save(run, model, stage="sft", **options):
    return run.save_checkpoint(
        stage, model, model_config={"n_layer": 1}, tokenizer={"kind": "bytes"}, **options
    )


class TestCheckpoints:
    @pytest.fixture
    def gpt(self):
        config = GPTConfig(vocab_size=7, context_length=4, n_layer=1, n_head=2, n_embd=4)
        return GPT(config, generator=torch.Generator().manual_seed(0))

    def test_models_come_back_bit_for_bit(self, tmp_path, gpt):
        for stage, model in (("sft", gpt), ("tied", TiedModel())):
            tensors, config, tokenizer = load_checkpoint(
                save(create(tmp_path / stage), model, stage)
            )
            assert config == {"n_layer": 1} and tokenizer == {"kind": "bytes"}
            state = model.state_dict()
            assert set(tensors) == set(state) and all(
                torch.equal(tensors[name], state[name]) for name in state
            )
            model.load_state_dict(tensors, strict=True)

    def test_a_tied_tensor_is_written_once(self, tmp_path):
        from safetensors import safe_open

        path = save(create(tmp_path), TiedModel())
        with safe_open(path / "model.safetensors", framework="pt") as file:
            assert sorted(file.keys()) == ["center", "part", "turned", "wte.weight"]

    def test_the_files_of_a_checkpoint(self, tmp_path, gpt):
        run = create(tmp_path)
        plain = save(run, gpt)
        more = save(run, gpt, "policy", info={"seconds": {"sft": 3}})
        assert sorted(os.listdir(plain)) == [
            "config.json",
            "model.safetensors",
            "sha256.json",
            "tokenizer.json",
        ]
        assert sorted(os.listdir(more)) == [
            "config.json",
            "info.json",
            "model.safetensors",
            "sha256.json",
            "tokenizer.json",
        ]
        assert run.whole_checkpoint("policy") == (
            more,
            {"seconds": {"sft": 3}},
        ) and run.whole_checkpoint("no") == (None, None)
        assert sorted(os.listdir(tmp_path / "checkpoints")) == ["policy", "sft"]

    def test_saving_again_replaces(self, tmp_path, gpt):
        run = create(tmp_path)
        save(run, gpt)
        with torch.no_grad():
            gpt.wte.weight.zero_()
        assert not load_checkpoint(save(run, gpt))[0]["wte.weight"].any()
        assert os.listdir(tmp_path / "checkpoints") == ["sft"]

    @pytest.mark.parametrize("call", range(1, 7))
    def test_whichever_rename_fails_the_old_checkpoint_stays_whole(
        self, tmp_path, gpt, monkeypatch, call
    ):
        # six renames: four files inside the temporary folder, the old folder aside, the new one
        # into its place
        run = create(tmp_path)
        before = load_checkpoint(save(run, gpt))[0]
        replace, count = os.replace, [0]

        def fail_once(a, b):
            count[0] += 1
            if count[0] == call:
                raise NO_SPACE
            replace(a, b)

        monkeypatch.setattr(files.os, "replace", fail_once)
        with pytest.raises(TrainingError, match=r"cannot write .*sft: No space left on device"):
            save(run, nn.Linear(2, 2))
        assert count[0] == call
        assert load_checkpoint(tmp_path / "checkpoints" / "sft")[0].keys() == before.keys()
        assert os.listdir(tmp_path / "checkpoints") == ["sft"]

    def test_a_first_checkpoint_that_fails_leaves_none(self, tmp_path, gpt, monkeypatch):
        monkeypatch.setattr(files.os, "fsync", fail)
        with pytest.raises(TrainingError):
            save(create(tmp_path), gpt)
        assert os.listdir(tmp_path / "checkpoints") == []

    def test_bad_checkpoints_are_named(self, tmp_path, gpt):
        path = save(create(tmp_path), gpt)
        (path / "tokenizer.json").write_text("{")
        with pytest.raises(InputError, match="tokenizer.json: not JSON"):
            load_checkpoint(path)
        (path / "tokenizer.json").write_text("{}")
        (path / "model.safetensors").write_bytes(b"\x80\x04pickle?")
        with pytest.raises(InputError, match="model.safetensors: not a checkpoint"):
            load_checkpoint(path)
        (path / "model.safetensors").unlink()
        with pytest.raises(InputError, match="model.safetensors: No such file"):
            load_checkpoint(path)


class TestStates:
    def test_the_last_two_are_kept_and_read_newest_first(self, tmp_path):
        run = create(tmp_path)
        for update in range(1, 11):
            run.append_metrics({"update": update, "objective/scores": 0.0, "objective/kl": 0})
            if update in (1, 2, 10):
                run.save_state(update, {"x": torch.tensor([float(update)])}, {"update": update})
        assert [update for update, _ in run.states()] == [10, 2]
        tensors, numbers = run.states()[0][1]()
        assert numbers == {"update": 10} and torch.equal(tensors["x"], torch.tensor([10.0]))

    @pytest.mark.parametrize("name", ["tensors.safetensors", "numbers.json"])
    def test_a_changed_file_is_named(self, tmp_path, name):
        run = create(tmp_path)
        run.save_state(3, {"x": torch.zeros(1)}, {})
        path = tmp_path / "checkpoints" / "update-0000003" / name
        path.write_bytes(path.read_bytes() + b" ")
        with pytest.raises(InputError, match=f"{name}: is not as it was written"):
            run.states()[0][1]()

    @pytest.mark.parametrize(
        "seal",
        [
            b"[",
            b"[1]",
            b"[" * 50_000,
            b'{"../../passwd": "0"}',
            b'{"a": {}}',
            b"1" * 200_000,
            b"\xff",
        ],
    )
    def test_a_hostile_seal_is_refused(self, tmp_path, seal):
        run = create(tmp_path)
        run.save_state(3, {"x": torch.zeros(1)}, {})
        (tmp_path / "checkpoints" / "update-0000003" / "sha256.json").write_bytes(seal)
        with pytest.raises(InputError):
            run.states()[0][1]()

    def test_states_of_later_updates_go_when_an_earlier_one_is_made_again(self, tmp_path):
        run = create(tmp_path)
        for update in (4, 6, 2):
            run.save_state(update, {"x": torch.zeros(1)}, {})
        assert [update for update, _ in run.states()] == [2]

    @pytest.mark.parametrize(
        "rows",
        [
            [],
            [{"update": 1}],
            [{"update": 2}, {"update": 1}],
            [{"update": 1}, {"update": 1}],
            [{"update": 1}, {"update": 2, "objective/scores": None}],
            [{"update": 1, "objective/kl": "0"}, {"update": 2}],
        ],
    )
    def test_a_state_without_the_metrics_before_it_is_of_no_use(self, tmp_path, rows):
        run = create(tmp_path)
        run.save_state(2, {"x": torch.zeros(1)}, {})
        for row in rows:
            run.append_metrics({"objective/scores": 0.0, "objective/kl": 0.0} | row)
        with pytest.raises(
            InputError,
            match=r"metrics\.jsonl: (has not one row for each update up to 2|no number objective)",
        ):
            run.states()[0][1]()

    def test_no_states_where_there_are_none(self, tmp_path):
        assert create(tmp_path).states() == []


class TestLock:
    def test_a_second_lock_is_refused_and_goes_with_its_holder(self, tmp_path):
        with create(tmp_path).lock() as is_locked:
            assert is_locked
            with (
                pytest.raises(InputError, match="another process is at work in this folder"),
                create(tmp_path).lock(),
            ):
                pass
        with create(tmp_path).lock() as is_locked:
            assert is_locked

    @pytest.mark.parametrize("number", [errno.ENOLCK, errno.EOPNOTSUPP, errno.ENOSYS, errno.EIO])
    def test_a_file_system_without_locks_does_without(self, tmp_path, monkeypatch, number):
        def flock(*_):
            raise OSError(number, os.strerror(number))

        monkeypatch.setattr("fcntl.flock", flock)
        with create(tmp_path).lock() as is_locked:
            assert not is_locked

    def test_a_system_without_locks_does_without(self, tmp_path, monkeypatch):
        monkeypatch.setitem(sys.modules, "fcntl", None)
        with create(tmp_path).lock() as is_locked:
            assert not is_locked
