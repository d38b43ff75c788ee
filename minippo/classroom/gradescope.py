"""An autograder for Gradescope: a zip that grades one submission as `grade` does.

Gradescope unpacks the zip in /autograder/source, runs setup.sh once, and run_autograder for each
submission, whose files are in /autograder/submission; it reads /autograder/results/results.json.
That file is there before anything is graded, with no points, and is replaced when the grades are
known: a grader that crashes or is killed leaves the first one. AUTOGRADER_ROOT is another folder in
the place of /autograder, MINIPPO_PYTHON another Python than the one that setup.sh made.
"""

import io
import json
import os
import re
import secrets
import sys
import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import minippo
from minippo.classroom.box.room import Limits
from minippo.classroom.grading import Graded, Plan, grade_all
from minippo.classroom.judging import Grade
from minippo.classroom.submissions import read_student
from minippo.errors import InputError
from minippo.runs.files import write_json

PACKAGE = Path(minippo.__file__).parent
ENDINGS = (".py", ".json", ".css", ".js", ".typed")  # of the package's files
SETTINGS, NOT_GRADED, SEED = "settings.json", "not_graded.json", "seed"
STARTED = (1980, 1, 1, 0, 0, 0)  # the oldest time that a zip knows: the same files, the same bytes
FAILED = "The autograder did not come to an end. This is not your fault: tell your lecturer."
SETUP = """#!/usr/bin/env bash
# Once, when the image is built: a Python with what minippo needs, and nothing else of it.
set -e
apt-get update
apt-get install -y python3 python3-venv
python3 -m venv /opt/minippo
/opt/minippo/bin/pip install --no-cache-dir {packages}
"""
RUN = """#!/usr/bin/env bash
# For each submission. From the first line on there are results, whatever happens to the grader.
root="${AUTOGRADER_ROOT:-/autograder}"
mkdir -p "$root/results"
cp "$root/source/not_graded.json" "$root/results/results.json"
chmod 700 "$root/source" "$root/results"  # answers run as another user
cd "$root/source" || exit 0
PYTHONPATH="$root/source" "${MINIPPO_PYTHON:-/opt/minippo/bin/python}" -B -c '
import sys
from minippo.classroom.gradescope import grade_submission
grade_submission(sys.argv[1])
' "$root"
exit 0
"""


def archive(exercises: Sequence[str], points: Mapping[str, float], seed: bytes | None) -> bytes:
    """The zip. Without a seed, one is drawn for each submission."""
    worth = {name: points.get(name, 1.0) for name in exercises}
    nothing = [Grade(name, "no result", "", FAILED) for name in exercises]
    files: dict[str, bytes] = {
        "setup.sh": SETUP.format(packages=packages()).encode(),
        "run_autograder": RUN.encode(),
        SETTINGS: json.dumps({"points": worth}, indent=1).encode(),
        NOT_GRADED: json.dumps(results(Graded("", tuple(nothing), (FAILED,)), worth)).encode(),
        **({} if seed is None else {SEED: seed}),
    }
    for path in sorted(PACKAGE.rglob("*")):
        if path.suffix in ENDINGS and path.is_file():
            files[f"minippo/{path.relative_to(PACKAGE).as_posix()}"] = path.read_bytes()
    zipped = io.BytesIO()
    with zipfile.ZipFile(zipped, "w") as made:
        for name, content in sorted(files.items()):
            entry = zipfile.ZipInfo(name, STARTED)
            is_run = name in ("setup.sh", "run_autograder")
            entry.create_system = 3  # Unix, so that the mode counts
            entry.external_attr = (0o100755 if is_run else 0o100644) << 16
            made.writestr(entry, content, zipfile.ZIP_DEFLATED)
    return zipped.getvalue()


def packages() -> str:
    """What minippo needs, quoted for a shell, from pyproject.toml in the checkout."""
    path = PACKAGE.parent / "pyproject.toml"
    try:
        listed = re.search(r"^dependencies = \[(.*)\]$", path.read_text(encoding="utf-8"), re.M)
    except OSError as error:
        raise InputError(f"{path}: is not there; build from a checkout") from error
    assert listed is not None
    return " ".join(f"'{name}'" for name in re.findall(r'"([^"]+)"', listed[1]))


def results(graded: Graded, points: Mapping[str, float]) -> dict[str, Any]:
    """What results.json says, in Gradescope's published format: a test for each exercise."""
    tests = [
        {
            "name": grade.exercise,
            "score": points[grade.exercise] if grade.status == "ok" else 0.0,
            "max_score": points[grade.exercise],
            "status": "passed" if grade.status == "ok" else "failed",
            "output": said(grade),
            "visibility": "visible",
        }
        for grade in graded.grades
    ]
    return {
        "output": "\n".join(graded.remarks),
        "output_format": "text",
        "visibility": "visible",
        "stdout_visibility": "hidden",
        "tests": tests,
    }


def said(grade: Grade) -> str:
    """What a student is told of an exercise."""
    mistake = f" ({grade.mistake})" if grade.mistake else ""
    return f"{grade.status}{mistake}: {grade.message}"


def about_walls(graded: Graded) -> dict[str, Any]:
    """What the lecturer alone is told: what did not stand between the answers and the machine."""
    missing = ", ".join(graded.walls.missing())
    told = f"not isolated: an answer ran where {missing}" if missing else "every wall stood"
    shown = {"name": "isolation", "score": 0.0, "max_score": 0.0}
    return {**shown, "output": told, "visibility": "hidden"}


def grade_submission(root: str) -> None:
    """Grade what is in root/submission and write root/results/results.json."""
    source = Path(root) / "source"
    points = json.loads((source / SETTINGS).read_text(encoding="utf-8"))["points"]
    seed = (source / SEED).read_bytes() if (source / SEED).exists() else secrets.token_bytes(16)
    student = read_student(Path(os.path.realpath(root)) / "submission")
    plan = Plan(tuple(points), seed, Limits(), hidden=(os.path.realpath(root),))
    (graded,) = grade_all(plan, [student], jobs=1)
    found = results(graded, points)
    found["tests"].append(about_walls(graded))
    write_json(Path(root) / "results" / "results.json", found)
    right = sum(grade.status == "ok" for grade in graded.grades)
    print(f"{right} of {len(points)}", file=sys.stderr)
