"""Processor seconds of each test, with those of every program that it started.

A control group for each worker counts them, whatever became of a program's parents: a sandbox's keeper
detaches itself, and its time never reaches the test process in the usual way. Where no control group can be
made, the time of this process and of the children it waited for is what there is.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Generator
from pathlib import Path
from typing import Any

import pytest

_PROPERTY = "processor_seconds"


class ControlGroup:
    """A group that this process moves into, on cgroup v1 (cpuacct) or v2.

    Raises:
        OSError: It cannot be made here.
    """

    def __init__(self) -> None:
        self._parent, counter, unit = _own_group()
        self._directory = self._parent / f"agh-tests-{os.getpid()}"
        self._directory.mkdir()
        self._counter, self._unit = self._directory / counter, unit
        try:
            (self._directory / "cgroup.procs").write_text(str(os.getpid()))
        except OSError:
            self._directory.rmdir()
            raise

    def seconds(self) -> float:
        """Return the processor seconds of all that ever ran in the group."""
        text = self._counter.read_text()
        first = text.split()[1] if text.startswith("usage_usec") else text
        return int(first) * self._unit

    def close(self) -> None:
        """Move back. A group in which something still runs stays."""
        with contextlib.suppress(OSError):
            (self._parent / "cgroup.procs").write_text(str(os.getpid()))
            self._directory.rmdir()


class _Times:
    def seconds(self) -> float:
        """Return the processor seconds of this process and of the children it waited for."""
        times = os.times()
        return times.user + times.system + times.children_user + times.children_system

    def close(self) -> None:
        """Do nothing."""


def counter() -> ControlGroup | _Times:
    """Return the best that this machine has."""
    try:
        return ControlGroup()
    except (OSError, ValueError):
        return _Times()


def _own_group() -> tuple[Path, str, float]:
    mounted = [line.split() for line in Path("/proc/mounts").read_text().splitlines()]
    own = [line.split(":", 2) for line in Path("/proc/self/cgroup").read_text().splitlines()]
    for _, where, kind, options, *_ in mounted:
        if kind == "cgroup" and "cpuacct" in options.split(","):
            path = next(path for _, names, path in own if "cpuacct" in names.split(","))
            return Path(where + path), "cpuacct.usage", 1e-9
    for _, where, kind, *_ in mounted:
        if kind == "cgroup2":
            path = next(path for _, names, path in own if not names)
            return Path(where + path), "cpu.stat", 1e-6
    raise OSError("no control groups")


class _Plugin:
    def __init__(self) -> None:
        self._counter = counter()
        self._before = self._counter.seconds()

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_makereport(self) -> Generator[None, Any, Any]:
        """Note what each phase of a test has taken."""
        report: Any = yield
        now = self._counter.seconds()
        report.user_properties.append((_PROPERTY, now - self._before))
        self._before = now
        return report

    def pytest_unconfigure(self) -> None:
        """Leave the group."""
        self._counter.close()


def seconds_of(report: pytest.TestReport) -> float:
    """Return the processor seconds of one phase of a test, 0 where they were not counted."""
    return sum(float(str(value)) for name, value in report.user_properties if name == _PROPERTY)


def pytest_configure(config: pytest.Config) -> None:
    """Count in the processes that run tests."""
    if hasattr(config, "workerinput") or not config.getoption("numprocesses", None):
        config.pluginmanager.register(_Plugin())
