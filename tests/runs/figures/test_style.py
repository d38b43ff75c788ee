"""What the figures share. That they are good to look at was judged by eye."""

import os
import subprocess
import sys
from pathlib import Path

from minippo.runs.figures.style import check_drawing

ROOT = Path(__file__).parents[3]


def test_no_figure_needs_or_touches_pyplot():
    code = (
        "import sys; from minippo.runs import figures; assert 'matplotlib' not in sys.modules; "
        "figures.response_lengths([1], [2], 2); assert 'matplotlib.pyplot' not in sys.modules"
    )
    # a fresh process: other tests may import it
    subprocess.run([sys.executable, "-c", code], check=True, cwd=ROOT)


def test_a_matplotlib_that_cannot_be_imported_is_told_before_the_work():
    code = "from minippo.runs.figures.style import check_drawing; check_drawing()"
    environment = os.environ | {"MPLBACKEND": "nonsense"}
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, env=environment, capture_output=True, text=True
    )
    assert "InputError: MPLBACKEND=nonsense: matplotlib cannot be imported, and no" in done.stderr
    check_drawing()  # here it can
