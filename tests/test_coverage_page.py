"""docs/coverage.md: A1 to A98 have one row each, and what a row names is there."""

import re
from dataclasses import fields

import pytest

from minippo.commands.config import Config
from tests.test_docs import ROOT, TESTS, named_tests, names_of, source_of, words_of

PAGE = ROOT / "docs" / "coverage.md"
NUMBERS = [f"A{i}" for i in range(1, 99)]
NOTHING = "-"
FLAGS = {field.name for section in fields(Config) for field in fields(section.type)}
DONE, PARTLY, EXPLAINED, ABSENT, PLANNED = "yes", "partly", "explained", "no", "planned"


def rows_of_the_list(text):
    """[(number, item, state, where, tests, remark)], of every line of a table that begins with a
    number."""
    cells = [
        tuple(cell.strip() for cell in line.strip().strip("|").split("|"))
        for line in text.splitlines()
        if re.match(r"\| *A\d", line)
    ]
    assert all(len(row) == 6 for row in cells), [row for row in cells if len(row) != 6]
    return cells


def is_there(word):
    """A file of the repository, a setting, or what stands in a module."""
    if word.startswith("--"):
        return word[2:].split(" ")[0].removeprefix("no-") in FLAGS
    if "/" in word:
        return (ROOT / word).exists()
    parts = word.split(".")
    for i in range(len(parts) - 1, 0, -1):
        path = source_of(".".join(parts[:i]))
        if path.is_file():
            return ".".join(parts[i:]) in names_of(path)
    return False


def faults_of(row):
    """What is wrong with a row, in words."""
    number, item, state, where, tests, remark = row
    named = named_tests(tests)
    found = [f"{number}: {word} is not there" for word in words_of(where) if not is_there(word)]
    found += [f"{number}: no test {name}" for name in sorted(named - set(TESTS))]
    if len(words_of(tests)) != len(named):
        found.append(f"{number}: what stands in the column of the tests is no test")
    if not item:
        found.append(f"{number}: no item")
    if state not in (DONE, PARTLY, EXPLAINED, ABSENT, PLANNED):
        found.append(f"{number}: the state {state} is unknown")
    if state in (DONE, PARTLY) and not (named and words_of(where)):
        found.append(f"{number}: {state}, without a place or a test")
    if state == EXPLAINED and "](" not in where:
        found.append(f"{number}: explained where?")
    if (state != DONE or not named) and len(remark) < 20:
        found.append(f"{number}: no reason is given")
    return found


ROWS = rows_of_the_list(PAGE.read_text(encoding="utf-8"))


def test_every_number_has_one_row_in_order():
    assert [row[0] for row in ROWS] == NUMBERS


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row[0])
def test_what_a_row_names_is_there_and_what_is_missing_has_a_reason(row):
    assert faults_of(row) == []


def test_the_page_counts_its_rows():
    counted = {state: sum(row[2] == state for row in ROWS) for state in {row[2] for row in ROWS}}
    said = re.findall(r"^\| (yes|partly|explained|no|planned) \| (\d+) \|", PAGE.read_text(), re.M)
    assert {state: int(number) for state, number in said} == counted


GOOD = (
    "A1",
    "an item",
    DONE,
    "`gae.gae_advantages`, `docs/rlhf.md`, `--kl_coef`, `critic_head.Critic.sharing`",
    "`test_gae::test_gae_by_hand`",
    NOTHING,
)
WRONG = {  # column: what is put there, and what is said of it
    "function": (3, "`gae.gae_advantage`", "gae.gae_advantage is not there"),
    "module": (3, "`gea.gae_advantages`", "gea.gae_advantages is not there"),
    "method": (3, "`critic_head.Critic.shares`", "critic_head.Critic.shares is not there"),
    "file": (3, "`docs/rlfh.md`", "docs/rlfh.md is not there"),
    "setting": (3, "`--kl_coeff`", "--kl_coeff is not there"),
    "test": (4, "`test_gae::test_gae_by_foot`", "no test test_gae::test_gae_by_foot"),
    "no test": (4, "`gae.gae_advantages`", "what stands in the column of the tests is no test"),
    "nothing": (4, NOTHING, "yes, without a place or a test"),
    "state": (2, "nearly", "the state nearly is unknown"),
    "partly": (2, PARTLY, "no reason is given"),
    "planned": (2, PLANNED, "no reason is given"),
    "explained": (2, EXPLAINED, "explained where?"),
    "item": (1, "", "no item"),
}


@pytest.mark.parametrize(("column", "text", "said"), WRONG.values(), ids=WRONG)
def test_a_planted_wrong_name_is_found(column, text, said):
    assert faults_of(GOOD) == []
    wrong = (*GOOD[:column], text, *GOOD[column + 1 :])
    assert f"A1: {said}" in faults_of(wrong)
