"""What README.md and docs/ say about files, equations, functions and tests is true. The code is
read, not imported."""

import ast
import re
from collections import Counter
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PAGES = {
    str(path.relative_to(ROOT)): path
    for path in (ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md")))
}
STAGES = [
    name
    for name in PAGES
    if Path(name).name.startswith(("stage-", "notation", "equations", "references"))
]
LISTED = (
    "masked",
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
    # modules whose public functions are all in equations.md
    "reward_head",
    "reward_loss",
    "stages.optimise",
    "stages.pretrain",
    "stages.preferences",
    "stages.optimum",
)
NUMBER = r"\((\d\.\d{1,2})\)"
BLOCK = r"^```.*?^```"
FOREIGN = ("scaling.md", "metrics.md")  # other programs' metrics, and those of earlier versions
TO_BE_WRAPPED = ("README.md", "docs/architecture.md")
METRIC = r"(?:objective|policy|loss|val|sample)/\w+"


# -- what the sources say


def definitions_of(path):
    """{name: definition} of the functions at the top of a module."""
    return {
        node.name: node
        for node in ast.parse(path.read_text(encoding="utf-8")).body
        if isinstance(node, ast.FunctionDef)
    }


def functions_of(path):
    """{name: docstring} of them."""
    return {name: ast.get_docstring(node) or "" for name, node in definitions_of(path).items()}


def arguments_of(node):
    """The names of a function's arguments."""
    return [argument.arg for argument in (*node.args.args, *node.args.kwonlyargs)]


def numbered_equations(folder):
    """[(number, "module.function")] of all docstrings below a folder; the exercises only repeat
    them."""
    found = []
    for path in sorted(folder.rglob("*.py")):
        module = ".".join(path.relative_to(folder).with_suffix("").parts)
        if not module.startswith("exercises"):
            found += [
                (number, f"{module}.{function}")
                for function, text in functions_of(path).items()
                for number in re.findall(r"^\s*Equation\s+" + NUMBER, text, re.MULTILINE)
            ]
    return found


def source_of(module):
    """The file of a module that is named as in the tables: "kl", "stages.optimum"."""
    return ROOT.joinpath("minippo", *module.split(".")).with_suffix(".py")


def functions_that_test(folder):
    """{"file::test": path} of the test files in and below a folder. A file in a folder of its own
    goes by both of its names: "runs/test_files::test" and "test_files::test"."""
    return {
        f"{file}::{name}": path
        for path in sorted(folder.rglob("test_*.py"))
        for file in {path.stem, path.relative_to(folder).with_suffix("").as_posix()}
        for name in functions_of(path)
        if name.startswith("test_")
    }


EQUATIONS = numbered_equations(ROOT / "minippo")
TESTS = functions_that_test(ROOT / "tests")
TEST_NAMES = {name.partition("::")[2] for name in TESTS} | {path.stem for path in TESTS.values()}


# -- what the pages say


def without_code(text):
    """A page without its blocks of code and its `words`: what stands there is no link, no heading
    and no formula."""
    return re.sub(r"`[^`\n]*`", "", re.sub(BLOCK, "", text, flags=re.MULTILINE | re.DOTALL))


def anchors_of(text):
    """The anchors that GitHub gives to the headings of a page."""
    anchors, seen = set(), Counter()
    for heading in re.findall(
        r"^#{1,6} +(.+?)\s*$", re.sub(BLOCK, "", text, flags=re.MULTILINE | re.DOTALL), re.MULTILINE
    ):
        plain = re.sub(r"\[([^]]*)\]\([^)]*\)", r"\1", heading).lower()
        anchor = re.sub(r"[^\w\- ]", "", plain).replace(" ", "-")
        anchors.add(f"{anchor}-{seen[anchor]}" if seen[anchor] else anchor)
        seen[anchor] += 1
    return anchors


def broken_links(text, folder, own_anchors):
    """The relative links of a page that lead nowhere."""
    broken = []
    for target in re.findall(r"\]\(([^)\s]+)[^)]*\)", without_code(text)):
        if re.match(r"[a-z]+:", target):
            continue
        path, _, anchor = target.partition("#")
        file = folder / path if path else None
        if file is not None and not file.exists():
            broken.append(target)
        elif anchor:
            known = (
                own_anchors
                if file is None
                else anchors_of(file.read_text(encoding="utf-8"))
                if file.suffix == ".md"
                else set()
            )
            if anchor not in known:
                broken.append(target)
    return broken


def cited_equations(text, everywhere=False):
    """Numbers after the word equation(s), in tags, and, everywhere, in any pair of brackets."""
    cited = re.findall(r"\\tag\{(\d\.\d{1,2})\}", text)
    for several in re.findall(
        r"[Ee]quations?\s+((?:\(?\d\.\d{1,2}\)?(?:,\s+|\s+and\s+|\s+to\s+)?)+)", text
    ):
        cited += re.findall(r"\d\.\d{1,2}", several)
    if everywhere:
        cited += re.findall(NUMBER, without_code(text))
    return set(cited)


def named_tests(text):
    """folder/test_file::test_name, also written with tests/ in front and .py behind the file."""
    found = re.findall(r"(?:\btests/)?((?:\b\w+/)*\btest_\w+)(?:\.py)?::(test_\w+)", text)
    return {f"{file}::{name}" for file, name in found}


def rows_of(text, columns):
    """The rows of all tables of a page with so many columns, without heads and rules."""
    rows = [
        [cell.strip() for cell in line.strip().strip("|").split("|")]
        for line in text.splitlines()
        if line.startswith("|")
    ]
    return [
        row
        for row in rows
        if len(row) == columns and not set("".join(row)) <= set("-: ") and "`" in "".join(row)
    ]


def words_of(text):
    """What stands in `back quotes`, blocks of code left out."""
    return re.findall(r"`([^`\n]+)`", re.sub(BLOCK, "", text, flags=re.MULTILINE | re.DOTALL))


def missing_files(text):
    """Files of this repository that are named and do not exist; * stands for any, and what an
    example calls file, module or NN_name is not meant."""
    named = {
        word
        for word in words_of(text)
        if re.fullmatch(r"(tests|minippo|docs|notebooks|benchmarks)/[\w./*-]+", word)
        and not re.search(r"torchtune|/(file|module|NN_name)\.", word)
    }
    return {word for word in named if not list(ROOT.glob(word.rstrip("/")))}


def missing_modules(text):
    """Modules after python -m that cannot be run."""
    named = {name.rstrip(".") for name in re.findall(r"python -m (minippo[\w.]*)", text)}
    places = {name: ROOT.joinpath(*name.split(".")) for name in named}
    return {
        name
        for name, place in places.items()
        if not place.with_suffix(".py").exists() and not (place / "__main__.py").exists()
    }


def names_of(path):
    """Functions, classes, constants and "Class.method" at the top of a module."""
    names = set()
    for node in ast.parse(path.read_text(encoding="utf-8")).body:
        if isinstance(node, ast.FunctionDef):
            names.add(node.name)
        elif isinstance(node, ast.ClassDef):
            names.add(node.name)
            names |= {f"{node.name}.{x.name}" for x in node.body if isinstance(x, ast.FunctionDef)}
        elif isinstance(node, ast.Assign | ast.AnnAssign):
            targets = node.targets if isinstance(node, ast.Assign) else [node.target]
            names |= {target.id for target in targets if isinstance(target, ast.Name)}
    return names


def missing_names(text):
    """What is written `module.name`, with or without minippo., and is not in that module."""
    missing = set()
    for word in words_of(text):
        parts = word.partition("(")[0].removeprefix("minippo.").split(".")
        if len(parts) < 2 or not all(re.fullmatch(r"\w+", part) for part in parts):
            continue
        if parts[-1] in ("py", "json", "jsonl", "md", "html"):  # a file
            continue
        for i in range(len(parts) - 1, 0, -1):
            path = source_of(".".join(parts[:i]))
            if path.exists():
                if ".".join(parts[i:]) not in names_of(path):
                    missing.add(word)
                break
    return missing


def wide_lines(text):
    """Lines of more than 120 columns; tables, and lines that are one long address, may be."""
    return [
        line
        for line in text.splitlines()
        if len(line) > 120 and not line.startswith("|") and " " in line.strip().lstrip("-* ")
    ]


TABLE = (ROOT / "docs" / "equations.md").read_text(encoding="utf-8")
NUMBERED, UNNUMBERED = rows_of(TABLE, 5), rows_of(TABLE, 3)


# -- the tests


@pytest.mark.parametrize("page", PAGES)
def test_relative_links_lead_to_files_and_headings(page):
    text = PAGES[page].read_text(encoding="utf-8")
    assert broken_links(text, PAGES[page].parent, anchors_of(text)) == []


@pytest.mark.parametrize("page", PAGES)
def test_equations_that_are_cited_stand_in_the_code(page):
    cited = cited_equations(PAGES[page].read_text(encoding="utf-8"), everywhere=page in STAGES)
    assert cited - {number for number, _ in EQUATIONS} == set()


@pytest.mark.parametrize("page", PAGES)
def test_tests_that_are_named_exist(page):
    assert named_tests(PAGES[page].read_text(encoding="utf-8")) - set(TESTS) == set()


@pytest.mark.parametrize("page", PAGES)
def test_files_modules_and_functions_that_are_named_exist(page):
    text = PAGES[page].read_text(encoding="utf-8")
    missing = missing_files(text) | missing_modules(text)
    assert missing | (set() if page.endswith("scaling.md") else missing_names(text)) == set()
    assert {word for word in words_of(text) if re.fullmatch(r"test_\w+", word)} <= TEST_NAMES


@pytest.mark.parametrize("page", [page for page in PAGES if not page.endswith(FOREIGN)])
def test_metrics_that_are_named_are_in_the_page_of_the_metrics(page):
    known = set(re.findall(METRIC, (ROOT / "docs" / "metrics.md").read_text(encoding="utf-8")))
    named = {
        word
        for word in words_of(PAGES[page].read_text(encoding="utf-8"))
        if re.fullmatch(METRIC, word)
    }
    assert named - known - {"losses/clipfrac"} == set()


def test_files_that_the_mutation_testing_names_exist():
    settings = (ROOT / "pyproject.toml").read_text(encoding="utf-8").split("[tool.mutmut]")[1]
    names = re.findall(r'"((?:minippo|tests)/\S+\.py)"', settings.split("\n[")[0])
    assert len(names) == 32 and [name for name in names if not (ROOT / name).is_file()] == []


@pytest.mark.parametrize("page", [page for page in PAGES if page not in TO_BE_WRAPPED])
def test_lines_have_at_most_120_columns(page):
    assert wide_lines(PAGES[page].read_text(encoding="utf-8")) == []


@pytest.mark.parametrize("page", PAGES)
def test_every_picture_is_described(page):
    text = PAGES[page].read_text(encoding="utf-8")
    for description, file in re.findall(r"!\[([^]]*)\]\(([^)]+)\)", text):
        assert len(description) > 60, file


@pytest.mark.parametrize("number", range(7))
def test_every_page_of_a_stage_shows_its_figure_at_144_dpi(number):
    (page,) = (ROOT / "docs").glob(f"stage-{number}-*.md")
    assert f"](figures/stage-{number}.png)" in page.read_text(encoding="utf-8")
    picture = (ROOT / "docs" / "figures" / f"stage-{number}.png").read_bytes()
    place = picture.index(b"pHYs") + 4
    assert round(int.from_bytes(picture[place : place + 4], "big") * 0.0254) == 144


def test_no_number_is_given_twice():
    assert len(EQUATIONS) > 40
    assert [
        number for number, count in Counter(number for number, _ in EQUATIONS).items() if count > 1
    ] == []


def test_every_equation_of_the_code_stands_in_the_table_with_its_function():
    table = [(row[0].strip("()"), row[2].strip("`")) for row in NUMBERED]
    assert sorted(table) == sorted(EQUATIONS)


def test_every_public_function_stands_in_the_table():
    public = {
        f"{module}.{name}"
        for module in LISTED
        for name in functions_of(source_of(module))
        if not name.startswith("_")
    }
    table = [row[2].strip("`") for row in NUMBERED] + [row[0].strip("`") for row in UNNUMBERED]
    assert len(table) == len(set(table))
    assert set(table) >= public
    assert {name for name in set(table) - public if name.rpartition(".")[0] in LISTED} == set()


@pytest.mark.parametrize("page", [page for page in STAGES if "stage-" in page])
def test_calls_on_the_pages_of_the_stages_have_their_equation_and_arguments(page):
    carriers = dict(EQUATIONS)
    for number, call in re.findall(
        rf"^\| {NUMBER} \| `(\w+\([^`]*\))`", PAGES[page].read_text(encoding="utf-8"), re.MULTILINE
    ):
        module, _, function = carriers[number].rpartition(".")
        assert call.startswith(f"{function}("), (number, call)
        known = arguments_of(definitions_of(source_of(module))[function])
        assert set(re.findall(r"(\w+)=", call)) <= set(known), (number, call)
        if "..." not in call and "scalar" not in call:
            assert [
                name.strip(" =") for name in call.partition("(")[2].strip(")").split(",")
            ] == known, (number, call)


@pytest.mark.parametrize(
    "row", NUMBERED + UNNUMBERED, ids=lambda row: row[2 if len(row) == 5 else 0].strip("`")
)
def test_every_row_has_a_test_that_exists_in_a_file_about_the_module(row):
    function, test = (row[2], row[3]) if len(row) == 5 else (row[0], row[2])
    test = test.strip("`")
    source = TESTS[test].read_text(encoding="utf-8")
    assert re.search(rf"\b{function.strip('`').split('.')[-2]}\b", source)


def test_every_paper_of_the_docstrings_stands_in_the_references():
    number = r"arXiv:(\d{4}\.\d{4,5})"
    references = (ROOT / "docs" / "references.md").read_text(encoding="utf-8")
    used = {
        found
        for path in (ROOT / "minippo").rglob("*.py")
        for found in re.findall(number, path.read_text(encoding="utf-8"))
    }
    assert used - set(re.findall(number, references)) == set()


# -- the checks themselves


def test_a_planted_error_is_found(tmp_path):
    (tmp_path / "there.md").write_text(
        "# A heading, with `code`\n\n```\n# none\n```\n\n## A heading, with code\n"
    )
    good = (
        "[a](there.md) [b](there.md#a-heading-with-code) [c](there.md#a-heading-with-code-1) "
        "[d](#own) [e](https://no.where/x)"
    )
    assert broken_links(good, tmp_path, {"own"}) == []
    for bad in ("not-there.md", "there.md#none", "#other", "there.md#a-heading-with-code-2"):
        assert broken_links(f"{good} [x]({bad})", tmp_path, {"own"}) == [bad]
    assert broken_links("`[x](none.md)`\n```\n[x](none.md)\n```\n", tmp_path, set()) == []
    assert cited_equations(
        r"equation (9.1), Equations (9.2) and (9.3), equation 9.4; $$ x \tag{9.51} $$ (1.5)"
    ) == {"9.1", "9.2", "9.3", "9.4", "9.51"}
    assert cited_equations("by (9.1), `(9.2)` and 9.3", everywhere=True) == {"9.1"}
    (tmp_path / "module.py").write_text(
        'def f():\n    """Does.\n\n    Equation (9.1)  x\n    Limits see (9.2)\n    """\n'
    )
    assert numbered_equations(tmp_path) == [("9.1", "module.f")]
    cited = "`test_a::test_b`, tests/test_a.py::test_c[x], tests/sub/test_d.py::test_e"
    assert named_tests(cited) == {"test_a::test_b", "test_a::test_c", "sub/test_d::test_e"}
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub" / "test_d.py").write_text("def test_e():\n    pass\n")
    assert set(functions_that_test(tmp_path)) == {"test_d::test_e", "sub/test_d::test_e"}
    assert missing_files("`tests/test_kl.py` `tests/none.py` `docs/stage-*.md`") == {
        "tests/none.py"
    }
    assert missing_modules("python -m minippo.exact, python -m minippo.none") == {"minippo.none"}
    assert missing_names("`kl.kl_k1` `kl.kl_k9` `stages.policy.none`") == {
        "kl.kl_k9",
        "stages.policy.none",
    }
    assert wide_lines(f"| {'x ' * 80} |\n{'y' * 130}\n{'short'}\n{'z ' * 70}") == ["z " * 70]
    assert rows_of("| a | b | c |\n|---|---|---|\n| `x` | y | z |\nno | row | here\n", 3) == [
        ["`x`", "y", "z"]
    ]
