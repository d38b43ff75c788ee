"""How good a training was on the way, and at its end."""

from minippo.stages.course import course_of


def rows(scores, golds):
    return [
        {"objective/scores": score, "objective/gold": gold}
        for score, gold in zip(scores, golds, strict=True)
    ]


def test_the_mean_is_of_all_updates_and_the_end_of_the_last_tenth():
    scores = [float(i) for i in range(20)]  # the last tenth: 18 and 19
    found = course_of(rows(scores, [2 * score for score in scores]))
    assert found["score"] == {"mean": 9.5, "end": 18.5}
    assert found["gold"] == {"mean": 19.0, "end": 37.0}


def test_of_a_short_training_the_last_update_is_the_end():
    assert course_of(rows([1.0, 4.0], [0.0, 1.0]))["score"] == {"mean": 2.5, "end": 4.0}


def test_without_a_rule_there_is_no_gold():
    found = course_of(rows([1.0, 2.0], [None, None]))
    assert found["gold"] is None and found["score"] is not None
    assert course_of(rows([1.0, 2.0], [None, 3.0]))["gold"] is None
    assert course_of([]) == {"score": None, "gold": None}
