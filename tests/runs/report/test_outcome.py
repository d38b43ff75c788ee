"""What a run came to, as HTML."""

from minippo.runs.report import outcome
from minippo.runs.report.read import AT_WORK
from tests.made_runs import HACKED, HOSTILE, made_files, row, summary


def test_the_three_sentences_and_what_they_rest_on(tmp_path):
    files = made_files(tmp_path / "run")._replace(findings=())
    found = dict(files.summary or {}) | {"diagnostics": []}
    text = outcome.cards(files._replace(summary=found))
    first, second, third = text.split("<li")[1:]
    assert "<b>Gold 1.00 \u2192 2.00 of 3.</b>" in first and "8 answers before" in first
    assert "<b>Wins 75 %.</b>" in second and "50 % to 88 %" in second
    assert "<b>94 % of what the reward model allows.</b>" in third
    assert "objective 1.438 of 1.500 possible at 0.05 per nat of KL; KL 1.25 nats" in third


def test_a_hacked_run_is_called_so_first(tmp_path):
    text = outcome.cards(made_files(tmp_path / "run"))
    assert text.split("<li")[1].startswith(' class="hacked"><b>Hacked: gold 1.00')


def test_a_rule_that_scores_is_no_rule_that_the_training_never_sees(tmp_path):
    files = made_files(tmp_path / "run")
    rule = files._replace(summary=dict(files.summary or {}) | {"reward_model": None})
    assert "never sees" in outcome.cards(files) and "never sees" not in outcome.cards(rule)


def test_an_optimality_that_is_at_most_is_so_beside_others_too(tmp_path):
    files = made_files(tmp_path / "run")
    known = dict(files.summary or {}) | {"optimality": 0.5}
    few, many = (
        known | {"optimum": known["optimum"] | {"effective_sample_size": n}} for n in (49, 50)
    )
    both = [files._replace(summary=found) for found in (few, many)]
    text = outcome.outcomes(both, ["A ", "B "])
    assert "at most 0.500" in text and text.count("at most") == 1 and ">0.500<" in text


def test_a_run_that_is_not_over_says_so(tmp_path):
    files = made_files(tmp_path / "run", updates=2, finished=False)
    assert "update 2 of 6. It was stopped; train_toy --resume" in outcome.banner(files)
    assert "It is going on" in outcome.banner(files._replace(state=AT_WORK))
    text = outcome.cards(files)
    assert "<b>Gold 1.12 \u2192 2.12 so far.</b>" in text  # 1 + 1/8 and 2 + 1/8
    assert "no update of the policy yet" in outcome.banner(files._replace(rows=[]))
    assert "Nothing is known" in outcome.cards(files._replace(rows=[]))
    assert outcome.banner(made_files(tmp_path / "other")) == ""


def test_what_is_not_known_of_a_rollout_is_left_out():
    assert outcome.so_far([row(1) | {"objective/gold": None}, row(2)]) == [
        "score 1.00 -> 2.00 so far",
        "KL 1.25 -> 2.25 so far",
    ]


def test_what_the_diagnostics_say(tmp_path):
    files = made_files(tmp_path / "run", HOSTILE)
    text = outcome.diagnostics([files], [""])
    assert "<b>P011 gold-falls</b>, update 6: &lt;/script&gt;" in text
    for code in range(1, 15):
        assert text.count(f">P{code:03}<") == 1
    assert "Responses end" in text and "a run in which they are one is refused" in text
    assert "Nothing found in 6 updates" in outcome.diagnostics([files._replace(findings=())], [""])


def test_the_settings_of_one_run_and_where_two_differ(tmp_path):
    files = made_files(tmp_path / "a", kl_coef=0.25)
    text = outcome.configuration([files], [""])
    assert '<td data-column="value">0.25</td>' in text and "<h3>ppo</h3>" in text
    other = made_files(tmp_path / "b", kl_coef=0.5, threads=1)
    text = outcome.configuration([files, other], ["A ", "B "])
    assert text.count("<tr>") == 2 and '<td data-column="B">0.5</td>' in text
    assert "The settings are the same" in outcome.configuration([files, files], ["A ", "B "])


def test_the_numbers_of_several_runs(tmp_path):
    done, stopped = (made_files(tmp_path / str(n), finished=n == 0) for n in range(2))
    text = outcome.outcomes([done, stopped], ["A ", "B "])
    assert '<td data-column="">win rate</td><td data-column="A">0.750</td>' in text
    assert '<td data-column="B">\u2013</td>' in text
    assert outcome.outcomes([stopped], ["A "]) == ""


def test_the_seconds_with_a_bar_for_each_share(tmp_path):
    files = made_files(tmp_path / "run", HOSTILE)
    text = outcome.seconds([files], [""])
    assert '3.0 <svg class="bar"' in text and '<rect width="75.0"' in text  # 3 of 4 seconds
    assert "<img" not in text
    assert outcome.seconds([files._replace(summary=None)], [""]) == ""


def test_the_codes_are_those_of_a_summary():
    assert HACKED["code"] in {row["code"] for row in summary()["diagnostics"]}
