"""Programs of a host that is an ordinary user, run by tests that are root."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import sysconfig
import tempfile
from collections.abc import Sequence
from pathlib import Path

import pytest

USER = 60321
_SOURCE = Path(__file__).parents[2] / "src"

needs_root = pytest.mark.skipif(
    os.geteuid() != 0, reason="not in CI: the whole suite runs as an ordinary user already"
)


def run_as_other_user(program: str, *arguments: str, groups: Sequence[int] = ()) -> str:
    """Run Python as another user with a state directory of its own; return what it printed.

    Args:
        program: Its text. It finds our packages.
        arguments: Follow it.
        groups: The supplementary groups it has.
    """
    python = _other_python()
    if python is None:
        pytest.skip("not in CI: no interpreter and sources here that another user could read")
    directory = tempfile.mkdtemp()
    try:
        os.chown(directory, USER, USER)
        answer = subprocess.run(
            [python, "-c", program, *arguments],
            user=USER,
            group=USER,
            extra_groups=list(groups),
            env={
                "PYTHONPATH": os.pathsep.join([str(_SOURCE), sysconfig.get_path("purelib")]),
                "HOME": directory,
                "PATH": "/usr/bin:/bin",
                "AGENTHOST_STATE_DIR": f"{directory}/state",
            },
            cwd="/",
            capture_output=True,
            check=False,
            timeout=120,
        )
    finally:
        shutil.rmtree(directory)
    assert answer.returncode == 0, answer.stderr.decode()
    return answer.stdout.decode()


def _other_python() -> str | None:
    """Return an interpreter that another user can run with our packages, or None."""
    found = [sys.executable, f"/usr/bin/python{sys.version_info.major}.{sys.version_info.minor}"]
    paths = [str(_SOURCE), sysconfig.get_path("purelib")]
    for python in found:
        # env is started instead of the interpreter: it reports what it may not run, and raises nothing.
        check = subprocess.run(
            ["/usr/bin/env", python, "-c", "import agenthost, anyio, pydantic_core"],
            user=USER,
            group=USER,
            extra_groups=[],
            env={"PYTHONPATH": os.pathsep.join(paths), "HOME": "/"},
            cwd="/",
            capture_output=True,
            check=False,
        )
        if check.returncode == 0:
            return python
    return None
