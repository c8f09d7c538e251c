"""The oldest Python that what travels into a sandbox must run on."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest


def old_python() -> str:
    """Return a Python 3.10, or skip the test."""
    roots = [Path(os.environ.get("PYENV_ROOT", "~/.pyenv")).expanduser() / "versions", Path("/usr/local/bin")]
    candidates = [path for root in roots for path in (*root.glob("3.10*/bin/python"), root / "python3.10")]
    for candidate in (shutil.which("python3.10"), *map(str, candidates)):
        if candidate and os.path.exists(candidate):
            probe = "import sys; print(sys.version_info[:2] == (3, 10))"
            done = subprocess.run(
                [candidate, "-c", probe], capture_output=True, text=True, check=False, timeout=60
            )
            if done.stdout == "True\n":
                return candidate
    pytest.skip("not in CI: there is no Python 3.10 on this machine")
