"""Builds the notebooks from their sources: NN_name.py (jupytext's percent format) -> NN_name.ipynb
with outputs.

    python notebooks/build.py             build what is not built from its present source
    python notebooks/build.py 03 07       build these
    python notebooks/build.py --try 03    execute, write nothing; MINIPPO_FAST=1 makes it short

Each notebook carries the sha256 of its source; tests/test_notebooks.py fails when a committed one
is not built from its .py, when an output holds an error, or when a picture is larger than 300 kB.
"""

import copy
import hashlib
import os
import sys
import time
from pathlib import Path

FOLDER = Path(__file__).resolve().parent
SECONDS = 600  # for one cell


def sources():
    return sorted(FOLDER.glob("[0-9][0-9]_*.py"))


def digest(source):
    return hashlib.sha256(source.read_bytes()).hexdigest()


def is_current(source):
    """Was the notebook beside this source built from it as it stands?"""
    import nbformat

    path = source.with_suffix(".ipynb")
    return path.exists() and nbformat.read(path, as_version=4).metadata.get("minippo", {}).get(
        "sha256"
    ) == digest(source)


def execute(source, times=1):
    """The executed notebook of a source. Raises nbclient's CellExecutionError when a cell does.

    times: how often each cell is run before the next one; 2 shows whether it can be run again.
    """
    import jupytext
    from nbclient import NotebookClient

    os.environ["PYTHONPATH"] = os.pathsep.join(
        [str(FOLDER.parent), os.environ.get("PYTHONPATH", "")]
    )
    os.environ["PYDEVD_DISABLE_FILE_VALIDATION"] = "1"
    notebook = jupytext.read(source)
    notebook.metadata = {
        "kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"}
    }
    notebook.cells = [copy.deepcopy(cell) for cell in notebook.cells for _ in range(times)]
    NotebookClient(
        notebook,
        timeout=SECONDS,
        kernel_name="python3",
        record_timing=False,
        coalesce_streams=True,  # what a cell prints is one block, however long it takes
        resources={"metadata": {"path": str(FOLDER)}},
    ).execute()
    for number, cell in enumerate(notebook.cells):
        cell.id = f"cell-{number}"  # the same source gives the same file
    notebook.metadata = {
        "kernelspec": notebook.metadata["kernelspec"],
        "language_info": {"name": "python"},
        "minippo": {"source": source.name, "sha256": digest(source)},
    }
    return notebook


def build(source):
    import nbformat

    path = source.with_suffix(".ipynb")
    temporary = path.with_name(f".{path.name}.tmp")
    nbformat.write(execute(source), temporary)
    os.replace(temporary, path)


def main(arguments):
    trying = "--try" in arguments
    wanted = [name for name in arguments if name != "--try"]
    for source in sources():
        if (
            any(source.name.startswith(name) for name in wanted)
            if wanted
            else trying or not is_current(source)
        ):
            begin = time.perf_counter()
            execute(source) if trying else build(source)
            print(f"{source.name:<40} {time.perf_counter() - begin:6.1f} s", flush=True)


if __name__ == "__main__":
    main(sys.argv[1:])
