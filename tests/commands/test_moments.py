"""Prompts that are answered on the way, for the report."""

import pytest

from minippo.commands.moments import PROMPTS, WITH_TOKENS, numbers, rounded
from minippo.commands.train import main
from minippo.runs.moments import are_moments
from tests.tiny_runs import STAGES, TIMES, TINY, read_json, read_rows, run

MORE = ("--quiet", "--num_updates", "3", "--report", "--eval_prompts", "30")


@pytest.fixture(scope="module")
def watched(tmp_path_factory):
    return run(tmp_path_factory.mktemp("watched") / "run", *MORE)


def moments_in(folder):
    return read_rows(folder / "samples_over_time.jsonl")


def test_the_same_prompts_are_answered_at_every_moment(watched):
    rows = moments_in(watched)
    assert are_moments(rows)
    for i, update in enumerate((0, 1, 2, 3)):
        own = rows[i * PROMPTS : (i + 1) * PROMPTS]
        assert {row["update"] for row in own} == {update}
        assert [row["prompt"] for row in own] == [row["prompt"] for row in rows[:PROMPTS]]
    assert len(rows) == 4 * PROMPTS and len({row["prompt"] for row in rows}) == PROMPTS
    evaluated = [row["prompt"] for row in read_rows(watched / "samples.jsonl")]
    assert evaluated[:PROMPTS] == [row["prompt"] for row in rows[:PROMPTS]]


def test_before_the_training_the_policy_is_the_fine_tuned_model(watched):
    first = moments_in(watched)[:PROMPTS]
    assert [row["kl"] for row in first] == [0.0] * PROMPTS
    later = moments_in(watched)[PROMPTS:]
    assert all(row["kl"] > 0 for row in later)


def test_the_newest_moment_has_the_numbers_of_its_tokens(watched):
    rows = moments_in(watched)
    with_tokens = [i for i, row in enumerate(rows) if "tokens" in row]
    assert with_tokens == [*range(3 * PROMPTS, 3 * PROMPTS + WITH_TOKENS)]
    for row in rows[3 * PROMPTS :][:WITH_TOKENS]:
        tokens = row["tokens"]
        texts = [token["text"] for token in tokens]
        assert " ".join(t for t in texts if t != "<eos>") == row["response"]
        assert sum(token["kl"] for token in tokens) == pytest.approx(row["kl"], abs=1e-5)
        paid = [-0.05 * (token["after"] - token["before"]) for token in tokens]
        paid[-1] += row["score"]
        assert [token["reward"] for token in tokens] == pytest.approx(paid, abs=1e-4)
        # (4.1) with lambda 0.95: the last advantage is the last reward less the value before it
        last = tokens[-1]
        assert last["advantage"] == pytest.approx(last["reward"] - last["value"], abs=1e-4)


def test_gold_and_score_are_those_of_the_answer(watched):
    from minippo.tasks import Tldr

    for row in moments_in(watched)[-PROMPTS:]:
        assert row["gold"] == pytest.approx(Tldr().gold(row["prompt"], row["response"]), abs=1e-5)


def test_watching_changes_no_bit_of_the_training(watched, tmp_path):
    alone = run(tmp_path / "alone", *MORE, "--no-report")
    for stage in STAGES:
        name = f"checkpoints/{stage}/model.safetensors"
        assert (alone / name).read_bytes() == (watched / name).read_bytes()
    for name in ("samples.jsonl", "metrics.jsonl"):
        one, other = (
            [{k: v for k, v in row.items() if k not in TIMES} for row in read_rows(f / name)]
            for f in (alone, watched)
        )
        assert one == other
    assert not (alone / "samples_over_time.jsonl").exists()
    assert not (alone / "report.html").exists()
    assert (
        read_json(alone / "summary.json")["win_rate"]
        == (read_json(watched / "summary.json")["win_rate"])
    )


@pytest.mark.parametrize("flags", [("--algorithm", "pg"), ("--reward", "rule")])
def test_without_a_critic_or_a_reward_model(flags, tmp_path):
    settings = [word for word in TINY if word not in ("--no-report",)]
    drop = ("--preference", "--reward_") if "--reward" in flags else ()
    kept = [w for i, w in enumerate(settings) if not settings[i - i % 2].startswith(drop or "!")]
    assert main([*kept, *MORE, *flags, "--out", str(tmp_path / "run")]) == 0
    tokens = [t for row in moments_in(tmp_path / "run") for t in row.get("tokens", ())]
    assert all((token["value"] is None) == ("pg" in flags) for token in tokens)
    assert all(token["advantage"] is not None for token in tokens)
    page = (tmp_path / "run" / "report.html").read_text()
    assert ("<b>Explained variance</b>" in page) == ("pg" not in flags)


def test_only_the_last_round_is_watched(tmp_path):
    folder = run(tmp_path / "run", *MORE, "--rounds", "2")
    found = [str(path.relative_to(folder)) for path in folder.rglob("samples_over_time.jsonl")]
    assert found == ["samples_over_time.jsonl"]


def test_a_number_is_kept_with_a_few_digits():
    assert rounded(0.12345678) == 0.123457 and rounded(None) is None
    assert numbers(None, 0, 2) == [None, None]
