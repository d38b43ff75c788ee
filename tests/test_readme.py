"""What README.md and docs/ tell a reader to type does run, and what they point at is there.

Two kinds of commands are left out here: the two of the set-up, which install packages, and the
measurements, which take hours; their flags are checked.
"""

import json
import re
import shlex
from pathlib import Path

import pytest
import torch

import minippo
from minippo.algorithms import REGISTRY
from minippo.commands.flags import parse_arguments
from minippo.commands.train import main
from tests.own_tasks import RULE
from tests.tiny_runs import CAPITALS, FILES_RUN, TINY, TINY_FILES
from tests.worlds import BOS, Probe, good_token

ROOT = Path(minippo.__file__).parent.parent
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
COMMAND = re.compile(r"python -m minippo\.(\w+(?:\.\w+)*)([^`\n&|]*)")
QUOTED = sorted(
    {
        (module, arguments.strip())
        for page in PAGES
        for module, arguments in COMMAND.findall(page.read_text())
    }
)
README = (ROOT / "README.md").read_text()
RUNS = [
    pytest.param(
        arguments,
        id=arguments or "plain",
        # those of the other pages in the slow part
        marks=() if f"minippo.train_toy {arguments}".rstrip() in README else pytest.mark.slow,
    )
    for module, arguments in QUOTED
    if module == "train_toy"
]


def test_the_two_commands_of_the_set_up_stand_in_the_readme():
    readme = (ROOT / "README.md").read_text()
    for command in ("python -m minippo.train_toy", "python -m pytest"):
        assert f"pip install -r requirements.txt && {command}\n" in readme


@pytest.mark.parametrize("arguments", RUNS)
def test_every_quoted_run_runs(arguments, tmp_path, monkeypatch, data, bytes_folder):
    """As it stands but for its size, and for DIR and DIR2, which are the reader's own folders."""
    monkeypatch.chdir(tmp_path)
    words = [
        {"DIR": str(data), "DIR2": str(bytes_folder), "FILE": str(tmp_path / "FILE")}.get(
            word, word
        )
        for word in shlex.split(arguments)
    ]
    if "--help" in words:
        assert main(words) == 0
        return
    if "--resume" in words:
        words.remove("--resume")
        assert main([*TINY, *words, "--quiet"]) == 0
        assert main([*words, "--resume", "--quiet"]) == 0
        return
    write_own_files(tmp_path)
    parse_arguments(words)  # the flags as they are quoted
    if has_rule(words):
        assert main([*RULE, *words, "--quiet"]) == 0
        return
    if "cuda" in words and not torch.cuda.is_available():
        pytest.skip("needs a CUDA device")
    # the model that one starts from has a size
    of_people = "files" in words or "--preferences" in words
    of_the_task = TINY_FILES if of_people else TINY
    size = FILES_RUN if "--start_from" in words else of_the_task
    assert main([*size, *words, *(CAPITALS if "capitals" in words else ()), "--quiet"]) == 0


def write_own_files(folder):
    """The files that the pages about one's own task and data show, and what these read."""
    pages = ("docs/your-own-task.md", "docs/your-data.md")
    page = "\n".join((ROOT / name).read_text() for name in pages)
    instructions = [{"instruction": f"say {i} words", "output": "here they are"} for i in range(20)]
    (folder / "alpaca.json").write_text(json.dumps(instructions))
    for name, text in re.findall(r"```python\n# (\w+\.py)\n(.*?)```", page, re.DOTALL):
        (folder / name).write_text(text)
    rows = [{"prompt": word, "chosen": "chess", "rejected": "a"} for word in ("rome", "paris")]
    (folder / "FILE").write_text("".join(json.dumps(row) + "\n" for row in rows))


def has_rule(words):
    return "arithmetic" in words or "--reward" in words


@pytest.mark.parametrize(
    "arguments", [arguments for module, arguments in QUOTED if module == "measure"]
)
def test_the_flags_of_every_quoted_measurement_are_right(arguments, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write_own_files(tmp_path)
    words = shlex.split(arguments)
    for own in ("--seeds", "--root"):
        if own in words:
            at = words.index(own)
            del words[at : at + 2]
    parse_arguments(words)


@pytest.mark.parametrize("page", PAGES, ids=[page.name for page in PAGES])
def test_links_and_module_names_lead_somewhere(page):
    text = page.read_text()
    for target in re.findall(r"\]\(([^)#]+)[^)]*\)", text):
        if not target.startswith("http"):
            assert (page.parent / target).exists(), target
    for module, _ in COMMAND.findall(text):
        path = ROOT / "minippo" / module.replace(".", "/")
        assert path.with_suffix(".py").exists() or (path / "__main__.py").exists(), module


def test_the_algorithm_of_contributing_is_accepted_and_trains(monkeypatch):
    """The file shown there and one line in the registry are all that a new algorithm needs."""
    page = (ROOT / "CONTRIBUTING.md").read_text()
    scope = {}
    exec(re.search(r"```python\n(.*?)```", page, re.DOTALL)[1], scope)
    monkeypatch.setitem(REGISTRY, "sign", scope["SIGN"])
    probe = Probe(good_token, whiten_advantages=False, num_updates=30)
    probe.train("sign")
    policy, reference = probe.probabilities([BOS])
    assert policy[4] > reference[4] + 0.1


def test_the_pages_name_the_version_of_the_package():
    version = re.escape(minippo.__version__)
    assert re.search(rf"^version: {version}$", (ROOT / "CITATION.cff").read_text(), re.M)
    newest = re.search(r"^## (\S+)$", (ROOT / "CHANGELOG.md").read_text(), re.M)
    assert newest and newest[1] == minippo.__version__
