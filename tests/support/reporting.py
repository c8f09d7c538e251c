"""Skips are said aloud, and each suite has a printed budget of time."""

from __future__ import annotations

import re
from collections import defaultdict
from pathlib import Path
from typing import cast

import pytest

# A test that no CI machine can run says so in its reason; --fail-on-skip lets only these pass.
NOT_IN_CI = "not in CI: "
# What a provider cannot do, as the conformance kits say it, no machine can run.
_NOT_ABLE = re.compile(r"clause \d+\.\d+: ")

# Seconds on two cores, for the normal run; --full may take three times as long. Printed, never enforced.
_BUDGETS = {"testing": 60, "wire": 120, "guest": 120, "local": 180, "runner": 120, "agent": 240, "cli": 240}
_BUDGETS["conformance"] = 240
_BUDGETS["faults"] = 180
_BUDGETS["config"] = 150
_BUDGETS["files"] = 120
_BUDGETS["docker"] = 240
_BUDGETS["examples"] = 150
_BUDGETS["e2b"] = 180
_BUDGETS["modal_provider"] = 180
_BUDGET_OF_ANY_OTHER = 60
_FULL_FACTOR = 3
# Only --full installs one.
_ENGINES = ("docker_engine", "podman_engine")
# The normal run has these suites on one backend. What differs between the two lies below them, in suites
# that it has on both.
_ON_ASYNCIO = ("tests/agent/", "tests/config/", "tests/conformance/", "tests/faults/", "tests/local/")

_times: dict[str, float] = defaultdict(float)
_counts: dict[str, int] = defaultdict(int)


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add our options."""
    group = parser.getgroup("agenthost")
    group.addoption("--full", action="store_true", help="also run the long tests (marked full)")
    group.addoption(
        "--fail-on-skip", action="store_true", help=f"fail when a test is skipped, except for {NOT_IN_CI!r}"
    )


def pytest_configure(config: pytest.Config) -> None:
    """Declare our marker."""
    config.addinivalue_line("markers", "full: a long test, run with --full only")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave the long tests out of the normal run."""
    if config.getoption("--full"):
        return
    long = [item for item in items if item.get_closest_marker("full") or _is_left_out(item)]
    if long:
        items[:] = [item for item in items if item not in long]
        config.hook.pytest_deselected(items=long)


def _is_left_out(item: pytest.Item) -> bool:
    parameters: dict[str, object] = getattr(getattr(item, "callspec", None), "params", {})
    is_second = item.nodeid.startswith(_ON_ASYNCIO) and parameters.get("anyio_backend") == "trio"
    return is_second or not set(_ENGINES).isdisjoint(getattr(item, "fixturenames", ()))


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    """Add up the time of each suite: the directory below tests/."""
    suite = Path(report.nodeid.partition("::")[0]).parts[1:-1]
    name = suite[0] if suite else "tests"
    _times[name] += report.duration
    _counts[name] += report.when == "call"


def _skips(terminal: pytest.TerminalReporter) -> list[tuple[str, str]]:
    found: list[tuple[str, str]] = []
    for report in terminal.stats.get("skipped", []):
        # A skip is told as (file, line, reason).
        detail = cast("tuple[str, int, str] | str", report.longrepr)
        reason = detail if isinstance(detail, str) else detail[2]
        found.append((report.nodeid, reason.removeprefix("Skipped: ")))
    return found


@pytest.hookimpl(trylast=True)
def pytest_sessionfinish(session: pytest.Session) -> None:
    """Turn skips into a failure where that was asked for."""
    config = session.config
    terminal = config.pluginmanager.get_plugin("terminalreporter")
    if not config.getoption("--fail-on-skip") or not isinstance(terminal, pytest.TerminalReporter):
        return
    if session.exitstatus == pytest.ExitCode.OK and any(
        not reason.startswith(NOT_IN_CI) and not _NOT_ABLE.match(reason) for _, reason in _skips(terminal)
    ):
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    """Print every skip with its reason, and the time of each suite."""
    skips = _skips(terminalreporter)
    if skips:
        fails = config.getoption("--fail-on-skip")
        title = "skipped, which fails this run" if fails else "skipped"
        terminalreporter.section(title)
        for nodeid, reason in sorted(skips):
            terminalreporter.write_line(f"{nodeid}: {reason}")
    if _times:
        terminalreporter.section("time by suite")
        factor = _FULL_FACTOR if config.getoption("--full") else 1
        for name, seconds in sorted(_times.items()):
            budget = _BUDGETS.get(name, _BUDGET_OF_ANY_OTHER) * factor
            over = "  OVER" if seconds > budget else ""
            line = f"{name:<12} {_counts[name]:>5} tests {seconds:>7.1f} s of {budget} s{over}"
            terminalreporter.write_line(line)
