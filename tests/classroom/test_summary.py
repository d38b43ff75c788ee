"""What the class did, as a table and as a figure."""

from minippo.classroom.grading import NOTHING_RAN, Graded
from minippo.classroom.judging import Grade
from minippo.classroom.summary import counts, figure, part_of, picture, table, title

NAMES = ("gae", "value_loss")


def graded(student, *grades):
    made = [Grade(name, *grade, "") for name, grade in zip(NAMES, grades)]
    return Graded(student, tuple(made), (), NOTHING_RAN)


CLASS = [
    graded("a", ("ok", ""), ("wrong", "sign")),
    graded("b", ("ok", ""), ("wrong", "sign")),
    graded("c", ("wrong", "mask and sign"), ("error", "")),
    graded("d", ("timeout", ""), ("no result", "")),
]


def test_the_parts_of_a_bar():
    parts = [part_of(grade) for one in CLASS for grade in one.grades]
    known, other, none = ("a known mistake", "wrong in another way, or an error", "no result")
    assert parts == ["right", known, "right", known, known, other, none, none]
    assert counts(CLASS, NAMES)["gae"] == {"right": 2, known: 1, none: 1}


def test_the_table_counts_statuses_and_mistakes():
    text = table(CLASS, NAMES)
    assert "4 students, 2 exercises." in text
    assert "| gae | 2 | 1 | 0 | 1 | 0 | 0 |\n| value_loss | 0 | 2 | 1 | 0 | 0 | 1 |" in text
    assert text.endswith("| 2 | value_loss | sign |\n| 1 | gae | mask and sign |\n")
    assert table(CLASS[3:], NAMES).endswith("None.\n")


def test_the_figure_says_the_same():
    axes = figure(CLASS, NAMES).axes[0]
    assert title(CLASS, NAMES) == "2 of 8 answers of 4 students pass"
    assert [label.get_text() for label in axes.get_yticklabels()] == [*NAMES]
    assert [text.get_text() for text in axes.texts] == ["2", "1", "1", "2", "1", "1"]
    assert axes.get_xlim() == (0, 4)


def test_the_picture_is_a_png():
    assert picture(CLASS, NAMES).startswith(b"\x89PNG")
    assert picture([], NAMES).startswith(b"\x89PNG")
