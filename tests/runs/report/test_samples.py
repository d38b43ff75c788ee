"""What was answered, in tables."""

from minippo.runs.report.samples import answer, means, means_at, over_time, samples_table
from tests.made_runs import HOSTILE, moment, sample


def test_before_and_after_of_one_run():
    text = samples_table([("", [sample("x"), sample(HOSTILE)])])
    assert text.count("<tr>") == 3 and "<img" not in text
    assert '<td data-column="before"><span class="text">was x</span>' in text
    assert 'gold <span data-gold="2">2.00</span>, score <span data-score="1.5">1.50</span>' in text
    assert samples_table([("", [])]) == ""


def test_several_runs_answer_beside_each_other():
    other = sample("x", 1) | {"after": "else"}
    text = samples_table([("A", [sample("x", 0), sample("x", 1)]), ("B", [other])])
    rows = text.split("<tr>")[2:]
    assert len(rows) == 2 and "else" in rows[1] and "else" not in rows[0]
    assert '<td data-column="B"></td>' in rows[0]


def test_that_nothing_was_answered_is_said():
    assert "<i>(nothing)</i>" in answer("", None, None)
    assert "<i>(blanks)</i>" in answer(" \n", None, None)
    assert answer("a", None, 0.5).endswith('score <span data-score="0.5">0.50</span></small>')


ROWS = [moment(0, "p"), moment(2, "p"), moment(0, HOSTILE), moment(2, HOSTILE) | {"response": ""}]


def test_every_prompt_at_every_moment_is_in_the_page():
    text = over_time(ROWS)
    assert text.count('class="prompt"') == 2 and text.count("<tr data-update=") == 4
    assert "<img" not in text and "say p 2" in text and over_time([]) == ""
    assert 'max="1"' in text


def test_means_over_the_prompts():
    rows = [moment(2, "a"), moment(2, "b") | {"gold": None, "score": 1.5, "kl": 0.75}]
    assert means(rows, 2) == ["1.00", "1.00", "0.50"]  # gold of one; (0.5 + 1.5)/2; (0.25 + 0.75)/2
    assert means_at(rows, 2) == "2, mean gold 1.00, score 1.00, KL 0.50"
    without = [row | {"gold": None} for row in rows]
    assert means_at(without, 2) == "2, mean score 1.00, KL 0.50"
    assert ">gold</th>" in over_time(rows) and ">gold</th>" not in over_time(without)
    assert ">1</td></tr>" in over_time(ROWS)  # one answer of update 2 is empty
