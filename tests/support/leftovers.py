"""A run of the tests leaves nothing behind, or it fails.

The whole run has one directory for temporary files and one for agenthost's state. At the end no process of
the run may be alive, no socket of this process open, and nothing may lie in the two directories.
"""

from __future__ import annotations

import gc
import os
import shutil
import signal
import tempfile
import uuid
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from support.processes import FoundProcess, processes_of, wait_until_gone

# Seconds for what is about to end: a keeper that takes its sandbox down needs a moment.
_GRACE = 5.0
# The deployment secret is made once and meant to stay; so are the records of owners that were killed.
_MEANT_TO_STAY = {"secret", "owners"}


@dataclass(slots=True)
class Run:
    """One run of the tests: where it may write, and how its processes are told from others."""

    marker: str
    temporary: Path
    state: Path
    sockets: set[str]
    # Which test something was first seen after. Kept while it is there.
    first_seen: dict[str, str] = field(default_factory=dict[str, str])

    def files(self) -> list[str]:
        """Return what lies in the two directories."""
        left = [str(path) for path in self.temporary.iterdir()]
        for path in self.state.iterdir():
            if path.name in _MEANT_TO_STAY:
                continue
            # A provider's directory may stay, its sandboxes may not.
            left += [str(inner) for inner in path.iterdir()] if path.is_dir() else [str(path)]
        return sorted(left)

    def processes(self) -> list[FoundProcess]:
        """Return the processes of this run, after a bounded wait for those that are about to end."""
        directories = (str(self.state), str(self.temporary))
        found = list(processes_of(self.marker, directories))
        wait_until_gone([process.pid for process in found], _GRACE)
        return list(processes_of(self.marker, directories)) if found else []

    def note(self, test: str) -> None:
        """Remember after which test something was there."""
        present = set(self.files())
        self.first_seen = {name: self.first_seen.get(name, test) for name in present}

    def describe(self, left: str) -> str:
        """Return one line for a report."""
        return f"{left} (first seen after {self.first_seen[left]})" if left in self.first_seen else left


_runs: list[Run] = []
_groups_before: set[str] = set()


def pytest_configure(config: pytest.Config) -> None:
    """Set the directories up before anything is imported that might look at them."""
    if _runs:
        return
    if not hasattr(config, "workerinput"):
        _groups_before.update(_control_groups())
        if config.getoption("numprocesses", None):
            return  # it hands the tests out to workers and runs none itself
    # Short, because paths of unix sockets are; open to others to pass through, because a sandbox of a
    # host that is root runs as another user.
    temporary = Path(tempfile.mkdtemp(prefix="agh-"))
    state = Path(tempfile.mkdtemp(prefix="agh-"))
    temporary.chmod(0o711)
    state.chmod(0o711)
    run = uuid.uuid4().hex
    os.environ["AGENTHOST_TEST_RUN"] = run
    os.environ["AGENTHOST_STATE_DIR"] = str(state)
    # The directories of tmp_path stay where a person looks for them after a failure.
    os.environ.setdefault("PYTEST_DEBUG_TEMPROOT", tempfile.gettempdir())
    os.environ["TMPDIR"] = str(temporary)
    tempfile.tempdir = None  # read TMPDIR anew
    _runs.append(Run(f"AGENTHOST_TEST_RUN={run}", temporary, state, _open_sockets()))


def pytest_unconfigure() -> None:
    """Take the directories away."""
    while _runs:
        run = _runs.pop()
        tempfile.tempdir = None
        for name in ("AGENTHOST_TEST_RUN", "AGENTHOST_STATE_DIR", "TMPDIR"):
            os.environ.pop(name, None)
        shutil.rmtree(run.temporary, ignore_errors=True)
        shutil.rmtree(run.state, ignore_errors=True)


@pytest.fixture(scope="session", autouse=True)
def leaves_nothing_behind(pytestconfig: pytest.Config) -> Iterator[Run]:
    """Fail the run when something of it is left, and end what is."""
    (run,) = _runs
    yield run
    left = [str(process) for process in run.processes()]
    # Only what this run started is ended, by its id.
    for process in processes_of(run.marker, (str(run.state), str(run.temporary))):
        os.kill(process.pid, signal.SIGKILL)
    left += [run.describe(f"{name}") for name in run.files()]
    gc.collect()
    # Clients of some providers keep connections until the process ends; an emulator has closed them.
    if not pytestconfig.getoption("--live", None):
        left += [f"open {name}" for name in sorted(_open_sockets() - run.sockets)]
    if left:
        pytest.fail("the tests left something behind:\n  " + "\n  ".join(left), pytrace=False)


@pytest.hookimpl(trylast=True)
def pytest_sessionfinish(session: pytest.Session) -> None:
    """Fail the run when a control group is left: looked for once, when no worker makes one any more."""
    if _groups_left(session.config):
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    """Name the control groups that are left."""
    for path in _groups_left(config):
        terminalreporter.write_line(f"the tests left something behind: control group {path}", red=True)


def _groups_left(config: pytest.Config) -> list[str]:
    if hasattr(config, "workerinput"):
        return []
    return [path for path in sorted(_control_groups() - _groups_before) if not _is_anothers(path)]


@pytest.fixture(autouse=True)
def notes_what_is_there(request: pytest.FixtureRequest, leaves_nothing_behind: Run) -> Iterator[None]:
    """Remember after which test a file was first seen, so that a leak has a name."""
    yield
    leaves_nothing_behind.note(request.node.nodeid)


def _control_groups() -> set[str]:
    """Return the control groups that sandboxes made."""
    return {
        os.path.join(directory, name)
        for directory, names, _ in os.walk("/sys/fs/cgroup")
        for name in names
        if name.startswith("agenthost-")
    }


def _is_anothers(group: str) -> bool:
    """Tell whether another run, which goes on, has this control group, or it has gone by now."""
    owner = Path(group).name.removeprefix("agenthost-dockerd-")
    if owner.isdigit() and os.path.exists(f"/proc/{owner}"):
        return True  # an engine's, before and between its containers
    try:
        return any(path.read_text() for path in Path(group).rglob("cgroup.procs"))
    except OSError:
        return True


def _open_sockets() -> set[str]:
    found: set[str] = set()
    for fd in os.listdir("/proc/self/fd"):
        try:
            target = os.readlink(f"/proc/self/fd/{fd}")
        except OSError:
            continue
        if target.startswith("socket:"):
            found.add(target)
    return found
