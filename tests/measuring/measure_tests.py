"""Coverage and processor seconds of the tests, compared with the last figures that were kept.

    scripts/measure [--write] [arguments for pytest ...]

Every process is measured: the test processes, the commands and hosts that they start, keepers, guests and
runners. Processor seconds are inflated by that, about twofold; ``scripts/test`` prints them as they are.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import sysconfig
import tempfile
import time
from collections import defaultdict
from pathlib import Path
from typing import Any, TypedDict

from coverage_inside import DIRECTORY

ROOT = Path(__file__).parents[2]
HERE = Path(__file__).parent
KEPT = ROOT / "benchmarks" / "test_figures.json"
_SETTINGS = """
[run]
source_pkgs = agenthost
parallel = true
patch = subprocess, _exit, fork
plugins = coverage_inside
disable_warnings =
    no-data-collected, module-not-imported, module-not-measured, couldnt-parse, already-imported

[paths]
source =
    src/agenthost
    */src/agenthost
    */guest.pyz/agenthost
    */runner.pyz/agenthost
"""
# Where coverage's own start-up hook finds the plugin, before that hook runs in a process.
_PATH_FILE = Path(sysconfig.get_path("purelib")) / "a0_agenthost_measuring.pth"


class Figures(TypedDict):
    """What is kept.

    Attributes:
        command: The arguments for pytest.
        passed: How many tests passed.
        machine: Processor seconds of ``sum(range(10**8))`` on the machine.
        total: Statements covered, in percent.
        packages: The same by package.
    """

    command: list[str]
    passed: int
    machine: float
    total: float
    packages: dict[str, float]


def main() -> int:
    """Measure, print and perhaps keep; return pytest's exit code."""
    parser = argparse.ArgumentParser(prog="scripts/measure", description=__doc__)
    parser.add_argument("--write", action="store_true", help=f"keep the figures in {KEPT.relative_to(ROOT)}")
    given, arguments = parser.parse_known_args()
    # A local sandbox sees this directory, at the place where its programs store what they covered.
    directory = Path(tempfile.mkdtemp(prefix="agenthost-measure-", dir="/var/tmp"))
    directory.chmod(0o1777)
    _PATH_FILE.write_text(f"{HERE}\n")
    (directory / "settings").write_text(_SETTINGS)
    try:
        code, passed = _run(directory, arguments)
        figures = _report(directory, arguments, passed)
    finally:
        _PATH_FILE.unlink()
        shutil.rmtree(directory)
    _compare(figures)
    if given.write:
        KEPT.write_text(json.dumps(figures, indent=2) + "\n")
    return code


def _run(directory: Path, arguments: list[str]) -> tuple[int, int]:
    env = {**os.environ, DIRECTORY: str(directory), "COVERAGE_FILE": str(directory / ".coverage")}
    env.pop("PYTHONDONTWRITEBYTECODE", None)
    results = directory / "results.xml"
    command = [sys.executable, "-m", "coverage", "run", f"--rcfile={directory}/settings", "-m", "pytest"]
    command += ["-n", "4"]
    code = subprocess.run(
        [*command, f"--junit-xml={results}", *arguments], cwd=ROOT, env=env, check=False
    ).returncode
    text = results.read_text() if results.exists() else ""
    return code, text.count("<testcase ") - text.count("<failure ") - text.count("<skipped ")


def _report(directory: Path, arguments: list[str], passed: int) -> Figures:
    def coverage(command: str, *words: str) -> None:
        argv = [sys.executable, "-m", "coverage", command, f"--rcfile={directory}/settings"]
        # A process that was killed while it stored leaves a file that cannot be read; coverage warns of it.
        env = {**os.environ, "COVERAGE_FILE": str(directory / ".coverage")}
        subprocess.run([*argv, *words], cwd=ROOT, env=env, check=True, stderr=subprocess.DEVNULL)

    coverage("combine", "--quiet", str(directory))
    report = directory / "report.json"
    coverage("json", "--ignore-errors", "--quiet", "-o", str(report))
    found: dict[str, Any] = json.loads(report.read_text())
    lines: dict[str, list[int]] = defaultdict(lambda: [0, 0])
    for name, file in found["files"].items():
        parts = Path(name).parts[2:-1] or (Path(name).stem,)
        package = ".".join(parts[: 2 if parts[0] in ("providers", "testing") else 1])
        lines[package][0] += file["summary"]["covered_lines"]
        lines[package][1] += file["summary"]["num_statements"]
    covered, statements = (sum(one[index] for one in lines.values()) for index in (0, 1))
    return Figures(
        command=arguments,
        passed=passed,
        machine=round(_machine(), 2),
        total=round(100 * covered / statements, 2),
        packages={name: round(100 * one[0] / one[1], 1) for name, one in sorted(lines.items()) if one[1]},
    )


def _machine() -> float:
    begin = time.process_time()
    sum(range(10**8))
    return time.process_time() - begin


def _compare(figures: Figures) -> None:
    kept: Figures | None = json.loads(KEPT.read_text()) if KEPT.exists() else None
    print(f"\ncoverage of {figures['passed']} passed tests, in percent of statements")
    rows = [*figures["packages"].items(), ("all", figures["total"])]
    before = {} if kept is None else {**kept["packages"], "all": kept["total"]}
    for name, percent in rows:
        change = f"{percent - before[name]:+.1f}" if name in before else "new"
        print(f"  {name:<32} {percent:6.1f}   {change}")


if __name__ == "__main__":
    sys.exit(main())
