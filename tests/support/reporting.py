"""What a run leaves out, the reason of each skip, and the processor seconds of each suite."""

from __future__ import annotations

import re
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path
from typing import cast

import pytest
from support.processor_time import seconds_of

# A test that no CI machine can run says so in its reason; --fail-on-skip lets only these pass.
NOT_IN_CI = "not in CI: "
# What a provider cannot do, as the conformance kits say it, no machine can run.
_NOT_ABLE = re.compile(r"clause \d+\.\d+: ")

# Processor seconds of each suite: in the normal run and with --full, on a machine that takes 2.5 for
# ``sum(range(10**8))``. Printed, never enforced. In the normal run they are 900 together for two clouds, 8
# minutes of two cores, 56 more for each further cloud, and 40 for attacks from inside: 10 minutes for six
# clouds.
FOR_TWO_CLOUDS, FOR_ONE_MORE, FOR_ATTACKS = 900, 56, 40
BUDGETS: dict[str, tuple[int, int]] = {
    "acceptance": (1, 130),
    "adapter": (10, 20),
    "agent": (125, 360),
    "cli": (100, 200),
    "cloudflare_worker": (10, 30),
    "cloudflare_provider": (45, 250),
    "config": (28, 65),
    "conformance": (80, 195),
    "docker": (5, 200),
    "e2b": (78, 250),
    "emulators": (5, 30),
    "examples": (48, 160),
    "faults": (58, 255),
    "files": (24, 95),
    "fly": (40, 330),
    "guest": (12, 30),
    "harness": (11, 25),
    "http_carrier": (6, 75),
    "link": (12, 30),
    "local": (62, 255),
    "modal_provider": (44, 200),
    "packaging": (25, 45),
    "parity": (75, 490),
    "providers": (54, 150),
    "redteam": (40, 150),
    "runner": (30, 50),
    "testing": (22, 80),
    "daytona_provider": (46, 320),
    "vercel_provider": (50, 250),
    "wire": (17, 45),
}
_BUDGET_OF_ANY_OTHER = (10, 30)
# Only --full installs one.
_ENGINES = ("docker_engine", "podman_engine")


@dataclass(slots=True)
class _Suite:
    tests: int = 0
    seconds: float = 0.0
    processor: float = 0.0


_suites: dict[str, _Suite] = defaultdict(_Suite)
_processor: dict[str, float] = defaultdict(float)  # by test


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add our options."""
    group = parser.getgroup("agenthost")
    group.addoption("--full", action="store_true", help="also run the long tests (marked full)")
    group.addoption(
        "--fail-on-skip", action="store_true", help=f"fail when a test is skipped, except for {NOT_IN_CI!r}"
    )


def pytest_configure(config: pytest.Config) -> None:
    """Declare our markers."""
    config.addinivalue_line("markers", "full: a long test, run with --full only")
    config.addinivalue_line("markers", "deep: more of the same, run where --schedules is given")
    config.addinivalue_line("markers", "attack(goal, mechanism): an attack from inside, which must fail")
    config.addinivalue_line("markers", "control(mechanism): the same attack without the defence: it succeeds")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave out what this run is not asked for."""
    left_out: list[pytest.Item] = []
    if config.getoption("schedules", default=None) is None:
        left_out += [item for item in items if item.get_closest_marker("deep")]
    if not config.getoption("--full"):
        left_out += [item for item in items if item.get_closest_marker("full") or _is_left_out(item)]
    if left_out:
        gone = set(left_out)
        items[:] = [item for item in items if item not in gone]
        config.hook.pytest_deselected(items=list(gone))


def _is_left_out(item: pytest.Item) -> bool:
    parameters: dict[str, object] = getattr(getattr(item, "callspec", None), "params", {})
    # Most tests have the second loop only with --full; some name it themselves.
    return parameters.get("anyio_backend") == "trio" or not set(_ENGINES).isdisjoint(
        getattr(item, "fixturenames", ())
    )


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    """Add up the time of each suite: the directory below tests/."""
    parts = Path(report.nodeid.partition("::")[0]).parts[1:-1]
    suite = _suites[parts[0] if parts else "tests"]
    suite.tests += report.when == "call"
    suite.seconds += report.duration
    suite.processor += seconds_of(report)
    _processor[report.nodeid] += seconds_of(report)


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
    if _suites:
        terminalreporter.section("processor seconds by suite")
        _write_suites(
            terminalreporter,
            is_full=bool(config.getoption("--full")),
            most=int(config.getoption("durations", default=None) or 0),
        )


def _write_suites(terminal: pytest.TerminalReporter, *, is_full: bool, most: int) -> None:
    over: list[str] = []
    allowed = 0
    for name, suite in sorted(_suites.items()):
        budget = BUDGETS.get(name, _BUDGET_OF_ANY_OTHER)[is_full]
        allowed += budget
        line = f"{name:<14} {suite.tests:>5} tests {suite.processor:>7.1f} of {budget:>4}"
        terminal.write_line(f"{line}, {suite.seconds:>7.1f} s in all")
        if suite.processor > 2 * budget:
            over.append(name)
    everything = _Suite(
        *(sum(getattr(suite, field) for suite in _suites.values()) for field in _Suite.__slots__)
    )
    line = f"{'all':<14} {everything.tests:>5} tests {everything.processor:>7.1f} of {allowed:>4}"
    terminal.write_line(f"{line}, {everything.seconds:>7.1f} s in all")
    if most:
        terminal.section(f"most processor seconds of {most} tests")
        for test in sorted(_processor, key=lambda test: -_processor[test])[:most]:
            terminal.write_line(f"{_processor[test]:>7.1f} {test}")
    if over:
        terminal.write_line(f"over twice its budget: {', '.join(over)}", yellow=True)
