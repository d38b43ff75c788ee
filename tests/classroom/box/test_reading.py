"""What is taken of a student's file, and what is said about it."""

import json

import pytest

from minippo.classroom.box.reading import File, Loaded, can_be_taken, function_named, load, parsed


def notebook(*cells):
    made = [{"cell_type": "code", "source": cell} for cell in cells]
    return json.dumps({"cells": [{"cell_type": "markdown", "source": ["# 1 / 0"]}, *made]})


def loaded(text, name="a.py"):
    return load(File(name, text.encode() if isinstance(text, str) else text))


def test_a_script_is_executed_whole():
    found = loaded("x = [1]\nx.append(2)\ndef f(): return x\n")
    assert found.names["f"]() == [1, 2] and found.remarks == []
    assert found.names["__name__"] == "submission"


def test_where_a_script_stops_the_rest_is_read_as_in_a_notebook():
    found = loaded(
        "def f(): return 1\n1 / 0\nimport math\nprint(1 / 0)\ndef f(): return 2\ny = 3\n"
    )
    assert found.names["f"]() == 2 and found.names["y"] == 3 and "math" in found.names
    assert found.remarks == [
        "a.py stopped at line 2 with ZeroDivisionError: division by zero; of what follows only "
        "imports, definitions and literal assignments were taken"
    ]


@pytest.mark.parametrize("leaving", ["import sys; sys.exit(1)", "raise SystemExit", "exit()"])
def test_leaving_ends_the_file_and_not_the_process(leaving):
    assert loaded(f"x = 1\n{leaving}\n").names["x"] == 1


def test_of_a_notebook_imports_definitions_and_literals_are_taken():
    found = loaded(
        notebook(
            "%matplotlib inline\nimport math\n!pip install x\nbig = 3",
            ["x = [1, (2, -3)]\n", "y = math.pi\n", "print(1 / 0)\n", "1 / 0"],
            "%%time\nz = 4",
            "files = !ls\nimport nowhere_to_be_found\nclass C: pass\nmath?",
            "def f(a: int = 2):\n    return math.floor(a) + big\n",
            "def g():\n    !ls\n    %time\n    return 1",
        ),
        "a.ipynb",
    )
    names = found.names
    assert names["f"]() == 5 and names["g"]() == 1 and names["x"] == [1, (2, -3)]
    assert names["big"] == 3 and "C" in names and not {"y", "z", "files"} & {*names}
    assert found.remarks == [
        "a.ipynb, code cell 4, line 2, was left out: ModuleNotFoundError: No module named "
        "'nowhere_to_be_found'"
    ]


def test_a_percent_sign_in_a_string_is_no_magic():
    source = 'text = """\n%d of\n"""\ndef f(): return text % 3'
    assert loaded(notebook(source), "a.ipynb").names["f"]() == "\n3 of\n"


def test_a_cell_that_is_no_python_spoils_no_other():
    found = loaded(notebook("def broken(:", "def f(): return 1"), "a.ipynb")
    assert found.names["f"]() == 1 and found.remarks[0].startswith("a.ipynb, code cell 1, line 1: ")


@pytest.mark.parametrize(
    "text", ["", "[]", "{", '{"cells": 3}', '{"cells": [{}]}', '{"cells": [1]}', "[" * 100_000]
)
def test_what_is_no_notebook(text):
    found = loaded(text, "a.ipynb")
    assert "x" not in found.names and found.remarks in (["a.ipynb is not a notebook"], [])


@pytest.mark.parametrize(
    "content, remark",
    [
        (b"\xff\xfe" + "x = 'é'".encode("utf-16-le"), None),
        (b"# -*- coding: latin-1 -*-\nx = '\xe9'", None),
        (b"\xef\xbb\xbfx = 'e'", None),
        (b"x = '\xe9'", "a.py is not UTF-8; what could not be read was replaced"),
        (b"# coding: nonsense\nx = 1", "a.py is not UTF-8; what could not be read was replaced"),
    ],
)
def test_the_encodings_of_a_file(content, remark):
    found = loaded(content)
    assert "x" in found.names or remark
    assert found.remarks[:1] == ([remark] if remark else [])


@pytest.mark.parametrize("text", ["def f(:", "x = 1\0", "(" * 5000, "  x = 1"])
def test_what_does_not_parse_is_said(text):
    assert loaded(text).names == {} and loaded(text).remarks[0].startswith("a.py")


@pytest.mark.parametrize(
    "source, taken",
    [
        ("import a", True),
        ("from a import *", True),
        ("async def f(): pass", True),
        ("x: int = 3", True),
        ("x: int", False),
        ("x = y = 'a'", True),
        ("x = f()", False),
        ("x += 1", False),
        ("f()", False),
        ("if True: x = 1", False),
    ],
)
def test_what_can_be_taken_without_running_the_rest(source, taken):
    tree = parsed(source, "a")
    assert can_be_taken(tree.body[0]) == taken


def test_the_last_function_of_a_name_counts():
    one = Loaded({"my_f": min, "f": len}, [], {"my_f": 3})
    two = Loaded({"my_f": max, "x": 1}, [], {"my_f": 1})
    files = [("a.py", one), ("b.py", two)]
    assert function_named(files, ["my_f", "f"], lambda _: False) == (
        max,
        ["my_f is in a.py, b.py; the last one counts"],
    )
    assert function_named(files[:1], ["my_f", "f"], lambda _: False) == (
        min,
        ["a.py defines my_f 3 times; the last one counts"],
    )
    assert function_named(files, ["my_f", "f"], lambda found: found in (min, max))[0] is len
    assert function_named(files, ["x", "g"], lambda _: False) == (None, [])
