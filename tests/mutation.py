"""Mutation testing of the derivation: one small slip at a time in its modules, and the tests must
notice each.

    pip install mutmut==3.8.1
    python tests/mutation.py            all modules, a few minutes on one core
    python tests/mutation.py gae ppo    two of them; those of the relatives as relatives.groups

Which modules and which tests: [tool.mutmut] in pyproject.toml. It works in a copy, so no file here
is changed. mutmut passes over decorated functions; in the copy a `@torch.no_grad()` above a
function is `name = torch.no_grad()(name)` at the end of its module, which is the same function, and
mutmut sees it.

Prints each slip that survives, with the reason, and exits with 1 when one has none or a reason has
lost its slip.
"""

import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections import Counter
from pathlib import Path

NAME = re.compile(r"minippo\.([\w.]+)\.x_(\w+)__mutmut_\d+")
ROOT = Path(__file__).resolve().parent.parent
AGAIN = "token_ratios looks at logprobs again"
REASONS = {  # (function, its changed line): why it does all that the original promises
    (
        "ppo.clipped_surrogate_loss",
        'check_batch(response_mask, data={"advantages": advantages}, )',
    ): AGAIN,
    (
        "ppo_statistics.ratio_statistics",
        'check_batch(response_mask, data={"advantages": advantages}, )',
    ): AGAIN,
    (
        "ppo.value_errors",
        "check_batch(response_mask, data=data, )",
    ): "zero_padding refuses the same values: no float tensor, another shape than the mask",
    (
        "relatives.groups.standardised_advantages",
        "unit = centred / torch.where(differ, centred.abs().amax(dim=1, keepdim=True), 2.0)",
    ): "where no score differs centred is 0, and the last line puts 0 there",
    (
        "relatives.ratios.dual_clipped_surrogate_loss",
        'check_batch(response_mask, data={"advantages": advantages}, )',
    ): AGAIN,
    (
        "relatives.ratios.dual_clipped_surrogate_loss",
        "far = (advantages <= 0) & (ratios > dual_clip)",
    ): "where the advantage is 0, value and gradient are 0 either way",
    (
        "relatives.ratios.cispo_loss",
        "cut = log_ratios >= math.log(ratio_max)",
    ): "at the bound the ratio and the bound are one number",
    (
        "relatives.ratios.cispo_loss",
        "likelihood = torch.where(log_ratios == -torch.inf, 1.0, logprobs).detach()"
        "  # 0 * log 0 is 0",
    ): "its ratio is 0, and any finite number will do",
    (
        "relatives.ratios.cispo_loss",
        "fits = product.isfinite() & (product.abs() > torch.finfo(product.dtype).tiny)",
    ): "a product of this size comes out right in both ways",
    (
        "relatives.selection.best_of_n_probabilities",
        "if not (bool((p >= 0).all()) and abs(p.sum().item() - 1) <= SUM_TOLERANCE):",
    ): "no float near 1 is 1e-3 away from it, neither above nor below",
    (
        "relatives.selection.best_of_n_probabilities",
        "per_unit = torch.where(mass > 0, at_most**n * falls / mass, 1.0)",
    ): "the next line multiplies it by p, which is 0 where all that score the same have 0",
    ("trpo.surrogate_loss", 'check_batch(response_mask, data={"advantages": advantages}, )'): AGAIN,
    (
        "trpo.mean_kl",
        "differences = torch.where(old > 0, log_old - log_pi, 1.0) "
        " # before the product: 0 * inf is NaN",
    ): "the next line multiplies it by old, which is 0 there",
}


def copy_without_decorators(folder):
    for name in ("minippo", "tests"):
        shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "pyproject.toml", folder)
    for path in folder.glob("minippo/*.py"):
        source, decorated = path.read_text(encoding="utf-8"), r"^@torch\.no_grad\(\)\ndef (\w+)"
        names = re.findall(decorated, source, re.MULTILINE)
        source = re.sub(decorated, r"def \1", source, flags=re.MULTILINE)
        path.write_text(
            source + "".join(f"{name} = torch.no_grad()({name})\n" for name in names),
            encoding="utf-8",
        )


def main(modules):
    with tempfile.TemporaryDirectory() as folder:
        copy_without_decorators(Path(folder))

        def mutmut(*arguments):
            environment = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONHASHSEED": "0"}
            run = subprocess.run(
                ["mutmut", *arguments], cwd=folder, env=environment, text=True, capture_output=True
            )
            if run.returncode:
                without_spinner = re.sub(r"(?m)^[\u2800-\u28ff] .*\n", "", run.stdout)
                raise SystemExit(without_spinner + run.stderr)
            return run.stdout

        mutmut("run", "--max-children", "1", *[f"minippo.{module}.*" for module in modules])
        made, killed, seen = Counter(), Counter(), set()
        for line in mutmut("results", "--all", "true").splitlines():
            name, status = line.strip().split(": ")
            if status == "not checked":
                continue
            module = NAME.fullmatch(name)[1]
            made[module] += 1
            killed[module] += status in ("killed", "timeout")
            if status not in ("killed", "timeout"):
                function = NAME.fullmatch(name).expand(r"\1.\2")
                changed = re.search(r"(?m)^\+(?!\+\+)(.*)", mutmut("show", name)).group(1).strip()
                seen.add((function, changed))
                print(
                    f"{status}: {function}: {changed}\n    "
                    f"{REASONS.get((function, changed), 'no reason given')}"
                )
        tried = {key for key in REASONS if not modules or key[0].rpartition(".")[0] in made}
        lost = tried - seen
        for function, changed in lost:
            print(f"a reason without its slip: {function}: {changed}")
    for module in made:
        print(f"{module:16} {killed[module]:4} of {made[module]:4} killed")
    print(
        f"{'all':16} {killed.total():4} of {made.total():4} killed, "
        f"{killed.total() / made.total():.1%}"
    )
    return bool(lost or seen - REASONS.keys())


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
