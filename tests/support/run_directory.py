"""A directory that all workers of a run share: what is costly is made in it by the first that needs it."""

from __future__ import annotations

import fcntl
import os
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

_KEY = pytest.StashKey[Path]()
_INPUT = "agenthost_run_directory"


class RunDirectory:
    """The directory. Use the fixture ``run_directory``."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def once(self, name: str, make: Callable[[Path], object]) -> Path:
        """Return a directory of this name, filled by ``make``: by one worker, while the others wait.

        Nobody changes what is in it. When ``make`` raises, the next worker tries again.
        """
        made = self._path / name
        with open(self._path / f"{name}.lock", "wb") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            if not made.exists():
                unfinished = self._path / f"{name}.new"
                shutil.rmtree(unfinished, ignore_errors=True)
                unfinished.mkdir()
                make(unfinished)
                # Hosts that are root run sandboxes as other users, who pass through here.
                unfinished.chmod(0o711)
                unfinished.rename(made)
        return made


def pytest_configure(config: pytest.Config) -> None:
    """Make the directory, in the process that starts the workers or runs the tests alone."""
    given = getattr(config, "workerinput", {}).get(_INPUT)
    if given is None:
        given = tempfile.mkdtemp(prefix="agh-run-")
        os.chmod(given, 0o711)
    config.stash[_KEY] = Path(given)


@pytest.hookimpl(optionalhook=True)
def pytest_configure_node(node: Any) -> None:
    """Name the directory to a worker."""
    node.workerinput[_INPUT] = str(node.config.stash[_KEY])


def pytest_unconfigure(config: pytest.Config) -> None:
    """Remove the directory."""
    if not hasattr(config, "workerinput") and _KEY in config.stash:
        shutil.rmtree(config.stash[_KEY], ignore_errors=True)


@pytest.fixture(scope="session")
def run_directory(pytestconfig: pytest.Config) -> RunDirectory:
    """Give the directory."""
    return RunDirectory(pytestconfig.stash[_KEY])
