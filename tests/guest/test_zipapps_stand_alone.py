"""The programs that travel use their own agenthost, whatever is installed where they arrive."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from agenthost.adapter.boot import guest_zipapp, runner_zipapp


@pytest.mark.parametrize("compiled", [False, True])
def test_an_agenthost_beside_the_sdk_is_not_the_runners(tmp_path: Path, compiled: bool) -> None:
    (tmp_path / "runner.pyz").write_bytes(runner_zipapp(compiled=compiled))
    other = tmp_path / "site" / "agenthost"
    other.mkdir(parents=True)
    (other / "__init__.py").write_text("raise RuntimeError('another agenthost')\n")
    argv = [sys.executable, "-I", "-S", str(tmp_path / "runner.pyz"), "--site", str(other.parent)]
    done = subprocess.run(argv, input=b"", capture_output=True, timeout=60, check=True)
    end = json.loads(done.stdout.splitlines()[-1])
    assert end["kind"] == "end"
    assert b"another agenthost" not in done.stdout + done.stderr


def test_a_guest_called_wrongly_says_how(tmp_path: Path) -> None:
    (tmp_path / "guest.pyz").write_bytes(guest_zipapp())
    argv = [sys.executable, "-I", "-S", str(tmp_path / "guest.pyz"), "frobnicate"]
    done = subprocess.run(argv, capture_output=True, timeout=60, check=False)
    assert done.returncode == 2
    assert done.stderr.startswith(b"usage: guest.pyz serve|start")
