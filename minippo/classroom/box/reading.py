"""A student's files, executed: a .py file whole, of a notebook what can be taken without a run.

This runs in the child, after the walls are up.
"""

import ast
import json
import linecache
import re
import sys
import tokenize
import traceback
from collections.abc import Callable, Sequence
from io import BytesIO
from types import ModuleType
from typing import Any, NamedTuple

DEFINITIONS = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)
MAGIC = re.compile(r"^(\s*)(?:[%!?].*|[\w, ]+=\s*[%!].*|[\w.]+\?{1,2}\s*)$")
MARKS = ((b"\xff\xfe", "utf-16"), (b"\xfe\xff", "utf-16"))


class File(NamedTuple):
    """A file of a student: its name, and what is in it."""

    name: str
    content: bytes


class Loaded(NamedTuple):
    """What a file has left behind: its names, what is to be said about it, and how often each name
    is defined at its top level."""

    names: dict[str, Any]
    remarks: list[str]
    defined: dict[str, int]


def load(file: File) -> Loaded:
    """The names of a file, executed as far as its ending asks for."""
    module = ModuleType("submission")
    sys.modules["submission"] = module
    return (load_notebook if file.name.endswith(".ipynb") else load_script)(file, module)


def load_script(file: File, module: ModuleType) -> Loaded:
    """Execute a .py file. Where it stops with an error, what follows is read as in a notebook."""
    text, remarks = decoded(file)
    tree = parsed(text, file.name)
    if isinstance(tree, str):
        return Loaded({}, [*remarks, tree], {})
    try:
        run(tree.body, file.name, module)
    except BaseException as error:  # SystemExit too: whatever a student's code raises
        line = line_of(error, file.name)
        remarks.append(
            f"{file.name} stopped at line {line} with {said(error)}; of what follows only imports, "
            "definitions and literal assignments were taken"
        )
        rest = [node for node in tree.body if node.lineno > line]
        remarks += run_each(rest, file.name, module)
    return Loaded(vars(module), remarks, defined(tree.body))


def load_notebook(file: File, module: ModuleType) -> Loaded:
    """Take the imports, definitions and literal assignments of a notebook's cells."""
    try:
        cells = code_cells(json.loads(decoded(file)[0]))
    except (ValueError, RecursionError):
        return Loaded({}, [f"{file.name} is not a notebook"], {})
    remarks, bodies = [], []
    for number, source in enumerate(cells, start=1):
        name = f"{file.name}, code cell {number}"
        text = source if compiles(source) else without_magics(source)
        tree = parsed(text, name)
        if isinstance(tree, str):
            remarks.append(tree)
            continue
        remarks += run_each(tree.body, name, module)
        bodies += tree.body
    return Loaded(vars(module), remarks, defined(bodies))


def code_cells(notebook: Any) -> list[str]:
    """The sources of the code cells; ValueError where this is no notebook."""
    try:
        sources = [cell["source"] for cell in notebook["cells"] if cell.get("cell_type") == "code"]
        return [source if isinstance(source, str) else "".join(source) for source in sources]
    except (KeyError, TypeError, AttributeError) as error:
        raise ValueError("no notebook") from error


def decoded(file: File) -> tuple[str, list[str]]:
    """(the text of a file, what is to be said about it): UTF-8 unless it says something else."""
    for mark, encoding in MARKS:
        if file.content.startswith(mark):
            return file.content.decode(encoding, errors="replace"), []
    try:
        encoding = tokenize.detect_encoding(BytesIO(file.content).readline)[0]
        return file.content.decode(encoding), []
    except (SyntaxError, ValueError):
        text = file.content.decode("utf-8", errors="replace")
        return text, [f"{file.name} is not UTF-8; what could not be read was replaced"]


def parsed(text: str, name: str) -> ast.Module | str:
    """The syntax tree of a source, or what is wrong with it."""
    remember(text, name)
    try:
        return ast.parse(text, filename=name)
    except SyntaxError as error:
        return f"{name}, line {error.lineno}: {error.msg}"
    except (ValueError, MemoryError, RecursionError) as error:
        return f"{name}: {said(error)}"


def compiles(source: str) -> bool:
    try:
        ast.parse(source)
    except (SyntaxError, ValueError, MemoryError, RecursionError):
        return False
    return True


def without_magics(source: str) -> str:
    """A cell without what only a notebook understands; each such line becomes `pass`."""
    if source.lstrip().startswith("%%"):
        return ""
    return "\n".join(MAGIC.sub(r"\1pass", line) for line in source.splitlines())


def remember(text: str, name: str) -> None:
    """Let tracebacks quote the lines of a source that is no file."""
    linecache.cache[name] = (len(text), None, text.splitlines(keepends=True), name)


def run(body: Sequence[ast.stmt], name: str, module: ModuleType) -> None:
    """Execute statements in a module."""
    tree = ast.Module(body=list(body), type_ignores=[])
    exec(compile(tree, name, "exec", dont_inherit=True), vars(module))


def run_each(body: Sequence[ast.stmt], name: str, module: ModuleType) -> list[str]:
    """Execute those statements that can be taken without running the rest; returns what failed."""
    remarks = []
    for node in filter(can_be_taken, body):
        try:
            run([node], name, module)
        except BaseException as error:  # whatever a student's code raises
            remarks.append(f"{name}, line {node.lineno}, was left out: {said(error)}")
    return remarks


def can_be_taken(node: ast.stmt) -> bool:
    """Is this an import, a definition, or an assignment of a literal?"""
    if isinstance(node, (ast.Import, ast.ImportFrom, *DEFINITIONS)):
        return True
    if not isinstance(node, (ast.Assign, ast.AnnAssign)) or node.value is None:
        return False
    try:
        ast.literal_eval(node.value)
    except (ValueError, TypeError, SyntaxError, MemoryError, RecursionError):
        return False
    return True


def defined(body: Sequence[ast.stmt]) -> dict[str, int]:
    """How often each function is defined."""
    names = [node.name for node in body if isinstance(node, DEFINITIONS)]
    return {name: names.count(name) for name in names}


def line_of(error: BaseException, name: str) -> int:
    """The line of a file's top level at which an error came out."""
    frames = traceback.extract_tb(error.__traceback__)
    lines = [frame.lineno for frame in frames if frame.filename == name]
    return (lines or [0])[0] or 0


def said(error: BaseException) -> str:
    """The kind of an error and its words, which are a student's too."""
    try:
        words = str(error)
    except BaseException:  # their own __str__
        words = ""
    return f"{type(error).__name__}: {words[:300]}" if words else type(error).__name__


def function_named(
    loaded: Sequence[tuple[str, Loaded]], accepted: Sequence[str], is_stub: Callable[[Any], bool]
) -> tuple[Any, list[str]]:
    """(the function under the first of the accepted names that is there, or None; what is to be
    said). Of several files, the last one that has it counts."""
    for name in accepted:
        found = [
            (file, one)
            for file, one in loaded
            if callable(one.names.get(name)) and not is_stub(one.names[name])
        ]
        if not found:
            continue
        file, last = found[-1]
        times = last.defined.get(name, 1)
        remarks = []
        if times > 1:
            remarks.append(f"{file} defines {name} {times} times; the last one counts")
        if len(found) > 1:
            names = ", ".join(file for file, _ in found)
            remarks.append(f"{name} is in {names}; the last one counts")
        return last.names[name], remarks
    return None, []
