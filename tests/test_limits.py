"""How long a file or a function may be, how deep, how wide: counted in the formatted sources.

The doors, eight lines each, are in test_layers.py.
"""

import ast
from pathlib import Path

import pytest

import minippo

ROOT = Path(minippo.__file__).parent
LINES_OF_A_FILE, LINES_OF_A_FUNCTION, COLUMNS = 350, 45, 100
NESTING, PARAMETERS, PARAMETERS_OF_THE_DERIVATION = 3, 8, 6
DERIVATION = (
    "logprobs kl policy_gradient reward_to_go baseline gae trpo ppo ppo_statistics shaped_reward"
).split()
BLOCKS = (ast.If, ast.For, ast.While, ast.With, ast.Try)


def module_name(path):
    return ".".join(path.relative_to(ROOT).with_suffix("").parts)


SOURCES = {
    module_name(path): path.read_text(encoding="utf-8") for path in sorted(ROOT.rglob("*.py"))
}
MODULES = pytest.mark.parametrize("name", SOURCES)


def functions_of(source):
    return [node for node in ast.walk(ast.parse(source)) if isinstance(node, ast.FunctionDef)]


def code_lines(function, source):
    """The lines of a function without its docstring, comments and blank lines; decorators do not
    count, what is defined inside does."""
    first = function.body[0] if ast.get_docstring(function) is not None else None
    docstring = range(first.lineno, first.end_lineno + 1) if first else ()
    lines = source.splitlines()
    written = (
        lines[number - 1].strip()
        for number in range(function.lineno, function.end_lineno + 1)
        if number not in docstring
    )
    return sum(bool(line) and not line.startswith("#") for line in written)


def nesting(node, depth=0):
    """How many blocks stand inside each other; an elif stands beside its if, and a function inside
    a function counts for itself."""
    deepest = depth
    for child in ast.iter_child_nodes(node):
        if isinstance(child, (ast.FunctionDef, ast.ClassDef, ast.Lambda)):
            continue
        is_elif = isinstance(node, ast.If) and isinstance(child, ast.If) and child in node.orelse
        inside = depth + (isinstance(child, BLOCKS) and not (is_elif and len(node.orelse) == 1))
        deepest = max(deepest, nesting(child, inside))
    return deepest


def parameters(function):
    """How many arguments it has; self and cls do not count, *args and **options count once each."""
    arguments = function.args
    names = [a.arg for a in arguments.posonlyargs + arguments.args + arguments.kwonlyargs]
    names += [a.arg for a in (arguments.vararg, arguments.kwarg) if a]
    return len(names) - (names[:1] in (["self"], ["cls"]))


# -- the limits


@MODULES
def test_a_file_is_not_too_long(name):
    assert len(SOURCES[name].splitlines()) <= LINES_OF_A_FILE


@MODULES
def test_no_line_is_too_wide(name):
    assert [line for line in SOURCES[name].splitlines() if len(line) > COLUMNS] == []


@MODULES
def test_no_function_is_too_long_or_too_deep_or_has_too_many_parameters(name):
    most = PARAMETERS_OF_THE_DERIVATION if name in DERIVATION else PARAMETERS
    found = {
        function.name: (
            code_lines(function, SOURCES[name]),
            nesting(function),
            parameters(function),
        )
        for function in functions_of(SOURCES[name])
    }
    assert {
        function: sizes
        for function, sizes in found.items()
        if sizes[0] > LINES_OF_A_FUNCTION or sizes[1] > NESTING or sizes[2] > most
    } == {}


def test_the_modules_with_a_limit_of_their_own_are_there():
    assert {*DERIVATION} <= SOURCES.keys()


# -- the counters


def the_function(source):
    return functions_of(source)[0]


def test_the_docstring_comments_and_blank_lines_are_not_code():
    source = '''
def f(
    a,
):
    """One line,

    and two more."""
    # a comment

    b = """a text,
    not a docstring"""  # and another comment
    return a, b
'''
    assert code_lines(the_function(source), source) == 6  # three of the signature, three below
    assert code_lines(the_function("def f(): return 1"), "def f(): return 1") == 1


@pytest.mark.parametrize(
    "lines, depth",
    [
        (["return 1"], 0),
        (["if a:", "    b()", "else:", "    c()"], 1),
        (["if a:", "    b()", "elif c:", "    d()", "elif e:", "    f()"], 1),
        (["if a:", "    b()", "else:", "    if c:", "        d()", "    e()"], 2),
        (
            ["for a in b:", "    with c:", "        try:", "            d()"]
            + ["        finally: e()"],
            3,
        ),
        (
            ["while a:", "    for b in c:", "        if d:", "            with e:"]
            + [16 * " " + "f()"],
            4,
        ),
        (["if a:", "    def inner():", "        if b:", "            c()"], 1),
    ],
)
def test_blocks_inside_blocks_are_counted(lines, depth):
    source = "def f():\n" + "\n".join("    " + line for line in lines)
    assert nesting(the_function(source)) == depth


@pytest.mark.parametrize(
    "signature, number",
    [("", 0), ("a, /, b, *, c=1", 3), ("self, a", 1), ("cls", 0), ("*a, **b", 2), ("a, self", 2)],
)
def test_parameters_are_counted(signature, number):
    assert parameters(the_function(f"def f({signature}): pass")) == number
