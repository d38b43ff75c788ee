"""Answers that are hostile or careless gain nothing and stop nobody: not their own other exercise,
not the next student."""

import time
from pathlib import Path

import pytest

import minippo
from minippo.classroom.box.processes import descendants
from minippo.exercises.gae import exercise as gae
from tests.classroom.hostile_answers import QUICK, RIGHT, SLOW, at_the_top, in_gae

ALL_ELSE_IS_LOST = ("syntax", "a_loop_at_the_top")
ALIKE = (  # much like another one
    "exit_at_the_end",
    "a_list_of_20_gb",
    "default_dtype_at_the_top",
    "reference_by_its_module",
    "check_in_the_file",
    "an_error_at_the_top",
    "kill_itself",
    "two_functions_the_last_wrong",
    "none",
    "+two",
)
MESSAGES = {
    "reference": "minippo is not here while answers are checked",
    "sys_exit": "SystemExit",
    "os_exit": "is there an exit in it?",
    "a_list_of_20_gb": "MemoryError",
    "input": "EOFError",
    "crash": "did it crash?",
    "syntax": "line 18: ",
}


def check(answer, name, file, status):
    found = answer(file)
    assert found["gae"].status == status, found["gae"]
    assert MESSAGES.get(name, "") in found["gae"].message
    if name not in ALL_ELSE_IS_LOST:
        assert found["policy_gradient_loss"].status == "ok"


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=pytest.mark.slow if name in ALIKE else ()) for name in QUICK]
)
def test_what_becomes_of_an_answer(name, answer):
    check(answer, name, *QUICK[name])


@pytest.mark.slow
@pytest.mark.parametrize("name", SLOW)
def test_what_becomes_of_an_answer_that_costs_its_limits(name, answer, grader):
    if "bomb" in name and not grader.server.walls.processes:
        pytest.skip("nothing would hold it")
    check(answer, name, *SLOW[name])
    assert answer(at_the_top())["gae"].status == "ok"


def seen_by(answer, *lines):
    """What an answer can find out, by the message of its error."""
    file = in_gae("found = []", *lines, "raise ValueError(str(found))")
    return answer(file)["gae"].message


def test_the_stack_and_the_heap_hold_neither_seed_nor_expected_values(answer, grader):
    snoop = (
        "import gc, sys",
        "frame = sys._getframe()",
        "while frame: found.append(sorted(frame.f_locals)); frame = frame.f_back",
        "things = gc.get_objects()",
        "names = {n for x in things if type(x) is dict for n in x if type(n) is str}",
        "secret = [x for x in things if type(x) is dict and b'a secret' in x.values()]",
        "found = [sorted(names & {'reference', 'mistakes', 'seed'}), len(secret)]",
        "found.append([n for n in sys.modules if n.startswith('minippo.exercises.')])",
    )
    assert "ValueError: [[], 0, []]" in seen_by(answer, *snoop)


def test_the_reference_cannot_be_imported_from_anywhere(answer, grader):
    if not grader.server.walls.files:
        pytest.skip("without walls its files can be read")
    places = [str(Path(minippo.__file__).parents[1]), str(Path.cwd())]
    message = seen_by(
        answer,
        "import sys, os",
        "sys.meta_path.pop(0)",
        "for n in [n for n in sys.modules if n.startswith('minippo')]: del sys.modules[n]",
        f"for place in [*sys.path, *{places!r}, '/proc/1/cwd', '/proc/self/cwd', '..']:",
        "    try: found += os.listdir(place + '/minippo')",
        "    except OSError: pass",
        "    sys.path.insert(0, place)",
        "try: import minippo.exercises.gae",
        "except ImportError: found.append('none')",
    )
    assert "ValueError: ['none']" in message


def test_neither_files_nor_processes_nor_the_network_are_in_reach(answer, grader, tmp_path):
    if not all((grader.server.walls.files, grader.server.walls.network)):
        pytest.skip("this system grants no walls")
    (tmp_path / "neighbour.py").write_text("theirs")
    message = seen_by(
        answer,
        "import os, socket",
        f"for place in ({str(tmp_path / 'neighbour.py')!r}, '/etc/passwd', '/proc/1/status', "
        "os.__file__):",
        "    try: open(place, 'a').close(); found.append(place)",
        "    except OSError: pass",
        "try: socket.create_connection(('127.0.0.1', 80), 1)",
        "except OSError as error: found.append(error.errno == 101)",
        "found.append((os.getppid(), os.listdir('.')))",
    )
    assert "ValueError: [True, (1, ['anna.py'])]" in message
    assert (tmp_path / "neighbour.py").read_text() == "theirs"


def test_one_answer_leaves_nothing_to_the_next(answer):
    answer(
        in_gae(
            "open('note', 'w').write('the answer')",
            "import os, time",
            "os.fork() or time.sleep(60)",
        )
    )
    message = seen_by(answer, "import os", "found = os.listdir('.')")
    assert "ValueError: ['anna.py']" in message


def test_a_lookup_table_of_the_notebooks_cases_passes_these_and_nothing_else(answer):
    table = {f"{case['rewards'].sum():.4f}": gae.reference(**case).tolist() for case in gae.cases()}
    file = RIGHT + f"TABLE = {table!r}\n" + "def my_gae(**given):\n"
    file += "    found = TABLE.get(f\"{given['rewards'].sum():.4f}\")\n"
    file += "    return -right_gae(**given) if found is None else torch.tensor(found)\n"
    names = {}
    exec(file, names)
    assert gae.verdict(names["my_gae"]).passed
    assert answer(file)["gae"].status == "wrong"


def test_a_child_that_sleeps_on_is_killed(answer, grader):
    begun = time.monotonic()
    assert answer(QUICK["a_sleeping_child"][0])["gae"].status == "ok"
    assert time.monotonic() - begun < 10
    assert descendants(grader.server._process.pid) == []


def test_two_functions_of_one_name_are_said(answer):
    remarks = answer(QUICK["two_functions"][0])[None]
    assert "anna.py defines my_gae 2 times; the last one counts" in remarks


def test_windows_line_ends_a_mark_and_bytes_that_are_no_utf8(answer):
    assert answer(at_the_top().replace("\n", "\r\n"))["gae"].status == "ok"
    assert answer(b"\xef\xbb\xbf" + at_the_top().encode())["gae"].status == "ok"
    assert answer(at_the_top().encode("utf-16"))["gae"].status == "ok"
    found = answer(b"# caf\xe9\n" + at_the_top().encode())
    assert found["gae"].status == "ok" and "anna.py is not UTF-8" in found[None][0]


def test_an_empty_file(answer):
    assert {grade.status for name, grade in answer("").items() if name} == {"no result"}


def test_a_file_of_the_name_of_the_package_is_not_taken_for_it(answer, grader):
    found = answer(at_the_top("import minippo.gae as m", "m.gae_advantages(1)"), "minippo.py")
    assert found["gae"].status == "ok" and "minippo is not here" in found[None][0]


def test_the_server_itself_survived_all_that(grader):
    assert grader.server._process.poll() is None
