"""Which module may import which: read from the sources, so that an import inside a function counts
as well."""

import ast
import functools
import sys
from pathlib import Path

import pytest

import minippo
from minippo.algorithms import REGISTRY

ROOT = Path(minippo.__file__).parent
DERIVATION = (
    "logprobs",
    "kl",
    "policy_gradient",
    "reward_to_go",
    "baseline",
    "gae",
    "trpo",
    "ppo",
    "ppo_statistics",
    "shaped_reward",
)
MODELS = ("gpt", "lora", "reward_head", "reward_loss", "critic_head", "tokenizer")
WINGS = ("exact", "exercises", "classroom")
LAYERS = (  # lowest first; a module imports from its own layer and from those before it
    ("", "errors", "interrupts", "shapes", "masked", "settings"),
    (*DERIVATION, "relatives"),
    MODELS,
    ("sampling",),
    ("rollout",),
    ("one_page",),  # imports nothing, and nothing imports it
    ("runs",),
    ("tasks",),
    ("annotators",),
    ("stages.optimise", "stages.pretrain"),
    ("algorithms",),
    ("stages",),
    ("interchange",),
    ("commands",),
    WINGS,
)
DOORS = (
    "__main__",
    "train_toy",
    "compare",
    "measure",
    "talk",
    "evaluate",
    "overoptimise",
    "label",
    "report",
    "export",
    "diagnostics",
    "profile_update",
)
ALONE = {*WINGS, *DOORS, "one_page"}
SMALL_DOORS = (*DOORS[1:], "exact.__main__", "classroom.__main__")
EXECUTING = (
    "pickle",
    "cPickle",
    "dill",
    "cloudpickle",
    "joblib",
    "marshal",
    "shelve",
    "torch.load",
)


def module_name(path):
    return (
        ".".join(path.relative_to(ROOT).with_suffix("").parts)
        .removesuffix("__init__")
        .removesuffix(".")
    )


TREES = {
    module_name(path): ast.parse(path.read_text(encoding="utf-8"))
    for path in sorted(ROOT.rglob("*.py"))
}
MODULES = pytest.mark.parametrize("name", TREES)


def is_door(node):
    """`if __name__ == "__main__":` is what runs when the module is a program."""
    return isinstance(node, ast.If) and ast.unparse(node.test) == "__name__ == '__main__'"


def nodes_of(tree):
    """All nodes but those behind a door."""
    for child in ast.iter_child_nodes(tree):
        if not is_door(child):
            yield child
            yield from nodes_of(child)


