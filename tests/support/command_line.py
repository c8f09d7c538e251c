"""The ``agenthost`` command as a user runs it: a process of its own."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import anyio

COMMAND = str(Path(sys.executable).with_name("agenthost"))
_SECONDS = 180


def environment(changes: Mapping[str, str] | None = None) -> dict[str, str]:
    """Return this process's environment without the credentials that a developer may have, with changes."""
    theirs = ("ANTHROPIC_", "E2B_", "MODAL_")
    kept = {name: value for name, value in os.environ.items() if not name.startswith(theirs)}
    return {**kept, **(changes or {})}


def agenthost(
    *arguments: str, env: Mapping[str, str] | None = None, stdin: bytes = b"", cwd: Path | None = None
) -> subprocess.CompletedProcess[str]:
    """Run the command to its end."""
    done = subprocess.run(
        [COMMAND, *arguments],
        env=environment(env),
        input=stdin,
        cwd=cwd,
        capture_output=True,
        timeout=_SECONDS,
        check=False,
    )
    return subprocess.CompletedProcess(
        done.args, done.returncode, done.stdout.decode(errors="replace"), done.stderr.decode(errors="replace")
    )


@dataclass(frozen=True, slots=True)
class Done:
    """A command that has ended."""

    exit_code: int
    stdout: str
    stderr: str


async def run_agenthost(
    *arguments: str, env: Mapping[str, str] | None = None, stdin: bytes = b"", cwd: Path | None = None
) -> Done:
    """Run the command to its end, while a model or a server of the test answers it."""
    done = await anyio.run_process(
        [COMMAND, *arguments], input=stdin, env=environment(env), cwd=cwd, check=False
    )
    return Done(
        done.returncode, done.stdout.decode(errors="replace"), (done.stderr or b"").decode(errors="replace")
    )
