"""Which module may import which: read from the sources, so that an import inside a function counts
as well."""

import ast
import sys
from pathlib import Path

import pytest

import minippo

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
    "shaped_reward",
)
MODELS = ("gpt", "reward_head", "critic_head", "tokenizer")
EXERCISES = (
    "objective",
    "token_logprobs",
    "response_mask",
    "policy_gradient_loss",
    "advantages",
    "reward_score",
    "value_loss",
    "gae",
    "shaped_rewards",
    "kl_estimators",
    "fisher_vector_product",
    "clipped_loss",
    "clip_fraction",
    "optimal_policy",
)
WINGS = ("exact", "exercises")
ORDER = (  # floor by floor; a module imports only what stands before it, "" is the package itself
    "",
    "shapes",
    "masked",
    "errors",
    "config",
    *DERIVATION,
    *MODELS,
    "tasks.base",
    "tasks.read_files",
    "tasks.tldr",
    "tasks.capitals",
    "tasks.files",
    "tasks",
    "runs",
    "runs.files",
    "runs.read",
    "runs.checkpoints",
    "runs.stats",
    "runs.screen",
    "runs.figures",
    "runs.tensorboard",
    "runs.folder",
    "runs.diagnostics",
    "rollout",
    "train_sft",
    "preferences",
    "train_reward",
    "updates",
    "training_state",
    "train_policy",
    "optimum",
    "evaluate",
    "load",
    "hugging_face",
    "command_line",
    "train_toy",
    "measure",
    "profile_update",
    "export",
    "exercises",
    "exercises.engine",
    *(f"exercises.{name}" for name in EXERCISES),
    "exact",
    "exact.world",
    "exact.oracle",
    "exact.estimators",
    "exact.ladder",
    "exact.training",
    "exact.qualifications",
    "exact.figure",
    "exact.__main__",
)
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


def imports_of(tree):
    """[(dotted name, stands in a function)]; `from a import b` is a.b, whether b is a module or
    not."""
    functions = [
        node for node in ast.walk(tree) if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef))
    ]
    inside = {id(node) for function in functions for node in ast.walk(function)}
    found = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found += [(alias.name, id(node) in inside) for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            found += [
                ("." * node.level + f"{node.module or ''}.{alias.name}", id(node) in inside)
                for alias in node.names
            ]
    return found


def own_imports(tree):
    """The modules of this package that a source imports, as they are called in ORDER."""
    names = [
        name.removeprefix("minippo").removeprefix(".")
        for name, _ in imports_of(tree)
        if name.split(".")[0] == "minippo"
    ]
    return {name if name in ORDER else name.rpartition(".")[0] for name in names}


def top_levels(tree):
    return {name.split(".")[0] for name, _ in imports_of(tree)}


def test_every_module_has_its_place():
    assert set(TREES) == set(ORDER) and len(set(ORDER)) == len(ORDER)


def test_every_spelling_of_an_import_is_seen():
    source = """
import minippo.kl
from minippo import gae, ppo as p
from minippo.runs.files import plain
def late():
    from minippo.tasks import make_task, tldr
"""
    assert own_imports(ast.parse(source)) == {
        "kl",
        "gae",
        "ppo",
        "runs.files",
        "tasks",
        "tasks.tldr",
    }
    assert imports_of(ast.parse("from .kl import kl_k1\ndef late():\n import torch")) == [
        (".kl.kl_k1", False),
        ("torch", True),
    ]


@pytest.mark.parametrize("name", ORDER)
def test_a_module_imports_only_what_stands_before_it(name):
    assert own_imports(TREES[name]) <= set(ORDER[: ORDER.index(name)])


@pytest.mark.parametrize("name", ORDER)
def test_imports_are_absolute(name):
    assert not [imported for imported, _ in imports_of(TREES[name]) if imported.startswith(".")]


@pytest.mark.parametrize("name", DERIVATION)
def test_the_derivation_imports_torch_the_standard_library_and_itself(name):
    assert top_levels(TREES[name]) <= {"torch", "minippo", *sys.stdlib_module_names}
    assert own_imports(TREES[name]) <= {"shapes", "masked", *DERIVATION}


def test_nothing_imports_a_wing():
    outside = [name for name in ORDER if name.split(".")[0] not in WINGS]
    assert not [
        name
        for name in outside
        if any(used.split(".")[0] in WINGS for used in own_imports(TREES[name]))
    ]


@pytest.mark.parametrize("name", MODELS)
def test_the_models_do_not_know_the_derivation(name):
    assert own_imports(TREES[name]).isdisjoint(DERIVATION)


def test_matplotlib_is_imported_when_a_figure_is_drawn_and_not_before():
    found = {
        (name, late)
        for name, tree in TREES.items()
        for imported, late in imports_of(tree)
        if imported.split(".")[0] == "matplotlib"
    }
    assert found == {("runs.figures", True), ("exact.figure", True)}


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


@pytest.mark.parametrize("name", ORDER)
def test_nothing_that_is_read_from_a_file_is_executed(name):
    assert not executes_what_it_reads(TREES[name])