def imports_of(tree):
    """[(dotted name, is in a function)]; `from a import b` is a.b, whether b is a module or not."""
    functions = [node for node in nodes_of(tree) if isinstance(node, ast.FunctionDef)]
    inside = {id(node) for function in functions for node in ast.walk(function)}
    found = []
    for node in nodes_of(tree):
        if isinstance(node, ast.Import):
            found += [(alias.name, id(node) in inside) for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            module = "." * node.level + (node.module or "")
            found += [(f"{module}.{alias.name}", id(node) in inside) for alias in node.names]
    return found


@functools.cache
def own_imports(tree):
    """The modules of this package that a source imports."""
    names = [
        name.removeprefix("minippo").removeprefix(".")
        for name, _ in imports_of(tree)
        if name.split(".")[0] == "minippo"
    ]
    return {name if name in TREES else name.rpartition(".")[0] for name in names}


def top_levels(tree):
    return {name.split(".")[0] for name, _ in imports_of(tree)}


def layer_of(name):
    """The number of the layer that a module is in: by its own name, or by that of its folder."""
    for key in (name, name.split(".")[0]):
        for number, layer in enumerate(LAYERS):
            if key in layer:
                return number
    raise AssertionError(f"{name} has no layer")


# -- layers


@MODULES
def test_a_module_imports_only_from_its_layer_and_those_before_it(name):
    if name in DOORS:
        return  # they name what is above them, and nothing imports them
    late = {used for used in own_imports(TREES[name]) if layer_of(used) > layer_of(name)}
    assert late == set()


@MODULES
def test_the_modules_of_a_layer_do_not_import_each_other_in_a_circle(name):
    seen, open_ends = set(), {name}
    while open_ends:
        used = own_imports(TREES[open_ends.pop()]) - seen - {""}
        assert name not in used
        seen |= used
        open_ends |= used


@MODULES
def test_imports_are_absolute(name):
    assert not [imported for imported, _ in imports_of(TREES[name]) if imported.startswith(".")]


@pytest.mark.parametrize("name", DERIVATION)
def test_the_derivation_imports_torch_the_standard_library_and_itself(name):
    assert top_levels(TREES[name]) <= {"torch", "minippo", *sys.stdlib_module_names}
    assert own_imports(TREES[name]) <= {"shapes", "masked", *DERIVATION}


@pytest.mark.parametrize("name", MODELS)
def test_the_models_do_not_know_the_derivation(name):
    assert own_imports(TREES[name]).isdisjoint(DERIVATION)


def test_nothing_imports_a_wing_or_a_door_or_the_page():
    for name, tree in TREES.items():
        if name.split(".")[0] not in ALONE:
            assert not {used.split(".")[0] for used in own_imports(tree)} & ALONE, name


def test_a_broken_layer_would_be_seen():
    tree = ast.parse("def late():\n    from minippo.stages.policy import World")
    assert {layer_of(used) > layer_of("rollout") for used in own_imports(tree)} == {True}
    behind_a_door = ast.parse("if __name__ == '__main__':\n    import minippo.commands.train")
    assert own_imports(behind_a_door) == set()


def when_run(tree):
    """A source without what stands under `if TYPE_CHECKING:`, which is never executed."""
    body = [
        node
        for node in tree.body
        if not (isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING")
    ]
    return ast.Module(body=body, type_ignores=[])


def test_matplotlib_is_imported_when_a_figure_is_drawn_and_not_before():
    found = {
        (name.rpartition(".")[0] or name, late)
        for name, tree in TREES.items()
        for imported, late in imports_of(when_run(tree))
        if imported.split(".")[0] == "matplotlib"
    }
    assert found == {("runs.figures", True), ("exact", True), ("classroom.museum", True)}


# -- doors, and what only the algorithms know


@pytest.mark.parametrize("name", SMALL_DOORS)
def test_a_door_has_at_most_eight_lines_and_does_nothing_itself(name):
    source = (ROOT / (name.replace(".", "/") + ".py")).read_text(encoding="utf-8")
    assert len(source.splitlines()) <= 8 and "sys.exit(door(" in source


def strings_of(tree):
    """The string constants of a source that are no docstrings."""
    documented = (ast.Module, ast.ClassDef, ast.FunctionDef)
    docstrings = {
        id(node.body[0].value)
        for node in ast.walk(tree)
        if isinstance(node, documented) and ast.get_docstring(node) is not None
    }
    return {
        node.value
        for node in ast.walk(tree)
        if isinstance(node, ast.Constant)
        and isinstance(node.value, str)
        and id(node) not in docstrings
    }


@MODULES
def test_only_the_algorithms_know_an_algorithm_by_name(name):
    if name.split(".")[0] not in ("algorithms", *WINGS):
        assert strings_of(TREES[name]).isdisjoint(REGISTRY)


# -- files are data


def executes_what_it_reads(tree):
    """The imports and calls of a source that run code found in a file."""
    imported = {name for name, _ in imports_of(tree)} | top_levels(tree)
    attributes = {ast.unparse(node) for node in ast.walk(tree) if isinstance(node, ast.Attribute)}
    return (imported | attributes).intersection(EXECUTING)


def test_what_runs_code_from_files_is_recognised():
    for source in (
        "import pickle",
        "from pickle import loads",
        "torch.load(path)",
        "from torch import load",
    ):
        assert executes_what_it_reads(ast.parse(source))


@MODULES
def test_nothing_that_is_read_from_a_file_is_executed(name):
    assert not executes_what_it_reads(TREES[name])
